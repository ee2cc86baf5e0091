//! The exception path against a twin that is written by hand: who gets which frame.
//!
//! **Invariant:** a test sees what is on the wire, what Linux would get, and the counters.

use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Waker};

use ferrogate_core::config::dataplane::{Exception, Foreign};
use smoltcp::wire::{Ipv4Packet, TcpControl};

use super::Bind;
use super::arp;
use super::packet::{ETHER_ARP, ETHERNET_BYTES};
use super::tests::{Bench, OUR_MAC, OURS, PEER, PEER_MAC, TestQueue, frame, tcp};
use crate::counters::DropReason;
use crate::device::Mac;

/// A stack with a twin, and the twin's far side.
fn bench_with(policy: Exception) -> (Bench, TestQueue) {
    let mut bench = Bench::with(|config| config.limits.exception_frames_per_second_max = 100);
    let linux = TestQueue::default();
    bench.stack.add_twin(Box::new(linux.clone()), policy);
    (bench, linux)
}

fn all() -> Exception {
    let protocols = Foreign::ALL.map(|(_, kind)| kind).to_vec();
    Exception { interface: "fg0".into(), protocols, tcp_ports: Vec::new(), udp_ports: Vec::new(), follow: Vec::new() }
}

/// A frame from the peer of this EtherType.
fn ethernet(to: Mac, kind: [u8; 2], packet: &[u8]) -> Vec<u8> {
    [&to.0[..], &PEER_MAC.0, &kind, packet].concat()
}

/// An IPv4 packet from the peer to this address, with this protocol and payload.
fn ip(to: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let mut packet = [&[0x45, 0][..], &len, &[0, 1, 0, 0, 64, protocol, 0, 0], &PEER.octets(), &to, payload].concat();
    Ipv4Packet::new_unchecked(&mut packet[..]).fill_checksum();
    packet
}

fn syn_to(port: u16) -> Vec<u8> {
    let mut syn = tcp(4000, TcpControl::Syn, 100, None);
    syn.dst_port = port;
    frame(syn)
}

fn arp_from_peer(asks: bool, about: std::net::Ipv4Addr) -> Vec<u8> {
    let to = if asks { Mac::BROADCAST } else { OUR_MAC };
    let mut frame = [&to.0[..], &PEER_MAC.0, ETHER_ARP, &[0; arp::ARP_BYTES]].concat();
    arp::emit((PEER_MAC, PEER), (!asks).then_some(OUR_MAC), about, &mut frame[ETHERNET_BYTES..]);
    frame
}

#[test]
fn what_nobody_here_serves_goes_to_linux_and_is_answered_by_nobody_here() {
    let (mut bench, linux) = bench_with(all());
    let lldp = ethernet(Mac([0x01, 0x80, 0xc2, 0, 0, 0x0e]), [0x88, 0xcc], &[2; 50]);
    let vrrp = ethernet(Mac([0x01, 0, 0x5e, 0, 0, 18]), [8, 0], &ip([224, 0, 0, 18], 112, &[1; 8]));
    let ospf = ethernet(OUR_MAC, [8, 0], &ip(OURS.octets(), 89, &[1; 24]));
    let vlan = ethernet(OUR_MAC, [0x81, 0], &[0; 60]);
    let another = ethernet(OUR_MAC, [8, 0], &ip([10, 0, 0, 77], 6, &[0; 20]));
    let foreign = [syn_to(22), lldp, vrrp, ospf, vlan, another];
    for frame in &foreign {
        assert!(bench.receive(frame.clone()).is_empty(), "nothing leaves");
        assert_eq!(linux.sent.take(), std::slice::from_ref(frame));
    }
    assert_eq!(bench.stack.counters().drops_total(), 0);
    assert_eq!(bench.stack.counters().exceptions_sent.get(), foreign.len() as u64);
}

#[test]
fn what_is_ours_never_goes_there() {
    let (mut bench, linux) = bench_with(all());
    bench.stack.bind(Bind::Any, 80, 4).unwrap();
    assert_eq!(bench.receive(syn_to(80)).len(), 1, "a listener answers");
    let (socket, _) = bench.stack.bind_datagrams(Bind::Any, 53).unwrap();
    let asked = [&4000_u16.to_be_bytes()[..], &53_u16.to_be_bytes(), &9_u16.to_be_bytes(), &[0, 0, 7]].concat();
    bench.receive(ethernet(OUR_MAC, [8, 0], &ip(OURS.octets(), 17, &asked)));
    assert_eq!(bench.receive(arp_from_peer(true, OURS)).len(), 1, "who asks for us is told");
    bench.receive(ethernet(Mac([2; 6]), [8, 0], &[0; 60]));
    bench.receive(ethernet(OUR_MAC, [8, 0], &[0; 60]));
    assert!(linux.sent.take().is_empty());
    bench.stack.close_datagrams(socket);
    let drops = |reason| bench.stack.counters().drops(reason);
    assert_eq!((drops(DropReason::OtherMac), drops(DropReason::Malformed)), (1, 1));
}

#[test]
fn news_of_a_neighbour_are_for_both() {
    let (mut bench, linux) = bench_with(all());
    let answer = arp_from_peer(false, OURS);
    bench.receive(answer.clone());
    assert_eq!(linux.sent.take(), [answer]);
    // It is known here, too: what goes to the peer asks nobody.
    let (id, _) = bench.stack.bind_datagrams(Bind::Any, 53).unwrap();
    let peer = SocketAddr::new(IpAddr::V4(PEER), 4000);
    let datagram = ferrogate_core::net::Datagram { peer, local: None, bytes: b"x" };
    bench.stack.send_datagrams(id, &[datagram]).unwrap();
    let sent = bench.turn();
    assert_eq!((sent.len(), &sent[0][12..14]), (1, &[8, 0][..]));
    // Somebody asks for a third station: Linux may have that address.
    let question = arp_from_peer(true, std::net::Ipv4Addr::new(10, 0, 0, 77));
    bench.receive(question.clone());
    assert_eq!(linux.sent.take(), [question]);
}

#[test]
fn the_policy_names_protocols_and_ports() {
    let policy = Exception { protocols: vec![Foreign::Tcp], tcp_ports: vec![(22, 22), (8000, 8100)], ..all() };
    let (mut bench, linux) = bench_with(policy);
    for (port, is_for_linux) in [(22, true), (23, false), (8000, true), (8100, true), (8101, false)] {
        let answers = bench.receive(syn_to(port));
        assert_eq!(answers.len(), usize::from(!is_for_linux), "port {port}: an RST, or nothing");
        assert_eq!(linux.sent.take().len(), usize::from(is_for_linux));
    }
    bench.receive(ethernet(OUR_MAC, [0x88, 0xcc], &[2; 50]));
    assert_eq!((linux.sent.take().len(), bench.drops(DropReason::EtherType)), (0, 1));
}

#[test]
fn what_linux_sends_leaves_as_it_is_and_both_ways_have_a_limit() {
    let (mut bench, linux) = bench_with(all());
    let mut cx = Context::from_waker(Waker::noop());
    let sent = ethernet(Mac::BROADCAST, [8, 6], &[7; 28]);
    for _ in 0..5 {
        linux.arriving.borrow_mut().extend(std::iter::repeat_n(sent.clone(), 30));
        let now = bench.now;
        while !linux.arriving.borrow().is_empty() {
            assert!(bench.stack.poll_twin(now, &mut cx).is_pending());
        }
    }
    let left = bench.queue.sent.take();
    assert_eq!((left.len(), &left[0]), (100, &sent));
    assert_eq!(bench.drops(DropReason::ExceptionRate), 50);
    for _ in 0..120 {
        bench.receive(syn_to(22));
    }
    assert_eq!((linux.sent.take().len(), bench.drops(DropReason::ExceptionRate)), (100, 70));
    bench.now += smoltcp::time::Duration::from_secs(1);
    bench.receive(syn_to(22));
    assert_eq!(linux.sent.take().len(), 1, "a second later");
}

#[test]
fn frames_that_can_not_be_are_nobodys() {
    let (mut bench, linux) = bench_with(all());
    let whole = ethernet(OUR_MAC, [8, 0], &ip(OURS.octets(), 89, &[1; 24]));
    for len in 0..whole.len() {
        bench.receive(whole[..len].to_vec());
    }
    assert!(linux.sent.take().is_empty());
    // IPv6 to nobody's address, cut anywhere.
    let mut six = ethernet(OUR_MAC, [0x86, 0xdd], &[0; 60]);
    six[14] = 0x60;
    for len in 14..54 {
        bench.receive(six[..len].to_vec());
    }
    assert!(linux.sent.take().is_empty());
}
