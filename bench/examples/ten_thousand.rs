//! Ten thousand clusters of ten hosts: what a start and a reload cost in time and memory.
//!
//! `cargo run --release -p ferrogate-bench --example ten_thousand [CLUSTERS [LB_TYPE]]`

#[path = "../../core/tests/upstream/stage.rs"]
#[allow(dead_code, reason = "the stage of the tests, of which this needs the transport")]
mod stage;

use std::fmt::Write;
use std::sync::Arc;
#[allow(clippy::disallowed_types, reason = "a measurement of real time")]
use std::time::Instant;

use ferrogate_core::config::Config;
use ferrogate_core::config::schema::ClusterId;
use ferrogate_core::control::Certificates;
use ferrogate_core::proxy::Generation;
use ferrogate_core::snapshot::Snapshot;
use ferrogate_core::telemetry::log_thread::LogQueue;
use ferrogate_core::upstream::Wish;

use self::stage::Nowhere;

fn main() {
    let mut args = std::env::args().skip(1);
    let clusters: usize = args.next().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let balancer = args.next().unwrap_or_else(|| "LB_ROUNDROBIN".into());
    let (text, changed) = (file(clusters, &balancer, false), file(clusters, &balancer, true));
    println!("{clusters} clusters of 10 hosts, {balancer}, a file of {} MiB", text.len() >> 20);
    let mut certificates = Certificates::default();

    let start = Step::begin();
    let config = Config::parse(&text, "t").unwrap_or_else(|e| panic!("{e:?}")).0;
    start.end("start: read the file");
    let step = Step::begin();
    let first = Arc::new(Snapshot::build(&config, None, &mut certificates).unwrap_or_else(|e| panic!("{e:?}")));
    step.end("start: make a snapshot of it");
    let step = Step::begin();
    let workers: Vec<_> =
        (0..WORKERS).map(|i| Generation::derive(Arc::clone(&first), None, &Nowhere, &LogQueue::closed(), i)).collect();
    step.end(&format!("start: derive {WORKERS} workers"));
    let step = Step::begin();
    for worker in &workers {
        use_clusters(worker, clusters.min(100));
    }
    step.end("each worker uses 100 clusters, all hosts");

    let step = Step::begin();
    let config = Config::parse(&changed, "t").unwrap_or_else(|e| panic!("{e:?}")).0;
    step.end("reload: read the file");
    let step = Step::begin();
    let next = Snapshot::build(&config, Some(&first), &mut certificates).unwrap_or_else(|e| panic!("{e:?}"));
    let kept = next.clusters.iter().zip(&first.clusters).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
    let next = Arc::new(next);
    step.end(&format!("reload: make a snapshot of it, {kept} clusters kept"));
    let step = Step::begin();
    let after: Vec<_> = workers
        .iter()
        .enumerate()
        .map(|(i, old)| Generation::derive(Arc::clone(&next), Some(old), &Nowhere, &LogQueue::closed(), i))
        .collect();
    step.end(&format!("reload: derive {WORKERS} workers"));
    drop((workers, first));
    let step = Step::begin();
    for worker in &after {
        use_clusters(worker, clusters);
    }
    step.end("each worker uses every cluster, all hosts");
}

/// Picks from so many clusters, often enough that every host has its pool.
fn use_clusters(worker: &Generation<Nowhere>, clusters: usize) {
    for id in (0..).take(clusters).map(ClusterId) {
        let cluster = worker.cluster(id);
        for hash in 0..10 {
            let _ = cluster.pick(&Wish { hash: Some(stage::scramble(hash)), ..Wish::default() });
        }
    }
}

fn file(clusters: usize, balancer: &str, is_changed: bool) -> String {
    let mut text = String::from("servers: [{listeners: []}]\ncluster_manager:\n  clusters:\n");
    for cluster in 0..clusters {
        let _ = writeln!(text, "  - name: service-{cluster}\n    lb_type: {balancer}\n    hosts:");
        for host in 0..10 {
            let port = if is_changed && cluster == clusters / 2 { 8081 } else { 8080 };
            let _ = writeln!(text, "    - address: 10.{}.{}.{host}:{port}", cluster / 250, cluster % 250);
        }
    }
    text
}

/// A step, its time and the memory that it adds.
#[allow(clippy::disallowed_types, reason = "a measurement of real time")]
struct Step(Instant, usize);

impl Step {
    #[allow(clippy::disallowed_types, reason = "a measurement of real time")]
    fn begin() -> Self {
        Self(Instant::now(), resident())
    }

    fn end(self, what: &str) {
        let (time, now) = (self.0.elapsed(), resident());
        let added = now.cast_signed() - self.1.cast_signed();
        println!(
            "{what:<60} {:>8.1} ms  {:>+8.1} MiB, {:.1} in all",
            time.as_secs_f64() * 1e3,
            added as f64 / MIB,
            now as f64 / MIB
        );
    }
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

const WORKERS: usize = 8;
const MIB: f64 = (1u32 << 20) as f64;
