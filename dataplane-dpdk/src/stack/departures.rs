//! When what is on its way left, so that each acknowledgement measures a round trip.
//!
//! What left in one turn, side by side, is one entry. A window may have more turns than are kept: what leaves beyond them is not measured, and
//! the first of a round are enough for what they are needed for.
//!
//! **Invariant:** what was sent twice measures nothing (Karn's rule: RFC 6298, 3), and there are [`DEPARTURES_MAX`] at most.

use std::time::Duration;

use smoltcp::time::Instant;

use super::recovery::is_after;
use super::scoreboard::Span;

/// The departures of one flow that are not acknowledged. Small: every idle flow has one of these.
#[derive(Clone, Copy, Debug)]
pub(super) struct Departures {
    /// By sequence number; the first `kept` are in use.
    all: [Departure; DEPARTURES_MAX],
    kept: u32,
}

#[derive(Clone, Copy, Debug)]
struct Departure {
    span: Span,
    /// Microseconds of the stack's clock, which go around every hour and twelve minutes.
    at: u32,
}

impl Departures {
    /// For a flow that has sent nothing.
    pub(super) const fn new() -> Self {
        Self { all: [Departure { span: Span { start: 0, end: 0 }, at: 0 }; DEPARTURES_MAX], kept: 0 }
    }

    /// New bytes have left.
    pub(super) fn note(&mut self, span: Span, now: Instant) {
        let (kept, at) = (self.kept as usize, micros(now));
        if let Some(last) = kept.checked_sub(1).map(|last| &mut self.all[last])
            && (last.span.end, last.at) == (span.start, at)
        {
            last.span.end = span.end;
        } else if let Some(free) = self.all.get_mut(kept) {
            *free = Departure { span, at };
            self.kept += 1;
        }
    }

    /// Everything before `acked` has arrived. Answers how long the last byte of it took to be acknowledged, if that is known.
    pub(super) fn measure(&mut self, acked: u32, now: Instant) -> Option<Duration> {
        let kept = self.kept as usize;
        let is_before = |departure: &&Departure| is_after(acked, departure.span.start);
        let begun = self.all[..kept].iter().take_while(is_before).count();
        let Departure { span, at } = self.all[begun.checked_sub(1)?];
        let done = if is_after(span.end, acked) { begun - 1 } else { begun };
        self.all.copy_within(done..kept, 0);
        self.kept -= u32::try_from(done).expect("no more than are kept");
        let took = micros(now).wrapping_sub(at);
        (!is_after(acked, span.end)).then(|| Duration::from_micros(took.into()))
    }

    /// Something was sent again: what comes back may be the answer to either copy.
    pub(super) fn forget(&mut self) {
        self.kept = 0;
    }
}

fn micros(at: Instant) -> u32 {
    u32::try_from(at.total_micros() & i64::from(u32::MAX)).expect("the lower half")
}

/// Turns of a window whose departures are kept. Each is answered by one acknowledgement at least, and RFC 9406 wants eight samples in a round.
const DEPARTURES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: i64) -> Instant {
        Instant::from_millis(ms)
    }

    fn took(departures: &mut Departures, acked: u32, at: i64) -> Option<u64> {
        departures.measure(acked, ms(at)).map(|took| u64::try_from(took.as_millis()).unwrap())
    }

    #[test]
    fn each_acknowledgement_measures_from_when_its_last_byte_left() {
        // Numbers that go around their end.
        let start = u32::MAX - 14;
        let number = |n: u32| start.wrapping_add(n);
        let mut departures = Departures::new();
        for (from, to, at) in [(0, 10, 0), (10, 20, 0), (20, 30, 5), (40, 50, 6)] {
            departures.note(Span { start: number(from), end: number(to) }, ms(at));
        }
        assert_eq!(departures.kept, 3, "one turn is one entry");
        assert_eq!(took(&mut departures, number(10), 20), Some(20));
        assert_eq!(took(&mut departures, number(20), 21), Some(21), "the same entry again");
        assert_eq!(took(&mut departures, number(20), 22), None, "nothing new");
        assert_eq!(took(&mut departures, number(35), 30), None, "nobody noted when that left");
        assert_eq!((took(&mut departures, number(50), 30), departures.kept), (Some(24), 0));
    }

    #[test]
    fn it_is_bounded_and_forgets() {
        let mut departures = Departures::new();
        for n in 0..100 {
            departures.note(Span { start: 10 * n, end: 10 * n + 10 }, ms(i64::from(n)));
        }
        assert_eq!(departures.kept as usize, DEPARTURES_MAX);
        assert_eq!(took(&mut departures, 80, 107), Some(100));
        assert_eq!((took(&mut departures, 500, 200), departures.kept), (None, 0));
        departures.note(Span { start: 1000, end: 1010 }, ms(200));
        departures.forget();
        assert_eq!(took(&mut departures, 1010, 220), None);
    }
}
