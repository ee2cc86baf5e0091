//! The HTTP/1 client side: send one request on a connection, yield its answer. Runs in the task of the request.
//!
//! **Invariant:** a connection goes back to its pool only when the request was sent whole, the answer was read to its exact end, and not
//! one byte came behind it.

use std::cell::OnceCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::coop::unconstrained;
use tokio::time::Instant;

use super::Tunnel;
use super::pump::{Pump, PumpError, Put};
use super::response_body::ResponseBody;
use super::timer::Timer;
use crate::codec::Codec;
use crate::codec::http1::{
    CodecLimits, ConnectionField, ConnectionOptions, DecodeError, EncodeError, Frame, RequestEncoder, ResponseDecoder,
};
use crate::codec::http2::{ErrorCode, Malformed};
use crate::codec::xprotocol::Unwritable;
use crate::config::Limits;
use crate::message::{Body, BodyError, BodyLength, Head, HttpHead, Method, Request, Response, next_conn_id};
use crate::net::{Conn, Detached};

/// An upstream connection that carries one exchange at a time.
pub struct ClientConn<C> {
    id: u64,
    pub(super) conn: C,
    pub(super) decoder: ResponseDecoder,
    pub(super) timer: Timer,
    pub(super) known: usize,
    pub(super) limits: Rc<Limits>,
    exchanges: u64,
    opened: Instant,
    /// The address it is from, once a log has asked for it.
    local_text: OnceCell<Rc<str>>,
}

/// A connection on its way to another worker.
pub struct DetachedConn {
    id: u64,
    conn: Detached,
    exchanges: u64,
    opened: Instant,
}

/// Where a connection goes when its exchange is over: the pool that it was leased from.
pub trait Home<C> {
    /// Takes back a connection that can carry another exchange.
    fn give_back(&self, conn: Box<ClientConn<C>>);

    /// A leased connection is gone: it was closed, or became a tunnel.
    fn gone(&self);
}

/// The sole use of an upstream connection, until it is given back or dropped; dropping closes it.
pub struct Lease<C> {
    conn: Option<Box<ClientConn<C>>>,
    home: Rc<dyn Home<C>>,
}

/// How to send a request.
#[derive(Clone, Copy, Debug)]
pub struct SendOptions {
    /// From the request sent to the answer's head; `None` waits for ever.
    pub timeout: Option<Duration>,
    /// Whether to pass the client's offer of an upgrade on.
    pub upgrade: bool,
    /// Whether the client takes trailers.
    pub te_trailers: bool,
}

/// What an upstream sent.
pub enum Answer {
    /// A 1xx; the answer is still to come.
    Interim(HttpHead),
    /// The answer.
    Response(Response),
    /// There is none: the request was one-way, and is on its way.
    None,
    /// The answer that makes the connection a tunnel, and the connection.
    Upgraded(Response, Tunnel),
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The connection ended before the first byte of an answer. `reused`: it had been idle, and the origin may just have closed it.
    Closed {
        /// Whether it had carried an exchange before.
        reused: bool,
    },
    /// The connection ended inside the answer's head.
    Truncated,
    /// The answer breaks the protocol or a limit.
    Malformed(DecodeError),
    /// An upgrade that nobody asked for, or more than `interim_responses_max` interim responses.
    Unexpected,
    /// No answer in time.
    Timeout,
    /// The origin goes or has enough to do, and has not looked at the request (RFC 9113, 8.7).
    Refused,
    /// The origin has reset the stream (RFC 9113, 6.4).
    Reset(ErrorCode),
    /// The origin broke the rules of HTTP/2 on the stream.
    Broken(ErrorCode),
    /// The answer's head is none in HTTP/2.
    MalformedHead(Malformed),
    /// The origin of HTTP/2 takes no WebSocket.
    NoWebSocket,
    /// What it has switched to is not what was asked for.
    Handshake,
    /// The request's own body broke off: the client's fault.
    RequestBody(BodyError),
    /// It can't be written: a filter or a rewrite made it so, or the origin's protocol has no such request.
    Unwritable(EncodeError),
    /// It can't be written as a frame of its RPC protocol: our fault.
    Unframed(Unwritable),
}

/// A request on its way and the answer that comes back.
pub struct Flight<C: Conn> {
    lease: Option<Lease<C>>,
    pump: Option<Pump>,
    asked: Asked,
    timeout: Option<Duration>,
    interims: u32,
    /// Whether the connection may carry another exchange, as far as is known.
    reusable: bool,
}

/// What of the request decides how its answer is read.
#[derive(Clone, Copy)]
struct Asked {
    method: Method,
    upgrade: bool,
}

impl<C: Conn> ClientConn<C> {
    /// A connection that has carried nothing yet.
    pub fn new(conn: C, limits: Rc<Limits>) -> Self {
        let decoder = ResponseDecoder::new(CodecLimits::from(&*limits));
        Self {
            id: next_conn_id(),
            conn,
            decoder,
            timer: Timer::new(),
            known: 0,
            limits,
            exchanges: 0,
            local_text: OnceCell::new(),
            opened: Instant::now(),
        }
    }

    /// Takes an idle connection off this worker. None: it can't leave, and is closed.
    pub fn detach(self) -> Option<DetachedConn> {
        let Self { id, conn, exchanges, opened, .. } = self;
        Some(DetachedConn { id, conn: conn.detach()?, exchanges, opened })
    }

    /// Goes on with a connection that another worker has detached; `attach` makes it one of this worker's.
    ///
    /// # Errors
    /// When that fails.
    pub fn attach(
        detached: DetachedConn,
        limits: Rc<Limits>,
        attach: impl FnOnce(Detached) -> io::Result<C>,
    ) -> io::Result<Self> {
        let DetachedConn { id, conn, exchanges, opened } = detached;
        Ok(Self { id, exchanges, opened, ..Self::new(attach(conn)?, limits) })
    }

    /// Requests that it has carried.
    pub fn exchanges(&self) -> u64 {
        self.exchanges
    }

    /// When it was opened.
    pub fn opened(&self) -> Instant {
        self.opened
    }

    /// Whether an idle connection can still be used: open, and nothing came on it unasked.
    pub fn is_usable(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        // Outside the task's budget: without that, a spent budget would look like a silent connection.
        let look = unconstrained(poll_fn(|cx| Poll::Ready(self.conn.poll_read_with(cx, 0, |_| (0, ())).is_pending())));
        pin!(look).poll(&mut cx) == Poll::Ready(true)
    }
}

impl<C> Lease<C> {
    /// A lease on `conn` from `home`.
    #[must_use]
    pub fn new(conn: Box<ClientConn<C>>, home: Rc<dyn Home<C>>) -> Self {
        Self { conn: Some(conn), home }
    }

    /// The number of its connection among those of this process.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.conn.as_ref().map_or(0, |conn| conn.id)
    }

    pub(super) fn conn(&mut self) -> &mut ClientConn<C> {
        self.conn.as_mut().expect("a lease holds its connection until it is consumed")
    }

    /// The exchange is over and the connection can carry another.
    pub(super) fn give_back(mut self) {
        if let Some(mut conn) = self.conn.take() {
            conn.timer.clear();
            conn.known = 0;
            self.home.give_back(conn);
        }
    }
}

/// A connection that left its pool for good but is still open.
struct Away<C>(Rc<dyn Home<C>>);

impl<C> Drop for Away<C> {
    fn drop(&mut self) {
        self.0.gone();
    }
}

impl<C> Drop for Lease<C> {
    fn drop(&mut self) {
        if self.conn.is_some() {
            self.home.gone();
        }
    }
}

impl<C: Conn> Lease<C> {
    /// The address that its connection is from, as text.
    #[must_use]
    pub fn local_text(&self) -> Option<Rc<str>> {
        let conn = self.conn.as_ref()?;
        Some(Rc::clone(conn.local_text.get_or_init(|| conn.conn.local_addr().log_text().into())))
    }

    /// Takes the connection out for a tunnel. It counts as open until what comes with it is dropped.
    fn into_conn(mut self) -> Option<(C, Away<C>)> {
        let conn = self.conn.take()?;
        Some((conn.conn, Away(Rc::clone(&self.home))))
    }

    /// Writes the head of `request`, takes its body, and lets both leave while the answer is awaited.
    ///
    /// # Errors
    /// When the connection breaks, or the request can't be expressed.
    pub async fn send(mut self, request: &mut Request, options: SendOptions) -> Result<Flight<C>, SendError> {
        let Head::Http(head) = &request.head else { return Err(SendError::Unwritable(EncodeError::Foreign)) };
        let body = std::mem::take(&mut request.body);
        let mut encoder = RequestEncoder::new(head, body.length());
        if options.upgrade {
            encoder.connection = ConnectionField::Upgrade;
        }
        encoder.te_trailers = options.te_trailers;
        let asked = Asked { method: head.method(), upgrade: options.upgrade };
        let conn = self.conn();
        conn.exchanges += 1;
        conn.decoder.expect_response(asked.method);
        conn.timer.set(conn.limits.body_idle_timeout + STALL_SLACK);
        let reused = conn.exchanges > 1;
        let mut put = Put::new(encoder.head_len_max());
        poll_fn(|cx| match put.poll(cx, &mut conn.conn, |room| encoder.encode(room)) {
            Poll::Pending => conn.timer.poll_expired(cx).map(|()| Err(SendError::Timeout)),
            Poll::Ready(Ok(Ok(()))) => Poll::Ready(Ok(())),
            Poll::Ready(Ok(Err(e))) => Poll::Ready(Err(SendError::Unwritable(e))),
            Poll::Ready(Err(_)) => Poll::Ready(Err(SendError::Closed { reused })),
        })
        .await?;
        let chunked = body.length() == BodyLength::Chunked;
        let pump = Pump::new(body, chunked);
        let timeout = options.timeout;
        Ok(Flight { lease: Some(self), pump: Some(pump), asked, timeout, interims: 0, reusable: true })
    }
}

impl<C: Conn> Flight<C> {
    /// The next thing the upstream sends. After a response or an upgrade the flight is over.
    ///
    /// # Errors
    /// When the exchange failed; the connection is closed then.
    pub async fn answer(&mut self) -> Result<Answer, SendError> {
        poll_fn(|cx| self.poll_answer(cx)).await
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer, SendError>> {
        if let Poll::Ready(Err(e)) = self.poll_pump(cx) {
            return Poll::Ready(Err(SendError::RequestBody(e)));
        }
        loop {
            let look = ready!(self.poll_look(cx))?;
            match look {
                Look::More => {}
                Look::Head { head, .. } if is_interim(head.status()) => {
                    self.interims += 1;
                    let max = self.lease.as_mut().map_or(0, |lease| lease.conn().limits.interim_responses_max);
                    if self.interims > max {
                        return Poll::Ready(Err(SendError::Unexpected));
                    }
                    if self.pump.is_some()
                        && let Some(lease) = &mut self.lease
                    {
                        // A client that waited for this one starts its body's clock now.
                        let conn = lease.conn();
                        conn.timer.set(conn.limits.body_idle_timeout + STALL_SLACK);
                    }
                    return Poll::Ready(Ok(Answer::Interim(head)));
                }
                Look::Head { head, length, options, in_hand, exact } => {
                    self.reusable &= options.keep_alive;
                    return Poll::Ready(self.finish(options.upgrade, head, length, in_hand, exact));
                }
            }
        }
    }

    /// Lets the request's body go on its way.
    fn poll_pump(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let Some(pump) = &mut self.pump else { return Poll::Ready(Ok(())) };
        let conn = self.lease.as_mut().expect("held until the answer").conn();
        let before = pump.sent();
        match pump.poll(cx, &mut conn.conn) {
            Poll::Ready(Ok(())) => {
                self.pump = None;
                match self.timeout {
                    Some(timeout) => conn.timer.set(timeout),
                    None => conn.timer.clear(),
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(PumpError::Source(e))) if e != BodyError::Sink => Poll::Ready(Err(e)),
            // The origin takes no more. It may have answered before; if not, the read will tell.
            Poll::Ready(Err(_)) => {
                self.pump = None;
                self.reusable = false;
                Poll::Ready(Ok(()))
            }
            Poll::Pending => {
                if pump.sent() != before {
                    conn.timer.set(conn.limits.body_idle_timeout + STALL_SLACK);
                }
                Poll::Pending
            }
        }
    }

    fn poll_look(&mut self, cx: &mut Context<'_>) -> Poll<Result<Look, SendError>> {
        let take_body = self.pump.is_none();
        let conn = self.lease.as_mut().expect("held until the answer").conn();
        let (known, decoder, in_hand_max) = (conn.known, &mut conn.decoder, conn.limits.body_in_hand_bytes_max);
        let reused = conn.exchanges > 1;
        let read = conn.conn.poll_read_with(cx, known, |bytes| {
            if bytes.len() <= known {
                let error = if known == 0 { SendError::Closed { reused } } else { SendError::Truncated };
                return (0, Err(error));
            }
            look(decoder, bytes, if take_body { in_hand_max } else { 0 })
        });
        match read {
            Poll::Ready(Ok(Ok((known, look)))) => {
                conn.known = known;
                Poll::Ready(Ok(look))
            }
            Poll::Ready(Ok(Err(e))) => Poll::Ready(Err(e)),
            Poll::Ready(Err(_)) if known == 0 => Poll::Ready(Err(SendError::Closed { reused })),
            Poll::Ready(Err(_)) => Poll::Ready(Err(SendError::Truncated)),
            Poll::Pending => conn.timer.poll_expired(cx).map(|()| Err(SendError::Timeout)),
        }
    }

    fn finish(
        &mut self,
        upgrade: bool,
        head: HttpHead,
        length: BodyLength,
        in_hand: Option<Bytes>,
        exact: bool,
    ) -> Result<Answer, SendError> {
        let status = head.status();
        let lease = self.lease.take().expect("held until the answer");
        let tunnel = status == 101 || (self.asked.method == Method::Connect && (200..300).contains(&status));
        if tunnel {
            if self.pump.is_some() || (status == 101 && !(self.asked.upgrade && upgrade)) {
                return Err(SendError::Unexpected);
            }
            let (conn, away) = lease.into_conn().ok_or(SendError::Unexpected)?;
            let response = Response { head: Head::Http(head), body: Body::Empty };
            return Ok(Answer::Upgraded(response, Tunnel { conn: Box::new(conn), guard: Box::new(away) }));
        }
        let body = match (length, in_hand) {
            (BodyLength::None, _) if self.pump.is_none() => Body::Empty,
            (_, Some(bytes)) if self.pump.is_none() => Body::Full(bytes),
            _ => {
                let source = ResponseBody::new(lease, self.pump.take(), length, self.reusable);
                return Ok(Answer::Response(Response {
                    head: Head::Http(head),
                    body: Body::Streaming(Box::new(source)),
                }));
            }
        };
        if exact && self.reusable {
            lease.give_back();
        }
        Ok(Answer::Response(Response { head: Head::Http(head), body }))
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { .. } => f.write_str("the origin closed the connection without an answer"),
            Self::Truncated => f.write_str("the origin closed the connection inside the head of its answer"),
            Self::Malformed(e) => write!(f, "the origin's answer is malformed: {e}"),
            Self::Unexpected => f.write_str("the origin sent an upgrade or interim responses that nobody asked for"),
            Self::Timeout => f.write_str("the origin did not answer within the request timeout"),
            Self::Refused => f.write_str("the origin takes no requests on this connection any more"),
            Self::Reset(ErrorCode::Http11Required) => {
                f.write_str("the origin wants this request in HTTP/1.1: set upstream_protocol to Http1 on its route")
            }
            Self::Reset(code) => write!(f, "the origin reset the stream: {code:?}"),
            Self::Broken(code) => write!(f, "the origin broke the rules of HTTP/2 on the stream: {code:?}"),
            Self::MalformedHead(e) => write!(f, "the head of the origin's answer is malformed: {e}"),
            Self::NoWebSocket => f.write_str(
                "the origin takes no WebSocket over HTTP/2: it has not sent SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441); \
                 set upstream_protocol to Http1 on its route",
            ),
            Self::Handshake => f.write_str("the origin's Sec-WebSocket-Accept is not the answer to the key"),
            Self::RequestBody(e) => write!(f, "the request's body broke off: {e}"),
            Self::Unwritable(e) => write!(f, "the request can't be written: {e}"),
            Self::Unframed(e) => write!(f, "the request can't be written as a frame: {e}"),
        }
    }
}

impl std::error::Error for SendError {}

/// What a look at the readable bytes found.
enum Look {
    More,
    Head {
        head: HttpHead,
        length: BodyLength,
        options: ConnectionOptions,
        /// The whole body, if it came with the head.
        in_hand: Option<Bytes>,
        /// Whether the message ended exactly where the readable bytes did.
        exact: bool,
    },
}

type Looked = (usize, Result<(usize, Look), SendError>);

fn look(decoder: &mut ResponseDecoder, bytes: &[u8], in_hand_max: usize) -> Looked {
    match decoder.decode(bytes) {
        Ok(Some((Frame::Head(head, length, options), used))) => {
            let rest = &bytes[used..];
            let whole = match length {
                BodyLength::None => Some(0),
                BodyLength::Exact(n) if n <= rest.len().min(in_hand_max) as u64 => usize::try_from(n).ok(),
                _ => None,
            };
            let taken = whole.unwrap_or(0);
            decoder.advance_body(taken as u64);
            let in_hand = whole.map(|n| Bytes::copy_from_slice(&rest[..n]));
            let exact = whole == Some(rest.len());
            (used + taken, Ok((0, Look::Head { head, length, options, in_hand, exact })))
        }
        Ok(Some((_, used))) => (used, Ok((0, Look::More))),
        Ok(None) => (0, Ok((bytes.len(), Look::More))),
        Err(e) => (0, Err(SendError::Malformed(e))),
    }
}

/// 1xx but 101, which is an answer (RFC 9110, 15.2).
fn is_interim(status: u16) -> bool {
    (100..200).contains(&status) && status != 101
}

/// While a request's body is on its way, its source's clock goes first: a client that stalls is told from an origin that does.
pub(super) const STALL_SLACK: Duration = Duration::from_millis(500);
