//! Hugepages are taken at the start and given back at the end. One test, because EAL starts once in a process.

use dataplane_dpdk::{NoKernel, StartError, run};
use ferrogate_core::config::dataplane::{Dpdk, Network, Port};
use test_support::skip;

#[test]
fn a_clean_stop_gives_the_hugepages_back() {
    let port = Port {
        device: "net_ring0".to_owned(),
        addresses: vec![Network::new([10, 0, 0, 1], 24)],
        routes: Vec::new(),
        mtu: 1500,
        ..Port::default()
    };
    let config = Dpdk { ports: vec![port], memory_mib: 64, ..Dpdk::default() };
    let before = free();
    let running = match run(&config, 1, |_| NoKernel, |_, _| std::future::pending()) {
        Ok(running) => running,
        Err(e @ StartError::NoHugepages { .. }) => {
            return skip!("a_clean_stop_gives_the_hugepages_back", "{e}");
        }
        Err(e) => panic!("{e}"),
    };
    let status = running.status();
    assert!(free() < before, "it runs on hugepages");
    running.stop();
    running.join().unwrap();
    assert_eq!(free(), before);
    assert_eq!(status.ports[0].stats(), None);
    let again = run(&config, 1, |_| NoKernel, |_, _| std::future::pending()).map(|_| ());
    assert!(matches!(again, Err(StartError::EalSpent)), "{again:?}");
}

fn free() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = meminfo.lines().find_map(|l| l.strip_prefix("HugePages_Free:"));
    line.expect("a kernel with hugepages").trim().parse().unwrap()
}
