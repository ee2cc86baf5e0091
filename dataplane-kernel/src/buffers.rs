//! The worker's buffers: one scratch buffer that everything is read into, and a free list for what has to be kept.
//!
//! **Invariant:** never shared between threads; the free list and each buffer in it are bounded.

use std::cell::RefCell;

/// What the connections of one worker share.
pub(crate) struct Buffers {
    /// Where sockets are read into. Borrowed only within one call of a connection.
    pub(crate) scratch: RefCell<Box<[u8]>>,
    free: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    pub(crate) fn new() -> Self {
        Self { scratch: RefCell::new(vec![0; SCRATCH_BYTES].into()), free: RefCell::new(Vec::new()) }
    }

    /// An empty buffer, used before if there is one.
    fn take(&self) -> Vec<u8> {
        self.free.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(KEPT_BYTES))
    }

    /// Gives a buffer back, unless it has grown or the list is full.
    fn give(&self, mut buffer: Vec<u8>) {
        let mut free = self.free.borrow_mut();
        if buffer.capacity() == KEPT_BYTES && free.len() < FREE_BUFFERS_MAX {
            buffer.clear();
            free.push(buffer);
        }
    }
}

/// Bytes that a connection holds for a while. Owns no memory while it is empty.
#[derive(Default)]
pub(crate) struct Held {
    buffer: Vec<u8>,
    start: usize,
}

impl Held {
    pub(crate) fn len(&self) -> usize {
        self.buffer.len() - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Removes the first `n` bytes; the memory goes back with the last.
    pub(crate) fn consume(&mut self, n: usize, buffers: &Buffers) {
        self.start += n;
        debug_assert!(self.start <= self.buffer.len(), "a reader used more than it was shown");
        if self.start >= self.buffer.len() {
            self.release(buffers);
        }
    }

    pub(crate) fn append(&mut self, bytes: &[u8], buffers: &Buffers) {
        self.prepare(buffers);
        self.buffer.extend_from_slice(bytes);
    }

    /// Lends `len` bytes of room behind what is held; `f` says how many it filled.
    pub(crate) fn fill<R>(&mut self, len: usize, buffers: &Buffers, f: impl FnOnce(&mut [u8]) -> (usize, R)) -> R {
        self.prepare(buffers);
        let end = self.buffer.len();
        self.buffer.resize(end + len, 0);
        let (used, result) = f(&mut self.buffer[end..]);
        debug_assert!(used <= len, "a writer used more room than it was lent");
        self.buffer.truncate(end + used.min(len));
        if self.is_empty() {
            self.release(buffers);
        }
        result
    }

    /// Gives the memory back, and with it whatever was held.
    pub(crate) fn release(&mut self, buffers: &Buffers) {
        self.start = 0;
        if self.buffer.capacity() > 0 {
            buffers.give(std::mem::take(&mut self.buffer));
        }
    }

    fn prepare(&mut self, buffers: &Buffers) {
        if self.buffer.capacity() == 0 {
            self.buffer = buffers.take();
        } else if self.start > self.buffer.len() / 2 {
            self.buffer.drain(..self.start);
            self.start = 0;
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
        assert_eq!((held.buffer.capacity(), buffers.free.borrow().len()), (0, 1));
    }
}
