//! The keys of `dataplane`.
//!
//! **Invariant:** as in [`working`](super::working): the default written here is the default in force.

use super::Key;
use super::Kind::{Bool, Choice, Duration, Map, Maps, Number, Size, Text, Texts};
use super::working::key;

pub(super) const DATAPLANE: &[Key] = &[
    key(
        "type",
        Choice(&["kernel", "dpdk"]),
        "kernel",
        "`kernel`: the kernel's sockets. `dpdk`: a poll-mode port under a TCP of our own.",
    ),
    key(
        "workers",
        Number,
        "auto",
        "Worker threads, or `auto`: one a core; on DPDK `auto` is one, and 127 can share a port at most.",
    ),
    key(
        "fallback",
        Choice(&["none", "kernel"]),
        "none",
        "When the DPDK plane can't start: exit with code 3, or serve over the kernel plane and say why.",
    ),
    key("dpdk", Map("dpdk"), "", "The ports and their TCP."),
];

pub(super) const DPDK: &[Key] = &[
    key(
        "ports",
        Maps("dpdk_port"),
        "",
        "Ports, each with a queue pair for every worker, or shared by them. At least one with `type: dpdk`.",
    ),
    key("hugepages", Bool, "true", "Use hugepages; false is EAL's `--no-huge`."),
    key("memory_mib", Number, "256", "Memory for EAL, in MiB."),
    key("eal_args", Texts, "[]", "Further arguments for EAL."),
    key("rx_ring_bytes", Size, "64KiB", "Receive ring of one flow; a power of two."),
    key("tx_ring_bytes", Size, "64KiB", "Send ring of one flow; a power of two."),
    key(
        "congestion_control",
        Choice(&["cubic", "none"]),
        "cubic",
        "`cubic`: a flow sends as much as its path takes (RFC 9438). `none`: as much as rings and windows allow, for a network of one's own that never drops.",
    ),
    key("flows_max", Number, "200000", "Flows of one worker, at most."),
    key(
        "syn_backlog_max",
        Number,
        "4096",
        "Flows that have not finished the handshake, at most. A SYN beyond is answered with a cookie (`syn_cookies`).",
    ),
    key(
        "half_open_per_source_max",
        Number,
        "1024",
        "The same for the flows of one address, so that none takes the whole backlog. An address may be a NAT's, with many clients behind it.",
    ),
    key(
        "syn_cookies",
        Bool,
        "true",
        "Answer a SYN beyond these limits without keeping anything of it (RFC 4987); false: drop it.",
    ),
    key(
        "resets_per_second_max",
        Number,
        "10000",
        "RSTs that a worker answers segments of unknown connections with; further segments are dropped.",
    ),
    key(
        "echoes_per_second_max",
        Number,
        "10000",
        "ICMP echo requests that a worker answers; further ones are dropped.",
    ),
    key(
        "challenges_per_second_max",
        Number,
        "100",
        "ACKs that a worker answers a SYN in the middle of a connection with (RFC 5961).",
    ),
    key(
        "segment_bytes_max",
        Number,
        "9176",
        "Bytes of a TCP segment without its headers, at most, in either direction: told to the peer in the handshake, and kept to. For paths whose \
         routers drop longer packets without a word. The port's `mtu` less 40 bounds it besides.",
    ),
    key(
        "ack_delay",
        Duration,
        "2ms",
        "An acknowledgement waits so long for data to travel with, or for a second segment; 500ms at most. `0s`: it does not wait.",
    ),
    key(
        "nagle",
        Bool,
        "false",
        "A short segment waits until everything before it is acknowledged: fewer packets, later answers.",
    ),
    key(
        "keepalive_idle",
        Duration,
        "0s",
        "A peer that has been silent for so long is asked whether it is still there; `0s`: never.",
    ),
    key("keepalive_interval", Duration, "15s", "How long its answer is waited for, before it is asked again."),
    key(
        "keepalive_probes_max",
        Number,
        "4",
        "Questions without an answer, at most: then the connection ends. 1 to 255.",
    ),
    key(
        "udp_queue_datagrams_max",
        Number,
        "1024",
        "Datagrams that wait for one socket of a worker to be received, at most; further ones are dropped.",
    ),
    key(
        "udp_queued_datagrams_max",
        Number,
        "2048",
        "The same for all sockets of a worker together: what waits holds frames of the port. 4096 at most.",
    ),
    key(
        "reassembly_bytes_max",
        Size,
        "4MiB",
        "Memory of a worker for datagrams of which not all fragments have come, at most: the oldest give way. 128KiB at least.",
    ),
    key("reassembly_timeout", Duration, "5s", "How long the fragments of a datagram are waited for."),
    key(
        "unreachables_per_second_max",
        Number,
        "1000",
        "Datagrams to a port where nobody receives that a worker answers by ICMP; further ones are dropped without a word.",
    ),
    key(
        "exception_frames_per_second_max",
        Number,
        "20000",
        "Frames that go to Linux by the `exception` of a port, for each worker, and as many that come from there; further ones are dropped.",
    ),
    key("ring_idle_timeout", Duration, "5s", "A flow whose rings have been empty for so long gives their memory back."),
    key("idle", Map("dpdk_idle"), "", "How a polling worker rests."),
    key(
        "user",
        Text,
        "",
        "The user that the process becomes once EAL and the ports are open, for one that is started as root. Of the capabilities, \
         CAP_NET_BIND_SERVICE stays, for low ports on loopback, and CAP_NET_ADMIN where a port is net_af_xdp, to take its program off at the end. Without, it stays who it is.",
    ),
    key(
        "statistics_file",
        Text,
        "",
        "A file that the plane's numbers are kept in, ten times a second, for `ferrogate lcores`: it needs no process that answers, and outlives it. \
         Best on a tmpfs. Without, they are in the admin API only.",
    ),
    key(
        "recorder_file",
        Text,
        "",
        "A file that the last frames of each worker are kept in, for `ferrogate capture --from`: their first 104 bytes, whatever becomes of the process. \
         That of the process before is kept beside it, as `FILE.last`. Without, nothing is.",
    ),
    key("recorder_frames", Number, "65536", "How many frames of each worker, at 128 bytes of memory each."),
];

pub(super) const DPDK_PORT: &[Key] = &[
    key(
        "device",
        Text,
        "",
        "A PCI address (`0000:3b:00.0`) or a virtual device with its arguments (`net_af_xdp0,iface=eth1`). Required.",
    ),
    key("address", Text, "", "Our address and network on it: `10.1.2.3/24`, `2001:db8::3/64`. Required."),
    key("addresses", Texts, "[]", "Further addresses of ours on it, of either family, each with its network."),
    key("gateway", Text, "", "Where packets for other IPv4 networks go: an address within one of ours."),
    key("gateway6", Text, "", "The same for IPv6; it may be an address of the link alone, as `fe80::1`."),
    key("routes", Maps("dpdk_route"), "[]", "Networks that are reached by other routers; the longest prefix decides."),
    key("mtu", Number, "1500", "Bytes of an IP packet, at most; 576 to 9216."),
    key(
        "exception",
        Map("dpdk_exception"),
        "",
        "The exception path: a TAP interface, the port's twin, by which Linux sends and receives what the gateway does not own. Without it, that is dropped.",
    ),
    key(
        "vlans",
        Maps("dpdk_vlan"),
        "[]",
        "VLANs that the port is in (IEEE 802.1Q), beside what is untagged, each with addresses and routes of its own.",
    ),
    key("offloads", Map("dpdk_offloads"), "", "What is left to the port where it can do it. Software does the rest."),
];

pub(super) const DPDK_OFFLOADS: &[Key] = &[
    key("rx_checksum", Bool, "true", "The port looks at the checksums of what it receives."),
    key("tx_checksum", Bool, "true", "The port fills in the checksums of TCP over IPv4."),
    key(
        "scatter",
        Bool,
        "true",
        "The port receives frames that are longer than one of its buffers, in several; they are joined.",
    ),
    key("rss", Bool, "true", "The port spreads flows over its queues, one of each worker."),
    key("vlan_strip", Bool, "true", "The port takes the tags of `vlans` off."),
    key("vlan_insert", Bool, "true", "The port puts the tags of `vlans` on."),
    key(
        "tso",
        Bool,
        "true",
        "The port cuts long TCP segments over IPv4 into what fits the connection, and fills in their checksums (not without `tx_checksum`).",
    ),
];

pub(super) const DPDK_VLAN: &[Key] = &[
    key("id", Number, "", "Its number, 1 to 4094. Required."),
    key("address", Text, "", "Our address and network in it: `10.1.2.3/24`, `2001:db8::3/64`. Required."),
    key("addresses", Texts, "[]", "Further addresses of ours in it, of either family, each with its network."),
    key("gateway", Text, "", "Where packets for other IPv4 networks go: an address within one of ours in this VLAN."),
    key("gateway6", Text, "", "The same for IPv6; it may be an address of the link alone, as `fe80::1`."),
    key("routes", Maps("dpdk_route"), "[]", "Networks that are reached by other routers; the longest prefix decides."),
];

pub(super) const DPDK_EXCEPTION: &[Key] = &[
    key(
        "interface",
        Text,
        "",
        "The name of the TAP interface. It is made at the start, with the port's Ethernet address, MTU and addresses, and is gone with the process. Required.",
    ),
    key(
        "protocols",
        Texts,
        "[arp, icmp, tcp, udp, ip, ethernet]",
        "What Linux gets: `arp` and `icmp` (but for questions about our addresses, and echo requests to them: those are answered here), `tcp` and `udp` \
         that no flow, listener or socket of ours takes, `ip` (every other protocol: OSPF, VRRP), `ethernet` (LLDP, frames of VLANs that are not in `vlans`). What is left out is dropped.",
    ),
    key(
        "tcp_ports",
        Text,
        "",
        "Of TCP, segments to these ports only: `22,179,8000-8100`. Without, to all. Answers to connections that the host opens come to its `ip_local_port_range`.",
    ),
    key("udp_ports", Text, "", "The same of UDP."),
    key(
        "follow",
        Texts,
        "[]",
        "What Linux says of the interface that holds for the gateway too, besides what the file says, and at once when it changes: `addresses` (keepalived), `routes` by \
         a router (BGP, OSPF, `ip route`; those of the main table), `neighbours` that are set for good (`ip neigh`). Those that are found are both sides' in any case.",
    ),
];

pub(super) const DPDK_ROUTE: &[Key] = &[
    key("to", Text, "", "The network: `10.0.0.0/8`. Required."),
    key("via", Text, "", "The router: an address within a network of the port. Required."),
];

pub(super) const DPDK_IDLE: &[Key] = &[
    key(
        "mode",
        Choice(&["adaptive", "busy"]),
        "adaptive",
        "`adaptive`: busy, then pausing, then asleep. `busy`: a whole core, the lowest latency.",
    ),
    key("busy_polls", Number, "2000", "Empty polls before the worker pauses between them."),
    key("pause_polls", Number, "2000", "Further empty polls before it sleeps."),
    key("sleep_us", Number, "50", "How long it sleeps at first, in microseconds."),
    key(
        "sleep_us_max",
        Number,
        "500",
        "How long it sleeps at most, in microseconds: a 32nd of the time that it has slept already, between these two. What comes meanwhile waits \
         in the port's queue.",
    ),
    key(
        "wait",
        Bool,
        "true",
        "Once it would sleep for the longest time, it waits for the next frame, timer or connection instead, where the port can wake it: \
         net_af_packet, net_af_xdp and net_tap.",
    ),
];
