//! Replays what the fuzz target `codec_http2` has found interesting: each input once, as the fuzzer runs it.

use ferrogate_core::codec::http2::selfcheck;
use test_support::corpus;

#[test]
fn the_corpus_keeps_the_promises() {
    corpus::replay("codec_http2", 20, selfcheck::check);
}
