//! A snapshot as one worker uses it: with its own clusters, cursors and pools.
//!
//! **Invariant:** a cluster that the next snapshot kept is the same object in the next generation: a reload that leaves it alone opens no
//! connection.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::access_log::{AccessLogs, LogBuffers};
use super::converted::InHand;
use super::dice::Dice;
use super::mirror::UnderWay;
use crate::config::Limits;
use crate::config::schema::{
    ClusterId, Forwarded, Http2Offers, Listener, Protocols, TcpProxy, UdpProxy, UpstreamProtocol,
};
use crate::filter::{FilterSet, Filters};
use crate::net::Transport;
use crate::router::{Router, TcpRoutes};
use crate::snapshot::{ClusterConfig, ListenerConfig, Snapshot, Target};
use crate::telemetry::log_thread::LogQueue;
use crate::telemetry::metrics::ListenerCounters;
use crate::upstream::{Cluster, Reach};

/// One generation of one worker.
pub struct Generation<T: Transport> {
    snapshot: Arc<Snapshot>,
    /// By [`ClusterId`]; made when a request first goes there: of ten thousand clusters a worker serves a few.
    clusters: Box<[OnceCell<Rc<Cluster<T>>>]>,
    /// By listener.
    filters: Vec<Rc<Filters>>,
    limits: Rc<Limits>,
    transport: T,
    worker: usize,
    buffers: LogBuffers,
    /// Where each slot's listener stands in the snapshot; None: the slot is free.
    slots: Vec<Option<usize>>,
    /// The access logs of each slot's listener.
    logs: Vec<Option<Rc<AccessLogs>>>,
    dice: Rc<Dice>,
    copies: Rc<UnderWay>,
    in_hand: Rc<InHand>,
}

/// A listener's place on one worker: the same in every generation that has the listener, however the file orders them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(usize);

/// The generation in force for one listener, or for the worker as a whole. A request takes it once, at its start. That of a listener
/// which the newest generation lacks stays the last one that had it, until its connections are gone.
pub struct Current<T: Transport>(RefCell<Rc<Generation<T>>>);

impl<T: Transport> Generation<T> {
    /// Derives a worker's generation from `snapshot`, keeping what `previous` has of the same clusters.
    pub fn derive(
        snapshot: Arc<Snapshot>,
        previous: Option<&Self>,
        transport: &T,
        queue: &LogQueue,
        worker: usize,
    ) -> Self {
        let limits = Rc::new(Limits::clone(&snapshot.limits));
        let clusters: Box<[_]> = snapshot.clusters.iter().map(|_| OnceCell::new()).collect();
        let kept = |index: usize, set: &Arc<FilterSet>| {
            let old = previous.filter(|p| p.snapshot.filters.get(index).is_some_and(|old| Arc::ptr_eq(old, set)))?;
            old.filters.get(index).map(Rc::clone)
        };
        let sets = snapshot.filters.iter().enumerate();
        let filters = sets.map(|(i, set)| kept(i, set).unwrap_or_else(|| Rc::new(set.for_worker()))).collect();
        let access_logs = snapshot.listeners.iter().flat_map(|l| &l.config.access_logs);
        let bytes_max = limits.access_log_queue_bytes_max;
        let buffers = LogBuffers::derive(queue, previous.map(|p| &p.buffers), access_logs, bytes_max);
        let slots = assign_slots(&snapshot, previous.map(|p| (&*p.snapshot, &*p.slots)));
        let logs = slots.iter().map(|slot| buffers.logs_of(&snapshot.listeners[(*slot)?].config)).collect();
        let dice = previous.map_or_else(|| Rc::new(Dice::new(worker as u64)), |p| Rc::clone(&p.dice));
        let copies = previous.map(|p| Rc::clone(&p.copies)).unwrap_or_default();
        let in_hand = previous.map(|p| Rc::clone(&p.in_hand)).unwrap_or_default();
        let transport = transport.clone();
        let next = Self {
            clusters,
            filters,
            limits,
            transport,
            worker,
            buffers,
            slots,
            logs,
            dice,
            copies,
            in_hand,
            snapshot,
        };
        if let Some(previous) = previous {
            previous.hand_over(&next);
        }
        next
    }

    /// Gives the next generation the clusters that this one uses: the same where nothing changed, else new ones with the same pools.
    fn hand_over(&self, next: &Self) {
        let same_limits = Arc::ptr_eq(&self.snapshot.limits, &next.snapshot.limits);
        for (config, cluster) in self.snapshot.clusters.iter().zip(&self.clusters) {
            let Some(cluster) = cluster.get() else { continue };
            let Some(id) = next.snapshot.cluster_id(&config.config.name) else { continue };
            let is_same = same_limits && Arc::ptr_eq(config, next.snapshot.cluster(id));
            let kept = if is_same { Rc::clone(cluster) } else { next.make(id, Some(cluster)) };
            // Set once: a name stands once in a snapshot.
            let _ = next.clusters[id.0 as usize].set(kept);
        }
    }

    fn make(&self, id: ClusterId, previous: Option<&Rc<Cluster<T>>>) -> Rc<Cluster<T>> {
        let reach = self.reach(self.snapshot.cluster(id));
        Rc::new(Cluster::new(reach, previous.map(|p| &**p)))
    }

    /// How this worker reaches the hosts of each cluster that has health checks.
    pub fn probed(&self) -> impl Iterator<Item = Reach<T>> {
        self.snapshot.clusters.iter().filter(|c| c.config.health.is_some()).map(|c| self.reach(c))
    }

    fn reach(&self, config: &ClusterConfig) -> Reach<T> {
        Reach {
            worker: self.worker,
            transport: self.transport.clone(),
            tls: config.tls.clone(),
            hosts: Arc::clone(&config.hosts),
            limits: Rc::clone(&self.limits),
            counters: config.shared.counters().of(self.worker),
            shared: Arc::clone(&config.shared),
        }
    }

    /// What it was derived from.
    #[must_use]
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> &Rc<Limits> {
        &self.limits
    }

    /// Each listener and its slot.
    pub fn listeners(&self) -> impl Iterator<Item = (Slot, &Arc<ListenerConfig>)> {
        let taken = self.slots.iter().enumerate();
        taken.filter_map(|(slot, index)| Some((Slot(slot), &self.snapshot.listeners[(*index)?])))
    }

    /// The stream filters of the listener in a slot of this generation.
    ///
    /// # Panics
    /// When the slot is not one of this generation.
    #[must_use]
    pub fn filters(&self, slot: Slot) -> &Rc<Filters> {
        &self.filters[self.index(slot)]
    }

    /// Puts filters of an embedder's own in the place of those that the file says.
    ///
    /// # Panics
    /// When the slot is not one of this generation.
    #[must_use]
    pub fn with_filters(mut self, slot: Slot, filters: Filters) -> Self {
        let index = self.index(slot);
        self.filters[index] = Rc::new(filters);
        self
    }

    /// The router of the listener in a slot of this generation. None: it relays bytes.
    ///
    /// # Panics
    /// When the slot is not one of this generation.
    #[must_use]
    pub fn router(&self, slot: Slot) -> Option<&Arc<Router>> {
        match self.listener(slot).target {
            Target::Http(router) => Some(self.snapshot.router(router)),
            Target::Tcp(_) | Target::Udp(_) => None,
        }
    }

    /// The `tcp_proxy` filter of the listener in a slot of this generation, and its routes. None: it has none.
    ///
    /// # Panics
    /// When the slot is not one of this generation.
    #[must_use]
    pub fn tcp_proxy(&self, slot: Slot) -> Option<(&TcpProxy, &TcpRoutes)> {
        let listener = self.listener(slot);
        let routes = match &listener.target {
            Target::Tcp(routes) => routes,
            Target::Http(_) => listener.fallback.as_ref()?,
            Target::Udp(_) => return None,
        };
        Some((listener.config.tcp_proxy()?, routes))
    }

    /// The `udp_proxy` filter of the listener in a slot of this generation, and its routes. None: it serves connections.
    ///
    /// # Panics
    /// When the slot is not one of this generation.
    #[must_use]
    pub fn udp_proxy(&self, slot: Slot) -> Option<(&UdpProxy, &TcpRoutes)> {
        let listener = self.listener(slot);
        match &listener.target {
            Target::Udp(routes) => Some((listener.config.udp_proxy()?, routes)),
            Target::Http(_) | Target::Tcp(_) => None,
        }
    }

    /// What this worker counts of the listener in a slot of this generation.
    ///
    /// # Panics
    /// When the slot is not one of this generation.
    pub(super) fn counters(&self, slot: Slot) -> Arc<ListenerCounters> {
        self.listener(slot).counters.of(self.worker)
    }

    /// What the listener in a slot of this generation tells origins about its clients. None: it relays bytes.
    ///
    /// # Panics
    /// When the slot is not one of this generation.
    #[must_use]
    pub fn forwarded(&self, slot: Slot) -> Option<&Forwarded> {
        self.listener(slot).config.proxy().map(|proxy| &proxy.forwarded)
    }

    /// What clients of the listener in a slot of this generation may speak, and what they are offered of HTTP/2.
    ///
    /// # Panics
    /// When the slot is not one of this generation.
    #[must_use]
    pub(super) fn protocols(&self, slot: Slot) -> (Protocols, Http2Offers) {
        self.listener(slot).config.proxy().map(|proxy| (proxy.protocols, proxy.http2)).unwrap_or_default()
    }

    /// What the listener in a slot of this generation asks origins in, where its routes don't say it. None: it does not say it either.
    ///
    /// # Panics
    /// When the slot is not one of this generation.
    #[must_use]
    pub(super) fn upstream_protocol(&self, slot: Slot) -> Option<UpstreamProtocol> {
        self.listener(slot).config.proxy().and_then(|proxy| proxy.upstream_protocol)
    }

    /// The access logs of the listener in a slot, if it has any.
    #[must_use]
    pub fn logs(&self, slot: Slot) -> Option<&Rc<AccessLogs>> {
        self.logs.get(slot.0)?.as_ref()
    }

    pub(super) fn listener(&self, slot: Slot) -> &Arc<ListenerConfig> {
        &self.snapshot.listeners[self.index(slot)]
    }

    fn index(&self, slot: Slot) -> usize {
        let index = self.slots.get(slot.0).copied().flatten();
        index.expect("a slot is only used with the generations that have its listener")
    }

    /// Hands what was gathered for the logs to their thread. To be called now and then.
    pub fn flush_logs(&self) {
        self.buffers.flush();
    }

    /// A random number.
    pub(crate) fn draw(&self) -> u64 {
        self.dice.draw()
    }

    /// The bodies that this worker holds for conversion.
    pub(super) fn in_hand(&self) -> &Rc<InHand> {
        &self.in_hand
    }

    /// The copies of requests that this worker has under way.
    pub(super) fn copies(&self) -> &Rc<UnderWay> {
        &self.copies
    }

    /// The cluster with this id.
    #[must_use]
    pub fn cluster(&self, id: ClusterId) -> Rc<Cluster<T>> {
        Rc::clone(self.clusters[id.0 as usize].get_or_init(|| self.make(id, None)))
    }

    /// Every cluster that this worker has used.
    pub fn used_clusters(&self) -> impl Iterator<Item = &Rc<Cluster<T>>> {
        self.clusters.iter().filter_map(OnceCell::get)
    }
}

impl<T: Transport> Current<T> {
    /// With this generation in force.
    #[must_use]
    pub fn new(generation: Rc<Generation<T>>) -> Self {
        Self(RefCell::new(generation))
    }

    /// The generation in force.
    #[must_use]
    pub fn get(&self) -> Rc<Generation<T>> {
        Rc::clone(&self.0.borrow())
    }

    /// Puts another in force; requests in progress keep theirs.
    pub fn set(&self, generation: Rc<Generation<T>>) {
        self.0.replace(generation);
    }
}

/// Whether two generations mean the same entrance: a listener is known by where it listens, so that another name keeps its socket; a further
/// chain by its name and by whom it is for.
#[must_use]
pub(crate) fn is_same_entrance(a: &Listener, b: &Listener) -> bool {
    let any_port = a.address.ip_and_port().is_some_and(|at| at.port() == 0);
    let same_socket = a.bind_port == b.bind_port && a.is_transparent() == b.is_transparent();
    let same_chain = a.chain_of.is_none() || a.chain_match == b.chain_match;
    a.address == b.address && same_socket && ((a.bind_port && !any_port) || (a.name == b.name && same_chain))
}

/// Gives each listener a slot: the one that it had, else a free one.
fn assign_slots(snapshot: &Snapshot, previous: Option<(&Snapshot, &[Option<usize>])>) -> Vec<Option<usize>> {
    let mut slots = Vec::new();
    let mut placed = vec![false; snapshot.listeners.len()];
    if let Some((before, old_slots)) = previous {
        for old in old_slots {
            let index = old.and_then(|old| {
                let old = &before.listeners[old].config;
                snapshot.listeners.iter().position(|new| is_same_entrance(&new.config, old))
            });
            if let Some(index) = index {
                placed[index] = true;
            }
            slots.push(index);
        }
    }
    for (index, _) in placed.iter().enumerate().filter(|(_, placed)| !**placed) {
        match slots.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some(index),
            None => slots.push(Some(index)),
        }
    }
    slots
}
