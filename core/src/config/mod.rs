//! The shape of the configuration file and every limit by name.
//!
//! **Invariant:** data only: nothing here opens a file, a socket or a device.

pub mod dataplane;
pub mod diagnostic;
pub mod limits;
mod tree;

pub use diagnostic::{Diagnostic, Origin, Place, Severity};
pub use limits::Limits;
