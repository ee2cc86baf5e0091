//! Networks as a set that an address is looked up in.
//!
//! **Invariant:** an IPv4 address is the same written as one of IPv6; a look costs the logarithm of the number of networks.

use std::net::{IpAddr, Ipv6Addr};

use crate::config::schema::IpNetwork;

/// Addresses as ranges, sorted and apart from each other. IPv4 addresses are those of `::ffff:0:0/96`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u128, u128)>);

impl Ranges {
    /// Every address of these networks.
    #[must_use]
    pub fn new(networks: &[IpNetwork]) -> Self {
        let mut all: Vec<_> = networks.iter().map(range).collect();
        all.sort_unstable();
        let mut apart: Vec<(u128, u128)> = Vec::with_capacity(all.len());
        for (first, last) in all {
            match apart.last_mut() {
                Some(before) if first <= before.1 => before.1 = before.1.max(last),
                _ => apart.push((first, last)),
            }
        }
        Self(apart)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this address is one of them.
    #[must_use]
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = bits(address);
        let behind = self.0.partition_point(|(first, _)| *first <= address);
        behind > 0 && address <= self.0[behind - 1].1
    }
}

/// Whether an address is one of a network's.
pub(super) fn holds(network: &IpNetwork, address: IpAddr) -> bool {
    let (first, last) = range(network);
    (first..=last).contains(&bits(address))
}

fn range(network: &IpNetwork) -> (u128, u128) {
    let of_ipv4 = if network.address.is_ipv4() { 96 } else { 0 };
    let shared = u32::from(network.prefix_len) + of_ipv4;
    let rest = u128::MAX.checked_shr(shared).unwrap_or(0);
    let first = bits(network.address) & !rest;
    (first, first | rest)
}

fn bits(address: IpAddr) -> u128 {
    let v6: Ipv6Addr = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    v6.to_bits()
}
