//! Protocol-neutral messages: heads, bodies, and the one record of a request.
//!
//! **Invariant:** never does I/O; a head is raw bytes and places in them, never a map of strings.

mod body;
mod conn_id;
mod exchange;
mod head;
mod known;
mod parts;

pub use body::{Body, BodyError, BodyLength, BodySource, Chunk, Relay};
pub use conn_id::next_conn_id;
pub use exchange::{Copies, DATAGRAMS, Downstream, Exchange, NotedField, Notes, RELAYED, ResponseFlags, Wanted};
pub use head::{Field, HttpHead, Span, StartLine, Version, is_token, is_token_byte, is_value};
pub use known::{FieldId, Method};

/// A request.
#[derive(Debug)]
pub struct Request {
    /// Method, target and fields.
    pub head: Head,
    /// What follows the head.
    pub body: Body,
}

/// A response.
#[derive(Debug)]
pub struct Response {
    /// Status and fields.
    pub head: Head,
    /// What follows the head.
    pub body: Body,
}

/// A head in its protocol's own form. RPC frames join HTTP here.
#[derive(Debug)]
#[non_exhaustive]
pub enum Head {
    /// HTTP/1.
    Http(HttpHead),
}

impl Head {
    /// The HTTP head, if it is one.
    #[must_use]
    pub fn http(&self) -> Option<&HttpHead> {
        match self {
            Self::Http(h) => Some(h),
        }
    }

    /// The HTTP head, if it is one.
    pub fn http_mut(&mut self) -> Option<&mut HttpHead> {
        match self {
            Self::Http(h) => Some(h),
        }
    }
}
