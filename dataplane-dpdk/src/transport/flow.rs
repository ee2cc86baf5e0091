//! A connection of the userspace stack.
//!
//! Bytes are lent where they are: a reader sees the receive ring, a writer gets the send ring. Only what a ring can't show in one piece is
//! copied: a message that wraps around and was too short without its other half, or one that is longer than the ring, goes into a held
//! buffer; room that wraps around comes from a scratch buffer of the stack.
//!
//! **Invariant:** the held buffer and the queue in front of the send ring are bounded by name, and an idle connection has neither.

use std::io;
use std::task::{Context, Poll, ready};

use ferrogate_core::net::{Address, ROOM_BYTES_MAX};
use tokio::task::coop;

use crate::stack::{FlowId, Incoming, SharedStack, Stack, copy};

/// A connection of the userspace stack. Closed when dropped: what was written is still sent.
pub struct FlowConn {
    stack: SharedStack,
    id: FlowId,
    /// Bytes that were taken out of the receive ring and not yet used.
    held: Held,
    /// The queue in front of the send ring: in use where a ring is shorter than the room that was wished for, or the path takes no more yet.
    pending: Held,
    peer: Address,
    local: Address,
}

impl FlowConn {
    /// Takes over a flow that was accepted or connected.
    pub(super) fn new(stack: &SharedStack, id: FlowId) -> Self {
        let (peer, local) = stack.borrow().addresses(id);
        let address = Address::Inet;
        Self {
            stack: SharedStack::clone(stack),
            id,
            held: Held::default(),
            pending: Held::default(),
            peer: address(peer),
            local: address(local),
        }
    }

    /// Waits for the end of the handshake that [`Stack::connect`] began.
    pub(super) fn poll_connected(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        self.stack.borrow_mut().poll_connected(self.id, cx)
    }

    pub(super) fn poll_read_with<R>(
        &mut self,
        cx: &mut Context<'_>,
        known: usize,
        f: impl FnOnce(&[u8]) -> (usize, R),
    ) -> Poll<io::Result<R>> {
        let coop = ready!(coop::poll_proceed(cx));
        let Self { stack, id, held, .. } = self;
        let mut stack = stack.borrow_mut();
        let incoming = stack.incoming(*id)?;
        let seen_all = held.len() + incoming.queued <= known;
        let in_place = held.len() == 0 && incoming.contiguous > known;
        if known >= HELD_BYTES_MAX && !in_place && !(seen_all && incoming.ended) {
            // More than anyone is shown in one piece.
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        if seen_all && !incoming.ended {
            // The peer may be out of room, and its message longer than the ring.
            if known > 0 && incoming.tight {
                held.take_from(&mut stack, *id);
            }
            stack.socket(*id).register_recv_waker(cx.waker());
            return Poll::Pending;
        }
        coop.made_progress();
        Poll::Ready(Ok(show(&mut stack, *id, held, incoming, known, f)))
    }

    pub(super) fn poll_write_with<R>(
        &mut self,
        cx: &Context<'_>,
        wish: usize,
        f: impl FnOnce(&mut [u8]) -> (usize, R),
    ) -> Poll<io::Result<R>> {
        let wish = wish.clamp(1, ROOM_BYTES_MAX);
        ready!(self.poll_pending(cx))?;
        let Self { stack, id, pending, .. } = self;
        let mut stack = stack.borrow_mut();
        let free = stack.room(*id)?;
        let socket = stack.socket(*id);
        // An empty ring is rewound by this look.
        let contiguous = socket.send(|room| (0, room.len())).map_err(|_| io::ErrorKind::BrokenPipe)?;
        let result = if contiguous.min(free) >= wish {
            // No more than the window of the path allows.
            socket.send(|room| f(&mut room[..contiguous.min(free)])).map_err(|_| io::ErrorKind::BrokenPipe)?
        } else if free >= wish {
            stack.write_joined(*id, wish, f)
        } else if socket.send_capacity() < wish || stack.ring_room(*id) >= wish {
            // What the window of the path holds back waits here: there is room for it, but not yet.
            let result = pending.fill(wish, f);
            pending.give_to(&mut stack, *id, free);
            result
        } else {
            stack.await_room(*id, cx);
            return Poll::Pending;
        };
        stack.touch(*id);
        Poll::Ready(Ok(result))
    }

    /// Moves bytes to another flow of this or of another stack: one copy, from ring to ring.
    pub(super) fn poll_relay(&mut self, to: &mut Self, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<usize>> {
        let coop = ready!(coop::poll_proceed(cx));
        let room = ready!(to.poll_room(cx))?;
        let available = ready!(self.poll_readable(cx))?;
        coop.made_progress();
        if available == 0 {
            return Poll::Ready(Ok(0));
        }
        let limit = limit.min(room);
        if self.held.len() > 0 {
            let part = &self.held.bytes()[..self.held.len().min(limit)];
            to.put(part);
            let moved = part.len();
            self.held.consume(moved);
            return Poll::Ready(Ok(moved));
        }
        let moved = if SharedStack::ptr_eq(&self.stack, &to.stack) {
            self.stack.borrow_mut().relay(self.id, to.id, limit)
        } else {
            let (mut source, mut sink) = (self.stack.borrow_mut(), to.stack.borrow_mut());
            let moved = copy(source.socket(self.id), sink.socket(to.id), limit);
            source.counters().relayed_bytes.add(moved as u64);
            source.drained(self.id);
            sink.touch(to.id);
            moved
        };
        Poll::Ready(Ok(moved))
    }

    pub(super) fn poll_flush(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pending(cx))?;
        Poll::Ready(self.stack.borrow().check(self.id))
    }

    pub(super) fn poll_shutdown(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        let mut stack = self.stack.borrow_mut();
        stack.socket(self.id).close();
        stack.touch(self.id);
        Poll::Ready(Ok(()))
    }

    pub(super) fn peer_addr(&self) -> &Address {
        &self.peer
    }

    pub(super) fn local_addr(&self) -> &Address {
        &self.local
    }

    pub(super) fn abort(&mut self) {
        (self.held, self.pending) = (Held::default(), Held::default());
        self.stack.borrow_mut().abort(self.id);
    }

    /// Waits for something to read. Says how much there is; 0 is the end of the stream.
    pub(super) fn poll_readable(&self, cx: &Context<'_>) -> Poll<io::Result<usize>> {
        let mut stack = self.stack.borrow_mut();
        let incoming = stack.incoming(self.id)?;
        let available = self.held.len() + incoming.queued;
        if available == 0 && !incoming.ended {
            stack.socket(self.id).register_recv_waker(cx.waker());
            return Poll::Pending;
        }
        Poll::Ready(Ok(available))
    }

    /// Waits for room in the send ring, behind what waits in front of it. Says how much there is.
    pub(super) fn poll_room(&mut self, cx: &Context<'_>) -> Poll<io::Result<usize>> {
        ready!(self.poll_pending(cx))?;
        let mut stack = self.stack.borrow_mut();
        let room = stack.room(self.id)?;
        if room == 0 {
            stack.await_room(self.id, cx);
            return Poll::Pending;
        }
        Poll::Ready(Ok(room))
    }

    /// Copies what there is to read into `room`, as far as it goes. Says how much that was.
    pub(super) fn take(&mut self, room: &mut [u8]) -> usize {
        if self.held.len() > 0 {
            let n = self.held.len().min(room.len());
            room[..n].copy_from_slice(&self.held.bytes()[..n]);
            self.held.consume(n);
            return n;
        }
        let mut stack = self.stack.borrow_mut();
        let n = stack.socket(self.id).recv_slice(room).unwrap_or(0);
        stack.drained(self.id);
        n
    }

    /// Copies `bytes` into the send ring, which has room for them.
    pub(super) fn put(&self, bytes: &[u8]) {
        let mut stack = self.stack.borrow_mut();
        let sent = stack.socket(self.id).send_slice(bytes);
        debug_assert_eq!(sent, Ok(bytes.len()), "the caller made sure of the room");
        stack.touch(self.id);
    }

    /// Moves what waits in front of the send ring into it. Ready when nothing waits.
    fn poll_pending(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if self.pending.len() == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut stack = self.stack.borrow_mut();
        let room = stack.room(self.id)?;
        self.pending.give_to(&mut stack, self.id, room);
        if self.pending.len() == 0 {
            return Poll::Ready(Ok(()));
        }
        stack.await_room(self.id, cx);
        Poll::Pending
    }
}

impl Drop for FlowConn {
    fn drop(&mut self) {
        let mut stack = self.stack.borrow_mut();
        self.pending.give_to(&mut stack, self.id, usize::MAX);
        stack.let_go(self.id);
    }
}

impl std::fmt::Debug for FlowConn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlowConn").field("peer", &self.peer).field("local", &self.local).finish_non_exhaustive()
    }
}

/// Shows the reader what there is, in one piece and longer than `known` if it can be.
fn show<R>(
    stack: &mut Stack,
    id: FlowId,
    held: &mut Held,
    incoming: Incoming,
    known: usize,
    f: impl FnOnce(&[u8]) -> (usize, R),
) -> R {
    let in_place = incoming.contiguous > known || incoming.contiguous == incoming.queued;
    if held.len() == 0 && in_place && incoming.queued > 0 {
        let mut used = 0;
        let result = stack.socket(id).recv(|bytes| {
            let (n, result) = f(bytes);
            used = n;
            (n, result)
        });
        if used > 0 {
            // There may be a window to be opened.
            stack.drained(id);
        }
        return result.expect("there is something in the ring");
    }
    if held.len() <= known {
        held.take_from(stack, id);
    }
    let (used, result) = f(held.bytes());
    held.consume(used);
    result
}

/// Bytes between a ring and its user.
#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
    used: usize,
}

impl Held {
    fn len(&self) -> usize {
        self.bytes.len() - self.used
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[self.used..]
    }

    /// The first `n` bytes are done with. The last byte takes the memory with it.
    fn consume(&mut self, n: usize) {
        assert!(n <= self.len(), "nobody uses more bytes than he was shown");
        self.used += n;
        if self.len() == 0 {
            *self = Self::default();
        }
    }

    /// Takes over what is in the receive ring, up to the bound.
    fn take_from(&mut self, stack: &mut Stack, id: FlowId) {
        self.bytes.drain(..self.used);
        self.used = 0;
        let before = self.bytes.len();
        // Twice: a ring shows its two parts one after the other.
        for _ in 0..2 {
            let room = HELD_BYTES_MAX.saturating_sub(self.bytes.len());
            let _ = stack.socket(id).recv(|ring| {
                let part = &ring[..ring.len().min(room)];
                self.bytes.extend_from_slice(part);
                (part.len(), ())
            });
        }
        stack.counters().joined_bytes.add((self.bytes.len() - before) as u64);
        stack.drained(id);
    }

    /// Lends `room` bytes to `f` and keeps what it wrote.
    fn fill<R>(&mut self, room: usize, f: impl FnOnce(&mut [u8]) -> (usize, R)) -> R {
        let from = self.bytes.len();
        self.bytes.resize(from + room, 0);
        let (n, result) = f(&mut self.bytes[from..]);
        self.bytes.truncate(from + n);
        result
    }

    /// Moves as much as fits into the send ring, `limit` bytes at most.
    fn give_to(&mut self, stack: &mut Stack, id: FlowId, limit: usize) {
        if self.len() > 0 && limit > 0 {
            let part = &self.bytes()[..self.len().min(limit)];
            let sent = stack.socket(id).send_slice(part).unwrap_or(0);
            self.consume(sent);
            stack.touch(id);
        }
    }
}

/// Bytes that a connection holds outside of its receive ring, at most: the longest message that is shown in one piece.
const HELD_BYTES_MAX: usize = 256 * 1024;
