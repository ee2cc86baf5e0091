//! Which frames are captured: a small language, as tcpdump's, and its test of a frame.
//!
//! ```text
//! expression  = term *( "or" term )
//! term        = factor *( "and" factor )
//! factor      = "not" factor | "(" expression ")" | primitive
//! primitive   = [ "src" | "dst" ] "host" ADDRESS | [ "src" | "dst" ] "net" ADDRESS "/" LENGTH
//!             | [ "tcp" | "udp" ] [ "src" | "dst" ] ( "port" NUMBER | "portrange" NUMBER "-" NUMBER )
//!             | "tcp" | "udp" | "icmp" | "icmp6" | "arp" | "ip" | "ip6"
//! ```
//!
//! A frame that is too short for what is asked about it does not have it; a fragment behind the first has no ports.
//!
//! **Invariant:** a frame costs a number of steps that the expression bounds, and nothing that is in a frame makes the test panic.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A filter. The empty one takes every frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter(Option<Test>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    All(Vec<Test>),
    Any(Vec<Test>),
    Not(Box<Test>),
    Is(Kind),
    /// An address within a network of so many bits.
    Net(Side, IpAddr, u8),
    /// A port within these.
    Port(Side, u16, u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ip,
    Ip6,
    Arp,
    /// An IP protocol, by its number.
    Protocol(u8),
}

/// Which of the two ends is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Source,
    Destination,
    Either,
}

/// Why an expression is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FilterError {
    /// The word that does not belong there; empty at the end.
    at: String,
    wanted: &'static str,
}

impl Filter {
    /// Whether it takes the frame.
    #[must_use]
    pub(crate) fn takes(&self, frame: &[u8]) -> bool {
        self.0.as_ref().is_none_or(|test| test.holds(&Seen::of(frame)))
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let spaced = text.replace('(', " ( ").replace(')', " ) ");
        let mut words = Words { words: spaced.split_whitespace().collect(), at: 0, depth: 0 };
        if words.words.is_empty() {
            return Ok(Self(None));
        }
        if words.words.len() > WORDS_MAX {
            return Err(FilterError { at: String::new(), wanted: "a shorter expression" });
        }
        let test = words.expression()?;
        match words.next() {
            None => Ok(Self(Some(test))),
            Some(word) => Err(FilterError { at: word.to_owned(), wanted: "`and`, `or` or the end" }),
        }
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, wanted } = self;
        if at.is_empty() {
            write!(f, "at its end: {wanted} is expected")
        } else {
            write!(f, "at `{at}`: {wanted} is expected")
        }
    }
}

impl std::error::Error for FilterError {}

impl Test {
    fn holds(&self, seen: &Seen) -> bool {
        // tidy: table
        match self {
            Self::All(tests) => tests.iter().all(|t| t.holds(seen)),
            Self::Any(tests) => tests.iter().any(|t| t.holds(seen)),
            Self::Not(test) => !test.holds(seen),
            Self::Is(Kind::Ip) => seen.ether_type == ETHER_IP,
            Self::Is(Kind::Ip6) => seen.ether_type == ETHER_IP6,
            Self::Is(Kind::Arp) => seen.ether_type == ETHER_ARP,
            Self::Is(Kind::Protocol(number)) => seen.protocol == Some(*number),
            Self::Net(side, net, bits) => side.any(seen.addresses, |ip| is_within(ip, *net, *bits)),
            Self::Port(side, from, to) => side.any(seen.ports, |port| (*from..=*to).contains(&port)),
        }
    }
}

impl Side {
    fn any<T: Copy>(self, ends: Option<(T, T)>, test: impl Fn(T) -> bool) -> bool {
        let Some((source, destination)) = ends else { return false };
        match self {
            Self::Source => test(source),
            Self::Destination => test(destination),
            Self::Either => test(source) || test(destination),
        }
    }
}

/// An expression, word by word.
struct Words<'a> {
    words: Vec<&'a str>,
    at: usize,
    depth: usize,
}

impl<'a> Words<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).copied()
    }

    fn next(&mut self) -> Option<&'a str> {
        let word = self.peek();
        self.at += 1;
        word
    }

    fn skip(&mut self, word: &str) -> bool {
        let is_it = self.peek() == Some(word);
        self.at += usize::from(is_it);
        is_it
    }

    fn error(word: Option<&str>, wanted: &'static str) -> FilterError {
        FilterError { at: word.unwrap_or_default().to_owned(), wanted }
    }

    fn expression(&mut self) -> Result<Test, FilterError> {
        let mut any = vec![self.term()?];
        while self.skip("or") {
            any.push(self.term()?);
        }
        Ok(if any.len() == 1 { any.remove(0) } else { Test::Any(any) })
    }

    fn term(&mut self) -> Result<Test, FilterError> {
        let mut all = vec![self.factor()?];
        while self.skip("and") {
            all.push(self.factor()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Test::All(all) })
    }

    fn factor(&mut self) -> Result<Test, FilterError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Self::error(self.peek(), "an expression that is less deep"));
        }
        let factor = if self.skip("not") {
            Test::Not(Box::new(self.factor()?))
        } else if self.skip("(") {
            let inner = self.expression()?;
            match self.next() {
                Some(")") => inner,
                word => return Err(Self::error(word, "`)`")),
            }
        } else {
            self.primitive()?
        };
        self.depth -= 1;
        Ok(factor)
    }

    fn primitive(&mut self) -> Result<Test, FilterError> {
        let word = self.peek();
        let kind = KINDS.iter().find(|(name, _)| Some(*name) == word).map(|(_, kind)| *kind);
        self.at += usize::from(kind.is_some());
        let side = match self.peek() {
            Some("src") => Side::Source,
            Some("dst") => Side::Destination,
            _ => Side::Either,
        };
        self.at += usize::from(side != Side::Either);
        let carries_ports = matches!(kind, None | Some(TCP | UDP));
        let ends = match self.peek() {
            Some("host") if kind.is_none() => self.host(side)?,
            Some("net") if kind.is_none() => self.net(side)?,
            Some("port") if carries_ports => self.port(side)?,
            Some("portrange") if carries_ports => self.port_range(side)?,
            word => match kind {
                Some(kind) if side == Side::Either => return Ok(Test::Is(kind)),
                _ => {
                    return Err(Self::error(
                        word,
                        "host, net, port, portrange, tcp, udp, icmp, icmp6, arp, ip, ip6, not or `(`",
                    ));
                }
            },
        };
        Ok(match kind {
            Some(kind) => Test::All(vec![Test::Is(kind), ends]),
            None => ends,
        })
    }

    fn host(&mut self, side: Side) -> Result<Test, FilterError> {
        self.at += 1;
        let word = self.next();
        let ip: IpAddr = word.and_then(|w| w.parse().ok()).ok_or_else(|| Self::error(word, "an IP address"))?;
        Ok(Test::Net(side, ip, if ip.is_ipv4() { 32 } else { 128 }))
    }

    fn net(&mut self, side: Side) -> Result<Test, FilterError> {
        self.at += 1;
        let word = self.next();
        let parse = |word: &str| {
            let (ip, bits) = word.split_once('/')?;
            let (ip, bits): (IpAddr, u8) = (ip.parse().ok()?, bits.parse().ok()?);
            (bits <= if ip.is_ipv4() { 32 } else { 128 }).then_some(Test::Net(side, ip, bits))
        };
        word.and_then(parse).ok_or_else(|| Self::error(word, "a network like 10.0.0.0/8"))
    }

    fn port(&mut self, side: Side) -> Result<Test, FilterError> {
        self.at += 1;
        let word = self.next();
        let port = word.and_then(|w| w.parse().ok()).ok_or_else(|| Self::error(word, "a port number"))?;
        Ok(Test::Port(side, port, port))
    }

    fn port_range(&mut self, side: Side) -> Result<Test, FilterError> {
        self.at += 1;
        let word = self.next();
        let parse = |word: &str| {
            let (from, to) = word.split_once('-')?;
            Some(Test::Port(side, from.parse().ok()?, to.parse().ok()?))
        };
        word.and_then(parse).ok_or_else(|| Self::error(word, "ports like 8000-8999"))
    }
}

/// What of a frame can be asked about.
struct Seen {
    ether_type: u16,
    protocol: Option<u8>,
    addresses: Option<(IpAddr, IpAddr)>,
    ports: Option<(u16, u16)>,
}

impl Seen {
    fn of(frame: &[u8]) -> Self {
        let mut at = 12;
        let mut ether_type = word(frame, at).unwrap_or(0);
        while matches!(ether_type, ETHER_VLAN | ETHER_VLAN_OUTER) && at < 12 + 2 * 4 {
            at += 4;
            ether_type = word(frame, at).unwrap_or(0);
        }
        let rest = frame.get(at + 2..).unwrap_or_default();
        let mut seen = Self { ether_type, protocol: None, addresses: None, ports: None };
        match ether_type {
            ETHER_IP => seen.ip(rest),
            ETHER_IP6 => seen.ip6(rest),
            ETHER_ARP => seen.addresses = ends::<4>(rest, 14, 24),
            _ => {}
        }
        seen
    }

    fn ip(&mut self, packet: &[u8]) {
        self.addresses = ends::<4>(packet, 12, 16);
        self.protocol = packet.get(9).copied();
        let header = packet.first().map_or(0, |b| usize::from(b & 15) * 4);
        let is_first = word(packet, 6).is_some_and(|fragment| fragment & 0x1fff == 0);
        if is_first && header >= 20 {
            self.transport(packet.get(header..).unwrap_or_default());
        }
    }

    fn ip6(&mut self, packet: &[u8]) {
        self.addresses = ends::<16>(packet, 8, 24);
        let (mut next, mut at) = (packet.get(6).copied(), 40);
        for _ in 0..HEADERS_MAX {
            let header = packet.get(at..).unwrap_or_default();
            let len = header.get(1).map_or(0, |len| (usize::from(*len) + 1) * 8);
            match next {
                // Hop-by-hop, routing and destination options.
                Some(0 | 43 | 60) => (next, at) = (header.first().copied(), at + len),
                // A fragment; the ports are in the first.
                Some(44) => {
                    let is_first = word(header, 2).is_some_and(|offset| offset & 0xfff8 == 0);
                    (next, at) = (header.first().copied(), if is_first { at + 8 } else { usize::MAX });
                }
                _ => break,
            }
        }
        self.protocol = next;
        self.transport(packet.get(at..).unwrap_or_default());
    }

    fn transport(&mut self, segment: &[u8]) {
        if matches!(self.protocol, Some(6 | 17)) {
            self.ports = word(segment, 0).zip(word(segment, 2));
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at.checked_add(2)?).map(|b| u16::from_be_bytes([b[0], b[1]]))
}

/// The two addresses of `N` bytes at these places.
fn ends<const N: usize>(bytes: &[u8], source: usize, destination: usize) -> Option<(IpAddr, IpAddr)>
where
    IpAddr: From<[u8; N]>,
{
    let one = |at: usize| bytes.get(at..)?.first_chunk::<N>().map(|b| IpAddr::from(*b));
    one(source).zip(one(destination))
}

fn is_within(ip: IpAddr, net: IpAddr, bits: u8) -> bool {
    match (ip, net) {
        (IpAddr::V4(ip), IpAddr::V4(net)) => {
            (ip.to_bits() ^ net.to_bits()) & u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0) == 0
        }
        (IpAddr::V6(ip), IpAddr::V6(net)) => {
            (ip.to_bits() ^ net.to_bits()) & u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

const TCP: Kind = Kind::Protocol(6);
const UDP: Kind = Kind::Protocol(17);
const KINDS: [(&str, Kind); 7] = [
    ("tcp", TCP),
    ("udp", UDP),
    ("icmp", Kind::Protocol(1)),
    ("icmp6", Kind::Protocol(58)),
    ("arp", Kind::Arp),
    ("ip", Kind::Ip),
    ("ip6", Kind::Ip6),
];
const ETHER_IP: u16 = 0x0800;
const ETHER_IP6: u16 = 0x86dd;
const ETHER_ARP: u16 = 0x0806;
const ETHER_VLAN: u16 = 0x8100;
const ETHER_VLAN_OUTER: u16 = 0x88a8;
/// Of an expression, and how deep it may be.
const WORDS_MAX: usize = 256;
const DEPTH_MAX: usize = 32;
/// Extension headers of IPv6 that are looked behind.
const HEADERS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp4(source: [u8; 4], destination: [u8; 4], ports: (u16, u16)) -> Vec<u8> {
        let mut frame = vec![0; 14 + 40];
        frame[12..14].copy_from_slice(&[8, 0]);
        (frame[14], frame[23]) = (0x45, 6);
        frame[26..30].copy_from_slice(&source);
        frame[30..34].copy_from_slice(&destination);
        frame[34..36].copy_from_slice(&ports.0.to_be_bytes());
        frame[36..38].copy_from_slice(&ports.1.to_be_bytes());
        frame
    }

    fn udp6(vlan: bool) -> Vec<u8> {
        let mut frame = vec![0; 12];
        if vlan {
            frame.extend([0x81, 0, 0, 7]);
        }
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 16, 0, 64]);
        frame.extend("fd00::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
        frame.extend("fd00::2".parse::<std::net::Ipv6Addr>().unwrap().octets());
        // A hop-by-hop header in front of UDP, from port 53 to 4000.
        frame.extend([17, 0, 0, 0, 0, 0, 0, 0, 0, 53, 0x0f, 0xa0, 0, 8, 0, 0]);
        frame
    }

    #[test]
    fn expressions_take_what_they_say() {
        let web = tcp4([10, 0, 0, 1], [10, 0, 0, 2], (40000, 80));
        let dns = udp6(false);
        let cases = [
            ("", true, true),
            ("host 10.0.0.1", true, false),
            ("src host 10.0.0.2", false, false),
            ("dst host 10.0.0.2", true, false),
            ("net 10.0.0.0/8 and not port 443", true, false),
            ("net 11.0.0.0/8", false, false),
            ("net 0.0.0.0/0", true, false),
            ("net fd00::/16", false, true),
            ("port 80", true, false),
            ("src port 80", false, false),
            ("tcp dst port 80", true, false),
            ("udp port 80", false, false),
            ("udp src port 53", false, true),
            ("portrange 4000-4001", false, true),
            ("tcp", true, false),
            ("ip6 and udp", false, true),
            ("arp or icmp or icmp6", false, false),
            ("not (tcp or udp)", false, false),
            ("not tcp or host 10.0.0.1", true, true),
            ("port 443 or port 80 and tcp", true, false),
            ("(port 443 or port 80)and(tcp)", true, false),
        ];
        for (text, takes_web, takes_dns) in cases {
            let filter: Filter = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!((filter.takes(&web), filter.takes(&dns)), (takes_web, takes_dns), "{text}");
            assert_eq!(filter.takes(&udp6(true)), takes_dns, "{text}, with a VLAN tag");
        }
    }

    #[test]
    fn what_is_no_expression_is_told_with_its_place() {
        for (text, at) in [
            ("host", "at its end: an IP address"),
            ("host example.org", "at `example.org`: an IP address"),
            ("net 10.0.0.0/33", "at `10.0.0.0/33`: a network"),
            ("port 70000", "at `70000`: a port"),
            ("portrange 5", "at `5`: ports like"),
            ("tcp host 10.0.0.1", "at `host`: `and`"),
            ("icmp port 7", "at `port`: `and`"),
            ("tcp and", "at its end: host"),
            ("src tcp", "at `tcp`: host"),
            ("(tcp", "at its end: `)`"),
            ("tcp udp", "at `udp`: `and`"),
            (&"not ".repeat(100), "at `not`: an expression that is less deep"),
            (&"tcp or ".repeat(200), "at its end: a shorter"),
        ] {
            let error = text.parse::<Filter>().unwrap_err().to_string();
            assert!(error.starts_with(at), "{text}: {error}");
        }
    }

    #[test]
    fn short_and_senseless_frames_are_looked_at_in_peace() {
        let all: Filter =
            "host 1.2.3.4 or net ::/0 or tcp port 1 or udp src portrange 1-2 or icmp or arp".parse().unwrap();
        for frame in [tcp4([1; 4], [2; 4], (3, 4)), udp6(true), vec![0xff; 100]] {
            for len in 0..frame.len() {
                let _ = all.takes(&frame[..len]);
            }
        }
        let mut fragment = tcp4([1; 4], [2; 4], (3, 4));
        fragment[20] = 1;
        assert!(
            !"port 3".parse::<Filter>().unwrap().takes(&fragment) && "tcp".parse::<Filter>().unwrap().takes(&fragment)
        );
    }
}
