//! Replays what the fuzz target `codec_http1` has found interesting: each input once, as the fuzzer runs it.

use ferrogate_core::codec::http1::selfcheck;
use test_support::corpus;

#[test]
fn the_corpus_keeps_the_promises() {
    corpus::replay("codec_http1", 30, selfcheck::check);
}
