//! TLS sessions without I/O: bytes in, bytes out.
//!
//! A [`Session`] is the TLS state of one connection. It is given the ciphertext that arrived and a place for the plaintext, and the other
//! way round; who carries the bytes (a kernel socket, a DPDK ring, a test) is not its affair. [`ServerTls`] and [`ClientTls`] are the
//! configurations that sessions are made from: built once, checked completely, shared by all workers.
//!
//! The software backend is rustls with the aws-lc-rs provider, chosen by measurement: a full TLS 1.3 handshake with a P-256 key costs a
//! third of what OpenSSL 3.0 takes for it. With the feature `openssl` there is libssl of the distribution beside it, which reaches
//! accelerators; without it everything is here but that, and asking for it is [`ConfigError::NotBuilt`].
//!
//! **Invariant:** a leaf: opens no socket, spawns nothing, knows no runtime, and no byte of a peer makes it panic or grow without bound.

#![deny(unsafe_code)]

mod accelerator;
mod algorithms;
mod certificates;
mod client;
mod client_auth;
mod der;
mod error;
mod export;
mod hkdf;
mod keylog;
mod names;
#[cfg_attr(not(feature = "openssl"), path = "openssl_absent.rs")]
mod openssl;
mod options;
mod peer_certificate;
mod pem;
mod probe;
mod record;
mod rustls;
mod self_signed;
mod server;
mod session;
mod staple;
mod tickets;
mod verify;

pub use accelerator::{
    Accelerator, AcceleratorCounts, AcceleratorEvent, AcceleratorOptions, Failure, Fallback, Kind, Notify,
};
pub use algorithms::Algorithms;
pub use client::{ClientIdentity, ClientOptions, ClientTls, Roots};
pub use client_auth::{Caveat, ClientAuth, NoStaple};
pub use der::Moment;
pub use error::{Cause, ConfigError, Place, SessionError, TlsError};
pub use export::{Agreed, Cipher, SessionKeys, SessionState, Suite, TrafficKeys, Unsupported};
pub use openssl::{BUILT as OPENSSL_BUILT, OpenSslError, OpenSslSession, buried, poll_news, turn, watched};
pub use options::{Alpn, Backend, Version, Versions};
pub use peer_certificate::PeerCertificate;
pub use pem::Pem;
pub use probe::{
    Ability, AboutCertificate, Measure, OpenSslFacts, SampleKey, SignRate, What, abilities, about, openssl_facts,
    rate_in_accelerator, rate_in_software, rate_of_sample, rustls_groups,
};
pub use rustls::RustlsSession;
pub use self_signed::{SelfSignedError, self_signed};
pub use server::{Identity, Key, ServerOptions, ServerTls};
pub use session::{PLAIN_ROOM_BYTES_MIN, RECORD_BYTES_MAX, RECORD_OVERHEAD_BYTES_MAX, Session, SessionInfo, Step};
