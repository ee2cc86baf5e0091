//! What stands around the data of a chunked body (RFC 9112, 7.1).
//!
//! **Invariant:** never writes a chunk of size 0 but as the last one, and no trailer that frames or routes.

use std::num::NonZeroUsize;

use bytes::BufMut;

use super::EncodeError;
use super::layout::{Count, Out, Sink, Verdict, put_fields};
use crate::message::{FieldId, HttpHead};

/// What follows a chunk's data.
pub const CHUNK_END: &[u8; 2] = b"\r\n";

/// The last chunk and the end of a body without trailers.
pub const LAST_CHUNK: &[u8; 5] = b"0\r\n\r\n";

/// The longest chunk prefix: 16 digits and the line end.
pub const CHUNK_PREFIX_BYTES_MAX: usize = 18;

/// Writes what stands before `len` bytes of a chunk's data: its size and a line end. [`CHUNK_END`] goes behind the data.
///
/// # Panics
/// When `out` has less room than [`CHUNK_PREFIX_BYTES_MAX`].
pub fn put_chunk_prefix(len: NonZeroUsize, out: &mut impl BufMut) {
    let mut text = [0; CHUNK_PREFIX_BYTES_MAX];
    let mut start = text.len() - CHUNK_END.len();
    text[start..].copy_from_slice(CHUNK_END);
    let mut rest = len.get();
    while rest > 0 {
        start -= 1;
        text[start] = b"0123456789abcdef"[rest & 0xf];
        rest >>= 4;
    }
    out.put_slice(&text[start..]);
}

/// How many bytes [`put_trailers`] writes.
#[must_use]
pub fn trailers_len(trailers: &HttpHead) -> usize {
    let mut count = Count(0);
    lay_out(trailers, &mut count);
    count.0
}

/// Writes the last chunk, the trailer fields, and the body's end. Fields that mean something to a connection are left out.
///
/// # Errors
/// `Room` when `out` has too little; nothing has been written then.
pub fn put_trailers(trailers: &HttpHead, out: &mut impl BufMut) -> Result<(), EncodeError> {
    if out.remaining_mut() < trailers_len(trailers) {
        return Err(EncodeError::Room);
    }
    lay_out(trailers, &mut Out(out));
    Ok(())
}

fn lay_out(trailers: &HttpHead, sink: &mut impl Sink) {
    sink.put(b"0\r\n");
    put_fields(sink, trailers, 0..0, |id, _| match id {
        FieldId::Other | FieldId::Date | FieldId::Server => Verdict::Keep,
        _ => Verdict::Drop,
    });
    sink.put(CHUNK_END);
}
