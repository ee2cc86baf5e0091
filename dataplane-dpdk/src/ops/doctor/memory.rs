//! Memory: hugepages, and what may be locked.
//!
//! **Invariant:** counts pages of the size that the kernel uses by default, as EAL does.

use ferrogate_core::config::dataplane::Dpdk;

use super::Findings;
use super::host::Host;
use super::rights;
use crate::device::Device;
use crate::preflight::{IPC_LOCK, field, lacking_hugepages};

pub(super) fn look(host: &Host, config: &Dpdk, devices: &[Device], found: &mut Findings) {
    hugepages(host, config, found);
    if devices.iter().any(|device| device.is_pci() || device.is_vdev("net_af_xdp")) {
        locked_memory(host, found);
    }
}

fn hugepages(host: &Host, config: &Dpdk, found: &mut Findings) {
    let wanted_mib = u64::from(config.memory_mib);
    if !config.hugepages {
        let remedy = "dataplane.dpdk.hugepages: true";
        return found.warning(
            "hugepages",
            "not used: each packet may cost a TLB miss, and no card can be driven",
            remedy,
        );
    }
    let meminfo = host.text("proc/meminfo").unwrap_or_default();
    if field(&meminfo, "Hugepagesize:").is_none() {
        return found.problem("hugepages", "this kernel has none", "dataplane.dpdk.hugepages: false");
    }
    let Some((free_mib, pages)) = lacking_hugepages(&meminfo, wanted_mib) else {
        return found.good("hugepages", format!("{wanted_mib} MiB are wanted and free"));
    };
    found.problem(
        "hugepages",
        format!("{free_mib} MiB are free, {wanted_mib} are wanted (dataplane.dpdk.memory_mib)"),
        format!("echo {pages} > /proc/sys/vm/nr_hugepages; for good: vm.nr_hugepages={pages} in /etc/sysctl.d/80-hugepages.conf"),
    );
}

fn locked_memory(host: &Host, found: &mut Findings) {
    if rights::missing(host, &[IPC_LOCK]).is_empty() {
        return;
    }
    let Some(limit) = host.field("proc/self/limits", "Max locked memory") else { return };
    let soft = limit.split_whitespace().next().unwrap_or_default();
    match soft.parse::<u64>() {
        Ok(bytes) if bytes < LOCKED_BYTES_MIN => found.problem(
            "locked memory",
            format!("{} MiB may be locked, and a port maps its buffers locked", bytes >> 20),
            "LimitMEMLOCK=infinity in the unit, or ulimit -l unlimited, or CAP_IPC_LOCK",
        ),
        _ => found.good("locked memory", format!("{soft} bytes may be locked")),
    }
}

/// What the smallest port locks, in bytes.
const LOCKED_BYTES_MIN: u64 = 64 << 20;
