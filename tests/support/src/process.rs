//! Child processes: signals, memory, descriptors, output, and an end in any case.

use std::fs;
use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crate::wait::wait_until;

/// A child whose output is gathered; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    output: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts a command.
    ///
    /// # Panics
    /// When it can't be started.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let output = Arc::new(Mutex::new(String::new()));
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("piped")), Box::new(child.stderr.take().expect("piped"))];
        let readers = streams.into_iter().map(|s| gather(s, Arc::clone(&output))).collect();
        Self { child, output, readers }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far, on both streams.
    #[must_use]
    pub fn output(&self) -> String {
        self.output.lock().expect("no reader panics").clone()
    }

    /// Sends a signal by its name, such as `TERM`.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn signal(&self, name: &str) {
        // The shell's own `kill`: there is no safe call for it in the standard library.
        let status = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &self.id().to_string()]).status();
        assert!(status.expect("a shell").success(), "signal {name} can't be sent; output:\n{}", self.output());
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the process ends", || {
            status = self.ended();
            status.is_some()
        });
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        status.expect("waited for")
    }

    /// Resident memory in bytes.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        self.status_kib("VmRSS:") * 1024
    }

    /// Open descriptors.
    ///
    /// # Panics
    /// When the process is gone.
    #[must_use]
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.id())).expect("the process lives").count()
    }

    fn status_kib(&self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("the process lives");
        let line = status.lines().find(|l| l.starts_with(key)).expect("the kernel tells it");
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number of KiB")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("output of process {}:\n{}", self.id(), self.output());
        }
    }
}

fn gather(mut stream: Box<dyn Read + Send>, output: Arc<Mutex<String>>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            output.lock().expect("no reader panics").push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    })
}

/// Runs a command to its end: what it printed on standard output, or what it complained about.
///
/// # Errors
/// When it can't be started or fails, with its messages.
pub fn run(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("{command:?}: {e}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let messages = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "{command:?}: {}: {}{}",
        output.status,
        messages.trim(),
        String::from_utf8_lossy(&output.stdout).trim()
    ))
}
