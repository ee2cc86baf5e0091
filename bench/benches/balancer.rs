//! A pick by each balancer, over few hosts and many; and what a change of hosts costs that makes a table anew.

mod counting;
#[path = "../../core/tests/upstream/stage.rs"]
#[allow(dead_code, reason = "the stage of the tests, of which a bench needs a part")]
mod stage;

use std::cell::Cell;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ferrogate_core::config::schema::{Balancing, Choices, Decimal};
use ferrogate_core::upstream::Wish;

use self::stage::{Stage, config, scramble};

fn balancers() -> [(&'static str, Balancing, bool); 10] {
    let choices = Choices::default();
    let ewma = Balancing::PeakEwma { choices, client_error_bias: Decimal(0), server_error_bias: Decimal::ONE };
    [
        ("round_robin", Balancing::RoundRobin, false),
        ("random", Balancing::Random, false),
        ("weighted", Balancing::Weighted, true),
        ("least_request", Balancing::LeastRequest(choices), false),
        ("least_request_weighted", Balancing::LeastRequest(choices), true),
        ("least_connection", Balancing::LeastConnection(choices), false),
        ("peak_ewma", ewma, false),
        ("maglev", Balancing::Maglev { table_size: None }, false),
        ("ring_hash", Balancing::RingHash { points_min: 1024, points_max: 1 << 20 }, false),
        ("request_round_robin", Balancing::InOrder, false),
    ]
}

fn pick(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick");
    for hosts in [10, 100, 1000] {
        for (name, balancing, weighted) in balancers() {
            let weights: Vec<u32> = (0..hosts).map(|i| if weighted { 1 + i % 5 } else { 1 }).collect();
            let stage = Stage::new(config(balancing, &weights));
            let worker = stage.worker(0);
            // The pools are made at their first pick; a pick itself makes nothing.
            for key in 0..100_000 {
                let _ = worker.pick(&Wish { hash: Some(scramble(key)), ..Wish::default() });
            }
            let key = Cell::new(0);
            let id = format!("{name}/{hosts}");
            let counted = counting::bench(&mut group, BenchmarkId::new(name, hosts), || {
                key.set((key.get() + 1) % 100_000);
                black_box(worker.pick(&Wish { hash: Some(scramble(key.get())), ..Wish::default() }).is_ok())
            });
            if let Some(counted) = counted {
                counted.assert_none(&id);
            }
        }
    }
    group.finish();
}

fn change(c: &mut Criterion) {
    let mut group = c.benchmark_group("change_of_hosts");
    for (name, balancing, _) in
        balancers().into_iter().filter(|(name, ..)| ["round_robin", "maglev", "ring_hash"].contains(name))
    {
        for hosts in [10, 100, 1000] {
            let stage = Stage::new(config(balancing, &vec![1; hosts]));
            let list = stage.hosts.current().specs().to_vec();
            group.bench_function(BenchmarkId::new(name, hosts), |b| b.iter(|| stage.hosts.put(list.clone(), 1)));
        }
    }
    group.finish();
}

criterion_group!(benches, pick, change);
criterion_main!(benches);
