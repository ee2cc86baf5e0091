//! The OpenSSL backend: libssl of the distribution, for what rustls can't do: keys that an accelerator holds, and accelerated algorithms.
//!
//! ```text
//! server, client   configurations: certificates, tickets
//! installed        a certificate with its key
//! facts            what OpenSSL, its providers and its engines say of themselves
//! ticket           the keys of session tickets
//! keylog           keys of sessions, to a file
//! trust            roots and what is revoked
//! session          a session over lent bytes
//! ssl              what must be there while libssl can call back
//! accelerator      a provider in a library context of its own, or an engine
//! engine, store    keys that it holds
//! breaker          when an accelerator is left alone
//! job              operations in an accelerator
//! operation        one outside of libssl: a signature by itself
//! fibre, signer    rustls, waiting for such a signature
//! rescue           what a handshake needs to begin anew in software
//! turn             a worker's part for its accelerators, and the graveyard
//! watch            descriptors by which they tell
//! proof            that a key's operations pause
//! rate             how fast they are
//! bio              where libssl reads and writes
//! own, error       owners of what libcrypto hands out; its error queue
//! ffi              declarations
//! ```
//!
//! **Invariant:** all of the crate's unsafe code is in here, and no pointer of OpenSSL's leaves it.

#![allow(unsafe_code, reason = "libssl is C; what is called, and why it is sound, is said at each block")]

mod accelerator;
mod bio;
mod breaker;
mod client;
mod engine;
mod error;
mod facts;
mod ffi;
mod fibre;
mod installed;
mod job;
mod keylog;
mod operation;
mod own;
mod proof;
mod rate;
mod rescue;
mod server;
mod session;
mod signer;
mod ssl;
mod store;
mod ticket;
mod trust;
mod turn;
mod watch;

pub(crate) use accelerator::Accelerator;
pub(crate) use client::Client;
pub use error::OpenSslError;
pub(crate) use facts::{abilities, facts};
pub(crate) use fibre::{Fibre, Fibres};
pub(crate) use rate::sign_rate;
pub(crate) use server::Server;
pub use session::OpenSslSession;
pub(crate) use signer::certified_key;
pub use turn::{buried, poll_news, turn};
pub use watch::watched;

/// Whether this binary has OpenSSL.
pub const BUILT: bool = true;
