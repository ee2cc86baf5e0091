//! Cards: bound to a driver that DPDK can use, behind an IOMMU, on the node of the cores that poll them.
//!
//! **Invariant:** never proposes to unbind a card without saying that its kernel interface goes away.

use super::Findings;
use super::host::Host;
use crate::device::Device;
use crate::preflight::parse_cpus;

pub(super) fn look(host: &Host, device: &Device, found: &mut Findings) {
    let address = device.full_name();
    let (subject, folder) = (format!("port {address}"), folder(&address));
    if !host.exists(&folder) {
        return found.problem(&subject, "there is no such card", "lspci -D | grep -i ether");
    }
    driver(host, &address, found);
    node(host, &address, found);
}

/// The cards of this host, for a file that names no port yet.
pub(super) fn list(host: &Host, found: &mut Findings) {
    let cards = host.names(DEVICES).into_iter().filter(|address| {
        let class = host.text(&format!("{}/class", folder(address)));
        class.is_some_and(|class| class.starts_with(ETHERNET_CLASS))
    });
    for address in cards {
        let driver = host.link_name(&format!("{}/driver", folder(&address))).unwrap_or_else(|| "no driver".to_owned());
        let interfaces = interfaces(host, &folder(&address));
        let says = if interfaces.is_empty() { driver } else { format!("{driver}, {interfaces}") };
        found.hint(
            &format!("card {address}"),
            says,
            format!("dataplane.dpdk.ports: [{{device: \"{address}\", address: ...}}]"),
        );
    }
}

fn driver(host: &Host, address: &str, found: &mut Findings) {
    let (subject, folder) = (format!("port {address}"), folder(address));
    let has_iommu = has_iommu(host, &folder);
    let bind = bind(address, has_iommu);
    let Some(driver) = host.link_name(&format!("{folder}/driver")) else {
        return found.problem(&subject, "no driver has it", bind);
    };
    let interfaces = interfaces(host, &folder);
    match driver.as_str() {
        "vfio-pci" if has_iommu => found.good(&subject, "vfio-pci, behind an IOMMU"),
        "vfio-pci" => {
            found.warning(&subject, "vfio-pci without an IOMMU: the card can write anywhere in memory", IOMMU_ON);
        }
        "uio_pci_generic" | "igb_uio" => {
            let remedy = if has_iommu { bind } else { format!("{IOMMU_ON}; then {}", self::bind(address, true)) };
            found.warning(&subject, format!("{driver}: no IOMMU stands between the card and memory"), remedy);
        }
        // The kernel keeps its interface, and DPDK goes beside it.
        "mlx4_core" | "mlx5_core" | "mana" => {
            found.good(&subject, format!("{driver}, shared with the kernel's {interfaces}"))
        }
        other => found.problem(
            &subject,
            format!("the kernel's driver {other} has it; bound to DPDK, its interface ({interfaces}) goes away"),
            bind,
        ),
    }
}

/// The line that gives the card to DPDK. A kernel takes none for vfio-pci where no IOMMU is, unless it was built to (Debian's is not).
fn bind(address: &str, has_iommu: bool) -> String {
    if has_iommu {
        return format!("modprobe vfio-pci; dpdk-devbind.py -b vfio-pci {address}");
    }
    let vfio = bind(address, true);
    format!(
        "{IOMMU_ON}; then {vfio}. Where there is no IOMMU: modprobe uio_pci_generic; dpdk-devbind.py -b uio_pci_generic {address}"
    )
}

/// Whether an IOMMU stands between the card and memory. vfio-pci can do without, in a group that it makes up.
fn has_iommu(host: &Host, folder: &str) -> bool {
    let group = format!("{folder}/iommu_group");
    host.exists(&group) && host.text(&format!("{group}/name")).is_none_or(|name| name != "vfio-noiommu")
}

/// What the kernel has made of the card, or of what its driver found on it (virtio).
fn interfaces(host: &Host, folder: &str) -> String {
    let below = host.names(folder).into_iter().filter(|name| name.starts_with("virtio"));
    let folders = std::iter::once(folder.to_owned()).chain(below.map(|name| format!("{folder}/{name}")));
    folders.flat_map(|folder| host.names(&format!("{folder}/net"))).collect::<Vec<_>>().join(", ")
}

fn node(host: &Host, address: &str, found: &mut Findings) {
    // Below zero: the machine has one node, or does not tell.
    let Some(node @ 0..) = host.number::<i32>(&format!("{}/numa_node", folder(address))) else { return };
    let Some(cores) = host.text(&format!("sys/devices/system/node/node{node}/cpulist")) else { return };
    let allowed = parse_cpus(&host.field("proc/self/status", "Cpus_allowed_list:").unwrap_or_default());
    if !parse_cpus(&cores).iter().any(|cpu| allowed.contains(cpu)) {
        let says = format!("it sits on node {node}, and this process may use none of its cores ({cores})");
        found.warning(
            &format!("port {address}"),
            says,
            format!("AllowedCPUs={cores} in the unit, or taskset -c {cores}"),
        );
    }
}

fn folder(address: &str) -> String {
    format!("{DEVICES}/{address}")
}

const DEVICES: &str = "sys/bus/pci/devices";

const IOMMU_ON: &str = "intel_iommu=on iommu=pt (AMD: iommu=pt) on the kernel's command line";

/// Network controllers, Ethernet.
const ETHERNET_CLASS: &str = "0x0200";
