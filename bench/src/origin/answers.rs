//! What the origin answers, made before it listens.
//!
//! **Invariant:** an answer is a head and a length; the body's bytes come from one page that is sent again and again.

use memchr::memchr;

use crate::wire::body::Body;
use crate::wire::bolt;
use crate::wire::head::{Head, Malformed};

/// The answers, ready to be written.
pub(crate) struct Answers {
    small: Vec<u8>,
    real: Vec<u8>,
    missing: Vec<u8>,
    call: Vec<u8>,
    page: Box<[u8]>,
}

/// One answer: bytes as they are, and bytes of filling after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Small,
    Real,
    Missing,
    Filled(u64),
    /// To the Bolt call of this id.
    Call(u32),
}

/// What a request's head asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) answer: Answer,
    /// To be read before the answer.
    pub(crate) body: Body,
    /// The client closes afterwards.
    pub(crate) close: bool,
    /// The client waits for `100 Continue`.
    pub(crate) expects: bool,
}

impl Answers {
    pub(crate) fn new() -> Self {
        let small = "HTTP/1.1 200 OK\r\nServer: ferrogate-bench\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nhello, world\n";
        let missing = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
        let mut real = REAL_HEAD.as_bytes().to_vec();
        real.extend((0..REAL_BYTES).map(letter));
        let page = (0..PAGE_BYTES).map(letter).collect();
        let call = bolt::answer(0, CALL_BYTES);
        Self { small: small.into(), real, missing: missing.into(), call, page }
    }

    /// What to answer to a request for `path`.
    pub(crate) fn pick(path: &[u8]) -> Answer {
        if path == b"/" {
            return Answer::Small;
        }
        if let Some(count) = path.strip_prefix(b"/bytes/") {
            let count = std::str::from_utf8(count).ok().and_then(|count| count.parse().ok());
            return count.map_or(Answer::Missing, Answer::Filled);
        }
        match path {
            [b'/', b'r', a, b, ..] if a.is_ascii_digit() && b.is_ascii_digit() => Answer::Real,
            _ if path.starts_with(b"/real") => Answer::Real,
            _ => Answer::Missing,
        }
    }

    /// The bytes that an answer begins with. What depends on the request is written into `room`.
    pub(crate) fn head<'a>(&'a self, answer: Answer, room: &'a mut Vec<u8>) -> &'a [u8] {
        match answer {
            Answer::Small => &self.small,
            Answer::Real => &self.real,
            Answer::Missing => &self.missing,
            Answer::Call(id) => {
                room.clone_from(&self.call);
                room[bolt::ID].copy_from_slice(&id.to_be_bytes());
                room
            }
            Answer::Filled(length) => {
                use std::io::Write;
                room.clear();
                let fields = "Server: ferrogate-bench\r\nContent-Type: application/octet-stream";
                let written = write!(room, "HTTP/1.1 200 OK\r\n{fields}\r\nContent-Length: {length}\r\n\r\n");
                written.expect("a Vec takes every write");
                room
            }
        }
    }

    /// Filling: at most `left` bytes, at most a page.
    pub(crate) fn filling(&self, left: u64) -> &[u8] {
        &self.page[..usize::try_from(left).unwrap_or(usize::MAX).min(PAGE_BYTES)]
    }
}

impl Asked {
    /// Reads the head at the front of `bytes`, and its length; `None` while its end is not there.
    pub(crate) fn read(bytes: &[u8]) -> Result<Option<(Self, usize)>, Malformed> {
        if bolt::is_bolt(bytes) {
            let Some((id, head)) = bolt::read_call(bytes)? else { return Ok(None) };
            let (answer, body) = (Answer::Call(id), head.framing.unwrap_or(Body::Length(0)));
            return Ok(Some((Self { answer, body, close: false, expects: false }, head.len)));
        }
        let Some(head) = Head::read(bytes)? else { return Ok(None) };
        let start = memchr(b' ', bytes).ok_or(Malformed)? + 1;
        let length = memchr(b' ', &bytes[start..head.len]).ok_or(Malformed)?;
        let answer = Answers::pick(&bytes[start..start + length]);
        let body = head.framing.unwrap_or(Body::Length(0));
        Ok(Some((Self { answer, body, close: head.close, expects: head.expects }, head.len)))
    }

    pub(crate) fn has_no_body(&self) -> bool {
        self.body == Body::Length(0)
    }
}

impl Answer {
    /// Bytes of filling.
    pub(crate) fn filling(self) -> u64 {
        match self {
            Self::Filled(length) => length,
            Self::Small | Self::Real | Self::Missing | Self::Call(_) => 0,
        }
    }
}

fn letter(i: usize) -> u8 {
    b"abcdefghijklmnopqrstuvwxyz0123456789\n"[i % 37]
}

/// Content of the answer to a Bolt call.
const CALL_BYTES: usize = 1024;
const REAL_BYTES: usize = 4_096;
const PAGE_BYTES: usize = 256 * 1024;

/// Ten fields, as an application behind a gateway sends them.
const REAL_HEAD: &str = "HTTP/1.1 200 OK\r\n\
    Server: ferrogate-bench\r\n\
    Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
    Content-Type: text/html; charset=utf-8\r\n\
    Content-Length: 4096\r\n\
    Cache-Control: private, max-age=0, must-revalidate\r\n\
    ETag: \"33a64df551425fcc55e4d42a148795d9f25f89d4\"\r\n\
    Last-Modified: Wed, 31 Dec 2025 18:11:04 GMT\r\n\
    Vary: Accept-Encoding\r\n\
    Set-Cookie: sid=8f14e45fceea167a5a36dedd4bea2543; Path=/; HttpOnly; SameSite=Lax\r\n\
    X-Request-Id: 4bf92f3577b34da6a3ce929d0e0e4736\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_their_answers() {
        assert_eq!(Answers::pick(b"/"), Answer::Small);
        assert_eq!(Answers::pick(b"/bytes/1048576"), Answer::Filled(1_048_576));
        assert_eq!(Answers::pick(b"/bytes/many"), Answer::Missing);
        assert_eq!(Answers::pick(b"/r07/items/4711?page=2"), Answer::Real);
        assert_eq!(Answers::pick(b"/real"), Answer::Real);
        assert_eq!(Answers::pick(b"/rest"), Answer::Missing);
    }

    #[test]
    fn answers_are_as_long_as_they_say() {
        let (answers, mut room) = (Answers::new(), Vec::new());
        for answer in [Answer::Small, Answer::Real, Answer::Missing, Answer::Filled(70_000)] {
            let bytes = answers.head(answer, &mut room);
            let head = Head::read(bytes).expect("well-formed").expect("complete");
            let body = (bytes.len() - head.len) as u64 + answer.filling();
            assert_eq!(head.framing, Some(Body::Length(body)), "{answer:?}");
        }
    }
}
