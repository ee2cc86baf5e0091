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
    /// Until when nobody tries, as a [`stamp`](Self::stamp); [`CLOSED`]: it is not left alone.
    until: AtomicU64,
    /// Stamps given.
    stamps: AtomicU64,
}

/// Whether a handshake may use the accelerator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Yes,
    /// And tries it for all: its outcome is waited for.
    Trial(Trial),
    No,
}

/// One that tries it, told by until when the others wait for it. After that it is one among many: its outcome moves nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trial(u64);

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
            stamps: AtomicU64::new(0),
        }
    }

    pub(super) fn admit(&self, clock: impl FnOnce() -> Duration) -> Admission {
        let until = self.until.load(Relaxed);
        if until == CLOSED {
            return Admission::Yes;
        }
        let now = clock();
        if micros(now) < until >> STAMP_BITS {
            return Admission::No;
        }
        let trial = self.stamp(now + self.trial_time);
        match self.until.compare_exchange(until, trial, Relaxed, Relaxed) {
            Ok(_) => Admission::Trial(Trial(trial)),
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
    pub(super) fn failed(&self, now: Duration, trial: Option<Trial>) -> Option<Duration> {
        if let Some(Trial(until)) = trial {
            return self.leave(now, until);
        }
        // What was under way when it was left alone says nothing new.
        let is_last =
            self.until.load(Relaxed) == CLOSED && self.failures.fetch_add(1, Relaxed) + 1 >= self.failures_max;
        if is_last { self.leave(now, CLOSED) } else { None }
    }

    /// Leaves it alone without waiting for more failures.
    pub(super) fn trip(&self, now: Duration) -> Option<Duration> {
        self.leave(now, CLOSED)
    }

    /// A trial ended without an operation: another may try.
    pub(super) fn release(&self, now: Duration, trial: Trial) {
        // What was told meanwhile, or another trial, is the better news.
        let _ = self.until.compare_exchange(trial.0, self.stamp(now), Relaxed, Relaxed);
    }

    pub(super) fn is_open(&self) -> bool {
        self.until.load(Relaxed) != CLOSED
    }

    /// A time, in microseconds of the clock, with a number behind it, so that two of one moment are not the same.
    fn stamp(&self, time: Duration) -> u64 {
        let number = self.stamps.fetch_add(1, Relaxed) & ((1 << STAMP_BITS) - 1);
        micros(time) << STAMP_BITS | number
    }

    /// `from`: what it was until now, for whoever leaves it alone; where that has changed, another knew better.
    fn leave(&self, now: Duration, from: u64) -> Option<Duration> {
        let failed_trials = self.failed_trials.load(Relaxed).saturating_add(u32::from(from != CLOSED));
        let pause = self.pause * (1 << failed_trials.min(DOUBLINGS_MAX));
        self.until.compare_exchange(from, self.stamp(now + pause), Relaxed, Relaxed).ok()?;
        self.failed_trials.store(failed_trials, Relaxed);
        self.failures.store(0, Relaxed);
        Some(pause)
    }
}

/// Never [`CLOSED`].
fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).clamp(1, u64::MAX >> STAMP_BITS)
}

const CLOSED: u64 = 0;
/// The number behind a time.
const STAMP_BITS: u32 = 8;
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

    /// One that may try.
    fn tries(breaker: &Breaker, millis: u64) -> Option<Trial> {
        match breaker.admit(|| at(millis)) {
            Admission::Trial(trial) => Some(trial),
            Admission::No => None,
            Admission::Yes => panic!("it is not left alone"),
        }
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_success_between_them_does_not() {
        let breaker = breaker();
        for _ in 0..10 {
            assert_eq!((breaker.failed(at(1), None), breaker.failed(at(1), None)), (None, None));
            assert!(!breaker.succeeded(), "it was never left alone");
        }
        assert_eq!(breaker.admit(|| at(1)), Admission::Yes);
        let last = (0..3).map(|_| breaker.failed(at(10), None)).last();
        assert_eq!((last, breaker.is_open()), (Some(Some(at(1000))), true));
        assert_eq!(breaker.failed(at(11), None), None, "what was under way is no news");
        assert_eq!(tries(&breaker, 1009), None);
    }

    #[test]
    fn one_tries_and_its_outcome_is_for_all() {
        let breaker = breaker();
        breaker.trip(at(0));
        let trial = tries(&breaker, 1000);
        assert_eq!(tries(&breaker, 1000), None);
        assert_eq!(breaker.failed(at(1100), trial), Some(at(2000)), "twice as long");
        assert_eq!((tries(&breaker, 3099), tries(&breaker, 3100).is_some()), (None, true));
        assert!(breaker.succeeded());
        assert_eq!((breaker.admit(|| at(3101)), breaker.is_open()), (Admission::Yes, false));
        breaker.trip(at(4000));
        assert!(tries(&breaker, 5000).is_some(), "from the beginning again");
    }

    #[test]
    fn a_trial_that_tells_nothing_keeps_nobody_from_trying() {
        let breaker = breaker();
        breaker.trip(at(0));
        assert!(tries(&breaker, 1000).is_some());
        assert_eq!(tries(&breaker, 1499), None);
        breaker.release(at(1600), tries(&breaker, 1500).unwrap());
        let mut now = 1600;
        for _ in 0..100 {
            let trial = tries(&breaker, now);
            assert!(trial.is_some(), "{now}");
            now += u64::try_from(breaker.failed(at(now), trial).unwrap().as_millis()).unwrap();
        }
        let trial = tries(&breaker, now);
        assert_eq!(breaker.failed(at(now), trial), Some(at(32_000)));
    }

    /// One that took too long tells of an accelerator as it was: another tries it now, or has brought it back.
    #[test]
    fn a_stale_trial_moves_nothing() {
        let breaker = breaker();
        breaker.trip(at(0));
        let stale = tries(&breaker, 1000);
        let trial = tries(&breaker, 1500);
        assert!(stale != trial && trial.is_some());
        assert_eq!(breaker.failed(at(1501), stale), None);
        breaker.release(at(1502), stale.unwrap());
        assert_eq!(tries(&breaker, 1503), None, "one tries already");
        assert!(breaker.succeeded());
        assert_eq!(breaker.failed(at(1504), stale), None);
        breaker.release(at(1505), trial.unwrap());
        assert_eq!(breaker.admit(|| at(1506)), Admission::Yes, "what came back is not left alone again");
        // In the same moment as well.
        breaker.trip(at(2000));
        let first = tries(&breaker, 3000).unwrap();
        breaker.release(at(3000), first);
        assert_ne!(tries(&breaker, 3000), Some(first));
    }
}
