//! The worker's buffers: one scratch buffer that everything is read into, and a free list for what has to be kept.
//!
//! **Invariant:** never shared between threads; the free list and each buffer in it are bounded.

use std::cell::{Cell, RefCell};

/// What the connections of one worker share.
pub(crate) struct Buffers {
    /// Where sockets are read into. Borrowed only within one call of a connection.
    pub(crate) scratch: RefCell<Box<[u8]>>,
    #[allow(clippy::vec_box, reason = "the box is what moves between this list and a connection")]
    free: RefCell<Vec<Box<Kept>>>,
    /// The memory of all kept buffers, free ones too.
    held_bytes: Cell<usize>,
}

impl Buffers {
    pub(crate) fn new() -> Self {
        Self {
            scratch: RefCell::new(vec![0; SCRATCH_BYTES].into()),
            free: RefCell::new(Vec::new()),
            held_bytes: Cell::new(0),
        }
    }

    /// The memory of all kept buffers, in bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes.get()
    }

    /// A buffer's memory is no longer `before` bytes but `now`.
    fn resized(&self, before: usize, now: usize) {
        self.held_bytes.set(self.held_bytes.get() + now - before);
    }

    /// An empty buffer, used before if there is one.
    fn take(&self) -> Box<Kept> {
        let free = self.free.borrow_mut().pop();
        free.unwrap_or_else(|| {
            let kept = Kept { bytes: Vec::with_capacity(KEPT_BYTES), start: 0 };
            self.resized(0, kept.bytes.capacity());
            Box::new(kept)
        })
    }

    /// Gives a buffer back, unless it has grown or the list is full.
    fn give(&self, mut kept: Box<Kept>) {
        let mut free = self.free.borrow_mut();
        if kept.bytes.capacity() == KEPT_BYTES && free.len() < FREE_BUFFERS_MAX {
            kept.bytes.clear();
            kept.start = 0;
            free.push(kept);
        } else {
            self.resized(kept.bytes.capacity(), 0);
        }
    }
}

/// Bytes that a connection holds for a while. Owns no memory while it is empty, and is a pointer wide: there are two to a connection.
#[derive(Default)]
pub(crate) struct Held(Option<Box<Kept>>);

/// A buffer of which the first `start` bytes are used up.
struct Kept {
    bytes: Vec<u8>,
    start: usize,
}

impl Held {
    pub(crate) fn len(&self) -> usize {
        self.bytes().len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |kept| &kept.bytes[kept.start..])
    }

    /// Removes the first `n` bytes; the memory goes back with the last.
    pub(crate) fn consume(&mut self, n: usize, buffers: &Buffers) {
        let Some(kept) = &mut self.0 else { return };
        kept.start += n;
        debug_assert!(kept.start <= kept.bytes.len(), "a reader used more than it was shown");
        if kept.start >= kept.bytes.len() {
            self.release(buffers);
        }
    }

    pub(crate) fn append(&mut self, bytes: &[u8], buffers: &Buffers) {
        let kept = self.prepare(buffers);
        let before = kept.capacity();
        kept.extend_from_slice(bytes);
        buffers.resized(before, kept.capacity());
    }

    /// Lends `len` bytes of room behind what is held; `f` says how many it filled.
    pub(crate) fn fill<R>(&mut self, len: usize, buffers: &Buffers, f: impl FnOnce(&mut [u8]) -> (usize, R)) -> R {
        let room = self.prepare(buffers);
        let end = room.len();
        let before = room.capacity();
        room.resize(end + len, 0);
        buffers.resized(before, room.capacity());
        let (used, result) = f(&mut room[end..]);
        debug_assert!(used <= len, "a writer used more room than it was lent");
        room.truncate(end + used.min(len));
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

    fn prepare(&mut self, buffers: &Buffers) -> &mut Vec<u8> {
        let kept = self.0.get_or_insert_with(|| buffers.take());
        if kept.start > kept.bytes.len() / 2 {
            kept.bytes.drain(..kept.start);
            kept.start = 0;
        }
        &mut kept.bytes
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
}
