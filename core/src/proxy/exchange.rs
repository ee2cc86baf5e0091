//! The whole life of a request, as one straight line.
//!
//! **Invariant:** a client gets exactly one answer, its own; after the first byte of it nothing is tried again.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::error::{Error, Retry, Side};
use super::reply::{direct_reply, local_reply, refusal};
use super::{Current, Generation, Slot, forwarded};
use crate::config::schema::ClusterId;
use crate::filter::{Callout, CalloutError, Direction, Filters, Phase, REMATCHES_MAX, Round};
use crate::message::{Body, Exchange, Request, Response, ResponseFlags};
use crate::net::Transport;
use crate::router::{Route, RouteAction};
use crate::stream::client::{Answer, Flight, SendError, SendOptions};
use crate::stream::{Refusal, ReplyTo, Service, Tunnel};
use crate::telemetry::metrics::WorkerCounters;
use crate::tls::MaybeTls;
use crate::upstream::{Cluster, HostPool, Outcome, Wish};

/// The proxy of one listener on one worker.
pub struct Proxy<T: Transport> {
    current: Rc<Current<T>>,
    listener: Slot,
    counters: Arc<WorkerCounters>,
}

impl<T: Transport> Proxy<T> {
    /// The proxy behind the listener in this slot.
    #[must_use]
    pub fn new(current: Rc<Current<T>>, listener: Slot, counters: Arc<WorkerCounters>) -> Self {
        Self { current, listener, counters }
    }

    async fn exchange(&self, x: &mut Exchange, reply: &mut impl ReplyTo) -> Result<(), Error> {
        let generation = self.current.get();
        if let Some(logs) = generation.logs(self.listener) {
            x.wanted = logs.wanted();
        }
        let filters = generation.filters(self.listener);
        if let Round::Reply(answer) = ask(filters, Phase::BeforeRoute, x, None).await {
            return self.respond(x, reply, answer).await;
        }
        let mut route = self.route(&generation, x)?;
        for _ in 0..=REMATCHES_MAX {
            match ask(filters, Phase::AfterRoute, x, Some(&route)).await {
                Round::Reply(answer) => return self.respond(x, reply, answer).await,
                Round::ReMatchRoute => route = self.route(&generation, x)?,
                Round::Passed | Round::Refuse(..) | Round::ReChooseHost => break,
            }
        }
        match &route.action {
            RouteAction::Direct { status, body } => self.respond(x, reply, direct_reply(*status, body)).await,
            RouteAction::Cluster(cluster) => {
                forwarded::stamp(x, generation.forwarded(self.listener));
                let body = std::mem::take(&mut x.request.body);
                x.request.body = filters.on_body(Direction::Request, body);
                self.forward(&generation, *cluster, &route, x, reply).await
            }
        }
    }

    fn route(&self, generation: &Generation<T>, x: &Exchange) -> Result<Arc<Route>, Error> {
        let router = generation.router(self.listener);
        let head = x.request.head.http().ok_or_else(Error::no_route)?;
        router.route(head).cloned().ok_or_else(Error::no_route)
    }

    /// Picks, connects, sends and passes the answer on; tries again where that is safe.
    async fn forward(
        &self,
        generation: &Generation<T>,
        cluster: ClusterId,
        route: &Route,
        x: &mut Exchange,
        reply: &mut impl ReplyTo,
    ) -> Result<(), Error> {
        let (cluster, filters) = (generation.cluster(cluster), generation.filters(self.listener));
        if x.wanted.route {
            let notes = x.notes_mut();
            notes.route.clone_from(&route.name);
            cluster.name().clone_into(&mut notes.cluster);
        }
        let options = SendOptions { timeout: route.timeout, upgrade: x.upgrade, te_trailers: x.te_trailers };
        let replay = Replay::of(x);
        let mut fresh = false;
        let (mut tried, mut permit) = (Vec::new(), None);
        loop {
            x.attempts += 1;
            let host = cluster.pick(&Wish { tried: &tried, ..Wish::default() })?;
            match ask(filters, Phase::AfterChooseHost, x, Some(route)).await {
                Round::Reply(answer) => return self.respond(x, reply, answer).await,
                Round::ReChooseHost if x.attempts < ATTEMPTS_MAX => continue,
                Round::Passed | Round::Refuse(..) | Round::ReMatchRoute | Round::ReChooseHost => {}
            }
            match self.attempt(&host, filters, (fresh, options), x, reply).await {
                Err(e) if x.attempts < attempts_max(&cluster) && replay.allows(e.retry, x) => {
                    // The one before is over: it must not stand in the way of this one.
                    drop(permit.take());
                    permit = cluster.retry();
                    if permit.is_none() {
                        return Err(e);
                    }
                    tracing::debug!(host = %host.name(), error = %e, "the request is tried again");
                    tried.push(host.id());
                    host.counters().request_retry.inc();
                    fresh |= e.retry == Retry::Idempotent;
                    replay.restore(x);
                }
                Err(e) if e.side == Side::Downstream => {
                    tracing::debug!(peer = %x.downstream.peer, error = %e, status = e.status(), "the client's request broke off");
                    return Err(e);
                }
                Err(e) => {
                    tracing::warn!(cluster = %cluster.name(), host = %host.name(), error = %e, status = e.status(),
                        "the request failed");
                    return Err(e);
                }
                Ok(()) => return Ok(()),
            }
        }
    }

    async fn attempt(
        &self,
        host: &Rc<HostPool<T>>,
        filters: &Rc<Filters>,
        (fresh, options): (bool, SendOptions),
        x: &mut Exchange,
        reply: &mut impl ReplyTo,
    ) -> Result<(), Error> {
        let counters = host.counters();
        let lease = host.checkout(fresh).await?;
        let sent = Instant::now();
        x.upstream_host = Some(Rc::clone(host.name()));
        x.upstream_conn = lease.id();
        if x.wanted.upstream_local {
            x.notes_mut().upstream_local = lease.local_addr().cloned();
        }
        counters.request_total.inc();
        let _active = Active::new(&counters.request_active);
        let answered = async {
            let mut flight = lease.send(&mut x.request, options).await?;
            x.request_sent = Some(Instant::now());
            let answer = await_answer(&mut flight, reply).await?;
            x.response_received = Some(Instant::now());
            Ok::<_, SendError>(answer)
        }
        .await;
        match answered {
            Ok(Final::Response(mut response)) => {
                let status = response.head.http().map_or(0, crate::message::HttpHead::status);
                host.report(Outcome::Answered { status, took: sent.elapsed() });
                filters.on_response(x, &mut response).await;
                response.body = filters.on_body(Direction::Response, response.body);
                self.respond(x, reply, response).await
            }
            Ok(Final::Upgraded(response, tunnel)) => {
                host.report(Outcome::Answered { status: 101, took: sent.elapsed() });
                self.count_reply(x, response.head.http().map_or(0, crate::message::HttpHead::status));
                self.note_response(x, &response);
                if reply.upgrade(x, response, tunnel).await.is_err() {
                    self.counters.downstream.request_reset.inc();
                }
                Ok(())
            }
            // The client is gone: there is nobody to answer.
            Ok(Final::Gone) => Ok(()),
            Err(e) => {
                host.report(match e {
                    SendError::Timeout => Outcome::Timeout,
                    SendError::RequestBody(_) | SendError::Unwritable(_) => Outcome::Abandoned,
                    _ => Outcome::Reset,
                });
                Err(e.into())
            }
        }
    }

    /// Sends an answer. From here on there is no other: what goes wrong now cuts the connection.
    async fn respond(&self, x: &mut Exchange, reply: &mut impl ReplyTo, response: Response) -> Result<(), Error> {
        self.count_reply(x, response.head.http().map_or(0, crate::message::HttpHead::status));
        self.note_response(x, &response);
        if let Err(e) = reply.response(x, response).await {
            tracing::debug!(peer = %x.downstream.peer, error = %e, "the answer did not arrive whole");
            self.counters.downstream.request_reset.inc();
        }
        self.counters.downstream.bytes_write.add(x.bytes_sent);
        Ok(())
    }

    /// Writes the lines of the access logs.
    fn log(&self, x: &Exchange, now: Instant) {
        if let Some(logs) = self.current.get().logs(self.listener) {
            logs.write(x, now);
        }
    }

    /// Keeps what an access log wants of the response.
    fn note_response(&self, x: &mut Exchange, response: &Response) {
        if x.wanted.response
            && let (Some(head), Some(logs)) = (response.head.http(), self.current.get().logs(self.listener))
        {
            logs.note_response(x, head);
        }
    }

    fn count_reply(&self, x: &mut Exchange, status: u16) {
        x.status = status;
        self.counters.downstream.status(status);
    }
}

impl<T: Transport> Clone for Proxy<T> {
    fn clone(&self) -> Self {
        Self { current: Rc::clone(&self.current), listener: self.listener, counters: Arc::clone(&self.counters) }
    }
}

impl<T: Transport> Service for Proxy<T> {
    async fn call(&self, x: &mut Exchange, reply: &mut impl ReplyTo) {
        let counters = &self.counters.downstream;
        counters.request_total.inc();
        let _active = Active::new(&counters.request_active);
        if let Err(e) = self.exchange(x, reply).await {
            counters.request_failed.inc();
            x.flags.add(e.flags());
            if x.wanted.failure {
                x.notes_mut().failure = e.transport_failure();
            }
            // Whether the client hears of it or is gone, the request is over.
            let _ = self.respond(x, reply, local_reply(e.status())).await;
        }
    }

    fn ended(&self, x: &mut Exchange, whole: bool) {
        if !whole {
            x.flags.add(ResponseFlags::DOWNSTREAM_TERMINATED);
            self.counters.downstream.request_reset.inc();
            tracing::debug!(peer = %x.downstream.peer, "the client left before its answer was complete");
        }
        self.current.get().filters(self.listener).on_log(x);
        let now = Instant::now();
        let took = now.saturating_duration_since(x.started);
        self.counters.request_time.note(took);
        self.counters.process_time.note(took.saturating_sub(x.host_time()));
        self.log(x, now);
    }

    fn refuse(&self, refusal: Refusal) -> Response {
        self.counters.downstream.request_refused.inc();
        self.counters.downstream.status(refusal.status());
        tracing::debug!(reason = %refusal, status = refusal.status(), "a request was refused");
        local_reply(refusal.status())
    }

    fn refused(&self, x: &Exchange) {
        self.log(x, Instant::now());
    }
}

impl<T: Transport> Callout for Proxy<T> {
    fn call(
        &self,
        cluster: ClusterId,
        mut request: Request,
    ) -> Pin<Box<dyn Future<Output = Result<Response, CalloutError>>>> {
        let generation = self.current.get();
        Box::pin(async move {
            let cluster = generation.cluster(cluster);
            let timeout = Some(generation.limits().request_timeout);
            let answered = async {
                let host = cluster.pick(&Wish::default())?;
                let lease = host.checkout(false).await?;
                host.counters().request_total.inc();
                let _active = Active::new(&host.counters().request_active);
                let options = SendOptions { timeout, upgrade: false, te_trailers: false };
                let mut flight = lease.send(&mut request, options).await?;
                loop {
                    match flight.answer().await? {
                        Answer::Interim(_) => {}
                        Answer::Response(response) => return Ok(response),
                        Answer::Upgraded(..) => return Err(Error::from(SendError::Unexpected)),
                    }
                }
            };
            answered.await.map_err(|e| CalloutError(e.status()))
        })
    }
}

/// One round of the filters; what they refuse is answered here.
async fn ask(filters: &Filters, at: Phase, x: &mut Exchange, route: Option<&Route>) -> Round {
    match filters.on_request(at, x, route).await {
        Round::Refuse(status, body) => Round::Reply(refusal(status, &body)),
        round => round,
    }
}

enum Final {
    Response(Response),
    Upgraded(Response, Tunnel),
    Gone,
}

/// Waits for the answer and passes interim ones on.
async fn await_answer<T: crate::net::Conn>(
    flight: &mut Flight<MaybeTls<T>>,
    reply: &mut impl ReplyTo,
) -> Result<Final, SendError> {
    loop {
        match flight.answer().await? {
            Answer::Interim(head) => {
                if reply.informational(head).await.is_err() {
                    return Ok(Final::Gone);
                }
            }
            Answer::Response(response) => return Ok(Final::Response(response)),
            Answer::Upgraded(response, tunnel) => return Ok(Final::Upgraded(response, tunnel)),
        }
    }
}

/// What is needed to send a request a second time.
struct Replay {
    body: Option<Bytes>,
    /// Whether the body streams: once begun it can't be sent again.
    streams: bool,
}

impl Replay {
    fn of(x: &Exchange) -> Self {
        match &x.request.body {
            Body::Empty => Self { body: None, streams: false },
            Body::Full(bytes) => Self { body: Some(bytes.clone()), streams: false },
            Body::Streaming(_) => Self { body: None, streams: true },
        }
    }

    fn allows(&self, retry: Retry, x: &Exchange) -> bool {
        let idempotent = x.request.head.http().is_some_and(|h| h.method().is_idempotent());
        match retry {
            Retry::Never => false,
            Retry::Always => true,
            Retry::Idempotent => idempotent && !self.streams,
        }
    }

    fn restore(&self, x: &mut Exchange) {
        if let Some(body) = &self.body {
            x.request.body = Body::Full(body.clone());
        }
    }
}

/// Counts something while it lives.
struct Active<'a>(&'a crate::telemetry::metrics::Counter);

impl<'a> Active<'a> {
    fn new(gauge: &'a crate::telemetry::metrics::Counter) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Hosts that one request may try, the first included (MOSN: three).
fn attempts_max<T: Transport>(cluster: &Cluster<T>) -> u32 {
    let hosts = u32::try_from(cluster.hosts_len()).unwrap_or(u32::MAX);
    // One host alone gets a second try too: its idle connection may just have been closed.
    hosts.clamp(2, ATTEMPTS_MAX)
}

const ATTEMPTS_MAX: u32 = 3;
