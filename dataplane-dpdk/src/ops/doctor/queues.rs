//! Queue pairs: whether each worker has one of its own, and whether flows come to the worker that they belong to.
//!
//! **Invariant:** says nothing of a port whose queues its driver alone knows.

use ferrogate_core::config::dataplane::{Dataplane, Port};

use super::Findings;
use super::host::Host;
use crate::device::Device;

pub(super) fn look(host: &Host, dataplane: &Dataplane, (port, device): (&Port, &Device), found: &mut Findings) {
    let workers = dataplane.workers.unwrap_or(1);
    if workers < 2 {
        return;
    }
    let subject = format!("port {}", device.as_str());
    let count = |key| device.argument(key).map_or(1, |pairs| pairs.parse().unwrap_or(1_usize));
    let (key, pairs) = match device.name() {
        _ if device.is_vdev("net_af_packet") => ("qpairs", count("qpairs")),
        _ if device.is_vdev("net_af_xdp") => ("queue_count", count("queue_count")),
        _ => {
            if device.is_pci() && !port.offloads.rss {
                let says = format!(
                    "offloads.rss is off: {workers} workers hand each other what is not theirs, packet by packet"
                );
                found.warning(&subject, says, "ports[].offloads: {rss: true}");
            }
            return;
        }
    };
    if pairs >= workers {
        let says = format!(
            "the kernel spreads flows over its {pairs} queues by a hash of its own: {} of {workers} packets come to a worker that hands them over",
            workers - 1
        );
        return found.hint(
            &subject,
            says,
            "ferrogate lcores shows them (FOREIGN/s); dataplane.workers: 1, where one core is enough",
        );
    }
    let says = format!(
        "{pairs} of {workers} workers have a queue pair, and take what comes for all: they hand over what is not theirs, and send for the others"
    );
    let more = format!("device: \"{}\", or dataplane.workers: {pairs}", with(device, key, workers));
    let interface = device.argument("iface").unwrap_or_default();
    let rings =
        host.names(&format!("sys/class/net/{interface}/queues")).iter().filter(|name| name.starts_with("rx-")).count();
    // A queue of net_af_xdp is one of its interface, and there has to be one.
    let lacks = key == "queue_count" && rings > 0 && rings < workers;
    let first = if lacks { format!("ethtool -L {interface} combined {workers}; then ") } else { String::new() };
    found.warning(&subject, says, first + &more);
}

/// The device with this argument, in place of the one that it has.
fn with(device: &Device, key: &str, value: usize) -> String {
    let is_other = |part: &&str| part.strip_prefix(key).is_none_or(|rest| !rest.starts_with('='));
    let parts: Vec<_> = device.as_str().split(',').filter(is_other).collect();
    format!("{},{key}={value}", parts.join(","))
}
