//! What each worker counts of one thing that all of them use: a listener, a cluster, a host.
//!
//! **Invariant:** a block has one writer, the worker whose index it has; it is the same block as long as the thing is there.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

/// A block of counters for each worker that has asked for its own. Costs a pointer while none has.
#[derive(Debug, Default)]
pub struct PerWorker<B>(ArcSwapOption<Blocks<B>>);

/// By the worker's index.
type Blocks<B> = Vec<Option<Arc<B>>>;

impl<B: Default> PerWorker<B> {
    /// The block of a worker; made when it first asks.
    #[must_use]
    pub fn of(&self, worker: usize) -> Arc<B> {
        if let Some(block) = self.known(worker) {
            return block;
        }
        let made = Arc::new(B::default());
        self.0.rcu(|before| {
            let mut all = before.as_deref().cloned().unwrap_or_default();
            if all.len() <= worker {
                all.resize(worker + 1, None);
            }
            all[worker].get_or_insert_with(|| Arc::clone(&made));
            Some(Arc::new(all))
        });
        self.known(worker).unwrap_or(made)
    }
}

impl<B> PerWorker<B> {
    /// The blocks that there are. None: no worker has asked for one yet.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<B>> {
        self.0.load().as_deref().into_iter().flatten().flatten().map(Arc::clone).collect()
    }

    /// Whether a worker has asked for its block.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.0.load().is_some()
    }

    /// One number, added up over the workers. None: no worker has asked for its block yet.
    #[must_use]
    pub fn sum(&self, read: fn(&B) -> u64) -> Option<u64> {
        let all = self.0.load();
        let counted = all.as_deref()?.iter().flatten();
        Some(counted.map(|block| read(block)).fold(0, u64::wrapping_add))
    }

    fn known(&self, worker: usize) -> Option<Arc<B>> {
        self.0.load().as_deref()?.get(worker).and_then(Clone::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Counter;

    #[test]
    fn each_worker_counts_for_itself() {
        let counters = PerWorker::<Counter>::default();
        assert!(!counters.is_used() && counters.all().is_empty());
        assert_eq!(counters.sum(Counter::get), None);
        counters.of(2).add(2);
        counters.of(0).add(3);
        counters.of(2).add(1);
        assert_eq!((counters.sum(Counter::get), counters.all().len()), (Some(6), 2));
        assert!(counters.is_used() && Arc::ptr_eq(&counters.of(2), &counters.of(2)));
    }
}
