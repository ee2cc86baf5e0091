//! The counters of one lcore: written by its thread, read by any.
//!
//! **Invariant:** one writer. A counter is a relaxed load and store, never a locked instruction, and never blocks the lcore.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that one thread writes and all may read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The value now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Adds `n`. Only the owning lcore calls this.
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Takes `n` off a gauge. Only the owning lcore calls this.
    pub(crate) fn sub(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(n), Relaxed);
    }
}

/// What one lcore did since it started.
#[derive(Debug, Default)]
pub struct LcoreCounters {
    /// Frames taken from the ports.
    pub rx_packets: Counter,
    /// Their bytes, Ethernet header included.
    pub rx_bytes: Counter,
    /// Frames given to the ports.
    pub tx_packets: Counter,
    /// Their bytes.
    pub tx_bytes: Counter,
    /// Receive bursts that brought at least one frame.
    pub rx_bursts: Counter,
    /// Turns of the poller.
    pub turns: Counter,
    /// Turns that neither received nor sent a frame.
    pub empty_turns: Counter,
    /// Time of turns that moved a frame, and of the tasks that ran behind them, in nanoseconds.
    pub busy_ns: Counter,
    /// Time of all other turns, sleep included, in nanoseconds.
    pub idle_ns: Counter,
    /// Busy turns by their length.
    pub turn_lengths: TurnLengths,
    /// Flows that are held now, in any state.
    pub flows: Counter,
    /// Flows that have not finished their handshake now.
    pub flows_opening: Counter,
    /// Flows in TIME-WAIT now: a table entry without buffers.
    pub time_waits: Counter,
    /// Connections that peers opened.
    pub flows_accepted: Counter,
    /// Connections that we opened.
    pub flows_connected: Counter,
    /// Connections that the peer reset.
    pub flows_reset: Counter,
    /// Connections that ended because the peer fell silent.
    pub flows_timed_out: Counter,
    /// Questions to silent peers whether they are still there.
    pub keepalives_sent: Counter,
    /// Times that a segment was had sent again before a timeout: at a partial acknowledgement, or after a silence.
    pub segments_repaired: Counter,
    /// The memory of rings that are in use, in bytes; a ring counts whole.
    pub ring_bytes: Counter,
    /// Times that an idle flow gave the memory of its rings back.
    pub rings_given_back: Counter,
    /// Datagrams that sockets got.
    pub datagrams_received: Counter,
    /// Datagrams that sockets sent.
    pub datagrams_sent: Counter,
    /// Datagrams that wait now to be received.
    pub datagrams_queued: Counter,
    /// Datagrams that came in fragments and were put together.
    pub datagrams_reassembled: Counter,
    /// Datagrams that left in fragments.
    pub datagrams_fragmented: Counter,
    /// TCP segments and datagrams that came to this lcore and belong to another one.
    pub packets_foreign: Counter,
    /// Frames that were given to the lcore that they belong to: those, and fragments and ICMP errors besides.
    pub frames_handed_over: Counter,
    /// Frames that went to Linux by the exception path.
    pub exceptions_sent: Counter,
    /// Frames of Linux that left by the port.
    pub exceptions_received: Counter,
    /// SYNs that were answered with a cookie.
    pub syn_cookies_sent: Counter,
    /// Cookies that came back and made a flow.
    pub syn_cookies_accepted: Counter,
    /// Body bytes copied from one connection's ring straight into another's: the one copy that relaying takes.
    pub relayed_bytes: Counter,
    /// Bytes copied out of a ring first, because what was to be shown in one piece wrapped around it or was longer.
    pub joined_bytes: Counter,
    drops: Drops,
}

/// Of each reason its own.
#[derive(Debug)]
struct Drops([Counter; DropReason::ALL.len()]);

impl Default for Drops {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl LcoreCounters {
    /// Frames that were dropped for `reason`.
    #[must_use]
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops.0[reason as usize].get()
    }

    /// Frames that were dropped, for any reason.
    #[must_use]
    pub fn drops_total(&self) -> u64 {
        self.drops.0.iter().map(Counter::get).sum()
    }

    pub(crate) fn drop_frame(&self, reason: DropReason) {
        self.drop_frames(reason, 1);
    }

    pub(crate) fn drop_frames(&self, reason: DropReason, frames: u64) {
        self.drops.0[reason as usize].add(frames);
    }
}

/// Busy turns by their length: each bound is twice the one before.
#[derive(Debug, Default)]
pub struct TurnLengths([Counter; TurnLengths::COUNT]);

impl TurnLengths {
    /// How many lengths are told apart.
    pub const COUNT: usize = 16;

    /// The turns that were shorter than so many microseconds, and no shorter than the bound before. None: no bound.
    pub fn all(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let last = Self::COUNT - 1;
        self.0.iter().enumerate().map(move |(n, counter)| ((n < last).then_some(1 << n), counter.get()))
    }

    pub(crate) fn note(&self, nanos: u64) {
        let bits = u64::BITS - (nanos / 1000).leading_zeros();
        self.0[(bits as usize).min(Self::COUNT - 1)].add(1);
    }
}

/// Why the stack threw a frame away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// Another station's Ethernet address.
    OtherMac,
    /// Neither IPv4, IPv6 nor ARP.
    EtherType,
    /// A header or a length that can't be.
    Malformed,
    /// Spread over several mbufs, and longer than any packet when it was joined.
    Segmented,
    /// Another host's IP address.
    OtherAddress,
    /// A fragment of an IP packet that is none of a datagram.
    Fragment,
    /// A fragment that overlaps another: an exact copy alone, anything else with its datagram.
    FragmentOverlap,
    /// A fragment of a datagram whose others did not come within `reassembly_timeout`.
    FragmentTimeout,
    /// A fragment that gave way to later ones, beyond `reassembly_bytes_max`.
    FragmentMemory,
    /// Neither TCP, UDP, an ICMP echo request, nor an ICMP message about a packet of ours.
    Protocol,
    /// A wrong IPv4, TCP, UDP or ICMP checksum.
    Checksum,
    /// An ARP packet that is not for us, or whose sender can't be.
    Arp,
    /// The same of IPv6's neighbour discovery.
    Nd,
    /// Another station says that it has an address of ours.
    AddressConflict,
    /// An IPv6 packet with extension headers.
    Extension,
    /// A SYN beyond `syn_backlog_max`, without cookies.
    SynBacklog,
    /// A SYN beyond `half_open_per_source_max`, without cookies.
    SynSource,
    /// A SYN while the listener's queue of accepted connections is full.
    AcceptQueue,
    /// A SYN beyond `flows_max`.
    FlowsMax,
    /// A SYN while the system gave no memory for its rings.
    RingMemory,
    /// Data of no connection while cookies are out: it may be of one whose first segment was lost, and comes again.
    SynCookie,
    /// A segment for a connection that waits in TIME-WAIT.
    TimeWait,
    /// A segment of no connection, beyond `resets_per_second_max`.
    ResetRate,
    /// An echo request beyond `echoes_per_second_max`.
    EchoRate,
    /// A SYN in the middle of a connection, beyond `challenges_per_second_max`.
    ChallengeRate,
    /// A datagram to a port where nobody receives: its sender was told.
    UdpPort,
    /// The same beyond `unreachables_per_second_max`: it was not told.
    UnreachableRate,
    /// A datagram for a socket with `udp_queue_datagrams_max` waiting, or beyond `udp_queued_datagrams_max`.
    UdpQueue,
    /// A datagram of ours for a neighbour that is not known yet, while as many wait for it as may.
    NeighbourQueue,
    /// A packet of ours for a neighbour that did not answer.
    NeighbourSilent,
    /// A frame for Linux, or of it, beyond `exception_frames_per_second_max`.
    ExceptionRate,
    /// A frame for Linux that the TAP interface did not take: it is full, or down.
    ExceptionFull,
    /// An answer for which the port had no free frame or no room.
    TxFull,
    /// A frame of another lcore, whose ring from here is full.
    HandoverFull,
}

impl DropReason {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 34] = [
        Self::OtherMac,
        Self::EtherType,
        Self::Malformed,
        Self::Segmented,
        Self::OtherAddress,
        Self::Fragment,
        Self::FragmentOverlap,
        Self::FragmentTimeout,
        Self::FragmentMemory,
        Self::Protocol,
        Self::Checksum,
        Self::Arp,
        Self::Nd,
        Self::AddressConflict,
        Self::Extension,
        Self::SynBacklog,
        Self::SynSource,
        Self::AcceptQueue,
        Self::FlowsMax,
        Self::RingMemory,
        Self::SynCookie,
        Self::TimeWait,
        Self::ResetRate,
        Self::EchoRate,
        Self::ChallengeRate,
        Self::UdpPort,
        Self::UnreachableRate,
        Self::UdpQueue,
        Self::NeighbourQueue,
        Self::NeighbourSilent,
        Self::ExceptionRate,
        Self::ExceptionFull,
        Self::TxFull,
        Self::HandoverFull,
    ];

    /// The name in metrics: lower case with underscores.
    #[must_use]
    pub fn name(self) -> &'static str {
        // tidy: table
        match self {
            Self::OtherMac => "other_mac",
            Self::EtherType => "ether_type",
            Self::Malformed => "malformed",
            Self::Segmented => "segmented",
            Self::OtherAddress => "other_address",
            Self::Fragment => "fragment",
            Self::FragmentOverlap => "fragment_overlap",
            Self::FragmentTimeout => "fragment_timeout",
            Self::FragmentMemory => "fragment_memory",
            Self::Protocol => "protocol",
            Self::Checksum => "checksum",
            Self::Arp => "arp",
            Self::Nd => "nd",
            Self::AddressConflict => "address_conflict",
            Self::Extension => "extension",
            Self::SynBacklog => "syn_backlog",
            Self::SynSource => "syn_source",
            Self::AcceptQueue => "accept_queue",
            Self::FlowsMax => "flows_max",
            Self::RingMemory => "ring_memory",
            Self::SynCookie => "syn_cookie",
            Self::TimeWait => "time_wait",
            Self::ResetRate => "reset_rate",
            Self::EchoRate => "echo_rate",
            Self::ChallengeRate => "challenge_rate",
            Self::UdpPort => "udp_port",
            Self::UnreachableRate => "unreachable_rate",
            Self::UdpQueue => "udp_queue",
            Self::NeighbourQueue => "neighbour_queue",
            Self::NeighbourSilent => "neighbour_silent",
            Self::ExceptionRate => "exception_rate",
            Self::ExceptionFull => "exception_full",
            Self::TxFull => "tx_full",
            Self::HandoverFull => "handover_full",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_told_apart_by_their_length() {
        let lengths = TurnLengths::default();
        [0, 999, 1000, 1999, 2000, 16_383_999, 16_384_000, u64::MAX].into_iter().for_each(|nanos| lengths.note(nanos));
        let all: Vec<_> = lengths.all().filter(|(_, n)| *n > 0).collect();
        assert_eq!(all, [(Some(1), 2), (Some(2), 2), (Some(4), 1), (Some(16_384), 1), (None, 2)]);
    }

    #[test]
    fn every_reason_has_its_own_counter_and_name() {
        let counters = LcoreCounters::default();
        for (i, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, i);
            counters.drop_frame(reason);
            assert_eq!(counters.drops(reason), 1);
        }
        assert_eq!(counters.drops_total(), DropReason::ALL.len() as u64);
        let mut names: Vec<_> = DropReason::ALL.map(DropReason::name).into();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::ALL.len());
    }
}
