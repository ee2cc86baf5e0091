//! The codec of Dubbo's Thrift on any bytes, of which the first says where the others are cut. What it finds goes to `tests/corpus/codec_dubbo_thrift`, which
//! `cargo test` replays.
//!
//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz codec_dubbo_thrift tests/corpus/codec_dubbo_thrift`

#![no_main]

use ferrogate_core::codec::xprotocol::selfcheck::check_in;
use ferrogate_core::config::schema::RpcProtocol;

libfuzzer_sys::fuzz_target!(|input: &[u8]| if let [cut, src @ ..] = input {
    check_in(RpcProtocol::DubboThrift, *cut, src);
});
