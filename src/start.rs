//! `ferrogate start`: from a file to running workers, and from a signal to the end.
//!
//! **Invariant:** nothing listens before the whole file is known to be good; the exit code says how it ended.

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use dataplane_kernel::KernelTransport;
use ferrogate_core::config::schema::Config;
use ferrogate_core::control::admin::{Admin, PlaneReport, State};
use ferrogate_core::control::demo;
use ferrogate_core::control::dns::Names;
use ferrogate_core::control::log::{Log, LogKnobs, lost_lines};
use ferrogate_core::control::process::{self, Process};
use ferrogate_core::net::Address;
use ferrogate_core::snapshot::Snapshot;
use ferrogate_core::telemetry::log_thread::{LogQueue, LogThread};
use ferrogate_core::telemetry::metrics::WorkerCounters;
use ferrogate_core::worker::{ListenError, Orders, Stop};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};
use tokio::task::{spawn_blocking, spawn_local};

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
    // Both are held to the end: dropped, they write what they still hold. Their threads start before a plane pins this one.
    let log = match Log::start(&config.server, args.log_level.as_deref()) {
        Ok(log) => log,
        Err(e) => return fail(&format!("the log can't be opened: {e}")),
    };
    if let Err((path, e)) = process::probe_access_logs(&config) {
        return fail(&format!("the access log {path:?} can't be opened: {e}"));
    }
    let access_logs = match LogThread::start() {
        Ok(thread) => thread,
        Err(e) => return fail(&format!("the thread of the access logs can't be started: {e}")),
    };
    let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime,
        Err(e) => return fail(&format!("the control thread's runtime can't start: {e}")),
    };
    runtime.block_on(run(&config, snapshot, args.demo, &log, &access_logs))
}

async fn run(config: &Config, snapshot: Snapshot, demo: bool, log: &Log, access_logs: &LogThread) -> ExitCode {
    let workers_max = plane::workers_max(&config.dataplane);
    let counters: Arc<[_]> = (0..workers_max).map(|_| Arc::new(WorkerCounters::default())).collect();
    // Held so that the workers see an open channel.
    let (_snapshot, snapshot) = watch::channel(Arc::new(snapshot));
    let (stop_to, stop) = watch::channel(Stop::No);
    let (started, reports) = mpsc::unbounded_channel();
    let conns_max = conns_max(config, workers_max);
    let logs = access_logs.queue();
    let orders = Orders { snapshot, stop, started, counters: Arc::clone(&counters), conns_max, logs };
    let (state, state_rx) = watch::channel(State::Starting);
    let process = Process { stop: stop_to, state, access_logs: access_logs.queue(), log: log.knobs() };
    // Before the workers: what can't start must not have taken traffic from what runs already.
    let report: Arc<OnceLock<plane::Report>> = Arc::default();
    let snapshot = orders.snapshot.clone();
    let admin = Admin::new(counters, snapshot, state_rx, reporting(&report, log.knobs(), access_logs.queue()));
    let admin = match serve_admin(admin, config.admin.as_ref()).await {
        Ok(admin) => admin,
        Err(e) => return fail(&e.to_string()),
    };
    if demo {
        demo::start_origins(config, &KernelTransport::new());
    }
    // Held to the end: dropped, nothing is looked up any more.
    let names = Names::default();
    names.follow(&orders.snapshot.borrow());
    names.settled(config.limits.dns_settle_timeout).await;
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
    let failure =
        process.serve(running.workers(), running.ended(), reports, || announce(config, admin.as_ref(), demo)).await;
    let ended = spawn_blocking(move || running.join()).await;
    match (failure, ended) {
        (None, Ok(Ok(()))) => ExitCode::SUCCESS,
        (Some(e), _) => fail(&e),
        (None, Ok(Err(e))) => fail(&format!("a worker failed: {e}")),
        (None, Err(e)) => fail(&format!("the workers can't be waited for: {e}")),
    }
}

/// What the plane says of itself once there is one, and what the logs have lost.
fn reporting(report: &Arc<OnceLock<plane::Report>>, log: LogKnobs, access_logs: LogQueue) -> plane::Report {
    let report = Arc::clone(report);
    Arc::new(move || {
        let mut shown = report.get().map_or_else(PlaneReport::default, |report| report());
        shown.numbers.extend(lost_lines(&log, &access_logs));
        shown
    })
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
