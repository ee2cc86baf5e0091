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
use crate::config::schema::ClusterId;
use crate::filter::{FilterSet, Filters};
use crate::net::Transport;
use crate::router::Router;
use crate::snapshot::{ClusterConfig, Snapshot};
use crate::telemetry::log_thread::LogQueue;
use crate::telemetry::metrics::{UpstreamCounters, WorkerCounters};
use crate::upstream::{Cluster, HostPool, HostSettings, Tls};

/// One generation of one worker.
pub struct Generation<T: Transport> {
    snapshot: Arc<Snapshot>,
    clusters: Vec<Rc<Cluster<T>>>,
    /// By listener.
    filters: Vec<Rc<Filters>>,
    limits: Rc<Limits>,
    buffers: LogBuffers,
    /// The access logs of each listener.
    logs: Vec<Option<Rc<AccessLogs>>>,
    dice: Rc<Dice>,
    copies: Rc<UnderWay>,
}

/// The generation in force. A request takes it once, at its start.
pub struct Current<T: Transport>(RefCell<Rc<Generation<T>>>);

impl<T: Transport> Generation<T> {
    /// Derives a worker's generation from `snapshot`, keeping what `previous` has of the same clusters.
    pub fn derive(
        snapshot: Arc<Snapshot>,
        previous: Option<&Self>,
        transport: &T,
        counters: &WorkerCounters,
        queue: &LogQueue,
        worker: usize,
    ) -> Self {
        let limits = Rc::new(Limits::clone(&snapshot.limits));
        let kept = |config: &Arc<ClusterConfig>| {
            let previous = previous?;
            let index = previous.snapshot.clusters.iter().position(|old| Arc::ptr_eq(old, config))?;
            previous.clusters.get(index).map(Rc::clone)
        };
        let clusters = snapshot.clusters.iter().enumerate().map(|(index, config)| {
            kept(config).unwrap_or_else(|| {
                let counters = counters.upstream.get(index).map(Arc::clone).unwrap_or_default();
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
        let logs = snapshot.listeners.iter().map(|l| buffers.logs_of(&l.config)).collect();
        let dice = previous.map_or_else(|| Rc::new(Dice::new(worker as u64)), |p| Rc::clone(&p.dice));
        let copies = previous.map(|p| Rc::clone(&p.copies)).unwrap_or_default();
        Self { clusters, filters, limits, buffers, logs, dice, copies, snapshot: Arc::clone(&snapshot) }
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

    /// The router of the listener with this index.
    #[must_use]
    pub fn router(&self, listener: usize) -> &Arc<Router> {
        self.snapshot.router(self.snapshot.listeners[listener].router)
    }

    /// The stream filters of the listener with this index.
    #[must_use]
    pub fn filters(&self, listener: usize) -> &Rc<Filters> {
        &self.filters[listener]
    }

    /// Puts filters of an embedder's own in the place of those that the file says.
    #[must_use]
    pub fn with_filters(mut self, listener: usize, filters: Filters) -> Self {
        self.filters[listener] = Rc::new(filters);
        self
    }

    /// The access logs of the listener with this index, if it has any.
    #[must_use]
    pub fn logs(&self, listener: usize) -> Option<&Rc<AccessLogs>> {
        self.logs.get(listener)?.as_ref()
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
    pub fn new(generation: Generation<T>) -> Self {
        Self(RefCell::new(Rc::new(generation)))
    }

    /// The generation in force.
    #[must_use]
    pub fn get(&self) -> Rc<Generation<T>> {
        Rc::clone(&self.0.borrow())
    }

    /// Puts another in force; requests in progress keep theirs.
    pub fn set(&self, generation: Generation<T>) {
        self.0.replace(Rc::new(generation));
    }
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
