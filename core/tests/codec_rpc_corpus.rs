//! What the fuzzer found worth keeping about the RPC codecs, and what was written by hand.

use ferrogate_core::codec::xprotocol::selfcheck;
use test_support::corpus;

#[test]
fn the_corpus_keeps_the_promises() {
    corpus::replay("codec_rpc", 20, selfcheck::check);
}
