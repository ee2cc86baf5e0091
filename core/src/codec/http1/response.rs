//! Responses, as a client reads them.
//!
//! **Invariant:** no byte is taken for a response unless a request asked for one, and no response has a second meaning.

use bytes::BufMut;

use super::body::BodyDecoder;
use super::frame::FrameEncoder;
use super::framing::Kind;
use super::head::HeadParser;
use super::{CodecLimits, DecodeError, EncodeError, Frame};
use crate::codec::Codec;
use crate::message::{BodyLength, Method, StartLine};

/// Reads the responses of one connection, each after [`expect_response`](Self::expect_response).
///
/// A 101, or a 2xx to CONNECT, is the last that it reads: what follows belongs to the tunnel. A 101 whose options don't say `upgrade`
/// switches to a protocol that is not forwarded, and is to be treated as a bad answer.
#[derive(Debug)]
pub struct ResponseDecoder {
    limits: CodecLimits,
    body: BodyDecoder,
    /// The method of the request whose final response has not been seen.
    expected: Option<Method>,
    /// A head of which the end has not arrived.
    partial: Option<Box<HeadParser>>,
    failed: Option<DecodeError>,
    encoder: FrameEncoder,
}

impl ResponseDecoder {
    /// A decoder at the start of a connection.
    #[must_use]
    pub fn new(limits: CodecLimits) -> Self {
        Self {
            limits,
            body: BodyDecoder::new(),
            expected: None,
            partial: None,
            failed: None,
            encoder: FrameEncoder::new(Some(Method::Get)),
        }
    }

    /// A request of this method is being sent: its response is the next one. HEAD and CONNECT decide whether a body follows.
    pub fn expect_response(&mut self, method: Method) {
        self.expected = Some(method);
        self.encoder = FrameEncoder::new(Some(method));
    }

    /// Whether the final response has been read to its end, so that the connection is free for another request if the response's
    /// options let it live. Bytes that are there already are surplus: the caller must then close it, not use it again.
    #[must_use]
    pub fn is_body_done(&self) -> bool {
        self.expected.is_none() && self.body.is_done()
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

    /// Takes note of body bytes that were moved without being shown to [`decode`](Codec::decode): any number of a body that ends with
    /// the connection, else at most [`body_left`](Self::body_left).
    ///
    /// # Panics
    /// When `n` is more than that.
    pub fn advance_body(&mut self, n: u64) {
        self.body.advance(n);
    }

    /// The origin has ended its stream, which is the end of a body that lasts until then.
    ///
    /// # Errors
    /// `Truncated` before or inside a response.
    pub fn finish(&mut self) -> Result<(), DecodeError> {
        if self.expected.is_some() { Err(DecodeError::Truncated) } else { self.body.finish() }
    }

    fn decode_head<'a>(&mut self, method: Method, src: &'a [u8]) -> Result<Option<(Frame<'a>, usize)>, DecodeError> {
        if let Some(mut parser) = self.partial.take() {
            let Some(len) = parser.parse(src, &self.limits)? else {
                self.partial = Some(parser);
                return Ok(None);
            };
            return self.accept(method, &mut parser).map(|frame| Some((frame, len)));
        }
        let mut parser = HeadParser::new(Kind::Response);
        let Some(len) = parser.parse(src, &self.limits)? else {
            self.partial = Some(Box::new(parser));
            return Ok(None);
        };
        self.accept(method, &mut parser).map(|frame| Some((frame, len)))
    }

    fn accept<'a>(&mut self, method: Method, parser: &mut HeadParser) -> Result<Frame<'a>, DecodeError> {
        let HeadParser { head, line, facts, .. } = parser;
        let StartLine::Response { status, version, .. } = *line else { return Err(DecodeError::StatusLine) };
        let body = facts.response_length(method, status, version)?;
        facts.mark_nominated(head);
        // Interim responses go before the final one; 101 is the last that is HTTP.
        if status >= 200 || status == 101 {
            self.expected = None;
        }
        self.body.begin(body, u64::MAX);
        let mut options = facts.options(version);
        options.keep_alive &= body != BodyLength::UntilClose;
        Ok(Frame::Head(std::mem::take(head), body, options))
    }
}

impl Codec for ResponseDecoder {
    type Frame<'a> = Frame<'a>;
    type DecodeError = DecodeError;
    type EncodeError = EncodeError;

    /// The next frame of the response in `src`. After an error every call gives the same error: the connection is lost. Bytes while
    /// no response is expected are `Surplus`.
    #[inline]
    fn decode<'a>(&mut self, src: &'a [u8]) -> Result<Option<(Frame<'a>, usize)>, DecodeError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = match self.expected {
            _ if src.is_empty() => Ok(None),
            Some(method) => self.decode_head(method, src),
            None if self.body.is_done() => Err(DecodeError::Surplus),
            None => self.body.decode(src, &self.limits),
        };
        if let Err(error) = result {
            self.failed = Some(error);
        }
        result
    }

    /// Writes a response's frame as [`decode`](Self::decode) reads it.
    fn encode(&mut self, frame: &Frame<'_>, out: &mut impl BufMut) -> Result<(), EncodeError> {
        self.encoder.encode(frame, out)
    }
}
