//! Frames to bytes: the inverse of the decoders.
//!
//! **Invariant:** a body never gets more bytes than its head announced.

use bytes::BufMut;

use super::chunk::{CHUNK_END, CHUNK_PREFIX_BYTES_MAX, LAST_CHUNK, put_chunk_prefix, put_trailers};
use super::{ConnectionField, ConnectionOptions, EncodeError, Frame, RequestEncoder, ResponseEncoder};
use crate::message::{BodyLength, Method};

impl ConnectionField {
    /// What says to the next peer what these options said to us.
    pub(super) fn of(options: ConnectionOptions) -> Self {
        match options {
            ConnectionOptions { upgrade: true, .. } => Self::Upgrade,
            ConnectionOptions { keep_alive: false, .. } => Self::Close,
            _ => Self::Omit,
        }
    }
}

/// Writes the frames of messages as the decoders read them.
#[derive(Debug)]
pub(super) struct FrameEncoder {
    /// The method that is answered, or none for requests.
    answers: Option<Method>,
    /// What the body still has to bring.
    left: BodyLength,
}

impl FrameEncoder {
    pub(super) const fn new(answers: Option<Method>) -> Self {
        Self { answers, left: BodyLength::None }
    }

    pub(super) fn encode(&mut self, frame: &Frame<'_>, out: &mut impl BufMut) -> Result<(), EncodeError> {
        match frame {
            Frame::Head(head, body, options) => {
                if let Some(method) = self.answers {
                    let mut encoder = ResponseEncoder::new(head, *body, method);
                    encoder.connection = ConnectionField::of(*options);
                    encoder.encode(out)?;
                } else {
                    let mut encoder = RequestEncoder::new(head, *body);
                    encoder.connection = ConnectionField::of(*options);
                    encoder.te_trailers = options.te_trailers;
                    encoder.encode(out)?;
                }
                self.left = *body;
                Ok(())
            }
            Frame::Data(data) => self.data(data, out),
            Frame::Trailers(_) | Frame::End if self.left != BodyLength::Chunked => Err(EncodeError::Order),
            Frame::Trailers(trailers) => {
                put_trailers(trailers, out)?;
                self.left = BodyLength::None;
                Ok(())
            }
            Frame::End => {
                if out.remaining_mut() < LAST_CHUNK.len() {
                    return Err(EncodeError::Room);
                }
                out.put_slice(LAST_CHUNK);
                self.left = BodyLength::None;
                Ok(())
            }
        }
    }

    fn data(&mut self, data: &[u8], out: &mut impl BufMut) -> Result<(), EncodeError> {
        let Some(len) = std::num::NonZeroUsize::new(data.len()) else { return Ok(()) };
        let around = if self.left == BodyLength::Chunked { CHUNK_PREFIX_BYTES_MAX + CHUNK_END.len() } else { 0 };
        if out.remaining_mut() < data.len().saturating_add(around) {
            return Err(EncodeError::Room);
        }
        match &mut self.left {
            BodyLength::None => return Err(EncodeError::Order),
            BodyLength::Exact(left) => *left = left.checked_sub(data.len() as u64).ok_or(EncodeError::Order)?,
            BodyLength::Chunked => put_chunk_prefix(len, out),
            BodyLength::UntilClose => {}
        }
        out.put_slice(data);
        if around > 0 {
            out.put_slice(CHUNK_END);
        }
        Ok(())
    }
}
