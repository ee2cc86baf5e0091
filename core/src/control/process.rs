//! The life of the process: from the first worker that listens to the last that ends, by signals.
//!
//! **Invariant:** every way out tells the workers to end; a second signal always ends at once.

use std::io;
use std::pin::{Pin, pin};

use tokio::signal::unix::{self, SignalKind};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_local;

use super::admin::State;
use super::log::LogKnobs;
use super::notify::{notify, watchdog_interval};
use super::reload::Reloads;
use crate::config::Config;
use crate::orders::{ListenError, Stop};
use crate::telemetry::log_file::{LogFile, Rotation};
use crate::telemetry::log_thread::LogQueue;

/// What the control thread tells the others.
pub struct Process {
    /// Whether the workers go on.
    pub stop: watch::Sender<Stop>,
    /// What the admin API says.
    pub state: watch::Sender<State>,
    /// The access logs.
    pub access_logs: LogQueue,
    /// The process's own log.
    pub log: LogKnobs,
    /// The reloader.
    pub reloads: Reloads,
    /// Starts a new process in our place and is ready when it serves, with its process id; None where the plane can't.
    pub successor: Option<Successor>,
}

/// Starts a new process in our place.
pub type Successor = Box<dyn Fn() -> Pin<Box<dyn Future<Output = io::Result<u32>>>>>;

impl Process {
    /// Waits until all `workers` listen, announces that, then waits for the end; says what went wrong. `ended` is ready when a worker has
    /// ended. The workers have been told to end when it returns.
    pub async fn serve(
        &self,
        workers: usize,
        ended: impl Future<Output = ()>,
        mut reports: mpsc::UnboundedReceiver<Result<(), ListenError>>,
        announce: impl FnOnce(),
    ) -> Option<String> {
        let mut ended = pin!(ended);
        let listening = async {
            for _ in 0..workers {
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
            () = &mut ended => Err(WORKER_ENDED.to_owned()),
        };
        if let Err(e) = listening {
            self.stop.send_replace(Stop::Now);
            return Some(e);
        }
        self.state.send_replace(State::Running);
        announce();
        // The main process may be another than the one that was started: we may have taken its place.
        notify(&format!("READY=1\nMAINPID={}", std::process::id()));
        if let Some(every) = watchdog_interval() {
            spawn_local(async move {
                let mut tick = tokio::time::interval(every);
                loop {
                    tick.tick().await;
                    notify("WATCHDOG=1");
                }
            });
        }
        tokio::select! {
            () = self.follow_signals() => None,
            () = &mut ended => {
                self.stop.send_replace(Stop::Now);
                Some(WORKER_ENDED.to_owned())
            }
        }
    }

    /// TERM and QUIT let what runs finish, INT does not; a second signal is always at once. HUP reloads, USR2 has a new process take our
    /// place, USR1 opens the logs again.
    async fn follow_signals(&self) {
        let Ok(mut signals) = Signals::new() else { return std::future::pending().await };
        loop {
            match signals.next().await {
                Signal::Interrupt => {
                    tracing::info!("interrupted: ending at once");
                    self.stop.send_replace(Stop::Now);
                    return;
                }
                Signal::Terminate => break,
                Signal::Reload => {
                    notify("RELOADING=1");
                    let reloads = self.reloads.clone();
                    spawn_local(async move {
                        // What went wrong is in the log.
                        let _ = reloads.reload("HUP").await;
                        notify("READY=1");
                    });
                }
                Signal::Upgrade => {
                    if self.hand_over().await {
                        break;
                    }
                }
                Signal::Reopen => {
                    self.log.reopen();
                    self.access_logs.reopen();
                    tracing::info!("the logs are opened again");
                }
            }
        }
        notify("STOPPING=1");
        tracing::info!("draining: no new connections, running requests finish within graceful_timeout");
        self.state.send_replace(State::GracefulStopping);
        self.stop.send_replace(Stop::Drain);
        let stop = self.stop.clone();
        spawn_local(async move {
            while !matches!(signals.next().await, Signal::Interrupt | Signal::Terminate) {}
            stop.send_replace(Stop::Now);
        });
    }

    /// Has a new process take our place; says whether it serves.
    async fn hand_over(&self) -> bool {
        let Some(successor) = &self.successor else {
            tracing::error!("USR2: this plane can't hand its sockets to a new process: stop it and start it again");
            return false;
        };
        tracing::info!("a new process is started, which takes our sockets over");
        self.state.send_replace(State::StartingNewServer);
        match successor().await {
            Ok(process) => {
                tracing::info!(process, "the new process serves");
                true
            }
            Err(error) => {
                tracing::error!(%error, "the new process was given up: this one goes on");
                self.state.send_replace(State::Running);
                false
            }
        }
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    Interrupt,
    Terminate,
    Reload,
    Upgrade,
    Reopen,
}

/// The signals that are heard, from one place, so that none is missed between two looks.
struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    quit: unix::Signal,
    reload: unix::Signal,
    upgrade: unix::Signal,
    reopen: unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: unix::signal(SignalKind::interrupt())?,
            terminate: unix::signal(SignalKind::terminate())?,
            quit: unix::signal(SignalKind::quit())?,
            reload: unix::signal(SignalKind::hangup())?,
            upgrade: unix::signal(SignalKind::user_defined2())?,
            reopen: unix::signal(SignalKind::user_defined1())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.quit.recv() => Signal::Terminate,
            _ = self.reload.recv() => Signal::Reload,
            _ = self.upgrade.recv() => Signal::Upgrade,
            _ = self.reopen.recv() => Signal::Reopen,
        }
    }
}

/// Ready when the process is told to end.
pub async fn terminated() {
    tokio::select! {
        () = signalled(SignalKind::terminate()) => {}
        () = signalled(SignalKind::interrupt()) => {}
        () = signalled(SignalKind::quit()) => {}
    }
}

/// Opens every access log of a configuration once, so that one that can't be written is told before the configuration is in force.
///
/// # Errors
/// The log that can't be opened, and why.
pub fn probe_access_logs(config: &Config) -> Result<(), (String, io::Error)> {
    for log in config.server.listeners.iter().flat_map(|l| &l.access_logs) {
        LogFile::open(&log.path, Rotation::from(&log.roller)).map_err(|e| (log.path.clone(), e))?;
    }
    Ok(())
}

/// Ready when this signal arrives.
async fn signalled(kind: SignalKind) {
    match unix::signal(kind) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}

/// A worker ends only when it is told to, or by a defect of ours.
const WORKER_ENDED: &str = "a worker ended by itself, which is a defect; the log before this may say more";
