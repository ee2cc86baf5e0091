//! The connection of this plane: a flow of the stack, or a kernel socket for what a port can't reach.
//!
//! **Invariant:** which of the two it is never shows, except in speed.

use std::io;
use std::task::{Context, Poll, ready};

use ferrogate_core::net::{Address, Conn, ROOM_BYTES_MAX};

use super::flow::FlowConn;

/// A byte stream over the port, or over the kernel (`C`).
#[derive(Debug)]
pub enum DpdkConn<C> {
    /// Over the port.
    Flow(FlowConn),
    /// Over the kernel: loopback and unix sockets.
    Kernel(C),
}

impl<C: Conn> Conn for DpdkConn<C> {
    fn poll_read_with<R>(
        &mut self,
        cx: &mut Context<'_>,
        known: usize,
        f: impl FnOnce(&[u8]) -> (usize, R),
    ) -> Poll<io::Result<R>> {
        match self {
            Self::Flow(c) => c.poll_read_with(cx, known, f),
            Self::Kernel(c) => c.poll_read_with(cx, known, f),
        }
    }

    fn poll_write_with<R>(
        &mut self,
        cx: &mut Context<'_>,
        wish: usize,
        f: impl FnOnce(&mut [u8]) -> (usize, R),
    ) -> Poll<io::Result<R>> {
        match self {
            Self::Flow(c) => c.poll_write_with(cx, wish, f),
            Self::Kernel(c) => c.poll_write_with(cx, wish, f),
        }
    }

    fn poll_relay(&mut self, to: &mut Self, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<usize>> {
        match (self, to) {
            (Self::Flow(from), Self::Flow(to)) => from.poll_relay(to, cx, limit),
            (Self::Kernel(from), Self::Kernel(to)) => from.poll_relay(to, cx, limit),
            (Self::Flow(from), Self::Kernel(to)) => {
                let available = ready!(from.poll_readable(cx))?;
                if available == 0 {
                    return Poll::Ready(Ok(0));
                }
                // The room may be larger than the wish.
                let wish = available.min(limit).min(ROOM_BYTES_MAX);
                to.poll_write_with(cx, wish, |room| {
                    let most = room.len().min(limit);
                    let moved = from.take(&mut room[..most]);
                    (moved, moved)
                })
            }
            (Self::Kernel(from), Self::Flow(to)) => {
                let room = ready!(to.poll_room(cx))?.min(limit);
                from.poll_read_with(cx, 0, |bytes| {
                    let part = &bytes[..bytes.len().min(room)];
                    to.put(part);
                    (part.len(), part.len())
                })
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Flow(c) => c.poll_flush(cx),
            Self::Kernel(c) => c.poll_flush(cx),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Flow(c) => c.poll_shutdown(cx),
            Self::Kernel(c) => c.poll_shutdown(cx),
        }
    }

    fn peer_addr(&self) -> &Address {
        match self {
            Self::Flow(c) => c.peer_addr(),
            Self::Kernel(c) => c.peer_addr(),
        }
    }

    fn local_addr(&self) -> &Address {
        match self {
            Self::Flow(c) => c.local_addr(),
            Self::Kernel(c) => c.local_addr(),
        }
    }

    fn original_dst(&self) -> Option<Address> {
        match self {
            Self::Flow(_) => None,
            Self::Kernel(c) => c.original_dst(),
        }
    }

    fn abort(&mut self) {
        match self {
            Self::Flow(c) => c.abort(),
            Self::Kernel(c) => c.abort(),
        }
    }
}
