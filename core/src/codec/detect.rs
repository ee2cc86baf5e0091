//! Which protocol a client speaks, by what it says first.
//!
//! The order is fixed: what ALPN agreed on; else the preface of HTTP/2, which is 24 bytes that no other protocol starts with; else HTTP/1,
//! whose decoder says what is wrong with bytes that are neither.
//!
//! **Invariant:** the answer depends on the bytes only, never on how they were split; no more than the preface's length is waited for.

use super::http2::PREFACE;

/// A protocol of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
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

    /// The protocol that starts with these bytes; None: more are needed.
    #[must_use]
    pub fn of_first_bytes(bytes: &[u8]) -> Option<Self> {
        let len = bytes.len().min(PREFACE.len());
        if bytes[..len] != PREFACE[..len] {
            return Some(Self::Http1);
        }
        (len == PREFACE.len()).then_some(Self::Http2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_that_differs_decides() {
        for cut in 0..PREFACE.len() {
            assert_eq!(Protocol::of_first_bytes(&PREFACE[..cut]), None);
            let other = [&PREFACE[..cut], b"\x01"].concat();
            assert_eq!(Protocol::of_first_bytes(&other), Some(Protocol::Http1), "{cut}");
        }
        assert_eq!(Protocol::of_first_bytes(&[&PREFACE[..], b"more"].concat()), Some(Protocol::Http2));
        for text in ["GET / HTTP/1.1\r\n", "POST", "PUT", "PATCH", "PROPFIND", "P\r\n", "\r\nGET"] {
            assert_eq!(Protocol::of_first_bytes(text.as_bytes()), Some(Protocol::Http1), "{text}");
        }
    }

    #[test]
    fn alpn_names() {
        assert_eq!(Protocol::of_alpn(b"h2"), Some(Protocol::Http2));
        assert_eq!(Protocol::of_alpn(b"http/1.1"), Some(Protocol::Http1));
        assert_eq!(Protocol::of_alpn(b"h3"), None);
    }
}
