//! What one worker counts of one host, and with it of the host's cluster.
//!
//! **Invariant:** what is counted of a host is counted of its cluster too, in one step, so that no host has more than its cluster.

use std::sync::Arc;

use super::pick::Outcome;
use crate::telemetry::metrics::{HostCounters, UpstreamCounters};

/// The two blocks that what happens at a host is counted in.
pub(super) struct Counts {
    pub(super) cluster: Arc<UpstreamCounters>,
    host: Arc<HostCounters>,
}

/// A request in progress at a host, counted while this lives.
pub struct Active<'a>(&'a Counts);

impl Counts {
    pub(super) fn new(cluster: Arc<UpstreamCounters>, host: Arc<HostCounters>) -> Self {
        Self { cluster, host }
    }

    /// A connection was opened.
    pub(super) fn opened(&self) {
        self.cluster.connection_total.inc();
        self.host.connection_total.inc();
        self.came();
    }

    /// A connection was closed.
    pub(super) fn closed(&self) {
        self.went();
        self.cluster.connection_close.inc();
    }

    /// A connection is this worker's now.
    pub(super) fn came(&self) {
        self.cluster.connection_active.inc();
        self.host.connection_active.inc();
    }

    /// A connection is not this worker's any more.
    pub(super) fn went(&self) {
        self.cluster.connection_active.dec();
        self.host.connection_active.dec();
    }

    /// A request is sent.
    pub(super) fn request(&self) {
        self.cluster.request_total.inc();
        self.host.request_total.inc();
    }

    /// A request is in progress, as long as the result lives.
    pub(super) fn active(&self) -> Active<'_> {
        self.cluster.request_active.inc();
        self.host.request_active.inc();
        Active(self)
    }

    /// What became of a request.
    pub(super) fn outcome(&self, outcome: Outcome) {
        let (cluster, host) = (&self.cluster, &self.host);
        if let Outcome::Answered { took, .. } = outcome {
            cluster.request_time.note(took);
        }
        let (cluster, host) = match outcome {
            Outcome::Answered { status, .. } if status < 500 => (&cluster.response_success, &host.response_success),
            Outcome::Answered { .. } => (&cluster.response_failed, &host.response_failed),
            Outcome::Timeout => (&cluster.request_timeout, &host.request_timeout),
            Outcome::Reset => (&cluster.request_reset, &host.request_reset),
            Outcome::Unreachable => (&cluster.connection_con_fail, &host.connection_con_fail),
            Outcome::Connected { .. } | Outcome::Abandoned => return,
        };
        cluster.inc();
        host.inc();
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.cluster.request_active.dec();
        self.0.host.request_active.dec();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::histogram::Distribution;

    #[test]
    fn hosts_of_a_cluster_count_apart_and_together() {
        let cluster = Arc::new(UpstreamCounters::default());
        let counts = || Counts::new(Arc::clone(&cluster), Arc::default());
        let (one, two) = (counts(), counts());
        one.opened();
        two.opened();
        two.closed();
        // Lent from one worker to another.
        one.went();
        one.came();
        assert_eq!((one.host.connection_active.get(), two.host.connection_active.get()), (1, 0));
        assert_eq!((one.host.connection_total.get(), two.host.connection_total.get()), (1, 1));
        assert_eq!((cluster.connection_total.get(), cluster.connection_close.get()), (2, 1));
        one.request();
        let active = one.active();
        assert_eq!((cluster.request_active.get(), one.host.request_active.get()), (1, 1));
        drop(active);
        assert_eq!((cluster.request_active.get(), one.host.request_active.get()), (0, 0));
        assert_eq!((one.host.request_total.get(), two.host.request_total.get()), (1, 0));
    }

    #[test]
    fn each_outcome_has_a_number_of_its_own() {
        let counts = Counts::new(Arc::default(), Arc::default());
        let answered = |status| Outcome::Answered { status, took: Duration::from_millis(1) };
        let all = [answered(499), answered(500), Outcome::Timeout, Outcome::Reset, Outcome::Unreachable];
        all.into_iter()
            .chain([Outcome::Abandoned, Outcome::Connected { took: Duration::ZERO }])
            .for_each(|outcome| counts.outcome(outcome));
        let (cluster, host) = (&counts.cluster, &counts.host);
        let of_host = [
            &host.response_success,
            &host.response_failed,
            &host.request_timeout,
            &host.request_reset,
            &host.connection_con_fail,
        ];
        assert_eq!(of_host.map(|c| c.get()), [1; 5]);
        let of_cluster = [
            &cluster.response_success,
            &cluster.response_failed,
            &cluster.request_timeout,
            &cluster.request_reset,
            &cluster.connection_con_fail,
        ];
        assert_eq!(of_cluster.map(|c| c.get()), [1; 5]);
        assert_eq!(Distribution::of([&cluster.request_time].into_iter()).count, 2, "only answers are timed");
    }
}
