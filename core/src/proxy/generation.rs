//! A snapshot as one worker uses it: with its own clusters, cursors and pools.
//!
//! **Invariant:** a cluster that the next snapshot kept is the same object in the next generation: a reload that leaves it alone opens no
//! connection.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::access_log::{AccessLogs, LogBuffers};
use crate::config::Limits;
use crate::config::schema::ClusterId;
use crate::net::Transport;
use crate::router::Router;
use crate::snapshot::{ClusterConfig, Snapshot};
use crate::telemetry::log_thread::LogQueue;
use crate::upstream::{Cluster, Reach};

/// One generation of one worker.
pub struct Generation<T: Transport> {
    snapshot: Arc<Snapshot>,
    /// By [`ClusterId`]; made when a request first goes there: of ten thousand clusters a worker serves a few.
    clusters: Box<[OnceCell<Rc<Cluster<T>>>]>,
    limits: Rc<Limits>,
    transport: T,
    worker: usize,
    buffers: LogBuffers,
    /// The access logs of each listener.
    logs: Vec<Option<Rc<AccessLogs>>>,
}

/// The generation in force. A request takes it once, at its start.
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
        let access_logs = snapshot.listeners.iter().flat_map(|l| &l.config.access_logs);
        let bytes_max = limits.access_log_queue_bytes_max;
        let buffers = LogBuffers::derive(queue, previous.map(|p| &p.buffers), access_logs, bytes_max);
        let logs = snapshot.listeners.iter().map(|l| buffers.logs_of(&l.config)).collect();
        let next = Self { clusters, limits, transport: transport.clone(), worker, buffers, logs, snapshot };
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
        Rc::new(Cluster::new(reach, self.worker, previous.map(|p| &**p)))
    }

    /// How this worker reaches the hosts of each cluster that has health checks.
    pub fn probed(&self) -> impl Iterator<Item = Reach<T>> {
        self.snapshot.clusters.iter().filter(|c| c.config.health.is_some()).map(|c| self.reach(c))
    }

    fn reach(&self, config: &ClusterConfig) -> Reach<T> {
        Reach {
            transport: self.transport.clone(),
            tls: config.tls.clone(),
            hosts: Arc::clone(&config.hosts),
            limits: Rc::clone(&self.limits),
            counters: config.shared.counters(self.worker),
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

    /// The router of the listener with this index.
    #[must_use]
    pub fn router(&self, listener: usize) -> &Arc<Router> {
        self.snapshot.router(self.snapshot.listeners[listener].router)
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
