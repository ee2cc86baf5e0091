//! Who can answer, which of them will, and the connections to them.
//!
//! A cluster's hosts ([`Hosts`]) and numbers ([`ClusterShared`]) belong to all workers and outlive a generation; a [`Cluster`] is one
//! worker's way to them, made when the worker first uses it.
//!
//! **Invariant:** what workers share is immutable, or an atomic; a pick takes no lock and costs no allocation.

mod balancer;
mod budget;
mod cluster;
mod counts;
mod destinations;
mod health;
mod host;
mod host_set;
mod lanes;
mod outlier;
mod pick;
mod pool;
mod random;
mod reach;
mod shared;
mod subset;
mod tally;

pub use budget::{BudgetShare, RetryingRequest};
pub use cluster::Cluster;
pub use counts::Active;
pub use health::Probes;
pub use host::{Fault, Host};
pub use host_set::{HostSet, Hosts, Member};
pub use pick::{HostId, NoHost, Outcome, Wish};
pub use pool::{Dialed, DialedDatagrams, HostPool, Occupied};
pub use reach::{ConnectError, Overflow, Reach};
pub use shared::{ClusterShared, RetryPermit};
pub use tally::{Speed, Tally};
