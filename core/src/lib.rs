//! Ferrogate's core: everything between the bytes of a connection and the decision where they go.
//!
//! **Invariant:** no sockets, no FFI, no unsafe; the core never names a data plane.

#![forbid(unsafe_code)]

pub mod codec;
pub mod config;
pub mod control;
pub mod filter;
pub mod handover;
pub mod message;
pub mod net;
pub mod orders;
pub mod origin;
pub mod proxy;
pub mod router;
pub mod snapshot;
pub mod stream;
pub mod telemetry;
pub mod tls;
pub mod upstream;
pub mod worker;
