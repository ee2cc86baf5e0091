//! `ferrogate doctor`: whether this host is ready for the DPDK plane, and for what is not, the line that makes it so.
//!
//! What can't be looked at is left out: a finding never guesses. Only what keeps the plane from starting is a problem; what makes it slower,
//! or may surprise later, is a warning.
//!
//! **Invariant:** reads files under `/proc` and `/sys` and changes nothing.

mod cores;
mod host;
mod interface;
mod memory;
mod pci;
mod queues;
mod rights;

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ferrogate_core::config::dataplane::Dataplane;

use crate::device::Device;
use crate::port::IS_BUILT;
use host::Host;

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file whose ports are looked at; without one, the host by itself.
    #[arg(short, long, env = "MOSN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Args {
    pub(super) fn run(&self) -> Result<bool, String> {
        let dataplane = self.config.as_deref().map(super::read).transpose()?.map(|config| config.dataplane);
        // Nobody reads it: nothing is known to be well.
        Ok(print(&dataplane.unwrap_or_default(), &mut io::stdout()).unwrap_or(false))
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How good it is.
    pub verdict: Verdict,
    /// What it is about: `hugepages`, `port net_af_xdp0,iface=eth1`.
    pub subject: String,
    /// What was found.
    pub says: String,
    /// The line that mends it, to be run as root or put into the file.
    pub remedy: Option<String>,
}

/// How good a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Worth knowing.
    Note,
    /// It works, but not as well as it could.
    Warning,
    /// The plane can't start.
    Problem,
}

/// What the findings of one look are put into.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

/// Looks at this host, for the ports and the memory of `dataplane`.
#[must_use]
pub fn examine(dataplane: &Dataplane) -> Vec<Finding> {
    examine_at(Path::new("/"), dataplane)
}

/// Prints what [`examine`] finds, worst last; says whether the plane could start.
///
/// # Errors
/// When nobody reads it.
pub fn print(dataplane: &Dataplane, out: &mut impl Write) -> io::Result<bool> {
    let mut found = examine(dataplane);
    found.sort_by_key(|finding| finding.verdict);
    for finding in &found {
        writeln!(out, "{finding}")?;
    }
    let count = |verdict| found.iter().filter(|f| f.verdict == verdict).count();
    let (problems, warnings) = (count(Verdict::Problem), count(Verdict::Warning));
    writeln!(out, "{problems} problems, {warnings} warnings")?;
    Ok(problems == 0)
}

/// The same for a host whose `/proc` and `/sys` lie below `root`.
fn examine_at(root: &Path, dataplane: &Dataplane) -> Vec<Finding> {
    let (host, mut found) = (Host::new(root), Findings::default());
    let config = &dataplane.dpdk;
    let devices: Vec<Device> = config.ports.iter().map(|port| Device::new(&port.device)).collect();
    if !IS_BUILT {
        found.problem("binary", "it was built without DPDK", "cargo build --release --features dpdk");
    }
    memory::look(&host, config, &devices, &mut found);
    cores::look(&host, dataplane, &mut found);
    rights::look(&host, &devices, &mut found);
    for (port, device) in config.ports.iter().zip(&devices) {
        if device.is_pci() {
            pci::look(&host, device, &mut found);
        } else {
            interface::look(&host, port, device, &mut found);
        }
        queues::look(&host, dataplane, (port, device), &mut found);
    }
    if config.ports.is_empty() {
        pci::list(&host, &mut found);
    }
    found.0
}

impl Findings {
    fn good(&mut self, subject: &str, says: impl Into<String>) {
        self.add(Verdict::Good, subject, says.into(), None);
    }

    /// Worth knowing, with what to do when it matters.
    fn hint(&mut self, subject: &str, says: impl Into<String>, remedy: impl Into<String>) {
        self.add(Verdict::Note, subject, says.into(), Some(remedy.into()));
    }

    fn warning(&mut self, subject: &str, says: impl Into<String>, remedy: impl Into<String>) {
        self.add(Verdict::Warning, subject, says.into(), Some(remedy.into()));
    }

    fn problem(&mut self, subject: &str, says: impl Into<String>, remedy: impl Into<String>) {
        self.add(Verdict::Problem, subject, says.into(), Some(remedy.into()));
    }

    fn add(&mut self, verdict: Verdict, subject: &str, says: String, remedy: Option<String>) {
        self.0.push(Finding { verdict, subject: subject.to_owned(), says, remedy });
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verdict, subject, says, remedy } = self;
        write!(f, "{verdict:<8} {subject}: {says}")?;
        match remedy {
            Some(remedy) => write!(f, "\n         {remedy}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Good => "good",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "PROBLEM",
        })
    }
}

#[cfg(test)]
mod tests;
