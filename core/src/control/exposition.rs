//! Every counter of the process, in the text format that Prometheus reads, and as JSON.
//!
//! **Invariant:** reading costs the workers nothing; labels come from the configuration, so that their number is bounded.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::admin::{Number, PlaneReport};
use crate::snapshot::{ClusterConfig, Snapshot};
use crate::telemetry::histogram::Distribution;
use crate::telemetry::metrics::{
    Block, DownstreamCounters, Kind, ListenerCounters, TimeMetric, UpstreamCounters, WorkerCounters,
};
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
        let downstream: Map<_, _> = numbers(&self.downstream()).collect();
        let snapshot = self.snapshot.borrow().clone();
        let listener: Map<_, _> = used_listeners(&snapshot)
            .into_iter()
            .map(|(mut labels, blocks)| (labels.remove(0).1, Value::Object(numbers(&blocks).collect())))
            .collect();
        let upstream: Map<_, _> = snapshot
            .clusters
            .iter()
            .map(|cluster| {
                let counted = cluster.shared.counters().all();
                let states = STATES.iter().map(|s| (s.name.to_owned(), json!((s.read)(cluster))));
                (cluster.config.name.clone(), Value::Object(numbers(&counted).chain(states).collect()))
            })
            .collect();
        json!({ "downstream": downstream, "listener": listener, "upstream": upstream })
    }

    fn downstream(&self) -> Vec<&DownstreamCounters> {
        self.workers.iter().map(|w| &w.downstream).collect()
    }
}

#[derive(Debug)]
struct Exposed {
    counters: Counters,
    plane: PlaneReport,
}

impl Collector for Exposed {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        write_blocks(&mut encoder, &[(Labels::new(), self.counters.downstream())])?;
        let snapshot = self.counters.snapshot.borrow().clone();
        write_blocks(&mut encoder, &used_listeners(&snapshot))?;
        write_blocks(&mut encoder, &used_clusters(&snapshot))?;
        for state in STATES {
            let series: Vec<_> = snapshot.clusters.iter().map(|c| (label(c), (state.read)(c))).collect();
            write(&mut encoder, state.name, state.help, Kind::Gauge, &series)?;
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

/// The listeners that a worker has opened.
fn used_listeners(snapshot: &Snapshot) -> Vec<Counted<Arc<ListenerCounters>>> {
    let counted = snapshot.listeners.iter().map(|l| (vec![("listener", l.config.name.clone())], l.counters.all()));
    counted.filter(|(_, blocks)| !blocks.is_empty()).collect()
}

/// The clusters that a worker has used: of ten thousand, few are.
fn used_clusters(snapshot: &Snapshot) -> Vec<Counted<Arc<UpstreamCounters>>> {
    let counted = snapshot.clusters.iter().map(|c| (label(c), c.shared.counters().all()));
    counted.filter(|(_, blocks)| !blocks.is_empty()).collect()
}

/// Every number of the blocks, added up over the workers.
fn numbers<B: Block>(blocks: &[impl Deref<Target = B>]) -> impl Iterator<Item = (String, Value)> {
    B::METRICS.iter().map(|m| (m.name.to_owned(), json!(sum(blocks, m.read))))
}

fn sum<B>(blocks: &[impl Deref<Target = B>], read: fn(&B) -> u64) -> u64 {
    blocks.iter().map(|block| read(block)).fold(0, u64::wrapping_add)
}

/// Every number and every histogram of things that are counted alike.
fn write_blocks<B: Block, P: Deref<Target = B>>(
    encoder: &mut DescriptorEncoder<'_>,
    things: &[Counted<P>],
) -> fmt::Result {
    for m in B::METRICS {
        let series: Vec<_> = things.iter().map(|(labels, blocks)| (labels.clone(), sum(blocks, m.read))).collect();
        write(encoder, m.name, m.help, m.kind, &series)?;
    }
    B::TIMES.iter().try_for_each(|time| write_time(encoder, time, things))
}

fn write_time<B, P: Deref<Target = B>>(
    encoder: &mut DescriptorEncoder<'_>,
    time: &TimeMetric<B>,
    things: &[Counted<P>],
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(time.name, time.help, None, MetricType::Histogram)?;
    for (labels, blocks) in things {
        let sum = Distribution::of(blocks.iter().map(|block| (time.of)(block)));
        if labels.is_empty() {
            return write_distribution(metric, &sum);
        }
        write_distribution(metric.encode_family(labels)?, &sum)?;
    }
    Ok(())
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

fn label(cluster: &ClusterConfig) -> Labels {
    vec![("cluster", cluster.config.name.clone())]
}

/// A number of a cluster that is there, not counted.
struct State {
    name: &'static str,
    help: &'static str,
    read: fn(&ClusterConfig) -> u64,
}

const STATES: &[State] = &[
    State {
        name: "ferrogate_upstream_membership_total",
        help: "Hosts of the cluster",
        read: |c| c.hosts.current().members().len() as u64,
    },
    State {
        name: "ferrogate_upstream_membership_healthy",
        help: "Hosts of the cluster that may get requests",
        read: |c| c.hosts.current().healthy() as u64,
    },
    State {
        name: "ferrogate_upstream_membership_version",
        help: "Changes of the cluster's hosts since its configuration changed",
        read: |c| c.hosts.version(),
    },
    State {
        name: "upstream_lb_subsets_created",
        help: "Subsets of the cluster's hosts",
        read: |c| c.hosts.current().subsets() as u64,
    },
    State { name: "ferrogate_upstream_dns_update", help: "Names looked up", read: |c| c.shared.dns_updates() },
    State {
        name: "ferrogate_upstream_dns_failure",
        help: "Names that could not be looked up, or have no address; their last hosts stay",
        read: |c| c.shared.dns_failures(),
    },
];

type Labels = Vec<(&'static str, String)>;

type Series = (Labels, u64);

/// One thing's labels, and what each worker has counted of it.
type Counted<P> = (Labels, Vec<P>);

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

fn write_distribution(mut metric: MetricEncoder<'_>, sum: &Distribution) -> fmt::Result {
    metric.encode_histogram::<NoLabelSet>(sum.sum, sum.count, &sum.buckets, None)
}

fn write_one(metric: MetricEncoder<'_>, kind: Kind, value: u64) -> fmt::Result {
    match kind {
        Kind::Counter => ConstCounter::new(value).encode(metric),
        Kind::Gauge => ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(metric),
    }
}
