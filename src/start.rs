//! `ferrogate start`: from a file to running workers, and from a signal to the end.
//!
//! **Invariant:** nothing listens before the whole file is known to be good; the exit code says how it ended.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use dataplane_kernel::handover::{self, Predecessor};
use dataplane_kernel::{KernelTransport, Sockets};
use ferrogate_core::config::schema::Config;
use ferrogate_core::control::admin::{Admin, Number, PlaneReport, State};
use ferrogate_core::control::demo;
use ferrogate_core::control::dns::Names;
use ferrogate_core::control::log::{Log, LogKnobs, lost_lines};
use ferrogate_core::control::pid_file::PidFile;
use ferrogate_core::control::process::{self, Process, Successor};
use ferrogate_core::control::reload::{Reloader, Reloads};
use ferrogate_core::control::review::Review;
use ferrogate_core::control::watchdog::watch_over;
use ferrogate_core::net::Address;
use ferrogate_core::snapshot::Snapshot;
use ferrogate_core::telemetry::log_thread::{LogQueue, LogThread};
use ferrogate_core::telemetry::metrics::WorkerCounters;
use ferrogate_core::worker::{ListenError, Orders, Stop};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinError, spawn_blocking, spawn_local};

use crate::{cli, fail, plane};

/// Starts the gateway and stays until it is told to stop.
pub(crate) fn start(args: &cli::Start) -> ExitCode {
    if args.demo
        && let Ok((config, _)) = Config::load(&args.config)
        && let Err(e) = demo::make_certificates(&config)
    {
        return fail(&format!("the demo's certificate can't be written: {e}"));
    }
    // Where an old process waits for us to take its place, it notices by our end that we don't.
    let (sockets, predecessor) = match handover::take_over() {
        Ok(taken) => taken.map_or_else(Default::default, |(sockets, from)| (sockets, Some(from))),
        Err(e) => return fail(&format!("the old process's sockets can't be taken over: {e}")),
    };
    let review = Review::of(&args.config);
    review.print(false);
    let Some((config, snapshot)) = review.good else { return ExitCode::FAILURE };
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
    let (sender, snapshot) = watch::channel(Arc::new(snapshot));
    let reloader = Reloader::new(&args.config, review.document, review.certificates, sender, log.knobs());
    let ended =
        runtime.block_on(run(&config, (snapshot, reloader), args.demo, (&log, &access_logs), (sockets, predecessor)));
    // What still runs there is not waited for.
    runtime.shutdown_background();
    ended
}

async fn run(
    config: &Config,
    (snapshot, (reloader, reloads)): (watch::Receiver<Arc<Snapshot>>, (Reloader, Reloads)),
    demo: bool,
    (log, access_logs): (&Log, &LogThread),
    (sockets, predecessor): (Sockets, Option<Predecessor>),
) -> ExitCode {
    let workers_max = plane::workers_max(&config.dataplane);
    let counters: Arc<[_]> = (0..workers_max).map(|_| Arc::new(WorkerCounters::default())).collect();
    let (stop_to, stop) = watch::channel(Stop::No);
    let (started, reports) = mpsc::unbounded_channel();
    let watchdog = watch_over(Arc::clone(&counters), snapshot.clone());
    let orders = Orders {
        snapshot: snapshot.clone(),
        stop,
        started,
        counters: Arc::clone(&counters),
        conns_max: conns_max(workers_max),
        memory_bytes_max: memory_bytes_max(workers_max),
        logs: access_logs.queue(),
    };
    let (access_logs, log) = (access_logs.queue(), log.knobs());
    let mut process = Process {
        stop: stop_to,
        state: watch::Sender::new(State::Starting),
        access_logs: access_logs.clone(),
        log: log.clone(),
        reloads: reloads.clone(),
        drain: Arc::default(),
        successor: None,
    };
    // Before the workers: what can't start must not have taken traffic from what runs already.
    let report: Arc<OnceLock<plane::Report>> = Arc::default();
    let reporting = reporting(&report, snapshot.clone(), (log, access_logs), reloads);
    let admin = Admin::new(counters, snapshot, reporting, &process);
    let (admin, admin_tasks) = match serve_admin(&admin, config, &sockets).await {
        Ok(serving) => serving,
        Err(e) => return fail(&e.to_string()),
    };
    if demo {
        demo::start_origins(config, &KernelTransport::new());
    }
    let names = Names::of(&orders.snapshot).await;
    let running = match plane::start(&config.dataplane, orders, &sockets) {
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
    spawn_local(watchdog);
    spawn_local(reloader.serve(running.probe(), names));
    process.successor = running.hands_over().then(|| successor(&sockets, admin_tasks)).flatten();
    let mut pid_file = None;
    let announce = || {
        announce(config, admin.as_ref(), demo);
        pid_file = write_pid_file(config.pid_file.as_deref());
        sockets.close_unused();
        if let Some(predecessor) = predecessor {
            predecessor.ready();
        }
    };
    let failure = process.serve(running.workers(), running.ended(), reports, announce).await;
    let ended = spawn_blocking(move || running.join()).await;
    exit_code(failure, ended)
}

/// What a run that has ended came to: what made it end, and how its workers did.
fn exit_code(failure: Option<String>, ended: Result<io::Result<()>, JoinError>) -> ExitCode {
    match (failure, ended) {
        (None, Ok(Ok(()))) => ExitCode::SUCCESS,
        (Some(e), _) => fail(&e),
        (None, Ok(Err(e))) => fail(&format!("a worker failed: {e}")),
        (None, Err(e)) => fail(&format!("the workers can't be waited for: {e}")),
    }
}

/// What the plane says of itself once there is one, what the filters count, how reloads went, and what the logs have lost.
fn reporting(
    report: &Arc<OnceLock<plane::Report>>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    (log, access_logs): (LogKnobs, LogQueue),
    reloads: Reloads,
) -> plane::Report {
    let report = Arc::clone(report);
    Arc::new(move || {
        let mut shown = report.get().map_or_else(PlaneReport::default, |report| report());
        shown.numbers.extend(Number::of_filters(&snapshot.borrow()));
        shown.numbers.extend(lost_lines(&log, &access_logs).into_iter().chain(reloads.numbers()));
        shown
    })
}

/// How a new process takes our place: it is the program that we were started from, whatever that is by then.
fn successor(sockets: &Sockets, admin: Vec<AbortHandle>) -> Option<Successor> {
    let (program, sockets) = (std::env::current_exe().ok()?, sockets.clone());
    Some(Box::new(move || {
        let (program, sockets, admin) = (program.clone(), sockets.clone(), admin.clone());
        Box::pin(async move {
            let id = handover::start_successor(&program, &sockets).await?;
            // What comes to the admin API from now on is for the new process.
            admin.iter().for_each(AbortHandle::abort);
            Ok(id)
        })
    }))
}

fn write_pid_file(path: Option<&Path>) -> Option<PidFile> {
    let path = path?;
    let written = PidFile::write(path).inspect_err(|error| {
        tracing::error!(path = %path.display(), %error, "the process id can't be written");
    });
    written.ok()
}

/// Serves the admin API and the sinks of the metrics; where the API listens, and the tasks.
async fn serve_admin(
    admin: &Admin,
    config: &Config,
    sockets: &Sockets,
) -> Result<(Option<Address>, Vec<AbortHandle>), ListenError> {
    let (mut at, mut tasks) = (None, Vec::new());
    let api = config.admin.iter().map(|address| (admin.clone(), address));
    let sinks = config.metrics_sinks.iter().map(|sink| (admin.only_metrics(&sink.path), &sink.address));
    for (service, address) in api.chain(sinks) {
        match service.listen(KernelTransport::with_sockets(sockets.clone(), 0, 1), address).await {
            Ok((bound, serve)) => {
                at = at.or(Some(bound).filter(|_| config.admin.is_some()));
                tasks.push(spawn_local(serve).abort_handle());
            }
            Err(error) => return Err(ListenError { listener: "admin".into(), address: address.clone(), error }),
        }
    }
    Ok((at, tasks))
}

/// Downstream connections of one worker where the file does not say: three quarters of the descriptors that the process may open, shared
/// out; the rest is for connections to origins.
fn conns_max(workers: usize) -> usize {
    (dataplane_kernel::open_files_max() * 3 / 4 / workers).max(1)
}

/// Memory of one worker: half of what the process may use, shared out; the rest is for what is not counted, and for the kernel's buffers.
fn memory_bytes_max(workers: usize) -> usize {
    usize::try_from(dataplane_kernel::memory_bytes()).unwrap_or(usize::MAX) / 2 / workers
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
