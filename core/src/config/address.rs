//! Addresses: where a listener listens and where a host is.
//!
//! **Invariant:** every plane and the configuration mean the same by an address; a name is none.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Where to listen or connect.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// An IP address and a TCP port.
    Inet(SocketAddr),
    /// An IP address and a UDP port. Only listeners have one: clients and hosts are known by [`Inet`](Self::Inet).
    Udp(SocketAddr),
    /// A unix socket by its path. An empty path is a peer that never bound (the client side of every unix connection).
    Unix(PathBuf),
}

impl Address {
    /// Whether a packet port can't reach it, because it never leaves the host: loopback and unix sockets.
    #[must_use]
    pub fn is_host_local(&self) -> bool {
        match self {
            Self::Inet(a) | Self::Udp(a) => a.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    /// The IP address and TCP port, if it is one.
    #[must_use]
    pub fn inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(a) => Some(*a),
            Self::Udp(_) | Self::Unix(_) => None,
        }
    }

    /// The IP address and port, of TCP or UDP.
    #[must_use]
    pub fn ip_and_port(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(a) | Self::Udp(a) => Some(*a),
            Self::Unix(_) => None,
        }
    }

    /// As text for logs: empty for a peer that never bound.
    #[must_use]
    pub fn log_text(&self) -> String {
        match self {
            Self::Unix(path) if path.as_os_str().is_empty() => String::new(),
            named => named.to_string(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(a) => a.fmt(f),
            Self::Udp(a) => write!(f, "udp:{a}"),
            Self::Unix(p) => write!(f, "unix:{}", p.display()),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(a: SocketAddr) -> Self {
        Self::Inet(a)
    }
}

/// A text that is no address. Carries nothing: the caller knows the text and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressError;

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected IP:PORT, [IPv6]:PORT, :PORT or unix:/PATH")
    }
}

impl std::error::Error for AddressError {}

impl FromStr for Address {
    type Err = AddressError;

    /// `127.0.0.1:80`, `[::1]:80`, `:80` (every IPv4 address, as in MOSN), `unix:/run/x.sock` or `/run/x.sock`. Never UDP: the text does
    /// not say it, the key beside it does.
    fn from_str(s: &str) -> Result<Self, AddressError> {
        if let Some(path) = s.strip_prefix("unix:") {
            return if path.is_empty() { Err(AddressError) } else { Ok(Self::Unix(path.into())) };
        }
        if s.starts_with('/') {
            return Ok(Self::Unix(s.into()));
        }
        if let Some(port) = s.strip_prefix(':') {
            let port: u16 = port.parse().map_err(|_| AddressError)?;
            return Ok(Self::Inet(SocketAddr::from(([0, 0, 0, 0], port))));
        }
        s.parse().map(Self::Inet).map_err(|_| AddressError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_parse_and_print() {
        for (text, printed) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[::1]:8080", "[::1]:8080"),
            (":9", "0.0.0.0:9"),
            ("unix:/run/a", "unix:/run/a"),
            ("/run/a", "unix:/run/a"),
        ] {
            let address = text.parse::<Address>().unwrap();
            assert_eq!((address.to_string(), address.log_text()), (printed.to_owned(), printed.to_owned()));
        }
        for bad in ["", "localhost:80", "1.2.3.4", "unix:", ":x", "1.2.3.4:99999", "udp:1.2.3.4:53"] {
            assert_eq!(bad.parse::<Address>(), Err(AddressError), "{bad}");
        }
    }

    #[test]
    fn a_peer_that_never_bound_has_no_text() {
        assert_eq!(Address::Unix(PathBuf::new()).log_text(), "");
    }
}
