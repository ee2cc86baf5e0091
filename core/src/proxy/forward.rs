//! A request's way to an origin and back: choose, connect, send, and try again where that is safe.
//!
//! **Invariant:** after the first byte of an answer nothing is tried again.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Generation;
use super::converted::Converted;
use super::destination::destination;
use super::error::{Error, ErrorKind, Side};
use super::exchange::{Proxy, ask};
use super::replay::Replay;
use super::retry::{Again, HOSTS_MAX, Tries};
use super::{grpc, mirror};
use crate::codec::detect::Protocol;
use crate::config::schema::{MetadataMatch, UpstreamProtocol};
use crate::filter::{Direction, Filters, Phase, Round};
use crate::message::{Body, Exchange, Head, HttpHead, Response, Version};
use crate::net::{Conn, Transport};
use crate::router::{Chosen, Forward, HashKey, Route};
use crate::stream::client::{Answer, SendError, SendOptions};
use crate::stream::lease::Flight;
use crate::stream::timer::Timer;
use crate::stream::{ReplyTo, Tunnel};
use crate::tls::MaybeTls;
use crate::upstream::{Active, BudgetShare, Cluster, HostPool, Outcome, RetryPermit, Wish};

/// What a host answered, and that the request counts as active there.
struct Sent<'h> {
    answer: Final,
    _active: Active<'h>,
}

pub(super) enum Final {
    Response(Response),
    Upgraded(Response, Tunnel),
    /// There is none to pass on: nobody waits for one, or the client is gone.
    None,
}

/// What a retry holds while it is under way.
#[derive(Default)]
struct Held {
    permit: Option<RetryPermit>,
    share: Option<BudgetShare>,
}

impl<T: Transport> Proxy<T> {
    /// Picks, connects, sends and passes the answer on; tries again where that is safe.
    pub(super) async fn forward(
        &self,
        generation: &Rc<Generation<T>>,
        (route, forward): (Route<'_>, &Forward),
        x: &mut Exchange,
        reply: &mut impl ReplyTo,
    ) -> Result<(), Error> {
        let filters = self.filters(generation);
        let (cluster, metadata) = choose(generation, forward, x)?;
        let joined = x.metadata.take().map(|own| joined(metadata, &own));
        let metadata = joined.as_ref().or(metadata);
        if x.wanted.route {
            note(route, &cluster, x);
        }
        let hash = forward.hash(x, || generation.draw());
        let key = key(hash.as_ref(), &cluster, x);
        let destination = cluster.original_dst().and_then(|original| destination(original, x, generation.snapshot()));
        let limits = generation.limits();
        route.edit_request(x, limits.request_line_bytes_max)?;
        let mut tries = Tries::new(forward, &x.request.head);
        let protocol = self.protocol(generation, forward, x);
        let converted = Converted::of(x, protocol, (route, forward), generation, || self.forwarded(generation));
        if let Some(converted) = &converted {
            Box::pin(converted.gather(tries.deadline(x), x, reply)).await?;
        }
        let copy = mirror::Copy::of(route, protocol, converted.as_ref(), generation, x);
        // An origin of HTTP/2 may give back what it has not looked at, when some of its body has left.
        let keep = copy.is_some() || tries.may_repeat() || protocol == Protocol::Http2;
        let stays = matches!(protocol, Protocol::Rpc(_)) && converted.is_none() && copy.is_none();
        let replay = Replay::of(x, (keep, stays), limits.retry_buffer_bytes_max);
        let mut copy = copy.and_then(|copy| copy.send(generation, &replay, false));
        let _retrying = forward.retry.as_ref().map(|_| cluster.retrying());
        let (mut tried, mut held, mut fresh) = (Vec::new(), Held::default(), false);
        loop {
            x.attempts += 1;
            let wish = Wish { hash: key, metadata, tried: &tried, destination: destination.as_ref() };
            let host = cluster.pick(&wish)?;
            if !filters.is_empty() {
                match ask(filters, Phase::AfterChooseHost, x, Some(route)).await {
                    Round::Reply(answer) => return self.respond(x, reply, answer).await,
                    Round::ReChooseHost if x.attempts < HOSTS_MAX => continue,
                    Round::Passed | Round::Refuse(..) | Round::ReMatchRoute | Round::ReChooseHost => {}
                }
            }
            if forward.wants_upstream_host() {
                name_host(&host, x);
            }
            let options = SendOptions { timeout: tries.timeout(x), upgrade: x.upgrade, te_trailers: x.te_trailers };
            let sent =
                self.attempt(&host, (protocol, fresh, options, tries.deadline(x)), converted.as_ref(), x, reply).await;
            let again = again(&mut tries, &cluster, (&sent, &replay), x);
            let again = again.filter(|again| held.hold(*again, &cluster, forward));
            copy = copy.and_then(|copy| copy.send(generation, &replay, again.is_none()));
            match again {
                None => {
                    let sent = sent.inspect_err(|error| log_failure(cluster.name(), &host, error, x))?;
                    return self.finish(filters, (route, hash, tries.deadline(x)), sent, x, reply).await;
                }
                Some(again) => {
                    log_retry(&host, &sent);
                    drop(sent);
                    tried.push(host.id());
                    host.counters().request_retry.inc();
                    fresh |= again == Again::Fresh;
                    pause(again, generation.draw(), tries.left(x)).await;
                    replay.restore(x);
                }
            }
        }
    }

    async fn attempt<'h>(
        &self,
        host: &'h Rc<HostPool<T>>,
        (protocol, fresh, options, deadline): (Protocol, bool, SendOptions, Option<Instant>),
        converted: Option<&Converted<'_, T>>,
        x: &mut Exchange,
        reply: &mut impl ReplyTo,
    ) -> Result<Sent<'h>, Error> {
        let mut made = match converted {
            None => None,
            Some(converted) => Some(converted.request(host, options.timeout, x)?),
        };
        let client = Some(&*x.downstream);
        let lease = match deadline {
            None => host.lease(protocol, fresh, client).await?,
            Some(at) => host.lease_by((protocol, fresh), client, at).await?.ok_or(SendError::Timeout)?,
        };
        x.upstream_host = Some(Rc::clone(host.name()));
        x.upstream_conn = lease.id();
        if x.wanted.upstream_local {
            x.upstream_local = lease.local_text();
        }
        host.count_request();
        let active = host.active();
        let answered = async {
            let request = made.as_deref_mut().unwrap_or(&mut x.request);
            let mut flight = lease.send(request, options).await?;
            x.request_sent = Some(Instant::now());
            let answer = await_answer(&mut flight, deadline, reply).await?;
            x.response_received = Some(Instant::now());
            Ok::<_, SendError>(answer)
        }
        .await;
        match answered {
            Ok(mut answer) => {
                if let Final::Response(response) | Final::Upgraded(response, _) = &answer {
                    host.report(Outcome::Answered { status: status(response), took: x.host_time() });
                }
                if let Some(converted) = converted {
                    answer = Box::pin(converted.answer(host, answer, deadline, x)).await?;
                }
                Ok(Sent { answer, _active: active })
            }
            Err(e) => {
                host.report(match e {
                    SendError::Timeout => Outcome::Timeout,
                    SendError::RequestBody(_)
                    | SendError::Unwritable(_)
                    | SendError::Unframed(_)
                    | SendError::Refused
                    | SendError::NoWebSocket => Outcome::Abandoned,
                    _ => Outcome::Reset,
                });
                Err(e.into())
            }
        }
    }

    /// What origins are asked in: what the route says; else a client of RPC in its own protocol, another as its listener says.
    fn protocol(&self, generation: &Generation<T>, forward: &Forward, x: &Exchange) -> Protocol {
        let own = x.request.head.rpc().map(|head| Protocol::Rpc(head.protocol));
        let said = x
            .upstream_protocol
            .or(forward.protocol)
            .or_else(|| self.upstream_protocol(generation).filter(|_| own.is_none()));
        match (said, own) {
            (None | Some(UpstreamProtocol::LikeClient), Some(own)) => own,
            (Some(UpstreamProtocol::Rpc(protocol)), _) => Protocol::Rpc(protocol),
            (Some(UpstreamProtocol::Http2), _) => Protocol::Http2,
            (Some(UpstreamProtocol::LikeClient), None) => {
                let version = x.request.head.fields().map(HttpHead::version);
                if version == Some(Version::Http2) { Protocol::Http2 } else { Protocol::Http1 }
            }
            (None | Some(UpstreamProtocol::Http1), _) => Protocol::Http1,
        }
    }

    /// Tells the client what the last try came to.
    async fn finish(
        &self,
        filters: &Rc<Filters>,
        (route, hash, deadline): (Route<'_>, Option<HashKey>, Option<Instant>),
        sent: Sent<'_>,
        x: &mut Exchange,
        reply: &mut impl ReplyTo,
    ) -> Result<(), Error> {
        match sent.answer {
            Final::Response(mut response) => {
                response.body = grpc::until(deadline, response.body, x);
                if !filters.is_empty() {
                    filters.on_response(x, &mut response, Some(route)).await;
                    response.body = filters.on_body(Direction::Response, response.body);
                }
                if let Some(head) = response.head.fields_mut() {
                    route.edit_response(x, head);
                    if x.request.head.rpc().is_none()
                        && let Some(cookie) = hash.and_then(|hash| hash.set_cookie)
                    {
                        head.append("set-cookie", cookie.as_bytes());
                    }
                }
                self.respond(x, reply, response).await
            }
            Final::Upgraded(response, tunnel) => self.respond_upgrade(x, reply, response, tunnel).await,
            Final::None => Ok(()),
        }
    }
}

impl Held {
    /// Takes what a retry needs to hold; says whether it was to be had.
    fn hold<T: Transport>(&mut self, again: Again, cluster: &Cluster<T>, forward: &Forward) -> bool {
        if let (Again::After(_), Some(policy), None) = (again, &forward.retry, &self.share) {
            self.share = cluster.budget(policy.budget_percent, policy.budget_min);
            if self.share.is_none() {
                return false;
            }
        }
        // The one before is over: it must not stand in the way of this one.
        drop(self.permit.take());
        self.permit = cluster.retry();
        self.permit.is_some()
    }
}

/// Asks a host for its own name.
fn name_host<T: Transport>(host: &HostPool<T>, x: &mut Exchange) {
    if let Head::Http(head) = &mut x.request.head {
        Forward::set_upstream_host(head, host.hostname());
    }
}

/// Keeps what a log wants of the way that a request takes.
fn note<T: Transport>(route: Route<'_>, cluster: &Cluster<T>, x: &mut Exchange) {
    let notes = x.notes_mut();
    route.name().clone_into(&mut notes.route);
    cluster.name().clone_into(&mut notes.cluster);
}

fn choose<'f, T: Transport>(
    generation: &Generation<T>,
    forward: &'f Forward,
    x: &Exchange,
) -> Result<(Rc<Cluster<T>>, Option<&'f MetadataMatch>), Error> {
    match forward.choose(|| x.drawn.unwrap_or_else(|| generation.draw())) {
        Chosen::Cluster(id, metadata) => Ok((generation.cluster(id), metadata)),
        Chosen::Named(variable, metadata) => {
            let name = Chosen::name(variable, x).and_then(|name| String::from_utf8(name).ok());
            let id = name.and_then(|name| generation.snapshot().cluster_id(&name)).ok_or_else(Error::no_route)?;
            Ok((generation.cluster(id), metadata))
        }
    }
}

/// What a balancer that goes by hashes is to go by: what the route says, else a part of the request that stays.
fn key<T: Transport>(hash: Option<&HashKey>, cluster: &Cluster<T>, x: &Exchange) -> Option<u64> {
    match hash {
        Some(hash) => hash.key,
        None if cluster.goes_by_hash() => Forward::default_hash(x),
        None => None,
    }
}

/// What a route and a filter ask of a host's metadata together. The filter's word counts where both name a key.
fn joined(route: Option<&MetadataMatch>, own: &MetadataMatch) -> MetadataMatch {
    let mut all = route.cloned().unwrap_or_default();
    own.iter().for_each(|(key, value)| all.set(key, value));
    all
}

/// Whether and how to try again.
#[inline]
fn again<T: Transport>(
    tries: &mut Tries<'_>,
    cluster: &Cluster<T>,
    (sent, replay): (&Result<Sent<'_>, Error>, &Replay),
    x: &Exchange,
) -> Option<Again> {
    let again = match sent {
        Err(error) => tries.after_error(error, cluster.hosts_len(), x)?,
        Ok(Sent { answer: Final::Response(response), .. }) => tries.after_status(status(response), x)?,
        Ok(_) => return None,
    };
    // A connection that could not be had has taken nothing of the body yet; nor has one that was going, if the body is still here.
    let untouched = match sent {
        Err(Error { kind: ErrorKind::Connect(_), .. }) => true,
        Err(Error { kind: ErrorKind::Send(SendError::Refused), .. }) => matches!(x.request.body, Body::Streaming(_)),
        _ => false,
    };
    (untouched || replay.is_whole()).then_some(again)
}

/// Waits before another try, for no longer than there is time left.
async fn pause(again: Again, drawn: u64, left: Option<Duration>) {
    if let Again::After(wait) = again {
        let wait = wait.mul_f64(share(drawn));
        sleep(left.map_or(wait, |left| wait.min(left))).await;
    }
}

/// Waits for the answer, until the deadline where there is one, and passes interim ones on.
async fn await_answer<C: Conn>(
    flight: &mut Flight<MaybeTls<C>>,
    deadline: Option<Instant>,
    reply: &mut impl ReplyTo,
) -> Result<Final, SendError> {
    let mut timer = Timer::new();
    if let Some(at) = deadline.filter(|at| !flight.end_by(*at)) {
        timer.set(at.saturating_duration_since(Instant::now()));
    }
    loop {
        let mut answer = pin!(flight.answer());
        let answer = poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(answer),
            Poll::Pending => timer.poll_expired(cx).map(|()| Err(SendError::Timeout)),
        });
        match answer.await? {
            Answer::Interim(head) => {
                if reply.informational(head).await.is_err() {
                    return Ok(Final::None);
                }
            }
            Answer::Response(response) => return Ok(Final::Response(response)),
            Answer::None => return Ok(Final::None),
            Answer::Upgraded(response, tunnel) => return Ok(Final::Upgraded(response, tunnel)),
        }
    }
}

fn status(response: &Response) -> u16 {
    response.head.fields().map_or(0, HttpHead::status)
}

/// A number of 64 bits as one from 0 to 1.
#[expect(clippy::cast_precision_loss, reason = "a wait needs no more than 53 bits")]
fn share(drawn: u64) -> f64 {
    drawn as f64 / u64::MAX as f64
}

fn log_retry<T: Transport>(host: &HostPool<T>, sent: &Result<Sent<'_>, Error>) {
    match sent {
        Err(error) => tracing::debug!(host = %host.name(), %error, "the request is tried again"),
        Ok(_) => tracing::debug!(host = %host.name(), "the request is tried again: its answer's status is to be"),
    }
}

fn log_failure<T: Transport>(cluster: &str, host: &HostPool<T>, error: &Error, x: &Exchange) {
    let status = error.status();
    if error.side == Side::Downstream {
        tracing::debug!(peer = %x.downstream.peer, %error, status, "the client's request broke off");
    } else {
        tracing::warn!(%cluster, host = %host.name(), %error, status, "the request failed");
    }
}
