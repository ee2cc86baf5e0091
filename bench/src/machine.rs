//! What a figure depends on besides the code: processor, kernel, its mitigations, and the versions of all that took part.
//!
//! **Invariant:** only reads; what can't be found out is said to be unknown.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// How many cores this process may use.
    pub cores: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The kernel's release and build.
    pub kernel: String,
    /// Whether it is a guest, and of what.
    pub hypervisor: String,
    /// What sets the clock of the cores, or `none` in most guests.
    pub governor: String,
    /// Kernel mitigations that are not "Not affected", by name.
    pub mitigations: Vec<String>,
    /// The kernel's congestion control.
    pub congestion_control: String,
    /// The limit of open files.
    pub open_files: String,
    /// Load average of the last minute when the run began: more than a little means neighbours.
    pub load_average: String,
}

impl Machine {
    /// This one.
    #[must_use]
    pub fn here() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|l| l.starts_with(name));
            line.and_then(|l| l.split_once(':')).map(|(_, v)| v.trim().to_owned())
        };
        Self {
            cpu: field("model name").unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: memory_mib(),
            kernel: read("/proc/version").split_whitespace().take(3).skip(2).collect::<Vec<_>>().join(" "),
            hypervisor: if field("flags").is_some_and(|f| f.contains(" hypervisor")) { "guest" } else { "none" }
                .to_owned(),
            governor: known(&read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"), "none"),
            mitigations: mitigations(),
            congestion_control: known(&read("/proc/sys/net/ipv4/tcp_congestion_control"), "unknown"),
            open_files: open_files(),
            load_average: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

/// The commit of the tree that the caller stands in, and whether it has changes.
#[must_use]
pub fn commit() -> (String, bool) {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok().filter(|o| o.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    match git(&["rev-parse", "--short=9", "HEAD"]) {
        Some(commit) => (commit, git(&["status", "--porcelain", "--untracked-files=no"]).is_none_or(|s| !s.is_empty())),
        None => (unknown(), false),
    }
}

/// The first line that a program prints about its version, on whichever stream.
#[must_use]
pub fn version_of(program: &Path, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    let both = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&both);
    text.lines().map(str::trim).find(|l| !l.is_empty()).map(str::to_owned)
}

/// Now, in UTC, as in `2026-01-31T12:00:00Z`.
#[must_use]
pub fn utc_now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn mitigations() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/sys/devices/system/cpu/vulnerabilities") else { return Vec::new() };
    let mut found: Vec<String> = entries
        .flatten()
        .map(|e| (e.file_name().to_string_lossy().into_owned(), fs::read_to_string(e.path()).unwrap_or_default()))
        .filter(|(_, text)| !text.trim().is_empty() && text.trim() != "Not affected")
        .map(|(name, text)| format!("{name}: {}", text.trim()))
        .collect();
    found.sort();
    found
}

fn memory_mib() -> u64 {
    let text = read("/proc/meminfo");
    let kib = text.lines().find_map(|l| l.strip_prefix("MemTotal:")).and_then(|l| l.split_whitespace().next());
    kib.and_then(|k| k.parse::<u64>().ok()).map_or(0, |k| k / 1024)
}

fn open_files() -> String {
    let text = read("/proc/self/limits");
    let line = text.lines().find_map(|l| l.strip_prefix("Max open files"));
    line.and_then(|l| l.split_whitespace().nth(1)).map_or_else(unknown, str::to_owned)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn known(text: &str, otherwise: &str) -> String {
    let text = text.trim();
    if text.is_empty() { otherwise.to_owned() } else { text.to_owned() }
}

fn unknown() -> String {
    "unknown".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described() {
        let machine = Machine::here();
        assert!(machine.cores > 0 && machine.memory_mib > 0 && !machine.kernel.is_empty(), "{machine:?}");
    }
}
