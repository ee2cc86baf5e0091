//! Two lcores that share a port: connections through the gateway and datagrams with and without fragments, whichever way the port spreads what
//! it receives.

mod common;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use common::*;
use dataplane_dpdk::queue::PacketQueue;
use dataplane_dpdk::queue::shared::share;
use dataplane_dpdk::queue::wire::{self, WireOptions, WireQueue};
use dataplane_dpdk::rss::{SOFTWARE_ENTRIES, SYMMETRIC_KEY, Seat, Steering, toeplitz};
use dataplane_dpdk::{
    BURST, Clock, ClockIdle, DpdkTransport, DropReason, Frame, FrameVec, LcoreCounters, NoKernel, Poller, SharedStack,
    Stack, StackConfig,
};
use ferrogate_core::net::{Datagram, Datagrams, ListenOptions, Listener, Transport};
use tokio::task::spawn_local;

const LCORES: usize = 2;
/// Connections of clients.
const CONNS: u64 = 300;
/// Room for as many flows.
const FLOWS: usize = 300;

/// How a port spreads what it receives over its queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spread {
    /// By the hash of the flow, as a card does: of the addresses alone where there are no ports.
    Rss,
    /// One after the other.
    Rounds,
    /// It has one queue.
    One,
}

/// The far end of the port: one wire for each of its queues.
struct FarEnd {
    wires: Vec<WireQueue>,
    spread: Spread,
    sent: usize,
}

impl FarEnd {
    fn queue_of(&self, frame: &[u8]) -> usize {
        match self.spread {
            Spread::One => 0,
            Spread::Rounds => self.sent % LCORES,
            Spread::Rss if frame[12..14] != [8, 0] => 0,
            Spread::Rss => {
                let is_fragment = u16::from_be_bytes([frame[20], frame[21]]) & 0x3fff != 0;
                let has_ports = matches!(frame[23], 6 | 17) && !is_fragment;
                let input = &frame[26..if has_ports { 38 } else { 34 }];
                toeplitz(&SYMMETRIC_KEY, input) as usize % usize::from(SOFTWARE_ENTRIES) % LCORES
            }
        }
    }
}

impl PacketQueue for FarEnd {
    fn rx_burst(&mut self, into: &mut FrameVec) {
        self.wires.iter_mut().for_each(|wire| wire.rx_burst(into));
    }

    fn tx_burst(&mut self, from: &mut FrameVec) {
        let count = from.len();
        for frame in from.take_front(count).collect::<Vec<Frame>>() {
            let queue = self.queue_of(frame.bytes());
            self.sent += 1;
            let mut one = FrameVec::new(1);
            one.push(frame);
            self.wires[queue].tx_burst(&mut one);
        }
    }

    fn alloc_burst(&mut self, into: &mut FrameVec) {
        self.wires[0].alloc_burst(into);
    }

    fn poll_rx(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let ready = self.wires.iter_mut().map(|wire| wire.poll_rx(cx)).filter(Poll::is_ready).count();
        if ready > 0 { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// The lcores of the gateway at 10.0.0.1, and the far ends of its port.
fn lcores(spread: Spread) -> (Vec<Host>, Vec<WireQueue>) {
    let (near, far): (Vec<_>, Vec<_>) = (0..LCORES as u64).map(|n| wire::pair(n, &WireOptions::default())).unzip();
    let counters: Vec<_> = (0..LCORES).map(|_| Arc::new(LcoreCounters::default())).collect();
    let steering = Arc::new(Steering::new(u16::try_from(LCORES).unwrap(), SOFTWARE_ENTRIES));
    let pairs = if spread == Spread::One { 1 } else { LCORES };
    let lcores = share(near, pairs, &steering, &counters).into_iter().zip(counters).enumerate();
    let lcores = lcores.map(|(index, (queue, counters))| {
        let seat = Some(Seat { index, steering: Arc::clone(&steering) });
        let config =
            StackConfig { seat, seed: index as u64, flows_max: 2 * FLOWS, syn_backlog_max: FLOWS, ..config(1) };
        let clock = Clock::new();
        let stack = Stack::new(Box::new(queue), config, Arc::clone(&counters), clock.now());
        let stack: SharedStack = Rc::new(RefCell::new(stack));
        spawn_local(Poller::new([Rc::clone(&stack)], clock, ClockIdle::default(), Arc::clone(&counters)));
        let transport = DpdkTransport::new([Rc::clone(&stack)], NoKernel);
        Host { transport, stack, counters, cutter: None }
    });
    (lcores.collect(), far)
}

/// The same, and the world at 10.0.0.2.
fn plane(spread: Spread) -> (Vec<Host>, Host) {
    let (lcores, wires) = lcores(spread);
    let world = StackConfig { flows_max: 4 * FLOWS, syn_backlog_max: FLOWS, ..config(2) };
    (lcores, host(FarEnd { wires, spread, sent: 0 }, world))
}

/// A worker of the gateway: each connection of a client to one of its own to the origin.
async fn proxy(transport: DpdkTransport<NoKernel>) {
    let mut listener = transport.listen(&address("10.0.0.1:80"), &ListenOptions::default()).await.unwrap();
    loop {
        let mut client = listener.accept().await.unwrap();
        let transport = transport.clone();
        spawn_local(async move {
            let mut origin = transport.connect(&address("10.0.0.2:8000")).await.unwrap();
            relay_all(&mut client, &mut origin).await.unwrap();
            relay_all(&mut origin, &mut client).await.unwrap();
        });
    }
}

async fn echo(transport: DpdkTransport<NoKernel>) {
    let options = ListenOptions { backlog_conns_max: 1000, ..ListenOptions::default() };
    let mut listener = transport.listen(&address("10.0.0.2:8000"), &options).await.unwrap();
    loop {
        let mut conn = listener.accept().await.unwrap();
        spawn_local(async move {
            let all = read_all(&mut conn).await.unwrap();
            write_all(&mut conn, &all).await.unwrap();
            shutdown(&mut conn).await.unwrap();
        });
    }
}

/// Sends connections through the gateway and answers what its lcores have counted.
fn through(spread: Spread) -> Vec<Arc<LcoreCounters>> {
    simulate(async move {
        let (lcores, world) = plane(spread);
        for lcore in &lcores {
            spawn_local(proxy(lcore.transport.clone()));
        }
        spawn_local(echo(world.transport.clone()));
        let clients: Vec<_> = (0..CONNS)
            .map(|n| {
                let transport = world.transport.clone();
                spawn_local(async move {
                    let mut conn = transport.connect(&address("10.0.0.1:80")).await.unwrap();
                    let data = noise(3000, n);
                    write_all(&mut conn, &data).await.unwrap();
                    shutdown(&mut conn).await.unwrap();
                    assert!(read_all(&mut conn).await.unwrap() == data, "connection {n}");
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
        lcores.into_iter().map(|lcore| lcore.counters).collect()
    })
}

fn assert_both_worked(lcores: &[Arc<LcoreCounters>]) {
    for lcore in lcores {
        assert!(lcore.flows_accepted.get() > CONNS / 4, "{} accepted", lcore.flows_accepted.get());
        assert_eq!(lcore.flows_connected.get(), lcore.flows_accepted.get());
        assert_eq!((lcore.flows_reset.get(), lcore.drops(DropReason::HandoverFull)), (0, 0));
    }
    assert_eq!(lcores.iter().map(|lcore| lcore.flows_accepted.get()).sum::<u64>(), CONNS);
}

#[test]
fn behind_rss_every_answer_comes_to_the_lcore_that_asked() {
    let lcores = through(Spread::Rss);
    assert_both_worked(&lcores);
    for lcore in &lcores {
        assert_eq!((lcore.packets_foreign.get(), lcore.frames_handed_over.get()), (0, 0));
    }
}

#[test]
fn a_port_that_spreads_at_random_is_spread_by_the_lcores() {
    let lcores = through(Spread::Rounds);
    assert_both_worked(&lcores);
    assert!(lcores.iter().all(|lcore| lcore.packets_foreign.get() > CONNS), "half of what came");
}

#[test]
fn a_port_with_one_queue_serves_two_lcores() {
    let lcores = through(Spread::One);
    assert_both_worked(&lcores);
    assert!(lcores[0].packets_foreign.get() > CONNS && lcores[1].packets_foreign.get() == 0);
}

/// A worker that answers datagrams with its number, and what it was told.
async fn answer(transport: DpdkTransport<NoKernel>, lcore: u8) {
    let socket = transport.listen_datagrams("10.0.0.1:53".parse().unwrap()).unwrap();
    loop {
        let mut answers = Vec::new();
        socket
            .receive(|burst| {
                answers.extend(burst.iter().map(|d| (d.peer, [&[lcore], d.bytes].concat())));
            })
            .await
            .unwrap();
        for (peer, bytes) in &answers {
            socket.try_send(&[Datagram { peer: *peer, bytes, ..Datagram::NONE }]).unwrap();
        }
    }
}

/// A client's datagrams, short ones and ones in fragments, all come to one lcore, though the fragments have no ports to say which.
#[test]
fn datagrams_of_a_client_come_to_one_lcore_whole_or_in_fragments() {
    for spread in [Spread::Rss, Spread::Rounds, Spread::One] {
        let lcores = simulate(async move {
            let (lcores, world) = plane(spread);
            for (n, lcore) in (0..).zip(&lcores) {
                spawn_local(answer(lcore.transport.clone(), n));
            }
            let by_lcore = Rc::new(Cell::new([0; LCORES]));
            let connect = |_| world.transport.connect_datagrams("10.0.0.1:53".parse().unwrap()).unwrap();
            let sockets: Vec<_> = (0..20).map(connect).collect();
            for (client, socket) in (0_u64..).zip(&sockets) {
                let mut first = None;
                for len in [10, 3000, 20, 20_000] {
                    let sent = noise(len, client);
                    socket.try_send(&[Datagram { bytes: &sent, ..Datagram::NONE }]).unwrap();
                    let (lcore, bytes) =
                        socket.receive(|burst| (burst[0].bytes[0], burst[0].bytes[1..].to_vec())).await.unwrap();
                    assert!(bytes == sent, "{spread:?}: client {client}, {len} bytes");
                    assert_eq!(*first.get_or_insert(lcore), lcore, "{spread:?}: client {client}, {len} bytes");
                }
                let mut counts = by_lcore.get();
                counts[usize::from(first.unwrap())] += 1;
                by_lcore.set(counts);
            }
            assert!(by_lcore.get().iter().all(|clients| *clients > 4), "{spread:?}: {:?}", by_lcore.get());
            lcores.into_iter().map(|lcore| lcore.counters).collect::<Vec<_>>()
        });
        let sum = |read: fn(&LcoreCounters) -> u64| lcores.iter().map(|lcore| read(lcore)).sum::<u64>();
        assert_eq!(sum(|l| l.datagrams_reassembled.get()), 40, "{spread:?}");
        assert_eq!(sum(|l| l.datagrams_received.get()), 80, "{spread:?}");
        assert_eq!(sum(LcoreCounters::drops_total), 0, "{spread:?}");
        // All fragments are of two addresses, and come together on one lcore.
        assert!(sum(|l| l.frames_handed_over.get()) > 0, "{spread:?}");
    }
}

/// What has come to the far ends of a port.
fn received(wires: &mut [WireQueue]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for wire in wires {
        let mut burst = FrameVec::new(BURST);
        wire.rx_burst(&mut burst);
        let count = burst.len();
        all.extend(burst.take_front(count).map(|frame| frame.bytes().to_vec()));
    }
    all
}

/// Who asks for the port's address is answered once, and known to all lcores from then on. One of them announces the address.
#[test]
fn news_of_neighbours_reaches_all_and_one_answers() {
    const QUESTION: [u8; 28] = [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1];
    simulate(async {
        let (lcores, mut wires) = lcores(Spread::Rss);
        let second = std::time::Duration::from_secs(1);
        tokio::time::sleep(30 * second).await;
        let told = received(&mut wires);
        assert_eq!(told.len(), 4, "each announcement once");
        let mut question = FrameVec::new(1);
        question.push([&[0xff; 6], &[2, 0, 0, 0, 0, 2][..], &[8, 6], &QUESTION].concat().into());
        wires[1].tx_burst(&mut question);
        tokio::time::sleep(second).await;
        let told = received(&mut wires);
        assert_eq!((told.len(), told[0][21]), (1, 2), "one answer");
        for lcore in &lcores {
            let transport = lcore.transport.clone();
            spawn_local(async move { transport.connect(&address("10.0.0.2:8000")).await.map(drop) });
        }
        tokio::time::sleep(second / 10).await;
        let sent = received(&mut wires);
        assert!(sent.len() == 2 && sent.iter().all(|frame| frame[12..14] == [8, 0]), "nobody has to ask");
        assert!(lcores.iter().all(|lcore| lcore.counters.drops_total() == 0));
    });
}
