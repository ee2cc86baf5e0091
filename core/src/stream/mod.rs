//! One exchange at a time: a server that reads requests from a connection and writes answers, a client that does the reverse.
//!
//! HTTP/1 is ping-pong: a connection carries one exchange, then the next. HTTP/2 carries many at a time, each a stream of frames; RPC
//! protocols carry many too, each one frame and its answer.
//!
//! **Invariant:** a response is never written for another request than the one it answers; a connection whose framing is in doubt is
//! closed, never reused.

pub mod client;
pub mod detect;
pub mod http2;
pub mod lease;
mod linger;
pub mod load;
mod outflow;
mod pump;
mod reply;
mod request_body;
mod response_body;
pub mod server;
pub mod task_pool;
pub mod timer;
pub mod tunnel;
pub mod xprotocol;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;

use self::load::{Load, Overload};

use crate::codec::http1::DecodeError;
use crate::message::{Exchange, HttpHead, Response};

/// What a server calls with each request. Implemented by the proxy, by the admin API and by the built-in origin.
pub trait Service: Clone + 'static {
    /// Answers one request through `reply`. Returning without an answer closes the connection.
    fn call(&self, x: &mut Exchange, reply: &mut impl ReplyTo) -> impl Future<Output = ()>;

    /// The request is over, whatever became of it; `whole` is false when the client left before its answer was complete.
    fn ended(&self, x: &mut Exchange, whole: bool);

    /// Whether clients of HTTP/2 are told that they may ask for a WebSocket (RFC 8441).
    fn offers_websocket(&self) -> bool {
        true
    }

    /// Whether clients of HTTP/1.1 in clear text may change to HTTP/2 (RFC 7540, 3.2).
    fn offers_h2c(&self) -> bool {
        false
    }

    /// The answer to bytes that are no request, or that came too slowly: sent, then the connection is closed.
    fn refuse(&self, refusal: Refusal) -> Response;

    /// The same for a request that was read; `x` has it.
    fn refuse_request(&self, x: &Exchange, refusal: Refusal) -> Response {
        let _ = x;
        self.refuse(refusal)
    }

    /// That answer was sent, or the client was gone; `x` has no request in it. [`ended`](Self::ended) is not called for it.
    fn refused(&self, x: &Exchange) {
        let _ = x;
    }
}

/// Why a request could not even be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its bytes break the protocol or a limit.
    Malformed(DecodeError),
    /// Its head did not arrive in `head_timeout`.
    HeadTimeout,
    /// It is one too many: the worker has enough to do. The client may try again.
    Overload(Overload),
}

impl Refusal {
    /// The status that says so.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed(e) => e.status(),
            Self::HeadTimeout => 408,
            Self::Overload(_) => 503,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(e) => e.fmt(f),
            Self::HeadTimeout => f.write_str("the request head did not arrive within head_timeout"),
            Self::Overload(e) => e.fmt(f),
        }
    }
}

/// Where an answer goes. One answer per request: `response` or `upgrade` once, after any number of `informational`.
pub trait ReplyTo {
    /// Passes on an interim (1xx) response. Dropped silently for an HTTP/1.0 client, which would take it for the answer.
    fn informational(&mut self, head: HttpHead) -> impl Future<Output = Result<(), ReplyError>>;

    /// Sends the answer, body and all.
    fn response(&mut self, x: &mut Exchange, response: Response) -> impl Future<Output = Result<(), ReplyError>>;

    /// Sends the answer that makes a tunnel of the connection, or of its stream (101, or 2xx to CONNECT), and joins it to `peer` afterwards.
    fn upgrade(
        &mut self,
        x: &mut Exchange,
        response: Response,
        peer: Tunnel,
    ) -> impl Future<Output = Result<(), ReplyError>>;
}

/// The far side of a tunnel.
pub struct Tunnel {
    /// A connection of the same kind as the one the request came on, or a stream of one of HTTP/2.
    pub conn: Box<dyn Any>,
    /// Lives as long as the tunnel.
    pub guard: Box<dyn Any>,
}

/// Why an answer did not arrive whole.
#[derive(Debug)]
pub enum ReplyError {
    /// The client is gone.
    Downstream(io::Error),
    /// The client took nothing for `body_idle_timeout`.
    Stalled,
    /// The answer's body broke off; the connection is cut, so that the client can tell.
    Source(crate::message::BodyError),
    /// The service answered twice, or with a head that can't be written.
    Misuse,
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Downstream(e) => write!(f, "the client is gone: {e}"),
            Self::Stalled => f.write_str("the client took nothing for body_idle_timeout"),
            Self::Source(e) => e.fmt(f),
            Self::Misuse => f.write_str("the answer can't be expressed on this connection"),
        }
    }
}

impl std::error::Error for ReplyError {}

/// How a served connection ended.
pub enum Ended<C> {
    /// It is closed.
    Closed,
    /// At a message boundary, as [`ConnState::ask`] wished: the connection with its unread bytes.
    Handover(C),
}

/// What a worker and a connection's task tell each other. One per downstream connection.
#[derive(Default)]
pub struct ConnState {
    wish: Cell<Wish>,
    idle: Cell<Idle>,
    /// Whether a request has begun on it.
    used: Cell<bool>,
    swept: bool,
    load: Option<Rc<Load>>,
    waker: RefCell<Option<Waker>>,
}

/// Whether a connection waits for a request. How long is counted from when the one who closes it sees it first, so that no request has to look at
/// the clock for it.
#[derive(Clone, Copy, Default)]
enum Idle {
    #[default]
    No,
    Unseen,
    Since(Instant),
}

/// What a worker wants of a connection at its next message boundary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// To go on.
    #[default]
    Stay,
    /// To finish the running request and close. A connection that has carried none yet may still send its first one, for `linger_timeout`:
    /// its client has just come and knows of nothing.
    Close,
    /// To finish the running request and give the connection back.
    Handover,
}

impl ConnState {
    /// For a connection that somebody closes when it has been idle for too long ([`close_if_idle`](Self::close_if_idle)), so that it
    /// needs no timer of its own for that.
    #[must_use]
    pub fn swept() -> Self {
        Self { swept: true, ..Self::default() }
    }

    /// The same, for a connection of a worker with this load.
    #[must_use]
    pub fn of_worker(load: Rc<Load>) -> Self {
        Self { load: Some(load), ..Self::swept() }
    }

    /// Closes the connection if it has waited for a request for so long since it was first seen to; says whether. To be called now and then.
    pub fn close_if_idle(&self, now: Instant, timeout: Duration) -> bool {
        let since = match self.idle.get() {
            Idle::No => return false,
            Idle::Since(since) => since,
            Idle::Unseen => {
                self.idle.set(Idle::Since(now));
                now
            }
        };
        let closes = self.wish() != Wish::Close && now.saturating_duration_since(since) >= timeout;
        if closes {
            self.ask(Wish::Close);
        }
        closes
    }

    /// What its worker has taken on; None: nobody counts.
    fn load(&self) -> Option<&Rc<Load>> {
        self.load.as_ref()
    }

    /// Asks the connection for something, and wakes it if it waits for a request.
    pub fn ask(&self, wish: Wish) {
        self.wish.set(wish);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// What was asked.
    #[must_use]
    pub fn wish(&self) -> Wish {
        self.wish.get()
    }

    /// Whether the connection waits for a request and holds no part of one.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !matches!(self.idle.get(), Idle::No)
    }

    fn is_swept(&self) -> bool {
        self.swept
    }

    fn rest(&self, cx: &Context<'_>) {
        if !self.is_idle() {
            self.idle.set(Idle::Unseen);
        }
        self.watch(cx);
    }

    /// Has the task woken when something is asked.
    fn watch(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(w) => w.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
    }

    /// Whether it has carried a request.
    fn is_used(&self) -> bool {
        self.used.get()
    }

    fn work(&self) {
        self.idle.set(Idle::No);
        self.used.set(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_connection_is_idle_counts_from_when_that_is_seen() {
        let (state, start, timeout) = (ConnState::swept(), Instant::now(), Duration::from_secs(10));
        let cx = Context::from_waker(Waker::noop());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(!state.close_if_idle(after(100), timeout), "it does not wait for a request yet");
        state.rest(&cx);
        assert!(state.is_idle());
        assert!(!state.close_if_idle(after(100), timeout) && !state.close_if_idle(after(109), timeout));
        state.work();
        state.rest(&cx);
        assert!(!state.close_if_idle(after(111), timeout), "a request came in between");
        assert!(!state.close_if_idle(after(120), timeout) && state.close_if_idle(after(121), timeout));
        assert_eq!(state.wish(), Wish::Close);
        assert!(!state.close_if_idle(after(200), timeout), "once");
        let state = ConnState::swept();
        state.rest(&cx);
        assert!(state.close_if_idle(start, Duration::ZERO), "who may not wait at all");
    }
}
