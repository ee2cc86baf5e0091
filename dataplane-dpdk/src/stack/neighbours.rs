//! Who is on the link: the Ethernet address of each neighbour, and what waits until it is known.
//!
//! **Invariant:** the table is bounded, and so is what waits; a question is repeated at most [`QUESTIONS_MAX`] times a second apart, and only
//! packets that concern us change an entry.

use std::collections::HashMap;
use std::net::IpAddr;

use smoltcp::time::{Duration, Instant};

use crate::device::Mac;
use crate::frame::Frame;

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
pub(super) struct Neighbours {
    entries: HashMap<IpAddr, Entry>,
    /// Addresses that were asked for and have not answered.
    open: Vec<IpAddr>,
    /// Frames that wait, of all neighbours.
    held: usize,
    /// Those that are given, and not asked for.
    fixed: HashMap<IpAddr, Mac>,
}

/// What waited for an address.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Flows that could not send.
    pub(super) flows: Vec<u32>,
    /// Frames that are complete but for whom they go to, in their order.
    pub(super) frames: Vec<Frame>,
}

#[derive(Debug)]
struct Entry {
    mac: Option<Mac>,
    /// When the answer came, or the last question went out.
    at: Instant,
    questions: u32,
    /// What can't be sent before the answer.
    waiting: Waiting,
}

impl Neighbours {
    pub(super) fn new() -> Self {
        Self { entries: HashMap::new(), open: Vec::new(), held: 0, fixed: HashMap::new() }
    }

    /// Looks up `ip`, maybe for a flow, which is handed out by [`learn`](Self::learn) or [`questions`](Self::questions) when it has to wait.
    pub(super) fn look_up(&mut self, ip: IpAddr, flow: Option<u32>, now: Instant) -> Neighbour {
        if let Some(mac) = self.fixed.get(&ip) {
            return Neighbour::Known(*mac);
        }
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
            let flows = &mut entry.waiting.flows;
            flows.extend(flow.filter(|flow| flows.last() != Some(flow)));
            return Neighbour::Asked;
        }
        // Strangers can have us ask for any address of the link (RFC 6583): that takes neither those who are known away, nor the last
        // questions from connections of our own.
        let open_max = if flow.is_some() { OPEN_MAX } else { OPEN_MAX / 2 };
        if self.open.len() >= open_max || self.entries.len() >= NEIGHBOURS_MAX && !self.make_room() {
            return Neighbour::Silent;
        }
        self.entries.insert(ip, Entry::new(now, flow));
        self.open.push(ip);
        Neighbour::Asked
    }

    /// These are where they are, whatever anybody says, and no others.
    pub(super) fn fix(&mut self, all: &[(IpAddr, Mac)]) {
        self.fixed = all.iter().copied().collect();
    }

    /// Whether somebody has asked for it, or heard of it.
    pub(super) fn has(&self, ip: IpAddr) -> bool {
        self.entries.contains_key(&ip)
    }

    /// Keeps a frame for a neighbour that was asked for. False: as many wait already as may.
    pub(super) fn hold(&mut self, ip: IpAddr, frame: Frame) -> bool {
        let Some(entry) = self.entries.get_mut(&ip).filter(|entry| entry.mac.is_none()) else { return false };
        let frames = &mut entry.waiting.frames;
        if frames.len() >= WAITING_FRAMES_MAX || self.held >= ALL_WAITING_FRAMES_MAX {
            return false;
        }
        frames.push(frame);
        self.held += 1;
        true
    }

    /// The address `ip` is at `mac`. Answers what waited for it.
    pub(super) fn learn(&mut self, ip: IpAddr, mac: Mac, now: Instant) -> Waiting {
        if !self.entries.contains_key(&ip) && self.entries.len() >= NEIGHBOURS_MAX && !self.make_room() {
            return Waiting::default();
        }
        let entry = self.entries.entry(ip).or_insert_with(|| Entry::new(now, None));
        (entry.mac, entry.at, entry.questions) = (Some(mac), now, 0);
        self.open.retain(|open| *open != ip);
        let waiting = std::mem::take(&mut entry.waiting);
        self.held -= waiting.frames.len();
        waiting
    }

    /// Whether a question is open: then [`questions`](Self::questions) has something to do now and then.
    pub(super) fn is_asking(&self) -> bool {
        !self.open.is_empty()
    }

    /// Calls `ask` for each address whose question is due, and `silent` with what waited for a neighbour that never answered.
    pub(super) fn questions(&mut self, now: Instant, mut ask: impl FnMut(IpAddr), mut silent: impl FnMut(Waiting)) {
        let Self { entries, held, .. } = self;
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
            let Some(Entry { waiting, .. }) = entries.remove(ip) else { return false };
            *held -= waiting.frames.len();
            silent(waiting);
            false
        });
    }

    /// When the next question is due.
    pub(super) fn next(&self) -> Option<Instant> {
        let due = |ip: &IpAddr| {
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

impl Entry {
    fn new(now: Instant, flow: Option<u32>) -> Self {
        let waiting = Waiting { flows: flow.into_iter().collect(), frames: Vec::new() };
        Self { mac: None, at: now, questions: 0, waiting }
    }
}

/// Frames that wait for one neighbour, at most: a datagram of 64 KiB in the shortest packets, of 576 bytes.
const WAITING_FRAMES_MAX: usize = 128;
/// Frames that wait for all neighbours, at most: a part of what the port has.
const ALL_WAITING_FRAMES_MAX: usize = 1024;
/// Neighbours of one lcore, at most.
const NEIGHBOURS_MAX: usize = 1024;
/// Questions that are open at a time, at most; those for datagrams have half of them.
const OPEN_MAX: usize = 256;
/// How often an address is asked for before its flows are told that nobody is there.
const QUESTIONS_MAX: u32 = 3;
/// Between two questions.
const QUESTION_INTERVAL: Duration = Duration::from_secs(1);
/// A neighbour that was not heard of for so long is asked again.
const KNOWN_FOR: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
    const MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn at(s: i64) -> Instant {
        Instant::from_secs(s)
    }

    fn ask(table: &mut Neighbours, now: Instant) -> (Vec<IpAddr>, Vec<u32>) {
        let (mut asked, mut silent) = (Vec::new(), Vec::new());
        table.questions(now, |ip| asked.push(ip), |waiting| silent.extend(waiting.flows));
        (asked, silent)
    }

    #[test]
    fn asks_once_a_second_and_wakes_who_waits() {
        let mut table = Neighbours::new();
        assert_eq!(table.look_up(IP, Some(1), at(1)), Neighbour::Asked);
        assert_eq!(table.look_up(IP, Some(2), at(1)), Neighbour::Asked);
        assert_eq!(ask(&mut table, at(1)).0, [IP]);
        assert!(ask(&mut table, at(1)).0.is_empty());
        assert_eq!(table.next(), Some(at(2)));
        assert_eq!(ask(&mut table, at(2)).0, [IP]);
        assert_eq!(table.learn(IP, MAC, at(3)).flows, [1, 2]);
        assert_eq!(table.look_up(IP, Some(3), at(3)), Neighbour::Known(MAC));
        assert!(!table.is_asking());
    }

    #[test]
    fn tells_who_waits_when_nobody_answers_and_asks_afresh_later() {
        let mut table = Neighbours::new();
        table.look_up(IP, Some(9), at(1));
        for second in 1..=3 {
            assert_eq!(ask(&mut table, at(second)), (vec![IP], vec![]));
        }
        assert_eq!(ask(&mut table, at(4)), (vec![], vec![9]));
        assert_eq!(table.look_up(IP, Some(9), at(5)), Neighbour::Asked);
    }

    #[test]
    fn an_old_neighbour_is_used_while_it_is_asked_for_again() {
        let mut table = Neighbours::new();
        table.learn(IP, MAC, at(1));
        assert_eq!(table.look_up(IP, Some(1), at(100)), Neighbour::Known(MAC));
        assert_eq!(ask(&mut table, at(100)).0, [IP]);
        assert_eq!(table.look_up(IP, Some(1), at(100)), Neighbour::Known(MAC));
        for second in [101, 102, 103] {
            ask(&mut table, at(second));
        }
        assert_eq!(table.look_up(IP, Some(1), at(104)), Neighbour::Asked, "it is gone");
    }

    #[test]
    fn the_table_is_bounded() {
        let mut table = Neighbours::new();
        for n in 0..2000_u32 {
            table.learn(Ipv4Addr::from_bits(n).into(), MAC, at(i64::from(n)));
        }
        assert_eq!(table.entries.len(), NEIGHBOURS_MAX);
        let mut table = Neighbours::new();
        for n in 0..2000_u32 {
            table.look_up(Ipv4Addr::from_bits(n).into(), Some(n), at(1));
        }
        assert_eq!(table.entries.len(), OPEN_MAX);
    }

    #[test]
    fn strangers_who_have_us_ask_take_nothing_from_who_is_known_and_from_our_own() {
        let mut table = Neighbours::new();
        table.learn(IP, MAC, at(1));
        for n in 0..2000_u32 {
            table.look_up(Ipv4Addr::from_bits(0x0b00_0000 + n).into(), None, at(2));
        }
        assert_eq!(table.look_up(IP, Some(1), at(2)), Neighbour::Known(MAC));
        assert_eq!(table.look_up(Ipv4Addr::new(10, 0, 0, 3).into(), Some(1), at(2)), Neighbour::Asked);
        assert_eq!(table.look_up(Ipv4Addr::new(10, 0, 0, 4).into(), None, at(2)), Neighbour::Silent);
    }

    #[test]
    fn frames_wait_in_their_order_and_within_bounds() {
        let mut table = Neighbours::new();
        let frame = |len| {
            let mut frame = Frame::heap(2000);
            frame.set_len(len);
            frame
        };
        assert!(!table.hold(IP, frame(1)), "nobody asks for it");
        table.look_up(IP, None, at(1));
        let held = (0..200).filter(|n| table.hold(IP, frame(*n))).count();
        assert_eq!((held, table.held), (WAITING_FRAMES_MAX, WAITING_FRAMES_MAX));
        let waited = table.learn(IP, MAC, at(1));
        assert!(waited.frames.iter().enumerate().all(|(n, frame)| frame.bytes().len() == n) && waited.flows.is_empty());
        assert!(!table.hold(IP, frame(1)), "it is known");
        let all: usize = (0..100_u32)
            .map(|n| {
                let ip = Ipv4Addr::from_bits(n).into();
                table.look_up(ip, None, at(1));
                (0..128).filter(|_| table.hold(ip, frame(1))).count()
            })
            .sum();
        assert_eq!(all, ALL_WAITING_FRAMES_MAX);
        let mut lost = 0;
        for second in 1..=4 {
            table.questions(at(second), |_| (), |waiting| lost += waiting.frames.len());
        }
        assert_eq!((lost, table.held), (ALL_WAITING_FRAMES_MAX, 0));
    }
}
