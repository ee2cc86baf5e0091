//! An lcore in steady state allocates nothing: not per turn, not per packet, not per request.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::poll_fn;

use common::address;
use dataplane_dpdk::{DpdkTransport, NoKernel, run};
use ferrogate_core::config::dataplane::{Dpdk, Port};
use ferrogate_core::net::{Conn, ListenOptions, Listener, Transport};

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    /// # Safety
    /// That of [`GlobalAlloc::alloc`].
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    /// # Safety
    /// That of [`GlobalAlloc::dealloc`].
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

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
        address: [10, 0, 0, 1].into(),
        prefix_len: 24,
        gateway: None,
        mtu: 1500,
    };
    let config = Dpdk { ports: vec![port], hugepages: false, memory_mib: 64, ..Dpdk::default() };
    let worker = |_, transport: DpdkTransport<NoKernel>| async move {
        let mut listener = transport.listen(&address("10.0.0.1:80"), &ListenOptions::default()).await.unwrap();
        let mut client = transport.connect(&address("10.0.0.1:80")).await.unwrap();
        let mut server = listener.accept().await.unwrap();
        for _ in 0..2000 {
            ping(&mut client, &mut server).await;
        }
        let before = ALLOCATIONS.get();
        for _ in 0..10_000 {
            ping(&mut client, &mut server).await;
        }
        assert_eq!(ALLOCATIONS.get() - before, 0, "allocations in 20 000 messages");
    };
    run(&config, 1, |_| NoKernel, worker).unwrap().join().unwrap();
}
