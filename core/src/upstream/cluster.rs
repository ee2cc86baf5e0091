//! A cluster as one worker sees it: the hosts that can take a request now, the balancers over them, and their pools.
//!
//! **Invariant:** a pick sees every change of hosts and health that was made before it; while there is none it costs two loads to know that.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::balancer::Look;
use super::budget::{BudgetShare, RetryingRequest};
use super::destinations::Destinations;
use super::host_set::{HostSet, Member};
use super::lanes::Lanes;
use super::outlier;
use super::pick::{HostId, NoHost, Wish};
use super::pool::HostPool;
use super::random::{Random, stable_hash};
use super::reach::Reach;
use super::shared::RetryPermit;
use crate::config::schema::{self, Balancing, OriginalDst, Source};
use crate::net::Transport;
use crate::telemetry::metrics::UpstreamCounters;

/// A cluster of one worker.
pub struct Cluster<T: Transport> {
    reach: Rc<Reach<T>>,
    random: Random,
    view: RefCell<View<T>>,
    /// The versions of hosts and of health that the view is of.
    seen: Cell<(u64, u64)>,
    destinations: Destinations<T>,
}

/// The hosts as they were when the worker last looked.
struct View<T: Transport> {
    set: Arc<HostSet>,
    /// By member; made when one is first picked.
    pools: Box<[OnceCell<Rc<HostPool<T>>>]>,
    /// By group; made when it is first picked from.
    lanes: Box<[OnceCell<Lanes>]>,
}

impl<T: Transport> Cluster<T> {
    /// The cluster that `reach` reaches, on the worker that it is of. `previous` is what the worker had under this name: pools of hosts that
    /// stay are kept, if they are reached in the same way.
    #[must_use]
    pub fn new(reach: Reach<T>, previous: Option<&Self>) -> Self {
        let name = stable_hash(reach.config().name.as_bytes(), 0);
        let reach = Rc::new(reach);
        let seen = (reach.hosts.version(), reach.shared.health_version());
        let mut kept = HashMap::new();
        if let Some(previous) = previous.filter(|p| p.reach.is_like(&reach)) {
            for pool in previous.view.borrow().pools.iter().filter_map(OnceCell::get) {
                pool.adopt(Rc::clone(&reach));
                kept.insert(pool.id(), Rc::clone(pool));
            }
        }
        let view = View::new(reach.hosts.current(), kept);
        Self {
            random: Random::new(name ^ reach.worker as u64),
            view: RefCell::new(view),
            seen: Cell::new(seen),
            destinations: Destinations::default(),
            reach,
        }
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config().name
    }

    /// The host for a request.
    ///
    /// # Errors
    /// When none can take it.
    pub fn pick(&self, wish: &Wish<'_>) -> Result<Rc<HostPool<T>>, NoHost> {
        if let Some(original) = self.original_dst() {
            let destination = wish.destination.ok_or(NoHost::NoDestination)?;
            return self.destinations.pool(destination, original, &self.reach);
        }
        self.look();
        let view = self.view.borrow();
        let Some((group, fell_back)) = view.set.group(wish.metadata) else { return Err(NoHost::SubsetEmpty) };
        if fell_back {
            self.counters().lb_subsets_fallback.inc();
        }
        let lanes = view.lanes[group]
            .get_or_init(|| Lanes::new(self.config(), &view.set, &view.set.groups()[group], &self.random));
        let members = view.set.members();
        let mut look = Look {
            hosts: &|index| &members[index as usize].host,
            table: None,
            wish,
            random: &self.random,
            now: &|| self.reach.shared.now(),
        };
        let Some(picked) = lanes.pick(&view.set.groups()[group], &mut look) else {
            return Err(if lanes.is_empty() { NoHost::Empty } else { NoHost::Unhealthy });
        };
        if picked.in_panic {
            self.counters().lb_panic.inc();
        }
        Ok(Rc::clone(view.pool(picked.index as usize, &self.reach)))
    }

    /// Begins a retry: hold the permit while it is in progress. None: as many as `max_retries` are in progress on all workers together.
    #[must_use]
    pub fn retry(&self) -> Option<RetryPermit> {
        let permit = self.reach.shared.retry(self.config().breakers.retries_max);
        if permit.is_none() {
            self.counters().request_retry_overflow.inc();
        }
        permit
    }

    /// Counts a request that may be tried again, as long as the result lives.
    #[must_use]
    pub fn retrying(&self) -> RetryingRequest {
        RetryingRequest::new(&self.reach.shared)
    }

    /// A share of the retry budget: `percent` of the requests that may be tried again, on all workers together, and `min` in any case.
    /// None when others have it all.
    #[must_use]
    pub fn budget(&self, percent: u32, min: u32) -> Option<BudgetShare> {
        let share = BudgetShare::take(&self.reach.shared, percent, min);
        if share.is_none() {
            self.counters().retry_budget_exceeded.inc();
        }
        share
    }

    /// Whether its balancer looks at the hash of a request.
    #[must_use]
    pub fn goes_by_hash(&self) -> bool {
        matches!(self.config().balancing, Balancing::Maglev { .. } | Balancing::RingHash { .. })
    }

    /// Where the destination of a request stands, for a cluster of type ORIGINAL_DST: it is to be put into [`Wish::destination`].
    /// None for every other cluster.
    #[must_use]
    pub fn original_dst(&self) -> Option<&OriginalDst> {
        match &self.config().source {
            Source::OriginalDst(original) => Some(original),
            Source::Static | Source::Dynamic => None,
        }
    }

    /// What this worker counts of it.
    #[must_use]
    pub fn counters(&self) -> &UpstreamCounters {
        &self.reach.counters
    }

    /// Hosts that it has, healthy or not.
    #[must_use]
    pub fn hosts_len(&self) -> usize {
        match self.original_dst() {
            // Each request has one of its own.
            Some(_) => 1,
            None => self.reach.hosts.current().members().len(),
        }
    }

    /// Changes with its hosts, and with their health.
    #[must_use]
    pub fn versions(&self) -> (u64, u64) {
        (self.reach.hosts.version(), self.reach.shared.health_version())
    }

    /// Whether this host is still one of its own, and healthy.
    #[must_use]
    pub fn has_healthy(&self, host: HostId) -> bool {
        self.look();
        let view = self.view.borrow();
        view.set.members().iter().any(|member| member.host.id() == host && member.host.is_healthy())
    }

    /// Every host with a pool of this worker.
    #[must_use]
    pub fn pools(&self) -> Vec<Rc<HostPool<T>>> {
        self.look();
        self.view.borrow().pools.iter().filter_map(|pool| pool.get().map(Rc::clone)).collect()
    }

    /// Closes what lies idle for too long, and takes hosts back whose ejection is over. To be called now and then.
    pub fn sweep(&self) {
        self.look();
        let view = self.view.borrow();
        for pool in view.pools.iter().filter_map(OnceCell::get) {
            pool.sweep();
        }
        self.destinations.sweep();
        match &self.config().outlier {
            Some(config) => outlier::sweep(config, &view.set, &self.reach.shared, self.counters()),
            None => outlier::release(&view.set, &self.reach.shared),
        }
    }

    fn config(&self) -> &schema::Cluster {
        self.reach.config()
    }

    /// Brings the view up to date.
    fn look(&self) {
        let now = self.versions();
        if now != self.seen.get() {
            self.seen.set(now);
            self.view.borrow_mut().update(self.reach.hosts.current());
        }
    }
}

impl<T: Transport> View<T> {
    fn new(set: Arc<HostSet>, mut kept: HashMap<HostId, Rc<HostPool<T>>>) -> Self {
        // One that is to be reached in another way now starts anew.
        let pool = |m: &Member| {
            let kept = kept.remove(&m.host.id()).filter(|pool| pool.is_plain() == set.spec(m).plain);
            kept.map_or_else(OnceCell::new, OnceCell::from)
        };
        let pools = set.members().iter().map(pool).collect();
        Self { pools, lanes: set.groups().iter().map(|_| OnceCell::new()).collect(), set }
    }

    fn update(&mut self, set: Arc<HostSet>) {
        if Arc::ptr_eq(&set, &self.set) {
            self.lanes = set.groups().iter().map(|_| OnceCell::new()).collect();
            return;
        }
        let pools = std::mem::take(&mut self.pools);
        let kept = pools.into_iter().filter_map(OnceCell::into_inner).map(|pool| (pool.id(), pool)).collect();
        *self = Self::new(set, kept);
    }

    fn pool(&self, index: usize, reach: &Rc<Reach<T>>) -> &Rc<HostPool<T>> {
        self.pools[index].get_or_init(|| {
            let member = &self.set.members()[index];
            HostPool::new(Arc::clone(&member.host), self.set.spec(member).plain, Rc::clone(reach))
        })
    }
}
