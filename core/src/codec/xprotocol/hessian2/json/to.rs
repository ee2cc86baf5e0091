//! Hessian to JSON.
//!
//! **Invariant:** a reference is followed as if what it refers to stood there, and counts as that; nothing is defined on such a way.

use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{ValueError, ValueLimits};
use crate::codec::xprotocol::hessian2::{Broken, END, Reader, char_len};
use crate::config::limits::RPC_CLASSES_MAX;

/// Writes values of one body of Hessian as JSON, one after the other: what one defines others refer to.
pub struct ToJson<'b> {
    reader: Reader<'b>,
    limits: ValueLimits,
    values: usize,
    classes: Vec<Class>,
    /// Where each list, map and object began.
    begun: Vec<usize>,
    /// How many references lead to where we are: nothing there is defined anew.
    followed: usize,
    /// Bytes that were read once more for what refers to them: each of a body's own is read once, and these are bounded as what is written.
    read_again: usize,
}

/// A class: its name and its fields, where they stand.
struct Class {
    name: Range<usize>,
    fields: Vec<Range<usize>>,
}

impl<'b> ToJson<'b> {
    /// For the values that begin in `body` at `at`. Nothing before that may be referred to.
    #[must_use]
    pub fn new(body: &'b [u8], at: usize, limits: ValueLimits) -> Self {
        let mut reader = Reader::new(body);
        reader.at = at.min(body.len());
        Self { reader, limits, values: 0, classes: Vec::new(), begun: Vec::new(), followed: 0, read_again: 0 }
    }

    /// Where the next value begins.
    #[must_use]
    pub fn at(&self) -> usize {
        self.reader.at
    }

    /// The first byte of the next value.
    #[must_use]
    pub fn peek(&self) -> Option<u8> {
        self.reader.peek()
    }

    /// Writes the next value behind what is in `out`.
    ///
    /// # Errors
    /// When it is none, or more than the limits allow.
    pub fn value(&mut self, out: &mut Vec<u8>) -> Result<(), ValueError> {
        self.within(0, out)
    }

    /// Begins a map; says whether there is one.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn begin_map(&mut self) -> Result<bool, ValueError> {
        let at = self.reader.at;
        match self.reader.peek() {
            Some(b'H') => self.reader.at += 1,
            Some(b'M') => {
                self.reader.at += 1;
                self.reader.skip_type()?;
            }
            _ => return Ok(false),
        }
        self.begin(at)?;
        Ok(true)
    }

    /// The next pair of a map, where both are strings; its name and value are written to `name` and `value`. None: the map has ended. Some(false):
    /// one of them is no string; it was passed over.
    ///
    /// # Errors
    /// When it is malformed, or more than the limits allow.
    pub fn text_pair(&mut self, name: &mut Vec<u8>, value: &mut Vec<u8>) -> Result<Option<bool>, ValueError> {
        if self.reader.peek() == Some(END) {
            self.reader.at += 1;
            return Ok(None);
        }
        let mut is_text = true;
        for out in [name, value] {
            if self.reader.is_string() {
                self.count()?;
                self.reader.string(out)?;
            } else {
                // Written, to see what it defines, and forgotten.
                let kept = out.len();
                self.within(0, out)?;
                out.truncate(kept);
                is_text = false;
            }
        }
        Ok(Some(is_text))
    }

    fn count(&mut self) -> Result<(), ValueError> {
        self.values += 1;
        if self.values > self.limits.values_max { Err(ValueError::Values) } else { Ok(()) }
    }

    /// Takes note of a list, map or object that begins at `at`.
    fn begin(&mut self, at: usize) -> Result<(), ValueError> {
        self.count()?;
        if self.followed == 0 {
            self.begun.push(at);
        }
        Ok(())
    }

    fn within(&mut self, depth: usize, out: &mut Vec<u8>) -> Result<(), ValueError> {
        if depth >= self.limits.depth_max {
            return Err(ValueError::Depth);
        }
        if out.len() > self.limits.bytes_max {
            return Err(ValueError::Bytes);
        }
        let at = self.reader.at;
        let first = self.reader.peek().ok_or(ValueError::Broken)?;
        if let Some(number) = self.reader.number() {
            self.count()?;
            out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
            return Ok(());
        }
        // tidy: table
        match first {
            b'R' | b'S' | 0x00..=0x1F | 0x30..=0x33 => self.string(out),
            b'A' | b'B' | 0x20..=0x2F | 0x34..=0x37 => self.binary(out),
            b'N' | b'T' | b'F' | b'D' | 0x5B..=0x5F | b'J' | b'K' => self.scalar(first, out),
            b'H' | b'M' => {
                self.begin_map()?;
                self.map(depth, out)
            }
            b'U'..=b'X' | 0x70..=0x7F => self.list(at, depth, out),
            b'C' => {
                while self.reader.peek() == Some(b'C') {
                    self.class()?;
                }
                self.within(depth, out)
            }
            b'O' | 0x60..=0x6F => self.object(at, depth, out),
            b'Q' => self.reference(depth, out),
            _ => Err(ValueError::Broken),
        }
    }

    fn scalar(&mut self, first: u8, out: &mut Vec<u8>) -> Result<(), ValueError> {
        self.count()?;
        self.reader.at += 1;
        let mut bytes = |len: usize| {
            let bytes = self.reader.take(len)?;
            Ok::<_, Broken>(bytes.iter().fold(0u64, |n, b| n << 8 | u64::from(*b)))
        };
        let number = match first {
            b'N' => return put(out, b"null"),
            b'T' => return put(out, b"true"),
            b'F' => return put(out, b"false"),
            b'J' => return put(out, itoa::Buffer::new().format(bytes(8)?.cast_signed()).as_bytes()),
            b'K' => {
                let minutes = i64::from(low32(bytes(4)?));
                return put(out, itoa::Buffer::new().format(minutes * 60_000).as_bytes());
            }
            0x5B => 0.0,
            0x5C => 1.0,
            0x5D => f64::from(low32(bytes(1)? << 24) >> 24),
            0x5E => f64::from(low32(bytes(2)? << 16) >> 16),
            0x5F => f64::from(low32(bytes(4)?)) * 0.001,
            _ => f64::from_bits(bytes(8)?),
        };
        // What is no number is null.
        serde_json::to_writer(out, &number).map_err(|_| ValueError::Broken)
    }

    fn string(&mut self, out: &mut Vec<u8>) -> Result<(), ValueError> {
        self.count()?;
        out.push(b'"');
        let mut high = None;
        loop {
            let (chars, is_last) = self.reader.string_head()?;
            let start = self.reader.at;
            self.reader.chars(chars)?;
            put_escaped(&self.reader.src[start..self.reader.at], &mut high, out)?;
            if is_last {
                break;
            }
        }
        put_lone(&mut high, out);
        out.push(b'"');
        Ok(())
    }

    fn binary(&mut self, out: &mut Vec<u8>) -> Result<(), ValueError> {
        self.count()?;
        let mut all = Vec::new();
        loop {
            let (len, is_last) = self.reader.binary_head()?;
            all.extend_from_slice(self.reader.take(len)?);
            if is_last {
                break;
            }
        }
        out.push(b'"');
        put(out, STANDARD.encode(&all).as_bytes())?;
        put(out, b"\"")
    }

    fn list(&mut self, at: usize, depth: usize, out: &mut Vec<u8>) -> Result<(), ValueError> {
        self.begin(at)?;
        let first = self.reader.byte()?;
        if matches!(first, b'U' | b'V' | 0x70..=0x77) {
            self.reader.skip_type()?;
        }
        let len = match first {
            b'U' | b'W' => None,
            b'V' | b'X' => Some(self.reader.count()?),
            _ => Some(usize::from(first & 7)),
        };
        out.push(b'[');
        let mut count = 0;
        while len.map_or(self.reader.peek() != Some(END), |len| count < len) {
            if count > 0 {
                out.push(b',');
            }
            self.within(depth + 1, out)?;
            count += 1;
        }
        if len.is_none() {
            self.reader.step();
        }
        put(out, b"]")
    }

    fn map(&mut self, depth: usize, out: &mut Vec<u8>) -> Result<(), ValueError> {
        out.push(b'{');
        let mut is_first = true;
        while self.reader.peek() != Some(END) {
            if !std::mem::replace(&mut is_first, false) {
                out.push(b',');
            }
            self.key(depth, out)?;
            out.push(b':');
            self.within(depth + 1, out)?;
        }
        self.reader.step();
        put(out, b"}")
    }

    fn key(&mut self, depth: usize, out: &mut Vec<u8>) -> Result<(), ValueError> {
        if self.reader.is_string() {
            return self.string(out);
        }
        match self.reader.peek().ok_or(ValueError::Broken)? {
            b'T' | b'F' | b'I' | b'Y' | b'L' | 0x38..=0x3F | 0x80..=0xFF => {
                out.push(b'"');
                self.within(depth + 1, out)?;
                put(out, b"\"")
            }
            _ => Err(ValueError::Key),
        }
    }

    /// A definition: read where it stands first, passed over where a reference has led back to it.
    fn class(&mut self) -> Result<(), ValueError> {
        self.count()?;
        self.reader.at += 1;
        let name = self.name()?;
        let count = self.reader.count()?;
        let mut fields = Vec::new();
        for _ in 0..count {
            self.count()?;
            let field = self.name()?;
            fields.push(field);
        }
        if self.followed == 0 {
            if self.classes.len() >= RPC_CLASSES_MAX {
                return Err(ValueError::Values);
            }
            self.classes.push(Class { name, fields });
        }
        Ok(())
    }

    fn name(&mut self) -> Result<Range<usize>, ValueError> {
        let start = self.reader.at;
        self.reader.skip_string()?;
        Ok(start..self.reader.at)
    }

    fn object(&mut self, at: usize, depth: usize, out: &mut Vec<u8>) -> Result<(), ValueError> {
        self.begin(at)?;
        let class = match self.reader.byte()? {
            b'O' => self.reader.count()?,
            first => usize::from(first - 0x60),
        };
        let Class { name, fields } = self.classes.get(class).ok_or(ValueError::Broken)?;
        let (name, fields) = (name.clone(), fields.len());
        put(out, b"{\"class\":")?;
        self.text_at(name, out)?;
        for index in 0..fields {
            out.push(b',');
            let field = self.classes[class].fields[index].clone();
            self.text_at(field, out)?;
            out.push(b':');
            self.within(depth + 1, out)?;
        }
        put(out, b"}")
    }

    /// Writes a string that stands elsewhere.
    fn text_at(&mut self, place: Range<usize>, out: &mut Vec<u8>) -> Result<(), ValueError> {
        let here = std::mem::replace(&mut self.reader.at, place.start);
        let written = self.string(out);
        self.reader.at = here;
        self.read_again(place.len())?;
        written
    }

    fn read_again(&mut self, bytes: usize) -> Result<(), ValueError> {
        self.read_again += bytes;
        if self.read_again > self.limits.bytes_max { Err(ValueError::Bytes) } else { Ok(()) }
    }

    /// Writes once more what was written before. One that leads into itself ends at the depth, those that multiply at the values.
    fn reference(&mut self, depth: usize, out: &mut Vec<u8>) -> Result<(), ValueError> {
        self.reader.at += 1;
        let number = self.reader.count()?;
        let to = *self.begun.get(number).ok_or(ValueError::Broken)?;
        let here = std::mem::replace(&mut self.reader.at, to);
        self.followed += 1;
        let written = self.within(depth + 1, out);
        self.followed -= 1;
        let end = std::mem::replace(&mut self.reader.at, here);
        written?;
        self.read_again(end - to)
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), ValueError> {
    out.extend_from_slice(bytes);
    Ok(())
}

#[expect(clippy::cast_possible_truncation, reason = "its caller has no more than four bytes")]
fn low32(bytes: u64) -> i32 {
    (bytes as u32).cast_signed()
}

/// Writes text of Hessian, UTF-8 whose pairs may have been written as one or as two, between the quotes of JSON. `high` is the first half of
/// a pair that has not been written yet.
fn put_escaped(mut text: &[u8], high: &mut Option<u16>, out: &mut Vec<u8>) -> Result<(), ValueError> {
    while let Some(first) = text.first() {
        let (len, _) = char_len(*first).ok_or(ValueError::Broken)?;
        let (bytes, rest) = text.split_at_checked(len).ok_or(ValueError::Broken)?;
        text = rest;
        let code = code_point(bytes).ok_or(ValueError::Broken)?;
        match (*high, u16::try_from(code)) {
            (Some(first), Ok(second @ 0xDC00..=0xDFFF)) => {
                let code = 0x1_0000 + (u32::from(first - 0xD800) << 10) + u32::from(second - 0xDC00);
                put_char(char::from_u32(code).ok_or(ValueError::Broken)?, out);
                *high = None;
                continue;
            }
            _ => put_lone(high, out),
        }
        match char::from_u32(code) {
            Some(char) => put_char(char, out),
            None if code < 0xDC00 => *high = u16::try_from(code).ok(),
            None => put_lone(&mut u16::try_from(code).ok(), out),
        }
    }
    Ok(())
}

/// Half a pair: JSON has an escape for it.
fn put_lone(half: &mut Option<u16>, out: &mut Vec<u8>) {
    if let Some(half) = half.take() {
        out.extend_from_slice(format!("\\u{half:04x}").as_bytes());
    }
}

fn put_char(char: char, out: &mut Vec<u8>) {
    match char {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        '\0'..='\x1F' => out.extend_from_slice(format!("\\u{:04x}", u32::from(char)).as_bytes()),
        _ => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// The character of these bytes; half a pair is one, too. None: they are none, or longer than they need to be.
fn code_point(bytes: &[u8]) -> Option<u32> {
    let [first, rest @ ..] = bytes else { return None };
    if rest.iter().any(|byte| byte & 0xC0 != 0x80) {
        return None;
    }
    let own = match rest.len() {
        0 => return Some(u32::from(*first)),
        1 => first & 0x1F,
        2 => first & 0x0F,
        _ => first & 0x07,
    };
    let code = rest.iter().fold(u32::from(own), |code, byte| code << 6 | u32::from(byte & 0x3F));
    let least = [0, 0x80, 0x800, 0x1_0000][rest.len().min(3)];
    (least..=0x10_FFFF).contains(&code).then_some(code)
}
