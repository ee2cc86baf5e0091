//! When flows get and give back the memory of their rings.
//!
//! A page costs a fault when it comes and a call when it goes, which is about what a request costs: a busy flow keeps what it has. One whose
//! rings nobody used for [`ring_idle_timeout`](ferrogate_core::config::limits::FlowLimits::ring_idle_timeout) gives it back. That many flows fall silent at
//! once is usual (a pause, a dead link), so a millisecond sees to a few of them only.
//!
//! **Invariant:** a flow whose rings have pages is in the wheel, and a turn gives back at most [`GIVEN_BACK_PER_TURN_MAX`].

use smoltcp::time::{Duration, Instant};

use super::Stack;

impl Stack {
    /// The rings of a flow are written or read.
    pub(super) fn note_use(&mut self, id: u32) {
        if self.flows[id as usize].note_use(self.now) {
            self.await_idle(id, self.now);
        }
    }

    /// The rings of a flow were used then: looks again when they may have been idle for long enough.
    pub(super) fn await_idle(&mut self, id: u32, used_at: Instant) {
        self.idle.arm(id, used_at + self.config.limits.ring_idle_timeout.into());
    }

    /// Has flows that were idle for long enough give back what they have.
    pub(super) fn give_back_rings(&mut self) {
        let mut idled = std::mem::take(&mut self.idled);
        self.idle.advance(self.now, |id| idled.push(id));
        let timeout = Duration::from(self.config.limits.ring_idle_timeout);
        let (mut given, mut late) = (0, 0);
        for id in idled.drain(..) {
            let flow = &mut self.flows[id as usize];
            let used_at = flow.used_at();
            if used_at + timeout > self.now {
                self.await_idle(id, used_at);
            } else if given == GIVEN_BACK_PER_TURN_MAX {
                late += 1;
                self.idle.arm(id, self.now + Duration::from_millis(1 + late / GIVEN_BACK_PER_TURN_MAX));
            } else if flow.give_back() {
                given += 1;
            } else {
                self.await_idle(id, self.now);
            }
        }
        self.idled = idled;
        self.nic.counters.rings_given_back.add(given);
        self.count_ring_bytes();
    }

    /// The counter is shared by the stacks of an lcore: it gets the difference.
    fn count_ring_bytes(&mut self) {
        let ring_bytes = self.ring_bytes() as u64;
        self.nic.counters.ring_bytes.add(ring_bytes.wrapping_sub(self.ring_bytes));
        self.ring_bytes = ring_bytes;
    }
}

/// Flows that give back their rings in one turn, at most. The timers have a millisecond: so many in one, at a microsecond or two each.
const GIVEN_BACK_PER_TURN_MAX: u64 = 32;
