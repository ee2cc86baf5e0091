//! Neighbour discovery (RFC 4861): who has which IPv6 address on the link, asked and answered by ourselves.
//!
//! **Invariant:** a message is read only when it comes from the link itself (its hop limit is whole), and its sender can be a station.

use std::net::Ipv6Addr;

use smoltcp::wire::{IpProtocol, checksum};

use super::ours::{ALL_NODES, group_mac, solicited_node};
use crate::device::Mac;

/// A message about one of our neighbours, or about an address of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A neighbour asks for an address, by this address and station. None: it looks whether anybody has the address (RFC 4862, 5.4.3).
    Asks { target: Ipv6Addr, by: Option<(Ipv6Addr, Mac)>, sender: Mac },
    /// A neighbour tells where an address is.
    Tells { target: Ipv6Addr, mac: Mac },
}

/// Reads an ICMPv6 message of type 135 or 136 from `from` to `to`, which came with `hops`. `sender` is the frame's.
pub(super) fn parse(message: &[u8], from: Ipv6Addr, to: Ipv6Addr, hops: u8, sender: Mac) -> Option<Heard> {
    let (head, options) = message.split_first_chunk::<24>()?;
    let target: [u8; 16] = *head[8..].first_chunk()?;
    let target = Ipv6Addr::from(target);
    // Whoever is further away than the link can't say 255 (RFC 4861, 7.1).
    if hops != HOPS || head[1] != 0 || target.is_multicast() || target.is_unspecified() {
        return None;
    }
    match head[0] {
        SOLICITATION if from.is_unspecified() => {
            // It has no address yet to be answered at, and so no station to tell of.
            let is_probe = to == solicited_node(target) && option(options, SOURCE).is_ok_and(|mac| mac.is_none());
            is_probe.then_some(Heard::Asks { target, by: None, sender })
        }
        SOLICITATION => {
            let mac = option(options, SOURCE).ok()?.unwrap_or(sender);
            mac.is_unicast().then_some(Heard::Asks { target, by: Some((from, mac)), sender })
        }
        ADVERTISEMENT => {
            let mac = option(options, TARGET).ok()?.unwrap_or(sender);
            mac.is_unicast().then_some(Heard::Tells { target, mac })
        }
        _ => None,
    }
}

/// What is said about an address of ours, or asked about a neighbour's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Where is the neighbour?
    Where { source: Ipv6Addr, target: Ipv6Addr },
    /// Has anybody our address?
    Probe { target: Ipv6Addr },
    /// Our address is here, in answer to whoever asked.
    Here { target: Ipv6Addr, to: Ipv6Addr },
    /// Our address is here, and nowhere else, to all.
    Announced { target: Ipv6Addr },
}

impl Said {
    /// The packet, and who gets it; None: the station that asked.
    pub(super) fn packet(self, mac: Mac) -> ([u8; PACKET_BYTES], Option<Mac>) {
        let (kind, flags, from, to, target, option) = match self {
            Self::Where { source, target } => (SOLICITATION, 0, source, solicited_node(target), target, Some(SOURCE)),
            Self::Probe { target } => (SOLICITATION, 0, Ipv6Addr::UNSPECIFIED, solicited_node(target), target, None),
            Self::Here { target, to } => (ADVERTISEMENT, SOLICITED | OVERRIDE, target, to, target, Some(TARGET)),
            Self::Announced { target } => (ADVERTISEMENT, OVERRIDE, target, ALL_NODES, target, Some(TARGET)),
        };
        let len = if option.is_some() { PACKET_BYTES } else { PACKET_BYTES - OPTION_BYTES };
        let mut packet = [0; PACKET_BYTES];
        packet[0] = 0x60;
        packet[5] = u8::try_from(len - 40).expect("a few bytes");
        packet[6..8].copy_from_slice(&[u8::from(IpProtocol::Icmpv6), HOPS]);
        packet[8..24].copy_from_slice(&from.octets());
        packet[24..40].copy_from_slice(&to.octets());
        packet[40] = kind;
        packet[44] = flags;
        packet[48..64].copy_from_slice(&target.octets());
        if let Some(option) = option {
            packet[64..66].copy_from_slice(&[option, 1]);
            packet[66..].copy_from_slice(&mac.0);
        }
        fill_checksum(from, to, &mut packet[40..len]);
        (packet, to.is_multicast().then(|| group_mac(to)))
    }

    /// The packet's length in bytes.
    pub(super) fn packet_bytes(self) -> usize {
        if matches!(self, Self::Probe { .. }) { PACKET_BYTES - OPTION_BYTES } else { PACKET_BYTES }
    }
}

/// Makes the sum of an ICMPv6 message right (RFC 4443, 2.3).
pub(super) fn fill_checksum(from: Ipv6Addr, to: Ipv6Addr, message: &mut [u8]) {
    message[2..4].fill(0);
    let sum = !sum(from, to, message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
}

/// Whether the sum of an ICMPv6 message is right.
pub(super) fn verify_checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> bool {
    sum(from, to, message) == u16::MAX
}

fn sum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let len = u32::try_from(message.len()).expect("within a packet");
    let pseudo = checksum::pseudo_header(&from.into(), &to.into(), IpProtocol::Icmpv6, len);
    checksum::combine(&[pseudo, checksum::data(message)])
}

/// The Ethernet address in an option of this kind; an error when the options can't be.
fn option(mut options: &[u8], wanted: u8) -> Result<Option<Mac>, ()> {
    let mut found = None;
    while let [kind, len, rest @ ..] = options {
        let len = usize::from(*len) * 8;
        if len == 0 || options.len() < len {
            return Err(());
        }
        if *kind == wanted && len == OPTION_BYTES {
            found = rest.first_chunk().map(|mac| Mac(*mac));
        }
        options = &options[len..];
    }
    if options.is_empty() { Ok(found) } else { Err(()) }
}

/// Bytes of a packet that says something, at most.
pub(super) const PACKET_BYTES: usize = 40 + 24 + OPTION_BYTES;
const OPTION_BYTES: usize = 8;
/// What only a packet of the link itself has.
pub(super) const HOPS: u8 = 255;
pub(super) const SOLICITATION: u8 = 135;
pub(super) const ADVERTISEMENT: u8 = 136;
const SOURCE: u8 = 1;
const TARGET: u8 = 2;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 9]);

    fn ip(end: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, end)
    }

    /// What a neighbour reads of what we say.
    fn heard(said: Said) -> (Option<Heard>, Option<Mac>) {
        let (packet, to) = said.packet(MAC);
        let packet = &packet[..said.packet_bytes()];
        let address = |at: usize| Ipv6Addr::from(*packet[at..].first_chunk::<16>().expect("a header"));
        assert!(verify_checksum(address(8), address(24), &packet[40..]));
        assert_eq!(usize::from(packet[5]), packet.len() - 40);
        (parse(&packet[40..], address(8), address(24), packet[7], OTHER), to)
    }

    #[test]
    fn what_is_said_is_heard() {
        let (asks, to) = heard(Said::Where { source: ip(1), target: ip(0x1234) });
        assert_eq!(asks, Some(Heard::Asks { target: ip(0x1234), by: Some((ip(1), MAC)), sender: OTHER }));
        assert_eq!(to, Some(Mac([0x33, 0x33, 0xff, 0, 0x12, 0x34])));
        assert_eq!(
            heard(Said::Probe { target: ip(1) }).0,
            Some(Heard::Asks { target: ip(1), by: None, sender: OTHER })
        );
        let tells = Some(Heard::Tells { target: ip(1), mac: MAC });
        assert_eq!(heard(Said::Here { target: ip(1), to: ip(2) }), (tells, None));
        assert_eq!(heard(Said::Announced { target: ip(1) }), (tells, Some(Mac([0x33, 0x33, 0, 0, 0, 1]))));
    }

    #[test]
    fn what_is_not_of_the_link_is_not_heard() {
        let (packet, _) = Said::Announced { target: ip(1) }.packet(MAC);
        let look = |message: &[u8], hops| parse(message, ip(1), ALL_NODES, hops, OTHER);
        assert!(look(&packet[40..], 255).is_some());
        assert_eq!(look(&packet[40..], 254), None, "it came by a router");
        type Change = fn(&mut Vec<u8>);
        let cases: [Change; 6] =
            [|m| m[1] = 1, |m| m[8] = 0xff, |m| m[25] = 0, |m| m[25] = 2, |m| m[26] = 1, |m| m.truncate(23)];
        for (n, change) in cases.into_iter().enumerate() {
            let mut message = packet[40..].to_vec();
            change(&mut message);
            assert_eq!(look(&message, 255), None, "case {n}");
        }
        // Without the option the frame says it.
        assert_eq!(look(&packet[40..64], 255), Some(Heard::Tells { target: ip(1), mac: OTHER }));
    }
}
