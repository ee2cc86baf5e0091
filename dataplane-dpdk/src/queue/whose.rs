//! What of a frame says to which lcore it belongs.
//!
//! **Invariant:** never looks past the bytes that there are. A frame that can't be read is anybody's: the stack throws it away.

use crate::rss::Words;

/// Whose frame it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Of whoever has received it.
    Anybody,
    /// News of neighbours: everybody's.
    All,
    /// Of the lcore of its flow.
    Flow(Words),
    /// A fragment, which goes where the others of its packet go; or an ICMP message about a packet of this flow.
    About(Words),
}

/// Reads a frame, tagged or not.
pub(super) fn whose(frame: &[u8]) -> Whose {
    let kind = |at: usize| frame.get(at..at + 2);
    let at = if kind(12) == Some(VLAN) { 16 } else { 12 };
    let packet = frame.get(at + 2..).unwrap_or_default();
    let found = match kind(at) {
        Some(ARP) => Some(Whose::All),
        Some(IPV4) => of_v4(packet),
        Some(IPV6) => of_v6(packet),
        _ => None,
    };
    found.unwrap_or(Whose::Anybody)
}

fn of_v4(packet: &[u8]) -> Option<Whose> {
    let head = packet.first_chunk::<20>()?;
    let payload = packet.get(usize::from(head[0] & 15) * 4..)?;
    if u16::from_be_bytes([head[6], head[7]]) & MORE_OR_OFFSET != 0 {
        return Some(Whose::About(Words::of(&head[12..])));
    }
    match head[9] {
        TCP | UDP => Some(Whose::Flow(flow(&head[12..], payload)?)),
        ICMP if ICMP_ERRORS.contains(payload.first()?) => {
            let packet = payload.get(8..)?;
            let head = packet.first_chunk::<20>()?;
            let is_ported = matches!(head[9], TCP | UDP) && u16::from_be_bytes([head[6], head[7]]) & OFFSET == 0;
            let payload = packet.get(usize::from(head[0] & 15) * 4..).filter(|_| is_ported)?;
            Some(Whose::About(flow(&head[12..], payload)?))
        }
        _ => None,
    }
}

fn of_v6(packet: &[u8]) -> Option<Whose> {
    let (head, payload) = packet.split_first_chunk::<40>()?;
    match head[6] {
        TCP | UDP => Some(Whose::Flow(flow(&head[8..], payload)?)),
        FRAGMENT => Some(Whose::About(Words::of(&head[8..]))),
        ICMPV6 => match payload.first()? {
            135 | 136 => Some(Whose::All),
            1..=4 => {
                let (head, payload) = payload.get(8..)?.split_first_chunk::<40>()?;
                // Of whichever lcore's datagram the fragment was: the ports are in the first one only.
                if head[6] == FRAGMENT {
                    return Some(Whose::All);
                }
                let payload = Some(payload).filter(|_| matches!(head[6], TCP | UDP))?;
                Some(Whose::About(flow(&head[8..], payload)?))
            }
            _ => None,
        },
        _ => None,
    }
}

/// Of both addresses, and the ports behind them.
fn flow(addresses: &[u8], payload: &[u8]) -> Option<Words> {
    Some(Words::of(addresses).and(Words::of(payload.first_chunk::<4>()?)))
}

const ARP: &[u8] = &[0x08, 0x06];
const IPV4: &[u8] = &[0x08, 0x00];
const IPV6: &[u8] = &[0x86, 0xdd];
const VLAN: &[u8] = &[0x81, 0x00];
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;
const ICMPV6: u8 = 58;
/// Types of ICMP that quote the packet they are about: unreachable, redirect, time exceeded, parameter problem.
const ICMP_ERRORS: [u8; 4] = [3, 5, 11, 12];
/// Of an IPv4 header: more fragments follow, or it is not the first.
const MORE_OR_OFFSET: u16 = 0x3fff;
const OFFSET: u16 = 0x1fff;

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: [u8; 4] = [10, 0, 0, 1];
    const THERE: [u8; 4] = [10, 0, 0, 2];
    /// From port 1000 to 80.
    const PORTS: [u8; 8] = [0x03, 0xe8, 0, 80, 0, 0, 0, 0];

    fn v4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
        let [high, low] = fragment.to_be_bytes();
        let head = [0x45, 0, 0, 0, 0, 0, high, low, 64, protocol, 0, 0];
        [&head[..], &THERE, &HERE, payload].concat()
    }

    fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 40];
        (packet[0], packet[6], packet[23], packet[39]) = (0x60, next, 2, 1);
        packet.extend_from_slice(payload);
        packet
    }

    fn framed(kind: &[u8], packet: &[u8]) -> Vec<u8> {
        [&[2; 12], kind, packet].concat()
    }

    #[test]
    fn frames_are_told_apart() {
        let both = Words::of(&[THERE, HERE].concat());
        let all = both.and_port(1000).and_port(80);
        let all_6 = Words::default().and_port(2).and_port(1).and_port(1000).and_port(80);
        let tcp = v4(TCP, 0x4000, &PORTS);
        let error = [&[3, 4, 0, 0, 0, 0, 0, 0], &tcp[..]].concat();
        let late = [&[3, 4, 0, 0, 0, 0, 0, 0], &v4(UDP, 3, &PORTS)[..]].concat();
        let error_6 = [&[2, 0, 0, 0, 0, 0, 0, 0], &v6(TCP, &PORTS)[..]].concat();
        let cases = [
            (IPV4, tcp.clone(), Whose::Flow(all)),
            (IPV4, v4(UDP, 0, &PORTS), Whose::Flow(all)),
            (IPV4, v4(UDP, 0x2000, &PORTS), Whose::About(both)),
            (IPV4, v4(UDP, 185, &PORTS), Whose::About(both)),
            (IPV4, v4(ICMP, 0, &error), Whose::About(all)),
            (IPV4, v4(ICMP, 0, &late), Whose::Anybody),
            (IPV4, v4(ICMP, 0, &[8; 60]), Whose::Anybody),
            (IPV4, v4(89, 0, &PORTS), Whose::Anybody),
            (IPV6, v6(TCP, &PORTS), Whose::Flow(all_6)),
            (IPV6, v6(FRAGMENT, &PORTS), Whose::About(Words::default().and_port(3))),
            (IPV6, v6(ICMPV6, &error_6), Whose::About(all_6)),
            (IPV6, v6(ICMPV6, &[&[2, 0, 0, 0, 0, 0, 0, 0], &v6(FRAGMENT, &PORTS)[..]].concat()), Whose::All),
            (IPV6, v6(ICMPV6, &[135; 24]), Whose::All),
            (IPV6, v6(ICMPV6, &[128; 24]), Whose::Anybody),
            (ARP, vec![0; 28], Whose::All),
            (&[0x88, 0xcc], vec![0; 28], Whose::Anybody),
        ];
        for (n, (kind, packet, wanted)) in cases.into_iter().enumerate() {
            assert_eq!(whose(&framed(kind, &packet)), wanted, "case {n}");
            let tagged = [VLAN, &[0, 7], kind].concat();
            assert_eq!(whose(&framed(&tagged, &packet)), wanted, "case {n} with a tag");
        }
    }

    #[test]
    fn a_frame_that_is_cut_is_read_as_far_as_it_goes() {
        let error = [&[3, 4, 0, 0, 0, 0, 0, 0], &v4(TCP, 0, &PORTS)[..]].concat();
        for frame in [framed(IPV4, &v4(ICMP, 0, &error)), framed(IPV6, &v6(TCP, &PORTS)), framed(VLAN, &[0; 3])] {
            for len in 0..frame.len() {
                let cut = whose(&frame[..len]);
                assert!(cut == Whose::Anybody || cut == whose(&frame), "{len}: {cut:?}");
            }
        }
    }
}
