//! Protocol-neutral messages: heads, bodies, and the one record of a request.
//!
//! **Invariant:** never does I/O; a head is raw bytes and places in them, never a map of strings.

mod body;
mod bonds;
mod conn_id;
mod exchange;
mod head;
mod known;
mod parts;
mod rpc;
pub(crate) mod spare;

pub use body::{Body, BodyError, BodyLength, BodySource, Chunk, Relay};
pub use bonds::{Bond, Bonds};
pub use conn_id::next_conn_id;
pub use exchange::{
    Copies, DATAGRAMS, Downstream, Exchange, NotedField, Notes, RELAYED, ResponseFlags, TlsClient, Wanted,
};
pub use head::{Field, HttpHead, Span, StartLine, Version, is_token, is_token_byte, is_value};
pub use known::{FieldId, Method};
pub use rpc::{RpcHead, RpcKind, RpcSaid};

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

/// A head in its protocol's own form.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Head {
    /// HTTP, of any version.
    Http(HttpHead),
    /// A frame of an RPC protocol.
    Rpc(RpcHead),
}

impl Head {
    /// The fields and the start line, of whatever protocol. Of an RPC frame the fields are its headers, and a response has the status that HTTP
    /// would give it; a request has neither method nor target. Whoever wants HTTP alone matches [`Head::Http`].
    #[must_use]
    pub fn fields(&self) -> Option<&HttpHead> {
        match self {
            Self::Http(head) => Some(head),
            Self::Rpc(head) => Some(head.fields()),
        }
    }

    /// The same, to be changed.
    pub fn fields_mut(&mut self) -> Option<&mut HttpHead> {
        match self {
            Self::Http(head) => Some(head),
            Self::Rpc(head) => Some(head.fields_mut()),
        }
    }

    /// The RPC frame's head, if it is one.
    #[must_use]
    pub fn rpc(&self) -> Option<&RpcHead> {
        match self {
            Self::Http(_) => None,
            Self::Rpc(head) => Some(head),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_little_more_than_a_pointer() {
        // It moves through many hands, and its message with it.
        assert!(size_of::<Head>() <= 2 * size_of::<usize>(), "{} bytes", size_of::<Head>());
    }

    #[test]
    fn what_is_known_of_a_connection_in_clear_is_small() {
        // Of each that is idle, too: 1.5 KiB is all that one may take above its socket.
        assert!(size_of::<Downstream>() <= 120, "{} bytes", size_of::<Downstream>());
    }
}
