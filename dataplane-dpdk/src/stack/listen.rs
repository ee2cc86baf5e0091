//! Listening ports and their queues of connections to be accepted.
//!
//! **Invariant:** a queue never holds more than its backlog, and a port has one listener.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use super::flow::Stage;
use super::ports::{Bind, Ports};
use super::{FlowId, Stack};

/// The listeners of one stack.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    ports: Ports,
    all: Slab<Listener>,
}

#[derive(Debug)]
struct Listener {
    bind: Bind,
    port: u16,
    backlog_max: usize,
    queue: VecDeque<u32>,
    waker: Option<Waker>,
}

impl Listeners {
    /// Who listens on `port` of this address.
    pub(super) fn find(&self, local: IpAddr, port: u16) -> Option<u32> {
        self.ports.find(local, port)
    }

    /// Whether the queue of `listener` takes another connection.
    pub(super) fn has_room(&self, listener: u32) -> bool {
        self.all.get(listener as usize).is_some_and(|l| l.queue.len() < l.backlog_max)
    }

    /// Queues a connection; false when the listener is gone or its queue is full.
    pub(super) fn queue(&mut self, listener: u32, flow: u32) -> bool {
        let Some(l) = self.all.get_mut(listener as usize).filter(|l| l.queue.len() < l.backlog_max) else {
            return false;
        };
        l.queue.push_back(flow);
        if let Some(waker) = l.waker.take() {
            waker.wake();
        }
        true
    }
}

impl Stack {
    /// Listens on `port`, or on a free one for 0, at these addresses. Answers the listener and its port.
    pub(crate) fn bind(&mut self, bind: Bind, port: u16, backlog_max: usize) -> io::Result<(u32, u16)> {
        let free = |p: &u16| self.listeners.ports.is_free(bind, *p);
        let port = match port {
            0 => self.ephemeral_ports().find(free),
            p => Some(p).filter(free),
        };
        let port = port.ok_or(io::ErrorKind::AddrInUse)?;
        let listener = Listener { bind, port, backlog_max: backlog_max.max(1), queue: VecDeque::new(), waker: None };
        let id = u32::try_from(self.listeners.all.insert(listener)).expect("fewer listeners than ports");
        self.listeners.ports.insert(bind, port, id);
        Ok((id, port))
    }

    /// Stops listening. Connections that nobody accepted are reset.
    pub(crate) fn unbind(&mut self, listener: u32) {
        let Listener { bind, port, queue, .. } = self.listeners.all.remove(listener as usize);
        self.listeners.ports.remove(bind, port);
        for id in queue {
            self.abort(FlowId(id));
            self.let_go(FlowId(id));
        }
        let opening = self.flows.iter().filter(|(_, flow)| flow.stage == Stage::Opening(listener)).map(|(id, _)| id);
        for id in opening.collect::<Vec<_>>() {
            let id = FlowId(u32::try_from(id).expect("ids are made from u32"));
            self.abort(id);
            self.let_go(id);
        }
    }

    /// The next connection to accept.
    pub(crate) fn poll_accept(&mut self, listener: u32, cx: &Context<'_>) -> Poll<FlowId> {
        let listener = &mut self.listeners.all[listener as usize];
        if let Some(flow) = listener.queue.pop_front() {
            return Poll::Ready(FlowId(flow));
        }
        listener.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
