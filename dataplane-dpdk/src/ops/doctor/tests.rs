//! The doctor on hosts that are laid out as files, and on this one.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;

use ferrogate_core::config::dataplane::{Dpdk, Network, Port};
use test_support::temp::TempDir;

use super::*;

/// A host's files. By itself it is ready for a card at 0000:3b:00.0.
struct Files(TempDir);

impl Files {
    fn ready() -> Self {
        let files = Self(TempDir::new());
        files.put("proc/meminfo", "HugePages_Total:     512\nHugePages_Free:      512\nHugepagesize:       2048 kB\n");
        files.put("proc/self/status", "CapEff:\t000001ffffffffff\nCpus_allowed_list:\t0-3\n");
        files.put("proc/self/limits", "Max locked memory         8388608              8388608              bytes\n");
        files.put("sys/devices/system/cpu/isolated", "2-3");
        files.put("sys/devices/system/node/node0/cpulist", "0-3");
        files.put("sys/devices/system/node/node1/cpulist", "4-7");
        files.put("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "performance");
        files.put(&format!("{CARD}/class"), "0x020000");
        files.put(&format!("{CARD}/numa_node"), "0");
        files.put(&format!("{CARD}/iommu_group/type"), "DMA");
        files.bind("vfio-pci");
        files
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("a folder of our own");
        fs::write(path, text).expect("a file of our own");
    }

    fn bind(&self, driver: &str) {
        let link = self.0.path().join(CARD).join("driver");
        let _ = fs::remove_file(&link);
        symlink(format!("../../drivers/{driver}"), link).expect("a folder of our own");
    }

    fn interface(&self, name: &str, (index, link): (u32, u32), mtu: u32, state: &str) {
        for (file, text) in [
            ("ifindex", index.to_string()),
            ("iflink", link.to_string()),
            ("mtu", mtu.to_string()),
            ("operstate", state.to_owned()),
        ] {
            self.put(&format!("sys/class/net/{name}/{file}"), &text);
        }
    }

    /// What is worse than good, without what is said of this binary.
    fn found(&self, device: &str, change: impl FnOnce(&mut Dataplane)) -> Vec<Finding> {
        let port = Port {
            device: device.to_owned(),
            addresses: vec![Network::new(Ipv4Addr::new(10, 0, 0, 1), 24)],
            routes: Vec::new(),
            mtu: 1500,
            ..Port::default()
        };
        let mut dataplane = Dataplane { dpdk: Dpdk { ports: vec![port], ..Dpdk::default() }, ..Dataplane::default() };
        change(&mut dataplane);
        let mut found = examine_at(self.0.path(), &dataplane);
        found.retain(|f| f.verdict > Verdict::Good && f.subject != "binary");
        found
    }

    /// The one thing that is worse than good: how bad, and the line that mends it.
    #[track_caller]
    fn only(&self, device: &str, change: impl FnOnce(&mut Dataplane)) -> (Verdict, String) {
        let mut found = self.found(device, change);
        assert_eq!(found.len(), 1, "{found:#?}");
        let Finding { verdict, remedy, .. } = found.remove(0);
        (verdict, remedy.expect("what is wrong can be mended"))
    }
}

const CARD: &str = "sys/bus/pci/devices/0000:3b:00.0";

#[test]
fn a_host_that_is_ready_has_nothing_to_mend() {
    let files = Files::ready();
    assert_eq!(files.found("0000:3b:00.0", |_| {}), []);
    assert_eq!(files.found("3b:00.0", |_| {}), [], "with and without a domain");
}

#[test]
fn hugepages_are_counted_with_what_others_use() {
    let files = Files::ready();
    files.put("proc/meminfo", "HugePages_Total:     100\nHugePages_Free:      28\nHugepagesize:       2048 kB\n");
    let (verdict, remedy) = files.only("0000:3b:00.0", |_| {});
    assert_eq!(verdict, Verdict::Problem);
    assert!(remedy.starts_with("echo 200 > /proc/sys/vm/nr_hugepages"), "72 in use and 128 wanted: {remedy}");
    files.put("proc/meminfo", "MemTotal: 1 kB\n");
    assert_eq!(files.only("0000:3b:00.0", |_| {}).1, "dataplane.dpdk.hugepages: false");
    let (verdict, _) = files.only("0000:3b:00.0", |dataplane| dataplane.dpdk.hugepages = false);
    assert_eq!(verdict, Verdict::Warning, "it is slower, and starts");
}

#[test]
fn a_card_is_judged_by_its_driver() {
    let files = Files::ready();
    for (driver, verdict) in [("ixgbe", Verdict::Problem), ("uio_pci_generic", Verdict::Warning)] {
        files.bind(driver);
        let bind = "modprobe vfio-pci; dpdk-devbind.py -b vfio-pci 0000:3b:00.0".to_owned();
        assert_eq!(files.only("0000:3b:00.0", |_| {}), (verdict, bind), "{driver}");
    }
    files.bind("mlx5_core");
    assert_eq!(files.found("0000:3b:00.0", |_| {}), []);
    files.bind("vfio-pci");
    files.put(&format!("{CARD}/iommu_group/name"), "vfio-noiommu");
    assert_eq!(files.only("0000:3b:00.0", |_| {}).0, Verdict::Warning, "a group that vfio-pci has made up");
    fs::remove_dir_all(files.0.path().join(CARD).join("iommu_group")).expect("it was made above");
    assert_eq!(files.only("0000:3b:00.0", |_| {}).0, Verdict::Warning);
    files.bind("virtio-pci");
    files.put(&format!("{CARD}/virtio0/net/eth5/mtu"), "1500");
    let found = files.found("0000:3b:00.0", |_| {}).remove(0);
    assert!(found.verdict == Verdict::Problem && found.says.contains("(eth5)"), "{found}");
    assert!(found.remedy.is_some_and(|r| r.contains("_iommu=on") && r.contains("-b uio_pci_generic 0000:3b:00.0")));
    files.bind("vfio-pci");
    assert_eq!(files.only("0000:af:00.0", |_| {}).0, Verdict::Problem);
    files.put(&format!("{CARD}/iommu_group/type"), "DMA");
    files.put(&format!("{CARD}/numa_node"), "1");
    let (verdict, remedy) = files.only("0000:3b:00.0", |_| {});
    assert!(verdict == Verdict::Warning && remedy.contains("4-7"), "{remedy}");
}

#[test]
fn cores_are_left_alone_and_fast() {
    let files = Files::ready();
    files.put("sys/devices/system/cpu/isolated", "");
    let (verdict, remedy) = files.only("0000:3b:00.0", |dataplane| dataplane.workers = Some(2));
    assert_eq!(verdict, Verdict::Note);
    assert!(remedy.starts_with("isolcpus=2-3 nohz_full=2-3 ") && remedy.contains("CPUAffinity=0-3"), "{remedy}");
    files.put("proc/self/status", "CapEff:\t000001ffffffffff\nCpus_allowed_list:\t0-1\n");
    files.put("sys/devices/system/cpu/isolated", "2-3");
    assert_eq!(
        files.only("0000:3b:00.0", |_| {}),
        (Verdict::Warning, "CPUAffinity=0-3 in the unit, or taskset -c 0-3".to_owned())
    );
    files.put("proc/self/status", "CapEff:\t000001ffffffffff\nCpus_allowed_list:\t0-3\n");
    files.put("sys/devices/system/cpu/isolated", "0-3");
    assert_eq!(
        files.only("0000:3b:00.0", |dataplane| dataplane.workers = Some(4)),
        (Verdict::Warning, "dataplane.workers: 3".to_owned())
    );
    files.put("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave");
    assert_eq!(
        files.only("0000:3b:00.0", |_| {}),
        (Verdict::Warning, "cpupower frequency-set -g performance".to_owned())
    );
}

#[test]
fn rights_are_those_that_the_driver_needs() {
    let files = Files::ready();
    files.interface("eth1", (4, 4), 1500, "up");
    files.put("proc/self/status", "CapEff:\t0000000000003000\nCpus_allowed_list:\t0-3\n");
    assert_eq!(files.found("net_af_packet0,iface=eth1", |_| {}), [], "NET_ADMIN and NET_RAW are enough");
    let found = files.found("net_af_xdp0,iface=eth1", |_| {});
    let problems: Vec<_> = found.iter().map(|f| (f.verdict, f.subject.as_str())).collect();
    assert_eq!(
        problems,
        [(Verdict::Problem, "locked memory"), (Verdict::Problem, "rights for net_af_xdp0")],
        "{found:#?}"
    );
    assert!(found[1].says.contains("CAP_IPC_LOCK, CAP_SYS_ADMIN"), "{found:#?}");
}

#[test]
fn virtual_links_have_their_traps_named() {
    let files = Files::ready();
    let port = "net_af_packet0,iface=v0";
    let (verdict, remedy) = files.only(port, |_| {});
    assert!(verdict == Verdict::Problem && remedy.starts_with("ip link show"), "{remedy}");
    files.interface("v0", (7, 8), 1500, "up");
    assert_eq!(files.only(port, |_| {}), (Verdict::Note, "ethtool -K PEER (in its own namespace) tx off".to_owned()));
    files.interface("v1", (8, 7), 1500, "up");
    assert_eq!(files.only(port, |_| {}), (Verdict::Note, "ethtool -K v1 tx off".to_owned()));
    files.interface("eth1", (4, 4), 1500, "down");
    let port = "net_af_packet0,iface=eth1";
    assert_eq!(files.only(port, |_| {}).1, "ip link set eth1 up; then its other end");
    files.interface("eth1", (4, 4), 1400, "up");
    assert_eq!(
        files.only(port, |_| {}),
        (Verdict::Warning, "ip link set eth1 mtu 1500, or ports[].mtu: 1400".to_owned())
    );
    files.interface("eth1", (4, 4), 9000, "up");
    let jumbo = |dataplane: &mut Dataplane| dataplane.dpdk.ports[0].mtu = 9000;
    assert_eq!(files.only(port, jumbo), (Verdict::Problem, "ports[].mtu: 1500".to_owned()));
    assert_eq!(files.only("net_af_packet0", |_| {}).0, Verdict::Problem);
}

#[test]
fn workers_without_a_queue_pair_are_told_of() {
    let files = Files::ready();
    files.interface("eth1", (4, 4), 1500, "up");
    let two = |dataplane: &mut Dataplane| dataplane.workers = Some(2);
    for (port, remedy) in [
        ("net_af_packet0,iface=eth1", "device: \"net_af_packet0,iface=eth1,qpairs=2\", or dataplane.workers: 1"),
        (
            "net_af_packet0,qpairs=1,iface=eth1",
            "device: \"net_af_packet0,iface=eth1,qpairs=2\", or dataplane.workers: 1",
        ),
        ("net_af_xdp0,iface=eth1", "device: \"net_af_xdp0,iface=eth1,queue_count=2\", or dataplane.workers: 1"),
    ] {
        assert_eq!(files.only(port, two), (Verdict::Warning, remedy.to_owned()));
        assert_eq!(files.found(port, |_| {}), [], "one worker has the one queue");
    }
    files.put("sys/class/net/eth1/queues/rx-0/rps_cpus", "0");
    let (_, remedy) = files.only("net_af_xdp0,iface=eth1", two);
    assert!(remedy.starts_with("ethtool -L eth1 combined 2; then device: "), "{remedy}");
    // One each, and flows come to either.
    let found = files.found("net_af_packet0,iface=eth1,qpairs=2", two).remove(0);
    assert!(found.verdict == Verdict::Note && found.says.contains("1 of 2 packets"), "{found}");
    assert_eq!(files.found("0000:3b:00.0", two), [], "a card spreads by our hash");
    let without_rss = |dataplane: &mut Dataplane| {
        two(dataplane);
        dataplane.dpdk.ports[0].offloads.rss = false;
    };
    assert_eq!(files.only("0000:3b:00.0", without_rss), (Verdict::Warning, "ports[].offloads: {rss: true}".to_owned()));
}

#[test]
fn a_file_without_ports_is_shown_the_cards() {
    let files = Files::ready();
    files.put(&format!("{CARD}/net/enp59s0/mtu"), "1500");
    files.bind("ixgbe");
    files.put("sys/bus/pci/devices/0000:00:01.0/class", "0x060400");
    let found = files.found("", |dataplane| dataplane.dpdk.ports.clear());
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!((found[0].subject.as_str(), found[0].says.as_str()), ("card 0000:3b:00.0", "ixgbe, enp59s0"));
}

#[test]
fn this_host_can_be_looked_at() {
    let mut text = Vec::new();
    let could_start = print(&Dataplane::default(), &mut text).expect("a vector takes it");
    let text = String::from_utf8(text).expect("text");
    assert!(text.contains("hugepages: ") && text.contains("cores: "), "{text}");
    assert_eq!(could_start, text.contains("\n0 problems") || text.starts_with("0 problems"), "{text}");
}
