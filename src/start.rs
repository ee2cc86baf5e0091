//! `ferrogate start`: from a file to running workers, and from a signal to the end.
//!
//! **Invariant:** nothing listens before the whole file is known to be good; the exit code says how it ended.

use std::process::ExitCode;
use std::sync::Arc;

use dataplane_kernel::KernelTransport;
use ferrogate_core::config::dataplane::Plane;
use ferrogate_core::config::schema::Config;
use ferrogate_core::control::admin::{Admin, State};
use ferrogate_core::control::demo;
use ferrogate_core::net::Address;
use ferrogate_core::snapshot::Snapshot;
use ferrogate_core::telemetry::metrics::WorkerCounters;
use ferrogate_core::worker::{ListenError, Orders, Stop};
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{spawn_blocking, spawn_local};

use crate::{build, cli, fail, load, logging, plane};

/// Starts the gateway and stays until it is told to stop.
pub(crate) fn start(args: &cli::Start) -> ExitCode {
    let Some(config) = load(&args.config, false) else { return ExitCode::FAILURE };
    if args.demo
        && let Err(e) = demo::make_certificates(&config)
    {
        return fail(&format!("the demo's certificate can't be written: {e}"));
    }
    let Some(snapshot) = build(&config) else { return ExitCode::FAILURE };
    if let Err(e) = logging::init(&config.server, args.log_level.as_deref()) {
        return fail(&format!("the log can't be opened: {e}"));
    }
    let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime,
        Err(e) => return fail(&format!("the control thread's runtime can't start: {e}")),
    };
    runtime.block_on(run(&config, snapshot, args.demo))
}

/// Ready when the process is told to end.
pub(crate) async fn terminated() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// What the control thread keeps to itself.
struct Control {
    stop: watch::Sender<Stop>,
    state: watch::Sender<State>,
    // Held so that the workers see an open channel; a reload will send on it.
    _snapshot: watch::Sender<Arc<Snapshot>>,
}

async fn run(config: &Config, snapshot: Snapshot, demo: bool) -> ExitCode {
    let clusters: Arc<[String]> = snapshot.clusters.iter().map(|c| c.config.name.clone()).collect();
    let workers = plane::worker_count(&config.dataplane);
    let counters: Arc<[_]> = (0..workers).map(|_| Arc::new(WorkerCounters::new(clusters.len()))).collect();
    let (snapshot_tx, snapshot) = watch::channel(Arc::new(snapshot));
    let (stop_tx, stop) = watch::channel(Stop::No);
    let (started, mut reports) = mpsc::unbounded_channel();
    let conns_max = conns_max(config, workers);
    let orders = Orders { snapshot, stop, started, counters: Arc::clone(&counters), conns_max };
    if demo {
        demo::start_origins(config, &KernelTransport::new());
    }
    let (running, report) = match plane::start(&config.dataplane, orders) {
        Ok(started) => started,
        Err(e) => {
            eprintln!("ferrogate: {e}");
            return e.exit_code();
        }
    };
    let (state, state_rx) = watch::channel(State::Starting);
    let control = Control { stop: stop_tx, state, _snapshot: snapshot_tx };
    let admin = Admin::new(counters, clusters, state_rx, report);
    let up = match wait_for_workers(&mut reports, workers).await {
        Ok(()) => serve_admin(admin, config.admin.as_ref()).await,
        Err(e) => Err(e),
    };
    let failure = match up {
        Ok(admin) => {
            control.state.send_replace(State::Running);
            announce(config, admin.as_ref(), demo);
            control.wait_for_the_end().await;
            None
        }
        Err(e) => {
            control.stop.send_replace(Stop::Now);
            Some(e)
        }
    };
    let ended = spawn_blocking(move || running.join()).await;
    match (failure, ended) {
        (None, Ok(Ok(()))) => ExitCode::SUCCESS,
        (Some(e), _) => fail(&e.to_string()),
        (None, Ok(Err(e))) => fail(&format!("a worker failed: {e}")),
        (None, Err(e)) => fail(&format!("the workers can't be waited for: {e}")),
    }
}

impl Control {
    /// TERM and QUIT let what runs finish, INT does not; a second signal is always at once.
    async fn wait_for_the_end(&self) {
        let quit = async {
            match signal(SignalKind::quit()) {
                Ok(mut quit) => quit.recv().await,
                Err(_) => std::future::pending().await,
            }
        };
        let term = async {
            match signal(SignalKind::terminate()) {
                Ok(mut term) => term.recv().await,
                Err(_) => std::future::pending().await,
            }
        };
        let int = async {
            match signal(SignalKind::interrupt()) {
                Ok(mut int) => int.recv().await,
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = int => {
                tracing::info!("interrupted: ending at once");
                self.stop.send_replace(Stop::Now);
                return;
            }
            _ = term => {}
            _ = quit => {}
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

async fn wait_for_workers(
    reports: &mut mpsc::UnboundedReceiver<Result<(), ListenError>>,
    workers: usize,
) -> Result<(), ListenError> {
    for _ in 0..workers {
        // A worker that ended without a word has been reported by its plane.
        match reports.recv().await {
            Some(report) => report?,
            None => break,
        }
    }
    Ok(())
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
    println!("\nFerrogate is up; Ctrl-C ends it. To try:");
    for listener in &config.server.listeners {
        for address in reachable(config, &listener.address) {
            match listener.tls.first().and_then(|t| t.cert_chain.as_ref()) {
                Some(cert) => println!("  curl --cacert {cert:?} https://{address}/"),
                None => println!("  curl http://{address}/"),
            }
        }
    }
    if let Some(admin) = admin {
        println!("The admin API: http://{admin}/\n");
    }
}

/// Where clients reach a listener: on the DPDK plane at every address of the ports, from their network.
fn reachable(config: &Config, listener: &Address) -> Vec<Address> {
    match (config.dataplane.plane, listener.inet()) {
        (Plane::Dpdk, Some(inet)) => {
            let ports = config.dataplane.dpdk.ports.iter();
            ports.map(|port| Address::Inet((port.address, inet.port()).into())).collect()
        }
        _ => vec![listener.clone()],
    }
}
