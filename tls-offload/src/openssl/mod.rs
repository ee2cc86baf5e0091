//! The OpenSSL backend: libssl of the distribution, for what rustls can't do: keys that an accelerator holds, and accelerated algorithms.
//!
//! ```text
//! server, client   configurations: certificates, roots, tickets
//! session          a session over lent bytes
//! bio              where libssl reads and writes
//! own, error       owners of what libcrypto hands out; its error queue
//! ffi              declarations
//! ```
//!
//! **Invariant:** all of the crate's unsafe code is in here, and no pointer of OpenSSL's leaves it.

#![allow(unsafe_code, reason = "libssl is C; what is called, and why it is sound, is said at each block")]

mod bio;
mod client;
mod error;
mod ffi;
mod own;
mod server;
mod session;

pub(crate) use client::Client;
pub use error::OpenSslError;
pub(crate) use server::Server;
pub use session::OpenSslSession;

/// Whether this binary has OpenSSL.
pub const BUILT: bool = true;
