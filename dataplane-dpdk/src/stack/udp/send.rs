//! Datagrams on their way out: cut to fit, held for a neighbour that is not known yet, and refused where there is no room.
//!
//! **Invariant:** of a datagram either nothing leaves or all of it: a port that takes no more in its middle gets the rest in the turns that
//! follow, before any other datagram. There is one such rest at most.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::task::{Context, Poll, Waker};

use ferrogate_core::net::{BURST_DATAGRAMS_MAX, Datagram};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{Icmpv4Packet, IpProtocol, Ipv4Packet};

use super::SocketId;
use super::packet::{Outgoing, UDP_BYTES, payload_bytes_max};
use crate::counters::DropReason;
use crate::device::Mac;
use crate::frame::Frame;
use crate::stack::Stack;
use crate::stack::flow_table::FlowKey;
use crate::stack::nd;
use crate::stack::neighbours::Neighbour;
use crate::stack::nic::Nic;
use crate::stack::packet::{ETHER_IPV4, ETHER_IPV6, ETHERNET_BYTES};
use crate::stack::path_mtu::IPV6_MTU_MIN;

/// What has to do with datagrams that leave.
#[derive(Debug)]
pub(super) struct Departures {
    /// The rest of one that the port took a part of.
    rest: Option<Rest>,
    /// Who waits for room.
    waiting: Vec<Waker>,
    /// The last number of a datagram, by a hash of its receiver.
    ids: [u32; IDS],
    seed: u64,
    /// What the paths to hosts of IPv6 take that take less than the port does, and since when that is known.
    paths: HashMap<IpAddr, (u16, Instant)>,
    /// Hashes of the last datagrams over IPv6 that may have been too long for their path, each at the place that it says. Empty before the first.
    long: Vec<u64>,
}

/// A router could not pass on a datagram of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::stack) struct Narrow {
    pub(in crate::stack) local: IpAddr,
    pub(in crate::stack) peer: IpAddr,
    /// The datagram's own, as the router quotes it.
    pub(in crate::stack) header: [u8; UDP_BYTES],
    /// The longest packet that it takes, in bytes.
    pub(in crate::stack) mtu: u16,
}

#[derive(Debug)]
struct Rest {
    datagram: Outgoing<Box<[u8]>>,
    offset: u16,
    mac: Mac,
}

impl Departures {
    pub(super) fn new(seed: u64) -> Self {
        let (waiting, long) = (Vec::new(), Vec::new());
        Self { rest: None, waiting, ids: [0; IDS], seed, paths: HashMap::new(), long }
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
    fn id(&mut self, to: IpAddr) -> u32 {
        let mut hash = DefaultHasher::new();
        (self.seed, to).hash(&mut hash);
        let [place, _, _, _, start @ ..] = hash.finish().to_le_bytes();
        let id = &mut self.ids[usize::from(place) % IDS];
        *id = id.wrapping_add(1);
        id.wrapping_add(u32::from_le_bytes(start))
    }

    /// A datagram leaves that some path may not take.
    fn note_long(&mut self, local: IpAddr, peer: IpAddr, header: &[u8; UDP_BYTES]) {
        let hash = self.hash_of(local, peer, header);
        self.long.resize(LONG_KEPT, 0);
        self.long[place_of(hash)] = hash;
    }

    /// Whether such a datagram has left lately: who is not on its way does not know its checksum (after RFC 5927, 7).
    fn has_sent(&self, told: &Narrow) -> bool {
        let hash = self.hash_of(told.local, told.peer, &told.header);
        self.long.get(place_of(hash)) == Some(&hash)
    }

    fn hash_of(&self, local: IpAddr, peer: IpAddr, header: &[u8; UDP_BYTES]) -> u64 {
        let mut hash = DefaultHasher::new();
        (self.seed, local, peer, header).hash(&mut hash);
        hash.finish()
    }

    /// Bytes of a packet to `to`, at most, where the port takes `mtu`.
    fn mtu(&mut self, to: IpAddr, mtu: u16, now: Instant) -> u16 {
        if self.paths.is_empty() {
            return mtu;
        }
        match self.paths.get(&to) {
            Some((narrow, since)) if now < *since + PATH_KNOWN_FOR => mtu.min(*narrow),
            Some(_) => {
                self.paths.remove(&to);
                mtu
            }
            None => mtu,
        }
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
            let sent_one = to.and_then(|to| {
                let from = if peer.is_some() { Ok(local) } else { self.sender_of(datagram, local, to) };
                self.send_datagram(from?, to, datagram.bytes)
            });
            match sent_one {
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

    /// Where a datagram of a listener leaves from: where it says, else from the listener's only address, else by the way that it goes.
    fn sender_of(&self, datagram: &Datagram<'_>, local: SocketAddr, to: SocketAddr) -> io::Result<SocketAddr> {
        let says = datagram.local.map(|ip| ip.to_canonical()).filter(|ip| self.ours.has(*ip));
        let fits = |ip: &IpAddr| ip.is_ipv4() == to.is_ipv4();
        let ip = match says.or(Some(local.ip())).filter(fits) {
            Some(ip) => ip,
            None => self.source_for(to.ip())?,
        };
        Ok(SocketAddr::new(ip, local.port()))
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
        let Self { udp, nic, .. } = self;
        let departures = &mut udp.departures;
        if let Some(Rest { datagram, offset, mac }) = departures.rest.take()
            && let Some(offset) = send_parts(nic, &datagram, offset, mac)
        {
            departures.rest = Some(Rest { datagram, offset, mac });
        }
        if departures.rest.is_none() && !departures.waiting.is_empty() && nic.can_send() {
            departures.waiting.drain(..).for_each(Waker::wake);
        }
    }

    fn send_datagram(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        let ip = to.ip();
        if bytes.len() > payload_bytes_max(ip) {
            return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
        }
        if self.udp.departures.rest.is_some() || !self.nic.has_room() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let hop = self.ours.next_hop(ip).ok_or(io::ErrorKind::NetworkUnreachable)?;
        let neighbour = self.neighbours.look_up(hop, None, self.now);
        if neighbour == Neighbour::Silent {
            return Err(io::ErrorKind::HostUnreachable.into());
        }
        let departures = &mut self.udp.departures;
        let mtu = departures.mtu(ip, self.config.mtu, self.now);
        let datagram = Outgoing::new(from, to, departures.id(ip), mtu, bytes);
        if datagram.is_cut() {
            self.nic.counters.datagrams_fragmented.add(1);
        }
        if ip.is_ipv6() && datagram.packet_len(0) > usize::from(IPV6_MTU_MIN) {
            departures.note_long(from.ip(), ip, &datagram.header());
        }
        match neighbour {
            Neighbour::Known(mac) => match send_parts(&mut self.nic, &datagram, 0, mac) {
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

    /// A router can't pass on a datagram of ours (RFC 8201). Over IPv4 it would cut it. False: it is nothing to us.
    pub(in crate::stack) fn narrow_path(&mut self, told: &Narrow) -> bool {
        let (now, to, mtu) = (self.now, told.peer, told.mtu.max(IPV6_MTU_MIN));
        let departures = &mut self.udp.departures;
        if mtu >= self.config.mtu || !departures.has_sent(told) {
            return false;
        }
        let paths = &mut departures.paths;
        if paths.len() >= PATHS_MAX {
            paths.retain(|_, (_, since)| now < *since + PATH_KNOWN_FOR);
        }
        // Whoever fills the table must not keep others out of it.
        if paths.len() >= PATHS_MAX
            && let Some(oldest) = paths.iter().min_by_key(|(_, (_, since))| *since).map(|(ip, _)| *ip)
        {
            paths.remove(&oldest);
        }
        paths.insert(to, (mtu, now));
        true
    }

    /// Keeps a datagram until its neighbour is known. It is lost where too many wait, or none of the port's frames is left.
    fn hold_datagram(&mut self, datagram: &Outgoing<&[u8]>, hop: IpAddr) {
        let (mut next, kind) = (Some(0), ether_type(hop));
        while let Some(offset) = next {
            let write = |packet: &mut [u8]| next = datagram.write(offset, packet);
            let frame = self.nic.packet(Mac::BROADCAST, kind, datagram.packet_len(offset), write);
            if !frame.is_some_and(|frame| self.neighbours.hold(hop, frame)) {
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
        let from: [u8; 6] = *bytes[6..].first_chunk().expect("longer than an Ethernet header");
        let packet = &bytes[ip.clone()];
        // Of IPv4 the header and the ports, of IPv6 what fits into a packet that every link takes (RFC 4443, 3.1).
        let quoted =
            if key.peer.is_ipv4() { usize::from(packet[0] & 15) * 4 + 8 } else { packet.len().min(QUOTED_BYTES_MAX) };
        self.send_unreachable(Mac(from), key, &packet[..quoted]);
    }

    fn send_unreachable(&mut self, to: Mac, key: &FlowKey, quoted: &[u8]) {
        let header = usize::from(key.header_bytes()) - 20;
        let len = header + 8 + quoted.len();
        let frame = self.nic.packet(to, ether_type(key.peer), len, |packet| {
            packet[..header + 8].fill(0);
            packet[header + 8..].copy_from_slice(quoted);
            match (key.local, key.peer) {
                (IpAddr::V4(local), IpAddr::V4(peer)) => {
                    packet[header..header + 2].copy_from_slice(&[3, 3]);
                    Icmpv4Packet::new_unchecked(&mut packet[header..]).fill_checksum();
                    packet[0] = 0x45;
                    let mut ip = Ipv4Packet::new_unchecked(packet);
                    ip.set_total_len(u16::try_from(len).expect("a header and a little more"));
                    ip.set_hop_limit(64);
                    ip.set_next_header(IpProtocol::Icmp);
                    ip.set_src_addr(local);
                    ip.set_dst_addr(peer);
                    ip.fill_checksum();
                }
                (IpAddr::V6(local), IpAddr::V6(peer)) => {
                    packet[header..header + 2].copy_from_slice(&[1, 4]);
                    nd::fill_checksum(local, peer, &mut packet[header..]);
                    packet[0] = 0x60;
                    let behind = u16::try_from(len - header).expect("within a packet that every link takes");
                    packet[4..6].copy_from_slice(&behind.to_be_bytes());
                    packet[6..8].copy_from_slice(&[u8::from(IpProtocol::Icmpv6), 64]);
                    packet[8..24].copy_from_slice(&local.octets());
                    packet[24..40].copy_from_slice(&peer.octets());
                }
                _ => unreachable!("both are of one family"),
            }
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
fn receiver(datagram: &Datagram<'_>) -> io::Result<SocketAddr> {
    let ip = datagram.peer.ip().to_canonical();
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    if ip.is_multicast() || is_broadcast || ip.is_unspecified() || datagram.peer.port() == 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(SocketAddr::new(ip, datagram.peer.port()))
}

/// Sends the fragments of a datagram from `offset` on. Answers where it has to go on when the port takes no more; None: all of it has left.
fn send_parts<B: AsRef<[u8]>>(nic: &mut Nic, datagram: &Outgoing<B>, offset: u16, mac: Mac) -> Option<u16> {
    let mut next = Some(offset);
    while let Some(offset) = next {
        if !nic.has_room() {
            return Some(offset);
        }
        let write = |packet: &mut [u8]| next = datagram.write(offset, packet);
        let Some(frame) = nic.packet(mac, datagram.ether_type(), datagram.packet_len(offset), write) else {
            return Some(offset);
        };
        nic.send(frame);
    }
    None
}

/// Where a hash is kept.
fn place_of(hash: u64) -> usize {
    usize::from(hash.to_le_bytes()[0]) | usize::from(hash.to_le_bytes()[1] & 3) << 8
}

fn ether_type(ip: IpAddr) -> &'static [u8] {
    if ip.is_ipv4() { ETHER_IPV4 } else { ETHER_IPV6 }
}

/// Counters of datagrams: hosts share one where their hashes meet.
const IDS: usize = 64;
/// Hosts whose path is known to take less than the port does, at most.
const PATHS_MAX: usize = 1024;
/// Datagrams whose routers are believed, when they are longer than every link takes; a power of two.
const LONG_KEPT: usize = 1024;
/// For how long that is believed: then a longer packet is tried (RFC 8201, 4).
const PATH_KNOWN_FOR: Duration = Duration::from_secs(600);
/// What is quoted of a packet over IPv6, in bytes, at most.
const QUOTED_BYTES_MAX: usize = 1280 - 48;
