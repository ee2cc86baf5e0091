//! A real HAProxy, in front of the gateway or behind it.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use crate::process::Process;
use crate::temp::TempDir;
use crate::wait::wait_until;

/// A running HAProxy, killed when dropped.
#[derive(Debug)]
pub struct Haproxy {
    _process: Process,
    _folder: TempDir,
}

impl Haproxy {
    /// Starts it with these sections behind `global` and `defaults`, and waits until it listens there.
    ///
    /// # Errors
    /// When HAProxy is not installed.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(listen: SocketAddr, sections: &str) -> Result<Self, String> {
        let found = Command::new("haproxy").arg("-v").output();
        found.map_err(|e| format!("haproxy can't be run: {e}"))?;
        let folder = TempDir::new();
        let defaults = "global\n  nbthread 1\n  maxconn 1000\n  no strict-limits\ndefaults\n  timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n";
        let file = folder.write("haproxy.cfg", &format!("{defaults}{sections}"));
        let mut process = Process::start(Command::new("haproxy").arg("-db").arg("-f").arg(file));
        wait_until("haproxy listens", || {
            let ended = process.ended();
            assert!(ended.is_none(), "{}", process.output());
            TcpStream::connect(listen).is_ok()
        });
        Ok(Self { _process: process, _folder: folder })
    }
}
