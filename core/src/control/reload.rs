//! Reloading: the file is read and a generation made of it off the workers, and put in force whole, or not at all.
//!
//! **Invariant:** what is in force stays in force until there is something better; why a reload failed is said in the log, in the metrics
//! and to who asked.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use super::admin::Number;
use super::certificates::Certificates;
use super::log::LogKnobs;
use super::process::probe_access_logs;
use crate::config::plan::Plan;
use crate::config::schema::LogLevel;
use crate::config::{Address, Config, Document};
use crate::snapshot::Snapshot;

/// Makes generations of a file, one after the other.
pub struct Reloader {
    path: PathBuf,
    document: Document,
    watch: bool,
    log_level: Option<LogLevel>,
    certificates: Certificates,
    snapshot: watch::Sender<Arc<Snapshot>>,
    status: Arc<ReloadStatus>,
    log: LogKnobs,
    /// Whether an address can be listened on; None where the plane can't tell before.
    probe: Option<Probe>,
    inbox: mpsc::Receiver<Request>,
}

/// Whether an address can be listened on.
pub type Probe = fn(&Address) -> io::Result<()>;

/// The way to the reloader. Cheap to clone.
#[derive(Clone)]
pub struct Reloads {
    requests: mpsc::Sender<Request>,
    status: Arc<ReloadStatus>,
}

/// How reloads have gone, for the metrics.
#[derive(Debug)]
pub struct ReloadStatus {
    generation: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    last_failed: AtomicU64,
    last_success_seconds: AtomicU64,
}

/// What was wrong with a file, line by line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadError(pub Vec<String>);

struct Request {
    why: &'static str,
    answer: Option<oneshot::Sender<Result<u64, ReloadError>>>,
}

impl Reloader {
    /// For the configuration that is in force, made of the file at `path`; and the way to it.
    #[must_use]
    pub fn new(
        path: &Path,
        document: Document,
        certificates: Certificates,
        snapshot: watch::Sender<Arc<Snapshot>>,
        log: LogKnobs,
    ) -> (Self, Reloads) {
        let status = Arc::new(ReloadStatus {
            generation: AtomicU64::new(snapshot.borrow().generation),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            last_failed: AtomicU64::new(0),
            last_success_seconds: AtomicU64::new(now_seconds()),
        });
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        let reloads = Reloads { requests, status: Arc::clone(&status) };
        let config = document.read().0;
        let reloader = Self {
            path: path.into(),
            watch: config.as_ref().is_some_and(|c| c.control.watch_config),
            log_level: config.map(|c| c.server.log_level),
            document,
            certificates,
            snapshot,
            status,
            log,
            probe: None,
            inbox,
        };
        (reloader, reloads)
    }

    /// Serves those who go the way to it, until nobody can any more. `probe` says whether an address can be listened on; None: the plane
    /// can't tell before.
    pub async fn serve(mut self, probe: Option<Probe>) {
        self.probe = probe;
        let mut seen = stamp(&self.path);
        let mut tick = interval(WATCH_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changed = None;
        loop {
            let request = tokio::select! {
                request = self.inbox.recv() => match request {
                    Some(request) => request,
                    None => return,
                },
                _ = tick.tick(), if self.watch => {
                    let now = stamp(&self.path);
                    if now == seen || now.is_none() {
                        continue;
                    }
                    // Twice the same: whoever writes it has ended.
                    if changed != Some(now) {
                        changed = Some(now);
                        continue;
                    }
                    Request { why: "the file has changed", answer: None }
                }
            };
            seen = stamp(&self.path);
            let why = request.why;
            let Ok((this, result)) = spawn_blocking(move || self.reload(why)).await else { return };
            self = this;
            if let Some(answer) = request.answer {
                // Who asked may have gone.
                let _ = answer.send(result);
            }
        }
    }

    fn reload(mut self, why: &str) -> (Self, Result<u64, ReloadError>) {
        let result = self.make();
        let status = &self.status;
        match &result {
            Ok(generation) => {
                status.succeeded.fetch_add(1, Ordering::Relaxed);
                status.last_success_seconds.store(now_seconds(), Ordering::Relaxed);
                status.generation.store(*generation, Ordering::Relaxed);
                tracing::info!(generation, why, "the configuration was reloaded");
            }
            Err(ReloadError(lines)) => {
                status.failed.fetch_add(1, Ordering::Relaxed);
                for line in lines {
                    tracing::error!("{line}");
                }
                let generation = status.generation.load(Ordering::Relaxed);
                tracing::error!(generation, why, "the configuration was not reloaded: the one before stays in force");
            }
        }
        status.last_failed.store(u64::from(result.is_err()), Ordering::Relaxed);
        (self, result)
    }

    fn make(&mut self) -> Result<u64, ReloadError> {
        let said = |all: Vec<_>| ReloadError(all.iter().map(ToString::to_string).collect());
        let document = Document::load(&self.path);
        let (config, warnings) = Config::of(&document).map_err(said)?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let before = Arc::clone(&self.snapshot.borrow());
        let snapshot = Snapshot::build(&config, Some(&before), &mut self.certificates).map_err(said)?;
        self.probe_listeners(&before, &config)?;
        probe_access_logs(&config)
            .map_err(|(path, e)| ReloadError(vec![format!("the access log {path:?} can't be opened: {e}")]))?;
        for change in Plan::between(&self.document, &document).changes.iter().filter(|c| c.needs_restart) {
            tracing::warn!(key = %change.path, "the key has changed, and takes effect at the next start");
        }
        if self.log_level != Some(config.server.log_level) {
            self.log.set_level(config.server.log_level);
        }
        let generation = snapshot.generation;
        (self.document, self.watch, self.log_level) =
            (document, config.control.watch_config, Some(config.server.log_level));
        self.snapshot.send_replace(Arc::new(snapshot));
        Ok(generation)
    }

    /// Whether the listeners that are new can listen.
    fn probe_listeners(&self, before: &Snapshot, config: &Config) -> Result<(), ReloadError> {
        let Some(probe) = self.probe else { return Ok(()) };
        let bound: HashSet<&Address> = before.listeners.iter().map(|l| &l.config.address).collect();
        // A port that we have on another address is ours to have on this one.
        let ports: HashSet<u16> = bound.iter().filter_map(|a| Some(a.inet()?.port())).collect();
        let is_ours = |a: &Address| bound.contains(a) || a.inet().is_some_and(|inet| ports.contains(&inet.port()));
        let mut failed = Vec::new();
        for listener in config.server.listeners.iter().filter(|l| l.bind_port && !is_ours(&l.address)) {
            if let Err(error) = probe(&listener.address) {
                failed.push(format!("listener {:?} can't listen on {}: {error}", listener.name, listener.address));
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(ReloadError(failed)) }
    }
}

impl Reloads {
    /// Asks for a reload and does not wait.
    pub fn ask(&self, why: &'static str) {
        // As many as can wait are there: the last of them will read the newest file.
        let _ = self.requests.try_send(Request { why, answer: None });
    }

    /// Reloads; the generation that is in force then.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub async fn reload(&self, why: &'static str) -> Result<u64, ReloadError> {
        let gone = || ReloadError(vec!["the gateway ends".into()]);
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request { why, answer: Some(answer) }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// How reloads have gone, for `/metrics`.
    #[must_use]
    pub fn numbers(&self) -> Vec<Number> {
        let number = |name, help, grows, value: &AtomicU64| Number {
            name,
            help,
            grows,
            labels: Vec::new(),
            value: value.load(Ordering::Relaxed),
        };
        let status = &self.status;
        vec![
            number(
                "ferrogate_config_generation",
                "The generation of the configuration that is in force, counted from 1 in the life of the process",
                false,
                &status.generation,
            ),
            number(
                "ferrogate_config_reload_success",
                "Reloads that put a new generation in force",
                true,
                &status.succeeded,
            ),
            number(
                "ferrogate_config_reload_failure",
                "Reloads that left the generation before in force",
                true,
                &status.failed,
            ),
            number(
                "ferrogate_config_last_reload_failed",
                "Whether the last reload failed: 1, the file is not what is in force",
                false,
                &status.last_failed,
            ),
            number(
                "ferrogate_config_last_success_timestamp_seconds",
                "When the configuration in force was read, in seconds since 1970",
                false,
                &status.last_success_seconds,
            ),
        ]
    }
}

/// What changes when a file is written or another takes its name.
fn stamp(path: &Path) -> Option<(u64, i64, i64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len()))
}

fn now_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Reloads that may wait for the one that runs.
const REQUESTS_MAX: usize = 4;

/// How often a watched file is looked at. It is taken when it was found changed, and then the same, twice.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);
