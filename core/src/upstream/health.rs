//! Active health checks: one worker probes each host through its own transport, the way the traffic takes, and all workers see the verdict.
//!
//! **Invariant:** each host has a task of its own: a target that hangs delays no other probe, and no request.

mod http2;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{sleep, timeout};

use super::host::{Fault, Host};
use super::pick::HostId;
use super::random::{Random, stable_hash};
use super::reach::{Opening, Reach};
use crate::config::Address;
use crate::config::schema::{Health, HttpProbe, Probe};
use crate::message::{Body, Head, HttpHead, Request, Response};
use crate::net::{Conn, Transport};
use crate::stream::client::{Answer, ClientConn, Home, Lease, SendError, SendOptions};
use crate::telemetry::metrics::UpstreamCounters;

/// The probes of the clusters of a generation. Of one worker.
pub struct Probes<T: Transport>(RefCell<HashMap<String, Probed<T>>>);

/// A cluster whose hosts are probed.
struct Probed<T: Transport> {
    reach: Rc<Reach<T>>,
    /// The version of the hosts that has its probes.
    seen: Cell<Option<u64>>,
    running: RefCell<HashMap<HostId, Running>>,
}

/// The probes of one host, until this is dropped.
struct Running {
    host: Arc<Host>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a probe failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// No connection, or it broke.
    Network,
    /// No answer in time, or not the right one.
    Answer,
}

impl<T: Transport> Default for Probes<T> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<T: Transport> Probes<T> {
    /// Probes the hosts of these clusters from now on, and of no others. A cluster that is the same as before goes on as it is.
    pub fn follow(&self, clusters: impl Iterator<Item = Reach<T>>) {
        let mut probed = self.0.borrow_mut();
        let mut before = std::mem::take(&mut *probed);
        for reach in clusters.filter(|r| r.config().health.is_some()) {
            let name = reach.config().name.clone();
            let kept = before.remove(&name).filter(|old| Arc::ptr_eq(&old.reach.hosts, &reach.hosts));
            let anew = || Probed { reach: Rc::new(reach), seen: Cell::new(None), running: RefCell::default() };
            probed.insert(name, kept.unwrap_or_else(anew));
        }
        for gone in before.into_values().filter(|old| !probed.contains_key(&old.reach.config().name)) {
            gone.release();
        }
        drop(probed);
        self.sweep();
    }

    /// Follows the hosts that came and went. To be called now and then.
    pub fn sweep(&self) {
        for probed in self.0.borrow().values() {
            probed.sweep();
        }
    }
}

impl<T: Transport> Probed<T> {
    fn sweep(&self) {
        let version = self.reach.hosts.version();
        if self.seen.replace(Some(version)) == Some(version) {
            return;
        }
        let set = self.reach.hosts.current();
        let mut running = self.running.borrow_mut();
        let mut before = std::mem::take(&mut *running);
        for member in set.members() {
            let id = member.host.id();
            let start = || {
                let (host, plain) = (Arc::clone(&member.host), set.spec(member).plain);
                let task = spawn_local(probe_for_ever(Rc::clone(&self.reach), Arc::clone(&host), plain));
                Running { host, task }
            };
            running.insert(id, before.remove(&id).unwrap_or_else(start));
        }
    }

    /// The cluster is probed no more: what the probes said of its hosts is void.
    fn release(&self) {
        for running in self.running.borrow().values() {
            let now = self.reach.shared.now();
            running.host.absolve(Fault::Probe, now);
            running.host.absolve(Fault::Unprobed, now);
        }
        self.reach.shared.health_changed();
    }
}

async fn probe_for_ever<T: Transport>(reach: Rc<Reach<T>>, host: Arc<Host>, plain: bool) {
    let Some(health) = reach.config().health.as_ref() else { return };
    let random = Random::new(stable_hash(host.address().to_string().as_bytes(), 0));
    let jitter = || health.jitter.mul_f64(random.fraction());
    sleep(health.initial_delay + jitter()).await;
    let mut row = Row::default();
    loop {
        // Boxed while it lasts: between two probes a host costs little.
        let result = Box::pin(probe(&reach, &host, plain, health)).await;
        count(&reach.counters, result);
        row.judge(health, &reach, &host, result.is_ok());
        sleep(health.interval + jitter()).await;
    }
}

/// Good or bad probes in a row.
#[derive(Default)]
struct Row {
    good: u32,
    bad: u32,
}

impl Row {
    fn judge<T: Transport>(&mut self, health: &Health, reach: &Reach<T>, host: &Host, is_good: bool) {
        let (cluster, now) = (&reach.config().name, reach.shared.now());
        (self.good, self.bad) =
            if is_good { (self.good.saturating_add(1), 0) } else { (0, self.bad.saturating_add(1)) };
        // The first word on a host that waits for it is believed at once.
        let is_first = is_good && host.absolve(Fault::Unprobed, now);
        if is_first || (self.good >= health.healthy_threshold && host.has(Fault::Probe)) {
            host.absolve(Fault::Probe, now);
            reach.shared.health_changed();
            tracing::info!(%cluster, host = %host.address(), "a host passes its health checks");
        }
        if self.bad >= health.unhealthy_threshold && host.blame(Fault::Probe) {
            host.absolve(Fault::Unprobed, now);
            reach.shared.health_changed();
            tracing::warn!(%cluster, host = %host.address(), "a host fails its health checks");
        }
    }
}

fn count(counters: &UpstreamCounters, result: Result<(), Failure>) {
    counters.probe_attempt.inc();
    match result {
        Ok(()) => counters.probe_success.inc(),
        Err(failure) => {
            counters.probe_failure.inc();
            match failure {
                Failure::Network => counters.probe_network_failure.inc(),
                Failure::Answer => counters.probe_active_failure.inc(),
            }
        }
    }
}

async fn probe<T: Transport>(reach: &Reach<T>, host: &Host, plain: bool, health: &Health) -> Result<(), Failure> {
    let address = match (health.probe.port(), host.address()) {
        (Some(port), Address::Inet(inet)) => {
            let mut inet = *inet;
            inet.set_port(port);
            Address::Inet(inet)
        }
        (_, address) => address.clone(),
    };
    let alpn = health.probe.is_http2().then(http2::alpn);
    let opening = Opening { alpn: alpn.as_ref(), ..Opening::default() };
    let all = async {
        let conn = reach.connect(host, &address, plain, health.timeout, opening).await.map_err(|_| Failure::Network)?;
        let (limits, within) = (Rc::clone(&reach.limits), health.timeout);
        match &health.probe {
            Probe::Tcp => Ok(()),
            Probe::Http(probe) => ask(ClientConn::new(conn, limits), probe, &address, within).await,
            Probe::Http2(probe) => {
                let judge = async |response: Response| judge(probe, &response);
                http2::ask(conn, limits, page(probe, &address), within, judge).await
            }
            Probe::Grpc(probe) => {
                let request = http2::check_request(probe, &authority(&address));
                http2::ask(conn, limits, request, within, http2::judge_check).await
            }
        }
    };
    timeout(health.timeout, all).await.unwrap_or(Err(Failure::Answer))
}

async fn ask<C: Conn>(
    conn: ClientConn<C>,
    probe: &HttpProbe,
    address: &Address,
    within: Duration,
) -> Result<(), Failure> {
    let mut request = page(probe, address);
    let options = SendOptions { timeout: Some(within), upgrade: false, te_trailers: false };
    let lease = Lease::new(Box::new(conn), Rc::new(Nobody));
    let mut flight = lease.send(&mut request, options).await.map_err(failure)?;
    loop {
        match flight.answer().await.map_err(failure)? {
            Answer::Interim(_) => {}
            Answer::None => return Err(Failure::Answer),
            Answer::Response(response) | Answer::Upgraded(response, _) => return judge(probe, &response),
        }
    }
}

/// What asks for the page.
fn page(probe: &HttpProbe, address: &Address) -> Request {
    let mut head = HttpHead::request(&probe.method, probe.path.as_bytes());
    let domain = if probe.domain.is_empty() { authority(address) } else { probe.domain.clone() };
    head.append("host", domain.as_bytes());
    head.append("user-agent", USER_AGENT);
    Request { head: Head::Http(head), body: Body::Empty }
}

/// The name of a host that has none.
fn authority(address: &Address) -> String {
    match address {
        Address::Inet(inet) => inet.to_string(),
        Address::Udp(_) | Address::Unix(_) => "localhost".to_owned(),
    }
}

fn judge(probe: &HttpProbe, response: &Response) -> Result<(), Failure> {
    let status = response.head.fields().map_or(0, HttpHead::status);
    if probe.codes.iter().any(|codes| codes.contains(&status)) { Ok(()) } else { Err(Failure::Answer) }
}

/// What an exchange that failed says of the host. Its own clock may run out in the same tick as that of the whole probe: both are a host that did
/// not answer in time.
fn failure(error: SendError) -> Failure {
    if error == SendError::Timeout { Failure::Answer } else { Failure::Network }
}

/// Where the connection of a probe goes when it is over: nowhere.
struct Nobody;

impl<C> Home<C> for Nobody {
    fn give_back(&self, _: Box<ClientConn<C>>) {}

    fn gone(&self) {}
}

const USER_AGENT: &[u8] = concat!("ferrogate-health/", env!("CARGO_PKG_VERSION")).as_bytes();
