//! The part that requests, responses and trailers share: start line, then field lines, then an empty line.
//!
//! A head is parsed as it arrives, each byte once. When the bytes end inside it, the place is kept, and the next call goes on from there
//! over the same bytes with more behind them.
//!
//! **Invariant:** whether a head is refused, and why, depends on its bytes only, never on how they were split.

use super::framing::{Facts, Kind};
use super::scan::{target_end, token_end, trim_span, value_end};
use super::{CodecLimits, DecodeError};
use crate::message::{Field, FieldId, HttpHead, Method, Span, StartLine, Version};

/// A head in the making.
#[derive(Debug)]
pub(super) struct HeadParser {
    pub(super) head: HttpHead,
    pub(super) line: StartLine,
    pub(super) facts: Facts,
    kind: Kind,
    /// Where the line in hand starts.
    start: usize,
    /// The next byte to look at.
    at: usize,
    /// Ends of the first and second part of the line in hand, 0 while unknown: method and target, or field name.
    ends: [usize; 2],
}

impl HeadParser {
    pub(super) fn new(kind: Kind) -> Self {
        let (head, line, facts) = (HttpHead::empty(), StartLine::None, Facts::default());
        Self { head, line, facts, kind, start: 0, at: 0, ends: [0; 2] }
    }

    /// Goes on parsing `src`, the head from its first byte. The head's length, once it is complete.
    #[inline]
    pub(super) fn parse(&mut self, src: &[u8], limits: &CodecLimits) -> Result<Option<usize>, DecodeError> {
        let window = &src[..src.len().min(limits.head_bytes_max)];
        if self.line == StartLine::None && self.kind != Kind::Trailers {
            let done = match self.kind {
                Kind::Request => self.request_line(window, limits.request_line_bytes_max)?,
                _ => self.status_line(window)?,
            };
            if !done {
                return if window.len() == limits.head_bytes_max { Err(DecodeError::HeadTooLarge) } else { Ok(None) };
            }
        }
        match self.field_lines(window, limits.head_fields_max)? {
            None if window.len() == limits.head_bytes_max => Err(DecodeError::HeadTooLarge),
            Some(len) => {
                self.head.seal(&src[..len], self.line);
                Ok(Some(len))
            }
            None => Ok(None),
        }
    }

    /// Goes on with the head in `partial`, or starts one. A head that is not complete yet waits in `partial`; one of which nothing has
    /// arrived does not, so that an idle connection holds no buffer.
    #[inline]
    pub(super) fn resume(
        partial: &mut Option<Box<Self>>,
        kind: Kind,
        src: &[u8],
        limits: &CodecLimits,
    ) -> Result<Option<(Self, usize)>, DecodeError> {
        if src.is_empty() {
            return Ok(None);
        }
        if let Some(parser) = partial {
            let parsed = parser.parse(src, limits)?;
            return Ok(parsed.and_then(|len| partial.take().map(|parser| (*parser, len))));
        }
        let mut parser = Self::new(kind);
        if let Some(len) = parser.parse(src, limits)? {
            return Ok(Some((parser, len)));
        }
        *partial = Some(Box::new(parser));
        Ok(None)
    }

    /// `method SP target SP HTTP/1.x CRLF` (RFC 9112, 3). Whether the line is complete.
    fn request_line(&mut self, window: &[u8], line_max: usize) -> Result<bool, DecodeError> {
        let limit = line_max.saturating_add(2);
        let src = &window[..window.len().min(limit)];
        match self.request_line_within(src)? {
            Some(version) => {
                let [method_end, target_end] = self.ends;
                let method_span = Span::new(0, method_end);
                let method = Method::of(&src[..method_end]);
                self.line =
                    StartLine::Request { method, method_span, target: Span::new(method_end + 1, target_end), version };
                self.next_line(target_end + VERSION_END_BYTES);
                Ok(true)
            }
            None if src.len() == limit => Err(DecodeError::RequestLineTooLong),
            None => Ok(false),
        }
    }

    fn request_line_within(&mut self, src: &[u8]) -> Result<Option<Version>, DecodeError> {
        if self.ends[0] == 0 {
            self.at = token_end(src, self.at);
            match src.get(self.at) {
                None => return Ok(None),
                Some(b' ') if self.at > 0 => {}
                Some(_) => return Err(DecodeError::Method),
            }
            self.ends[0] = self.at;
            self.at += 1;
        }
        if self.ends[1] == 0 {
            self.at = target_end(src, self.at);
            match src.get(self.at) {
                None => return Ok(None),
                Some(b' ') if self.at > self.ends[0] + 1 => {}
                Some(b'#') => return Err(DecodeError::Fragment),
                Some(b'\r' | b'\n') => return Err(DecodeError::RequestLine),
                Some(_) => return Err(DecodeError::Target),
            }
            self.ends[1] = self.at;
        }
        request_version(&src[self.ends[1]..])
    }

    /// `HTTP/1.x SP 3DIGIT SP reason CRLF` (RFC 9112, 4). The space before an absent reason may be absent too: common, and harmless.
    fn status_line(&mut self, src: &[u8]) -> Result<bool, DecodeError> {
        if self.at == 0 {
            for (at, &b) in src.iter().take(STATUS_END).enumerate() {
                match (STATUS_FORM[at], b) {
                    (b'0', b'0'..=b'9') if at != 9 || b != b'0' => {}
                    (form, b) if form == b && form != b'0' => {}
                    (b'1', b'0' | b'2'..=b'9') => return Err(DecodeError::Version),
                    _ => return Err(DecodeError::StatusLine),
                }
            }
            match src.get(STATUS_END) {
                None => return Ok(false),
                Some(b' ') => self.at = STATUS_END + 1,
                Some(b'\r') => self.at = STATUS_END,
                Some(_) => return Err(DecodeError::StatusLine),
            }
        }
        self.at = value_end(src, self.at);
        if !line_ends(src, self.at, DecodeError::StatusLine)? {
            return Ok(false);
        }
        let digit = |at: usize| u16::from(src[at] - b'0');
        self.line = StartLine::Response {
            status: digit(9) * 100 + digit(10) * 10 + digit(11),
            reason: Span::new(self.at.min(STATUS_END + 1), self.at),
            version: if src[7] == b'0' { Version::Http10 } else { Version::Http11 },
        };
        self.next_line(self.at + 2);
        Ok(true)
    }

    /// Field lines up to the empty one (RFC 9112, 5). The place behind it, once it has been seen.
    #[inline]
    fn field_lines(&mut self, src: &[u8], fields_max: usize) -> Result<Option<usize>, DecodeError> {
        loop {
            if self.ends[0] == 0 {
                self.at = token_end(src, self.at);
                match src.get(self.at) {
                    None => return Ok(None),
                    Some(b':') if self.at > self.start => {}
                    Some(&b) => return self.end_of_fields(src, b),
                }
                self.ends[0] = self.at;
                self.at += 1;
            }
            self.at = value_end(src, self.at);
            if !line_ends(src, self.at, DecodeError::FieldValue)? {
                return Ok(None);
            }
            if self.head.field_count() == fields_max {
                return Err(DecodeError::TooManyFields);
            }
            let value = trim_span(src, self.ends[0] + 1, self.at);
            let name = &src[self.start..self.ends[0]];
            let id = FieldId::of(name);
            self.facts.note(self.kind, id, &src[value.0..value.1])?;
            let name = Span::new(self.start, self.ends[0]);
            self.head.push(Field { name, value: Span::new(value.0, value.1), id });
            self.next_line(self.at + 2);
        }
    }

    /// A line that is no field line: the empty one, or a broken one.
    fn end_of_fields(&self, src: &[u8], b: u8) -> Result<Option<usize>, DecodeError> {
        match b {
            b'\r' if self.at == self.start => {
                Ok(if line_ends(src, self.at, DecodeError::FieldName)? { Some(self.at + 2) } else { None })
            }
            b' ' | b'\t' if self.at == self.start => Err(DecodeError::Fold),
            b' ' | b'\t' => Err(DecodeError::SpaceBeforeColon),
            b'\n' if self.at == self.start => Err(DecodeError::LineEnd),
            _ => Err(DecodeError::FieldName),
        }
    }

    fn next_line(&mut self, start: usize) {
        self.start = start;
        self.at = start;
        self.ends = [0; 2];
    }
}

/// Whether CR LF stands at `at`, the first byte that can't belong to the line's text; `false` while that can't be told. Another byte
/// there is refused: as a broken line end, or with `other`.
#[inline]
pub(super) fn line_ends(src: &[u8], at: usize, other: DecodeError) -> Result<bool, DecodeError> {
    match src.get(at..) {
        Some([b'\r', b'\n', ..]) => Ok(true),
        None | Some([] | [b'\r']) => Ok(false),
        Some([b'\r' | b'\n', ..]) => Err(DecodeError::LineEnd),
        Some(_) => Err(other),
    }
}

/// The version and line end behind a request target: ` HTTP/1.x` and CR LF. A higher minor version is treated as 1.1 (RFC 9110, 6.2), of
/// another major version nothing is understood.
#[inline]
fn request_version(src: &[u8]) -> Result<Option<Version>, DecodeError> {
    if src.starts_with(b" HTTP/1.1\r\n") {
        return Ok(Some(Version::Http11));
    }
    for (at, &b) in src.iter().take(VERSION_FORM.len()).enumerate() {
        match (VERSION_FORM[at], b) {
            (b'0', b'0'..=b'9') => {}
            (form, b) if form == b && form != b'0' => {}
            (b'1', b'0' | b'2'..=b'9') => return Err(DecodeError::Version),
            _ => return Err(DecodeError::RequestLine),
        }
    }
    if !line_ends(src, VERSION_FORM.len(), DecodeError::RequestLine)? {
        return Ok(None);
    }
    Ok(Some(if src[VERSION_FORM.len() - 1] == b'0' { Version::Http10 } else { Version::Http11 }))
}

/// What stands behind a target, line end aside; 0 stands for any digit.
const VERSION_FORM: &[u8; 9] = b" HTTP/1.0";

/// The version with the space before it and the line end.
const VERSION_END_BYTES: usize = VERSION_FORM.len() + 2;

/// What a status line starts with; 0 stands for any digit.
const STATUS_FORM: &[u8; STATUS_END] = b"HTTP/1.0 000";

/// Where the status code ends.
const STATUS_END: usize = 12;
