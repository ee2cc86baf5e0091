//! A cluster as one worker sees it: its hosts, the balancer over them, and their pools.
//!
//! **Invariant:** derived from one generation's configuration; its pools outlive it when the next generation kept the cluster.

use std::rc::Rc;
use std::sync::Arc;

use super::balancer::Balancer;
use super::budget::{BudgetShare, RetryingRequest};
use super::pick::{NoHost, Wish};
use super::pool::HostPool;
use super::shared::{ClusterShared, RetryPermit};
use crate::config::schema::{self, OriginalDst};
use crate::net::Transport;
use crate::telemetry::metrics::UpstreamCounters;

/// A cluster of one worker.
pub struct Cluster<T: Transport> {
    config: schema::Cluster,
    hosts: Vec<Rc<HostPool<T>>>,
    balancer: Balancer,
    shared: Arc<ClusterShared>,
    counters: Arc<UpstreamCounters>,
}

impl<T: Transport> Cluster<T> {
    /// A cluster over `hosts`; `start` is where its round begins.
    #[must_use]
    pub fn new(
        config: schema::Cluster,
        hosts: Vec<Rc<HostPool<T>>>,
        start: usize,
        shared: Arc<ClusterShared>,
        counters: Arc<UpstreamCounters>,
    ) -> Self {
        Self { config, hosts, balancer: Balancer::round_robin(start), shared, counters }
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The host for a request.
    ///
    /// # Errors
    /// When none can take it.
    pub fn pick(&self, wish: &Wish<'_>) -> Result<Rc<HostPool<T>>, NoHost> {
        let mut picked = None;
        for _ in 0..self.hosts.len() {
            let host = &self.hosts[self.balancer.pick(self.hosts.len()).ok_or(NoHost::Empty)?];
            picked = Some(host);
            if !wish.tried.contains(&host.id()) {
                break;
            }
        }
        picked.map(Rc::clone).ok_or(NoHost::Empty)
    }

    /// Begins a retry: hold the permit while it is in progress. None: as many as `max_retries` are in progress on all workers together.
    #[must_use]
    pub fn retry(&self) -> Option<RetryPermit> {
        let permit = self.shared.retry(self.config.breakers.retries_max);
        if permit.is_none() {
            self.counters.request_retry_overflow.inc();
        }
        permit
    }

    /// Counts a request that may be tried again, as long as the result lives.
    #[must_use]
    pub fn retrying(&self) -> RetryingRequest {
        RetryingRequest::new(&self.shared)
    }

    /// A share of the retry budget: `percent` of the requests that may be tried again, on all workers together, and `min` in any case.
    /// None when others have it all.
    #[must_use]
    pub fn budget(&self, percent: u32, min: u32) -> Option<BudgetShare> {
        let share = BudgetShare::take(&self.shared, percent, min);
        if share.is_none() {
            self.counters.retry_budget_exceeded.inc();
        }
        share
    }

    /// Where the destination of a request stands, for a cluster of type ORIGINAL_DST: it is to be put into [`Wish::destination`].
    /// None for every other cluster.
    #[must_use]
    pub fn original_dst(&self) -> Option<&OriginalDst> {
        None
    }

    /// What this worker counts of it.
    #[must_use]
    pub fn counters(&self) -> &UpstreamCounters {
        &self.counters
    }

    /// Hosts that it has, healthy or not.
    #[must_use]
    pub fn hosts_len(&self) -> usize {
        self.hosts.len()
    }

    /// Closes what lies idle for too long. To be called now and then.
    pub fn sweep(&self) {
        for host in &self.hosts {
            host.sweep();
        }
    }
}
