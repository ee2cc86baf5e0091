//! Child processes: pinned, watched, in a process group of their own, and gone in any case.
//!
//! **Invariant:** only what was started here is ever signalled, by its own group.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::error::BenchError;
use crate::stage::stop;

/// A running child and what it started. Killed with its group when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
    /// Nothing of the group is left: its number may be another's by now.
    gone: bool,
}

impl Process {
    /// Starts a command whose output goes to `log`.
    ///
    /// It leads a process group, so that Ctrl-C of a terminal reaches us alone and we end it in order; and the kernel kills it should we be killed.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(name: &str, command: &Command, log: &Path) -> Result<Self, BenchError> {
        let output = File::create(log).map_err(|e| BenchError::io(format!("write {}", log.display()), e))?;
        let errors = output.try_clone().map_err(|e| BenchError::io("share a log", e))?;
        let child = ending_with_us(command)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|e| BenchError::io(format!("start {name}"), e))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned(), ended: None, gone: false })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `done` says so.
    ///
    /// # Errors
    /// When the process ends before, when it takes longer than `patience`, and at Ctrl-C.
    pub fn wait_until(
        &mut self,
        what: &str,
        patience: Duration,
        mut done: impl FnMut() -> bool,
    ) -> Result<(), BenchError> {
        let start = Instant::now();
        loop {
            stop::check()?;
            if done() {
                return Ok(());
            }
            self.must_run()?;
            if start.elapsed() > patience {
                return Err(BenchError::Late { what: format!("{}: {what}: {}", self.name, self.last_words()) });
            }
            thread::sleep(POLL);
        }
    }

    /// # Errors
    /// When it has ended: how, and its last words.
    pub fn must_run(&mut self) -> Result<(), BenchError> {
        match self.status()? {
            None => Ok(()),
            Some(status) => Err(BenchError::Command {
                command: self.name.clone(),
                output: format!("ended with {status}: {}", self.last_words()),
            }),
        }
    }

    /// Asks it to end, and kills it when it does not within a second.
    pub fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        let start = Instant::now();
        while start.elapsed() < END_PATIENCE && matches!(self.status(), Ok(None)) {
            thread::sleep(POLL);
        }
        self.kill();
    }

    /// The last lines of what it printed.
    #[must_use]
    pub fn last_words(&self) -> String {
        let text = fs::read(&self.log).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// How it ended, if it has.
    fn status(&mut self) -> Result<Option<ExitStatus>, BenchError> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().map_err(|e| BenchError::io(format!("wait for {}", self.name), e))?;
        }
        Ok(self.ended)
    }

    fn kill(&mut self) {
        // The group outlives its leader as long as it has members: what the process started goes too.
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
        self.gone = true;
    }

    fn signal(&self, signal: Signal) {
        if let Some(id) = i32::try_from(self.child.id()).ok().filter(|_| !self.gone) {
            // An empty group is what we want.
            let _ = killpg(Pid::from_raw(id), signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A child whose standard output is read line by line while it runs. Its standard input stays open for as long as we have it.
#[derive(Debug)]
pub struct Speaker {
    process: Process,
    lines: Receiver<io::Result<String>>,
}

impl Speaker {
    /// Starts a command; its error output goes to `log`.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(name: &str, command: &Command, log: &Path) -> Result<Self, BenchError> {
        let errors = File::create(log).map_err(|e| BenchError::io(format!("write {}", log.display()), e))?;
        let mut child = ending_with_us(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .map_err(|e| BenchError::io(format!("start {name}"), e))?;
        let output = child.stdout.take().expect("piped");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || BufReader::new(output).lines().all(|line| sender.send(line).is_ok()));
        Ok(Self {
            process: Process { name: name.to_owned(), child, log: log.to_owned(), ended: None, gone: false },
            lines,
        })
    }

    /// The next line, or None at the end of its output.
    ///
    /// # Errors
    /// When nothing comes for longer than `patience`, and at Ctrl-C.
    pub fn line(&mut self, patience: Duration) -> Result<Option<String>, BenchError> {
        let start = Instant::now();
        loop {
            stop::check()?;
            match self.lines.recv_timeout(POLL) {
                Ok(Ok(line)) => return Ok(Some(line)),
                Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) if start.elapsed() > patience => {
                    return Err(BenchError::Late {
                        what: format!("{}: {}", self.process.name, self.process.last_words()),
                    });
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// What it complained about.
    #[must_use]
    pub fn last_words(&self) -> String {
        self.process.last_words()
    }
}

/// Runs a command to its end: what it printed on standard output.
///
/// # Errors
/// When it can't be started or fails, with what it printed.
pub fn run(command: &mut Command) -> Result<String, BenchError> {
    let line = format!("{command:?}").replace('"', "");
    let output = command.stdin(Stdio::null()).output().map_err(|e| BenchError::io(format!("run {line}"), e))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = [output.stderr, output.stdout].concat();
    Err(BenchError::Command { command: line, output: String::from_utf8_lossy(&said).into_owned() })
}

/// Whether a program is on the PATH, as operators have it: /usr/sbin too.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/sbin", "/sbin"]);
    folders.map(|f| Path::new(f).join(program)).find(|p| p.is_file())
}

/// The same command under a parent-death signal and in a process group of its own.
fn ending_with_us(command: &Command) -> Command {
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        wrapped.current_dir(folder);
    }
    wrapped.process_group(0);
    wrapped
}

const POLL: Duration = Duration::from_millis(5);
const END_PATIENCE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::Folder;

    #[test]
    fn a_dropped_process_takes_its_children_along() {
        let folder = Folder::new().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000 & echo $!; wait"]);
        let mut speaker = Speaker::start("shell", &command, &folder.path("log")).unwrap();
        let child = speaker.line(Duration::from_secs(10)).unwrap().unwrap();
        let stat = format!("/proc/{child}/stat");
        assert!(fs::exists(&stat).unwrap());
        drop(speaker);
        let gone = || fs::read_to_string(&stat).map_or(true, |s| s.contains(") Z "));
        let start = Instant::now();
        while !gone() {
            assert!(start.elapsed() < Duration::from_secs(10), "the grandchild lives on");
            thread::sleep(POLL);
        }
    }

    #[test]
    fn an_early_end_is_told_with_its_last_words() {
        let folder = Folder::new().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; exit 7"]);
        let mut process = Process::start("shell", &command, &folder.path("log")).unwrap();
        let error = process.wait_until("never", Duration::from_secs(10), || false).unwrap_err().to_string();
        assert!(error.contains('7') && error.contains("two"), "{error}");
    }
}
