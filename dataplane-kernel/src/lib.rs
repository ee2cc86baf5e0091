//! The kernel plane: the core's seam over the kernel's sockets, one thread, runtime and listening socket per core.
//!
//! **Invariant:** an idle connection holds no buffer: bytes are read into the worker's one scratch buffer, and a connection owns memory
//! only while it holds an incomplete message or an unsent rest.

#![deny(unsafe_code)]

mod affinity;
mod buffers;
mod conn;
mod datagrams;
pub mod handover;
mod memory;
mod pipes;
mod records;
mod rlimit;
mod run;
mod signal;
mod socket;
mod sockets;
mod stream;
mod transport;

pub use conn::KernelConn;
pub use datagrams::KernelDatagrams;
pub use memory::memory_bytes;
pub use rlimit::open_files_max;
pub use run::{Running, available_cores, run};
pub use signal::{Wish, tell};
pub use socket::probe;
pub use sockets::Sockets;
pub use transport::{KernelListener, KernelTransport};
