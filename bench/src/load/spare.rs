//! The time that the load's own core had left: the proof that the load was not the bottleneck.
//!
//! **Invariant:** whoever else ran on the core counts as busy.

use std::fs;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use crate::wire::clock::Nanos;

/// Idle time of the core that this thread is pinned to; of the thread alone when it is not pinned to one.
pub(crate) struct Spare {
    core: Option<usize>,
    idle: Nanos,
    own: Nanos,
}

impl Spare {
    pub(crate) fn begin() -> Self {
        let core = pinned_core();
        Self { core, idle: core.and_then(idle_nanos).unwrap_or(0), own: own_nanos() }
    }

    /// Share of the time since `begin`, `elapsed`, that was left.
    #[allow(clippy::cast_precision_loss, reason = "within 2^53 ns")]
    pub(crate) fn share(&self, elapsed: Nanos) -> f64 {
        let elapsed = elapsed.max(1) as f64;
        let own_left = 1.0 - own_nanos().saturating_sub(self.own) as f64 / elapsed;
        let idle = self.core.and_then(idle_nanos).map(|now| now.saturating_sub(self.idle) as f64 / elapsed);
        idle.unwrap_or(own_left).clamp(0.0, 1.0)
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
