//! Network namespaces, at the other end of a veth pair or joined to each other: a network of one test's own.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns};

use crate::process::run;
use crate::wait::PATIENCE;

/// A veth pair: one end for a packet port, without an address; the other in a namespace. Both go when it is dropped.
#[derive(Debug)]
pub struct Veth {
    /// The namespace.
    pub namespace: String,
    /// The end for the port.
    pub port: String,
    /// The end in the namespace.
    pub peer: String,
}

impl Veth {
    /// Makes the pair, all offloads off on both ends: a packet whose checksum is still to be made is a broken one to a userspace stack.
    ///
    /// # Errors
    /// When it can't be made here, with the reason: no rights, or no such devices.
    pub fn new() -> Result<Self, String> {
        remove_leftovers();
        let tag = fresh_tag();
        let veth = Self { namespace: tag.clone(), port: format!("{tag}a"), peer: format!("{tag}b") };
        veth.make()?;
        Ok(veth)
    }

    /// The address that the port is meant to have: one for tests between devices (RFC 2544), so that no real network is hidden.
    pub const PORT_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

    /// The address of the namespace's end.
    pub const PEER_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);

    /// The length of their network's prefix.
    pub const PREFIX_LEN: u8 = 24;

    /// The IPv6 address that the port is meant to have.
    pub const PORT_ADDRESS_6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x198, 0x18, 0, 0, 0, 0, 1);

    /// The IPv6 address of the namespace's end.
    pub const PEER_ADDRESS_6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x198, 0x18, 0, 0, 0, 0, 2);

    /// The length of their network's prefix.
    pub const PREFIX_LEN_6: u8 = 64;

    /// Moves the calling thread, and no other, into the namespace for good.
    ///
    /// # Panics
    /// When the namespace can't be entered.
    pub fn enter(&self) {
        let namespace = File::open(format!("/run/netns/{}", self.namespace)).expect("the namespace is there");
        setns(namespace, CloneFlags::CLONE_NEWNET).expect("the namespace can be entered");
    }

    /// A command that runs in the namespace.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]);
        command
    }

    /// Runs `f` on a thread inside the namespace. A socket stays in the namespace that it was opened in, wherever it is used.
    ///
    /// # Panics
    /// When the namespace can't be entered, and as `f` does.
    pub fn inside<R: Send + 'static>(&self, f: impl FnOnce() -> R + Send + 'static) -> R {
        inside(&self.namespace, f)
    }

    /// Connects from within the namespace.
    ///
    /// # Errors
    /// Those of `connect`.
    ///
    /// # Panics
    /// When the namespace can't be entered.
    pub fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.inside(move || TcpStream::connect_timeout(&address, PATIENCE))
    }

    fn make(&self) -> Result<(), String> {
        let (namespace, port, peer) = (self.namespace.as_str(), self.port.as_str(), self.peer.as_str());
        let address = format!("{}/{}", Self::PEER_ADDRESS, Self::PREFIX_LEN);
        ip(&["netns", "add", namespace])?;
        ip(&["link", "add", port, "type", "veth", "peer", "name", peer, "netns", namespace])?;
        // No IPv6 address of its own, so that the kernel sends nothing there; a kernel without IPv6 knows no such setting.
        let _ = ip(&["link", "set", port, "addrgenmode", "none"]);
        // Should this machine forward packets: not these, they are the port's.
        let _ = fs::write(format!("/proc/sys/net/ipv4/conf/{port}/forwarding"), "0");
        ip(&["link", "set", port, "up"])?;
        ip(&["-n", namespace, "link", "set", "lo", "up"])?;
        ip(&["-n", namespace, "address", "add", &address, "dev", peer])?;
        let address = format!("{}/{}", Self::PEER_ADDRESS_6, Self::PREFIX_LEN_6);
        // Without the search for who else has it, which takes a second. A kernel without IPv6 has none.
        let _ = ip(&["-n", namespace, "address", "add", &address, "dev", peer, "nodad"]);
        ip(&["-n", namespace, "link", "set", peer, "up"])?;
        run(Command::new("ethtool").args(["-K", port]).args(OFFLOADS))?;
        run(self.command("ethtool").args(["-K", peer]).args(OFFLOADS))?;
        Ok(())
    }

    fn unmake(tag: &str) {
        let _ = ip(&["link", "delete", &format!("{tag}a")]);
        let _ = ip(&["netns", "delete", tag]);
    }
}

/// A network namespace of its own, with its loopback up. It goes, with the links in it, when it is dropped.
#[derive(Debug)]
pub struct Namespace {
    /// Its name.
    pub name: String,
}

impl Namespace {
    /// Makes one.
    ///
    /// # Errors
    /// When it can't be made here, with the reason.
    pub fn new() -> Result<Self, String> {
        remove_leftovers();
        let this = Self { name: fresh_tag() };
        ip(&["netns", "add", &this.name])?;
        this.ip(&["link", "set", "lo", "up"])?;
        Ok(this)
    }

    /// Joins two by a link. The address of this one there is `198.18.NUMBER.1` and `fd00:NUMBER::1`, that of the other one ends in 2.
    ///
    /// # Errors
    /// When the link can't be made here, with the reason.
    pub fn join(&self, other: &Self, number: u8) -> Result<(), String> {
        let (near, far) = (format!("near{number}"), format!("far{number}"));
        let pair =
            ["link", "add", &near, "netns", &self.name, "type", "veth", "peer", "name", &far, "netns", &other.name];
        ip(&pair)?;
        for (side, device, last) in [(self, &near, 1), (other, &far, 2)] {
            side.ip(&["address", "add", &format!("198.18.{number}.{last}/24"), "dev", device])?;
            // Without the search for who else has it, which takes a second.
            side.ip(&["address", "add", &format!("fd00:{number}::{last}/64"), "dev", device, "nodad"])?;
            side.ip(&["link", "set", device, "up"])?;
        }
        Ok(())
    }

    /// Runs `ip` in it.
    ///
    /// # Errors
    /// What it prints when it fails.
    pub fn ip(&self, arguments: &[&str]) -> Result<String, String> {
        ip(&[&["-n", &self.name][..], arguments].concat())
    }

    /// A command that runs in it.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs `f` on a thread inside it, as [`Veth::inside`].
    ///
    /// # Panics
    /// When it can't be entered, and as `f` does.
    pub fn inside<R: Send + 'static>(&self, f: impl FnOnce() -> R + Send + 'static) -> R {
        inside(&self.name, f)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip(&["netns", "delete", &self.name]);
    }
}

/// Process id and number: unique, and within the 15 bytes of an interface's name.
fn fresh_tag() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{PREFIX}{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn inside<R: Send + 'static>(name: &str, f: impl FnOnce() -> R + Send + 'static) -> R {
    let namespace = File::open(format!("/run/netns/{name}")).expect("the namespace is there");
    // A thread of its own enters it, so that no other is moved.
    let inside = thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).expect("the namespace can be entered");
        f()
    });
    inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl Drop for Veth {
    fn drop(&mut self) {
        Self::unmake(&self.namespace);
    }
}

fn ip(arguments: &[&str]) -> Result<String, String> {
    run(Command::new("ip").args(arguments))
}

/// Takes away what test processes left that were killed: only what has our prefix and whose process is gone.
fn remove_leftovers() {
    let Ok(entries) = fs::read_dir("/run/netns") else { return };
    for name in entries.flatten().filter_map(|e| e.file_name().into_string().ok()) {
        let process = name.strip_prefix(PREFIX).and_then(|n| n.split('x').next());
        if process.is_some_and(|p| p.parse::<u32>().is_ok() && !fs::exists(format!("/proc/{p}")).unwrap_or(true)) {
            Veth::unmake(&name);
        }
    }
}

const PREFIX: &str = "fgt";

const OFFLOADS: [&str; 10] = ["tx", "off", "rx", "off", "gso", "off", "tso", "off", "gro", "off"];
