//! From a request to an answer: route, pick, connect, send, and reply.
//!
//! **Invariant:** a request sees one generation of the configuration from its start to its last byte.

mod access_log;
mod error;
mod exchange;
mod generation;
pub mod reply;

pub use access_log::AccessLogs;
pub use error::{Error, ErrorKind, Retry, Side};
pub use exchange::Proxy;
pub use generation::{Current, Generation};
