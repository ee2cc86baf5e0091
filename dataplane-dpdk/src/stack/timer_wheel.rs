//! A lazy timer wheel with slots of 1 ms.
//!
//! A flow is in the wheel at most once *in force*: it remembers the tick it waits for. A deadline that moves out leaves the entry where
//! it is (the flow is looked at when it fires, and put back), one that moves in adds an entry and makes the old one void. So a busy flow
//! costs no wheel operation per packet.
//!
//! **Invariant:** an entry never fires before its tick, and advancing is bounded by the number of slots, however far the clock jumped.

use smoltcp::time::Instant;

/// Milliseconds since the stack's epoch. 0 is "not waiting".
pub(super) type Tick = u64;

/// The wheel of one lcore.
#[derive(Debug)]
pub(super) struct TimerWheel {
    slots: Box<[Vec<(u32, Tick)>]>,
    now: Tick,
    entries: usize,
}

impl TimerWheel {
    /// An empty wheel at `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self { slots: (0..SLOTS).map(|_| Vec::new()).collect(), now: floor(now), entries: 0 }
    }

    /// Sees to it that `flow`, which waits for `waiting` already (0 for not at all), fires at `deadline` or earlier. Answers the tick
    /// that the flow is to remember.
    pub(super) fn arm(&mut self, flow: u32, waiting: Tick, deadline: Instant) -> Tick {
        // Never now: the slot of this tick was emptied. Never further than the wheel is round: what fires early is armed again.
        let tick = ceil(deadline).clamp(self.now + 1, self.now + SLOTS as Tick - 1);
        if waiting > self.now && waiting <= tick {
            return waiting;
        }
        self.slots[slot(tick)].push((flow, tick));
        self.entries += 1;
        tick
    }

    /// Moves on to `now` and hands out what fired: the flow and the tick it fired for. Void entries are handed out too.
    pub(super) fn advance(&mut self, now: Instant, mut fired: impl FnMut(u32, Tick)) {
        let now = floor(now);
        if self.entries == 0 {
            self.now = self.now.max(now);
            return;
        }
        let from = self.now + 1;
        let until = now.min(self.now + SLOTS as Tick);
        for tick in from..=until {
            for (flow, at) in self.slots[slot(tick)].drain(..) {
                self.entries -= 1;
                fired(flow, at);
            }
        }
        self.now = self.now.max(now);
    }

    /// When the next entry fires, void ones included. Walks the slots: for a poller that is about to rest, not for each turn.
    pub(super) fn next(&self) -> Option<Instant> {
        if self.entries == 0 {
            return None;
        }
        let tick = (self.now + 1..=self.now + SLOTS as Tick).find(|&t| !self.slots[slot(t)].is_empty())?;
        i64::try_from(tick).ok().map(Instant::from_millis)
    }
}

fn floor(at: Instant) -> Tick {
    Tick::try_from(at.total_millis()).unwrap_or(0)
}

fn ceil(at: Instant) -> Tick {
    Tick::try_from(at.total_micros()).unwrap_or(0).div_ceil(1000)
}

fn slot(tick: Tick) -> usize {
    usize::try_from(tick % SLOTS as Tick).expect("less than the number of slots")
}

/// Slots, and so the milliseconds that the wheel is round. A power of two.
const SLOTS: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: i64) -> Instant {
        Instant::from_millis(ms)
    }

    fn fired(wheel: &mut TimerWheel, at: i64) -> Vec<(u32, Tick)> {
        let mut all = Vec::new();
        wheel.advance(ms(at), |flow, tick| all.push((flow, tick)));
        all
    }

    #[test]
    fn fires_at_its_tick_and_never_before() {
        let mut wheel = TimerWheel::new(ms(1000));
        assert_eq!(wheel.arm(7, 0, Instant::from_micros(1_004_001)), 1005);
        assert_eq!(wheel.next(), Some(ms(1005)));
        assert_eq!(fired(&mut wheel, 1004), []);
        assert_eq!(fired(&mut wheel, 1005), [(7, 1005)]);
        assert_eq!((fired(&mut wheel, 9000), wheel.next()), (vec![], None));
    }

    #[test]
    fn a_later_deadline_keeps_the_entry_and_an_earlier_one_adds_one() {
        let mut wheel = TimerWheel::new(ms(0));
        let first = wheel.arm(1, 0, ms(50));
        assert_eq!(wheel.arm(1, first, ms(80)), 50, "lazy");
        assert_eq!(wheel.entries, 1);
        assert_eq!(wheel.arm(1, first, ms(20)), 20);
        assert_eq!(fired(&mut wheel, 100), [(1, 20), (1, 50)], "the second is void: the flow remembers 20");
    }

    #[test]
    fn far_deadlines_and_clock_jumps_are_bounded_by_the_slots() {
        let mut wheel = TimerWheel::new(ms(0));
        let tick = wheel.arm(1, 0, ms(60_000));
        assert_eq!(tick, SLOTS as Tick - 1, "fires early, and is armed again");
        assert_eq!(fired(&mut wheel, 10_000_000), [(1, tick)]);
        assert_eq!(wheel.arm(1, tick, ms(5)), 10_000_001, "a deadline in the past fires at the next tick");
    }
}
