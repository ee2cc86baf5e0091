//! A whole HTTP/2 connection, as the server and as the client, under a peer that sends anything. What it finds goes to
//! `tests/corpus/stream_http2`, which `cargo test` replays.
//!
//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz stream_http2 tests/corpus/stream_http2`

#![no_main]
#![allow(dead_code, reason = "the tests use more of it")]

#[path = "../../../core/tests/http2/any_frames.rs"]
mod any_frames;
#[path = "../../../core/tests/http2/peer.rs"]
mod peer;
#[path = "../../../core/tests/http2/service.rs"]
mod service;

libfuzzer_sys::fuzz_target!(|input: &[u8]| any_frames::check(input));
