//! The admin API: version, state, counters and the plane, over HTTP on loopback by default. Paths as in MOSN, and `/metrics`.
//!
//! **Invariant:** read-only; nothing that it answers holds a key or a request's content.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::spawn_local;

use super::exposition::Counters;
use super::reload::{ReloadError, Reloads};
use crate::config::Limits;
use crate::filter::Tally;
use crate::message::{Exchange, Method, Response};
use crate::net::{Address, ListenOptions, Listener, Transport};
use crate::proxy::reply::{local_reply, with_body};
use crate::snapshot::Snapshot;
use crate::stream::server::serve;
use crate::stream::{Refusal, ReplyTo, Service};
use crate::telemetry::metrics::WorkerCounters;

/// What the admin API shows.
#[derive(Clone)]
pub struct Admin {
    counters: Counters,
    state: watch::Receiver<State>,
    plane: Arc<dyn Fn() -> PlaneReport + Send + Sync>,
    reloads: Reloads,
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
    /// An API over these counters.
    #[must_use]
    pub fn new(
        workers: Arc<[Arc<WorkerCounters>]>,
        snapshot: watch::Receiver<Arc<Snapshot>>,
        state: watch::Receiver<State>,
        plane: Arc<dyn Fn() -> PlaneReport + Send + Sync>,
        reloads: Reloads,
    ) -> Self {
        Self { counters: Counters { workers, snapshot }, state, plane, reloads }
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
        let options = ListenOptions { reuse_port: false, ..ListenOptions::default() };
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

    async fn reload(&self) -> Response {
        match self.reloads.reload("the admin API").await {
            Ok(generation) => json_reply(&json!({ "generation": generation })),
            Err(ReloadError(lines)) => {
                with_body(422, "text/plain; charset=utf-8", Bytes::from(lines.join("\n") + "\n"))
            }
        }
    }

    fn answer(&self, x: &Exchange) -> Response {
        let Some(head) = x.request.head.http() else { return local_reply(400) };
        if !matches!(head.method(), Method::Get | Method::Head) {
            return local_reply(405);
        }
        match head.path() {
            b"/" => text(HELP.to_owned()),
            b"/api/v1/version" => text(format!("ferrogate {}\n", env!("CARGO_PKG_VERSION"))),
            b"/api/v1/states" => {
                let state = *self.state.borrow();
                text(format!("pid={}&state={}\n", std::process::id(), state as u8))
            }
            b"/api/v1/stats" => json_reply(&self.counters.to_json()),
            b"/api/v1/dataplane" => json_reply(&plane_json(&(self.plane)())),
            b"/metrics" => {
                let body = self.counters.to_text(&(self.plane)());
                with_body(200, "application/openmetrics-text; version=1.0.0; charset=utf-8", Bytes::from(body))
            }
            _ => local_reply(404),
        }
    }
}

impl Service for Admin {
    async fn call(&self, x: &mut Exchange, reply: &mut impl ReplyTo) {
        let answer = match x.request.head.http() {
            Some(head) if head.method() == Method::Post && head.path() == b"/api/v1/reload" => self.reload().await,
            _ => self.answer(x),
        };
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

fn plane_json(plane: &PlaneReport) -> Value {
    let numbers: Vec<_> = plane
        .numbers
        .iter()
        .map(|n| {
            let labels: serde_json::Map<_, _> = n.labels.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
            json!({ "name": n.name, "labels": labels, "value": n.value })
        })
        .collect();
    json!({ "plane": plane.name, "fallback_reason": plane.fallback_reason, "ports": plane.ports, "counters": numbers })
}

fn text(body: String) -> Response {
    with_body(200, "text/plain; charset=utf-8", Bytes::from(body))
}

fn json_reply(value: &Value) -> Response {
    with_body(200, "application/json", Bytes::from(format!("{value:#}\n")))
}

const HELP: &str = "\
Ferrogate admin API
  /api/v1/version    the version
  /api/v1/states     the process id and its state (6 is running, 8 is draining)
  /api/v1/stats      every counter, as JSON
  /api/v1/dataplane  the plane, its ports, drivers and packet counters, as JSON
  /api/v1/reload     POST: reads the file again and puts it in force, or says what is wrong with it
  /metrics           every counter, for Prometheus
";

/// Connections that the admin API serves at a time; further ones are closed at once.
const ADMIN_CONNS_MAX: usize = 64;
