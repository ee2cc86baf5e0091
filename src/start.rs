//! `ferrogate start`: from a file to running workers, and from a signal to the end.
//!
//! **Invariant:** nothing listens before the whole file is known to be good; the exit code says how it ended.

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use dataplane_kernel::KernelTransport;
use ferrogate_core::config::schema::Config;
use ferrogate_core::control::admin::{Admin, Number, PlaneReport, State};
use ferrogate_core::control::demo;
use ferrogate_core::net::Address;
use ferrogate_core::snapshot::Snapshot;
use ferrogate_core::telemetry::metrics::WorkerCounters;
use ferrogate_core::worker::{ListenError, Orders, Stop};
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{spawn_blocking, spawn_local};

use crate::logging::{self, Log};
use crate::{build, cli, fail, load, plane};

/// Starts the gateway and stays until it is told to stop.
pub(crate) fn start(args: &cli::Start) -> ExitCode {
    let Some(config) = load(&args.config, false) else { return ExitCode::FAILURE };
    if args.demo
        && let Err(e) = demo::make_certificates(&config)
    {
        return fail(&format!("the demo's certificate can't be written: {e}"));
    }
    let Some(snapshot) = build(&config) else { return ExitCode::FAILURE };
    // Held to the end: dropped, it writes what it still holds.
    let log = match logging::init(&config.server, args.log_level.as_deref()) {
        Ok(log) => log,
        Err(e) => return fail(&format!("the log can't be opened: {e}")),
    };
    let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime,
        Err(e) => return fail(&format!("the control thread's runtime can't start: {e}")),
    };
    runtime.block_on(run(&config, snapshot, args.demo, &log))
}

/// Ready when the process is told to end.
pub(crate) async fn terminated() {
    tokio::select! {
        () = signalled(SignalKind::terminate()) => {}
        () = signalled(SignalKind::interrupt()) => {}
        () = signalled(SignalKind::quit()) => {}
    }
}

/// What the control thread keeps to itself.
struct Control {
    stop: watch::Sender<Stop>,
    state: watch::Sender<State>,
    // Held so that the workers see an open channel; a reload will send on it.
    _snapshot: watch::Sender<Arc<Snapshot>>,
}

async fn run(config: &Config, snapshot: Snapshot, demo: bool, log: &Log) -> ExitCode {
    let workers_max = plane::workers_max(&config.dataplane);
    let counters: Arc<[_]> = (0..workers_max).map(|_| Arc::new(WorkerCounters::default())).collect();
    let (snapshot_tx, snapshot) = watch::channel(Arc::new(snapshot));
    let (stop_tx, stop) = watch::channel(Stop::No);
    let (started, reports) = mpsc::unbounded_channel();
    let conns_max = conns_max(config, workers_max);
    let orders = Orders { snapshot, stop, started, counters: Arc::clone(&counters), conns_max };
    let (state, state_rx) = watch::channel(State::Starting);
    let control = Control { stop: stop_tx, state, _snapshot: snapshot_tx };
    // Before the workers: what can't start must not have taken traffic from what runs already.
    let report: Arc<OnceLock<plane::Report>> = Arc::default();
    let admin = Admin::new(counters, orders.snapshot.clone(), state_rx, reporting(&report, log));
    let admin = match serve_admin(admin, config.admin.as_ref()).await {
        Ok(admin) => admin,
        Err(e) => return fail(&e.to_string()),
    };
    if demo {
        demo::start_origins(config, &KernelTransport::new());
    }
    let running = match plane::start(&config.dataplane, orders) {
        Ok((running, plane_report)) => {
            // Set once: this is the only place.
            let _ = report.set(plane_report);
            running
        }
        Err(e) => {
            eprintln!("ferrogate: {e}");
            return e.exit_code();
        }
    };
    let failure = control.serve(&running, reports, || announce(config, admin.as_ref(), demo)).await;
    let ended = spawn_blocking(move || running.join()).await;
    match (failure, ended) {
        (None, Ok(Ok(()))) => ExitCode::SUCCESS,
        (Some(e), _) => fail(&e),
        (None, Ok(Err(e))) => fail(&format!("a worker failed: {e}")),
        (None, Err(e)) => fail(&format!("the workers can't be waited for: {e}")),
    }
}

/// What the plane says of itself once there is one, and what the log has dropped.
fn reporting(report: &Arc<OnceLock<plane::Report>>, log: &Log) -> plane::Report {
    let (report, dropped) = (Arc::clone(report), log.dropped.clone());
    Arc::new(move || {
        let mut shown = report.get().map_or_else(PlaneReport::default, |report| report());
        shown.numbers.push(Number {
            name: "ferrogate_log_lines_dropped",
            help: "Log lines dropped because the writer was behind",
            grows: true,
            labels: Vec::new(),
            value: dropped.dropped_lines() as u64,
        });
        shown
    })
}

impl Control {
    /// Waits until the workers listen, then for the end; says what went wrong. The workers have been told to end when it returns.
    async fn serve(
        &self,
        running: &plane::Running,
        mut reports: mpsc::UnboundedReceiver<Result<(), ListenError>>,
        announce: impl FnOnce(),
    ) -> Option<String> {
        let listening = async {
            for _ in 0..running.workers() {
                match reports.recv().await {
                    Some(report) => report.map_err(|e| e.to_string())?,
                    None => break,
                }
            }
            Ok(())
        };
        let listening = tokio::select! {
            // What a worker reported says more than that it has ended.
            biased;
            listening = listening => listening,
            () = running.ended() => Err(WORKER_ENDED.to_owned()),
        };
        if let Err(e) = listening {
            self.stop.send_replace(Stop::Now);
            return Some(e);
        }
        self.state.send_replace(State::Running);
        announce();
        tokio::select! {
            () = self.wait_for_the_end() => None,
            () = running.ended() => {
                self.stop.send_replace(Stop::Now);
                Some(WORKER_ENDED.to_owned())
            }
        }
    }

    /// TERM and QUIT let what runs finish, INT does not; a second signal is always at once.
    async fn wait_for_the_end(&self) {
        tokio::select! {
            () = signalled(SignalKind::interrupt()) => {
                tracing::info!("interrupted: ending at once");
                self.stop.send_replace(Stop::Now);
                return;
            }
            () = signalled(SignalKind::terminate()) => {}
            () = signalled(SignalKind::quit()) => {}
        }
        tracing::info!("draining: no new connections, running requests finish within graceful_timeout");
        self.state.send_replace(State::GracefulStopping);
        self.stop.send_replace(Stop::Drain);
        let stop = self.stop.clone();
        spawn_local(async move {
            terminated().await;
            stop.send_replace(Stop::Now);
        });
    }
}

/// Ready when this signal arrives.
async fn signalled(kind: SignalKind) {
    match signal(kind) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}

async fn serve_admin(admin: Admin, address: Option<&Address>) -> Result<Option<Address>, ListenError> {
    let Some(address) = address else { return Ok(None) };
    match admin.listen(KernelTransport::new(), address).await {
        Ok((bound, serve)) => {
            spawn_local(serve);
            Ok(Some(bound))
        }
        Err(error) => Err(ListenError { listener: "admin".into(), address: address.clone(), error }),
    }
}

/// Downstream connections of one worker: what the file says, else three quarters of the descriptors that the process may open, shared
/// out; the rest is for connections to origins.
fn conns_max(config: &Config, workers: usize) -> usize {
    match config.limits.downstream_conns_max {
        0 => (dataplane_kernel::open_files_max() * 3 / 4 / workers).max(1),
        n => n,
    }
}

fn announce(config: &Config, admin: Option<&Address>, demo: bool) {
    for listener in config.server.listeners.iter().filter(|l| l.bind_port) {
        tracing::info!(listener = %listener.name, address = %listener.address, tls = !listener.tls.is_empty(), "listening");
    }
    if let Some(admin) = admin {
        tracing::info!(address = %admin, "admin API");
    }
    if !demo {
        return;
    }
    demo::print_what_to_try(config, admin);
}

/// A worker ends only when it is told to, or by a defect of ours.
const WORKER_ENDED: &str = "a worker ended by itself, which is a defect; the log before this may say more";
