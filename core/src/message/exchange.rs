//! The one record of a request: what came in, what was decided, what went out.
//!
//! **Invariant:** plain data; it does nothing by itself, and it lives until the last byte of the answer.

use std::rc::Rc;

use tokio::time::Instant;

use super::Request;
use crate::config::Address;

/// One request and what became of it.
#[derive(Debug)]
pub struct Exchange {
    /// The request as filters and rewrites have left it.
    pub request: Request,
    /// The connection it came on.
    pub downstream: Rc<Downstream>,
    /// Whether the client offers an upgrade of its connection that may be passed on.
    pub upgrade: bool,
    /// Whether the client takes trailers.
    pub te_trailers: bool,
    /// When its head was complete.
    pub started: Instant,
    /// The status that was sent; 0 while none was.
    pub status: u16,
    /// Body bytes received from the client.
    pub bytes_received: u64,
    /// Body bytes sent to the client.
    pub bytes_sent: u64,
    /// The host that answered, as the configuration names it.
    pub upstream_host: Option<Rc<str>>,
    /// Hosts that were tried.
    pub attempts: u32,
}

/// What is known of a downstream connection, the same for all its requests.
#[derive(Clone, Debug)]
pub struct Downstream {
    /// The client.
    pub peer: Address,
    /// Where it connected.
    pub local: Address,
    /// Whether it came over TLS.
    pub is_tls: bool,
}

impl Exchange {
    /// A new record.
    #[must_use]
    pub fn new(request: Request, downstream: Rc<Downstream>) -> Self {
        Self {
            request,
            downstream,
            upgrade: false,
            te_trailers: false,
            started: Instant::now(),
            status: 0,
            bytes_received: 0,
            bytes_sent: 0,
            upstream_host: None,
            attempts: 0,
        }
    }
}
