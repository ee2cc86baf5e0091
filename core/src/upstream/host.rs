//! A host as all workers see it: who it is, whether it is healthy, how much it has to do, and what each of them counts of it.
//!
//! **Invariant:** everything that changes is an atomic; a reader may be a moment late, a count is never lost.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use super::pick::HostId;
use super::tally::Tally;
use crate::config::Address;
use crate::telemetry::metrics::HostCounters;
use crate::telemetry::per_worker::PerWorker;

/// One host of a cluster. Lives as long as the cluster has its address, over any number of generations.
#[derive(Debug)]
pub struct Host {
    id: HostId,
    address: Address,
    hostname: Box<str>,
    faults: AtomicU8,
    /// When it came or became healthy again, in milliseconds of the cluster's clock; 0: before the cluster served.
    since: AtomicU64,
    tally: OnceLock<Box<Tally>>,
    counters: PerWorker<HostCounters>,
}

/// A reason why a host gets no requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// Its probes fail (`health_check`).
    Probe = 1,
    /// Its answers do (`outlier_detection`).
    Outlier = 2,
    /// It was not probed yet, and hosts begin as unhealthy (`initial_state`).
    Unprobed = 4,
}

impl Host {
    /// A host that came at `since`, milliseconds of its cluster's clock.
    #[must_use]
    pub fn new(address: Address, hostname: &str, since: u64) -> Self {
        Self {
            id: HostId::unique(),
            address,
            hostname: hostname.into(),
            faults: AtomicU8::new(0),
            since: AtomicU64::new(since),
            tally: OnceLock::new(),
            counters: PerWorker::default(),
        }
    }

    /// Its identity.
    #[must_use]
    pub fn id(&self) -> HostId {
        self.id
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The name that its certificate must carry; maybe empty.
    #[must_use]
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// Whether it may get requests.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.faults.load(Ordering::Relaxed) == 0
    }

    /// Whether it has this fault.
    #[must_use]
    pub fn has(&self, fault: Fault) -> bool {
        self.faults.load(Ordering::Relaxed) & fault as u8 != 0
    }

    /// Gives it a fault; says whether it did not have it.
    pub(super) fn blame(&self, fault: Fault) -> bool {
        self.faults.fetch_or(fault as u8, Ordering::Relaxed) & fault as u8 == 0
    }

    /// Takes a fault away at `now`; says whether it had it. A host that is healthy again starts slowly, as a new one does.
    pub(super) fn absolve(&self, fault: Fault, now: u64) -> bool {
        let before = self.faults.fetch_and(!(fault as u8), Ordering::Relaxed);
        if before == fault as u8 {
            self.since.store(now, Ordering::Relaxed);
        }
        before & fault as u8 != 0
    }

    /// Since when it has been there and healthy, in milliseconds of the cluster's clock.
    #[must_use]
    pub fn since(&self) -> u64 {
        self.since.load(Ordering::Relaxed)
    }

    /// What each worker counts of it, from when it first uses the host.
    #[must_use]
    pub fn counters(&self) -> &PerWorker<HostCounters> {
        &self.counters
    }

    /// What all workers count of it. Made when it is first asked for: only some balancers and the outlier detection need it.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        self.tally.get_or_init(Box::default)
    }

    /// The same, if anything was counted.
    #[must_use]
    pub fn counted(&self) -> Option<&Tally> {
        self.tally.get().map(|tally| &**tally)
    }
}
