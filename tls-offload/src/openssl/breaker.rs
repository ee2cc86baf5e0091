//! When an accelerator is left alone, and when one handshake tries it again.
//!
//! ```text
//! closed ── so many failures in a row ──> left alone ── its time is over ──> one tries
//!    ^                                        ^                                │  │
//!    │                                        └──────── it fails: twice as long ┘  │
//!    └───────────────────────────── an operation succeeds ────────────────────────┘
//! ```
//!
//! **Invariant:** while an accelerator is left alone at most one handshake of all workers tries it; asking a closed one is one load.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

/// The state of an accelerator, shared by all workers.
#[derive(Debug)]
pub(super) struct Breaker {
    failures_max: u32,
    pause: Duration,
    trial_time: Duration,
    /// Failures in a row.
    failures: AtomicU32,
    /// Trials in a row that failed.
    failed_trials: AtomicU32,
    /// Until when nobody tries, in microseconds of the clock; [`CLOSED`]: it is not left alone.
    until: AtomicU64,
}

/// Whether a handshake may use the accelerator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Yes,
    /// And tries it for all: its outcome is waited for.
    Trial,
    No,
}

impl Breaker {
    /// `trial_time`: a trial that has told nothing for so long is over.
    pub(super) fn new(failures_max: u32, pause: Duration, trial_time: Duration) -> Self {
        Self {
            failures_max: failures_max.max(1),
            pause,
            trial_time,
            failures: AtomicU32::new(0),
            failed_trials: AtomicU32::new(0),
            until: AtomicU64::new(CLOSED),
        }
    }

    pub(super) fn admit(&self, clock: impl FnOnce() -> Duration) -> Admission {
        let until = self.until.load(Relaxed);
        if until == CLOSED {
            return Admission::Yes;
        }
        let now = clock();
        if micros(now) < until {
            return Admission::No;
        }
        let trial = micros(now + self.trial_time);
        match self.until.compare_exchange(until, trial, Relaxed, Relaxed) {
            Ok(_) => Admission::Trial,
            Err(_) => Admission::No,
        }
    }

    /// An operation came to a good end. Says whether the accelerator is back by that.
    pub(super) fn succeeded(&self) -> bool {
        if self.failures.load(Relaxed) > 0 {
            self.failures.store(0, Relaxed);
        }
        if self.until.load(Relaxed) == CLOSED {
            return false;
        }
        self.failed_trials.store(0, Relaxed);
        self.until.swap(CLOSED, Relaxed) != CLOSED
    }

    /// A handshake was failed. Says for how long the accelerator is left alone from now on, if it is by that.
    pub(super) fn failed(&self, now: Duration, is_trial: bool) -> Option<Duration> {
        if is_trial {
            self.failed_trials.fetch_add(1, Relaxed);
            return self.leave(now, None);
        }
        // What was under way when it was left alone says nothing new.
        let is_last =
            self.until.load(Relaxed) == CLOSED && self.failures.fetch_add(1, Relaxed) + 1 >= self.failures_max;
        if is_last { self.leave(now, Some(CLOSED)) } else { None }
    }

    /// Leaves it alone without waiting for more failures.
    pub(super) fn trip(&self, now: Duration) -> Option<Duration> {
        self.leave(now, Some(CLOSED))
    }

    /// A trial ended without an operation: another may try.
    pub(super) fn release(&self, now: Duration) {
        let until = self.until.load(Relaxed);
        if until != CLOSED {
            // Another's success or failure in this moment is the better news.
            let _ = self.until.compare_exchange(until, micros(now), Relaxed, Relaxed);
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.until.load(Relaxed) != CLOSED
    }

    fn leave(&self, now: Duration, from: Option<u64>) -> Option<Duration> {
        let doublings = self.failed_trials.load(Relaxed).min(DOUBLINGS_MAX);
        let pause = self.pause * (1 << doublings);
        let until = micros(now + pause);
        self.failures.store(0, Relaxed);
        match from {
            Some(from) => self.until.compare_exchange(from, until, Relaxed, Relaxed).is_ok().then_some(pause),
            None => {
                self.until.store(until, Relaxed);
                Some(pause)
            }
        }
    }
}

/// Never [`CLOSED`].
fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1)
}

const CLOSED: u64 = 0;
/// The longest pause is the first one, doubled so often.
const DOUBLINGS_MAX: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn breaker() -> Breaker {
        Breaker::new(3, at(1000), at(500))
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_success_between_them_does_not() {
        let breaker = breaker();
        for _ in 0..10 {
            assert_eq!((breaker.failed(at(1), false), breaker.failed(at(1), false)), (None, None));
            assert!(!breaker.succeeded(), "it was never left alone");
        }
        assert_eq!(breaker.admit(|| at(1)), Admission::Yes);
        let last = (0..3).map(|_| breaker.failed(at(10), false)).last();
        assert_eq!((last, breaker.is_open()), (Some(Some(at(1000))), true));
        assert_eq!(breaker.failed(at(11), false), None, "what was under way is no news");
        assert_eq!(breaker.admit(|| at(1009)), Admission::No);
    }

    #[test]
    fn one_tries_and_its_outcome_is_for_all() {
        let breaker = breaker();
        breaker.trip(at(0));
        assert_eq!((breaker.admit(|| at(1000)), breaker.admit(|| at(1000))), (Admission::Trial, Admission::No));
        assert_eq!(breaker.failed(at(1100), true), Some(at(2000)), "twice as long");
        assert_eq!((breaker.admit(|| at(3099)), breaker.admit(|| at(3100))), (Admission::No, Admission::Trial));
        assert!(breaker.succeeded());
        assert_eq!((breaker.admit(|| at(3101)), breaker.is_open()), (Admission::Yes, false));
        breaker.trip(at(4000));
        assert_eq!(breaker.admit(|| at(5000)), Admission::Trial, "from the beginning again");
    }

    #[test]
    fn a_trial_that_tells_nothing_keeps_nobody_from_trying() {
        let breaker = breaker();
        breaker.trip(at(0));
        assert_eq!(breaker.admit(|| at(1000)), Admission::Trial);
        assert_eq!((breaker.admit(|| at(1499)), breaker.admit(|| at(1500))), (Admission::No, Admission::Trial));
        breaker.release(at(1600));
        assert_eq!(breaker.admit(|| at(1600)), Admission::Trial);
        for _ in 0..100 {
            breaker.failed(at(2000), true);
        }
        assert_eq!(breaker.failed(at(2000), true), Some(at(32_000)));
    }
}
