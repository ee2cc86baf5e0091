//! Flow control (RFC 9113, 5.2 and 6.9): what may be sent, and what the peer may send.
//!
//! **Invariant:** what a peer may send and we hold is never more than the window that it was given.

use crate::codec::http2::WINDOW_BYTES_MAX;

/// What we may send: on a stream, or on the connection. Below zero after the peer has made its windows smaller (RFC 9113, 6.9.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SendWindow(i64);

/// What the peer may send.
///
/// The window is what is promised and not used. What is consumed is promised again in large pieces. A receiver that has consumed everything
/// by then is faster than the wire, and its window is doubled up to a limit: a small window would be what slows the wire down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecvWindow {
    /// What the peer may still send.
    open: u32,
    /// Consumed, and not promised again yet.
    consumed: u32,
    /// What is promised in all when nothing is held.
    size: u32,
    size_max: u32,
}

/// The peer sends more than it was promised, or promises more than there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exceeded;

impl SendWindow {
    pub(super) fn new(bytes: u32) -> Self {
        Self(i64::from(bytes))
    }

    /// How much may be sent.
    pub(super) fn room(self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    /// So many bytes were sent, no more than there was room for.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.0 -= i64::try_from(bytes).expect("no more than the window");
        debug_assert!(self.0 >= 0, "more was sent than there was room for");
    }

    /// The peer has promised more.
    pub(super) fn open(&mut self, increment: u32) -> Result<(), Exceeded> {
        self.shift(i64::from(increment))
    }

    /// The peer has changed the size of all its windows.
    pub(super) fn shift(&mut self, by: i64) -> Result<(), Exceeded> {
        let window = self.0 + by;
        if window > i64::from(WINDOW_BYTES_MAX) {
            return Err(Exceeded);
        }
        self.0 = window;
        Ok(())
    }
}

impl RecvWindow {
    /// A window that the peer takes to be `size` large.
    pub(super) fn new(size: u32, size_max: u32) -> Self {
        Self { open: size, consumed: 0, size, size_max: size_max.max(size) }
    }

    /// What has come and is not consumed.
    pub(super) fn held(self) -> usize {
        (self.size - self.open - self.consumed) as usize
    }

    /// So many bytes have come.
    pub(super) fn take(&mut self, bytes: u32) -> Result<(), Exceeded> {
        self.open = self.open.checked_sub(bytes).ok_or(Exceeded)?;
        Ok(())
    }

    /// So many bytes that had come are not held any more. How much is to be promised now; 0 is nothing.
    pub(super) fn release(&mut self, bytes: u32) -> u32 {
        self.consumed += bytes;
        if self.consumed < self.size / 2 {
            return 0;
        }
        let mut promise = std::mem::take(&mut self.consumed);
        if self.open + promise == self.size && self.size < self.size_max {
            let grown = self.size.saturating_mul(2).min(self.size_max);
            promise += grown - self.size;
            self.size = grown;
        }
        self.open += promise;
        promise
    }

    /// Makes the window `size` large. How much is to be promised for that; 0 is nothing.
    pub(super) fn grow(&mut self, size: u32) -> u32 {
        let promise = size.saturating_sub(self.size);
        self.size += promise;
        self.size_max = self.size_max.max(self.size);
        self.open += promise;
        promise
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_send_window_may_fall_below_zero_and_not_rise_too_high() {
        let mut window = SendWindow::new(100);
        window.sent(100);
        window.shift(-50).unwrap();
        assert_eq!(window.room(), 0);
        window.open(49).unwrap();
        assert_eq!(window.room(), 0);
        window.open(11).unwrap();
        assert_eq!(window.room(), 10);
        assert_eq!(window.open(WINDOW_BYTES_MAX), Err(Exceeded));
        assert_eq!(window.open(WINDOW_BYTES_MAX - 10), Ok(()));
    }

    #[test]
    fn a_fast_receiver_gets_a_larger_window_and_a_slow_one_does_not() {
        let mut fast = RecvWindow::new(100, 400);
        for (promise, size) in [(200, 200), (400, 400), (400, 400)] {
            let before = fast.open;
            fast.take(before).unwrap();
            assert_eq!((fast.release(before), fast.size), (promise, size));
        }
        let mut slow = RecvWindow::new(100, 400);
        slow.take(100).unwrap();
        assert_eq!((slow.release(49), slow.release(1)), (0, 50));
        assert_eq!(slow.take(51), Err(Exceeded));
        assert_eq!(slow.grow(150), 50);
        assert_eq!(slow.take(100), Ok(()));
    }

    proptest! {
        /// Whatever comes and goes: what is held never passes the largest window, and a receiver that consumes all is never stuck.
        #[test]
        fn what_is_held_is_bounded(steps in proptest::collection::vec((any::<u32>(), any::<u32>()), 1..200)) {
            let mut window = RecvWindow::new(1000, 16_000);
            let mut held = 0;
            for (come, go) in steps {
                let come = come % (window.open + 1);
                window.take(come).unwrap();
                held += come;
                prop_assert!(held <= 16_000 && held + window.open <= 16_000);
                prop_assert_eq!(window.held(), held as usize);
                let go = go % (held + 1);
                held -= go;
                window.release(go);
            }
            window.release(held);
            prop_assert!(window.open >= window.size / 2);
        }
    }
}
