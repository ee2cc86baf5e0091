//! The HTTP/1 server side: read a request, call the service, write its answer, and again. One task per connection.
//!
//! **Invariant:** between two requests the task holds no buffer and little memory; what a request needs is made when its head is complete.

use std::any::Any;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::http2::{Changed, StreamMouth, serve_changed};
use super::linger::Linger;
use super::load::{Overload, REQUEST_BYTES};
use super::reply::{Http1Reply, Outcome};
use super::request_body::RequestBody;
use super::timer::Timer;
use super::tunnel::{Passes, tunnel};
use super::{ConnState, Ended, Refusal, ReplyTo, Service, Tunnel, Wish};
use crate::codec::Codec;
use crate::codec::http1::{CodecLimits, ConnectionOptions, Frame, RequestDecoder};
use crate::codec::http2::offered_settings;
use crate::config::Limits;
use crate::message::{
    Body, BodyLength, Downstream, Exchange, Head, HttpHead, Method, Request, ResponseFlags, Version, next_conn_id,
};
use crate::net::Conn;
use crate::telemetry::pulse::Work;

/// A connection and what its tasks share of it.
pub(super) struct ServerIo<C> {
    pub(super) conn: C,
    pub(super) decoder: RequestDecoder,
    pub(super) timer: Timer,
    /// Unused bytes that the decoder has seen and found too few.
    pub(super) known: usize,
    /// Told to close before its first request, which it waits for a moment longer.
    parting: bool,
    /// What has come of the request's body, where it streams.
    pub(super) upload: Upload,
    /// Whether the request's body broke off: what follows it on the connection is nobody's.
    pub(super) body_broken: bool,
    pub(super) limits: Rc<Limits>,
}

/// How much of a streaming request body has come, and when its end.
#[derive(Clone, Copy, Default)]
pub(super) struct Upload {
    pub(super) bytes: u64,
    pub(super) ended: Option<Instant>,
}

pub(super) type SharedIo<C> = Rc<RefCell<ServerIo<C>>>;

/// Serves HTTP/1 on `conn` until it is closed or handed over. `guard` lives as long as the connection.
///
/// # Errors
/// When the connection breaks; its peer sees no more of us then.
pub fn serve<C: Conn, S: Service>(
    conn: C,
    is_tls: bool,
    service: S,
    limits: Rc<Limits>,
    state: Rc<ConnState>,
    guard: impl Sized,
) -> impl Future<Output = io::Result<Ended<C>>> {
    let (peer, local) = (conn.peer_addr().clone(), conn.local_addr().clone());
    let downstream = Rc::new(Downstream::new(next_conn_id(), peer, local, is_tls));
    serve_for(conn, downstream, service, limits, state, guard)
}

/// The same for a connection of which more is known than its socket says.
///
/// # Errors
/// As [`serve`].
pub fn serve_for<C: Conn, S: Service>(
    conn: C,
    downstream: Rc<Downstream>,
    service: S,
    limits: Rc<Limits>,
    state: Rc<ConnState>,
    guard: impl Sized,
) -> impl Future<Output = io::Result<Ended<C>>> {
    // Not in the future itself: an async function would keep room for the connection beside the place it is moved to.
    let decoder = RequestDecoder::new(CodecLimits::from(&*limits));
    let io = Rc::new(RefCell::new(ServerIo {
        conn,
        decoder,
        timer: Timer::new(),
        known: 0,
        parting: false,
        upload: Upload::default(),
        body_broken: false,
        limits,
    }));
    serve_all(io, downstream, service, state, guard)
}

/// Not an async function: it would keep what it is given twice, as arguments and where they are moved to.
fn serve_all<C: Conn, S: Service>(
    io: SharedIo<C>,
    downstream: Rc<Downstream>,
    service: S,
    state: Rc<ConnState>,
    guard: impl Sized,
) -> impl Future<Output = io::Result<Ended<C>>> {
    let mut requests = 0u64;
    async move {
        let _guard = &guard;
        let after = loop {
            // The step is small: what a request needs is moved to the heap before this task has to keep it.
            let step = poll_fn(|cx| {
                watched(&state, &downstream, || poll_step(cx, &io, &service, &downstream, &state, &mut requests))
            })
            .await?;
            let after = match step {
                Step::Work(mut work) => poll_fn(|cx| watched(&state, &downstream, || work.as_mut().poll(cx))).await,
                Step::Rest(after) => after,
            };
            if !matches!(after, After::Stay) || state.wish() != Wish::Stay {
                break after;
            }
        };
        match after {
            After::Stay if state.wish() == Wish::Handover => Ok(hand_over(io)),
            After::Stay if requests > 0 => Ok(linger(&io).await),
            After::Stay | After::Ended => Ok(finish(&io).await),
            After::Close => Ok(linger(&io).await),
            After::Tunnel(peer) => {
                Box::pin(run_tunnel(io, peer)).await;
                Ok(Ended::Closed)
            }
            After::Http2(changed) => {
                let Ok(io) = Rc::try_unwrap(io) else { return Ok(Ended::Closed) };
                let ServerIo { conn, limits, .. } = io.into_inner();
                Box::pin(serve_changed(conn, downstream, service, limits, state, *changed)).await
            }
            After::Cut => {
                io.borrow_mut().conn.abort();
                Ok(Ended::Closed)
            }
        }
    }
}

/// Runs a step of a connection under the eyes of the watchdog.
pub(crate) fn watched<R>(state: &ConnState, downstream: &Downstream, step: impl FnOnce() -> R) -> R {
    let Some(load) = state.load() else { return step() };
    let running = load.enter(Work::Connection, downstream.id);
    let result = step();
    if let Some(milliseconds) = running.stalled() {
        tracing::error!(connection = downstream.id, peer = %downstream.peer, local = %downstream.local, milliseconds,
            "this connection held its worker up");
    }
    result
}

/// What there is to do next on a connection.
enum Step<'a> {
    /// An exchange, on the heap.
    Work(Pin<Box<dyn Future<Output = After> + 'a>>),
    /// Nothing.
    Rest(After),
}

fn poll_step<'a, C: Conn, S: Service>(
    cx: &mut Context<'_>,
    io: &'a SharedIo<C>,
    service: &'a S,
    downstream: &'a Rc<Downstream>,
    state: &'a ConnState,
    requests: &mut u64,
) -> Poll<io::Result<Step<'a>>> {
    let incoming = ready!(io.borrow_mut().poll_request(cx, state))?;
    state.work();
    Poll::Ready(Ok(match incoming {
        Incoming::Request(mut request) => {
            *requests += 1;
            request.options.keep_alive &= !is_last(&io.borrow().limits, *requests);
            let may_change = request.options.h2c && state.wish() == Wish::Stay;
            if may_change && !downstream.is_tls && service.offers_h2c() {
                match request.change() {
                    Ok(changed) => return Poll::Ready(Ok(Step::Rest(After::Http2(changed)))),
                    Err(unchanged) => request = unchanged,
                }
            }
            Step::Work(Box::pin(exchange(io, service, downstream, state, request)))
        }
        Incoming::Refused(refusal) => Step::Work(Box::pin(refuse(io, service, downstream, refusal))),
        Incoming::Ended => Step::Rest(After::Ended),
        Incoming::Asked => Step::Rest(After::Stay),
    }))
}

/// A request of which the head is complete.
struct Arrived {
    head: HttpHead,
    length: BodyLength,
    options: ConnectionOptions,
    /// The whole body, if it came with the head.
    in_hand: Option<Bytes>,
    /// The client has said that no other follows (RFC 9112, 9.6), or speaks HTTP/1.0.
    is_last: bool,
}

impl Arrived {
    /// The change to HTTP/2 that it offers, if the offer is to the letter and nothing of the request is still to come: what follows it
    /// is then the client's preface.
    fn change(self) -> Result<Box<Changed>, Self> {
        let is_whole = self.length == BodyLength::None || self.in_hand.is_some();
        let may = is_whole && self.options.keep_alive && self.head.method() != Method::Connect;
        let Some(settings) = offered_settings(&self.head).filter(|_| may) else { return Err(self) };
        let Self { mut head, options, in_hand: body, .. } = self;
        head.set_version(Version::Http2);
        Ok(Box::new(Changed { head, body, te_trailers: options.te_trailers, settings }))
    }
}

enum Incoming {
    Request(Arrived),
    Refused(Refusal),
    /// The client ended its stream between two requests, or idled too long.
    Ended,
    /// The worker wants something and no request has begun.
    Asked,
}

/// What becomes of the connection after an exchange.
enum After {
    /// It serves the next request.
    Stay,
    /// Nothing more will come or is wanted: close.
    Ended,
    /// Close, but let the client read what we sent although it may still be sending.
    Close,
    /// Reset: the client must see that its answer is broken.
    Cut,
    /// It is a tunnel from here on.
    Tunnel(Tunnel),
    /// It speaks HTTP/2 from here on.
    Http2(Box<Changed>),
}

impl<C> ServerIo<C> {
    /// So many bytes of the request's body have come.
    pub(super) fn count_upload(&mut self, bytes: u64) {
        self.upload.bytes += bytes;
        if self.upload.ended.is_none() && self.decoder.is_body_done() {
            self.upload.ended = Some(Instant::now());
        }
    }

    /// Whether the request was read to its end, and nothing was seen behind it.
    fn is_read_up(&self) -> bool {
        self.known == 0 && self.decoder.is_body_done()
    }
}

impl<C: Conn> ServerIo<C> {
    fn poll_request(&mut self, cx: &mut Context<'_>, state: &ConnState) -> Poll<io::Result<Incoming>> {
        loop {
            let known = self.known;
            let decoder = &mut self.decoder;
            let in_hand_max = self.limits.body_in_hand_bytes_max;
            let read = self.conn.poll_read_with(cx, known, |bytes| decode(decoder, bytes, known, in_hand_max));
            let Poll::Ready(read) = read else {
                return self.poll_waiting(cx, state);
            };
            match read? {
                Look::Request(request) => {
                    self.known = 0;
                    self.timer.clear();
                    return Poll::Ready(Ok(Incoming::Request(request)));
                }
                Look::Refused(refusal) => return Poll::Ready(Ok(Incoming::Refused(refusal))),
                Look::Ended => return Poll::Ready(Ok(Incoming::Ended)),
                Look::More(seen) => {
                    if known == 0 && seen > 0 {
                        self.timer.set(self.limits.head_timeout);
                    }
                    self.known = seen;
                }
            }
        }
    }

    /// Nothing to read: watch the clock and the worker's wishes.
    fn poll_waiting(&mut self, cx: &mut Context<'_>, state: &ConnState) -> Poll<io::Result<Incoming>> {
        if self.known == 0 {
            match state.wish() {
                Wish::Stay => {}
                Wish::Close if !state.is_used() => {
                    if !self.parting {
                        self.parting = true;
                        self.timer.set(self.limits.linger_timeout);
                    }
                    state.rest(cx);
                    return self.timer.poll_expired(cx).map(|()| Ok(Incoming::Ended));
                }
                _ => return Poll::Ready(Ok(Incoming::Asked)),
            }
            if !state.is_idle() {
                self.timer.release();
                if !state.is_swept() {
                    self.timer.set(self.limits.idle_timeout);
                }
            }
            state.rest(cx);
        }
        ready!(self.timer.poll_expired(cx));
        let incoming = if self.known == 0 { Incoming::Ended } else { Incoming::Refused(Refusal::HeadTimeout) };
        Poll::Ready(Ok(incoming))
    }

    /// While an answer is being made: ready when the client's connection breaks. Reads nothing that belongs to a request.
    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.known > 0 || !self.decoder.is_body_done() {
            return Poll::Pending;
        }
        match ready!(self.conn.poll_read_with(cx, 0, |bytes| (0, bytes.len()))) {
            Ok(seen) => {
                // The next request, or the end of the client's sending: both wait until this one is answered.
                self.known = seen.max(usize::from(seen == 0));
                Poll::Pending
            }
            Err(_) => Poll::Ready(()),
        }
    }
}

/// What a look at the readable bytes found.
enum Look {
    Request(Arrived),
    Refused(Refusal),
    Ended,
    More(usize),
}

fn decode(decoder: &mut RequestDecoder, bytes: &[u8], known: usize, in_hand_max: usize) -> (usize, Look) {
    if bytes.len() <= known {
        return (0, Look::Ended);
    }
    match decoder.decode(bytes) {
        Ok(Some((Frame::Head(head, length, options), used))) => {
            let rest = &bytes[used..];
            let in_hand = match length {
                BodyLength::Exact(n) if n <= rest.len().min(in_hand_max) as u64 => usize::try_from(n).ok(),
                _ => None,
            };
            let taken = in_hand.unwrap_or(0);
            decoder.advance_body(taken as u64);
            let in_hand = in_hand.map(|n| Bytes::copy_from_slice(&rest[..n]));
            let is_last = !options.keep_alive;
            (used + taken, Look::Request(Arrived { head, length, options, in_hand, is_last }))
        }
        Ok(Some((_, used))) => (used, Look::More(0)),
        Ok(None) => (0, Look::More(bytes.len())),
        Err(e) => (0, Look::Refused(Refusal::Malformed(e))),
    }
}

/// The whole life of one request on this connection.
async fn exchange<C: Conn, S: Service>(
    io: &SharedIo<C>,
    service: &S,
    downstream: &Rc<Downstream>,
    state: &ConnState,
    Arrived { head, length, options, in_hand, is_last }: Arrived,
) -> After {
    let body = match (length, in_hand) {
        (BodyLength::None, _) => Body::Empty,
        (_, Some(bytes)) => Body::Full(bytes),
        _ => Body::Streaming(Box::new(RequestBody::new(Rc::clone(io)))),
    };
    let mut reply = Http1Reply::new(Rc::clone(io), &head, options, state);
    let mut x = Exchange::new(Request { head: Head::Http(head), body }, Rc::clone(downstream));
    (x.upgrade, x.te_trailers) = (options.upgrade, options.te_trailers);
    let streams = matches!(x.request.body, Body::Streaming(_));
    match &x.request.body {
        Body::Full(bytes) => x.bytes_received = bytes.len() as u64,
        Body::Streaming(_) => io.borrow_mut().upload = Upload::default(),
        Body::Empty => {}
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
        let mut call = pin!(answer(service, &mut x, &mut reply, shed));
        poll_fn(|cx| match call.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending => io.borrow_mut().poll_broken(cx).map(|()| false),
        })
        .await
    };
    if streams {
        let upload = io.borrow().upload;
        (x.bytes_received, x.request_received) = (upload.bytes, upload.ended);
    }
    service.ended(&mut x, whole);
    drop(x);
    if !whole {
        return After::Cut;
    }
    match reply.into_outcome() {
        Outcome::KeepAlive => drain(io).await,
        // Nothing is under way that a reset could answer before the client has read what we sent: with TLS its own close_notify comes when
        // it has read ours.
        Outcome::Close if is_last && io.borrow().is_read_up() => After::Ended,
        Outcome::Close => After::Close,
        Outcome::Broken | Outcome::Unanswered => After::Cut,
        Outcome::Tunnel(peer) => After::Tunnel(peer),
    }
}

/// Lets the service answer, unless the worker has enough to do.
pub(super) async fn answer<S: Service>(
    service: &S,
    x: &mut Exchange,
    reply: &mut impl ReplyTo,
    shed: Option<Overload>,
) {
    match shed {
        None => service.call(x, reply).await,
        // Whether it reaches the client or not, there is nothing else to say.
        Some(overload) => {
            x.flags.add(ResponseFlags::OVERFLOW);
            let answer = service.refuse_request(x, Refusal::Overload(overload));
            drop(reply.response(x, answer).await);
        }
    }
}

/// Joins the connection to the far side of its tunnel.
async fn run_tunnel<C: Conn>(io: SharedIo<C>, peer: Tunnel) {
    let Tunnel { conn: peer, guard: _guard } = peer;
    // The request is over and its body source gone: nobody else holds the connection.
    let Ok(io) = Rc::try_unwrap(io) else { return };
    let ServerIo { mut conn, limits, .. } = io.into_inner();
    join::<C, C>(&mut conn, peer, limits.tunnel_idle_timeout).await;
}

/// Runs a tunnel between a side and what a [`Tunnel`] holds.
pub(super) async fn join<A, C>(a: &mut A, peer: Box<dyn Any>, idle_timeout: Duration)
where
    A: Passes<C> + Passes<StreamMouth>,
    C: Conn + Passes<A>,
    StreamMouth: Passes<A>,
{
    let peer = match peer.downcast::<C>() {
        Ok(mut conn) => {
            tunnel(a, &mut *conn, idle_timeout, |_| {}).await;
            return;
        }
        Err(other) => other,
    };
    if let Ok(mut stream) = peer.downcast::<StreamMouth>() {
        tunnel(a, &mut *stream, idle_timeout, |_| {}).await;
    }
}

/// Reads what the service left of the request's body, so that the next request can be found behind it.
async fn drain<C: Conn>(io: &SharedIo<C>) -> After {
    let done = poll_fn(|cx| {
        let mut io = io.borrow_mut();
        let mut body = super::request_body::Puller::default();
        while !io.decoder.is_body_done() {
            match ready!(body.poll_discard(&mut io, cx)) {
                Ok(()) => {}
                Err(_) => return Poll::Ready(false),
            }
        }
        Poll::Ready(true)
    })
    .await;
    if !done {
        return After::Cut;
    }
    let mut io = io.borrow_mut();
    io.timer.clear();
    // The watch may have seen the next request already; it must be looked at again, from its first byte.
    io.known = 0;
    After::Stay
}

/// Answers bytes that are no request.
async fn refuse<C: Conn, S: Service>(
    io: &SharedIo<C>,
    service: &S,
    downstream: &Rc<Downstream>,
    refusal: Refusal,
) -> After {
    let response = service.refuse(refusal);
    let request = Request { head: Head::Http(HttpHead::empty()), body: Body::Empty };
    let mut x = Exchange::new(request, Rc::clone(downstream));
    let mut reply = Http1Reply::refusing(Rc::clone(io));
    // The client may be gone; there is nobody else to tell.
    let _ = reply.response(&mut x, response).await;
    service.refused(&x);
    After::Close
}

/// Ends a connection that has nothing in flight. It is dropped then, which ends our direction too; TLS has something to say before.
async fn finish<C: Conn>(io: &SharedIo<C>) -> Ended<C> {
    start_linger(io);
    poll_fn(|cx| {
        let mut io = io.borrow_mut();
        let sent = io.conn.poll_flush_last(cx);
        if sent.is_ready() { Poll::Ready(()) } else { io.timer.poll_expired(cx) }
    })
    .await;
    Ended::Closed
}

async fn linger<C: Conn>(io: &SharedIo<C>) -> Ended<C> {
    start_linger(io);
    let mut linger = Linger::new();
    poll_fn(|cx| {
        let io = &mut *io.borrow_mut();
        linger.poll(cx, &mut io.conn, &mut io.timer)
    })
    .await;
    Ended::Closed
}

fn start_linger<C>(io: &SharedIo<C>) {
    let mut io = io.borrow_mut();
    let linger = io.limits.linger_timeout;
    io.timer.set(linger);
}

fn hand_over<C: Conn>(io: SharedIo<C>) -> Ended<C> {
    match Rc::try_unwrap(io) {
        Ok(io) => Ended::Handover(io.into_inner().conn),
        Err(_) => Ended::Closed,
    }
}

fn is_last(limits: &Limits, requests: u64) -> bool {
    limits.requests_per_conn_max > 0 && requests >= limits.requests_per_conn_max
}
