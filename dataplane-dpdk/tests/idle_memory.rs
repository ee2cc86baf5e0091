//! What an idle connection costs in memory: both rings were full, now they are empty.

mod common;

use std::fs;
use std::time::Duration;

use common::{address, config, hosts_with, noise, read, read_exact, simulate, write_all};
use dataplane_dpdk::StackConfig;
use dataplane_dpdk::queue::wire::WireOptions;
use ferrogate_core::net::{ListenOptions, Listener, Transport};
use tokio::task::spawn_local;
use tokio::time::sleep;

/// Resident memory of this process, in bytes.
fn resident_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("every process has one");
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("resident memory");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("a number of KiB") * 1024
}

#[test]
fn an_idle_connection_holds_no_ring_memory() {
    simulate(async {
        let wide = |n| StackConfig {
            flows_max: CONNECTIONS + 10,
            syn_backlog_max: CONNECTIONS,
            rx_ring_bytes: 64 * 1024,
            tx_ring_bytes: 64 * 1024,
            ..config(n)
        };
        let (a, b) = hosts_with(17, &WireOptions::default(), wide(1), wide(2));
        let mut listener = a.transport.listen(&address("10.0.0.1:80"), &ListenOptions::default()).await.unwrap();
        spawn_local(async move {
            loop {
                let mut conn = listener.accept().await.unwrap();
                // A task for each, as a gateway has.
                spawn_local(async move {
                    loop {
                        let part = read(&mut conn).await.unwrap();
                        if part.is_empty() {
                            return;
                        }
                        write_all(&mut conn, &part).await.unwrap();
                    }
                });
            }
        });
        let data = noise(BYTES, 1);
        let mut conns = Vec::with_capacity(CONNECTIONS);
        let mut before = 0;
        for n in 0..CONNECTIONS + WARMUP {
            let mut conn = b.transport.connect(&address("10.0.0.1:80")).await.unwrap();
            let mut back = Vec::new();
            for part in data.chunks(8 * 1024) {
                write_all(&mut conn, part).await.unwrap();
                back.extend(read_exact(&mut conn, part.len()).await.unwrap());
            }
            assert!(back == data);
            if n >= WARMUP {
                conns.push(conn);
            } else {
                drop(conn);
            }
            if n + 1 == WARMUP {
                sleep(Duration::from_secs(120)).await;
                before = resident_bytes();
            }
        }
        sleep(Duration::from_secs(60)).await;
        let held = (a.stack.borrow().ring_bytes(), b.stack.borrow().ring_bytes());
        assert_eq!(held, (0, 0));
        let each = resident_bytes().saturating_sub(before) / (2 * CONNECTIONS);
        println!("{each} bytes for each end of a connection, the server's task shared out between both");
        assert!(each <= 3 * 1024, "{each} bytes");
        // And they still work.
        for conn in &mut conns {
            write_all(conn, &data[..1000]).await.unwrap();
            assert!(read_exact(conn, 1000).await.unwrap() == data[..1000]);
        }
    });
}

const CONNECTIONS: usize = 2_000;
/// Of connections before the first that counts: tables, pools and wires are as large as they get then.
const WARMUP: usize = 100;
const BYTES: usize = 64 * 1024;
