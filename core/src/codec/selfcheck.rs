//! Checks that what reads the first bytes of a connection keeps its promises on any input: what the fuzzer and the corpus tests call.
//!
//! **Invariant:** panics when a promise is broken, and only then; not used outside of tests.

use std::fmt::Debug;
use std::net::SocketAddr;

use super::client_hello::{self, Opening};
use super::proxy_protocol::{self, Header, Version};

/// Any bytes, as a PROXY header and as a ClientHello.
///
/// # Panics
/// When one of the two breaks a promise.
pub fn check(input: &[u8]) {
    check_proxy_header(input);
    check_client_hello(input);
}

/// A header is as long as it says, is not read from less, and is the same when it is written again.
fn check_proxy_header(input: &[u8]) {
    let decode = |bytes: &[u8]| proxy_protocol::decode(bytes, BYTES_MAX);
    check_settled(input, |bytes| decode(bytes).transpose());
    let Ok(Some((header, len))) = decode(input) else { return };
    for cut in 0..len {
        assert_eq!(decode(&input[..cut]), Ok(None), "a header of {len} bytes in {cut}");
    }
    let Header::Proxied { source, destination } = header else { return };
    for version in [Version::V1, Version::V2] {
        let bytes = proxy_protocol::encode(version, Some(source), Some(destination));
        match decode(&bytes) {
            Ok(Some((Header::Proxied { source: from, destination: to }, len))) if len == bytes.len() => {
                assert_eq!((canonical(from), canonical(to)), (canonical(source), canonical(destination)));
            }
            other => panic!("{header:?} became {bytes:?}, which is {other:?}"),
        }
    }
}

/// What a hello says can be looked up and compared as it is.
fn check_client_hello(input: &[u8]) {
    check_settled(input, |bytes| client_hello::decode(bytes, BYTES_MAX));
    let Some(Opening::Tls(hello)) = client_hello::decode(input, BYTES_MAX) else { return };
    assert!(client_hello::begins_tls(input));
    if let Some(name) = hello.server_name {
        assert!(
            (1..=253).contains(&name.len()) && !name.bytes().any(|b| b.is_ascii_uppercase() || !b.is_ascii_graphic())
        );
    }
    assert!(hello.protocols.iter().map(Vec::len).sum::<usize>() < BYTES_MAX);
}

/// What was decided from the first bytes stands, whatever comes behind them.
fn check_settled<V: PartialEq + Debug>(input: &[u8], decide: impl Fn(&[u8]) -> Option<V>) {
    let mut settled = None;
    for end in 0..=input.len() {
        let found = decide(&input[..end]);
        assert!(settled.is_none() || found == settled, "{settled:?} became {found:?} with byte {end}");
        settled = found;
    }
}

/// An IPv4 address is the same when it is written as an IPv6 one.
fn canonical(address: SocketAddr) -> (std::net::IpAddr, u16) {
    (address.ip().to_canonical(), address.port())
}

/// What either may have, in bytes. Small, so that a fuzzer meets it.
const BYTES_MAX: usize = 512;
