//! Reading a header.
//!
//! **Invariant:** no byte is looked at that may not be there; whatever is not in the specification is refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{DecodeError, FIXED_BYTES, Header, LINE_BYTES_MAX, SIGNATURE, WORD, crc32c};

/// The header that `bytes` begin with, and how long it is; None: more is needed. It may have `bytes_max` bytes, and 107 in text.
///
/// # Errors
/// When they begin with none, whatever follows.
pub fn decode(bytes: &[u8], bytes_max: usize) -> Result<Option<(Header, usize)>, DecodeError> {
    let begins = |with: &[u8]| {
        let n = bytes.len().min(with.len());
        bytes[..n] == with[..n]
    };
    if begins(SIGNATURE) {
        return if bytes.len() < FIXED_BYTES { Ok(None) } else { binary(bytes, bytes_max) };
    }
    if begins(WORD) { text(bytes) } else { Err(DecodeError::Missing) }
}

/// Version 1: a line.
fn text(bytes: &[u8]) -> Result<Option<(Header, usize)>, DecodeError> {
    let Some(end) = memchr::memchr(b'\n', &bytes[..bytes.len().min(LINE_BYTES_MAX)]) else {
        return if bytes.len() < LINE_BYTES_MAX { Ok(None) } else { Err(DecodeError::TooLong) };
    };
    let line = bytes[..end].strip_suffix(b"\r").ok_or(DecodeError::Malformed)?;
    let header = line.get(WORD.len()..).and_then(words).ok_or(DecodeError::Malformed)?;
    Ok(Some((header, end + 1)))
}

/// What stands behind the first word.
fn words(line: &[u8]) -> Option<Header> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        // Whatever follows is to be ignored.
        return Some(Header::Local);
    }
    let (source, destination) = (words.next()?, words.next()?);
    let (source_port, destination_port) = (port(words.next()?)?, port(words.next()?)?);
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let header = Header::Proxied {
        source: SocketAddr::new(address(source)?, source_port),
        destination: SocketAddr::new(address(destination)?, destination_port),
    };
    words.next().is_none().then_some(header)
}

/// Decimal, without leading zeros.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// Version 2, of which the fixed part is there.
fn binary(bytes: &[u8], bytes_max: usize) -> Result<Option<(Header, usize)>, DecodeError> {
    let (command, family) = (bytes[12], bytes[13]);
    let is_proxied = match command {
        0x20 => false,
        0x21 => true,
        _ => return Err(DecodeError::Malformed),
    };
    // The octets of an address, where there are addresses that a TCP connection can have.
    let (addresses_len, octets) = match family {
        0x00 => (0, None),
        0x11 => (12, Some(4)),
        0x12 => (12, None),
        0x21 => (36, Some(16)),
        0x22 => (36, None),
        0x31 | 0x32 => (216, None),
        _ => return Err(DecodeError::Malformed),
    };
    let len = FIXED_BYTES + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if len > bytes_max {
        return Err(DecodeError::TooLong);
    }
    let Some(header) = bytes.get(..len) else { return Ok(None) };
    if !is_proxied {
        // Whatever follows is to be ignored.
        return Ok(Some((Header::Local, len)));
    }
    let body = &header[FIXED_BYTES..];
    let (addresses, _) = body.split_at_checked(addresses_len).ok_or(DecodeError::Malformed)?;
    extensions(header, FIXED_BYTES + addresses_len)?;
    let header = octets.map_or(Some(Header::Local), |octets| endpoints(addresses, octets));
    header.map(|header| Some((header, len))).ok_or(DecodeError::Malformed)
}

/// Both addresses, then both ports.
fn endpoints(addresses: &[u8], octets: usize) -> Option<Header> {
    let (source, rest) = addresses.split_at_checked(octets)?;
    let (destination, ports) = rest.split_at_checked(octets)?;
    let ip = |octets: &[u8]| -> Option<IpAddr> {
        let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
        v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
    };
    let [a, b, c, d] = *ports.first_chunk()?;
    Some(Header::Proxied {
        source: SocketAddr::new(ip(source)?, u16::from_be_bytes([a, b])),
        destination: SocketAddr::new(ip(destination)?, u16::from_be_bytes([c, d])),
    })
}

/// Walks the extensions, which begin at `at`, and verifies the checksum where there is one.
fn extensions(header: &[u8], mut at: usize) -> Result<(), DecodeError> {
    while at < header.len() {
        let [kind, high, low] = *header[at..].first_chunk().ok_or(DecodeError::Malformed)?;
        let (start, len) = (at + 3, usize::from(u16::from_be_bytes([high, low])));
        let value = header.get(start..start + len).ok_or(DecodeError::Malformed)?;
        if kind == CHECKSUM {
            let told = value.try_into().map(u32::from_be_bytes).map_err(|_| DecodeError::Malformed)?;
            // Counted with zeros in its own place.
            if told != crc32c([&header[..start], &[0; 4], &header[start + len..]]) {
                return Err(DecodeError::Checksum);
            }
        }
        at = start + len;
    }
    Ok(())
}

/// The type of the extension that holds the checksum.
const CHECKSUM: u8 = 0x03;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_the_specification_says() {
        let proxied = Header::Proxied {
            source: "192.0.2.1:56324".parse().unwrap(),
            destination: "192.0.2.2:443".parse().unwrap(),
        };
        for (line, read) in [
            ("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", Ok(Some(proxied))),
            ("PROXY UNKNOWN\r\n", Ok(Some(Header::Local))),
            ("PROXY UNKNOWN ffff:: whatever 1 2 3\r\n", Ok(Some(Header::Local))),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r", Ok(None)),
            ("PRO", Ok(None)),
            ("", Ok(None)),
            ("PROXX", Err(DecodeError::Missing)),
            ("GET / HTTP/1.1\r\n", Err(DecodeError::Missing)),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\n", Err(DecodeError::Malformed)),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 56324 0443\r\n", Err(DecodeError::Malformed)),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 56324 65536\r\n", Err(DecodeError::Malformed)),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 56324 +443\r\n", Err(DecodeError::Malformed)),
            ("PROXY TCP4 192.0.2.01 192.0.2.2 56324 443\r\n", Err(DecodeError::Malformed)),
            ("PROXY TCP4 2001:db8::1 192.0.2.2 56324 443\r\n", Err(DecodeError::Malformed)),
            ("PROXY TCP6 192.0.2.1 192.0.2.2 56324 443\r\n", Err(DecodeError::Malformed)),
            ("PROXY TCP4  192.0.2.1 192.0.2.2 56324 443\r\n", Err(DecodeError::Malformed)),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443 \r\n", Err(DecodeError::Malformed)),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 56324\r\n", Err(DecodeError::Malformed)),
            ("PROXY UDP4 192.0.2.1 192.0.2.2 56324 443\r\n", Err(DecodeError::Malformed)),
            ("PROXY \r\n", Err(DecodeError::Malformed)),
            (&format!("PROXY UNKNOWN {}", "x".repeat(100)), Err(DecodeError::TooLong)),
        ] {
            let whole = read.map(|read| read.map(|header| (header, line.len())));
            assert_eq!(decode(line.as_bytes(), 10), whole, "{line:?}");
        }
    }

    /// A header of this command and family, with this behind the fixed part.
    fn header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let len = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &len, body].concat()
    }

    #[test]
    fn binary_headers_are_read_as_the_specification_says() {
        let v4 = [192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 0x04, 0x01, 0xbb];
        let proxied = Header::Proxied {
            source: "192.0.2.1:56324".parse().unwrap(),
            destination: "192.0.2.2:443".parse().unwrap(),
        };
        let with = |tail: &[u8]| [&v4[..], tail].concat();
        for (bytes, read) in [
            (header(0x21, 0x11, &v4), Ok(Some(proxied))),
            (header(0x21, 0x11, &with(&[0xee, 0, 2, 1, 2, 4, 0, 0])), Ok(Some(proxied))),
            (header(0x20, 0x11, &v4), Ok(Some(Header::Local))),
            (header(0x20, 0x00, &[1, 2, 3]), Ok(Some(Header::Local))),
            (header(0x21, 0x00, &[]), Ok(Some(Header::Local))),
            (header(0x21, 0x12, &v4), Ok(Some(Header::Local))),
            (header(0x21, 0x31, &[0; 216]), Ok(Some(Header::Local))),
            (header(0x21, 0x31, &[0; 215]), Err(DecodeError::Malformed)),
            (header(0x21, 0x11, &v4[..11]), Err(DecodeError::Malformed)),
            (header(0x21, 0x21, &v4), Err(DecodeError::Malformed)),
            (header(0x21, 0x13, &v4), Err(DecodeError::Malformed)),
            (header(0x21, 0x41, &v4), Err(DecodeError::Malformed)),
            (header(0x22, 0x11, &v4), Err(DecodeError::Malformed)),
            (header(0x11, 0x11, &v4), Err(DecodeError::Malformed)),
            (header(0x21, 0x11, &with(&[0xee, 0])), Err(DecodeError::Malformed)),
            (header(0x21, 0x11, &with(&[0xee, 0, 2, 1])), Err(DecodeError::Malformed)),
            (header(0x21, 0x11, &with(&[0x03, 0, 3, 1, 2, 3])), Err(DecodeError::Malformed)),
            (header(0x21, 0x11, &with(&[0x03, 0, 4, 1, 2, 3, 4])), Err(DecodeError::Checksum)),
            (header(0x21, 0x00, &[0xee; 5000]), Err(DecodeError::TooLong)),
            (header(0x20, 0x00, &[0xee; 5000])[..FIXED_BYTES].to_vec(), Err(DecodeError::TooLong)),
        ] {
            assert_eq!(decode(&bytes, 4096), read.map(|read| read.map(|header| (header, bytes.len()))), "{bytes:?}");
        }
    }

    #[test]
    fn a_checksum_is_verified() {
        let v4 = [192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 0x04, 0x01, 0xbb];
        let mut bytes = header(0x21, 0x11, &[&v4[..], &[0x03, 0, 4, 0, 0, 0, 0, 0xee, 0, 0]].concat());
        let sum = crc32c([&bytes, b"", b""]).to_be_bytes();
        let at = FIXED_BYTES + 12 + 3;
        bytes[at..at + 4].copy_from_slice(&sum);
        assert!(decode(&bytes, 4096).is_ok_and(|read| read.is_some()));
        for at in [16, 27, 31, bytes.len() - 3] {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            assert_eq!(decode(&wrong, 4096), Err(DecodeError::Checksum), "{at}");
        }
    }
}
