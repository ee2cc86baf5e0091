//! One listener on one worker: it accepts, or is handed what others accept, lets filters and TLS have their look, and starts a task for each
//! connection.
//!
//! **Invariant:** what has come into the socket's queue before the listener is retired is still served.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tls_offload::{PeerCertificate, ServerTls};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::datagrams::relay;
use super::handoff::{ByAddress, Chains, wanted};
use super::handshake::{handshake, sealed_as_wanted, told_of};
use super::{Present, Worker};
use crate::codec::client_hello::begins_tls;
use crate::codec::detect::Protocol;
use crate::config::schema::{ConnFault, Protocols};
use crate::config::{Limits, schema as config};
use crate::filter::network::{ConnectionFilters, Event, Flow, Look};
use crate::message::{Downstream, next_conn_id};
use crate::net::{Address, Conn, ListenOptions, Listener, Transport};
use crate::orders::ListenError;
use crate::proxy::{Client, Current, Generation, Proxy, Slot, TcpProxy, UdpProxy, UdpSession, is_same_entrance};
use crate::snapshot::{ListenerConfig, Target};
use crate::stream::detect::{Found, detect};
use crate::stream::server::serve_for;
use crate::stream::xprotocol::{self, Manners};
use crate::stream::{ConnState, Wish, http2};
use crate::telemetry::metrics::{DownstreamCounters, ListenerCounters, WorkerCounters};
use crate::tls::MaybeTls;

/// What the connections of one listener have in common.
pub(super) struct Entrance<T: Transport> {
    /// Not the same for two entrances of a worker.
    pub(super) id: u32,
    pub(super) worker: Rc<Worker<T>>,
    /// Another one when its connections are to be served in another way.
    current: RefCell<Rc<Current<T>>>,
    /// Another one when the listener has another name: it is counted under that.
    pub(super) service: RefCell<Service<T>>,
    pub(super) config: RefCell<Arc<ListenerConfig>>,
    tls: RefCell<Option<ServerTls>>,
    pub(super) limits: RefCell<Rc<Limits>>,
    /// For who comes from now on.
    filters: RefCell<Rc<ConnectionFilters>>,
    chains: RefCell<Chains<T>>,
    retired: Cell<bool>,
    pub(super) retire: Notify,
    accepting: RefCell<Option<JoinHandle<()>>>,
}

/// What serves the connections of a listener, or its datagrams.
pub(super) enum Service<T: Transport> {
    /// And what is of none of its protocols.
    Http(Proxy<T>, Option<TcpProxy<T>>),
    Tcp(TcpProxy<T>),
    Udp(UdpProxy<T>),
}

/// What an entrance is open at.
enum Opened<T: Transport> {
    Conns(T::Listener),
    Datagrams(T::Datagrams),
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
    for (slot, config) in generation.listeners() {
        if entrances.iter().any(|e| is_same_entrance(&e.config.borrow().config, &config.config)) {
            continue;
        }
        let entrance = Entrance::new(worker, generation, slot, config);
        match entrance.open(transport).await {
            Ok(()) => entrances.push(entrance),
            Err(e) => failed.push(e),
        }
    }
    worker.by_address.replace(ByAddress::new(entrances));
    for entrance in &*entrances {
        entrance.chains.replace(Chains::new(entrance, entrances));
    }
    failed
}

impl<T: Transport> Entrance<T> {
    fn new(
        worker: &Rc<Worker<T>>,
        generation: &Rc<Generation<T>>,
        slot: Slot,
        config: &Arc<ListenerConfig>,
    ) -> Rc<Self> {
        let current = Rc::new(Current::new(Rc::clone(generation)));
        Rc::new(Self {
            id: worker.next_entrance(),
            service: RefCell::new(Service::new(config, &current, slot, &worker.counters)),
            worker: Rc::clone(worker),
            current: RefCell::new(current),
            config: RefCell::new(Arc::clone(config)),
            tls: RefCell::new(config.tls.as_deref().cloned()),
            limits: RefCell::new(Rc::new(listener_limits(generation.limits(), &config.config))),
            filters: RefCell::new(Rc::new(ConnectionFilters::new(&config.config, generation.limits()))),
            chains: RefCell::default(),
            retired: Cell::new(false),
            retire: Notify::new(),
            accepting: RefCell::default(),
        })
    }

    /// Opens its socket, if it has one of its own.
    async fn open(self: &Rc<Self>, transport: &T) -> Result<(), ListenError> {
        let config = Arc::clone(&self.config.borrow());
        let listener = &config.config;
        let (name, address) = (listener.name.clone(), listener.address.clone());
        let failed = |error| ListenError { listener: name, address, error };
        if let Err(error) = sealed_as_wanted(&config, transport) {
            return Err(failed(error));
        }
        if !listener.bind_port {
            return Ok(());
        }
        let options = ListenOptions { transparent: listener.is_transparent(), ..ListenOptions::default() };
        let opened = match &listener.address {
            Address::Udp(at) => transport.listen_datagrams(*at).map(Opened::Datagrams),
            address => transport.listen(address, &options).await.map(Opened::Conns),
        };
        let opened: Opened<T> = opened.map_err(failed)?;
        let accepting = match opened {
            Opened::Conns(listener) => spawn_local(accept(Rc::clone(self), listener)),
            Opened::Datagrams(socket) => spawn_local(relay(Rc::clone(self), socket)),
        };
        self.accepting.replace(Some(accepting));
        Ok(())
    }

    /// From now on as the generation has it: new connections in everything, those that are open from their next request on, but for TLS
    /// and limits.
    fn take_over(&self, generation: &Rc<Generation<T>>, slot: Slot, config: &Arc<ListenerConfig>) {
        let same_clients = self.config.borrow().config.chain_match == config.config.chain_match;
        if same_clients && self.service.borrow().is_for(&config.target) {
            self.current.borrow().set(Rc::clone(generation));
        } else {
            // Those who are in keep the last generation that serves them, and are to go.
            self.current.replace(Rc::new(Current::new(Rc::clone(generation))));
            self.worker.ask_to_close(|entrance| entrance == self.id);
        }
        self.service.replace(Service::new(config, &self.current.borrow(), slot, &self.worker.counters));
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

    /// The chain for a connection that came here; None: none is.
    fn chain(self: &Rc<Self>, downstream: &Downstream) -> Option<Rc<Self>> {
        self.chains.borrow().choose(self, downstream)
    }

    /// Takes on a connection that `first` let in, as its chain or as itself.
    fn take_on(&self, first: &Rc<Self>, present: &mut Present<T>) {
        if self.id != first.id {
            present.pass_to(self.id, self.tls.borrow().is_some());
        }
    }

    /// Whether nothing comes before its codec.
    fn is_plain(&self) -> bool {
        self.tls.borrow().is_none() && self.config.borrow().config.fault.is_none()
    }

    /// A session for a client whose datagrams come to `bound`; None: there is no host for it.
    pub(super) fn open_session(&self, client: Client, bound: SocketAddr) -> Option<Rc<UdpSession<T>>> {
        match &*self.service.borrow() {
            Service::Udp(proxy) => proxy.open(client, bound),
            Service::Http(..) | Service::Tcp(_) => None,
        }
    }

    /// How long its sessions may be silent, and the generation in force for them.
    pub(super) fn session_terms(&self) -> Option<(Duration, Rc<Generation<T>>)> {
        match &*self.service.borrow() {
            Service::Udp(proxy) => Some((proxy.idle_timeout(), self.current.borrow().get())),
            Service::Http(..) | Service::Tcp(_) => None,
        }
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
    fn new(config: &ListenerConfig, current: &Rc<Current<T>>, slot: Slot, counters: &Arc<WorkerCounters>) -> Self {
        let (current, counters) = (Rc::clone(current), Arc::clone(counters));
        match config.target {
            Target::Http(_) => {
                let fallback = config.fallback.is_some();
                let fallback = fallback.then(|| TcpProxy::new(Rc::clone(&current), slot, Arc::clone(&counters)));
                Self::Http(Proxy::new(current, slot, counters), fallback)
            }
            Target::Tcp(_) => Self::Tcp(TcpProxy::new(current, slot, counters)),
            Target::Udp(_) => Self::Udp(UdpProxy::new(current, slot, counters)),
        }
    }

    /// Whether it goes on under a generation with this target.
    fn is_for(&self, target: &Target) -> bool {
        match target {
            Target::Http(_) => matches!(self, Self::Http(..)),
            Target::Tcp(_) => matches!(self, Self::Tcp(_)),
            Target::Udp(_) => matches!(self, Self::Udp(_)),
        }
    }

    pub(super) fn listener_counters(&self) -> &Arc<ListenerCounters> {
        match self {
            Self::Http(proxy, _) => proxy.listener_counters(),
            Self::Tcp(proxy) => proxy.listener_counters(),
            Self::Udp(proxy) => proxy.listener_counters(),
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
            None if entrance.retired.get() => {
                entrance.retire.notified().await;
                last = Some(Instant::now() + QUEUE_TIMEOUT);
                continue;
            }
            // While connections come, nobody has to be told whom to wake else.
            None => tokio::select! {
                biased;
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
        match accepted {
            Ok(conn) => let_in(&entrance, conn),
            Err(e) => {
                let limits = Rc::clone(&entrance.limits.borrow());
                pause(&e, &worker.counters.downstream, &limits).await;
            }
        }
    }
}

/// Hands a connection to the entrance of the listener that it is for, which is this one unless it was meant for somewhere else.
fn let_in<T: Transport>(came_by: &Rc<Entrance<T>>, conn: T::Conn) {
    let (wanted, how) = {
        let config = &came_by.config.borrow().config;
        (wanted(config, &conn), config.interception)
    };
    let worker = &came_by.worker;
    let found = wanted.zip(how).and_then(|(to, how)| worker.by_address.borrow().find(to, how));
    let entrance = found.unwrap_or_else(|| Rc::clone(came_by));
    let limits = Rc::clone(&entrance.limits.borrow());
    let listener = Arc::clone(entrance.service.borrow().listener_counters());
    let (state, present) = worker.enter(&limits, (entrance.id, listener), entrance.tls.borrow().is_some());
    if came_by.retired.get() || entrance.retired.get() {
        state.ask(Wish::Close);
    }
    let local = wanted.map_or_else(|| conn.local_addr().clone(), Address::Inet);
    let mut downstream = Downstream::new(next_conn_id(), conn.peer_addr().clone(), local, false);
    downstream.intercepted = wanted.is_some();
    admit(&entrance, conn, downstream, limits, state, present);
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

/// Starts the task of a connection that was let in, once its first bytes have been looked at and its chain is known.
fn admit<T: Transport>(
    entrance: &Rc<Entrance<T>>,
    conn: T::Conn,
    downstream: Downstream,
    limits: Rc<Limits>,
    state: Rc<ConnState>,
    mut present: Present<T>,
) {
    let filters = Rc::clone(&entrance.filters.borrow());
    if filters.is_empty() {
        match entrance.chain(&downstream) {
            Some(chain) => {
                chain.take_on(entrance, &mut present);
                if chain.is_plain() {
                    start(&chain, MaybeTls::Plain(conn), downstream, state, present);
                } else {
                    spawn_local(prepare(chain, conn, downstream, state, present));
                }
            }
            None => refuse(conn, &present),
        }
        return;
    }
    // A task of its own for what comes before the first request: it is far larger than what an idle connection should hold.
    let entrance = Rc::clone(entrance);
    spawn_local(async move {
        let (mut conn, mut downstream) = (conn, downstream);
        if !screen(&mut conn, &filters, &limits, &mut downstream, &mut present).await {
            return refuse(conn, &present);
        }
        let chain = entrance.chain(&downstream);
        // Nobody asks for it any more.
        downstream.forget_offers();
        match chain {
            Some(chain) => {
                chain.take_on(&entrance, &mut present);
                prepare(chain, conn, downstream, state, present).await;
            }
            None => refuse(conn, &present),
        }
    });
}

/// Turns a connection away. Whatever it sent, nobody is to read an answer into it.
fn refuse<T: Transport>(mut conn: T::Conn, present: &Present<T>) {
    present.listener.connection_refused.inc();
    conn.abort();
}

/// Does what a chain has before its codec: a fault, TLS.
async fn prepare<T: Transport>(
    chain: Rc<Entrance<T>>,
    mut conn: T::Conn,
    mut downstream: Downstream,
    state: Rc<ConnState>,
    present: Present<T>,
) {
    let (tls, limits) = (chain.tls.borrow().clone(), Rc::clone(&chain.limits.borrow()));
    let (fault, inspects) = {
        let config = &chain.config.borrow().config;
        (config.fault, tls.is_some() && config.inspector)
    };
    if let Some(fault) = fault
        && !passes(&fault, &chain, &present).await
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
        Some(tls) => handshake(conn, tls, &chain, &limits).await,
    };
    if let Some(mut conn) = conn {
        if let Some(name) = conn.info().and_then(|info| info.sni) {
            downstream.tls_mut().server_name = Some(name.into());
        }
        if let Some(tls) = tls.filter(ServerTls::verifies_clients) {
            let shown = conn.peer_certificate();
            // A session is resumed without another look at the certificate.
            if shown.as_ref().is_some_and(PeerCertificate::has_expired) {
                chain.worker.counters.downstream.client_cert_refused.inc();
                conn.abort();
                return;
            }
            downstream.tls_mut().certificate = shown.map(|shown| told_of(&chain, &shown, &tls));
        }
        start(&chain, conn, downstream, state, present);
    }
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
    state: Rc<ConnState>,
    present: Present<T>,
) {
    let (downstream, limits) = (Rc::new(downstream), Rc::clone(&entrance.limits.borrow()));
    let (proxy, fallback) = match &*entrance.service.borrow() {
        Service::Http(proxy, fallback) => (proxy.clone(), fallback.clone()),
        Service::Tcp(proxy) => return drop(spawn_local(proxy.clone().serve(conn, downstream, state, present))),
        // No connection comes to it.
        Service::Udp(_) => return,
    };
    let (served, says_go_away) = {
        let config = &entrance.config.borrow().config;
        config.proxy().map_or((Protocols::HTTP1, false), |proxy| (proxy.protocols, proxy.says_go_away))
    };
    let (streams, calls) = (Rc::clone(&entrance.worker.streams), Rc::clone(&entrance.worker.calls));
    let (detect_limits, fallback) = (Rc::clone(&limits), fallback.map(|tcp| (tcp, Rc::clone(&downstream))));
    let serve = move |protocol, conn, state, present| match protocol {
        // How it ended is in the counters; the task's result is for nobody. Not wrapped: a wrapper would keep room for it twice.
        Protocol::Http1 => drop(spawn_local(serve_for(conn, downstream, proxy, limits, state, present))),
        Protocol::Http2 => {
            let proxy = (proxy, streams);
            drop(spawn_local(http2::serve_for(conn, downstream, proxy, limits, state, present)));
        }
        Protocol::Rpc(protocol) => {
            let client = (downstream, Manners { protocol, says_go_away });
            drop(spawn_local(xprotocol::serve_for(conn, client, (proxy, calls), limits, state, present)));
        }
    };
    let agreed = conn.info().and_then(|info| Protocol::of_alpn(info.alpn?)).filter(|agreed| agreed.is_served(served));
    match Protocol::only(served).or(agreed) {
        Some(protocol) => serve(protocol, conn, state, present),
        None => drop(spawn_local(async move {
            let (mut conn, present) = (conn, present);
            let found = detect(&mut conn, (served, fallback.is_some()), &state, &detect_limits).await;
            match (found, fallback) {
                (Found::Is(protocol), _) => serve(protocol, conn, state, present),
                (Found::Unknown, Some((tcp, downstream))) => {
                    present.listener.connection_fallback.inc();
                    drop(spawn_local(tcp.serve(conn, downstream, state, present)));
                }
                (Found::Unknown | Found::Gone, _) => {}
            }
        })),
    }
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
pub(super) const QUEUE_TIMEOUT: Duration = Duration::from_millis(20);
