//! A datagram on the wire: read where it arrived, and written into as many packets as it needs.
//!
//! **Invariant:** what is written is whole: its checksum covers all its fragments, and no two that are on their way to one host share a number.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;

use smoltcp::wire::{IpProtocol, UdpPacket, checksum};

use crate::counters::DropReason;
use crate::stack::flow_table::FlowKey;

/// A datagram that has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::stack) struct Arrived {
    pub(in crate::stack) key: FlowKey,
    /// What it carries, by its place.
    pub(in crate::stack) payload: Range<usize>,
}

/// Reads a datagram, header and all, of an IPv4 packet from `peer` to `local`. Places count from the start of `datagram`.
pub(in crate::stack) fn read(
    datagram: &[u8],
    peer: Ipv4Addr,
    local: Ipv4Addr,
    verify: bool,
) -> Result<Arrived, DropReason> {
    let udp = UdpPacket::new_checked(datagram).map_err(|_| DropReason::Malformed)?;
    // Nobody can answer to port 0.
    if udp.src_port() == 0 || udp.dst_port() == 0 {
        return Err(DropReason::Malformed);
    }
    if verify && !udp.verify_checksum(&peer.into(), &local.into()) {
        return Err(DropReason::Checksum);
    }
    let key = FlowKey { peer, local, peer_port: udp.src_port(), local_port: udp.dst_port() };
    Ok(Arrived { key, payload: UDP_BYTES..usize::from(udp.len()) })
}

/// A datagram to be sent, in as many packets as it takes.
#[derive(Clone, Debug)]
pub(super) struct Outgoing<B> {
    from: SocketAddrV4,
    to: SocketAddrV4,
    /// Tells its fragments from those of others.
    id: u16,
    checksum: u16,
    bytes: B,
}

impl<B: AsRef<[u8]>> Outgoing<B> {
    /// `bytes` are no more than a datagram can carry.
    pub(super) fn new(from: SocketAddrV4, to: SocketAddrV4, id: u16, bytes: B) -> Self {
        let mut datagram = Self { from, to, id, checksum: 0, bytes };
        let sums = [
            checksum::pseudo_header(&(*from.ip()).into(), &(*to.ip()).into(), IpProtocol::Udp, datagram.len().into()),
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

    /// The length of the packet with the fragment at `offset`.
    pub(super) fn packet_len(&self, offset: u16, mtu: u16) -> usize {
        IPV4_BYTES + usize::from(self.end(offset, mtu) - offset)
    }

    /// Writes the packet with the fragment at `offset`. Answers where the next one begins; None: there is none.
    pub(super) fn write(&self, offset: u16, mtu: u16, packet: &mut [u8]) -> Option<u16> {
        let end = self.end(offset, mtu);
        let more = end < self.len();
        let (ip, payload) = packet.split_at_mut(IPV4_BYTES);
        ip[..2].copy_from_slice(&[0x45, 0]);
        let total = IPV4_BYTES_U16 + end - offset;
        ip[2..4].copy_from_slice(&total.to_be_bytes());
        ip[4..6].copy_from_slice(&self.id.to_be_bytes());
        // Routers may cut it: nobody would tell whoever sent it to cut it himself.
        ip[6..8].copy_from_slice(&((offset / 8) | (u16::from(more) << 13)).to_be_bytes());
        ip[8..12].copy_from_slice(&[HOPS, u8::from(IpProtocol::Udp), 0, 0]);
        ip[12..16].copy_from_slice(&self.from.ip().octets());
        ip[16..].copy_from_slice(&self.to.ip().octets());
        let sum = !checksum::data(ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
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
        let Self { from, to, id, checksum, ref bytes } = *self;
        Outgoing { from, to, id, checksum, bytes: bytes.as_ref().into() }
    }

    /// Where the fragment at `offset` ends.
    fn end(&self, offset: u16, mtu: u16) -> u16 {
        let room = mtu - IPV4_BYTES_U16;
        if self.len() - offset <= room { self.len() } else { offset + (room & !7) }
    }

    fn header(&self) -> [u8; UDP_BYTES] {
        let mut header = [0; UDP_BYTES];
        let fields = [self.from.port(), self.to.port(), self.len(), self.checksum];
        header.chunks_exact_mut(2).zip(fields).for_each(|(to, field)| to.copy_from_slice(&field.to_be_bytes()));
        header
    }
}

/// Reads whose datagram a packet of ours was, fragment or not: the key of its socket.
pub(in crate::stack) fn read_back(packet: &[u8]) -> Option<FlowKey> {
    let ip = packet.get(..IPV4_BYTES)?;
    let is_first = ip[6] & 0x1f == 0 && ip[7] == 0;
    let is_udp = ip[0] >> 4 == 4 && ip[9] == u8::from(IpProtocol::Udp) && is_first;
    let [a, b, c, d] = *packet.get(usize::from(ip[0] & 15) * 4..)?.first_chunk::<4>()?;
    let address = |at: usize| Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]);
    let ports = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    is_udp.then_some(FlowKey { peer: address(16), local: address(12), peer_port: ports.1, local_port: ports.0 })
}

/// What a datagram over IPv4 carries, in bytes, at most.
pub(super) const PAYLOAD_BYTES_MAX: usize = 65_535 - IPV4_BYTES - UDP_BYTES;
const IPV4_BYTES_U16: u16 = 20;
const IPV4_BYTES: usize = 20;
const UDP_BYTES: usize = 8;
const HOPS: u8 = 64;

#[cfg(test)]
mod tests {
    use smoltcp::wire::Ipv4Packet;

    use super::*;

    const FROM: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 53);
    const TO: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 4000);

    /// The packets of a datagram.
    fn packets(bytes: &[u8], mtu: u16) -> Vec<Vec<u8>> {
        let datagram = Outgoing::new(FROM, TO, 77, bytes);
        let (mut packets, mut next) = (Vec::new(), Some(0));
        while let Some(offset) = next {
            let mut packet = vec![0xee; datagram.packet_len(offset, mtu)];
            next = datagram.write(offset, mtu, &mut packet);
            packets.push(packet);
        }
        packets
    }

    #[test]
    fn what_is_written_is_read() {
        for bytes in [&b""[..], b"x", b"hello", &[7; 1472]] {
            let packets = packets(bytes, 1500);
            let [packet] = &packets[..] else { panic!("one packet") };
            let ip = Ipv4Packet::new_checked(&packet[..]).unwrap();
            assert!(ip.verify_checksum() && !ip.more_frags() && !ip.dont_frag() && ip.frag_offset() == 0);
            let arrived = read(ip.payload(), *FROM.ip(), *TO.ip(), true).unwrap();
            assert_eq!((arrived.key.peer_port, arrived.key.local_port), (53, 4000));
            assert_eq!(ip.payload()[arrived.payload], *bytes);
            let key = FlowKey { peer: *TO.ip(), local: *FROM.ip(), peer_port: 4000, local_port: 53 };
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
            let arrived = read(&whole, *FROM.ip(), *TO.ip(), true).expect("its checksum covers all of it");
            assert!(whole[arrived.payload] == bytes[..], "MTU {mtu}");
        }
    }

    #[test]
    fn a_sum_of_zero_is_not_sent_as_none() {
        // The bytes make up for everything else in the sum.
        let plain = Outgoing::new(FROM, TO, 0, [0, 0]);
        let zero = Outgoing::new(FROM, TO, 0, plain.checksum.to_be_bytes());
        assert_eq!(zero.checksum, u16::MAX);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let good = packets(b"hello", 1500).remove(0).split_off(20);
        let look = |bytes: &[u8]| read(bytes, *FROM.ip(), *TO.ip(), true);
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
