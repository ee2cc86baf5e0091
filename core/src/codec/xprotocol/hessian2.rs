//! Hessian 2.0, as far as a gateway needs it: strings and whole numbers are read, everything else is passed over, or becomes JSON ([`json`]).
//!
//! **Invariant:** a value is passed over in one walk over its bytes, with a stack that is bounded by `RPC_PASSED_DEPTH_MAX` and a heap
//! that is bounded by `RPC_CLASSES_MAX`; no length is believed before its bytes are there.

pub mod json;

use crate::config::limits::{RPC_CLASSES_MAX, RPC_PASSED_DEPTH_MAX};

/// The bytes are no value of Hessian, nest too deep, or define too many classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// A place in some bytes, and the classes that were defined before it.
pub(crate) struct Reader<'b> {
    src: &'b [u8],
    at: usize,
    /// The number of fields of each class.
    classes: Vec<usize>,
}

impl<'b> Reader<'b> {
    pub(crate) fn new(src: &'b [u8]) -> Self {
        Self { src, at: 0, classes: Vec::new() }
    }

    /// Where the next value begins.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The first byte of the next value.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.src.get(self.at).copied()
    }

    /// Whether the next value is a string.
    pub(crate) fn is_string(&self) -> bool {
        matches!(self.peek(), Some(b'R' | b'S' | 0x00..=0x1F | 0x30..=0x33))
    }

    /// Passes over a byte that was looked at.
    pub(crate) fn step(&mut self) {
        self.at = (self.at + 1).min(self.src.len());
    }

    /// Reads a string behind what is in `out`; None: it is null.
    pub(crate) fn string(&mut self, out: &mut Vec<u8>) -> Result<Option<()>, Broken> {
        if self.peek() == Some(b'N') {
            self.at += 1;
            return Ok(None);
        }
        loop {
            let (chars, is_last) = self.string_head()?;
            let start = self.at;
            self.chars(chars)?;
            out.extend_from_slice(&self.src[start..self.at]);
            if is_last {
                return Ok(Some(()));
            }
        }
    }

    /// Reads a whole number. None: the value is another one, and stays where it is.
    pub(crate) fn number(&mut self) -> Option<i64> {
        let start = self.at;
        let found = self.try_number();
        if found.is_none() {
            self.at = start;
        }
        found
    }

    fn try_number(&mut self) -> Option<i64> {
        let first = self.byte().ok()?;
        let high = i64::from(first);
        let mut more = |len: usize| {
            let bytes = self.take(len).ok()?;
            Some(bytes.iter().fold(0i64, |n, b| n << 8 | i64::from(*b)))
        };
        Some(match first {
            0x80..=0xBF => high - 0x90,
            0xC0..=0xCF => ((high - 0xC8) << 8) + more(1)?,
            0xD0..=0xD7 => ((high - 0xD4) << 16) + more(2)?,
            0xD8..=0xEF => high - 0xE0,
            0xF0..=0xFF => ((high - 0xF8) << 8) + more(1)?,
            0x38..=0x3F => ((high - 0x3C) << 16) + more(2)?,
            b'I' | b'Y' => i64::from(u32::try_from(more(4)?).ok()?.cast_signed()),
            b'L' => more(8)?,
            _ => return None,
        })
    }

    /// Passes over a value.
    pub(crate) fn skip(&mut self) -> Result<(), Broken> {
        self.skip_within(RPC_PASSED_DEPTH_MAX)
    }

    fn skip_within(&mut self, depth: usize) -> Result<(), Broken> {
        let depth = depth.checked_sub(1).ok_or(Broken)?;
        let Some(first) = self.peek() else { return Err(Broken) };
        match first {
            b'R' | b'S' | 0x00..=0x1F | 0x30..=0x33 => return self.skip_string(),
            b'A' | b'B' | 0x20..=0x2F | 0x34..=0x37 => return self.skip_binary(),
            _ => self.at += 1,
        }
        // tidy: table
        match first {
            b'N' | b'T' | b'F' | 0x5B | 0x5C | 0x80..=0xBF | 0xD8..=0xEF => Ok(()),
            0x5D | 0xC0..=0xCF | 0xF0..=0xFF => self.pass(1),
            0x5E | 0xD0..=0xD7 | 0x38..=0x3F => self.pass(2),
            b'I' | b'Y' | b'K' | 0x5F => self.pass(4),
            b'L' | b'D' | b'J' => self.pass(8),
            b'Q' => self.count().map(drop),
            b'H' | b'W' => self.skip_to_end(depth),
            b'M' | b'U' => self.skip_type().and_then(|()| self.skip_to_end(depth)),
            b'X' => self.count().and_then(|len| self.skip_all(len, depth)),
            b'V' => {
                self.skip_type()?;
                self.count().and_then(|len| self.skip_all(len, depth))
            }
            0x70..=0x77 => {
                self.skip_type()?;
                self.skip_all(usize::from(first - 0x70), depth)
            }
            0x78..=0x7F => self.skip_all(usize::from(first - 0x78), depth),
            b'C' => {
                self.skip_string()?;
                let fields = self.count()?;
                (0..fields).try_for_each(|_| self.skip_string())?;
                if self.classes.len() >= RPC_CLASSES_MAX {
                    return Err(Broken);
                }
                self.classes.push(fields);
                self.skip_within(depth)
            }
            b'O' => self.count().and_then(|class| self.skip_object(class, depth)),
            0x60..=0x6F => self.skip_object(usize::from(first - 0x60), depth),
            _ => Err(Broken),
        }
    }

    fn skip_object(&mut self, class: usize, depth: usize) -> Result<(), Broken> {
        let fields = *self.classes.get(class).ok_or(Broken)?;
        self.skip_all(fields, depth)
    }

    /// Each value takes a byte at least: a count that lies ends with the bytes.
    fn skip_all(&mut self, len: usize, depth: usize) -> Result<(), Broken> {
        (0..len).try_for_each(|_| self.skip_within(depth))
    }

    fn skip_to_end(&mut self, depth: usize) -> Result<(), Broken> {
        while self.peek() != Some(END) {
            self.skip_within(depth)?;
        }
        self.pass(1)
    }

    /// A type is a name, or the number of one that was said before.
    pub(crate) fn skip_type(&mut self) -> Result<(), Broken> {
        match self.number() {
            Some(_) => Ok(()),
            None => self.skip_string(),
        }
    }

    fn skip_string(&mut self) -> Result<(), Broken> {
        loop {
            let (chars, is_last) = self.string_head()?;
            self.chars(chars)?;
            if is_last {
                return Ok(());
            }
        }
    }

    fn skip_binary(&mut self) -> Result<(), Broken> {
        loop {
            let (len, is_last) = self.binary_head()?;
            self.pass(len)?;
            if is_last {
                return Ok(());
            }
        }
    }

    /// How many bytes a piece of a binary has, and whether it is the last.
    fn binary_head(&mut self) -> Result<(usize, bool), Broken> {
        let first = self.byte()?;
        Ok(match first {
            0x20..=0x2F => (usize::from(first - 0x20), true),
            0x34..=0x37 => (usize::from(first - 0x34) << 8 | usize::from(self.byte()?), true),
            b'B' => (self.u16()?, true),
            b'A' => (self.u16()?, false),
            _ => return Err(Broken),
        })
    }

    /// How many characters a piece of a string has, and whether it is the last.
    fn string_head(&mut self) -> Result<(usize, bool), Broken> {
        let first = self.byte()?;
        Ok(match first {
            0x00..=0x1F => (usize::from(first), true),
            0x30..=0x33 => (usize::from(first - 0x30) << 8 | usize::from(self.byte()?), true),
            b'S' => (self.u16()?, true),
            b'R' => (self.u16()?, false),
            _ => return Err(Broken),
        })
    }

    /// Passes over so many characters of UTF-16 in UTF-8, whose pairs may have been written as one or as two.
    fn chars(&mut self, mut chars: usize) -> Result<(), Broken> {
        while chars > 0 {
            let (len, units) = char_len(self.peek().ok_or(Broken)?).ok_or(Broken)?;
            chars = chars.checked_sub(units).ok_or(Broken)?;
            self.pass(len)?;
        }
        Ok(())
    }

    fn count(&mut self) -> Result<usize, Broken> {
        self.number().and_then(|n| usize::try_from(n).ok()).ok_or(Broken)
    }

    fn byte(&mut self) -> Result<u8, Broken> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Result<usize, Broken> {
        self.take(2).map(|bytes| usize::from(bytes[0]) << 8 | usize::from(bytes[1]))
    }

    fn pass(&mut self, len: usize) -> Result<(), Broken> {
        self.take(len).map(drop)
    }

    fn take(&mut self, len: usize) -> Result<&'b [u8], Broken> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.src.len()).ok_or(Broken)?;
        let bytes = &self.src[self.at..end];
        self.at = end;
        Ok(bytes)
    }
}

/// Writes a string.
pub(crate) fn put_string(text: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
    let mut rest = text;
    loop {
        let (mut len, mut units) = (0, 0);
        while len < rest.len() && units < PIECE_CHARS_MAX {
            let (bytes, more) = char_len(rest[len]).ok_or(Broken)?;
            (len, units) = (len + bytes, units + more);
        }
        let (piece, after) = rest.split_at_checked(len).ok_or(Broken)?;
        let [high, low] = u16::try_from(units).map_err(|_| Broken)?.to_be_bytes();
        match units {
            _ if !after.is_empty() => out.extend_from_slice(&[b'R', high, low]),
            0..=31 => out.push(low),
            32..=1023 => out.extend_from_slice(&[0x30 + high, low]),
            _ => out.extend_from_slice(&[b'S', high, low]),
        }
        out.extend_from_slice(piece);
        if after.is_empty() {
            return Ok(());
        }
        rest = after;
    }
}

/// The bytes of a character by its first, and how many of UTF-16 it is.
fn char_len(first: u8) -> Option<(usize, usize)> {
    match first {
        0x00..=0x7F => Some((1, 1)),
        0xC0..=0xDF => Some((2, 1)),
        0xE0..=0xEF => Some((3, 1)),
        0xF0..=0xF7 => Some((4, 2)),
        _ => None,
    }
}

/// The end of a list or map whose length is not said.
pub(crate) const END: u8 = b'Z';

/// Characters of one piece of a string, at most but for the second half of a pair.
const PIECE_CHARS_MAX: usize = 0x8000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value_is_passed_over_exactly() {
        let class = [&b"C"[..], b"\x01A", b"\x92", b"\x01x\x01y"].concat();
        for value in [
            &b"N"[..],
            b"T",
            b"F",
            b"\x90",
            b"\x80",
            b"\xC8\x30",
            b"\xD4\x01\x00",
            b"I\0\0\0\x01",
            b"\xE0",
            b"\xF8\0",
            b"\x3C\0\0",
            b"Y\0\0\0\x01",
            b"L\0\0\0\0\0\0\0\x01",
            b"\x5B",
            b"\x5C",
            b"\x5D\x01",
            b"\x5E\0\x01",
            b"\x5F\0\0\0\x01",
            b"D\0\0\0\0\0\0\0\0",
            b"J\0\0\0\0\0\0\0\0",
            b"K\0\0\0\0",
            b"\0",
            b"\x02hi",
            b"\x01\xC3\xA4",
            b"\x30\x02hi",
            b"S\0\x02hi",
            b"R\0\x01hS\0\x01i",
            b"\x02\xF0\x9F\x98\x80",
            b"\x22ab",
            b"\x34\x02ab",
            b"B\0\x01a",
            b"A\0\x01aB\0\x01b",
            b"HZ",
            b"H\x01a\x01bZ",
            b"M\x01t\x01a\x90Z",
            b"M\x90\x01aNZ",
            b"W\x90\x91Z",
            b"U\x01t\x90Z",
            b"X\x92\x90\x91",
            b"V\x01t\x91\x90",
            b"\x71\x01t\x90",
            b"\x79\x90",
            b"Q\x90",
            &[&class[..], b"O\x90\x90\x91"].concat(),
            &[&class[..], b"\x60\x90HZ"].concat(),
        ] {
            let bytes = [value, b"after"].concat();
            let mut reader = Reader::new(&bytes);
            assert_eq!((reader.skip(), reader.at()), (Ok(()), value.len()), "{value:?}");
            for cut in 0..value.len() {
                assert_eq!(Reader::new(&value[..cut]).skip(), Err(Broken), "{value:?} in {cut}");
            }
        }
    }

    #[test]
    fn what_lies_or_nests_is_refused() {
        for value in [
            &b"X\xD7\xFF\xFF\x90"[..],
            b"O\x90",
            b"\x60",
            b"@",
            b"G",
            b"S\xFF\xFFa",
            b"\x01\x80",
            b"X\x8F",
            b"C\x01AI\x7F\xFF\xFF\xFF",
        ] {
            assert_eq!(Reader::new(value).skip(), Err(Broken), "{value:?}");
        }
        assert_eq!(Reader::new(&[0x79; 10_000]).skip(), Err(Broken));
        assert_eq!(Reader::new(&[&[0x79; RPC_PASSED_DEPTH_MAX - 1][..], b"N"].concat()).skip(), Ok(()));
        for (classes, skipped) in [(RPC_CLASSES_MAX, Ok(())), (RPC_CLASSES_MAX + 1, Err(Broken))] {
            let list = [&b"W"[..], &b"C\0\x90N".repeat(classes), b"Z"].concat();
            assert_eq!(Reader::new(&list).skip(), skipped, "{classes} classes");
        }
    }

    #[test]
    fn numbers_and_strings() {
        for (bytes, number) in [
            (&b"\x90"[..], Some(0)),
            (b"\x80", Some(-16)),
            (b"\xBF", Some(47)),
            (b"\xC0\0", Some(-2048)),
            (b"\xCF\xFF", Some(2047)),
            (b"\xD0\0\0", Some(-262_144)),
            (b"I\xFF\xFF\xFF\xFF", Some(-1)),
            (b"\xE1", Some(1)),
            (b"L\0\0\0\0\0\0\x0B\xB8", Some(3000)),
            (b"\x01a", None),
            (b"I\0", None),
        ] {
            let mut reader = Reader::new(bytes);
            assert_eq!(reader.number(), number, "{bytes:?}");
            assert_eq!(reader.at() > 0, number.is_some());
        }
        for text in [
            "",
            "a",
            &"b".repeat(31),
            &"c".repeat(32),
            &"d".repeat(1023),
            &"e".repeat(1024),
            &"f\u{1F600}".repeat(40_000),
        ] {
            let (mut wire, mut read) = (Vec::new(), Vec::new());
            put_string(text.as_bytes(), &mut wire).unwrap();
            let mut reader = Reader::new(&wire);
            assert_eq!((reader.string(&mut read), reader.at()), (Ok(Some(())), wire.len()));
            assert!(read == text.as_bytes());
        }
        assert_eq!(put_string(b"\xFF", &mut Vec::new()), Err(Broken));
        assert_eq!(put_string(b"\xE0", &mut Vec::new()), Err(Broken));
    }
}
