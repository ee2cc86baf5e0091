//! One request of an RPC client, the service's answer, and the end of both. A task of its own.
//!
//! **Invariant:** whatever becomes of the exchange, its place on the connection is free afterwards, and the service hears how it ended.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use slab::Slab;

use super::reply::RpcReply;
use super::wire::Outbox;
use crate::codec::xprotocol::{RpcCodec, RpcFrame};
use crate::config::Limits;
use crate::message::{Body, Downstream, Exchange, Head, HttpHead, Request};
use crate::stream::load::REQUEST_BYTES;
use crate::stream::server::{answer, watched};
use crate::stream::task_pool::{Job, TaskPool};
use crate::stream::{ConnState, Service};

/// What the exchanges of a connection have in common.
pub(super) struct Shared<S> {
    pub(super) service: S,
    pub(super) downstream: Rc<Downstream>,
    pub(super) state: Rc<ConnState>,
    pub(super) conn: Rc<Side>,
    pub(super) tasks: Rc<TaskPool<Call<S>>>,
}

/// What a connection and its exchanges share, whatever the service is.
pub(super) struct Side {
    pub(super) codec: &'static dyn RpcCodec,
    pub(super) limits: Rc<Limits>,
    pub(super) out: RefCell<Outbox>,
    /// The exchanges that run, and whom to wake when the connection is lost.
    pub(super) open: RefCell<Slab<Option<Waker>>>,
    /// What the requests that run hold of their frames, in bytes.
    pub(super) held_bytes: Cell<usize>,
    pub(super) is_lost: Cell<bool>,
}

impl Side {
    /// Whether another request may begin: a place is free, and those that run don't hold as much as a frame may have.
    pub(super) fn has_place(&self) -> bool {
        self.open.borrow().len() < self.limits.rpc_streams_max as usize
            && self.held_bytes.get() < self.limits.rpc_frame_bytes_max
    }

    /// The connection is gone: its exchanges hear of it.
    pub(super) fn lose(&self) {
        self.is_lost.set(true);
        self.open.borrow_mut().iter_mut().filter_map(|(_, waker)| waker.take()).for_each(Waker::wake);
        self.out.borrow_mut().wake_waiting();
    }
}

/// A place that is free again when its exchange is over, or has panicked.
pub(super) struct Open<S> {
    shared: Rc<Shared<S>>,
    place: usize,
    held_bytes: usize,
}

impl<S> Open<S> {
    /// A place for a request that holds so many bytes.
    pub(super) fn new(shared: &Rc<Shared<S>>, held_bytes: usize) -> Self {
        let place = shared.conn.open.borrow_mut().insert(None);
        shared.conn.held_bytes.set(shared.conn.held_bytes.get() + held_bytes);
        Self { shared: Rc::clone(shared), place, held_bytes }
    }
}

impl<S> Drop for Open<S> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(load) = self.shared.state.load()
        {
            load.counters().downstream.panicked.inc();
        }
        let conn = &self.shared.conn;
        conn.open.borrow_mut().remove(self.place);
        conn.held_bytes.set(conn.held_bytes.get() - self.held_bytes);
        conn.out.borrow_mut().wake();
    }
}

/// A request, and its place on its connection.
pub struct Call<S> {
    pub(super) open: Open<S>,
    pub(super) frame: RpcFrame,
    /// Whether it runs in its connection's own task, which is watched as a whole.
    pub(super) is_own: bool,
}

impl<S: Service> Job for Call<S> {
    fn run(self) -> impl Future<Output = ()> {
        exchange(self.open, self.frame, self.is_own)
    }
}

/// Answers a request.
async fn exchange<S: Service>(open: Open<S>, frame: RpcFrame, is_own: bool) {
    let Shared { service, downstream, state, conn, .. } = &*open.shared;
    let RpcFrame { head, content } = frame;
    let mut reply = RpcReply::new(Rc::clone(conn), &head);
    let received = content.len();
    let body = if content.is_empty() { Body::Empty } else { Body::Full(content) };
    let mut x = Exchange::new(Request { head: Head::Rpc(head), body }, Rc::clone(downstream));
    x.bytes_received = received as u64;
    let (shed, _charge) = match state.load() {
        Some(load) => {
            let head = x.request.head.fields().map_or(0, HttpHead::received_len);
            (load.overload(), Some(load.charge(REQUEST_BYTES + head + received)))
        }
        None => (None, None),
    };
    let whole = {
        let call = async {
            answer(service, &mut x, &mut reply, shed).await;
            reply.finish(&x);
        };
        until_lost(&open, is_own, call).await
    };
    service.ended(&mut x, whole);
}

/// Runs an exchange until it is over or its connection is lost; says whether it is over.
async fn until_lost<S>(open: &Open<S>, is_own: bool, call: impl Future<Output = ()>) -> bool {
    let Shared { downstream, state, conn, .. } = &*open.shared;
    let mut call = pin!(call);
    poll_fn(|cx| {
        if conn.is_lost.get() {
            return Poll::Ready(false);
        }
        if is_own {
            return call.as_mut().poll(cx).map(|()| true);
        }
        let polled = watched(state, downstream, || call.as_mut().poll(cx));
        if polled.is_pending() {
            match &mut conn.open.borrow_mut()[open.place] {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
        }
        polled.map(|()| true)
    })
    .await
}
