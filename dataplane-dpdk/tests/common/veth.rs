//! A veth pair with one end in a network namespace of its own: the kernel's TCP as a peer.

use std::fs::File;
use std::io::Write;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns};

/// Our address, on the end that a port is opened on.
pub const OURS: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 1);
/// The kernel's, inside the namespace.
pub const THEIRS: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 2);

pub struct Veth {
    namespace: String,
    /// The end outside of the namespace.
    pub interface: String,
}

impl Veth {
    /// Makes the pair, or says why this host can't.
    pub fn new() -> Result<Self, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("fg{}x{}", std::process::id() % 1_000_000, NUMBER.fetch_add(1, Ordering::Relaxed));
        let veth = Self { namespace: format!("{name}ns"), interface: format!("{name}a") };
        let (ns, a, b) = (veth.namespace.as_str(), veth.interface.as_str(), &*format!("{name}b"));
        ip(&["netns", "add", ns])?;
        ip(&["link", "add", a, "type", "veth", "peer", "name", b, "netns", ns])?;
        // The kernel's own packets on our end (router solicitations) only disturb.
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{a}/disable_ipv6"), "1");
        ip(&["link", "set", a, "up"])?;
        ip(&["-n", ns, "addr", "add", &format!("{THEIRS}/24"), "dev", b])?;
        ip(&["-n", ns, "link", "set", b, "up"])?;
        ip(&["-n", ns, "link", "set", "lo", "up"])?;
        // A checksum that the kernel leaves to a veth is never filled in.
        call("ip", &["netns", "exec", ns, "ethtool", "-K", b, "tx", "off", "gso", "off", "tso", "off", "gro", "off"])?;
        Ok(veth)
    }

    /// Runs `f` on a thread inside the namespace. A socket stays where it was opened.
    pub fn inside<R: Send + 'static>(&self, f: impl FnOnce() -> R + Send + 'static) -> R {
        let namespace = File::open(format!("/run/netns/{}", self.namespace)).expect("the namespace is there");
        let thread = thread::spawn(move || {
            // Moves this thread only.
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("the namespace can be entered");
            f()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Veth {
    fn drop(&mut self) {
        let _ = ip(&["netns", "del", &self.namespace]);
        // Gone with its peer as a rule; not if the namespace was never made.
        let _ = ip(&["link", "del", &self.interface]);
    }
}

/// Says in the test's output that it could not run. Past the capture of passed tests, so that it is always seen.
pub fn skipped(test: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: {reason}");
}

fn ip(args: &[&str]) -> Result<(), String> {
    call("ip", args)
}

fn call(program: &str, args: &[&str]) -> Result<(), String> {
    let out = Command::new(program).args(args).output().map_err(|e| format!("{program}: {e}"))?;
    let text = String::from_utf8_lossy(&out.stderr);
    if out.status.success() { Ok(()) } else { Err(format!("{program} {}: {}", args.join(" "), text.trim())) }
}
