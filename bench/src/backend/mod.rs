//! The proxies that are compared, and a configuration of each for each scenario.
//!
//! All get the same: one worker, connections that are kept on both sides without a limit of requests, no log but in `h1-real`, the same
//! certificates, TLS 1.3 with tickets, long queues of new connections.
//!
//! **Invariant:** a file that is written here passes the proxy's own check.

pub mod envoy;
pub mod ferrogate;
pub mod haproxy;
pub mod mosn;
pub mod nginx;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;

use crate::error::BenchError;
use crate::machine::version_of;
use crate::scenario::{Protocol, Scenario, Wires};
use crate::stage::Folder;
use crate::stage::certs::Pair;
use crate::stage::network::Lane;
use crate::stage::process::find;

/// A proxy that takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its name in results: `ferrogate-kernel`, `nginx`.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its binary.
    pub program: PathBuf,
}

/// What a backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ferrogate on one of its planes.
    Ferrogate(Plane),
    /// nginx.
    Nginx,
    /// HAProxy.
    Haproxy,
    /// Envoy.
    Envoy,
    /// MOSN.
    Mosn,
}

/// Ferrogate's planes and packet backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Plane {
    /// The kernel's sockets.
    Kernel,
    /// DPDK's net_af_xdp.
    AfXdp,
    /// DPDK's net_af_packet.
    AfPacket,
    /// DPDK's net_memif: shared memory, the load at its other end.
    Memif,
}

/// What a configuration has to be about.
#[derive(Clone, Debug)]
pub struct Site<'a> {
    /// The run's folder.
    pub folder: &'a Folder,
    /// Where the proxy serves. Ferrogate serves more ports from there on where one has not the numbers for all connections of a client.
    pub listen: SocketAddr,
    /// Where the origin is.
    pub origin: SocketAddr,
    /// Where the proxy may have an admin API.
    pub admin: SocketAddr,
    /// The pair to serve TLS with.
    pub tls: Option<&'a Pair>,
    /// Whom to trust at the origin, if it speaks TLS.
    pub origin_ca: Option<&'a Path>,
    /// The file for the access log, which also stands for 200 virtual hosts.
    pub access_log: Option<PathBuf>,
    /// How Ferrogate's packet port is called, and its address.
    pub port: Option<(String, SocketAddr)>,
    /// Whether there are hugepages for it.
    pub hugepages: bool,
    /// Connections that have to fit.
    pub connections: u64,
    /// What clients speak.
    pub protocol: Protocol,
    /// Whether answers are large: who has buffers of a fixed size gets larger ones.
    pub large_bodies: bool,
}

impl Site<'_> {
    /// Whether connections are relayed, not requests.
    #[must_use]
    pub fn relay(&self) -> bool {
        self.protocol == Protocol::Relay
    }

    /// Whether clients and origins speak SOFA Bolt.
    #[must_use]
    pub fn bolt(&self) -> bool {
        matches!(self.protocol, Protocol::Bolt { .. })
    }

    /// Whether clients speak HTTP/2.
    #[must_use]
    pub fn http2(&self) -> bool {
        matches!(self.protocol, Protocol::Http2 { .. })
    }

    /// Where clients connect to, in turn: a client on our own stack has 32,768 port numbers for each of them.
    #[must_use]
    pub fn listeners(&self) -> Vec<SocketAddr> {
        let ports = u16::try_from(self.connections.div_ceil(CONNECTIONS_PER_PORT).max(1)).unwrap_or(u16::MAX);
        let at = |n: u16| SocketAddr::new(self.listen.ip(), self.listen.port() + n);
        if self.port.is_some() { (0..ports).map(at).collect() } else { vec![self.listen] }
    }
}

impl Backend {
    /// Writes its configuration and says how it is started, without pinning.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn command(&self, site: &Site<'_>) -> Result<Command, BenchError> {
        let mut command = Command::new(&self.program);
        match self.kind {
            Kind::Ferrogate(_) => {
                let file = site.folder.write(&format!("{}.yaml", self.name), &ferrogate::config(site))?;
                command.arg("start").arg("-c").arg(file);
            }
            Kind::Nginx => {
                let file = site.folder.write("nginx.conf", &nginx::config(site))?;
                command.arg("-p").arg(site.folder.root()).arg("-c").arg(file);
            }
            Kind::Haproxy => {
                haproxy::write_map(site)?;
                let file = site.folder.write("haproxy.cfg", &haproxy::config(site))?;
                command.arg("-db").arg("-f").arg(file);
            }
            Kind::Envoy => {
                let file = site.folder.write("envoy.yaml", &envoy::config(site))?;
                command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "-c"]).arg(file);
            }
            Kind::Mosn => {
                let file = site.folder.write("mosn.json", &mosn::config(site))?;
                command.args(["start", "-c"]).arg(file).env("GOMAXPROCS", "1");
            }
        }
        Ok(command)
    }

    /// The command by which the proxy checks the file that [`command`](Self::command) wrote, for those that have one.
    #[must_use]
    pub fn check(&self, site: &Site<'_>) -> Option<Command> {
        let mut command = Command::new(&self.program);
        match self.kind {
            Kind::Ferrogate(_) => command.arg("check").arg("-c").arg(site.folder.path(&format!("{}.yaml", self.name))),
            Kind::Nginx => {
                command.arg("-t").arg("-p").arg(site.folder.root()).arg("-c").arg(site.folder.path("nginx.conf"))
            }
            Kind::Haproxy => command.arg("-c").arg("-f").arg(site.folder.path("haproxy.cfg")),
            Kind::Envoy => command.args(["--mode", "validate", "-c"]).arg(site.folder.path("envoy.yaml")),
            Kind::Mosn => return None,
        };
        Some(command)
    }

    /// What it says its version is.
    #[must_use]
    pub fn version(&self) -> String {
        let argument = match self.kind {
            Kind::Ferrogate(_) | Kind::Envoy | Kind::Mosn => "--version",
            Kind::Nginx | Kind::Haproxy => "-v",
        };
        version_of(&self.program, argument).unwrap_or_else(|| "unknown".to_owned())
    }

    /// Which veth pair it is reached over; None for memif.
    #[must_use]
    pub fn lane(&self) -> Option<Lane> {
        match self.kind {
            Kind::Ferrogate(Plane::Memif) => None,
            Kind::Ferrogate(Plane::AfXdp) => Some(Lane::AfXdp),
            Kind::Ferrogate(Plane::AfPacket) => Some(Lane::AfPacket),
            _ => Some(Lane::Kernel),
        }
    }

    /// Whether it polls, so that its CPU time says nothing about its work.
    #[must_use]
    pub fn polls(&self) -> bool {
        matches!(self.kind, Kind::Ferrogate(p) if p != Plane::Kernel)
    }

    /// Whether it is Ferrogate.
    #[must_use]
    pub fn is_ferrogate(&self) -> bool {
        matches!(self.kind, Kind::Ferrogate(_))
    }

    /// Whether it takes part in a scenario.
    #[must_use]
    pub fn plays(&self, scenario: &Scenario) -> bool {
        // Debian's nginx relays with a module of its own package.
        if scenario.protocol == Protocol::Relay && self.kind == Kind::Nginx && !Path::new(nginx::STREAM_MODULE).exists()
        {
            return false;
        }
        if matches!(scenario.protocol, Protocol::Bolt { .. }) && !(self.is_ferrogate() || self.kind == Kind::Mosn) {
            return false;
        }
        match scenario.wires {
            Wires::All => true,
            Wires::Memif => self.lane().is_none(),
            Wires::NotMemif => self.lane().is_some(),
        }
    }
}

/// Where the binaries are.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    /// Ferrogate's.
    pub ferrogate: PathBuf,
    /// Envoy's, if given.
    pub envoy: Option<PathBuf>,
    /// MOSN's, if given.
    pub mosn: Option<PathBuf>,
}

/// Every backend there is: its name, and the backend or why it is not there.
#[must_use]
pub fn all(programs: &Programs) -> Vec<(String, Result<Backend, String>)> {
    let ferrogate =
        |plane: Plane| (plane.backend_name().to_owned(), Ok(Kind::Ferrogate(plane)), Some(programs.ferrogate.clone()));
    let given = |name: &str, kind, path: &Option<PathBuf>| {
        let absent = || format!("no binary was given (--{name} PATH)");
        (name.to_owned(), path.as_ref().map(|_| kind).ok_or_else(absent), path.clone())
    };
    let installed = |name: &str, kind| {
        let path = find(name);
        (name.to_owned(), path.as_ref().map(|_| kind).ok_or_else(|| format!("{name} is not installed")), path)
    };
    let found = [
        ferrogate(Plane::Kernel),
        ferrogate(Plane::AfXdp),
        ferrogate(Plane::AfPacket),
        ferrogate(Plane::Memif),
        installed("nginx", Kind::Nginx),
        installed("haproxy", Kind::Haproxy),
        given("envoy", Kind::Envoy, &programs.envoy),
        given("mosn", Kind::Mosn, &programs.mosn),
    ];
    let backend = |name: String, kind: Result<Kind, String>, program: Option<PathBuf>| {
        let backend = kind.map(|kind| Backend { name: name.clone(), kind, program: program.unwrap_or_default() });
        (name, backend)
    };
    found.into_iter().map(|(name, kind, program)| backend(name, kind, program)).collect()
}

impl Plane {
    /// The backend's name in results.
    #[must_use]
    pub fn backend_name(self) -> &'static str {
        match self {
            Self::Kernel => "ferrogate-kernel",
            Self::AfXdp => "ferrogate-af_xdp",
            Self::AfPacket => "ferrogate-af_packet",
            Self::Memif => "ferrogate-memif",
        }
    }
}

const CONNECTIONS_PER_PORT: u64 = 30_000;

/// Virtual hosts of `h1-real`: `h000.example` and on.
pub const VIRTUAL_HOSTS: usize = 200;

/// Routes of each: `/r00/` and on.
pub const ROUTES: usize = 50;

/// Clusters that the routes are spread over, all with the one origin: so that a wrong choice is as likely as a right one.
pub const CLUSTERS: usize = 4;

/// The name of a virtual host.
#[must_use]
pub fn host_name(number: usize) -> String {
    format!("h{number:03}.example")
}

/// The prefix of a route's paths.
#[must_use]
pub fn route_prefix(number: usize) -> String {
    format!("/r{number:02}/")
}

/// The cluster of a route.
#[must_use]
pub fn cluster_of(host: usize, route: usize) -> usize {
    (host + route) % CLUSTERS
}
