//! The userspace stack: a request and its answer, by the number of open flows.
//!
//! Two stacks on one core, with memory between them in place of a port: the figure holds both ends of each connection, the poller's turns
//! and the frames' way through memory. Requests of 100 bytes and answers of 300 go over the flows in an order that no cache can foresee, 32
//! at a time, which is a full burst. What matters is how the figure grows with the flows: it must not grow with their number but through
//! the caches.

mod counting;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dataplane_dpdk::queue::PacketQueue;
use dataplane_dpdk::{
    BURST, Clock, DpdkTransport, Frame, FrameVec, LcoreCounters, Mac, NoKernel, PolledIdle, Poller, Stack, StackConfig,
};
use ferrogate_core::config::dataplane::{CongestionControl, Idle, IdleMode, Network};
use ferrogate_core::config::limits::FlowLimits;
use ferrogate_core::net::{Conn, ListenOptions, Listener, Transport};
use tokio::task::LocalSet;

fn request_reply(c: &mut Criterion) {
    let mut group = c.benchmark_group("stack");
    group.throughput(Throughput::Elements(1));
    for flows in [1, 1_000, 10_000, 100_000] {
        if flows > FLOWS_OF_A_TEST && !measures() {
            continue;
        }
        let mut pairs = None;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let tasks = LocalSet::new();
        let id = BenchmarkId::new("request_reply", flows);
        let counted = counting::bench_runs(&mut group, id, 4096, |requests| {
            let pairs = pairs.get_or_insert_with(|| tasks.block_on(&runtime, Pairs::open(flows)));
            tasks.block_on(&runtime, pairs.run(requests));
        });
        if let Some(counted) = counted {
            // Rings, tables and wheel are there; the only thing left to allocate would be something per request.
            assert!(counted.calls < 0.01, "the stack allocates for each request: {counted}");
        }
    }
    group.finish();
}

/// Whether this run measures: `cargo bench` says so, and `--test` takes it back.
fn measures() -> bool {
    std::env::args().any(|a| a == "--bench") && std::env::args().all(|a| a != "--test")
}

/// Open connections, both ends.
struct Pairs {
    pairs: Vec<(Plain, Plain)>,
    at: usize,
}

type Plain = <DpdkTransport<NoKernel> as Transport>::Conn;

impl Pairs {
    async fn open(flows: usize) -> Self {
        let (left, right) = Link::pair();
        let (server, client) = (host(left, 1, flows), host(right, 2, flows));
        let mut pairs = Vec::with_capacity(flows);
        for first in (0..flows).step_by(FLOWS_PER_PORT) {
            let port = 8000 + first / FLOWS_PER_PORT;
            let address = format!("10.0.0.1:{port}").parse().expect("an address");
            let mut listener = server.listen(&address, &ListenOptions::default()).await.expect("it listens");
            for _ in first..flows.min(first + FLOWS_PER_PORT) {
                let near = client.connect(&address).await.expect("it connects");
                pairs.push((near, listener.accept().await.expect("it accepts")));
            }
        }
        Self { pairs, at: 0 }
    }

    /// Requests and their answers, a burst at a time.
    async fn run(&mut self, requests: u64) {
        let mut left = usize::try_from(requests).expect("a bench does not count so far");
        while left > 0 {
            let burst = left.min(BURST).min(self.pairs.len());
            for (from, bytes) in [(0, 100), (1, 300)] {
                for n in 0..burst {
                    let (near, far) = self.pair(n);
                    write(if from == 0 { near } else { far }, bytes).await;
                }
                for n in 0..burst {
                    let (near, far) = self.pair(n);
                    read(if from == 0 { far } else { near }, bytes).await;
                }
            }
            self.at += burst;
            left -= burst;
        }
    }

    /// The `n`th pair of this burst: a step that is coprime to the number of flows visits them all.
    fn pair(&mut self, n: usize) -> &mut (Plain, Plain) {
        let all = self.pairs.len();
        &mut self.pairs[(self.at + n) * STEP % all]
    }
}

async fn write<C: Conn>(conn: &mut C, bytes: usize) {
    poll_fn(|cx| conn.poll_write_with(cx, bytes, |room| (bytes, room[..bytes].fill(7)))).await.expect("room");
    poll_fn(|cx| conn.poll_flush(cx)).await.expect("an open connection");
}

async fn read<C: Conn>(conn: &mut C, mut bytes: usize) {
    while bytes > 0 {
        let seen = poll_fn(|cx| conn.poll_read_with(cx, 0, |seen| (seen.len(), seen.len()))).await;
        bytes -= seen.expect("an open connection");
    }
}

/// A stack on a link, polled as an lcore is.
fn host(link: Link, n: u8, flows: usize) -> DpdkTransport<NoKernel> {
    let clock = Clock::new();
    let counters = Arc::new(LcoreCounters::default());
    let config = StackConfig {
        mac: Mac([2, 0, 0, 0, 0, n]),
        addresses: vec![Network::new(Ipv4Addr::new(10, 0, 0, n), 24)],
        routes: Vec::new(),
        mtu: 1500,
        tx_checksum: false,
        // Small, so that 100 000 flows fit into the memory of a small machine twice.
        rx_ring_bytes: 2048,
        tx_ring_bytes: 2048,
        congestion_control: CongestionControl::Cubic,
        flows_max: flows + 1,
        syn_backlog_max: 1024,
        limits: FlowLimits::default(),
        seed: u64::from(n),
        seat: None,
    };
    let stack = Rc::new(RefCell::new(Stack::new(Box::new(link), config, Arc::clone(&counters), clock.now())));
    let idle = PolledIdle::new(Idle { mode: IdleMode::Busy, ..Idle::default() });
    tokio::task::spawn_local(Poller::new([Rc::clone(&stack)], clock, idle, counters));
    DpdkTransport::new([stack], NoKernel)
}

/// One end of a wire that costs as little as can be: a list of frames in each direction. Its own allocations don't count.
struct Link {
    tx: Frames,
    rx: Frames,
}

type Frames = Rc<RefCell<VecDeque<Frame>>>;

impl Link {
    fn pair() -> (Self, Self) {
        let (there, back) = (Frames::default(), Frames::default());
        (Self { tx: Rc::clone(&there), rx: Rc::clone(&back) }, Self { tx: back, rx: there })
    }
}

impl PacketQueue for Link {
    fn rx_burst(&mut self, into: &mut FrameVec) {
        let mut frames = self.rx.borrow_mut();
        let burst = frames.len().min(into.room());
        frames.drain(..burst).for_each(|frame| into.push(frame));
    }

    fn tx_burst(&mut self, from: &mut FrameVec) {
        let frames = from.len();
        counting::uncounted(|| self.tx.borrow_mut().extend(from.take_front(frames)));
    }

    fn alloc_burst(&mut self, into: &mut FrameVec) {
        counting::uncounted(|| {
            while into.room() > 0 {
                into.push(Frame::heap(1514));
            }
        });
    }
}

/// Each listening port gets fewer than there are ports on the client's side.
const FLOWS_PER_PORT: usize = 20_000;
/// A run that does not measure looks only whether it works.
const FLOWS_OF_A_TEST: usize = 1_000;
/// A prime that divides none of the numbers of flows.
const STEP: usize = 7919;

criterion_group!(benches, request_reply);
criterion_main!(benches);
