//! HTTP/2: many exchanges on one connection, a stream each.
//!
//! The connection's task reads and writes; each exchange has a task of its own. What they share is a `Mux`, a machine without
//! I/O: the one shows it bytes and writes what it says, the others take bodies from it and give it answers. A task that waits for
//! something is woken by the machine.
//!
//! **Invariant:** an exchange costs no other one more than its share: it waits when its client does not take its answer, and its client
//! waits when nobody takes its request.

mod body;
mod exchange;
mod floods;
mod flow;
mod mux;
mod receive;
mod reply;
mod send;
mod server;
mod state;
mod store;

pub use server::serve_for;

use std::cell::RefCell;
use std::rc::Rc;

type SharedMux = Rc<RefCell<mux::Mux>>;
