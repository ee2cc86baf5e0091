//! The connections of one worker to one host: idle ones to use again, new ones when there are none. Those of HTTP/2 and RPC, which carry
//! many exchanges at a time, are in [`streams`].
//!
//! **Invariant:** a connection is idle here or leased to one exchange, never both; idle ones are bounded in number, by [`need`] and a limit, and in
//! age.

mod dial;
mod http2;
mod lease;
mod need;
mod rpc;
mod streams;

use std::cell::{Cell, OnceCell, RefCell};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, timeout_at};

use self::need::{Need, Wanted};
use super::counts::{Active, Counts};
use super::host::Host;
use super::outlier;
use super::pick::{HostId, Outcome};
use super::reach::{ConnectError, Opening, Overflow, Reach};
use super::shared::{ClusterShared, Lent};
use crate::net::Transport;
use crate::stream::client::{ClientConn, Home, Lease};
use crate::stream::http2::OriginConn;
use crate::stream::xprotocol::OriginConn as RpcConn;
use crate::telemetry::metrics::UpstreamCounters;
use crate::tls::MaybeTls;
pub use dial::{Dialed, DialedDatagrams, Occupied};
use lease::Dial;
use rpc::ByProtocol;
use streams::Streams;

/// One host, and this worker's connections to it.
pub struct HostPool<T: Transport> {
    host: Arc<Host>,
    name: Rc<str>,
    /// Plain text although the cluster has TLS.
    plain: bool,
    counts: Counts,
    reach: RefCell<Rc<Reach<T>>>,
    idle: RefCell<Vec<Idle<MaybeTls<T::Conn>>>>,
    need: Need,
    streams: Rc<Streams<OriginConn>>,
    rpc: ByProtocol,
    /// Requests of this worker that wait for a connection to this host.
    waiting: Cell<usize>,
    /// A connection came back while some waited.
    returned: Notify,
    /// Connections whose opening was given up by who wanted them.
    dials_dropped: Cell<u64>,
    /// Lends what lies idle when other workers ask. Only where connections are bounded: elsewhere nobody waits.
    lender: OnceCell<Lender>,
    me: Weak<Self>,
}

/// A task that ends with its pool.
struct Lender(JoinHandle<()>);

impl Drop for Lender {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What becomes of a connection that comes back.
enum Fate {
    Stays,
    IsLent,
    Ends,
}

struct Idle<C> {
    conn: Box<ClientConn<C>>,
    /// When a sweep first found it. The way back from a request has no look at the clock to spare.
    seen: Option<Instant>,
}

/// A place that was taken for a connection; given back if the connection is not opened.
struct Place<'a, T: Transport>(&'a HostPool<T>);

impl<T: Transport> Drop for Place<'_, T> {
    fn drop(&mut self) {
        self.0.unplace();
    }
}

/// A request that was let in; counted out again if it does not get a connection.
struct Entered<'a, T: Transport>(&'a HostPool<T>);

impl<T: Transport> Drop for Entered<'_, T> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// What a request that wanted a new connection got.
enum Got<'a, T: Transport> {
    Place(Place<'a, T>),
    Conn(Box<ClientConn<MaybeTls<T::Conn>>>),
}

impl<T: Transport> HostPool<T> {
    /// An empty pool for a host; `plain`: without TLS although its cluster has it.
    #[must_use]
    pub fn new(host: Arc<Host>, plain: bool, reach: Rc<Reach<T>>) -> Rc<Self> {
        let name = host.address().to_string().into();
        let (idle, waiting, returned) = (RefCell::default(), Cell::new(0), Notify::new());
        let counts = Counts::new(Arc::clone(&reach.counters), host.counters().of(reach.worker));
        let (reach, lender) = (RefCell::new(reach), OnceCell::new());
        Rc::new_cyclic(|me| {
            let me = Weak::clone(me);
            let (streams, rpc, dials_dropped) = (Rc::default(), ByProtocol::default(), Cell::new(0));
            let need = Need::default();
            Self {
                host,
                name,
                plain,
                counts,
                reach,
                idle,
                need,
                streams,
                rpc,
                waiting,
                returned,
                dials_dropped,
                lender,
                me,
            }
        })
    }

    /// The name that it was given; maybe empty.
    #[must_use]
    pub fn hostname(&self) -> &str {
        self.host.hostname()
    }

    /// The host's identity.
    #[must_use]
    pub fn id(&self) -> HostId {
        self.host.id()
    }

    /// The host's address as text, for logs.
    #[must_use]
    pub fn name(&self) -> &Rc<str> {
        &self.name
    }

    /// The host as all workers see it.
    #[must_use]
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// What this worker counts of the host's cluster.
    #[must_use]
    pub fn counters(&self) -> &UpstreamCounters {
        &self.counts.cluster
    }

    /// Counts a request that is sent.
    pub fn count_request(&self) {
        self.counts.request();
    }

    /// Counts a request as in progress, as long as the result lives.
    #[must_use]
    pub fn active(&self) -> Active<'_> {
        self.counts.active()
    }

    /// Says what became of a request at this host. Once for each connection that was checked out.
    pub fn report(&self, outcome: Outcome) {
        let reach = self.reach.borrow();
        self.counts.outcome(outcome);
        if outcome == Outcome::Abandoned {
            return;
        }
        if reach.is_counted() {
            let (status, took) = match outcome {
                Outcome::Answered { status, took } => (status, took),
                Outcome::Connected { took } => (200, took),
                _ => (NO_ANSWER, std::time::Duration::ZERO),
            };
            self.host.tally().sample(status, took, reach.shared.now());
        }
        if let Some(config) = &reach.config().outlier
            && outlier::observe(config, self.host.tally(), outcome)
        {
            outlier::eject(config, &reach.hosts.current(), &self.host, &reach.shared, self.counters());
        }
    }

    /// A connection of HTTP/1: an idle one, or a new one. With `fresh`, always a new one.
    ///
    /// # Errors
    /// When a new one can't be opened in time, or a bound of the cluster is reached.
    pub async fn checkout(self: &Rc<Self>, fresh: bool) -> Result<Lease<MaybeTls<T::Conn>>, ConnectError> {
        let entered = self.enter()?;
        if !fresh && let Some(conn) = self.take_idle() {
            std::mem::forget(entered);
            return Ok(self.leased(conn, self.need.want()));
        }
        let wanted = self.need.want();
        let reach = Rc::clone(&self.reach.borrow());
        let place = match self.place(&reach, fresh).await? {
            Got::Place(place) => place,
            Got::Conn(conn) => {
                std::mem::forget(entered);
                return Ok(self.leased(conn, wanted));
            }
        };
        // Boxed: it is large, and most requests find a connection.
        match Box::pin(self.open(&reach, Opening::default())).await {
            Ok(conn) => {
                std::mem::forget((place, entered));
                self.counts.opened();
                Ok(self.leased(Box::new(ClientConn::new(conn, Rc::clone(&reach.limits))), wanted))
            }
            Err(e) => {
                self.report(Outcome::Unreachable);
                Err(e)
            }
        }
    }

    /// Closes what has lain idle for too long, and what its host has closed. To be called now and then.
    pub fn sweep(&self) {
        self.lend_idle();
        let now = Instant::now();
        self.need.forget();
        let reach = self.reach.borrow();
        let (timeout, shared) = (reach.idle_timeout(), &reach.shared);
        let idle_max = self.need.idle_max(reach.limits.idle_conns_per_host_max);
        // Those at the front were used longest ago.
        let mut surplus = self.idle.borrow().len().saturating_sub(idle_max);
        self.idle.borrow_mut().retain_mut(|idle| {
            let seen = *idle.seen.get_or_insert(now);
            let is_due = surplus > 0 || now.duration_since(seen) >= timeout;
            surplus = surplus.saturating_sub(1);
            // Looked at each time: one that is closed makes room for one that was refused.
            let keep = !is_due && !shared.is_refused() && idle.conn.is_usable();
            if !keep {
                self.closed();
            }
            keep
        });
        self.sweep_streams::<OriginConn>(now, timeout, shared.is_refused());
        self.sweep_streams::<RpcConn>(now, timeout, shared.is_refused());
        self.reclaim();
    }

    /// Idle connections now, and those of HTTP/2 and RPC, idle or not.
    #[must_use]
    pub fn idle_conns(&self) -> usize {
        self.idle.borrow().len() + self.streams.conns() + self.rpc.conns()
    }

    /// Whether it is in plain text although its cluster has TLS.
    pub(super) fn is_plain(&self) -> bool {
        self.plain
    }

    /// Goes on under the settings of a new generation.
    pub(super) fn adopt(&self, reach: Rc<Reach<T>>) {
        self.reach.replace(reach);
    }

    /// The idle connection that was used last: the ones below it may expire.
    fn take_idle(&self) -> Option<Box<ClientConn<MaybeTls<T::Conn>>>> {
        loop {
            let mut idle = self.idle.borrow_mut().pop()?;
            if idle.conn.is_usable() {
                return Some(idle.conn);
            }
            self.closed();
        }
    }

    /// Opens a connection, and takes the time of it.
    async fn open(&self, reach: &Reach<T>, opening: Opening<'_>) -> Result<MaybeTls<T::Conn>, ConnectError> {
        let (begun, dial) = (Instant::now(), Dial(self));
        let opened = reach.connect(&self.host, self.host.address(), self.plain, reach.connect_timeout(), opening).await;
        std::mem::forget(dial);
        let conn = opened?;
        self.counters().connect_time.note(begun.elapsed());
        Ok(conn)
    }

    fn leased(
        self: &Rc<Self>,
        conn: Box<ClientConn<MaybeTls<T::Conn>>>,
        wanted: Wanted<'_>,
    ) -> Lease<MaybeTls<T::Conn>> {
        // Counted out when the lease ends.
        std::mem::forget(wanted);
        Lease::new(conn, Rc::clone(self) as Rc<dyn Home<_>>)
    }

    /// Lets a request in.
    fn enter(&self) -> Result<Entered<'_, T>, ConnectError> {
        let reach = self.reach.borrow();
        if let Some(max) = reach.config().breakers.requests_max
            && !reach.shared.begin(max)
        {
            self.counters().request_overflow.inc();
            return Err(ConnectError::Overflow(Overflow::Requests));
        }
        if reach.is_counted() {
            self.host.tally().requests.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Entered(self))
    }

    /// A request is over.
    fn leave(&self) {
        let reach = self.reach.borrow();
        if reach.bounds_requests() {
            reach.shared.end();
        }
        if reach.is_counted() {
            self.host.tally().requests.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A place for a new connection. When there is none, waits for one or for a connection that comes back, if it may.
    async fn place(&self, reach: &Reach<T>, fresh: bool) -> Result<Got<'_, T>, ConnectError> {
        let conns_max = reach.config().breakers.conns_max;
        let Some(pending_max) = reach.config().breakers.pending_max.filter(|_| conns_max.is_some()) else {
            let place = reach.shared.open(conns_max).then(|| self.placed(reach));
            return place.map(Got::Place).ok_or_else(|| overflow(reach, Overflow::Conns));
        };
        if let Some(place) = self.try_place(reach) {
            return Ok(Got::Place(place));
        }
        // Boxed: a request that need not wait has no room for it.
        Box::pin(self.wait_for_place(reach, fresh, pending_max)).await
    }

    async fn wait_for_place(
        &self,
        reach: &Reach<T>,
        fresh: bool,
        pending_max: u32,
    ) -> Result<Got<'_, T>, ConnectError> {
        let Some(waiting) = reach.shared.wait(pending_max) else { return Err(overflow(reach, Overflow::Pending)) };
        let _here = Here::new(&self.waiting);
        let until = Instant::now() + reach.connect_timeout();
        loop {
            let (mut freed, mut returned) = (pin!(waiting.freed()), pin!(self.returned.notified()));
            // From here on no word is missed.
            freed.as_mut().enable();
            returned.as_mut().enable();
            if !fresh && let Some(conn) = self.take_idle().or_else(|| self.borrow(reach)) {
                return Ok(Got::Conn(conn));
            }
            if fresh && let Some(lent) = reach.shared.borrow(self.id()) {
                self.discard(reach, lent);
            }
            if let Some(place) = self.try_place(reach) {
                return Ok(Got::Place(place));
            }
            reach.shared.ask();
            let word = async {
                tokio::select! { () = freed => {} () = returned => {} }
            };
            if timeout_at(until, word).await.is_err() {
                return Err(overflow(reach, Overflow::Pending));
            }
        }
    }

    fn try_place(&self, reach: &Reach<T>) -> Option<Place<'_, T>> {
        reach.shared.try_open(reach.config().breakers.conns_max).then(|| self.placed(reach))
    }

    fn placed(&self, reach: &Reach<T>) -> Place<'_, T> {
        if reach.is_counted() {
            self.host.tally().conns.fetch_add(1, Ordering::Relaxed);
        }
        Place(self)
    }

    /// A connection that was open is not any more.
    fn closed(&self) {
        self.counts.closed();
        self.unplace();
    }

    fn unplace(&self) {
        let reach = self.reach.borrow();
        if reach.is_counted() {
            self.host.tally().conns.fetch_sub(1, Ordering::Relaxed);
        }
        reach.shared.close();
    }

    /// A connection to this host that another worker has lent. One to another host makes room instead.
    fn borrow(&self, reach: &Reach<T>) -> Option<Box<ClientConn<MaybeTls<T::Conn>>>> {
        let lent = reach.shared.borrow(self.id())?;
        if lent.host.id() != self.id() {
            self.discard(reach, lent);
            return None;
        }
        let attach = |conn| reach.transport.attach(conn).map(MaybeTls::Plain);
        match ClientConn::attach(lent.conn, Rc::clone(&reach.limits), attach) {
            Ok(conn) => {
                self.counts.came();
                Some(Box::new(conn))
            }
            Err(_) => {
                self.counters().connection_close.inc();
                self.unplace();
                None
            }
        }
    }

    /// Closes a connection that was lent.
    fn discard(&self, reach: &Reach<T>, lent: Lent) {
        self.counters().connection_close.inc();
        if reach.is_counted() {
            lent.host.tally().conns.fetch_sub(1, Ordering::Relaxed);
        }
        drop(lent);
        reach.shared.close();
    }

    /// Closes what was lent to somebody who does not wait any more.
    fn reclaim(&self) {
        let reach = self.reach.borrow();
        while reach.shared.pending() == 0
            && let Some(lent) = reach.shared.borrow(self.id())
        {
            self.discard(&reach, lent);
        }
    }

    /// Lends what lies idle while others wait for it.
    fn lend_idle(&self) {
        let shared = Arc::clone(&self.reach.borrow().shared);
        while shared.is_lending_wanted(self.waiting.get()) {
            let Some(idle) = self.idle.borrow_mut().pop() else { break };
            self.lend(&shared, *idle.conn);
        }
        // One of HTTP/2 or RPC can't be lent, but its place can.
        self.retire_idle_streams::<OriginConn>(&shared);
        self.retire_idle_streams::<RpcConn>(&shared);
    }

    fn lend(&self, shared: &ClusterShared, conn: ClientConn<MaybeTls<T::Conn>>) {
        match conn.detach() {
            Some(conn) => {
                self.counts.went();
                shared.lend(Lent { host: Arc::clone(&self.host), conn });
            }
            // It can't leave: its place can.
            None => self.closed(),
        }
    }

    /// What becomes of a connection that can carry another request.
    fn fate(&self, conn: &ClientConn<MaybeTls<T::Conn>>) -> Fate {
        let reach = self.reach.borrow();
        let config = reach.config();
        let is_old = config.conn_age_max.is_some_and(|age| conn.opened().elapsed() >= age);
        let is_spent = config.requests_per_conn_max.is_some_and(|max| conn.exchanges() >= u64::from(max));
        if is_old || is_spent {
            return Fate::Ends;
        }
        // Those who wait here come first, but not for ever: others wait elsewhere.
        let others = reach.shared.is_lending_wanted(self.waiting.get());
        if self.waiting.get() > 0 && !(others && conn.exchanges().is_multiple_of(TURNS)) {
            return Fate::Stays;
        }
        if others {
            return Fate::IsLent;
        }
        let idle_max = self.need.idle_max(reach.limits.idle_conns_per_host_max);
        match self.idle.borrow().len() < idle_max && !reach.shared.is_refused() {
            true => Fate::Stays,
            false => Fate::Ends,
        }
    }

    /// Has a task that lends what lies idle, where somebody may wait for it.
    fn start_lender(&self) {
        let shared = {
            let reach = self.reach.borrow();
            let breakers = &reach.config().breakers;
            if breakers.conns_max.is_none() || breakers.pending_max.is_none() {
                return;
            }
            Arc::clone(&reach.shared)
        };
        self.lender.get_or_init(|| Lender(spawn_local(lend_when_asked(Weak::clone(&self.me), shared))));
    }
}

impl<T: Transport> Home<MaybeTls<T::Conn>> for HostPool<T> {
    fn give_back(&self, conn: Box<ClientConn<MaybeTls<T::Conn>>>) {
        self.leave();
        self.need.end();
        match self.fate(&conn) {
            Fate::Stays => {}
            Fate::IsLent => {
                let shared = Arc::clone(&self.reach.borrow().shared);
                return self.lend(&shared, *conn);
            }
            Fate::Ends => {
                drop(conn);
                return self.closed();
            }
        }
        self.start_lender();
        self.idle.borrow_mut().push(Idle { conn, seen: None });
        if self.waiting.get() > 0 {
            self.returned.notify_one();
        }
    }

    fn gone(&self) {
        self.leave();
        self.need.end();
        self.closed();
    }
}

impl<T: Transport> Drop for HostPool<T> {
    fn drop(&mut self) {
        for _ in 0..self.idle.get_mut().len() + self.streams.close_all() + self.rpc.close_all() {
            self.closed();
        }
    }
}

async fn lend_when_asked<T: Transport>(pool: Weak<HostPool<T>>, shared: Arc<ClusterShared>) {
    loop {
        let mut asked = pin!(shared.asked());
        asked.as_mut().enable();
        let Some(pool) = pool.upgrade() else { return };
        pool.lend_idle();
        drop(pool);
        asked.await;
    }
}

/// One that waits here, while it does.
struct Here<'a>(&'a Cell<usize>);

impl<'a> Here<'a> {
    fn new(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Here<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

fn overflow<T: Transport>(reach: &Reach<T>, which: Overflow) -> ConnectError {
    reach.counters.request_pending_overflow.inc();
    ConnectError::Overflow(which)
}

/// What a request without an answer counts as in the averages of its host.
const NO_ANSWER: u16 = 503;

/// Of so many turns of a connection one goes to another worker while requests wait on both.
const TURNS: u64 = 4;
