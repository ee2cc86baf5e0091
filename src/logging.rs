//! Where the log goes, and how much of it.
//!
//! **Invariant:** set once, before anything is started.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::Arc;

use ferrogate_core::config::schema::{LogLevel, Server};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt;

/// Sends the log where the configuration says. `level` goes before the file's.
pub(crate) fn init(server: &Server, level: Option<&str>) -> io::Result<()> {
    let level = match level {
        Some(text) => text.parse().map_err(|_| io::Error::other(format!("{text:?} is no log level")))?,
        None => filter(server.log_level),
    };
    let log = fmt().with_max_level(level).with_target(false);
    match server.log_path.as_str() {
        "" | "stderr" | "console" => log.with_ansi(io::stderr().is_terminal()).with_writer(io::stderr).init(),
        "stdout" => log.with_ansi(io::stdout().is_terminal()).with_writer(io::stdout).init(),
        path => {
            if let Some(folder) = Path::new(path).parent() {
                std::fs::create_dir_all(folder)?;
            }
            let file = OpenOptions::new().append(true).create(true).open(path)?;
            log.with_ansi(false).with_writer(Arc::new(file)).init();
        }
    }
    Ok(())
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
