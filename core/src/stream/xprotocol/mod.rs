//! RPC protocols on a connection: many requests at a time, joined to their answers by number.
//!
//! A downstream connection is one task, and so is each of its requests, but where there is one at a time ([`serve_for`]). An upstream
//! connection is one task too ([`connect`]): requests of any number of clients go on it under numbers of its own, and each answer goes back
//! under its client's.
//!
//! **Invariant:** an answer goes to the request that it answers, or nowhere.

mod client;
mod exchange;
mod flight;
mod ids;
mod reply;
mod server;
mod wire;

pub use client::{Driver, End, OriginConn, RpcHome, RpcLease, connect};
pub use exchange::Call;
pub use flight::Flight;
pub use server::{Manners, serve_for};
