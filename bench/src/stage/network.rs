//! The wire: veth pairs into a network namespace where client and origin live, or loopback.
//!
//! **Invariant:** the addresses are those for tests between devices (RFC 2544); no setting of the host's own network is changed.

use std::fs::{self, File, TryLockError};
use std::net::Ipv4Addr;
use std::process::Command;

use crate::error::BenchError;
use crate::stage::folder::is_gone;
use crate::stage::process::run;

/// Who uses a pair: the packet backends of DPDK take over an end as a whole, so each has a pair of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// The kernel's sockets; segmentation offloads stay on, as a tuned host has them.
    Kernel,
    /// DPDK's net_af_xdp.
    AfXdp,
    /// DPDK's net_af_packet.
    AfPacket,
}

/// The network of a run.
#[derive(Debug)]
pub enum Network {
    /// Everything on 127.0.0.1.
    Loopback,
    /// A namespace behind veth pairs.
    Veth(Veth),
}

/// The namespace and its pairs; all go when it is dropped.
#[derive(Debug)]
pub struct Veth {
    namespace: String,
    /// Held while the addresses are in use.
    _lock: File,
}

/// Which core receives what, as bits.
#[derive(Clone, Copy, Debug)]
pub struct Steering {
    /// The proxy's.
    pub proxy_core: usize,
    /// The client's and the origin's.
    pub load_core: usize,
}

impl Network {
    /// Makes the namespace and its pairs. Needs root, `ip` and `ethtool`.
    ///
    /// # Errors
    /// When they can't be made, or another run holds the addresses.
    pub fn veth(steering: Option<Steering>) -> Result<Self, BenchError> {
        let lock = take_lock()?;
        remove_leftovers();
        let veth = Veth { namespace: format!("{PREFIX}{}", std::process::id()), _lock: lock };
        run(Command::new("ip").args(["netns", "add", &veth.namespace]))?;
        run(Command::new("ip").args(["-n", &veth.namespace, "link", "set", "lo", "up"]))?;
        for (name, value) in NAMESPACE_SETTINGS {
            // A kernel without one of them is measured without it.
            let _ = run(veth.command("sysctl").args(["-q", "-w", &format!("{name}={value}")]));
        }
        for lane in LANES {
            veth.connect(lane)?;
            if let Some(steering) = steering {
                veth.steer(lane, steering)?;
            }
        }
        Ok(Self::Veth(veth))
    }

    /// As it is called in the results.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Veth(_) => "veth",
        }
    }

    /// The address of the proxy.
    #[must_use]
    pub fn proxy(&self, lane: Lane) -> Ipv4Addr {
        match self {
            Self::Loopback => Ipv4Addr::LOCALHOST,
            Self::Veth(_) => Ipv4Addr::new(198, 18, lane.network(), 1),
        }
    }

    /// The address of client and origin.
    #[must_use]
    pub fn peer(&self, lane: Lane) -> Ipv4Addr {
        match self {
            Self::Loopback => Ipv4Addr::LOCALHOST,
            Self::Veth(_) => Ipv4Addr::new(198, 18, lane.network(), 2),
        }
    }

    /// The end of a pair that a packet backend may have.
    #[must_use]
    pub fn device(&self, lane: Lane) -> Option<String> {
        match self {
            Self::Loopback => None,
            Self::Veth(veth) => Some(veth.ends(lane).0),
        }
    }

    /// A command that runs where client and origin are.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        match self {
            Self::Loopback => Command::new(program),
            Self::Veth(veth) => veth.command(program),
        }
    }

    /// Detaches an XDP program that a killed proxy left, or nobody could attach the next.
    pub fn reset(&self, lane: Lane) {
        if let (Some(device), Lane::AfXdp) = (self.device(lane), lane) {
            let _ = run(Command::new("ip").args(["link", "set", &device, "xdp", "off"]));
        }
    }
}

impl Veth {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]);
        command
    }

    /// The names of the proxy's and of the peer's end.
    fn ends(&self, lane: Lane) -> (String, String) {
        let letter = lane.letter();
        (format!("{}{letter}", self.namespace), format!("{}{}", self.namespace, letter.to_ascii_uppercase()))
    }

    fn connect(&self, lane: Lane) -> Result<(), BenchError> {
        let (port, peer) = self.ends(lane);
        let (namespace, subnet) = (self.namespace.as_str(), lane.network());
        let ip = |words: &[&str]| run(Command::new("ip").args(words));
        ip(&["link", "add", &port, "type", "veth", "peer", "name", &peer, "netns", namespace])?;
        // No IPv6 address of its own, so that the kernel sends nothing there; a kernel without IPv6 knows no such setting.
        let _ = ip(&["link", "set", &port, "addrgenmode", "none"]);
        let _ = fs::write(format!("/proc/sys/net/ipv4/conf/{port}/forwarding"), "0");
        if lane == Lane::Kernel {
            ip(&["address", "add", &format!("198.18.{subnet}.1/24"), "dev", &port])?;
        } else {
            // A packet whose checksum or segments are still to be made is a broken one to a userspace stack.
            run(Command::new("ethtool").args(["-K", &port]).args(OFFLOADS))?;
            run(self.command("ethtool").args(["-K", &peer]).args(OFFLOADS))?;
        }
        ip(&["link", "set", &port, "up"])?;
        ip(&["-n", namespace, "address", "add", &format!("198.18.{subnet}.2/24"), "dev", &peer])?;
        ip(&["-n", namespace, "link", "set", &peer, "up"])?;
        Ok(())
    }

    /// Received packets of each end are worked on by the core of who receives them, as the interrupts of a real card would be set.
    fn steer(&self, lane: Lane, steering: Steering) -> Result<(), BenchError> {
        let (port, peer) = self.ends(lane);
        let (proxy, load) =
            (format!("{:x}", 1_u64 << steering.proxy_core), format!("{:x}", 1_u64 << steering.load_core));
        let path = |device: &str| format!("/sys/class/net/{device}/queues/rx-0/rps_cpus");
        fs::write(path(&port), proxy).map_err(|e| BenchError::io("steer received packets", e))?;
        run(self.command("sh").args(["-c", "echo \"$0\" >\"$1\"", &load, &path(&peer)]))?;
        Ok(())
    }
}

impl Drop for Veth {
    fn drop(&mut self) {
        unmake(&self.namespace);
    }
}

impl Lane {
    fn network(self) -> u8 {
        match self {
            Self::Kernel => 20,
            Self::AfXdp => 21,
            Self::AfPacket => 22,
        }
    }

    fn letter(self) -> char {
        match self {
            Self::Kernel => 'k',
            Self::AfXdp => 'x',
            Self::AfPacket => 'p',
        }
    }
}

fn take_lock() -> Result<File, BenchError> {
    let file = File::create(LOCK).map_err(|e| {
        BenchError::io(format!("write {LOCK} (root is needed for a veth pair; without: --wire loopback)"), e)
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(BenchError::choice(format!("another run is going on on this machine ({LOCK})")))
        }
        Err(TryLockError::Error(e)) => Err(BenchError::io(format!("lock {LOCK}"), e)),
    }
}

/// Takes away what killed runs left: only what has our prefix and whose process is gone.
fn remove_leftovers() {
    let Ok(entries) = fs::read_dir("/run/netns") else { return };
    for name in entries.flatten().filter_map(|e| e.file_name().into_string().ok()) {
        if name.strip_prefix(PREFIX).is_some_and(is_gone) {
            unmake(&name);
        }
    }
}

fn unmake(namespace: &str) {
    for lane in LANES {
        let device = format!("{namespace}{}", lane.letter());
        if fs::exists(format!("/sys/class/net/{device}")).unwrap_or(true) {
            let _ = run(Command::new("ip").args(["link", "delete", &device]));
        }
    }
    let _ = run(Command::new("ip").args(["netns", "delete", namespace]));
}

const LANES: [Lane; 3] = [Lane::Kernel, Lane::AfXdp, Lane::AfPacket];

/// With a process id of seven digits and a letter it fits into the 15 bytes of a device's name.
const PREFIX: &str = "fgbench";

const LOCK: &str = "/run/ferrogate-bench.lock";

const OFFLOADS: [&str; 10] = ["tx", "off", "rx", "off", "gso", "off", "tso", "off", "gro", "off"];

/// For client and origin alone: enough ports and queues for a new connection with each request.
const NAMESPACE_SETTINGS: &[(&str, &str)] = &[
    ("net.ipv4.ip_local_port_range", "1024 65535"),
    ("net.ipv4.tcp_tw_reuse", "1"),
    ("net.ipv4.tcp_max_tw_buckets", "262144"),
    ("net.ipv4.tcp_max_syn_backlog", "65535"),
    ("net.core.somaxconn", "65535"),
];
