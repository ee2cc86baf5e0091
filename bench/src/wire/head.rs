//! As much of an HTTP/1 head as a load test needs: where it ends, how long its body is, whether the connection stays.
//!
//! **Invariant:** reads a head once; a head that was seen before, byte for byte, is not read again.

use memchr::{memchr, memmem};

use super::body::Body;

/// What a head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Bytes up to and with the empty line.
    pub(crate) len: usize,
    /// The framing its fields give; `None` without any.
    pub(crate) framing: Option<Body>,
    /// The sender says that it closes.
    pub(crate) close: bool,
    /// The sender waits for `100 Continue`.
    pub(crate) expects: bool,
}

/// A head that is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl Head {
    /// Reads the head at the front of `bytes`; `None` while its end is not there.
    pub(crate) fn read(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        let Some(end) = memmem::find(bytes, b"\r\n\r\n") else {
            return if bytes.len() > HEAD_BYTES_MAX { Err(Malformed) } else { Ok(None) };
        };
        let mut head = Self { len: end + 4, framing: None, close: false, expects: false };
        let mut rest = &bytes[..end + 2];
        rest = &rest[memchr(b'\n', rest).ok_or(Malformed)? + 1..];
        while let Some(newline) = memchr(b'\n', rest) {
            head.field(&rest[..newline])?;
            rest = &rest[newline + 1..];
        }
        Ok(Some(head))
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Malformed> {
        let colon = memchr(b':', line).ok_or(Malformed)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        match name.len() {
            6 if name.eq_ignore_ascii_case(b"expect") => self.expects = true,
            10 if name.eq_ignore_ascii_case(b"connection") => self.close |= value.eq_ignore_ascii_case(b"close"),
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok()).ok_or(Malformed)?;
                self.framing = Some(Body::Length(length));
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.framing = Some(Body::chunked()),
            _ => {}
        }
        Ok(())
    }
}

/// The status of a response whose head is complete.
pub(crate) fn status(head: &[u8]) -> Result<u16, Malformed> {
    let digits = head.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5)).ok_or(Malformed)?;
    std::str::from_utf8(digits).ok().and_then(|d| d.parse().ok()).ok_or(Malformed)
}

const HEAD_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_its_end_is_there() {
        let whole = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 13\r\nConnection: close\r\n\r\nhello";
        for cut in 0..whole.len() - 5 {
            assert_eq!(Head::read(&whole[..cut]), Ok(None), "{cut}");
        }
        let head = Head::read(whole).expect("well-formed").expect("complete");
        assert_eq!(head, Head { len: whole.len() - 5, framing: Some(Body::Length(13)), close: true, expects: false });
        assert_eq!(status(whole), Ok(200));
    }

    #[test]
    fn a_head_without_fields_has_no_framing() {
        let head = Head::read(b"GET / HTTP/1.1\r\n\r\n").expect("well-formed").expect("complete");
        assert_eq!((head.framing, head.close), (None, false));
    }

    #[test]
    fn what_is_no_head_is_refused() {
        assert_eq!(Head::read(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"), Err(Malformed));
        assert_eq!(Head::read(b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n"), Err(Malformed));
        assert_eq!(Head::read(&[b'x'; HEAD_BYTES_MAX + 1]), Err(Malformed));
        assert_eq!(status(b"HTTP/2 200"), Err(Malformed));
        assert_eq!(status(b"HTTP/1.1"), Err(Malformed));
    }
}
