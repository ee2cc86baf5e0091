//! The two limits: a rate, as a bucket of tokens, and a number at a time.
//!
//! **Invariant:** what all workers together let pass is never more than the limit says: each decision is one atomic step.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::schema::FlowLimit;

/// A limit that all workers share.
#[derive(Debug)]
pub(super) enum Limit {
    Rate(Rate),
    Concurrency(Concurrency),
    /// Nothing passes.
    Closed,
}

/// What a limit said to a request that may pass.
pub(super) enum Pass {
    /// It has its token, and waits so long before it goes on.
    Token(Duration),
    /// It has a place, given back when this is dropped.
    Place(Place),
}

impl Limit {
    pub(super) fn new(limit: FlowLimit) -> Self {
        match limit {
            FlowLimit::Rate { thousandths: 0, .. } | FlowLimit::Concurrency { requests_max: 0 } => Self::Closed,
            FlowLimit::Rate { thousandths, interval, burst, queue } => {
                let gap = interval.as_nanos() * 1000 / u128::from(thousandths);
                let gap = u64::try_from(gap).unwrap_or(u64::MAX).clamp(1, GAP_NANOS_MAX);
                // Who waits its turn comes evenly; a burst would be no turn.
                let burst = match (queue, burst) {
                    (Some(_), 0) => 1,
                    (None, 0) => (thousandths / 1000).max(1),
                    (_, burst) => burst,
                };
                Self::Rate(Rate {
                    epoch: Instant::now(),
                    next: AtomicU64::new(0),
                    gap,
                    ahead: gap.saturating_mul(burst - 1),
                    queue: queue.map_or(0, nanos),
                })
            }
            FlowLimit::Concurrency { requests_max } => {
                Self::Concurrency(Concurrency { requests_max, requests: Arc::default() })
            }
        }
    }

    /// Asks for one request to pass. None: not now.
    pub(super) fn take(&self) -> Option<Pass> {
        match self {
            Self::Rate(rate) => rate.take(Instant::now()).map(Pass::Token),
            Self::Concurrency(c) => c.take().map(Pass::Place),
            Self::Closed => None,
        }
    }

    /// Gives back the token of a request that another rule has refused.
    pub(super) fn give_back(&self) {
        if let Self::Rate(rate) = self {
            rate.next.fetch_sub(rate.gap, Ordering::Relaxed);
        }
    }
}

/// A bucket of tokens, as one number (GCRA): the time at which it would be full again, in nanoseconds.
#[derive(Debug)]
pub(super) struct Rate {
    epoch: Instant,
    next: AtomicU64,
    /// Between two tokens.
    gap: u64,
    /// How far `next` may lie ahead of a request that passes at once.
    ahead: u64,
    /// How far more for one that waits.
    queue: u64,
}

impl Rate {
    /// How long the request has to wait.
    fn take(&self, now: Instant) -> Option<Duration> {
        let now = nanos(now.saturating_duration_since(self.epoch));
        let step = |next: u64| {
            let turn = next.max(now);
            (turn - now <= self.ahead.saturating_add(self.queue)).then(|| turn.saturating_add(self.gap))
        };
        let next = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).ok()?;
        Some(Duration::from_nanos(next.saturating_sub(now).saturating_sub(self.ahead)))
    }
}

/// So many at a time.
#[derive(Debug)]
pub(super) struct Concurrency {
    requests_max: u64,
    requests: Arc<AtomicU64>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicU64>);

impl Concurrency {
    fn take(&self) -> Option<Place> {
        let step = |n: u64| (n < self.requests_max).then_some(n + 1);
        self.requests.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).ok()?;
        Some(Place(Arc::clone(&self.requests)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A token in a hundred days is the slowest there is.
const GAP_NANOS_MAX: u64 = 100 * 24 * 3600 * 1_000_000_000;

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn rate(thousandths: u64, burst: u64, queue_ms: Option<u64>) -> Limit {
        let queue = queue_ms.map(Duration::from_millis);
        Limit::new(FlowLimit::Rate { thousandths, interval: Duration::from_secs(1), burst, queue })
    }

    fn passes(limit: &Limit, tries: u32) -> u32 {
        (0..tries).map(|_| u32::from(limit.take().is_some())).sum()
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_empties_and_fills_again() {
        let limit = rate(5000, 0, None);
        assert_eq!(passes(&limit, 20), 5);
        for (ms, expected) in [(199, 0), (1, 1), (400, 2), (60_000, 5)] {
            tokio::time::advance(Duration::from_millis(ms)).await;
            assert_eq!(passes(&limit, 20), expected, "after {ms} ms more");
        }
        // A tenth of a request in a second is one in ten.
        let slow = rate(100, 0, None);
        assert_eq!(passes(&slow, 3), 1);
        tokio::time::advance(Duration::from_millis(9_999)).await;
        assert_eq!(passes(&slow, 3), 0);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(passes(&slow, 3), 1);
        assert_eq!(passes(&rate(5000, 2, None), 20), 2, "a burst of its own");
        assert_eq!(passes(&rate(0, 0, None), 20), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_lets_requests_through_evenly() {
        let limit = rate(10_000, 0, Some(250));
        let waits: Vec<_> = (0..5)
            .map(|_| match limit.take() {
                Some(Pass::Token(wait)) => Some(wait.as_millis()),
                _ => None,
            })
            .collect();
        assert_eq!(waits, [Some(0), Some(100), Some(200), None, None]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_given_back_is_there_again() {
        let limit = rate(2000, 0, None);
        assert_eq!(passes(&limit, 5), 2);
        limit.give_back();
        assert_eq!(passes(&limit, 5), 1);
    }

    #[test]
    fn bounds_are_exact_over_threads() {
        let places = Arc::new(Limit::new(FlowLimit::Concurrency { requests_max: 7 }));
        let interval = Duration::from_secs(50 * 3600);
        let bucket = FlowLimit::Rate { thousandths: 50_000, interval, burst: 0, queue: None };
        let bucket = Arc::new(Limit::new(bucket));
        let seen = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (places, bucket, seen) = (Arc::clone(&places), Arc::clone(&bucket), Arc::clone(&seen));
                thread::spawn(move || {
                    let mut passed = 0;
                    for _ in 0..2000 {
                        let held = places.take();
                        if held.is_some() {
                            assert!(seen.fetch_add(1, Ordering::SeqCst) < 7);
                            seen.fetch_sub(1, Ordering::SeqCst);
                        }
                        passed += u64::from(bucket.take().is_some());
                    }
                    passed
                })
            })
            .collect();
        let passed: u64 = threads.into_iter().map(|t| t.join().unwrap()).sum();
        assert_eq!(passed, 50);
        let Limit::Concurrency(c) = &*places else { panic!() };
        assert_eq!(c.requests.load(Ordering::SeqCst), 0, "every place was given back");
    }
}
