//! Where the log goes, and how much of it. A thread of its own writes it: a slow disk or a full pipe never holds a worker.
//!
//! **Invariant:** set once, before anything is started; when the writer falls behind, lines are dropped and counted, never waited for.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use ferrogate_core::config::schema::{LogLevel, Server};
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt;

/// The running log. Dropped, it writes what it holds.
pub(crate) struct Log {
    /// Lines dropped because the writer was behind.
    pub(crate) dropped: ErrorCounter,
    _writer: WorkerGuard,
}

/// Sends the log where the configuration says. `level` goes before the file's.
pub(crate) fn init(server: &Server, level: Option<&str>) -> io::Result<Log> {
    let level = match level {
        Some(text) => text.parse().map_err(|_| io::Error::other(format!("{text:?} is no log level")))?,
        None => filter(server.log_level),
    };
    let (sink, is_terminal): (Box<dyn Write + Send>, bool) = match server.log_path.as_str() {
        "" | "stderr" | "console" => (Box::new(io::stderr()), io::stderr().is_terminal()),
        "stdout" => (Box::new(io::stdout()), io::stdout().is_terminal()),
        path => {
            if let Some(folder) = Path::new(path).parent() {
                std::fs::create_dir_all(folder)?;
            }
            (Box::new(OpenOptions::new().append(true).create(true).open(path)?), false)
        }
    };
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(LOG_LINES_MAX).lossy(true).thread_name("log").finish(sink);
    let dropped = writer.error_counter();
    fmt().with_max_level(level).with_target(false).with_ansi(is_terminal).with_writer(writer).init();
    Ok(Log { dropped, _writer: guard })
}

fn filter(level: LogLevel) -> LevelFilter {
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
