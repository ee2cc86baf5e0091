//! The clock that smoltcp is shown for one flow.
//!
//! smoltcp 0.14 waits a second at least before it sends again, in every release; Linux waits 200 ms. So an established flow lives on a clock that
//! runs five times as fast: its second is 200 ms of ours. What smoltcp measures and what it waits for are both on that clock, so that
//! a round trip of 300 ms still gets a longer timeout. What we set on a socket ourselves has to be stretched ([`FlowClock::stretched`]).
//!
//! **Invariant:** never goes back, also when its pace changes.

use smoltcp::time::{Duration, Instant};

/// A clock with a pace of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct FlowClock {
    pace: u32,
    /// The same moment on the clock of the stack and on this one.
    ours: Instant,
    shown: Instant,
}

impl FlowClock {
    /// The stack's own: for a handshake, whose first timeout is to be a second (RFC 6298, 2.1).
    pub(super) const fn steady() -> Self {
        Self { pace: 1, ours: Instant::ZERO, shown: Instant::ZERO }
    }

    /// From `now` on it runs at the pace of an established flow. Says whether it did not before.
    pub(super) fn hurry(&mut self, now: Instant) -> bool {
        if self.pace == PACE {
            return false;
        }
        *self = Self { pace: PACE, ours: now, shown: self.shown(now) };
        true
    }

    /// What it shows at `now`.
    pub(super) fn shown(&self, now: Instant) -> Instant {
        if self.pace == 1 { now } else { self.shown + (now - self.ours) * self.pace }
    }

    /// When it will show `shown`, or a little later.
    pub(super) fn ours(&self, shown: Instant) -> Instant {
        if self.pace == 1 {
            return shown;
        }
        let pace = i64::from(self.pace);
        let ahead = (shown.total_micros() - self.shown.total_micros()).saturating_add(pace - 1).div_euclid(pace);
        Instant::from_micros(self.ours.total_micros().saturating_add(ahead))
    }

    /// So long a time, as this clock counts it.
    pub(super) fn stretched(&self, time: Duration) -> Duration {
        time * self.pace
    }
}

/// How much faster than ours the clock of an established flow runs: smoltcp's second becomes Linux's 200 ms.
const PACE: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_from_where_it_was_and_five_times_as_fast() {
        let mut clock = FlowClock::steady();
        let at = Instant::from_micros(1_000_007);
        assert_eq!((clock.shown(at), clock.ours(at)), (at, at));
        assert!(clock.hurry(at) && !clock.hurry(at));
        assert_eq!(clock.shown(at), at);
        let later = at + Duration::from_millis(200);
        assert_eq!(clock.shown(later), at + Duration::from_secs(1));
        assert_eq!(clock.ours(at + Duration::from_secs(1)), later);
        for micros in [0, 1, 4, 5, 6, 1_000_000, 1_000_008, 5_000_001] {
            let shown = Instant::from_micros(micros);
            assert!(clock.shown(clock.ours(shown)) >= shown, "{micros}");
        }
        assert_eq!(clock.stretched(Duration::from_millis(2)), Duration::from_millis(10));
    }
}
