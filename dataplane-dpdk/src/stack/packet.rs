//! What a received frame is: the checks in front of the flow table.
//!
//! **Invariant:** never looks past the bytes it was given, and every frame that is not ours to handle has a [`DropReason`].

use std::net::IpAddr;
use std::ops::Range;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpAddress, IpProtocol, IpRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

use super::flow_table::FlowKey;
use super::ours::Ours;
use super::path_mtu::TooBig;
use super::recovery::is_after;
use super::syn_cookie::Offer;
use super::udp::{self, Arrived, Place};
use super::{arp, checksum, ipv4, ipv6, nd};
use crate::counters::DropReason;
use crate::device::Mac;
use crate::frame::{Checksum, Frame};

/// A frame that is for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Packet {
    /// A neighbour asks or answers.
    Arp(arp::Heard),
    /// The same over IPv6.
    Nd(nd::Heard),
    /// An ICMP echo request, of either family; where its IP packet is.
    Echo(Range<usize>),
    /// A TCP segment.
    Tcp(Segment),
    /// A datagram; where its IP packet is.
    Datagram {
        ip: Range<usize>,
        /// Its places count from the end of the IP header.
        arrived: Arrived,
    },
    /// A fragment of a datagram, and where its bytes are.
    Fragment { place: Place, payload: Range<usize> },
    /// A segment of ours was too long for its path.
    TooBig(TooBig),
    /// A datagram of ours was: to whom, and what his path takes.
    Narrow(udp::Narrow),
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
    /// Where the IP packet is in the frame.
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

/// Reads the options of `segment`, whose IP packet this is.
pub(super) fn options(packet: &[u8], segment: &Segment) -> Options {
    if !segment.has_options {
        return Options::default();
    }
    // Options that can't be are none: smoltcp drops the segment.
    let found = TcpPacket::new_unchecked(tcp_of(packet)).options_summary().unwrap_or_default();
    Options { sack_permitted: found.sack_permitted, segment_bytes_max: found.max_segment_size, sack: found.sack_ranges }
}

/// Finds out what `frame` is to us.
pub(super) fn parse(frame: &Frame, ours: &Ours) -> Result<Packet, DropReason> {
    if frame.is_segmented() {
        return Err(DropReason::Segmented);
    }
    let bytes = frame.bytes();
    let (Some(to), Some(kind)) = (bytes.first_chunk::<6>(), bytes.get(12..ETHERNET_BYTES)) else {
        return Err(DropReason::Malformed);
    };
    let to = Mac(*to);
    match kind {
        // RFC 1122, 3.3.6: what came to all stations of the link is for all of them only where IP says so too; we serve nothing there.
        ETHER_IPV4 if to == ours.mac => ipv4::parse(frame, ours),
        ETHER_IPV6 if to == ours.mac => ipv6::parse(frame, ours),
        ETHER_IPV6 if to.is_ipv6_group() => ipv6::parse_group(frame, ours),
        ETHER_ARP if to == ours.mac || to == Mac::BROADCAST => {
            arp::parse(&bytes[ETHERNET_BYTES..]).map(Packet::Arp).ok_or(DropReason::Arp)
        }
        ETHER_IPV4 | ETHER_IPV6 | ETHER_ARP => Err(DropReason::OtherMac),
        _ if to != ours.mac && to != Mac::BROADCAST => Err(DropReason::OtherMac),
        _ => Err(DropReason::EtherType),
    }
}

/// What is known of a packet in front of its payload.
pub(super) struct Header {
    pub(super) peer: IpAddr,
    pub(super) local: IpAddr,
    /// Whether the sum of the payload is still to be looked at.
    pub(super) verify: bool,
    /// Where the IP packet is in the frame.
    pub(super) ip: Range<usize>,
}

/// Whether sums are still to be looked at; an error when the port found one wrong.
pub(super) fn must_verify(frame: &Frame) -> Result<bool, DropReason> {
    match frame.checksum() {
        Checksum::Bad => Err(DropReason::Checksum),
        Checksum::Good => Ok(false),
        Checksum::Unknown => Ok(true),
    }
}

/// Reads a TCP segment, the payload of an IP packet.
pub(super) fn parse_tcp(frame: &[u8], payload: &[u8], header: Header) -> Result<Segment, DropReason> {
    let Header { peer, local, verify, ip } = header;
    let tcp = TcpPacket::new_checked(payload).map_err(|_| DropReason::Malformed)?;
    if tcp.header_len() < 20 || tcp.src_port() == 0 || tcp.dst_port() == 0 {
        return Err(DropReason::Malformed);
    }
    // The addresses are what an IP header ends with, but for options.
    let addresses = if peer.is_ipv4() { ip.start + 12..ip.start + 20 } else { ip.start + 8..ip.start + 40 };
    if verify && !checksum::is_right_of_tcp(&frame[addresses], payload) {
        return Err(DropReason::Checksum);
    }
    let [_, _, _, _, _, _, from @ ..] = frame.first_chunk::<12>().expect("longer than an Ethernet header");
    let seq = sequence(tcp.seq_number());
    let payload = u32::try_from(payload.len() - usize::from(tcp.header_len())).expect("less than 64 KiB");
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
        ip,
    })
}

/// The TCP header of an IP packet without other headers, and what follows it.
pub(super) fn tcp_of(packet: &[u8]) -> &[u8] {
    let header = if packet[0] >> 4 == 4 { usize::from(packet[0] & 15) * 4 } else { 40 };
    &packet[header..]
}

/// Whom an ICMP message is about that quotes a packet of ours with these addresses, and this behind its IP header: its key and, of TCP, its
/// sequence number.
pub(super) fn quoted(local: IpAddr, peer: IpAddr, payload: &[u8]) -> Option<(FlowKey, u32)> {
    let [a, b, c, d, s, e, q, n] = *payload.first_chunk::<8>()?;
    let (local_port, peer_port) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Some((FlowKey { peer, local, peer_port, local_port }, u32::from_be_bytes([s, e, q, n])))
}

/// An IP packet as a peer would send it. Its sums are not filled in: it never leaves.
pub(super) struct Forged {
    bytes: [u8; FORGED_BYTES_MAX],
    len: usize,
}

impl Forged {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn new(key: &FlowKey, tcp: &TcpRepr<'_>) -> Self {
        let (peer, local) = (IpAddress::from(key.peer), IpAddress::from(key.local));
        let ip = IpRepr::new(peer, local, IpProtocol::Tcp, tcp.buffer_len(), 64);
        let caps = ChecksumCapabilities::ignored();
        let (mut bytes, len) = ([0; FORGED_BYTES_MAX], ip.buffer_len());
        ip.emit(&mut bytes[..len], &caps);
        tcp.emit(&mut TcpPacket::new_unchecked(&mut bytes[ip.header_len()..len]), &peer, &local, &caps);
        Self { bytes, len }
    }
}

/// A packet that acknowledges `acked` and nothing else.
pub(super) fn bare_ack(key: &FlowKey, seq: u32, acked: u32, window: u16) -> Forged {
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
    Forged::new(key, &tcp)
}

/// A SYN that offers `offer`.
pub(super) fn syn(key: &FlowKey, number: u32, offer: Offer) -> Forged {
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
    Forged::new(key, &tcp)
}

/// Swaps the Ethernet addresses of a frame that goes back to its sender.
pub(super) fn turn_round(frame: &mut Frame) {
    let (to, rest) = frame.bytes_mut().split_at_mut(6);
    to.swap_with_slice(&mut rest[..6]);
}

/// Turns an echo request into its reply, where it lies (RFC 792, and 4443, 4.2).
pub(super) fn answer_echo(frame: &mut Frame, ip: Range<usize>, ours: &Ours) {
    let end = ip.end;
    turn_round(frame);
    // What came to a group goes back from a station.
    frame.bytes_mut()[6..12].copy_from_slice(&ours.mac.0);
    let packet = &mut frame.bytes_mut()[ip];
    if packet[0] >> 4 == 4 {
        ipv4::answer_echo(packet)
    } else {
        ipv6::answer_echo(packet)
    }
    // Without the padding of a short frame.
    frame.set_len(end);
    frame.offload_checksums(false);
}

/// A sequence number as it is on the wire.
pub(super) fn sequence(number: TcpSeqNumber) -> u32 {
    number.0.cast_unsigned()
}

/// IPv6, and TCP with the options of a SYN.
const FORGED_BYTES_MAX: usize = 40 + 20 + 24;
/// Bytes of an Ethernet header.
pub(super) const ETHERNET_BYTES: usize = 14;
/// EtherType of IPv4.
pub(super) const ETHER_IPV4: &[u8] = &[0x08, 0x00];
/// EtherType of IPv6.
pub(super) const ETHER_IPV6: &[u8] = &[0x86, 0xdd];
/// EtherType of ARP.
pub(super) const ETHER_ARP: &[u8] = &[0x08, 0x06];

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use ferrogate_core::config::dataplane::Network;
    use smoltcp::wire::{Icmpv4Message, Icmpv4Packet, Ipv4Packet};

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
        parse(frame, &Ours::new(US.0, &[Network::new(US.1, 24)], &[]))
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
        answer_echo(&mut frame, range, &Ours::new(US.0, &[Network::new(US.1, 24)], &[]));
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
        let cases: [(Change, DropReason); 11] = [
            (|b| b[5] = 9, DropReason::OtherMac),
            (|b| b[..6].fill(0xff), DropReason::OtherMac),
            (|b| b[12] = 0x86, DropReason::EtherType),
            (|b| b[12..14].copy_from_slice(ETHER_ARP), DropReason::Arp),
            (|b| b[12..14].copy_from_slice(ETHER_IPV6), DropReason::Malformed),
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

    /// A frame from a station of IPv6 with this payload.
    fn frame_6(to: Mac, next: u8, addresses: (Ipv6Addr, Ipv6Addr), payload: &[u8]) -> Frame {
        let mut frame = Frame::heap(ETHERNET_BYTES + 40 + payload.len());
        frame.set_len(ETHERNET_BYTES + 40 + payload.len());
        let bytes = frame.bytes_mut();
        bytes[..6].copy_from_slice(&to.0);
        bytes[6..12].copy_from_slice(&PEER.0.0);
        bytes[12..14].copy_from_slice(ETHER_IPV6);
        bytes[14..18].copy_from_slice(&[0x60, 0, 0, 0]);
        bytes[18..20].copy_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
        bytes[20..22].copy_from_slice(&[next, 255]);
        bytes[22..38].copy_from_slice(&addresses.0.octets());
        bytes[38..54].copy_from_slice(&addresses.1.octets());
        bytes[54..].copy_from_slice(payload);
        frame
    }

    const US_6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
    const PEER_6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);

    fn look_6(frame: &Frame) -> Result<Packet, DropReason> {
        parse(frame, &Ours::new(US.0, &[Network::new(US_6, 64)], &[]))
    }

    fn tcp_6() -> Frame {
        let mut segment = [0; 23];
        segment[20..].copy_from_slice(b"abc");
        let mut tcp = TcpPacket::new_unchecked(&mut segment[..]);
        tcp.set_src_port(1000);
        tcp.set_dst_port(80);
        tcp.set_header_len(20);
        tcp.fill_checksum(&PEER_6.into(), &US_6.into());
        frame_6(US.0, 6, (PEER_6, US_6), &segment)
    }

    fn echo_6() -> Frame {
        let mut message = [128, 0, 0, 0, 0, 1, 0, 2, b'h', b'i'];
        nd::fill_checksum(PEER_6, US_6, &mut message);
        frame_6(US.0, 58, (PEER_6, US_6), &message)
    }

    #[test]
    fn ipv6_is_read_and_echoed() {
        let Ok(Packet::Tcp(s)) = look_6(&tcp_6()) else { panic!("a segment") };
        assert_eq!((s.key.peer, s.key.local, s.key.local_port, s.ip), (PEER_6.into(), US_6.into(), 80, 14..77));
        let mut frame = echo_6();
        let Ok(Packet::Echo(range)) = look_6(&frame) else { panic!("an echo request") };
        answer_echo(&mut frame, range, &Ours::new(US.0, &[], &[]));
        let bytes = frame.bytes();
        assert_eq!((&bytes[..6], &bytes[6..12]), (&PEER.0.0[..], &US.0.0[..]));
        assert_eq!((&bytes[22..38], &bytes[38..54]), (&US_6.octets()[..], &PEER_6.octets()[..]));
        assert!(bytes[54] == 129 && nd::verify_checksum(US_6, PEER_6, &bytes[54..]));
    }

    #[test]
    fn of_ipv6_too_what_is_not_for_us_is_dropped_with_its_reason() {
        type Change = fn(&mut [u8]);
        let cases: [(Change, DropReason); 12] = [
            (|b| b[5] = 9, DropReason::OtherMac),
            (|b| b[..6].fill(0xff), DropReason::OtherMac),
            (|b| b[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]), DropReason::OtherAddress),
            (|b| b[14] = 0x40, DropReason::Malformed),
            (|b| b[19] = 200, DropReason::Malformed),
            (|b| b[53] = 9, DropReason::OtherAddress),
            (|b| b[22..38].fill(0), DropReason::OtherAddress),
            (|b| b[22] = 0xff, DropReason::OtherAddress),
            (|b| b[75] ^= 1, DropReason::Checksum),
            (|b| b[20] = 0, DropReason::Extension),
            (|b| b[20] = 60, DropReason::Extension),
            (|b| b[20] = 59, DropReason::Protocol),
        ];
        for (n, (change, reason)) in cases.into_iter().enumerate() {
            let mut frame = tcp_6();
            change(frame.bytes_mut());
            assert_eq!(look_6(&frame), Err(reason), "case {n}");
        }
        let fragment = frame_6(US.0, 44, (PEER_6, US_6), &[6, 0, 0, 1, 0, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(look_6(&fragment), Err(DropReason::Fragment), "of TCP");
        let mut wrong = echo_6();
        wrong.bytes_mut()[60] ^= 1;
        assert_eq!(look_6(&wrong), Err(DropReason::Checksum));
    }

    #[test]
    fn no_length_makes_it_panic() {
        for whole in [tcp(), echo(), tcp_6(), echo_6()] {
            for len in 0..whole.bytes().len() {
                let mut cut = Frame::heap(100);
                cut.set_len(len);
                cut.bytes_mut().copy_from_slice(&whole.bytes()[..len]);
                let _ = (look(&cut), look_6(&cut));
            }
        }
    }
}
