//! Allocations beside times: a global allocator that counts, and a line for each bench with what one operation allocates.
//!
//! **Invariant:** what is counted is what is timed: the same closure, after it has run often enough for pools and tables to be filled.

#![allow(dead_code, reason = "each bench uses its part of this module")]

use std::alloc::System;
use std::cell::RefCell;
use std::fmt;
use std::time::Duration;
#[allow(clippy::disallowed_types, reason = "a bench measures real time")]
use std::time::Instant;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};

/// Counts for the whole process, which in a bench is one thread.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What one operation allocates, on average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Allocations {
    /// Calls of the allocator that take memory: new blocks and grown ones.
    pub(crate) calls: f64,
    /// Bytes taken.
    pub(crate) bytes: f64,
}

impl Allocations {
    fn of(stats: &Stats, ops: u64) -> Self {
        let calls = stats.allocations + stats.reallocations;
        Self { calls: calls as f64 / ops as f64, bytes: stats.bytes_allocated as f64 / ops as f64 }
    }

    /// Stops the bench when an operation that must not allocate does: its time would mean nothing.
    pub(crate) fn assert_none(self, id: &str) {
        assert!(self.calls == 0.0, "{id} allocates in its steady state: {self}");
    }
}

impl fmt::Display for Allocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:.3} calls {:.1} B]", self.calls, self.bytes)
    }
}

/// Times `op` and counts what it allocates. `None` when the command line's filter leaves this bench out.
pub(crate) fn bench<O>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: BenchmarkId,
    mut op: impl FnMut() -> O,
) -> Option<Allocations> {
    let mut counted = None;
    group.bench_function(id, |b| {
        counted.get_or_insert_with(|| count(&mut op));
        b.iter(&mut op);
    });
    report(counted)
}

/// Times and counts the parts of `op` that it puts through the [`Meter`]: an operation whose preparation is not of interest.
pub(crate) fn bench_part(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: BenchmarkId,
    mut op: impl FnMut(&mut Meter),
) -> Option<Allocations> {
    let mut counted = None;
    group.bench_function(id, |b| {
        counted.get_or_insert_with(|| {
            (0..PART_OPS).for_each(|_| op(&mut Meter::default()));
            let mut meter = Meter::default();
            (0..PART_OPS).for_each(|_| op(&mut meter));
            Allocations::of(&meter.stats, PART_OPS)
        });
        b.iter_custom(|iterations| {
            let mut meter = Meter::default();
            (0..iterations).for_each(|_| op(&mut meter));
            meter.time
        });
    });
    report(counted)
}

/// Times `run`, which does as many operations as it is told and answers how long they took, and counts what they allocate.
pub(crate) fn bench_runs(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: BenchmarkId,
    ops: u64,
    mut run: impl FnMut(u64),
) -> Option<Allocations> {
    let mut counted = None;
    group.bench_function(id, |b| {
        counted.get_or_insert_with(|| {
            run(ops);
            let region = Counted::start();
            run(ops);
            Allocations::of(&region.stop(), ops)
        });
        b.iter_custom(|iterations| time(|| run(iterations)));
    });
    report(counted)
}

/// Runs something of the bench's own, whose allocations are not the operation's.
pub(crate) fn uncounted<O>(f: impl FnOnce() -> O) -> O {
    let region = Region::new(ALLOCATOR);
    let result = f();
    let change = region.change();
    UNCOUNTED.with_borrow_mut(|sum| add(sum, &change));
    result
}

/// Adds up time and allocations of the parts that count.
#[derive(Default)]
pub(crate) struct Meter {
    time: Duration,
    stats: Stats,
}

impl Meter {
    /// Runs a part that counts.
    pub(crate) fn of<O>(&mut self, part: impl FnOnce() -> O) -> O {
        let region = Region::new(ALLOCATOR);
        let mut result = None;
        self.time += time(|| result = Some(part()));
        add(&mut self.stats, &region.change());
        result.expect("the part has run")
    }
}

/// A count under way, less what [`uncounted`] takes meanwhile.
struct Counted {
    region: Region<'static, System>,
    uncounted: Stats,
}

impl Counted {
    fn start() -> Self {
        Self { uncounted: UNCOUNTED.with_borrow(|sum| *sum), region: Region::new(ALLOCATOR) }
    }

    fn stop(&self) -> Stats {
        let mut stats = self.region.change();
        let uncounted = UNCOUNTED.with_borrow(|sum| *sum) - self.uncounted;
        // Each kind from its own: the bench's part of one may be larger than the whole of another.
        stats.allocations -= uncounted.allocations;
        stats.reallocations -= uncounted.reallocations;
        stats.bytes_allocated -= uncounted.bytes_allocated;
        stats
    }
}

/// Adds what takes memory.
fn add(sum: &mut Stats, change: &Stats) {
    sum.allocations += change.allocations;
    sum.reallocations += change.reallocations;
    sum.bytes_allocated += change.bytes_allocated;
}

/// What one call of a warm `op` allocates.
fn count<O>(op: &mut impl FnMut() -> O) -> Allocations {
    (0..OPS).for_each(|_| drop(std::hint::black_box(op())));
    let region = Counted::start();
    (0..OPS).for_each(|_| drop(std::hint::black_box(op())));
    Allocations::of(&region.stop(), OPS)
}

#[allow(clippy::disallowed_types, reason = "a bench measures real time")]
fn time(f: impl FnOnce()) -> Duration {
    let start = Instant::now();
    f();
    start.elapsed()
}

fn report(counted: Option<Allocations>) -> Option<Allocations> {
    if let Some(counted) = counted {
        println!("{:24}allocs: {counted} per operation", "");
    }
    counted
}

thread_local! {
    /// What the bench itself has taken.
    static UNCOUNTED: RefCell<Stats> = RefCell::default();
}

/// Operations that are counted, after as many to warm up.
const OPS: u64 = 1000;
/// The same for operations that take some hundred microseconds.
const PART_OPS: u64 = 20;
