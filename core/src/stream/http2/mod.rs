//! HTTP/2: many exchanges on one connection, a stream each.
//!
//! The connection's task reads and writes; each exchange has a task of its own. What they share is a `Mux`, a machine without
//! I/O: the one shows it bytes and writes what it says, the others take bodies from it and give it what they have to say. A task that
//! waits for something is woken by the machine. It is the same machine on both sides: to a client the gateway is the server
//! ([`serve_for`]), to an origin the client ([`connect`]).
//!
//! **Invariant:** an exchange costs no other one more than its share: it waits when its receiver does not take its body, and its sender
//! waits when nobody does.

mod body;
mod client;
mod exchange;
mod flight;
mod floods;
mod flow;
mod mux;
mod open;
mod receive;
mod reply;
mod send;
mod server;
mod state;
mod store;
mod tunnel;
mod upload;
mod wire;

pub use client::{ConnectError, Driver, End, OriginConn, StreamHome, StreamLease, connect};
pub use exchange::Call;
pub use flight::Flight;
pub use server::serve_for;
pub(super) use server::{Changed, serve_changed};
pub use tunnel::StreamMouth;

use std::cell::RefCell;
use std::rc::Rc;

type SharedMux = Rc<RefCell<mux::Mux>>;
