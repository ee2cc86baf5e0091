//! Datagrams of a stack against a peer that is written by hand, packet by packet.
//!
//! **Invariant:** a test sees what is on the wire and in the counters, as a peer and an operator would.

use ferrogate_core::config::dataplane::{Network, Route};
use ferrogate_core::net::Datagram;
use smoltcp::time::Duration;
use smoltcp::wire::{Icmpv4Message, Icmpv4Packet, Ipv4Packet};

use super::*;
use crate::device::Mac;
use crate::stack::packet::{ETHER_ARP, ETHER_IPV4, ETHERNET_BYTES};
use crate::stack::tests::{Bench, OUR_MAC, OURS, PEER, PEER_MAC};
use crate::stack::{StackConfig, arp};

const ASKER: SocketAddr = SocketAddr::new(IpAddr::V4(PEER), 4000);

/// The frames of a datagram from the peer.
fn frames(from: SocketAddr, to: u16, id: u16, bytes: &[u8], mtu: u16) -> Vec<Vec<u8>> {
    let datagram = packet::Outgoing::new(from, SocketAddr::new(OURS.into(), to), id.into(), mtu, bytes);
    let (mut frames, mut next) = (Vec::new(), Some(0));
    while let Some(offset) = next {
        let mut frame = [&OUR_MAC.0[..], &PEER_MAC.0, ETHER_IPV4].concat();
        frame.resize(ETHERNET_BYTES + datagram.packet_len(offset), 0);
        next = datagram.write(offset, &mut frame[ETHERNET_BYTES..]);
        frames.push(frame);
    }
    frames
}

fn ask(port: u16, bytes: &[u8]) -> Vec<u8> {
    frames(ASKER, port, 1, bytes, 1500).remove(0)
}

/// What a socket receives: who sent it, and what.
fn take(bench: &mut Bench, id: SocketId) -> io::Result<Vec<(SocketAddr, Vec<u8>)>> {
    match bench.stack.poll_datagrams(id, &Context::from_waker(Waker::noop())) {
        Poll::Pending => Ok(Vec::new()),
        Poll::Ready(Err(e)) => Err(e),
        Poll::Ready(Ok(burst)) => {
            let seen = burst.iter().map(|r| (r.peer, r.bytes().to_vec())).collect();
            bench.stack.give_back(burst);
            Ok(seen)
        }
    }
}

fn to(peer: SocketAddr, bytes: &[u8]) -> Datagram<'_> {
    Datagram { peer, local: None, bytes }
}

/// The peer tells where it is.
fn introduce(bench: &mut Bench) {
    let mut hello = [&OUR_MAC.0[..], &PEER_MAC.0, ETHER_ARP, &[0; arp::ARP_BYTES]].concat();
    arp::emit((PEER_MAC, PEER), Some(OUR_MAC), OURS, &mut hello[ETHERNET_BYTES..]);
    bench.receive(hello);
}

/// The bytes of a datagram of ours, whose fragments these are, to the peer.
fn join(frames: &[Vec<u8>]) -> (FlowKey, Vec<u8>) {
    let mut whole = Vec::new();
    for frame in frames {
        assert_eq!((&frame[..6], &frame[6..12]), (&PEER_MAC.0[..], &OUR_MAC.0[..]));
        let ip = Ipv4Packet::new_checked(&frame[ETHERNET_BYTES..]).unwrap();
        assert!(ip.verify_checksum() && usize::from(ip.frag_offset()) == whole.len());
        whole.extend_from_slice(ip.payload());
    }
    let Arrived { key, payload } = read(&whole, OURS.into(), PEER.into(), true).unwrap();
    (key, whole[payload].to_vec())
}

#[test]
fn datagrams_come_and_are_answered() {
    let mut bench = Bench::new();
    let (id, port) = bench.stack.bind_datagrams(Bind::Any, 53).unwrap();
    assert_eq!(port, 53);
    for n in 0..40_u8 {
        assert!(bench.receive(ask(53, &[n; 3])).is_empty());
    }
    assert_eq!(bench.stack.held_bytes(), 120);
    let seen = take(&mut bench, id).unwrap();
    assert_eq!((seen.len(), &seen[31]), (BURST_DATAGRAMS_MAX, &(ASKER, vec![31; 3])));
    assert_eq!(take(&mut bench, id).unwrap().len(), 8);
    assert!(take(&mut bench, id).unwrap().is_empty());
    introduce(&mut bench);
    assert_eq!(bench.stack.send_datagrams(id, &[to(ASKER, b"a"), to(ASKER, b"")]).unwrap(), 2);
    let sent = bench.turn();
    assert_eq!(sent.len(), 2);
    let (key, bytes) = join(&sent[..1]);
    assert_eq!((key.peer_port, key.local_port, &bytes[..]), (53, 4000, &b"a"[..]));
    assert_eq!(join(&sent[1..]).1, b"");
    let counters = bench.stack.counters();
    assert_eq!((counters.datagrams_received.get(), counters.datagrams_sent.get()), (40, 2));
    assert_eq!((counters.datagrams_queued.get(), bench.stack.held_bytes()), (0, 0));
}

#[test]
fn a_socket_of_one_peer_hears_nobody_else() {
    let mut bench = Bench::new();
    let (id, local) = bench.stack.connect_datagrams(ASKER).unwrap();
    let (other, _) = bench.stack.connect_datagrams(ASKER).unwrap();
    let at = local.port();
    assert!(at >= FIRST_EPHEMERAL_PORT);
    bench.receive(ask(at, b"mine"));
    let stranger = SocketAddr::new(PEER.into(), 4001);
    let refused = bench.receive(frames(stranger, at, 1, b"forged", 1500).remove(0));
    assert_eq!(refused.len(), 1, "for the stranger there is nobody");
    assert_eq!(take(&mut bench, id).unwrap(), [(ASKER, b"mine".to_vec())]);
    assert!(take(&mut bench, other).unwrap().is_empty());
    bench.stack.close_datagrams(id);
    assert_eq!(bench.receive(ask(at, b"late")).len(), 1, "nor for anybody, once it is closed");
    assert_eq!(bench.drops(DropReason::UdpPort), 2);
}

#[test]
fn a_port_has_one_listener_and_every_one_of_our_own_its_place() {
    let mut bench = Bench::new();
    let (id, _) = bench.stack.bind_datagrams(Bind::Any, 53).unwrap();
    assert_eq!(bench.stack.bind_datagrams(Bind::Any, 53).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    bench.stack.close_datagrams(id);
    bench.stack.bind_datagrams(Bind::Any, 53).unwrap();
    let (_, chosen) = bench.stack.bind_datagrams(Bind::Any, 0).unwrap();
    assert!(chosen >= FIRST_EPHEMERAL_PORT);
    let mut ports = std::collections::HashSet::new();
    while let Ok((_, local)) = bench.stack.connect_datagrams(ASKER) {
        assert!(ports.insert(local.port()) && local.port() != chosen);
        // The search begins elsewhere.
        bench.stack.now += Duration::from_micros(1);
    }
    assert_eq!(ports.len(), 32_767, "all but the listener's");
    bench.stack.connect_datagrams(SocketAddr::new(PEER.into(), 4001)).expect("another peer, other places");
}

#[test]
fn nobody_at_a_port_is_told_so_often_and_no_more() {
    let mut bench = Bench::with(|c| c.limits.datagrams.unreachables_per_second_max = 3);
    for n in 0..5 {
        let question = ask(9, b"anybody?");
        let told = bench.receive(question.clone());
        assert_eq!(told.len(), usize::from(n < 3));
        let Some(frame) = told.first() else { continue };
        let ip = Ipv4Packet::new_checked(&frame[ETHERNET_BYTES..]).unwrap();
        assert!(ip.verify_checksum() && ip.src_addr() == OURS && ip.dst_addr() == PEER);
        let icmp = Icmpv4Packet::new_checked(ip.payload()).unwrap();
        assert!(icmp.verify_checksum());
        assert_eq!((icmp.msg_type(), icmp.msg_code()), (Icmpv4Message::DstUnreachable, 3));
        assert_eq!(ip.payload()[8..], question[ETHERNET_BYTES..][..28], "the header and eight bytes more");
    }
    assert_eq!((bench.drops(DropReason::UdpPort), bench.drops(DropReason::UnreachableRate)), (3, 2));
}

/// A router or host says that nobody receives our datagram `frame`.
fn refusal(frame: &[u8], code: u8) -> Vec<u8> {
    let mut icmp = [&[3, code, 0, 0, 0, 0, 0, 0][..], &frame[ETHERNET_BYTES..][..28]].concat();
    Icmpv4Packet::new_unchecked(&mut icmp[..]).fill_checksum();
    let mut packet = [&[0x45][..], &[0; 19], &icmp].concat();
    let len = u16::try_from(packet.len()).unwrap();
    let mut ip = Ipv4Packet::new_unchecked(&mut packet[..]);
    ip.set_total_len(len);
    ip.set_hop_limit(60);
    ip.set_next_header(smoltcp::wire::IpProtocol::Icmp);
    ip.set_src_addr(PEER);
    ip.set_dst_addr(OURS);
    ip.fill_checksum();
    [&OUR_MAC.0[..], &PEER_MAC.0, ETHER_IPV4, &packet].concat()
}

#[test]
fn who_sends_to_nobody_is_told() {
    let mut bench = Bench::new();
    introduce(&mut bench);
    let (id, _) = bench.stack.connect_datagrams(ASKER).unwrap();
    bench.stack.send_datagrams(id, &[to(ASKER, b"x")]).unwrap();
    let sent = bench.turn().remove(0);
    let kind = |result: io::Result<usize>| result.unwrap_err().kind();
    bench.receive(refusal(&sent, 1));
    assert!(take(&mut bench, id).is_ok(), "a router may lose its way for a while");
    bench.receive(refusal(&sent, 3));
    assert_eq!(take(&mut bench, id).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    assert!(take(&mut bench, id).is_ok(), "once");
    bench.receive(refusal(&sent, 3));
    assert_eq!(kind(bench.stack.send_datagrams(id, &[to(ASKER, b"x")])), io::ErrorKind::ConnectionRefused);
    let mut forged = sent;
    forged[ETHERNET_BYTES + 23] ^= 1;
    bench.receive(refusal(&forged, 3));
    assert!(take(&mut bench, id).is_ok(), "it is about nobody's");
}

#[test]
fn what_nobody_takes_is_bounded() {
    let mut bench = Bench::with(|c| {
        c.limits.datagrams.udp_queue_datagrams_max = 3;
        c.limits.datagrams.udp_queued_datagrams_max = 5;
    });
    let [one, two] = [53, 54].map(|port| bench.stack.bind_datagrams(Bind::Any, port).unwrap().0);
    for port in [53, 54] {
        for n in 0..10 {
            bench.receive(ask(port, &[n]));
        }
    }
    assert_eq!(bench.drops(DropReason::UdpQueue), 15);
    assert_eq!(bench.stack.counters().datagrams_queued.get(), 5);
    let bytes = |seen: Vec<(SocketAddr, Vec<u8>)>| seen.into_iter().flat_map(|(_, bytes)| bytes).collect::<Vec<_>>();
    assert_eq!(bytes(take(&mut bench, one).unwrap()), [0, 1, 2], "who came first");
    bench.receive(ask(54, &[9]));
    bench.stack.close_datagrams(one);
    assert_eq!(bytes(take(&mut bench, two).unwrap()), [0, 1, 9]);
    assert_eq!(bench.stack.counters().datagrams_queued.get(), 0);
}

#[test]
fn fragments_are_put_together_and_large_ones_cut() {
    let mut bench = Bench::new();
    introduce(&mut bench);
    let (id, _) = bench.stack.bind_datagrams(Bind::Any, 53).unwrap();
    let large: Vec<u8> = (0..65_507_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
    let mut parts = frames(ASKER, 53, 9, &large, 1500);
    // The last comes first, and one twice.
    parts.reverse();
    parts.insert(7, parts[3].clone());
    for part in parts {
        bench.receive(part);
    }
    let seen = take(&mut bench, id).unwrap();
    assert!(seen.len() == 1 && seen[0] == (ASKER, large.clone()));
    assert_eq!(bench.drops(DropReason::FragmentOverlap), 1);
    assert_eq!(bench.stack.held_bytes(), 0);
    assert_eq!(bench.stack.send_datagrams(id, &[to(ASKER, &large)]).unwrap(), 1);
    let sent = bench.turn();
    assert_eq!(sent.len(), 45);
    assert!(join(&sent).1 == large);
    let counters = bench.stack.counters();
    assert_eq!((counters.datagrams_reassembled.get(), counters.datagrams_fragmented.get()), (1, 1));
    let too_large = bench.stack.send_datagrams(id, &[to(ASKER, &vec![0; 65_508])]).unwrap_err();
    assert_eq!(too_large.raw_os_error(), Some(libc::EMSGSIZE));
}

#[test]
fn what_does_not_come_whole_is_given_up() {
    let mut bench = Bench::new();
    let (id, _) = bench.stack.bind_datagrams(Bind::Any, 53).unwrap();
    let parts = frames(ASKER, 53, 9, &[7; 4000], 1500);
    bench.receive(parts[0].clone());
    bench.receive(parts[1].clone());
    let timeout = bench.stack.config.limits.datagrams.reassembly_timeout;
    assert_eq!(bench.stack.udp.due(&bench.stack.config.limits.datagrams), Some(bench.now + timeout.into()));
    bench.now += Duration::from_secs(60);
    bench.turn();
    assert_eq!((bench.drops(DropReason::FragmentTimeout), bench.stack.held_bytes()), (2, 0));
    bench.receive(parts[2].clone());
    assert!(take(&mut bench, id).unwrap().is_empty());
    // A wrong sum shows when all is there.
    let mut parts = frames(ASKER, 53, 10, &[7; 4000], 1500);
    parts[1][100] ^= 1;
    for part in parts {
        bench.receive(part);
    }
    assert_eq!(bench.drops(DropReason::Checksum), 1);
    // And fragments of what is no datagram are nobody's.
    let mut strange = frames(ASKER, 53, 11, &[7; 4000], 1500).remove(0);
    strange[ETHERNET_BYTES + 9] = 6;
    Ipv4Packet::new_unchecked(&mut strange[ETHERNET_BYTES..]).fill_checksum();
    bench.receive(strange);
    assert_eq!(bench.drops(DropReason::Fragment), 1);
}

#[test]
fn a_port_that_takes_no_more_gets_the_rest_later() {
    let mut bench = Bench::new();
    introduce(&mut bench);
    let (id, _) = bench.stack.bind_datagrams(Bind::Any, 53).unwrap();
    let large = vec![7; 60_000];
    bench.queue.block(true);
    assert_eq!(bench.stack.send_datagrams(id, &[to(ASKER, &large), to(ASKER, b"next")]).unwrap(), 1);
    let blocked = bench.stack.send_datagrams(id, &[to(ASKER, b"next")]).unwrap_err();
    assert_eq!(blocked.kind(), io::ErrorKind::WouldBlock);
    let cx = &Context::from_waker(Waker::noop());
    assert!(bench.stack.poll_sendable(cx).is_pending());
    assert!(bench.turn().is_empty());
    assert!(bench.stack.poll_sendable(cx).is_pending() && bench.stack.due().is_some());
    bench.queue.block(false);
    let mut sent = bench.turn();
    sent.extend(bench.turn());
    assert!(join(&sent).1 == large, "all of it, in its order");
    assert!(bench.stack.poll_sendable(cx).is_ready());
    assert_eq!(bench.stack.send_datagrams(id, &[to(ASKER, b"next")]).unwrap(), 1);
    assert_eq!(join(&bench.turn()).1, b"next");
    assert_eq!(bench.stack.held_bytes(), 0);
}

#[test]
fn a_neighbour_is_asked_for_while_its_datagrams_wait() {
    let mut bench = Bench::new();
    let (id, _) = bench.stack.connect_datagrams(ASKER).unwrap();
    let large = vec![7; 60_000];
    assert_eq!(bench.stack.send_datagrams(id, &[to(ASKER, b"first"), to(ASKER, &large)]).unwrap(), 2);
    let asked = bench.turn();
    assert_eq!((asked.len(), &asked[0][..6], &asked[0][12..14]), (1, &Mac::BROADCAST.0[..], ETHER_ARP));
    let mut answer = [&OUR_MAC.0[..], &PEER_MAC.0, ETHER_ARP, &[0; arp::ARP_BYTES]].concat();
    arp::emit((PEER_MAC, PEER), Some(OUR_MAC), OURS, &mut answer[ETHERNET_BYTES..]);
    let sent = bench.receive(answer);
    assert_eq!(join(&sent[..1]).1, b"first");
    assert!(join(&sent[1..]).1 == large);
}

#[test]
fn who_sends_to_a_silent_neighbour_is_told() {
    let mut bench = Bench::with(|c: &mut StackConfig| {
        c.routes = vec![Route { to: Network::new([0, 0, 0, 0], 0), via: [10, 0, 0, 9].into() }];
    });
    let far = SocketAddr::from(([192, 0, 2, 1], 53));
    let (id, _) = bench.stack.connect_datagrams(far).unwrap();
    for _ in 0..200 {
        assert_eq!(bench.stack.send_datagrams(id, &[to(far, b"x")]).unwrap(), 1);
    }
    assert_eq!(bench.drops(DropReason::NeighbourQueue), 72, "128 may wait");
    for _ in 0..5 {
        bench.turn();
        bench.now += Duration::from_secs(1);
    }
    assert_eq!(bench.drops(DropReason::NeighbourSilent), 128);
    assert_eq!(take(&mut bench, id).unwrap_err().kind(), io::ErrorKind::HostUnreachable);
    let lonely = Bench::new().stack.connect_datagrams(far).unwrap_err();
    assert_eq!(lonely.kind(), io::ErrorKind::NetworkUnreachable);
}

#[test]
fn noise_in_datagrams_and_fragments_changes_nothing() {
    let mut bench = Bench::new();
    let (id, _) = bench.stack.bind_datagrams(Bind::Any, 53).unwrap();
    let mut x = 88_172_645_463_325_252_u64;
    let mut draw = move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    };
    let good = frames(ASKER, 53, 9, &[7; 4000], 1500);
    for n in 0..20_000 {
        let mut bad = good[n % good.len()].clone();
        for _ in 0..=draw() % 4 {
            let at = usize::try_from(draw() % 60).unwrap().min(bad.len() - 1);
            bad[at] = draw().to_le_bytes()[0];
        }
        // So that what is behind the header's sum is reached, too.
        if n % 2 == 0 && bad[ETHERNET_BYTES] == 0x45 {
            Ipv4Packet::new_unchecked(&mut bad[ETHERNET_BYTES..]).fill_checksum();
        }
        bad.truncate(usize::try_from(draw()).unwrap() % (bad.len() * 2));
        bench.receive(bad);
        bench.now += Duration::from_millis(1);
        let seen = take(&mut bench, id).unwrap();
        assert!(seen.iter().all(|(_, bytes)| bytes == &[7; 4000]), "what is delivered is what was sent");
    }
    assert!(bench.stack.held_bytes() <= 4 << 20);
    assert!(bench.stack.counters().drops_total() > 10_000);
}
