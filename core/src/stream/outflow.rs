//! Bytes that wait in memory, on their way into a connection.
//!
//! **Invariant:** what the connection took is gone from the buffer, and is flushed before all is said to have left.

use std::io;
use std::task::{Context, Poll, ready};

use crate::net::{Conn, ROOM_BYTES_MAX};

/// How far the writer of one connection has come.
#[derive(Debug, Default)]
pub(super) struct Outflow {
    /// Something was written and may not have left.
    unflushed: bool,
}

impl Outflow {
    /// Writes what waits in `out`. Pending: not all of it has found room. Says how many bytes the connection took.
    pub(super) fn poll_write<C: Conn>(
        &mut self,
        cx: &mut Context<'_>,
        conn: &mut C,
        out: &mut Vec<u8>,
    ) -> (usize, Poll<io::Result<()>>) {
        let mut written = 0;
        let mut stopped = Poll::Ready(Ok(()));
        while written < out.len() && matches!(stopped, Poll::Ready(Ok(()))) {
            let rest = &out[written..];
            let wish = rest.len().min(ROOM_BYTES_MAX);
            let put = conn.poll_write_with(cx, wish, |room| {
                let len = rest.len().min(room.len());
                room[..len].copy_from_slice(&rest[..len]);
                (len, len)
            });
            stopped = put.map_ok(|len| written += len);
        }
        if written > 0 {
            self.unflushed = true;
            out.drain(..written);
        }
        (written, self.poll_flush(cx, conn, stopped))
    }

    fn poll_flush<C: Conn>(
        &mut self,
        cx: &mut Context<'_>,
        conn: &mut C,
        stopped: Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        if self.unflushed && !matches!(stopped, Poll::Ready(Err(_))) {
            ready!(conn.poll_flush(cx))?;
            self.unflushed = stopped.is_pending();
        }
        stopped
    }
}
