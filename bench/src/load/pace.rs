//! The schedule of a load with a rate: when each request is meant to leave, whatever comes back (no coordinated omission).
//!
//! **Invariant:** a request that leaves late keeps its intended time; the schedule never waits and never skips.

use crate::wire::clock::Nanos;

/// Requests at even distances.
pub(crate) struct Pace {
    rate: f64,
    start: Nanos,
    /// Requests handed out.
    taken: u64,
    /// Requests known to have come due without a free connection, all before this number.
    seen_behind: u64,
}

impl Pace {
    /// `rate` requests per second from `start` on.
    pub(crate) fn new(rate: f64, start: Nanos) -> Self {
        Self { rate, start, taken: 0, seen_behind: 0 }
    }

    /// When the next request is to leave.
    pub(crate) fn next(&self) -> Nanos {
        self.time_of(self.taken)
    }

    /// Takes the next request if it is due: its intended time.
    pub(crate) fn take(&mut self, now: Nanos) -> Option<Nanos> {
        let due = self.next();
        (due <= now).then(|| {
            self.taken += 1;
            due
        })
    }

    /// No connection is free: how many requests have come due since the last call that must wait for one.
    pub(crate) fn behind(&mut self, now: Nanos) -> u64 {
        let due = self.due_by(now);
        let new = due.saturating_sub(self.seen_behind.max(self.taken));
        self.seen_behind = self.seen_behind.max(due);
        new
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "within 2^53 ns"
    )]
    fn time_of(&self, number: u64) -> Nanos {
        self.start + (number as f64 * 1e9 / self.rate) as Nanos
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "within 2^53 ns"
    )]
    fn due_by(&self, now: Nanos) -> u64 {
        (now.saturating_sub(self.start) as f64 * self.rate / 1e9) as u64 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_keep_their_time_when_they_leave_late() {
        let mut pace = Pace::new(1_000.0, 5_000_000);
        assert_eq!(pace.take(4_999_999), None);
        assert_eq!(pace.take(5_000_000), Some(5_000_000));
        assert_eq!(pace.take(5_000_001), None);
        let late: Vec<_> = std::iter::from_fn(|| pace.take(9_500_000)).collect();
        assert_eq!(late, [6_000_000, 7_000_000, 8_000_000, 9_000_000]);
        assert_eq!(pace.next(), 10_000_000);
    }

    #[test]
    fn each_request_is_behind_once() {
        let mut pace = Pace::new(1_000.0, 0);
        assert_eq!(pace.take(0), Some(0));
        assert_eq!(pace.behind(2_500_000), 2, "those of 1 ms and 2 ms");
        assert_eq!(pace.behind(2_600_000), 0);
        assert_eq!(pace.take(2_700_000), Some(1_000_000));
        assert_eq!(pace.behind(3_100_000), 1);
        assert_eq!(std::iter::from_fn(|| pace.take(3_100_000)).count(), 2);
        assert_eq!(pace.behind(3_100_000), 0);
    }
}
