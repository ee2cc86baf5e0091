//! One pinned thread per core, each with a runtime of its own.
//!
//! **Invariant:** workers share nothing but what their closure was given; a connection never changes thread.

use std::future::Future;
use std::io;
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, LocalOptions};

use crate::affinity;
use crate::sockets::Sockets;
use crate::transport::KernelTransport;

/// The workers of this process.
pub struct Running {
    threads: Vec<JoinHandle<io::Result<()>>>,
}

/// The number of cores that this process may use.
#[must_use]
pub fn available_cores() -> usize {
    affinity::allowed_cores().map_or(1, |cores| cores.len().max(1))
}

/// Starts `workers` threads, each running `worker(index, transport)` to its end; they listen on `sockets` together.
///
/// With as many workers as cores, each is pinned to one; with fewer, the kernel places them.
///
/// # Errors
/// When a thread can't be made.
pub fn run<F, Fut>(workers: usize, sockets: &Sockets, worker: F) -> io::Result<Running>
where
    F: Fn(usize, KernelTransport) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = io::Result<()>>,
{
    let cores = affinity::allowed_cores()?;
    let pin = cores.len() == workers;
    let mut threads = Vec::with_capacity(workers);
    for index in 0..workers {
        let (worker, sockets) = (worker.clone(), sockets.clone());
        let core = cores.get(index).copied().filter(|_| pin);
        let body = move || run_one((index, workers), core, sockets, worker);
        threads.push(thread::Builder::new().name(format!("worker-{index}")).spawn(body)?);
    }
    Ok(Running { threads })
}

impl Running {
    /// Waits for every worker to end.
    ///
    /// # Errors
    /// The first error of a worker; a worker that panicked is one.
    pub fn join(self) -> io::Result<()> {
        let mut result = Ok(());
        for thread in self.threads {
            let ended = thread.join().unwrap_or_else(|_| Err(io::Error::other("a worker thread panicked")));
            result = result.and(ended);
        }
        result
    }

    /// Whether a worker has ended. Before the workers are told to, that is a failure.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }
}

fn run_one<F, Fut>((index, workers): (usize, usize), core: Option<usize>, sockets: Sockets, worker: F) -> io::Result<()>
where
    F: Fn(usize, KernelTransport) -> Fut,
    Fut: Future<Output = io::Result<()>>,
{
    if let Some(core) = core
        && let Err(error) = affinity::pin_to(core)
    {
        tracing::warn!(worker = index, core, %error, "the worker runs unpinned");
    }
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(worker(index, KernelTransport::with_sockets(sockets, index, workers)))
}
