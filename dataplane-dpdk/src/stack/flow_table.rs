//! From a 4-tuple to what holds it: a flow, or an entry in TIME-WAIT.
//!
//! A connection in TIME-WAIT (RFC 9293, 3.6.1) keeps no socket and no rings, only the two numbers that answer a repeated FIN.
//!
//! **Invariant:** the hash is keyed at random per process, so that a peer can't choose colliding tuples; entries in TIME-WAIT are
//! bounded, the oldest giving way.

use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::net::Ipv4Addr;

use smoltcp::time::{Duration, Instant};

/// The 4-tuple as we see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FlowKey {
    pub(super) peer: Ipv4Addr,
    pub(super) local: Ipv4Addr,
    pub(super) peer_port: u16,
    pub(super) local_port: u16,
}

impl Hash for FlowKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.peer.to_bits()) << 32 | u64::from(self.local.to_bits()));
        state.write_u32(u32::from(self.peer_port) << 16 | u32::from(self.local_port));
    }
}

/// Who holds a 4-tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// A flow, by its place in the slab.
    Flow(u32),
    /// A connection that has ended but may hear of its past.
    TimeWait(TimeWait),
}

/// What is left of a connection in TIME-WAIT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TimeWait {
    /// The next sequence number we would send.
    pub(super) sent: u32,
    /// The next sequence number we expect.
    pub(super) expected: u32,
}

/// The flow table of one lcore.
#[derive(Debug)]
pub(super) struct FlowTable {
    holders: HashMap<FlowKey, Holder>,
    /// In order of their end, which is the order they came: TIME-WAIT is equally long for all.
    ending: VecDeque<(Instant, FlowKey, TimeWait)>,
    time_waits: usize,
}

impl FlowTable {
    /// An empty table with room for `flows` entries.
    pub(super) fn new(flows: usize) -> Self {
        Self { holders: HashMap::with_capacity(flows), ending: VecDeque::new(), time_waits: 0 }
    }

    /// Who holds `key`.
    pub(super) fn get(&self, key: &FlowKey) -> Option<Holder> {
        self.holders.get(key).copied()
    }

    /// Gives `key` to a flow.
    pub(super) fn insert(&mut self, key: FlowKey, flow: u32) {
        if let Some(Holder::TimeWait(_)) = self.holders.insert(key, Holder::Flow(flow)) {
            self.time_waits -= 1;
        }
    }

    /// Nobody holds `key` any more.
    pub(super) fn remove(&mut self, key: &FlowKey) {
        self.holders.remove(key);
    }

    /// Lets the connection `key` end in TIME-WAIT.
    pub(super) fn wait(&mut self, key: FlowKey, what: TimeWait, now: Instant) {
        if self.ending.len() >= TIME_WAITS_MAX {
            self.end_oldest();
        }
        self.holders.insert(key, Holder::TimeWait(what));
        self.ending.push_back((now + TIME_WAIT, key, what));
        self.time_waits += 1;
    }

    /// Forgets the entries whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        while self.ending.front().is_some_and(|(end, ..)| *end <= now) {
            self.end_oldest();
        }
    }

    /// Connections in TIME-WAIT.
    pub(super) fn time_waits(&self) -> usize {
        self.time_waits
    }

    fn end_oldest(&mut self) {
        let Some((_, key, what)) = self.ending.pop_front() else { return };
        // The tuple may have been taken by a new connection in the meantime.
        if self.holders.get(&key) == Some(&Holder::TimeWait(what)) {
            self.holders.remove(&key);
            self.time_waits -= 1;
        }
    }
}

/// How long a connection stays in TIME-WAIT: twice the longest life of a segment as everyone has it (RFC 9293 says 4 minutes).
const TIME_WAIT: Duration = Duration::from_secs(60);
/// Connections of one lcore in TIME-WAIT, at most. About 100 bytes each.
const TIME_WAITS_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> FlowKey {
        FlowKey { peer: Ipv4Addr::new(10, 0, 0, 2), local: Ipv4Addr::new(10, 0, 0, 1), peer_port: port, local_port: 80 }
    }

    const ENDED: TimeWait = TimeWait { sent: 5, expected: 9 };

    #[test]
    fn the_hash_is_keyed_at_random() {
        use std::hash::BuildHasher;
        let (a, b) = (FlowTable::new(0), FlowTable::new(0));
        let hash = |t: &FlowTable| (0..4).map(|p| t.holders.hasher().hash_one(key(p))).collect::<Vec<_>>();
        assert_ne!(hash(&a), hash(&b));
    }

    #[test]
    fn time_wait_ends_and_gives_way_to_a_new_flow() {
        let (mut table, start) = (FlowTable::new(4), Instant::from_secs(1));
        table.wait(key(1), ENDED, start);
        table.wait(key(2), ENDED, start + Duration::from_secs(1));
        assert_eq!((table.get(&key(1)), table.time_waits()), (Some(Holder::TimeWait(ENDED)), 2));
        table.insert(key(1), 7);
        assert_eq!(table.time_waits(), 1);
        table.expire(start + TIME_WAIT);
        assert_eq!(table.get(&key(1)), Some(Holder::Flow(7)), "the old end does not touch the new flow");
        table.expire(start + TIME_WAIT + Duration::from_secs(1));
        assert_eq!((table.get(&key(2)), table.time_waits()), (None, 0));
    }

    #[test]
    fn time_waits_are_bounded_and_the_oldest_gives_way() {
        let mut table = FlowTable::new(0);
        let tuple = |n: usize| FlowKey { peer: Ipv4Addr::from_bits(u32::try_from(n).unwrap()), ..key(1) };
        for n in 0..=TIME_WAITS_MAX {
            table.wait(tuple(n), ENDED, Instant::from_secs(1));
        }
        assert_eq!(table.time_waits(), TIME_WAITS_MAX);
        assert_eq!(table.get(&tuple(0)), None);
        assert!(table.get(&tuple(1)).is_some());
    }
}
