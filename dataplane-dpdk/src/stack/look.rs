//! A look at the flow table, slot by slot, for an operator.
//!
//! **Invariant:** a call looks at a bounded number of slots, and changes nothing.

use std::net::SocketAddr;

use ferrogate_core::config::dataplane::Network;
use smoltcp::socket::tcp::State;
use smoltcp::time::Duration;

use super::Stack;

/// Which flows are wanted. Everything that is said has to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FlowFilter {
    /// The peer or we are within this network.
    pub(crate) address: Option<Network>,
    /// One of the two ports.
    pub(crate) port: Option<u16>,
    /// Our port.
    pub(crate) local_port: Option<u16>,
    /// The state, by its name.
    pub(crate) state: Option<&'static str>,
    /// Open for so long at least.
    pub(crate) age: Duration,
    /// Nothing heard of the peer for so long at least.
    pub(crate) idle: Duration,
    /// So many bytes at least, both ways together.
    pub(crate) bytes: u64,
    /// So many rows at most.
    pub(crate) rows_max: usize,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// As many as were wanted at most.
    pub(crate) rows: Vec<FlowRow>,
    /// Flows that the filter takes.
    pub(crate) matched: u64,
    /// Flows that were looked at.
    pub(crate) open: u64,
}

/// A flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FlowRow {
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) state: &'static str,
    /// Whether we have opened it: a connection to a host.
    pub(crate) is_ours: bool,
    pub(crate) age: Duration,
    pub(crate) idle: Duration,
    /// Bytes of its stream that have come in order.
    pub(crate) rx_bytes: u64,
    /// Bytes that were sent, each once.
    pub(crate) tx_bytes: u64,
    /// Bytes that nobody has read yet.
    pub(crate) rx_queued: usize,
    /// Bytes that were not acknowledged yet, or not sent.
    pub(crate) tx_queued: usize,
}

impl Stack {
    /// Looks at the next slots from `from` on. Answers where to go on; None: that was all.
    pub(crate) fn look(&mut self, from: usize, filter: &FlowFilter, found: &mut Found) -> Option<usize> {
        let end = self.flows.capacity().min(from + SLOTS_PER_LOOK);
        for slot in from..end {
            let Some(flow) = self.flows.get_mut(slot) else { continue };
            found.open += 1;
            let row = flow.row(self.now);
            if filter.takes(&row) {
                found.matched += 1;
                if found.rows.len() < filter.rows_max {
                    found.rows.push(row);
                }
            }
        }
        (end < self.flows.capacity()).then_some(end)
    }
}

impl FlowFilter {
    fn takes(&self, row: &FlowRow) -> bool {
        let within = |ip| self.address.is_none_or(|network| network.contains(ip));
        (within(row.peer.ip()) || within(row.local.ip()))
            && self.port.is_none_or(|port| port == row.peer.port() || port == row.local.port())
            && self.local_port.is_none_or(|port| port == row.local.port())
            && self.state.is_none_or(|state| state == row.state)
            && row.age >= self.age
            && row.idle >= self.idle
            && row.rx_bytes + row.tx_bytes >= self.bytes
    }
}

/// The name of a state (RFC 9293, 3.3.2), if it is one.
pub(crate) fn state_named(name: &str) -> Option<&'static str> {
    STATES.iter().map(|state| name_of(*state)).find(|known| known.eq_ignore_ascii_case(name))
}

/// What a state is called.
pub(super) fn name_of(state: State) -> &'static str {
    // tidy: table
    match state {
        State::Closed => "closed",
        State::Listen => "listen",
        State::SynSent => "syn-sent",
        State::SynReceived => "syn-received",
        State::Established => "established",
        State::FinWait1 => "fin-wait-1",
        State::FinWait2 => "fin-wait-2",
        State::CloseWait => "close-wait",
        State::Closing => "closing",
        State::LastAck => "last-ack",
        State::TimeWait => "time-wait",
    }
}

const STATES: [State; 11] = [
    State::Closed,
    State::Listen,
    State::SynSent,
    State::SynReceived,
    State::Established,
    State::FinWait1,
    State::FinWait2,
    State::CloseWait,
    State::Closing,
    State::LastAck,
    State::TimeWait,
];

/// Slots of one call: some microseconds.
pub(super) const SLOTS_PER_LOOK: usize = 256;
