//! What the gateway counts and says about itself.
//!
//! **Invariant:** counting costs one load and one store on memory that no other core writes.

pub mod histogram;
pub mod local_clock;
pub mod log_file;
pub mod log_thread;
pub mod metrics;
pub mod per_worker;
pub mod pulse;
pub mod turns;
