//! The PROXY protocol, versions 1 and 2: a header at the start of a connection that says whose connection it is.
//!
//! After the specification at <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>. What it calls invalid is refused; of the
//! extensions (TLV) only the checksum is looked at.
//!
//! **Invariant:** decides by the bytes alone, never by what would come behind them; reads no further than `bytes_max`.

mod decode;
mod encode;

use std::fmt;
use std::net::SocketAddr;

pub use decode::decode;
pub use encode::encode;

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The sender's own, or one without addresses that mean anything here: what the socket says counts.
    Local,
    /// That of `source`, which had connected to `destination`.
    Proxied {
        /// The client.
        source: SocketAddr,
        /// Where it had connected to.
        destination: SocketAddr,
    },
}

/// How a header is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// As a line of text.
    V1,
    /// In binary.
    V2,
}

/// Why bytes are no header. A connection whose sender had to send one is of no use then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// They begin with neither signature.
    Missing,
    /// They break the specification.
    Malformed,
    /// The header is longer than it may be.
    TooLong,
    /// The checksum that it carries is wrong.
    Checksum,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "the connection does not begin with a PROXY header",
            Self::Malformed => "the PROXY header is malformed",
            Self::TooLong => "the PROXY header is longer than proxy_header_bytes_max",
            Self::Checksum => "the checksum of the PROXY header is wrong",
        })
    }
}

impl std::error::Error for DecodeError {}

/// What a header in binary begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What a header in text begins with.
const WORD: &[u8] = b"PROXY ";

/// A header in text, its end of line included, in bytes, at most.
const LINE_BYTES_MAX: usize = 107;

/// A header in binary up to its addresses, in bytes.
const FIXED_BYTES: usize = 16;

/// CRC-32C (Castagnoli), of which a header may carry one.
fn crc32c(parts: [&[u8]; 3]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    };
    !parts.into_iter().flatten().fold(u32::MAX, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_castagnoli() {
        assert_eq!(crc32c([b"1234", b"56789", b""]), 0xe306_9283);
    }

    #[test]
    fn what_is_written_is_read() {
        for (source, destination) in [
            ("192.0.2.1:1000", "198.51.100.2:443"),
            ("255.255.255.255:65535", "255.255.255.255:65535"),
            ("[2001:db8::1]:0", "[2001:db8::2]:65535"),
            ("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
        ] {
            let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
            for version in [Version::V1, Version::V2] {
                let written = encode(version, Some(source), Some(destination));
                let bytes = [&written[..], b"more"].concat();
                assert_eq!(decode(&bytes, 512), Ok(Some((Header::Proxied { source, destination }, written.len()))));
                for n in 0..written.len() {
                    assert_eq!(decode(&bytes[..n], 512), Ok(None), "{n} of {version:?}");
                }
            }
        }
    }

    #[test]
    fn families_are_not_mixed() {
        let (v4, mapped) = ("192.0.2.1:1", "[::ffff:198.51.100.2]:2");
        let v6 = "[2001:db8::1]:3";
        for version in [Version::V1, Version::V2] {
            let both = |a: &str, b: &str| encode(version, Some(a.parse().unwrap()), Some(b.parse().unwrap()));
            let read = |bytes: &[u8]| decode(bytes, 512).unwrap().unwrap().0;
            let proxied =
                |a: &str, b: &str| Header::Proxied { source: a.parse().unwrap(), destination: b.parse().unwrap() };
            assert_eq!(read(&both(v4, mapped)), proxied(v4, "198.51.100.2:2"));
            assert_eq!(read(&both(v4, v6)), proxied("[::ffff:192.0.2.1]:1", v6));
            assert_eq!(read(&encode(version, None, Some(v6.parse().unwrap()))), Header::Local, "a unix socket");
        }
    }
}
