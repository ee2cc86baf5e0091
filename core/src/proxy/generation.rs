//! A snapshot as one worker uses it: with its own clusters, cursors and pools.
//!
//! **Invariant:** a cluster that the next snapshot kept is the same object in the next generation: a reload that leaves it alone opens no
//! connection.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::access_log::{AccessLogs, LogBuffers};
use super::dice::Dice;
use super::mirror::UnderWay;
use crate::config::Limits;
use crate::config::schema::{ClusterId, Forwarded, Listener};
use crate::filter::{FilterSet, Filters};
use crate::net::Transport;
use crate::router::Router;
use crate::snapshot::{ClusterConfig, ListenerConfig, Snapshot};
use crate::telemetry::log_thread::LogQueue;
use crate::telemetry::metrics::UpstreamCounters;
use crate::upstream::{Cluster, HostPool, HostSettings, Tls};

/// One generation of one worker.
pub struct Generation<T: Transport> {
    snapshot: Arc<Snapshot>,
    clusters: Vec<Rc<Cluster<T>>>,
    /// By listener.
    filters: Vec<Rc<Filters>>,
    limits: Rc<Limits>,
    buffers: LogBuffers,
    /// Where each slot's listener stands in the snapshot; None: the slot is free.
    slots: Vec<Option<usize>>,
    /// The access logs of each slot's listener.
    logs: Vec<Option<Rc<AccessLogs>>>,
    dice: Rc<Dice>,
    copies: Rc<UnderWay>,
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
        let kept = |config: &Arc<ClusterConfig>| {
            let previous = previous?;
            let index = previous.snapshot.clusters.iter().position(|old| Arc::ptr_eq(old, config))?;
            previous.clusters.get(index).map(Rc::clone)
        };
        let clusters = snapshot.clusters.iter().map(|config| {
            kept(config).unwrap_or_else(|| {
                let counters = config.shared.counters(worker);
                Rc::new(make_cluster(config, transport, &limits, &counters, worker))
            })
        });
        let clusters = clusters.collect();
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
        Self { clusters, filters, limits, buffers, slots, logs, dice, copies, snapshot: Arc::clone(&snapshot) }
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

    /// The router of the listener in a slot of this generation.
    ///
    /// # Panics
    /// When the slot is not one of this generation.
    #[must_use]
    pub fn router(&self, slot: Slot) -> &Arc<Router> {
        self.snapshot.router(self.listener(slot).router)
    }

    /// What the listener in a slot of this generation tells origins about its clients.
    ///
    /// # Panics
    /// When the slot is not one of this generation.
    #[must_use]
    pub fn forwarded(&self, slot: Slot) -> &Forwarded {
        &self.listener(slot).config.proxy.forwarded
    }

    /// The access logs of the listener in a slot, if it has any.
    #[must_use]
    pub fn logs(&self, slot: Slot) -> Option<&Rc<AccessLogs>> {
        self.logs.get(slot.0)?.as_ref()
    }

    fn listener(&self, slot: Slot) -> &Arc<ListenerConfig> {
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
    pub(super) fn draw(&self) -> u64 {
        self.dice.draw()
    }

    /// The copies of requests that this worker has under way.
    pub(super) fn copies(&self) -> &Rc<UnderWay> {
        &self.copies
    }

    /// The cluster with this id.
    #[must_use]
    pub fn cluster(&self, id: ClusterId) -> Rc<Cluster<T>> {
        Rc::clone(&self.clusters[id.0 as usize])
    }

    /// Every cluster.
    #[must_use]
    pub fn clusters(&self) -> &[Rc<Cluster<T>>] {
        &self.clusters
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

/// Whether two generations mean the same entrance: a listener is known by where it listens, so that another name keeps its socket.
#[must_use]
pub(crate) fn is_same_entrance(a: &Listener, b: &Listener) -> bool {
    let any_port = a.address.inet().is_some_and(|inet| inet.port() == 0);
    a.address == b.address && a.bind_port == b.bind_port && ((a.bind_port && !any_port) || a.name == b.name)
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

fn make_cluster<T: Transport>(
    config: &Arc<ClusterConfig>,
    transport: &T,
    limits: &Rc<Limits>,
    counters: &Arc<UpstreamCounters>,
    worker: usize,
) -> Cluster<T> {
    let settings = HostSettings {
        connect_timeout: config.config.connect_timeout.unwrap_or(limits.connect_timeout),
        idle_timeout: config.config.idle_timeout.unwrap_or(limits.upstream_idle_timeout),
        conns_max: config.config.breakers.conns_max,
    };
    let shared = &config.shared;
    let hosts = config.config.hosts.iter().map(|host| {
        // A name to verify: the context's own (kept by the TLS configuration itself), else the host's, else its address.
        let tls = config.tls.as_deref().map(|client| Tls {
            client: client.clone(),
            server_name: match (host.hostname.as_str(), host.address.inet()) {
                ("", Some(inet)) => inet.ip().to_string(),
                (name, _) => name.to_owned(),
            },
        });
        let address = host.address.clone();
        let (limits, counters, shared) = (Rc::clone(limits), Arc::clone(counters), Arc::clone(shared));
        let pool = HostPool::new(transport.clone(), address, tls, settings, limits, counters, shared);
        Rc::new(pool.with_hostname(&host.hostname))
    });
    let hosts = hosts.collect();
    Cluster::new(config.config.clone(), hosts, worker, Arc::clone(shared), Arc::clone(counters))
}
