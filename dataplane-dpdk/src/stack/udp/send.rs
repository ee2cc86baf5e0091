//! Datagrams on their way out: cut to fit, held for a neighbour that is not known yet, and refused where there is no room.
//!
//! **Invariant:** of a datagram either nothing leaves or all of it: a port that takes no more in its middle gets the rest in the turns that
//! follow, before any other datagram. There is one such rest at most.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::ops::Range;
use std::task::{Context, Poll, Waker};

use ferrogate_core::net::{BURST_DATAGRAMS_MAX, Datagram};
use smoltcp::wire::{Icmpv4Packet, IpProtocol, Ipv4Packet};

use super::SocketId;
use super::packet::{Outgoing, PAYLOAD_BYTES_MAX};
use crate::counters::DropReason;
use crate::device::Mac;
use crate::frame::Frame;
use crate::stack::Stack;
use crate::stack::flow_table::FlowKey;
use crate::stack::neighbours::Neighbour;
use crate::stack::nic::Nic;
use crate::stack::packet::{ETHER_IPV4, ETHERNET_BYTES};

/// What has to do with datagrams that leave.
#[derive(Debug)]
pub(super) struct Departures {
    /// The rest of one that the port took a part of.
    rest: Option<Rest>,
    /// Who waits for room.
    waiting: Vec<Waker>,
    /// The last number of a datagram, by a hash of its receiver.
    ids: [u16; IDS],
    seed: u64,
}

#[derive(Debug)]
struct Rest {
    datagram: Outgoing<Box<[u8]>>,
    offset: u16,
    mac: Mac,
}

impl Departures {
    pub(super) fn new(seed: u64) -> Self {
        Self { rest: None, waiting: Vec::new(), ids: [0; IDS], seed }
    }

    /// Whether there is a rest, or somebody waits for room.
    pub(super) fn are_waiting(&self) -> bool {
        self.rest.is_some() || !self.waiting.is_empty()
    }

    /// The memory of the rest.
    pub(super) fn bytes(&self) -> usize {
        self.rest.as_ref().map_or(0, |rest| rest.datagram.len().into())
    }

    /// A number that no other datagram to this host had lately, and that tells a stranger nothing of what goes to others (RFC 7739).
    fn id(&mut self, to: Ipv4Addr) -> u16 {
        let mut hash = DefaultHasher::new();
        (self.seed, to).hash(&mut hash);
        let [place, _, a, b, ..] = hash.finish().to_le_bytes();
        let id = &mut self.ids[usize::from(place) % IDS];
        *id = id.wrapping_add(1);
        id.wrapping_add(u16::from_le_bytes([a, b]))
    }
}

impl Stack {
    /// Sends the first datagrams of a burst and says how many: at least one. From a socket of one peer they all go there.
    ///
    /// # Errors
    /// Of the first, which is not sent: what was heard of the peer, or why there is no way; `WouldBlock` when there is no room.
    pub(crate) fn send_datagrams(&mut self, id: SocketId, burst: &[Datagram<'_>]) -> io::Result<usize> {
        let socket = &mut self.udp.sockets[id.0 as usize];
        if let Some(fault) = socket.fault.take() {
            return Err(fault.into());
        }
        let (local, peer) = (socket.local, socket.peer);
        let mut sent = 0;
        for datagram in burst.iter().take(BURST_DATAGRAMS_MAX) {
            let to = peer.map_or_else(|| receiver(datagram), Ok);
            match to.and_then(|to| self.send_datagram(local, to, datagram.bytes)) {
                Ok(()) => sent += 1,
                Err(error) if sent == 0 => return Err(error),
                Err(_) => break,
            }
        }
        self.nic.counters.datagrams_sent.add(sent as u64);
        if let Some(poller) = self.resting.take() {
            poller.wake();
        }
        Ok(sent)
    }

    /// Ready when a datagram may be sent again. Otherwise `cx` is woken when it may.
    pub(crate) fn poll_sendable(&mut self, cx: &Context<'_>) -> Poll<()> {
        let departures = &mut self.udp.departures;
        if departures.rest.is_none() && self.nic.can_send() {
            return Poll::Ready(());
        }
        if !departures.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            departures.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Sends the rest of a datagram, and wakes who waits for room.
    pub(super) fn send_departures(&mut self) {
        let Self { udp, nic, config, .. } = self;
        let departures = &mut udp.departures;
        if let Some(Rest { datagram, offset, mac }) = departures.rest.take()
            && let Some(offset) = send_parts(nic, &datagram, offset, mac, config.mtu)
        {
            departures.rest = Some(Rest { datagram, offset, mac });
        }
        if departures.rest.is_none() && !departures.waiting.is_empty() && nic.can_send() {
            departures.waiting.drain(..).for_each(Waker::wake);
        }
    }

    fn send_datagram(&mut self, from: SocketAddrV4, to: SocketAddrV4, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > PAYLOAD_BYTES_MAX {
            return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
        }
        if self.udp.departures.rest.is_some() || !self.nic.has_room() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let hop = self.next_hop(*to.ip()).ok_or(io::ErrorKind::NetworkUnreachable)?;
        let neighbour = self.neighbours.look_up(hop.into(), None, self.now);
        if neighbour == Neighbour::Silent {
            return Err(io::ErrorKind::HostUnreachable.into());
        }
        let datagram = Outgoing::new(from, to, self.udp.departures.id(*to.ip()), bytes);
        if datagram.packet_len(0, u16::MAX) > usize::from(self.config.mtu) {
            self.nic.counters.datagrams_fragmented.add(1);
        }
        match neighbour {
            Neighbour::Known(mac) => match send_parts(&mut self.nic, &datagram, 0, mac, self.config.mtu) {
                Some(0) => return Err(io::ErrorKind::WouldBlock.into()),
                Some(offset) => self.udp.departures.rest = Some(Rest { datagram: datagram.owned(), offset, mac }),
                None => {}
            },
            _ => {
                self.hold_datagram(&datagram, hop);
                self.ask_neighbours();
            }
        }
        Ok(())
    }

    /// Keeps a datagram until its neighbour is known. It is lost where too many wait, or none of the port's frames is left.
    fn hold_datagram(&mut self, datagram: &Outgoing<&[u8]>, hop: Ipv4Addr) {
        let (mut next, mtu) = (Some(0), self.config.mtu);
        while let Some(offset) = next {
            let write = |packet: &mut [u8]| next = datagram.write(offset, mtu, packet);
            let frame = self.nic.packet(Mac::BROADCAST, ETHER_IPV4, datagram.packet_len(offset, mtu), write);
            if !frame.is_some_and(|frame| self.neighbours.hold(hop.into(), frame)) {
                return self.nic.counters.drop_frame(DropReason::NeighbourQueue);
            }
        }
    }

    /// Nobody receives at this port: whoever sent the datagram is told (RFC 1122, 3.2.2.1).
    pub(super) fn refuse_datagram(&mut self, frame: &Frame, ip: &Range<usize>, key: &FlowKey) {
        let limit = self.config.limits.datagrams.unreachables_per_second_max;
        if !self.udp.refusals.take(limit, self.now) {
            return self.nic.counters.drop_frame(DropReason::UnreachableRate);
        }
        self.nic.counters.drop_frame(DropReason::UdpPort);
        let bytes = frame.bytes();
        let header = usize::from(bytes[ip.start] & 15) * 4;
        // The header, and as much behind it as names the ports.
        let quoted = &bytes[ip.start..ip.start + header + 8];
        let from: [u8; 6] = *bytes[6..].first_chunk().expect("longer than an Ethernet header");
        self.send_unreachable(Mac(from), key, quoted);
    }

    fn send_unreachable(&mut self, to: Mac, key: &FlowKey, quoted: &[u8]) {
        let len = 20 + 8 + quoted.len();
        let frame = self.nic.packet(to, ETHER_IPV4, len, |packet| {
            packet[20..28].copy_from_slice(&[3, PORT_UNREACHABLE, 0, 0, 0, 0, 0, 0]);
            packet[28..].copy_from_slice(quoted);
            Icmpv4Packet::new_unchecked(&mut packet[20..]).fill_checksum();
            packet[..20].fill(0);
            packet[0] = 0x45;
            let mut ip = Ipv4Packet::new_unchecked(packet);
            ip.set_total_len(u16::try_from(len).expect("a header and a little more"));
            ip.set_hop_limit(64);
            ip.set_next_header(IpProtocol::Icmp);
            ip.set_src_addr(key.local);
            ip.set_dst_addr(key.peer);
            ip.fill_checksum();
        });
        match frame {
            Some(frame) => self.nic.send(frame),
            None => self.nic.counters.drop_frame(DropReason::TxFull),
        }
    }

    /// Sends what waited for a neighbour.
    pub(in crate::stack) fn send_held(&mut self, frames: Vec<Frame>, mac: Mac) {
        for mut frame in frames {
            frame.bytes_mut()[..6].copy_from_slice(&mac.0);
            self.nic.send(frame);
        }
    }

    /// What waited for a neighbour that does not answer is lost, and who sent it is told.
    pub(in crate::stack) fn lose_held(&mut self, frames: &[Frame]) {
        for frame in frames {
            self.nic.counters.drop_frame(DropReason::NeighbourSilent);
            if let Some(key) = super::read_back(&frame.bytes()[ETHERNET_BYTES..]) {
                self.udp.fail(&key, io::ErrorKind::HostUnreachable);
            }
        }
    }
}

/// Who is to get a datagram of a listener.
fn receiver(datagram: &Datagram<'_>) -> io::Result<SocketAddrV4> {
    let IpAddr::V4(ip) = datagram.peer.ip().to_canonical() else {
        return Err(io::ErrorKind::NetworkUnreachable.into());
    };
    if ip.is_multicast() || ip.is_broadcast() || ip.is_unspecified() || datagram.peer.port() == 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(SocketAddrV4::new(ip, datagram.peer.port()))
}

/// Sends the fragments of a datagram from `offset` on. Answers where it has to go on when the port takes no more; None: all of it has left.
fn send_parts<B: AsRef<[u8]>>(nic: &mut Nic, datagram: &Outgoing<B>, offset: u16, mac: Mac, mtu: u16) -> Option<u16> {
    let mut next = Some(offset);
    while let Some(offset) = next {
        if !nic.has_room() {
            return Some(offset);
        }
        let write = |packet: &mut [u8]| next = datagram.write(offset, mtu, packet);
        let Some(frame) = nic.packet(mac, ETHER_IPV4, datagram.packet_len(offset, mtu), write) else {
            return Some(offset);
        };
        nic.send(frame);
    }
    None
}

/// Counters of datagrams: hosts share one where their hashes meet.
const IDS: usize = 64;
/// The code of an ICMP message that nobody receives there.
const PORT_UNREACHABLE: u8 = 3;
