//! What is not traffic: the admin API, and where generations come from. Runs on the control thread.
//!
//! **Invariant:** never touches a request; workers are told things only through their orders.

pub mod admin;
mod certificates;
pub mod demo;
pub mod dns;
mod exposition;
pub mod log;
pub mod process;

pub use certificates::Certificates;
