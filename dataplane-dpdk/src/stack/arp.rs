//! ARP (RFC 826): who has which IPv4 address on the link, asked and answered by ourselves.
//!
//! **Invariant:** the table is bounded, a question is repeated at most [`QUESTIONS_MAX`] times a second apart, and only packets that
//! concern us change an entry.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use smoltcp::time::{Duration, Instant};

use crate::device::Mac;

/// What the table knows of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Neighbour {
    /// Its Ethernet address.
    Known(Mac),
    /// The question is on its way.
    Asked,
    /// Nobody answered.
    Silent,
}

/// The neighbours of one lcore's port.
#[derive(Debug)]
pub(super) struct ArpTable {
    entries: HashMap<Ipv4Addr, Entry>,
    /// Addresses that were asked for and have not answered.
    open: Vec<Ipv4Addr>,
}

#[derive(Debug)]
struct Entry {
    mac: Option<Mac>,
    /// When the answer came, or the last question went out.
    at: Instant,
    questions: u32,
    /// Flows that can't send before the answer.
    waiting: Vec<u32>,
}

impl ArpTable {
    pub(super) fn new() -> Self {
        Self { entries: HashMap::new(), open: Vec::new() }
    }

    /// Looks up `ip` for `flow`, which is handed out by [`learn`](Self::learn) or [`questions`](Self::questions) when it has to wait.
    pub(super) fn look_up(&mut self, ip: Ipv4Addr, flow: u32, now: Instant) -> Neighbour {
        if let Some(entry) = self.entries.get_mut(&ip) {
            if let Some(mac) = entry.mac {
                // An old entry is used on while it is asked for again.
                if entry.questions == 0 && now >= entry.at + KNOWN_FOR && !self.open.contains(&ip) {
                    self.open.push(ip);
                }
                return Neighbour::Known(mac);
            }
            if entry.questions >= QUESTIONS_MAX && now >= entry.at + QUESTION_INTERVAL {
                return Neighbour::Silent;
            }
            if entry.waiting.last() != Some(&flow) {
                entry.waiting.push(flow);
            }
            return Neighbour::Asked;
        }
        if self.entries.len() >= NEIGHBOURS_MAX && !self.make_room() {
            return Neighbour::Silent;
        }
        self.entries.insert(ip, Entry { mac: None, at: now, questions: 0, waiting: vec![flow] });
        self.open.push(ip);
        Neighbour::Asked
    }

    /// The address `ip` is at `mac`. Answers the flows that waited for it.
    pub(super) fn learn(&mut self, ip: Ipv4Addr, mac: Mac, now: Instant) -> Vec<u32> {
        if !self.entries.contains_key(&ip) && self.entries.len() >= NEIGHBOURS_MAX && !self.make_room() {
            return Vec::new();
        }
        let entry = self.entries.entry(ip).or_insert(Entry { mac: None, at: now, questions: 0, waiting: Vec::new() });
        (entry.mac, entry.at, entry.questions) = (Some(mac), now, 0);
        self.open.retain(|open| *open != ip);
        std::mem::take(&mut entry.waiting)
    }

    /// Whether a question is open: then [`questions`](Self::questions) has something to do now and then.
    pub(super) fn is_asking(&self) -> bool {
        !self.open.is_empty()
    }

    /// Calls `ask` for each address whose question is due, and `silent` for each flow whose neighbour never answered.
    pub(super) fn questions(&mut self, now: Instant, mut ask: impl FnMut(Ipv4Addr), mut silent: impl FnMut(u32)) {
        let entries = &mut self.entries;
        self.open.retain(|ip| {
            let Some(entry) = entries.get_mut(ip) else { return false };
            if entry.questions > 0 && now < entry.at + QUESTION_INTERVAL {
                return true;
            }
            if entry.questions < QUESTIONS_MAX {
                (entry.at, entry.questions) = (now, entry.questions + 1);
                ask(*ip);
                return true;
            }
            entry.waiting.drain(..).for_each(&mut silent);
            entries.remove(ip);
            false
        });
    }

    /// When the next question is due.
    pub(super) fn next(&self) -> Option<Instant> {
        let due = |ip: &Ipv4Addr| {
            let entry = self.entries.get(ip)?;
            Some(if entry.questions == 0 { Instant::ZERO } else { entry.at + QUESTION_INTERVAL })
        };
        self.open.iter().filter_map(due).min()
    }

    /// Forgets the neighbour that was heard of the longest time ago. Open questions stay.
    fn make_room(&mut self) -> bool {
        let known = self.entries.iter().filter(|(_, e)| e.mac.is_some() && e.questions == 0);
        let Some(oldest) = known.min_by_key(|(_, e)| e.at).map(|(ip, _)| *ip) else { return false };
        self.entries.remove(&oldest);
        self.open.retain(|open| *open != oldest);
        true
    }
}

/// An ARP packet about one of our neighbours, reduced to what matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    /// Who sent it.
    pub(super) ip: Ipv4Addr,
    /// Its Ethernet address.
    pub(super) mac: Mac,
    /// Whether it wants an answer.
    pub(super) asks: bool,
}

/// Reads an ARP packet that is meant for `our_ip`; nothing when it is malformed, not for us, or its sender can't be.
pub(super) fn parse(packet: &[u8], our_ip: Ipv4Addr) -> Option<Heard> {
    let packet: &[u8; ARP_BYTES] = packet.get(..ARP_BYTES)?.try_into().ok()?;
    let (head, asks) = packet.split_at(8);
    let asks = match (head, asks) {
        (REQUEST, rest) => (true, rest),
        (REPLY, rest) => (false, rest),
        _ => return None,
    };
    let (asks, [m0, m1, m2, m3, m4, m5, a, b, c, d, _, _, _, _, _, _, target @ ..]) = asks else { return None };
    let (mac, ip) = (Mac([*m0, *m1, *m2, *m3, *m4, *m5]), Ipv4Addr::new(*a, *b, *c, *d));
    let sender = mac.is_unicast() && !ip.is_multicast() && !ip.is_broadcast() && !ip.is_unspecified();
    (target == our_ip.octets() && sender).then_some(Heard { ip, mac, asks })
}

/// Writes an ARP packet about `ip`: an answer to `to`, or a question to all when `to` is nobody.
pub(super) fn emit(ours: (Mac, Ipv4Addr), to: Option<Mac>, ip: Ipv4Addr, packet: &mut [u8]) {
    let parts: [&[u8]; 5] = [
        if to.is_some() { REPLY } else { REQUEST },
        &ours.0.0,
        &ours.1.octets(),
        &to.map_or([0; 6], |m| m.0),
        &ip.octets(),
    ];
    let bytes = parts.into_iter().flatten();
    packet.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
}

/// Ethernet and IPv4, their address lengths, and the operation.
const REQUEST: &[u8] = &[0, 1, 8, 0, 6, 4, 0, 1];
const REPLY: &[u8] = &[0, 1, 8, 0, 6, 4, 0, 2];
/// Bytes of an ARP packet for IPv4 over Ethernet.
pub(super) const ARP_BYTES: usize = 28;
/// Neighbours of one lcore, at most.
const NEIGHBOURS_MAX: usize = 1024;
/// How often an address is asked for before its flows are told that nobody is there.
const QUESTIONS_MAX: u32 = 3;
/// Between two questions.
const QUESTION_INTERVAL: Duration = Duration::from_secs(1);
/// A neighbour that was not heard of for so long is asked again.
const KNOWN_FOR: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const US: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn at(s: i64) -> Instant {
        Instant::from_secs(s)
    }

    fn ask(table: &mut ArpTable, now: Instant) -> (Vec<Ipv4Addr>, Vec<u32>) {
        let (mut asked, mut silent) = (Vec::new(), Vec::new());
        table.questions(now, |ip| asked.push(ip), |flow| silent.push(flow));
        (asked, silent)
    }

    #[test]
    fn asks_once_a_second_and_wakes_who_waits() {
        let mut table = ArpTable::new();
        assert_eq!(table.look_up(IP, 1, at(1)), Neighbour::Asked);
        assert_eq!(table.look_up(IP, 2, at(1)), Neighbour::Asked);
        assert_eq!(ask(&mut table, at(1)).0, [IP]);
        assert!(ask(&mut table, at(1)).0.is_empty());
        assert_eq!(table.next(), Some(at(2)));
        assert_eq!(ask(&mut table, at(2)).0, [IP]);
        assert_eq!(table.learn(IP, MAC, at(3)), [1, 2]);
        assert_eq!(table.look_up(IP, 3, at(3)), Neighbour::Known(MAC));
        assert!(!table.is_asking());
    }

    #[test]
    fn tells_who_waits_when_nobody_answers_and_asks_afresh_later() {
        let mut table = ArpTable::new();
        table.look_up(IP, 9, at(1));
        for second in 1..=3 {
            assert_eq!(ask(&mut table, at(second)), (vec![IP], vec![]));
        }
        assert_eq!(ask(&mut table, at(4)), (vec![], vec![9]));
        assert_eq!(table.look_up(IP, 9, at(5)), Neighbour::Asked);
    }

    #[test]
    fn an_old_neighbour_is_used_while_it_is_asked_for_again() {
        let mut table = ArpTable::new();
        table.learn(IP, MAC, at(1));
        assert_eq!(table.look_up(IP, 1, at(100)), Neighbour::Known(MAC));
        assert_eq!(ask(&mut table, at(100)).0, [IP]);
        assert_eq!(table.look_up(IP, 1, at(100)), Neighbour::Known(MAC));
        for second in [101, 102, 103] {
            ask(&mut table, at(second));
        }
        assert_eq!(table.look_up(IP, 1, at(104)), Neighbour::Asked, "it is gone");
    }

    #[test]
    fn the_table_is_bounded() {
        let mut table = ArpTable::new();
        for n in 0..2000_u32 {
            table.learn(Ipv4Addr::from_bits(n), MAC, at(i64::from(n)));
        }
        assert_eq!(table.entries.len(), NEIGHBOURS_MAX);
        let mut table = ArpTable::new();
        for n in 0..2000_u32 {
            table.look_up(Ipv4Addr::from_bits(n), n, at(1));
        }
        assert_eq!(table.entries.len(), NEIGHBOURS_MAX);
    }

    #[test]
    fn what_is_written_is_read_and_only_what_is_for_us() {
        let mut packet = [0; ARP_BYTES];
        emit((MAC, IP), None, US, &mut packet);
        assert_eq!(parse(&packet, US), Some(Heard { ip: IP, mac: MAC, asks: true }));
        assert_eq!(parse(&packet, IP), None);
        emit((MAC, IP), Some(Mac([2; 6])), US, &mut packet);
        assert_eq!(parse(&packet, US), Some(Heard { ip: IP, mac: MAC, asks: false }));
        assert_eq!(parse(&packet[..27], US), None);
        emit((Mac::BROADCAST, IP), None, US, &mut packet);
        assert_eq!(parse(&packet, US), None, "nobody is at the broadcast address");
    }
}
