//! The L4 proxy: from a connection to a host, and bytes both ways.
//!
//! **Invariant:** a relayed connection keeps its cluster's pool and its logs, never a generation: it may live for days.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::counts::Counts;
use super::destination::destination;
use super::error::{Error, ErrorKind, Retry};
use super::record::Record;
use super::{Current, Generation, Slot};
use crate::codec::proxy_protocol::{Version, encode};
use crate::config::schema::ProxyHeader;
use crate::message::{Downstream, Exchange, RELAYED, ResponseFlags, next_conn_id};
use crate::net::{Address, Conn, Transport};
use crate::router::source_hash;
use crate::stream::ConnState;
use crate::stream::server::watched;
use crate::stream::tunnel::{Moved, TunnelEnd, tunnel};
use crate::telemetry::metrics::{ListenerCounters, UpstreamCounters, WorkerCounters};
use crate::tls::MaybeTls;
use crate::upstream::{ConnectError, Dialed, Wish};

/// The `tcp_proxy` filter of one listener on one worker.
pub struct TcpProxy<T: Transport> {
    current: Rc<Current<T>>,
    listener: Slot,
    counts: Counts,
}

/// A host's side of a connection that is to be relayed.
struct Far<T: Transport> {
    dialed: Dialed<T>,
    idle_timeout: Duration,
}

impl<T: Transport> TcpProxy<T> {
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

    /// Relays one connection until both sides have ended. `guard` lives as long as it.
    pub async fn serve(
        self,
        mut conn: MaybeTls<T::Conn>,
        downstream: Rc<Downstream>,
        state: Rc<ConnState>,
        guard: impl Sized,
    ) {
        let _guard = guard;
        // On the heap, as is the way to the host: an idle connection holds neither.
        let mut record = Box::new(Record::new(&downstream, RELAYED, self.current.get().logs(self.listener)));
        let opened = {
            let mut open = Box::pin(self.open(&mut record.x));
            poll_fn(|cx| watched(&state, &downstream, || open.as_mut().poll(cx))).await
        };
        match opened {
            Ok(far) => {
                let record = record.only_if_logged();
                self.relay(conn, far, (&state, &downstream), record).await;
            }
            Err(error) => {
                self.counts.listener().relay_failed.inc();
                record.fail(&error);
                // A reset: the client must not take it for a host that had nothing to say.
                conn.abort();
            }
        }
    }

    /// Chooses a cluster and a host, and connects.
    async fn open(&self, x: &mut Exchange) -> Result<Far<T>, Error> {
        let generation = self.current.get();
        let (config, routes) = generation.tcp_proxy(self.listener).ok_or_else(Error::no_route)?;
        let downstream = Rc::clone(&x.downstream);
        let Downstream { peer, local, .. } = &*downstream;
        let chosen = routes.route(&downstream, || generation.draw());
        let (cluster, metadata) = chosen.ok_or_else(Error::no_route)?;
        let (cluster, hash) = (generation.cluster(cluster), source_hash(peer));
        if x.wanted.route {
            cluster.name().clone_into(&mut x.notes_mut().cluster);
        }
        let destination = cluster.original_dst().and_then(|original| destination(original, x, generation.snapshot()));
        // Of the host that the client wants there is only one.
        let attempts_max = if cluster.original_dst().is_some() { 1 } else { config.attempts_max };
        let preface = config.proxy_header.map(|header| preface(header, peer, local)).unwrap_or_default();
        let (mut tried, mut permit) = (Vec::new(), None);
        loop {
            x.attempts += 1;
            let host = cluster.pick(&Wish { hash, metadata, tried: &tried, destination: destination.as_ref() })?;
            x.upstream_host = Some(Rc::clone(host.name()));
            match host.dial(&preface).await {
                Ok(dialed) => {
                    note(x, &dialed);
                    return Ok(Far { dialed, idle_timeout: idle_timeout(&generation, self.listener) });
                }
                Err(error) => {
                    let error = Error::from(error);
                    drop(permit.take());
                    permit =
                        Some(&error).filter(|e| x.attempts < attempts_max && helps(e)).and_then(|_| cluster.retry());
                    if permit.is_none() {
                        tracing::warn!(cluster = %cluster.name(), host = %host.name(), %error, "a connection can't be relayed");
                        return Err(error);
                    }
                    tracing::debug!(host = %host.name(), %error, "another host is tried");
                    host.counters().request_retry.inc();
                    tried.push(host.id());
                }
            }
        }
    }

    /// Moves bytes until both sides have ended.
    async fn relay(
        &self,
        mut conn: MaybeTls<T::Conn>,
        far: Far<T>,
        (state, downstream): (&ConnState, &Rc<Downstream>),
        record: Option<Box<Record>>,
    ) {
        let Far { mut dialed, idle_timeout } = far;
        let (listener, host) = (self.counts.listener(), Rc::clone(dialed.place.host()));
        let meter = |moved: Moved| count(listener, host.counters(), moved);
        let (moved, end) = {
            let mut relayed = pin!(tunnel(&mut conn, &mut dialed.conn, idle_timeout, meter));
            poll_fn(|cx| watched(state, downstream, || relayed.as_mut().poll(cx))).await
        };
        match end {
            TunnelEnd::Closed => {}
            TunnelEnd::Broken => listener.relay_broken.inc(),
            TunnelEnd::Idle => listener.relay_idle_closed.inc(),
        }
        if let Some(mut record) = record {
            let broken = end == TunnelEnd::Broken;
            record.end((moved.forth, moved.back), broken.then_some(ResponseFlags::CONNECTION_TERMINATED));
        }
    }
}

impl<T: Transport> Clone for TcpProxy<T> {
    fn clone(&self) -> Self {
        Self { current: Rc::clone(&self.current), listener: self.listener, counts: self.counts.clone() }
    }
}

/// The header that tells a host whose connection it is.
fn preface(header: ProxyHeader, peer: &Address, local: &Address) -> Vec<u8> {
    let version = match header {
        ProxyHeader::V1 => Version::V1,
        ProxyHeader::V2 => Version::V2,
    };
    encode(version, peer.inet(), local.inet())
}

/// What a log may want of the connection to the host.
fn note<T: Transport>(x: &mut Exchange, dialed: &Dialed<T>) {
    let now = Instant::now();
    (x.upstream_conn, x.request_sent) = (next_conn_id(), Some(now));
    if x.wanted.upstream_local {
        x.upstream_local = Some(dialed.conn.local_addr().log_text().into());
    }
}

/// How long nothing may move: what the filter says, else the listener, else the limits.
fn idle_timeout<T: Transport>(generation: &Generation<T>, listener: Slot) -> Duration {
    let own = generation.tcp_proxy(listener).and_then(|(config, _)| config.idle_timeout);
    own.or(generation.listener(listener).config.idle_timeout).unwrap_or(generation.limits().tunnel_idle_timeout)
}

/// Whether another host may do what this one could not. A bound that is reached is that of all hosts.
fn helps(error: &Error) -> bool {
    error.retry != Retry::Never && !matches!(error.kind, ErrorKind::Connect(ConnectError::Overflow(_)))
}

fn count(listener: &ListenerCounters, cluster: &UpstreamCounters, moved: Moved) {
    listener.relay_bytes_read.add(moved.forth);
    listener.relay_bytes_write.add(moved.back);
    cluster.relay_bytes_write.add(moved.forth);
    cluster.relay_bytes_read.add(moved.back);
}
