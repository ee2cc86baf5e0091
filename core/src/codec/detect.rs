//! Which protocol a client speaks, by what it says first.
//!
//! The order is fixed: what ALPN agreed on; else the protocols of RPC, by their first bytes; else the preface of HTTP/2, which is 24 bytes
//! that no other protocol starts with; else HTTP/1, whose decoder says what is wrong with bytes that are neither. Only what the listener
//! serves is looked for. Where somebody else is there for what is of no protocol, HTTP/1 too must be known by its first bytes.
//!
//! **Invariant:** the answer depends on the bytes only, never on how they were split; no more is waited for than the longest opening, which
//! is that of HTTP/1: an empty line, a method of `METHOD_BYTES_MAX`, a space and a scheme.

use super::http2::PREFACE;
use super::xprotocol::codec_of;
use crate::config::schema::{Protocols, RpcProtocol};
use crate::message::is_token_byte;

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

    /// The same, where bytes that are of no protocol are not for the decoder of HTTP/1 to refuse: they are unknown.
    #[must_use]
    pub fn surely_of_first_bytes(bytes: &[u8], served: Protocols) -> Opening {
        match Self::of_first_bytes(bytes, served) {
            Opening::Is(Self::Http1) => match begins_http1(bytes) {
                Some(true) => Opening::Is(Self::Http1),
                Some(false) => Opening::Unknown,
                None => Opening::More,
            },
            opening => opening,
        }
    }
}

/// Whether these bytes begin a request of HTTP/1: a method, a space, and what can be a target (RFC 9112, 3.2); None: more are needed. One
/// empty line may come before it. The preface of HTTP/2 looks like a request, and is none.
fn begins_http1(bytes: &[u8]) -> Option<bool> {
    let line = match bytes {
        [] | [b'\r'] => return None,
        [b'\r', b'\n', line @ ..] => line,
        line => line,
    };
    let Some(end) = line.iter().take(METHOD_BYTES_MAX + 1).position(|&byte| !is_token_byte(byte)) else {
        return (line.len() > METHOD_BYTES_MAX).then_some(false);
    };
    if end == 0 || line[end] != b' ' {
        return Some(false);
    }
    let (method, target) = (&line[..end], &line[end + 1..]);
    let first = *target.first()?;
    if first == b'/' {
        return Some(true);
    }
    match method {
        b"CONNECT" => Some(first.is_ascii_alphanumeric() || first == b'['),
        b"OPTIONS" if first == b'*' => Some(true),
        b"PRI" if first == b'*' => begins_with(line, PREFACE, |a, b| a == b).map(|_| false),
        _ => {
            let of = |scheme| begins_with(target, scheme, <[u8]>::eq_ignore_ascii_case);
            match (of(b"http://"), of(b"https://")) {
                (Some(false), found) | (found, Some(false)) => found,
                (found, other) => found.or(other),
            }
        }
    }
}

/// Whether these bytes begin with that text; None: it may still turn out so.
fn begins_with(bytes: &[u8], text: &[u8], same: impl Fn(&[u8], &[u8]) -> bool) -> Option<bool> {
    let len = bytes.len().min(text.len());
    if !same(&bytes[..len], &text[..len]) {
        return Some(false);
    }
    (len == text.len()).then_some(true)
}

/// The longest method that is known as one, in bytes: the longest registered one has 17.
const METHOD_BYTES_MAX: usize = 32;

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
    fn http1_is_known_by_its_first_bytes() {
        let decide = |bytes: &[u8]| Protocol::surely_of_first_bytes(bytes, Protocols::all());
        let (http1, http2) = (Opening::Is(Protocol::Http1), Opening::Is(Protocol::Http2));
        let long = [b"M".repeat(METHOD_BYTES_MAX), b" /".to_vec()].concat();
        let longer = [b"M".repeat(METHOD_BYTES_MAX + 1), b" /".to_vec()].concat();
        let cases: [(&[u8], Opening); 32] = [
            (b"GET / HTTP/1.1\r\n", http1),
            (b"\r\nGET /", http1),
            (b"PROPFIND /a", http1),
            (b"get /", http1),
            (b"GET http://a.example/", http1),
            (b"GET HTTPS://a.example/", http1),
            (b"CONNECT a.example:443 HTTP/1.1", http1),
            (b"CONNECT [::1]:443 HTTP/1.1", http1),
            (b"OPTIONS * HTTP/1.1", http1),
            (&long, http1),
            (PREFACE, http2),
            (b"SSH-2.0-OpenSSH_9.6p1 Debian-4\r\n", Opening::Unknown),
            (b"*1\r\n$4\r\nPING\r\n", Opening::Unknown),
            (b"PING\r\n", Opening::Unknown),
            (b"GET key\r\n", Opening::Unknown),
            (b"GET httpd\r\n", Opening::Unknown),
            (b"GET https:/x\r\n", Opening::Unknown),
            (b"KEYS *\r\n", Opening::Unknown),
            (b"EHLO a.example\r\n", Opening::Unknown),
            (b"* OK ready\r\n", Opening::Unknown),
            (b"CONNECT /\r\n", http1),
            (b"PRI * HTTP/1.1\r\n", Opening::Unknown),
            (b"\x16\x03\x01", Opening::Unknown),
            (b"\0\0\0\x20\xDA\xBC", Opening::Is(Protocol::Rpc(RpcProtocol::DubboThrift))),
            (b"\0\0\0\x20\x10\x01", Opening::Is(Protocol::Rpc(RpcProtocol::Tars))),
            (b"\0\0\0\x20\xDA\xBB", Opening::Unknown),
            (b"\0\0\0\x20\0", Opening::Unknown),
            (b" GET / HTTP/1.1\r\n", Opening::Unknown),
            (b"\n", Opening::Unknown),
            (b"\r\n\r\n", Opening::Unknown),
            (&longer, Opening::Unknown),
            (b"\xff\xfe", Opening::Unknown),
        ];
        for (bytes, opening) in cases {
            assert_eq!(decide(bytes), opening, "{bytes:?}");
            // What is decided stands; before that it is asked for more.
            let first = (0..=bytes.len()).find(|&cut| decide(&bytes[..cut]) != Opening::More).unwrap();
            for cut in first..=bytes.len() {
                assert_eq!(decide(&bytes[..cut]), opening, "{bytes:?} at {cut}");
            }
        }
        for partial in
            ["", "\0\0\0\x20\x10", "\r", "\r\n", "G", "GET", "GET ", "GET h", "GET https:/", "CONNECT ", "PRI * HT"]
        {
            assert_eq!(decide(partial.as_bytes()), Opening::More, "{partial:?}");
        }
        let without = Protocols::HTTP1.and(Protocols::rpc(RpcProtocol::Bolt));
        assert_eq!(Protocol::surely_of_first_bytes(PREFACE, without), Opening::Unknown, "HTTP/2 is not served");
        assert_eq!(Protocol::surely_of_first_bytes(b"PRI *", without), Opening::More);
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
