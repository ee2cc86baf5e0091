//! Where one run plays, and what plays there: the origins for all of it, a proxy for a cell or two.
//!
//! **Invariant:** the proxy has one core, client and origin another; nothing else of ours runs meanwhile.

use std::cell::Cell;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::backend::{Backend, Kind, Plane, Site, ferrogate};
use crate::error::BenchError;
use crate::run::sample;
use crate::scenario::{Front, Scenario, Traffic};
use crate::stage::network::Steering;
use crate::stage::{Certs, Folder, Hugepages, Network, Process};

/// The ground of a run.
#[derive(Debug)]
pub struct Place {
    // Dropped in this order: who uses the network before the network.
    origins: Vec<Process>,
    /// Ports of the origins in clear, which proxies have in turn, and the one with TLS.
    origin_ports: (Vec<u16>, u16),
    /// Proxies so far.
    proxies: Cell<usize>,
    /// Client and origin, and the proxy, are reached over it.
    pub network: Network,
    hugepages: Option<Hugepages>,
    certs: Certs,
    /// Configurations, logs, sockets.
    pub folder: Folder,
    /// This program, which is load generator and origin as well.
    pub program: PathBuf,
    /// The proxy's core.
    pub proxy_core: usize,
    /// The core of client and origin.
    pub load_core: usize,
}

/// What a place is made by.
#[derive(Clone, Copy, Debug)]
pub struct PlaceOptions {
    /// Loopback in place of veth pairs.
    pub loopback: bool,
    /// Received packets go to the core of who receives them.
    pub steer: bool,
    /// The proxy's core.
    pub proxy_core: usize,
    /// The core of client and origin.
    pub load_core: usize,
    /// Whether a packet port will be opened.
    pub dpdk: bool,
}

/// A running proxy. It ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    process: Process,
    family: Vec<u32>,
    /// Where clients reach it, in turn.
    pub listeners: Vec<SocketAddr>,
    /// How the load generator joins it, if its wire is memif.
    pub memif: Option<Memif>,
    admin: SocketAddr,
    polls: bool,
    /// Proportional memory before the first connection.
    pub pss_before: u64,
}

/// The load generator's end of a memif link.
#[derive(Clone, Debug)]
pub struct Memif {
    /// The socket.
    pub socket: PathBuf,
    /// Address and network.
    pub address: String,
    /// Where the origin is, there.
    pub origin_port: u16,
    /// Whether there are hugepages for it.
    pub hugepages: bool,
}

impl Place {
    /// Makes it and starts the origins. `program` is this program.
    ///
    /// # Errors
    /// When something can't be made; what was made before is gone then.
    pub fn make(options: PlaceOptions, program: PathBuf) -> Result<Self, BenchError> {
        let folder = Folder::new()?;
        let certs = Certs::make(&folder)?;
        let steering = Steering { proxy_core: options.proxy_core, load_core: options.load_core };
        let network =
            if options.loopback { Network::Loopback } else { Network::veth(options.steer.then_some(steering))? };
        // On loopback we are not alone.
        let (clear, tls) = if options.loopback { (vec![free_port()?], free_port()?) } else { origin_ports() };
        let hugepages = if options.dpdk { Hugepages::take(HUGEPAGES_MIB) } else { None };
        let mut place = Self {
            origins: Vec::new(),
            origin_ports: (clear.clone(), tls),
            proxies: Cell::new(0),
            network,
            hugepages,
            certs,
            folder,
            program,
            proxy_core: options.proxy_core,
            load_core: options.load_core,
        };
        clear.into_iter().try_for_each(|port| place.start_origin(port, false))?;
        place.start_origin(tls, true)?;
        Ok(place)
    }

    /// A command that runs where client and origin are, on their core.
    #[must_use]
    pub fn peer_command(&self, program: &Path) -> Command {
        let mut command = self.network.command("taskset");
        command.arg("-c").arg(self.load_core.to_string()).arg(program);
        command
    }

    /// # Errors
    /// When an origin has ended.
    pub fn must_stand(&mut self) -> Result<(), BenchError> {
        self.origins.iter_mut().try_for_each(Process::must_run)
    }

    /// Whom a client trusts.
    #[must_use]
    pub fn authority(&self) -> &Path {
        &self.certs.authority
    }

    /// Starts a backend for a scenario and waits until it serves. `environment` is added to its own.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(
        &self,
        backend: &Backend,
        scenario: &Scenario,
        environment: &[(&str, &Path)],
    ) -> Result<Proxy, BenchError> {
        let (site, memif) = self.site(backend, scenario)?;
        let bare = backend.command(&site)?;
        let mut command = Command::new("taskset");
        command.arg("-c").arg(self.proxy_core.to_string()).arg(bare.get_program()).args(bare.get_args());
        for (name, value) in bare.get_envs().filter_map(|(n, v)| Some((n, v?))) {
            command.env(name, value);
        }
        for (name, value) in environment {
            command.env(name, value);
        }
        match (&memif, backend.lane()) {
            // A memif server that was killed leaves its socket.
            (Some(socket), _) => drop(fs::remove_file(socket)),
            (None, Some(lane)) => self.network.reset(lane),
            (None, None) => {}
        }
        let mut process = Process::start(&backend.name, &command, &self.folder.path(&format!("{}.log", backend.name)))?;
        let (listen, admin) = (site.listen, site.admin);
        process.wait_until("start", START_PATIENCE, || {
            if backend.is_ferrogate() {
                sample::get(admin, "/api/v1/states").is_some_and(|s| s.contains("state=6"))
            } else {
                TcpStream::connect_timeout(&listen, Duration::from_millis(200)).is_ok()
            }
        })?;
        let family = sample::family(process.id());
        let (_, pss_before) = sample::memory(&family);
        let memif = memif.map(|socket| Memif {
            socket,
            address: format!("{MEMIF_PEER}/24"),
            origin_port: site.origin.port(),
            hugepages: site.hugepages,
        });
        Ok(Proxy { process, family, listeners: site.listeners(), memif, admin, polls: backend.polls(), pss_before })
    }

    /// What the backend's configuration for this scenario is about, and the memif socket if it has one.
    ///
    /// # Errors
    /// When no free port can be found.
    pub fn site(&self, backend: &Backend, scenario: &Scenario) -> Result<(Site<'_>, Option<PathBuf>), BenchError> {
        let (clear, tls) = &self.origin_ports;
        let origin_port = if scenario.origin_tls { *tls } else { clear[self.proxies.get() % clear.len()] };
        self.proxies.set(self.proxies.get() + 1);
        let (proxy, peer) = backend
            .lane()
            .map_or((MEMIF_PROXY, MEMIF_PEER), |lane| (self.network.proxy(lane), self.network.peer(lane)));
        let tls = match scenario.front {
            Front::Clear => None,
            Front::Ecdsa(_) => Some(&self.certs.ecdsa),
            Front::Rsa(_) => Some(&self.certs.rsa),
        };
        let memif = (backend.kind == Kind::Ferrogate(Plane::Memif)).then(|| self.folder.path("memif.sock"));
        let listen = SocketAddr::from((proxy, self.listen_port(backend)?));
        let site = Site {
            folder: &self.folder,
            listen,
            origin: SocketAddr::from((peer, origin_port)),
            admin: SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?)),
            tls,
            origin_ca: scenario.origin_tls.then_some(self.authority()),
            access_log: (scenario.traffic == Traffic::Real)
                .then(|| self.folder.path(&format!("{}-access.log", backend.name))),
            port: self.device(backend, memif.as_deref()).map(|device| (device, listen)),
            hugepages: self.hugepages.is_some(),
            connections: scenario.connections.max(scenario.overload_connections),
            protocol: scenario.protocol,
            large_bodies: matches!(scenario.traffic, Traffic::Body(_)),
        };
        Ok((site, memif))
    }

    /// On loopback all share an address, and what runs there is not ours.
    fn listen_port(&self, backend: &Backend) -> Result<u16, BenchError> {
        match (&self.network, backend.lane()) {
            (Network::Loopback, Some(_)) => free_port(),
            _ => Ok(LISTEN_PORT),
        }
    }

    /// The name of the packet port, with its arguments.
    fn device(&self, backend: &Backend, memif: Option<&Path>) -> Option<String> {
        match backend.kind {
            Kind::Ferrogate(Plane::AfXdp) => {
                Some(format!("net_af_xdp0,iface={}", self.network.device(backend.lane()?)?))
            }
            Kind::Ferrogate(Plane::AfPacket) => Some(format!(
                "net_af_packet0,iface={},blocksz=65536,framesz=2048,framecnt=1024,qdisc_bypass=1",
                self.network.device(backend.lane()?)?
            )),
            Kind::Ferrogate(Plane::Memif) => {
                Some(format!("net_memif0,role=server,socket={},socket-abstract=no,rsize=11", memif?.display()))
            }
            _ => None,
        }
    }

    fn start_origin(&mut self, port: u16, tls: bool) -> Result<(), BenchError> {
        let mut command = self.peer_command(&self.program);
        command.args(["origin", "--listen", &format!("{}:{port}", self.origin_ip())]);
        if tls {
            command
                .arg("--tls")
                .arg("--cert")
                .arg(&self.certs.ecdsa.certificate)
                .arg("--key")
                .arg(&self.certs.ecdsa.key);
        }
        let name = if tls { "origin-tls" } else { "origin" };
        let mut process = Process::start(name, &command, &self.folder.path(&format!("{name}-{port}.log")))?;
        let address = SocketAddr::from((self.network.peer(crate::stage::network::Lane::Kernel), port));
        process.wait_until("start", START_PATIENCE, || {
            TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
        })?;
        self.origins.push(process);
        Ok(())
    }

    fn origin_ip(&self) -> IpAddr {
        match self.network {
            Network::Loopback => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Network::Veth(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        }
    }
}

impl Proxy {
    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// All of its processes.
    #[must_use]
    pub fn family(&self) -> &[u32] {
        &self.family
    }

    /// Busy time so far, where its plane polls.
    #[must_use]
    pub fn busy_ns(&self) -> Option<u64> {
        if self.polls { sample::busy_ns(self.admin) } else { None }
    }

    /// # Errors
    /// When it has ended by itself.
    pub fn must_run(&mut self) -> Result<(), BenchError> {
        self.process.must_run()
    }

    /// The last lines of its log.
    #[must_use]
    pub fn last_words(&self) -> String {
        self.process.last_words()
    }

    /// Ends it in order.
    pub fn stop(&mut self) {
        self.process.stop();
    }
}

/// A port that nobody listens on now.
fn free_port() -> Result<u16, BenchError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| BenchError::io("find a free port", e))?;
    listener.local_addr().map(|a| a.port()).map_err(|e| BenchError::io("find a free port", e))
}

/// Where origins listen, in clear and with TLS.
///
/// A proxy that ends leaves its connections to them in TIME-WAIT for a minute. With 512 of them for each proxy, one origin's tuples would be
/// used up within a minute of short rounds, and the next proxy could not connect.
fn origin_ports() -> (Vec<u16>, u16) {
    ((9080..9088).collect(), 9443)
}

const LISTEN_PORT: u16 = 8080;

/// The two ends of the memif link.
const MEMIF_PROXY: Ipv4Addr = Ipv4Addr::new(198, 18, 23, 1);
const MEMIF_PEER: Ipv4Addr = Ipv4Addr::new(198, 18, 23, 2);

/// For the gateway and for the load generator at the other end of a memif link.
const HUGEPAGES_MIB: u64 = 2 * ferrogate::MEMORY_MIB + 64;

const START_PATIENCE: Duration = Duration::from_secs(20);
