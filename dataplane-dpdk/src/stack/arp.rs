//! ARP (RFC 826): who has which IPv4 address on the link, asked and answered by ourselves.
//!
//! **Invariant:** a packet is read only when its sender can be a station.

use std::net::Ipv4Addr;

use crate::device::Mac;

/// An ARP packet about one of our neighbours, reduced to what matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    /// Who sent it; unspecified: he has no address yet.
    pub(super) ip: Ipv4Addr,
    /// Its Ethernet address.
    pub(super) mac: Mac,
    /// Whom it asks for, or tells.
    pub(super) target: Ipv4Addr,
    /// Whether it wants an answer.
    pub(super) asks: bool,
}

/// Reads an ARP packet; nothing when it is malformed, or its sender can't be.
pub(super) fn parse(packet: &[u8]) -> Option<Heard> {
    let packet: &[u8; ARP_BYTES] = packet.get(..ARP_BYTES)?.try_into().ok()?;
    let (head, asks) = packet.split_at(8);
    let asks = match (head, asks) {
        (REQUEST, rest) => (true, rest),
        (REPLY, rest) => (false, rest),
        _ => return None,
    };
    let (asks, [m0, m1, m2, m3, m4, m5, a, b, c, d, _, _, _, _, _, _, target @ ..]) = asks else { return None };
    let (mac, ip) = (Mac([*m0, *m1, *m2, *m3, *m4, *m5]), Ipv4Addr::new(*a, *b, *c, *d));
    // Who asks without an address looks whether anybody has the one that he wants (RFC 5227, 2.1.1).
    let sender = mac.is_unicast() && !ip.is_multicast() && !ip.is_broadcast() && (asks || !ip.is_unspecified());
    let target = Ipv4Addr::from(*target.first_chunk()?);
    sender.then_some(Heard { ip, mac, target, asks })
}

/// Writes an ARP packet about `ip`: an answer to `to`, or a question to all when `to` is nobody.
pub(super) fn emit(ours: (Mac, Ipv4Addr), to: Option<Mac>, ip: Ipv4Addr, packet: &mut [u8]) {
    let parts: [&[u8]; 5] = [
        if to.is_some() { REPLY } else { REQUEST },
        &ours.0.0,
        &ours.1.octets(),
        &to.map_or([0; 6], |m| m.0),
        &ip.octets(),
    ];
    let bytes = parts.into_iter().flatten();
    packet.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
}

/// Ethernet and IPv4, their address lengths, and the operation.
const REQUEST: &[u8] = &[0, 1, 8, 0, 6, 4, 0, 1];
const REPLY: &[u8] = &[0, 1, 8, 0, 6, 4, 0, 2];
/// Bytes of an ARP packet for IPv4 over Ethernet.
pub(super) const ARP_BYTES: usize = 28;

#[cfg(test)]
mod tests {
    use super::*;

    const IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const US: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);

    #[test]
    fn what_is_written_is_read() {
        let mut packet = [0; ARP_BYTES];
        emit((MAC, IP), None, US, &mut packet);
        assert_eq!(parse(&packet), Some(Heard { ip: IP, mac: MAC, target: US, asks: true }));
        emit((MAC, IP), Some(Mac([2; 6])), US, &mut packet);
        assert_eq!(parse(&packet), Some(Heard { ip: IP, mac: MAC, target: US, asks: false }));
        assert_eq!(parse(&packet[..27]), None);
        emit((Mac::BROADCAST, IP), None, US, &mut packet);
        assert_eq!(parse(&packet), None, "nobody is at the broadcast address");
    }
}
