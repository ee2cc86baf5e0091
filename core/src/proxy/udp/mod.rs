//! The `udp_proxy` filter: from a client's first datagram to a host, and a session between the two.
//!
//! **Invariant:** a session keeps its cluster's pool and its logs, never a generation: it may live for days.

mod outbox;
mod session;

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub use outbox::Outbox;
pub use session::{Passed, UdpSession};
use tokio::time::Instant;

use super::counts::Counts;
use super::error::Error;
use super::record::Record;
use super::{Current, Slot};
use crate::message::{DATAGRAMS, Downstream, Exchange, next_conn_id};
use crate::net::{Address, Datagram, Datagrams, Transport};
use crate::router::source_hash;
use crate::telemetry::metrics::{ListenerCounters, WorkerCounters};
use crate::upstream::{DialedDatagrams, Wish};

/// The `udp_proxy` filter of one listener on one worker.
pub struct UdpProxy<T: Transport> {
    current: Rc<Current<T>>,
    listener: Slot,
    counts: Counts,
}

/// Whose datagrams they are: sessions are kept by this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Client {
    /// Where they come from.
    pub peer: SocketAddr,
    /// The address of ours that they come to, where the socket has more than one: answers must come from it.
    pub local: Option<IpAddr>,
}

impl Client {
    /// The sender of a datagram that a listener received.
    #[must_use]
    pub fn of(datagram: &Datagram<'_>) -> Self {
        Self { peer: datagram.peer, local: datagram.local }
    }
}

impl<T: Transport> UdpProxy<T> {
    /// The filter of the listener in this slot.
    ///
    /// # Panics
    /// When the slot is not one of the current generation.
    #[must_use]
    pub fn new(current: Rc<Current<T>>, listener: Slot, counters: Arc<WorkerCounters>) -> Self {
        let counts = Counts::new(counters, current.get().counters(listener));
        Self { current, listener, counts }
    }

    /// What its worker counts of its listener.
    #[must_use]
    pub fn listener_counters(&self) -> &Arc<ListenerCounters> {
        self.counts.listener()
    }

    /// How long a session may be silent: what the filter says, else the listener, else the limits.
    #[must_use]
    pub fn idle_timeout(&self) -> Duration {
        let generation = self.current.get();
        let own = generation.udp_proxy(self.listener).and_then(|(config, _)| config.idle_timeout);
        let listener = || generation.listener(self.listener).config.idle_timeout;
        own.or_else(listener).unwrap_or(generation.limits().udp_idle_timeout)
    }

    /// Opens a session for a client that came to `bound`, the address of the listener's socket. None: there is no host for it, which is
    /// counted and logged.
    #[must_use]
    pub fn open(&self, client: Client, bound: SocketAddr) -> Option<Rc<UdpSession<T>>> {
        let at = SocketAddr::new(client.local.unwrap_or(bound.ip()), bound.port());
        let downstream = Downstream::new(next_conn_id(), Address::Inet(client.peer), Address::Inet(at), false);
        let mut record = Box::new(Record::new(&Rc::new(downstream), DATAGRAMS, self.current.get().logs(self.listener)));
        match self.dial(&mut record.x) {
            Ok((cluster, dialed)) => {
                let listener = Arc::clone(self.counts.listener());
                Some(Rc::new(UdpSession::new(client, cluster, dialed, listener, record.only_if_logged())))
            }
            Err(error) => {
                self.counts.listener().session_failed.inc();
                tracing::debug!(client = %client.peer, %error, "a datagram goes nowhere");
                record.fail(&error);
                None
            }
        }
    }

    /// Chooses a cluster, by its name, and a host, and opens a socket for it.
    fn dial(&self, x: &mut Exchange) -> Result<(Box<str>, DialedDatagrams<T>), Error> {
        let generation = self.current.get();
        let (_, routes) = generation.udp_proxy(self.listener).ok_or_else(Error::no_route)?;
        let downstream = Rc::clone(&x.downstream);
        let (cluster, metadata) = routes.route(&downstream, || generation.draw()).ok_or_else(Error::no_route)?;
        let cluster = generation.cluster(cluster);
        if x.wanted.route {
            cluster.name().clone_into(&mut x.notes_mut().cluster);
        }
        x.attempts = 1;
        let wish = Wish { hash: source_hash(&downstream.peer), metadata, ..Wish::default() };
        let host = cluster.pick(&wish)?;
        x.upstream_host = Some(Rc::clone(host.name()));
        let dialed = host.dial_datagrams()?;
        (x.upstream_conn, x.request_sent) = (next_conn_id(), Some(Instant::now()));
        if x.wanted.upstream_local {
            x.upstream_local = Some(dialed.socket.local_addr().to_string().into());
        }
        Ok((cluster.name().into(), dialed))
    }
}

impl<T: Transport> Clone for UdpProxy<T> {
    fn clone(&self) -> Self {
        Self { current: Rc::clone(&self.current), listener: self.listener, counts: self.counts.clone() }
    }
}
