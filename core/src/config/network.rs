//! IP networks and routes of a port.
//!
//! **Invariant:** data only; a prefix is never longer than an address of its family.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An address and the length of its network's prefix: `10.1.2.3/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// An address in it.
    pub ip: IpAddr,
    /// Bits that all its addresses share.
    pub prefix_len: u8,
}

/// A way to a network that is not the port's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub to: Network,
    /// By which router.
    pub via: IpAddr,
}

impl Network {
    /// An address and the length of its network's prefix.
    #[must_use]
    pub fn new(ip: impl Into<IpAddr>, prefix_len: u8) -> Self {
        Self { ip: ip.into(), prefix_len }
    }

    /// Every address of a family.
    #[must_use]
    pub fn all_of(ip: IpAddr) -> Self {
        let ip = if ip.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
        Self { ip, prefix_len: 0 }
    }

    /// Whether `ip` is one of its addresses.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let prefix_len = u32::from(self.prefix_len);
        match (self.ip, ip) {
            (IpAddr::V4(ours), IpAddr::V4(ip)) => {
                (ours.to_bits() ^ ip.to_bits()).checked_shr(32 - prefix_len).unwrap_or(0) == 0
            }
            (IpAddr::V6(ours), IpAddr::V6(ip)) => {
                (ours.to_bits() ^ ip.to_bits()).checked_shr(128 - prefix_len).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (ip, prefix) = text.split_once('/').ok_or(NetworkError)?;
        let ip: IpAddr = ip.parse().map_err(|_| NetworkError)?;
        let longest = if ip.is_ipv4() { 32 } else { 128 };
        let prefix_len = prefix.parse().ok().filter(|&len| len <= longest).ok_or(NetworkError)?;
        Ok(Self { ip, prefix_len })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix_len)
    }
}

/// It is no address with a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkError;

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an address with its network, such as 10.1.2.3/24")
    }
}

impl std::error::Error for NetworkError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_read_and_knows_its_own() {
        for (text, inside, outside) in [
            ("10.1.2.3/24", "10.1.2.255", "10.1.3.0"),
            ("10.1.2.3/32", "10.1.2.3", "10.1.2.2"),
            ("0.0.0.0/0", "192.0.2.1", "::1"),
            ("2001:db8::1/64", "2001:db8::ffff", "2001:db8:0:1::"),
            ("2001:db8::1/128", "2001:db8::1", "2001:db8::2"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
        ] {
            let network: Network = text.parse().expect("it is one");
            assert_eq!(network.to_string(), text);
            let contains = |ip: &str| network.contains(ip.parse().expect("an address"));
            assert!(contains(inside) && !contains(outside), "{text}");
        }
        for text in ["", "10.1.2.3", "10.1.2.3/33", "::1/129", "a/8", "10.1.2.3/x", "10.1.2.3/-1"] {
            assert_eq!(text.parse::<Network>(), Err(NetworkError), "{text}");
        }
    }
}
