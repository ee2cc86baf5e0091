//! The admin API: version, state, counters and the plane, over HTTP on loopback or a unix socket. Paths as in MOSN, and `/metrics`.
//!
//! **Invariant:** nothing that it answers holds a key, nor, without the switch for it, a request's content; without its switch it changes no
//! configuration.

mod change;
mod dump;
mod inquiry;
mod paths;

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::task::spawn_local;

use super::exposition::Counters;
use super::log::LogKnobs;
use super::process::Process;
use super::reload::Reloads;
use crate::config::Limits;
use crate::filter::Tally;
use crate::message::{Exchange, Response};
use crate::net::{Address, ListenOptions, Listener, Transport};
use crate::proxy::reply::local_reply;
use crate::snapshot::Snapshot;
use crate::stream::server::serve;
use crate::stream::{Refusal, ReplyTo, Service};
use crate::telemetry::metrics::WorkerCounters;
pub use inquiry::{Answer, Inquiries, Question};

/// What the admin API shows.
#[derive(Clone)]
pub struct Admin {
    counters: Counters,
    state: watch::Receiver<State>,
    plane: Arc<dyn Fn() -> PlaneReport + Send + Sync>,
    reloads: Reloads,
    log: LogKnobs,
    drain: Arc<Notify>,
    /// Only this path, and there the metrics.
    metrics_path: Option<Arc<str>>,
}

/// Where the process is in its life, with MOSN's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It starts.
    Starting = 4,
    /// It serves.
    Running = 6,
    /// It has started a new process that is to take its place, and still serves.
    StartingNewServer = 12,
    /// It finishes what runs and accepts no more.
    GracefulStopping = 8,
}

/// What a plane says about itself.
#[derive(Clone, Debug, Default)]
pub struct PlaneReport {
    /// `kernel` or `dpdk`.
    pub name: &'static str,
    /// Why it is not the one that was configured, if it is not.
    pub fallback_reason: Option<String>,
    /// Its ports, with driver and address; empty on the kernel plane.
    pub ports: Value,
    /// Its counters.
    pub numbers: Vec<Number>,
    /// Whom to ask what is not a number.
    pub inquiries: Option<Arc<dyn Inquiries>>,
}

/// One counter of a plane.
#[derive(Clone, Debug)]
pub struct Number {
    /// Name, as in `/metrics`.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// Whether it only grows.
    pub grows: bool,
    /// Which port or core.
    pub labels: Vec<(&'static str, String)>,
    /// Its value.
    pub value: u64,
}

impl Number {
    /// What the stream filters of a generation count.
    #[must_use]
    pub fn of_filters(snapshot: &Snapshot) -> Vec<Self> {
        let tallies = snapshot.filters.iter().flat_map(|set| set.tallies());
        let number =
            |t: &Arc<Tally>| Self { name: t.name, help: t.help, grows: true, labels: t.labels.clone(), value: t.get() };
        tallies.map(number).collect()
    }
}

impl Admin {
    /// An API over these counters and the generation in force.
    #[must_use]
    pub fn new(
        workers: Arc<[Arc<WorkerCounters>]>,
        snapshot: watch::Receiver<Arc<Snapshot>>,
        plane: Arc<dyn Fn() -> PlaneReport + Send + Sync>,
        process: &Process,
    ) -> Self {
        Self {
            counters: Counters { workers, snapshot },
            state: process.state.subscribe(),
            plane,
            reloads: process.reloads.clone(),
            log: process.log.clone(),
            drain: Arc::clone(&process.drain),
            metrics_path: None,
        }
    }

    /// The same numbers at `path` and nothing else, for a sink of its own.
    #[must_use]
    pub fn only_metrics(&self, path: &str) -> Self {
        Self { metrics_path: Some(path.into()), ..self.clone() }
    }

    /// Listens on `address`; the listener's address and the task's future, which serves until it is dropped.
    ///
    /// # Errors
    /// When it can't listen.
    pub async fn listen<T: Transport>(
        self,
        transport: T,
        address: &Address,
    ) -> io::Result<(Address, impl Future<Output = ()> + use<T>)> {
        let options = ListenOptions { reuse_port: false, owner_only: true, ..ListenOptions::default() };
        let listener = transport.listen(address, &options).await?;
        Ok((listener.local_addr().clone(), self.serve_all(listener)))
    }

    async fn serve_all<L: Listener>(self, mut listener: L) {
        let limits = Rc::new(Limits::default());
        let open = Rc::new(Cell::new(0));
        loop {
            match listener.accept().await {
                Ok(conn) if open.get() < ADMIN_CONNS_MAX => {
                    let slot = Slot::take(&open);
                    let (admin, limits) = (self.clone(), Rc::clone(&limits));
                    spawn_local(serve(conn, false, admin, limits, Rc::default(), slot));
                }
                Ok(_) => {}
                Err(_) => tokio::time::sleep(limits.accept_pause).await,
            }
        }
    }
}

impl Service for Admin {
    async fn call(&self, x: &mut Exchange, reply: &mut impl ReplyTo) {
        let answer = self.answer(x).await;
        // A client that is gone needs no answer.
        let _ = reply.response(x, answer).await;
    }

    fn ended(&self, _: &mut Exchange, _: bool) {}

    fn refuse(&self, refusal: Refusal) -> Response {
        local_reply(refusal.status())
    }
}

/// One open connection of the admin API.
struct Slot(Rc<Cell<usize>>);

impl Slot {
    fn take(open: &Rc<Cell<usize>>) -> Self {
        open.set(open.get() + 1);
        Self(Rc::clone(open))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Connections that the admin API serves at a time; further ones are closed at once.
const ADMIN_CONNS_MAX: usize = 64;
