//! What one core runs, on either plane: its listeners, its connections, and its end.
//!
//! **Invariant:** a worker shares nothing with the others but the snapshot, the stop signal and counters that it alone writes.

mod accelerators;
mod datagrams;
mod entrance;
mod handoff;
mod handshake;
mod handshakes;
mod probe;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use tokio::sync::{Notify, watch};
use tokio::task::spawn_local;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::config::Limits;
use crate::filter::network::{ConnectionFilters, Event};
use crate::message::Downstream;
use crate::net::Transport;
pub use crate::orders::{ListenError, Orders, Stop};
use crate::proxy::{Current, Generation, Proxy};
use crate::stream::load::{CONN_BYTES, Charge, Load, TLS_BYTES};
use crate::stream::task_pool::TaskPool;
use crate::stream::{ConnState, Wish, http2, xprotocol};
use crate::telemetry::metrics::{ListenerCounters, WorkerCounters};
use crate::telemetry::pulse::Work;
use crate::tls::{MaybeTls, take_handed_down};
use crate::upstream::Probes;
use entrance::{Entrance, adopt};
use handoff::ByAddress;
use handshakes::Handshakes;

/// Runs one worker until it is told to stop.
///
/// # Errors
/// When a listener can't listen; it has been reported to [`Orders::started`] then, with the reason.
pub async fn run<T: Transport>(index: usize, transport: T, mut orders: Orders) -> io::Result<()> {
    let counters = Arc::clone(&orders.counters[index]);
    let snapshot = Arc::clone(&orders.snapshot.borrow_and_update());
    let generation = Rc::new(Generation::derive(snapshot, None, &transport, &orders.logs, index));
    let plane = transport.clone();
    let load = Rc::new(Load::new(Arc::clone(&counters), move || plane.held_bytes()));
    load.set_limits(generation.limits(), orders.memory_bytes_max);
    let worker = Rc::new(Worker {
        load,
        current: Rc::new(Current::new(Rc::clone(&generation))),
        counters,
        conns: RefCell::default(),
        emptied: Notify::new(),
        room: Notify::new(),
        swept: Cell::new(0),
        handshakes: Rc::default(),
        conns_max: Cell::new(conns_max(generation.limits(), orders.conns_max)),
        sessions: Cell::new(0),
        sessions_max: Cell::new(sessions_max(generation.limits(), orders.conns_max)),
        draining: Cell::new(false),
        entrances: Cell::new(0),
        by_address: RefCell::default(),
        streams: Rc::default(),
        calls: Rc::default(),
        probes: (index == 0).then(Probes::default),
    });
    let mut entrances = Vec::new();
    if let Some(e) = adopt(&worker, &mut entrances, &generation, &transport).await.pop() {
        entrances.iter().for_each(|entrance| entrance.close());
        // Nobody listens when the start has been given up already.
        let _ = orders.started.send(Err(e));
        return Ok(());
    }
    if index == 0 {
        handshake::tell_who_seals(&generation.snapshot().listeners, &transport);
    }
    drop(generation);
    let _ = orders.started.send(Ok(()));
    worker.probe();
    let sweeper = spawn_local(sweep(Rc::clone(&worker)));
    let probe = spawn_local(probe::probe(Rc::clone(&worker.load)));
    let handshakes = spawn_local(Rc::clone(&worker.handshakes).drive());
    let accelerators = spawn_local(accelerators::drive(Rc::clone(&worker.load), transport.is_polled()));
    let stop = worker.follow(index, &transport, &mut orders, &mut entrances).await;
    if stop == Stop::Drain {
        worker.drain(&mut orders.stop, &entrances).await;
    } else {
        entrances.iter().for_each(|entrance| entrance.close());
    }
    sweeper.abort();
    probe.abort();
    accelerators.abort();
    handshakes.abort();
    Ok(())
}

/// A request of an HTTP/2 client.
type StreamOf<T> = http2::Call<MaybeTls<<T as Transport>::Conn>, Proxy<T>>;

/// One core's share of the gateway.
struct Worker<T: Transport> {
    current: Rc<Current<T>>,
    counters: Arc<WorkerCounters>,
    load: Rc<Load>,
    conns: RefCell<Slab<Watched>>,
    emptied: Notify,
    /// A connection has gone while the worker had all it may have.
    room: Notify,
    /// Where the next sweep begins.
    swept: Cell<usize>,
    /// Of TLS, of clients.
    handshakes: Rc<Handshakes>,
    conns_max: Cell<usize>,
    /// Sessions of datagrams, of all its listeners.
    sessions: Cell<usize>,
    sessions_max: Cell<usize>,
    draining: Cell<bool>,
    /// Entrances that there have been.
    entrances: Cell<u32>,
    /// Those that there are.
    by_address: RefCell<ByAddress<T>>,
    /// What runs the requests of HTTP/2 connections.
    streams: Rc<TaskPool<StreamOf<T>>>,
    /// What runs the requests of RPC connections.
    calls: Rc<TaskPool<xprotocol::Call<Proxy<T>>>>,
    /// Of the first worker only: the others see its verdicts.
    probes: Option<Probes<T>>,
}

/// A connection as its worker sees it.
struct Watched {
    state: Rc<ConnState>,
    limits: Rc<Limits>,
    /// The entrance that it came by.
    entrance: u32,
}

impl<T: Transport> Worker<T> {
    /// Puts each new snapshot in force, until a stop is wanted.
    async fn follow(
        self: &Rc<Self>,
        index: usize,
        transport: &T,
        orders: &mut Orders,
        entrances: &mut Vec<Rc<Entrance<T>>>,
    ) -> Stop {
        let default_conns_max = orders.conns_max;
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
                    let running = self.load.enter(Work::Generation, 0);
                    self.load.set_limits(&snapshot.limits, orders.memory_bytes_max);
                    let next = Generation::derive(snapshot, Some(&current), transport, &orders.logs, index);
                    let next = Rc::new(next);
                    self.conns_max.set(conns_max(next.limits(), default_conns_max));
                    self.sessions_max.set(sessions_max(next.limits(), default_conns_max));
                    self.current.set(Rc::clone(&next));
                    self.probe();
                    drop(running);
                    for error in adopt(self, entrances, &next, transport).await {
                        self.counters.downstream.listen_failed.inc();
                        tracing::error!(worker = index, "{error}");
                    }
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
    async fn drain(&self, stop: &mut watch::Receiver<Stop>, entrances: &[Rc<Entrance<T>>]) {
        self.draining.set(true);
        entrances.iter().for_each(|entrance| entrance.retire());
        self.ask_to_close(|_| true);
        let emptied = async {
            for entrance in entrances {
                entrance.closed().await;
            }
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
        let _running = self.load.enter(Work::Sweep, 0);
        let now = Instant::now();
        let conns = self.conns.borrow();
        // So many a turn, so that a turn is short; the next one goes on from here.
        let start = if self.swept.get() < conns.capacity() { self.swept.get() } else { 0 };
        for key in start..start + SWEEP_CONNS_MAX {
            let Some(watched) = conns.get(key) else { continue };
            let closed = watched.state.close_if_idle(now, watched.limits.idle_timeout);
            self.counters.downstream.idle_closed.add(u64::from(closed));
        }
        self.swept.set(start + SWEEP_CONNS_MAX);
        self.counters.downstream.handed_down.add(take_handed_down());
        self.current.get().flush_logs();
        for cluster in self.current.get().used_clusters() {
            cluster.sweep();
        }
        if let Some(probes) = &self.probes {
            probes.sweep();
        }
    }

    fn enter(
        self: &Rc<Self>,
        limits: &Rc<Limits>,
        (entrance, listener): (u32, Arc<ListenerCounters>),
        is_tls: bool,
    ) -> (Rc<ConnState>, Present<T>) {
        let state = Rc::new(ConnState::of_worker(Rc::clone(&self.load)));
        let charge = self.load.charge(conn_bytes(is_tls));
        let watched = Watched { state: Rc::clone(&state), limits: Rc::clone(limits), entrance };
        let key = self.conns.borrow_mut().insert(watched);
        self.counters.downstream.connection_total.inc();
        self.counters.downstream.connection_active.inc();
        listener.connection_total.inc();
        listener.connection_active.inc();
        (state, Present { worker: Rc::clone(self), key, listener, watched: None, charge })
    }

    /// Whether it has as many connections as it may have. A session of datagrams has a descriptor too, and counts as one.
    fn is_full(&self) -> bool {
        self.conns.borrow().len() + self.sessions.get() >= self.conns_max.get()
    }

    /// Asks connections to close, by the entrance that they came by.
    fn ask_to_close(&self, entrance: impl Fn(u32) -> bool) {
        for (_, watched) in self.conns.borrow().iter().filter(|(_, w)| entrance(w.entrance)) {
            watched.state.ask(Wish::Close);
        }
    }

    fn next_entrance(&self) -> u32 {
        self.entrances.set(self.entrances.get().wrapping_add(1));
        self.entrances.get()
    }
}

/// A connection is counted and can be reached while this lives; a panic of its task is counted too.
struct Present<T: Transport> {
    worker: Rc<Worker<T>>,
    key: usize,
    listener: Arc<ListenerCounters>,
    /// Network filters that want to hear of its end.
    watched: Option<Box<(ConnectionFilters, Downstream)>>,
    charge: Charge,
}

impl<T: Transport> Present<T> {
    /// It is another entrance's from now on, with or without TLS.
    fn pass_to(&mut self, entrance: u32, is_tls: bool) {
        self.charge = self.worker.load.charge(conn_bytes(is_tls));
        if let Some(watched) = self.worker.conns.borrow_mut().get_mut(self.key) {
            watched.entrance = entrance;
        }
    }
}

impl<T: Transport> Drop for Present<T> {
    fn drop(&mut self) {
        if let Some(watched) = &self.watched {
            watched.0.on_event(&watched.1, Event::Closed);
        }
        let worker = &self.worker;
        let was_full = worker.is_full();
        worker.conns.borrow_mut().remove(self.key);
        if was_full {
            worker.room.notify_waiters();
        }
        worker.counters.downstream.connection_active.dec();
        self.listener.connection_active.dec();
        if std::thread::panicking() {
            worker.counters.downstream.panicked.inc();
        }
        if worker.draining.get() && worker.conns.borrow().is_empty() {
            worker.emptied.notify_one();
        }
    }
}

/// Connections that a worker may have open.
fn conns_max(limits: &Limits, default: usize) -> usize {
    if limits.downstream_conns_max > 0 { limits.downstream_conns_max } else { default }
}

/// The memory that a connection counts for.
fn conn_bytes(is_tls: bool) -> usize {
    CONN_BYTES + if is_tls { TLS_BYTES } else { 0 }
}

/// Sessions of datagrams that a worker may have open.
fn sessions_max(limits: &Limits, default_conns: usize) -> usize {
    if limits.udp_sessions_max > 0 { limits.udp_sessions_max } else { (conns_max(limits, default_conns) / 2).max(1) }
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
