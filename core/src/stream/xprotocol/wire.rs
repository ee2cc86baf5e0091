//! Moves bytes between a connection and those who read and write frames.
//!
//! **Invariant:** frames leave whole and in the order in which they were put; who is to put one waits while too much waits already.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, Waker};

use crate::codec::xprotocol::gather::Gather;
use crate::codec::xprotocol::{Fault, RpcCodec, RpcFrame, RpcLimits};
use crate::message::spare;
use crate::net::Conn;
use crate::stream::outflow::Outflow;

/// A connection, and how far its reader and its writer have come.
pub(super) struct Wire<C> {
    pub(super) conn: C,
    gather: Gather,
    outflow: Outflow,
}

/// What there was to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Bytes; maybe whole frames.
    Bytes,
    /// The peer's end.
    End,
    /// What is no frame; after those before it.
    Fault(Fault),
}

/// What waits to be written.
pub(super) struct Outbox {
    pub(super) bytes: Vec<u8>,
    bytes_max: usize,
    waiting: Vec<Waker>,
    task: Option<Waker>,
    /// It will look at what was put: it is awake, or has been woken.
    is_awake: bool,
}

impl Outbox {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), bytes_max, waiting: Vec::new(), task: None, is_awake: true }
    }

    pub(super) fn has_room(&self) -> bool {
        self.bytes.len() < self.bytes_max
    }

    /// Ready when a frame may be put.
    pub(super) fn poll_room(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.has_room() {
            return Poll::Ready(());
        }
        if !self.waiting.last().is_some_and(|last| last.will_wake(cx.waker())) {
            self.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Has the task of the connection look at what was put.
    pub(super) fn wake(&mut self) {
        if !std::mem::replace(&mut self.is_awake, true)
            && let Some(task) = &self.task
        {
            task.wake_by_ref();
        }
    }

    /// The task of the connection runs: it will look at what is put before it [asks](Self::watch) again, and needs no waking.
    pub(super) fn rouse(&mut self) {
        self.is_awake = true;
    }

    /// Has [`wake`](Self::wake) wake the task that asks.
    pub(super) fn watch(&mut self, cx: &Context<'_>) {
        self.is_awake = false;
        match &mut self.task {
            Some(task) => task.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    /// Wakes all who wait for room: there is some, or there will be none.
    pub(super) fn wake_waiting(&mut self) {
        self.waiting.drain(..).for_each(Waker::wake);
    }

    /// Where the next frame is put, behind what waits.
    pub(super) fn end(&mut self) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = spare::take();
        }
        &mut self.bytes
    }

    /// Gives back what it does not need.
    pub(super) fn release(&mut self) {
        if self.bytes.is_empty() && self.bytes.capacity() > 0 {
            spare::give(std::mem::take(&mut self.bytes));
        }
    }
}

impl<C: Conn> Wire<C> {
    pub(super) fn new(conn: C) -> Self {
        Self { conn, gather: Gather::default(), outflow: Outflow::default() }
    }

    /// Bytes of a frame that is not whole.
    pub(super) fn held_bytes(&self) -> usize {
        self.gather.held_bytes()
    }

    /// Reads once. With `to_fault`, what is no frame is answered there.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        (codec, limits): (&dyn RpcCodec, RpcLimits),
        frames: &mut VecDeque<RpcFrame>,
        to_fault: Option<&mut Vec<u8>>,
    ) -> Poll<io::Result<Seen>> {
        let gather = &mut self.gather;
        self.conn.poll_read_with(cx, 0, |bytes| {
            if bytes.is_empty() {
                return (0, Seen::End);
            }
            let answer = |src: &[u8]| {
                if let Some(out) = to_fault {
                    codec.reply_to_fault(src, out);
                }
            };
            let fed = gather.feed(codec, limits, bytes, |frame| frames.push_back(frame), answer);
            (bytes.len(), fed.map_or_else(Seen::Fault, |()| Seen::Bytes))
        })
    }

    /// Writes what waits. Pending: not all of it has found room. Says whether anything left.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, out: &mut Outbox) -> (bool, Poll<io::Result<()>>) {
        let (written, polled) = self.outflow.poll_write(cx, &mut self.conn, &mut out.bytes);
        if written > 0 && out.has_room() {
            out.wake_waiting();
        }
        (written > 0, polled)
    }
}
