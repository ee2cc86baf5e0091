//! What one core runs, on either plane: its listeners, its connections, and its end.
//!
//! **Invariant:** a worker shares nothing with the others but the snapshot, the stop signal and counters that it alone writes.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use tls_offload::ServerTls;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::config::{Limits, schema as config};
use crate::filter::Filters;
use crate::filter::network::{ConnectionFilters, Event, Flow, Look};
use crate::message::Downstream;
use crate::net::{Conn, ListenOptions, Listener, Transport};
pub use crate::orders::{ListenError, Orders, Stop};
use crate::proxy::{Current, Generation, Proxy};
use crate::stream::server::serve;
use crate::stream::{ConnState, Wish};
use crate::telemetry::metrics::{DownstreamCounters, WorkerCounters};
use crate::tls::MaybeTls;
use crate::upstream::Probes;

/// Runs one worker until it is told to stop.
///
/// # Errors
/// When a listener can't listen; it has been reported to [`Orders::started`] then, with the reason.
pub async fn run<T: Transport>(index: usize, transport: T, mut orders: Orders) -> io::Result<()> {
    let counters = Arc::clone(&orders.counters[index]);
    let snapshot = Arc::clone(&orders.snapshot.borrow_and_update());
    let generation = Generation::derive(snapshot, None, &transport, &orders.logs, index);
    let worker = Rc::new(Worker {
        current: Rc::new(Current::new(generation)),
        counters,
        conns: RefCell::default(),
        emptied: Notify::new(),
        room: Notify::new(),
        swept: Cell::new(0),
        conns_max: orders.conns_max,
        draining: Cell::new(false),
        probes: (index == 0).then(Probes::default),
    });
    let listeners = match worker.listen(&transport).await {
        Ok(listeners) => listeners,
        Err(e) => {
            // Nobody listens when the start has been given up already.
            let _ = orders.started.send(Err(e));
            return Ok(());
        }
    };
    let _ = orders.started.send(Ok(()));
    worker.probe();
    let sweeper = spawn_local(sweep(Rc::clone(&worker)));
    let stop = worker.follow(index, &transport, &mut orders).await;
    for listener in &listeners {
        listener.abort();
    }
    if stop == Stop::Drain {
        worker.drain(&mut orders.stop).await;
    }
    sweeper.abort();
    Ok(())
}

/// One core's share of the gateway.
struct Worker<T: Transport> {
    current: Rc<Current<T>>,
    counters: Arc<WorkerCounters>,
    conns: RefCell<Slab<(Rc<ConnState>, Rc<Limits>)>>,
    emptied: Notify,
    /// A connection has gone while the worker had all it may have.
    room: Notify,
    /// Where the next sweep begins.
    swept: Cell<usize>,
    conns_max: usize,
    draining: Cell<bool>,
    /// Of the first worker only: the others see its verdicts.
    probes: Option<Probes<T>>,
}

/// What the connections of one listener have in common.
struct Entrance<T: Transport> {
    worker: Rc<Worker<T>>,
    proxy: Proxy<T>,
    tls: Option<ServerTls>,
    limits: Rc<Limits>,
    filters: ConnectionFilters,
}

impl<T: Transport> Worker<T> {
    async fn listen(self: &Rc<Self>, transport: &T) -> Result<Vec<JoinHandle<()>>, ListenError> {
        let generation = self.current.get();
        let mut bound = Vec::new();
        for (index, config) in generation.snapshot().listeners.iter().enumerate() {
            if !config.config.bind_port {
                continue;
            }
            let listener =
                transport.listen(&config.config.address, &ListenOptions::default()).await.map_err(|error| {
                    ListenError { listener: config.config.name.clone(), address: config.config.address.clone(), error }
                })?;
            bound.push((index, listener));
        }
        let accept = |(index, listener)| {
            let config = &generation.snapshot().listeners[index];
            let filters = Rc::new(Filters::default());
            let entrance = Rc::new(Entrance {
                worker: Rc::clone(self),
                proxy: Proxy::new(Rc::clone(&self.current), index, filters, Arc::clone(&self.counters)),
                tls: config.tls.as_deref().cloned(),
                limits: Rc::new(listener_limits(generation.limits(), &config.config)),
                filters: ConnectionFilters::default(),
            });
            spawn_local(accept(entrance, listener))
        };
        Ok(bound.into_iter().map(accept).collect())
    }

    /// Puts each new snapshot in force, until a stop is wanted.
    async fn follow(&self, index: usize, transport: &T, orders: &mut Orders) -> Stop {
        loop {
            tokio::select! {
                stopped = orders.stop.wait_for(|s| *s != Stop::No) => {
                    return stopped.map_or(Stop::Now, |s| *s);
                }
                changed = orders.snapshot.changed() => {
                    if changed.is_err() {
                        return Stop::Now;
                    }
                    let snapshot = Arc::clone(&orders.snapshot.borrow_and_update());
                    let current = self.current.get();
                    let next = Generation::derive(snapshot, Some(&current), transport, &orders.logs, index);
                    self.current.set(next);
                    self.probe();
                }
            }
        }
    }

    /// Lets the probes follow the generation in force.
    fn probe(&self) {
        if let Some(probes) = &self.probes {
            probes.follow(self.current.get().probed());
        }
    }

    /// Lets what runs finish, within `graceful_timeout`.
    async fn drain(&self, stop: &mut watch::Receiver<Stop>) {
        self.draining.set(true);
        for (_, (state, _)) in &*self.conns.borrow() {
            state.ask(Wish::Close);
        }
        let emptied = async {
            while !self.conns.borrow().is_empty() {
                self.emptied.notified().await;
            }
        };
        tokio::select! {
            drained = timeout(self.current.get().limits().graceful_timeout, emptied) => {
                if drained.is_err() {
                    tracing::warn!(connections = self.conns.borrow().len(),
                        "graceful_timeout is over: the connections that are left are cut");
                }
            }
            _ = stop.wait_for(|s| *s == Stop::Now) => {}
        }
    }

    /// Closes connections that have waited for a request, and upstream ones that have lain idle, for too long.
    fn sweep(&self) {
        let now = Instant::now();
        let conns = self.conns.borrow();
        // So many a turn, so that a turn is short; the next one goes on from here.
        let start = if self.swept.get() < conns.capacity() { self.swept.get() } else { 0 };
        for key in start..start + SWEEP_CONNS_MAX {
            let Some((state, limits)) = conns.get(key) else { continue };
            if let Some(before) = now.checked_sub(limits.idle_timeout) {
                state.close_if_idle(before);
            }
        }
        self.swept.set(start + SWEEP_CONNS_MAX);
        self.current.get().flush_logs();
        for cluster in self.current.get().used_clusters() {
            cluster.sweep();
        }
        if let Some(probes) = &self.probes {
            probes.sweep();
        }
    }

    fn enter(self: &Rc<Self>, limits: &Rc<Limits>) -> (Rc<ConnState>, Present<T>) {
        let state = Rc::new(ConnState::swept());
        let key = self.conns.borrow_mut().insert((Rc::clone(&state), Rc::clone(limits)));
        self.counters.downstream.connection_total.inc();
        self.counters.downstream.connection_active.inc();
        (state, Present { worker: Rc::clone(self), key, watched: None })
    }
}

/// A connection is counted and can be reached while this lives; a panic of its task is counted too.
struct Present<T: Transport> {
    worker: Rc<Worker<T>>,
    key: usize,
    /// Network filters that want to hear of its end.
    watched: Option<Box<(ConnectionFilters, Downstream)>>,
}

impl<T: Transport> Drop for Present<T> {
    fn drop(&mut self) {
        if let Some(watched) = &self.watched {
            watched.0.on_event(&watched.1, Event::Closed);
        }
        let worker = &self.worker;
        let was_full = worker.conns.borrow().len() >= worker.conns_max;
        worker.conns.borrow_mut().remove(self.key);
        if was_full {
            worker.room.notify_waiters();
        }
        worker.counters.downstream.connection_active.dec();
        if std::thread::panicking() {
            worker.counters.downstream.panicked.inc();
        }
        if worker.draining.get() && worker.conns.borrow().is_empty() {
            worker.emptied.notify_one();
        }
    }
}

/// The limits of a listener: the general ones, and what it says itself.
fn listener_limits(general: &Limits, listener: &config::Listener) -> Limits {
    let mut limits = general.clone();
    if let Some(bytes) = listener.proxy.head_bytes_max {
        limits.head_bytes_max = bytes;
        limits.request_line_bytes_max = limits.request_line_bytes_max.min(bytes);
    }
    if let Some(bytes) = listener.proxy.request_body_bytes_max {
        limits.request_body_bytes_max = bytes;
    }
    if let Some(timeout) = listener.idle_timeout {
        limits.idle_timeout = timeout;
    }
    limits
}

/// Accepts on one listener until it is aborted.
async fn accept<T: Transport>(entrance: Rc<Entrance<T>>, mut listener: T::Listener) {
    let worker = &entrance.worker;
    let counters = &worker.counters.downstream;
    loop {
        while worker.conns.borrow().len() >= worker.conns_max {
            // Left in the kernel's queue, where another worker or a moment's patience may serve it.
            counters.accept_limited.inc();
            worker.room.notified().await;
        }
        match listener.accept().await {
            Ok(conn) => {
                let (state, present) = worker.enter(&entrance.limits);
                admit(&entrance, conn, state, present);
            }
            Err(e) => pause(&e, counters, &entrance.limits).await,
        }
    }
}

/// After a failed accept: goes on at once when only that connection failed, else waits for descriptors or memory to come back.
async fn pause(error: &io::Error, counters: &DownstreamCounters, limits: &Limits) {
    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) {
        return;
    }
    counters.accept_paused.inc();
    tracing::warn!(%error, pause = ?limits.accept_pause, "accepting pauses: raise LimitNOFILE (ulimit -n) or lower limits.downstream_conns_max");
    sleep(limits.accept_pause).await;
}

/// Starts the task of a connection that was accepted.
fn admit<T: Transport>(entrance: &Rc<Entrance<T>>, conn: T::Conn, state: Rc<ConnState>, present: Present<T>) {
    if entrance.tls.is_none() && entrance.filters.is_empty() {
        start(entrance, MaybeTls::Plain(conn), state, present);
        return;
    }
    // A task of its own for what comes before the first request: it is far larger than what an idle connection should hold.
    let entrance = Rc::clone(entrance);
    spawn_local(async move {
        let (mut conn, mut present) = (conn, present);
        if !entrance.filters.is_empty() && !screen(&mut conn, &entrance, &mut present).await {
            return;
        }
        let conn = match &entrance.tls {
            None => Some(MaybeTls::Plain(conn)),
            Some(tls) => handshake(conn, tls, &entrance).await,
        };
        if let Some(conn) = conn {
            start(&entrance, conn, state, present);
        }
    });
}

/// Shows a connection to the filters that come before the codec; says whether it may go on.
async fn screen<T: Transport>(conn: &mut T::Conn, entrance: &Entrance<T>, present: &mut Present<T>) -> bool {
    let (peer, local) = (conn.peer_addr().clone(), conn.local_addr().clone());
    let mut downstream = Downstream { id: 0, peer, local, is_tls: entrance.tls.is_some() };
    let first_bytes = look_at_first_bytes(conn, &entrance.filters, &mut downstream, entrance.limits.head_bytes_max);
    let passed = timeout(entrance.limits.head_timeout, first_bytes).await.unwrap_or(false);
    if !passed || entrance.filters.on_connection(&downstream) == Flow::Stop {
        return false;
    }
    entrance.filters.on_event(&downstream, Event::Accepted);
    present.watched = Some(Box::new((entrance.filters.clone(), downstream)));
    true
}

async fn look_at_first_bytes<C: Conn>(
    conn: &mut C,
    filters: &ConnectionFilters,
    downstream: &mut Downstream,
    bytes_max: usize,
) -> bool {
    for filter in &filters.listener {
        let mut known = 0;
        loop {
            let look = poll_fn(|cx| {
                conn.poll_read_with(cx, known, |bytes| match filter.on_bytes(downstream, bytes) {
                    Look::Done(used) => (used, Some(None)),
                    // No more will come, or more than a listener filter may ask for.
                    Look::More if bytes.len() <= known || bytes.len() >= bytes_max => (0, None),
                    Look::More => (0, Some(Some(bytes.len()))),
                    Look::Refuse => (0, None),
                })
            });
            match look.await {
                Ok(Some(Some(seen))) => known = seen,
                Ok(Some(None)) => break,
                Ok(None) | Err(_) => return false,
            }
        }
    }
    true
}

/// Serves a connection, in a task of its own, until it is closed.
fn start<T: Transport>(entrance: &Rc<Entrance<T>>, conn: MaybeTls<T::Conn>, state: Rc<ConnState>, present: Present<T>) {
    let (proxy, limits) = (entrance.proxy.clone(), Rc::clone(&entrance.limits));
    // How it ended is in the counters; the task's result is for nobody. Not wrapped: a wrapper would keep room for it twice.
    spawn_local(serve(conn, entrance.tls.is_some(), proxy, limits, state, present));
}

async fn handshake<T: Transport>(conn: T::Conn, tls: &ServerTls, entrance: &Entrance<T>) -> Option<MaybeTls<T::Conn>> {
    let peer = conn.peer_addr().clone();
    let handshake = timeout(entrance.limits.handshake_timeout, MaybeTls::accept(conn, tls));
    match handshake.await {
        Ok(Ok(conn)) => return Some(conn),
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "a TLS handshake took longer than handshake_timeout"),
    }
    entrance.worker.counters.downstream.handshake_failed.inc();
    None
}

async fn sweep<T: Transport>(worker: Rc<Worker<T>>) {
    let mut tick = interval(SWEEP_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        worker.sweep();
    }
}

/// How often idle connections are looked at.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);

/// Downstream connections that one sweep looks at.
const SWEEP_CONNS_MAX: usize = 4096;
