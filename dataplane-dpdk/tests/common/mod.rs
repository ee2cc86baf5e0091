//! What the tests of this crate share: two stacks on a wire, and calls on a connection as futures.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part of this module")]

pub mod kernel;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;

use dataplane_dpdk::queue::PacketQueue;
use dataplane_dpdk::queue::wire::{self, WireCutter, WireOptions};
use dataplane_dpdk::{
    Clock, ClockIdle, DpdkTransport, IdleStep, LcoreCounters, Mac, NoKernel, Poller, SharedStack, Stack, StackConfig,
};
use ferrogate_core::config::dataplane::{CongestionControl, Network};
use ferrogate_core::config::limits::FlowLimits;
use ferrogate_core::net::{Address, Conn};

/// A stack of a simulation with its transport.
pub struct Host {
    pub transport: DpdkTransport<NoKernel>,
    pub stack: SharedStack,
    pub counters: Arc<LcoreCounters>,
    /// Loses what this host sends.
    pub cutter: Option<WireCutter>,
}

/// The defaults of a simulated host: 10.0.0.`n`/24.
pub fn config(n: u8) -> StackConfig {
    StackConfig {
        mac: Mac([2, 0, 0, 0, 0, n]),
        addresses: vec![Network::new(Ipv4Addr::new(10, 0, 0, n), 24)],
        routes: Vec::new(),
        mtu: 1500,
        tx_checksum: false,
        rx_ring_bytes: 16 * 1024,
        tx_ring_bytes: 32 * 1024,
        congestion_control: CongestionControl::Cubic,
        flows_max: 100,
        syn_backlog_max: 10,
        limits: FlowLimits::default(),
        seed: u64::from(n),
        seat: None,
    }
}

/// Puts a stack on `queue` and a poller on the stack.
pub fn host(queue: impl PacketQueue + 'static, config: StackConfig) -> Host {
    resting_host(queue, config, ClockIdle::default())
}

/// The same with a poller that rests in its own way.
pub fn resting_host(queue: impl PacketQueue + 'static, config: StackConfig, idle: impl IdleStep) -> Host {
    let clock = Clock::new();
    let counters = Arc::new(LcoreCounters::default());
    let stack = Stack::new(Box::new(queue), config, Arc::clone(&counters), clock.now());
    let stack: SharedStack = Rc::new(RefCell::new(stack));
    tokio::task::spawn_local(Poller::new([Rc::clone(&stack)], clock, idle, Arc::clone(&counters)));
    let transport = DpdkTransport::new([Rc::clone(&stack)], NoKernel);
    Host { transport, stack, counters, cutter: None }
}

/// Two hosts, 10.0.0.1 and 10.0.0.2, on a wire.
pub fn hosts(seed: u64, options: &WireOptions) -> (Host, Host) {
    hosts_with(seed, options, config(1), config(2))
}

/// Two hosts on a wire.
pub fn hosts_with(seed: u64, options: &WireOptions, a: StackConfig, b: StackConfig) -> (Host, Host) {
    let (left, right) = wire::pair(seed, options);
    let cutters = (left.cutter(), right.cutter());
    let (mut a, mut b) = (host(left, a), host(right, b));
    (a.cutter, b.cutter) = (Some(cutters.0), Some(cutters.1));
    (a, b)
}

/// Runs a simulation on a paused clock.
pub fn simulate<F: Future>(scene: F) -> F::Output {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, scene)
}

pub fn address(text: &str) -> Address {
    text.parse().expect("an address")
}

/// The next bytes, empty at the end of the stream.
pub async fn read<C: Conn>(conn: &mut C) -> io::Result<Vec<u8>> {
    poll_fn(|cx| conn.poll_read_with(cx, 0, |bytes| (bytes.len(), bytes.to_vec()))).await
}

/// All bytes up to the end of the stream.
pub async fn read_all<C: Conn>(conn: &mut C) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let part = read(conn).await?;
        if part.is_empty() {
            return Ok(all);
        }
        all.extend_from_slice(&part);
    }
}

/// Exactly `n` bytes, seen in one piece.
pub async fn read_exact<C: Conn>(conn: &mut C, n: usize) -> io::Result<Vec<u8>> {
    let mut known = 0;
    loop {
        let whole = poll_fn(|cx| {
            conn.poll_read_with(cx, known, |bytes| match bytes.get(..n) {
                Some(whole) => (n, Ok(whole.to_vec())),
                None => (0, Err(bytes.len())),
            })
        });
        match whole.await? {
            Ok(whole) => return Ok(whole),
            Err(seen) if seen <= known => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(seen) => known = seen,
        }
    }
}

pub async fn write_all<C: Conn>(conn: &mut C, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = poll_fn(|cx| {
            conn.poll_write_with(cx, 1, |room| {
                let n = room.len().min(bytes.len());
                room[..n].copy_from_slice(&bytes[..n]);
                (n, n)
            })
        })
        .await?;
        bytes = &bytes[n..];
    }
    poll_fn(|cx| conn.poll_flush(cx)).await
}

pub async fn shutdown<C: Conn>(conn: &mut C) -> io::Result<()> {
    poll_fn(|cx| conn.poll_shutdown(cx)).await
}

/// Moves everything from one connection to another, and its end.
pub async fn relay_all<C: Conn>(from: &mut C, to: &mut C) -> io::Result<usize> {
    let mut moved = 0;
    loop {
        match poll_fn(|cx| from.poll_relay(to, cx, usize::MAX)).await? {
            0 => break,
            n => moved += n,
        }
    }
    shutdown(to).await?;
    Ok(moved)
}

/// Bytes that repeat nowhere soon.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut x = seed | 1;
    let draw = |_| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()[3]
    };
    (0..len).map(draw).collect()
}
