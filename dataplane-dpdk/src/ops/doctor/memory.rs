//! Memory: hugepages, and what may be locked.
//!
//! **Invariant:** counts pages of the size that the kernel uses by default, as EAL does.

use ferrogate_core::config::dataplane::Dpdk;

use super::Findings;
use super::host::Host;
use super::rights::{self, IPC_LOCK};
use crate::device::Device;

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
    let number = |name| host.field(MEMINFO, name)?.split(' ').next()?.parse::<u64>().ok();
    let all = (number("HugePages_Total:"), number("HugePages_Free:"), number("Hugepagesize:"));
    let (Some(total), Some(free), Some(size_kib @ 1..)) = all else {
        let remedy = "dataplane.dpdk.hugepages: false";
        return found.problem("hugepages", "this kernel has none", remedy);
    };
    let wanted = (wanted_mib * 1024).div_ceil(size_kib);
    let size_mib = size_kib / 1024;
    if free >= wanted {
        let says = format!("{free} of {total} pages of {size_mib} MiB are free, {wanted} are wanted");
        return found.good("hugepages", says);
    }
    let pages = total - free.min(total) + wanted;
    found.problem(
        "hugepages",
        format!("{free} of {total} pages of {size_mib} MiB are free, {wanted} are wanted (dataplane.dpdk.memory_mib: {wanted_mib})"),
        format!("echo {pages} > /proc/sys/vm/nr_hugepages; for good: vm.nr_hugepages={pages} in /etc/sysctl.d/80-hugepages.conf"),
    );
}

fn locked_memory(host: &Host, found: &mut Findings) {
    if rights::has(host, IPC_LOCK) {
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

const MEMINFO: &str = "proc/meminfo";

/// What the smallest port locks, in bytes.
const LOCKED_BYTES_MIN: u64 = 64 << 20;
