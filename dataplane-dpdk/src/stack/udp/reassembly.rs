//! Datagrams that come in fragments (RFC 791, 3.2, and RFC 8200, 4.5), put together again.
//!
//! **Invariant:** bytes that came once are never changed by what comes later: a datagram whose fragments disagree is thrown away whole (RFC 5722).
//! What is incomplete is bounded in bytes and in time, and when there is too much of it the oldest gives way: a whole datagram's fragments come
//! close together, so that who wants to keep others out has to send faster than they do.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;

use smoltcp::time::{Duration, Instant};

use crate::counters::DropReason;

/// Which datagram a fragment is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::stack) struct Whole {
    pub(in crate::stack) peer: IpAddr,
    pub(in crate::stack) local: IpAddr,
    pub(in crate::stack) id: u32,
}

/// Where a fragment belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::stack) struct Place {
    pub(in crate::stack) whole: Whole,
    /// In bytes.
    pub(in crate::stack) offset: usize,
    /// Whether there are more behind it.
    pub(in crate::stack) more: bool,
}

/// The datagrams of one stack that are incomplete.
#[derive(Debug, Default)]
pub(super) struct Reassembly {
    parts: HashMap<Whole, Parts>,
    /// In the order of their beginning, with those that are done or given up by now.
    order: VecDeque<(Whole, u64)>,
    /// The number of the last one that was begun.
    begun: u64,
    /// Memory that they take.
    bytes: usize,
}

/// What has come of one datagram.
#[derive(Debug)]
struct Parts {
    number: u64,
    since: Instant,
    /// By their places; no two overlap.
    fragments: BTreeMap<usize, Box<[u8]>>,
    /// Bytes that have come.
    bytes: usize,
    /// Where the furthest of them ends.
    furthest: usize,
    /// Its whole length, once the last fragment has come.
    len: Option<usize>,
}

/// What became of a fragment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// More are to come.
    Kept,
    /// It was the last that was missing: all of them.
    Whole(Vec<u8>),
    /// It is lost, and so many fragments before it.
    Lost(DropReason, u64),
}

impl Reassembly {
    /// Memory for what is incomplete, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is incomplete.
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Adds a fragment. `lost` hears of how many others gave way to it.
    pub(super) fn add(
        &mut self,
        place: Place,
        fragment: &[u8],
        bytes_max: usize,
        now: Instant,
        mut lost: impl FnMut(u64),
    ) -> Added {
        let end = place.offset + fragment.len();
        let is_cut_well = !place.more || fragment.len().is_multiple_of(BLOCK);
        if fragment.is_empty() || !is_cut_well || end > DATAGRAM_BYTES_MAX {
            return Added::Lost(DropReason::Malformed, 0);
        }
        let parts = self.parts.entry(place.whole).or_insert_with(|| {
            self.begun += 1;
            self.order.push_back((place.whole, self.begun));
            self.bytes += PARTS_BYTES;
            Parts::new(self.begun, now)
        });
        let before = parts.memory();
        let added = parts.add(place, fragment);
        self.bytes = self.bytes + parts.memory() - before;
        match added {
            Ok(false) => {}
            Ok(true) => return self.remove(place.whole).map_or(Added::Kept, |parts| Added::Whole(parts.joined())),
            Err(Disagreement::Copy) => return Added::Lost(DropReason::FragmentOverlap, 0),
            Err(Disagreement::Overlap) => {
                let fragments = self.remove(place.whole).map_or(0, |parts| parts.count());
                return Added::Lost(DropReason::FragmentOverlap, fragments);
            }
        }
        while self.bytes > bytes_max {
            let Some(oldest) = self.pop_oldest(|_| true) else { break };
            lost(oldest.count());
        }
        Added::Kept
    }

    /// Gives up what has been incomplete for `timeout`. Says how many fragments that were.
    pub(super) fn expire(&mut self, timeout: Duration, now: Instant) -> u64 {
        let mut fragments = 0;
        while let Some(parts) = self.pop_oldest(|since| since + timeout <= now) {
            fragments += parts.count();
        }
        fragments
    }

    /// When the oldest was begun.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.order.iter().find_map(|(whole, number)| {
            self.parts.get(whole).filter(|parts| parts.number == *number).map(|parts| parts.since)
        })
    }

    /// Takes the oldest out if it began at a time that `is_it` likes.
    fn pop_oldest(&mut self, is_it: impl Fn(Instant) -> bool) -> Option<Parts> {
        while let Some(&(whole, number)) = self.order.front() {
            match self.parts.get(&whole).filter(|parts| parts.number == number) {
                Some(parts) if !is_it(parts.since) => return None,
                Some(_) => {
                    self.order.pop_front();
                    return self.remove(whole);
                }
                // It is done already, and may have been begun again.
                None => drop(self.order.pop_front()),
            }
        }
        None
    }

    fn remove(&mut self, whole: Whole) -> Option<Parts> {
        let parts = self.parts.remove(&whole)?;
        self.bytes -= parts.memory();
        // Those that are done leave the list together, behind one that is not.
        if self.order.len() > 2 * self.parts.len() + ORDER_SLACK {
            let Self { order, parts, .. } = self;
            order.retain(|(whole, number)| parts.get(whole).is_some_and(|parts| parts.number == *number));
        }
        Some(parts)
    }
}

/// A fragment that does not fit to those before it.
enum Disagreement {
    /// It brings nothing new.
    Copy,
    /// It says something else of the same bytes, or of the length.
    Overlap,
}

impl Parts {
    fn new(number: u64, since: Instant) -> Self {
        Self { number, since, fragments: BTreeMap::new(), bytes: 0, furthest: 0, len: None }
    }

    /// What it takes: nothing for what has not come, so that a few bytes of a long datagram cost no more than others.
    fn memory(&self) -> usize {
        PARTS_BYTES + self.bytes + self.fragments.len() * FRAGMENT_BYTES
    }

    fn count(&self) -> u64 {
        self.fragments.len() as u64
    }

    /// Adds a fragment; true when it was the last that was missing.
    fn add(&mut self, place: Place, fragment: &[u8]) -> Result<bool, Disagreement> {
        let Place { offset, more, .. } = place;
        let end = offset + fragment.len();
        // Of those that begin in front of its end the last reaches furthest.
        if let Some((&start, other)) = self.fragments.range(..end).next_back()
            && start + other.len() > offset
        {
            let is_copy = start == offset && **other == *fragment && (more || self.len == Some(end));
            return Err(if is_copy { Disagreement::Copy } else { Disagreement::Overlap });
        }
        let furthest = self.furthest.max(end);
        let is_last_twice = !more && self.len.is_some();
        let len = if more { self.len } else { Some(end) };
        if is_last_twice || len.is_some_and(|len| furthest > len || (more && end >= len)) {
            return Err(Disagreement::Overlap);
        }
        (self.len, self.furthest) = (len, furthest);
        self.bytes += fragment.len();
        self.fragments.insert(offset, fragment.into());
        Ok(len == Some(self.bytes))
    }

    /// All of them, one behind the other.
    fn joined(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bytes);
        self.fragments.values().for_each(|fragment| bytes.extend_from_slice(fragment));
        bytes
    }
}

/// All fragments but the last end at such a step.
const BLOCK: usize = 8;
/// A packet's payload in bytes, at most (over IPv4 it is 20 less).
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// How much longer than needed the list of what is incomplete may be, besides twice as long.
const ORDER_SLACK: usize = 64;
/// What the tables take for each datagram that is incomplete, about.
const PARTS_BYTES: usize = 256;
/// The same for each of its fragments.
const FRAGMENT_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn whole(id: u32) -> Whole {
        Whole { peer: Ipv4Addr::new(10, 0, 0, 2).into(), local: Ipv4Addr::new(10, 0, 0, 1).into(), id }
    }

    fn at(offset: usize, more: bool) -> Place {
        Place { whole: whole(7), offset, more }
    }

    fn add(reassembly: &mut Reassembly, place: Place, bytes: &[u8]) -> Added {
        reassembly.add(place, bytes, 1 << 20, Instant::from_secs(1), |_| panic!("nothing gives way"))
    }

    #[test]
    fn fragments_come_in_any_order() {
        let datagram: Vec<u8> = (0..100).collect();
        // The places of the cuts, in the order that they come in.
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
            let mut reassembly = Reassembly::default();
            for (n, part) in order.into_iter().enumerate() {
                let (start, end) = ([0, 40, 80][part], [40, 80, 100][part]);
                let added = add(&mut reassembly, at(start, part < 2), &datagram[start..end]);
                let expected = if n == 2 { Added::Whole(datagram.clone()) } else { Added::Kept };
                assert_eq!(added, expected, "{order:?}");
            }
            assert!(reassembly.is_empty() && reassembly.bytes() == 0 && reassembly.oldest().is_none());
        }
        // One that is whole in itself (RFC 6946).
        assert_eq!(add(&mut Reassembly::default(), at(0, false), b"abc"), Added::Whole(b"abc".to_vec()));
    }

    #[test]
    fn what_disagrees_takes_its_datagram_with_it() {
        let lost = |fragments| Added::Lost(DropReason::FragmentOverlap, fragments);
        let cases: [(Place, &[u8], Added); 7] = [
            (at(0, true), &[1; 16], lost(0)),
            (at(0, true), &[2; 16], lost(2)),
            (at(8, true), &[1; 16], lost(2)),
            (at(32, true), &[1; 16], lost(2)),
            (at(40, true), &[1; 8], lost(2)),
            (at(16, false), &[1; 8], lost(2)),
            (at(32, false), &[1; 8], lost(0)),
        ];
        for (place, bytes, expected) in cases {
            let mut reassembly = Reassembly::default();
            assert_eq!(add(&mut reassembly, at(0, true), &[1; 16]), Added::Kept);
            assert_eq!(add(&mut reassembly, at(32, false), &[1; 8]), Added::Kept);
            assert_eq!(add(&mut reassembly, place, bytes), expected, "{place:?}");
            let is_over = expected != lost(0);
            assert_eq!(reassembly.is_empty(), is_over, "{place:?}");
            if !is_over {
                let all = [vec![1; 16], vec![3; 16], vec![1; 8]].concat();
                assert_eq!(add(&mut reassembly, at(16, true), &[3; 16]), Added::Whole(all));
            }
        }
    }

    #[test]
    fn what_no_sender_cuts_is_refused() {
        let mut reassembly = Reassembly::default();
        for (place, bytes) in [(at(0, true), &[0; 9][..]), (at(8, true), &[]), (at(65_528, false), &[0; 8])] {
            assert_eq!(add(&mut reassembly, place, bytes), Added::Lost(DropReason::Malformed, 0), "{place:?}");
        }
        assert!(reassembly.is_empty());
        let largest = vec![5; 65_515];
        assert_eq!(add(&mut reassembly, at(65_480, false), &largest[65_480..]), Added::Kept);
        for offset in (0..65_480).step_by(1480) {
            let end = (offset + 1480).min(65_480);
            let added = add(&mut reassembly, at(offset, true), &largest[offset..end]);
            assert_eq!(added == Added::Whole(largest.clone()), end == 65_480);
        }
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_gives_way() {
        let (mut reassembly, mut lost) = (Reassembly::default(), 0);
        for id in 0..100 {
            let place = Place { whole: whole(id), offset: 8, more: true };
            let now = Instant::from_millis(i64::from(id));
            assert_eq!(reassembly.add(place, &[0; 60_000], 1 << 20, now, |n| lost += n), Added::Kept);
            assert!(reassembly.bytes() <= 1 << 20);
        }
        let kept = reassembly.parts.len();
        assert!((10..=17).contains(&kept), "{kept}");
        assert_eq!(lost, 100 - kept as u64);
        assert_eq!(reassembly.oldest(), Some(Instant::from_millis(100 - kept as i64)));
    }

    /// Who sends eight bytes of the end of a datagram has us keep eight bytes, not the datagram.
    #[test]
    fn a_fragment_takes_what_it_brings() {
        let mut reassembly = Reassembly::default();
        for n in 0..100 {
            assert_eq!(add(&mut reassembly, at(65_000 - 16 * n, true), &[1; 8]), Added::Kept);
        }
        assert!(reassembly.bytes() < 10_000, "{}", reassembly.bytes());
        let lost = Added::Lost(DropReason::FragmentOverlap, 100);
        assert_eq!(add(&mut reassembly, at(64_000, true), &[2; 16]), lost, "it overlaps one of many");
        assert_eq!(reassembly.bytes(), 0);
    }

    #[test]
    fn the_list_stays_short_behind_one_that_is_never_done() {
        let mut reassembly = Reassembly::default();
        add(&mut reassembly, at(8, true), &[0; 8]);
        for id in 100..10_000 {
            let place = |offset| Place { whole: whole(id), offset, more: offset == 0 };
            assert_eq!(add(&mut reassembly, place(0), &[0; 8]), Added::Kept);
            assert_eq!(add(&mut reassembly, place(8), &[0; 8]), Added::Whole(vec![0; 16]));
            assert!(reassembly.order.len() <= ORDER_SLACK + 4);
        }
        assert_eq!(reassembly.parts.len(), 1);
    }

    #[test]
    fn what_stays_incomplete_is_given_up_in_time() {
        let mut reassembly = Reassembly::default();
        for id in 0..4 {
            let place = Place { whole: whole(id), offset: 8, more: true };
            reassembly.add(place, &[0; 8], 1 << 20, Instant::from_secs(i64::from(id)), |_| ());
        }
        let timeout = Duration::from_secs(5);
        assert_eq!(reassembly.expire(timeout, Instant::from_secs(4)), 0);
        assert_eq!(reassembly.expire(timeout, Instant::from_secs(6)), 2);
        assert_eq!(reassembly.oldest(), Some(Instant::from_secs(2)));
        assert_eq!(reassembly.expire(timeout, Instant::from_secs(60)), 2);
        assert!(reassembly.is_empty() && reassembly.order.is_empty() && reassembly.bytes() == 0);
    }
}
