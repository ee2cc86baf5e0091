//! Measurement: runs of the gateway beside its peers and their reports, a load generator and an origin, and benches of the parts that every
//! request passes (`benches/`).
//!
//! **Invariant:** measures, never decides: no speed is a gate.

pub mod backend;
pub mod compare;
pub mod error;
pub mod load;
pub mod machine;
pub mod origin;
pub mod profile;
pub mod report;
pub mod results;
#[allow(clippy::disallowed_types, reason = "it has no worker: it waits for processes, by the real clock")]
pub mod run;
pub mod scenario;
#[allow(clippy::disallowed_types, reason = "it has no worker: it waits for processes, by the real clock")]
pub mod stage;
pub mod stats;
pub mod summary;
pub mod wire;
