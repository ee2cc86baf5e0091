//! Why a load or an origin can't begin.
//!
//! **Invariant:** only what is the caller's or the machine's fault; the peer's faults are counted, not returned.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a load or an origin can't begin.
#[derive(Debug)]
pub enum LoadError {
    /// A file can't be read.
    File(PathBuf, io::Error),
    /// A file has no certificates or no key in it.
    Pem(PathBuf),
    /// The certificates, the key, the version or the suite do not go together.
    Tls(rustls::Error),
    /// No suite of that name, or not with that version.
    NoSuite(String),
    /// The server's name can't be one.
    Name(String),
    /// The flag has no meaning with `--mode http2`.
    NotWithHttp2(&'static str),
    /// The address of the DPDK port is none.
    Network(String),
    /// The DPDK plane does not start.
    Plane(dataplane_dpdk::StartError),
    /// The worker of the DPDK plane ended early.
    Worker,
    /// The poller or a socket is refused by the system.
    System(io::Error),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Pem(path) => write!(f, "{}: no usable PEM in it", path.display()),
            Self::Tls(error) => write!(f, "TLS: {error}"),
            Self::NoSuite(name) => write!(f, "no cipher suite {name} with these flags"),
            Self::Name(name) => write!(f, "{name:?} is no server name"),
            Self::NotWithHttp2(flag) => write!(f, "{flag} can't be had with --mode http2"),
            Self::Network(text) => write!(f, "{text:?} is no IPv4 address with a prefix length"),
            Self::Plane(error) => write!(f, "{error}"),
            Self::Worker => write!(f, "the worker of the DPDK plane ended early"),
            Self::System(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for LoadError {}

impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl From<rustls::Error> for LoadError {
    fn from(error: rustls::Error) -> Self {
        Self::Tls(error)
    }
}
