//! One listener on one worker: it accepts, lets filters and TLS have their look, and starts a task for each connection.
//!
//! **Invariant:** what has come into the socket's queue before the listener is retired is still served.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tls_offload::ServerTls;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{Present, Worker};
use crate::codec::client_hello::begins_tls;
use crate::codec::detect::Protocol;
use crate::config::schema::{ConnFault, Protocols};
use crate::config::{Limits, schema as config};
use crate::filter::network::{ConnectionFilters, Event, Flow, Look};
use crate::message::{Downstream, next_conn_id};
use crate::net::{Conn, ListenOptions, Listener, Transport};
use crate::orders::ListenError;
use crate::proxy::{Current, Generation, Proxy, Slot, TcpProxy, is_same_entrance};
use crate::snapshot::{ListenerConfig, Target};
use crate::stream::detect::detect;
use crate::stream::server::serve_for;
use crate::stream::{ConnState, Wish, http2};
use crate::telemetry::metrics::{DownstreamCounters, ListenerCounters, WorkerCounters};
use crate::telemetry::pulse::Work;
use crate::tls::MaybeTls;

/// What the connections of one listener have in common.
pub(super) struct Entrance<T: Transport> {
    /// Not the same for two entrances of a worker.
    pub(super) id: u32,
    worker: Rc<Worker<T>>,
    /// Another one when its connections are to be served in another way.
    current: RefCell<Rc<Current<T>>>,
    /// Another one when the listener has another name: it is counted under that.
    service: RefCell<Service<T>>,
    config: RefCell<Arc<ListenerConfig>>,
    tls: RefCell<Option<ServerTls>>,
    limits: RefCell<Rc<Limits>>,
    /// For who comes from now on.
    filters: RefCell<Rc<ConnectionFilters>>,
    retired: Cell<bool>,
    retire: Notify,
    accepting: RefCell<Option<JoinHandle<()>>>,
}

/// What serves the connections of a listener.
enum Service<T: Transport> {
    Http(Proxy<T>),
    Tcp(TcpProxy<T>),
}

/// Makes the entrances fit a generation that was put in force: those that it has too take it over, those that it lacks are retired, new
/// ones are opened. What can't be opened is told; the others are open then.
pub(super) async fn adopt<T: Transport>(
    worker: &Rc<Worker<T>>,
    entrances: &mut Vec<Rc<Entrance<T>>>,
    generation: &Rc<Generation<T>>,
    transport: &T,
) -> Vec<ListenError> {
    entrances.retain(|entrance| {
        let config = Arc::clone(&entrance.config.borrow());
        let kept = generation.listeners().find(|(_, new)| is_same_entrance(&new.config, &config.config));
        match kept {
            Some((slot, new)) => entrance.take_over(generation, slot, new),
            None => entrance.retire(),
        }
        kept.is_some()
    });
    let mut failed = Vec::new();
    for (slot, config) in generation.listeners().filter(|(_, l)| l.config.bind_port) {
        if entrances.iter().any(|e| is_same_entrance(&e.config.borrow().config, &config.config)) {
            continue;
        }
        match Entrance::open(worker, generation, slot, config, transport).await {
            Ok(entrance) => entrances.push(entrance),
            Err(e) => failed.push(e),
        }
    }
    failed
}

impl<T: Transport> Entrance<T> {
    async fn open(
        worker: &Rc<Worker<T>>,
        generation: &Rc<Generation<T>>,
        slot: Slot,
        config: &Arc<ListenerConfig>,
        transport: &T,
    ) -> Result<Rc<Self>, ListenError> {
        let address = &config.config.address;
        let listener = transport.listen(address, &ListenOptions::default()).await.map_err(|error| ListenError {
            listener: config.config.name.clone(),
            address: address.clone(),
            error,
        })?;
        let current = Rc::new(Current::new(Rc::clone(generation)));
        let entrance = Rc::new(Self {
            id: worker.next_entrance(),
            service: RefCell::new(Service::new(&config.target, &current, slot, &worker.counters)),
            worker: Rc::clone(worker),
            current: RefCell::new(current),
            config: RefCell::new(Arc::clone(config)),
            tls: RefCell::new(config.tls.as_deref().cloned()),
            limits: RefCell::new(Rc::new(listener_limits(generation.limits(), &config.config))),
            filters: RefCell::new(Rc::new(ConnectionFilters::new(&config.config, generation.limits()))),
            retired: Cell::new(false),
            retire: Notify::new(),
            accepting: RefCell::default(),
        });
        let accepting = spawn_local(accept(Rc::clone(&entrance), listener));
        entrance.accepting.replace(Some(accepting));
        Ok(entrance)
    }

    /// From now on as the generation has it: new connections in everything, those that are open from their next request on, but for TLS
    /// and limits.
    fn take_over(&self, generation: &Rc<Generation<T>>, slot: Slot, config: &Arc<ListenerConfig>) {
        if self.service.borrow().is_for(&config.target) {
            self.current.borrow().set(Rc::clone(generation));
        } else {
            // Those who are in keep the last generation that serves them, and are to go.
            self.current.replace(Rc::new(Current::new(Rc::clone(generation))));
            self.worker.ask_to_close(|entrance| entrance == self.id);
        }
        self.service.replace(Service::new(&config.target, &self.current.borrow(), slot, &self.worker.counters));
        self.tls.replace(config.tls.as_deref().cloned());
        self.filters.replace(Rc::new(ConnectionFilters::new(&config.config, generation.limits())));
        self.limits.replace(Rc::new(listener_limits(generation.limits(), &config.config)));
        self.config.replace(Arc::clone(config));
    }

    /// Lets nobody in any more but who waits in the socket's queue already, and asks those who are in to go.
    pub(super) fn retire(&self) {
        self.retired.set(true);
        self.retire.notify_one();
        self.worker.ask_to_close(|entrance| entrance == self.id);
    }

    /// Waits until nobody is let in any more.
    pub(super) async fn closed(&self) {
        let accepting = self.accepting.take();
        if let Some(accepting) = accepting {
            // Its only result is that it is over.
            let _ = accepting.await;
        }
    }

    /// Lets nobody in any more, whoever waits.
    pub(super) fn close(&self) {
        if let Some(accepting) = &*self.accepting.borrow() {
            accepting.abort();
        }
    }
}

impl<T: Transport> Service<T> {
    fn new(target: &Target, current: &Rc<Current<T>>, slot: Slot, counters: &Arc<WorkerCounters>) -> Self {
        let (current, counters) = (Rc::clone(current), Arc::clone(counters));
        match target {
            Target::Http(_) => Self::Http(Proxy::new(current, slot, counters)),
            Target::Tcp(_) => Self::Tcp(TcpProxy::new(current, slot, counters)),
        }
    }

    /// Whether it goes on under a generation with this target.
    fn is_for(&self, target: &Target) -> bool {
        matches!((self, target), (Self::Http(_), Target::Http(_)) | (Self::Tcp(_), Target::Tcp(_)))
    }

    fn listener_counters(&self) -> &Arc<ListenerCounters> {
        match self {
            Self::Http(proxy) => proxy.listener_counters(),
            Self::Tcp(proxy) => proxy.listener_counters(),
        }
    }
}

/// Accepts on one listener until it is retired or aborted.
async fn accept<T: Transport>(entrance: Rc<Entrance<T>>, mut listener: T::Listener) {
    let worker = &entrance.worker;
    let mut last: Option<Instant> = None;
    loop {
        while worker.is_full() {
            // Left in the kernel's queue, where another worker or a moment's patience may serve it.
            worker.counters.downstream.accept_limited.inc();
            tokio::select! {
                () = worker.room.notified() => {}
                () = entrance.retire.notified() => return,
            }
        }
        while worker.load.is_full() {
            worker.counters.downstream.accept_limited.inc();
            let pause = entrance.limits.borrow().accept_pause;
            tokio::select! {
                // Memory comes back by other ways than a connection that goes, too.
                _ = timeout(pause, worker.room.notified()) => {}
                () = entrance.retire.notified() => return,
            }
        }
        let accepted = match last {
            None => tokio::select! {
                accepted = listener.accept() => accepted,
                () = entrance.retire.notified() => {
                    last = Some(Instant::now() + QUEUE_TIMEOUT);
                    continue;
                }
            },
            // Who waits in the queue is let in, but nobody who comes for ever.
            Some(last) => match timeout_at(last, listener.accept()).await {
                Ok(accepted) => accepted,
                Err(_) => return,
            },
        };
        let limits = Rc::clone(&entrance.limits.borrow());
        match accepted {
            Ok(conn) => {
                let listener = Arc::clone(entrance.service.borrow().listener_counters());
                let (state, present) = worker.enter(&limits, (entrance.id, listener), entrance.tls.borrow().is_some());
                if entrance.retired.get() {
                    state.ask(Wish::Close);
                }
                admit(&entrance, conn, limits, state, present);
            }
            Err(e) => pause(&e, &worker.counters.downstream, &limits).await,
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
fn admit<T: Transport>(
    entrance: &Rc<Entrance<T>>,
    conn: T::Conn,
    limits: Rc<Limits>,
    state: Rc<ConnState>,
    present: Present<T>,
) {
    let (tls, filters) = (entrance.tls.borrow().clone(), Rc::clone(&entrance.filters.borrow()));
    let (peer, local) = (conn.peer_addr().clone(), conn.local_addr().clone());
    let downstream = Downstream::new(next_conn_id(), peer, local, tls.is_some());
    let inspects = tls.is_some() && entrance.config.borrow().config.inspector;
    let fault = entrance.config.borrow().config.fault;
    if tls.is_none() && filters.is_empty() && fault.is_none() {
        start(entrance, MaybeTls::Plain(conn), downstream, limits, state, present);
        return;
    }
    // A task of its own for what comes before the first request: it is far larger than what an idle connection should hold.
    let entrance = Rc::clone(entrance);
    spawn_local(async move {
        let (mut conn, mut present, mut downstream) = (conn, present, downstream);
        if !filters.is_empty() && !screen(&mut conn, &filters, &limits, &mut downstream, &mut present).await {
            present.listener.connection_refused.inc();
            // Whatever it sent, nobody is to read an answer into it.
            conn.abort();
            return;
        }
        if let Some(fault) = fault
            && !passes(&fault, &entrance, &present).await
        {
            conn.abort();
            return;
        }
        let in_clear = if inspects { is_in_clear(&mut conn, &limits).await } else { Some(false) };
        let tls = match in_clear {
            Some(in_clear) => tls.filter(|_| !in_clear),
            None => return,
        };
        downstream.is_tls = tls.is_some();
        let conn = match &tls {
            None => Some(MaybeTls::Plain(conn)),
            Some(tls) => handshake(conn, tls, &entrance, &limits).await,
        };
        if let Some(conn) = conn {
            if let Some(name) = conn.info().and_then(|info| info.sni) {
                downstream.server_name = Some(name.into());
            }
            start(&entrance, conn, downstream, limits, state, present);
        }
    });
}

/// Makes a connection wait, if chance will have it; says whether it may go on.
async fn passes<T: Transport>(fault: &ConnFault, entrance: &Entrance<T>, present: &Present<T>) -> bool {
    let generation = entrance.current.borrow().get();
    let hits = |percent: u8| percent > 0 && generation.draw() % 100 < u64::from(percent);
    let (waits, fails) = (hits(fault.delay_percent), hits(fault.abort_percent));
    // It may wait for longer than the generation is in force.
    drop(generation);
    if waits {
        present.listener.fault_delayed.inc();
        sleep(fault.delay).await;
    }
    present.listener.fault_aborted.add(u64::from(fails));
    !fails
}

/// Whether a client that may speak either speaks no TLS. None: it says nothing in `head_timeout`, or is gone.
async fn is_in_clear<C: Conn>(conn: &mut C, limits: &Limits) -> Option<bool> {
    let look = poll_fn(|cx| conn.poll_read_with(cx, 0, |bytes| (0, (!bytes.is_empty()).then(|| !begins_tls(bytes)))));
    timeout(limits.head_timeout, look).await.ok()?.ok()?
}

/// Shows a connection to the filters that come before the codec; says whether it may go on.
async fn screen<T: Transport>(
    conn: &mut T::Conn,
    filters: &Rc<ConnectionFilters>,
    limits: &Limits,
    downstream: &mut Downstream,
    present: &mut Present<T>,
) -> bool {
    let bytes_max = limits.head_bytes_max.max(limits.proxy_header_bytes_max);
    let first_bytes = look_at_first_bytes(conn, filters, downstream, bytes_max);
    let passed = timeout(limits.head_timeout, first_bytes).await.unwrap_or(false);
    if !passed || filters.on_connection(downstream) == Flow::Stop {
        return false;
    }
    if !filters.network.is_empty() {
        filters.on_event(downstream, Event::Accepted);
        present.watched = Some(Box::new((ConnectionFilters::clone(filters), downstream.clone())));
    }
    true
}

async fn look_at_first_bytes<C: Conn>(
    conn: &mut C,
    filters: &ConnectionFilters,
    downstream: &mut Downstream,
    bytes_max: usize,
) -> bool {
    for filter in &filters.listener {
        if !filter.wants(downstream) {
            continue;
        }
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
fn start<T: Transport>(
    entrance: &Rc<Entrance<T>>,
    conn: MaybeTls<T::Conn>,
    downstream: Downstream,
    limits: Rc<Limits>,
    state: Rc<ConnState>,
    present: Present<T>,
) {
    let downstream = Rc::new(downstream);
    let proxy = match &*entrance.service.borrow() {
        Service::Http(proxy) => proxy.clone(),
        Service::Tcp(proxy) => return drop(spawn_local(proxy.clone().serve(conn, downstream, state, present))),
    };
    let protocols = entrance.config.borrow().config.proxy().map_or(Protocols::Http1, |proxy| proxy.protocols);
    let agreed = conn.info().and_then(|info| Protocol::of_alpn(info.alpn?));
    match (protocols, agreed) {
        (Protocols::Http1, _) => start_as(Protocol::Http1, conn, downstream, proxy, limits, state, present),
        (Protocols::Http2, _) => start_as(Protocol::Http2, conn, downstream, proxy, limits, state, present),
        (Protocols::Both, Some(protocol)) => start_as(protocol, conn, downstream, proxy, limits, state, present),
        (Protocols::Both, None) => drop(spawn_local(async move {
            let (mut conn, present) = (conn, present);
            if let Some(protocol) = detect(&mut conn, &state, &limits).await {
                start_as(protocol, conn, downstream, proxy, limits, state, present);
            }
        })),
    }
}

/// Serves a connection whose protocol is known.
fn start_as<T: Transport>(
    protocol: Protocol,
    conn: MaybeTls<T::Conn>,
    downstream: Rc<Downstream>,
    proxy: Proxy<T>,
    limits: Rc<Limits>,
    state: Rc<ConnState>,
    present: Present<T>,
) {
    // How it ended is in the counters; the task's result is for nobody. Not wrapped: a wrapper would keep room for it twice.
    match protocol {
        Protocol::Http1 => drop(spawn_local(serve_for(conn, downstream, proxy, limits, state, present))),
        Protocol::Http2 => drop(spawn_local(http2::serve_for(conn, downstream, proxy, limits, state, present))),
    }
}

async fn handshake<T: Transport>(
    conn: T::Conn,
    tls: &ServerTls,
    entrance: &Entrance<T>,
    limits: &Limits,
) -> Option<MaybeTls<T::Conn>> {
    let peer = conn.peer_addr().clone();
    let mut handshake = pin!(timeout(limits.handshake_timeout, MaybeTls::accept(conn, tls)));
    let watched = poll_fn(|cx| {
        let _running = entrance.worker.load.enter(Work::Handshake, 0);
        handshake.as_mut().poll(cx)
    });
    match watched.await {
        Ok(Ok(conn)) => return Some(conn),
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
        Err(_) => {
            entrance.worker.counters.downstream.handshake_timeout.inc();
            tracing::debug!(%peer, "a TLS handshake took longer than handshake_timeout");
        }
    }
    entrance.worker.counters.downstream.handshake_failed.inc();
    None
}

/// The limits of a listener: the general ones, and what it says itself.
fn listener_limits(general: &Limits, listener: &config::Listener) -> Limits {
    let mut limits = general.clone();
    if let Some(bytes) = listener.proxy().and_then(|proxy| proxy.head_bytes_max) {
        limits.head_bytes_max = bytes;
        limits.request_line_bytes_max = limits.request_line_bytes_max.min(bytes);
    }
    if let Some(bytes) = listener.proxy().and_then(|proxy| proxy.request_body_bytes_max) {
        limits.request_body_bytes_max = bytes;
    }
    if let Some(timeout) = listener.idle_timeout {
        limits.idle_timeout = timeout;
    }
    limits
}

/// How long a retired listener looks for who is still in its queue.
const QUEUE_TIMEOUT: Duration = Duration::from_millis(20);
