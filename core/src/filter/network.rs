//! What looks at a connection before the codec does: listener filters at its first bytes, network filters at who is there.
//!
//! **Invariant:** they see bytes and answer; they never write, and what they take no notice of reaches the codec unchanged.

use std::rc::Rc;

use super::proxy_protocol::ProxyProtocol;
use super::tls_inspector::TlsInspector;
use crate::config::{Limits, schema};
use crate::message::Downstream;

/// Looks at the first bytes of a connection, before TLS: PROXY protocol, original destination, TLS or plain text.
pub trait ListenerFilter {
    /// Whether it looks at this connection at all. One that it does not look at need not say a word before it goes on.
    fn wants(&self, downstream: &Downstream) -> bool {
        let _ = downstream;
        true
    }

    /// Looks at what has arrived; called again with more behind it after [`Look::More`].
    fn on_bytes(&self, downstream: &mut Downstream, bytes: &[u8]) -> Look;
}

/// What a listener filter made of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It needs more. Bounded in bytes by the larger of `head_bytes_max` and `proxy_header_bytes_max`, and in time by `head_timeout`.
    More,
    /// It is done, and so many bytes were for it alone.
    Done(usize),
    /// The connection is not to be served.
    Refuse,
}

/// Looks at a connection as a whole; the last of a listener's is the proxy.
pub trait NetworkFilter {
    /// A client is there.
    fn on_connection(&self, downstream: &Downstream) -> Flow {
        let _ = downstream;
        Flow::Continue
    }

    /// Something happened to the connection. Seen, never steered.
    fn on_event(&self, downstream: &Downstream, event: Event) {
        let _ = (downstream, event);
    }
}

/// Whether a connection goes on to the next filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It does.
    Continue,
    /// It is closed.
    Stop,
}

/// What can happen to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Every filter let it in.
    Accepted,
    /// It is gone.
    Closed,
}

/// The filters of one listener that come before its codec, in order.
#[derive(Clone, Default)]
pub struct ConnectionFilters {
    /// At the first bytes.
    pub listener: Vec<Rc<dyn ListenerFilter>>,
    /// At the connection.
    pub network: Vec<Rc<dyn NetworkFilter>>,
}

impl ConnectionFilters {
    /// Those that the file says for a listener.
    #[must_use]
    pub fn new(listener: &schema::Listener, limits: &Limits) -> Self {
        let make = |config: &schema::ListenerFilter| match config {
            schema::ListenerFilter::ProxyProtocol { trusted } => {
                Rc::new(ProxyProtocol::new(trusted.as_deref(), limits)) as Rc<dyn ListenerFilter>
            }
            schema::ListenerFilter::TlsInspector => Rc::new(TlsInspector::new(limits)),
        };
        Self { listener: listener.listener_filters.iter().map(make).collect(), network: Vec::new() }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.listener.is_empty() && self.network.is_empty()
    }

    /// Asks each network filter in turn.
    #[must_use]
    pub fn on_connection(&self, downstream: &Downstream) -> Flow {
        if self.network.iter().all(|f| f.on_connection(downstream) == Flow::Continue) {
            Flow::Continue
        } else {
            Flow::Stop
        }
    }

    /// Tells each network filter.
    pub fn on_event(&self, downstream: &Downstream, event: Event) {
        for filter in &self.network {
            filter.on_event(downstream, event);
        }
    }
}
