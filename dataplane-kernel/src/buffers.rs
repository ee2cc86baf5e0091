//! The worker's buffers: one scratch buffer that everything is read into, and a free list for what has to be kept.
//!
//! **Invariant:** never shared between threads; the free list and each buffer in it are bounded.

use std::cell::{Cell, OnceCell, RefCell};

use ferrogate_core::net::{BURST_DATAGRAMS_MAX, DATAGRAM_BYTES_MAX};

use crate::pipes::Pipes;

/// What the connections of one worker share.
pub(crate) struct Buffers {
    /// Where sockets are read into. Borrowed only within one call of a connection.
    pub(crate) scratch: RefCell<Box<[u8]>>,
    #[allow(clippy::vec_box, reason = "the box is what moves between this list and a connection")]
    free: RefCell<Vec<Box<Kept>>>,
    /// The memory of all kept buffers, free ones too.
    held_bytes: Cell<usize>,
    pub(crate) pipes: Pipes,
    burst: OnceCell<RefCell<Box<[u8]>>>,
}

impl Buffers {
    pub(crate) fn new() -> Self {
        Self {
            scratch: RefCell::new(vec![0; SCRATCH_BYTES].into()),
            free: RefCell::new(Vec::new()),
            held_bytes: Cell::new(0),
            pipes: Pipes::default(),
            burst: OnceCell::new(),
        }
    }

    /// Where bursts of datagrams are received. Made when there is the first socket for them; borrowed only within one call.
    pub(crate) fn burst(&self) -> &RefCell<Box<[u8]>> {
        self.burst.get_or_init(|| {
            let room = vec![0; BURST_DATAGRAMS_MAX * DATAGRAM_BYTES_MAX];
            self.resized(0, room.len());
            RefCell::new(room.into())
        })
    }

    /// The memory of all kept buffers, and what lies in pipes, in bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes.get() + self.pipes.held_bytes()
    }

    /// A buffer's memory is no longer `before` bytes but `now`.
    fn resized(&self, before: usize, now: usize) {
        self.held_bytes.set(self.held_bytes.get() + now - before);
    }

    /// An empty buffer, used before if there is one.
    fn take(&self) -> Box<Kept> {
        let free = self.free.borrow_mut().pop();
        free.unwrap_or_else(|| {
            let kept = Kept { bytes: vec![0; KEPT_BYTES], start: 0, end: 0 };
            self.resized(0, kept.bytes.capacity());
            Box::new(kept)
        })
    }

    /// Gives a buffer back, unless it has grown or the list is full.
    fn give(&self, mut kept: Box<Kept>) {
        let mut free = self.free.borrow_mut();
        if kept.bytes.capacity() == KEPT_BYTES && free.len() < FREE_BUFFERS_MAX {
            (kept.start, kept.end) = (0, 0);
            free.push(kept);
        } else {
            self.resized(kept.bytes.capacity(), 0);
        }
    }
}

/// Bytes that a connection holds for a while. Owns no memory while it is empty, and is a pointer wide: there are two to a connection.
#[derive(Default)]
pub(crate) struct Held(Option<Box<Kept>>);

/// A buffer that holds `start..end`. All of `bytes` has been written once and is not cleared again: to zero the room of each answer would
/// cost more than to parse its head.
struct Kept {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Held {
    pub(crate) fn len(&self) -> usize {
        self.bytes().len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |kept| &kept.bytes[kept.start..kept.end])
    }

    /// Removes the first `n` bytes; the memory goes back with the last.
    pub(crate) fn consume(&mut self, n: usize, buffers: &Buffers) {
        let Some(kept) = &mut self.0 else { return };
        kept.start += n;
        debug_assert!(kept.start <= kept.end, "a reader used more than it was shown");
        if kept.start >= kept.end {
            self.release(buffers);
        }
    }

    pub(crate) fn append(&mut self, bytes: &[u8], buffers: &Buffers) {
        let kept = self.with_room(bytes.len(), buffers);
        kept.bytes[kept.end..][..bytes.len()].copy_from_slice(bytes);
        kept.end += bytes.len();
    }

    /// Lends `len` bytes of room behind what is held; `f` says how many it filled. What the room holds before is left from earlier use.
    pub(crate) fn fill<R>(&mut self, len: usize, buffers: &Buffers, f: impl FnOnce(&mut [u8]) -> (usize, R)) -> R {
        let kept = self.with_room(len, buffers);
        let (used, result) = f(&mut kept.bytes[kept.end..][..len]);
        debug_assert!(used <= len, "a writer used more room than it was lent");
        kept.end += used.min(len);
        if self.is_empty() {
            self.release(buffers);
        }
        result
    }

    /// Gives the memory back, and with it whatever was held.
    pub(crate) fn release(&mut self, buffers: &Buffers) {
        if let Some(kept) = self.0.take() {
            buffers.give(kept);
        }
    }

    /// The buffer, with `len` bytes of room at least behind what it holds.
    fn with_room(&mut self, len: usize, buffers: &Buffers) -> &mut Kept {
        let kept = self.0.get_or_insert_with(|| buffers.take());
        if kept.end + len > kept.bytes.len() {
            kept.make_room(len, buffers);
        }
        kept
    }
}

impl Kept {
    /// Moves what is held to the front, and grows if that is not enough.
    fn make_room(&mut self, len: usize, buffers: &Buffers) {
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.end + len > self.bytes.len() {
            let before = self.bytes.capacity();
            self.bytes.resize(self.end + len, 0);
            buffers.resized(before, self.bytes.capacity());
        }
    }
}

/// The scratch buffer: what one read takes from a socket at most, in bytes.
pub(crate) const SCRATCH_BYTES: usize = 64 * 1024;

/// The size of a kept buffer, in bytes; larger ones go back to the allocator.
const KEPT_BYTES: usize = 32 * 1024;

/// Kept buffers of one worker, at most.
const FREE_BUFFERS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_bytes_come_back_in_order_and_the_memory_goes_back() {
        let buffers = Buffers::new();
        let mut held = Held::default();
        held.append(b"abc", &buffers);
        held.consume(2, &buffers);
        held.append(b"def", &buffers);
        assert_eq!(held.bytes(), b"cdef");
        held.fill(10, &buffers, |room| {
            room[..1].copy_from_slice(b"g");
            (1, ())
        });
        assert_eq!(held.bytes(), b"cdefg");
        held.consume(5, &buffers);
        assert!(held.is_empty());
        assert_eq!((held.0.is_none(), buffers.free.borrow().len(), buffers.held_bytes()), (true, 1, KEPT_BYTES));
        held.append(&[0; 3 * KEPT_BYTES], &buffers);
        assert!(buffers.held_bytes() >= 3 * KEPT_BYTES, "what has grown counts as it is");
        held.release(&buffers);
        assert_eq!(buffers.held_bytes(), 0, "and goes back to the allocator");
    }

    #[test]
    fn what_is_used_up_makes_room_for_what_comes() {
        let (buffers, mut held) = (Buffers::new(), Held::default());
        held.append(&[0; 100], &buffers);
        for turn in 1..=250 {
            held.append(&[turn; 999], &buffers);
            held.fill(1, &buffers, |room| {
                room[0] = turn;
                (1, ())
            });
            held.consume(1000, &buffers);
            assert_eq!(held.bytes(), [turn; 100]);
        }
        assert_eq!(buffers.held_bytes(), KEPT_BYTES);
    }
}
