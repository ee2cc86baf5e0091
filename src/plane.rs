//! The one choice of a plane, and the fall-back from one to the other.
//!
//! **Invariant:** behind this file nobody asks which plane runs.

use std::fmt;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use dataplane_kernel::{KernelTransport, UnixSockets};
use ferrogate_core::config::dataplane::{Dataplane, Fallback, Plane};
use ferrogate_core::control::admin::PlaneReport;
use ferrogate_core::worker::{self, Orders};

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
    Ok((Running::Dpdk(running), Arc::new(move || status.report())))
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
