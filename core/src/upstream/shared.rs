//! What the workers share of a cluster: numbers that a user configures once for all of them, and who is healthy.
//!
//! **Invariant:** a bound given here holds across all workers exactly, at every moment.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use super::budget::RetryBudget;
use super::host::Host;
use super::pick::HostId;
use crate::stream::client::DetachedConn;
use crate::telemetry::metrics::UpstreamCounters;
use crate::telemetry::per_worker::PerWorker;

/// The shared state of one cluster. Kept by name from one generation to the next.
#[derive(Debug)]
#[repr(align(64))]
pub struct ClusterShared {
    conns: AtomicUsize,
    wanted: AtomicUsize,
    requests: AtomicUsize,
    retries: AtomicUsize,
    pub(super) budget: RetryBudget,
    pending: AtomicUsize,
    /// A place for a connection has come free, or a connection was lent.
    freed: Notify,
    /// Somebody waits: whoever has an idle connection is to lend it.
    asked: Notify,
    /// Connections on their way from one worker to another; each still has its place.
    #[allow(
        clippy::disallowed_types,
        reason = "taken when a connection changes workers, which is when one waits for it"
    )]
    lent: std::sync::Mutex<Vec<Lent>>,
    lent_len: AtomicUsize,
    /// Counts up when a host of the cluster becomes healthy or unhealthy.
    health: AtomicU64,
    /// When rates of success were looked at last, in milliseconds of the clock.
    pub(super) rated: AtomicU64,
    /// Names looked up, and lookups that found nothing.
    dns: [AtomicU64; 2],
    /// Where the cluster's clock starts.
    epoch: Instant,
    /// What each worker counts of it, from when it first uses the cluster.
    counters: PerWorker<UpstreamCounters>,
}

/// A retry in progress, counted while this lives.
#[derive(Debug)]
pub struct RetryPermit(Arc<ClusterShared>);

/// An idle connection that its worker has let go for one that waits.
pub(super) struct Lent {
    pub(super) host: Arc<Host>,
    pub(super) conn: DetachedConn,
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a connection to {}", self.host.address())
    }
}

/// A request that waits for a connection, counted while this lives.
pub(super) struct Waiting<'a>(&'a ClusterShared);

impl Default for ClusterShared {
    fn default() -> Self {
        Self {
            budget: RetryBudget::default(),
            conns: AtomicUsize::new(0),
            wanted: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            retries: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
            freed: Notify::new(),
            asked: Notify::new(),
            lent: Default::default(),
            lent_len: AtomicUsize::new(0),
            health: AtomicU64::new(0),
            rated: AtomicU64::new(0),
            dns: [AtomicU64::new(0), AtomicU64::new(0)],
            epoch: Instant::now(),
            counters: PerWorker::default(),
        }
    }
}

impl ClusterShared {
    /// Takes a place for one more connection, of at most `conns_max`; says whether there was one. After a refusal the idle connections
    /// of the other workers are closed rather than kept, so that a place comes free.
    #[must_use]
    pub fn open(&self, conns_max: Option<u32>) -> bool {
        let opened = self.try_open(conns_max);
        if let (false, Some(max)) = (opened, conns_max) {
            // Bounded by the places there are: more can't come free.
            let _ = take(&self.wanted, Some(max));
        }
        opened
    }

    /// Takes a place for one more connection, without a word to the others when there is none.
    pub(super) fn try_open(&self, conns_max: Option<u32>) -> bool {
        take(&self.conns, conns_max)
    }

    /// Gives a place back.
    pub fn close(&self) {
        self.conns.fetch_sub(1, Ordering::Relaxed);
        let _ = self.wanted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |wanted: usize| wanted.checked_sub(1));
        if self.pending.load(Ordering::Acquire) > 0 {
            self.freed.notify_one();
        }
    }

    /// Whether more were refused a place than have come free since, or requests wait for one.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.is_refused() || self.pending() > 0
    }

    /// Whether more were refused a place than have come free since.
    pub(super) fn is_refused(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) > 0
    }

    /// Begins to wait for a place; None when as many as `pending_max` wait already.
    pub(super) fn wait(&self, pending_max: u32) -> Option<Waiting<'_>> {
        take(&self.pending, Some(pending_max)).then(|| Waiting(self))
    }

    /// Requests that wait for a place.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// Whether more wait than were lent a connection, but for `here` that wait with the caller.
    pub(super) fn is_lending_wanted(&self, here: usize) -> bool {
        self.lending_wanted(here) > 0
    }

    /// How many more wait than were lent a connection, but for `here` that wait with the caller.
    pub(super) fn lending_wanted(&self, here: usize) -> usize {
        self.pending().saturating_sub(here + self.lent_len.load(Ordering::Acquire))
    }

    /// Asks all workers to lend what lies idle.
    pub(super) fn ask(&self) {
        self.asked.notify_waiters();
    }

    /// Ready when somebody asks.
    pub(super) fn asked(&self) -> Notified<'_> {
        self.asked.notified()
    }

    /// Gives an idle connection, with its place, to whoever waits.
    pub(super) fn lend(&self, lent: Lent) {
        let mut all = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(lent);
        self.lent_len.store(all.len(), Ordering::Release);
        drop(all);
        self.freed.notify_one();
    }

    /// A connection that was lent: one to this host if there is one, else any.
    pub(super) fn borrow(&self, host: HostId) -> Option<Lent> {
        if self.lent_len.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut all = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        let at = all.iter().position(|lent| lent.host.id() == host).or(all.len().checked_sub(1))?;
        let lent = all.swap_remove(at);
        self.lent_len.store(all.len(), Ordering::Release);
        Some(lent)
    }

    /// Begins a request, of at most `requests_max` at a time; says whether it may.
    #[must_use]
    pub fn begin(&self, requests_max: u32) -> bool {
        take(&self.requests, Some(requests_max))
    }

    /// Ends a request that [`begin`](Self::begin) let in.
    pub fn end(&self) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }

    /// Begins a retry, of at most `retries_max` at a time; None when there are as many.
    #[must_use]
    pub fn retry(self: &Arc<Self>, retries_max: Option<u32>) -> Option<RetryPermit> {
        take(&self.retries, retries_max).then(|| RetryPermit(Arc::clone(self)))
    }

    /// Connections open now, on all workers.
    #[must_use]
    pub fn conns(&self) -> usize {
        self.conns.load(Ordering::Relaxed)
    }

    /// Tells every worker to look at the health of the hosts again.
    pub(super) fn health_changed(&self) {
        self.health.fetch_add(1, Ordering::Release);
    }

    /// Counts up with each change of health.
    pub(super) fn health_version(&self) -> u64 {
        self.health.load(Ordering::Acquire)
    }

    /// The cluster's clock: milliseconds since it was first configured, 1 at least.
    #[must_use]
    pub fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// Takes note of a lookup of one of its names.
    pub fn looked_up(&self, found: bool) {
        self.dns[usize::from(!found)].fetch_add(1, Ordering::Relaxed);
    }

    /// Names looked up.
    #[must_use]
    pub fn dns_updates(&self) -> u64 {
        self.dns[0].load(Ordering::Relaxed)
    }

    /// Lookups that found nothing.
    #[must_use]
    pub fn dns_failures(&self) -> u64 {
        self.dns[1].load(Ordering::Relaxed)
    }

    /// What each worker counts of it: the same for every generation.
    #[must_use]
    pub fn counters(&self) -> &PerWorker<UpstreamCounters> {
        &self.counters
    }
}

impl Waiting<'_> {
    /// Ready when a place may have come free since the last one was, also between two calls of this: the word is kept.
    pub(super) fn freed(&self) -> Notified<'_> {
        self.0.freed.notified()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // A word that came for this one is for the next, if there is one.
        if self.0.pending.fetch_sub(1, Ordering::AcqRel) > 1 {
            self.0.freed.notify_one();
        }
    }
}

impl Drop for RetryPermit {
    fn drop(&mut self) {
        self.0.retries.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One more, unless there are `max`; says whether it was taken.
fn take(count: &AtomicUsize, max: Option<u32>) -> bool {
    let max = max.map_or(usize::MAX, |max| max as usize);
    count.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |n| (n < max).then_some(n + 1)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_across_threads() {
        let shared = Arc::new(ClusterShared::default());
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    for _ in 0..10_000 {
                        if shared.open(Some(2)) {
                            assert!(shared.conns() <= 2);
                            shared.close();
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(shared.conns(), 0);
        assert!(shared.open(Some(1)) && !shared.open(Some(1)) && shared.is_wanted());
        shared.close();
        assert!(!shared.is_wanted() && shared.open(None));
    }

    #[test]
    fn retries_waits_and_requests_count_while_they_last() {
        let shared = Arc::new(ClusterShared::default());
        let first = shared.retry(Some(1));
        assert!(first.is_some() && shared.retry(Some(1)).is_none() && shared.retry(None).is_some());
        drop(first);
        assert!(shared.retry(Some(1)).is_some());
        let waiting = shared.wait(1);
        assert!(waiting.is_some() && shared.wait(1).is_none() && shared.is_wanted());
        drop(waiting);
        assert!(!shared.is_wanted());
        assert!(shared.begin(1) && !shared.begin(1));
        shared.end();
        assert!(shared.begin(1));
    }
}
