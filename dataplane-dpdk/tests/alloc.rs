//! An lcore in steady state allocates nothing: not per turn, not per packet, not per request.

mod common;

use std::alloc::System;
use std::future::poll_fn;

use common::address;
use dataplane_dpdk::{DpdkTransport, NoKernel, run};
use ferrogate_core::config::dataplane::{Dpdk, Network, Port};
use ferrogate_core::net::{Conn, ListenOptions, Listener, Transport};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

/// Counts for the whole process: the other threads wait.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// One byte there and back.
async fn ping<C: Conn>(a: &mut C, b: &mut C) {
    for (from, to) in [(0, 1), (1, 0)] {
        let (from, to) = if from < to { (&mut *a, &mut *b) } else { (&mut *b, &mut *a) };
        poll_fn(|cx| from.poll_write_with(cx, 1, |room| (1, room[0] = 7))).await.unwrap();
        poll_fn(|cx| from.poll_flush(cx)).await.unwrap();
        let seen = poll_fn(|cx| to.poll_read_with(cx, 0, |bytes| (bytes.len(), bytes.len()))).await.unwrap();
        assert_eq!(seen, 1);
    }
}

#[test]
fn a_request_allocates_nothing() {
    let port = Port {
        device: "net_ring0".to_owned(),
        addresses: vec![Network::new([10, 0, 0, 1], 24)],
        routes: Vec::new(),
        mtu: 1500,
        ..Port::default()
    };
    let config = Dpdk { ports: vec![port], hugepages: false, memory_mib: 64, ..Dpdk::default() };
    let worker = |_, transport: DpdkTransport<NoKernel>| async move {
        let start = Region::new(ALLOCATOR);
        let mut listener = transport.listen(&address("10.0.0.1:80"), &ListenOptions::default()).await.unwrap();
        let mut client = transport.connect(&address("10.0.0.1:80")).await.unwrap();
        let mut server = listener.accept().await.unwrap();
        for _ in 0..2000 {
            ping(&mut client, &mut server).await;
        }
        let region = Region::new(ALLOCATOR);
        for _ in 0..10_000 {
            ping(&mut client, &mut server).await;
        }
        let change = region.change();
        assert_eq!((change.allocations, change.reallocations), (0, 0), "in 20 000 messages");
        assert!(start.change().allocations > 0, "it counts");
    };
    run(&config, 1, |_| NoKernel, worker).unwrap().join().unwrap();
}
