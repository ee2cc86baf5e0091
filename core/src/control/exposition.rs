//! Every counter of the process, in the text format that Prometheus reads, and as JSON.
//!
//! **Invariant:** reading costs the workers nothing; labels come from the configuration, so that their number is bounded.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::admin::{Number, PlaneReport};
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::{DownstreamCounters, Kind, UpstreamCounters, WorkerCounters};
use crate::telemetry::turns::Turns;

/// The counters of all workers, added up.
#[derive(Clone, Debug)]
pub(super) struct Counters {
    pub(super) workers: Arc<[Arc<WorkerCounters>]>,
    pub(super) snapshot: watch::Receiver<Arc<Snapshot>>,
}

impl Counters {
    /// In the OpenMetrics text format.
    pub(super) fn to_text(&self, plane: &PlaneReport) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Exposed { counters: self.clone(), plane: plane.clone() }));
        let mut out = String::new();
        // Writing into a String fails only when a metric refuses to be written; what was written before it is still of use.
        let _ = text::encode(&mut out, &registry);
        out
    }

    /// As one JSON object, grouped as in MOSN.
    pub(super) fn to_json(&self) -> Value {
        let downstream: Map<_, _> =
            DownstreamCounters::METRICS.iter().map(|m| (m.name.to_owned(), json!(self.downstream(m.read)))).collect();
        let snapshot = Arc::clone(&self.snapshot.borrow());
        let clusters = snapshot.clusters.iter().map(|cluster| {
            let metrics = UpstreamCounters::METRICS.iter();
            let counters: Map<_, _> =
                metrics.map(|m| (m.name.to_owned(), json!(cluster.shared.sum(m.read).unwrap_or(0)))).collect();
            (cluster.config.name.clone(), Value::Object(counters))
        });
        let upstream: Map<_, _> = clusters.collect();
        json!({ "downstream": downstream, "upstream": upstream })
    }

    fn downstream(&self, read: fn(&DownstreamCounters) -> u64) -> u64 {
        self.workers.iter().map(|w| read(&w.downstream)).fold(0, u64::wrapping_add)
    }
}

#[derive(Debug)]
struct Exposed {
    counters: Counters,
    plane: PlaneReport,
}

impl Collector for Exposed {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for m in DownstreamCounters::METRICS {
            let series = [(Vec::new(), self.counters.downstream(m.read))];
            write(&mut encoder, m.name, m.help, m.kind, &series)?;
        }
        let snapshot = Arc::clone(&self.counters.snapshot.borrow());
        for m in UpstreamCounters::METRICS {
            let clusters = snapshot.clusters.iter();
            let series: Vec<_> = clusters
                .map(|c| (vec![("cluster", c.config.name.clone())], c.shared.sum(m.read).unwrap_or(0)))
                .collect();
            write(&mut encoder, m.name, m.help, m.kind, &series)?;
        }
        write_turns(&mut encoder, &self.counters.workers)?;
        // One block per name, however the plane has ordered them: the format wants a name's series together.
        let mut names: Vec<&Number> = Vec::new();
        for number in &self.plane.numbers {
            if names.iter().all(|n| n.name != number.name) {
                names.push(number);
            }
        }
        for first in names {
            let same = self.plane.numbers.iter().filter(|n| n.name == first.name);
            let series: Vec<_> = same.map(|n| (n.labels.clone(), n.value)).collect();
            let kind = if first.grows { Kind::Counter } else { Kind::Gauge };
            write(&mut encoder, first.name, first.help, kind, &series)?;
        }
        Ok(())
    }
}

/// How long the turns of the workers are, and which worker was found in one that did not end.
fn write_turns(encoder: &mut DescriptorEncoder<'_>, workers: &[Arc<WorkerCounters>]) -> fmt::Result {
    let (buckets, sum) = Turns::together(workers.iter().map(|w| &w.turns));
    let count = buckets.iter().map(|(_, n)| n).sum();
    let help = "Time that what becomes ready waits for its worker, sampled 20 times a second";
    let mut metric = encoder.encode_descriptor("ferrogate_turn_seconds", help, None, MetricType::Histogram)?;
    metric.encode_histogram::<NoLabels>(sum, count, &buckets, None)?;
    let stalls: Vec<Series> =
        workers.iter().enumerate().map(|(i, w)| (vec![("worker", i.to_string())], w.pulse.stalls())).collect();
    let help = "Times that the watchdog found a worker in one turn for longer than stall_timeout; the log says in what";
    write(encoder, "ferrogate_worker_stall", help, Kind::Counter, &stalls)
}

/// A histogram here has no labels of its own.
type NoLabels = [(&'static str, &'static str); 0];

type Series = (Vec<(&'static str, String)>, u64);

fn write(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, kind: Kind, series: &[Series]) -> fmt::Result {
    let metric_type = match kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
    };
    let mut metric = encoder.encode_descriptor(name, help, None, metric_type)?;
    for (labels, value) in series {
        if labels.is_empty() {
            return write_one(metric, kind, *value);
        }
        write_one(metric.encode_family(labels)?, kind, *value)?;
    }
    Ok(())
}

fn write_one(metric: MetricEncoder<'_>, kind: Kind, value: u64) -> fmt::Result {
    match kind {
        Kind::Counter => ConstCounter::new(value).encode(metric),
        Kind::Gauge => ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(metric),
    }
}
