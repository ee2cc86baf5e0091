//! Which protocol a client speaks, by what it says first.
//!
//! The order is fixed: what ALPN agreed on; else the protocols of RPC, by their first bytes; else the preface of HTTP/2, which is 24 bytes
//! that no other protocol starts with; else HTTP/1, whose decoder says what is wrong with bytes that are neither. Only what the listener
//! serves is looked for.
//!
//! **Invariant:** the answer depends on the bytes only, never on how they were split; no more than the preface's length is waited for.

use super::http2::PREFACE;
use super::xprotocol::codec_of;
use crate::config::schema::{Protocols, RpcProtocol};

/// A protocol of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
    /// One of RPC.
    Rpc(RpcProtocol),
}

/// What the first bytes of a connection say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Which protocol it is.
    Is(Protocol),
    /// Too little.
    More,
    /// That it is none that is served.
    Unknown,
}

impl Protocol {
    /// The protocol of this ALPN name (RFC 7301).
    #[must_use]
    pub fn of_alpn(name: &[u8]) -> Option<Self> {
        match name {
            b"h2" => Some(Self::Http2),
            b"http/1.1" | b"http/1.0" => Some(Self::Http1),
            _ => None,
        }
    }

    /// The only protocol there is; None: there are several.
    #[must_use]
    pub fn only(served: Protocols) -> Option<Self> {
        served.is_one().then(|| Self::likeliest(served))
    }

    /// Who is to serve a connection that has said nothing.
    #[must_use]
    pub fn likeliest(served: Protocols) -> Self {
        match served.rpcs().next() {
            Some(protocol) if !served.has(Protocols::HTTP1) && !served.has(Protocols::HTTP2) => Self::Rpc(protocol),
            _ if !served.has(Protocols::HTTP1) && served.has(Protocols::HTTP2) => Self::Http2,
            _ => Self::Http1,
        }
    }

    /// Whether it is among these.
    #[must_use]
    pub fn is_served(self, served: Protocols) -> bool {
        served.has(match self {
            Self::Http1 => Protocols::HTTP1,
            Self::Http2 => Protocols::HTTP2,
            Self::Rpc(protocol) => Protocols::rpc(protocol),
        })
    }

    /// Which protocol of those that are served starts with these bytes.
    #[must_use]
    pub fn of_first_bytes(bytes: &[u8], served: Protocols) -> Opening {
        for protocol in served.rpcs() {
            match codec_of(protocol).begins(bytes) {
                Some(true) => return Opening::Is(Self::Rpc(protocol)),
                Some(false) => {}
                None => return Opening::More,
            }
        }
        let len = bytes.len().min(PREFACE.len());
        if served.has(Protocols::HTTP2) && bytes[..len] == PREFACE[..len] {
            return if len == PREFACE.len() { Opening::Is(Self::Http2) } else { Opening::More };
        }
        if served.has(Protocols::HTTP1) { Opening::Is(Self::Http1) } else { Opening::Unknown }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_that_differs_decides() {
        let decide = |bytes: &[u8]| Protocol::of_first_bytes(bytes, Protocols::HTTP);
        for cut in 0..PREFACE.len() {
            assert_eq!(decide(&PREFACE[..cut]), Opening::More);
            let other = [&PREFACE[..cut], b"\x01"].concat();
            assert_eq!(decide(&other), Opening::Is(Protocol::Http1), "{cut}");
        }
        assert_eq!(decide(&[&PREFACE[..], b"more"].concat()), Opening::Is(Protocol::Http2));
        for text in ["GET / HTTP/1.1\r\n", "POST", "PUT", "PATCH", "PROPFIND", "P\r\n", "\r\nGET"] {
            assert_eq!(decide(text.as_bytes()), Opening::Is(Protocol::Http1), "{text}");
        }
    }

    #[test]
    fn only_what_is_served_is_found() {
        let (bolt, v2) = (RpcProtocol::Bolt, RpcProtocol::BoltV2);
        let bolts = Protocols::rpc(bolt).and(Protocols::rpc(v2));
        for (bytes, served, opening) in [
            (&b"\x01"[..], Protocols::all(), Opening::Is(Protocol::Rpc(bolt))),
            (b"\x02", Protocols::all(), Opening::Is(Protocol::Rpc(v2))),
            (b"", Protocols::all(), Opening::More),
            (b"\x03", Protocols::all(), Opening::Is(Protocol::Http1)),
            (b"\x01", Protocols::HTTP, Opening::Is(Protocol::Http1)),
            (b"GET", bolts, Opening::Unknown),
            (b"\x02", bolts, Opening::Is(Protocol::Rpc(v2))),
            (b"PRI", bolts.and(Protocols::HTTP2), Opening::More),
            (b"PUT", bolts.and(Protocols::HTTP2), Opening::Unknown),
        ] {
            assert_eq!(Protocol::of_first_bytes(bytes, served), opening, "{bytes:?}");
        }
        assert_eq!(Protocol::only(Protocols::rpc(bolt)), Some(Protocol::Rpc(bolt)));
        assert_eq!((Protocol::only(bolts), Protocol::likeliest(bolts)), (None, Protocol::Rpc(bolt)));
        assert_eq!(Protocol::likeliest(bolts.and(Protocols::HTTP2)), Protocol::Http2);
        assert!(Protocol::Rpc(v2).is_served(bolts) && !Protocol::Http1.is_served(bolts));
    }

    #[test]
    fn alpn_names() {
        assert_eq!(Protocol::of_alpn(b"h2"), Some(Protocol::Http2));
        assert_eq!(Protocol::of_alpn(b"http/1.1"), Some(Protocol::Http1));
        assert_eq!(Protocol::of_alpn(b"h3"), None);
    }
}
