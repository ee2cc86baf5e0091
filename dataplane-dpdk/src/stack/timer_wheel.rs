//! A lazy timer wheel with slots of 1 ms.
//!
//! Each flow has one entry, linked into the slot of its tick. A deadline that moves out leaves the entry in its slot and is noted there: when
//! the slot's time comes, the entry moves on to where it belongs, and nobody has looked at the flow for it. Only a deadline that moves in
//! moves the entry at once. So a busy flow costs hardly a wheel operation per packet.
//!
//! **Invariant:** an entry never fires before its deadline, there is never more than one for a flow, and advancing is bounded by the number of
//! slots and entries, however far the clock jumped.

use smoltcp::time::Instant;

/// Milliseconds since the stack's epoch. 0 is "not waiting".
type Tick = u64;

/// The wheel of one lcore.
#[derive(Debug)]
pub(super) struct TimerWheel {
    /// The first flow of each slot.
    slots: Box<[u32]>,
    /// By flow. Grows to the largest id there ever was, so that a turn allocates nothing.
    entries: Vec<Entry>,
    now: Tick,
    waiting: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Whose slot it is in.
    tick: Tick,
    /// When it fires: then, or later.
    due: Tick,
    next: u32,
    prev: u32,
}

impl TimerWheel {
    /// An empty wheel at `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self { slots: vec![NONE; SLOTS].into(), entries: Vec::new(), now: floor(now), waiting: 0 }
    }

    /// Sees to it that `flow` fires at `deadline`, and not at the one before.
    pub(super) fn arm(&mut self, flow: u32, deadline: Instant) {
        // Never now: the slot of this tick was emptied. Never further than the wheel is round: from there it goes on.
        let due = ceil(deadline).max(self.now + 1);
        let tick = due.min(self.now + LONGEST);
        if flow as usize >= self.entries.len() {
            self.entries.resize(flow as usize + 1, Entry { tick: 0, due: 0, next: NONE, prev: NONE });
        }
        let entry = &mut self.entries[flow as usize];
        match entry.tick {
            0 => {}
            waiting if waiting <= tick => {
                entry.due = due;
                return;
            }
            _ => self.cancel(flow),
        }
        self.link(flow, tick, due);
        self.waiting += 1;
    }

    fn link(&mut self, flow: u32, tick: Tick, due: Tick) {
        let first = std::mem::replace(&mut self.slots[slot(tick)], flow);
        if let Some(first) = self.entries.get_mut(first as usize) {
            first.prev = flow;
        }
        self.entries[flow as usize] = Entry { tick, due, next: first, prev: NONE };
    }

    /// The flow waits for nothing any more.
    pub(super) fn cancel(&mut self, flow: u32) {
        let Some(Entry { tick, next, prev, .. }) = self.entries.get(flow as usize).copied().filter(|e| e.tick != 0)
        else {
            return;
        };
        match self.entries.get_mut(prev as usize) {
            Some(prev) => prev.next = next,
            None => self.slots[slot(tick)] = next,
        }
        if let Some(next) = self.entries.get_mut(next as usize) {
            next.prev = prev;
        }
        self.entries[flow as usize].tick = 0;
        self.waiting -= 1;
    }

    /// Moves on to `now` and hands out the flows that fired. They wait for nothing then.
    pub(super) fn advance(&mut self, now: Instant, mut fired: impl FnMut(u32)) {
        let now = floor(now);
        if self.waiting > 0 {
            for tick in self.now + 1..=now.min(self.now + SLOTS as Tick) {
                let mut flow = std::mem::replace(&mut self.slots[slot(tick)], NONE);
                while let Some(entry) = self.entries.get_mut(flow as usize) {
                    let (due, next) = (entry.due, entry.next);
                    if due > now {
                        self.link(flow, due.min(now + LONGEST), due);
                    } else {
                        entry.tick = 0;
                        self.waiting -= 1;
                        fired(flow);
                    }
                    flow = next;
                }
            }
        }
        self.now = self.now.max(now);
    }

    /// When the next flow may fire. Walks the slots: for a poller that is about to rest, not for each turn.
    pub(super) fn next(&self) -> Option<Instant> {
        if self.waiting == 0 {
            return None;
        }
        let tick = (self.now + 1..=self.now + SLOTS as Tick).find(|&t| self.slots[slot(t)] != NONE)?;
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

/// No flow.
const NONE: u32 = u32::MAX;
/// Slots, and so the milliseconds that the wheel is round. A power of two.
const SLOTS: usize = 8192;
/// As far ahead as an entry is put.
const LONGEST: Tick = SLOTS as Tick - 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: i64) -> Instant {
        Instant::from_millis(ms)
    }

    fn fired(wheel: &mut TimerWheel, at: i64) -> Vec<u32> {
        let mut all = Vec::new();
        wheel.advance(ms(at), |flow| all.push(flow));
        all
    }

    #[test]
    fn fires_at_its_tick_and_never_before() {
        let mut wheel = TimerWheel::new(ms(1000));
        wheel.arm(7, Instant::from_micros(1_004_001));
        assert_eq!(wheel.next(), Some(ms(1005)));
        assert!(fired(&mut wheel, 1004).is_empty());
        assert_eq!(fired(&mut wheel, 1005), [7]);
        assert_eq!((fired(&mut wheel, 9000), wheel.next()), (vec![], None));
    }

    #[test]
    fn a_later_deadline_keeps_the_entry_and_an_earlier_one_moves_it() {
        let mut wheel = TimerWheel::new(ms(0));
        wheel.arm(1, ms(50));
        wheel.arm(1, ms(80));
        assert_eq!(wheel.next(), Some(ms(50)), "lazy");
        wheel.arm(1, ms(20));
        assert_eq!((wheel.next(), wheel.waiting), (Some(ms(20)), 1));
        assert_eq!(fired(&mut wheel, 100), [1]);
    }

    #[test]
    fn an_entry_whose_deadline_moved_out_goes_on_to_it() {
        let mut wheel = TimerWheel::new(ms(0));
        wheel.arm(1, ms(50));
        wheel.arm(2, ms(50));
        wheel.arm(1, ms(80));
        assert_eq!(fired(&mut wheel, 79), [2]);
        assert_eq!((wheel.next(), wheel.waiting), (Some(ms(80)), 1));
        wheel.arm(1, ms(SLOTS as i64 + 60));
        assert!(fired(&mut wheel, SLOTS as i64 + 59).is_empty(), "though its slot came twice");
        assert_eq!(fired(&mut wheel, SLOTS as i64 + 60), [1]);
        wheel.arm(1, ms(20_000));
        assert!((9_000..20_000).step_by(1_000).all(|at| fired(&mut wheel, at).is_empty()));
        assert_eq!((fired(&mut wheel, 20_000), wheel.waiting), (vec![1], 0));
    }

    #[test]
    fn flows_of_one_slot_come_and_go_one_by_one() {
        for gone in 0..4 {
            let mut wheel = TimerWheel::new(ms(0));
            (0..4).for_each(|flow| wheel.arm(flow, ms(10)));
            wheel.cancel(gone);
            wheel.cancel(gone);
            wheel.cancel(99);
            let mut all = fired(&mut wheel, 10);
            all.sort_unstable();
            assert_eq!(all, (0..4).filter(|f| *f != gone).collect::<Vec<_>>());
            assert_eq!(wheel.waiting, 0);
        }
    }

    #[test]
    fn it_agrees_with_a_list_over_a_long_run() {
        let (mut wheel, mut list) = (TimerWheel::new(ms(0)), [0_i64; 20]);
        let (mut x, mut now) = (12345_u32, 0_i64);
        for _ in 0..50_000 {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (flow, delay) = (x >> 8 & 15, i64::from(x >> 16 & 127));
            let due = &mut list[flow as usize];
            match x >> 28 {
                0 => {
                    wheel.cancel(flow);
                    *due = 0;
                }
                1..4 => {
                    now += delay / 8;
                    let mut got = fired(&mut wheel, now);
                    got.sort_unstable();
                    let all = list.iter_mut().enumerate().filter(|(_, due)| **due != 0 && **due <= now);
                    let expected: Vec<_> =
                        all.map(|(f, due)| (std::mem::take(due), u32::try_from(f).unwrap()).1).collect();
                    assert_eq!(got, expected);
                }
                _ => {
                    wheel.arm(flow, ms(now + delay));
                    *due = (now + delay).max(now + 1);
                }
            }
        }
    }

    #[test]
    fn far_deadlines_and_clock_jumps_are_bounded_by_the_slots() {
        let mut wheel = TimerWheel::new(ms(0));
        wheel.arm(1, ms(60_000));
        assert_eq!(wheel.next(), Some(ms(SLOTS as i64 - 1)), "goes on from there");
        assert_eq!(fired(&mut wheel, 10_000_000), [1]);
        wheel.arm(1, ms(5));
        assert_eq!(wheel.next(), Some(ms(10_000_001)), "a deadline in the past fires at the next tick");
    }
}
