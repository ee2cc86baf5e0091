//! IPv4 and ICMP (RFC 791, 792) in front of the flow table.
//!
//! **Invariant:** as in [`packet`](super::packet): nothing past the bytes that there are, and a reason for whatever is dropped.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use smoltcp::wire::{Icmpv4Message, Icmpv4Packet, IpProtocol, Ipv4Packet};

use super::checksum;
use super::ours::Ours;
use super::packet::{ETHERNET_BYTES, Header, Packet, must_verify, parse_tcp, quoted};
use super::path_mtu::TooBig;
use super::udp::{self, Place, Whole};
use crate::counters::DropReason;
use crate::frame::Frame;

/// Reads a packet that came to our station.
pub(super) fn parse(frame: &Frame, ours: &Ours) -> Result<Packet, DropReason> {
    let bytes = frame.bytes();
    let packet = Ipv4Packet::new_checked(&bytes[ETHERNET_BYTES..]).map_err(|_| DropReason::Malformed)?;
    // new_checked looks at the lengths only.
    if packet.version() != 4 || packet.header_len() < 20 {
        return Err(DropReason::Malformed);
    }
    let verify = must_verify(frame)?;
    let header = &bytes[ETHERNET_BYTES..ETHERNET_BYTES + usize::from(packet.header_len())];
    if verify && !checksum::is_right_of_ipv4(header) {
        return Err(DropReason::Checksum);
    }
    let (peer, local) = (packet.src_addr(), packet.dst_addr());
    if !ours.has_v4(local) || !is_host(peer) {
        return Err(DropReason::OtherAddress);
    }
    let ip = ETHERNET_BYTES..ETHERNET_BYTES + usize::from(packet.total_len());
    if packet.more_frags() || packet.frag_offset() != 0 {
        return parse_fragment(&packet, ip);
    }
    let header = Header { peer: peer.into(), local: local.into(), verify, ip };
    match packet.next_header() {
        IpProtocol::Tcp => parse_tcp(bytes, packet.payload(), header).map(Packet::Tcp),
        IpProtocol::Udp => {
            let arrived = udp::read(packet.payload(), header.peer, header.local, verify)?;
            Ok(Packet::Datagram { ip: header.ip, arrived })
        }
        IpProtocol::Icmp => parse_icmp(packet.payload(), header.ip, ours),
        _ => Err(DropReason::Protocol),
    }
}

/// Turns an echo request into its reply, but for the frame.
pub(super) fn answer_echo(packet: &mut [u8]) {
    let mut packet = Ipv4Packet::new_unchecked(packet);
    let (src, dst) = (packet.src_addr(), packet.dst_addr());
    packet.set_src_addr(dst);
    packet.set_dst_addr(src);
    packet.set_hop_limit(64);
    packet.fill_checksum();
    let mut icmp = Icmpv4Packet::new_unchecked(packet.payload_mut());
    icmp.set_msg_type(Icmpv4Message::EchoReply);
    icmp.fill_checksum();
}

fn parse_icmp(message: &[u8], ip: Range<usize>, ours: &Ours) -> Result<Packet, DropReason> {
    let icmp = Icmpv4Packet::new_checked(message).map_err(|_| DropReason::Malformed)?;
    // A port checks TCP, UDP and IPv4 for us, never ICMP.
    if !icmp.verify_checksum() {
        return Err(DropReason::Checksum);
    }
    match (icmp.msg_type(), icmp.msg_code()) {
        (Icmpv4Message::EchoRequest, _) => Ok(Packet::Echo(ip)),
        (Icmpv4Message::DstUnreachable, FRAGMENTATION_NEEDED) => parse_too_big(message, ours),
        (Icmpv4Message::DstUnreachable, PROTOCOL_UNREACHABLE | PORT_UNREACHABLE) => {
            let told = message.get(8..).and_then(udp::read_back).filter(|key| ours.has(key.local));
            told.map(Packet::Refused).ok_or(DropReason::Protocol)
        }
        _ => Err(DropReason::Protocol),
    }
}

/// A fragment: of a datagram, or of what nobody sends in fragments who is well.
fn parse_fragment(packet: &Ipv4Packet<&[u8]>, ip: Range<usize>) -> Result<Packet, DropReason> {
    if packet.next_header() != IpProtocol::Udp {
        return Err(DropReason::Fragment);
    }
    let whole = Whole { peer: packet.src_addr().into(), local: packet.dst_addr().into(), id: packet.ident().into() };
    let place = Place { whole, offset: packet.frag_offset().into(), more: packet.more_frags() };
    Ok(Packet::Fragment { place, payload: ip.start + usize::from(packet.header_len())..ip.end })
}

/// Reads which packet a router complains of (RFC 792, and 1191 for the MTU): one of ours, that was TCP. Datagrams may be cut.
fn parse_too_big(icmp: &[u8], ours: &Ours) -> Result<Packet, DropReason> {
    let (head, packet) = icmp.split_first_chunk::<8>().ok_or(DropReason::Malformed)?;
    let header = packet.first_chunk::<20>().ok_or(DropReason::Malformed)?;
    let address = |at: usize| IpAddr::from([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (local, peer) = (address(12), address(16));
    let is_ours = header[0] >> 4 == 4 && header[9] == u8::from(IpProtocol::Tcp) && ours.has(local);
    let tcp = packet.get(usize::from(header[0] & 15) * 4..).filter(|_| is_ours);
    let (key, seq) = tcp.and_then(|tcp| quoted(local, peer, tcp)).ok_or(DropReason::Malformed)?;
    Ok(Packet::TooBig(TooBig { key, seq, mtu: u16::from_be_bytes([head[6], head[7]]) }))
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
