//! The parts of a report that say what was compared, what is missing, and on what it ran.
//!
//! **Invariant:** as `content`: every sentence holds for any results file.

use crate::report::content::label;
use crate::report::document::{Block, Table};
use crate::results::Results;
use crate::scenario;
use crate::summary;

/// Who took part, and how it was measured.
#[must_use]
pub fn compared(results: &Results) -> Vec<Block> {
    let (session, settings) = (&results.session, &results.session.settings);
    let versions =
        session.versions.iter().map(|(name, version)| vec![label(name), what(name).to_owned(), version.clone()]);
    let wire = if settings.wire == "veth" {
        "Client and origin are in a network namespace; every proxy is reached over a veth pair and reaches the origin over the same. What the \
         sending side of a veth pair does in the name of the receiver is told in docs/benchmarks.md."
    } else {
        "Client, proxy and origin talk over loopback."
    };
    let mut points = vec![
        format!(
            "One proxy runs at a time, pinned to core {}; client and origin share core {}. One worker or thread each, the same \
             certificates, connections kept on both sides without a limit of requests, no access log but in `h1-real`, where all write one.",
            settings.proxy_core, settings.load_core
        ),
        wire.to_owned(),
        format!(
            "Each figure is the median of the rounds ({} of {} s, {} s of load before each; long scenarios have fewer), with the quartiles in \
             brackets. A round starts each backend anew, in an order that shifts. A ratio is taken round by round.",
            settings.rounds, settings.seconds, settings.warmup
        ),
        "CPU per request is user and system time of the proxy's processes. A polled plane uses its whole core at any load; there it is the \
         time in turns that moved something."
            .to_owned(),
        "Latency counts from when a request was due, so that a stall is seen by all requests that it delays.".to_owned(),
        "Marks: noisy, the spread is wider than a tenth; errors, requests failed; no spare, the load generator had less than a tenth of its time \
         left; behind, the rate was not reached; client-bound, at saturation the client was the limit and the proxy could do more."
            .to_owned(),
    ];
    if session.versions.keys().any(|n| summary::is_memif(n)) {
        points.push(
            "memif is shared memory with the client at its other end: no kernel and no card. Its figures are those of stack and proxy alone, \
             and compare with no peer."
                .to_owned(),
        );
    }
    vec![
        Block::Heading(2, "What was compared".to_owned()),
        Block::Table(Table {
            text: vec![0, 1, 2],
            head: vec!["backend".to_owned(), "what it is".to_owned(), "version".to_owned()],
            rows: versions.collect(),
        }),
        Block::List(points),
    ]
}

/// What was not measured, and why.
#[must_use]
pub fn missing(results: &Results) -> Vec<Block> {
    let mut points: Vec<String> = Vec::new();
    for absent in &results.absent {
        let what = match (absent.scenario.as_str(), absent.backend.as_str()) {
            ("", backend) => format!("`{backend}`"),
            (scenario, "") => format!("`{scenario}` ({})", shows(scenario)),
            (scenario, backend) => format!("`{scenario}` on `{backend}`"),
        };
        let point = format!("{what}: {}", absent.reason.replace('\n', " "));
        if !points.contains(&point) {
            points.push(point);
        }
    }
    if points.is_empty() {
        return Vec::new();
    }
    vec![Block::Heading(2, "What is missing".to_owned()), Block::List(points)]
}

/// The machine and the settings.
#[must_use]
pub fn machine(results: &Results) -> Vec<Block> {
    let (machine, settings) = (&results.session.machine, &results.session.settings);
    let mitigations = if machine.mitigations.is_empty() { "none".to_owned() } else { machine.mitigations.join("; ") };
    let lines = [
        ("processor", format!("{}, {} cores for this run", machine.cpu, machine.cores)),
        ("virtual", machine.hypervisor.clone()),
        ("memory", format!("{} MiB", machine.memory_mib)),
        ("kernel", machine.kernel.clone()),
        ("frequency governor", machine.governor.clone()),
        ("mitigations", mitigations),
        ("congestion control", machine.congestion_control.clone()),
        ("open files", machine.open_files.clone()),
        ("load average at the start", machine.load_average.clone()),
        ("wire", settings.wire.clone()),
        ("received packets steered to their receiver's core", if settings.steer { "yes" } else { "no" }.to_owned()),
    ];
    let points = lines.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    vec![Block::Heading(2, "Machine and settings".to_owned()), Block::List(points)]
}

fn what(backend: &str) -> &'static str {
    match backend {
        "ferrogate-kernel" => "Ferrogate over the kernel's sockets",
        "ferrogate-af_xdp" => "Ferrogate's own TCP over DPDK's net_af_xdp on a veth pair",
        "ferrogate-af_packet" => "Ferrogate's own TCP over DPDK's net_af_packet on a veth pair",
        "ferrogate-memif" => "Ferrogate's own TCP over DPDK's net_memif",
        "nginx" | "haproxy" => "Debian's package",
        _ => "as given",
    }
}

fn shows(name: &str) -> &'static str {
    scenario::all().iter().find(|s| s.name == name).map_or("", |s| s.shows)
}
