//! The time that the load's own core had left: the proof that the load was not the bottleneck.
//!
//! **Invariant:** whoever else ran on the core counts as busy.

use std::fs;
use std::sync::Arc;

use dataplane_dpdk::LcoreCounters;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use crate::wire::clock::Nanos;

/// Where the time is read.
#[derive(Clone)]
pub(crate) enum Meter {
    /// From the kernel: idle time of the core that this thread is pinned to; of the thread alone when it is not pinned to one.
    Kernel,
    /// From a polled lcore, which never rests: time of turns that moved nothing.
    Lcore(Arc<LcoreCounters>),
}

/// A reading at the beginning of a window.
pub(crate) struct Spare {
    meter: Meter,
    core: Option<usize>,
    /// The core's idle time, the lcore's otherwise.
    idle: Nanos,
    /// Busy time of the thread.
    own: Nanos,
}

impl Spare {
    pub(crate) fn begin(meter: &Meter) -> Self {
        let core = pinned_core();
        let (idle, own) = match meter {
            Meter::Kernel => (core.and_then(idle_nanos).unwrap_or(0), own_nanos()),
            Meter::Lcore(counters) => (counters.idle_ns.get(), 0),
        };
        Self { meter: meter.clone(), core, idle, own }
    }

    /// Share of the time since `begin`, `elapsed`, that was left.
    #[allow(clippy::cast_precision_loss, reason = "within 2^53 ns")]
    pub(crate) fn share(&self, elapsed: Nanos) -> f64 {
        let of_elapsed = |nanos: Nanos| nanos as f64 / elapsed.max(1) as f64;
        let idle = match &self.meter {
            Meter::Kernel => self.core.and_then(idle_nanos),
            Meter::Lcore(counters) => Some(counters.idle_ns.get()),
        };
        let own_left = || 1.0 - of_elapsed(own_nanos().saturating_sub(self.own));
        idle.map_or_else(own_left, |now| of_elapsed(now.saturating_sub(self.idle))).clamp(0.0, 1.0)
    }
}

fn pinned_core() -> Option<usize> {
    let set = sched_getaffinity(Pid::from_raw(0)).ok()?;
    let mut cores = (0..CpuSet::count()).filter(|&core| set.is_set(core).unwrap_or(false));
    let first = cores.next()?;
    cores.next().is_none().then_some(first)
}

/// `idle` and `iowait` of the core, counted by the kernel in hundredths of a second.
fn idle_nanos(core: usize) -> Option<Nanos> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let name = format!("cpu{core}");
    let mut fields =
        stat.lines().map(str::split_ascii_whitespace).find_map(|mut f| (f.next()? == name).then_some(f))?;
    let idle: u64 = fields.nth(3)?.parse().ok()?;
    let iowait: u64 = fields.next()?.parse().ok()?;
    Some((idle + iowait) * NANOS_PER_TICK)
}

fn own_nanos() -> Nanos {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(0, |time| crate::wire::clock::nanos(time.into()))
}

/// USER_HZ is 100 on every architecture that this runs on.
const NANOS_PER_TICK: u64 = 10_000_000;
