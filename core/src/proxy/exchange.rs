//! The whole life of a request, as one straight line.
//!
//! **Invariant:** a client gets exactly one answer, its own.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use super::counts::Counts;
use super::error::{Error, ErrorKind};
use super::reply::{busy_reply, direct_reply, local_reply, redirect_reply, refusal};
use super::{Current, Generation, Slot, forwarded, grpc};
use crate::codec::detect::Protocol;
use crate::codec::websocket;
use crate::config::schema::{ClusterId, Forwarded, Protocols, UpstreamProtocol};
use crate::filter::{Callout, CalloutError, Direction, Filters, Phase, REMATCHES_MAX, Round};
use crate::message::{BodyError, Exchange, HttpHead, Request, Response, ResponseFlags};
use crate::net::Transport;
use crate::router::{Route, RouteAction};
use crate::stream::client::{Answer, SendError, SendOptions};
use crate::stream::{Refusal, ReplyError, ReplyTo, Service, Tunnel};
use crate::telemetry::metrics::{ListenerCounters, WorkerCounters};
use crate::upstream::Wish;

/// The proxy of one listener on one worker.
pub struct Proxy<T: Transport> {
    current: Rc<Current<T>>,
    listener: Slot,
    counts: Counts,
}

impl<T: Transport> Proxy<T> {
    /// The proxy behind the listener in this slot.
    ///
    /// # Panics
    /// When the slot is not one of the current generation.
    #[must_use]
    pub fn new(current: Rc<Current<T>>, listener: Slot, counters: Arc<WorkerCounters>) -> Self {
        let counts = Counts::new(counters, current.get().counters(listener));
        Self { current, listener, counts }
    }

    /// What its worker counts of its listener.
    #[must_use]
    pub fn listener_counters(&self) -> &Arc<ListenerCounters> {
        self.counts.listener()
    }

    async fn exchange(&self, x: &mut Exchange, reply: &mut impl ReplyTo) -> Result<(), Error> {
        let generation = self.current.get();
        if let Some(logs) = generation.logs(self.listener) {
            x.wanted = logs.wanted();
        }
        let filters = generation.filters(self.listener);
        if !filters.is_empty() {
            x.drawn = Some(generation.draw());
            if let Round::Reply(answer) = ask(filters, Phase::BeforeRoute, x, None).await {
                return self.respond(x, reply, answer).await;
            }
        }
        let mut route = self.route(&generation, x)?;
        let rounds = if filters.is_empty() { 0 } else { REMATCHES_MAX + 1 };
        // What was chosen for a route is not for the next one.
        let before = x.upstream_protocol;
        for _ in 0..rounds {
            match ask(filters, Phase::AfterRoute, x, Some(route)).await {
                Round::Reply(answer) => return self.respond(x, reply, answer).await,
                Round::ReMatchRoute => {
                    route = self.route(&generation, x)?;
                    x.upstream_protocol = before;
                }
                Round::Passed | Round::Refuse(..) | Round::ReChooseHost => break,
            }
        }
        let mut answer = match &route.course().action {
            RouteAction::Forward(forward) => {
                if let Some(forwarded) = generation.forwarded(self.listener) {
                    forwarded::stamp(x, forwarded);
                }
                if !filters.is_empty() {
                    let body = std::mem::take(&mut x.request.body);
                    x.request.body = filters.on_body(Direction::Request, body);
                }
                return self.forward(&generation, (route, forward), x, reply).await;
            }
            RouteAction::Direct { status, body } => direct_reply(*status, body),
            RouteAction::Redirect(redirect) => redirect_reply(redirect.status, &Route::location(redirect, x)),
        };
        answer = grpc::for_client(x, answer);
        filters.on_response(x, &mut answer, Some(route)).await;
        answer.body = filters.on_body(Direction::Response, answer.body);
        if let Some(head) = answer.head.fields_mut() {
            route.edit_response(x, head);
        }
        self.respond(x, reply, answer).await
    }

    /// What its listener asks origins in, where a route does not say it.
    pub(super) fn upstream_protocol(&self, generation: &Generation<T>) -> Option<UpstreamProtocol> {
        generation.upstream_protocol(self.listener)
    }

    /// What its listener tells origins of clients.
    pub(super) fn forwarded<'g>(&self, generation: &'g Generation<T>) -> Option<&'g Forwarded> {
        generation.forwarded(self.listener)
    }

    /// The filters of its listener.
    pub(super) fn filters<'g>(&self, generation: &'g Generation<T>) -> &'g Rc<Filters> {
        generation.filters(self.listener)
    }

    fn route<'g>(&self, generation: &'g Generation<T>, x: &Exchange) -> Result<Route<'g>, Error> {
        let router = generation.router(self.listener);
        router.and_then(|router| router.route(x)).ok_or_else(Error::no_route)
    }

    /// Sends an answer. From here on there is no other: what goes wrong now cuts the connection.
    pub(super) async fn respond(
        &self,
        x: &mut Exchange,
        reply: &mut impl ReplyTo,
        mut response: Response,
    ) -> Result<(), Error> {
        let mut status = response.head.fields().map_or(0, HttpHead::status);
        if x.wants_tunnel() && (200..300).contains(&status) {
            // Over HTTP/2 it would say that there is a tunnel.
            response = local_reply(502);
            status = 502;
        }
        self.count_reply(x, status);
        self.note_response(x, &response);
        if let Err(e) = reply.response(x, response).await {
            tracing::debug!(peer = %x.downstream.peer, error = %e, "the answer did not arrive whole");
            self.counts.reset();
            self.counts.worker().reply_stalled.add(u64::from(matches!(e, ReplyError::Stalled)));
        }
        self.counts.sent(x.bytes_sent);
        Ok(())
    }

    /// Sends the answer that makes the connection a tunnel.
    pub(super) async fn respond_upgrade(
        &self,
        x: &mut Exchange,
        reply: &mut impl ReplyTo,
        response: Response,
        tunnel: Tunnel,
    ) -> Result<(), Error> {
        let answered = |head| x.request.head.fields().is_some_and(|asked| websocket::is_accepted(asked, head));
        if x.bridged && !response.head.fields().is_some_and(answered) {
            return Err(SendError::Handshake.into());
        }
        self.count_reply(x, response.head.fields().map_or(0, HttpHead::status));
        self.note_response(x, &response);
        if reply.upgrade(x, response, tunnel).await.is_err() {
            self.counts.reset();
        }
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
            && let (Some(head), Some(logs)) = (response.head.fields(), self.current.get().logs(self.listener))
        {
            logs.note_response(x, head);
        }
    }

    fn count_reply(&self, x: &mut Exchange, status: u16) {
        x.status = status;
        self.counts.status(status);
    }
}

impl<T: Transport> Clone for Proxy<T> {
    fn clone(&self) -> Self {
        Self { current: Rc::clone(&self.current), listener: self.listener, counts: self.counts.clone() }
    }
}

impl<T: Transport> Service for Proxy<T> {
    async fn call(&self, x: &mut Exchange, reply: &mut impl ReplyTo) {
        let _active = self.counts.begin();
        if let Err(e) = self.exchange(x, reply).await {
            self.counts.failed();
            let worker = self.counts.worker();
            match &e.kind {
                ErrorKind::Send(SendError::RequestBody(BodyError::Timeout)) => worker.body_timeout.inc(),
                ErrorKind::Send(SendError::RequestBody(BodyError::TooSlow)) => worker.body_too_slow.inc(),
                ErrorKind::Convert(_) => worker.convert_refused.inc(),
                ErrorKind::ConvertOverflow => worker.convert_overflow.inc(),
                _ => {}
            }
            x.flags.add(e.flags());
            if x.wanted.failure {
                x.notes_mut().failure = e.transport_failure();
            }
            // Whether the client hears of it or is gone, the request is over.
            let answer = grpc::for_client(x, local_reply(e.status()));
            let _ = self.respond(x, reply, answer).await;
        }
    }

    fn offers_websocket(&self) -> bool {
        self.current.get().protocols(self.listener).1.extended_connect
    }

    fn offers_h2c(&self) -> bool {
        let (protocols, offers) = self.current.get().protocols(self.listener);
        protocols.has(Protocols::HTTP) && offers.upgrade_h2c
    }

    fn ended(&self, x: &mut Exchange, whole: bool) {
        if !whole {
            x.flags.add(ResponseFlags::DOWNSTREAM_TERMINATED);
            self.counts.reset();
            tracing::debug!(peer = %x.downstream.peer, "the client left before its answer was complete");
        }
        self.current.get().filters(self.listener).on_log(x);
        let now = Instant::now();
        let took = now.saturating_duration_since(x.started);
        self.counts.took(took, took.saturating_sub(x.host_time()));
        self.log(x, now);
    }

    fn refuse(&self, refusal: Refusal) -> Response {
        self.counts.worker().request_refused.inc();
        self.counts.status(refusal.status());
        tracing::debug!(reason = %refusal, status = refusal.status(), "a request was refused");
        match refusal {
            Refusal::Overload(_) => return busy_reply(),
            Refusal::HeadTimeout => self.counts.worker().head_timeout.inc(),
            Refusal::Malformed(_) => {}
        }
        local_reply(refusal.status())
    }

    fn refuse_request(&self, x: &Exchange, refusal: Refusal) -> Response {
        grpc::for_client(x, self.refuse(refusal))
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
                let lease = host.lease(Protocol::Http1, false, None).await?;
                host.count_request();
                let _active = host.active();
                let options = SendOptions { timeout, upgrade: false, te_trailers: false };
                let mut flight = lease.send(&mut request, options).await?;
                loop {
                    match flight.answer().await? {
                        Answer::Interim(_) => {}
                        Answer::Response(response) => return Ok(response),
                        Answer::Upgraded(..) | Answer::None => return Err(Error::from(SendError::Unexpected)),
                    }
                }
            };
            answered.await.map_err(|e| CalloutError(e.status()))
        })
    }
}

/// One round of the filters; what they refuse is answered here.
pub(super) async fn ask(filters: &Filters, at: Phase, x: &mut Exchange, route: Option<Route<'_>>) -> Round {
    match filters.on_request(at, x, route).await {
        Round::Refuse(status, body) => Round::Reply(grpc::for_client(x, refusal(status, &body))),
        round => round,
    }
}
