//! The HTTP/2 connections of one worker to one host. Each carries many exchanges; another is opened when those that there are have no stream
//! left.
//!
//! **Invariant:** a connection has its place among the cluster's connections until it is closed; one is opened at a time, and whoever
//! needs a stream meanwhile waits for it.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use tls_offload::Alpn;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Here, HostPool, Place, overflow};
use crate::net::Transport;
use crate::stream::http2::{Driver, End, OriginConn, StreamHome, StreamLease, connect};
use crate::tls::MaybeTls;
use crate::upstream::pick::Outcome;
use crate::upstream::reach::{ConnectError, Opening, Overflow, Reach};
use crate::upstream::shared::{ClusterShared, Waiting};

/// The connections, and those who wait for a stream.
#[derive(Default)]
pub(super) struct Streams {
    live: RefCell<Vec<Live>>,
    /// One is being opened.
    opening: Cell<bool>,
    /// A stream may have come free, a connection was opened, or could not be.
    changed: Notify,
    /// Exchanges that wait for that.
    waiting: Cell<usize>,
    /// Those of them that wait for a place, too: among all that do on all workers.
    queued: Cell<usize>,
}

/// A connection and its task, which ends with it.
struct Live {
    conn: Rc<OriginConn>,
    task: JoinHandle<()>,
    /// When a sweep first found it idle.
    seen: Option<Instant>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One that waits for a place, while it does.
struct Queued<'a> {
    waiting: Waiting<'a>,
    _here: Here<'a>,
}

/// That a connection is being opened; those who wait are told when it is over.
struct Under<'a>(&'a Streams);

impl<'a> Under<'a> {
    fn new(streams: &'a Streams) -> Self {
        streams.opening.set(true);
        Self(streams)
    }
}

impl Drop for Under<'_> {
    fn drop(&mut self) {
        self.0.opening.set(false);
        self.0.changed.notify_waiters();
    }
}

impl Streams {
    pub(super) fn conns(&self) -> usize {
        self.live.borrow().len()
    }

    /// Closes all; how many there were.
    pub(super) fn close_all(&self) -> usize {
        self.live.take().len()
    }

    fn is_barren(&self) -> bool {
        self.live.borrow().iter().any(|live| live.conn.is_barren())
    }
}

impl<T: Transport> HostPool<T> {
    /// A stream of a connection that is open, or of a new one.
    pub(super) async fn stream(self: &Rc<Self>) -> Result<StreamLease, ConnectError> {
        let entered = self.enter()?;
        let lease = match self.take_stream() {
            Some(lease) => lease,
            // Boxed: a request that finds a stream has no room for it.
            None => Box::pin(self.wait_for_stream()).await?,
        };
        // Counted out when the lease ends.
        std::mem::forget(entered);
        Ok(lease)
    }

    /// Lets connections go that have been idle for too long or are too old, or all that are idle where others want their places.
    pub(super) fn sweep_streams(&self, now: Instant, timeout: Duration, wanted: bool) {
        let age_max = self.reach.borrow().config().conn_age_max;
        for live in self.streams.live.borrow_mut().iter_mut() {
            let is_old = age_max.is_some_and(|age| live.conn.opened().elapsed() >= age);
            let seen = if live.conn.is_idle() { Some(*live.seen.get_or_insert(now)) } else { None };
            live.seen = seen;
            if is_old || seen.is_some_and(|seen| wanted || now.duration_since(seen) >= timeout) {
                live.conn.retire();
            }
        }
    }

    /// Of the connections that have a stream the oldest one: the others may become idle.
    fn take_stream(self: &Rc<Self>) -> Option<StreamLease> {
        let requests_max = self.reach.borrow().config().requests_per_conn_max.map_or(u64::MAX, u64::from);
        let live = self.streams.live.borrow();
        for conn in live.iter().map(|live| &live.conn) {
            if conn.exchanges() >= requests_max {
                conn.retire();
            } else if let Some(lease) = conn.lease(Rc::clone(self) as Rc<dyn StreamHome>) {
                return Some(lease);
            }
        }
        None
    }

    async fn wait_for_stream(self: &Rc<Self>) -> Result<StreamLease, ConnectError> {
        let reach = Rc::clone(&self.reach.borrow());
        let until = Instant::now() + reach.connect_timeout();
        let (_here, queued) = (Here::new(&self.streams.waiting), OnceCell::new());
        loop {
            if let Some(lease) = self.take_stream() {
                return Ok(lease);
            }
            if self.streams.is_barren() {
                return Err(ConnectError::NoStreams);
            }
            if !self.streams.opening.get() {
                if let Some(place) = self.place_for_streams(&reach) {
                    self.open_streams(&reach, place).await?;
                    continue;
                }
                if queued.get().is_none() {
                    // Set once: it was looked at in this turn.
                    let waiting = queue(&reach)?;
                    let _ = queued.set(Queued { waiting, _here: Here::new(&self.streams.queued) });
                    continue;
                }
                // What was lent speaks HTTP/1, or goes elsewhere: its place is what is wanted.
                if let Some(lent) = reach.shared.borrow(self.id()) {
                    self.discard(&reach, lent);
                    continue;
                }
                reach.shared.ask();
            }
            // Of this worker: nothing has changed since it was looked at above. A place that comes free is for whoever can open a connection.
            let changed = self.streams.changed.notified();
            let freed = queued.get().filter(|_| !self.streams.opening.get()).map(|queued| queued.waiting.freed());
            let word = async {
                match freed {
                    Some(freed) => tokio::select! { () = changed => {} () = freed => {} },
                    None => changed.await,
                }
            };
            if timeout_at(until, word).await.is_err() {
                let is_queued = queued.get().is_some();
                return Err(if is_queued { overflow(&reach, Overflow::Pending) } else { ConnectError::Timeout });
            }
        }
    }

    /// A place for one more connection, if there is one now. Where nobody may wait for one, whoever has an idle connection is to close it.
    fn place_for_streams(&self, reach: &Reach<T>) -> Option<Place<'_, T>> {
        let breakers = &reach.config().breakers;
        if let Some(place) = self.try_place(reach) {
            return Some(place);
        }
        // The place of one of HTTP/1 that lies idle here serves as well.
        if let Some(conn) = self.take_idle() {
            drop(conn);
            self.counts.closed();
            return Some(Place(self));
        }
        if breakers.pending_max.is_some() {
            return None;
        }
        reach.shared.open(breakers.conns_max).then(|| self.placed(reach))
    }

    /// Opens a connection, and starts its task.
    async fn open_streams(self: &Rc<Self>, reach: &Rc<Reach<T>>, place: Place<'_, T>) -> Result<(), ConnectError> {
        let _under = Under::new(&self.streams);
        let alpn = Alpn::new(["h2"]).expect("a name that ALPN can carry");
        let opened = async {
            let conn = self.open(reach, Opening { alpn: Some(&alpn), ..Opening::default() }).await?;
            let scheme = if matches!(conn, MaybeTls::Tls(_)) { "https" } else { "http" };
            connect(conn, scheme, Rc::clone(&reach.limits)).await.map_err(ConnectError::NotHttp2)
        };
        let opened = timeout(reach.connect_timeout(), opened).await.unwrap_or(Err(ConnectError::Timeout));
        let (conn, driver) = opened.inspect_err(|_| self.report(Outcome::Unreachable))?;
        // Given back when the connection ends.
        std::mem::forget(place);
        self.counts.opened();
        self.counters().h2_connection_total.inc();
        let task = spawn_local(drive(driver, Weak::clone(&self.me), conn.id()));
        self.streams.live.borrow_mut().push(Live { conn, task, seen: None });
        self.start_lender();
        Ok(())
    }

    /// Lets as many idle connections go as others wait for a place, on whatever worker and in whatever version.
    pub(super) fn retire_idle_streams(&self, shared: &ClusterShared) {
        let live = self.streams.live.borrow();
        if live.is_empty() {
            return;
        }
        // Those that wait here for a stream take it before it lies idle.
        let wanted = shared.lending_wanted(self.streams.queued.get());
        let going = live.iter().filter(|live| !live.conn.is_open()).count();
        let idle = live.iter().filter(|live| live.conn.is_open() && live.conn.is_idle());
        idle.take(wanted.saturating_sub(going)).for_each(|live| live.conn.retire());
    }

    /// A connection has ended.
    fn streams_ended(&self, id: u64, end: &End) {
        let at = self.streams.live.borrow().iter().position(|live| live.conn.id() == id);
        let Some(at) = at else { return };
        let live = self.streams.live.borrow_mut().swap_remove(at);
        let counters = self.counters();
        counters.h2_goaway.add(u64::from(live.conn.is_told()));
        self.count_resets(&live.conn);
        if matches!(end, End::Fault(_) | End::Flood | End::Silent) {
            counters.h2_connection_lost.inc();
            tracing::warn!(host = %self.name, %end, "an HTTP/2 connection to a host is given up");
        } else {
            tracing::debug!(host = %self.name, %end, "an HTTP/2 connection to a host has ended");
        }
        self.closed();
        self.streams.changed.notify_waiters();
    }

    fn count_resets(&self, conn: &OriginConn) {
        let (reset, malformed) = conn.take_resets();
        self.counters().h2_stream_reset.add(reset);
        self.counters().h2_stream_malformed.add(malformed);
    }
}

impl<T: Transport> StreamHome for HostPool<T> {
    fn stream_ended(&self, conn: &OriginConn) {
        self.leave();
        self.count_resets(conn);
        if self.streams.waiting.get() > 0 {
            return self.streams.changed.notify_one();
        }
        let reach = self.reach.borrow();
        if reach.config().breakers.pending_max.is_some() && conn.is_idle() && reach.shared.is_lending_wanted(0) {
            self.retire_idle_streams(&reach.shared);
        }
    }
}

/// Runs a connection to its end.
async fn drive<T: Transport>(driver: Driver<MaybeTls<T::Conn>>, pool: Weak<HostPool<T>>, id: u64) {
    let changed = || {
        if let Some(pool) = pool.upgrade() {
            pool.streams.changed.notify_waiters();
        }
    };
    let end = driver.run(changed).await;
    if let Some(pool) = pool.upgrade() {
        pool.streams_ended(id, &end);
    }
}

/// Begins to wait for a place.
fn queue<T: Transport>(reach: &Reach<T>) -> Result<Waiting<'_>, ConnectError> {
    let Some(pending_max) = reach.config().breakers.pending_max else { return Err(overflow(reach, Overflow::Conns)) };
    reach.shared.wait(pending_max).ok_or_else(|| overflow(reach, Overflow::Pending))
}
