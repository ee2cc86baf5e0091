//! Clients and servers that npm has of other protocols, run by Node.js.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use test_support::process::{Process, run};
use test_support::temp::TempDir;
use test_support::{skip, wait_until};

/// Where `make test` puts what npm has for the tests.
pub const MODULES: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/node_modules");

/// A file's name and its text. The first of several is run, the others lie beside it.
pub type Script = (&'static str, &'static str);

/// Whether there is a Node.js with these packages; else the row is skipped.
pub fn has(row: &str, packages: &[&str]) -> bool {
    let script = packages.iter().map(|package| format!("require('{package}');")).collect::<String>();
    let found = run(Command::new("node").env("NODE_PATH", MODULES).args(["-e", &script])).is_ok();
    if !found {
        skip!(row, "no Node.js with {} (npm install, as `make test` does)", packages.join(", "));
    }
    found
}

/// A server, ended when dropped.
pub struct Server {
    pub address: SocketAddr,
    pub process: Process,
    _folder: TempDir,
}

impl Server {
    /// One that chooses its port: it says `serving PORT`.
    pub fn start(scripts: &[Script]) -> Self {
        let (mut command, folder) = (Command::new("node"), TempDir::new());
        let mut port = None;
        let process = started(add(&mut command, &folder, scripts), |process| {
            port = process.output().lines().find_map(|line| line.strip_prefix("serving ")?.parse::<u16>().ok());
            port.is_some()
        });
        let address = SocketAddr::from(([127, 0, 0, 1], port.expect("it was waited for")));
        Self { address, process, _folder: folder }
    }

    /// One that is told its port, by a command that runs Node.js: it says `serving`.
    pub fn start_at(mut command: Command, scripts: &[Script], address: SocketAddr) -> Self {
        let folder = TempDir::new();
        add(&mut command, &folder, scripts).arg(address.port().to_string());
        let process = started(&mut command, |process| process.output().contains("serving"));
        Self { address, process, _folder: folder }
    }

    /// Waits until it accepts connections, where it says that it serves before.
    pub fn that_accepts(self) -> Self {
        wait_until("the server accepts", || TcpStream::connect(self.address).is_ok());
        self
    }
}

/// Has a client go through rows, all of which must hold. `command` runs Node.js where it is to be.
pub fn check(mut command: Command, scripts: &[Script], address: SocketAddr, rows: &[&str], gateway: &Process) {
    let folder = TempDir::new();
    add(&mut command, &folder, scripts).arg(address.to_string()).args(rows);
    let out = run(&mut command).unwrap_or_else(|e| panic!("{e}\n{}", gateway.output()));
    let held: Vec<_> = out.lines().filter_map(|line| line.strip_prefix("ok ")).collect();
    assert_eq!(held, rows, "{out}");
}

fn add<'c>(command: &'c mut Command, folder: &TempDir, scripts: &[Script]) -> &'c mut Command {
    let files: Vec<_> = scripts.iter().map(|(name, text)| folder.write(name, text)).collect();
    command.env("NODE_PATH", MODULES).arg(&files[0])
}

fn started(command: &mut Command, mut serves: impl FnMut(&Process) -> bool) -> Process {
    let mut process = Process::start(command);
    wait_until("the server serves", || {
        let ended = process.ended();
        assert!(ended.is_none(), "{}", process.output());
        serves(&process)
    });
    process
}
