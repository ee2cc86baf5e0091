//! A ring of captured frames: the lcore writes, and whoever reads is outrun, never waited for.
//!
//! ```text
//! words  0 records written   1 first word of a slot: 2n+1 while record n is being written, 2n+2 behind it
//! slot   sequence   nanoseconds since 1970   length, kept bytes, port and direction   bytes of the frame ...
//! ```
//!
//! **Invariant:** writing takes no lock, no system call and no memory, and its cost is bounded by the bytes of a slot; a reader takes a record whole or
//! not at all, and counts those that it lost.

use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Where frames are kept: a slice of [`Words`](crate::words::Words).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ring<'a> {
    head: &'a AtomicU64,
    slots: &'a [AtomicU64],
    slot_words: usize,
}

/// A frame as it was captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Nanoseconds since 1970.
    pub(crate) at: u64,
    /// Its bytes, as far as they were kept.
    pub(crate) bytes: Vec<u8>,
    /// How many there were.
    pub(crate) len: u32,
    /// The port's number.
    pub(crate) port: u16,
    /// Whether it was sent.
    pub(crate) sent: bool,
}

/// A frame that is to be kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight<'a> {
    pub(crate) at: u64,
    pub(crate) bytes: &'a [u8],
    pub(crate) port: u16,
    pub(crate) sent: bool,
}

/// How far a reader has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    next: u64,
    /// Records that were overwritten before they were read.
    pub(crate) lost: u64,
}

/// The words that a ring of so many slots with so many bytes of each frame takes.
pub(crate) fn words(slots: usize, kept_bytes: usize) -> usize {
    1 + slots * slot_words(kept_bytes)
}

fn slot_words(kept_bytes: usize) -> usize {
    SLOT_HEADER_WORDS + kept_bytes.div_ceil(8)
}

impl<'a> Ring<'a> {
    /// The ring in `words`, as long as [`words`] says. Others make none.
    pub(crate) fn new(words: &'a [AtomicU64], kept_bytes: usize) -> Option<Self> {
        let (head, slots) = words.split_first()?;
        let slot_words = slot_words(kept_bytes);
        (!slots.is_empty() && slots.len().is_multiple_of(slot_words)).then_some(Self { head, slots, slot_words })
    }

    /// Keeps a frame in the place of the oldest. Only the owning lcore calls this.
    pub(crate) fn push(&self, sight: Sight<'_>) {
        let n = self.head.load(Ordering::Relaxed);
        let slot = self.slot(n);
        slot[0].store(2 * n + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        let kept = sight.bytes.len().min((self.slot_words - SLOT_HEADER_WORDS) * 8);
        let (len, kept_word) = (saturated(sight.bytes.len()), saturated(kept));
        slot[1].store(sight.at, Ordering::Relaxed);
        slot[2].store(
            u64::from(sight.sent) << 63 | u64::from(sight.port & 0x7fff) << 48 | kept_word << 24 | len,
            Ordering::Relaxed,
        );
        let (whole, rest) = sight.bytes[..kept].as_chunks::<8>();
        let mut data = slot[SLOT_HEADER_WORDS..].iter();
        data.by_ref().zip(whole).for_each(|(word, bytes)| word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed));
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            let at = SLOT_HEADER_WORDS + whole.len();
            slot[at].store(u64::from_ne_bytes(last), Ordering::Relaxed);
        }
        slot[0].store(2 * n + 2, Ordering::Release);
        self.head.store(n + 1, Ordering::Release);
    }

    /// The next record behind `cursor`, if there is one.
    pub(crate) fn next(&self, cursor: &mut Cursor) -> Option<Record> {
        loop {
            let head = self.head.load(Ordering::Acquire);
            let oldest = head.saturating_sub((self.slots.len() / self.slot_words) as u64);
            if cursor.next < oldest {
                cursor.lost += oldest - cursor.next;
                cursor.next = oldest;
            }
            if cursor.next >= head {
                return None;
            }
            let record = self.read(cursor.next);
            cursor.next += 1;
            match record {
                Some(record) => return Some(record),
                None => cursor.lost += 1,
            }
        }
    }

    /// Everything that a writer has left that is gone, the oldest first.
    pub(crate) fn left(&self) -> Vec<Record> {
        let mut numbers: Vec<u64> =
            self.slots.chunks(self.slot_words).map(|slot| slot[0].load(Ordering::Acquire)).collect();
        // 0: never written; odd: it was being written.
        numbers.retain(|n| *n > 0 && n.is_multiple_of(2));
        numbers.sort_unstable();
        numbers.iter().filter_map(|n| self.read(n / 2 - 1)).collect()
    }

    fn slot(&self, n: u64) -> &'a [AtomicU64] {
        let slots = (self.slots.len() / self.slot_words) as u64;
        let at = usize::try_from(n % slots).expect("less than the slots") * self.slot_words;
        &self.slots[at..at + self.slot_words]
    }

    /// Record `n`, if it is there and whole.
    fn read(&self, n: u64) -> Option<Record> {
        let slot = self.slot(n);
        let is_there = || slot[0].load(Ordering::Acquire) == 2 * n + 2;
        if !is_there() {
            return None;
        }
        let (at, what) = (slot[1].load(Ordering::Relaxed), slot[2].load(Ordering::Relaxed));
        let kept = usize::try_from(what >> 24 & 0xff_ffff).ok()?;
        if kept > (self.slot_words - SLOT_HEADER_WORDS) * 8 {
            return None;
        }
        let words = &slot[SLOT_HEADER_WORDS..SLOT_HEADER_WORDS + kept.div_ceil(8)];
        let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.load(Ordering::Relaxed).to_ne_bytes()).collect();
        bytes.truncate(kept);
        fence(Ordering::Acquire);
        let len = u32::try_from(what & 0xff_ffff).ok()?;
        let port = u16::try_from(what >> 48 & 0x7fff).ok()?;
        is_there().then_some(Record { at, bytes, len, port, sent: what >> 63 == 1 })
    }
}

/// In 24 bits.
fn saturated(bytes: usize) -> u64 {
    (bytes as u64).min(0xff_ffff)
}

const SLOT_HEADER_WORDS: usize = 3;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;
    use crate::words::Words;

    fn sight(at: u64, bytes: &[u8]) -> Sight<'_> {
        Sight { at, bytes, port: 3, sent: at.is_multiple_of(2) }
    }

    #[test]
    fn records_come_back_as_they_were_and_who_is_slow_loses_the_oldest() {
        let memory = Words::own(words(4, 20));
        let ring = Ring::new(memory.all(), 20).unwrap();
        let mut cursor = Cursor::default();
        assert_eq!(ring.next(&mut cursor), None);
        let long: Vec<u8> = (0..100).collect();
        ring.push(sight(5, b"short"));
        ring.push(sight(6, &long));
        ring.push(sight(7, b""));
        let wanted = |at, bytes: &[u8], len| Record { at, bytes: bytes.to_vec(), len, port: 3, sent: at == 6 };
        assert_eq!(ring.next(&mut cursor), Some(wanted(5, b"short", 5)));
        assert_eq!(ring.next(&mut cursor), Some(wanted(6, &long[..24], 100)), "whole words are kept");
        assert_eq!(ring.next(&mut cursor), Some(wanted(7, b"", 0)));
        assert_eq!((ring.next(&mut cursor), cursor.lost), (None, 0));
        (0..10).for_each(|n| ring.push(sight(n, b"x")));
        let read: Vec<_> = std::iter::from_fn(|| ring.next(&mut cursor)).map(|r| r.at).collect();
        assert_eq!((read, cursor.lost), (vec![6, 7, 8, 9], 6));
        assert_eq!(ring.left().iter().map(|r| r.at).collect::<Vec<_>>(), [6, 7, 8, 9]);
        assert!(Ring::new(&memory.all()[..5], 20).is_none() && Ring::new(&[], 20).is_none());
    }

    #[test]
    fn a_reader_beside_the_writer_sees_whole_records_and_misses_none_without_counting_it() {
        const RECORDS: u64 = 200_000;
        let memory = Arc::new(Words::own(words(64, 64)));
        let writer = {
            let memory = Arc::clone(&memory);
            thread::spawn(move || {
                let ring = Ring::new(memory.all(), 64).unwrap();
                (0..RECORDS).for_each(|n| ring.push(sight(n, &n.to_ne_bytes().repeat(8))));
            })
        };
        let ring = Ring::new(memory.all(), 64).unwrap();
        let (mut cursor, mut seen, mut last) = (Cursor::default(), 0, None);
        loop {
            let done = writer.is_finished();
            while let Some(record) = ring.next(&mut cursor) {
                assert_eq!(record.bytes, record.at.to_ne_bytes().repeat(8));
                assert!(last < Some(record.at));
                (last, seen) = (Some(record.at), seen + 1);
            }
            if done {
                break;
            }
        }
        assert_eq!((seen + cursor.lost, last), (RECORDS, Some(RECORDS - 1)));
        writer.join().unwrap();
    }
}
