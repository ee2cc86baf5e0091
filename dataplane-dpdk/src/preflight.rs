//! What can be checked before EAL is started, so that a cause has a name instead of an errno.
//!
//! **Invariant:** reads files only, and a check that can't be made passes: DPDK has the last word.

use std::fs;
use std::path::Path;

use ferrogate_core::config::dataplane::Dpdk;

use crate::device::Device;
use crate::error::StartError;

/// Looks for the causes that DPDK would report badly.
pub(crate) fn check(config: &Dpdk) -> Result<(), StartError> {
    if config.ports.is_empty() {
        return Err(StartError::NoPorts);
    }
    for (key, bytes) in [("rx_ring_bytes", config.rx_ring_bytes), ("tx_ring_bytes", config.tx_ring_bytes)] {
        if !bytes.is_power_of_two() || !(2048..=1 << 30).contains(&bytes) {
            return Err(StartError::Config { key, must: "a power of two from 2048 to 1 GiB" });
        }
    }
    for port in &config.ports {
        if !(576..=9000).contains(&port.mtu) {
            return Err(StartError::Config { key: "ports.mtu", must: "from 576 to 9000" });
        }
        if port.addresses.is_empty() {
            return Err(StartError::Config { key: "ports.address", must: "there" });
        }
        check_device(&Device::new(&port.device))?;
    }
    if config.hugepages {
        let wanted_mib = u64::from(config.memory_mib);
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        if let Some((free_mib, pages)) = lacking_hugepages(&meminfo, wanted_mib) {
            return Err(StartError::NoHugepages { wanted_mib, free_mib, pages });
        }
    }
    Ok(())
}

/// The CPUs that this process may use, in the order in which lcores take them.
pub(crate) fn lcore_cpus() -> Vec<usize> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let isolated = fs::read_to_string("/sys/devices/system/cpu/isolated").unwrap_or_default();
    isolated_first(&parse_cpus(field(&status, "Cpus_allowed_list:").unwrap_or_default()), &parse_cpus(&isolated))
}

/// Those that the kernel keeps free for such as us come first.
fn isolated_first(allowed: &[usize], isolated: &[usize]) -> Vec<usize> {
    let (mut first, others): (Vec<_>, Vec<_>) = allowed.iter().partition(|cpu| isolated.contains(cpu));
    first.extend(others);
    first
}

/// The capabilities that a process keeps which gives up the others once its device is open.
pub(crate) fn needs_later(device: &Device) -> &'static [Capability] {
    // A listener on the kernel's loopback may have a low port; and at the end a program is taken off the interface.
    if device.is_vdev("net_af_xdp") { &[NET_BIND_SERVICE, NET_ADMIN] } else { &[NET_BIND_SERVICE] }
}

/// The capabilities that the device's driver needs, where it needs any.
pub(crate) fn needs_of(device: &Device) -> Option<&'static [Capability]> {
    NEEDS.iter().find(|n| device.is_vdev(n.driver)).map(|n| n.capabilities)
}

fn check_device(device: &Device) -> Result<(), StartError> {
    let name = || device.as_str().to_owned();
    if device.is_pci() {
        if !Path::new("/sys/bus/pci/devices").join(&*device.full_name()).exists() {
            return Err(StartError::NoDevice { device: name(), errno: libc::ENODEV });
        }
        return Ok(());
    }
    let Some(needs) = NEEDS.iter().find(|n| device.is_vdev(n.driver)) else { return Ok(()) };
    if needs.existing_interface {
        let interface = device.argument("iface").unwrap_or_default();
        if interface.is_empty() || !Path::new("/sys/class/net").join(interface).exists() {
            return Err(StartError::NoInterface { device: name(), interface: interface.to_owned() });
        }
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let missing = missing_capabilities(&status, needs.capabilities);
    if missing.is_empty() { Ok(()) } else { Err(StartError::Rights { device: name(), missing }) }
}

/// What a driver needs besides its arguments.
struct Needs {
    driver: &'static str,
    existing_interface: bool,
    capabilities: &'static [Capability],
}

/// A capability: its number in `linux/capability.h`, and its name.
pub(crate) type Capability = (u32, &'static str);

const NET_BIND_SERVICE: Capability = (10, "CAP_NET_BIND_SERVICE");
const NET_ADMIN: Capability = (12, "CAP_NET_ADMIN");
const NET_RAW: Capability = (13, "CAP_NET_RAW");
pub(crate) const IPC_LOCK: Capability = (14, "CAP_IPC_LOCK");
const SYS_ADMIN: Capability = (21, "CAP_SYS_ADMIN");

const NEEDS: &[Needs] = &[
    Needs { driver: "net_af_xdp", existing_interface: true, capabilities: &[NET_RAW, NET_ADMIN, IPC_LOCK, SYS_ADMIN] },
    Needs { driver: "net_af_packet", existing_interface: true, capabilities: &[NET_RAW, NET_ADMIN] },
    Needs { driver: "net_tap", existing_interface: false, capabilities: &[NET_ADMIN] },
];

/// Those of `needed` that a process with this `/proc/PID/status` lacks; none where it does not say.
pub(crate) fn missing_capabilities(status: &str, needed: &[Capability]) -> Vec<&'static str> {
    let Some(mask) = field(status, "CapEff:").and_then(|f| u64::from_str_radix(f, 16).ok()) else {
        return Vec::new();
    };
    needed.iter().filter(|(bit, _)| mask >> bit & 1 == 0).map(|(_, name)| *name).collect()
}

/// When fewer hugepages are free than wanted, by a `/proc/meminfo`: what is free in MiB, and how many pages the host needs in all.
pub(crate) fn lacking_hugepages(meminfo: &str, wanted_mib: u64) -> Option<(u64, u64)> {
    let number = |name| field(meminfo, name)?.split(' ').next()?.parse::<u64>().ok();
    let (total, free) = (number("HugePages_Total:")?, number("HugePages_Free:")?);
    let size_kib = number("Hugepagesize:").filter(|&kib| kib > 0)?;
    let wanted = (wanted_mib * 1024).div_ceil(size_kib);
    (free < wanted).then(|| (free * size_kib / 1024, total - free.min(total) + wanted))
}

/// The value of a line of a file under `/proc`.
pub(crate) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// Reads a list such as `0-3,8`.
pub(crate) fn parse_cpus(list: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse::<usize>().ok()?..=last.trim().parse::<usize>().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferrogate_core::config::dataplane::{Network, Port};
    use std::net::Ipv4Addr;

    fn config(device: &str) -> Dpdk {
        let port = Port {
            device: device.to_owned(),
            addresses: vec![Network::new(Ipv4Addr::new(10, 0, 0, 1), 24)],
            routes: Vec::new(),
            mtu: 1500,
            ..Port::default()
        };
        Dpdk { ports: vec![port], hugepages: false, ..Dpdk::default() }
    }

    #[test]
    fn causes_have_names() {
        assert!(matches!(check(&Dpdk::default()), Err(StartError::NoPorts)));
        assert!(check(&config("net_ring0")).is_ok());
        let none = config("net_af_packet0,iface=nosuch");
        assert!(matches!(check(&none), Err(StartError::NoInterface { interface, .. }) if interface == "nosuch"));
        assert!(matches!(check(&config("net_af_xdp0")), Err(StartError::NoInterface { .. })));
        assert!(matches!(check(&config("ffff:1f.7")), Err(StartError::NoDevice { .. })));
        let odd = Dpdk { rx_ring_bytes: 3000, ..config("net_ring0") };
        assert!(matches!(check(&odd), Err(StartError::Config { key: "rx_ring_bytes", .. })));
        let huge = Dpdk { hugepages: true, memory_mib: u32::MAX, ..config("net_ring0") };
        assert!(matches!(check(&huge), Err(StartError::NoHugepages { .. })));
    }

    #[test]
    fn cpu_lists_are_read() {
        assert_eq!(parse_cpus("0-2,5,7-8"), [0, 1, 2, 5, 7, 8]);
        assert!(parse_cpus("").is_empty());
        assert!(!lcore_cpus().is_empty());
    }

    #[test]
    fn lcores_take_isolated_cpus_first() {
        assert_eq!(isolated_first(&[0, 1, 2, 3], &[2, 3]), [2, 3, 0, 1]);
        assert_eq!(isolated_first(&[0, 1], &[2, 3]), [0, 1], "only those that the process may use");
        assert_eq!(isolated_first(&[0, 1], &[]), [0, 1]);
    }
}
