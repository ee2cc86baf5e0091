//! IPv6 and ICMPv6 (RFC 8200, 4443) in front of the flow table.
//!
//! Extension headers but that of a datagram's fragments are not followed: nobody sends them to a server in good faith, and what hides behind
//! them is dropped and counted.
//!
//! **Invariant:** as in [`packet`](super::packet): nothing past the bytes that there are, and a reason for whatever is dropped. What came to a group
//! of the link is read only where it asks for a neighbour, or tells of one.

use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;

use super::nd;
use super::ours::Ours;
use super::packet::{ETHERNET_BYTES, Header, Packet, must_verify, parse_tcp, quoted};
use super::path_mtu::TooBig;
use super::udp::{self, Place, Whole};
use crate::counters::DropReason;
use crate::device::Mac;
use crate::frame::Frame;

/// Reads a packet that came to our station.
pub(super) fn parse(frame: &Frame, ours: &Ours) -> Result<Packet, DropReason> {
    let (head, payload) = split(frame)?;
    let verify = must_verify(frame)?;
    if !ours.has_v6(head.local) {
        return if ours.hears(head.local) {
            parse_neighbour(frame, &head, payload)
        } else {
            Err(DropReason::OtherAddress)
        };
    }
    if !is_host(head.peer) {
        return Err(DropReason::OtherAddress);
    }
    let header = Header { peer: head.peer.into(), local: head.local.into(), verify, ip: head.ip.clone() };
    match head.next {
        TCP => parse_tcp(frame.bytes(), payload, header).map(Packet::Tcp),
        UDP => {
            let arrived = udp::read(payload, header.peer, header.local, verify)?;
            Ok(Packet::Datagram { ip: header.ip, arrived })
        }
        ICMPV6 => parse_icmp(frame, &head, payload, ours),
        FRAGMENT => parse_fragment(&head, payload),
        HOP_BY_HOP | ROUTING | DESTINATION => Err(DropReason::Extension),
        _ => Err(DropReason::Protocol),
    }
}

/// Reads a packet that came to a group of the link.
pub(super) fn parse_group(frame: &Frame, ours: &Ours) -> Result<Packet, DropReason> {
    let (head, payload) = split(frame)?;
    must_verify(frame)?;
    if !ours.hears(head.local) {
        return Err(DropReason::OtherAddress);
    }
    parse_neighbour(frame, &head, payload)
}

/// Turns an echo request into its reply, but for the frame.
pub(super) fn answer_echo(packet: &mut [u8]) {
    let (addresses, message) = packet[8..].split_at_mut(32);
    let (peer, local) = addresses.split_at_mut(16);
    peer.swap_with_slice(local);
    message[0] = ECHO_REPLY;
    let address = |at: usize| Ipv6Addr::from(*addresses[at..].first_chunk::<16>().expect("two addresses"));
    nd::fill_checksum(address(0), address(16), message);
    packet[7] = 64;
}

/// The fields of a header.
struct Head {
    peer: Ipv6Addr,
    local: Ipv6Addr,
    next: u8,
    hops: u8,
    /// Where the packet is in the frame.
    ip: Range<usize>,
}

/// Splits a packet, without the padding of its frame.
fn split(frame: &Frame) -> Result<(Head, &[u8]), DropReason> {
    let bytes = frame.bytes();
    let (head, rest) = bytes[ETHERNET_BYTES..].split_first_chunk::<40>().ok_or(DropReason::Malformed)?;
    let len = usize::from(u16::from_be_bytes([head[4], head[5]]));
    let payload = rest.get(..len).filter(|_| head[0] >> 4 == 6).ok_or(DropReason::Malformed)?;
    let address = |at: usize| Ipv6Addr::from(*head[at..].first_chunk::<16>().expect("a whole header"));
    let ip = ETHERNET_BYTES..ETHERNET_BYTES + 40 + len;
    Ok((Head { peer: address(8), local: address(24), next: head[6], hops: head[7], ip }, payload))
}

fn parse_icmp(frame: &Frame, head: &Head, message: &[u8], ours: &Ours) -> Result<Packet, DropReason> {
    let kind = message.first_chunk::<8>().ok_or(DropReason::Malformed)?;
    match (kind[0], kind[1]) {
        (nd::SOLICITATION | nd::ADVERTISEMENT, _) => parse_neighbour(frame, head, message),
        _ if !nd::verify_checksum(head.peer, head.local, message) => Err(DropReason::Checksum),
        (ECHO_REQUEST, _) => Ok(Packet::Echo(head.ip.clone())),
        (TOO_BIG, _) => parse_too_big(message, ours),
        (UNREACHABLE, PORT_UNREACHABLE) => {
            let told = message.get(8..).and_then(udp::read_back).filter(|key| ours.has(key.local));
            told.map(Packet::Refused).ok_or(DropReason::Protocol)
        }
        _ => Err(DropReason::Protocol),
    }
}

/// What asks for a neighbour, or tells of one (RFC 4861).
fn parse_neighbour(frame: &Frame, head: &Head, message: &[u8]) -> Result<Packet, DropReason> {
    let is_nd = matches!(message.first(), Some(&(nd::SOLICITATION | nd::ADVERTISEMENT)));
    if head.next != ICMPV6 || !is_nd {
        return Err(DropReason::Protocol);
    }
    if !nd::verify_checksum(head.peer, head.local, message) {
        return Err(DropReason::Checksum);
    }
    let [_, _, _, _, _, _, sender @ ..] = *frame.bytes().first_chunk::<12>().expect("longer than an Ethernet header");
    if !head.peer.is_unspecified() && !is_host(head.peer) {
        return Err(DropReason::OtherAddress);
    }
    nd::parse(message, head.peer, head.local, head.hops, Mac(sender)).map(Packet::Nd).ok_or(DropReason::Nd)
}

/// A fragment: of a datagram, or of what nobody sends in fragments who is well.
fn parse_fragment(head: &Head, payload: &[u8]) -> Result<Packet, DropReason> {
    let [next, _, high, low, a, b, c, d] = *payload.first_chunk::<8>().ok_or(DropReason::Malformed)?;
    if next != UDP {
        return Err(DropReason::Fragment);
    }
    let id = u32::from_be_bytes([a, b, c, d]);
    let whole = Whole { peer: head.peer.into(), local: head.local.into(), id };
    let offset = usize::from(u16::from_be_bytes([high, low]) & !7);
    let place = Place { whole, offset, more: low & 1 == 1 };
    Ok(Packet::Fragment { place, payload: head.ip.start + 48..head.ip.end })
}

/// Reads which packet a router complains of (RFC 4443, 3.2): one of ours.
fn parse_too_big(message: &[u8], ours: &Ours) -> Result<Packet, DropReason> {
    let (head, packet) = message.split_first_chunk::<8>().ok_or(DropReason::Malformed)?;
    let (header, payload) = packet.split_first_chunk::<40>().ok_or(DropReason::Malformed)?;
    let address = |at: usize| IpAddr::from(*header[at..].first_chunk::<16>().expect("a whole header"));
    let (local, peer) = (address(8), address(24));
    let mtu = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
    match header[6] {
        _ if header[0] >> 4 != 6 || !ours.has(local) => Err(DropReason::Malformed),
        TCP => {
            let (key, seq) = quoted(local, peer, payload).ok_or(DropReason::Malformed)?;
            Ok(Packet::TooBig(TooBig { key, seq, mtu }))
        }
        UDP | FRAGMENT => {
            let datagram = match (header[6], payload) {
                // Of its fragments the first has its header.
                (FRAGMENT, [UDP, _, 0, low, _, _, _, _, rest @ ..]) if low & !1 == 0 => rest,
                (FRAGMENT, _) => return Err(DropReason::Protocol),
                (_, rest) => rest,
            };
            let header = *datagram.first_chunk().ok_or(DropReason::Malformed)?;
            Ok(Packet::Narrow(udp::Narrow { local, peer, header, mtu }))
        }
        _ => Err(DropReason::Protocol),
    }
}

/// Whether a packet may come from there.
fn is_host(ip: Ipv6Addr) -> bool {
    !ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback() && ip.to_ipv4_mapped().is_none()
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// Types and a code of ICMPv6.
const UNREACHABLE: u8 = 1;
const TOO_BIG: u8 = 2;
const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;
const PORT_UNREACHABLE: u8 = 4;
