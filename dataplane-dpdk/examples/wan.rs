//! Transfers over a simulated path: how long they take by round trip and loss, over many seeds.
//!
//! ```text
//! cargo run --release -p dataplane-dpdk --example wan [SEEDS]
//! ```
//!
//! Both ends are stacks of ours on a paused clock: the figures are exact for a seed, and a thousand transfers take seconds. Times are from the
//! request's first byte to the answer's last, over a connection that is open.

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::Duration;

use common::{address, config, hosts_with, read, simulate, write_all};
use dataplane_dpdk::StackConfig;
use dataplane_dpdk::queue::wire::{WireCutter, WireOptions};
use ferrogate_core::net::{ListenOptions, Listener, Transport};
use tokio::task::spawn_local;
use tokio::time::Instant;

fn main() {
    let seeds = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(200);
    println!("| bytes | round trip, ms | loss, % | mean, ms | p50 | p99 | sent again, each | frames, each |");
    println!("|---:|---:|---:|---:|---:|---:|---:|---:|");
    for bytes in [10 << 10, 100 << 10, 1 << 20] {
        for round_trip_ms in [1, 20, 80] {
            for loss in [0.0, 0.001, 0.01] {
                row(bytes, round_trip_ms, loss, seeds);
            }
        }
    }
}

fn row(bytes: usize, round_trip_ms: u64, loss: f64, seeds: u64) {
    let (mut times, mut repaired, mut frames) = (Vec::new(), 0, 0);
    for seed in 0..seeds {
        let (time, sent_again, sent) = transfer(bytes, Duration::from_millis(round_trip_ms), loss, seed);
        times.push(time.as_secs_f64() * 1e3);
        repaired += sent_again;
        frames += sent;
    }
    times.sort_by(f64::total_cmp);
    let mean = times.iter().sum::<f64>() / times.len() as f64;
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    let (p50, p99, each) = (at(50), at(99), |n: u64| n as f64 / seeds as f64);
    let (repaired, frames) = (each(repaired), each(frames));
    println!(
        "| {bytes} | {round_trip_ms} | {:.1} | {mean:.1} | {p50:.1} | {p99:.1} | {repaired:.2} | {frames:.1} |",
        loss * 100.0
    );
}

/// One answer of so many bytes: how long it takes, how many segments were sent again, and how many frames were sent.
fn transfer(bytes: usize, round_trip: Duration, loss: f64, seed: u64) -> (Duration, u64, u64) {
    simulate(async move {
        let options = WireOptions { latency: round_trip / 2, loss, ..WireOptions::default() };
        let wide = |n| StackConfig { rx_ring_bytes: RING_BYTES, tx_ring_bytes: RING_BYTES, ..config(n) };
        let (server, client) = hosts_with(seed, &options, wide(1), wide(2));
        let here = address("10.0.0.1:80");
        let mut listener = server.transport.listen(&here, &ListenOptions::default()).await.expect("it listens");
        spawn_local(async move {
            let mut conn = listener.accept().await.expect("it accepts");
            let answer = vec![7; bytes];
            while read(&mut conn).await.is_ok_and(|request| !request.is_empty()) {
                if write_all(&mut conn, &answer).await.is_err() {
                    return;
                }
            }
        });
        let mut conn = client.transport.connect(&here).await.expect("it connects");
        let begun = Instant::now();
        write_all(&mut conn, b"?").await.expect("it sends");
        let mut left = bytes;
        while left > 0 {
            left -= read(&mut conn).await.expect("an answer").len();
        }
        let frames = server.cutter.as_ref().map_or(0, WireCutter::sent);
        (begun.elapsed(), server.counters.segments_repaired.get(), frames)
    })
}

/// Room for a path of 80 ms at some hundred megabits.
const RING_BYTES: usize = 2 << 20;
