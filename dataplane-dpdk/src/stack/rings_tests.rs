//! The memory of rings as a flow uses it, falls silent, and speaks again.
//!
//! **Invariant:** what a test reads back is what was sent, however often pages went in between.

use std::task::{Context, Poll, Waker};

use smoltcp::time::Duration;
use smoltcp::wire::{TcpControl, TcpRepr};

use super::Bind;
use super::FlowId;
use super::tests::{Bench, frame, read, tcp};

/// Rings of one flow of a [`Bench`], in bytes.
const PAIR: usize = 4096 + 64 * 1024;

/// A listening stack with an accepted connection from `port`; the numbers to go on with.
fn accepted(bench: &mut Bench, listener: u32, port: u16) -> (FlowId, i32, i32) {
    let (peer, ours) = bench.establish(port);
    let Poll::Ready(flow) = bench.stack.poll_accept(listener, &Context::from_waker(Waker::noop())) else {
        panic!("a connection to accept")
    };
    (flow, peer, ours)
}

fn with_data<'a>(port: u16, seq: i32, acked: i32, payload: &'a [u8]) -> TcpRepr<'a> {
    TcpRepr { payload, ..tcp(port, TcpControl::Psh, seq, Some(acked)) }
}

/// Time passes, in turns.
fn pass(bench: &mut Bench, seconds: i64) {
    for _ in 0..seconds * 10 {
        bench.now += Duration::from_millis(100);
        bench.turn();
    }
}

fn take(bench: &mut Bench, flow: FlowId) -> Vec<u8> {
    let mut all = vec![0; 10_000];
    let n = bench.stack.socket(flow).recv_slice(&mut all).unwrap();
    bench.stack.touch(flow);
    all.truncate(n);
    all
}

fn given_back(bench: &Bench) -> u64 {
    bench.stack.counters().rings_given_back.get()
}

#[test]
fn a_flow_has_pages_while_it_speaks_and_none_when_it_is_silent() {
    let mut bench = Bench::new();
    let (listener, _) = bench.stack.bind(Bind::Any, 80, 10).unwrap();
    let (flow, mut peer, mut ours) = accepted(&mut bench, listener, 1000);
    assert_eq!(bench.stack.ring_bytes(), 0, "a handshake takes none");
    for round in 1..=3_u8 {
        bench.receive(frame(with_data(1000, peer, ours, &[round; 500])));
        assert_eq!(bench.stack.ring_bytes(), PAIR);
        assert_eq!(take(&mut bench, flow), [round; 500]);
        peer += 500;
        bench.stack.socket(flow).send_slice(&[round + 100; 700]).unwrap();
        bench.stack.touch(flow);
        let sent: Vec<u8> = bench.turn().iter().flat_map(|f| read(f).payload).collect();
        assert_eq!(sent, [round + 100; 700]);
        ours += 700;
        bench.answer(tcp(1000, TcpControl::None, peer, Some(ours)));
        pass(&mut bench, 4);
        assert_eq!(bench.stack.ring_bytes(), PAIR, "it may go on at any time");
        pass(&mut bench, 2);
        assert_eq!((bench.stack.ring_bytes(), given_back(&bench)), (0, u64::from(round)));
        assert_eq!(bench.stack.counters().ring_bytes.get(), 0);
    }
}

#[test]
fn what_nobody_has_read_stays() {
    let mut bench = Bench::new();
    let (listener, _) = bench.stack.bind(Bind::Any, 80, 10).unwrap();
    let (flow, peer, ours) = accepted(&mut bench, listener, 1000);
    bench.receive(frame(with_data(1000, peer, ours, &[7; 500])));
    pass(&mut bench, 30);
    assert_eq!((bench.stack.ring_bytes(), given_back(&bench)), (PAIR, 0));
    assert_eq!(take(&mut bench, flow), [7; 500]);
    pass(&mut bench, 11);
    assert_eq!(bench.stack.ring_bytes(), 0);
}

#[test]
fn a_segment_that_waits_for_one_before_it_stays() {
    let mut bench = Bench::new();
    let (listener, _) = bench.stack.bind(Bind::Any, 80, 10).unwrap();
    let (flow, peer, ours) = accepted(&mut bench, listener, 1000);
    bench.receive(frame(with_data(1000, peer + 500, ours, &[8; 500])));
    pass(&mut bench, 30);
    assert_eq!((bench.stack.ring_bytes(), given_back(&bench)), (PAIR, 0));
    bench.receive(frame(with_data(1000, peer, ours, &[7; 500])));
    assert_eq!(take(&mut bench, flow), [[7; 500], [8; 500]].concat());
    bench.turn();
    pass(&mut bench, 11);
    assert_eq!(bench.stack.ring_bytes(), 0);
}

#[test]
fn what_was_not_acknowledged_stays() {
    let mut bench = Bench::new();
    let (listener, _) = bench.stack.bind(Bind::Any, 80, 10).unwrap();
    let (flow, peer, ours) = accepted(&mut bench, listener, 1000);
    bench.stack.socket(flow).send_slice(&[9; 700]).unwrap();
    bench.stack.touch(flow);
    bench.turn();
    let mut again = Vec::new();
    for _ in 0..400 {
        bench.now += Duration::from_millis(50);
        again.extend(bench.turn().iter().map(|f| read(f)));
    }
    assert_eq!(given_back(&bench), 0);
    assert!(!again.is_empty() && again.iter().all(|s| s.seq == ours && s.payload == [9; 700]), "{again:?}");
    bench.answer(tcp(1000, TcpControl::None, peer, Some(ours + 700)));
    pass(&mut bench, 11);
    assert_eq!(bench.stack.ring_bytes(), 0);
}

#[test]
fn flows_that_fall_silent_together_give_back_a_few_at_a_time() {
    let mut bench = Bench::with(|c| c.flows_max = 1000);
    let (listener, _) = bench.stack.bind(Bind::Any, 80, 1000).unwrap();
    for port in 1000..1200 {
        let (flow, peer, ours) = accepted(&mut bench, listener, port);
        bench.receive(frame(with_data(port, peer, ours, b"hello")));
        take(&mut bench, flow);
        bench.turn();
    }
    // The last acknowledgements leave.
    pass(&mut bench, 1);
    bench.now += Duration::from_secs(6);
    let mut turns = Vec::new();
    while bench.stack.ring_bytes() > 0 {
        let before = given_back(&bench);
        bench.stack.egress(bench.now);
        turns.push(given_back(&bench) - before);
        bench.now += Duration::from_millis(1);
    }
    assert_eq!(turns.iter().sum::<u64>(), 200);
    assert!(turns.iter().all(|t| *t <= 32) && turns.len() < 20, "{} turns", turns.len());
}

#[test]
fn an_ended_flow_leaves_its_pages_to_the_next_one() {
    let mut bench = Bench::new();
    let (listener, _) = bench.stack.bind(Bind::Any, 80, 10).unwrap();
    for port in 1000..1010 {
        let (flow, peer, ours) = accepted(&mut bench, listener, port);
        bench.receive(frame(with_data(port, peer, ours, &[3; 100])));
        assert_eq!(take(&mut bench, flow), [3; 100]);
        bench.answer(tcp(port, TcpControl::Rst, peer + 100, Some(ours)));
        bench.stack.let_go(flow);
    }
    assert_eq!((bench.stack.flows(), bench.stack.ring_bytes()), (0, 0), "what waits for the next flow is no load");
    // One that says nothing gives back what the one before it had.
    accepted(&mut bench, listener, 2000);
    assert_eq!(bench.stack.ring_bytes(), PAIR);
    pass(&mut bench, 6);
    assert_eq!(bench.stack.ring_bytes(), 0);
}

#[test]
fn an_idle_flow_is_made_of_little() {
    let parts = [
        // Two addresses of IPv6 among them, 24 bytes more than two of IPv4.
        ("the flow", size_of::<super::flow::Flow>(), 536),
        ("smoltcp's socket", size_of::<smoltcp::iface::SocketStorage<'static>>(), 704),
        ("whoever holds it", size_of::<crate::FlowConn>(), 192),
        ("its place in the table", super::flow_table::ENTRY_BYTES, 24),
    ];
    for (part, bytes, most) in parts {
        println!("{bytes:4} bytes: {part}");
        assert!(bytes <= most, "{part}: {bytes} bytes, {most} at most");
    }
}
