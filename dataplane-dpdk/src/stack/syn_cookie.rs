//! SYN cookies (RFC 4987, 3.6): an initial sequence number that remembers what a SYN offered, so that we need not.
//!
//! ```text
//! 31                                 8   7  6  5   4  3  2    1      0
//! | keyed hash of addresses, the      | segment  | window  | SACK | time |
//! | peer's number, the rest and time  | size     | scale   |      | slot |
//! ```
//!
//! The time slot is the last bit of a clock of [`SLOT`]: a cookie is good in the slot that it was made in and in the next.
//!
//! **Invariant:** nothing is stored for a cookie, and what it says of the peer is never more than the peer's SYN offered.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use smoltcp::time::{Duration, Instant};

use super::checksum;
use super::flow_table::FlowKey;
use super::packet::{ETHER_IPV4, ETHER_IPV6, ETHERNET_BYTES, Segment};
use crate::device::Mac;
use crate::frame::Frame;

/// What a SYN offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// The largest segment that the peer takes, in bytes of payload.
    pub(super) segment_bytes: u16,
    /// The peer's window scale; None: windows are not scaled.
    pub(super) window_scale: Option<u8>,
    /// Whether it understands selective acknowledgements.
    pub(super) sack: bool,
}

impl Offer {
    /// What a SYN offers that says nothing.
    const LEAST: Self = Self { segment_bytes: DEFAULT_SEGMENT_BYTES, window_scale: None, sack: false };

    /// Reads the options of a SYN: a TCP header and what follows it. Options that can't be read are none.
    pub(super) fn of(tcp: &[u8]) -> Self {
        let end = tcp.get(12).map_or(0, |offset| usize::from(offset >> 4) * 4);
        tcp.get(TCP_BYTES..end).and_then(Self::read).unwrap_or(Self::LEAST)
    }

    fn read(mut options: &[u8]) -> Option<Self> {
        let mut offer = Self::LEAST;
        while let [kind, rest @ ..] = options {
            options = match kind {
                0 => break,
                1 => rest,
                _ => {
                    let len = usize::from(*rest.first()?);
                    match (kind, options.get(2..len)?) {
                        (2, &[high, low]) => offer.segment_bytes = u16::from_be_bytes([high, low]),
                        (3, &[scale]) => offer.window_scale = Some(scale),
                        (4, []) => offer.sack = true,
                        _ => {}
                    }
                    &options[len..]
                }
            };
        }
        Some(offer)
    }

    /// Seven bits, of the largest values that are not above the offered ones.
    fn bits(self) -> u32 {
        let below = |table: &[u16; 8], value: u16| {
            let place = table.iter().rposition(|&v| v <= value).unwrap_or(0);
            u32::try_from(place).expect("a table of eight")
        };
        let scale = match self.window_scale {
            None => 0,
            Some(scale) => below(&WINDOW_SCALES, u16::from(scale)).max(1),
        };
        below(&SEGMENT_BYTES, self.segment_bytes) << 4 | scale << 1 | u32::from(self.sack)
    }

    fn from_bits(bits: u32) -> Self {
        let scale = WINDOW_SCALES[(bits >> 1 & 7) as usize];
        Self {
            segment_bytes: SEGMENT_BYTES[(bits >> 4 & 7) as usize],
            window_scale: (bits >> 1 & 7 != 0).then(|| scale.to_le_bytes()[0]),
            sack: bits & 1 == 1,
        }
    }
}

/// Makes cookies and knows them again.
#[derive(Debug)]
pub(super) struct SynCookies {
    secret: u64,
    /// When the last one was sent.
    sent_at: Option<Instant>,
}

impl SynCookies {
    /// With a secret that nobody can guess.
    pub(super) fn new(secret: u64) -> Self {
        Self { secret, sent_at: None }
    }

    /// The number to answer a SYN with, which began with `peer_number`.
    pub(super) fn make(&mut self, key: &FlowKey, peer_number: u32, offer: Offer, now: Instant) -> u32 {
        self.sent_at = Some(now);
        self.cookie(key, peer_number, offer.bits(), slot(now))
    }

    /// What the SYN offered that `cookie` was an answer to. None: it is not ours, or too old.
    pub(super) fn check(&self, key: &FlowKey, peer_number: u32, cookie: u32, now: Instant) -> Option<Offer> {
        // Without a flood a segment that belongs to nobody is not worth a hash, and nobody gets to guess.
        if !self.are_out(now) {
            return None;
        }
        let slot = slot(now);
        let made_in = if slot & 1 == u64::from(cookie & 1) { slot } else { slot.wrapping_sub(1) };
        let bits = cookie >> 1 & ((1 << OFFER_BITS) - 1);
        (self.cookie(key, peer_number, bits, made_in) == cookie).then(|| Offer::from_bits(bits))
    }

    /// Whether a cookie may still come back.
    pub(super) fn are_out(&self, now: Instant) -> bool {
        self.sent_at.is_some_and(|at| now <= at + SLOT * 2)
    }

    fn cookie(&self, key: &FlowKey, peer_number: u32, bits: u32, slot: u64) -> u32 {
        let mut hash = DefaultHasher::new();
        hash.write_u64(self.secret);
        key.hash(&mut hash);
        // The initial numbers are hashes with the same secret, of another length.
        hash.write_u32(peer_number);
        hash.write_u64(slot << OFFER_BITS | u64::from(bits));
        let [a, b, c, ..] = hash.finish().to_le_bytes();
        let parity = u32::from(slot & 1 == 1);
        u32::from_be_bytes([a, b, c, 0]) | bits << 1 | parity
    }
}

/// Turns the SYN in `frame` into its answer by the station `mac`: with the number `number`, and with what we offer, as far as the peer offers it
/// too. `window`: ours, not scaled (RFC 7323, 2.2). Where the frame lies: a flood must not cost more frames than it brings.
pub(super) fn answer(frame: &mut Frame, mac: Mac, segment: &Segment, number: u32, ours: Offer, window: u16) {
    let mut options = [[0; 4]; 3];
    let mut len = 1;
    let [high, low] = ours.segment_bytes.to_be_bytes();
    options[0] = [2, 4, high, low];
    if let Some(scale) = ours.window_scale {
        options[len] = [1, 3, 3, scale];
        len += 1;
    }
    if ours.sack {
        options[len] = [1, 1, 4, 2];
        len += 1;
    }
    let tcp_bytes = TCP_BYTES + 4 * len;
    let ip_bytes = usize::from(segment.key.header_bytes()) - TCP_BYTES;
    frame.set_len(ETHERNET_BYTES + ip_bytes + tcp_bytes);
    frame.offload_checksums(false);
    let bytes = frame.bytes_mut();
    bytes[..6].copy_from_slice(&segment.from.0);
    bytes[6..12].copy_from_slice(&mac.0);
    bytes[12..ETHERNET_BYTES].copy_from_slice(if segment.key.peer.is_ipv4() { ETHER_IPV4 } else { ETHER_IPV6 });
    let packet = &mut bytes[ETHERNET_BYTES..];
    let (ip, tcp) = packet.split_at_mut(ip_bytes);
    let tcp_len = u8::try_from(tcp_bytes).expect("less than 100");
    match (segment.key.local, segment.key.peer) {
        (IpAddr::V4(local), IpAddr::V4(peer)) => {
            // Not to be fragmented; 64 hops; TCP.
            ip[..12].copy_from_slice(&[0x45, 0, 0, 20 + tcp_len, 0, 0, 0x40, 0, 64, 6, 0, 0]);
            ip[12..16].copy_from_slice(&local.octets());
            ip[16..].copy_from_slice(&peer.octets());
        }
        (local, peer) => {
            ip[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, tcp_len, 6, 64]);
            for (at, address) in [(8, local), (24, peer)] {
                let IpAddr::V6(address) = address else { unreachable!("both are of one family") };
                ip[at..at + 16].copy_from_slice(&address.octets());
            }
        }
    }
    tcp[..2].copy_from_slice(&segment.key.local_port.to_be_bytes());
    tcp[2..4].copy_from_slice(&segment.key.peer_port.to_be_bytes());
    tcp[4..8].copy_from_slice(&number.to_be_bytes());
    tcp[8..12].copy_from_slice(&segment.seq.wrapping_add(1).to_be_bytes());
    tcp[12..14].copy_from_slice(&[u8::try_from((tcp_bytes / 4) << 4).expect("15 words at most"), SYN_ACK]);
    tcp[14..16].copy_from_slice(&window.to_be_bytes());
    tcp[16..TCP_BYTES].fill(0);
    tcp[TCP_BYTES..].copy_from_slice(options[..len].as_flattened());
    checksum::fill(packet);
}

fn slot(now: Instant) -> u64 {
    now.total_micros().cast_unsigned() / SLOT.total_micros()
}

/// Half of the longest life of a cookie. A SYN-ACK that comes back later finds nobody who remembers it.
const SLOT: Duration = Duration::from_secs(32);
/// Bits of an offer in a cookie.
const OFFER_BITS: u32 = 7;
const IPV6_BYTES: usize = 40;
const TCP_BYTES: usize = 20;
/// The flags of the answer.
const SYN_ACK: u8 = 0x12;
/// Room that the answer takes in a frame, at most.
pub(super) const ANSWER_BYTES_MAX: usize = ETHERNET_BYTES + IPV6_BYTES + TCP_BYTES + 12;
/// RFC 9293, 3.7.1: what a peer takes that does not say.
const DEFAULT_SEGMENT_BYTES: u16 = 536;
/// Segment sizes that a cookie can say: Ethernet's with and without options, tunnels', and a jumbo frame's.
const SEGMENT_BYTES: [u16; 8] = [64, 536, 1200, 1300, 1400, 1440, 1460, 8960];
/// Window scales that a cookie can say; the first stands for none.
const WINDOW_SCALES: [u16; 8] = [0, 0, 2, 4, 6, 7, 8, 10];

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> FlowKey {
        let [peer, local] = [[10, 0, 0, 2], [10, 0, 0, 1]].map(IpAddr::from);
        FlowKey { peer, local, peer_port: port, local_port: 80 }
    }

    fn offer(segment_bytes: u16, window_scale: Option<u8>, sack: bool) -> Offer {
        Offer { segment_bytes, window_scale, sack }
    }

    #[test]
    fn it_remembers_what_was_offered_and_never_more() {
        for segment_bytes in [0, 64, 500, 536, 1199, 1200, 1460, 9000, u16::MAX] {
            for window_scale in [None, Some(0), Some(1), Some(2), Some(7), Some(9), Some(14)] {
                let offered = offer(segment_bytes, window_scale, true);
                let said = Offer::from_bits(offered.bits());
                assert!(said.segment_bytes <= segment_bytes.max(64) && said.sack, "{offered:?} {said:?}");
                assert!(said.window_scale <= window_scale, "{offered:?} {said:?}");
                assert_eq!(said.window_scale.is_some(), window_scale.is_some(), "both sides scale, or none");
            }
        }
        let usual = offer(1460, Some(7), true);
        assert_eq!(Offer::from_bits(usual.bits()), usual);
        assert_eq!(Offer::from_bits(offer(536, None, false).bits()), offer(536, None, false));
    }

    #[test]
    fn it_is_good_for_its_connection_and_its_time_only() {
        let (mut cookies, offered) = (SynCookies::new(7), offer(1460, Some(7), true));
        let start = Instant::from_secs(1_000);
        let cookie = cookies.make(&key(1000), 5, offered, start);
        let check = |cookies: &SynCookies, key: &FlowKey, number, cookie, after| {
            cookies.check(key, number, cookie, start + Duration::from_secs(after))
        };
        assert_eq!(check(&cookies, &key(1000), 5, cookie, 0), Some(offered));
        assert_eq!(check(&cookies, &key(1000), 5, cookie, 31), Some(offered));
        assert_eq!(check(&cookies, &key(1001), 5, cookie, 0), None);
        assert_eq!(check(&cookies, &key(1000), 6, cookie, 0), None);
        for bit in 0..32 {
            assert_eq!(check(&cookies, &key(1000), 5, cookie ^ 1 << bit, 0), None, "bit {bit}");
        }
        assert_eq!(SynCookies::new(8).check(&key(1000), 5, cookie, start), None);
        assert_eq!(check(&cookies, &key(1000), 5, cookie, 65), None, "nothing was sent for so long");
        cookies.make(&key(2000), 5, offered, start + Duration::from_secs(64));
        for after in [64, 65, 90, 128] {
            assert_eq!(check(&cookies, &key(1000), 5, cookie, after), None, "{after} s");
        }
    }

    #[test]
    fn a_syn_whose_options_cannot_be_read_offers_the_least() {
        let mut tcp = [0; 24];
        tcp[12] = 6 << 4;
        tcp[20..].copy_from_slice(&[2, 40, 5, 180]);
        assert_eq!(Offer::of(&tcp), offer(536, None, false));
        assert_eq!(Offer::of(&tcp[..10]), offer(536, None, false));
        tcp[20..].copy_from_slice(&[2, 4, 5, 180]);
        assert_eq!(Offer::of(&tcp), offer(1460, None, false));
    }
}
