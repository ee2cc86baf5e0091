//! The real binary as a process under test.

use std::ffi::OsStr;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use crate::client::{Answer, Client};
use crate::config::Config;
use crate::process::Process;
use crate::temp::TempDir;
use crate::wait::wait_until;
use crate::wire::Wire;

/// A running gateway; killed when dropped.
#[derive(Debug)]
pub struct Gateway {
    /// The process.
    pub process: Process,
    /// Where it serves clients.
    pub listen: SocketAddr,
    /// Where its admin API is.
    pub admin: SocketAddr,
    file: PathBuf,
    _folder: TempDir,
}

/// A gateway that ended instead of serving.
#[derive(Debug)]
pub struct Exited {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub output: String,
}

impl Gateway {
    /// Starts `binary` with this configuration and waits until it serves.
    ///
    /// # Panics
    /// When it ends instead; its output is shown.
    #[must_use]
    pub fn start(binary: impl AsRef<OsStr>, config: &Config) -> Self {
        Self::launch(&mut Command::new(binary), config).unwrap_or_else(|e| panic!("{}\n{}", e.status, e.output))
    }

    /// Starts a command, to which `start -c FILE` is added, and waits until it serves.
    ///
    /// # Errors
    /// When it ends before it serves.
    ///
    /// # Panics
    /// When it does neither in time.
    pub fn launch(command: &mut Command, config: &Config) -> Result<Self, Exited> {
        let folder = TempDir::new();
        let file = folder.write("gateway.yaml", &config.text());
        let mut process = Process::start(command.arg("start").arg("-c").arg(&file));
        let mut ended = None;
        wait_until("the gateway serves or ends", || {
            ended = process.ended();
            ended.is_some() || is_running(config.admin)
        });
        if ended.is_some() {
            let status = process.wait();
            return Err(Exited { status, output: process.output() });
        }
        Ok(Self { process, listen: config.listen, admin: config.admin, file, _folder: folder })
    }

    /// Runs `binary start -c FILE` with this text to its end.
    ///
    /// # Panics
    /// When it does not end.
    #[must_use]
    pub fn refused(binary: impl AsRef<OsStr>, text: &str) -> Exited {
        let folder = TempDir::new();
        let file = folder.write("gateway.yaml", text);
        let mut process = Process::start(Command::new(binary).arg("start").arg("-c").arg(file));
        let status = process.wait();
        Exited { status, output: process.output() }
    }

    /// Its configuration file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Replaces its configuration file, at once and whole.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn rewrite(&self, text: &str) {
        let new = self.file.with_extension("new");
        fs::write(&new, text).and_then(|()| fs::rename(&new, &self.file)).expect("the file can be replaced");
    }

    /// Reloads its file through the admin API.
    ///
    /// # Errors
    /// What it says is wrong.
    pub fn reload(&self) -> Result<(), String> {
        let answer = Client::connect(self.admin).ask("POST", "/api/v1/reload", "", b"");
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    }

    /// A client's connection to it.
    ///
    /// # Panics
    /// When it does not listen.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::connect(self.listen)
    }

    /// What the admin API answers to `GET path`.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn admin(&self, path: &str) -> Answer {
        Client::connect(self.admin).get(path)
    }

    /// The sum of all samples of a metric in `/metrics`, over all label sets that hold `labels`.
    ///
    /// # Panics
    /// When the page has no such metric.
    #[must_use]
    pub fn metric(&self, name: &str, labels: &str) -> f64 {
        let page = self.admin("/metrics").text();
        let samples: Vec<f64> = page
            .lines()
            .filter(|l| l.starts_with(name) && l[name.len()..].starts_with(['{', ' ']) && l.contains(labels))
            .map(|l| l.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{l}")))
            .collect();
        assert!(!samples.is_empty(), "no {name} with {labels:?} in\n{page}");
        samples.iter().sum()
    }

    /// Tells it to end by a signal and checks that it ends well.
    ///
    /// # Panics
    /// When it does not end, or not with code 0.
    pub fn stop(mut self) -> String {
        self.process.signal("TERM");
        let status = self.process.wait();
        assert!(status.success(), "{status}\n{}", self.process.output());
        self.process.output()
    }
}

/// Whether the admin API says that the gateway serves: state 6 is MOSN's Running.
fn is_running(admin: SocketAddr) -> bool {
    let Ok(stream) = TcpStream::connect_timeout(&admin, Duration::from_secs(1)) else { return false };
    let mut client = Client::over(Wire::tcp(stream));
    let asked = client.send(b"GET /api/v1/states HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
    asked.is_ok() && client.try_answer_to("GET").is_ok_and(|a| a.status == 200 && a.text().contains("state=6"))
}
