//! HTTP/1.1 (RFC 9112): requests and responses, strict, without I/O.
//!
//! [`RequestDecoder`] and [`ResponseDecoder`] turn the bytes of one connection into [`Frame`]s; [`RequestEncoder`] and
//! [`ResponseEncoder`] write heads as they are forwarded: start line and fields as received, hop-by-hop fields left out, the framing
//! written anew.
//!
//! What is tolerated, all else being refused:
//! - one empty line before a request line (RFC 9112, 2.2),
//! - a minor version above 1, taken for HTTP/1.1 (RFC 9110, 6.2),
//! - visible ASCII in a request target that a URI would have to encode, since browsers send it; no fragment,
//! - a status line without the space before an empty reason,
//! - `Content-Length: 0` in a 1xx or 204 response and in a CONNECT or TRACE request,
//! - leading zeros in Content-Length and chunk sizes (both are written anew),
//! - chunk extensions, checked and dropped.
//!
//! **Invariant:** nothing that two recipients could read in two ways passes in or out; the frames, and the error if there is one, are
//! the same however the input was split.

mod body;
mod chunk;
mod encode;
mod error;
mod frame;
mod framing;
mod head;
mod layout;
mod reason;
mod request;
mod response;
mod scan;
#[doc(hidden)]
pub mod selfcheck;

pub use chunk::{CHUNK_END, CHUNK_PREFIX_BYTES_MAX, LAST_CHUNK, put_chunk_prefix, put_trailers, trailers_len};
pub use encode::{ConnectionField, RequestEncoder, ResponseEncoder};
pub use error::{DecodeError, EncodeError};
pub use framing::is_authority;
pub(in crate::codec) use framing::{check_authority, content_length, thin_out_trailers};
pub use reason::default_reason;
pub use request::RequestDecoder;
pub use response::ResponseDecoder;
pub(in crate::codec) use scan::{target_end, token_end, trim, value_end};

use crate::config::limits::Limits;
use crate::message::{BodyLength, HttpHead};

/// A piece of a message.
///
/// A message is a `Head`; then `Data`, any number of times, if its body length is not `None`; then, for a chunked body, `Trailers` or
/// `End`. A body of known length ends with its last `Data`: the decoder's `is_body_done` says so.
#[derive(Debug)]
pub enum Frame<'a> {
    /// A head, how its body ends, and what it says about its connection.
    Head(HttpHead, BodyLength, ConnectionOptions),
    /// Bytes of the body, at least one, free of chunk framing.
    Data(&'a [u8]),
    /// A chunked body has ended with these fields. Fields that may not be trailers have been removed.
    Trailers(HttpHead),
    /// A chunked body has ended without trailers.
    End,
}

/// What a head says about the connection that it came on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// Whether the sender lets the connection live after this exchange.
    pub keep_alive: bool,
    /// Whether the message offers (or, with 101, confirms) an upgrade that may be forwarded. Upgrades to HTTP/2 and TLS may not.
    pub upgrade: bool,
    /// Whether it offers the change to HTTP/2 in clear text (RFC 7540, 3.2). Never forwarded.
    pub h2c: bool,
    /// Whether the sender takes trailers in the response.
    pub te_trailers: bool,
    /// Whether the client waits for 100 (Continue) before it sends its body.
    pub expect_continue: bool,
}

/// The limits that bound what a decoder takes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodecLimits {
    /// See [`Limits::request_line_bytes_max`].
    pub request_line_bytes_max: usize,
    /// See [`Limits::head_bytes_max`].
    pub head_bytes_max: usize,
    /// See [`Limits::head_fields_max`].
    pub head_fields_max: usize,
    /// See [`Limits::chunk_line_bytes_max`].
    pub chunk_line_bytes_max: usize,
    /// See [`Limits::request_body_bytes_max`].
    pub request_body_bytes_max: u64,
}

impl CodecLimits {
    /// How many bytes a request body may have.
    fn body_allowance(&self) -> u64 {
        if self.request_body_bytes_max == 0 { u64::MAX } else { self.request_body_bytes_max }
    }
}

impl From<&Limits> for CodecLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            request_line_bytes_max: limits.request_line_bytes_max,
            head_bytes_max: limits.head_bytes_max,
            head_fields_max: limits.head_fields_max,
            chunk_line_bytes_max: limits.chunk_line_bytes_max,
            request_body_bytes_max: limits.request_body_bytes_max,
        }
    }
}

impl Default for CodecLimits {
    fn default() -> Self {
        Self::from(&Limits::default())
    }
}

fn exact(length: BodyLength) -> Option<u64> {
    match length {
        BodyLength::Exact(n) => Some(n),
        _ => None,
    }
}
