//! The end of a connection that its peer may still be writing to.
//!
//! **Invariant:** a peer that goes on sending holds us up for `linger_timeout` and no longer.

use std::task::{Context, Poll};

use super::timer::Timer;
use crate::net::Conn;

/// Ends our direction and takes what still comes for a moment: a reset would reach the client before it has read our answer.
pub(super) struct Linger {
    shut: bool,
    left: u64,
}

impl Linger {
    /// `timer` is to be set to how long it may take.
    pub(super) fn new() -> Self {
        Self { shut: false, left: LINGER_BYTES_MAX }
    }

    /// Ready when the connection can be dropped.
    pub(super) fn poll<C: Conn>(&mut self, cx: &mut Context<'_>, conn: &mut C, timer: &mut Timer) -> Poll<()> {
        if !self.shut {
            match conn.poll_shutdown(cx) {
                Poll::Ready(Ok(())) => self.shut = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return timer.poll_expired(cx),
            }
        }
        while let Poll::Ready(seen) = conn.poll_read_with(cx, 0, |bytes| (bytes.len(), bytes.len() as u64)) {
            match seen {
                Ok(seen) if seen > 0 && seen <= self.left => self.left -= seen,
                _ => return Poll::Ready(()),
            }
        }
        timer.poll_expired(cx)
    }
}

/// What a connection that was told to close may still send before it is cut, in bytes; `linger_timeout` bounds the time.
const LINGER_BYTES_MAX: u64 = 64 * 1024 * 1024;
