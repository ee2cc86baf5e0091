//! How many retries a cluster may see at a time: a share of the requests that are under way.
//!
//! **Invariant:** the share holds across all workers, at every moment; only requests whose routes retry are counted, and pay for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::shared::ClusterShared;

/// The counts of one cluster.
#[derive(Debug, Default)]
pub(super) struct RetryBudget {
    requests: AtomicUsize,
    retries: AtomicUsize,
}

/// A request that may be tried again, counted while this lives.
#[derive(Debug)]
pub struct RetryingRequest(Arc<ClusterShared>);

/// A request that is being tried again within the budget, counted while this lives.
#[derive(Debug)]
pub struct BudgetShare(Arc<ClusterShared>);

impl RetryingRequest {
    pub(super) fn new(shared: &Arc<ClusterShared>) -> Self {
        shared.budget.requests.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl BudgetShare {
    /// A share, if fewer than `percent` of the requests, or than `min`, have one.
    pub(super) fn take(shared: &Arc<ClusterShared>, percent: u32, min: u32) -> Option<Self> {
        let budget = &shared.budget;
        let more = |retries: usize| {
            let share = budget.requests.load(Ordering::Relaxed).saturating_mul(percent as usize) / 100;
            (retries < share.max(min as usize)).then_some(retries + 1)
        };
        budget.retries.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Self(Arc::clone(shared)))
    }
}

impl Drop for RetryingRequest {
    fn drop(&mut self) {
        self.0.budget.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        self.0.budget.retries.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_requests_may_retry() {
        let shared = Arc::new(ClusterShared::default());
        let take = || BudgetShare::take(&shared, 20, 3);
        let few: Vec<_> = (0..4).map_while(|_| take()).collect();
        assert_eq!(few.len(), 3, "so many are always within it");
        drop(few);
        let mut requests: Vec<_> = (0..50).map(|_| RetryingRequest::new(&shared)).collect();
        let mut many: Vec<_> = (0..50).map_while(|_| take()).collect();
        assert_eq!(many.len(), 10);
        drop(many.pop());
        assert!(take().is_some(), "and given back at once, since it was dropped");
        requests.truncate(20);
        assert!(take().is_none(), "fewer requests, fewer retries");
        assert!(BudgetShare::take(&shared, 100, 0).is_some());
    }

    #[test]
    fn the_share_holds_across_threads() {
        let shared = Arc::new(ClusterShared::default());
        let _requests: Vec<_> = (0..10).map(|_| RetryingRequest::new(&shared)).collect();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        if let Some(_share) = BudgetShare::take(&shared, 20, 0) {
                            assert!(shared.budget.retries.load(Ordering::Relaxed) <= 2);
                        }
                    }
                });
            }
        });
        assert_eq!(shared.budget.retries.load(Ordering::Relaxed), 0);
    }
}
