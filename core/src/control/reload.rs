//! Reloading: the file is read and a generation made of it off the workers, and put in force whole, or not at all.
//!
//! **Invariant:** what is in force stays in force until there is something better; why a reload failed is said in the log, in the metrics
//! and to who asked.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use super::admin::Number;
use super::certificates::Certificates;
use super::dns::Names;
use super::log::LogKnobs;
use super::process::probe_access_logs;
use super::watched::Watched;
use crate::config::plan::Plan;
use crate::config::schema::{Control, LogLevel};
use crate::config::{Address, Config, Document};
use crate::snapshot::Snapshot;

/// Makes generations of a file, one after the other.
pub struct Reloader {
    path: PathBuf,
    watched: Watched,
    switches: Control,
    log_level: Option<LogLevel>,
    certificates: Certificates,
    snapshot: watch::Sender<Arc<Snapshot>>,
    status: Arc<ReloadStatus>,
    log: LogKnobs,
    /// Whether an address can be listened on; None where the plane can't tell before.
    probe: Option<Probe>,
    inbox: mpsc::Receiver<Request>,
    /// The file was written by us, and need not be read.
    wrote: bool,
    /// A generation that is good, and not in force yet.
    ready: Option<Arc<Snapshot>>,
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
    document: ArcSwap<Document>,
    switches: ArcSwap<Control>,
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
    /// What to do to the configuration in force; None: the file is read again.
    change: Option<ChangeDocument>,
    answer: Option<oneshot::Sender<Result<u64, ReloadError>>>,
}

/// Changes a configuration, as JSON; says why it can't.
type ChangeDocument = Box<dyn FnOnce(&mut Value) -> Result<(), ReloadError> + Send>;

impl Reloader {
    /// For the configuration that is in force, made of the file at `path`; and the way to it.
    #[must_use]
    pub fn new(
        path: &Path,
        document: Document,
        mut certificates: Certificates,
        snapshot: watch::Sender<Arc<Snapshot>>,
        log: LogKnobs,
    ) -> (Self, Reloads) {
        certificates.refuse_expired();
        let config = document.read().0;
        let switches = config.as_ref().map(|c| c.control.clone()).unwrap_or_default();
        let status = Arc::new(ReloadStatus {
            document: ArcSwap::from_pointee(document),
            switches: ArcSwap::from_pointee(switches.clone()),
            generation: AtomicU64::new(snapshot.borrow().generation),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            last_failed: AtomicU64::new(0),
            last_success_seconds: AtomicU64::new(now_seconds()),
        });
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        let reloads = Reloads { requests, status: Arc::clone(&status) };
        let reloader = Self {
            path: path.into(),
            watched: Watched::new(path, config.as_ref()),
            switches,
            log_level: config.map(|c| c.server.log_level),
            certificates,
            snapshot,
            status,
            log,
            probe: None,
            inbox,
            wrote: false,
            ready: None,
        };
        (reloader, reloads)
    }

    /// Serves those who go the way to it, until nobody can any more. `probe` says whether an address can be listened on; None: the plane
    /// can't tell before. `names` are the hosts' names of the generation in force: those of the next one are looked up before it is.
    pub async fn serve(mut self, probe: Option<Probe>, names: Names) {
        self.probe = probe;
        let mut seen = self.watched.stamp();
        let mut tick = interval(WATCH_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut changed, mut ticks) = (None, 0_usize);
        loop {
            let request = tokio::select! {
                request = self.inbox.recv() => match request {
                    Some(request) => request,
                    None => return,
                },
                _ = tick.tick(), if self.switches.watch_config => {
                    ticks = ticks.wrapping_add(1);
                    if !ticks.is_multiple_of(self.watched.interval()) {
                        continue;
                    }
                    let now = self.watched.stamp();
                    if now == seen || now.is_none() {
                        continue;
                    }
                    // Twice the same: whoever writes it has ended.
                    if changed != Some(now) {
                        changed = Some(now);
                        continue;
                    }
                    Request { why: "the file has changed", change: None, answer: None }
                }
            };
            seen = self.watched.stamp();
            let (why, change) = (request.why, request.change);
            let files = self.watched.clone();
            let Ok((this, result)) = spawn_blocking(move || self.reload(why, change)).await else { return };
            self = this;
            if self.watched != files {
                // Other files: that they differ from those before is no change of theirs.
                seen = self.watched.stamp();
            }
            if let Some(next) = self.ready.take() {
                names.prepare(&next).await;
                self.snapshot.send_replace(next);
            }
            if self.wrote {
                (self.wrote, seen) = (false, self.watched.stamp());
            }
            if let Some(answer) = request.answer {
                // Who asked may have gone.
                let _ = answer.send(result);
            }
        }
    }

    fn reload(mut self, why: &str, change: Option<ChangeDocument>) -> (Self, Result<u64, ReloadError>) {
        let is_change = change.is_some();
        let result = self.document(change).and_then(|document| self.make(document));
        if is_change && result.is_ok() && self.switches.auto_config {
            self.write_back();
        }
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

    /// The file, or the configuration in force with a change.
    fn document(&self, change: Option<ChangeDocument>) -> Result<Document, ReloadError> {
        let Some(change) = change else { return Ok(Document::load(&self.path)) };
        let before = self.status.document.load();
        let mut config: Value = serde_json::from_str(&before.json())
            .map_err(|_| ReloadError(vec!["the configuration in force can't be changed".into()]))?;
        change(&mut config)?;
        Ok(Document::parse(&format!("{config:#}"), &format!("{} (changed)", self.path.display())))
    }

    /// Writes the configuration in force to its file, at once and whole.
    fn write_back(&mut self) {
        let new = self.path.with_extension("ferrogate-new");
        let text = serde_json::from_str::<Value>(&self.status.document.load().json()).map(|v| format!("{v:#}\n"));
        let written = text.map_err(io::Error::other).and_then(|text| {
            fs::write(&new, text)?;
            if let Ok(metadata) = fs::metadata(&self.path) {
                fs::set_permissions(&new, metadata.permissions())?;
            }
            fs::rename(&new, &self.path)
        });
        match written {
            Ok(()) => self.wrote = true,
            Err(error) => {
                tracing::error!(file = %self.path.display(), %error, "the changed configuration is in force, but can't be written");
            }
        }
    }

    fn make(&mut self, document: Document) -> Result<u64, ReloadError> {
        let said = |all: Vec<_>| ReloadError(all.iter().map(ToString::to_string).collect());
        let (config, warnings) = Config::of(&document).map_err(said)?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let before = Arc::clone(&self.snapshot.borrow());
        let built = Snapshot::build(&config, Some(&before), &mut self.certificates);
        let caveats = self.certificates.take_caveats().into_iter();
        for caveat in caveats.map(|d| config.warning_at(&d.origin, d.message, d.remedy)) {
            tracing::warn!("{caveat}");
        }
        let snapshot = built.map_err(said)?;
        self.probe_listeners(&before, &config)?;
        probe_access_logs(&config)
            .map_err(|(path, e)| ReloadError(vec![format!("the access log {path:?} can't be opened: {e}")]))?;
        for change in Plan::between(&self.status.document.load(), &document).changes.iter().filter(|c| c.needs_restart)
        {
            tracing::warn!(key = %change.path, "the key has changed, and takes effect at the next start");
        }
        if self.log_level != Some(config.server.log_level) {
            self.log.set_level(config.server.log_level);
        }
        let generation = snapshot.generation;
        (self.switches, self.log_level) = (config.control.clone(), Some(config.server.log_level));
        self.watched.take_over(&config);
        self.status.document.store(Arc::new(document));
        self.status.switches.store(Arc::new(config.control));
        self.ready = Some(Arc::new(snapshot));
        Ok(generation)
    }

    /// Whether the listeners that are new can listen.
    fn probe_listeners(&self, before: &Snapshot, config: &Config) -> Result<(), ReloadError> {
        let Some(probe) = self.probe else { return Ok(()) };
        let bound: HashSet<&Address> = before.listeners.iter().map(|l| &l.config.address).collect();
        // A port that we have on another address is ours to have on this one.
        let port = |a: &Address| Some((matches!(a, Address::Udp(_)), a.ip_and_port()?.port()));
        let ports: HashSet<_> = bound.iter().filter_map(|a| port(a)).collect();
        let is_ours = |a: &Address| bound.contains(a) || port(a).is_some_and(|port| ports.contains(&port));
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
    /// Reloads; the generation that is in force then.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub async fn reload(&self, why: &'static str) -> Result<u64, ReloadError> {
        self.ask(why, None).await
    }

    /// Changes the configuration in force; the generation that is in force then.
    ///
    /// # Errors
    /// Why it can't be changed so.
    pub async fn change(
        &self,
        change: impl FnOnce(&mut Value) -> Result<(), ReloadError> + Send + 'static,
    ) -> Result<u64, ReloadError> {
        self.ask("a change by the admin API", Some(Box::new(change))).await
    }

    /// The configuration in force.
    #[must_use]
    pub fn document(&self) -> Arc<Document> {
        self.status.document.load_full()
    }

    /// What may change it.
    #[must_use]
    pub fn switches(&self) -> Arc<Control> {
        self.status.switches.load_full()
    }

    async fn ask(&self, why: &'static str, change: Option<ChangeDocument>) -> Result<u64, ReloadError> {
        let gone = || ReloadError(vec!["the gateway ends".into()]);
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request { why, change, answer: Some(answer) }).await.map_err(|_| gone())?;
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

fn now_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Reloads that may wait for the one that runs.
const REQUESTS_MAX: usize = 4;

/// How often a watched file is looked at. It is taken when it was found changed, and then the same, twice.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);
