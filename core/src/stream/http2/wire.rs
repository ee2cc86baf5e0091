//! Moves bytes between a connection and its machine.
//!
//! **Invariant:** what the machine may not hear is not read; what it says leaves in order, and is flushed when there is no more of it.

use std::cell::RefCell;
use std::io;
use std::task::{Context, Poll, ready};

use super::mux::{Lost, Mux};
use crate::net::Conn;
use crate::stream::outflow::Outflow;

/// A connection, and how far its machine has come with it.
pub(super) struct Wire<C> {
    pub(super) conn: C,
    /// Unused bytes that the machine has seen and found too few.
    known: usize,
    outflow: Outflow,
}

impl<C: Conn> Wire<C> {
    pub(super) fn new(conn: C) -> Self {
        Self { conn, known: 0, outflow: Outflow::default() }
    }

    /// Shows the machine what there is to read, once. Inside, when the connection is lost by that.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, mux: &RefCell<Mux>) -> Poll<io::Result<Result<(), Lost>>> {
        let known = self.known;
        let read = self.conn.poll_read_with(cx, known, |bytes| {
            if bytes.len() <= known {
                return (0, None);
            }
            match mux.borrow_mut().receive(bytes) {
                Ok(used) => (used, Some(Ok(bytes.len() - used))),
                Err(lost) => (bytes.len(), Some(Err(lost))),
            }
        });
        match ready!(read)? {
            Some(Ok(left)) => self.known = left,
            Some(Err(lost)) => return Poll::Ready(Ok(Err(lost))),
            None => mux.borrow_mut().end_of_input(),
        }
        Poll::Ready(Ok(Ok(())))
    }

    /// Writes what the machine says. Pending: not all of it has found room.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, mux: &RefCell<Mux>) -> Poll<io::Result<()>> {
        let mux = &mut *mux.borrow_mut();
        let (written, polled) = self.outflow.poll_write(cx, &mut self.conn, &mut mux.out);
        if written > 0 {
            mux.wake_queue();
        }
        polled
    }
}
