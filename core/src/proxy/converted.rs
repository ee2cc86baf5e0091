//! A request that is converted on its way: its body is gathered first, each try asks in the other protocol, and the answer comes back in the
//! client's own.
//!
//! **Invariant:** what is held whole is counted against `converted_bytes_max` until the request is over; a request that can't be converted
//! takes no connection.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::ready;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::Generation;
use super::convert::{Facts, Pair, full};
use super::error::{Error, ErrorKind, Retry, Side};
use super::forward::Final;
use super::forwarded;
use crate::codec::detect::Protocol;
use crate::codec::http1::is_authority;
use crate::config::Limits;
use crate::config::schema::Forwarded;
use crate::message::{
    Body, BodyError, BodyLength, BodySource, Chunk, Downstream, Exchange, FieldId, Head, HttpHead, Request, RpcKind,
};
use crate::net::Transport;
use crate::router::{Forward, Route};
use crate::stream::ReplyTo;
use crate::stream::client::SendError;
use crate::upstream::HostPool;

/// How one request is converted.
pub(super) struct Converted<'r, T: Transport> {
    pair: Pair,
    generation: &'r Rc<Generation<T>>,
    forwarded: Option<&'r Forwarded>,
    route: Route<'r>,
    forward: &'r Forward,
}

impl<'r, T: Transport> Converted<'r, T> {
    /// None: the request goes on in a protocol that its head can be written in as it is.
    #[inline]
    pub(super) fn of(
        x: &Exchange,
        protocol: Protocol,
        (route, forward): (Route<'r>, &'r Forward),
        generation: &'r Rc<Generation<T>>,
        forwarded: impl FnOnce() -> Option<&'r Forwarded>,
    ) -> Option<Self> {
        let pair = Pair::of(&x.request.head, protocol)?;
        Some(Self { pair, generation, forwarded: forwarded(), route, forward })
    }

    /// What a copy of the request is told of its client.
    pub(super) fn told(&self, x: &Exchange) -> Option<Told> {
        self.forwarded.map(|settings| Told { settings: settings.clone(), downstream: Rc::clone(&x.downstream) })
    }

    /// Waits for all of the request's body, by this time if there is one.
    pub(super) async fn gather(
        &self,
        deadline: Option<Instant>,
        x: &mut Exchange,
        reply: &mut impl ReplyTo,
    ) -> Result<(), Error> {
        if x.wants_tunnel() {
            return Err(refused(super::convert::Refused::Tunnel));
        }
        let Body::Streaming(source) = &x.request.body else { return Ok(()) };
        let limits = self.generation.limits();
        if matches!(source.length(), BodyLength::Exact(len) if len > limits.rpc_frame_bytes_max as u64) {
            return Err(SendError::RequestBody(BodyError::TooLarge).into());
        }
        let head = x.request.head.fields();
        if head.is_some_and(|head| head.get_id(FieldId::Expect).is_some()) {
            // Nobody behind us would say it. One who has left is found out below.
            let _ = reply.informational(HttpHead::response(100)).await;
        }
        let body = by(deadline, whole(std::mem::take(&mut x.request.body), self.generation.in_hand(), limits)).await?;
        let (body, held) = body.map_err(|unheld| match unheld {
            Unheld::Body(error) => SendError::RequestBody(error).into(),
            Unheld::Overflow => overflow(),
        })?;
        x.held.push(Box::new(held));
        x.request.body = full(body);
        Ok(())
    }

    /// The request as `host` is asked it.
    pub(super) fn request(
        &self,
        host: &HostPool<T>,
        timeout: Option<Duration>,
        x: &Exchange,
    ) -> Result<Box<Request>, Error> {
        let limits = self.generation.limits();
        let body = match &x.request.body {
            Body::Full(body) => body.clone(),
            _ => Bytes::new(),
        };
        let facts = Facts { timeout, host: name(host), limits };
        let mut made = self.pair.request(&x.request.head, &body, facts).map_err(refused)?;
        if let Head::Http(head) = &mut made.head {
            self.route.rewrite(head, limits.request_line_bytes_max)?;
            if self.forward.wants_upstream_host() {
                Forward::set_upstream_host(head, host.hostname());
            }
            if let Some(settings) = self.forwarded {
                forwarded::stamp_head(head, &x.downstream, settings);
            }
        }
        Ok(Box::new(made))
    }

    /// The answer as the client is told it.
    pub(super) async fn answer(
        &self,
        host: &HostPool<T>,
        answer: Final,
        deadline: Option<Instant>,
        x: &mut Exchange,
    ) -> Result<Final, Error> {
        let mut response = match answer {
            Final::Response(response) => response,
            // What is sent one-way has no answer; over HTTP there is always one.
            Final::None if matches!(x.request.head, Head::Http(_)) => return Ok(Final::Response(Pair::accepted())),
            other => return Ok(other),
        };
        let limits = self.generation.limits();
        if self.pair.wants_whole() {
            let body = whole(std::mem::take(&mut response.body), self.generation.in_hand(), limits);
            let body = by(deadline, body).await?;
            let (body, held) = body.map_err(|unheld| match unheld {
                Unheld::Body(BodyError::TooLarge) => {
                    host.counters().convert_refused.inc();
                    answer_refused(super::convert::Refused::TooLong)
                }
                Unheld::Body(_) => SendError::Truncated.into(),
                Unheld::Overflow => overflow(),
            })?;
            x.held.push(Box::new(held));
            response.body = full(body);
        }
        if x.request.head.rpc().is_some_and(|asked| asked.kind == RpcKind::OneWay) {
            return Ok(Final::None);
        }
        let response = self.pair.response(&x.request.head, response, limits);
        response.map(Final::Response).map_err(|refused| {
            host.counters().convert_refused.inc();
            answer_refused(refused)
        })
    }
}

/// Waits, until this time if there is one.
async fn by<R>(deadline: Option<Instant>, wait: impl Future<Output = R>) -> Result<R, SendError> {
    match deadline {
        Some(at) => timeout_at(at, wait).await.map_err(|_| SendError::Timeout),
        None => Ok(wait.await),
    }
}

/// What origins are told of a client, for a copy that may outlive its request.
#[derive(Clone)]
pub(super) struct Told {
    settings: Forwarded,
    downstream: Rc<Downstream>,
}

/// A copy of a request for a host that is asked in another protocol. None: it can't be converted.
pub(super) fn copy<T: Transport>(
    host: &HostPool<T>,
    protocol: Protocol,
    request: Request,
    told: Option<&Told>,
    limits: &Limits,
) -> Option<Request> {
    let Some(pair) = Pair::of(&request.head, protocol) else { return Some(request) };
    let body = match request.body {
        Body::Full(body) => body,
        Body::Empty => Bytes::new(),
        Body::Streaming(_) => return None,
    };
    let mut made = pair.request(&request.head, &body, Facts { timeout: None, host: name(host), limits }).ok()?;
    if let (Head::Http(head), Some(told)) = (&mut made.head, told) {
        forwarded::stamp_head(head, &told.downstream, &told.settings);
    }
    Some(made)
}

/// The host's name, else its address; that of a unix socket is no name that a request could have.
fn name<T: Transport>(host: &HostPool<T>) -> &str {
    let name = if host.hostname().is_empty() { host.name() } else { host.hostname() };
    if is_authority(name.as_bytes()) { name } else { "localhost" }
}

fn refused(refused: super::convert::Refused) -> Error {
    Error { kind: ErrorKind::Convert(refused), side: Side::Downstream, retry: Retry::Never }
}

fn answer_refused(refused: super::convert::Refused) -> Error {
    Error { kind: ErrorKind::ConvertAnswer(refused), side: Side::Upstream, retry: Retry::Never }
}

fn overflow() -> Error {
    Error { kind: ErrorKind::ConvertOverflow, side: Side::Local, retry: Retry::Never }
}

/// Bytes of bodies that one worker holds whole.
#[derive(Debug, Default)]
pub(super) struct InHand(Cell<usize>);

/// So many of them, until dropped.
struct Held {
    all: Rc<InHand>,
    bytes: usize,
}

impl Held {
    /// So many more; says whether there was room.
    fn grow(&mut self, bytes: usize, bytes_max: usize) -> bool {
        let now = self.all.0.get().saturating_add(bytes);
        if now > bytes_max {
            return false;
        }
        self.all.0.set(now);
        self.bytes += bytes;
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.0.set(self.all.0.get() - self.bytes);
    }
}

/// Why a body is not held whole.
enum Unheld {
    Body(BodyError),
    /// Others hold `converted_bytes_max`.
    Overflow,
}

/// All of a body, without its trailers.
async fn whole(body: Body, in_hand: &Rc<InHand>, limits: &Limits) -> Result<(Bytes, Held), Unheld> {
    let mut held = Held { all: Rc::clone(in_hand), bytes: 0 };
    let mut source = match body {
        Body::Empty => return Ok((Bytes::new(), held)),
        Body::Full(bytes) => return Ok((bytes, held)),
        Body::Streaming(source) => source,
    };
    let mut all = Vec::new();
    while let Some(chunk) = next(&mut *source).await.map_err(Unheld::Body)? {
        let Chunk::Data(bytes) = chunk else { continue };
        if all.len() + bytes.len() > limits.rpc_frame_bytes_max {
            return Err(Unheld::Body(BodyError::TooLarge));
        }
        if !held.grow(bytes.len(), limits.converted_bytes_max) {
            return Err(Unheld::Overflow);
        }
        all.extend_from_slice(&bytes);
    }
    Ok((all.into(), held))
}

fn next(source: &mut dyn BodySource) -> impl Future<Output = Result<Option<Chunk>, BodyError>> {
    poll_fn(|cx| {
        source.poll_beside(cx);
        std::task::Poll::Ready(ready!(source.poll_chunk(cx)))
    })
}
