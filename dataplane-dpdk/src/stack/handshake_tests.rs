//! Handshakes by the hundred, by peers that mean it and by peers that don't.
//!
//! **Invariant:** a test sees what is on the wire and in the counters, as a peer and an operator would.

use std::net::Ipv4Addr;
use std::task::{Context, Poll, Waker};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::time::Duration;
use smoltcp::wire::{Ipv4Packet, TcpControl, TcpPacket, TcpRepr};

use super::Bind;
use super::packet::ETHERNET_BYTES;
use super::tests::{Bench, OURS, PEER, frame, read, tcp};
use super::{FlowId, StackConfig};
use crate::counters::DropReason;

/// A backlog of three, of which all may be one peer's.
fn small_backlog(config: &mut StackConfig) {
    config.syn_backlog_max = 3;
    config.flows_max = 1000;
}

/// A listening stack whose backlog is full of handshakes that nobody goes on with.
fn flooded(change: impl FnOnce(&mut StackConfig)) -> (Bench, u32) {
    let mut bench = Bench::with(|c| {
        small_backlog(c);
        change(c);
    });
    let (listener, _) = bench.stack.bind(Bind::Any, 80, 100).unwrap();
    for port in 1..=3 {
        bench.answer(tcp(port, TcpControl::Syn, 1, None)).expect("a SYN|ACK");
    }
    assert_eq!((bench.stack.flows(), bench.stack.counters().syn_cookies_sent.get()), (3, 0));
    (bench, listener)
}

fn accept(bench: &mut Bench, listener: u32) -> Option<FlowId> {
    match bench.stack.poll_accept(listener, &Context::from_waker(Waker::noop())) {
        Poll::Ready(flow) => Some(flow),
        Poll::Pending => None,
    }
}

/// What a frame of the stack says in TCP, options included, but for its numbers.
fn header(frame: &[u8]) -> TcpRepr<'_> {
    let ip = Ipv4Packet::new_checked(&frame[ETHERNET_BYTES..]).unwrap();
    let tcp = TcpPacket::new_checked(&frame[ETHERNET_BYTES + usize::from(ip.header_len())..]).unwrap();
    let repr = TcpRepr::parse(&tcp, &OURS.into(), &PEER.into(), &ChecksumCapabilities::default()).unwrap();
    TcpRepr { seq_number: Default::default(), dst_port: 0, ..repr }
}

#[test]
fn a_flood_leaves_nothing_behind_and_an_honest_peer_gets_in() {
    let (mut bench, listener) = flooded(|_| {});
    for port in 1000..2000 {
        let syn_ack = bench.answer(tcp(port, TcpControl::Syn, 100, None)).expect("a cookie");
        assert_eq!((syn_ack.control, syn_ack.acked), (TcpControl::Syn, Some(101)));
    }
    assert_eq!((bench.stack.flows(), bench.stack.ring_bytes()), (3, 0));
    let counters = std::sync::Arc::clone(bench.stack.counters());
    assert_eq!((counters.syn_cookies_sent.get(), counters.flows_opening.get(), counters.drops_total()), (1000, 3, 0));

    let (peer, ours) = bench.establish(5000);
    let flow = accept(&mut bench, listener).expect("a connection to accept");
    assert_eq!((counters.syn_cookies_accepted.get(), counters.flows_opening.get()), (1, 3));
    let question = TcpRepr { payload: b"hello", ..tcp(5000, TcpControl::Psh, peer, Some(ours)) };
    bench.receive(frame(question));
    assert_eq!(bench.stack.incoming(flow).unwrap().queued, 5);
    bench.stack.socket(flow).send_slice(b"and to you").unwrap();
    bench.stack.touch(flow);
    let answer: Vec<_> = bench.turn().iter().map(|f| read(f)).filter(|s| !s.payload.is_empty()).collect();
    assert_eq!((answer[0].seq, answer[0].acked, &answer[0].payload[..]), (ours, Some(peer + 5), &b"and to you"[..]));
    bench.answer(tcp(5000, TcpControl::None, peer + 5, Some(ours + 10)));
    assert_eq!(bench.stack.socket(flow).send_queue(), 0);
}

#[test]
fn a_cookie_offers_what_a_flow_would() {
    let offers: [(Option<u16>, Option<u8>, bool); 4] =
        [(Some(1460), Some(7), true), (Some(1460), None, true), (Some(536), Some(0), false), (None, None, false)];
    for rx_ring_bytes in [4096, 64 * 1024, 1 << 20] {
        for (max_seg_size, window_scale, sack_permitted) in offers {
            let syn =
                |port| TcpRepr { max_seg_size, window_scale, sack_permitted, ..tcp(port, TcpControl::Syn, 100, None) };
            let (mut flooded, _) = flooded(|c| c.rx_ring_bytes = rx_ring_bytes);
            let mut quiet = Bench::with(|c| c.rx_ring_bytes = rx_ring_bytes);
            quiet.stack.bind(Bind::Any, 80, 10).unwrap();
            let (cookie, flow) = (flooded.receive(frame(syn(1000))), quiet.receive(frame(syn(1000))));
            assert_eq!(header(&cookie[0]), header(&flow[0]));
            assert_eq!(flooded.stack.counters().syn_cookies_sent.get(), 1);
        }
    }
}

#[test]
fn a_flow_from_a_cookie_keeps_to_what_the_peer_offered() {
    for (max_seg_size, window_scale, first) in [(536, Some(4), 536), (1460, Some(7), 1460), (1460, None, 1460)] {
        let (mut bench, listener) = flooded(|_| {});
        let syn = TcpRepr { max_seg_size: Some(max_seg_size), window_scale, ..tcp(1000, TcpControl::Syn, 100, None) };
        let ours = bench.answer(syn).unwrap().seq.wrapping_add(1);
        let ack = TcpRepr { window_len: 20, ..tcp(1000, TcpControl::None, 101, Some(ours)) };
        assert!(bench.answer(ack).is_none());
        let flow = accept(&mut bench, listener).expect("a connection to accept");
        bench.stack.socket(flow).send_slice(&[7; 4000]).unwrap();
        bench.stack.touch(flow);
        let sent: Vec<_> = bench.turn().iter().map(|f| read(f).payload.len()).collect();
        let window = 20 << window_scale.unwrap_or(0);
        assert_eq!((sent[0], sent.iter().sum::<usize>()), (first.min(window), window.min(4000)), "{window_scale:?}");
    }
}

#[test]
fn a_cookie_measures_no_round_trip() {
    let (mut bench, listener) = flooded(|_| {});
    let ours = bench.answer(tcp(1000, TcpControl::Syn, 100, None)).unwrap().seq.wrapping_add(1);
    bench.now += Duration::from_millis(150);
    assert!(bench.answer(tcp(1000, TcpControl::None, 101, Some(ours))).is_none());
    let flow = accept(&mut bench, listener).expect("a connection to accept");
    bench.stack.socket(flow).send_slice(b"hello").unwrap();
    bench.stack.touch(flow);
    assert_eq!(bench.turn().len(), 1);
    // Its answer is on its way.
    for _ in 0..15 {
        bench.now += Duration::from_millis(10);
        assert!(bench.turn().is_empty(), "nothing is late yet");
    }
    bench.answer(tcp(1000, TcpControl::None, 101, Some(ours + 5)));
    assert_eq!(bench.stack.counters().segments_repaired.get(), 0);
}

#[test]
fn the_first_data_brings_the_cookie_when_the_ack_was_lost() {
    let (mut bench, listener) = flooded(|_| {});
    let ours = bench.answer(tcp(1000, TcpControl::Syn, 100, None)).unwrap().seq.wrapping_add(1);
    let data = TcpRepr { payload: b"hello", ..tcp(1000, TcpControl::Psh, 101, Some(ours)) };
    bench.receive(frame(data));
    let flow = accept(&mut bench, listener).expect("a connection to accept");
    assert_eq!(bench.stack.incoming(flow).unwrap().queued, 5);
}

#[test]
fn data_that_overtakes_the_cookie_is_no_reason_to_reset() {
    let (mut bench, listener) = flooded(|_| {});
    let ours = bench.answer(tcp(1000, TcpControl::Syn, 100, None)).unwrap().seq.wrapping_add(1);
    let second = TcpRepr { payload: b"world", ..tcp(1000, TcpControl::Psh, 106, Some(ours)) };
    assert!(bench.receive(frame(second)).is_empty());
    assert_eq!(bench.drops(DropReason::SynCookie), 1);
    bench.receive(frame(TcpRepr { payload: b"hello", ..tcp(1000, TcpControl::Psh, 101, Some(ours)) }));
    bench.receive(frame(second));
    let flow = accept(&mut bench, listener).expect("a connection to accept");
    assert_eq!(bench.stack.incoming(flow).unwrap().queued, 10);
}

#[test]
fn a_cookie_that_was_never_given_is_reset() {
    let (mut bench, listener) = flooded(|_| {});
    let ours = bench.answer(tcp(1000, TcpControl::Syn, 100, None)).unwrap().seq.wrapping_add(1);
    for (port, seq, acked) in [(1001, 101, ours), (1000, 102, ours), (1000, 101, ours.wrapping_add(256))] {
        let rst = bench.answer(tcp(port, TcpControl::None, seq, Some(acked))).expect("an RST");
        assert_eq!((rst.control, rst.seq), (TcpControl::Rst, acked));
    }
    bench.now += Duration::from_secs(100);
    bench.turn();
    bench.answer(tcp(1000, TcpControl::None, 101, Some(ours))).expect("an RST: it is too old");
    assert_eq!((accept(&mut bench, listener), bench.stack.counters().syn_cookies_accepted.get()), (None, 0));
}

#[test]
fn a_cookie_waits_for_room_in_the_accept_queue() {
    let mut bench = Bench::with(small_backlog);
    let (listener, _) = bench.stack.bind(Bind::Any, 80, 1).unwrap();
    for port in 1..=3 {
        bench.answer(tcp(port, TcpControl::Syn, 1, None)).expect("a SYN|ACK");
    }
    let ours = |bench: &mut Bench, port| bench.answer(tcp(port, TcpControl::Syn, 100, None)).unwrap().seq + 1;
    let (first, second) = (ours(&mut bench, 1000), ours(&mut bench, 1001));
    assert!(bench.answer(tcp(1000, TcpControl::None, 101, Some(first))).is_none());
    assert!(bench.answer(tcp(1001, TcpControl::None, 101, Some(second))).is_none(), "dropped: there is no room");
    assert_eq!(bench.drops(DropReason::AcceptQueue), 1);
    assert!(accept(&mut bench, listener).is_some());
    let again = TcpRepr { payload: b"hello", ..tcp(1001, TcpControl::Psh, 101, Some(second)) };
    bench.receive(frame(again));
    assert!(accept(&mut bench, listener).is_some());
}

#[test]
fn a_port_in_time_wait_is_opened_by_a_cookie_too() {
    let (mut bench, listener) = flooded(|_| {});
    let (peer, ours) = bench.establish(1000);
    let flow = accept(&mut bench, listener).unwrap();
    bench.stack.let_go(flow);
    bench.turn();
    bench.answer(tcp(1000, TcpControl::Fin, peer, Some(ours + 1))).expect("the last ACK");
    assert_eq!(bench.stack.counters().time_waits.get(), 1);
    let new = bench.answer(tcp(1000, TcpControl::Syn, peer + 50, None)).expect("a cookie");
    bench.answer(tcp(1000, TcpControl::None, peer + 51, Some(new.seq.wrapping_add(1))));
    assert!(accept(&mut bench, listener).is_some());
    bench.turn();
    assert_eq!(bench.stack.counters().time_waits.get(), 0);
}

#[test]
fn without_cookies_a_flood_is_bounded_and_passes() {
    let (mut bench, _) = flooded(|c| c.limits.syn_cookies = false);
    for port in 1000..1100 {
        assert!(bench.answer(tcp(port, TcpControl::Syn, 100, None)).is_none());
    }
    assert_eq!((bench.stack.flows(), bench.drops(DropReason::SynBacklog)), (3, 100));
    bench.now += Duration::from_secs(11);
    bench.turn();
    assert_eq!(bench.stack.flows(), 0, "nobody finished the handshake");
    bench.establish(2000);
}

#[test]
fn one_source_does_not_take_the_whole_backlog() {
    for syn_cookies in [true, false] {
        let mut bench = Bench::with(|c| {
            c.syn_backlog_max = 100;
            c.flows_max = 100;
            (c.limits.half_open_per_source_max, c.limits.syn_cookies) = (2, syn_cookies);
        });
        bench.stack.bind(Bind::Any, 80, 10).unwrap();
        for port in 1000..1010 {
            bench.answer(tcp(port, TcpControl::Syn, 100, None));
        }
        let counters = bench.stack.counters();
        let (cookies, dropped) = if syn_cookies { (8, 0) } else { (0, 8) };
        assert_eq!((counters.flows_opening.get(), counters.syn_cookies_sent.get()), (2, cookies));
        assert_eq!(bench.drops(DropReason::SynSource), dropped);
        // Another source has its own share.
        let mut other = frame(tcp(1000, TcpControl::Syn, 100, None));
        let mut ip = Ipv4Packet::new_unchecked(&mut other[ETHERNET_BYTES..]);
        let source = Ipv4Addr::new(10, 0, 0, 77);
        ip.set_src_addr(source);
        ip.fill_checksum();
        TcpPacket::new_unchecked(ip.payload_mut()).fill_checksum(&source.into(), &OURS.into());
        bench.receive(other);
        assert_eq!(bench.stack.counters().flows_opening.get(), 3);
    }
}

#[test]
fn an_address_with_many_clients_behind_it_has_room_for_them_and_no_more() {
    let mut bench = Bench::with(|c| {
        let defaults = ferrogate_core::config::dataplane::Dpdk::default();
        (c.syn_backlog_max, c.flows_max) = (defaults.syn_backlog_max, 10_000);
    });
    bench.stack.bind(Bind::Any, 80, 10).unwrap();
    for port in 0..1_000 {
        bench.answer(tcp(10_000 + port, TcpControl::Syn, 100, None)).expect("a SYN|ACK");
    }
    assert_eq!((bench.stack.flows(), bench.stack.counters().syn_cookies_sent.get()), (1_000, 0));
    // A flood from there: it holds a quarter of the backlog, and others have the rest.
    for port in 0..5_000 {
        bench.answer(tcp(20_000 + port, TcpControl::Syn, 100, None)).expect("a SYN|ACK");
    }
    assert_eq!((bench.stack.flows(), bench.stack.counters().syn_cookies_sent.get()), (1_024, 4_976));
}

#[test]
fn numbers_are_of_the_clock_and_the_addresses() {
    let mut bench = Bench::new();
    bench.stack.bind(Bind::Any, 80, 10).unwrap();
    let number = |bench: &mut Bench, port| {
        let number = bench.answer(tcp(port, TcpControl::Syn, 100, None)).unwrap().seq;
        bench.answer(tcp(port, TcpControl::Rst, 101, None));
        number
    };
    let first = number(&mut bench, 1000);
    assert_eq!(number(&mut bench, 1000), first);
    assert_ne!(number(&mut bench, 1001), first);
    bench.now += Duration::from_millis(1);
    assert_eq!(number(&mut bench, 1000), first.wrapping_add(250), "RFC 6528: a tick in 4 us");
}

#[test]
fn data_in_a_syn_is_taken_when_it_comes_again() {
    let mut bench = Bench::new();
    let (listener, _) = bench.stack.bind(Bind::Any, 80, 10).unwrap();
    let early = TcpRepr { payload: b"hello", ..tcp(1000, TcpControl::Syn, 100, None) };
    let syn_ack = bench.answer(early).expect("a SYN|ACK");
    assert_eq!(syn_ack.acked, Some(101), "of the SYN alone");
    let again = TcpRepr { payload: b"hello", ..tcp(1000, TcpControl::Psh, 101, Some(syn_ack.seq + 1)) };
    bench.receive(frame(again));
    let flow = accept(&mut bench, listener).unwrap();
    assert_eq!(bench.stack.incoming(flow).unwrap().queued, 5);
}

#[test]
fn answers_that_anybody_can_ask_for_are_so_many_a_second() {
    let mut bench = Bench::with(|c| {
        (c.limits.resets_per_second_max, c.limits.echoes_per_second_max) = (5, 3);
        c.limits.challenges_per_second_max = 2;
    });
    bench.stack.bind(Bind::Any, 80, 10).unwrap();
    let resets = |bench: &mut Bench| {
        (0..20).filter(|p| bench.answer(tcp(2000 + p, TcpControl::None, 7, Some(5))).is_some()).count()
    };
    assert_eq!((resets(&mut bench), bench.drops(DropReason::ResetRate)), (5, 15));
    bench.answer(tcp(1, TcpControl::Rst, 7, None));
    assert_eq!(bench.drops(DropReason::ResetRate), 15, "an RST asks for no answer");
    bench.establish(1000);
    let challenges = (0..20).filter(|_| bench.answer(tcp(1000, TcpControl::Syn, 99_999, None)).is_some()).count();
    assert_eq!((challenges, bench.drops(DropReason::ChallengeRate)), (2, 18));
    let echoes = (0..20).filter(|_| !bench.receive(echo()).is_empty()).count();
    assert_eq!((echoes, bench.drops(DropReason::EchoRate)), (3, 17));
    bench.now += Duration::from_secs(1);
    assert_eq!((resets(&mut bench), bench.receive(echo()).len()), (5, 1));
}

/// An echo request from the peer.
fn echo() -> Vec<u8> {
    let mut bytes = frame(tcp(1, TcpControl::None, 0, None));
    bytes.truncate(ETHERNET_BYTES + 20);
    bytes.extend([0, 0, 0, 0, 0, 1, 0, 2, b'h', b'i']);
    let mut ip = Ipv4Packet::new_unchecked(&mut bytes[ETHERNET_BYTES..]);
    ip.set_next_header(smoltcp::wire::IpProtocol::Icmp);
    ip.set_total_len(30);
    ip.fill_checksum();
    let mut icmp = smoltcp::wire::Icmpv4Packet::new_unchecked(ip.payload_mut());
    icmp.set_msg_type(smoltcp::wire::Icmpv4Message::EchoRequest);
    icmp.fill_checksum();
    bytes
}
