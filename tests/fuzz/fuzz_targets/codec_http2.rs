//! The HTTP/2 codec on any bytes. What it finds goes to `tests/corpus/codec_http2`, which `cargo test` replays.
//!
//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz codec_http2 tests/corpus/codec_http2`

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ferrogate_core::codec::http2::selfcheck::check(input));
