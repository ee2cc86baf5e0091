//! The connections of one worker to one host that carry many exchanges each. Another is opened when those that there are have no room left.
//!
//! **Invariant:** a connection has its place among the cluster's connections until it is closed; one is opened at a time, and whoever
//! needs room meanwhile waits for it.

use std::cell::{Cell, OnceCell, RefCell};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::future::Future;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Dial, Here, HostPool, Place, overflow};
use crate::net::Transport;
use crate::upstream::pick::Outcome;
use crate::upstream::reach::{ConnectError, Overflow, Reach};
use crate::upstream::shared::{ClusterShared, Waiting};

/// A connection that carries many exchanges at a time: HTTP/2's, or that of an RPC protocol.
pub(super) trait Carrier: Sized + 'static {
    /// What one exchange holds of it.
    type Lease;
    /// What tells those apart that lie in one pool, each kind with those who wait for it.
    type Kind: Copy;

    /// Those of a pool that are of a kind. None: there is nobody any more whom they would be for.
    fn of<T: Transport>(pool: &HostPool<T>, kind: Self::Kind) -> Option<Rc<Streams<Self>>>;

    /// Looks at those of every kind.
    fn each<T: Transport>(pool: &HostPool<T>, look: impl FnMut(&Streams<Self>));

    /// Which kind it is.
    fn kind(&self) -> Self::Kind;

    /// How exchanges share those of a kind.
    fn sharing<T: Transport>(pool: &HostPool<T>, kind: Self::Kind) -> Sharing;

    /// Room for one exchange. None: it has none, or takes none any more.
    fn room<T: Transport>(self: &Rc<Self>, pool: &Rc<HostPool<T>>, sharing: Sharing) -> Option<Self::Lease>;

    /// Opens one and starts its task.
    fn open<T: Transport>(
        pool: &Rc<HostPool<T>>,
        reach: &Reach<T>,
        kind: Self::Kind,
    ) -> impl Future<Output = Result<(Rc<Self>, JoinHandle<()>), ConnectError>>;

    /// Its number: the older one has the smaller.
    fn id(&self) -> u64;

    /// Exchanges that it has carried.
    fn exchanges(&self) -> u64;

    /// When it was opened.
    fn opened(&self) -> Instant;

    /// Whether it carries nothing.
    fn is_idle(&self) -> bool;

    /// Whether it takes exchanges, now or when others are over.
    fn is_open(&self) -> bool;

    /// Whether it is open and takes no exchange at all.
    fn is_barren(&self) -> bool;

    /// Takes no exchange any more, and is closed when the last one is over.
    fn retire(&self);
}

/// How exchanges share connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Many at a time on one, and another where there is no room left. One is opened at a time.
    Many,
    /// One at a time on each. As many are opened at a time as are waited for.
    Alone,
    /// All on one.
    Bound,
}

/// The connections, and those who wait for room.
pub(super) struct Streams<K> {
    live: RefCell<Vec<Live<K>>>,
    /// Where each carries one exchange at a time: those that carry none, so that nobody looks for one among all.
    free: RefCell<BinaryHeap<Free<K>>>,
    /// Whether that is so.
    is_alone: Cell<bool>,
    /// How many are being opened.
    opening: Cell<usize>,
    /// Room may have come free, a connection was opened, or could not be.
    changed: Notify,
    /// Exchanges that wait for that.
    waiting: Cell<usize>,
    /// Those of them that wait for a place, too: among all that do on all workers.
    queued: Cell<usize>,
}

/// A connection that may have room; the oldest is the greatest.
struct Free<K> {
    id: u64,
    conn: Weak<K>,
}

impl<K> Ord for Free<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.id.cmp(&self.id)
    }
}

impl<K> PartialOrd for Free<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> PartialEq for Free<K> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl<K> Eq for Free<K> {}

/// A connection and its task, which ends with it.
struct Live<K> {
    conn: Rc<K>,
    task: JoinHandle<()>,
    /// When a sweep first found it idle.
    seen: Option<Instant>,
}

impl<K> Drop for Live<K> {
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
struct Under<'a, K>(&'a Streams<K>);

impl<'a, K> Under<'a, K> {
    fn new(streams: &'a Streams<K>) -> Self {
        streams.opening.set(streams.opening.get() + 1);
        Self(streams)
    }
}

impl<K> Drop for Under<'_, K> {
    fn drop(&mut self) {
        self.0.opening.set(self.0.opening.get() - 1);
        self.0.changed.notify_waiters();
    }
}

impl<K> Default for Streams<K> {
    fn default() -> Self {
        let (opening, changed, waiting, queued) = (Cell::new(0), Notify::new(), Cell::new(0), Cell::new(0));
        let (live, free, is_alone) = (RefCell::default(), RefCell::new(BinaryHeap::new()), Cell::new(false));
        Self { live, free, is_alone, opening, changed, waiting, queued }
    }
}

impl<K> Streams<K> {
    pub(super) fn conns(&self) -> usize {
        self.live.borrow().len()
    }

    /// Closes all; how many there were.
    pub(super) fn close_all(&self) -> usize {
        self.live.take().len()
    }

    /// A connection may take more exchanges than before, or no more.
    pub(super) fn changed(&self) {
        self.changed.notify_waiters();
    }

    /// Takes out a connection that has ended.
    pub(super) fn remove(&self, is_it: impl Fn(&K) -> bool) -> Option<Rc<K>> {
        let at = self.live.borrow().iter().position(|live| is_it(&live.conn))?;
        let live = self.live.borrow_mut().swap_remove(at);
        Some(Rc::clone(&live.conn))
    }
}

impl<T: Transport> HostPool<T> {
    /// Room on a connection that is open, or on a new one.
    pub(super) async fn stream<K: Carrier>(self: &Rc<Self>, kind: K::Kind) -> Result<K::Lease, ConnectError> {
        let entered = self.enter()?;
        let lease = match self.take_stream::<K>(kind) {
            Some(lease) => lease,
            // Boxed: a request that finds room has none for it.
            None => Box::pin(self.wait_for_stream::<K>(kind)).await?,
        };
        // Counted out when the lease ends.
        std::mem::forget(entered);
        Ok(lease)
    }

    /// Lets connections go that have been idle for too long or are too old, or all that are idle where others want their places.
    pub(super) fn sweep_streams<K: Carrier>(&self, now: Instant, timeout: Duration, wanted: bool) {
        let age_max = self.reach.borrow().config().conn_age_max;
        K::each(self, |streams| {
            for live in streams.live.borrow_mut().iter_mut() {
                let is_old = age_max.is_some_and(|age| live.conn.opened().elapsed() >= age);
                let seen = if live.conn.is_idle() { Some(*live.seen.get_or_insert(now)) } else { None };
                live.seen = seen;
                if is_old || seen.is_some_and(|seen| wanted || now.duration_since(seen) >= timeout) {
                    live.conn.retire();
                }
            }
        });
    }

    /// Of the connections that have room the oldest one: the others may become idle.
    pub(super) fn take_stream<K: Carrier>(self: &Rc<Self>, kind: K::Kind) -> Option<K::Lease> {
        let requests_max = self.reach.borrow().config().requests_per_conn_max.map_or(u64::MAX, u64::from);
        let (streams, sharing) = (K::of(self, kind)?, K::sharing(self, kind));
        let room = |conn: &Rc<K>| {
            if conn.exchanges() >= requests_max {
                conn.retire();
                return None;
            }
            conn.room(self, sharing)
        };
        if streams.keep_free(sharing == Sharing::Alone) {
            return std::iter::from_fn(|| streams.free.borrow_mut().pop())
                .filter_map(|free| free.conn.upgrade())
                .find_map(|conn| room(&conn));
        }
        streams.live.borrow().iter().find_map(|live| room(&live.conn))
    }

    async fn wait_for_stream<K: Carrier>(self: &Rc<Self>, kind: K::Kind) -> Result<K::Lease, ConnectError> {
        let (reach, sharing) = (Rc::clone(&self.reach.borrow()), K::sharing(self, kind));
        let Some(streams) = K::of(self, kind) else { return Err(ConnectError::Timeout) };
        let until = Instant::now() + reach.connect_timeout();
        let (_here, queued) = (Here::new(&streams.waiting), OnceCell::new());
        loop {
            if let Some(lease) = self.take_stream::<K>(kind) {
                return Ok(lease);
            }
            if streams.live.borrow().iter().any(|live| live.conn.is_barren()) {
                return Err(ConnectError::NoStreams);
            }
            if streams.may_open(sharing) {
                if let Some(place) = self.place_for_streams(&reach) {
                    self.open_streams::<K>(&reach, &streams, (place, kind)).await?;
                    continue;
                }
                if queued.get().is_none() {
                    // Set once: it was looked at in this turn.
                    let waiting = queue(&reach)?;
                    let _ = queued.set(Queued { waiting, _here: Here::new(&streams.queued) });
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
            let changed = streams.changed.notified();
            let freed = queued.get().filter(|_| streams.may_open(sharing)).map(|queued| queued.waiting.freed());
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

    async fn open_streams<K: Carrier>(
        self: &Rc<Self>,
        reach: &Rc<Reach<T>>,
        streams: &Streams<K>,
        (place, kind): (Place<'_, T>, K::Kind),
    ) -> Result<(), ConnectError> {
        let (_under, dial) = (Under::new(streams), Dial(self));
        let opened = timeout(reach.connect_timeout(), K::open(self, reach, kind)).await;
        std::mem::forget(dial);
        let opened = opened.unwrap_or(Err(ConnectError::Timeout));
        let (conn, task) = opened.inspect_err(|_| self.report(Outcome::Unreachable))?;
        // Given back when the connection ends.
        std::mem::forget(place);
        self.counts.opened();
        streams.has_room(&conn);
        streams.live.borrow_mut().push(Live { conn, task, seen: None });
        self.start_lender();
        Ok(())
    }

    /// Lets as many idle connections go as others wait for a place, on whatever worker and for whatever kind.
    pub(super) fn retire_idle_streams<K: Carrier>(&self, shared: &ClusterShared) {
        let mut going = 0;
        K::each(self, |streams| going += streams.going());
        K::each(self, |streams| going += streams.retire_idle(shared, going));
    }

    /// An exchange is over: its room is for who waits here, or else the connection's place for who waits elsewhere.
    pub(super) fn freed<K: Carrier>(&self, conn: &Rc<K>) {
        let Some(streams) = K::of(self, conn.kind()) else { return };
        streams.has_room(conn);
        // Who dials hears of nothing else meanwhile.
        if streams.waiting.get() > streams.opening.get() {
            return streams.changed.notify_one();
        }
        let reach = self.reach.borrow();
        if reach.config().breakers.pending_max.is_some() && conn.is_idle() && reach.shared.is_lending_wanted(0) {
            self.retire_idle_streams::<K>(&reach.shared);
        }
    }
}

impl<K: Carrier> Streams<K> {
    /// Whether those that have room are kept apart, from now on as it is said.
    fn keep_free(&self, is_alone: bool) -> bool {
        if self.is_alone.replace(is_alone) != is_alone {
            self.free.borrow_mut().clear();
            self.live.borrow().iter().filter(|live| live.conn.is_idle()).for_each(|live| self.has_room(&live.conn));
        }
        is_alone
    }

    /// A connection that is new, or has carried an exchange, may carry one.
    fn has_room(&self, conn: &Rc<K>) {
        if self.is_alone.get() && conn.is_open() {
            self.free.borrow_mut().push(Free { id: conn.id(), conn: Rc::downgrade(conn) });
        }
    }

    /// Whether another connection may be opened.
    fn may_open(&self, sharing: Sharing) -> bool {
        let is_opening = self.opening.get() > 0;
        match sharing {
            Sharing::Many => !is_opening,
            // Each opens one for itself.
            Sharing::Alone => true,
            Sharing::Bound => !is_opening && !self.live.borrow().iter().any(|live| live.conn.is_open()),
        }
    }

    /// Has every connection take no exchange any more.
    pub(super) fn retire_all(&self) {
        self.live.borrow().iter().for_each(|live| live.conn.retire());
    }

    /// Connections that take no exchange any more: their places will come free.
    fn going(&self) -> usize {
        self.live.borrow().iter().filter(|live| !live.conn.is_open()).count()
    }

    /// Lets as many idle connections go as wait for a place beyond those that come free; how many.
    fn retire_idle(&self, shared: &ClusterShared, going: usize) -> usize {
        let live = self.live.borrow();
        let idle = live.iter().filter(|live| live.conn.is_open() && live.conn.is_idle());
        // Those that wait here for room take it before it lies idle.
        let wanted = shared.lending_wanted(self.queued.get()).saturating_sub(going);
        idle.take(wanted).inspect(|live| live.conn.retire()).count()
    }
}

/// Begins to wait for a place.
fn queue<T: Transport>(reach: &Reach<T>) -> Result<Waiting<'_>, ConnectError> {
    let Some(pending_max) = reach.config().breakers.pending_max else { return Err(overflow(reach, Overflow::Conns)) };
    reach.shared.wait(pending_max).ok_or_else(|| overflow(reach, Overflow::Pending))
}
