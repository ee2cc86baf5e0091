//! What is wrong with a file, and where.
//!
//! **Invariant:** every report has a place in the file and the path of the key that it is about.

use std::fmt;

/// One thing that is wrong with a configuration, or that the reader should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the file is refused.
    pub severity: Severity,
    /// The file's name as it was given.
    pub file: String,
    /// Line, from 1. 0 when the file as a whole is meant.
    pub line: u32,
    /// Column in characters, from 1. 0 when the file as a whole is meant.
    pub column: u32,
    /// The key's path, like `servers[0].listeners[1].address`. Empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it; may be empty.
    pub remedy: String,
}

/// How grave a [`Diagnostic`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is taken; something in it has no or another effect than it seems.
    Warning,
}

/// A place in the configuration: line and column, both from 1, the column in characters. 0:0 is the file as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which file: 0 the configuration itself, from 1 the files of its directories, as in [`Config::files`](super::Config::files).
    pub file: u32,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
}

/// Where a piece of the configuration stands. Equal to every other: moving a cluster to another line does not change the cluster.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// Line and column.
    pub place: Place,
    /// The key's path.
    pub path: String,
}

impl Diagnostic {
    /// Whether the file is refused for this.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// An error about the thing at `origin`, for those who act on the configuration later (a certificate that can't be read).
    #[must_use]
    pub fn error_at(file: &str, origin: &Origin, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            file: file.to_owned(),
            line: origin.place.line,
            column: origin.place.column,
            path: origin.path.clone(),
            message: message.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        write!(f, " {}: ", self.severity)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if !self.remedy.is_empty() {
            write!(f, " ({})", self.remedy)?;
        }
        Ok(())
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

impl PartialEq for Origin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Origin {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_prints_in_one_line() {
        let origin = Origin { place: Place { file: 0, line: 3, column: 9 }, path: "admin.address".into() };
        let mut report = Diagnostic::error_at("a.yaml", &origin, "not an address", "write IP:PORT");
        assert_eq!(report.to_string(), "a.yaml:3:9: error: admin.address: not an address (write IP:PORT)");
        (report.line, report.path, report.remedy, report.severity) = (0, "".into(), "".into(), Severity::Warning);
        assert_eq!(report.to_string(), "a.yaml: warning: not an address");
    }
}
