//! Where a body ends, byte by byte: by count, by chunks, or with its connection.
//!
//! **Invariant:** no byte behind the body's end is ever given out as part of it, and chunks that could be measured in two ways are
//! refused (RFC 9112, 7.1).

use super::framing::{Kind, thin_out_trailers};
use super::head::{HeadParser, line_ends};
use super::scan::{token_end, value_end};
use super::{CodecLimits, DecodeError, Frame};
use crate::message::BodyLength;

/// Follows one body after another.
#[derive(Debug)]
pub(super) struct BodyDecoder {
    state: State,
    /// Bytes at the start of the input that are behind us already, though no frame has taken them yet.
    passed: usize,
    /// How far the end of a chunk-size line has been searched for, from the line's start.
    searched: usize,
    /// Bytes that chunks may still bring.
    allowance: u64,
}

#[derive(Debug)]
enum State {
    /// Between bodies.
    Done,
    Exact(u64),
    ChunkLine,
    ChunkData(u64),
    ChunkEnd,
    Trailers(Box<HeadParser>),
    UntilClose,
}

impl BodyDecoder {
    pub(super) const fn new() -> Self {
        Self { state: State::Done, passed: 0, searched: 0, allowance: 0 }
    }

    /// Starts a body.
    pub(super) fn begin(&mut self, length: BodyLength, allowance: u64) {
        self.allowance = allowance;
        self.state = match length {
            BodyLength::None | BodyLength::Exact(0) => State::Done,
            BodyLength::Exact(n) => State::Exact(n),
            BodyLength::Chunked => State::ChunkLine,
            BodyLength::UntilClose => State::UntilClose,
        };
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// How the part ends that has not been seen yet.
    pub(super) fn length(&self) -> BodyLength {
        match self.state {
            State::Done => BodyLength::None,
            State::Exact(n) => BodyLength::Exact(n),
            State::UntilClose => BodyLength::UntilClose,
            _ => BodyLength::Chunked,
        }
    }

    /// Takes note of `n` bytes that went elsewhere.
    ///
    /// # Panics
    /// When they are more than an exact body has left, or this is a chunked one: the caller's books are wrong.
    pub(super) fn advance(&mut self, n: u64) {
        match &mut self.state {
            State::Exact(left) => {
                *left = left.checked_sub(n).expect("a relay is limited to what the body has left");
                if *left == 0 {
                    self.state = State::Done;
                }
            }
            State::UntilClose => {}
            _ => assert!(n == 0, "only a body without structure can be advanced"),
        }
    }

    /// The input has ended.
    pub(super) fn finish(&mut self) -> Result<(), DecodeError> {
        match self.state {
            State::Done => Ok(()),
            State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(DecodeError::Truncated),
        }
    }

    /// The next piece of the body.
    pub(super) fn decode<'a>(
        &mut self,
        src: &'a [u8],
        limits: &CodecLimits,
    ) -> Result<Option<(Frame<'a>, usize)>, DecodeError> {
        match &mut self.state {
            State::Done => Ok(None),
            _ if src.is_empty() => Ok(None),
            State::Exact(left) => {
                let data = &src[..usize::try_from(*left).map_or(src.len(), |left| left.min(src.len()))];
                *left -= data.len() as u64;
                if *left == 0 {
                    self.state = State::Done;
                }
                Ok(Some((Frame::Data(data), data.len())))
            }
            State::UntilClose => Ok(Some((Frame::Data(src), src.len()))),
            _ => self.decode_chunked(src, limits),
        }
    }

    fn decode_chunked<'a>(
        &mut self,
        src: &'a [u8],
        limits: &CodecLimits,
    ) -> Result<Option<(Frame<'a>, usize)>, DecodeError> {
        loop {
            let rest = src.get(self.passed..).unwrap_or_default();
            match &mut self.state {
                State::ChunkEnd => {
                    if !line_ends(rest, 0, DecodeError::ChunkEnd)? {
                        return Ok(None);
                    }
                    self.passed += 2;
                    self.state = State::ChunkLine;
                }
                State::ChunkLine => {
                    let Some((size, len)) = self.chunk_line(rest, limits.chunk_line_bytes_max)? else {
                        return Ok(None);
                    };
                    self.passed += len;
                    self.searched = 0;
                    self.allowance = self.allowance.checked_sub(size).ok_or(DecodeError::BodyTooLarge)?;
                    self.state = match size {
                        0 if rest[len..].starts_with(b"\r\n") => return Ok(Some(self.end_of_chunks(2))),
                        0 => State::Trailers(Box::new(HeadParser::new(Kind::Trailers))),
                        size => State::ChunkData(size),
                    };
                }
                State::ChunkData(_) => return Ok(self.chunk_data(src)),
                State::Trailers(parser) => {
                    let Some(len) = parser.parse(rest, limits)? else { return Ok(None) };
                    return Ok(Some(self.end_of_chunks(len)));
                }
                State::Done | State::Exact(_) | State::UntilClose => return Ok(None),
            }
        }
    }

    /// What is there of a chunk's data, and with the last of it its CR LF, if that is there too.
    fn chunk_data<'a>(&mut self, src: &'a [u8]) -> Option<(Frame<'a>, usize)> {
        let State::ChunkData(left) = &mut self.state else { return None };
        let rest = src.get(self.passed..).unwrap_or_default();
        let data = &rest[..usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()))];
        if data.is_empty() {
            return None;
        }
        *left -= data.len() as u64;
        let mut used = self.passed + data.len();
        if *left == 0 {
            self.state = State::ChunkEnd;
            if src[used..].starts_with(b"\r\n") {
                used += 2;
                self.state = State::ChunkLine;
            }
        }
        self.passed = 0;
        Some((Frame::Data(data), used))
    }

    /// The trailers, `len` bytes of them, or the plain end.
    fn end_of_chunks<'a>(&mut self, len: usize) -> (Frame<'a>, usize) {
        let used = std::mem::take(&mut self.passed) + len;
        let frame = match std::mem::replace(&mut self.state, State::Done) {
            State::Trailers(mut parser) => {
                thin_out_trailers(&mut parser.head);
                if parser.head.field_count() == 0 { Frame::End } else { Frame::Trailers(parser.head) }
            }
            _ => Frame::End,
        };
        (frame, used)
    }

    /// `1*HEXDIG [chunk-ext] CRLF`: the size and the line's length. Extensions are checked and dropped.
    fn chunk_line(&mut self, src: &[u8], line_max: usize) -> Result<Option<(u64, usize)>, DecodeError> {
        let src = &src[..src.len().min(line_max)];
        let incomplete = if src.len() == line_max { Err(DecodeError::ChunkLineTooLong) } else { Ok(None) };
        let mut size = 0u64;
        let mut at = 0;
        while let Some(digit) = src.get(at).and_then(|&b| char::from(b).to_digit(16)) {
            if at == SIZE_DIGITS_MAX {
                return Err(DecodeError::ChunkSize);
            }
            size = size << 4 | u64::from(digit);
            at += 1;
        }
        // A size that a signed parser would read as negative is refused, as with Content-Length.
        if size > i64::MAX.unsigned_abs() || (at == 0 && !src.is_empty()) {
            return Err(DecodeError::ChunkSize);
        }
        let digits = at;
        let mut broken = DecodeError::ChunkSize;
        if src.get(at) == Some(&b';') {
            at = value_end(src, at.max(self.searched));
            self.searched = at;
            broken = DecodeError::ChunkExtension;
        }
        if !line_ends(src, at, broken)? {
            return incomplete;
        }
        check_extensions(&src[digits..at])?;
        Ok(Some((size, at + 2)))
    }
}

/// `*( BWS ";" BWS name [ BWS "=" BWS ( token | quoted-string ) ] )`, RFC 9112, 7.1.1; the text starts with the semicolon.
fn check_extensions(text: &[u8]) -> Result<(), DecodeError> {
    let mut at = 0;
    while at < text.len() {
        if text[at] != b';' {
            return Err(DecodeError::ChunkExtension);
        }
        at = skip_token(text, skip_space(text, at + 1))?;
        at = skip_space(text, at);
        if text.get(at) == Some(&b'=') {
            at = skip_space(text, at + 1);
            at = if text.get(at) == Some(&b'"') { skip_quoted(text, at)? } else { skip_token(text, at)? };
            at = skip_space(text, at);
        }
    }
    // White space may stand before a semicolon, not at the line's end.
    if matches!(text, [.., b' ' | b'\t']) { Err(DecodeError::ChunkExtension) } else { Ok(()) }
}

fn skip_space(text: &[u8], at: usize) -> usize {
    at + text[at..].iter().take_while(|b| matches!(b, b' ' | b'\t')).count()
}

fn skip_token(text: &[u8], at: usize) -> Result<usize, DecodeError> {
    let end = token_end(text, at);
    if end == at { Err(DecodeError::ChunkExtension) } else { Ok(end) }
}

fn skip_quoted(text: &[u8], at: usize) -> Result<usize, DecodeError> {
    let mut at = at + 1;
    loop {
        match text.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
            None => return Err(DecodeError::ChunkExtension),
        }
    }
}

/// More digits than a 64-bit number has.
const SIZE_DIGITS_MAX: usize = 16;
