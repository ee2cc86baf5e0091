//! From a request to an answer: route, pick, connect, send, and reply. From a connection to a host, where bytes are relayed as they are.
//!
//! **Invariant:** a request sees one generation of the configuration from its start to its last byte.

mod access_log;
mod client_cert;
mod convert;
mod converted;
mod counts;
mod destination;
mod dice;
mod error;
mod exchange;
mod forward;
mod forwarded;
mod generation;
mod grpc;
mod mirror;
mod record;
mod replay;
pub mod reply;
mod retry;
mod tcp;
mod udp;

pub use access_log::AccessLogs;
pub use client_cert::client_cert_element;
pub use error::{Error, ErrorKind, Retry, Side};
pub use exchange::Proxy;
pub(crate) use generation::is_same_entrance;
pub use generation::{Current, Generation, Slot};
pub use tcp::TcpProxy;
pub use udp::{Client, Outbox, Passed, UdpProxy, UdpSession};
