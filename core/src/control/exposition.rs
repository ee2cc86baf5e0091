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
use tls_offload::AcceleratorCounts;
use tokio::sync::watch;

use super::admin::{Number, PlaneReport};
use crate::snapshot::{ClusterConfig, Snapshot};
use crate::telemetry::histogram::Distribution;
use crate::telemetry::metrics::{
    Block, DownstreamCounters, HostCounters, Kind, ListenerCounters, TimeMetric, UpstreamCounters, WorkerCounters,
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
        let mut upstream: Map<_, _> = snapshot
            .clusters
            .iter()
            .map(|cluster| {
                let counted = cluster.shared.counters().all();
                let states = STATES.iter().map(|s| (s.name.to_owned(), json!((s.read)(cluster))));
                (cluster.config.name.clone(), Value::Object(numbers(&counted).chain(states).collect()))
            })
            .collect();
        for (labels, blocks) in used_hosts(&snapshot).0 {
            if let [(_, cluster), (_, host)] = &*labels {
                upstream[cluster]["hosts"][host] = Value::Object(numbers(&blocks).collect());
            }
        }
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
        let (hosts, omitted) = used_hosts(&snapshot);
        write_blocks(&mut encoder, &hosts)?;
        write(&mut encoder, OMITTED.0, OMITTED.1, Kind::Gauge, &[(Labels::new(), omitted)])?;
        for state in STATES {
            let series: Vec<_> = snapshot.clusters.iter().map(|c| (label(c), (state.read)(c))).collect();
            write(&mut encoder, state.name, state.help, Kind::Gauge, &series)?;
        }
        for number in ACCELERATORS {
            let series: Vec<_> = snapshot
                .accelerators
                .iter()
                .map(|a| (vec![("accelerator", a.name().to_owned())], (number.read)(&a.counts())))
                .collect();
            write(&mut encoder, number.name, number.help, number.kind, &series)?;
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

/// The hosts that a worker has used, cluster by cluster, and how many more of them there are than the limit allows. A destination of an
/// ORIGINAL_DST cluster is none: a client has named it.
fn used_hosts(snapshot: &Snapshot) -> (Vec<Counted<Arc<HostCounters>>>, u64) {
    let (mut shown, mut omitted) = (Vec::new(), 0);
    for cluster in &snapshot.clusters {
        let set = cluster.hosts.current();
        for host in set.members().iter().map(|m| &m.host).filter(|host| host.counters().is_used()) {
            if shown.len() >= snapshot.limits.host_metrics_max {
                omitted += 1;
                continue;
            }
            let mut labels = label(cluster);
            labels.push(("host", host.address().to_string()));
            shown.push((labels, host.counters().all()));
        }
    }
    (shown, omitted)
}

/// Every number of the blocks, added up over the workers.
fn numbers<B: Block>(blocks: &[impl Deref<Target = B>]) -> impl Iterator<Item = (String, Value)> {
    B::METRICS.iter().map(move |m| (m.name.to_owned(), json!(sum(blocks, m.read))))
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

/// A number of an accelerator.
struct OfAccelerator {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    read: fn(&AcceleratorCounts) -> u64,
}

const ACCELERATORS: &[OfAccelerator] = &[
    OfAccelerator {
        name: "ferrogate_tls_accelerator_handshakes",
        help: "Handshakes with a key of the accelerator that came to their end",
        kind: Kind::Counter,
        read: |c| c.handshakes,
    },
    OfAccelerator {
        name: "ferrogate_tls_accelerator_offloaded",
        help: "Those of them that paused for it; when handshakes grow and these do not, software computes what the accelerator should",
        kind: Kind::Counter,
        read: |c| c.offloaded,
    },
    OfAccelerator {
        name: "ferrogate_tls_accelerator_waits",
        help: "Times that a handshake waited because in_flight_max was reached or the accelerator took no more",
        kind: Kind::Counter,
        read: |c| c.waits,
    },
    OfAccelerator {
        name: "ferrogate_tls_accelerator_cancelled",
        help: "Handshakes that were given up while their operation was in the accelerator",
        kind: Kind::Counter,
        read: |c| c.cancelled,
    },
    OfAccelerator {
        name: "ferrogate_tls_accelerator_timeouts",
        help: "Operations that were not done within timeout",
        kind: Kind::Counter,
        read: |c| c.timeouts,
    },
    OfAccelerator {
        name: "ferrogate_tls_accelerator_faults",
        help: "Operations that failed",
        kind: Kind::Counter,
        read: |c| c.faults,
    },
    OfAccelerator {
        name: "ferrogate_tls_accelerator_full",
        help: "Handshakes that the accelerator had no place for within timeout",
        kind: Kind::Counter,
        read: |c| c.full,
    },
    OfAccelerator {
        name: "ferrogate_tls_accelerator_software",
        help: "Handshakes that software computed in the accelerator's place",
        kind: Kind::Counter,
        read: |c| c.software,
    },
    OfAccelerator {
        name: "ferrogate_tls_accelerator_left",
        help: "Times that the accelerator was left alone, after failures_max failures in a row or a trial that failed",
        kind: Kind::Counter,
        read: |c| c.left,
    },
    OfAccelerator {
        name: "ferrogate_tls_accelerator_tried",
        help: "Handshakes that tried an accelerator which was left alone",
        kind: Kind::Counter,
        read: |c| c.tried,
    },
    OfAccelerator {
        name: "ferrogate_tls_accelerator_is_left",
        help: "Whether the accelerator is left alone now",
        kind: Kind::Gauge,
        read: |c| u64::from(c.is_left),
    },
    OfAccelerator {
        name: "ferrogate_tls_accelerator_in_flight",
        help: "Operations that are in the accelerator now",
        kind: Kind::Gauge,
        read: |c| c.in_flight,
    },
];

/// The name and the help of the number of hosts that are not shown.
const OMITTED: (&str, &str) = (
    "ferrogate_upstream_hosts_omitted",
    "Hosts that were used but are not shown one by one, because limits.host_metrics_max are",
);

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::control::Certificates;

    const FILE: &str = "
servers:
  - routers: [{router_config_name: r, virtual_hosts: [{name: v, domains: [\"*\"], routers: [{route: {cluster_name: c}}]}]}]
    listeners:
      - {name: web, address: \"127.0.0.1:1\", router_config_name: r}
      - {name: closed, address: \"127.0.0.1:2\", router_config_name: r}
cluster_manager:
  clusters:
    - {name: c, hosts: [{address: \"10.0.0.1:1\"}, {address: \"10.0.0.1:2\"}, {address: \"10.0.0.1:3\"}]}
    - {name: spare, hosts: [{address: \"10.0.0.1:4\"}]}
limits: {host_metrics_max: 1}
";

    /// The counters of a process whose workers 1 and 3 have been at work.
    fn counters() -> Counters {
        let (config, _) = Config::parse(FILE, "test").unwrap_or_else(|e| panic!("{e:?}"));
        let snapshot = Snapshot::build(&config, None, &mut Certificates::default()).unwrap();
        let (listener, cluster) = (&snapshot.listeners[0].counters, &snapshot.clusters[0]);
        let hosts = cluster.hosts.current();
        for worker in [1, 3] {
            listener.of(worker).request_total.add(2);
            listener.of(worker).request_time.note(std::time::Duration::from_millis(1));
            cluster.shared.counters().of(worker).request_total.add(3);
            for member in &hosts.members()[1..] {
                member.host.counters().of(worker).request_total.add(4);
            }
        }
        Counters { workers: Arc::default(), snapshot: watch::channel(Arc::new(snapshot)).1 }
    }

    #[test]
    fn what_was_used_is_shown_and_of_hosts_no_more_than_the_limit() {
        let text = counters().to_text(&PlaneReport::default());
        for line in [
            "downstream_request_total 0",
            "ferrogate_listener_request_total{listener=\"web\"} 4",
            "ferrogate_listener_request_time_seconds_count{listener=\"web\"} 2",
            "upstream_request_total{cluster=\"c\"} 6",
            "upstream_request_duration_time_seconds_count{cluster=\"c\"} 0",
            "ferrogate_upstream_host_request_total{cluster=\"c\",host=\"10.0.0.1:2\"} 8",
            "ferrogate_upstream_hosts_omitted 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        for absent in ["listener=\"closed\"", "seconds_count{cluster=\"spare\"}", "10.0.0.1:1", "10.0.0.1:3"] {
            assert!(!text.contains(absent), "{absent}\n{text}");
        }
    }

    #[test]
    fn json_has_the_same_numbers() {
        let json = counters().to_json();
        assert_eq!(json["listener"]["web"]["ferrogate_listener_request"], 4);
        assert_eq!(json["upstream"]["c"]["upstream_request"], 6);
        assert_eq!(json["upstream"]["c"]["hosts"]["10.0.0.1:2"]["ferrogate_upstream_host_request"], 8);
        assert!(json["listener"].get("closed").is_none() && json["upstream"]["spare"].get("hosts").is_none());
    }
}
