//! What an operator can set of a flow's TCP, as its peer sees it.
//!
//! **Invariant:** as for [`tests`](super::tests): what is seen is what is on the wire.

use std::io::ErrorKind;
use std::time::Duration;

use ferrogate_core::config::limits::FlowLimits;
use smoltcp::wire::{TcpControl, TcpPacket, TcpRepr};

use super::Bind;
use super::FlowId;
use super::tests::{Bench, PEER, PEER_MAC, Sent, frame, read, tcp};

/// A stack with limits of its own, and a connection from the peer's port 1000: its number, ours, and the flow.
fn connected(change: impl FnOnce(&mut FlowLimits)) -> (Bench, i32, i32, FlowId) {
    let mut bench = Bench::with(|c| change(&mut c.limits));
    let (listener, _) = bench.stack.bind(Bind::Any, 80, 10).unwrap();
    let (peer, ours) = bench.establish(1000);
    let flow = bench.accept(listener);
    (bench, peer, ours, flow)
}

fn keepalive(limits: &mut FlowLimits) {
    (limits.keepalive_idle, limits.keepalive_interval) = (Duration::from_secs(10), Duration::from_secs(2));
    limits.keepalive_probes_max = 3;
}

#[test]
fn a_silent_peer_is_asked_and_goes_on_when_it_answers() {
    let (mut bench, peer, ours, flow) = connected(keepalive);
    for _ in 0..3 {
        let (question, ms) = bench.wait();
        assert_eq!((question.len(), ms), (1, 10_000));
        let Sent { control, seq, acked, payload, .. } = &question[0];
        assert_eq!((*control, *seq, *acked, payload.len()), (TcpControl::None, ours - 1, Some(peer), 0));
        assert_eq!(bench.answer(tcp(1000, TcpControl::None, peer, Some(ours))), None);
    }
    assert!(bench.stack.check(flow).is_ok());
    assert_eq!(bench.stack.counters().keepalives_sent.get(), 3);
}

#[test]
fn a_peer_that_is_gone_is_given_up_after_the_last_question() {
    let (mut bench, peer, ours, flow) = connected(keepalive);
    bench.stack.incoming(flow).expect("it is open");
    let waits: Vec<_> = (0..3).map(|_| bench.wait()).map(|(sent, ms)| (sent[0].control, ms)).collect();
    let question = |ms| (TcpControl::None, ms);
    assert_eq!(waits, [question(10_000), question(2_000), question(2_000)]);
    let (last, ms) = bench.wait();
    assert_eq!((last[0].control, last[0].seq, last[0].acked, ms), (TcpControl::Rst, ours, Some(peer), 2_000));
    assert_eq!(bench.stack.incoming(flow).unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(bench.stack.counters().flows_timed_out.get(), 1);
    bench.stack.let_go(flow);
    assert_eq!(bench.stack.flows(), 0);
}

#[test]
fn what_is_on_its_way_is_question_enough_but_has_no_more_time() {
    let (mut bench, peer, ours, flow) = connected(keepalive);
    bench.stack.socket(flow).send_slice(&[7; 100]).unwrap();
    bench.stack.touch(flow);
    bench.turn();
    let begun = bench.now;
    loop {
        let (sent, _) = bench.wait();
        if sent[0].control == TcpControl::Rst {
            break;
        }
        assert_eq!((sent[0].seq, sent[0].acked, sent[0].payload.len()), (ours, Some(peer), 100), "no other question");
    }
    assert_eq!((bench.now - begun).total_millis(), 16_000);
    assert_eq!(bench.stack.counters().keepalives_sent.get(), 0);
}

#[test]
fn nobody_is_asked_by_default_and_no_orphan_ever() {
    let (mut bench, ..) = connected(|_| {});
    for _ in 0..24 * 60 {
        bench.now += smoltcp::time::Duration::from_secs(60);
        assert!(bench.turn().is_empty());
    }
    let (mut bench, peer, ours, flow) = connected(keepalive);
    bench.stack.let_go(flow);
    bench.turn();
    assert_eq!(bench.answer(tcp(1000, TcpControl::None, peer, Some(ours + 1))), None);
    let (end, ms) = bench.wait();
    assert_eq!((end[0].control, ms / 1_000), (TcpControl::Rst, 60), "as long as every orphan has");
    assert_eq!(bench.stack.counters().keepalives_sent.get(), 0);
}

#[test]
fn an_acknowledgement_waits_as_long_as_is_said() {
    for (ack_delay, expected) in [(0, 0), (2, 2), (50, 50)] {
        let (mut bench, peer, ours, _) = connected(|limits| limits.ack_delay = Duration::from_millis(ack_delay));
        let data = TcpRepr { payload: &[1; 100], ..tcp(1000, TcpControl::Psh, peer, Some(ours)) };
        let at_once = bench.receive(frame(data));
        let (acks, ms) = if at_once.is_empty() { bench.wait() } else { (vec![read(&at_once[0])], 0) };
        assert_eq!((acks[0].acked, ms), (Some(peer + 100), expected));
    }
}

#[test]
fn a_short_segment_waits_for_those_before_it_if_that_is_wanted() {
    for nagle in [false, true] {
        let (mut bench, peer, ours, flow) = connected(|limits| limits.nagle = nagle);
        let write = |bench: &mut Bench| {
            bench.stack.socket(flow).send_slice(&[7; 100]).unwrap();
            bench.stack.touch(flow);
            bench.turn().len()
        };
        assert_eq!(
            (write(&mut bench), write(&mut bench), write(&mut bench)),
            if nagle { (1, 0, 0) } else { (1, 1, 1) }
        );
        let rest = bench.receive(frame(tcp(1000, TcpControl::None, peer, Some(ours + 100))));
        let rest: Vec<_> = rest.iter().map(|f| read(f).payload.len()).collect();
        assert_eq!(rest, if nagle { vec![200] } else { vec![] });
    }
}

#[test]
fn segments_are_no_longer_than_is_said_in_either_direction() {
    let told = |frame: &[u8]| TcpPacket::new_checked(&frame[34..]).unwrap().options_summary().unwrap().max_segment_size;
    // With a flow, and by a cookie.
    for syn_backlog_max in [3, 0] {
        let mut bench = Bench::with(|c| (c.limits.segment_bytes_max, c.syn_backlog_max) = (1000, syn_backlog_max));
        let (listener, _) = bench.stack.bind(Bind::Any, 80, 10).unwrap();
        let syn_ack = bench.receive(frame(tcp(1000, TcpControl::Syn, 100, None))).remove(0);
        assert_eq!(told(&syn_ack), Some(1000));
        let ours = read(&syn_ack).seq.wrapping_add(1);
        assert!(bench.answer(tcp(1000, TcpControl::None, 101, Some(ours))).is_none());
        let flow = bench.accept(listener);
        bench.stack.socket(flow).send_slice(&[7; 2500]).unwrap();
        bench.stack.touch(flow);
        let sent: Vec<_> = bench.turn().iter().map(|f| read(f).payload.len()).collect();
        assert_eq!(sent, [1000, 1000, 500]);
    }
    let mut bench = Bench::with(|c| c.limits.segment_bytes_max = 1000);
    bench.stack.neighbours.learn(PEER.into(), PEER_MAC, bench.now);
    bench.stack.connect((PEER, 443).into()).unwrap();
    assert_eq!(told(&bench.turn()[0]), Some(1000));
    // The port's MTU is the bound where it is narrower.
    let mut bench = Bench::with(|c| (c.limits.segment_bytes_max, c.mtu) = (1400, 1006));
    bench.stack.bind(Bind::Any, 80, 10).unwrap();
    assert_eq!(told(&bench.receive(frame(tcp(1000, TcpControl::Syn, 100, None)))[0]), Some(966));
}
