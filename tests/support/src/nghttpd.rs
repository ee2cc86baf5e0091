//! A real nghttpd as an origin that speaks HTTP/2 and nothing else.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::ports::free_address;
use crate::process::Process;
use crate::temp::TempDir;
use crate::wait::wait_until;

/// A running nghttpd, killed when dropped. It echoes what is uploaded.
#[derive(Debug)]
pub struct Nghttpd {
    /// Where it listens.
    pub address: SocketAddr,
    process: Process,
    folder: TempDir,
}

impl Nghttpd {
    /// Starts it on a free port, with TLS when there is a certificate with its key; `more` are further arguments, such as `-m`, `2`.
    ///
    /// # Errors
    /// When nghttpd is not installed.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(tls: Option<(&Path, &Path)>, more: &[&str]) -> Result<Self, String> {
        Self::start_at(free_address(), tls, more)
    }

    /// The same at this address.
    ///
    /// # Errors
    /// When nghttpd is not installed.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_at(address: SocketAddr, tls: Option<(&Path, &Path)>, more: &[&str]) -> Result<Self, String> {
        let found = Command::new("nghttpd").arg("--version").output();
        found.map_err(|e| format!("nghttpd can't be run: {e}"))?;
        let folder = TempDir::new();
        let mut command = Command::new("nghttpd");
        command.args(["--echo-upload", "-a", &address.ip().to_string(), "-d"]).arg(folder.path()).args(more);
        if tls.is_none() {
            command.arg("--no-tls");
        }
        command.arg(address.port().to_string());
        if let Some((certificate, key)) = tls {
            command.arg(key).arg(certificate);
        }
        let process = Process::start(&mut command);
        let mut nghttpd = Self { address, process, folder };
        wait_until("nghttpd listens", || {
            let ended = nghttpd.process.ended();
            assert!(ended.is_none(), "{}", nghttpd.process.output());
            TcpStream::connect(address).is_ok()
        });
        Ok(nghttpd)
    }

    /// Puts a file at `/name`.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.folder.path().join(name), content).expect("the folder can be written to");
    }
}
