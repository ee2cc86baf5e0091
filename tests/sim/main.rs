//! The whole gateway under simulation: clients, the worker and origins, each on a stack of its own, on wires that lose, delay, reorder and
//! duplicate, with a paused clock. A seed decides everything, so that a failure can be had again.
//!
//! ```text
//! cargo test --test sim                                 a fixed set of seeds
//! FERROGATE_SIM_SEED=7 cargo test --test sim            this one, with a report
//! FERROGATE_SIM_SEEDS=3000 cargo test --test sim        as many
//! FERROGATE_SIM_SEEDS=5000..6000 cargo test --test sim  these
//! FERROGATE_SIM_BUG=byte cargo test --test sim          with a bug planted, to see it found: byte, silence or leak
//! make sim SEEDS=10000                                  as many, with what they came to
//! ```

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

mod bug;
mod client;
mod draw;
mod line;
mod origin;
mod scene;
mod switch;

use std::collections::HashMap;
use std::ops::Range;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use bug::{ALL as BUGS, Bug};
use scene::Report;
use tokio::time::Instant;

#[test]
fn every_seed_holds() {
    let bug = std::env::var("FERROGATE_SIM_BUG").ok();
    let bug = bug.map(|name| Bug::parse(&name).unwrap_or_else(|| panic!("FERROGATE_SIM_BUG={name}: one of {BUGS:?}")));
    if let Some(seed) = number("FERROGATE_SIM_SEED") {
        tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).without_time().with_ansi(false).init();
        match run(seed, bug) {
            Ok(report) => println!("seed {seed}: {report:?}"),
            Err(failure) => panic!("{failure}"),
        }
        return;
    }
    let seeds = match std::env::var("FERROGATE_SIM_SEEDS") {
        Ok(text) => range(&text),
        Err(_) => 0..SEEDS,
    };
    let (reports, failures) = run_all(seeds, bug);
    println!("{}", sum(&reports));
    assert!(failures.is_empty(), "{} seed(s) failed:\n  {}\n", failures.len(), failures.join("\n  "));
    // A simulation in which nothing happens proves nothing.
    let seen = |what: fn(&Report) -> usize| reports.iter().filter(|r| what(r) > 0).count() * 20 > reports.len();
    assert!(seen(|r| r.tally.done) && seen(|r| r.tally.refused) && seen(|r| r.tally.broken) && seen(|r| r.faults));
}

#[test]
fn a_planted_bug_is_found_and_its_seeds_are_told() {
    for bug in BUGS {
        let (reports, failures) = run_all(0..PLANTED_SEEDS as u64, Some(bug));
        println!("{bug:?}: {} of {PLANTED_SEEDS} seeds fail; the first: {:?}", failures.len(), failures.first());
        // A bug that a seed's traffic does not reach, or that its wire excuses, shows in others.
        assert!(
            failures.len() >= 3 && reports.len() + failures.len() == PLANTED_SEEDS,
            "{bug:?} is hardly found: {failures:?}"
        );
        let again = |failure: &String| failure.contains("again: FERROGATE_SIM_SEED=");
        assert!(failures.iter().all(again), "{failures:?}");
    }
}

#[test]
fn a_seed_repeats_itself() {
    for seed in [1, 2, 3] {
        assert_eq!(run(seed, None).unwrap(), run(seed, None).unwrap(), "seed {seed}");
    }
}

/// What the threads tell.
enum Event {
    Began(u64),
    Ended(u64, Box<Result<Report, String>>),
}

/// Runs `seeds` on all cores. A seed that does not end is a failure too: then its thread is left behind.
fn run_all(seeds: Range<u64>, bug: Option<Bug>) -> (Vec<Report>, Vec<String>) {
    let next = Arc::new(AtomicU64::new(seeds.start));
    let (events, incoming) = mpsc::channel();
    for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
        let (next, events) = (Arc::clone(&next), events.clone());
        thread::spawn(move || {
            loop {
                let seed = next.fetch_add(1, Relaxed);
                if seed >= seeds.end || events.send(Event::Began(seed)).is_err() {
                    return;
                }
                // Nobody listens any more once a seed was given up.
                let _ = events.send(Event::Ended(seed, Box::new(run(seed, bug))));
            }
        });
    }
    drop(events);
    let (mut reports, mut failures, mut running) = (Vec::new(), Vec::new(), HashMap::new());
    loop {
        match incoming.recv_timeout(Duration::from_secs(1)) {
            Ok(Event::Began(seed)) => {
                running.insert(seed, Instant::now());
            }
            Ok(Event::Ended(seed, result)) => {
                running.remove(&seed);
                match *result {
                    Ok(report) => reports.push(report),
                    Err(failure) => failures.push(failure),
                }
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => return (reports, failures),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        if let Some((seed, _)) = running.iter().find(|(_, since)| since.elapsed() > SEED_BOUND) {
            failures.push(failed(*seed, "it spins: time stands still"));
            return (reports, failures);
        }
    }
}

fn run(seed: u64, bug: Option<Bug>) -> Result<Report, String> {
    match catch_unwind(|| scene::run(seed, bug)) {
        Ok(result) => result.map_err(|e| failed(seed, &e)),
        Err(_) => Err(failed(seed, "it panicked: see above")),
    }
}

fn failed(seed: u64, why: &str) -> String {
    format!(
        "seed {seed}: {why}\n    again: FERROGATE_SIM_SEED={seed} cargo test --test sim every_seed_holds -- --nocapture"
    )
}

fn sum(reports: &[Report]) -> String {
    let add = |f: fn(&Report) -> usize| reports.iter().map(f).sum::<usize>();
    let frames: u64 = reports.iter().map(|r| r.frames).sum();
    let hours = reports.iter().map(|r| r.took).sum::<Duration>().as_secs() / 3600;
    let (asked, done) = (add(|r| r.tally.asked), add(|r| r.tally.done));
    let (refused, left, broken) = (add(|r| r.tally.refused), add(|r| r.tally.left), add(|r| r.tally.broken));
    let (faults, drained) = (add(|r| r.faults), add(|r| usize::from(r.drained)));
    format!(
        "{} seeds, {drained} of them drained: {asked} requests, {done} answered whole, {refused} refused, {left} left behind, \
         {broken} broken off; \
         {faults} faults of origins, {frames} frames, {hours} hours",
        reports.len()
    )
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

fn range(text: &str) -> Range<u64> {
    let number = |t: &str| t.parse().unwrap_or_else(|_| panic!("FERROGATE_SIM_SEEDS={text} is no number or range"));
    match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => 0..number(text),
    }
}

/// The fixed set.
const SEEDS: u64 = 300;
/// As many with each planted bug.
const PLANTED_SEEDS: usize = 24;
/// In real time: a seed takes some hundredths of a second.
const SEED_BOUND: Duration = Duration::from_secs(120);
