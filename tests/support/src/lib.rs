//! What the tests share: origins and clients that speak raw bytes, the gateway as a process, network namespaces,
//! certificates; and connections in memory.
//!
//! All of it is blocking code on ordinary threads: the thing under test is another process, or drives its own runtime.
//!
//! **Invariant:** nothing here outlives its value: processes, namespaces, links and folders go when it is dropped, also when a test panics.

#![forbid(unsafe_code)]
#![allow(clippy::disallowed_types, reason = "these are ordinary threads, and no worker runs here")]

pub mod card;
pub mod certs;
pub mod client;
pub mod config;
pub mod corpus;
pub mod drive;
pub mod gateway;
pub mod haproxy;
pub mod kernel;
pub mod load;
pub mod memory_conn;
pub mod netns;
pub mod nghttpd;
pub mod nginx;
pub mod origin;
pub mod pattern;
pub mod ports;
pub mod process;
pub mod record_layer;
pub mod sealing_conn;
pub mod skip;
pub mod temp;
pub mod wait;
pub mod wire;

pub use client::{Answer, Client};
pub use config::Config;
pub use gateway::Gateway;
pub use netns::Veth;
pub use origin::Origin;
pub use skip::record_skip;
pub use wait::wait_until;
pub use wire::{Head, Wire};
