//! The addresses of a port, and the ways from it to others.
//!
//! **Invariant:** a frame's destination is compared with few addresses and no table; the most specific network decides where a packet goes, and
//! nothing goes to a family that the port has no address of.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ferrogate_core::config::dataplane::{Network, Route};

use crate::device::Mac;

/// What a port is on its link.
#[derive(Clone, Debug)]
pub(super) struct Ours {
    pub(super) mac: Mac,
    v4: Vec<Ipv4Addr>,
    /// With the one of the link alone, at the end.
    v6: Vec<Ipv6Addr>,
    networks: Vec<Network>,
    /// The longest prefix first.
    routes: Vec<Route>,
}

impl Ours {
    /// With these addresses and routes. A port with an IPv6 address has one of its link besides (RFC 4291, 2.8).
    pub(super) fn new(mac: Mac, addresses: &[Network], routes: &[Route]) -> Self {
        let v4 = addresses.iter().filter_map(|network| v4(network.ip)).collect();
        let mut v6: Vec<_> = addresses.iter().filter_map(|network| v6(network.ip)).collect();
        let mut networks = addresses.to_vec();
        if !v6.is_empty() && !v6.iter().any(Ipv6Addr::is_unicast_link_local) {
            let own = link_local(mac);
            v6.push(own);
            networks.push(Network { ip: own.into(), prefix_len: 64 });
        }
        let mut routes = routes.to_vec();
        routes.sort_by_key(|route| std::cmp::Reverse(route.to.prefix_len));
        Self { mac, v4, v6, networks, routes }
    }

    /// Whether the address is ours.
    pub(super) fn has(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.has_v4(ip),
            IpAddr::V6(ip) => self.has_v6(ip),
        }
    }

    pub(super) fn has_v4(&self, ip: Ipv4Addr) -> bool {
        self.v4.contains(&ip)
    }

    pub(super) fn has_v6(&self, ip: Ipv6Addr) -> bool {
        self.v6.contains(&ip)
    }

    /// All addresses, those of the link alone too.
    pub(super) fn all(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.v4.iter().map(|&ip| ip.into()).chain(self.v6.iter().map(|&ip| ip.into()))
    }

    /// Whether a group of the link is one that we hear: all stations, or those that share the end of an address of ours (RFC 4291, 2.7.1).
    pub(super) fn hears(&self, group: Ipv6Addr) -> bool {
        !self.v6.is_empty() && (group == ALL_NODES || self.v6.iter().any(|&ip| solicited_node(ip) == group))
    }

    /// Whether `ip` is in a network of the port's own.
    pub(super) fn is_on_link(&self, ip: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(ip))
    }

    /// Where a packet to `peer` goes first; `None` when there is no way.
    pub(super) fn next_hop(&self, peer: IpAddr) -> Option<IpAddr> {
        if self.is_on_link(peer) {
            return Some(peer);
        }
        self.routes.iter().find(|route| route.to.contains(peer)).map(|route| route.via)
    }

    /// The address that a packet by way of `hop` to `peer` comes from: of the hop's network, else the first that reaches further than the link.
    pub(super) fn source_for(&self, peer: IpAddr, hop: IpAddr) -> Option<IpAddr> {
        let is_of_link = |ip: IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        let fits =
            |network: &&Network| network.ip.is_ipv4() == peer.is_ipv4() && is_of_link(network.ip) == is_of_link(peer);
        let near = self.networks.iter().filter(fits).find(|network| network.contains(hop));
        near.or_else(|| self.networks.iter().find(fits)).map(|network| network.ip)
    }
}

/// The group of all stations whose address ends as `ip` does (RFC 4291, 2.7.1).
pub(super) fn solicited_node(ip: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = ip.octets();
    let end = u16::from_be_bytes([b, c]);
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), end)
}

/// The Ethernet address of a group (RFC 2464, 7).
pub(super) fn group_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    Mac([0x33, 0x33, a, b, c, d])
}

/// The address of a station on its link alone (RFC 2464, 5).
pub(super) fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let parts = [[a ^ 2, b], [c, 0xff], [0xfe, d], [e, f]].map(u16::from_be_bytes);
    Ipv6Addr::new(0xfe80, 0, 0, 0, parts[0], parts[1], parts[2], parts[3])
}

fn v4(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

fn v6(ip: IpAddr) -> Option<Ipv6Addr> {
    match ip {
        IpAddr::V4(_) => None,
        IpAddr::V6(ip) => Some(ip),
    }
}

/// All stations of the link.
pub(super) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0xab, 0xcd, 0xef]);

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn network(text: &str) -> Network {
        text.parse().expect("a network")
    }

    fn ours() -> Ours {
        let addresses = ["10.1.0.1/24", "10.2.0.1/16", "2001:db8:1::1/64"].map(network);
        let routes = [
            ("0.0.0.0/0", "10.1.0.254"),
            ("10.0.0.0/8", "10.2.0.254"),
            ("10.9.0.0/16", "10.2.0.253"),
            ("::/0", "fe80::1"),
        ];
        let routes = routes.map(|(to, via)| Route { to: network(to), via: ip(via) });
        Ours::new(MAC, &addresses, &routes)
    }

    #[test]
    fn the_most_specific_way_is_taken() {
        let cases = [
            ("10.1.0.7", Some("10.1.0.7"), Some("10.1.0.1")),
            ("10.2.255.7", Some("10.2.255.7"), Some("10.2.0.1")),
            ("10.3.0.7", Some("10.2.0.254"), Some("10.2.0.1")),
            ("10.9.0.7", Some("10.2.0.253"), Some("10.2.0.1")),
            ("192.0.2.7", Some("10.1.0.254"), Some("10.1.0.1")),
            ("2001:db8:1::7", Some("2001:db8:1::7"), Some("2001:db8:1::1")),
            ("2001:db8:2::7", Some("fe80::1"), Some("2001:db8:1::1")),
            ("fe80::7", Some("fe80::7"), Some("fe80::ff:feab:cdef")),
        ];
        for (peer, hop, source) in cases {
            let found = ours().next_hop(ip(peer));
            assert_eq!(found, hop.map(ip), "{peer}");
            assert_eq!(found.and_then(|hop| ours().source_for(ip(peer), hop)), source.map(ip), "{peer}");
        }
        let lonely = Ours::new(MAC, &[network("10.1.0.1/24")], &[]);
        assert_eq!((lonely.next_hop(ip("10.3.0.1")), lonely.next_hop(ip("fe80::1"))), (None, None));
    }

    #[test]
    fn groups_are_those_of_its_addresses() {
        let ours = ours();
        assert!(ours.has(ip("10.2.0.1")) && ours.has(ip("fe80::ff:feab:cdef")) && !ours.has(ip("10.2.0.2")));
        let hears = |text: &str| ours.hears(text.parse().expect("an address"));
        assert!(hears("ff02::1") && hears("ff02::1:ff00:1") && hears("ff02::1:ffab:cdef"));
        assert!(!hears("ff02::2") && !hears("ff02::1:ff00:2"));
        assert_eq!(
            group_mac(solicited_node("2001:db8::12:3456".parse().expect("one"))),
            Mac([0x33, 0x33, 0xff, 0x12, 0x34, 0x56])
        );
        assert!(!Ours::new(MAC, &[network("10.1.0.1/24")], &[]).hears(ALL_NODES), "without IPv6");
    }
}
