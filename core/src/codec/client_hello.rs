//! The first message of a TLS client, as far as it is in clear: the name that it asks for, and the protocols that it offers.
//!
//! Nothing is refused here: who terminates TLS judges the message, and where nobody does, it is the host's. RFC 8446 sections 4.1.2 and 5.1,
//! RFC 6066 section 3, RFC 7301 section 3.1.
//!
//! **Invariant:** decides by the bytes alone; copies only a message that is cut into several records; reads no further than `bytes_max`.

use std::borrow::Cow;

/// What stands at the start of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// No TLS.
    Clear,
    /// TLS: with what could be read of the message.
    Tls(ClientHello),
}

/// What a client's first message says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The name that it asks for, in lower case; None: none, or one that is no name.
    pub server_name: Option<String>,
    /// The application protocols that it offers, the most wanted first.
    pub protocols: Vec<Vec<u8>>,
}

/// What `bytes` are the start of; None: more is needed. A message that breaks the protocol, or does not end within `bytes_max`, is one that
/// says nothing.
#[must_use]
pub fn decode(bytes: &[u8], bytes_max: usize) -> Option<Opening> {
    if !bytes.is_empty() && !begins_tls(bytes) {
        return Some(Opening::Clear);
    }
    let hello = match message(&bytes[..bytes.len().min(bytes_max)], bytes_max) {
        Progress::More if bytes.len() < bytes_max => return None,
        Progress::More | Progress::Broken => ClientHello::default(),
        Progress::Whole(message) => parse(&message).unwrap_or_default(),
    };
    Some(Opening::Tls(hello))
}

/// Whether these bytes, one at least, can begin a TLS connection: a record that holds a handshake (RFC 8446, 5.1).
#[must_use]
pub fn begins_tls(bytes: &[u8]) -> bool {
    bytes.first() == Some(&HANDSHAKE) && bytes.get(1).is_none_or(|major| *major == 3)
}

enum Progress<'a> {
    More,
    Broken,
    /// The body of the message.
    Whole(Cow<'a, [u8]>),
}

/// Finds the first message in the records that it is cut into.
fn message(bytes: &[u8], bytes_max: usize) -> Progress<'_> {
    let mut gathered: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    let mut rest = bytes;
    loop {
        let Some(([kind, major, _, high, low], behind)) = rest.split_first_chunk() else { return Progress::More };
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        if *kind != HANDSHAKE || *major != 3 || len == 0 || len > RECORD_BYTES_MAX {
            return Progress::Broken;
        }
        let there = &behind[..len.min(behind.len())];
        if gathered.is_empty() {
            gathered = Cow::Borrowed(there);
        } else {
            gathered.to_mut().extend_from_slice(there);
        }
        match whole(&gathered, bytes_max) {
            Err(()) => return Progress::Broken,
            Ok(Some(end)) => {
                return Progress::Whole(match gathered {
                    Cow::Borrowed(all) => Cow::Borrowed(&all[MESSAGE_HEAD_BYTES..end]),
                    Cow::Owned(all) => Cow::Owned(all[MESSAGE_HEAD_BYTES..end].to_vec()),
                });
            }
            Ok(None) if there.len() < len => return Progress::More,
            Ok(None) => rest = &behind[len..],
        }
    }
}

/// Where the message ends, if it does.
fn whole(bytes: &[u8], bytes_max: usize) -> Result<Option<usize>, ()> {
    if bytes.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(());
    }
    let Some([_, a, b, c]) = bytes.first_chunk() else { return Ok(None) };
    let end = MESSAGE_HEAD_BYTES + usize::from(*a) * 65536 + usize::from(u16::from_be_bytes([*b, *c]));
    if end > bytes_max { Err(()) } else { Ok((bytes.len() >= end).then_some(end)) }
}

/// Reads the body of a message; None: it breaks the protocol.
fn parse(body: &[u8]) -> Option<ClientHello> {
    // Version and random.
    let mut rest = body.get(34..)?;
    // Session, cipher suites, compression.
    take_with_u8(&mut rest)?;
    take_with_u16(&mut rest)?;
    take_with_u8(&mut rest)?;
    let mut hello = ClientHello::default();
    if rest.is_empty() {
        return Some(hello);
    }
    let mut extensions = take_with_u16(&mut rest)?;
    while !extensions.is_empty() {
        let kind = take_u16(&mut extensions)?;
        let mut value = take_with_u16(&mut extensions)?;
        match kind {
            SERVER_NAME => hello.server_name = server_name(take_with_u16(&mut value)?)?,
            ALPN => {
                let mut list = take_with_u16(&mut value)?;
                while !list.is_empty() {
                    hello.protocols.push(take_with_u8(&mut list)?.to_vec());
                }
            }
            _ => {}
        }
    }
    Some(hello)
}

/// The host's name in a list of names of any kind. `Some(None)`: it is none that could be looked up.
fn server_name(mut list: &[u8]) -> Option<Option<String>> {
    while !list.is_empty() {
        let (kind, behind) = list.split_first()?;
        list = behind;
        let name = take_with_u16(&mut list)?;
        if *kind == HOST_NAME {
            let is_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
            let good = !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.iter().all(is_name);
            let text = std::str::from_utf8(name).ok().filter(|_| good);
            return Some(text.map(str::to_ascii_lowercase));
        }
    }
    Some(None)
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

fn take_u16(bytes: &mut &[u8]) -> Option<u16> {
    take(bytes, 2)?.try_into().ok().map(u16::from_be_bytes)
}

/// What stands behind a length of one byte.
fn take_with_u8<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = take(bytes, 1)?[0];
    take(bytes, usize::from(len))
}

/// What stands behind a length of two bytes.
fn take_with_u16<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = take_u16(bytes)?;
    take(bytes, usize::from(len))
}

/// The type of a record that holds a handshake.
const HANDSHAKE: u8 = 22;

/// The type of a client's first message.
const CLIENT_HELLO: u8 = 1;

/// Type and length of a message, in bytes.
const MESSAGE_HEAD_BYTES: usize = 4;

/// What a record holds, in bytes, at most (RFC 8446, 5.1).
const RECORD_BYTES_MAX: usize = 1 << 14;

/// Extensions, and a kind of name.
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const HOST_NAME: u8 = 0;

/// A name, in bytes, at most, as in DNS.
const NAME_BYTES_MAX: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    fn with_u16(bytes: &[u8]) -> Vec<u8> {
        [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
    }

    fn extension(kind: u16, value: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &with_u16(value)].concat()
    }

    fn name(name: &[u8]) -> Vec<u8> {
        extension(0, &with_u16(&[&[0][..], &with_u16(name)].concat()))
    }

    /// A message with these extensions.
    fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
        let body = [&[3, 3][..], &[7; 32], &[2, 1, 1], &with_u16(&[0x13, 1]), &[1, 0], &with_u16(&extensions.concat())];
        let body = body.concat();
        [&[1, 0][..], &u16::try_from(body.len()).unwrap().to_be_bytes(), &body].concat()
    }

    /// The same in records of at most this length.
    fn records(message: &[u8], len: usize) -> Vec<u8> {
        message.chunks(len).flat_map(|part| [&[22, 3, 1][..], &with_u16(part)].concat()).collect()
    }

    fn said(server_name: Option<&str>, protocols: &[&[u8]]) -> Option<Opening> {
        let protocols = protocols.iter().map(|p| p.to_vec()).collect();
        Some(Opening::Tls(ClientHello { server_name: server_name.map(str::to_owned), protocols }))
    }

    #[test]
    fn name_and_protocols_are_read_however_the_message_is_cut() {
        let message =
            hello(&[extension(43, &[2, 3, 4]), name(b"Shop.Example"), extension(16, &with_u16(b"\x02h2\x08http/1.1"))]);
        for len in [1, 2, 3, 7, 100, 16384] {
            let bytes = records(&message, len);
            for n in 0..bytes.len() {
                assert_eq!(decode(&bytes[..n], 4096), None, "{n} bytes in records of {len}");
            }
            let more = [&bytes[..], b"more"].concat();
            assert_eq!(decode(&more, 4096), said(Some("shop.example"), &[b"h2", b"http/1.1"]), "records of {len}");
        }
    }

    #[test]
    fn what_says_nothing_says_nothing() {
        let none = said(None, &[]);
        for (bytes, expected) in [
            (records(&hello(&[]), 999), none.clone()),
            (records(&hello(&[name(b"a b")]), 999), none.clone()),
            (records(&hello(&[name(b"\xff")]), 999), none.clone()),
            (records(&hello(&[name(b"")]), 999), none.clone()),
            (records(&hello(&[name(&[b'a'; 254])]), 999), none.clone()),
            (records(&hello(&[extension(0, &[0, 9, 0])]), 999), none.clone()),
            (records(&hello(&[extension(16, &[0, 2, 9, 1])]), 999), none.clone()),
            (records(b"\x02\0\0\x01a", 999), none.clone()),
            (records(&[1, 0, 255, 255], 999), none.clone()),
            (b"\x16\x03\x01\0\0".to_vec(), none.clone()),
            (b"\x16\x03\x01\xff\xff".to_vec(), none.clone()),
            (b"\x16\x03\x01\0\x01\x01\x17\x03\x03\0\x01a".to_vec(), none),
            (b"\x16\x02".to_vec(), Some(Opening::Clear)),
            (b"GET / HTTP/1.1\r\n".to_vec(), Some(Opening::Clear)),
            (b"\x80\x2e\x01".to_vec(), Some(Opening::Clear)),
            (b"\x16".to_vec(), None),
            (Vec::new(), None),
        ] {
            assert_eq!(decode(&bytes, 4096), expected, "{bytes:?}");
        }
    }

    #[test]
    fn no_limit_is_passed() {
        let bytes = records(&hello(&[extension(21, &[0; 3000]), name(b"a.example")]), 9999);
        assert_eq!(decode(&bytes, 4096), said(Some("a.example"), &[]));
        assert_eq!(decode(&bytes, 1000), said(None, &[]), "it is not waited for");
        assert_eq!(decode(&records(&[1; 900], 1)[..1000], 1000), said(None, &[]));
    }
}
