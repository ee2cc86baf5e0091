//! One connection: a one-slot socket set with its TCP socket, and what the stack knows of it besides.
//!
//! **Invariant:** a flow taken from the pool carries nothing over from the connection before: [`Flow::listen`] and [`Flow::connect`] set
//! every option of the socket again, because smoltcp's own reset leaves some of them.

use std::net::SocketAddr;
use std::task::Waker;

use ferrogate_core::config::limits::FlowLimits;
use smoltcp::iface::{Interface, SocketSet};
use smoltcp::socket::tcp::{CongestionControl, ConnectError, ListenError, Socket};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{IpEndpoint, IpListenEndpoint};

use super::arena::RingSocket;
use super::flow_clock::FlowClock;
use super::flow_table::{FlowKey, TimeWait};
use super::look::{FlowRow, name_of};
use super::nic::Emitted;
use super::packet::{Options, Segment};
use super::recovery::{Sender, is_after};
use crate::device::Mac;

/// A connection and its place in the life of one.
pub(super) struct Flow {
    rings: RingSocket,
    pub(super) key: FlowKey,
    pub(super) stage: Stage,
    /// Where its frames go; `None` before ARP has answered.
    pub(super) peer_mac: Option<Mac>,
    /// In the flow table: it gets packets and may send.
    pub(super) mapped: bool,
    /// On the dirty list.
    pub(super) dirty: bool,
    /// When it is given up, once nobody holds it.
    pub(super) given_up_at: Instant,
    pub(super) fault: Option<Fault>,
    /// The numbers of the last segment in: what TIME-WAIT remembers.
    pub(super) heard: TimeWait,
    /// Those of the last segment out.
    pub(super) emitted: Option<Emitted>,
    /// The next sequence number of the peer's, as far as can be told from outside of the socket.
    pub(super) expected: u32,
    /// The furthest that a segment of the peer's has reached, and what we have acknowledged: while the one is beyond the other, a segment may
    /// be waiting in the receive ring for one before it.
    reached: u32,
    pub(super) acknowledged: u32,
    /// When it came into the table.
    pub(super) opened_at: Instant,
    /// Whether we have opened it.
    is_ours: bool,
    /// Bytes of its stream that have come in order, and that were sent, each once.
    rx_bytes: u64,
    tx_bytes: u64,
    /// When its rings were last written or read.
    used_at: Instant,
    /// When its peer last said something, and how often it was asked since whether it is still there.
    heard_at: Instant,
    pub(super) asked: u8,
    /// The clock that the socket is shown.
    pub(super) clock: FlowClock,
    pub(super) sender: Sender,
    /// Which of the interfaces is as narrow as its path; 0: the port's.
    pub(super) path: u8,
    /// Waits for room that the window of [`sender`](Self::sender) holds back.
    pub(super) held_back: Option<Waker>,
}

/// Who a flow belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// A peer's handshake is running, on this listener.
    Opening(u32),
    /// Established and not yet accepted, or accepted: somebody has to let go of it.
    Owned,
    /// Our own handshake is running, or has failed; the future that wants it owns it.
    Connecting,
    /// Nobody holds it: it sends what it has, and ends.
    Orphan,
}

/// Why a connection ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The peer reset it.
    Reset,
    /// The peer fell silent.
    TimedOut,
    /// Nobody answers at the next hop's address.
    Unreachable,
    /// We aborted it.
    Aborted,
}

impl Flow {
    /// A flow that is not yet connected to anything.
    pub(super) fn new(rings: RingSocket, key: FlowKey) -> Self {
        Self {
            rings,
            key,
            stage: Stage::Orphan,
            peer_mac: None,
            mapped: false,
            dirty: false,
            given_up_at: NEVER,
            fault: None,
            heard: TimeWait::default(),
            emitted: None,
            expected: 0,
            reached: 0,
            acknowledged: 0,
            opened_at: Instant::ZERO,
            is_ours: false,
            rx_bytes: 0,
            tx_bytes: 0,
            used_at: Instant::ZERO,
            heard_at: Instant::ZERO,
            asked: 0,
            clock: FlowClock::steady(),
            sender: Sender::new(0, false),
            path: 0,
            held_back: None,
        }
    }

    /// Makes it a fresh flow that takes the SYN of `key`.
    pub(super) fn listen(
        &mut self,
        key: FlowKey,
        peer_mac: Mac,
        sender: Sender,
        limits: &FlowLimits,
    ) -> Result<(), ListenError> {
        self.renew(key, Some(peer_mac), sender, limits);
        let local = IpListenEndpoint { addr: Some(key.local.into()), port: key.local_port };
        self.socket().listen(local)
    }

    /// Makes it a fresh flow that opens `key`.
    pub(super) fn connect(
        &mut self,
        key: FlowKey,
        iface: &mut Interface,
        sender: Sender,
        limits: &FlowLimits,
    ) -> Result<(), ConnectError> {
        self.renew(key, None, sender, limits);
        self.is_ours = true;
        let peer = IpEndpoint::new(key.peer.into(), key.peer_port);
        let local = IpEndpoint::new(key.local.into(), key.local_port);
        self.socket().connect(iface.context(), peer, local)
    }

    /// The TCP socket.
    pub(super) fn socket(&mut self) -> &mut Socket<'static> {
        self.rings.get()
    }

    /// The set that holds the socket alone, for the interface.
    pub(super) fn sockets(&mut self) -> &mut SocketSet<'static> {
        self.rings.set()
    }

    /// Has the caches fetch what a segment of it will touch.
    pub(super) fn fetch(&self) {
        // A ring is filled from its start on, and around.
        self.rings.fetch(self.rx_bytes);
    }

    /// Its rings are written or read. Says whether they took pages for it.
    pub(super) fn note_use(&mut self, now: Instant) -> bool {
        self.used_at = now;
        self.rings.note_use()
    }

    /// Whether its rings have pages.
    pub(super) fn has_pages(&self) -> bool {
        self.rings.has_pages()
    }

    /// When its rings were last written or read.
    pub(super) fn used_at(&self) -> Instant {
        self.used_at
    }

    /// Gives the pages of its rings back, if nothing is in them.
    pub(super) fn give_back(&mut self) -> bool {
        !is_after(self.reached, self.acknowledged) && self.rings.give_back()
    }

    /// Our address of the connection.
    pub(super) fn local(&self) -> SocketAddr {
        SocketAddr::new(self.key.local, self.key.local_port)
    }

    /// The peer's address.
    pub(super) fn peer(&self) -> SocketAddr {
        SocketAddr::new(self.key.peer, self.key.peer_port)
    }

    /// Whether the connection has come to its end: nothing will be sent or received any more.
    pub(super) fn is_over(&mut self) -> bool {
        let socket = self.socket();
        // A socket that was aborted keeps its addresses until the RST has left.
        !socket.is_active() && !socket.is_listening() && socket.local_endpoint().is_none()
    }

    /// smoltcp has built a segment. Answers whether it may leave.
    pub(super) fn admit(&mut self, emitted: Emitted, now: Instant) -> bool {
        if !self.sender.admit(&emitted, now) {
            return false;
        }
        let before = self.emitted.map_or(emitted.end, |last| last.end);
        if is_after(emitted.end, before) {
            self.tx_bytes += u64::from(emitted.end.wrapping_sub(before) - u32::from(emitted.is_last));
        }
        // What is sent again does not take the numbers back.
        let end = self.emitted.map(|last| last.end).filter(|&last| is_after(last, emitted.end)).unwrap_or(emitted.end);
        self.emitted = Some(Emitted { end, ..emitted });
        if is_after(emitted.acked, self.expected) {
            self.rx_bytes += u64::from(emitted.acked.wrapping_sub(self.expected));
            self.expected = emitted.acked;
        }
        // An RST acknowledges nothing, and says 0.
        if emitted.acked != 0 && is_after(emitted.acked, self.acknowledged) {
            self.acknowledged = emitted.acked;
        }
        true
    }

    /// A segment has come, and smoltcp has seen it; `accepted`: it changed what is queued, or the state.
    pub(super) fn note_segment(&mut self, segment: &Segment, options: &Options, accepted: bool, now: Instant) {
        (self.heard_at, self.asked) = (now, 0);
        let in_order = !is_after(segment.seq, self.expected) && is_after(segment.end, self.expected);
        // Data in a SYN is not taken.
        let behind_syn = segment.seq.wrapping_add(1);
        if segment.syn {
            self.expected = behind_syn;
        } else if in_order {
            self.rx_bytes += u64::from(segment.end.wrapping_sub(self.expected));
            self.expected = segment.end;
        }
        if segment.syn && accepted {
            (self.reached, self.acknowledged) = (behind_syn, behind_syn);
        } else if is_after(segment.end, self.reached) {
            self.reached = segment.end;
        }
        if let Some(waiting) = self.held_back.take() {
            waiting.wake();
        }
        self.sender.on_segment(segment, options, accepted, now);
    }

    /// The handshake is done: from here on timeouts are those of data.
    pub(super) fn hurry(&mut self, now: Instant, limits: &FlowLimits) {
        if self.clock.hurry(now) {
            self.set_ack_delay(limits);
        }
    }

    fn set_ack_delay(&mut self, limits: &FlowLimits) {
        let ack_delay = self.clock.stretched(limits.ack_delay.into());
        self.socket().set_ack_delay((ack_delay > Duration::ZERO).then_some(ack_delay));
    }

    /// What an operator is shown of it.
    pub(super) fn row(&mut self, now: Instant) -> FlowRow {
        let (peer, local) = (self.peer(), self.local());
        let (is_ours, rx_bytes, tx_bytes) = (self.is_ours, self.rx_bytes, self.tx_bytes);
        let (age, idle) = (now - self.opened_at, now - self.heard_at.max(self.opened_at));
        let socket = self.socket();
        let (rx_queued, tx_queued) = (socket.recv_queue(), socket.send_queue());
        let state = name_of(socket.state());
        FlowRow { peer, local, state, is_ours, age, idle, rx_bytes, tx_bytes, rx_queued, tx_queued }
    }

    /// When its peer is asked next whether it is still there. None: it is not.
    pub(super) fn asks_at(&self, limits: &FlowLimits) -> Option<Instant> {
        let is_asked = self.stage == Stage::Owned && self.fault.is_none() && !limits.keepalive_idle.is_zero();
        let silence = limits.keepalive_idle + limits.keepalive_interval * u32::from(self.asked);
        is_asked.then(|| self.heard_at + silence.into())
    }

    /// Gives the peer so long to show a sign of life; None: for ever.
    pub(super) fn set_timeout(&mut self, timeout: Option<Duration>) {
        let timeout = timeout.map(|t| self.clock.stretched(t));
        self.socket().set_timeout(timeout);
    }

    fn renew(&mut self, key: FlowKey, peer_mac: Option<Mac>, sender: Sender, limits: &FlowLimits) {
        (self.key, self.stage, self.peer_mac) = (key, Stage::Orphan, peer_mac);
        (self.mapped, self.fault, self.given_up_at) = (false, None, NEVER);
        (self.heard, self.emitted, self.path) = (TimeWait::default(), None, 0);
        (self.expected, self.reached, self.acknowledged) = (0, 0, 0);
        (self.is_ours, self.rx_bytes, self.tx_bytes) = (false, 0, 0);
        (self.clock, self.sender, self.held_back) = (FlowClock::steady(), sender, None);
        let socket = self.socket();
        // Closed, whatever it was: the listen or connect that follows resets the rest.
        socket.abort();
        socket.set_congestion_control(CongestionControl::None);
        socket.set_tsval_generator(None);
        socket.set_nagle_enabled(limits.nagle);
        socket.set_keep_alive(None);
        socket.set_hop_limit(None);
        socket.set_timeout(Some(HANDSHAKE_TIMEOUT));
        self.set_ack_delay(limits);
    }
}

/// Later than any clock.
const NEVER: Instant = Instant::from_micros_const(i64::MAX);
/// A handshake that hears nothing for so long is given up.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
