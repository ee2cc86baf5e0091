//! The `dataplane` section: which packet backend carries the traffic, and how.
//!
//! **Invariant:** data only; core never acts on the DPDK half, it hands it to the plane.

use std::path::PathBuf;
use std::time::Duration;

use super::limits::FlowLimits;
pub use super::network::{Network, NetworkError, Route};

/// The `dataplane` section.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Dataplane {
    /// `type`: which plane.
    pub plane: Plane,
    /// `workers`: threads, one per core; `auto` (None) is one per available core, and on DPDK one.
    pub workers: Option<usize>,
    /// `fallback`: what to do when the DPDK plane can't start.
    pub fallback: Fallback,
    /// `dpdk`: the port and its stack.
    pub dpdk: Dpdk,
}

/// `dataplane.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Plane {
    /// The kernel's sockets.
    #[default]
    Kernel,
    /// A DPDK poll-mode port under a userspace TCP.
    Dpdk,
}

/// `dataplane.fallback`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Fallback {
    /// Serve over the kernel plane and say why in one line.
    Kernel,
    /// Refuse to start: exit code 3.
    #[default]
    None,
}

/// `dataplane.dpdk`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dpdk {
    /// `ports`: each with a queue pair per worker, or shared by them.
    pub ports: Vec<Port>,
    /// `hugepages`: use them (true), or run without (`--no-huge`).
    pub hugepages: bool,
    /// `memory_mib`: memory given to EAL, in MiB.
    pub memory_mib: u32,
    /// `eal_args`: further arguments to EAL, word by word.
    pub eal_args: Vec<String>,
    /// `rx_ring_bytes`: receive ring of one flow; a power of two.
    pub rx_ring_bytes: usize,
    /// `tx_ring_bytes`: send ring of one flow; a power of two.
    pub tx_ring_bytes: usize,
    /// `congestion_control`: how a flow finds out what its path takes.
    pub congestion_control: CongestionControl,
    /// `flows_max`: flows of one worker, at most.
    pub flows_max: usize,
    /// `syn_backlog_max`: flows that have not finished the handshake, at most.
    pub syn_backlog_max: usize,
    /// What its flows may take besides.
    pub flow_limits: FlowLimits,
    /// `idle`: how the polling worker rests.
    pub idle: Idle,
    /// `user`: who the process becomes once the ports are open, if anybody else.
    pub user: Option<String>,
    /// `statistics_file`: where the plane's numbers are kept, if anywhere.
    pub statistics_file: Option<PathBuf>,
    /// `recorder_file`: where the last frames are kept, if anywhere.
    pub recorder_file: Option<PathBuf>,
    /// `recorder_frames`: how many, of each worker.
    pub recorder_frames: usize,
}

impl Default for Dpdk {
    fn default() -> Self {
        Self {
            ports: Vec::new(),
            hugepages: true,
            memory_mib: 256,
            eal_args: Vec::new(),
            rx_ring_bytes: 64 * 1024,
            tx_ring_bytes: 64 * 1024,
            congestion_control: CongestionControl::default(),
            flows_max: 200_000,
            syn_backlog_max: 4096,
            flow_limits: FlowLimits::default(),
            idle: Idle::default(),
            user: None,
            statistics_file: None,
            recorder_file: None,
            recorder_frames: 65_536,
        }
    }
}

/// `dataplane.dpdk.congestion_control`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CongestionControl {
    /// CUBIC (RFC 9438).
    #[default]
    Cubic,
    /// None: for a network of one's own that never drops.
    None,
}

/// One entry of `dataplane.dpdk.ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// `device`: a PCI address (`0000:3b:00.0`) or a virtual device with its arguments (`net_af_xdp0,iface=eth1`).
    pub device: String,
    /// `address` and `addresses`: ours on it, each with its network. There is one at least.
    pub addresses: Vec<Network>,
    /// `gateway`, `gateway6` and `routes`: where packets for other networks go.
    pub routes: Vec<Route>,
    /// `mtu`, in bytes.
    pub mtu: u16,
    /// `exception`: what Linux has of it, if anything.
    pub exception: Option<Exception>,
    /// `offloads`: what is left to it, where it can.
    pub offloads: Offloads,
    /// `vlans`: those that it is in.
    pub vlans: Vec<Vlan>,
}

/// One entry of `dataplane.dpdk.ports[].vlans`: the port as a station of a VLAN (IEEE 802.1Q), with addresses and routes of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// `id`: its number, from 1 to 4094.
    pub id: u16,
    /// `address` and `addresses`. There is one at least.
    pub addresses: Vec<Network>,
    /// `gateway`, `gateway6` and `routes`.
    pub routes: Vec<Route>,
}

impl Default for Port {
    fn default() -> Self {
        Self {
            device: String::new(),
            addresses: Vec::new(),
            routes: Vec::new(),
            mtu: 1500,
            exception: None,
            offloads: Offloads::default(),
            vlans: Vec::new(),
        }
    }
}

/// `dataplane.dpdk.ports[].offloads`: what a port may do that software does otherwise. It is used where the port reports that it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offloads {
    /// `rx_checksum`: look at the checksums of what it receives.
    pub rx_checksum: bool,
    /// `tx_checksum`: fill in those of TCP over IPv4.
    pub tx_checksum: bool,
    /// `scatter`: receive frames that are longer than a buffer.
    pub scatter: bool,
    /// `rss`: spread flows over the workers.
    pub rss: bool,
    /// `vlan_strip`: take the tags of VLANs off.
    pub vlan_strip: bool,
    /// `vlan_insert`: put them on.
    pub vlan_insert: bool,
    /// `tso`: cut long TCP segments.
    pub tso: bool,
}

impl Default for Offloads {
    fn default() -> Self {
        let (vlan_strip, vlan_insert, tso) = (true, true, true);
        Self { rx_checksum: true, tx_checksum: true, scatter: true, rss: true, vlan_strip, vlan_insert, tso }
    }
}

/// `dataplane.dpdk.ports[].exception`: a TAP interface that carries what the gateway does not own, both ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    /// `interface`: its name.
    pub interface: String,
    /// `protocols`: what Linux gets of what comes.
    pub protocols: Vec<Foreign>,
    /// `tcp_ports`: of TCP, to these ports only, if any are named. From the first to the last of each range.
    pub tcp_ports: Vec<(u16, u16)>,
    /// `udp_ports`: the same of UDP.
    pub udp_ports: Vec<(u16, u16)>,
    /// `follow`: what Linux says of the interface that holds for the gateway too, besides what the file says.
    pub follow: Vec<Followed>,
}

/// `dataplane.dpdk.ports[].exception.follow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// The interface's addresses.
    Addresses,
    /// The routes by it that have a router.
    Routes,
    /// Its neighbours that are set for good.
    Neighbours,
}

impl Followed {
    /// All, with their names in the configuration.
    pub const ALL: [(&'static str, Self); 3] =
        [("addresses", Self::Addresses), ("routes", Self::Routes), ("neighbours", Self::Neighbours)];
}

/// A kind of frame that the gateway does not own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// ARP, but for questions about our addresses.
    Arp,
    /// ICMP and ICMPv6, but for echo requests to us and questions about our addresses.
    Icmp,
    /// TCP that belongs to no flow or listener of ours.
    Tcp,
    /// UDP that belongs to no socket of ours.
    Udp,
    /// Any other protocol over IP.
    Ip,
    /// Anything else: LLDP, frames of VLANs that the port is not in.
    Ethernet,
}

impl Foreign {
    /// All, with their names in the configuration.
    pub const ALL: [(&'static str, Self); 6] = [
        ("arp", Self::Arp),
        ("icmp", Self::Icmp),
        ("tcp", Self::Tcp),
        ("udp", Self::Udp),
        ("ip", Self::Ip),
        ("ethernet", Self::Ethernet),
    ];
}

/// `dataplane.dpdk.idle`: after `busy_polls` empty polls the worker pauses between polls; after `pause_polls` more it sleeps, the longer
/// the longer it has been idle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idle {
    /// `mode`.
    pub mode: IdleMode,
    /// `busy_polls`: empty polls before the worker starts to pause.
    pub busy_polls: u32,
    /// `pause_polls`: paused polls before it starts to sleep.
    pub pause_polls: u32,
    /// `sleep_us`: how long it sleeps at first, in microseconds.
    pub sleep: Duration,
    /// `sleep_us_max`: how long it sleeps at most, in microseconds.
    pub sleep_max: Duration,
    /// `wait`: whether it waits to be woken, once it would sleep for that long.
    pub wait: bool,
}

/// `dataplane.dpdk.idle.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum IdleMode {
    /// Busy, then pause, then sleep.
    #[default]
    Adaptive,
    /// Always busy: a whole core, the lowest latency.
    Busy,
}

impl Default for Idle {
    fn default() -> Self {
        Self {
            mode: IdleMode::Adaptive,
            busy_polls: 2000,
            pause_polls: 2000,
            sleep: Duration::from_micros(50),
            sleep_max: Duration::from_micros(500),
            wait: true,
        }
    }
}
