//! Copies of requests, sent to another cluster. Their answers are read and thrown away.
//!
//! **Invariant:** a copy never delays, changes or fails the request that it is a copy of; copies under way are bounded in number, in body
//! and in time.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;

use tokio::task::spawn_local;
use tokio::time::timeout;

use super::Generation;
use super::converted::{self, Converted, Told};
use super::replay::Replay;
use crate::codec::detect::Protocol;
use crate::config::Limits;
use crate::config::schema::ClusterId;
use crate::message::{Body, Chunk, Copies, Exchange, Head, Request};
use crate::net::Transport;
use crate::router::Route;
use crate::stream::client::{Answer, SendOptions};
use crate::upstream::{Cluster, HostPool, Wish};

/// A request that is to be copied, as the origin sees it.
pub(super) struct Copy {
    head: Head,
    cluster: ClusterId,
    copies: Copies,
    protocol: Protocol,
    /// Of one that is converted: what it is told of its client.
    told: Option<Told>,
}

/// Copies that one worker has under way.
#[derive(Debug, Default)]
pub(super) struct UnderWay(Cell<usize>);

/// Counts a copy while it lives.
struct Place(Rc<UnderWay>);

impl Copy {
    /// A copy of `x`, if its route wants one of it.
    pub(super) fn of<T: Transport>(
        route: Route<'_>,
        protocol: Protocol,
        converted: Option<&Converted<'_, T>>,
        generation: &Generation<T>,
        x: &Exchange,
    ) -> Option<Self> {
        let mirror = route.mirror.filter(|mirror| generation.draw() % 100 < u64::from(mirror.percent))?;
        // A tunnel has no copy.
        let head = (!x.upgrade).then(|| x.request.head.clone())?;
        let told = converted.and_then(|converted| converted.told(x));
        Some(Self { head, cluster: mirror.cluster, copies: x.copies, protocol, told })
    }

    /// Sends it as often as it is wanted, if its body is there, and while there is room for one more. Gives it back if its body is still to come; with `now` it is
    /// given up then.
    pub(super) fn send<T: Transport>(self, generation: &Rc<Generation<T>>, replay: &Replay, now: bool) -> Option<Self> {
        if !now && replay.is_coming() {
            return Some(self);
        }
        let cluster = generation.cluster(self.cluster);
        let limits = generation.limits();
        let hosts = if self.copies.every_host { hosts(&cluster) } else { vec![None] };
        for host in hosts {
            for _ in 0..self.copies.count {
                let place = Place::take(generation.copies(), limits.mirror_requests_max);
                let (Some(body), Some(place)) = (replay.copy(), place) else {
                    cluster.counters().mirror_dropped.inc();
                    continue;
                };
                cluster.counters().mirror_total.inc();
                let request = Request { head: self.head.clone(), body };
                let limits = Rc::clone(limits);
                let (cluster, host) = (Rc::clone(&cluster), host.clone());
                let (protocol, told) = (self.protocol, self.told.clone());
                spawn_local(async move {
                    let _place = place;
                    // Whatever becomes of it is for nobody but the cluster's counters.
                    let _ = timeout(limits.request_timeout, send(&cluster, (host, protocol), (request, told), &limits))
                        .await;
                });
            }
        }
        None
    }
}

impl Place {
    fn take(under_way: &Rc<UnderWay>, max: usize) -> Option<Self> {
        let now = under_way.0.get();
        (now < max).then(|| {
            under_way.0.set(now + 1);
            Self(Rc::clone(under_way))
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.set(self.0.0.get() - 1);
    }
}

/// Each host of the cluster that takes requests, up to a bound.
fn hosts<T: Transport>(cluster: &Cluster<T>) -> Vec<Option<Rc<HostPool<T>>>> {
    let (mut hosts, mut tried) = (Vec::new(), Vec::new());
    for _ in 0..cluster.hosts_len().min(HOSTS_MAX) {
        match cluster.pick(&Wish { tried: &tried, ..Wish::default() }) {
            Ok(host) if !tried.contains(&host.id()) => {
                tried.push(host.id());
                hosts.push(Some(host));
            }
            _ => break,
        }
    }
    hosts
}

async fn send<T: Transport>(
    cluster: &Cluster<T>,
    (host, protocol): (Option<Rc<HostPool<T>>>, Protocol),
    (request, told): (Request, Option<Told>),
    limits: &Limits,
) -> Option<()> {
    let host = host.or_else(|| cluster.pick(&Wish::default()).ok())?;
    let mut request = converted::copy(&host, protocol, request, told.as_ref(), limits)?;
    let lease = host.lease(protocol, false, None).await.ok()?;
    host.count_request();
    let options = SendOptions { timeout: None, upgrade: false, te_trailers: false };
    let mut flight = lease.send(&mut request, options).await.ok()?;
    let response = loop {
        match flight.answer().await.ok()? {
            Answer::Interim(_) => {}
            Answer::Response(response) => break response,
            Answer::Upgraded(..) | Answer::None => return None,
        }
    };
    // Read to its end, so that the connection can be used again; a long answer costs the connection instead.
    let Body::Streaming(mut body) = response.body else { return Some(()) };
    let mut left = limits.drain_bytes_max;
    loop {
        let chunk = poll_fn(|cx| {
            body.poll_beside(cx);
            body.poll_chunk(cx)
        });
        match chunk.await.ok()?? {
            Chunk::Data(bytes) => left = left.checked_sub(bytes.len() as u64)?,
            Chunk::Trailers(_) => {}
        }
    }
}

/// Hosts that a broadcast reaches, at most.
const HOSTS_MAX: usize = 100;
