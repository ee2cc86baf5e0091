//! Buffers of the past, for what this worker holds next: the contents of frames, and what waits to be written.
//!
//! A content is held for as long as its request is under way, and hundreds may be. An allocator keeps a handful of each size at hand, and works for
//! the others; here the one that was given back last, whose memory is still near, is taken first.
//!
//! **Invariant:** a buffer that is taken is empty, whatever it held before; those that lie here have no more than [`SPARE_BYTES_MAX`] together.

use std::cell::{Cell, RefCell};

use bytes::Bytes;

/// An empty buffer, a recycled one if there is any.
pub(crate) fn take() -> Vec<u8> {
    let buffer = FREE.with_borrow_mut(Vec::pop).unwrap_or_default();
    HELD_BYTES.set(HELD_BYTES.get() - buffer.capacity());
    buffer
}

/// Gives a buffer back.
pub(crate) fn give(mut buffer: Vec<u8>) {
    // At thread exit the list may be gone already; then the buffer is simply freed.
    let _ = FREE.try_with(|free| {
        let held = HELD_BYTES.get() + buffer.capacity();
        if buffer.capacity() > 0 && buffer.capacity() <= SPARE_BUFFER_BYTES_MAX && held <= SPARE_BYTES_MAX {
            buffer.clear();
            HELD_BYTES.set(held);
            free.borrow_mut().push(buffer);
        }
    });
}

/// A copy of these bytes, which may be cloned without an allocation.
pub(crate) fn copy(bytes: &[u8]) -> Bytes {
    if bytes.len() < RECYCLED_BYTES_MIN {
        return Bytes::copy_from_slice(bytes);
    }
    let mut buffer = take();
    buffer.extend_from_slice(bytes);
    Bytes::from_owner(Recycled(buffer))
}

/// A buffer that comes back when nobody needs it any more.
struct Recycled(Vec<u8>);

impl AsRef<[u8]> for Recycled {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Recycled {
    fn drop(&mut self) {
        give(std::mem::take(&mut self.0));
    }
}

thread_local! {
    static FREE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    /// What those have room for.
    static HELD_BYTES: Cell<usize> = const { Cell::new(0) };
}

/// What the buffers that lie here have room for together, in bytes, at most.
const SPARE_BYTES_MAX: usize = 1 << 20;

/// A larger buffer is given back to the allocator, in bytes.
const SPARE_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Shorter contents are as cheap where the allocator puts them, in bytes.
const RECYCLED_BYTES_MIN: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_needs_is_used_again() {
        let bytes = vec![7; 1000];
        let first = copy(&bytes);
        let (place, second) = (first.as_ptr(), first.clone());
        drop(first);
        assert_eq!(second, bytes, "one of two is still there");
        drop(second);
        let again = copy(&[8; 500]);
        assert_eq!((again.as_ptr(), &again[..]), (place, &[8; 500][..]), "in the same place, and nothing of what was");
        assert!(copy(&bytes).as_ptr() != place, "which is in use");
    }

    #[test]
    fn no_more_lies_here_than_may() {
        give(Vec::with_capacity(SPARE_BUFFER_BYTES_MAX + 1));
        assert_eq!(take().capacity(), 0, "one is too large");
        for _ in 0..100 {
            give(Vec::with_capacity(SPARE_BUFFER_BYTES_MAX));
        }
        assert_eq!(HELD_BYTES.get(), SPARE_BYTES_MAX);
        let taken = std::iter::repeat_with(take).take_while(|buffer| buffer.capacity() > 0).count();
        assert_eq!((taken, HELD_BYTES.get()), (SPARE_BYTES_MAX / SPARE_BUFFER_BYTES_MAX, 0));
    }
}
