//! What the workers share of a cluster: numbers that a user configures once for all of them.
//!
//! **Invariant:** a bound given here holds across all workers exactly, at every moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;

use super::budget::RetryBudget;
use crate::telemetry::metrics::UpstreamCounters;

/// The shared state of one cluster. Kept by name from one generation to the next.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct ClusterShared {
    conns: AtomicUsize,
    wanted: AtomicUsize,
    retries: AtomicUsize,
    pub(super) budget: RetryBudget,
    /// What each worker counts of it, by the worker's index; made when the worker first uses the cluster.
    counters: ArcSwap<Vec<Option<Arc<UpstreamCounters>>>>,
}

/// A retry in progress, counted while this lives.
#[derive(Debug)]
pub struct RetryPermit(Arc<ClusterShared>);

impl Drop for RetryPermit {
    fn drop(&mut self) {
        self.0.retries.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ClusterShared {
    /// Takes a place for one more connection, of at most `conns_max`; says whether there was one. After a refusal the idle connections
    /// of the other workers are closed rather than kept, so that a place comes free.
    #[must_use]
    pub fn open(&self, conns_max: Option<u32>) -> bool {
        let max = conns_max.map_or(usize::MAX, |max| max as usize);
        let more = |conns| (conns < max).then_some(conns + 1);
        let opened = self.conns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        if !opened {
            // Bounded by the places there are: more can't come free.
            let one_more = |wanted| (wanted < max).then_some(wanted + 1);
            let _ = self.wanted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        }
        opened
    }

    /// Gives a place back.
    pub fn close(&self) {
        self.conns.fetch_sub(1, Ordering::Relaxed);
        let _ = self.wanted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |wanted: usize| wanted.checked_sub(1));
    }

    /// Whether more were refused a place than have come free since.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) > 0
    }

    /// Begins a retry, of at most `retries_max` at a time; None when there are as many.
    #[must_use]
    pub fn retry(self: &Arc<Self>, retries_max: Option<u32>) -> Option<RetryPermit> {
        let max = retries_max.map_or(usize::MAX, |max| max as usize);
        let more = |retries| (retries < max).then_some(retries + 1);
        self.retries.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(RetryPermit(Arc::clone(self)))
    }

    /// Connections open now, on all workers.
    #[must_use]
    pub fn conns(&self) -> usize {
        self.conns.load(Ordering::Relaxed)
    }

    /// What a worker counts of it: the same for every generation.
    #[must_use]
    pub fn counters(&self, worker: usize) -> Arc<UpstreamCounters> {
        let made = Arc::new(UpstreamCounters::default());
        self.counters.rcu(|before| {
            let mut all = Vec::clone(before);
            if all.len() <= worker {
                all.resize(worker + 1, None);
            }
            all[worker].get_or_insert_with(|| Arc::clone(&made));
            all
        });
        self.counters.load().get(worker).and_then(Clone::clone).unwrap_or(made)
    }

    /// One number, added up over the workers. None: no worker has used the cluster yet.
    #[must_use]
    pub fn sum(&self, read: fn(&UpstreamCounters) -> u64) -> Option<u64> {
        let all = self.counters.load();
        let mut counted = all.iter().flatten().peekable();
        counted.peek()?;
        Some(counted.map(|c| read(c)).fold(0, u64::wrapping_add))
    }
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
    fn a_retry_counts_while_its_permit_lives() {
        let shared = Arc::new(ClusterShared::default());
        let first = shared.retry(Some(1));
        assert!(first.is_some() && shared.retry(Some(1)).is_none() && shared.retry(None).is_some());
        drop(first);
        assert!(shared.retry(Some(1)).is_some());
    }
}
