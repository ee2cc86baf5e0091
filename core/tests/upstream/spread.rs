//! The spread of the load over 100,000 picks, against the definition of each balancer.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ferrogate_core::config::schema::{Balancing, Choices, Decimal};
use ferrogate_core::upstream::{Outcome, Wish};

use crate::stage::{Stage, config, pick, scramble};

const PICKS: usize = 100_000;

/// How often each of `hosts` hosts is picked by 100,000 requests with hashes of their own, shared out to two workers.
fn counts(balancing: Balancing, weights: &[u32]) -> Vec<usize> {
    let stage = Stage::new(config(balancing, weights));
    let workers = [stage.worker(0), stage.worker(1)];
    let mut counts = vec![0; weights.len()];
    for i in 0..PICKS {
        let wish = Wish { hash: Some(scramble(i as u64)), ..Wish::default() };
        counts[pick(&workers[i % 2], &wish).unwrap()] += 1;
    }
    println!("{balancing:?}: {counts:?}");
    counts
}

/// The largest deviation of a host from its share, as a fraction of that.
fn deviation(counts: &[usize], weights: &[u32]) -> f64 {
    let total: u32 = weights.iter().sum();
    let share = |w: &u32| PICKS as f64 * f64::from(*w) / f64::from(total);
    counts.iter().zip(weights).map(|(c, w)| (*c as f64 - share(w)).abs() / share(w)).fold(0.0, f64::max)
}

#[test]
fn round_robin_is_exact() {
    assert!(deviation(&counts(Balancing::RoundRobin, &[1; 7]), &[1; 7]) < 0.0002);
    // It does not look at weights.
    assert!(deviation(&counts(Balancing::RoundRobin, &[1, 9]), &[1, 1]) < 0.0002);
}

#[test]
fn random_is_even_within_chance() {
    // Five standard deviations of a binomial with p = 1/10.
    assert!(deviation(&counts(Balancing::Random, &[1; 10]), &[1; 10]) < 5.0 * (0.9 / (PICKS as f64 * 0.1)).sqrt());
}

#[test]
fn weighted_turns_are_exact_with_few_hosts_and_with_many() {
    for hosts in [3u32, 10, 200] {
        let weights: Vec<u32> = (0..hosts).map(|i| 1 + i * 5 % 17).collect();
        let counts = counts(Balancing::Weighted, &weights);
        let total: u32 = weights.iter().sum();
        for (count, weight) in counts.iter().zip(&weights) {
            let share = PICKS as f64 * f64::from(*weight) / f64::from(total);
            assert!((*count as f64 - share).abs() <= 3.0, "{count} of {share}");
        }
    }
}

#[test]
fn consistent_balancers_follow_the_weights() {
    for (balancing, bound) in [
        (Balancing::Maglev { table_size: None }, 0.05),
        (Balancing::RingHash { points_min: 1024, points_max: 1 << 20 }, 0.35),
    ] {
        assert!(deviation(&counts(balancing, &[1; 10]), &[1; 10]) < bound, "{balancing:?}");
        assert!(deviation(&counts(balancing, &[1, 2, 4, 8]), &[1, 2, 4, 8]) < bound, "{balancing:?}");
    }
}

#[test]
fn a_key_stays_with_its_host() {
    for balancing in
        [Balancing::Maglev { table_size: None }, Balancing::RingHash { points_min: 1024, points_max: 1 << 20 }]
    {
        let stage = Stage::new(config(balancing, &[1; 10]));
        let (a, b) = (stage.worker(0), stage.worker(1));
        for key in 0..1000 {
            let wish = Wish { hash: Some(scramble(key)), ..Wish::default() };
            let host = pick(&a, &wish).unwrap();
            assert_eq!([pick(&a, &wish), pick(&b, &wish)], [Ok(host), Ok(host)]);
        }
    }
}

#[test]
fn request_round_robin_begins_with_the_first() {
    assert_eq!(counts(Balancing::InOrder, &[1; 3]), [PICKS, 0, 0]);
    let stage = Stage::new(config(Balancing::InOrder, &[1; 3]));
    let worker = stage.worker(0);
    let mut tried = Vec::new();
    for expected in [0, 1, 2, 0] {
        let pool = worker.pick(&Wish { tried: &tried, ..Wish::default() }).unwrap();
        assert_eq!(Stage::number(pool.host().address()), expected);
        tried.push(pool.id());
    }
}

/// Requests that begin and end, `open` of them at a time; the mean and the largest number in progress at each host.
fn in_progress(balancing: Balancing, weights: &[u32], open: usize) -> (Vec<f64>, u32) {
    let stage = Stage::new(config(balancing, weights));
    let workers = [stage.worker(0), stage.worker(1)];
    let set = stage.hosts.current();
    let tally = |host: usize| set.members()[host].host.tally();
    let count = |host: usize| match balancing {
        Balancing::LeastConnection(_) => &tally(host).conns,
        _ => &tally(host).requests,
    };
    let (mut running, mut sums, mut most) = (VecDeque::new(), vec![0u64; weights.len()], 0);
    for i in 0..PICKS {
        let host = pick(&workers[i % 2], &Wish::default()).unwrap();
        most = most.max(count(host).fetch_add(1, Ordering::Relaxed) + 1);
        running.push_back(host);
        if running.len() > open {
            // Not in the order in which they began: some take long.
            let at = usize::try_from(scramble(i as u64) >> 40).unwrap() % running.len();
            let ended = running.swap_remove_front(at).unwrap();
            count(ended).fetch_sub(1, Ordering::Relaxed);
        }
        for (host, sum) in sums.iter_mut().enumerate() {
            *sum += u64::from(count(host).load(Ordering::Relaxed));
        }
    }
    let means = sums.iter().map(|s| *s as f64 / PICKS as f64).collect();
    println!("{balancing:?}: in progress {means:.1?}, at most {most}");
    (means, most)
}

#[test]
fn least_balancers_level_the_work_of_all_workers() {
    let (_, random) = in_progress(Balancing::Random, &[1; 20], 200);
    for balancing in [Balancing::LeastRequest(Choices::default()), Balancing::LeastConnection(Choices::default())] {
        let (means, most) = in_progress(balancing, &[1; 20], 200);
        assert!(means.iter().all(|m| (9.0..11.0).contains(m)), "{means:?}");
        // Two choices: log log n above the mean, where chance alone is far above it (Mitzenmacher).
        assert!(most <= 16 && most + 4 < random, "{most}, at random {random}");
    }
}

#[test]
fn least_request_follows_weights() {
    let (means, _) = in_progress(Balancing::LeastRequest(Choices::default()), &[1, 2, 4], 70);
    let ratio = |a: usize, b: usize| means[a] / means[b];
    // Weight over work in progress: where requests take the same time, work goes with the root of the weight at least.
    assert!(ratio(1, 0) > 1.3 && ratio(2, 1) > 1.3 && ratio(2, 0) < 4.4, "{means:?}");
}

#[test]
fn peak_ewma_prefers_the_fast() {
    let balancing = Balancing::PeakEwma {
        choices: Choices::default(),
        client_error_bias: Decimal(0),
        server_error_bias: Decimal::ONE,
    };
    let stage = Stage::new(config(balancing, &[1; 4]));
    let worker = stage.worker(0);
    let mut counts = [0; 4];
    for _ in 0..PICKS {
        let pool = worker.pick(&Wish::default()).unwrap();
        let host = Stage::number(pool.host().address());
        counts[host] += 1;
        // Host 0 takes ten times as long; host 1 is quick to fail.
        let (status, millis) = if host == 1 { (503, 1) } else { (200, if host == 0 { 100 } else { 10 }) };
        pool.report(Outcome::Answered { status, took: Duration::from_millis(millis) });
    }
    println!("peak EWMA: {counts:?}");
    // Of two choices the slow one is taken only when it is drawn twice, or nothing else is known.
    assert!(counts[0] < PICKS / 10 && counts[2] > PICKS / 4 && counts[3] > PICKS / 4, "{counts:?}");
}

#[test]
fn a_pick_of_any_kind_avoids_what_was_tried() {
    let choices = Choices::default();
    for balancing in [
        Balancing::RoundRobin,
        Balancing::Random,
        Balancing::Weighted,
        Balancing::LeastRequest(choices),
        Balancing::PeakEwma { choices, client_error_bias: Decimal(0), server_error_bias: Decimal::ONE },
        Balancing::Maglev { table_size: None },
        Balancing::RingHash { points_min: 64, points_max: 1024 },
        Balancing::InOrder,
    ] {
        for weights in [&[1, 1, 1][..], &[5, 1, 2]] {
            let stage = Stage::new(config(balancing, weights));
            let worker = stage.worker(0);
            for key in 0..100 {
                let (mut tried, mut seen) = (Vec::new(), Vec::new());
                for _ in 0..3 {
                    let wish = Wish { hash: Some(scramble(key)), tried: &tried, ..Wish::default() };
                    let pool = worker.pick(&wish).unwrap();
                    seen.push(Stage::number(pool.host().address()));
                    tried.push(pool.id());
                }
                seen.sort_unstable();
                assert_eq!(seen, [0, 1, 2], "{balancing:?}");
                // All were tried: any will do.
                assert!(worker.pick(&Wish { tried: &tried, ..Wish::default() }).is_ok());
            }
        }
    }
}
