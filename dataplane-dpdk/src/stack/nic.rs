//! The packet queue with Ethernet around it, and the view of it that smoltcp gets.
//!
//! smoltcp is given `Medium::Ip`: it sees one IP packet where it lies in the received frame, and builds the next one where it leaves.
//! The Ethernet header is ours: the peer's address is known per flow, so smoltcp never waits for ARP or ND.
//!
//! **Invariant:** a transmit token exists only while there is a frame for it and room behind it, so that smoltcp never believes to have
//! sent what was not.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::task::{Context, Poll};

use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium};
use smoltcp::time::Instant;
use smoltcp::wire::{IpAddress, IpProtocol, IpRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

use super::flow_table::FlowKey;
use super::nd::Said;
use super::packet::{self, ETHER_ARP, ETHER_IPV4, ETHER_IPV6, ETHERNET_BYTES};
use super::{arp, checksum};
use crate::counters::{DropReason, LcoreCounters};
use crate::device::Mac;
use crate::frame::{BURST, Frame, FrameVec};
use crate::queue::PacketQueue;
use crate::trace::Tap;

/// One queue pair and the bursts on their way in and out.
pub(super) struct Nic {
    queue: Box<dyn PacketQueue>,
    /// Empty frames for what is to be sent.
    spare: FrameVec,
    /// Frames to be sent.
    out: FrameVec,
    /// Where an answer is written that can't be sent.
    waste: Frame,
    pub(super) mac: Mac,
    mtu: usize,
    tx_checksum: bool,
    pub(super) counters: Arc<LcoreCounters>,
    /// The time of the turn, for who looks at frames.
    pub(super) now: Instant,
    /// Who looks at them.
    taps: Vec<Tap>,
    /// Frames at the front of `out` that they have seen already: the port has not taken them.
    seen: usize,
}

impl Nic {
    pub(super) fn new(
        queue: Box<dyn PacketQueue>,
        mac: Mac,
        mtu: u16,
        tx_checksum: bool,
        counters: Arc<LcoreCounters>,
    ) -> Self {
        let mtu = usize::from(mtu);
        let waste = Frame::heap(ETHERNET_BYTES + mtu);
        let (spare, out) = (FrameVec::new(BURST), FrameVec::new(BURST));
        let (now, taps) = (Instant::ZERO, Vec::new());
        Self { queue, spare, out, waste, mac, mtu, tx_checksum, counters, now, taps, seen: 0 }
    }

    /// Takes a burst of received frames.
    pub(super) fn rx_burst(&mut self, into: &mut FrameVec) {
        self.queue.rx_burst(into);
        if !into.is_empty() {
            self.counters.rx_bursts.add(1);
            self.counters.rx_packets.add(into.len() as u64);
            self.counters.rx_bytes.add(into.as_slice().iter().map(|f| f.bytes().len() as u64).sum());
            if !self.taps.is_empty() {
                show(&mut self.taps, into.as_slice(), self.now, false);
            }
        }
    }

    /// Sends what is waiting, as far as the port takes it.
    pub(super) fn flush(&mut self) {
        if self.out.is_empty() {
            return;
        }
        let bytes = |burst: &FrameVec| burst.as_slice().iter().map(|f| f.bytes().len() as u64).sum::<u64>();
        let before = (self.out.len(), bytes(&self.out));
        if !self.taps.is_empty() {
            show(&mut self.taps, &self.out.as_slice()[self.seen..], self.now, true);
        }
        self.queue.tx_burst(&mut self.out);
        self.seen = self.out.len();
        let after = if self.out.is_empty() { (0, 0) } else { (self.out.len(), bytes(&self.out)) };
        self.counters.tx_packets.add((before.0 - after.0) as u64);
        // What the port has not taken may have got a tag meanwhile.
        self.counters.tx_bytes.add(before.1.saturating_sub(after.1));
    }

    /// Lets `tap` see what passes from now on.
    pub(super) fn add_tap(&mut self, tap: Tap) {
        // Those that want no more are found out by the next frame; without one, here.
        self.taps.retain(|tap| !tap.is_over());
        self.taps.push(tap);
    }

    /// Whether frames wait for the port.
    pub(super) fn is_backed_up(&self) -> bool {
        !self.out.is_empty()
    }

    /// Whether the port has not taken all that it was offered last.
    pub(super) fn is_refused(&self) -> bool {
        self.seen > 0
    }

    /// Ready when a receive burst may bring something.
    pub(super) fn poll_rx(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.queue.poll_rx(cx)
    }

    /// The same, of a port that can tell without being polled. None: it can't.
    pub(super) fn wait(&mut self, cx: &mut Context<'_>) -> Option<Poll<()>> {
        self.queue.wait(cx)
    }

    /// The port is polled again.
    pub(super) fn awake(&mut self) {
        self.queue.awake();
    }

    /// Sends a frame that is complete, or drops it when there is no room.
    pub(super) fn send(&mut self, frame: Frame) {
        if self.has_room() {
            self.out.push(frame);
        } else {
            self.counters.drop_frame(DropReason::TxFull);
        }
    }

    /// A frame with a packet of `len` bytes for `to`, which `f` writes. None: the port has no frame left.
    pub(super) fn packet(&mut self, to: Mac, kind: &[u8], len: usize, f: impl FnOnce(&mut [u8])) -> Option<Frame> {
        let mut frame = self.take_spare()?;
        frame.set_len(ETHERNET_BYTES + len);
        frame.offload_checksums(false);
        let bytes = frame.bytes_mut();
        write_ethernet(bytes, to, self.mac, kind);
        f(&mut bytes[ETHERNET_BYTES..]);
        Some(frame)
    }

    /// Sends a received frame that has become its answer.
    pub(super) fn answer(&mut self, frame: Frame) {
        if frame.is_joined() { self.send_copy(frame.bytes()) } else { self.send(frame) }
    }

    /// Sends a copy of a frame that is complete, or drops it.
    pub(super) fn send_copy(&mut self, bytes: &[u8]) {
        let Some(mut frame) = self.take_spare() else { return self.counters.drop_frame(DropReason::TxFull) };
        if bytes.len() > frame.room() {
            self.counters.drop_frame(DropReason::Malformed);
            return self.spare.push(frame);
        }
        frame.set_len(bytes.len());
        frame.bytes_mut().copy_from_slice(bytes);
        frame.offload_checksums(false);
        self.send(frame);
    }

    /// Gives a frame to the lcore that it belongs to. Answers one that is this lcore's.
    pub(super) fn pass_on(&mut self, frame: Frame) -> Option<Frame> {
        self.queue.pass_on(frame)
    }

    /// Whether a frame can be had and sent now.
    pub(super) fn can_send(&mut self) -> bool {
        if self.spare.is_empty() {
            self.queue.alloc_burst(&mut self.spare);
        }
        !self.spare.is_empty() && self.has_room()
    }

    /// Sends an ARP question to all, or an answer to one.
    pub(super) fn send_arp(&mut self, our_ip: Ipv4Addr, to: Option<Mac>, about: Ipv4Addr) {
        let mac = self.mac;
        let write = |packet: &mut [u8]| arp::emit((mac, our_ip), to, about, packet);
        match self.packet(to.unwrap_or(Mac::BROADCAST), ETHER_ARP, arp::ARP_BYTES, write) {
            Some(frame) => self.send(frame),
            None => self.counters.drop_frame(DropReason::TxFull),
        }
    }

    /// Says something about an IPv6 address: to all who hear it, or to the station `to`.
    pub(super) fn send_nd(&mut self, said: Said, to: Option<Mac>) {
        let (packet, group) = said.packet(self.mac);
        let packet = &packet[..said.packet_bytes()];
        let to = to.or(group).unwrap_or(Mac::BROADCAST);
        match self.packet(to, ETHER_IPV6, packet.len(), |room| room.copy_from_slice(packet)) {
            Some(frame) => self.send(frame),
            None => self.counters.drop_frame(DropReason::TxFull),
        }
    }

    /// Sends the peer of `key`, by way of `to`, a bare ACK that says `what`.
    pub(super) fn send_ack(&mut self, key: &FlowKey, to: Mac, what: Emitted) {
        let (peer, local) = (IpAddress::from(key.peer), IpAddress::from(key.local));
        let tcp = TcpRepr {
            src_port: key.local_port,
            dst_port: key.peer_port,
            control: TcpControl::None,
            seq_number: TcpSeqNumber(what.end.cast_signed()),
            ack_number: Some(TcpSeqNumber(what.acked.cast_signed())),
            window_len: what.window,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        let ip = IpRepr::new(local, peer, IpProtocol::Tcp, tcp.buffer_len(), 64);
        let caps = capabilities(self.mtu).checksum;
        let mut link = self.link(to, None);
        let Some(token) = phy::Device::transmit(&mut link, Instant::ZERO) else {
            return self.counters.drop_frame(DropReason::TxFull);
        };
        phy::TxToken::consume(token, ip.buffer_len(), |bytes| {
            ip.emit(&mut *bytes, &caps);
            tcp.emit(&mut TcpPacket::new_unchecked(&mut bytes[ip.header_len()..]), &local, &peer, &caps);
        });
    }

    /// smoltcp's view: `packet` is what it receives (nothing for egress), and what it sends goes to `peer`.
    pub(super) fn link<'a>(&'a mut self, peer: Mac, packet: Option<&'a [u8]>) -> Link<'a> {
        let mtu = self.mtu;
        Link { nic: self, mtu, peer, packet, muted: false, exhausted: false, emitted: None }
    }

    /// The same, of a port that sends nothing: what smoltcp sends has left already.
    pub(super) fn muted_link(&mut self, peer: Mac) -> Link<'_> {
        Link { muted: true, ..self.link(peer, None) }
    }

    /// Takes the last frame back that smoltcp sent.
    pub(super) fn take_back(&mut self) {
        if let Some(frame) = self.out.pop() {
            self.spare.push(frame);
        }
    }

    /// Whether a frame can be sent now.
    pub(super) fn has_room(&mut self) -> bool {
        if self.out.room() == 0 {
            self.flush();
        }
        self.out.room() > 0
    }

    fn take_spare(&mut self) -> Option<Frame> {
        if self.spare.is_empty() {
            self.queue.alloc_burst(&mut self.spare);
        }
        self.spare.pop()
    }
}

/// The device that smoltcp drives: for one packet in, or for one flow's packets out.
pub(super) struct Link<'a> {
    nic: &'a mut Nic,
    /// What smoltcp is told of the port's MTU, in bytes. It asks when an interface is made.
    pub(super) mtu: usize,
    peer: Mac,
    packet: Option<&'a [u8]>,
    muted: bool,
    /// smoltcp wanted to send and could not.
    pub(super) exhausted: bool,
    /// The last segment that was sent.
    pub(super) emitted: Option<Emitted>,
}

/// What a sent segment said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Emitted {
    /// Its sequence number.
    pub(super) start: u32,
    /// The sequence number behind it.
    pub(super) end: u32,
    /// What it acknowledged.
    pub(super) acked: u32,
    /// Its window field, as on the wire.
    pub(super) window: u16,
    /// Nothing comes behind it: a FIN.
    pub(super) is_last: bool,
}

impl phy::Device for Link<'_> {
    type RxToken<'a>
        = RxToken<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = TxToken<'a>
    where
        Self: 'a;

    fn receive(&mut self, _now: Instant) -> Option<(RxToken<'_>, TxToken<'_>)> {
        let packet = self.packet.take()?;
        let frame = if self.nic.has_room() { self.nic.take_spare() } else { None };
        let token = TxToken { nic: self.nic, frame, muted: self.muted, peer: self.peer, emitted: &mut self.emitted };
        Some((RxToken(packet), token))
    }

    fn transmit(&mut self, _now: Instant) -> Option<TxToken<'_>> {
        let frame = if !self.muted && self.nic.has_room() { self.nic.take_spare() } else { None };
        self.exhausted = !self.muted && frame.is_none();
        if self.exhausted {
            return None;
        }
        Some(TxToken { nic: self.nic, frame, muted: self.muted, peer: self.peer, emitted: &mut self.emitted })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.mtu)
    }
}

/// The IPv4 packet in the frame that is being received.
pub(super) struct RxToken<'a>(&'a [u8]);

impl phy::RxToken for RxToken<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// A frame to be sent.
pub(super) struct TxToken<'a> {
    nic: &'a mut Nic,
    /// `None` only for a muted port, and for the token of a received packet, whose answer is lost then.
    frame: Option<Frame>,
    muted: bool,
    peer: Mac,
    emitted: &'a mut Option<Emitted>,
}

impl phy::TxToken for TxToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(mut self, len: usize, f: F) -> R {
        let nic = &mut *self.nic;
        let Some(mut frame) = self.frame.take() else {
            nic.waste.set_len(ETHERNET_BYTES + len);
            let bytes = &mut nic.waste.bytes_mut()[ETHERNET_BYTES..];
            let result = f(bytes);
            if self.muted {
                *self.emitted = Some(read_back(bytes));
            } else {
                nic.counters.drop_frame(DropReason::TxFull);
            }
            return result;
        };
        frame.set_len(ETHERNET_BYTES + len);
        let bytes = frame.bytes_mut();
        let result = f(&mut bytes[ETHERNET_BYTES..]);
        let is_v4 = bytes[ETHERNET_BYTES] >> 4 == 4;
        write_ethernet(bytes, self.peer, nic.mac, if is_v4 { ETHER_IPV4 } else { ETHER_IPV6 });
        // Ports are asked to do it for IPv4 only.
        let offload = nic.tx_checksum && is_v4;
        if !offload {
            checksum::fill(&mut bytes[ETHERNET_BYTES..]);
        }
        *self.emitted = Some(read_back(&bytes[ETHERNET_BYTES..]));
        frame.offload_checksums(offload);
        nic.out.push(frame);
        result
    }
}

impl Drop for TxToken<'_> {
    /// A token that was not needed gives its frame back.
    fn drop(&mut self) {
        if let Some(frame) = self.frame.take() {
            self.nic.spare.push(frame);
        }
    }
}

/// Shows frames to whoever wants to see them. Out of the way of a port that nobody looks at.
#[cold]
fn show(taps: &mut Vec<Tap>, frames: &[Frame], now: Instant, sent: bool) {
    taps.retain(|tap| !tap.is_over());
    taps.iter().for_each(|tap| tap.see(frames, now, sent));
}

/// What smoltcp is told of the port. Received checksums were verified in front of the flow table, and those of what it sends are filled in
/// behind it, here or by the port.
pub(super) fn capabilities(mtu: usize) -> DeviceCapabilities {
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ip;
    capabilities.max_transmission_unit = mtu;
    capabilities.checksum.ipv4 = Checksum::None;
    capabilities.checksum.tcp = Checksum::None;
    capabilities
}

fn write_ethernet(bytes: &mut [u8], to: Mac, from: Mac, kind: &[u8]) {
    bytes[..6].copy_from_slice(&to.0);
    bytes[6..12].copy_from_slice(&from.0);
    bytes[12..ETHERNET_BYTES].copy_from_slice(kind);
}

/// Reads the numbers of a segment that smoltcp has just built: an IP header without options, and TCP.
fn read_back(packet: &[u8]) -> Emitted {
    let tcp = packet::tcp_of(packet);
    let number = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
    let header = usize::from(tcp[12] >> 4) * 4;
    let payload = u32::try_from(tcp.len() - header).expect("within the MTU");
    let flags = u32::from(tcp[13]);
    let start = number(4);
    let end = start.wrapping_add(payload).wrapping_add(flags & 1).wrapping_add(flags >> 1 & 1);
    Emitted { start, end, acked: number(8), window: u16::from_be_bytes([tcp[14], tcp[15]]), is_last: flags & 1 != 0 }
}
