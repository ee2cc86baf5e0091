//! A message's body as a count: skipped, never kept.
//!
//! **Invariant:** takes any split of the bytes; says exactly where the body ends.

use super::head::Malformed;

/// What is still to come of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// So many bytes.
    Length(u64),
    /// Chunks (RFC 9112, section 7.1).
    Chunked(Chunk),
    /// Whatever comes until the peer closes.
    UntilClose,
}

/// Where in a chunked body the next byte lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// In the size line: the value so far, whether its digits are over.
    Size(u64, bool),
    /// In the data: bytes left, with the two of the line's end.
    Data(u64),
    /// In the trailer section: bytes of the current line, without its end.
    Trailer(u64),
}

impl Body {
    /// A chunked body before its first byte.
    pub(crate) const fn chunked() -> Self {
        Self::Chunked(Chunk::Size(0, false))
    }

    /// Skips what belongs to the body: the bytes taken, and whether the body is complete.
    pub(crate) fn skip(&mut self, bytes: &[u8]) -> Result<(usize, bool), Malformed> {
        match self {
            Self::Length(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= taken as u64;
                Ok((taken, *left == 0))
            }
            Self::Chunked(chunk) => chunk.skip(bytes),
            Self::UntilClose => Ok((bytes.len(), false)),
        }
    }
}

impl Chunk {
    fn skip(&mut self, bytes: &[u8]) -> Result<(usize, bool), Malformed> {
        let mut at = 0;
        while at < bytes.len() {
            if let Self::Data(left) = self {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - at);
                at += taken;
                *left -= taken as u64;
                if *left == 0 {
                    *self = Self::Size(0, false);
                }
                continue;
            }
            let byte = bytes[at];
            at += 1;
            match *self {
                Self::Trailer(0) if byte == b'\n' => return Ok((at, true)),
                _ => *self = self.on(byte)?,
            }
        }
        Ok((at, false))
    }

    /// One byte of a line.
    fn on(self, byte: u8) -> Result<Self, Malformed> {
        match self {
            Self::Size(0, _) if byte == b'\n' => Ok(Self::Trailer(0)),
            Self::Size(value, _) if byte == b'\n' => Ok(Self::Data(value.saturating_add(2))),
            Self::Size(value, true) => Ok(Self::Size(value, true)),
            Self::Size(value, false) => match char::from(byte).to_digit(16) {
                Some(_) if value >> 56 != 0 => Err(Malformed),
                Some(digit) => Ok(Self::Size(value << 4 | u64::from(digit), false)),
                None if matches!(byte, b';' | b'\r' | b' ') => Ok(Self::Size(value, true)),
                None => Err(Malformed),
            },
            Self::Trailer(_) if byte == b'\n' => Ok(Self::Trailer(0)),
            Self::Trailer(n) => Ok(Self::Trailer(n + u64::from(byte != b'\r'))),
            Self::Data(left) => Ok(Self::Data(left)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_body_ends_where_it_ends_in_any_split() {
        let wire = b"5\r\nhello\r\n1a;name=value\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nTrailer: x\r\n\r\n";
        for cut in 0..wire.len() {
            let mut body = Body::chunked();
            assert_eq!(body.skip(&wire[..cut]), Ok((cut, false)), "{cut}");
            let mut rest = wire[cut..].to_vec();
            rest.extend_from_slice(b"HTTP/1.1");
            assert_eq!(body.skip(&rest), Ok((wire.len() - cut, true)), "{cut}");
        }
    }

    #[test]
    fn a_length_is_counted_down() {
        let mut body = Body::Length(5);
        assert_eq!(body.skip(b"hel"), Ok((3, false)));
        assert_eq!(body.skip(b"loHTTP"), Ok((2, true)));
        assert_eq!(Body::Length(0).skip(b"HTTP"), Ok((0, true)));
    }

    #[test]
    fn a_size_that_is_none_is_refused() {
        assert_eq!(Body::chunked().skip(b"xyz\r\n"), Err(Malformed));
        assert_eq!(Body::chunked().skip(b"fffffffffffffffff\r\n"), Err(Malformed));
    }
}
