//! Signals to another gateway, for the verbs that end or reload one.
//!
//! **Invariant:** only a process that is a gateway is ever sent one: a stale pid file must not end a stranger.

use std::fs;
use std::io;

use rustix::process::{Pid, Signal, kill_process};

/// What another gateway is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Finish what runs and end.
    Drain,
    /// Read its file again.
    Reload,
}

/// Tells the gateway with this process id.
///
/// # Errors
/// `NotFound` when there is none, or the process is no gateway; else those of kill(2).
pub fn send(pid: u32, wish: Wish) -> io::Result<()> {
    if !is_running(pid) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let signal = match wish {
        Wish::Drain => Signal::TERM,
        Wish::Reload => Signal::HUP,
    };
    Ok(kill_process(pid, signal)?)
}

/// Whether there is a gateway with this process id.
#[must_use]
pub fn is_running(pid: u32) -> bool {
    let name = |of: &str| fs::read_to_string(format!("/proc/{of}/comm")).map(|name| name.trim().to_owned());
    // The same name as ours: this very binary, or its next version.
    // One that has ended and was not waited for yet is none.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let has_ended = stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X']));
    !has_ended && matches!((name(&pid.to_string()), name("self")), (Ok(theirs), Ok(ours)) if theirs == ours)
}
