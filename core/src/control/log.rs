//! The process's own log: where it goes, how much of it, and how that changes while it runs. A thread of its own writes it: a slow disk or
//! a full pipe never holds a worker.
//!
//! **Invariant:** set once, before anything is started; when the writer falls behind, lines are dropped and counted, never waited for.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt};

use super::admin::Number;
use crate::config::schema::{LogLevel, Server};
use crate::telemetry::log_file::{LogFile, Rotation};
use crate::telemetry::log_thread::LogQueue;

/// The running log. Dropped, it writes what it holds.
pub struct Log {
    knobs: LogKnobs,
    _writer: WorkerGuard,
}

/// What can be changed of a running log. Cheap to clone.
#[derive(Clone)]
pub struct LogKnobs {
    level: reload::Handle<LevelFilter, Registry>,
    dropped: ErrorCounter,
    reopen: Arc<AtomicBool>,
}

impl Log {
    /// Sends the log where the configuration says. `level` goes before the file's.
    ///
    /// # Errors
    /// When `level` is no level, or the file can't be opened.
    pub fn start(server: &Server, level: Option<&str>) -> io::Result<Self> {
        let level = match level {
            Some(text) => text.parse().map_err(|_| io::Error::other(format!("{text:?} is no log level")))?,
            None => filter_of(server.log_level),
        };
        let file = LogFile::open(&server.log_path, Rotation::from(&server.log_roller))?;
        let is_terminal = !file.is_file() && server.log_path != "stdout" && io::stderr().is_terminal();
        let reopen = Arc::new(AtomicBool::new(false));
        let sink = Reopening { file, reopen: Arc::clone(&reopen) };
        let (writer, guard) = NonBlockingBuilder::default()
            .buffered_lines_limit(LOG_LINES_MAX)
            .lossy(true)
            .thread_name("log")
            .finish(sink);
        let dropped = writer.error_counter();
        let (filter, level) = reload::Layer::new(level);
        let lines = fmt::layer().with_target(false).with_ansi(is_terminal).with_writer(writer);
        tracing_subscriber::registry().with(filter).with(lines).init();
        Ok(Self { knobs: LogKnobs { level, dropped, reopen }, _writer: guard })
    }

    /// What can be changed of it.
    #[must_use]
    pub fn knobs(&self) -> LogKnobs {
        self.knobs.clone()
    }
}

impl LogKnobs {
    /// Lines dropped because the writer was behind.
    #[must_use]
    pub fn dropped_lines(&self) -> u64 {
        self.dropped.dropped_lines() as u64
    }

    /// Has the file opened again before the next line: something else has moved it away.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }

    /// What is logged from now on.
    pub fn set_level(&self, level: LogLevel) {
        // Fails only when the log is gone.
        let _ = self.level.modify(|filter| *filter = filter_of(level));
    }

    /// What is logged.
    #[must_use]
    pub fn level(&self) -> String {
        self.level.with_current(ToString::to_string).unwrap_or_default()
    }
}

/// What the logs have lost, for `/metrics`.
#[must_use]
pub fn lost_lines(log: &LogKnobs, access_logs: &LogQueue) -> Vec<Number> {
    let number = |name, help, value| Number { name, help, grows: true, labels: Vec::new(), value };
    vec![
        number("ferrogate_log_lines_dropped", "Log lines dropped because the writer was behind", log.dropped_lines()),
        number(
            "ferrogate_access_log_lines_dropped",
            "Access log lines dropped because limits.access_log_queue_bytes_max bytes waited, or because they could not be written",
            access_logs.dropped_lines(),
        ),
        number(
            "ferrogate_access_log_write_failed",
            "Batches of access log lines that could not be written",
            access_logs.failed_writes(),
        ),
    ]
}

/// A log file that is opened again when somebody wishes it.
struct Reopening {
    file: LogFile,
    reopen: Arc<AtomicBool>,
}

impl Write for Reopening {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.reopen.swap(false, Ordering::Relaxed)
            && let Err(error) = self.file.reopen()
        {
            eprintln!("ferrogate: the log can't be opened again: {error}");
        }
        self.file.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn filter_of(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Lines that may wait to be written; further ones are dropped.
const LOG_LINES_MAX: usize = 16 * 1024;
