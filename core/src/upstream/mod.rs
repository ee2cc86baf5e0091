//! Who can answer, which of them will, and the connections to them.
//!
//! **Invariant:** everything here belongs to one worker; nothing is shared but the configuration, counters with one
//! writer, and [`ClusterShared`].

mod balancer;
mod budget;
mod cluster;
mod pick;
mod pool;
mod shared;

pub use balancer::Balancer;
pub use budget::{BudgetShare, RetryingRequest};
pub use cluster::Cluster;
pub use pick::{HostId, NoHost, Outcome, Wish};
pub use pool::{ConnectError, HostPool, HostSettings, Tls};
pub use shared::{ClusterShared, RetryPermit};
