//! What a received frame is: the checks in front of the flow table.
//!
//! **Invariant:** never looks past the bytes it was given, and every frame that is not ours to handle has a [`DropReason`].

use std::net::Ipv4Addr;
use std::ops::Range;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4Message, Icmpv4Packet, IpAddress, IpProtocol, IpRepr, Ipv4Packet, TcpControl, TcpPacket, TcpRepr,
    TcpSeqNumber,
};

use super::arp::{self, Heard};
use super::flow_table::FlowKey;
use super::path_mtu::TooBig;
use super::recovery::is_after;
use super::syn_cookie::Offer;
use super::udp::{self, Arrived, Place, Whole};
use crate::counters::DropReason;
use crate::device::Mac;
use crate::frame::{Checksum, Frame};

/// A frame that is for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Packet {
    /// A neighbour asks or answers.
    Arp(Heard),
    /// An ICMP echo request; where its IPv4 packet is.
    Echo(Range<usize>),
    /// A TCP segment.
    Tcp(Segment),
    /// A datagram; where its IPv4 packet is.
    Datagram {
        ip: Range<usize>,
        /// Its places count from the end of the IPv4 header.
        arrived: Arrived,
    },
    /// A fragment of a datagram, and where its bytes are.
    Fragment { place: Place, payload: Range<usize> },
    /// A packet of ours was too long for its path.
    TooBig(TooBig),
    /// Nobody receives the datagrams of this socket of ours.
    Refused(FlowKey),
}

/// What the flow table and TIME-WAIT need of a TCP segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) key: FlowKey,
    pub(super) from: Mac,
    pub(super) syn: bool,
    pub(super) ack: bool,
    pub(super) rst: bool,
    pub(super) seq: u32,
    pub(super) acked: u32,
    /// The sequence number behind this segment.
    pub(super) end: u32,
    /// Its window field, as on the wire.
    pub(super) window: u16,
    /// Whether there are [`Options`] to be read.
    pub(super) has_options: bool,
    /// Where the IPv4 packet is in the frame.
    pub(super) ip: Range<usize>,
}

impl Segment {
    /// Whether it asks for a new connection.
    pub(super) fn opens(&self) -> bool {
        self.syn && !self.ack && !self.rst
    }

    /// Whether it acknowledges and does nothing else.
    pub(super) fn is_bare_ack(&self) -> bool {
        self.ack && !self.rst && self.end == self.seq
    }
}

/// What the options of a TCP segment say, as far as the sending side wants to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// Of a SYN: the peer can report what arrived behind a hole.
    pub(super) sack_permitted: bool,
    /// Of a SYN: the longest segment that it takes, in bytes.
    pub(super) segment_bytes_max: Option<u16>,
    /// Sequence numbers that have arrived, from the first up to the second (RFC 2018).
    pub(super) sack: [Option<(u32, u32)>; 3],
}

impl Options {
    /// Whether the first of the blocks tells of bytes that arrived twice (RFC 2883, 4), where everything before `acked` has arrived.
    pub(super) fn tells_of_duplicate(&self, acked: u32) -> bool {
        let Some((start, end)) = self.sack[0] else { return false };
        let within = |(from, to): (u32, u32)| !is_after(from, start) && !is_after(end, to);
        is_after(end, start) && (!is_after(end, acked) || self.sack[1].is_some_and(within))
    }
}

/// Reads the options of `segment`, whose IPv4 packet this is.
pub(super) fn options(packet: &[u8], segment: &Segment) -> Options {
    if !segment.has_options {
        return Options::default();
    }
    let ip = Ipv4Packet::new_unchecked(packet);
    // Options that can't be are none: smoltcp drops the segment.
    let found = TcpPacket::new_unchecked(ip.payload()).options_summary().unwrap_or_default();
    Options { sack_permitted: found.sack_permitted, segment_bytes_max: found.max_segment_size, sack: found.sack_ranges }
}

/// Finds out what `frame` is to the station `mac` with the address `ip`.
pub(super) fn parse(frame: &Frame, mac: Mac, ip: Ipv4Addr) -> Result<Packet, DropReason> {
    if frame.is_segmented() {
        return Err(DropReason::Segmented);
    }
    let bytes = frame.bytes();
    let (Some(to), Some(kind)) = (bytes.first_chunk::<6>(), bytes.get(12..ETHERNET_BYTES)) else {
        return Err(DropReason::Malformed);
    };
    if *to != mac.0 && Mac(*to) != Mac::BROADCAST {
        return Err(DropReason::OtherMac);
    }
    match kind {
        ETHER_ARP => arp::parse(&bytes[ETHERNET_BYTES..], ip).map(Packet::Arp).ok_or(DropReason::Arp),
        // RFC 1122, 3.3.6: what came to all stations of the link is for all of them only where IPv4 says so too; we serve nothing there.
        ETHER_IPV4 if *to != mac.0 => Err(DropReason::OtherMac),
        ETHER_IPV4 => parse_ipv4(frame, ip),
        _ => Err(DropReason::EtherType),
    }
}

fn parse_ipv4(frame: &Frame, ip: Ipv4Addr) -> Result<Packet, DropReason> {
    let bytes = frame.bytes();
    let packet = Ipv4Packet::new_checked(&bytes[ETHERNET_BYTES..]).map_err(|_| DropReason::Malformed)?;
    // new_checked looks at the lengths only.
    if packet.version() != 4 || packet.header_len() < 20 {
        return Err(DropReason::Malformed);
    }
    let verify = match frame.checksum() {
        Checksum::Bad => return Err(DropReason::Checksum),
        Checksum::Good => false,
        Checksum::Unknown => true,
    };
    if verify && !packet.verify_checksum() {
        return Err(DropReason::Checksum);
    }
    if packet.dst_addr() != ip || !is_host(packet.src_addr()) {
        return Err(DropReason::OtherAddress);
    }
    let range = ETHERNET_BYTES..ETHERNET_BYTES + usize::from(packet.total_len());
    if packet.more_frags() || packet.frag_offset() != 0 {
        return parse_fragment(&packet, range);
    }
    match packet.next_header() {
        IpProtocol::Tcp => parse_tcp(bytes, &packet, range, verify).map(Packet::Tcp),
        IpProtocol::Udp => {
            let arrived = udp::read(packet.payload(), packet.src_addr(), packet.dst_addr(), verify)?;
            Ok(Packet::Datagram { ip: range, arrived })
        }
        IpProtocol::Icmp => parse_icmp(packet.payload(), range, ip),
        _ => Err(DropReason::Protocol),
    }
}

fn parse_icmp(message: &[u8], range: Range<usize>, ip: Ipv4Addr) -> Result<Packet, DropReason> {
    let icmp = Icmpv4Packet::new_checked(message).map_err(|_| DropReason::Malformed)?;
    // A port checks TCP, UDP and IPv4 for us, never ICMP.
    if !icmp.verify_checksum() {
        return Err(DropReason::Checksum);
    }
    match (icmp.msg_type(), icmp.msg_code()) {
        (Icmpv4Message::EchoRequest, _) => Ok(Packet::Echo(range)),
        (Icmpv4Message::DstUnreachable, FRAGMENTATION_NEEDED) => {
            parse_too_big(message, ip).map(Packet::TooBig).ok_or(DropReason::Malformed)
        }
        (Icmpv4Message::DstUnreachable, PROTOCOL_UNREACHABLE | PORT_UNREACHABLE) => {
            let quoted = message.get(8..).and_then(udp::read_back).filter(|key| key.local == ip);
            quoted.map(Packet::Refused).ok_or(DropReason::Protocol)
        }
        _ => Err(DropReason::Protocol),
    }
}

/// A fragment: of a datagram, or of what nobody sends in fragments who is well.
fn parse_fragment(packet: &Ipv4Packet<&[u8]>, range: Range<usize>) -> Result<Packet, DropReason> {
    if packet.next_header() != IpProtocol::Udp {
        return Err(DropReason::Fragment);
    }
    let whole = Whole { peer: packet.src_addr().into(), local: packet.dst_addr().into(), id: packet.ident().into() };
    let place = Place { whole, offset: packet.frag_offset().into(), more: packet.more_frags() };
    Ok(Packet::Fragment { place, payload: range.start + usize::from(packet.header_len())..range.end })
}

/// Reads whose packet a router complains of in `icmp` (RFC 792, and 1191 for the MTU): one of `ip`'s, that was TCP.
fn parse_too_big(icmp: &[u8], ip: Ipv4Addr) -> Option<TooBig> {
    let (head, quoted) = icmp.split_first_chunk::<8>()?;
    let header = quoted.get(..20)?;
    let address = |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
    let (local, peer) = (address(12), address(16));
    let tcp = quoted.get(usize::from(header[0] & 15) * 4..)?.first_chunk::<8>()?;
    let [a, b, c, d, s, e, q, n] = *tcp;
    let key = FlowKey { peer, local, peer_port: u16::from_be_bytes([c, d]), local_port: u16::from_be_bytes([a, b]) };
    let is_ours = header[0] >> 4 == 4 && header[9] == u8::from(IpProtocol::Tcp) && local == ip;
    let mtu = u16::from_be_bytes([head[6], head[7]]);
    is_ours.then_some(TooBig { key, seq: u32::from_be_bytes([s, e, q, n]), mtu })
}

fn parse_tcp(frame: &[u8], ip: &Ipv4Packet<&[u8]>, at: Range<usize>, verify: bool) -> Result<Segment, DropReason> {
    let tcp = TcpPacket::new_checked(ip.payload()).map_err(|_| DropReason::Malformed)?;
    let (peer, local) = (ip.src_addr(), ip.dst_addr());
    if tcp.header_len() < 20 || tcp.src_port() == 0 || tcp.dst_port() == 0 {
        return Err(DropReason::Malformed);
    }
    if verify && !tcp.verify_checksum(&peer.into(), &local.into()) {
        return Err(DropReason::Checksum);
    }
    let [_, _, _, _, _, _, from @ ..] = frame.first_chunk::<12>().expect("longer than an Ethernet header");
    let seq = sequence(tcp.seq_number());
    let payload = u32::try_from(ip.payload().len() - usize::from(tcp.header_len())).expect("less than 64 KiB");
    Ok(Segment {
        key: FlowKey { peer, local, peer_port: tcp.src_port(), local_port: tcp.dst_port() },
        from: Mac(*from),
        syn: tcp.syn(),
        ack: tcp.ack(),
        rst: tcp.rst(),
        seq,
        acked: sequence(tcp.ack_number()),
        window: tcp.window_len(),
        has_options: tcp.header_len() > 20,
        end: seq.wrapping_add(payload).wrapping_add(u32::from(tcp.fin())).wrapping_add(u32::from(tcp.syn())),
        ip: at,
    })
}

/// An IPv4 packet as a peer would send it that acknowledges `acked` and nothing else. Its checksums are not filled in: it never leaves.
pub(super) fn bare_ack(key: &FlowKey, seq: u32, acked: u32, window: u16) -> [u8; 40] {
    let tcp = TcpRepr {
        src_port: key.peer_port,
        dst_port: key.local_port,
        control: TcpControl::None,
        seq_number: TcpSeqNumber(seq.cast_signed()),
        ack_number: Some(TcpSeqNumber(acked.cast_signed())),
        window_len: window,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let (peer, local) = (IpAddress::Ipv4(key.peer), IpAddress::Ipv4(key.local));
    let ip = IpRepr::new(peer, local, IpProtocol::Tcp, tcp.buffer_len(), 64);
    let caps = ChecksumCapabilities::ignored();
    let mut packet = [0; 40];
    ip.emit(&mut packet[..], &caps);
    tcp.emit(&mut TcpPacket::new_unchecked(&mut packet[20..]), &peer, &local, &caps);
    packet
}

/// The IPv4 packet of a SYN as a peer would send it that offers `offer`, and its length. Its checksums are not filled in: it never leaves.
pub(super) fn syn(key: &FlowKey, number: u32, offer: Offer) -> ([u8; 64], usize) {
    let tcp = TcpRepr {
        src_port: key.peer_port,
        dst_port: key.local_port,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(number.cast_signed()),
        ack_number: None,
        window_len: u16::MAX,
        window_scale: offer.window_scale,
        max_seg_size: Some(offer.segment_bytes),
        sack_permitted: offer.sack,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let (peer, local) = (IpAddress::Ipv4(key.peer), IpAddress::Ipv4(key.local));
    let ip = IpRepr::new(peer, local, IpProtocol::Tcp, tcp.buffer_len(), 64);
    let caps = ChecksumCapabilities::ignored();
    let (mut packet, len) = ([0; 64], ip.buffer_len());
    ip.emit(&mut packet[..len], &caps);
    tcp.emit(&mut TcpPacket::new_unchecked(&mut packet[ip.header_len()..len]), &peer, &local, &caps);
    (packet, len)
}

/// Turns an echo request into its reply, where it lies (RFC 792).
pub(super) fn answer_echo(frame: &mut Frame, ip: Range<usize>) {
    let end = ip.end;
    let bytes = frame.bytes_mut();
    let (to, rest) = bytes.split_at_mut(6);
    to.swap_with_slice(&mut rest[..6]);
    let mut packet = Ipv4Packet::new_unchecked(&mut bytes[ip]);
    let (src, dst) = (packet.src_addr(), packet.dst_addr());
    packet.set_src_addr(dst);
    packet.set_dst_addr(src);
    packet.set_hop_limit(64);
    packet.fill_checksum();
    let mut icmp = Icmpv4Packet::new_unchecked(packet.payload_mut());
    icmp.set_msg_type(Icmpv4Message::EchoReply);
    icmp.fill_checksum();
    // Without the padding of a short frame.
    frame.set_len(end);
    frame.offload_checksums(false);
}

/// A sequence number as it is on the wire.
pub(super) fn sequence(number: TcpSeqNumber) -> u32 {
    number.0.cast_unsigned()
}

/// Whether a packet may come from there.
fn is_host(ip: Ipv4Addr) -> bool {
    !ip.is_unspecified() && !ip.is_broadcast() && !ip.is_multicast() && !ip.is_loopback()
}

/// The codes of ICMP messages that nobody is there for a packet.
const PROTOCOL_UNREACHABLE: u8 = 2;
const PORT_UNREACHABLE: u8 = 3;
/// The code of an ICMP message that a packet was too long.
const FRAGMENTATION_NEEDED: u8 = 4;
/// Bytes of an Ethernet header.
pub(super) const ETHERNET_BYTES: usize = 14;
/// EtherType of IPv4.
pub(super) const ETHER_IPV4: &[u8] = &[0x08, 0x00];
/// EtherType of ARP.
pub(super) const ETHER_ARP: &[u8] = &[0x08, 0x06];

#[cfg(test)]
mod tests {
    use super::*;

    const US: (Mac, Ipv4Addr) = (Mac([2, 0, 0, 0, 0, 1]), Ipv4Addr::new(10, 0, 0, 1));
    const PEER: (Mac, Ipv4Addr) = (Mac([2, 0, 0, 0, 0, 2]), Ipv4Addr::new(10, 0, 0, 2));

    /// A frame from PEER to us with the IPv4 payload `payload`.
    fn frame(protocol: IpProtocol, payload: &[u8]) -> Frame {
        let len = ETHERNET_BYTES + 20 + payload.len();
        let mut frame = Frame::heap(len.max(60));
        frame.set_len(len.max(60));
        let bytes = frame.bytes_mut();
        bytes[..6].copy_from_slice(&US.0.0);
        bytes[6..12].copy_from_slice(&PEER.0.0);
        bytes[12..14].copy_from_slice(ETHER_IPV4);
        let mut ip = Ipv4Packet::new_unchecked(&mut bytes[14..len]);
        ip.set_version(4);
        ip.set_header_len(20);
        ip.set_total_len(u16::try_from(20 + payload.len()).unwrap());
        ip.set_next_header(protocol);
        ip.set_src_addr(PEER.1);
        ip.set_dst_addr(US.1);
        ip.set_hop_limit(64);
        ip.fill_checksum();
        ip.payload_mut().copy_from_slice(payload);
        frame
    }

    fn tcp() -> Frame {
        let mut segment = [0; 23];
        segment[20..].copy_from_slice(b"abc");
        let mut tcp = TcpPacket::new_unchecked(&mut segment[..]);
        tcp.set_src_port(1000);
        tcp.set_dst_port(80);
        tcp.set_seq_number(TcpSeqNumber(-2));
        tcp.set_header_len(20);
        tcp.set_fin(true);
        tcp.fill_checksum(&PEER.1.into(), &US.1.into());
        frame(IpProtocol::Tcp, &segment)
    }

    fn echo() -> Frame {
        let mut message = [8, 0, 0, 0, 0, 1, 0, 2, b'h', b'i'];
        Icmpv4Packet::new_unchecked(&mut message[..]).fill_checksum();
        frame(IpProtocol::Icmp, &message)
    }

    fn look(frame: &Frame) -> Result<Packet, DropReason> {
        parse(frame, US.0, US.1)
    }

    #[test]
    fn a_segment_is_read() {
        let Ok(Packet::Tcp(s)) = look(&tcp()) else { panic!("a segment") };
        assert_eq!((s.key.peer_port, s.key.local_port, s.from, s.seq), (1000, 80, PEER.0, u32::MAX - 1));
        assert_eq!((s.end, s.ip), (2, 14..57), "3 bytes and a FIN, around the end of the numbers; without padding");
    }

    #[test]
    fn an_echo_request_becomes_its_reply() {
        let mut frame = echo();
        let Ok(Packet::Echo(range)) = look(&frame) else { panic!("an echo request") };
        answer_echo(&mut frame, range);
        assert_eq!((&frame.bytes()[..6], &frame.bytes()[6..12]), (&PEER.0.0[..], &US.0.0[..]));
        assert_eq!(frame.bytes().len(), 14 + 20 + 10);
        let ip = Ipv4Packet::new_checked(&frame.bytes()[14..]).unwrap();
        assert!(ip.verify_checksum() && ip.src_addr() == US.1 && ip.dst_addr() == PEER.1);
        let icmp = Icmpv4Packet::new_checked(ip.payload()).unwrap();
        assert!(icmp.verify_checksum() && icmp.msg_type() == Icmpv4Message::EchoReply && icmp.data() == b"hi");
    }

    #[test]
    fn what_is_not_for_us_is_dropped_with_its_reason() {
        type Change = fn(&mut [u8]);
        let cases: [(Change, DropReason); 10] = [
            (|b| b[5] = 9, DropReason::OtherMac),
            (|b| b[..6].fill(0xff), DropReason::OtherMac),
            (|b| b[12] = 0x86, DropReason::EtherType),
            (|b| b[12..14].copy_from_slice(ETHER_ARP), DropReason::Arp),
            (|b| b[14] = 0x44, DropReason::Malformed),
            (|b| b[17] = 200, DropReason::Malformed),
            (|b| b[24] = 1, DropReason::Checksum),
            (|b| b[50] ^= 1, DropReason::Checksum),
            (|b| refill(b, |ip| ip.set_dst_addr(PEER.1)), DropReason::OtherAddress),
            (|b| refill(b, |ip| ip.set_more_frags(true)), DropReason::Fragment),
        ];
        for (n, (change, reason)) in cases.into_iter().enumerate() {
            let mut frame = tcp();
            change(frame.bytes_mut());
            assert_eq!(look(&frame), Err(reason), "case {n}");
        }
        assert_eq!(look(&frame(IpProtocol::Unknown(132), &[0; 8])), Err(DropReason::Protocol));
        assert_eq!(look(&frame(IpProtocol::Udp, &[0; 8])), Err(DropReason::Malformed));
        assert_eq!(look(&frame(IpProtocol::Icmp, &[3, 0, 252, 255, 0, 0, 0, 0])), Err(DropReason::Protocol));
    }

    /// Changes the IPv4 header and makes its checksum right again.
    fn refill(bytes: &mut [u8], change: impl FnOnce(&mut Ipv4Packet<&mut [u8]>)) {
        let mut ip = Ipv4Packet::new_unchecked(&mut bytes[14..]);
        change(&mut ip);
        ip.fill_checksum();
    }

    #[test]
    fn no_length_makes_it_panic() {
        for whole in [tcp(), echo()] {
            for len in 0..whole.bytes().len() {
                let mut cut = Frame::heap(100);
                cut.set_len(len);
                cut.bytes_mut().copy_from_slice(&whole.bytes()[..len]);
                let _ = look(&cut);
            }
        }
    }
}
