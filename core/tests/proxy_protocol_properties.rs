//! What holds of every PROXY header, and of every other bytes.

use std::net::{IpAddr, SocketAddr};

use ferrogate_core::codec::proxy_protocol::{DecodeError, Header, Version, decode, encode};
use proptest::collection::vec;
use proptest::prelude::*;

const BYTES_MAX: usize = 512;

fn address() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<u32>().prop_map(|ip| IpAddr::V4(ip.into())),
        any::<u128>().prop_map(|ip| IpAddr::V6(ip.into()))
    ];
    (ip, any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V1), Just(Version::V2)]
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Bytes that are nearly a header, or nothing like one.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let written = (version(), address(), address()).prop_map(|(v, a, b)| encode(v, Some(a), Some(b)));
    let broken = (written, vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), vec(any::<u8>(), 0..40));
    let broken = broken.prop_map(|(mut bytes, changes, more)| {
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.extend(more);
        bytes
    });
    prop_oneof![
        broken,
        vec(any::<u8>(), 0..600),
        "PROXY (TCP4|TCP6|UNKNOWN|TCP)( [0-9a-f.:]{0,12}){0,5}\r?\n?".prop_map(String::into_bytes),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(version in version(), source in address(), destination in address(), more in vec(any::<u8>(), 0..20)) {
        let written = encode(version, Some(source), Some(destination));
        let all = [&written[..], &more].concat();
        let (header, used) = decode(&all, BYTES_MAX).unwrap().unwrap();
        prop_assert_eq!(used, written.len());
        let Header::Proxied { source: from, destination: to } = header else { panic!("{header:?}") };
        prop_assert_eq!((canonical(from), canonical(to)), (canonical(source), canonical(destination)));
    }

    /// However the bytes come in, the verdict is the same, and never taken back.
    #[test]
    fn more_bytes_change_no_verdict(bytes in bytes()) {
        let whole = decode(&bytes, BYTES_MAX);
        for n in 0..=bytes.len() {
            match decode(&bytes[..n], BYTES_MAX) {
                Ok(None) => prop_assert!(n <= BYTES_MAX.max(107), "it waits for ever"),
                verdict => {
                    prop_assert_eq!(verdict, whole, "at {} bytes", n);
                    break;
                }
            }
        }
        if let Ok(Some((_, used))) = whole {
            prop_assert!(used <= bytes.len() && used <= BYTES_MAX);
            prop_assert_eq!(decode(&bytes[..used - 1], BYTES_MAX), Ok(None));
        }
    }

    #[test]
    fn no_limit_is_passed(body in vec(any::<u8>(), 0..300), limit in 107_usize..200) {
        let len = u16::try_from(body.len()).unwrap().to_be_bytes();
        let bytes = [&b"\r\n\r\n\0\r\nQUIT\n\x20\0"[..], &len, &body].concat();
        let read = decode(&bytes, limit);
        let expected = if bytes.len() > limit { Err(DecodeError::TooLong) } else { Ok(Some((Header::Local, bytes.len()))) };
        prop_assert_eq!(read, expected);
    }
}
