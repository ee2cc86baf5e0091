//! Why a run, a report or a comparison ended early.
//!
//! **Invariant:** names what was tried, so that the line alone tells the user what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why it ended.
#[derive(Debug)]
pub enum BenchError {
    /// By Ctrl-C or a signal.
    Interrupted,
    /// The system refused something.
    Io {
        /// What was tried.
        what: String,
        /// Its answer.
        error: io::Error,
    },
    /// A command failed.
    Command {
        /// The command.
        command: String,
        /// How it ended and what it said.
        output: String,
    },
    /// A process did not get so far in time.
    Late {
        /// Which one, and what was waited for.
        what: String,
    },
    /// A line of the load generator that is not as agreed.
    Load {
        /// What it printed.
        output: String,
    },
    /// Not one request was answered well.
    Unanswered {
        /// What went wrong, by kind.
        errors: String,
        /// The last words of the proxy.
        log: String,
    },
    /// A file that holds no results.
    NotResults {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// What is wrong there.
        why: String,
    },
    /// A choice of the user's that does not exist or does not fit.
    Choice {
        /// What, and what there is.
        why: String,
    },
}

impl BenchError {
    /// The system refused `what`.
    pub fn io(what: impl Into<String>, error: io::Error) -> Self {
        Self::Io { what: what.into(), error }
    }

    /// The user chose what is not there.
    pub fn choice(why: impl Into<String>) -> Self {
        Self::Choice { why: why.into() }
    }
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted => f.write_str("interrupted"),
            Self::Io { what, error } => write!(f, "can't {what}: {error}"),
            Self::Command { command, output } => write!(f, "{command}: {}", output.trim()),
            Self::Late { what } => write!(f, "{what} takes too long"),
            Self::Load { output } => write!(f, "the load generator ended without a result: {}", output.trim()),
            Self::Unanswered { errors, log } => write!(f, "not one request was answered well: {errors} {}", log.trim()),
            Self::NotResults { path, line, why } => write!(f, "{}:{line}: {why}", path.display()),
            Self::Choice { why } => f.write_str(why),
        }
    }
}

impl std::error::Error for BenchError {}
