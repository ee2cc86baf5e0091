//! What is not traffic: the admin API, and where generations come from. Runs on the control thread.
//!
//! **Invariant:** never touches a request; workers are told things only through their orders.

mod accelerators;
pub mod admin;
pub mod ask;
mod certificates;
pub mod demo;
pub mod dns;
mod exposition;
pub mod log;
pub mod notify;
pub mod pid_file;
pub mod process;
pub mod reload;
pub mod review;
pub mod tls_probe;
pub mod watchdog;
mod watched;

pub use certificates::Certificates;

/// The version of this build. What `make release` builds says so: figures of it and of a plain build don't compare.
pub const VERSION: &str = match option_env!("FERROGATE_TRAINED") {
    Some(_) => concat!(env!("CARGO_PKG_VERSION"), " (trained)"),
    None => env!("CARGO_PKG_VERSION"),
};
