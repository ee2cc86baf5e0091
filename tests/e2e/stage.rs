//! Where a test plays: a gateway on one of the planes, and clients that can reach it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::OnceLock;

use test_support::certs::Pair;
use test_support::client::Client;
use test_support::netns::Veth;
use test_support::ports::free_udp_address;
use test_support::temp::TempDir;
use test_support::wire::Wire;
use test_support::{Config, Gateway, Origin, skip};

/// A plane to run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plane {
    /// The kernel's sockets, on loopback.
    Kernel,
    /// DPDK over a packet socket on a veth pair; clients are in a namespace at its other end.
    AfPacket,
    /// DPDK over AF_XDP, the same otherwise.
    AfXdp,
    /// Two workers on the two queues of a packet socket, over which the kernel spreads by a hash of its own.
    AfPacketPair,
    /// Two workers on the one queue that AF_XDP has on a veth pair.
    AfXdpShared,
}

/// A running gateway. It ends before the network that it uses.
pub struct Stage {
    /// The gateway.
    pub gateway: Gateway,
    /// Where clients find it.
    pub address: SocketAddr,
    veth: Option<Veth>,
}

/// Makes a test of each function on each plane. A function takes the plane.
macro_rules! on_both_planes {
    ($($name:ident),* $(,)?) => {
        mod kernel {
            $(#[test] fn $name() { super::$name($crate::stage::Plane::Kernel) })*
        }
        mod dpdk {
            $(#[test] fn $name() { super::$name($crate::stage::Plane::AfPacket) })*
        }
    };
}
pub(crate) use on_both_planes;

/// The backends of TLS that the binary has, by their names in the file. Without OpenSSL its part of a row is skipped.
pub fn tls_backends() -> &'static [&'static str] {
    static HAS_OPENSSL: OnceLock<bool> = OnceLock::new();
    let has_openssl = *HAS_OPENSSL.get_or_init(|| {
        let (pair, folder) = (Pair::for_names(&["test.example"]), TempDir::new());
        let config = Config::proxy_to(&[]).tls(&[pair.paths()]).extra("tls_backend: {backend: openssl}\n");
        let file = folder.write("gateway.yaml", &config.text());
        let told = Command::new(binary()).args(["check", "-c"]).arg(file).output().expect("the binary runs");
        !String::from_utf8_lossy(&told.stderr).contains("built without OpenSSL")
    });
    if has_openssl {
        return &["rustls", "openssl"];
    }
    skip!("e2e-openssl", "this binary is built without OpenSSL");
    &["rustls"]
}

impl Plane {
    /// Starts a gateway in front of an origin, with nothing special. None, and a skipped row, where this plane can't run.
    pub fn front_of(self, origin: &Origin) -> Option<Stage> {
        self.start(Config::proxy_to(&[origin.address()]))
    }

    /// Addresses for so many servers of datagrams beside the clients: free ones, for [`Stage::bind`].
    pub fn servers(self, count: u16) -> Vec<SocketAddr> {
        let of_peer = |n| SocketAddr::from((Veth::PEER_ADDRESS, FIRST_SERVER_PORT + n));
        (0..count).map(|n| if self == Self::Kernel { free_udp_address() } else { of_peer(n) }).collect()
    }

    /// Starts a gateway with this configuration. None, and a skipped row, where this plane can't run.
    pub fn start(self, config: Config) -> Option<Stage> {
        self.start_by(|| Command::new(binary()), config)
    }

    /// The same by another command, to which arguments are added.
    pub fn start_by(self, command: impl Fn() -> Command, config: Config) -> Option<Stage> {
        let device = match self {
            Self::Kernel => {
                let gateway = Gateway::launch(&mut command(), &config);
                let gateway = gateway.unwrap_or_else(|e| panic!("{}\n{}", e.status, e.output));
                return Some(Stage { address: gateway.listen, gateway, veth: None });
            }
            Self::AfPacket => "net_af_packet0,blocksz=65536,framesz=2048,framecnt=1024,qdisc_bypass=1",
            Self::AfXdp | Self::AfXdpShared => "net_af_xdp0",
            Self::AfPacketPair => "net_af_packet0,blocksz=65536,framesz=2048,framecnt=1024,qpairs=2",
        };
        let workers = if matches!(self, Self::AfPacketPair | Self::AfXdpShared) { 2 } else { 1 };
        let row = if matches!(self, Self::AfXdp | Self::AfXdpShared) { "e2e-af_xdp" } else { "e2e-af_packet" };
        // The kernel refuses a packet socket now and then when many are made and closed at once: tried again, on a link of its own.
        let mut refused = String::new();
        for _ in 0..STARTS_MAX {
            match start_on_port(&mut command(), device, workers, config.clone()) {
                Ok(stage) => return Some(stage),
                Err(reason) => refused = reason.to_string(),
            }
        }
        skip!(row, "{refused}");
        None
    }
}

impl Stage {
    /// A client's connection to the gateway.
    pub fn client(&self) -> Client {
        self.try_client().unwrap_or_else(|e| panic!("{}: {e}", self.address))
    }

    /// The same, where it may be refused.
    pub fn try_client(&self) -> io::Result<Client> {
        match &self.veth {
            None => Client::try_connect(self.address),
            Some(veth) => veth.connect(self.address).map(|stream| Client::over(Wire::tcp(stream))),
        }
    }

    /// The network of a plane that has one.
    pub fn veth(&self) -> &Veth {
        self.veth.as_ref().expect("a plane with a port")
    }

    /// A connection to the gateway, for bytes of any kind.
    pub fn wire(&self) -> Wire {
        let connected = match &self.veth {
            None => TcpStream::connect(self.address),
            Some(veth) => veth.connect(self.address),
        };
        Wire::tcp(connected.unwrap_or_else(|e| panic!("{}: {e}", self.address)))
    }

    /// The address of the port, of IPv6; None on the kernel plane.
    pub fn address_6(&self) -> Option<SocketAddr> {
        self.veth.as_ref().map(|_| (Veth::PORT_ADDRESS_6, self.address.port()).into())
    }

    /// The clients' end of the link; None on the kernel plane.
    pub fn link(&self) -> Option<&str> {
        self.veth.as_ref().map(|veth| veth.peer.as_str())
    }

    /// A command that runs where clients are.
    pub fn client_command(&self, program: &str) -> Command {
        self.veth.as_ref().map_or_else(|| Command::new(program), |veth| veth.command(program))
    }

    /// Runs `f` where clients are. A socket stays there that it opens.
    pub fn inside<R: Send + 'static>(&self, f: impl FnOnce() -> R + Send + 'static) -> R {
        match &self.veth {
            None => f(),
            Some(veth) => veth.inside(f),
        }
    }

    /// A socket for datagrams where clients are, at this address; 0.0.0.0 and port 0 are any.
    pub fn bind(&self, address: SocketAddr) -> UdpSocket {
        self.inside(move || UdpSocket::bind(address).unwrap_or_else(|e| panic!("{address}: {e}")))
    }

    /// An address that a client may have, another one for each number from 1 to 100.
    pub fn client_ip(&self, number: u8) -> IpAddr {
        let Some(veth) = &self.veth else { return Ipv4Addr::new(127, 0, 0, number).into() };
        let ip = Ipv4Addr::new(198, 18, 0, 100 + number);
        let address = format!("{ip}/{}", Veth::PREFIX_LEN);
        let added = veth.command("ip").args(["address", "replace", &address, "dev", &veth.peer]).status();
        assert!(added.expect("iproute2 is there").success(), "{address}");
        ip.into()
    }

    /// How often hosts of the cluster `origins` have been probed; 0 before it is counted.
    pub fn probes(&self) -> f64 {
        let page = self.gateway.admin("/metrics").text();
        let counted = page.contains("healthcheck_attempt_total{");
        if counted { self.gateway.metric("healthcheck_attempt_total", "cluster=\"origins\"") } else { 0.0 }
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// The binary under test.
pub fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_ferrogate")
}

/// Starts a gateway on a port of a veth pair; why it can't, where the cause is this machine or this build.
fn start_on_port(command: &mut Command, device: &str, workers: usize, config: Config) -> Result<Stage, String> {
    let veth = Veth::new()?;
    let dataplane = format!(
        "dataplane:
  type: dpdk
  workers: {workers}
  fallback: none
  dpdk:
    hugepages: false
    memory_mib: 128
{more}    ports:
      - device: \"{device},iface={port}\"
        address: {address}/{prefix}
        addresses: [\"{address_6}/{prefix_6}\"]
        gateway: {gateway}
        gateway6: \"{gateway_6}\"
{of_port}",
        port = veth.port,
        address_6 = Veth::PORT_ADDRESS_6,
        prefix_6 = Veth::PREFIX_LEN_6,
        gateway = Veth::PEER_ADDRESS,
        gateway_6 = Veth::PEER_ADDRESS_6,
        address = Veth::PORT_ADDRESS,
        prefix = Veth::PREFIX_LEN,
        more = config.dpdk.concat(),
        of_port = config.port.concat(),
    );
    // The listener's loopback address is served on the port's own.
    let address = SocketAddr::from((Veth::PORT_ADDRESS, config.listen.port()));
    match Gateway::launch(command, &config.dataplane(&dataplane)) {
        Ok(gateway) => Ok(Stage { gateway, address, veth: Some(veth) }),
        Err(exited) if exited.status.code() == Some(PLANE_UNAVAILABLE) => {
            Err(exited.output.lines().last().unwrap_or("the plane can't start").to_owned())
        }
        Err(exited) => panic!("{}\n{}", exited.status, exited.output),
    }
}

/// The first port of servers in the clients' namespace, where all are free.
const FIRST_SERVER_PORT: u16 = 9000;

/// The exit code for a plane that can't start.
const PLANE_UNAVAILABLE: i32 = 3;

/// How often a gateway on a port is started before its row counts as one that can't run here.
const STARTS_MAX: usize = 3;
