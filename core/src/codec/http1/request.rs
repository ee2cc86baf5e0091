//! Requests, as a server reads them.
//!
//! **Invariant:** a request that passes has one target, one host and one body length, whoever reads it.

use bytes::BufMut;

use super::body::BodyDecoder;
use super::frame::FrameEncoder;
use super::framing::{Kind, check_authority};
use super::head::HeadParser;
use super::{CodecLimits, DecodeError, EncodeError, Frame};
use crate::codec::Codec;
use crate::message::{BodyLength, Method, StartLine};

/// Reads the requests of one connection, one after another.
///
/// It takes every byte for HTTP. After a CONNECT, or a request that offers an upgrade, the caller shows it nothing more until the answer
/// is known: what follows a 2xx or a 101 belongs to the tunnel.
#[derive(Debug)]
pub struct RequestDecoder {
    limits: CodecLimits,
    body: BodyDecoder,
    /// A head of which the end has not arrived.
    partial: Option<Box<HeadParser>>,
    failed: Option<DecodeError>,
    encoder: FrameEncoder,
}

impl RequestDecoder {
    /// A decoder at the start of a connection.
    #[must_use]
    pub fn new(limits: CodecLimits) -> Self {
        Self { limits, body: BodyDecoder::new(), partial: None, failed: None, encoder: FrameEncoder::new(None) }
    }

    /// Whether the last request has been read to its end: the next frame is a head.
    #[must_use]
    pub fn is_body_done(&self) -> bool {
        self.body.is_done()
    }

    /// How the part of the body ends that has not been seen yet; `None` when it is done.
    #[must_use]
    pub fn body_length(&self) -> BodyLength {
        self.body.length()
    }

    /// How many bytes of a body with a known length have not been seen yet.
    #[must_use]
    pub fn body_left(&self) -> Option<u64> {
        super::exact(self.body.length())
    }

    /// Takes note of body bytes that were moved without being shown to [`decode`](Codec::decode), at most
    /// [`body_left`](Self::body_left).
    ///
    /// # Panics
    /// When `n` is more than that.
    pub fn advance_body(&mut self, n: u64) {
        self.body.advance(n);
    }

    /// Whether part of a head has been seen: what the head timeout runs on.
    #[must_use]
    pub fn is_in_head(&self) -> bool {
        self.partial.is_some()
    }

    /// The client has ended its stream.
    ///
    /// # Errors
    /// `Truncated` inside a head or a body.
    pub fn finish(&mut self) -> Result<(), DecodeError> {
        if self.partial.is_some() { Err(DecodeError::Truncated) } else { self.body.finish() }
    }

    fn decode_head<'a>(&mut self, src: &'a [u8]) -> Result<Option<(Frame<'a>, usize)>, DecodeError> {
        // RFC 9112, 2.2: an empty line before a request line is skipped. One, no more.
        let skipped = match src {
            [] | [b'\r'] => return Ok(None),
            [b'\r', b'\n', ..] => 2,
            _ => 0,
        };
        let src = &src[skipped..];
        if src.is_empty() {
            return Ok(None);
        }
        if let Some(mut parser) = self.partial.take() {
            let Some(len) = parser.parse(src, &self.limits)? else {
                self.partial = Some(parser);
                return Ok(None);
            };
            return self.accept(&mut parser).map(|frame| Some((frame, skipped + len)));
        }
        let mut parser = HeadParser::new(Kind::Request);
        let Some(len) = parser.parse(src, &self.limits)? else {
            self.partial = Some(Box::new(parser));
            return Ok(None);
        };
        self.accept(&mut parser).map(|frame| Some((frame, skipped + len)))
    }

    /// What can be judged only now that the head is complete.
    fn accept<'a>(&mut self, parser: &mut HeadParser) -> Result<Frame<'a>, DecodeError> {
        let HeadParser { head, line, facts, .. } = parser;
        let StartLine::Request { method, target, version, .. } = *line else { return Err(DecodeError::RequestLine) };
        check_target(method, target.of(head.raw()))?;
        let body = facts.request_length(method, version)?;
        let allowance = self.limits.body_allowance();
        if matches!(body, BodyLength::Exact(n) if n > allowance) {
            return Err(DecodeError::BodyTooLarge);
        }
        facts.mark_nominated(head);
        self.body.begin(body, allowance);
        Ok(Frame::Head(std::mem::take(head), body, facts.options(version)))
    }
}

impl Codec for RequestDecoder {
    type Frame<'a> = Frame<'a>;
    type DecodeError = DecodeError;
    type EncodeError = EncodeError;

    /// The next frame of the requests in `src`. After an error every call gives the same error: the connection is lost.
    #[inline]
    fn decode<'a>(&mut self, src: &'a [u8]) -> Result<Option<(Frame<'a>, usize)>, DecodeError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = if self.body.is_done() { self.decode_head(src) } else { self.body.decode(src, &self.limits) };
        if let Err(error) = result {
            self.failed = Some(error);
        }
        result
    }

    /// Writes a request's frame as [`decode`](Self::decode) reads it.
    fn encode(&mut self, frame: &Frame<'_>, out: &mut impl BufMut) -> Result<(), EncodeError> {
        self.encoder.encode(frame, out)
    }
}

/// The target's form must be the method's (RFC 9112, 3.2): authority for CONNECT only, asterisk for OPTIONS only, else a path or an
/// absolute http or https URI.
fn check_target(method: Method, target: &[u8]) -> Result<(), DecodeError> {
    match (method, target) {
        (Method::Connect, authority) => check_authority(authority, true).map_err(|_| DecodeError::TargetForm),
        (_, [b'/', ..]) => Ok(()),
        (Method::Options, b"*") => Ok(()),
        (_, absolute) => {
            let scheme = [&b"http://"[..], b"https://"]
                .into_iter()
                .find(|scheme| absolute.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
            let rest = &absolute[scheme.ok_or(DecodeError::TargetForm)?.len()..];
            let end = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
            check_authority(&rest[..end], false).map_err(|_| DecodeError::TargetForm)
        }
    }
}
