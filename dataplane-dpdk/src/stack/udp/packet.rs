//! A datagram on the wire: read where it arrived, and written into as many packets as it needs.
//!
//! **Invariant:** what is written is whole: its checksum covers all its fragments, and no two that are on their way to one host share a number.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;

use smoltcp::wire::{IpProtocol, UdpPacket, checksum};

use super::reassembly::Whole;
use crate::counters::DropReason;
use crate::frame::Frame;
use crate::stack::flow_table::FlowKey;
use crate::stack::packet::{ETHER_IPV4, ETHER_IPV6, ETHERNET_BYTES, quoted};

/// A datagram that has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::stack) struct Arrived {
    pub(in crate::stack) key: FlowKey,
    /// What it carries, by its place.
    pub(in crate::stack) payload: Range<usize>,
}

/// Reads a datagram, header and all, of an IP packet from `peer` to `local`. Places count from the start of `datagram`.
pub(in crate::stack) fn read(
    datagram: &[u8],
    peer: IpAddr,
    local: IpAddr,
    verify: bool,
) -> Result<Arrived, DropReason> {
    let udp = UdpPacket::new_checked(datagram).map_err(|_| DropReason::Malformed)?;
    // Nobody can answer to port 0.
    if udp.src_port() == 0 || udp.dst_port() == 0 {
        return Err(DropReason::Malformed);
    }
    // Only IPv4 lets a sender do without (RFC 8200, 8.1), whatever the port has found good.
    let lacks_sum = udp.checksum() == 0 && peer.is_ipv6();
    if lacks_sum || verify && !udp.verify_checksum(&peer.into(), &local.into()) {
        return Err(DropReason::Checksum);
    }
    let key = FlowKey { peer, local, peer_port: udp.src_port(), local_port: udp.dst_port() };
    Ok(Arrived { key, payload: UDP_BYTES..usize::from(udp.len()) })
}

/// A datagram to be sent, in as many packets as it takes.
#[derive(Clone, Debug)]
pub(super) struct Outgoing<B> {
    from: SocketAddr,
    to: SocketAddr,
    /// Tells its fragments from those of others.
    id: u32,
    /// Bytes of a packet, at most.
    mtu: u16,
    checksum: u16,
    bytes: B,
}

impl<B: AsRef<[u8]>> Outgoing<B> {
    /// `from` and `to` are of one family, and `bytes` no more than a datagram of it can carry.
    pub(super) fn new(from: SocketAddr, to: SocketAddr, id: u32, mtu: u16, bytes: B) -> Self {
        let mut datagram = Self { from, to, id, mtu, checksum: 0, bytes };
        let (ours, theirs) = (from.ip().into(), to.ip().into());
        let sums = [
            checksum::pseudo_header(&ours, &theirs, IpProtocol::Udp, datagram.len().into()),
            checksum::data(&datagram.header()),
            checksum::data(datagram.bytes.as_ref()),
        ];
        // 0 would say that there is none (RFC 768).
        datagram.checksum = match !checksum::combine(&sums) {
            0 => u16::MAX,
            sum => sum,
        };
        datagram
    }

    /// The length of header and bytes together.
    pub(super) fn len(&self) -> u16 {
        u16::try_from(UDP_BYTES + self.bytes.as_ref().len()).expect("no more than a datagram can carry")
    }

    /// Whether it takes more than one packet.
    pub(super) fn is_cut(&self) -> bool {
        usize::from(self.len()) > usize::from(self.mtu) - self.ip_bytes()
    }

    /// What an Ethernet header says of its packets.
    pub(super) fn ether_type(&self) -> &'static [u8] {
        if self.from.is_ipv4() { ETHER_IPV4 } else { ETHER_IPV6 }
    }

    /// The length of the packet with the fragment at `offset`.
    pub(super) fn packet_len(&self, offset: u16) -> usize {
        self.header_bytes() + usize::from(self.end(offset) - offset)
    }

    /// Writes the packet with the fragment at `offset`. Answers where the next one begins; None: there is none.
    pub(super) fn write(&self, offset: u16, packet: &mut [u8]) -> Option<u16> {
        let end = self.end(offset);
        let more = end < self.len();
        let (ip, payload) = packet.split_at_mut(self.header_bytes());
        self.write_header(ip, offset, end - offset, more);
        let bytes = self.bytes.as_ref();
        let (start, end_at) = (usize::from(offset), usize::from(end));
        if offset == 0 {
            payload[..UDP_BYTES].copy_from_slice(&self.header());
            payload[UDP_BYTES..end_at].copy_from_slice(&bytes[..end_at - UDP_BYTES]);
        } else {
            payload[..end_at - start].copy_from_slice(&bytes[start - UDP_BYTES..end_at - UDP_BYTES]);
        }
        more.then_some(end)
    }

    /// The same datagram with bytes of its own.
    pub(super) fn owned(&self) -> Outgoing<Box<[u8]>> {
        let Self { from, to, id, mtu, checksum, ref bytes } = *self;
        Outgoing { from, to, id, mtu, checksum, bytes: bytes.as_ref().into() }
    }

    fn write_header(&self, ip: &mut [u8], offset: u16, len: u16, more: bool) {
        let protocol = u8::from(IpProtocol::Udp);
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                ip[..2].copy_from_slice(&[0x45, 0]);
                ip[2..4].copy_from_slice(&(20 + len).to_be_bytes());
                let [_, _, a, b] = self.id.to_be_bytes();
                ip[4..6].copy_from_slice(&[a, b]);
                // Routers may cut it: nobody would tell whoever sent it to cut it himself.
                ip[6..8].copy_from_slice(&((offset / 8) | (u16::from(more) << 13)).to_be_bytes());
                ip[8..12].copy_from_slice(&[HOPS, protocol, 0, 0]);
                ip[12..16].copy_from_slice(&from.octets());
                ip[16..].copy_from_slice(&to.octets());
                let sum = !checksum::data(ip);
                ip[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            (from, to) => {
                let is_cut = self.is_cut();
                let behind = if is_cut { len + FRAGMENT_BYTES } else { len };
                ip[..4].copy_from_slice(&[0x60, 0, 0, 0]);
                ip[4..6].copy_from_slice(&behind.to_be_bytes());
                ip[6..8].copy_from_slice(&[if is_cut { FRAGMENT } else { protocol }, HOPS]);
                ip[8..24].copy_from_slice(&octets(from));
                ip[24..40].copy_from_slice(&octets(to));
                if is_cut {
                    ip[40..42].copy_from_slice(&[protocol, 0]);
                    ip[42..44].copy_from_slice(&(offset | u16::from(more)).to_be_bytes());
                    ip[44..48].copy_from_slice(&self.id.to_be_bytes());
                }
            }
        }
    }

    /// The header of the family.
    fn ip_bytes(&self) -> usize {
        if self.from.is_ipv4() { 20 } else { 40 }
    }

    /// All headers in front of a fragment.
    fn header_bytes(&self) -> usize {
        let of_fragment = if self.from.is_ipv6() && self.is_cut() { usize::from(FRAGMENT_BYTES) } else { 0 };
        self.ip_bytes() + of_fragment
    }

    /// Where the fragment at `offset` ends.
    fn end(&self, offset: u16) -> u16 {
        let headers = u16::try_from(self.header_bytes()).expect("less than 50");
        let room = self.mtu - headers;
        if self.len() - offset <= room { self.len() } else { offset + (room & !7) }
    }

    /// The header of the datagram.
    pub(super) fn header(&self) -> [u8; UDP_BYTES] {
        let mut header = [0; UDP_BYTES];
        let fields = [self.from.port(), self.to.port(), self.len(), self.checksum];
        header.chunks_exact_mut(2).zip(fields).for_each(|(to, field)| to.copy_from_slice(&field.to_be_bytes()));
        header
    }
}

/// The frame that a datagram would have come in, in one piece: `fragment` is one of those that it came in.
pub(super) fn whole(fragment: &Frame, of: &Whole, datagram: &[u8]) -> Frame {
    let mut bytes = fragment.bytes()[..ETHERNET_BYTES].to_vec();
    let (len, protocol) = (datagram.len(), u8::from(IpProtocol::Udp));
    let field = |len: usize| u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes();
    match (of.peer, of.local) {
        (IpAddr::V4(peer), IpAddr::V4(local)) => {
            let mut ip = [0; 20];
            (ip[0], ip[8], ip[9]) = (0x45, HOPS, protocol);
            ip[2..4].copy_from_slice(&field(20 + len));
            ip[12..16].copy_from_slice(&peer.octets());
            ip[16..].copy_from_slice(&local.octets());
            let sum = !checksum::data(&ip);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            bytes.extend_from_slice(&ip);
        }
        (peer, local) => {
            bytes.extend_from_slice(&[0x60, 0, 0, 0]);
            bytes.extend_from_slice(&field(len));
            bytes.extend_from_slice(&[protocol, HOPS]);
            bytes.extend_from_slice(&octets(peer));
            bytes.extend_from_slice(&octets(local));
        }
    }
    bytes.extend_from_slice(datagram);
    bytes.into()
}

/// Reads whose datagram a packet of ours was, if it is its first fragment or all of it: the key of its socket.
pub(in crate::stack) fn read_back(packet: &[u8]) -> Option<FlowKey> {
    let protocol = u8::from(IpProtocol::Udp);
    if packet.first()? >> 4 == 6 {
        let (ip, rest) = packet.split_first_chunk::<40>()?;
        let address = |at: usize| ip[at..].first_chunk::<16>().map(|address| IpAddr::from(*address));
        let (next, payload) = match (ip[6], rest) {
            (FRAGMENT, [next, _, high, low, _, _, _, _, rest @ ..]) if *high == 0 && *low & !7 == 0 => (*next, rest),
            (next, rest) => (next, rest),
        };
        return quoted(address(8)?, address(24)?, payload).map(|(key, _)| key).filter(|_| next == protocol);
    }
    let ip = packet.first_chunk::<20>()?;
    let is_first = ip[6] & 0x1f == 0 && ip[7] == 0;
    let is_udp = ip[0] >> 4 == 4 && ip[9] == protocol && is_first;
    let address = |at: usize| IpAddr::V4(Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]));
    let payload = packet.get(usize::from(ip[0] & 15) * 4..)?;
    quoted(address(12), address(16), payload).map(|(key, _)| key).filter(|_| is_udp)
}

/// What a datagram to `to` carries, in bytes, at most.
pub(super) fn payload_bytes_max(to: IpAddr) -> usize {
    // Over IPv6 the header is not part of the length (RFC 8200, 3).
    let whole = if to.is_ipv4() { 65_535 - 20 } else { 65_535 };
    whole - UDP_BYTES
}

fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

pub(super) const UDP_BYTES: usize = 8;
const HOPS: u8 = 64;
/// The header of fragments of IPv6, and its length in bytes.
const FRAGMENT: u8 = 44;
const FRAGMENT_BYTES: u16 = 8;

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use smoltcp::wire::Ipv4Packet;

    use super::*;

    const FROM: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 53);
    const TO: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), 4000);
    const FROM_6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)), 53);
    const TO_6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2)), 4000);

    /// The packets of a datagram.
    fn packets(bytes: &[u8], mtu: u16) -> Vec<Vec<u8>> {
        packets_between(FROM, TO, bytes, mtu)
    }

    fn packets_between(from: SocketAddr, to: SocketAddr, bytes: &[u8], mtu: u16) -> Vec<Vec<u8>> {
        let datagram = Outgoing::new(from, to, 77, mtu, bytes);
        let (mut packets, mut next) = (Vec::new(), Some(0));
        while let Some(offset) = next {
            let mut packet = vec![0xee; datagram.packet_len(offset)];
            next = datagram.write(offset, &mut packet);
            packets.push(packet);
        }
        packets
    }

    #[test]
    fn a_datagram_of_ipv6_without_a_checksum_is_not_taken() {
        let packet = &packets_between(FROM_6, TO_6, b"hello", 1500)[0];
        let mut datagram = packet[40..].to_vec();
        assert!(read(&datagram, FROM_6.ip(), TO_6.ip(), false).is_ok());
        datagram[6..8].fill(0);
        assert_eq!(read(&datagram, FROM_6.ip(), TO_6.ip(), false).err(), Some(DropReason::Checksum));
        assert!(read(&datagram, FROM.ip(), TO.ip(), false).is_ok(), "over IPv4 it may lack one");
    }

    #[test]
    fn what_is_written_is_read() {
        for bytes in [&b""[..], b"x", b"hello", &[7; 1472]] {
            let packets = packets(bytes, 1500);
            let [packet] = &packets[..] else { panic!("one packet") };
            let ip = Ipv4Packet::new_checked(&packet[..]).unwrap();
            assert!(ip.verify_checksum() && !ip.more_frags() && !ip.dont_frag() && ip.frag_offset() == 0);
            let arrived = read(ip.payload(), FROM.ip(), TO.ip(), true).unwrap();
            assert_eq!((arrived.key.peer_port, arrived.key.local_port), (53, 4000));
            assert_eq!(ip.payload()[arrived.payload], *bytes);
            let key = FlowKey { peer: TO.ip(), local: FROM.ip(), peer_port: 4000, local_port: 53 };
            assert_eq!(read_back(packet), Some(key));
        }
    }

    #[test]
    fn a_long_one_is_cut_where_it_may_be() {
        let bytes: Vec<u8> = (0..65_507_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
        for mtu in [576, 1500, 1501, 9000] {
            let packets = packets(&bytes, mtu);
            let mut whole = Vec::new();
            for (n, packet) in packets.iter().enumerate() {
                let ip = Ipv4Packet::new_checked(&packet[..]).unwrap();
                assert!(packet.len() <= usize::from(mtu) && ip.verify_checksum());
                assert_eq!((usize::from(ip.frag_offset()), ip.ident()), (whole.len(), 77));
                assert_eq!(ip.more_frags(), n + 1 < packets.len());
                assert_eq!(read_back(packet).is_some(), n == 0);
                whole.extend_from_slice(ip.payload());
            }
            let arrived = read(&whole, FROM.ip(), TO.ip(), true).expect("its checksum covers all of it");
            assert!(whole[arrived.payload] == bytes[..], "MTU {mtu}");
        }
    }

    #[test]
    fn over_ipv6_only_what_is_cut_has_a_header_for_it() {
        let bytes: Vec<u8> = (0..65_527_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
        for (len, mtu) in [(0, 1280), (1232, 1280), (1233, 1280), (1452, 1500), (1453, 1500), (65_527, 1500)] {
            let packets = packets_between(FROM_6, TO_6, &bytes[..len], mtu);
            assert_eq!(packets.len() == 1, len + 48 <= usize::from(mtu), "{len} {mtu}");
            let mut whole = Vec::new();
            for (n, packet) in packets.iter().enumerate() {
                assert!(packet.len() <= usize::from(mtu));
                assert_eq!(usize::from(u16::from_be_bytes([packet[4], packet[5]])), packet.len() - 40);
                if packets.len() > 1 {
                    let place = u16::from_be_bytes([packet[42], packet[43]]);
                    assert_eq!((packet[6], packet[40], usize::from(place & !7)), (44, 17, whole.len()));
                    assert_eq!(place & 1 == 1, n + 1 < packets.len());
                }
                assert_eq!(read_back(packet).map(|key| key.local_port), (n == 0).then_some(53));
                whole.extend_from_slice(&packet[if packets.len() > 1 { 48 } else { 40 }..]);
            }
            let arrived = read(&whole, FROM_6.ip(), TO_6.ip(), true).expect("its checksum covers all of it");
            assert!(whole[arrived.payload] == bytes[..len]);
            whole[6..8].fill(0);
            assert_eq!(read(&whole, FROM_6.ip(), TO_6.ip(), true), Err(DropReason::Checksum), "it must have one");
        }
    }

    #[test]
    fn a_sum_of_zero_is_not_sent_as_none() {
        // The bytes make up for everything else in the sum.
        let plain = Outgoing::new(FROM, TO, 0, 1500, [0, 0]);
        let zero = Outgoing::new(FROM, TO, 0, 1500, plain.checksum.to_be_bytes());
        assert_eq!(zero.checksum, u16::MAX);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let good = packets(b"hello", 1500).remove(0).split_off(20);
        let look = |bytes: &[u8]| read(bytes, FROM.ip(), TO.ip(), true);
        type Change = fn(&mut Vec<u8>);
        let cases: [(Change, DropReason); 6] = [
            (|b| b[9] ^= 1, DropReason::Checksum),
            (|b| b[0] ^= 1, DropReason::Checksum),
            (|b| b[2..4].fill(0), DropReason::Malformed),
            (|b| b[5] = 7, DropReason::Malformed),
            (|b| b[5] = 200, DropReason::Malformed),
            (|b| b.truncate(7), DropReason::Malformed),
        ];
        for (n, (change, reason)) in cases.into_iter().enumerate() {
            let mut bad = good.clone();
            change(&mut bad);
            assert_eq!(look(&bad), Err(reason), "case {n}");
        }
        let mut unchecked = good;
        unchecked[6..8].fill(0);
        unchecked[9] ^= 1;
        assert!(look(&unchecked).is_ok(), "who sends no checksum wants none (RFC 768)");
    }
}
