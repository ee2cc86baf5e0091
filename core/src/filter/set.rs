//! The filters of one listener as a snapshot has them: made of the file, shared by all workers.
//!
//! **Invariant:** what a filter counts and bounds holds for all workers together, and is kept from one generation to the next as long as
//! the file says the same of it.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Filter, Filters};
use crate::config::Limits;
use crate::config::schema::{ClusterId, FilterConfig, RouterConfig};

/// The filters of one listener.
#[derive(Default)]
pub struct FilterSet {
    pub(super) filters: Vec<Arc<dyn Filter + Send + Sync>>,
    kept: Vec<Kept>,
    tallies: Vec<Arc<Tally>>,
}

/// Something that outlives its generation, under a name that is its own.
type Kept = (String, Arc<dyn Any + Send + Sync>);

/// What filters are made on.
pub struct Ground<'a> {
    /// The listener's name.
    pub listener: &'a str,
    /// Its routes.
    pub router: &'a RouterConfig,
    /// Resolves the names of clusters.
    pub cluster: &'a dyn Fn(&str) -> Option<ClusterId>,
    /// The limits.
    pub limits: &'a Limits,
    previous: Option<&'a FilterSet>,
    kept: RefCell<Vec<Kept>>,
    tallies: RefCell<Vec<Arc<Tally>>>,
}

/// A number of a filter that only grows, written by all workers: for decisions, not for every request.
#[derive(Debug)]
#[repr(align(64))]
pub struct Tally {
    /// Its name, without a suffix for its type.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// Of which listener and rule; from the configuration, so that their number is bounded.
    pub labels: Vec<(&'static str, String)>,
    value: AtomicU64,
}

impl FilterSet {
    /// Makes the filters that `configs` says, in this order. `previous` is what the listener had before.
    #[must_use]
    pub fn new(
        configs: &[FilterConfig],
        listener: &str,
        router: &RouterConfig,
        cluster: &dyn Fn(&str) -> Option<ClusterId>,
        limits: &Limits,
        previous: Option<&Self>,
    ) -> Self {
        let (kept, tallies) = Default::default();
        let ground = Ground { listener, router, cluster, limits, previous, kept, tallies };
        let filters = configs.iter().map(|config| make(config, &ground)).collect();
        Self { filters, kept: ground.kept.into_inner(), tallies: ground.tallies.into_inner() }
    }

    /// The filters for one worker.
    #[must_use]
    pub fn for_worker(&self) -> Filters {
        Filters::new(self.filters.iter().map(|f| Box::new(Arc::clone(f)) as Box<dyn Filter>).collect())
    }

    /// What they count.
    #[must_use]
    pub fn tallies(&self) -> &[Arc<Tally>] {
        &self.tallies
    }
}

impl fmt::Debug for FilterSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilterSet").field("filters", &self.filters.len()).field("tallies", &self.tallies).finish()
    }
}

impl Ground<'_> {
    /// What stands under `name`: the same as in the generation before, or else made now.
    pub(super) fn keep<T: Any + Send + Sync>(&self, name: String, make: impl FnOnce() -> T) -> Arc<T> {
        let find = |all: &[Kept]| all.iter().find(|k| k.0 == name).and_then(|k| Arc::clone(&k.1).downcast::<T>().ok());
        // Twice under one name within a generation: two rules that are the same word for word are one.
        if let Some(found) = find(&self.kept.borrow()) {
            return found;
        }
        let made = self.previous.and_then(|p| find(&p.kept)).unwrap_or_else(|| Arc::new(make()));
        self.kept.borrow_mut().push((name, Arc::clone(&made) as Arc<dyn Any + Send + Sync>));
        made
    }

    /// A number of the listener's, with these labels besides its name.
    pub(super) fn tally(&self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)]) -> Arc<Tally> {
        let named = [("listener", self.listener)];
        let labels: Vec<_> = named.iter().chain(labels).map(|(k, v)| (*k, (*v).to_owned())).collect();
        let tally = self.keep(format!("{name} {labels:?}"), || Tally { name, help, labels, value: AtomicU64::new(0) });
        let mut tallies = self.tallies.borrow_mut();
        if !tallies.iter().any(|t| Arc::ptr_eq(t, &tally)) {
            tallies.push(Arc::clone(&tally));
        }
        tally
    }
}

impl Tally {
    /// Adds one.
    pub(super) fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub(super) fn add(&self, n: u64) {
        self.value.fetch_add(n, Ordering::Relaxed);
    }

    /// The value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

fn make(config: &FilterConfig, ground: &Ground<'_>) -> Arc<dyn Filter + Send + Sync> {
    match config {
        FilterConfig::Fault(config) => Arc::new(super::fault::FaultFilter::new(config, ground)),
        FilterConfig::FlowControl(config) => Arc::new(super::flow_control::FlowControlFilter::new(config, ground)),
        FilterConfig::Gzip(config) => Arc::new(super::gzip::GzipFilter::new(config, ground)),
        FilterConfig::HeaderToMetadata(config) => {
            Arc::new(super::header_to_metadata::HeaderToMetadataFilter::new(config, ground))
        }
        FilterConfig::IpAccess(config) => Arc::new(super::ip_access::IpAccessFilter::new(config, ground)),
        FilterConfig::Mirror(config) => Arc::new(super::mirror::MirrorFilter::new(config, ground)),
        FilterConfig::PayloadLimit(config) => Arc::new(super::payload_limit::PayloadLimitFilter::new(config, ground)),
        FilterConfig::Transcoder(config) => Arc::new(super::transcoder::TranscoderFilter::new(config, ground)),
    }
}
