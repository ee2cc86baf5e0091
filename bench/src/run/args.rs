//! The flags of `ferrogate-bench run`, and what they come to.
//!
//! **Invariant:** decides what is run; starts nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::backend::{self, Backend, Kind, Plane, Programs};
use crate::error::BenchError;
use crate::results::{Absent, Level};
use crate::run::counts::COUNTS_WINDOWS;
use crate::run::place::PlaceOptions;
use crate::scenario::{self, Scenario};

/// What to run.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Few scenarios, few and short rounds: under two minutes, for a first look.
    #[arg(long)]
    pub quick: bool,
    /// Only these scenarios; a name that ends in * stands for all that begin so.
    #[arg(long, value_delimiter = ',')]
    pub scenario: Vec<String>,
    /// Only these backends.
    #[arg(long, value_delimiter = ',')]
    pub backend: Vec<String>,
    /// Rounds of each cell; long cells have fewer. 7, or 3 with --quick.
    #[arg(long)]
    pub rounds: Option<usize>,
    /// Seconds of each window. 0.6, or 0.4 with --quick.
    #[arg(long)]
    pub seconds: Option<f64>,
    /// Seconds of load before each window. 0.2 otherwise.
    #[arg(long)]
    pub warmup: Option<f64>,
    /// How client and origin are reached.
    #[arg(long, value_enum, default_value_t = Wire::Veth)]
    pub wire: Wire,
    /// Where the results go: bench/results/DATE-COMMIT.jsonl otherwise.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// The gateway; the one beside this program otherwise.
    #[arg(long)]
    pub ferrogate: Option<PathBuf>,
    /// An Envoy to measure as well.
    #[arg(long)]
    pub envoy: Option<PathBuf>,
    /// A MOSN to measure as well.
    #[arg(long)]
    pub mosn: Option<PathBuf>,
    /// The core of the proxy.
    #[arg(long, default_value_t = 0)]
    pub proxy_core: usize,
    /// The core of client and origin.
    #[arg(long, default_value_t = 1)]
    pub load_core: usize,
    /// Received packets are worked on by the core of their receiver, as interrupts of a real card would be set.
    #[arg(long)]
    pub steer: bool,
    /// No pass for system calls and allocations.
    #[arg(long)]
    pub no_counts: bool,
}

/// How client and origin are reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Wire {
    #[default]
    /// Veth pairs into a network namespace; needs root.
    Veth,
    /// 127.0.0.1; without af_xdp and af_packet.
    Loopback,
}

impl Default for RunArgs {
    fn default() -> Self {
        Self {
            quick: false,
            scenario: Vec::new(),
            backend: Vec::new(),
            rounds: None,
            seconds: None,
            warmup: None,
            wire: Wire::default(),
            out: None,
            ferrogate: None,
            envoy: None,
            mosn: None,
            proxy_core: 0,
            load_core: 1,
            steer: false,
            no_counts: false,
        }
    }
}

/// What the flags come to.
#[derive(Clone, Debug)]
pub struct Plan {
    /// In order.
    pub scenarios: Vec<&'static Scenario>,
    /// In order.
    pub backends: Vec<Backend>,
    /// Backends that can't take part.
    pub absent: Vec<Absent>,
    /// Rounds of a scenario whose cells are short.
    pub rounds: usize,
    /// Of a window.
    pub seconds: f64,
    /// Of load before.
    pub warmup: f64,
    /// Whether system calls and allocations are counted.
    pub counts: bool,
    /// Where it plays.
    pub place: PlaceOptions,
}

impl RunArgs {
    /// What to run.
    ///
    /// # Errors
    /// For a scenario or backend that there is none of, and a missing gateway.
    pub fn plan(&self) -> Result<Plan, BenchError> {
        let scenarios = if !self.scenario.is_empty() {
            scenario::named(&self.scenario)
                .map_err(|name| BenchError::choice(no_such("scenario", &name, &scenario_names())))?
        } else if self.quick {
            scenario::all().iter().filter(|s| QUICK_SCENARIOS.contains(&s.name)).collect()
        } else {
            scenario::all().iter().collect()
        };
        let programs = Programs { ferrogate: self.gateway()?, envoy: self.envoy.clone(), mosn: self.mosn.clone() };
        let (backends, absent) = self.backends(&programs)?;
        let dpdk = backends.iter().any(Backend::polls);
        Ok(Plan {
            scenarios,
            backends,
            absent,
            rounds: self.rounds.unwrap_or(if self.quick { 3 } else { 7 }).max(1),
            seconds: self.seconds.unwrap_or(if self.quick { 0.4 } else { 0.6 }),
            warmup: self.warmup.unwrap_or(0.2),
            counts: !self.no_counts && !self.quick,
            place: PlaceOptions {
                loopback: self.wire == Wire::Loopback,
                steer: self.steer,
                proxy_core: self.proxy_core,
                load_core: self.load_core,
                dpdk,
            },
        })
    }

    fn backends(&self, programs: &Programs) -> Result<(Vec<Backend>, Vec<Absent>), BenchError> {
        let all = backend::all(programs);
        let names: Vec<&str> = all.iter().map(|(n, _)| n.as_str()).collect();
        if let Some(name) = self.backend.iter().find(|b| !names.contains(&b.as_str())) {
            return Err(BenchError::choice(no_such("backend", name, &names)));
        }
        let (mut backends, mut absent) = (Vec::new(), Vec::new());
        for (name, backend) in all.iter().filter(|(n, _)| self.backend.is_empty() || self.backend.contains(n)) {
            match backend {
                Ok(b) if self.needs_veth(b) => absent.push(Absent {
                    scenario: String::new(),
                    backend: name.clone(),
                    reason: "its packet port needs --wire veth".to_owned(),
                }),
                Ok(b) if self.quick && self.backend.is_empty() && b.kind == Kind::Ferrogate(Plane::AfPacket) => {}
                Ok(b) => backends.push(b.clone()),
                Err(reason) => {
                    absent.push(Absent { scenario: String::new(), backend: name.clone(), reason: reason.clone() });
                }
            }
        }
        if backends.is_empty() {
            return Err(BenchError::choice("no backend is left to run"));
        }
        Ok((backends, absent))
    }

    fn needs_veth(&self, backend: &Backend) -> bool {
        self.wire == Wire::Loopback && matches!(backend.kind, Kind::Ferrogate(Plane::AfXdp | Plane::AfPacket))
    }

    /// The gateway's binary: given, or beside this program.
    fn gateway(&self) -> Result<PathBuf, BenchError> {
        let beside = || std::env::current_exe().ok().map(|p| p.with_file_name("ferrogate"));
        let path = self.ferrogate.clone().or_else(beside).unwrap_or_default();
        if path.is_file() {
            return path.canonicalize().map_err(|e| BenchError::io(format!("find {}", path.display()), e));
        }
        Err(BenchError::choice(format!(
            "no gateway at {}; build it (cargo build --release) or name it by --ferrogate PATH",
            path.display()
        )))
    }
}

impl Plan {
    /// How long one window takes with all around it.
    #[must_use]
    pub fn window_time(&self, scenario: &Scenario) -> Duration {
        // About what client and proxy need to open so many connections, on a small machine.
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let setup =
            scenario.connections as f64 / if scenario.front == scenario::Front::Clear { 20_000.0 } else { 3_000.0 };
        Duration::from_secs_f64(self.seconds + self.warmup + OVERHEAD_SECONDS + setup)
    }

    /// How long a scenario takes for all that take part.
    #[must_use]
    pub fn time(&self, scenario: &Scenario) -> Duration {
        let players = self.backends.iter().filter(|b| b.plays(scenario)).count();
        let probes = usize::from(scenario.levels.contains(&Level::Fixed));
        let counts = if self.counts { scenario.counted().count() * COUNTS_WINDOWS as usize } else { 0 };
        let windows = players * (scenario.levels.len() * scenario.rounds(self.rounds) + probes + counts);
        self.window_time(scenario) * u32::try_from(windows).unwrap_or(u32::MAX)
    }

    /// How long all of it takes.
    #[must_use]
    pub fn total_time(&self) -> Duration {
        self.scenarios.iter().map(|s| self.time(s)).sum()
    }
}

/// Where results go by default: named by the day and the commit.
#[must_use]
pub fn default_out(started: &str, commit: &str) -> PathBuf {
    let day = started.split('T').next().unwrap_or(started);
    let folder = Path::new("bench/results");
    let free = |name: &String| !folder.join(name).exists();
    let first = format!("{day}-{commit}.jsonl");
    let name = std::iter::once(first).chain((2..).map(|n| format!("{day}-{commit}-{n}.jsonl"))).find(free);
    folder.join(name.expect("an endless list of names has a free one"))
}

fn scenario_names() -> Vec<&'static str> {
    scenario::all().iter().map(|s| s.name).collect()
}

fn no_such(what: &str, name: &str, names: &[&str]) -> String {
    format!("there is no {what} `{name}`; there are: {}", names.join(", "))
}

const QUICK_SCENARIOS: [&str; 3] = ["h1-keepalive", "https-keepalive", "tls-full-ecdsa-p256"];

/// Start and end of a proxy, shared by the windows of its turn, and of the load generator.
const OVERHEAD_SECONDS: f64 = 0.25;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: RunArgs,
    }

    fn plan(flags: &[&str]) -> Result<Plan, BenchError> {
        let me = std::env::current_exe().unwrap();
        let words = ["run", "--ferrogate", me.to_str().unwrap()];
        Line::parse_from(words.iter().chain(flags)).args.plan()
    }

    #[test]
    fn flags_choose_scenarios_and_backends() {
        let flags = ["--scenario", "tls-*,h1-close", "--backend", "ferrogate-kernel,ferrogate-memif", "--rounds", "9"];
        let plan = plan(&flags).unwrap();
        let names: Vec<_> = plan.scenarios.iter().map(|s| s.name).collect();
        assert_eq!(names, ["tls-full-rsa2048", "tls-full-ecdsa-p256", "tls-resumed", "tls-to-origin", "h1-close"]);
        assert_eq!(plan.backends.len(), 2);
        assert!(plan.place.dpdk && plan.rounds == 9 && plan.counts);
    }

    #[test]
    fn what_there_is_none_of_is_refused_with_what_there_is() {
        let error = plan(&["--scenario", "h9"]).unwrap_err().to_string();
        assert!(error.contains("h9") && error.contains("h1-keepalive"), "{error}");
        let error = plan(&["--backend", "apache"]).unwrap_err().to_string();
        assert!(error.contains("apache") && error.contains("nginx"), "{error}");
    }

    #[test]
    fn loopback_has_no_packet_ports_and_says_so() {
        let plan = plan(&["--wire", "loopback", "--backend", "ferrogate-kernel,ferrogate-af_xdp"]).unwrap();
        assert_eq!(plan.backends.len(), 1);
        assert_eq!(plan.absent[0].backend, "ferrogate-af_xdp");
    }

    #[test]
    fn times_keep_their_promises() {
        let peers = ["ferrogate-kernel,ferrogate-af_xdp,ferrogate-af_packet,ferrogate-memif"];
        let mut full = plan(&["--backend", peers[0]]).unwrap();
        let mut quick = plan(&["--quick", "--backend", "ferrogate-kernel,ferrogate-af_xdp,ferrogate-memif"]).unwrap();
        // Two peers beside, whether they are installed here or not.
        for plan in [&mut full, &mut quick] {
            let peer = Backend { name: "peer".to_owned(), kind: Kind::Haproxy, ..plan.backends[0].clone() };
            plan.backends.extend([peer.clone(), peer]);
        }
        assert!(quick.total_time() < Duration::from_secs(110), "{:?}", quick.total_time());
        assert!(full.total_time() < Duration::from_secs(34 * 60), "{:?}", full.total_time());
    }
}
