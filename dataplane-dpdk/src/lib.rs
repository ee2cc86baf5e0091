//! The DPDK plane: poll-mode ports under a userspace TCP.
//!
//! ```text
//! worker (core)   DpdkTransport   the plane seam: listen, accept, connect; lending reads and writes
//!                 Stack           flow table, ARP, timers; one smoltcp socket set per flow
//!                 PacketQueue     bursts of frames: a queue pair of a port, a part in one that several lcores share, or a simulated wire
//!                 port            EAL, ports, mbufs: the safe owners over the C shim in `sys`
//! ```
//!
//! [`run`] starts EAL and one thread per worker. On each thread a tokio runtime runs the worker's tasks and, between them, the
//! [`Poller`]: a turn sends what the tasks wrote and takes the next burst. Nothing is shared between two lcores but rings of frames, from one to the
//! other, and the counters that the control thread reads.
//!
//! Without the feature `dpdk` everything is here but the ports: [`run`] answers [`StartError::NotBuilt`], and a [`Stack`] works over a
//! [`wire`](queue::wire).
//!
//! **Invariant:** a connection, its stack and its queue live and die on one thread.

mod counters;
mod device;
mod error;
mod follow;
mod frame;
pub mod ops;
mod poller;
#[cfg_attr(not(feature = "dpdk"), path = "port_absent.rs")]
pub mod port;
mod preflight;
pub mod queue;
mod report;
pub mod rss;
mod run;
mod stack;
mod trace;
mod transport;
mod words;

pub use self::counters::{Counter, DropReason, LcoreCounters};
pub use self::device::{Abilities, Device, Mac, PortError, PortInfo, PortOptions, PortStats};
pub use self::error::StartError;
pub use self::frame::{BURST, Checksum, Frame, FrameVec};
pub use self::poller::{Clock, ClockIdle, IdleStep, PolledIdle, Poller, Turn};
pub use self::run::{JoinError, PortState, Running, Status, run};
pub use self::stack::{SharedStack, Stack, StackConfig};
pub use self::transport::{DpdkConn, DpdkDatagrams, DpdkListener, DpdkTransport, FlowConn, NoKernel};
