//! The one choice of a plane, and the fall-back from one to the other.
//!
//! **Invariant:** behind this file nobody asks which plane runs.

use std::fmt;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use ferrogate_core::config::dataplane::{Dataplane, Plane};
use ferrogate_core::control::admin::PlaneReport;
use ferrogate_core::worker::{self, Orders};

/// A plane that runs the workers.
pub(crate) enum Running {
    /// The kernel's sockets.
    Kernel(dataplane_kernel::Running),
}

/// Why no plane could be started.
#[derive(Debug)]
pub(crate) enum StartError {
    /// The kernel plane's threads can't be made.
    Kernel(io::Error),
}

/// What a plane tells the admin API when it is asked.
pub(crate) type Report = Arc<dyn Fn() -> PlaneReport + Send + Sync>;

/// How many workers the configured plane will run.
pub(crate) fn worker_count(dataplane: &Dataplane) -> usize {
    match (dataplane.plane, dataplane.workers) {
        (Plane::Kernel, None) => dataplane_kernel::available_cores(),
        (Plane::Dpdk, None) => 1,
        (_, Some(n)) => n.max(1),
    }
}

/// Starts the configured plane, or the one it falls back to.
pub(crate) fn start(dataplane: &Dataplane, orders: Orders) -> Result<(Running, Report), StartError> {
    let workers = orders.counters.len();
    match dataplane.plane {
        Plane::Kernel | Plane::Dpdk => start_kernel(workers, orders, None),
    }
}

fn start_kernel(workers: usize, orders: Orders, reason: Option<String>) -> Result<(Running, Report), StartError> {
    let running = dataplane_kernel::run(workers, move |index, transport| worker::run(index, transport, orders.clone()))
        .map_err(StartError::Kernel)?;
    let report = move || PlaneReport { name: "kernel", fallback_reason: reason.clone(), ..PlaneReport::default() };
    Ok((Running::Kernel(running), Arc::new(report)))
}

impl Running {
    /// Waits for the workers to end.
    pub(crate) fn join(self) -> io::Result<()> {
        match self {
            Self::Kernel(running) => running.join(),
        }
    }
}

impl StartError {
    /// 3 when the configured plane can't be had and nothing may take its place.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Kernel(_) => ExitCode::FAILURE,
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(e) => write!(f, "the kernel plane's threads can't be made: {e}"),
        }
    }
}
