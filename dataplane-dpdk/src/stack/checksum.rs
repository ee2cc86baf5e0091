//! The sums of IPv4 and TCP (RFC 1071).
//!
//! A sum of words in one's complement is the same in either order of bytes, and may be taken over longer words and folded in the end. So it is
//! taken over words of 32 bits as they lie, which is a fraction of the work of taking it over those of the wire.
//!
//! **Invariant:** reads what it is given and nothing else, and agrees with smoltcp's sums.

/// Whether the header of an IPv4 packet, options included, has the right sum.
pub(super) fn is_right_of_ipv4(header: &[u8]) -> bool {
    fold(sum(header)) == u16::MAX
}

/// Whether a TCP segment has the right sum, which covers the `addresses` of both sides as they lie in the IP header.
pub(super) fn is_right_of_tcp(addresses: &[u8], segment: &[u8]) -> bool {
    fold(pseudo_header(addresses, segment) + sum(segment)) == u16::MAX
}

/// Makes the sums of a packet right that has an IP header without further headers, and TCP.
pub(super) fn fill(packet: &mut [u8]) {
    let (header, segment) = if packet[0] >> 4 == 4 {
        let header_bytes = usize::from(packet[0] & 15) * 4;
        let (header, segment) = packet.split_at_mut(header_bytes);
        put(header, IPV4_SUM_AT, 0);
        (&header[IPV4_ADDRESSES_AT..IPV4_ADDRESSES_AT + 8], segment)
    } else {
        let (header, segment) = packet.split_at_mut(IPV6_HEADER_BYTES);
        (&header[IPV6_ADDRESSES_AT..], segment)
    };
    let of_header = pseudo_header(header, segment);
    put(segment, TCP_SUM_AT, of_header);
}

/// Puts the inverted sum of `bytes` and `more` to its place in them.
fn put(bytes: &mut [u8], at: usize, more: u64) {
    bytes[at..at + 2].fill(0);
    let sum = !fold(sum(bytes) + more);
    bytes[at..at + 2].copy_from_slice(&sum.to_ne_bytes());
}

fn pseudo_header(addresses: &[u8], segment: &[u8]) -> u64 {
    let [high, low] = u16::try_from(segment.len()).expect("less than 64 KiB").to_be_bytes();
    sum(addresses) + sum(&[0, IP_PROTOCOL_TCP, high, low])
}

/// The sum in the order of this machine, to be folded.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum::<u64>() + u64::from(u32::from_ne_bytes(last))
}

/// Words of 16 bits that add up to the same.
fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    u16::try_from(sum).expect("no carry is left")
}

/// TCP's number among the protocols.
const IP_PROTOCOL_TCP: u8 = 6;
const IPV4_SUM_AT: usize = 10;
const IPV4_ADDRESSES_AT: usize = 12;
const IPV6_ADDRESSES_AT: usize = 8;
const IPV6_HEADER_BYTES: usize = 40;
const TCP_SUM_AT: usize = 16;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use smoltcp::wire::{IpAddress, IpProtocol, Ipv4Packet, TcpPacket, checksum};

    use super::*;

    #[test]
    fn it_agrees_with_smoltcp_for_every_length() {
        let mut x = 1_u32;
        let mut next = || {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            x.to_be_bytes()[0]
        };
        for len in 20..1500 {
            let mut segment: Vec<u8> = (0..len).map(|_| if len % 3 == 0 { 0xff } else { next() }).collect();
            let (from, to) = (Ipv4Addr::from([10, next(), next(), 1]), Ipv4Addr::from([10, 0, 0, next()]));
            TcpPacket::new_unchecked(&mut segment[..]).fill_checksum(&from.into(), &to.into());
            let addresses = [from.octets(), to.octets()].concat();
            assert!(is_right_of_tcp(&addresses, &segment), "{len}");
            segment[len / 2] ^= 1;
            assert!(!is_right_of_tcp(&addresses, &segment), "{len}");
            assert_eq!(fold(sum(&segment)), checksum::data(&segment).to_be(), "{len}");
        }
    }

    #[test]
    fn what_is_filled_in_is_right() {
        let mut v4 = vec![0x5a; 20 + 33];
        v4[0] = 0x45;
        v4[2..4].copy_from_slice(&53_u16.to_be_bytes());
        v4[9] = IP_PROTOCOL_TCP;
        fill(&mut v4);
        let ip = Ipv4Packet::new_checked(&v4[..]).unwrap();
        let (from, to) = (IpAddress::from(ip.src_addr()), IpAddress::from(ip.dst_addr()));
        assert!(ip.verify_checksum() && is_right_of_ipv4(&v4[..20]));
        assert!(TcpPacket::new_unchecked(&v4[20..]).verify_checksum(&from, &to));

        let mut v6 = vec![0xa5; 40 + 21];
        v6[0] = 0x60;
        fill(&mut v6);
        let address = |at: usize| IpAddress::from(Ipv6Addr::from(*v6[at..].first_chunk::<16>().unwrap()));
        let of_header = checksum::pseudo_header(&address(8), &address(24), IpProtocol::Tcp, 21);
        let sums = [of_header, checksum::data(&v6[40..])];
        assert_eq!(checksum::combine(&sums), u16::MAX);
    }
}
