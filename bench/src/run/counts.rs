//! System calls and allocations per request: a pass of its own, because counting slows down.
//!
//! **Invariant:** never part of a timed round; a proxy that can't be counted gets no number, not a zero.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::backend::{Backend, Kind};
use crate::error::BenchError;
use crate::results::{Counts, Level};
use crate::run::cell::{self, Window};
use crate::run::place::{Place, Proxy};
use crate::scenario::Scenario;
use crate::stage::process::{find, run as run_command};

/// Counts for some parts of a window, at this rate or, without one, at saturation.
///
/// # Errors
/// Those of [`cell::run`].
pub fn run(
    place: &Place,
    (backend, scenario): (&Backend, &Scenario),
    rate: Option<f64>,
    shim: Option<&Shim>,
) -> Result<Vec<Counts>, BenchError> {
    let shim = shim.filter(|_| allocates_by_libc(backend));
    let counter = shim.map(|s| s.counter(place)).transpose()?;
    let environment: Vec<(&str, &std::path::Path)> = match (shim, &counter) {
        (Some(shim), Some(counter)) => vec![("LD_PRELOAD", &shim.library), (COUNTS_VARIABLE, counter)],
        _ => Vec::new(),
    };
    let mut proxy = place.start(backend, scenario, &environment)?;
    let mut parts = Vec::new();
    let mut within = |proxy: &Proxy| {
        for _ in 0..WINDOWS {
            let (start, before) = (Instant::now(), counter.as_ref().and_then(read_counter));
            let calls = syscalls(proxy)?;
            let seconds = start.elapsed().as_secs_f64();
            let after = counter.as_ref().and_then(read_counter);
            #[expect(clippy::cast_precision_loss, reason = "counts of half a second")]
            let allocations = before.zip(after).map(|(b, a)| a.saturating_sub(b) as f64 / seconds);
            parts.push((calls, allocations));
        }
        Ok(())
    };
    let seconds = PART.as_secs_f64() * 1.5 * WINDOWS_SECONDS;
    let level = if rate.is_some() { Level::Fixed } else { Level::Saturation };
    let window = Window { level, rate, seconds, warmup: 0.3 };
    let cell = cell::run(place, (backend, scenario), &mut proxy, window, &mut within)?;
    proxy.stop();
    #[expect(clippy::cast_precision_loss, reason = "requests of a few seconds")]
    let answered = cell.load.requests as f64 / cell.load.seconds;
    // A rate that was not kept says nothing of that rate.
    if rate.is_some_and(|rate| (answered / rate - 1.0).abs() >= RATE_TOLERANCE) {
        return Ok(Vec::new());
    }
    let counts = |(round, (syscalls, allocations)): (usize, (Option<f64>, Option<f64>))| Counts {
        scenario: scenario.name.to_owned(),
        backend: backend.name.clone(),
        level,
        round,
        syscalls: syscalls.map(|per_second| per_second / answered),
        allocations: allocations.map(|per_second| per_second / answered),
    };
    Ok(parts.into_iter().enumerate().map(counts).collect())
}

/// The library that counts allocations.
#[derive(Debug)]
pub struct Shim {
    library: PathBuf,
}

impl Shim {
    /// Builds it into the run's folder. None without a C compiler.
    ///
    /// # Errors
    /// When the source can't be written or does not compile.
    pub fn build(place: &Place) -> Result<Option<Self>, BenchError> {
        let Some(compiler) = find("cc") else { return Ok(None) };
        let source = place.folder.write("shim.c", include_str!("shim.c"))?;
        let library = place.folder.path("shim.so");
        run_command(Command::new(compiler).args(["-O2", "-fPIC", "-shared", "-o"]).arg(&library).arg(source))?;
        Ok(Some(Self { library }))
    }

    fn counter(&self, place: &Place) -> Result<PathBuf, BenchError> {
        let path = place.folder.path("allocations");
        fs::write(&path, [0; 4096]).map_err(|e| BenchError::io(format!("write {}", path.display()), e))?;
        Ok(path)
    }
}

/// System calls a second of the proxy's processes over a part of the window. None without perf or its right to count.
fn syscalls(proxy: &Proxy) -> Result<Option<f64>, BenchError> {
    let Some(perf) = find("perf") else {
        thread::sleep(PART);
        return Ok(None);
    };
    let processes: Vec<String> = proxy.family().iter().map(u32::to_string).collect();
    let seconds = PART.as_secs_f64();
    let output = Command::new(perf)
        .args(["stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", &processes.join(",")])
        .args(["sleep", &seconds.to_string()])
        .output()
        .map_err(|e| BenchError::io("run perf", e))?;
    Ok(perf_count(&String::from_utf8_lossy(&output.stderr)).map(|count| count / seconds))
}

/// The count in a line of `perf stat -x,`: its first field. None for `<not supported>` and messages.
fn perf_count(text: &str) -> Option<f64> {
    let line = text.lines().find(|l| l.contains("raw_syscalls:sys_enter"))?;
    line.split(',').next()?.parse().ok()
}

fn read_counter(path: &PathBuf) -> Option<u64> {
    let mut number = [0; 8];
    fs::File::open(path).ok()?.read_exact_at(&mut number, 0).ok()?;
    Some(u64::from_ne_bytes(number))
}

/// Go has an allocator of its own, and Envoy links one.
fn allocates_by_libc(backend: &Backend) -> bool {
    matches!(backend.kind, Kind::Ferrogate(_) | Kind::Nginx | Kind::Haproxy)
}

const COUNTS_VARIABLE: &str = "FERROGATE_BENCH_COUNTS";

/// How long the counts of one level take, in windows of the timed rounds.
pub const COUNTS_WINDOWS: u32 = 2;

/// How many parts of a window are counted.
const WINDOWS: usize = 3;
const WINDOWS_SECONDS: f64 = 3.0;

const PART: Duration = Duration::from_millis(300);

const RATE_TOLERANCE: f64 = 0.03;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_perf_are_read_and_its_excuses_are_none() {
        assert_eq!(perf_count("29,,raw_syscalls:sys_enter,1244000,100.00,,\n"), Some(29.0));
        assert_eq!(perf_count("<not counted>,,raw_syscalls:sys_enter,0,0.00,,\n"), None);
        assert_eq!(perf_count("event syntax error: 'raw_syscalls:sys_enter'"), None);
    }
}
