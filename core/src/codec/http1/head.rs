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
    place: Place,
}

/// How far the parser has come.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// Where the line in hand starts.
    start: usize,
    /// The next byte to look at.
    at: usize,
    /// Ends of the first and second part of the line in hand, 0 while unknown: method and target, or field name.
    ends: [usize; 2],
}

impl HeadParser {
    #[inline]
    pub(super) fn new(kind: Kind) -> Self {
        let (head, line, facts) = (HttpHead::empty(), StartLine::None, Facts::default());
        Self { head, line, facts, kind, place: Place::default() }
    }

    /// Goes on parsing `src`, the head from its first byte. The head's length, once it is complete.
    #[inline]
    pub(super) fn parse(&mut self, src: &[u8], limits: &CodecLimits) -> Result<Option<usize>, DecodeError> {
        let max = limits.head_bytes_max.min(HEAD_BYTES_CEILING);
        let window = &src[..src.len().min(max)];
        let started = self.kind == Kind::Trailers || self.line != StartLine::None || self.start_line(window, limits)?;
        match if started { self.field_lines(window, limits.head_fields_max)? } else { None } {
            None if window.len() == max => Err(DecodeError::HeadTooLarge),
            None => Ok(None),
            Some(len) => {
                self.head.seal(&src[..len], self.line);
                Ok(Some(len))
            }
        }
    }

    /// Whether the start line is complete.
    #[inline]
    fn start_line(&mut self, window: &[u8], limits: &CodecLimits) -> Result<bool, DecodeError> {
        match self.kind {
            Kind::Request => self.request_line(window, limits.request_line_bytes_max),
            _ => self.status_line(window),
        }
    }

    /// `method SP target SP HTTP/1.x CRLF` (RFC 9112, 3). Whether the line is complete.
    fn request_line(&mut self, window: &[u8], line_max: usize) -> Result<bool, DecodeError> {
        let limit = line_max.saturating_add(2);
        let src = &window[..window.len().min(limit)];
        match self.request_line_within(src)? {
            Some(version) => {
                let [method_end, target_end] = self.place.ends;
                let (method_span, target) = (Span::within(0, method_end), Span::within(method_end + 1, target_end));
                let method = if src.starts_with(b"GET ") { Method::Get } else { Method::of(&src[..method_end]) };
                self.line = StartLine::Request { method, method_span, target, version };
                self.next_line(target_end + VERSION_END_BYTES);
                Ok(true)
            }
            None if src.len() == limit => Err(DecodeError::RequestLineTooLong),
            None => Ok(false),
        }
    }

    fn request_line_within(&mut self, src: &[u8]) -> Result<Option<Version>, DecodeError> {
        let place = &mut self.place;
        if place.ends[0] == 0 {
            place.at = token_end(src, place.at);
            match src.get(place.at) {
                None => return Ok(None),
                Some(b' ') if place.at > 0 => {}
                Some(_) => return Err(DecodeError::Method),
            }
            place.ends[0] = place.at;
            place.at += 1;
        }
        if place.ends[1] == 0 {
            place.at = target_end(src, place.at);
            match src.get(place.at) {
                None => return Ok(None),
                Some(b' ') if place.at > place.ends[0] + 1 => {}
                Some(b'#') => return Err(DecodeError::Fragment),
                Some(b'\r' | b'\n') => return Err(DecodeError::RequestLine),
                Some(_) => return Err(DecodeError::Target),
            }
            place.ends[1] = place.at;
        }
        request_version(&src[place.ends[1]..])
    }

    /// `HTTP/1.x SP 3DIGIT SP reason CRLF` (RFC 9112, 4). The space before an absent reason may be absent too: common, and harmless.
    fn status_line(&mut self, src: &[u8]) -> Result<bool, DecodeError> {
        if self.place.at == 0 {
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
                Some(b' ') => self.place.at = STATUS_END + 1,
                Some(b'\r') => self.place.at = STATUS_END,
                Some(_) => return Err(DecodeError::StatusLine),
            }
        }
        self.place.at = value_end(src, self.place.at);
        if !line_ends(src, self.place.at, DecodeError::StatusLine)? {
            return Ok(false);
        }
        let digit = |at: usize| u16::from(src[at] - b'0');
        self.line = StartLine::Response {
            status: digit(9) * 100 + digit(10) * 10 + digit(11),
            reason: Span::within(self.place.at.min(STATUS_END + 1), self.place.at),
            version: if src[7] == b'0' { Version::Http10 } else { Version::Http11 },
        };
        self.next_line(self.place.at + 2);
        Ok(true)
    }

    /// Field lines up to the empty one (RFC 9112, 5). The place behind it, once it has been seen.
    #[inline]
    fn field_lines(&mut self, src: &[u8], fields_max: usize) -> Result<Option<usize>, DecodeError> {
        let mut place = self.place;
        let end = loop {
            if place.ends[0] == 0 {
                place.at = token_end(src, place.at);
                match src.get(place.at) {
                    None => break None,
                    Some(b':') if place.at > place.start => {}
                    Some(&b) if end_of_fields(src, place, b)? => break Some(place.at + 2),
                    Some(_) => break None,
                }
                place.ends[0] = place.at;
                place.at += 1;
            }
            place.at = value_end(src, place.at);
            if !line_ends(src, place.at, DecodeError::FieldValue)? {
                break None;
            }
            self.field(src, place, fields_max)?;
            place = Place { start: place.at + 2, at: place.at + 2, ends: [0; 2] };
        };
        self.place = place;
        Ok(end)
    }

    /// Takes in the field line at `place`, which is complete.
    #[inline]
    fn field(&mut self, src: &[u8], place: Place, fields_max: usize) -> Result<(), DecodeError> {
        if self.head.field_count() == fields_max {
            return Err(DecodeError::TooManyFields);
        }
        let (name_start, name_end) = (place.start, place.ends[0]);
        let (start, end) = trim_span(src, name_end + 1, place.at);
        let id = FieldId::of(&src[name_start..name_end]);
        self.facts.note(self.kind, id, &src[start..end])?;
        self.head.push(Field { name: Span::within(name_start, name_end), value: Span::within(start, end), id });
        Ok(())
    }

    fn next_line(&mut self, start: usize) {
        self.place = Place { start, at: start, ends: [0; 2] };
    }
}

/// A line that is no field line: whether it is the empty one, or can't be told yet; else it is broken.
fn end_of_fields(src: &[u8], place: Place, b: u8) -> Result<bool, DecodeError> {
    let first = place.at == place.start;
    match b {
        b'\r' if first => line_ends(src, place.at, DecodeError::FieldName),
        b' ' | b'\t' if first => Err(DecodeError::Fold),
        b' ' | b'\t' => Err(DecodeError::SpaceBeforeColon),
        b'\n' if first => Err(DecodeError::LineEnd),
        _ => Err(DecodeError::FieldName),
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

/// Places in a head are 32 bits wide, whatever the limit says.
const HEAD_BYTES_CEILING: usize = u32::MAX as usize;
