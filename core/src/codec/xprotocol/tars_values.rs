//! The values of Tars: each behind a byte of its tag and its type. They are read as far as a packet needs, and passed over otherwise.
//!
//! **Invariant:** a value is passed over in one walk over its bytes, with a stack that is bounded by `RPC_PASSED_DEPTH_MAX`; no length is believed
//! before its bytes are there.

use std::ops::Range;

use super::Fault;

/// A place in some bytes.
pub(super) struct Reader<'b> {
    src: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    pub(super) fn new(src: &'b [u8], at: usize) -> Self {
        Self { src, at }
    }

    /// Where the next value begins.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The tag and the type of a value.
    pub(super) fn head(&mut self) -> Result<(u8, u8), Fault> {
        let first = self.src[self.take(1)?][0];
        match first >> 4 {
            // The tag is in a byte of its own.
            15 => Ok((self.src[self.take(1)?][0], first & 15)),
            tag => Ok((tag, first & 15)),
        }
    }

    /// A whole number of this type.
    pub(super) fn number(&mut self, kind: u8) -> Result<i64, Fault> {
        let len = match kind {
            INT1 => 1,
            INT2 => 2,
            INT4 => 4,
            INT8 => 8,
            ZERO => return Ok(0),
            _ => return Err(Fault::Malformed),
        };
        let bytes = &self.src[self.take(len)?];
        let first = if bytes[0] & 0x80 == 0 { 0 } else { -1 };
        Ok(bytes.iter().fold(first, |number, byte| number << 8 | i64::from(*byte)))
    }

    /// The text of a string.
    pub(super) fn text(&mut self, kind: u8) -> Result<Range<usize>, Fault> {
        let len_bytes = match kind {
            STRING1 => 1,
            STRING4 => 4,
            _ => return Err(Fault::Malformed),
        };
        let len = self.src[self.take(len_bytes)?].iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
        self.take(len)
    }

    /// The text of a string that has this tag.
    pub(super) fn string(&mut self, wanted: u8) -> Result<Range<usize>, Fault> {
        match self.head()? {
            (tag, kind) if tag == wanted => self.text(kind),
            _ => Err(Fault::Malformed),
        }
    }

    /// How many there are of what follows.
    fn len(&mut self) -> Result<usize, Fault> {
        match self.head()? {
            (0, kind) => usize::try_from(self.number(kind)?).map_err(|_| Fault::Overrun),
            _ => Err(Fault::Malformed),
        }
    }

    /// The pairs that a map says it has.
    pub(super) fn map_head(&mut self) -> Result<usize, Fault> {
        match self.head()? {
            (_, MAP) => self.len(),
            _ => Err(Fault::Malformed),
        }
    }

    /// The bytes that a list of bytes says it has.
    pub(super) fn bytes_head(&mut self) -> Result<usize, Fault> {
        match self.head()? {
            (0, INT1) => self.len(),
            _ => Err(Fault::Malformed),
        }
    }

    /// Passes over so many bytes.
    pub(super) fn pass(&mut self, len: usize) -> Result<(), Fault> {
        self.take(len).map(drop)
    }

    /// Passes over a value behind its head. Each value inside of it takes a byte at least: a count that lies ends with the bytes.
    pub(super) fn skip(&mut self, kind: u8, depth: usize) -> Result<(), Fault> {
        let depth = depth.checked_sub(1).ok_or(Fault::TooDeep)?;
        match kind {
            FLOAT => self.pass(4),
            DOUBLE => self.pass(8),
            STRING1 | STRING4 => self.text(kind).map(drop),
            MAP => {
                let pairs = self.len()?;
                (0..pairs).try_for_each(|_| self.skip_next(depth).and_then(|()| self.skip_next(depth)))
            }
            LIST => {
                let values = self.len()?;
                (0..values).try_for_each(|_| self.skip_next(depth))
            }
            STRUCT => loop {
                match self.head()?.1 {
                    STRUCT_END => return Ok(()),
                    kind => self.skip(kind, depth)?,
                }
            },
            BYTES => self.bytes_head().and_then(|len| self.pass(len)),
            _ => self.number(kind).map(drop),
        }
    }

    fn skip_next(&mut self, depth: usize) -> Result<(), Fault> {
        let (_, kind) = self.head()?;
        self.skip(kind, depth)
    }

    fn take(&mut self, len: usize) -> Result<Range<usize>, Fault> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.src.len()).ok_or(Fault::Overrun)?;
        Ok(std::mem::replace(&mut self.at, end)..end)
    }
}

/// Writes a whole number in as few bytes as it takes.
pub(super) fn put_number(tag: u8, number: impl Into<i64>, out: &mut Vec<u8>) {
    let number = number.into();
    let (kind, len) = match number {
        0 => (ZERO, 0),
        -0x80..=0x7F => (INT1, 1),
        -0x8000..=0x7FFF => (INT2, 2),
        -0x8000_0000..=0x7FFF_FFFF => (INT4, 4),
        _ => (INT8, 8),
    };
    out.push(tag << 4 | kind);
    out.extend_from_slice(&number.to_be_bytes()[8 - len..]);
}

/// Writes how many there are of what follows.
pub(super) fn put_len(len: usize, out: &mut Vec<u8>) {
    // What is too long for the protocol is found by the length of the frame.
    put_number(0, i64::try_from(len).unwrap_or(i64::MAX), out);
}

/// Writes a string.
pub(super) fn put_text(tag: u8, text: &[u8], out: &mut Vec<u8>) {
    match u8::try_from(text.len()) {
        Ok(len) => out.extend_from_slice(&[tag << 4 | STRING1, len]),
        Err(_) => {
            out.push(tag << 4 | STRING4);
            out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
    out.extend_from_slice(text);
}

/// Writes what stands before so many bytes.
pub(super) fn put_bytes_head(tag: u8, len: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&[tag << 4 | BYTES, INT1]);
    put_len(len, out);
}

/// Types.
pub(super) const INT1: u8 = 0;
const INT2: u8 = 1;
const INT4: u8 = 2;
const INT8: u8 = 3;
const FLOAT: u8 = 4;
const DOUBLE: u8 = 5;
pub(super) const STRING1: u8 = 6;
pub(super) const STRING4: u8 = 7;
pub(super) const MAP: u8 = 8;
const LIST: u8 = 9;
const STRUCT: u8 = 10;
const STRUCT_END: u8 = 11;
pub(super) const ZERO: u8 = 12;
pub(super) const BYTES: u8 = 13;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::limits::RPC_PASSED_DEPTH_MAX;

    #[test]
    fn every_kind_of_value_is_passed_over_exactly() {
        for value in [
            &b"\x10\x01"[..],
            b"\x11\x01\x02",
            b"\x12\x01\x02\x03\x04",
            b"\x13\x01\x02\x03\x04\x05\x06\x07\x08",
            b"\x14\0\0\0\0",
            b"\x15\0\0\0\0\0\0\0\0",
            b"\x16\x02hi",
            b"\x17\0\0\0\x02hi",
            b"\x18\x0C",
            b"\x18\0\x01\x06\x01a\x16\x01b",
            b"\x19\0\x02\x0C\0\x07",
            b"\x1A\x0C\x1A\x0B\x0B",
            b"\x1C",
            b"\x1D\0\0\x02hi",
            b"\xFC\x20",
        ] {
            let bytes = [value, b"after"].concat();
            let mut reader = Reader::new(&bytes, 0);
            assert_eq!((reader.skip_next(RPC_PASSED_DEPTH_MAX), reader.at()), (Ok(()), value.len()), "{value:?}");
            for cut in 0..value.len() {
                assert_eq!(
                    Reader::new(&value[..cut], 0).skip_next(RPC_PASSED_DEPTH_MAX),
                    Err(Fault::Overrun),
                    "{value:?} in {cut}"
                );
            }
        }
    }

    #[test]
    fn what_lies_or_nests_is_refused() {
        for (value, fault) in [
            (&b"\x17\xFF\xFF\xFF\xFFa"[..], Fault::Overrun),
            (b"\x18\x02\x7F\xFF\xFF\xFF\x0C", Fault::Overrun),
            (b"\x19\0\xFF", Fault::Overrun),
            (b"\x1D\0\x03\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF", Fault::Overrun),
            (b"\x18\x16\x01a", Fault::Malformed),
            (b"\x1D\x06\x01a", Fault::Malformed),
            (b"\x19\x10\x01\x0C", Fault::Malformed),
            (b"\x1B", Fault::Malformed),
            (b"\x1E", Fault::Malformed),
            (b"\x1F", Fault::Malformed),
            (&[0x0A; 100_000], Fault::TooDeep),
            (&b"\x09\0\x01".repeat(100_000), Fault::TooDeep),
        ] {
            assert_eq!(
                Reader::new(value, 0).skip_next(RPC_PASSED_DEPTH_MAX),
                Err(fault),
                "{:?}",
                &value[..value.len().min(12)]
            );
        }
        let deepest = [&[0x0A; RPC_PASSED_DEPTH_MAX][..], &[0x0B; RPC_PASSED_DEPTH_MAX]].concat();
        assert_eq!(Reader::new(&deepest, 0).skip_next(RPC_PASSED_DEPTH_MAX), Ok(()));
    }

    #[test]
    fn numbers_and_strings() {
        for (number, wire) in [
            (0, &b"\x3C"[..]),
            (-1, b"\x30\xFF"),
            (127, b"\x30\x7F"),
            (128, b"\x31\0\x80"),
            (-32_768, b"\x31\x80\0"),
            (65_536, b"\x32\0\x01\0\0"),
            (-2_147_483_648, b"\x32\x80\0\0\0"),
            (i64::MIN, b"\x33\x80\0\0\0\0\0\0\0"),
        ] {
            let mut out = Vec::new();
            put_number(3, number, &mut out);
            assert_eq!(out, wire, "{number}");
            let mut reader = Reader::new(wire, 0);
            let (tag, kind) = reader.head().unwrap();
            assert_eq!((tag, reader.number(kind), reader.at()), (3, Ok(number), wire.len()));
        }
        for len in [0, 255, 256, 70_000] {
            let (text, mut out) = (vec![b'x'; len], Vec::new());
            put_text(1, &text, &mut out);
            assert_eq!(Reader::new(&out, 0).string(1), Ok(out.len() - len..out.len()));
            assert_eq!(Reader::new(&out, 0).string(0), Err(Fault::Malformed));
        }
    }
}
