//! `ferrogate-bench profile`: where a proxy's time goes under a scenario, as a flame graph.
//!
//! **Invariant:** the samples are of the window alone: no start, no end, no idle proxy.

pub mod flame;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::error::BenchError;
use crate::profile::flame::Flame;
use crate::results::Level;
use crate::run::args::{RunArgs, Wire};
use crate::run::cell::{self, Window};
use crate::run::place::{Place, Proxy};
use crate::run::this_program;
use crate::stage::process::{find, run as run_command};
use crate::stage::stop;

/// What to profile.
#[derive(Args, Clone, Debug)]
pub struct ProfileArgs {
    /// The scenario.
    pub scenario: String,
    /// The proxy.
    #[arg(long, default_value = "ferrogate-kernel")]
    pub backend: String,
    /// The gateway; the one beside this program otherwise. Stacks are whole when it was built with frame pointers.
    #[arg(long)]
    pub ferrogate: Option<PathBuf>,
    /// Seconds of samples.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Loopback in place of veth pairs: without root.
    #[arg(long)]
    pub loopback: bool,
    /// Where the graph goes.
    #[arg(long)]
    pub out: PathBuf,
}

/// Profiles and draws; how many samples there were.
///
/// # Errors
/// Without perf or its right to sample, for a wrong choice, and at Ctrl-C.
pub fn run(args: &ProfileArgs) -> Result<u64, BenchError> {
    stop::listen()?;
    let perf = find("perf").ok_or_else(|| BenchError::choice("perf is not installed (Debian: linux-perf)"))?;
    let plan = RunArgs {
        scenario: vec![args.scenario.clone()],
        backend: vec![args.backend.clone()],
        ferrogate: args.ferrogate.clone(),
        wire: if args.loopback { Wire::Loopback } else { Wire::Veth },
        ..RunArgs::default()
    }
    .plan()?;
    let (scenario, backend) = (plan.scenarios[0], &plan.backends[0]);
    if let Some(reason) = scenario.absent {
        return Err(BenchError::choice(format!("`{}`: {reason}", scenario.name)));
    }
    let place = Place::make(plan.place, this_program()?)?;
    let mut proxy = place.start(backend, scenario, &[])?;
    let data = place.folder.path("perf.data");
    // Idle connections have nothing to sample; all others are pushed as far as they go.
    let level = if scenario.levels.contains(&Level::Idle) { Level::Idle } else { Level::Saturation };
    let window = Window { level, rate: None, seconds: args.seconds + 1.0, warmup: plan.warmup };
    let mut within = |proxy: &Proxy| record(&perf, proxy, args.seconds, &data);
    cell::run(&place, (backend, scenario), &mut proxy, window, &mut within)?;
    // Read before the proxy ends: perf finds its symbols by its binary, which may be replaced by the next build.
    let flame = Flame::of_perf_script(&run_command(
        Command::new(&perf).args(["script", "-F", "comm,ip,sym", "-i"]).arg(&data),
    )?);
    proxy.stop();
    let text = flame.svg(&format!("{} under {}", backend.name, scenario.name));
    let write = || {
        args.out.parent().filter(|f| !f.as_os_str().is_empty()).map_or(Ok(()), fs::create_dir_all)?;
        fs::write(&args.out, text)
    };
    write().map_err(|e| BenchError::io(format!("write {}", args.out.display()), e))?;
    Ok(flame.samples())
}

fn record(perf: &Path, proxy: &Proxy, seconds: f64, data: &Path) -> Result<(), BenchError> {
    let processes: Vec<String> = proxy.family().iter().map(u32::to_string).collect();
    run_command(
        Command::new(perf)
            .args(["record", "-q", "-e", "cpu-clock", "-F", "1999", "-g", "-p", &processes.join(","), "-o"])
            .arg(data)
            .args(["--", "sleep", &seconds.to_string()]),
    )
    .map(|_| ())
}
