//! Virtual ports: the kernel's interface below them, its link and its traps.
//!
//! **Invariant:** looks at interfaces of this network namespace only.

use ferrogate_core::config::dataplane::Port;

use super::Findings;
use super::host::Host;
use crate::device::Device;

pub(super) fn look(host: &Host, port: &Port, device: &Device, found: &mut Findings) {
    let subject = format!("port {}", device.as_str());
    if device.is_vdev("net_memif") {
        let remedy = "stop the gateway before its peer: the driver unmaps what is being polled";
        return found.hint(&subject, "a peer that goes away can take this process along", remedy);
    }
    if !["net_af_xdp", "net_af_packet", "net_tap", "net_pcap"].iter().any(|driver| device.is_vdev(driver)) {
        return;
    }
    let Some(name) = device.argument("iface").filter(|name| !name.is_empty()) else {
        return found.problem(&subject, "it names no interface", format!("device: \"{},iface=NAME\"", device.name()));
    };
    let folder = format!("{INTERFACES}/{name}");
    if !host.exists(&folder) {
        // A tap is made by its driver.
        if !device.is_vdev("net_tap") {
            let remedy = format!("ip link show; one of: {}", host.names(INTERFACES).join(", "));
            found.problem(&subject, format!("there is no interface {name}"), remedy);
        }
        return;
    }
    link(host, &subject, name, found);
    mtu(host, &subject, (name, device), port.mtu, found);
    checksums(host, &subject, name, found);
}

fn link(host: &Host, subject: &str, name: &str, found: &mut Findings) {
    match host.text(&format!("{INTERFACES}/{name}/operstate")).as_deref() {
        Some("up") => found.good(subject, format!("{name} is up")),
        Some("down" | "lowerlayerdown" | "dormant") => {
            found.warning(subject, format!("{name} has no link"), format!("ip link set {name} up; then its other end"));
        }
        // Some drivers do not tell.
        _ => {}
    }
}

fn mtu(host: &Host, subject: &str, (name, device): (&str, &Device), wanted: u16, found: &mut Findings) {
    let Some(has) = host.number::<u32>(&format!("{INTERFACES}/{name}/mtu")) else { return };
    if has < u32::from(wanted) {
        let says = format!("{name} carries packets of {has} bytes, and {wanted} are configured");
        found.warning(subject, says, format!("ip link set {name} mtu {wanted}, or ports[].mtu: {has}"));
    }
    let frame_max = if device.is_vdev("net_af_xdp") { XDP_MTU_MAX } else { COPY_MTU_MAX };
    if wanted > frame_max {
        let says = format!("its driver takes packets of {frame_max} bytes, and {wanted} are configured");
        found.problem(subject, says, format!("ports[].mtu: {frame_max}"));
    }
}

/// A virtual link hands over packets whose checksum nobody has written yet: a kernel at its end trusts them, a driver in user space can't.
fn checksums(host: &Host, subject: &str, name: &str, found: &mut Findings) {
    let number = |of: &str, file: &str| host.number::<u32>(&format!("{INTERFACES}/{of}/{file}"));
    let (Some(own), Some(other)) = (number(name, "ifindex"), number(name, "iflink")) else { return };
    if own == other || host.exists(&format!("{INTERFACES}/{name}/device")) {
        return;
    }
    let here = host.names(INTERFACES).into_iter().find(|n| number(n, "ifindex") == Some(other));
    let peer = here.unwrap_or_else(|| "PEER (in its own namespace)".to_owned());
    found.hint(
        subject,
        format!(
            "{name} is one end of a virtual link: what the other end sends may have no checksum, and is dropped \
             (ferrogate_dpdk_dropped_frames{{reason=\"checksum\"}})"
        ),
        format!("ethtool -K {peer} tx off"),
    );
}

const INTERFACES: &str = "sys/class/net";

/// What one frame of net_af_xdp holds of a packet, in bytes.
const XDP_MTU_MAX: u16 = 3542;

/// What one frame of the others holds, in bytes.
const COPY_MTU_MAX: u16 = 1500;
