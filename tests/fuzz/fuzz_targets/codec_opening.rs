//! What reads the first bytes of a connection, the PROXY protocol's and the ClientHello's, on any bytes. What it finds goes to
//! `tests/corpus/codec_opening`, which `cargo test` replays.
//!
//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz codec_opening tests/corpus/codec_opening -- -dict=tests/fuzz/codec_opening.dict`

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ferrogate_core::codec::selfcheck::check(input));
