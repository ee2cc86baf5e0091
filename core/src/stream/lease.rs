//! What a request holds of an upstream connection, whatever protocol is spoken on it, and its flight.
//!
//! **Invariant:** all protocols answer to the same calls with the same words; nothing above knows which one it was.

use std::rc::Rc;

use tokio::time::Instant;

use super::client::{self, Answer, SendError, SendOptions};
use super::{http2, xprotocol};
use crate::message::Request;
use crate::net::Conn;

/// The use of an upstream connection for one exchange.
pub enum Lease<C> {
    /// All of it: HTTP/1.
    Exclusive(client::Lease<C>),
    /// One stream of it: HTTP/2.
    Stream(http2::StreamLease),
    /// A place among its requests: RPC.
    Rpc(xprotocol::RpcLease),
}

/// A request on its way and the answer that comes back.
pub enum Flight<C: Conn> {
    /// In HTTP/1.
    Http1(client::Flight<C>),
    /// In HTTP/2.
    Http2(http2::Flight),
    /// In a protocol of RPC.
    Rpc(xprotocol::Flight),
}

impl<C: Conn> Lease<C> {
    /// The number of its connection among those of this process.
    #[must_use]
    pub fn id(&self) -> u64 {
        match self {
            Self::Exclusive(lease) => lease.id(),
            Self::Stream(lease) => lease.id(),
            Self::Rpc(lease) => lease.id(),
        }
    }

    /// The address that its connection is from, as text.
    #[must_use]
    pub fn local_text(&self) -> Option<Rc<str>> {
        match self {
            Self::Exclusive(lease) => lease.local_text(),
            Self::Stream(lease) => Some(lease.local_text()),
            Self::Rpc(lease) => Some(lease.local_text()),
        }
    }

    /// Writes the head of `request`, takes its body, and lets both leave while the answer is awaited.
    ///
    /// # Errors
    /// When the connection breaks, or the request can't be expressed.
    pub async fn send(self, request: &mut Request, options: SendOptions) -> Result<Flight<C>, SendError> {
        Ok(match self {
            Self::Exclusive(lease) => Flight::Http1(lease.send(request, options).await?),
            Self::Stream(lease) => Flight::Http2(lease.send(request, options).await?),
            Self::Rpc(lease) => Flight::Rpc(lease.send(request, options).await?),
        })
    }
}

impl<C: Conn> Flight<C> {
    /// Has it wait for its answer until this time at most, where its own timer can do that; says whether.
    pub fn end_by(&mut self, at: Instant) -> bool {
        match self {
            // What its timer is set to changes while its request is on the way.
            Self::Http1(_) | Self::Http2(_) => false,
            Self::Rpc(flight) => {
                flight.end_by(at);
                true
            }
        }
    }

    /// The next thing the upstream sends. After a response or an upgrade the flight is over.
    ///
    /// # Errors
    /// When the exchange failed.
    pub async fn answer(&mut self) -> Result<Answer, SendError> {
        match self {
            Self::Http1(flight) => flight.answer().await,
            Self::Http2(flight) => flight.answer().await,
            Self::Rpc(flight) => flight.answer().await,
        }
    }
}
