//! One stream: a request, the service's answer, and the end of both. A task of its own.
//!
//! **Invariant:** whatever becomes of the exchange, its stream is closed with it, and the service hears how it ended.

use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, RandomState};
use std::marker::PhantomData;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;

use super::SharedMux;
use super::body::RequestBody;
use super::mux::Arrived;
use super::reply::Http2Reply;
use super::tunnel::StreamMouth;
use crate::codec::websocket;
use crate::message::{Body, Downstream, Exchange, FieldId, Head, HttpHead, Method, Request};
use crate::net::Conn;
use crate::stream::load::REQUEST_BYTES;
use crate::stream::server::{answer, join, watched};
use crate::stream::task_pool::Job;
use crate::stream::{ConnState, Refusal, ReplyTo, Service, Tunnel};

/// What the exchanges of a connection have in common.
pub(super) struct Shared<S> {
    pub(super) mux: SharedMux,
    pub(super) service: S,
    pub(super) downstream: Rc<Downstream>,
    pub(super) state: Rc<ConnState>,
}

/// A stream that is closed when its exchange is over, or has panicked.
struct OpenStream<S> {
    shared: Rc<Shared<S>>,
    id: u32,
}

impl<S> Drop for OpenStream<S> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(load) = self.shared.state.load()
        {
            load.counters().downstream.panicked.inc();
        }
        // Borrowed only when it panics in the machine itself: then the connection's task can't go on either.
        if let Ok(mut mux) = self.shared.mux.try_borrow_mut() {
            mux.close(self.id);
        }
    }
}

/// A request that has arrived, on a connection of this kind.
pub struct Call<C, S> {
    pub(super) shared: Rc<Shared<S>>,
    pub(super) arrived: Arrived,
    pub(super) conn: PhantomData<C>,
}

impl<C: Conn, S: Service> Job for Call<C, S> {
    fn run(self) -> impl Future<Output = ()> {
        exchange::<C, S>(self.shared, self.arrived)
    }
}

/// Answers the request that has arrived.
async fn exchange<C: Conn, S: Service>(shared: Rc<Shared<S>>, arrived: Arrived) {
    let Arrived { stream: id, head, te_trailers, is_upgrade, body } = arrived;
    let stream = OpenStream { shared, id };
    let tunnel = match head {
        Err(error) => return refuse(&stream, Refusal::Malformed(error)).await,
        Ok(head) => serve(&stream, (head, body), (te_trailers, is_upgrade)).await,
    };
    if let Some(tunnel) = tunnel {
        // Boxed: a request that is none has no room for it.
        Box::pin(run_tunnel::<C, S>(&stream, tunnel)).await;
    }
}

/// Answers a request; what the stream becomes a tunnel to, if that is its answer.
async fn serve<S: Service>(
    stream: &OpenStream<S>,
    (mut head, in_hand): (HttpHead, Option<Bytes>),
    (te_trailers, is_upgrade): (bool, bool),
) -> Option<Tunnel> {
    let Shared { mux, service, downstream, state } = &*stream.shared;
    let id = stream.id;
    let mut reply = Http2Reply::new(Rc::clone(mux), id, head.method());
    if is_upgrade {
        // To an origin of HTTP/1.1 the handshake is ours (RFC 8441, 5).
        head.set(websocket::KEY, &websocket::key(random()));
    }
    let body = match head.get_id(FieldId::ContentLength).is_some() {
        _ if is_upgrade || head.method() == Method::Connect => Body::Empty,
        has_length => in_hand.map_or_else(|| body(mux, id, has_length), Body::Full),
    };
    let streams = matches!(body, Body::Streaming(_));
    let mut x = Exchange::new(Request { head: Head::Http(head), body }, Rc::clone(downstream));
    (x.te_trailers, x.upgrade, x.bridged) = (te_trailers, is_upgrade, is_upgrade);
    if let Body::Full(bytes) = &x.request.body {
        x.bytes_received = bytes.len() as u64;
    }
    let (shed, _charge) = match state.load() {
        Some(load) => {
            let head = x.request.head.fields().map_or(0, HttpHead::received_len);
            let body = if let Body::Full(bytes) = &x.request.body { bytes.len() } else { 0 };
            (load.overload(), Some(load.charge(REQUEST_BYTES + head + body)))
        }
        None => (None, None),
    };
    let whole = {
        let call = answer(service, &mut x, &mut reply, shed);
        until_gone(stream, call).await
    };
    if streams {
        let mux = mux.borrow();
        let upload = mux.store.get(id).map(|stream| (stream.received, stream.ended));
        (x.bytes_received, x.request_received) = upload.unwrap_or_default();
    }
    service.ended(&mut x, whole);
    reply.into_tunnel().filter(|_| whole)
}

/// Joins the stream to the far side of its tunnel.
async fn run_tunnel<C: Conn, S>(stream: &OpenStream<S>, tunnel: Tunnel) {
    let mux = &stream.shared.mux;
    let idle_timeout = mux.borrow().limits.tunnel_idle_timeout;
    let Tunnel { conn: peer, guard: _guard } = tunnel;
    join::<_, C>(&mut StreamMouth::to_client(Rc::clone(mux), stream.id), peer, idle_timeout).await;
}

/// Runs an exchange until it is over or its client has given it up; says whether it is over.
async fn until_gone<S>(stream: &OpenStream<S>, call: impl Future<Output = ()>) -> bool {
    let Shared { mux, downstream, state, .. } = &*stream.shared;
    let mut call = pin!(call);
    poll_fn(|cx| {
        {
            let mut mux = mux.borrow_mut();
            let Some(open) = mux.store.get_mut(stream.id).filter(|open| !open.is_gone()) else {
                return Poll::Ready(false);
            };
            match &mut open.task {
                Some(task) => task.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
        }
        watched(state, downstream, || call.as_mut().poll(cx)).map(|()| true)
    })
    .await
}

/// What the request brings besides its head.
fn body(mux: &SharedMux, id: u32, has_length: bool) -> Body {
    let mut borrowed = mux.borrow_mut();
    let in_hand_max = borrowed.limits.body_in_hand_bytes_max;
    match borrowed.take_whole_body(id, in_hand_max) {
        Some(bytes) if bytes.is_empty() && !has_length => Body::Empty,
        Some(bytes) => Body::Full(bytes),
        None => Body::Streaming(Box::new(RequestBody::new(Rc::clone(mux), id))),
    }
}

/// Answers what is no request that can be served.
async fn refuse<S: Service>(stream: &OpenStream<S>, refusal: Refusal) {
    let Shared { mux, service, downstream, .. } = &*stream.shared;
    let response = service.refuse(refusal);
    let request = Request { head: Head::Http(HttpHead::empty()), body: Body::Empty };
    let mut x = Exchange::new(request, Rc::clone(downstream));
    let mut reply = Http2Reply::new(Rc::clone(mux), stream.id, Method::Other);
    let sent = async {
        // The client may be gone; there is nobody else to tell.
        let _ = reply.response(&mut x, response).await;
    };
    until_gone(stream, sent).await;
    service.refused(&x);
}

/// Numbers that nobody can foretell: from the keys that the standard library's maps are hashed with.
fn random() -> [u8; 16] {
    let (one, two) = (RandomState::new().hash_one(0), RandomState::new().hash_one(1));
    (u128::from(one) << 64 | u128::from(two)).to_be_bytes()
}
