//! What the control thread and the workers tell each other.
//!
//! **Invariant:** told once to all, by channels that keep the last word: a worker that looks late misses nothing.

use std::fmt;
use std::io;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::net::Address;
use crate::snapshot::Snapshot;
use crate::telemetry::log_thread::LogQueue;
use crate::telemetry::metrics::WorkerCounters;

/// What the workers are told, and what they tell.
#[derive(Clone)]
pub struct Orders {
    /// The configuration in force.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// Whether to go on.
    pub stop: watch::Receiver<Stop>,
    /// Each worker says once whether it listens.
    pub started: mpsc::UnboundedSender<Result<(), ListenError>>,
    /// The counters of each worker.
    pub counters: Arc<[Arc<WorkerCounters>]>,
    /// Connections that one worker may have open where `limits.downstream_conns_max` does not say.
    pub conns_max: usize,
    /// Memory that one worker may hold where `limits.memory_bytes_max` does not say, in bytes.
    pub memory_bytes_max: usize,
    /// The way to the thread that writes access logs.
    pub logs: LogQueue,
}

/// Whether the workers go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stop {
    /// They do.
    #[default]
    No,
    /// They accept no more, finish what runs within `graceful_timeout`, and end.
    Drain,
    /// They end at once.
    Now,
}

/// A listener that could not listen.
#[derive(Debug)]
pub struct ListenError {
    /// Its name in the configuration.
    pub listener: String,
    /// Its address.
    pub address: Address,
    /// Why.
    pub error: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "listener {:?} can't listen on {}: {}", self.listener, self.address, self.error)?;
        match self.error.kind() {
            io::ErrorKind::AddrInUse => {
                f.write_str(" (another process has it: find it with `ss -ltnp`, or change `address`)")
            }
            io::ErrorKind::AddrNotAvailable => f.write_str(" (no interface of this host has that address)"),
            io::ErrorKind::PermissionDenied => f.write_str(
                " (ports below 1024 need CAP_NET_BIND_SERVICE; a unix socket needs write access to its folder)",
            ),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for ListenError {}
