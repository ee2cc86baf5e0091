//! Signals to another gateway, for the verbs that end or reload one.
//!
//! **Invariant:** only a process that is a gateway is ever sent one: a stale pid file must not end a stranger.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use ferrogate_core::control::pid_file;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

/// What another gateway is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Finish what runs and end.
    Drain,
    /// Read its file again.
    Reload,
}

/// Tells the gateway that runs by this configuration file; waits for its end where that is what it was told.
///
/// # Errors
/// As a text: there is no `pid` file or no such process, it can't be told, or it has not ended in its own `graceful_timeout` and ten seconds.
pub fn tell(config: &Path, wish: Wish) -> Result<(), String> {
    let running = pid_file::of_config(config)?;
    send(running.id, wish).map_err(|e| format!("process {} can't be told: {e}", running.id))?;
    let deadline = Instant::now() + running.graceful_timeout + STOP_SLACK;
    while wish == Wish::Drain && is_running(running.id) {
        if Instant::now() > deadline {
            return Err(format!("process {} has not ended yet", running.id));
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Tells the gateway with this process id: `NotFound` when there is none, or the process is no gateway; else the errors of kill(2).
fn send(pid: u32, wish: Wish) -> io::Result<()> {
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
fn is_running(pid: u32) -> bool {
    let name = |of: &str| fs::read_to_string(format!("/proc/{of}/comm")).map(|name| name.trim().to_owned());
    // The same name as ours: this very binary, or its next version.
    // One that has ended and was not waited for yet is none.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let has_ended = stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X']));
    !has_ended && matches!((name(&pid.to_string()), name("self")), (Ok(theirs), Ok(ours)) if theirs == ours)
}

/// How much longer than its `graceful_timeout` a process is given to end.
const STOP_SLACK: Duration = Duration::from_secs(10);

/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(50);
