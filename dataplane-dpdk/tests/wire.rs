//! Two stacks on a simulated wire, on a paused clock.

mod common;

use std::io::ErrorKind;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use common::*;
use dataplane_dpdk::queue::PacketQueue;
use dataplane_dpdk::queue::wire::{self, WireOptions, WireQueue};
use dataplane_dpdk::{DropReason, Frame, FrameVec, PolledIdle, StackConfig};
use ferrogate_core::config::dataplane::Idle;
use ferrogate_core::config::limits::FlowLimits;
use ferrogate_core::net::{Conn, ListenOptions, Listener, Transport};
use tokio::task::spawn_local;
use tokio::time::{Instant, Sleep, sleep};

const HERE: &str = "10.0.0.1:80";

fn lan() -> WireOptions {
    WireOptions { latency: Duration::from_micros(100), ..WireOptions::default() }
}

#[test]
fn a_request_and_its_answer_and_both_ends() {
    simulate(async {
        let (a, b) = hosts(1, &lan());
        let mut listener = a.transport.listen(&address(HERE), &ListenOptions::default()).await.unwrap();
        let server = spawn_local(async move {
            let mut conn = listener.accept().await.unwrap();
            assert_eq!(conn.local_addr(), &address(HERE));
            let request = read_all(&mut conn).await.unwrap();
            write_all(&mut conn, &request).await.unwrap();
            conn.peer_addr().clone()
        });
        let mut conn = b.transport.connect(&address(HERE)).await.unwrap();
        assert_eq!(conn.peer_addr(), &address(HERE));
        let ours = conn.local_addr().clone();
        write_all(&mut conn, b"hello").await.unwrap();
        shutdown(&mut conn).await.unwrap();
        assert_eq!(read_all(&mut conn).await.unwrap(), b"hello", "reading goes on after our FIN");
        assert_eq!(server.await.unwrap(), ours);
        drop(conn);
        sleep(Duration::from_secs(1)).await;
        assert_eq!((a.stack.borrow().flows(), b.stack.borrow().flows()), (0, 0), "nothing is left");
        assert_eq!((a.counters.flows_accepted.get(), b.counters.flows_connected.get()), (1, 1));
    });
}

#[test]
fn bulk_data_arrives_whole_over_a_bad_wire() {
    // From seed 20 on, every connection is made by a cookie.
    for seed in 0..40 {
        simulate(async move {
            let options = WireOptions {
                latency: Duration::from_millis(5),
                loss: 0.03,
                duplicate: 0.02,
                reorder: 0.05,
                late_by: Duration::from_millis(3),
                ..WireOptions::default()
            };
            // With each way to acknowledge, and to wait with short segments.
            let ack_delay = Duration::from_millis([2, 0, 40][usize::try_from(seed).unwrap() % 3]);
            let limits = FlowLimits { ack_delay, nagle: seed % 2 == 1, ..FlowLimits::default() };
            let server = StackConfig { syn_backlog_max: if seed < 20 { 10 } else { 0 }, limits, ..config(1) };
            let (a, b) = hosts_with(seed, &options, server, StackConfig { limits, ..config(2) });
            let mut listener = a.transport.listen(&address(HERE), &ListenOptions::default()).await.unwrap();
            spawn_local(async move {
                let mut conn = listener.accept().await.unwrap();
                let all = read_all(&mut conn).await.unwrap();
                write_all(&mut conn, &all).await.unwrap();
            });
            let data = noise(300_000, seed);
            let mut conn = b.transport.connect(&address(HERE)).await.unwrap();
            write_all(&mut conn, &data).await.unwrap();
            shutdown(&mut conn).await.unwrap();
            let echoed = read_all(&mut conn).await.unwrap();
            assert!(echoed == data, "seed {seed}: {} bytes came back", echoed.len());
            assert_eq!(a.counters.syn_cookies_accepted.get(), u64::from(seed >= 20), "seed {seed}");
        });
    }
}

#[test]
fn a_poller_that_waits_is_woken_by_frames_timers_and_writers() {
    let took = |waits| {
        simulate(async move {
            let options = WireOptions { latency: Duration::from_millis(5), loss: 0.03, ..WireOptions::default() };
            let (left, right) = wire::pair(22, &options);
            let [a, b] = [(left, config(1)), (right, config(2))].map(|(queue, config)| {
                if waits { resting_host(queue, config, PolledIdle::new(soon_asleep())) } else { host(queue, config) }
            });
            let mut listener = a.transport.listen(&address(HERE), &ListenOptions::default()).await.unwrap();
            spawn_local(async move {
                let mut conn = listener.accept().await.unwrap();
                while let Ok(part) = read(&mut conn).await {
                    write_all(&mut conn, &part).await.unwrap();
                }
            });
            let (mut conn, data) = (b.transport.connect(&address(HERE)).await.unwrap(), noise(100_000, 22));
            let start = Instant::now();
            for part in data.chunks(10_000) {
                write_all(&mut conn, part).await.unwrap();
                assert!(read_exact(&mut conn, part.len()).await.unwrap() == part);
            }
            let took = start.elapsed();
            // An hour of silence, and it is still there.
            let turns = a.counters.turns.get();
            sleep(Duration::from_secs(3600)).await;
            let turns = a.counters.turns.get() - turns;
            assert!(turns < 40_000, "{turns} turns");
            write_all(&mut conn, b"again").await.unwrap();
            assert_eq!(read_exact(&mut conn, 5).await.unwrap(), b"again");
            took
        })
    };
    let (simulated, waiting) = (took(false), took(true));
    assert!(waiting < simulated + Duration::from_millis(20), "{waiting:?} instead of {simulated:?}");
}

/// Waits after a few polls: on a paused clock nothing moves before.
fn soon_asleep() -> Idle {
    let sleep = Duration::from_micros(1);
    Idle { busy_polls: 2, pause_polls: 2, sleep, sleep_max: sleep, ..Idle::default() }
}

#[test]
fn a_relay_moves_ring_to_ring_and_a_slow_reader_stops_the_sender() {
    simulate(async {
        let (a, b) = hosts(3, &lan());
        let mut front = a.transport.listen(&address(HERE), &ListenOptions::default()).await.unwrap();
        let mut origin = b.transport.listen(&address("10.0.0.2:9"), &ListenOptions::default()).await.unwrap();
        let gateway = a.transport.clone();
        let relayed = spawn_local(async move {
            let mut client = front.accept().await.unwrap();
            let mut upstream = gateway.connect(&address("10.0.0.2:9")).await.unwrap();
            relay_all(&mut client, &mut upstream).await.unwrap()
        });
        let data = noise(1_000_000, 3);
        let sent = data.clone();
        let mut client = b.transport.connect(&address(HERE)).await.unwrap();
        let sender = spawn_local(async move {
            write_all(&mut client, &sent).await.unwrap();
            shutdown(&mut client).await.unwrap();
        });
        let mut reader = origin.accept().await.unwrap();
        sleep(Duration::from_secs(30)).await;
        assert!(!sender.is_finished(), "nobody reads, so nobody can have sent a million bytes");
        assert!(read_all(&mut reader).await.unwrap() == data);
        assert_eq!(relayed.await.unwrap(), data.len());
        // One copy a byte, from ring to ring; the packet's own into and out of the rings are the stack's.
        assert_eq!((a.counters.relayed_bytes.get(), a.counters.joined_bytes.get()), (data.len() as u64, 0));
    });
}

#[test]
fn what_was_seen_is_shown_again_joined_with_more() {
    simulate(async {
        let (a, b) = hosts(4, &lan());
        let mut listener = a.transport.listen(&address(HERE), &ListenOptions::default()).await.unwrap();
        let mut conn = b.transport.connect(&address(HERE)).await.unwrap();
        let mut server = listener.accept().await.unwrap();
        // 73 messages of 5600 bytes wrap the ring of 16 KiB many times, and each is wanted in one piece.
        let data = noise(73 * 5600, 4);
        let sent = data.clone();
        spawn_local(async move { write_all(&mut conn, &sent).await.unwrap() });
        for n in 0..73 {
            let message = read_exact(&mut server, 5600).await.unwrap();
            assert!(message == data[n * 5600..(n + 1) * 5600], "message {n}");
        }
        assert_eq!(read(&mut server).await.unwrap(), b"", "the writer is gone");
    });
}

#[test]
fn a_message_longer_than_the_ring_is_shown_whole_up_to_a_bound() {
    simulate(async {
        let (a, b) = hosts(5, &lan());
        let mut listener = a.transport.listen(&address(HERE), &ListenOptions::default()).await.unwrap();
        let mut conn = b.transport.connect(&address(HERE)).await.unwrap();
        let mut server = listener.accept().await.unwrap();
        let data = noise(400_000, 5);
        let sent = data.clone();
        spawn_local(async move { write_all(&mut conn, &sent).await });
        assert!(read_exact(&mut server, 100_000).await.unwrap() == data[..100_000]);
        assert_eq!(read_exact(&mut server, 300_000).await.unwrap_err().kind(), ErrorKind::InvalidData);
        let rest = read(&mut server).await.unwrap();
        assert!(rest == data[100_000..100_000 + rest.len()], "what is too long in one piece can be read in parts");
    });
}

#[test]
fn room_is_as_long_as_wished_for_where_the_ring_wraps_and_where_it_is_short() {
    for tx_ring_bytes in [2048, 32 * 1024] {
        simulate(async move {
            let small = StackConfig { tx_ring_bytes, ..config(2) };
            let (a, b) = hosts_with(6, &lan(), config(1), small);
            let mut listener = a.transport.listen(&address(HERE), &ListenOptions::default()).await.unwrap();
            let mut conn = b.transport.connect(&address(HERE)).await.unwrap();
            let mut server = listener.accept().await.unwrap();
            let data = noise(40 * 11_000, 6);
            let sent = data.clone();
            spawn_local(async move {
                for part in sent.chunks(11_000) {
                    let write = std::future::poll_fn(|cx| {
                        conn.poll_write_with(cx, part.len(), |room| {
                            room[..part.len()].copy_from_slice(part);
                            (part.len(), ())
                        })
                    });
                    write.await.unwrap();
                }
                shutdown(&mut conn).await.unwrap();
                read_all(&mut conn).await
            });
            assert!(read_all(&mut server).await.unwrap() == data, "with a ring of {tx_ring_bytes}");
        });
    }
}

#[test]
fn a_reset_is_told_to_the_peer_and_to_its_owner() {
    simulate(async {
        let (a, b) = hosts(7, &lan());
        let mut listener = a.transport.listen(&address(HERE), &ListenOptions::default()).await.unwrap();
        let mut conn = b.transport.connect(&address(HERE)).await.unwrap();
        let mut server = listener.accept().await.unwrap();
        write_all(&mut server, b"last words").await.unwrap();
        sleep(Duration::from_millis(10)).await;
        server.abort();
        assert_eq!(read(&mut server).await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
        sleep(Duration::from_millis(10)).await;
        assert_eq!(read(&mut conn).await.unwrap(), b"last words", "what came before is still there");
        assert_eq!(read(&mut conn).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(write_all(&mut conn, b"x").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(b.counters.flows_reset.get(), 1);
        drop((conn, server));
        sleep(Duration::from_millis(10)).await;
        assert_eq!((a.stack.borrow().flows(), b.stack.borrow().flows()), (0, 0));
    });
}

#[test]
fn a_lost_fin_comes_again_though_duplicate_acks_come_before_its_timer() {
    simulate(async {
        let latency = Duration::from_millis(10);
        let (left, right) = wire::pair(18, &WireOptions { latency, ..WireOptions::default() });
        let cutter = right.cutter();
        let (a, b) = (host(Stutter(left), config(1)), host(right, config(2)));
        let mut listener = a.transport.listen(&address(HERE), &ListenOptions::default()).await.unwrap();
        let mut conn = b.transport.connect(&address(HERE)).await.unwrap();
        let mut server = listener.accept().await.unwrap();
        write_all(&mut conn, b"all there is").await.unwrap();
        sleep(Duration::from_millis(1)).await;
        cutter.set_loss(1.0);
        shutdown(&mut conn).await.unwrap();
        sleep(Duration::from_millis(1)).await;
        cutter.set_loss(0.0);
        let all = tokio::time::timeout(Duration::from_secs(10), read_all(&mut server)).await;
        assert_eq!(all.expect("the FIN is sent again").unwrap(), b"all there is");
    });
}

/// Sends every frame five times, as a receiver does that answers five copies.
struct Stutter(WireQueue);

impl PacketQueue for Stutter {
    fn rx_burst(&mut self, into: &mut FrameVec) {
        self.0.rx_burst(into);
    }

    fn tx_burst(&mut self, from: &mut FrameVec) {
        let frames = from.len();
        for frame in from.take_front(frames) {
            let mut copies = FrameVec::new(5);
            for _ in 0..5 {
                let mut copy = Frame::heap(frame.bytes().len());
                copy.set_len(frame.bytes().len());
                copy.bytes_mut().copy_from_slice(frame.bytes());
                copies.push(copy);
            }
            self.0.tx_burst(&mut copies);
        }
    }

    fn alloc_burst(&mut self, into: &mut FrameVec) {
        self.0.alloc_burst(into);
    }

    fn poll_rx(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_rx(cx)
    }
}

#[test]
fn a_core_that_is_busy_elsewhere_now_and_then_does_not_end_slow_start() {
    let took = |stalls| {
        simulate(async move {
            let latency = Duration::from_millis(10);
            let (left, right) = wire::pair(21, &WireOptions { latency, ..WireOptions::default() });
            let wide = |n| StackConfig { rx_ring_bytes: 2 << 20, tx_ring_bytes: 2 << 20, ..config(n) };
            let (a, b) = (host(Busy::new(left, stalls), wide(1)), host(right, wide(2)));
            let mut listener = a.transport.listen(&address(HERE), &ListenOptions::default()).await.unwrap();
            let data = noise(1 << 20, 21);
            let sent = data.clone();
            let start = Instant::now();
            spawn_local(async move { write_all(&mut listener.accept().await.unwrap(), &sent).await });
            let mut conn = b.transport.connect(&address(HERE)).await.unwrap();
            assert!(read_all(&mut conn).await.unwrap() == data);
            start.elapsed()
        })
    };
    let (free, busy) = (took(None), took(Some(6)));
    assert!(busy < free + free / 4, "{busy:?} instead of {free:?}");
}

/// The port of a core that is taken away for five milliseconds after so many bursts.
struct Busy {
    wire: WireQueue,
    every: Option<u32>,
    bursts: u32,
    away: Pin<Box<Sleep>>,
}

impl Busy {
    fn new(wire: WireQueue, every: Option<u32>) -> Self {
        Self { wire, every, bursts: 0, away: Box::pin(sleep(Duration::ZERO)) }
    }
}

impl PacketQueue for Busy {
    fn rx_burst(&mut self, into: &mut FrameVec) {
        if self.away.deadline() > Instant::now() {
            return;
        }
        self.wire.rx_burst(into);
        self.bursts += u32::from(!into.is_empty());
        if self.every.is_some_and(|every| self.bursts >= every) {
            self.bursts = 0;
            self.away.as_mut().reset(Instant::now() + Duration::from_millis(5));
        }
    }

    fn tx_burst(&mut self, from: &mut FrameVec) {
        self.wire.tx_burst(from);
    }

    fn alloc_burst(&mut self, into: &mut FrameVec) {
        self.wire.alloc_burst(into);
    }

    fn poll_rx(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.away.deadline() > Instant::now() {
            ready!(self.away.as_mut().poll(cx));
        }
        self.wire.poll_rx(cx)
    }
}

#[test]
fn nobody_listens_nobody_is_there_nobody_answers() {
    simulate(async {
        let (_a, b) = hosts(8, &lan());
        let refused = b.transport.connect(&address("10.0.0.1:81")).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let start = Instant::now();
        let missing = b.transport.connect(&address("10.0.0.9:80")).await.unwrap_err();
        assert_eq!((missing.kind(), start.elapsed().as_secs()), (ErrorKind::HostUnreachable, 3));
        let no_route = b.transport.connect(&address("192.0.2.1:80")).await.unwrap_err();
        assert_eq!(no_route.kind(), ErrorKind::NetworkUnreachable);
        assert_eq!(b.stack.borrow().flows(), 0);
    });
}

#[test]
fn a_peer_that_falls_silent_ends_the_handshake_and_the_orphans() {
    simulate(async {
        let (a, b) = hosts(9, &lan());
        let mut listener = a.transport.listen(&address(HERE), &ListenOptions::default()).await.unwrap();
        let mut conn = b.transport.connect(&address(HERE)).await.unwrap();
        let server = listener.accept().await.unwrap();
        a.cutter.as_ref().unwrap().set_loss(1.0);
        let timed_out = b.transport.connect(&address(HERE)).await.unwrap_err();
        assert_eq!(timed_out.kind(), ErrorKind::TimedOut);
        write_all(&mut conn, b"never acknowledged").await.unwrap();
        drop((conn, server));
        sleep(Duration::from_secs(10)).await;
        assert_ne!((a.stack.borrow().flows(), b.stack.borrow().flows()), (0, 0), "they are still trying");
        sleep(Duration::from_secs(120)).await;
        assert_eq!((a.stack.borrow().flows(), b.stack.borrow().flows()), (0, 0));
        assert_eq!(a.counters.flows_opening.get(), 0);
    });
}

#[test]
fn a_dropped_connection_still_delivers_what_was_written() {
    simulate(async {
        let (a, b) = hosts(10, &lan());
        let mut listener = a.transport.listen(&address(HERE), &ListenOptions::default()).await.unwrap();
        let mut conn = b.transport.connect(&address(HERE)).await.unwrap();
        let mut server = listener.accept().await.unwrap();
        let data = noise(30_000, 10);
        write_all(&mut conn, &data).await.unwrap();
        drop(conn);
        assert!(read_all(&mut server).await.unwrap() == data);
    });
}

#[test]
fn a_peer_that_goes_on_sending_to_nobody_is_reset() {
    simulate(async {
        let (a, b) = hosts(11, &lan());
        let mut listener = a.transport.listen(&address(HERE), &ListenOptions::default()).await.unwrap();
        let mut conn = b.transport.connect(&address(HERE)).await.unwrap();
        drop(listener.accept().await.unwrap());
        let error = loop {
            if let Err(e) = write_all(&mut conn, &[7; 1000]).await {
                break e;
            }
            sleep(Duration::from_millis(1)).await;
        };
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(a.stack.borrow().flows(), 0);
    });
}

#[test]
fn a_dropped_connect_leaves_nothing_behind() {
    simulate(async {
        let (_a, b) = hosts(12, &lan());
        let target = address("10.0.0.9:80");
        let connect = tokio::time::timeout(Duration::from_millis(500), b.transport.connect(&target));
        assert!(connect.await.is_err());
        assert_eq!(b.stack.borrow().flows(), 0);
    });
}

#[test]
fn limits_hold_and_are_counted() {
    simulate(async {
        let tight = StackConfig { flows_max: 5, ..config(1) };
        let (a, b) = hosts_with(13, &lan(), tight, config(2));
        let options = ListenOptions { backlog_conns_max: 2, ..ListenOptions::default() };
        let mut listener = a.transport.listen(&address(HERE), &options).await.unwrap();
        let mut conns = Vec::new();
        for _ in 0..2 {
            conns.push(b.transport.connect(&address(HERE)).await.unwrap());
        }
        let target = address(HERE);
        let third = tokio::time::timeout(Duration::from_millis(1500), b.transport.connect(&target));
        assert!(third.await.is_err(), "the queue is full");
        assert!(a.counters.drops(DropReason::AcceptQueue) > 0);
        let mut served = Vec::new();
        for _ in 0..2 {
            served.push(listener.accept().await.unwrap());
        }
        for _ in 0..3 {
            conns.push(b.transport.connect(&address(HERE)).await.unwrap());
            served.push(listener.accept().await.unwrap());
        }
        let sixth = tokio::time::timeout(Duration::from_millis(1500), b.transport.connect(&target));
        assert!(sixth.await.is_err(), "there is no flow left");
        assert!(a.counters.drops(DropReason::FlowsMax) > 0);
        drop(served);
        sleep(Duration::from_secs(1)).await;
        conns.clear();
        sleep(Duration::from_secs(1)).await;
        conns.push(b.transport.connect(&address(HERE)).await.unwrap());
    });
}

#[test]
fn a_closed_listener_resets_who_was_not_accepted_and_frees_its_port() {
    simulate(async {
        let (a, b) = hosts(14, &lan());
        let listener = a.transport.listen(&address("10.0.0.1:0"), &ListenOptions::default()).await.unwrap();
        let there = listener.local_addr().clone();
        assert_ne!(there.inet().unwrap().port(), 0);
        let again = a.transport.listen(&there, &ListenOptions::default()).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AddrInUse);
        let mut waiting = b.transport.connect(&there).await.unwrap();
        drop(listener);
        assert_eq!(read(&mut waiting).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        let refused = b.transport.connect(&there).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        a.transport.listen(&there, &ListenOptions::default()).await.unwrap();
        assert_eq!(a.stack.borrow().flows(), 0);
    });
}

#[test]
fn listeners_are_served_where_their_address_says() {
    simulate(async {
        let (a, b) = hosts(15, &lan());
        for wide in ["0.0.0.0:1", "[::]:2", "127.0.0.1:3", "[::1]:4"] {
            let mut listener = a.transport.listen(&address(wide), &ListenOptions::default()).await.unwrap();
            let port = listener.local_addr().inet().unwrap().port();
            b.transport.connect(&address(&format!("10.0.0.1:{port}"))).await.unwrap();
            listener.accept().await.unwrap();
        }
        for foreign in ["10.0.0.2:5", "[2001:db8::1]:5"] {
            let error = a.transport.listen(&address(foreign), &ListenOptions::default()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrNotAvailable, "{foreign}");
        }
    });
}

#[test]
fn one_hot_connection_does_not_starve_the_others() {
    simulate(async {
        let (a, b) = hosts(16, &WireOptions::default());
        let mut listener = a.transport.listen(&address(HERE), &ListenOptions::default()).await.unwrap();
        let mut hot = b.transport.connect(&address(HERE)).await.unwrap();
        let mut server = listener.accept().await.unwrap();
        write_all(&mut hot, &noise(10_000, 1)).await.unwrap();
        sleep(Duration::from_millis(1)).await;
        // Reads one byte at a time, and would be ready 10 000 times in one go.
        let reads = std::rc::Rc::new(std::cell::Cell::new(0));
        let seen = std::rc::Rc::clone(&reads);
        let reader = spawn_local(async move {
            for _ in 0..10_000 {
                std::future::poll_fn(|cx| server.poll_read_with(cx, 0, |_| (1, ()))).await.unwrap();
                seen.set(seen.get() + 1);
            }
        });
        tokio::task::yield_now().await;
        assert!((1..1000).contains(&reads.get()), "{} reads in one turn", reads.get());
        reader.await.unwrap();
    });
}

#[test]
fn a_thousand_connections_at_once() {
    simulate(async {
        let wide = |n| StackConfig {
            flows_max: 2000,
            syn_backlog_max: 2000,
            rx_ring_bytes: 4096,
            tx_ring_bytes: 4096,
            ..config(n)
        };
        let (a, b) = hosts_with(17, &lan(), wide(1), wide(2));
        let mut listener = a.transport.listen(&address(HERE), &ListenOptions::default()).await.unwrap();
        spawn_local(async move {
            loop {
                let mut conn = listener.accept().await.unwrap();
                spawn_local(async move {
                    let all = read_all(&mut conn).await.unwrap();
                    write_all(&mut conn, &all).await.unwrap();
                });
            }
        });
        let clients: Vec<_> = (0..1000_u64)
            .map(|n| {
                let transport = b.transport.clone();
                spawn_local(async move {
                    let mut conn = transport.connect(&address(HERE)).await.unwrap();
                    let data = noise(6000, n);
                    write_all(&mut conn, &data).await.unwrap();
                    shutdown(&mut conn).await.unwrap();
                    assert!(read_all(&mut conn).await.unwrap() == data);
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
        sleep(Duration::from_secs(1)).await;
        assert_eq!((a.stack.borrow().flows(), b.stack.borrow().flows()), (0, 0));
        assert_eq!(b.counters.time_waits.get(), 1000, "the clients closed first");
        sleep(Duration::from_secs(61)).await;
        let _ = b.transport.connect(&address(HERE)).await.unwrap();
        assert_eq!(b.counters.time_waits.get(), 0);
    });
}
