//! The RPC codecs on any bytes. What it finds goes to `tests/corpus/codec_rpc`, which `cargo test` replays.
//!
//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz codec_rpc tests/corpus/codec_rpc`

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ferrogate_core::codec::xprotocol::selfcheck::check(input));
