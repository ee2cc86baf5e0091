//! From a 4-tuple to what holds it: a flow, or an entry in TIME-WAIT.
//!
//! A connection in TIME-WAIT (RFC 9293, 3.6.1) keeps no socket and no rings, only the two numbers that answer a repeated FIN.
//!
//! **Invariant:** the hash is keyed at random per table, so that a peer can't choose colliding tuples; entries in TIME-WAIT are
//! bounded, the oldest giving way.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::time::{Duration, Instant};

use super::keyed_hash::Keyed;

/// The 4-tuple as we see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FlowKey {
    pub(super) peer: IpAddr,
    pub(super) local: IpAddr,
    pub(super) peer_port: u16,
    pub(super) local_port: u16,
}

impl Hash for FlowKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match (self.peer, self.local) {
            (IpAddr::V4(peer), IpAddr::V4(local)) => {
                state.write_u64(u64::from(peer.to_bits()) << 32 | u64::from(local.to_bits()));
            }
            (peer, local) => [peer, local].into_iter().for_each(|ip| write_address(ip, state)),
        }
        state.write_u32(u32::from(self.peer_port) << 16 | u32::from(self.local_port));
    }
}

impl FlowKey {
    /// Bytes of an IP and a TCP header of this flow, without options.
    pub(super) fn header_bytes(&self) -> u16 {
        if self.peer.is_ipv4() { 40 } else { 60 }
    }
}

/// What is not of two IPv4 addresses is told apart by its length.
fn write_address<H: Hasher>(ip: IpAddr, state: &mut H) {
    let bits = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    state.write_u128(bits);
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
    /// By family, so that the one does not pay for the other's longer addresses.
    v4: HashMap<Key<Ipv4Addr>, Holder, Keyed>,
    v6: HashMap<Key<Ipv6Addr>, Holder, Keyed>,
    /// In order of their end, which is the order they came: TIME-WAIT is equally long for all.
    ending: VecDeque<(Instant, FlowKey, TimeWait)>,
    time_waits: usize,
}

impl FlowTable {
    /// An empty table with room for `flows` entries.
    pub(super) fn new(flows: usize) -> Self {
        let v4 = HashMap::with_capacity_and_hasher(flows, Keyed::default());
        Self { v4, v6: HashMap::default(), ending: VecDeque::new(), time_waits: 0 }
    }

    /// Who holds `key`.
    pub(super) fn get(&self, key: &FlowKey) -> Option<Holder> {
        match Key::of(key) {
            Ok(key) => self.v4.get(&key),
            Err(key) => self.v6.get(&key),
        }
        .copied()
    }

    /// Gives `key` to a flow.
    pub(super) fn insert(&mut self, key: FlowKey, flow: u32) {
        if let Some(Holder::TimeWait(_)) = self.put(&key, Holder::Flow(flow)) {
            self.time_waits -= 1;
        }
    }

    /// Nobody holds `key` any more.
    pub(super) fn remove(&mut self, key: &FlowKey) {
        match Key::of(key) {
            Ok(key) => self.v4.remove(&key),
            Err(key) => self.v6.remove(&key),
        };
    }

    /// Lets the connection `key` end in TIME-WAIT.
    pub(super) fn wait(&mut self, key: FlowKey, what: TimeWait, now: Instant) {
        if self.ending.len() >= TIME_WAITS_MAX {
            self.end_oldest();
        }
        self.put(&key, Holder::TimeWait(what));
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

    fn put(&mut self, key: &FlowKey, holder: Holder) -> Option<Holder> {
        match Key::of(key) {
            Ok(key) => self.v4.insert(key, holder),
            Err(key) => self.v6.insert(key, holder),
        }
    }

    fn end_oldest(&mut self) {
        let Some((_, key, what)) = self.ending.pop_front() else { return };
        // The tuple may have been taken by a new connection in the meantime.
        let is_gone = match Key::of(&key) {
            Ok(key) => remove_if(&mut self.v4, key, Holder::TimeWait(what)),
            Err(key) => remove_if(&mut self.v6, key, Holder::TimeWait(what)),
        };
        self.time_waits -= usize::from(is_gone);
    }
}

/// Takes `key` out of the table if it is held by `holder`. Says whether it was.
fn remove_if<K: Hash + Eq, S: BuildHasher>(table: &mut HashMap<K, Holder, S>, key: K, holder: Holder) -> bool {
    match table.entry(key) {
        Entry::Occupied(entry) if *entry.get() == holder => {
            entry.remove();
            true
        }
        _ => false,
    }
}

/// A [`FlowKey`] of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key<A> {
    peer: A,
    local: A,
    peer_port: u16,
    local_port: u16,
}

impl Key<Ipv4Addr> {
    /// The key in its family: IPv4, or else IPv6.
    fn of(key: &FlowKey) -> Result<Self, Key<Ipv6Addr>> {
        let &FlowKey { peer, local, peer_port, local_port } = key;
        match (peer, local) {
            (IpAddr::V4(peer), IpAddr::V4(local)) => Ok(Self { peer, local, peer_port, local_port }),
            (peer, local) => {
                let [peer, local] = [peer, local].map(|ip| match ip {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                    IpAddr::V6(ip) => ip,
                });
                Err(Key { peer, local, peer_port, local_port })
            }
        }
    }
}

impl Hash for Key<Ipv4Addr> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.peer.to_bits()) << 32 | u64::from(self.local.to_bits()));
        state.write_u32(u32::from(self.peer_port) << 16 | u32::from(self.local_port));
    }
}

impl Hash for Key<Ipv6Addr> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.peer.to_bits());
        state.write_u128(self.local.to_bits());
        state.write_u32(u32::from(self.peer_port) << 16 | u32::from(self.local_port));
    }
}

/// What a connection over IPv4 takes in the table.
#[cfg(test)]
pub(super) const ENTRY_BYTES: usize = size_of::<(Key<Ipv4Addr>, Holder)>();

/// How long a connection stays in TIME-WAIT: twice the longest life of a segment as everyone has it (RFC 9293 says 4 minutes).
const TIME_WAIT: Duration = Duration::from_secs(60);
/// Connections of one lcore in TIME-WAIT, at most. About 100 bytes each.
const TIME_WAITS_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> FlowKey {
        let [peer, local] = [[10, 0, 0, 2], [10, 0, 0, 1]].map(IpAddr::from);
        FlowKey { peer, local, peer_port: port, local_port: 80 }
    }

    const ENDED: TimeWait = TimeWait { sent: 5, expected: 9 };

    #[test]
    fn the_hash_is_keyed_at_random() {
        use std::hash::BuildHasher;
        let (a, b) = (FlowTable::new(0), FlowTable::new(0));
        let hash = |t: &FlowTable| (0..4).map(|p| t.v4.hasher().hash_one(key(p))).collect::<Vec<_>>();
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
        let tuple = |n: usize| FlowKey { peer: u32::try_from(n).unwrap().to_be_bytes().into(), ..key(1) };
        for n in 0..=TIME_WAITS_MAX {
            table.wait(tuple(n), ENDED, Instant::from_secs(1));
        }
        assert_eq!(table.time_waits(), TIME_WAITS_MAX);
        assert_eq!(table.get(&tuple(0)), None);
        assert!(table.get(&tuple(1)).is_some());
    }
}
