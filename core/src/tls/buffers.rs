//! The memory of TLS connections on one worker: one scratch to open records into, and a free list of send buffers.
//!
//! **Invariant:** taken for as long as something lies in it, given back at once; the free list is bounded.

use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};

/// The worker's scratch for opened records. Given back when dropped.
pub(super) struct Scratch(Box<[u8]>);

impl Scratch {
    /// Takes it; makes another in the unlikely case that it is taken.
    pub(super) fn take() -> Self {
        Self(SCRATCH.take().unwrap_or_else(|| vec![0; SCRATCH_BYTES].into_boxed_slice()))
    }
}

impl Deref for Scratch {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Not there when the thread ends: then the memory just goes.
        let _ = SCRATCH.try_with(|cell| cell.set(Some(std::mem::take(&mut self.0))));
    }
}

/// Plaintext that was written and not sealed yet. Owns a buffer only while something lies in it.
#[derive(Default)]
pub(super) struct Unsent {
    buffer: Option<Box<[u8]>>,
    start: usize,
    end: usize,
}

impl Unsent {
    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], |b| &b[self.start..self.end])
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.buffer.as_ref().map_or(0, |b| b.len())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Makes room of `wish` bytes behind what lies here. False: sealing must come first.
    pub(super) fn make_room(&mut self, wish: usize) -> bool {
        let Some(buffer) = &mut self.buffer else { return wish <= UNSENT_BYTES_MAX };
        if buffer.len() - self.end < wish && self.start > 0 {
            buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        buffer.len() - self.end >= wish
    }

    /// Lends the room to `f` and keeps as many bytes as it says it wrote.
    pub(super) fn fill<R>(&mut self, f: impl FnOnce(&mut [u8]) -> (usize, R)) -> R {
        let buffer = self.buffer.get_or_insert_with(take_buffer);
        let room = &mut buffer[self.end..];
        let room_bytes = room.len();
        let (written, result) = f(room);
        self.end += written.min(room_bytes);
        self.release_if_empty();
        result
    }

    /// Removes `len` bytes from the front.
    pub(super) fn advance(&mut self, len: usize) {
        self.start = (self.start + len).min(self.end);
        self.release_if_empty();
    }

    pub(super) fn clear(&mut self) {
        self.start = self.end;
        self.release_if_empty();
    }

    fn release_if_empty(&mut self) {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            if let Some(buffer) = self.buffer.take() {
                give_buffer(buffer);
            }
        }
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        self.clear();
    }
}

fn take_buffer() -> Box<[u8]> {
    FREE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; UNSENT_BYTES_MAX].into_boxed_slice())
}

fn give_buffer(buffer: Box<[u8]>) {
    let _ = FREE.try_with(|free| {
        let mut free = free.borrow_mut();
        if free.len() < FREE_BUFFERS_MAX {
            free.push(buffer);
        }
    });
}

thread_local! {
    static SCRATCH: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
    static FREE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Plaintext opened in one look: four of the largest records.
const SCRATCH_BYTES: usize = 64 * 1024;
/// Plaintext of one connection that waits to be sealed, at most: one largest record, and as much room again.
pub(super) const UNSENT_BYTES_MAX: usize = 32 * 1024;
/// Send buffers kept for later on one worker, at most (2 MiB).
const FREE_BUFFERS_MAX: usize = 64;
