//! What the requests of one listener count on one worker: for the worker as a whole, and for the listener.
//!
//! **Invariant:** a number that both have changes in both, in one step; counting looks nothing up.

use std::sync::Arc;
use std::time::Duration;

use crate::telemetry::metrics::{DownstreamCounters, ListenerCounters, WorkerCounters};

/// The two blocks that a request is counted in.
#[derive(Clone)]
pub(super) struct Counts {
    worker: Arc<WorkerCounters>,
    listener: Arc<ListenerCounters>,
}

/// A request in progress, counted while this lives.
pub(super) struct Active<'a>(&'a Counts);

impl Counts {
    pub(super) fn new(worker: Arc<WorkerCounters>, listener: Arc<ListenerCounters>) -> Self {
        Self { worker, listener }
    }

    /// For what is counted of the worker alone.
    pub(super) fn worker(&self) -> &DownstreamCounters {
        &self.worker.downstream
    }

    /// The listener's own.
    pub(super) fn listener(&self) -> &Arc<ListenerCounters> {
        &self.listener
    }

    /// A request begins.
    pub(super) fn begin(&self) -> Active<'_> {
        let (worker, listener) = (self.worker(), &self.listener);
        worker.request_total.inc();
        listener.request_total.inc();
        worker.request_active.inc();
        listener.request_active.inc();
        Active(self)
    }

    /// A request was answered here because of an error.
    pub(super) fn failed(&self) {
        self.worker().request_failed.inc();
        self.listener.request_failed.inc();
    }

    /// An answer did not reach its client whole.
    pub(super) fn reset(&self) {
        self.worker().request_reset.inc();
        self.listener.request_reset.inc();
    }

    /// Bytes of a body were sent.
    pub(super) fn sent(&self, bytes: u64) {
        self.worker().bytes_write.add(bytes);
        self.listener.bytes_write.add(bytes);
    }

    /// A request is over: how long it took, and how much of that was not spent waiting for the host.
    pub(super) fn took(&self, all: Duration, own: Duration) {
        self.worker().request_time.note(all);
        self.worker().process_time.note(own);
        self.listener.request_time.note(all);
    }

    /// An answer, by the class of its status.
    pub(super) fn status(&self, status: u16) {
        let (worker, listener) = (self.worker(), &self.listener);
        let (worker, listener) = match status / 100 {
            1 => (&worker.status_1xx, &listener.status_1xx),
            2 => (&worker.status_2xx, &listener.status_2xx),
            3 => (&worker.status_3xx, &listener.status_3xx),
            4 => (&worker.status_4xx, &listener.status_4xx),
            5 => (&worker.status_5xx, &listener.status_5xx),
            _ => return,
        };
        worker.inc();
        listener.inc();
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.worker().request_active.dec();
        self.0.listener.request_active.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_of_a_worker_count_apart_and_together() {
        let worker = Arc::new(WorkerCounters::default());
        let counts = || Counts::new(Arc::clone(&worker), Arc::default());
        let (one, two) = (counts(), counts());
        let active = one.begin();
        drop(two.begin());
        assert_eq!((one.listener.request_active.get(), two.listener.request_active.get()), (1, 0));
        assert_eq!((worker.downstream.request_total.get(), worker.downstream.request_active.get()), (2, 1));
        drop(active);
        one.status(204);
        two.status(503);
        two.status(700);
        two.failed();
        one.reset();
        one.sent(10);
        two.sent(5);
        let all = [&worker.downstream.status_2xx, &worker.downstream.status_5xx, &worker.downstream.bytes_write];
        assert_eq!(all.map(|c| c.get()), [1, 1, 15]);
        let of_two = [&two.listener.status_2xx, &two.listener.status_5xx, &two.listener.bytes_write];
        assert_eq!(of_two.map(|c| c.get()), [0, 1, 5]);
        assert_eq!((one.listener.request_failed.get(), two.listener.request_failed.get()), (0, 1));
        assert_eq!((one.listener.request_reset.get(), two.listener.request_reset.get()), (1, 0));
        assert_eq!((worker.downstream.request_active.get(), one.listener.request_active.get()), (0, 0));
    }
}
