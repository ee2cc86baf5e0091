//! Who can answer, which of them will, and the connections to them.
//!
//! **Invariant:** everything here belongs to one worker; nothing is shared but the configuration and counters with one writer.

mod balancer;
mod cluster;
mod pool;

pub use balancer::Balancer;
pub use cluster::Cluster;
pub use pool::{ConnectError, HostPool, Times, Tls};
