//! Counts and times what comes back, while the window is open.
//!
//! **Invariant:** a note costs a few additions; nothing is printed or allocated in between.

use hdrhistogram::Histogram;

use super::result::{LatencyUs, LoadResult};
use crate::wire::clock::Nanos;

/// Counters of the window.
pub(crate) struct Record {
    /// What is counted so far; times come at the end.
    pub(crate) counts: LoadResult,
    latency: Histogram<u64>,
}

impl Record {
    pub(crate) fn new() -> Self {
        let latency = Histogram::new_with_bounds(1, LATENCY_NANOS_MAX, 3).expect("bounds that fit each other");
        Self { counts: LoadResult::default(), latency }
    }

    /// Forgets all: the window opens.
    pub(crate) fn reset(&mut self) {
        self.counts = LoadResult::default();
        self.latency.reset();
    }

    /// A good response.
    pub(crate) fn response(&mut self, latency: Nanos) {
        self.counts.requests += 1;
        self.latency.saturating_record(latency);
    }

    /// The window closes after `length`.
    pub(crate) fn finish(self, length: Nanos) -> LoadResult {
        let at = |quantile| micros(self.latency.value_at_quantile(quantile));
        let latency_us = LatencyUs {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: micros(self.latency.max()),
            mean: self.latency.mean() / 1e3,
        };
        let latency_us = if self.latency.is_empty() { LatencyUs::default() } else { latency_us };
        LoadResult { seconds: micros(length) / 1e6, latency_us, ..self.counts }
    }
}

#[allow(clippy::cast_precision_loss, reason = "within 2^53 ns")]
fn micros(nanos: Nanos) -> f64 {
    nanos as f64 / 1e3
}

const LATENCY_NANOS_MAX: u64 = 100_000_000_000;
