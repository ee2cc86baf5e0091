//! The plane's ports and lcores as the admin API and `/metrics` show them.
//!
//! **Invariant:** reads counters that others write; never touches a port's queues.

use std::sync::Arc;

use ferrogate_core::config::dataplane::Vlan;
use ferrogate_core::control::admin::{Inquiries, Number, PlaneReport};
use serde_json::{Map, json};

use crate::counters::{DropReason, LcoreCounters};
use crate::device::{PortInfo, PortStats};
use crate::run::{PortState, Status};

impl Status {
    /// What the admin API and `/metrics` show of the plane.
    #[must_use]
    pub fn report(&self) -> PlaneReport {
        let mut numbers = Vec::new();
        let mut ports = Vec::new();
        for port in &self.ports {
            ports.push(json!({
                "device": port.device, "driver": port.info.driver, "mac": port.info.mac.to_string(),
                "address": port.addresses.first().map(|network| network.ip.to_string()),
                "addresses": port.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), "mtu": port.info.mtu, "queues_max": port.info.queues_max,
                "queues": port.queues, "rss_entries": port.info.rss_entries,
                "vlans": port.vlans.iter().map(vlan).collect::<Vec<_>>(), "offloads": offloads(&port.info), "link_up": port.link_up(),
            }));
            numbers.extend(of_port(port));
        }
        numbers.push(Number {
            name: "ferrogate_dpdk_tsc_hertz",
            help: "Cycles of the time stamp counter in a second",
            grows: false,
            labels: Vec::new(),
            value: self.hertz,
        });
        for (lcore, counters) in self.lcores.iter().enumerate() {
            let labels = vec![("lcore", lcore.to_string())];
            numbers.extend(LCORE_NUMBERS.iter().map(|&(name, help, grows, read)| Number {
                name,
                help,
                grows,
                labels: labels.clone(),
                value: read(counters),
            }));
            numbers.extend(self.of_lcore(lcore, counters));
            for reason in DropReason::ALL {
                numbers.push(Number {
                    name: "ferrogate_dpdk_dropped_frames",
                    help: "Frames that were dropped, by reason",
                    grows: true,
                    labels: vec![("lcore", lcore.to_string()), ("reason", reason.name().to_owned())],
                    value: counters.drops(reason),
                });
            }
        }
        let inquiries = Some(Arc::clone(&self.desk) as Arc<dyn Inquiries>);
        PlaneReport { name: "dpdk", fallback_reason: None, ports: ports.into(), numbers, inquiries }
    }

    /// What an lcore's counters do not say, or not in one number.
    fn of_lcore(&self, lcore: usize, counters: &LcoreCounters) -> Vec<Number> {
        let label = || ("lcore", lcore.to_string());
        let number = |name, help, grows, value| Number { name, help, grows, labels: vec![label()], value };
        let cpu = self.cpus.get(lcore).copied().flatten();
        let mut numbers = vec![number(
            "ferrogate_dpdk_lcore_requests",
            "Requests that the lcore's worker received",
            true,
            self.requests.get().map_or(0, |requests| requests.of(lcore)),
        )];
        numbers.extend(
            cpu.map(|cpu| number("ferrogate_dpdk_lcore_cpu", "The CPU that the lcore is pinned to", false, cpu as u64)),
        );
        for (bound, turns) in counters.turn_lengths.all() {
            let bound = bound.map_or_else(|| "inf".to_owned(), |micros: u64| micros.to_string());
            numbers.push(Number {
                name: "ferrogate_dpdk_lcore_busy_turns",
                help: "Turns that did something, by their length: shorter than this, and no shorter than half of it",
                grows: true,
                labels: vec![label(), ("below_microseconds", bound)],
                value: turns,
            });
        }
        numbers
    }
}

/// What a port has counted, and how it is.
fn of_port(port: &PortState) -> Vec<Number> {
    let number =
        |name, help, grows, value| Number { name, help, grows, labels: vec![("port", port.device.clone())], value };
    let stats = port.stats().unwrap_or_default();
    let mut numbers: Vec<_> =
        PORT_NUMBERS.iter().map(|&(name, help, read)| number(name, help, true, read(&stats))).collect();
    let entries = port.info.rss_entries.map_or(0, u64::from);
    numbers.extend([
        number(
            "ferrogate_dpdk_port_queues",
            "Queue pairs of the port that are used; lcores beyond have none",
            false,
            port.queues as u64,
        ),
        number(
            "ferrogate_dpdk_port_rss_entries",
            "Entries of the table by which the port spreads flows; 0: it has none",
            false,
            entries,
        ),
        number("ferrogate_dpdk_port_link_up", "Whether the port has a link", false, port.link_up().into()),
    ]);
    numbers
}

fn vlan(vlan: &Vlan) -> serde_json::Value {
    json!({ "id": vlan.id, "addresses": vlan.addresses.iter().map(ToString::to_string).collect::<Vec<_>>() })
}

/// What the port can do, and what of it is used: software does the rest.
fn offloads(info: &PortInfo) -> serde_json::Value {
    let both = info.can.named().into_iter().zip(info.does.named());
    both.map(|((name, can), (_, does))| (name.to_owned(), json!({ "port": can, "used": does })))
        .collect::<Map<_, _>>()
        .into()
}

type PortNumber = (&'static str, &'static str, fn(&PortStats) -> u64);
type LcoreNumber = (&'static str, &'static str, bool, fn(&LcoreCounters) -> u64);

const PORT_NUMBERS: &[PortNumber] = &[
    ("ferrogate_dpdk_port_rx_packets", "Packets that the port received", |s| s.rx_packets),
    ("ferrogate_dpdk_port_tx_packets", "Packets that the port sent", |s| s.tx_packets),
    ("ferrogate_dpdk_port_rx_bytes", "Bytes that the port received", |s| s.rx_bytes),
    ("ferrogate_dpdk_port_tx_bytes", "Bytes that the port sent", |s| s.tx_bytes),
    ("ferrogate_dpdk_port_rx_missed", "Packets that the port dropped because its queue was full", |s| s.rx_missed),
    ("ferrogate_dpdk_port_rx_errors", "Packets that the port received broken", |s| s.rx_errors),
    ("ferrogate_dpdk_port_tx_errors", "Packets that the port could not send", |s| s.tx_errors),
    ("ferrogate_dpdk_port_rx_no_mbuf", "Packets dropped because the mempool was empty", |s| s.rx_no_mbuf),
    (
        "ferrogate_dpdk_port_tx_joined_segments",
        "Segments that left as a part of a long one, which the port cut apart (TSO)",
        |s| s.tx_joined,
    ),
];

const LCORE_NUMBERS: &[LcoreNumber] = &[
    ("ferrogate_dpdk_lcore_rx_packets", "Packets that the lcore took from its queues", true, |c| c.rx_packets.get()),
    ("ferrogate_dpdk_lcore_tx_packets", "Packets that the lcore gave to its queues", true, |c| c.tx_packets.get()),
    (
        "ferrogate_dpdk_lcore_rx_bytes",
        "Bytes of the packets that the lcore took from its queues, with Ethernet headers",
        true,
        |c| c.rx_bytes.get(),
    ),
    ("ferrogate_dpdk_lcore_tx_bytes", "Bytes of the packets that the lcore gave to its queues", true, |c| {
        c.tx_bytes.get()
    }),
    ("ferrogate_dpdk_lcore_rx_bursts", "Receive bursts that brought at least one packet", true, |c| c.rx_bursts.get()),
    ("ferrogate_dpdk_lcore_turns", "Turns of the poll loop", true, |c| c.turns.get()),
    ("ferrogate_dpdk_lcore_empty_turns", "Turns that found nothing to do", true, |c| c.empty_turns.get()),
    ("ferrogate_dpdk_lcore_busy_nanoseconds", "Time spent in turns that did something", true, |c| c.busy_ns.get()),
    ("ferrogate_dpdk_lcore_idle_nanoseconds", "Time spent in turns that found nothing to do", true, |c| {
        c.idle_ns.get()
    }),
    ("ferrogate_dpdk_lcore_relayed_bytes", "Body bytes copied from ring to ring", true, |c| c.relayed_bytes.get()),
    ("ferrogate_dpdk_lcore_joined_bytes", "Bytes copied out of a ring to be shown in one piece", true, |c| {
        c.joined_bytes.get()
    }),
    ("ferrogate_dpdk_lcore_flows", "TCP flows open now", false, |c| c.flows.get()),
    ("ferrogate_dpdk_lcore_flows_accepted", "Flows that clients opened", true, |c| c.flows_accepted.get()),
    ("ferrogate_dpdk_lcore_flows_connected", "Flows opened to hosts", true, |c| c.flows_connected.get()),
    (
        "ferrogate_dpdk_lcore_segments_repaired",
        "Segments sent again before a timeout: at a partial acknowledgement, or after a silence",
        true,
        |c| c.segments_repaired.get(),
    ),
    ("ferrogate_dpdk_lcore_ring_bytes", "Memory of the rings that flows are using; a ring counts whole", false, |c| {
        c.ring_bytes.get()
    }),
    ("ferrogate_dpdk_lcore_rings_given_back", "Times that an idle flow gave the memory of its rings back", true, |c| {
        c.rings_given_back.get()
    }),
    ("ferrogate_dpdk_lcore_time_waits", "TCP connections in TIME-WAIT now", false, |c| c.time_waits.get()),
    ("ferrogate_dpdk_lcore_flows_half_open", "TCP flows whose handshake has not ended", false, |c| {
        c.flows_opening.get()
    }),
    ("ferrogate_dpdk_lcore_syn_cookies_sent", "SYNs that were answered with a cookie", true, |c| {
        c.syn_cookies_sent.get()
    }),
    ("ferrogate_dpdk_lcore_syn_cookies_accepted", "Cookies that came back and made a flow", true, |c| {
        c.syn_cookies_accepted.get()
    }),
    ("ferrogate_dpdk_lcore_datagrams_received", "Datagrams that sockets got", true, |c| c.datagrams_received.get()),
    ("ferrogate_dpdk_lcore_datagrams_sent", "Datagrams that sockets sent", true, |c| c.datagrams_sent.get()),
    ("ferrogate_dpdk_lcore_datagrams_queued", "Datagrams that wait to be received", false, |c| {
        c.datagrams_queued.get()
    }),
    (
        "ferrogate_dpdk_lcore_datagrams_reassembled",
        "Datagrams that came in fragments and were put together",
        true,
        |c| c.datagrams_reassembled.get(),
    ),
    ("ferrogate_dpdk_lcore_datagrams_fragmented", "Datagrams that left in fragments", true, |c| {
        c.datagrams_fragmented.get()
    }),
    (
        "ferrogate_dpdk_lcore_foreign_packets",
        "TCP segments and datagrams that came to the lcore and belong to another one",
        true,
        |c| c.packets_foreign.get(),
    ),
    (
        "ferrogate_dpdk_lcore_handed_over_frames",
        "Frames that the lcore gave to the one that they belong to: foreign packets, fragments and ICMP errors",
        true,
        |c| c.frames_handed_over.get(),
    ),
    ("ferrogate_dpdk_lcore_exceptions_sent", "Frames that went to Linux by the exception path", true, |c| {
        c.exceptions_sent.get()
    }),
    ("ferrogate_dpdk_lcore_exceptions_received", "Frames of Linux that left by the port", true, |c| {
        c.exceptions_received.get()
    }),
    ("ferrogate_dpdk_lcore_flows_reset", "Flows that ended by a reset", true, |c| c.flows_reset.get()),
    ("ferrogate_dpdk_lcore_flows_timed_out", "Flows that ended because the peer fell silent", true, |c| {
        c.flows_timed_out.get()
    }),
    ("ferrogate_dpdk_lcore_keepalives_sent", "Questions to silent peers whether they are still there", true, |c| {
        c.keepalives_sent.get()
    }),
];
