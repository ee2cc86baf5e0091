//! What a run leaves behind: JSON lines, the session first, then a line for each cell and round, raw.
//!
//! **Invariant:** a line is written when its cell ends and never changed; what is derived (medians, ratios) is not in the file.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::BenchError;
use crate::machine::Machine;

/// One line of a results file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Line {
    /// What was run, where, and how. The first line.
    Session(Box<Session>),
    /// A scenario or a backend that was not run, and why.
    Absent(Absent),
    /// One measured cell.
    Cell(Box<Cell>),
    /// Counts per request, taken in a pass of their own.
    Counts(Counts),
}

/// The settings of a run and the machine it ran on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// The format of the file.
    pub format: u32,
    /// When it started, in UTC: `2026-01-31T12:00:00Z`.
    pub started: String,
    /// The commit of the project, abbreviated, or `unknown`.
    pub commit: String,
    /// Whether the tree had changes that are in no commit.
    pub dirty: bool,
    /// Where it ran.
    pub machine: Machine,
    /// Backend to version.
    pub versions: BTreeMap<String, String>,
    /// The settings.
    pub settings: Settings,
}

/// What the user chose, or the default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Rounds of each timed cell.
    pub rounds: usize,
    /// Seconds of a timed window.
    pub seconds: f64,
    /// Seconds of load before it.
    pub warmup: f64,
    /// How client and origin are reached: `veth` or `loopback`.
    pub wire: String,
    /// The core of the proxy.
    pub proxy_core: usize,
    /// The core of client and origin.
    pub load_core: usize,
    /// Whether received packets are steered to the core of their receiver.
    pub steer: bool,
}

/// Something that was not measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absent {
    /// The scenario; empty for all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub scenario: String,
    /// The backend; empty for all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub backend: String,
    /// Why.
    pub reason: String,
}

/// How hard the proxy was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As many requests as the connections carry.
    Saturation,
    /// The same rate for every backend: about 60 % of the capacity of the slowest one on kernel sockets.
    Fixed,
    /// Half of the backend's own capacity.
    Half,
    /// 70 % of it.
    Seventy,
    /// 90 % of it.
    Ninety,
    /// Twice of it.
    Double,
    /// Connections that send nothing.
    Idle,
}

impl Level {
    /// As it is printed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Saturation => "saturation",
            Self::Fixed => "fixed rate",
            Self::Half => "50 % of capacity",
            Self::Seventy => "70 % of capacity",
            Self::Ninety => "90 % of capacity",
            Self::Double => "200 % of capacity",
            Self::Idle => "idle",
        }
    }

    fn fixed() -> Self {
        Self::Fixed
    }

    /// The part of the backend's own capacity that is offered, where it is one.
    #[must_use]
    pub fn part(self) -> Option<f64> {
        match self {
            Self::Half => Some(0.5),
            Self::Seventy => Some(0.7),
            Self::Ninety => Some(0.9),
            Self::Double => Some(2.0),
            Self::Saturation | Self::Fixed | Self::Idle => None,
        }
    }
}

/// One measured window of one backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The scenario's name.
    pub scenario: String,
    /// The backend's name.
    pub backend: String,
    /// From 0.
    pub round: usize,
    /// How hard.
    pub level: Level,
    /// Connections that were asked for.
    pub connections: u64,
    /// What the load generator saw.
    pub load: Load,
    /// What the proxy used.
    pub usage: Usage,
}

/// What the load generator prints at the end of its window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Load {
    /// Requests that were answered well.
    pub requests: u64,
    /// What went wrong, by kind.
    pub errors: BTreeMap<String, u64>,
    /// The window.
    pub seconds: f64,
    /// Bytes that came to the client.
    pub bytes_in: u64,
    /// Bytes that it sent.
    pub bytes_out: u64,
    /// Connections that it opened within the window.
    pub conns_opened: u64,
    /// Full TLS handshakes.
    pub handshakes_full: u64,
    /// Resumed ones.
    pub handshakes_resumed: u64,
    /// Latency, from the time a request was due.
    pub latency_us: Latency,
    /// Requests a second that it was asked for; None for as many as it can.
    pub rate_wanted: Option<f64>,
    /// Requests that were due and not sent at the end of the window.
    pub behind: u64,
    /// The part of the window in which the load generator had nothing to do, 0 to 1.
    pub spare: f64,
    /// Connections that were open.
    pub established: u64,
}

impl Load {
    /// All errors together.
    #[must_use]
    pub fn errors_total(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// Percentiles of a window, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// 90 of 100 are faster.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1000.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
}

/// What the proxy used within the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// The window by our own clock.
    pub seconds: f64,
    /// CPU time of its processes, user and system, all threads.
    pub cpu_ns: u64,
    /// Time in which its core was not idle, whoever used it: softirqs too. Steps of 10 ms.
    pub core_ns: u64,
    /// Time in which the core of client and origin was not idle.
    pub load_core_ns: u64,
    /// On a polled plane: time in turns that moved something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busy_ns: Option<u64>,
    /// Resident memory at the end.
    pub rss_bytes: u64,
    /// The same, shared pages counted in part.
    pub pss_bytes: u64,
    /// Proportional memory before the first connection.
    pub pss_before_bytes: u64,
}

impl Usage {
    /// What the work cost: busy time where the plane polls, CPU time elsewhere. Busy time goes by the clock; where a neighbour took the core
    /// meanwhile it is more than the CPU time, which then is the better bound.
    #[must_use]
    pub fn work_ns(&self) -> u64 {
        self.busy_ns.map_or(self.cpu_ns, |busy| busy.min(self.cpu_ns))
    }
}

/// Counts per request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// The scenario's name.
    pub scenario: String,
    /// The backend's name.
    pub backend: String,
    /// How hard the proxy was pushed. Files of before it was written have the fixed rate.
    #[serde(default = "Level::fixed")]
    pub level: Level,
    /// From 0.
    pub round: usize,
    /// System calls of the proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syscalls: Option<f64>,
    /// Calls of malloc, calloc, realloc and their like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocations: Option<f64>,
}

/// A whole file.
#[derive(Clone, Debug, PartialEq)]
pub struct Results {
    /// Its first line.
    pub session: Session,
    /// What is missing.
    pub absent: Vec<Absent>,
    /// Every cell.
    pub cells: Vec<Cell>,
    /// Every count.
    pub counts: Vec<Counts>,
}

impl Results {
    /// Reads a file.
    ///
    /// # Errors
    /// When it can't be read, or is no results file.
    pub fn read(path: &Path) -> Result<Self, BenchError> {
        let text = fs::read_to_string(path).map_err(|e| BenchError::io(format!("read {}", path.display()), e))?;
        Self::parse(&text).map_err(|(line, why)| BenchError::NotResults { path: path.to_owned(), line, why })
    }

    /// Reads the lines of a file; the error is the line's number and the cause.
    ///
    /// # Errors
    /// At the first line that is none of ours, and for a file without a session.
    pub fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut results: Option<Self> = None;
        for (number, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
            match (serde_json::from_str(line).map_err(|e| (number + 1, e.to_string()))?, &mut results) {
                (Line::Session(s), _) if s.format != FORMAT => {
                    return Err((number + 1, format!("format {}, this program reads {FORMAT}", s.format)));
                }
                (Line::Session(s), none @ None) => *none = Some(Self::of(*s)),
                (line, Some(results)) => results.add(line),
                (_, None) => return Err((number + 1, NO_SESSION.to_owned())),
            }
        }
        results.ok_or_else(|| (1, NO_SESSION.to_owned()))
    }

    /// Of a session that has measured nothing yet.
    #[must_use]
    pub fn of(session: Session) -> Self {
        Self { session, absent: Vec::new(), cells: Vec::new(), counts: Vec::new() }
    }

    /// Adds a line. A further session changes nothing.
    pub fn add(&mut self, line: Line) {
        match line {
            Line::Session(_) => {}
            Line::Absent(a) => self.absent.push(a),
            Line::Cell(c) => self.cells.push(*c),
            Line::Counts(c) => self.counts.push(c),
        }
    }
}

/// A results file that is being written.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: File,
}

impl Writer {
    /// Makes the file and the folders above it.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn create(path: &Path) -> Result<Self, BenchError> {
        let make = || -> io::Result<File> {
            if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
                fs::create_dir_all(folder)?;
            }
            File::create(path)
        };
        let file = make().map_err(|e| BenchError::io(format!("write {}", path.display()), e))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Adds a line; it is in the file when this returns, so that an interrupted run keeps what it has.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&mut self, line: &Line) -> Result<(), BenchError> {
        let mut text = serde_json::to_string(line).expect("plain data has a JSON form");
        text.push('\n');
        self.file.write_all(text.as_bytes()).map_err(|e| BenchError::io(format!("write {}", self.path.display()), e))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The format of the lines; a change that old readers can't cope with counts it up.
pub const FORMAT: u32 = 1;

const NO_SESSION: &str = "the first line is not of kind \"session\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_the_load_generator_is_read() {
        let line = r#"{"requests":1000,"errors":{"connect":0,"timeout":1,"status":0,"reset":2,"protocol":0},"seconds":1.0,
            "bytes_in":5,"bytes_out":6,"conns_opened":7,"handshakes_full":0,"handshakes_resumed":0,
            "latency_us":{"p50":1.5,"p90":2,"p99":3,"p999":4,"max":5,"mean":1.6},"rate_wanted":1000,"behind":0,"spare":0.5,
            "established":64,"something_new":1}"#;
        let load: Load = serde_json::from_str(line).unwrap();
        assert_eq!((load.requests, load.errors_total(), load.established), (1000, 3, 64));
        assert_eq!(load.latency_us.p999, 4.0);
    }

    #[test]
    fn a_file_without_session_or_with_other_lines_is_refused() {
        assert_eq!(Results::parse("").unwrap_err().0, 1);
        assert_eq!(Results::parse("\n{\"kind\":\"nonsense\"}").unwrap_err().0, 2);
        assert!(Results::parse("{\"kind\":\"absent\",\"reason\":\"x\"}").unwrap_err().1.contains("session"));
    }
}
