//! A pair of connections in memory that promise no more than [`Conn`] does.
//!
//! Each direction is a wire of a chosen size, as small as one byte. A connection lends exactly the room that was wished for, shows bytes
//! as the wire gave them, keeps what a reader leaves, and holds its wires borrowed while a closure runs, so that one that touches the other
//! end panics. What was not flushed need not leave.
//!
//! **Invariant:** a caller that relies on more than the contract fails here before it fails on a plane.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use ferrogate_core::net::{Address, Conn, ROOM_BYTES_MAX};

/// One end of the pair.
pub struct MemoryConn {
    incoming: Rc<RefCell<Wire>>,
    outgoing: Rc<RefCell<Wire>>,
    /// Taken from the wire and left by the reader.
    unread: Vec<u8>,
    /// Written and not on the wire yet.
    unsent: Vec<u8>,
    aborted: bool,
    local: Address,
    peer: Address,
}

/// Two connected ends; each direction's wire holds `wire_bytes_max`.
///
/// # Panics
/// With no room on the wire at all.
#[must_use]
pub fn pair(wire_bytes_max: usize) -> (MemoryConn, MemoryConn) {
    assert!(wire_bytes_max > 0, "a wire without room carries nothing");
    let wire = || Rc::new(RefCell::new(Wire { bytes_max: wire_bytes_max, ..Wire::default() }));
    let (there, back) = (wire(), wire());
    let address = |text: &str| text.parse::<Address>().expect("a literal address");
    let (left, right) = (address("192.0.2.1:1000"), address("192.0.2.2:443"));
    let end = |incoming: &Rc<_>, outgoing: &Rc<_>, local: &Address, peer: &Address| MemoryConn {
        incoming: Rc::clone(incoming),
        outgoing: Rc::clone(outgoing),
        unread: Vec::new(),
        unsent: Vec::new(),
        aborted: false,
        local: local.clone(),
        peer: peer.clone(),
    };
    (end(&back, &there, &left, &right), end(&there, &back, &right, &left))
}

impl MemoryConn {
    /// Bytes it holds: left unread, and written but not on the wire.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.unread.len() + self.unsent.len()
    }

    /// Moves what was written to the wire, as far as there is room.
    fn push(&mut self) -> io::Result<()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        let mut wire = self.outgoing.borrow_mut();
        wire.check()?;
        let len = self.unsent.len().min(wire.bytes_max - wire.bytes.len());
        wire.bytes.extend(self.unsent.drain(..len));
        if len > 0 {
            wake(&mut wire.reader);
        }
        Ok(())
    }

    /// Takes what the wire has, or says that it has ended.
    fn poll_pull(&mut self, cx: &Context<'_>) -> Poll<io::Result<Pulled>> {
        let mut wire = self.incoming.borrow_mut();
        if !wire.bytes.is_empty() {
            self.unread.extend(wire.bytes.drain(..));
            wake(&mut wire.writer);
            return Poll::Ready(Ok(Pulled::More));
        }
        wire.check()?;
        if wire.ended {
            return Poll::Ready(Ok(Pulled::End));
        }
        wire.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn check(&self) -> io::Result<()> {
        if self.aborted { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

impl Conn for MemoryConn {
    fn poll_read_with<R>(
        &mut self,
        cx: &mut Context<'_>,
        known: usize,
        f: impl FnOnce(&[u8]) -> (usize, R),
    ) -> Poll<io::Result<R>> {
        self.check()?;
        assert!(known <= self.unread.len(), "the caller knows {known} bytes and left {}", self.unread.len());
        while self.unread.len() <= known {
            match self.poll_pull(cx)? {
                Poll::Ready(Pulled::More) => {}
                Poll::Ready(Pulled::End) => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        let _plane = self.incoming.borrow_mut();
        let (used, result) = f(&self.unread);
        assert!(used <= self.unread.len(), "the caller used {used} of {} bytes", self.unread.len());
        self.unread.drain(..used);
        Poll::Ready(Ok(result))
    }

    fn poll_write_with<R>(
        &mut self,
        cx: &mut Context<'_>,
        wish: usize,
        f: impl FnOnce(&mut [u8]) -> (usize, R),
    ) -> Poll<io::Result<R>> {
        self.check()?;
        assert!(wish <= ROOM_BYTES_MAX, "a wish of {wish} bytes");
        if self.unsent.len() + wish > ROOM_BYTES_MAX {
            self.push()?;
        }
        let mut plane = self.outgoing.borrow_mut();
        plane.check()?;
        assert!(!plane.ended, "written after the end");
        if self.unsent.len() + wish > ROOM_BYTES_MAX {
            plane.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let start = self.unsent.len();
        self.unsent.resize(start + wish, 0);
        let (written, result) = f(&mut self.unsent[start..]);
        assert!(written <= wish, "the caller wrote {written} into {wish}");
        self.unsent.truncate(start + written);
        Poll::Ready(Ok(result))
    }

    fn poll_relay(&mut self, to: &mut Self, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<usize>> {
        self.check()?;
        to.check()?;
        to.push()?;
        let room = ROOM_BYTES_MAX - to.unsent.len();
        if room == 0 {
            to.outgoing.borrow_mut().writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if self.unread.is_empty() {
            match self.poll_pull(cx)? {
                Poll::Ready(_) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
        let moved = self.unread.len().min(limit).min(room);
        to.unsent.extend(self.unread.drain(..moved));
        Poll::Ready(Ok(moved))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        self.push()?;
        if self.unsent.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.outgoing.borrow_mut().writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.poll_flush(cx)?.is_pending() {
            return Poll::Pending;
        }
        self.outgoing.borrow_mut().end();
        Poll::Ready(Ok(()))
    }

    fn peer_addr(&self) -> &Address {
        &self.peer
    }

    fn local_addr(&self) -> &Address {
        &self.local
    }

    fn abort(&mut self) {
        self.aborted = true;
        self.unsent.clear();
        for wire in [&self.incoming, &self.outgoing] {
            let mut wire = wire.borrow_mut();
            wire.reset = true;
            wire.bytes.clear();
            wire.end();
        }
    }
}

impl Drop for MemoryConn {
    fn drop(&mut self) {
        self.outgoing.borrow_mut().end();
        let mut incoming = self.incoming.borrow_mut();
        incoming.reset = true;
        wake(&mut incoming.writer);
    }
}

/// One direction.
#[derive(Default)]
struct Wire {
    bytes: VecDeque<u8>,
    bytes_max: usize,
    ended: bool,
    /// The reader is gone, or either side aborted.
    reset: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Wire {
    fn check(&self) -> io::Result<()> {
        if self.reset { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }

    fn end(&mut self) {
        self.ended = true;
        wake(&mut self.reader);
        wake(&mut self.writer);
    }
}

enum Pulled {
    More,
    End,
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
