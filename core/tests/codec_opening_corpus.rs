//! Replays what the fuzz target `codec_opening` has found interesting: each input once, as the fuzzer runs it.

use ferrogate_core::codec::selfcheck;
use test_support::corpus;

#[test]
fn the_corpus_keeps_the_promises() {
    corpus::replay("codec_opening", 20, selfcheck::check);
}
