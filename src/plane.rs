//! The one choice of a plane, and the fall-back from one to the other.
//!
//! **Invariant:** behind this file nobody asks which plane runs.

use std::fmt;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use dataplane_dpdk::{LcoreCounters, PortStats, Status};
use dataplane_kernel::{KernelTransport, UnixSockets};
use ferrogate_core::config::dataplane::{Dataplane, Fallback, Plane};
use ferrogate_core::control::admin::{Number, PlaneReport};
use ferrogate_core::worker::{self, Orders};
use serde_json::json;

/// A plane that runs the workers.
pub(crate) enum Running {
    /// The kernel's sockets.
    Kernel(dataplane_kernel::Running),
    /// A poll-mode port.
    Dpdk(dataplane_dpdk::Running),
}

/// Why no plane could be started.
#[derive(Debug)]
pub(crate) enum StartError {
    /// The kernel plane's threads can't be made.
    Kernel(io::Error),
    /// The DPDK plane can't start, and nothing may take its place.
    Dpdk(dataplane_dpdk::StartError),
}

/// What a plane tells the admin API when it is asked.
pub(crate) type Report = Arc<dyn Fn() -> PlaneReport + Send + Sync>;

/// How many workers the configured plane will run.
pub(crate) fn worker_count(dataplane: &Dataplane) -> usize {
    match (dataplane.plane, dataplane.workers) {
        (Plane::Kernel, None) => dataplane_kernel::available_cores(),
        // One queue pair is what every port has.
        (Plane::Dpdk, None) => 1,
        (_, Some(n)) => n.max(1),
    }
}

/// Starts the configured plane, or the one it falls back to.
pub(crate) fn start(dataplane: &Dataplane, orders: Orders) -> Result<(Running, Report), StartError> {
    if dataplane.plane == Plane::Kernel {
        return start_kernel(orders, None);
    }
    match (start_dpdk(dataplane, orders.clone()), dataplane.fallback) {
        (Ok(started), _) => Ok(started),
        (Err(e), Fallback::None) => Err(StartError::Dpdk(e)),
        (Err(e), Fallback::Kernel) => {
            tracing::warn!("the DPDK plane can't start, so the kernel plane serves (dataplane.fallback): {e}");
            start_kernel(orders, Some(e.to_string()))
        }
    }
}

fn start_kernel(orders: Orders, reason: Option<String>) -> Result<(Running, Report), StartError> {
    let workers = orders.counters.len();
    let running = dataplane_kernel::run(workers, move |index, transport| worker::run(index, transport, orders.clone()))
        .map_err(StartError::Kernel)?;
    let report = move || PlaneReport { name: "kernel", fallback_reason: reason.clone(), ..PlaneReport::default() };
    Ok((Running::Kernel(running), Arc::new(report)))
}

fn start_dpdk(dataplane: &Dataplane, orders: Orders) -> Result<(Running, Report), dataplane_dpdk::StartError> {
    let workers = orders.counters.len();
    let unix = UnixSockets::default();
    let kernel = move |_| KernelTransport::with_unix_sockets(unix.clone());
    let running = dataplane_dpdk::run(&dataplane.dpdk, workers, kernel, move |index, transport| {
        let orders = orders.clone();
        async move {
            if let Err(error) = worker::run(index, transport, orders).await {
                tracing::error!(worker = index, %error, "a worker failed");
            }
        }
    })?;
    let status = running.status();
    Ok((Running::Dpdk(running), Arc::new(move || dpdk_report(&status))))
}

impl Running {
    /// Waits for the workers to end.
    pub(crate) fn join(self) -> io::Result<()> {
        match self {
            Self::Kernel(running) => running.join(),
            Self::Dpdk(running) => running.join().map_err(io::Error::other),
        }
    }
}

impl StartError {
    /// 3 when the configured plane can't be had and nothing may take its place.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Kernel(_) => ExitCode::FAILURE,
            Self::Dpdk(_) => ExitCode::from(3),
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(e) => write!(f, "the kernel plane's threads can't be made: {e}"),
            Self::Dpdk(e) => write!(f, "the DPDK plane can't start: {e}"),
        }
    }
}

fn dpdk_report(status: &Status) -> PlaneReport {
    let mut numbers = Vec::new();
    let mut ports = Vec::new();
    for port in &status.ports {
        ports.push(json!({
            "device": port.device, "driver": port.info.driver, "mac": port.info.mac.to_string(),
            "address": port.address.to_string(), "mtu": port.info.mtu, "queues_max": port.info.queues_max,
            "rx_checksum_offload": port.info.rx_checksum, "tx_checksum_offload": port.info.tx_checksum,
            "link_up": port.info.link_up,
        }));
        let stats = port.stats().unwrap_or_default();
        numbers.extend(PORT_NUMBERS.iter().map(|&(name, help, read)| Number {
            name,
            help,
            grows: true,
            labels: vec![("port", port.device.clone())],
            value: read(&stats),
        }));
    }
    for (lcore, counters) in status.lcores.iter().enumerate() {
        let labels = vec![("lcore", lcore.to_string())];
        numbers.extend(LCORE_NUMBERS.iter().map(|&(name, help, grows, read)| Number {
            name,
            help,
            grows,
            labels: labels.clone(),
            value: read(counters),
        }));
        for reason in dataplane_dpdk::DropReason::ALL {
            numbers.push(Number {
                name: "ferrogate_dpdk_dropped_frames",
                help: "Received frames that were dropped, by reason",
                grows: true,
                labels: vec![("lcore", lcore.to_string()), ("reason", reason.name().to_owned())],
                value: counters.drops(reason),
            });
        }
    }
    PlaneReport { name: "dpdk", fallback_reason: None, ports: ports.into(), numbers }
}

type PortNumber = (&'static str, &'static str, fn(&PortStats) -> u64);
type LcoreNumber = (&'static str, &'static str, bool, fn(&LcoreCounters) -> u64);

const PORT_NUMBERS: &[PortNumber] = &[
    ("ferrogate_dpdk_port_rx_packets", "Packets that the port received", |s| s.rx_packets),
    ("ferrogate_dpdk_port_tx_packets", "Packets that the port sent", |s| s.tx_packets),
    ("ferrogate_dpdk_port_rx_bytes", "Bytes that the port received", |s| s.rx_bytes),
    ("ferrogate_dpdk_port_tx_bytes", "Bytes that the port sent", |s| s.tx_bytes),
    ("ferrogate_dpdk_port_rx_missed", "Packets that the port dropped because its queue was full", |s| s.rx_missed),
    ("ferrogate_dpdk_port_rx_errors", "Packets that the port received broken", |s| s.rx_errors),
    ("ferrogate_dpdk_port_tx_errors", "Packets that the port could not send", |s| s.tx_errors),
    ("ferrogate_dpdk_port_rx_no_mbuf", "Packets dropped because the mempool was empty", |s| s.rx_no_mbuf),
];

const LCORE_NUMBERS: &[LcoreNumber] = &[
    ("ferrogate_dpdk_lcore_rx_packets", "Packets that the lcore took from its queues", true, |c| c.rx_packets.get()),
    ("ferrogate_dpdk_lcore_tx_packets", "Packets that the lcore gave to its queues", true, |c| c.tx_packets.get()),
    ("ferrogate_dpdk_lcore_turns", "Turns of the poll loop", true, |c| c.turns.get()),
    ("ferrogate_dpdk_lcore_empty_turns", "Turns that found nothing to do", true, |c| c.empty_turns.get()),
    ("ferrogate_dpdk_lcore_busy_nanoseconds", "Time spent in turns that did something", true, |c| c.busy_ns.get()),
    ("ferrogate_dpdk_lcore_idle_nanoseconds", "Time spent in turns that found nothing to do", true, |c| {
        c.idle_ns.get()
    }),
    ("ferrogate_dpdk_lcore_flows", "TCP flows open now", false, |c| c.flows.get()),
    ("ferrogate_dpdk_lcore_flows_accepted", "Flows that clients opened", true, |c| c.flows_accepted.get()),
    ("ferrogate_dpdk_lcore_flows_connected", "Flows opened to hosts", true, |c| c.flows_connected.get()),
    ("ferrogate_dpdk_lcore_flows_reset", "Flows that ended by a reset", true, |c| c.flows_reset.get()),
];
