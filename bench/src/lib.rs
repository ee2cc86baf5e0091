//! Measurement: runs of the gateway beside its peers, their reports, and benches of the parts that every request passes (`benches/`).
//!
//! **Invariant:** measures, never decides: no speed is a gate.

#![allow(clippy::disallowed_types, reason = "a measuring program has no worker: it waits, and it reads the real clock")]

pub mod backend;
pub mod error;
pub mod machine;
pub mod results;
pub mod run;
pub mod scenario;
pub mod stage;
pub mod stats;
