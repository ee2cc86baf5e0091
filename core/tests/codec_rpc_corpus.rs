//! What the fuzzer found worth keeping about the RPC codecs, and what was written by hand.

use ferrogate_core::codec::xprotocol::selfcheck;
use ferrogate_core::config::schema::RpcProtocol;
use test_support::corpus;

#[test]
fn the_corpus_keeps_the_promises() {
    corpus::replay("codec_rpc", 20, selfcheck::check);
}

#[test]
fn the_corpora_of_single_protocols_keep_them_too() {
    for (name, count_min, protocol) in [
        ("codec_dubbo", 5, RpcProtocol::Dubbo),
        ("codec_tars", 10, RpcProtocol::Tars),
        ("codec_dubbo_thrift", 6, RpcProtocol::DubboThrift),
    ] {
        corpus::replay(name, count_min, |input| {
            let [cut, src @ ..] = input else { return };
            selfcheck::check_in(protocol, *cut, src);
        });
    }
}
