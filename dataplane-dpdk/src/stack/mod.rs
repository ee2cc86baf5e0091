//! The TCP/IP stack of one lcore on one port: smoltcp's state machine behind our own flow table, link layer and timers.
//!
//! smoltcp scans its socket set for each packet. Here each flow has a set with one socket in it, and a hash from the 4-tuple finds it, so
//! that a packet costs the same at one flow and at 100 000. One [`Interface`] serves all flows, because its calls take the set as an
//! argument.
//!
//! A turn is [`egress`](Stack::egress) (what the tasks of the last turn wrote, and what a timer wants sent), then
//! [`ingress`](Stack::ingress) (one burst). Between two turns the tasks run.
//!
//! **Invariant:** everything a peer can make us hold is bounded: flows, unfinished handshakes, connections to be accepted, TIME-WAIT,
//! neighbours; and a turn's work is bounded by one burst in and a share of each dirty flow out.

mod arena;
mod arp;
mod checksum;
mod congestion;
mod departures;
mod egress;
mod exception;
mod flow;
mod flow_clock;
mod flow_table;
mod half_open;
mod handshake;
mod ingress;
mod ipv4;
mod ipv6;
mod isn;
mod keepalive;
mod keyed_hash;
mod link;
mod listen;
mod look;
mod nd;
mod neighbours;
mod nic;
mod ours;
mod packet;
mod path_mtu;
mod ports;
mod rate;
mod recovery;
mod resend;
mod rings;
mod round_trip;
mod scoreboard;
mod sockets;
mod syn_cookie;
mod timer_wheel;
mod udp;
mod view;

#[cfg(test)]
mod exception_tests;
#[cfg(test)]
mod handshake_tests;
#[cfg(test)]
mod link_tests;
#[cfg(test)]
mod rare_tests;
#[cfg(test)]
mod rings_tests;
#[cfg(test)]
mod settings_tests;
#[cfg(test)]
mod smoltcp_tests;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use ferrogate_core::config::dataplane::{CongestionControl, Network, Route};
use ferrogate_core::config::limits::FlowLimits;
use ferrogate_core::net::ROOM_BYTES_MAX;
use slab::Slab;
use smoltcp::iface::SocketSet;
use smoltcp::time::{Duration, Instant};

use self::arena::Arena;
use self::exception::Twin;
use self::flow::{Flow, Stage};
use self::flow_table::{FlowKey, FlowTable};
use self::half_open::HalfOpen;
use self::ingress::Arrival;
use self::link::Announcements;
use self::listen::Listeners;
pub(crate) use self::look::{FlowFilter, FlowRow, Found, state_named};
use self::neighbours::Neighbours;
use self::nic::Nic;
use self::ours::Ours;
use self::path_mtu::Interfaces;
pub(crate) use self::ports::Bind;
use self::rate::Rate;
use self::recovery::Sender;
pub(crate) use self::sockets::{FlowId, Incoming, copy};
use self::syn_cookie::SynCookies;
use self::timer_wheel::TimerWheel;
use self::udp::Udp;
pub(crate) use self::udp::{Received, SocketId};
pub(crate) use self::view::View;
use crate::counters::{DropReason, LcoreCounters};
use crate::device::Mac;
use crate::frame::{BURST, FrameVec};
use crate::queue::PacketQueue;
use crate::rss::Seat;
use crate::trace::Tap;

/// A stack that its poller and its connections share. They are on one thread, and no borrow crosses a task switch.
pub type SharedStack = Rc<RefCell<Stack>>;

/// What a stack is and how much it may hold.
#[derive(Clone, Debug)]
pub struct StackConfig {
    /// The port's Ethernet address.
    pub mac: Mac,
    /// Our addresses on it, each with its network.
    pub addresses: Vec<Network>,
    /// The ways to other networks.
    pub routes: Vec<Route>,
    /// MTU in bytes, without the Ethernet header.
    pub mtu: u16,
    /// Whether the port fills in the checksums of what we send.
    pub tx_checksum: bool,
    /// Receive ring of one flow, in bytes.
    pub rx_ring_bytes: usize,
    /// Send ring of one flow, in bytes.
    pub tx_ring_bytes: usize,
    /// Whether flows mind how much the path takes: CUBIC. Without, they send what the rings and the peer's window allow.
    pub congestion_control: CongestionControl,
    /// Flows in any state, at most.
    pub flows_max: usize,
    /// Flows with an unfinished handshake, at most. Beyond it a SYN is answered with a cookie, or not at all.
    pub syn_backlog_max: usize,
    /// What they may take besides.
    pub limits: FlowLimits,
    /// Seeds initial sequence numbers and source ports: from the system's randomness, or from a test.
    pub seed: u64,
    /// Its place among the lcores that share the port, if there are several.
    pub seat: Option<Seat>,
}

impl StackConfig {
    /// Bytes of an IP packet with a segment in it, at most, in either direction.
    fn segment_packet_bytes(&self) -> u16 {
        self.mtu.min(self.limits.segment_bytes_max.saturating_add(IPV4_TCP_BYTES))
    }

    /// Both rings of a flow, in bytes.
    fn ring_bytes(&self) -> usize {
        self.rx_ring_bytes + self.tx_ring_bytes
    }
}

/// The stack of one lcore on one port.
pub struct Stack {
    config: StackConfig,
    nic: Nic,
    ifaces: Interfaces,
    table: FlowTable,
    flows: Slab<Box<Flow>>,
    arena: Arena,
    /// Flows that ended, with their rings, for the next ones.
    #[allow(
        clippy::vec_box,
        reason = "flows go in and out of the slab, which holds them boxed so that it grows cheaply"
    )]
    pool: Vec<Box<Flow>>,
    /// How many of these have pages behind their rings.
    pooled_rings: usize,
    /// Flows that may have something to send.
    dirty: Vec<u32>,
    /// The dirty list of the turn before: empty, kept for its memory.
    sending: Vec<u32>,
    /// Lent to a writer where the send ring wraps; as long as the longest room that is promised.
    scratch: Box<[u8]>,
    wheel: TimerWheel,
    /// Flows whose rings have pages: when it may be time to give them back.
    idle: TimerWheel,
    /// Those of this turn. Empty in between, kept for its memory.
    idled: Vec<u32>,
    /// Bytes of rings as they were last counted.
    ring_bytes: u64,
    ours: Ours,
    neighbours: Neighbours,
    announcements: Announcements,
    listeners: Listeners,
    udp: Udp,
    /// What Linux has of the port.
    twin: Option<Box<Twin>>,
    /// Answers what belongs to no flow.
    strays: SocketSet<'static>,
    /// Flows in [`Stage::Opening`].
    half_open: HalfOpen,
    cookies: SynCookies,
    challenges: Rate,
    resets: Rate,
    echoes: Rate,
    /// The burst in work. Kept, so that no turn allocates.
    rx: FrameVec,
    /// The same, looked at.
    arrivals: Vec<Arrival>,
    /// The time of the last turn.
    now: Instant,
    /// The millisecond that the wheels were turned to.
    millis: i64,
    /// A poller that rests until something is written.
    resting: Option<Waker>,
    /// Connections in TIME-WAIT as they were last counted.
    time_waits: u64,
}

impl Stack {
    /// A stack on `queue`. `now` is the time since any epoch; a turn's time counts from the same.
    #[must_use]
    pub fn new(queue: Box<dyn PacketQueue>, config: StackConfig, counters: Arc<LcoreCounters>, now: Instant) -> Self {
        let mut nic = Nic::new(queue, config.mac, config.mtu, config.tx_checksum, counters);
        let ifaces = Interfaces::new(&mut nic, &config, now);
        Self {
            nic,
            ifaces,
            table: FlowTable::new(config.flows_max.min(FLOWS_AT_START)),
            flows: Slab::with_capacity(config.flows_max.min(FLOWS_AT_START)),
            arena: Arena::new(config.rx_ring_bytes, config.tx_ring_bytes),
            pool: Vec::new(),
            pooled_rings: 0,
            dirty: Vec::with_capacity(BURST),
            sending: Vec::with_capacity(BURST),
            scratch: vec![0; ROOM_BYTES_MAX].into(),
            wheel: TimerWheel::new(now),
            idle: TimerWheel::new(now),
            idled: Vec::with_capacity(BURST),
            ring_bytes: 0,
            ours: Ours::new(config.mac, &config.addresses, &config.routes),
            neighbours: Neighbours::new(),
            announcements: Announcements::of(&config, now),
            listeners: Listeners::default(),
            udp: Udp::new(config.seed),
            twin: None,
            strays: SocketSet::new(Vec::new()),
            half_open: HalfOpen::default(),
            cookies: SynCookies::new(config.seed),
            challenges: Rate::default(),
            resets: Rate::default(),
            echoes: Rate::default(),
            rx: FrameVec::new(BURST),
            arrivals: Vec::with_capacity(BURST),
            now,
            millis: now.total_millis(),
            resting: None,
            time_waits: 0,
            config,
        }
    }

    /// What it is.
    #[must_use]
    pub fn config(&self) -> &StackConfig {
        &self.config
    }

    /// What it counts.
    #[must_use]
    pub fn counters(&self) -> &Arc<LcoreCounters> {
        &self.nic.counters
    }

    /// Flows in any state. 0: nothing is left to be sent, and nobody holds a connection.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.flows.len()
    }

    /// The memory of rings in bytes: of those that are in use, which count whole, since that is what a peer can make them hold. What ended flows
    /// left for the next ones is no load, and bounded by itself.
    #[must_use]
    pub fn ring_bytes(&self) -> usize {
        self.arena.bytes_in_use() - self.pooled_rings * self.config.ring_bytes()
    }

    /// The memory that it holds for its peers in bytes: rings and datagrams.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.ring_bytes() + self.udp.held_bytes()
    }

    /// Whether it has something to do without a frame coming in: at once, or at the time answered.
    pub(crate) fn due(&self) -> Option<Instant> {
        // A port that takes nothing, because its link is down, says nothing when it does again.
        if self.nic.is_refused() {
            return Some(self.now + PORT_RETRY);
        }
        if !self.dirty.is_empty() || self.nic.is_backed_up() {
            return Some(self.now);
        }
        let datagrams = self.udp.due(&self.config.limits.datagrams);
        [self.wheel.next(), self.idle.next(), self.neighbours.next(), self.announcements.next(), datagrams]
            .into_iter()
            .flatten()
            .min()
    }

    /// Ready when a frame may have come in. Otherwise `cx` is woken when one has, or when a connection writes.
    pub(crate) fn poll_rx(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.resting = Some(cx.waker().clone());
        self.nic.poll_rx(cx)
    }

    /// The same for a poller that stops to poll, until [`awake`](Self::awake). None: the port can't wake anybody.
    pub(crate) fn wait(&mut self, cx: &mut Context<'_>) -> Option<Poll<()>> {
        let ready = self.nic.wait(cx)?;
        self.resting = Some(cx.waker().clone());
        Some(ready)
    }

    /// It is polled again.
    pub(crate) fn awake(&mut self) {
        self.resting = None;
        self.nic.awake();
    }

    /// Lets `tap` see the frames that pass from now on.
    pub(crate) fn add_tap(&mut self, tap: Tap) {
        self.nic.add_tap(tap);
    }

    /// The flow has something to send, or may have.
    fn mark(&mut self, id: u32) {
        let flow = &mut self.flows[id as usize];
        if !flow.dirty {
            flow.dirty = true;
            self.dirty.push(id);
        }
        if let Some(poller) = self.resting.take() {
            poller.wake();
        }
    }

    /// Whether `ip` is an address of ours.
    pub(crate) fn has_address(&self, ip: IpAddr) -> bool {
        self.ours.has(ip)
    }

    /// Whether `ip` is in a network of the port's own.
    pub(crate) fn is_on_link(&self, ip: IpAddr) -> bool {
        self.ours.is_on_link(ip)
    }

    /// Whether there is a way to `ip`.
    pub(crate) fn reaches(&self, ip: IpAddr) -> bool {
        self.source_for(ip).is_ok()
    }

    /// The sending side of a new flow.
    fn sender(&self, key: &FlowKey) -> Sender {
        Sender::new(
            self.config.segment_packet_bytes().saturating_sub(key.header_bytes()),
            self.config.congestion_control == CongestionControl::Cubic,
        )
    }

    /// Takes a flow out of the pool, or makes one. At a limit, says which.
    fn take_flow(&mut self, key: FlowKey) -> Result<Box<Flow>, DropReason> {
        if self.flows.len() >= self.config.flows_max {
            return Err(DropReason::FlowsMax);
        }
        if let Some(flow) = self.pool.pop() {
            self.pooled_rings -= usize::from(flow.has_pages());
            return Ok(flow);
        }
        let rings = self.arena.socket().map_err(|_| DropReason::RingMemory)?;
        Ok(Box::new(Flow::new(rings, key)))
    }

    /// Puts a flow into the slab and the table.
    fn map(&mut self, mut flow: Box<Flow>) -> u32 {
        (flow.mapped, flow.dirty, flow.opened_at) = (true, false, self.now);
        let (key, has_pages) = (flow.key, flow.has_pages());
        let id = u32::try_from(self.flows.insert(flow)).expect("fewer flows than 2^32");
        self.table.insert(key, id);
        if has_pages {
            self.await_idle(id, self.now);
        }
        self.nic.counters.flows.add(1);
        id
    }

    /// The flow gets and sends nothing any more; whoever holds it may still read what has arrived.
    fn unmap(&mut self, id: u32) {
        let flow = &mut self.flows[id as usize];
        if flow.mapped {
            flow.mapped = false;
            self.table.remove(&flow.key);
            self.wheel.cancel(id);
        }
    }

    /// Ends a flow that nobody holds.
    fn release(&mut self, id: u32) {
        self.unmap(id);
        self.set_stage(id, Stage::Orphan);
        self.idle.cancel(id);
        let mut flow = self.flows.remove(id as usize);
        // Nobody waits for it any more, and its waker would keep a task's memory.
        flow.held_back = None;
        self.nic.counters.flows.sub(1);
        if (self.pool.len() + 1) * self.config.ring_bytes() <= POOL_BYTES_MAX {
            self.pooled_rings += usize::from(flow.has_pages());
            self.pool.push(flow);
        }
    }

    /// Moves a flow on in its life and keeps count of the handshakes.
    fn set_stage(&mut self, id: u32, stage: Stage) {
        let flow = &mut self.flows[id as usize];
        let was = std::mem::replace(&mut flow.stage, stage);
        let source = flow.key.peer;
        let opening = |s: Stage| matches!(s, Stage::Opening(_));
        match (opening(was), opening(stage)) {
            (false, true) => {
                self.half_open.add(source);
                self.nic.counters.flows_opening.add(1);
            }
            (true, false) => {
                self.half_open.remove(source);
                self.nic.counters.flows_opening.sub(1);
            }
            _ => {}
        }
    }
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { config, flows, half_open, .. } = self;
        f.debug_struct("Stack")
            .field("addresses", &config.addresses)
            .field("flows", &flows.len())
            .field("half_open", &half_open.len())
            .finish_non_exhaustive()
    }
}

/// Bytes of an IPv4 and a TCP header without options.
const IPV4_TCP_BYTES: u16 = 40;
/// Entries the tables are made for; they grow with the traffic up to `flows_max`.
const FLOWS_AT_START: usize = 1024;
/// Rings of ended flows that are kept for the next ones, at most.
const POOL_BYTES_MAX: usize = 32 * 1024 * 1024;
/// A port that takes no frames is offered them again after so long.
const PORT_RETRY: Duration = Duration::from_millis(1);
/// A flow that nobody holds is given so long to send its rest, from the last sign of its peer.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(60);
/// And so long in all, though its peer shows signs of life.
const ORPHAN_TOTAL: Duration = Duration::from_secs(300);
