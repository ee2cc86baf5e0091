//! Datagrams over the port: who receives them, and what waits for him.
//!
//! A socket is either a listener's, for everybody, or of one peer alone; a hash finds it. What arrives waits in the frame that it came in, and is
//! shown there. What is sent is written into a frame at once, which leaves with the next turn, or with the thirty-second.
//!
//! **Invariant:** a datagram is delivered whole or not at all. What waits is bounded for each socket and for all of them, and so is what waits
//! for its other fragments; whatever is dropped has a [`DropReason`].

mod packet;
mod reassembly;
mod send;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::task::{Context, Poll, Waker};

use ferrogate_core::config::limits::DatagramLimits;
use ferrogate_core::net::BURST_DATAGRAMS_MAX;
use slab::Slab;
use smoltcp::time::Instant;

pub(super) use self::packet::{Arrived, read, read_back};
use self::reassembly::{Added, Reassembly};
pub(super) use self::reassembly::{Place, Whole};
use self::send::Departures;
pub(super) use self::send::Narrow;
use super::Stack;
use super::flow_table::FlowKey;
use super::ports::{Bind, Ports};
use super::rate::Rate;
use super::sockets::FIRST_EPHEMERAL_PORT;
use crate::counters::{DropReason, LcoreCounters};
use crate::frame::Frame;
use crate::rss::Words;

/// A socket for datagrams, until [`Stack::close_datagrams`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SocketId(u32);

/// The datagrams of one stack.
#[derive(Debug)]
pub(super) struct Udp {
    sockets: Slab<Socket>,
    listening: Ports,
    /// Sockets of one peer. The hash is keyed at random, as that of flows.
    connected: HashMap<FlowKey, u32>,
    reassembly: Reassembly,
    /// Datagrams in all queues, and their bytes.
    queued: usize,
    queued_bytes: usize,
    /// Empty: the memory of a burst that was taken and shown.
    burst: Vec<Received>,
    departures: Departures,
    refusals: Rate,
}

#[derive(Debug)]
struct Socket {
    /// Of a listener: its place, and its port.
    place: Bind,
    /// Where it sends from, unless a datagram says.
    local: SocketAddr,
    /// None: a listener's.
    peer: Option<SocketAddr>,
    queue: VecDeque<Received>,
    /// What was heard of the peer, until somebody is told.
    fault: Option<io::ErrorKind>,
    waker: Option<Waker>,
}

/// A datagram that waits to be received.
#[derive(Debug)]
pub(crate) struct Received {
    frame: Frame,
    payload: Range<usize>,
    /// Who sent it.
    pub(crate) peer: SocketAddr,
    /// The address of ours that it came to.
    pub(crate) local: IpAddr,
}

impl Received {
    /// What it carries.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.frame.bytes()[self.payload.clone()]
    }
}

impl Udp {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            sockets: Slab::new(),
            listening: Ports::default(),
            connected: HashMap::new(),
            reassembly: Reassembly::default(),
            queued: 0,
            queued_bytes: 0,
            burst: Vec::new(),
            departures: Departures::new(seed),
            refusals: Rate::default(),
        }
    }

    /// What waits, in bytes: for its receiver, for its other fragments, and to leave.
    pub(super) fn held_bytes(&self) -> usize {
        self.queued_bytes + self.reassembly.bytes() + self.departures.bytes()
    }

    /// Whether there is something to do without a frame coming in: at once (the past), or then.
    pub(super) fn due(&self, limits: &DatagramLimits) -> Option<Instant> {
        if self.departures.are_waiting() {
            return Some(Instant::ZERO);
        }
        self.reassembly.oldest().map(|since| since + limits.reassembly_timeout.into())
    }

    /// Whose datagram it is.
    fn find(&self, key: &FlowKey) -> Option<u32> {
        let connected = if key.local_port >= FIRST_EPHEMERAL_PORT { self.connected.get(key) } else { None };
        connected.copied().or_else(|| self.listening.find(key.local, key.local_port))
    }

    /// Puts a datagram into the queue of a socket.
    fn queue(&mut self, socket: u32, received: Received, limits: &DatagramLimits) -> Result<(), DropReason> {
        let socket = &mut self.sockets[socket as usize];
        if socket.queue.len() >= limits.udp_queue_datagrams_max || self.queued >= limits.udp_queued_datagrams_max {
            return Err(DropReason::UdpQueue);
        }
        self.queued += 1;
        self.queued_bytes += received.payload.len();
        socket.queue.push_back(received);
        if let Some(waker) = socket.waker.take() {
            waker.wake();
        }
        Ok(())
    }

    /// Something was heard of the peer of a socket: it is told.
    pub(super) fn fail(&mut self, key: &FlowKey, fault: io::ErrorKind) {
        let Some(&socket) = self.connected.get(key) else { return };
        let socket = &mut self.sockets[socket as usize];
        socket.fault = Some(fault);
        if let Some(waker) = socket.waker.take() {
            waker.wake();
        }
    }
}

impl Stack {
    /// Receives the datagrams that come to `port` at these addresses, or to a free one for 0. Answers the socket and its port.
    pub(crate) fn bind_datagrams(&mut self, bind: Bind, port: u16) -> io::Result<(SocketId, u16)> {
        let free = |p: &u16| self.udp.listening.is_free(bind, *p);
        let port = match port {
            0 => self.ephemeral_ports().find(free),
            p => Some(p).filter(free),
        };
        let port = port.ok_or(io::ErrorKind::AddrInUse)?;
        let ip = match bind {
            Bind::One(ip) => ip,
            Bind::V4 | Bind::Any => self.ours.all().next().ok_or(io::ErrorKind::AddrNotAvailable)?,
        };
        let id = self.udp.insert(bind, SocketAddr::new(ip, port), None);
        self.udp.listening.insert(bind, port, id);
        Ok((SocketId(id), port))
    }

    /// A socket of a port of its own for the datagrams to and from `to`, and nobody else's. Answers the socket and its address.
    pub(crate) fn connect_datagrams(&mut self, to: SocketAddr) -> io::Result<(SocketId, SocketAddr)> {
        let local = self.source_for(to.ip())?;
        let key = |port| FlowKey { peer: to.ip(), local, peer_port: to.port(), local_port: port };
        let home = self.home_ports(to, local);
        let unused = |p| self.udp.listening.find(local, p).is_none() && !self.udp.connected.contains_key(&key(p));
        let free = |p: &u16| home.has(*p) && unused(*p);
        let port = self.ephemeral_ports_to(to).find(free).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let id = self.udp.insert(Bind::One(local), SocketAddr::new(local, port), Some(to));
        self.udp.connected.insert(key(port), id);
        Ok((SocketId(id), SocketAddr::new(local, port)))
    }

    /// The socket is gone, and with it what was not received.
    pub(crate) fn close_datagrams(&mut self, id: SocketId) {
        let udp = &mut self.udp;
        let Socket { place, local, peer, queue, .. } = udp.sockets.remove(id.0 as usize);
        match peer {
            None => udp.listening.remove(place, local.port()),
            Some(peer) => drop(udp.connected.remove(&key_of(local, peer))),
        }
        udp.queued -= queue.len();
        udp.queued_bytes -= queue.iter().map(|received| received.payload.len()).sum::<usize>();
        self.nic.counters.datagrams_queued.sub(queue.len() as u64);
    }

    /// Takes the datagrams that are there, at most a burst; they go back by [`give_back`](Self::give_back) once they were shown.
    pub(crate) fn poll_datagrams(&mut self, id: SocketId, cx: &Context<'_>) -> Poll<io::Result<Vec<Received>>> {
        let udp = &mut self.udp;
        let socket = &mut udp.sockets[id.0 as usize];
        if socket.queue.is_empty() {
            if let Some(fault) = socket.fault.take() {
                return Poll::Ready(Err(fault.into()));
            }
            if !socket.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                socket.waker = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        let mut burst = std::mem::take(&mut udp.burst);
        let count = socket.queue.len().min(BURST_DATAGRAMS_MAX);
        burst.extend(socket.queue.drain(..count));
        udp.queued -= count;
        udp.queued_bytes -= burst.iter().map(|received| received.payload.len()).sum::<usize>();
        self.nic.counters.datagrams_queued.sub(count as u64);
        Poll::Ready(Ok(burst))
    }

    /// The datagrams of a burst were shown: their frames are free.
    pub(crate) fn give_back(&mut self, mut burst: Vec<Received>) {
        burst.clear();
        self.udp.burst = burst;
    }

    /// A datagram has come, in one packet.
    pub(super) fn receive_datagram(&mut self, frame: Frame, ip: &Range<usize>, arrived: &Arrived) {
        let first = frame.bytes()[ip.start];
        let at = ip.start + if first >> 4 == 4 { usize::from(first & 15) * 4 } else { 40 };
        let payload = at + arrived.payload.start..at + arrived.payload.end;
        match self.udp.find(&arrived.key) {
            Some(socket) => self.deliver_datagram(socket, frame, payload, &arrived.key),
            None => {
                if let Some(frame) = self.hand_over(frame) {
                    self.refuse_datagram(&frame, ip, &arrived.key);
                }
            }
        }
    }

    /// A part of a datagram has come: `payload` of `frame`.
    pub(super) fn receive_fragment(&mut self, place: Place, frame: &Frame, payload: Range<usize>) {
        let limits = &self.config.limits.datagrams;
        let Self { udp, nic: super::Nic { counters, .. }, .. } = self;
        let fragment = &frame.bytes()[payload];
        let lost = |fragments| counters.drop_frames(DropReason::FragmentMemory, fragments);
        let bytes = match udp.reassembly.add(place, fragment, limits.reassembly_bytes_max, self.now, lost) {
            Added::Kept => return,
            Added::Lost(reason, before) => return counters.drop_frames(reason, before + 1),
            Added::Whole(bytes) => bytes,
        };
        match read(&bytes, place.whole.peer, place.whole.local, true) {
            Ok(arrived) => {
                counters.datagrams_reassembled.add(1);
                let to = Words::of_addresses(arrived.key.peer, arrived.key.local);
                let to = to.and_port(arrived.key.peer_port).and_port(arrived.key.local_port);
                if self.config.seat.as_ref().is_some_and(|seat| !seat.is_home(to)) {
                    // Its fragments have no ports, so that they come to an lcore of their own.
                    let whole = packet::whole(frame, &place.whole, &bytes);
                    // Its own is none: it has just been seen to be another's.
                    return drop(self.nic.pass_on(whole));
                }
                match udp.find(&arrived.key) {
                    Some(socket) => self.deliver_datagram(socket, bytes.into(), arrived.payload, &arrived.key),
                    // Its header is gone that would be quoted.
                    None => counters.drop_frame(DropReason::UdpPort),
                }
            }
            Err(reason) => counters.drop_frame(reason),
        }
    }

    /// What is to be done for datagrams in a turn, besides those that come.
    pub(super) fn tend_datagrams(&mut self) {
        if !self.udp.reassembly.is_empty() {
            let timeout = self.config.limits.datagrams.reassembly_timeout.into();
            let lost = self.udp.reassembly.expire(timeout, self.now);
            self.nic.counters.drop_frames(DropReason::FragmentTimeout, lost);
        }
        self.send_departures();
    }

    fn deliver_datagram(&mut self, socket: u32, frame: Frame, payload: Range<usize>, key: &FlowKey) {
        let peer = SocketAddr::new(key.peer, key.peer_port);
        let received = Received { frame, payload, peer, local: key.local };
        let counters: &LcoreCounters = &self.nic.counters;
        match self.udp.queue(socket, received, &self.config.limits.datagrams) {
            Ok(()) => {
                counters.datagrams_received.add(1);
                counters.datagrams_queued.add(1);
            }
            Err(reason) => counters.drop_frame(reason),
        }
    }
}

impl Udp {
    fn insert(&mut self, place: Bind, local: SocketAddr, peer: Option<SocketAddr>) -> u32 {
        let socket = Socket { place, local, peer, queue: VecDeque::new(), fault: None, waker: None };
        u32::try_from(self.sockets.insert(socket)).expect("fewer sockets than 2^32")
    }
}

fn key_of(local: SocketAddr, peer: SocketAddr) -> FlowKey {
    FlowKey { peer: peer.ip(), local: local.ip(), peer_port: peer.port(), local_port: local.port() }
}
