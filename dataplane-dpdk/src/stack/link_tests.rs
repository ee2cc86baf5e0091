//! IPv6, neighbours, several addresses and routes: the stack against a peer that is written by hand.
//!
//! **Invariant:** a test sees what is on the wire and in the counters, as a peer and an operator would.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ferrogate_core::config::dataplane::{Network, Route};
use ferrogate_core::net::Datagram;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::time::Duration;
use smoltcp::wire::{IpAddress, IpProtocol, IpRepr, TcpControl, TcpPacket, TcpRepr};

use super::nd::{self, Heard, Said};
use super::ours::link_local;
use super::packet::{ETHER_ARP, ETHER_IPV6, ETHERNET_BYTES, tcp_of};
use super::tests::{Bench, OUR_MAC, OURS, PEER, PEER_MAC, tcp};
use super::*;

const OURS_6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const PEER_6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);

/// A stack with an address of each family.
fn bench() -> Bench {
    bench_with(|_| {})
}

fn bench_with(change: impl FnOnce(&mut StackConfig)) -> Bench {
    Bench::with(|c| {
        c.addresses.push(Network::new(OURS_6, 64));
        change(c);
    })
}

/// The frame of a segment from the peer.
fn frame_6(segment: &TcpRepr<'_>) -> Vec<u8> {
    let (from, to) = (IpAddress::from(PEER_6), IpAddress::from(OURS_6));
    let caps = ChecksumCapabilities::default();
    let ip = IpRepr::new(from, to, IpProtocol::Tcp, segment.buffer_len(), 64);
    let mut packet = vec![0; ip.buffer_len()];
    ip.emit(&mut packet[..], &caps);
    segment.emit(&mut TcpPacket::new_unchecked(&mut packet[40..]), &from, &to, &caps);
    [&OUR_MAC.0[..], &PEER_MAC.0, ETHER_IPV6, &packet].concat()
}

/// Reads a frame that must be a segment to the peer: its control, number, acknowledgement and payload.
fn read_6(frame: &[u8]) -> (TcpControl, i32, Option<i32>, Vec<u8>) {
    assert_eq!((&frame[..6], &frame[6..12], &frame[12..14]), (&PEER_MAC.0[..], &OUR_MAC.0[..], ETHER_IPV6));
    let packet = &frame[ETHERNET_BYTES..];
    assert_eq!((address(packet, 8), address(packet, 24)), (OURS_6, PEER_6));
    assert_eq!(usize::from(u16::from_be_bytes([packet[4], packet[5]])), packet.len() - 40);
    let tcp = TcpPacket::new_checked(tcp_of(packet)).unwrap();
    let repr = TcpRepr::parse(&tcp, &OURS_6.into(), &PEER_6.into(), &ChecksumCapabilities::default()).unwrap();
    (repr.control, repr.seq_number.0, repr.ack_number.map(|n| n.0), repr.payload.to_vec())
}

fn address(packet: &[u8], at: usize) -> Ipv6Addr {
    Ipv6Addr::from(*packet[at..].first_chunk::<16>().unwrap())
}

/// What a neighbour at `mac` says.
fn said(said: Said, mac: Mac) -> Vec<u8> {
    let (packet, group) = said.packet(mac);
    let to = group.unwrap_or(OUR_MAC);
    [&to.0[..], &mac.0, ETHER_IPV6, &packet[..said.packet_bytes()]].concat()
}

/// What we say, as a neighbour reads it.
fn heard(frame: &[u8]) -> Option<Heard> {
    if &frame[12..ETHERNET_BYTES] != ETHER_IPV6 {
        return None;
    }
    let packet = &frame[ETHERNET_BYTES..];
    assert!(nd::verify_checksum(address(packet, 8), address(packet, 24), &packet[40..]));
    nd::parse(
        &packet[40..],
        address(packet, 8),
        address(packet, 24),
        packet[7],
        Mac(*frame[6..].first_chunk().unwrap()),
    )
}

fn introduce(bench: &mut Bench) {
    bench.receive(said(Said::Where { source: PEER_6, target: OURS_6 }, PEER_MAC));
}

/// A peer that has finished its handshake; the numbers it is to go on with.
fn establish(bench: &mut Bench, port: u16) -> (i32, i32) {
    let answer = bench.receive(frame_6(&tcp(port, TcpControl::Syn, 100, None)));
    let (control, seq, acked, _) = read_6(&answer[0]);
    assert_eq!((control, acked), (TcpControl::Syn, Some(101)));
    assert!(bench.receive(frame_6(&tcp(port, TcpControl::None, 101, Some(seq + 1)))).is_empty());
    (101, seq + 1)
}

#[test]
fn a_connection_over_ipv6_is_as_good_as_one_over_ipv4() {
    let mut bench = bench();
    let (listener, _) = bench.stack.bind(Bind::Any, 80, 10).unwrap();
    let (peer, ours) = establish(&mut bench, 1000);
    let flow = bench.accept(listener);
    assert_eq!(bench.stack.addresses(flow), ((PEER_6, 1000).into(), (OURS_6, 80).into()));
    let mut hello = tcp(1000, TcpControl::Psh, peer, Some(ours));
    hello.payload = b"hello";
    bench.receive(frame_6(&hello));
    assert_eq!(bench.stack.socket(flow).recv_queue(), 5);
    bench.stack.socket(flow).send_slice(&[7; 4000]).unwrap();
    bench.stack.touch(flow);
    let sent = bench.turn();
    assert_eq!(
        sent.iter().map(Vec::len).collect::<Vec<_>>(),
        [1514, 1514, 14 + 60 + 1120],
        "20 bytes less than over IPv4"
    );
    // What belongs to nobody is reset here, too.
    let rst = bench.receive(frame_6(&tcp(9, TcpControl::None, 5, Some(77))));
    assert_eq!((read_6(&rst[0]).0, read_6(&rst[0]).1), (TcpControl::Rst, 77));
}

#[test]
fn a_flood_over_ipv6_is_answered_by_cookies() {
    let mut bench = bench_with(|c| c.syn_backlog_max = 0);
    let (listener, _) = bench.stack.bind(Bind::Any, 80, 10).unwrap();
    let (peer, ours) = establish(&mut bench, 1000);
    assert_eq!(bench.stack.counters().syn_cookies_accepted.get(), 1);
    let flow = bench.accept(listener);
    bench.stack.socket(flow).send_slice(b"hi").unwrap();
    bench.stack.touch(flow);
    let (_, seq, acked, payload) = read_6(&bench.turn()[0]);
    assert_eq!((seq, acked, &payload[..]), (ours, Some(peer), &b"hi"[..]));
}

/// What a router says of our packet in `frame`: that it takes `mtu` at most.
fn too_big(frame: &[u8], mtu: u32) -> Vec<u8> {
    let mut message = [&[2, 0, 0, 0][..], &mtu.to_be_bytes(), &frame[ETHERNET_BYTES..][..60]].concat();
    nd::fill_checksum(PEER_6, OURS_6, &mut message);
    let len = u16::try_from(message.len()).unwrap().to_be_bytes();
    let head = [&[0x60, 0, 0, 0, len[0], len[1], 58, 60][..], &PEER_6.octets(), &OURS_6.octets()].concat();
    [&OUR_MAC.0[..], &PEER_MAC.0, ETHER_IPV6, &head, &message].concat()
}

#[test]
fn a_narrow_path_gets_shorter_packets_and_never_less_than_all_links_take() {
    let mut bench = bench();
    let (listener, _) = bench.stack.bind(Bind::Any, 80, 10).unwrap();
    establish(&mut bench, 1000);
    let flow = bench.accept(listener);
    bench.stack.socket(flow).send_slice(&[7; 2000]).unwrap();
    bench.stack.touch(flow);
    let sent = bench.turn();
    let again = bench.receive(too_big(&sent[0], 68));
    assert_eq!(again.iter().map(Vec::len).max(), Some(14 + 1280));
    assert!(bench.receive(too_big(&sent[0], 68)).is_empty(), "there is nothing less");
    // The same for datagrams, of which nobody else can cut them.
    introduce(&mut bench);
    let to = SocketAddr::from((PEER_6, 53));
    let (id, _) = bench.stack.connect_datagrams(to).unwrap();
    let datagram = Datagram { peer: to, local: None, bytes: &[7; 1400] };
    bench.stack.send_datagrams(id, &[datagram]).unwrap();
    let whole = bench.turn();
    assert_eq!(whole.len(), 1);
    // Who makes up a datagram of ours, and does not know what was in it, or whose there was none, is not believed.
    let forgeries: [fn(&mut Vec<u8>); 4] = [
        |f| f[ETHERNET_BYTES + 46] ^= 1, // Its checksum.
        |f| f[ETHERNET_BYTES + 45] ^= 1, // Its length.
        |f| f[ETHERNET_BYTES + 43] ^= 1, // The peer's port.
        |f| f[ETHERNET_BYTES + 39] ^= 1, // The peer's address.
    ];
    for forge in forgeries {
        let mut forged = whole[0].clone();
        forge(&mut forged);
        let before = bench.drops(DropReason::Protocol);
        bench.receive(too_big(&forged, 1300));
        assert_eq!(bench.drops(DropReason::Protocol), before + 1);
    }
    bench.stack.send_datagrams(id, &[datagram]).unwrap();
    let whole = bench.turn();
    assert_eq!(whole.len(), 1);
    bench.receive(too_big(&whole[0], 1300));
    bench.stack.send_datagrams(id, &[datagram]).unwrap();
    let cut = bench.turn();
    assert!(cut.len() == 2 && cut.iter().all(|frame| frame.len() <= 14 + 1300));
    // The next router on the way takes even less: of the fragments the first tells whose they are.
    bench.receive(too_big(&cut[1], 1280));
    bench.receive(too_big(&cut[0], 1280));
    bench.stack.send_datagrams(id, &[datagram]).unwrap();
    let cut = bench.turn();
    assert!(cut.len() == 2 && cut.iter().all(|frame| frame.len() <= 14 + 1280));
}

#[test]
fn a_neighbour_is_asked_for_and_asks() {
    let mut bench = bench();
    bench.stack.connect((PEER_6, 443).into()).unwrap();
    let asked = bench.turn();
    assert_eq!(heard(&asked[0]), Some(Heard::Asks { target: PEER_6, by: Some((OURS_6, OUR_MAC)), sender: OUR_MAC }));
    assert_eq!(asked[0][..6], [0x33, 0x33, 0xff, 0, 0, 2]);
    let syn = bench.receive(said(Said::Here { target: PEER_6, to: OURS_6 }, PEER_MAC));
    assert_eq!(read_6(&syn[0]).0, TcpControl::Syn);
    let answer = bench.receive(said(Said::Where { source: PEER_6, target: OURS_6 }, PEER_MAC));
    assert_eq!(heard(&answer[0]), Some(Heard::Tells { target: OURS_6, mac: OUR_MAC }));
    assert_eq!(answer[0][..6], PEER_MAC.0);
    // Not of us, not of the link, and nobody asked.
    let elsewhere = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    let strangers = [
        Said::Where { source: elsewhere, target: OURS_6 },
        Said::Announced { target: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9) },
    ];
    for stranger in strangers {
        assert!(bench.receive(said(stranger, PEER_MAC)).is_empty());
    }
    assert_eq!(bench.drops(DropReason::Nd), 2);
}

#[test]
fn addresses_are_told_to_all_at_the_start() {
    let mut bench = bench();
    let own = link_local(OUR_MAC);
    let mut told = Vec::new();
    for _ in 0..100 {
        told.extend(bench.raw_turn());
        bench.now += Duration::from_millis(100);
    }
    let of_arp = |frame: &&Vec<u8>| &frame[12..14] == ETHER_ARP;
    let arp: Vec<_> = told.iter().filter(of_arp).map(|f| arp::parse(&f[ETHERNET_BYTES..]).unwrap()).collect();
    assert!(arp.len() == 4 && arp.iter().all(|said| (said.ip, said.target, said.mac) == (OURS, OURS, OUR_MAC)));
    let nd: Vec<_> = told.iter().filter_map(|frame| heard(frame)).collect();
    for target in [OURS_6, own] {
        assert_eq!(nd.iter().filter(|h| **h == Heard::Asks { target, by: None, sender: OUR_MAC }).count(), 1);
        assert_eq!(nd.iter().filter(|h| **h == Heard::Tells { target, mac: OUR_MAC }).count(), 3);
    }
    assert!(bench.stack.announcements.next().is_none());
}

#[test]
fn another_station_with_our_address_is_told_of() {
    let mut bench = bench();
    let rival = Mac([2, 0, 0, 0, 0, 9]);
    bench.receive(said(Said::Announced { target: OURS_6 }, rival));
    bench.receive(said(Said::Probe { target: OURS_6 }, rival));
    assert_eq!(bench.drops(DropReason::AddressConflict), 2);
    bench.receive(said(Said::Announced { target: OURS_6 }, OUR_MAC));
    assert_eq!(bench.drops(DropReason::AddressConflict), 2, "a port that hears itself");
}

#[test]
fn a_router_that_moves_is_followed() {
    let gateway = Ipv4Addr::new(10, 0, 0, 9);
    let mut bench = Bench::with(|c| c.routes = vec![Route { to: Network::new([0, 0, 0, 0], 0), via: gateway.into() }]);
    let far = SocketAddr::from(([192, 0, 2, 1], 53));
    let (id, _) = bench.stack.connect_datagrams(far).unwrap();
    let tell = |mac: Mac| {
        let mut frame = [&Mac::BROADCAST.0[..], &mac.0, ETHER_ARP, &[0; arp::ARP_BYTES]].concat();
        arp::emit((mac, gateway), None, gateway, &mut frame[ETHERNET_BYTES..]);
        frame
    };
    let datagram = Datagram { peer: far, local: None, bytes: b"x" };
    bench.receive(tell(PEER_MAC));
    assert_eq!(bench.drops(DropReason::Arp), 1, "of nobody that we know");
    bench.stack.send_datagrams(id, &[datagram]).unwrap();
    bench.turn();
    assert_eq!(bench.receive(tell(PEER_MAC))[0][..6], PEER_MAC.0);
    // The address is another router's now (VRRP).
    let second = Mac([2, 0, 0, 0, 0, 7]);
    bench.receive(tell(second));
    bench.stack.send_datagrams(id, &[datagram]).unwrap();
    assert_eq!(bench.turn()[0][..6], second.0);
}

#[test]
fn each_address_has_its_listeners_and_answers_from_it() {
    let other = Ipv4Addr::new(10, 0, 0, 7);
    let mut bench = Bench::with(|c| c.addresses.push(Network::new(other, 24)));
    let (mine, _) = bench.stack.bind_datagrams(Bind::One(other.into()), 53).unwrap();
    let (all, _) = bench.stack.bind_datagrams(Bind::V4, 53).unwrap();
    let mut hello = [&OUR_MAC.0[..], &PEER_MAC.0, ETHER_ARP, &[0; arp::ARP_BYTES]].concat();
    arp::emit((PEER_MAC, PEER), None, other, &mut hello[ETHERNET_BYTES..]);
    let answer = bench.receive(hello);
    assert_eq!(arp::parse(&answer[0][ETHERNET_BYTES..]).unwrap().ip, other, "whoever was asked for answers");
    let peer = SocketAddr::from((PEER, 4000));
    for (id, local, from) in [(mine, None, other), (all, None, OURS), (all, Some(other), other)] {
        let local = local.map(IpAddr::V4);
        bench.stack.send_datagrams(id, &[Datagram { peer, local, bytes: b"x" }]).unwrap();
        assert_eq!(bench.turn()[0][ETHERNET_BYTES + 12..][..4], from.octets());
    }
    assert!(bench.stack.bind(Bind::One(other.into()), 80, 1).is_ok() && bench.stack.bind(Bind::Any, 80, 1).is_ok());
}
