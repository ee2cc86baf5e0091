//! The HTTP/1 codec on any bytes. What it finds goes to `tests/corpus/codec_http1`, which `cargo test` replays.
//!
//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz codec_http1 tests/corpus/codec_http1 -- -dict=tests/fuzz/codec_http1.dict`

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ferrogate_core::codec::http1::selfcheck::check(input));
