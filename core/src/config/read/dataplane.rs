//! `dataplane`.
//!
//! **Invariant:** a DPDK port gets an address only with its network: there is no guess at a prefix; and a router is always one that it can reach.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::tcp_proxy::port_ranges;
use crate::config::dataplane::{
    CongestionControl, Dataplane, Dpdk, Exception, Fallback, Followed, Foreign, Idle, IdleMode, Network, Offloads,
    Plane, Port, Route, Vlan,
};
use crate::config::limits::{DatagramLimits, FlowLimits};
use crate::config::reader::{Fields, Reader};
use crate::config::tree::Node;

pub(super) fn dataplane(r: &mut Reader, node: &Node) -> Option<Dataplane> {
    let fields = r.map(node, "dataplane")?;
    let plane = fields.choice(r, "type", &[("kernel", Plane::Kernel), ("dpdk", Plane::Dpdk)]).unwrap_or_default();
    let fallback = fields.choice(r, "fallback", &[("kernel", Fallback::Kernel), ("none", Fallback::None)]);
    let dpdk = fields.with(r, "dpdk", dpdk).unwrap_or_default();
    if plane == Plane::Dpdk && node.get("dpdk").and_then(|d| d.get("ports")).is_none_or(Node::is_neutral) {
        r.error(node.place, "`type: dpdk` without a port", "write `dpdk: {ports: [{device: ..., address: ...}]}`");
    }
    Some(Dataplane { plane, workers: fields.threads(r, "workers"), fallback: fallback.unwrap_or_default(), dpdk })
}

fn dpdk(r: &mut Reader, node: &Node) -> Option<Dpdk> {
    let fields = r.map(node, "dpdk")?;
    let d = Dpdk::default();
    let count = 1..=u64::from(u32::MAX);
    let dpdk = Dpdk {
        ports: fields.list(r, "ports", port),
        hugepages: fields.boolean(r, "hugepages").unwrap_or(d.hugepages),
        memory_mib: fields.number(r, "memory_mib", 16..=1 << 20).unwrap_or(d.memory_mib),
        eal_args: fields.list(r, "eal_args", Reader::text),
        rx_ring_bytes: fields.size(r, "rx_ring_bytes", RING_MIN..=RING_MAX).unwrap_or(d.rx_ring_bytes),
        tx_ring_bytes: fields.size(r, "tx_ring_bytes", RING_MIN..=RING_MAX).unwrap_or(d.tx_ring_bytes),
        congestion_control: fields
            .choice(r, "congestion_control", &[("cubic", CongestionControl::Cubic), ("none", CongestionControl::None)])
            .unwrap_or_default(),
        flows_max: fields.number(r, "flows_max", count.clone()).unwrap_or(d.flows_max),
        syn_backlog_max: fields.number(r, "syn_backlog_max", count).unwrap_or(d.syn_backlog_max),
        flow_limits: flow_limits(r, &fields),
        idle: fields.with(r, "idle", idle).unwrap_or(d.idle),
        user: fields.text(r, "user"),
        statistics_file: fields.text(r, "statistics_file").map(PathBuf::from),
        recorder_file: fields.text(r, "recorder_file").map(PathBuf::from),
        recorder_frames: fields.number(r, "recorder_frames", 16..=1 << 24).unwrap_or(d.recorder_frames),
    };
    for (key, size) in [("rx_ring_bytes", dpdk.rx_ring_bytes), ("tx_ring_bytes", dpdk.tx_ring_bytes)] {
        if let Some(node) = fields.get(key).filter(|_| !size.is_power_of_two()) {
            r.at(key, |r| r.error(node.place, format!("{size} is no power of two"), "write 64KiB, 128KiB, ..."));
        }
    }
    Some(dpdk)
}

fn flow_limits(r: &mut Reader, fields: &Fields<'_>) -> FlowLimits {
    let d = FlowLimits::default();
    let count = 1..=u64::from(u32::MAX);
    let limits = FlowLimits {
        ring_idle_timeout: fields.duration(r, "ring_idle_timeout").unwrap_or(d.ring_idle_timeout),
        syn_cookies: fields.boolean(r, "syn_cookies").unwrap_or(d.syn_cookies),
        half_open_per_source_max: fields
            .number(r, "half_open_per_source_max", count.clone())
            .unwrap_or(d.half_open_per_source_max),
        resets_per_second_max: fields
            .number(r, "resets_per_second_max", count.clone())
            .unwrap_or(d.resets_per_second_max),
        echoes_per_second_max: fields
            .number(r, "echoes_per_second_max", count.clone())
            .unwrap_or(d.echoes_per_second_max),
        challenges_per_second_max: fields
            .number(r, "challenges_per_second_max", count)
            .unwrap_or(d.challenges_per_second_max),
        segment_bytes_max: fields
            .number(r, "segment_bytes_max", SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX)
            .unwrap_or(d.segment_bytes_max),
        ack_delay: fields.duration_or_none(r, "ack_delay").unwrap_or(d.ack_delay),
        nagle: fields.boolean(r, "nagle").unwrap_or(d.nagle),
        keepalive_idle: fields.duration_or_none(r, "keepalive_idle").unwrap_or(d.keepalive_idle),
        keepalive_interval: fields.duration(r, "keepalive_interval").unwrap_or(d.keepalive_interval),
        keepalive_probes_max: fields.number(r, "keepalive_probes_max", 1..=255).unwrap_or(d.keepalive_probes_max),
        exception_frames_per_second_max: fields
            .number(r, "exception_frames_per_second_max", 1..=u64::from(u32::MAX))
            .unwrap_or(d.exception_frames_per_second_max),
        datagrams: datagram_limits(r, fields),
    };
    if let Some(node) = fields.get("ack_delay").filter(|_| limits.ack_delay > ACK_DELAY_MAX) {
        r.at("ack_delay", |r| {
            r.error(
                node.place,
                "an acknowledgement may wait for 500ms at most (RFC 9293, 3.8.6.3)",
                "write 40ms or less",
            );
        });
    }
    limits
}

fn datagram_limits(r: &mut Reader, fields: &Fields<'_>) -> DatagramLimits {
    let d = DatagramLimits::default();
    let count = 1..=u64::from(u32::MAX);
    // The port's frames are for more than that.
    let frames = 1..=FRAMES_QUEUED_MAX;
    DatagramLimits {
        udp_queue_datagrams_max: fields
            .number(r, "udp_queue_datagrams_max", frames.clone())
            .unwrap_or(d.udp_queue_datagrams_max),
        udp_queued_datagrams_max: fields
            .number(r, "udp_queued_datagrams_max", frames)
            .unwrap_or(d.udp_queued_datagrams_max),
        reassembly_bytes_max: fields
            .size(r, "reassembly_bytes_max", REASSEMBLY_BYTES_MIN..=u64::from(u32::MAX))
            .unwrap_or(d.reassembly_bytes_max),
        reassembly_timeout: fields.duration(r, "reassembly_timeout").unwrap_or(d.reassembly_timeout),
        unreachables_per_second_max: fields
            .number(r, "unreachables_per_second_max", count)
            .unwrap_or(d.unreachables_per_second_max),
    }
}

fn port(r: &mut Reader, node: &Node) -> Option<Port> {
    let fields = r.map(node, "dpdk_port")?;
    let device = fields.required(r, "device");
    let place = addressing(r, &fields);
    let vlans = vlans(r, &fields);
    let mtu = fields.number(r, "mtu", 576..=9216).unwrap_or(1500);
    let untagged = place.iter().flat_map(|place| &place.addresses);
    let mut all = untagged.chain(vlans.iter().flat_map(|vlan| &vlan.addresses));
    let has_v6 = all.any(|address| address.ip.is_ipv6());
    if let Some(node) = fields.get("mtu").filter(|_| mtu < IPV6_MTU_MIN && has_v6) {
        let message = format!("{mtu} is less than every link of IPv6 takes (RFC 8200, 5)");
        r.at("mtu", |r| r.error(node.place, message, "write 1280 or more, or leave the IPv6 addresses out"));
    }
    let exception = fields.with(r, "exception", exception);
    let offloads = fields.with(r, "offloads", offloads).unwrap_or_default();
    let Addressing { addresses, routes } = place?;
    Some(Port { device: device?, addresses, routes, mtu, exception, offloads, vlans })
}

/// VLANs, each once.
fn vlans(r: &mut Reader, fields: &Fields<'_>) -> Vec<Vlan> {
    let mut ids = Vec::new();
    fields.list(r, "vlans", |r, node| {
        let fields = r.map(node, "dpdk_vlan")?;
        if fields.get("id").is_none() {
            fields.missing(r, "id");
        }
        let id = fields.number(r, "id", 1..=VLAN_MAX);
        if let Some(node) = fields.get("id").filter(|_| id.is_some_and(|id| ids.contains(&id))) {
            r.at("id", |r| r.error(node.place, "there is a VLAN of this number already", ""));
        }
        ids.extend(id);
        let Addressing { addresses, routes } = addressing(r, &fields)?;
        Some(Vlan { id: id?, addresses, routes })
    })
}

/// What a station of a network is.
struct Addressing {
    addresses: Vec<Network>,
    routes: Vec<Route>,
}

/// Addresses, gateways and routes. None: the first address is missing or none.
fn addressing(r: &mut Reader, fields: &Fields<'_>) -> Option<Addressing> {
    let first = fields.required(r, "address").and_then(|_| fields.with(r, "address", address));
    let mut addresses: Vec<Network> = first.into_iter().collect();
    addresses.extend(fields.list(r, "addresses", address));
    let gateways = [("gateway", true), ("gateway6", false)].map(|(key, is_v4)| {
        fields.with(r, key, |r, node| {
            gateway(r, node, is_v4, &addresses).map(|via| Route { to: Network::all_of(via), via })
        })
    });
    let mut routes = fields.list(r, "routes", |r, node| route(r, node, &addresses));
    routes.extend(gateways.into_iter().flatten());
    first.map(|_| Addressing { addresses, routes })
}

fn offloads(r: &mut Reader, node: &Node) -> Option<Offloads> {
    let fields = r.map(node, "dpdk_offloads")?;
    let d = Offloads::default();
    let mut read = |key, default| fields.boolean(r, key).unwrap_or(default);
    Some(Offloads {
        rx_checksum: read("rx_checksum", d.rx_checksum),
        tx_checksum: read("tx_checksum", d.tx_checksum),
        scatter: read("scatter", d.scatter),
        rss: read("rss", d.rss),
        vlan_strip: read("vlan_strip", d.vlan_strip),
        vlan_insert: read("vlan_insert", d.vlan_insert),
        tso: read("tso", d.tso),
    })
}

fn exception(r: &mut Reader, node: &Node) -> Option<Exception> {
    let fields = r.map(node, "dpdk_exception")?;
    let interface = fields.required(r, "interface");
    let name = fields.with(r, "interface", |r, node| {
        let fits = interface.as_deref().is_some_and(is_interface_name);
        if !fits {
            r.error(node.place, "no interface can have this name", "write 1 to 15 letters, digits, `-`, `_`, `.`: fg0");
        }
        interface.clone().filter(|_| fits)
    });
    let protocols = fields.list(r, "protocols", |r, node| {
        let text = r.text(node)?;
        let found = Foreign::ALL.into_iter().find(|(name, _)| *name == text);
        if found.is_none() {
            r.error(node.place, format!("`{text}` is not told apart"), "one of arp, icmp, tcp, udp, ip, ethernet");
        }
        found.map(|(_, kind)| kind)
    });
    let follow = fields.list(r, "follow", |r, node| {
        let text = r.text(node)?;
        let found = Followed::ALL.into_iter().find(|(name, _)| *name == text);
        if found.is_none() {
            r.error(node.place, format!("`{text}` can't be followed"), "one of addresses, routes, neighbours");
        }
        found.map(|(_, kind)| kind)
    });
    let all = || Foreign::ALL.map(|(_, kind)| kind).to_vec();
    Some(Exception {
        interface: name?,
        protocols: if fields.get("protocols").is_some() { protocols } else { all() },
        tcp_ports: fields.with(r, "tcp_ports", port_ranges).unwrap_or_default(),
        udp_ports: fields.with(r, "udp_ports", port_ranges).unwrap_or_default(),
        follow,
    })
}

/// What Linux takes for the name of an interface, without what shells and sysctl trip over.
fn is_interface_name(name: &str) -> bool {
    let fits = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
    (1..=INTERFACE_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(fits) && !name.bytes().all(|c| c == b'.')
}

/// An address of ours and the length of its network's prefix.
fn address(r: &mut Reader, node: &Node) -> Option<Network> {
    let text = r.text(node)?;
    let is_station = |network: &Network| network.prefix_len > 0 && is_station(network.ip);
    let network = text.parse().ok().filter(is_station);
    if network.is_none() {
        let remedy = "write it like 10.1.2.3/24 or 2001:db8::3/64";
        r.error(node.place, "an IP address with its network is expected", remedy);
    }
    network
}

/// `{to: 10.0.0.0/8, via: 10.1.2.254}`.
fn route(r: &mut Reader, node: &Node, addresses: &[Network]) -> Option<Route> {
    let fields = r.map(node, "dpdk_route")?;
    let (to, via) = (fields.required(r, "to"), fields.required(r, "via"));
    let to = fields.with(r, "to", |r, node| {
        let to = to.as_deref()?.parse::<Network>().ok();
        if to.is_none() {
            r.error(node.place, "a network is expected", "write it like 10.0.0.0/8, or ::/0 for every other");
        }
        to
    })?;
    via?;
    let via = fields.with(r, "via", |r, node| gateway(r, node, to.ip.is_ipv4(), addresses))?;
    Some(Route { to, via })
}

/// A router of the link.
fn gateway(r: &mut Reader, node: &Node, is_v4: bool, addresses: &[Network]) -> Option<IpAddr> {
    let text = r.text(node)?;
    let via = text.parse::<IpAddr>().ok().filter(|via| via.is_ipv4() == is_v4 && is_station(*via));
    let Some(via) = via else {
        r.error(node.place, format!("`{text}` is no IPv{} address", if is_v4 { 4 } else { 6 }), "");
        return None;
    };
    let mut of_family = addresses.iter().filter(|network| network.ip.is_ipv4() == is_v4).peekable();
    let is_of_link = matches!(via, IpAddr::V6(ip) if ip.is_unicast_link_local()) && of_family.peek().is_some();
    // Without an address there is an error about that already.
    if !is_of_link && !addresses.is_empty() && !of_family.clone().any(|network| network.contains(via)) {
        let networks = of_family.map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let networks = if networks.is_empty() { "any network of the port".to_owned() } else { networks };
        r.error(node.place, format!("the gateway {via} is not in {networks}: it can't be reached"), "");
    }
    Some(via)
}

/// Whether an address can be one station's.
fn is_station(ip: IpAddr) -> bool {
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback() && !is_broadcast
}

fn idle(r: &mut Reader, node: &Node) -> Option<Idle> {
    let fields = r.map(node, "dpdk_idle")?;
    let d = Idle::default();
    let mut time = |key, default| fields.number(r, key, 1..=1_000_000).map_or(default, Duration::from_micros);
    let sleep = time("sleep_us", d.sleep);
    // Who sets the one to more than the other's default means both.
    let sleep_max = time("sleep_us_max", d.sleep_max.max(sleep));
    if let Some(node) = fields.get("sleep_us_max").filter(|_| sleep_max < sleep) {
        let message = format!("{} is less than `sleep_us`, {}", sleep_max.as_micros(), sleep.as_micros());
        r.at("sleep_us_max", |r| r.error(node.place, message, "write no less"));
    }
    Some(Idle {
        mode: fields
            .choice(r, "mode", &[("adaptive", IdleMode::Adaptive), ("busy", IdleMode::Busy)])
            .unwrap_or_default(),
        busy_polls: fields.number(r, "busy_polls", 0..=u64::from(u32::MAX)).unwrap_or(d.busy_polls),
        pause_polls: fields.number(r, "pause_polls", 0..=u64::from(u32::MAX)).unwrap_or(d.pause_polls),
        sleep,
        sleep_max,
        wait: fields.boolean(r, "wait").unwrap_or(d.wait),
    })
}

/// 0 and 4095 are no VLANs (IEEE 802.1Q, 9.6).
const VLAN_MAX: u64 = 4094;

/// `IFNAMSIZ`, without the zero at its end.
const INTERFACE_NAME_BYTES_MAX: usize = 15;

/// What every link of IPv6 takes (RFC 8200, 5), in bytes.
const IPV6_MTU_MIN: u16 = 1280;

/// The smallest ring of a flow, in bytes.
const RING_MIN: u64 = 4096;

/// The largest ring of a flow, in bytes.
const RING_MAX: u64 = 16 << 20;

/// A segment's bytes: what everybody takes (RFC 9293, 3.7.1), and what the longest packet of a port has.
const SEGMENT_BYTES_MIN: u64 = 536;
const SEGMENT_BYTES_MAX: u64 = 9176;

/// Datagrams that wait hold frames, of which a queue pair has 8192 for all its uses.
const FRAMES_QUEUED_MAX: u64 = 4096;

/// One datagram of 64 KiB, and what it takes besides.
const REASSEMBLY_BYTES_MIN: u64 = 128 * 1024;

/// RFC 9293, 3.8.6.3.
const ACK_DELAY_MAX: Duration = Duration::from_millis(500);
