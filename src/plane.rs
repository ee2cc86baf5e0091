//! The one choice of a plane, and the fall-back from one to the other.
//!
//! **Invariant:** behind this file nobody asks which plane runs.

use std::fmt;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use dataplane_kernel::{KernelTransport, Sockets};
use ferrogate_core::config::dataplane::{Dataplane, Fallback, Plane};
use ferrogate_core::control::admin::PlaneReport;
use ferrogate_core::control::reload::Probe;
use ferrogate_core::worker::{self, ListenError, Orders};

/// A plane that runs the workers.
pub(crate) enum Running {
    /// The kernel's sockets, and how many workers.
    Kernel(dataplane_kernel::Running, usize),
    /// A poll-mode port, and how many workers.
    Dpdk(dataplane_dpdk::Running, usize),
}

/// Why no plane could be started.
#[derive(Debug)]
pub(crate) enum StartError {
    /// The kernel plane's threads can't be made.
    Kernel(io::Error),
    /// Somebody else listens already.
    Listen(ListenError),
    /// The DPDK plane can't start, and nothing may take its place.
    Dpdk(dataplane_dpdk::StartError),
}

/// What a plane tells the admin API when it is asked.
pub(crate) type Report = Arc<dyn Fn() -> PlaneReport + Send + Sync>;

/// How many workers a plane runs.
fn worker_count(plane: Plane, dataplane: &Dataplane) -> usize {
    match (plane, dataplane.workers) {
        (Plane::Kernel, None) => dataplane_kernel::available_cores(),
        // One queue pair is what every port has.
        (Plane::Dpdk, None) => 1,
        (_, Some(n)) => n.max(1),
    }
}

/// How many workers there may be, whichever plane it comes to.
pub(crate) fn workers_max(dataplane: &Dataplane) -> usize {
    worker_count(Plane::Kernel, dataplane).max(worker_count(Plane::Dpdk, dataplane))
}

/// Starts the configured plane, or the one it falls back to.
pub(crate) fn start(dataplane: &Dataplane, orders: Orders, sockets: &Sockets) -> Result<(Running, Report), StartError> {
    if dataplane.plane == Plane::Kernel {
        return start_kernel(dataplane, orders, sockets, None);
    }
    match (start_dpdk(dataplane, orders.clone(), sockets), dataplane.fallback) {
        (Ok(started), _) => Ok(started),
        (Err(e), Fallback::None) => Err(StartError::Dpdk(e)),
        (Err(e), Fallback::Kernel) => {
            tracing::warn!("the DPDK plane can't start, so the kernel plane serves (dataplane.fallback): {e}");
            start_kernel(dataplane, orders, sockets, Some(e.to_string()))
        }
    }
}

fn start_kernel(
    dataplane: &Dataplane,
    orders: Orders,
    sockets: &Sockets,
    reason: Option<String>,
) -> Result<(Running, Report), StartError> {
    let workers = worker_count(Plane::Kernel, dataplane);
    for listener in orders.snapshot.borrow().listeners.iter().filter(|l| l.config.bind_port) {
        let (name, address) = (&listener.config.name, &listener.config.address);
        if sockets.has_inherited(address) {
            continue;
        }
        dataplane_kernel::probe(address).map_err(|error| {
            StartError::Listen(ListenError { listener: name.clone(), address: address.clone(), error })
        })?;
    }
    let running =
        dataplane_kernel::run(workers, sockets, move |index, transport| worker::run(index, transport, orders.clone()))
            .map_err(StartError::Kernel)?;
    let report = move || PlaneReport { name: "kernel", fallback_reason: reason.clone(), ..PlaneReport::default() };
    Ok((Running::Kernel(running, workers), Arc::new(report)))
}

fn start_dpdk(
    dataplane: &Dataplane,
    orders: Orders,
    sockets: &Sockets,
) -> Result<(Running, Report), dataplane_dpdk::StartError> {
    let workers = worker_count(Plane::Dpdk, dataplane);
    let (sockets, counters) = (sockets.clone(), Arc::clone(&orders.counters));
    let kernel = move |index| KernelTransport::with_sockets(sockets.clone(), index, workers);
    let running = dataplane_dpdk::run(&dataplane.dpdk, workers, kernel, move |index, transport| {
        let orders = orders.clone();
        async move {
            if let Err(error) = worker::run(index, transport, orders).await {
                tracing::error!(worker = index, %error, "a worker failed");
            }
        }
    })?;
    let status = running.status();
    status.count_requests(move |lcore| counters[lcore].downstream.request_total.get());
    Ok((Running::Dpdk(running, workers), Arc::new(move || status.report())))
}

impl Running {
    /// How many workers it runs.
    pub(crate) fn workers(&self) -> usize {
        match self {
            Self::Kernel(_, workers) | Self::Dpdk(_, workers) => *workers,
        }
    }

    /// Whether a new process can take its sockets over while it serves: a port has one owner.
    pub(crate) fn hands_over(&self) -> bool {
        matches!(self, Self::Kernel(..))
    }

    /// Whether an address can be listened on, where that can be told before.
    pub(crate) fn probe(&self) -> Option<Probe> {
        match self {
            Self::Kernel(..) => Some(dataplane_kernel::probe),
            Self::Dpdk(..) => None,
        }
    }

    /// Ready when a worker has ended.
    pub(crate) async fn ended(&self) {
        let has_ended = || match self {
            Self::Kernel(running, _) => running.has_ended(),
            Self::Dpdk(running, _) => running.has_ended(),
        };
        while !has_ended() {
            tokio::time::sleep(WATCH_INTERVAL).await;
        }
    }

    /// Waits for the workers to end.
    pub(crate) fn join(self) -> io::Result<()> {
        match self {
            Self::Kernel(running, _) => running.join(),
            Self::Dpdk(running, _) => running.join().map_err(io::Error::other),
        }
    }
}

impl StartError {
    /// 3 when the configured plane can't be had and nothing may take its place.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Kernel(_) | Self::Listen(_) => ExitCode::FAILURE,
            Self::Dpdk(_) => ExitCode::from(3),
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(e) => write!(f, "the kernel plane's threads can't be made: {e}"),
            Self::Listen(e) => e.fmt(f),
            Self::Dpdk(e) => write!(f, "the DPDK plane can't start: {e}"),
        }
    }
}

/// How often the control thread looks whether a worker has ended.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);
