//! What a port is called, what it can do, and why it can't be opened: plain data, with and without the feature `dpdk`.
//!
//! **Invariant:** data only; nothing here touches a device.

use std::borrow::Cow;
use std::fmt;

use ferrogate_core::config::dataplane::Offloads;

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Every station of the link.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether it names a group of IPv6 (RFC 2464, 7).
    #[must_use]
    pub fn is_ipv6_group(self) -> bool {
        self.0[..2] == [0x33, 0x33]
    }

    /// Whether it names one station.
    #[must_use]
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A device as the configuration names it: `0000:3b:00.0`, or `net_af_xdp0,iface=eth1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    text: String,
}

impl Device {
    /// Takes the text of `dataplane.dpdk.ports[].device`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self { text: text.trim().to_owned() }
    }

    /// The whole text, as DPDK takes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stands in front of the first comma.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text.split(',').next().unwrap_or_default()
    }

    /// The value of an argument of a virtual device (`iface`).
    #[must_use]
    pub fn argument(&self, key: &str) -> Option<&str> {
        self.text.split(',').skip(1).find_map(|a| a.strip_prefix(key)?.strip_prefix('='))
    }

    /// Whether it is a virtual device of the driver `prefix` (`net_af_xdp`).
    #[must_use]
    pub fn is_vdev(&self, prefix: &str) -> bool {
        let number = self.name().strip_prefix(prefix);
        number.is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
    }

    /// Whether it is a PCI address: `bus:device.function`, with or without a domain.
    #[must_use]
    pub fn is_pci(&self) -> bool {
        let hex = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_hexdigit());
        let Some((bus, function)) = self.name().rsplit_once('.') else { return false };
        hex(function) && (2..=3).contains(&bus.split(':').count()) && bus.split(':').all(hex)
    }

    /// What DPDK and the kernel call it: a PCI address has its domain there, which may be left out here.
    #[must_use]
    pub fn full_name(&self) -> Cow<'_, str> {
        if self.is_pci() && self.name().matches(':').count() == 1 {
            format!("0000:{}", self.name()).into()
        } else {
            self.name().into()
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// How a port is to be set up.
#[derive(Clone, Debug)]
pub struct PortOptions {
    /// The device.
    pub device: Device,
    /// Queue pairs, one for each lcore. A port that has fewer gets what it has.
    pub queues: u16,
    /// MTU in bytes, without the Ethernet header.
    pub mtu: u16,
    /// What is left to it, as far as it can.
    pub offloads: Offloads,
}

/// What a port can do for us, or does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// It looks at IPv4 and TCP checksums.
    pub rx_checksum: bool,
    /// It fills them in, of TCP over IPv4.
    pub tx_checksum: bool,
    /// It receives what is longer than a buffer.
    pub scatter: bool,
    /// It spreads flows over its queues by the hash of [`rss`](crate::rss).
    pub rss: bool,
    /// It takes the tags of VLANs off.
    pub vlan_strip: bool,
    /// It puts them on.
    pub vlan_insert: bool,
    /// It cuts long TCP segments over IPv4.
    pub tso: bool,
}

impl Abilities {
    /// Each with its name in the configuration.
    #[must_use]
    pub fn named(self) -> [(&'static str, bool); 7] {
        [
            ("rx_checksum", self.rx_checksum),
            ("tx_checksum", self.tx_checksum),
            ("scatter", self.scatter),
            ("rss", self.rss),
            ("vlan_strip", self.vlan_strip),
            ("vlan_insert", self.vlan_insert),
            ("tso", self.tso),
        ]
    }

    /// Those of them that are wanted.
    #[must_use]
    pub fn wanted(self, by: &Offloads) -> Self {
        Self {
            rx_checksum: self.rx_checksum && by.rx_checksum,
            tx_checksum: self.tx_checksum && by.tx_checksum,
            scatter: self.scatter && by.scatter,
            rss: self.rss && by.rss,
            vlan_strip: self.vlan_strip && by.vlan_strip,
            vlan_insert: self.vlan_insert && by.vlan_insert,
            // It fills in the checksums of what it cuts.
            tso: self.tso && by.tso && by.tx_checksum,
        }
    }
}

/// What an open port is and can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortInfo {
    /// The poll-mode driver (`net_af_xdp`, `net_ixgbe`).
    pub driver: String,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its MTU, in bytes.
    pub mtu: u16,
    /// Queue pairs it could have.
    pub queues_max: u16,
    /// Entries of the table by which it spreads TCP over its queues (RSS), a power of two. None: it has one queue, or sends them as it likes.
    pub rss_entries: Option<u16>,
    /// What it can do for us.
    pub can: Abilities,
    /// What of it is used.
    pub does: Abilities,
}

/// The counters of a port, as its driver keeps them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Frames received.
    pub rx_packets: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames lost because nobody took them out of the ring.
    pub rx_missed: u64,
    /// Frames received damaged.
    pub rx_errors: u64,
    /// Frames that could not be sent.
    pub tx_errors: u64,
    /// Frames lost for want of a free mbuf.
    pub rx_no_mbuf: u64,
    /// Segments that left as a part of a long one, which the port cut apart; of each long one, all but the first.
    pub tx_joined: u64,
}

/// Why a port can't be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortError {
    /// This binary has no DPDK in it.
    NotBuilt,
    /// EAL was started before in this process, and ended.
    EalSpent,
    /// EAL refused its arguments or its memory.
    Eal {
        /// The errno.
        errno: i32,
    },
    /// There is no such device, or no driver for it.
    NoDevice {
        /// The errno.
        errno: i32,
    },
    /// The device has no queue pair.
    Queues,
    /// There is no memory for its frames.
    NoMemory,
    /// The device did not take its configuration.
    Configure {
        /// The errno.
        errno: i32,
    },
    /// The device did not start.
    Start {
        /// The errno.
        errno: i32,
    },
    /// A foreign XDP program is attached to the interface.
    XdpBusy {
        /// The interface.
        interface: String,
        /// The program's name.
        program: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_told_apart() {
        let xdp = Device::new(" net_af_xdp0,iface=eth1,busy_budget=0 ");
        assert_eq!((xdp.name(), xdp.argument("iface"), xdp.argument("if")), ("net_af_xdp0", Some("eth1"), None));
        assert!(xdp.is_vdev("net_af_xdp") && !xdp.is_vdev("net_af") && !xdp.is_pci());
        for pci in ["0000:3b:00.0", "3b:00.1", "0000:3b:00.0,arg=1"] {
            assert!(Device::new(pci).is_pci(), "{pci}");
            assert!(Device::new(pci).full_name().starts_with("0000:3b:00."), "{pci}");
        }
        for other in ["", "net_tap0", "3b", "3b:00", "x:y.z", "a.b"] {
            assert!(!Device::new(other).is_pci(), "{other}");
        }
    }

    #[test]
    fn what_a_port_can_is_used_unless_it_is_switched_off() {
        let can = Abilities { rx_checksum: true, vlan_strip: true, rss: true, tso: true, ..Abilities::default() };
        let does = |offloads: Offloads| {
            let does = can.wanted(&offloads).named();
            does.into_iter().filter_map(|(name, does)| does.then_some(name)).collect::<Vec<_>>()
        };
        assert_eq!(does(Offloads::default()), ["rx_checksum", "rss", "vlan_strip", "tso"]);
        assert_eq!(does(Offloads { rx_checksum: false, tso: false, ..Offloads::default() }), ["rss", "vlan_strip"]);
        assert_eq!(does(Offloads { vlan_strip: false, rss: false, ..Offloads::default() }), ["rx_checksum", "tso"]);
        let software = Offloads { tx_checksum: false, ..Offloads::default() };
        assert_eq!(does(software), ["rx_checksum", "rss", "vlan_strip"], "what is cut has checksums of the port's");
    }

    #[test]
    fn macs_print_as_usual() {
        assert_eq!(Mac([2, 0, 0, 0xab, 0xcd, 0xef]).to_string(), "02:00:00:ab:cd:ef");
        assert!(!Mac::BROADCAST.is_unicast());
    }
}
