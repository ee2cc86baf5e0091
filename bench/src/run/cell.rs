//! One cell: load on a running proxy for a window, and what the proxy used meanwhile.
//!
//! **Invariant:** the samples are taken when the load generator says that its window begins and ends, never by our own guess.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::error::BenchError;
use crate::results::{Cell, Level, Load, Usage};
use crate::run::place::{Place, Proxy};
use crate::run::sample;
use crate::scenario::{Front, Protocol, Resume, Scenario, Traffic};
use crate::stage::Speaker;
use crate::stage::certs::SERVER_NAME;

/// How one window is driven.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// How hard.
    pub level: Level,
    /// Requests a second; None for as many as the connections carry.
    pub rate: Option<f64>,
    /// Seconds that count.
    pub seconds: f64,
    /// Seconds of load before.
    pub warmup: f64,
}

/// Runs one window. `within` is called when it has begun, and may take samples of its own; it has to be over before the window is.
///
/// # Errors
/// When the load generator or the proxy ends early, and at Ctrl-C.
pub fn run(
    place: &Place,
    (backend, scenario): (&Backend, &Scenario),
    proxy: &mut Proxy,
    window: Window,
    within: &mut dyn FnMut(&Proxy) -> Result<(), BenchError>,
) -> Result<Cell, BenchError> {
    let connections = if window.level == Level::Double { scenario.overload_connections } else { scenario.connections };
    let command = load_command(place, scenario, proxy, window, connections);
    if scenario.traffic == Traffic::Real {
        place.folder.warm(LOG_BYTES)?;
    }
    let mut load = Speaker::start("load", &command, &place.folder.path("load.log"))?;
    // Connections are opened and handshakes made before the window begins.
    let patience = Duration::from_secs_f64(window.warmup + window.seconds) + SETUP_PATIENCE;

    expect_line(&mut load, proxy, "measuring", patience)?;
    let before = Sample::take(place, proxy);
    let mut memory = None;
    if window.level == Level::Idle {
        // The connections are closed when the window ends.
        thread::sleep(Duration::from_secs_f64(window.seconds * 0.5));
        memory = Some(sample::memory(proxy.family()));
    }
    within(proxy)?;
    expect_line(&mut load, proxy, "measured", patience)?;
    let after = Sample::take(place, proxy);
    let (rss_bytes, pss_bytes) = memory.unwrap_or_else(|| sample::memory(proxy.family()));

    let result = load.line(patience)?.unwrap_or_default();
    let result: Load = serde_json::from_str(&result)
        .map_err(|_| BenchError::Load { output: format!("{result} {}", load.last_words()) })?;
    proxy.must_run()?;
    if result.requests == 0 && window.level != Level::Idle {
        return Err(BenchError::Unanswered { errors: format!("{:?}", result.errors), log: proxy.last_words() });
    }
    if proxy.memif.is_some() {
        // A port that is polled must not lose its peer: the proxy goes first, and the load generator holds on until we let it go.
        proxy.stop();
    }
    drop(load);
    Ok(Cell {
        scenario: scenario.name.to_owned(),
        backend: backend.name.clone(),
        round: 0,
        level: window.level,
        connections,
        load: result,
        usage: Usage { rss_bytes, pss_bytes, pss_before_bytes: proxy.pss_before, ..before.until(&after) },
    })
}

/// The load generator's command line for a window.
fn load_command(place: &Place, scenario: &Scenario, proxy: &Proxy, window: Window, connections: u64) -> Command {
    let mut command = place.peer_command(&place.program);
    command
        .args(["load", "--to", &proxy.listeners.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")])
        .args(["--connections", &connections.to_string()])
        .args(["--seconds", &window.seconds.to_string()])
        .args(["--warmup", &window.warmup.to_string()]);
    if let Some(rate) = window.rate {
        command.args(["--rate", &format!("{rate:.0}")]);
    }
    if scenario.requests_per_connection > 0 {
        command.args(["--requests-per-connection", &scenario.requests_per_connection.to_string()]);
    }
    match scenario.traffic {
        Traffic::Plain => {}
        Traffic::Real => {
            command.args(["--shape", "real"]);
        }
        Traffic::Body(bytes) => {
            command.args(["--path", &format!("/bytes/{bytes}")]);
        }
        Traffic::Idle => {
            command.args(["--mode", "idle"]);
        }
    }
    if let Protocol::Http2 { streams } = scenario.protocol {
        command.args(["--mode", "http2", "--streams", &streams.to_string()]);
    }
    if let Protocol::Bolt { calls } = scenario.protocol {
        command.args(["--mode", "bolt", "--body-bytes", "1024", "--streams", &calls.to_string()]);
    }
    if let Front::Ecdsa(resume) | Front::Rsa(resume) = scenario.front {
        let resume = if resume == Resume::Always { "always" } else { "never" };
        command.arg("--tls").arg("--ca").arg(place.authority());
        command.args(["--server-name", SERVER_NAME, "--resume", resume, "--tls-version", "1.3", "--tls-suite", SUITE]);
    }
    if let Some(memif) = &proxy.memif {
        command.arg("--memif").arg(&memif.socket).args(["--hold", "--memif-address", &memif.address]);
        command.args(["--origin-port", &memif.origin_port.to_string()]);
        if !memif.hugepages {
            command.arg("--no-huge");
        }
    }
    command
}

fn expect_line(load: &mut Speaker, proxy: &mut Proxy, wanted: &str, patience: Duration) -> Result<(), BenchError> {
    let said = load.line(patience)?;
    if said.as_deref() == Some(wanted) {
        return Ok(());
    }
    // Should the proxy have ended, that is the cause and the better message.
    proxy.must_run()?;
    Err(BenchError::Load { output: format!("{} {}", said.unwrap_or_default(), load.last_words()) })
}

/// What has been used so far.
struct Sample {
    at: Instant,
    cpu_ns: u64,
    proxy_idle_ns: u64,
    load_idle_ns: u64,
    busy_ns: Option<u64>,
}

impl Sample {
    fn take(place: &Place, proxy: &Proxy) -> Self {
        let at = Instant::now();
        Self {
            at,
            cpu_ns: sample::cpu_ns(proxy.family()),
            proxy_idle_ns: sample::core_idle_ns(place.proxy_core),
            load_idle_ns: sample::core_idle_ns(place.load_core),
            busy_ns: proxy.busy_ns(),
        }
    }

    fn until(&self, end: &Self) -> Usage {
        let window = end.at - self.at;
        let window_ns = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
        let used = |before: u64, after: u64| window_ns.saturating_sub(after.saturating_sub(before));
        Usage {
            seconds: window.as_secs_f64(),
            cpu_ns: end.cpu_ns.saturating_sub(self.cpu_ns),
            core_ns: used(self.proxy_idle_ns, end.proxy_idle_ns),
            load_core_ns: used(self.load_idle_ns, end.load_idle_ns),
            busy_ns: self.busy_ns.zip(end.busy_ns).map(|(before, after)| after.saturating_sub(before)),
            ..Usage::default()
        }
    }
}

/// More than any log of a window.
const LOG_BYTES: usize = 128 << 20;

/// The one suite that the client offers, so that all have to take it.
const SUITE: &str = "TLS13_AES_128_GCM_SHA256";

/// For opening 100,000 connections with TLS.
const SETUP_PATIENCE: Duration = Duration::from_secs(240);
