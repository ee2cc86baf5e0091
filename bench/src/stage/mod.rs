//! Where a run plays: folder, certificates, network, hugepages and processes, each of which goes when it is dropped.
//!
//! **Invariant:** nothing outlives the run; what a killed run left is taken away by the next one.

pub mod certs;
pub mod folder;
pub mod hugepages;
pub mod network;
pub mod process;
pub mod stop;

pub use certs::Certs;
pub use folder::Folder;
pub use hugepages::Hugepages;
pub use network::Network;
pub use process::{Process, Speaker};
