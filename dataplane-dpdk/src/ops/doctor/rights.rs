//! What this process may do.
//!
//! **Invariant:** asks for what the drivers of the named ports need and for nothing else.

use super::Findings;
use super::host::Host;
use crate::device::Device;
use crate::preflight::{Capability, IPC_LOCK as IPC_LOCK_CAPABILITY, needs_of};

pub(super) const IPC_LOCK: Capability = IPC_LOCK_CAPABILITY;

pub(super) fn look(host: &Host, devices: &[Device], found: &mut Findings) {
    for device in devices {
        let Some(needs) = needs_of(device) else { continue };
        let subject = format!("rights for {}", device.name());
        let missing: Vec<&str> = needs.iter().filter(|c| !has(host, **c)).map(|(_, name)| *name).collect();
        if missing.is_empty() {
            let names: Vec<&str> = needs.iter().map(|(_, name)| *name).collect();
            found.good(&subject, names.join(", "));
        } else {
            let remedy = format!("run as root, or AmbientCapabilities={} in the unit", missing.join(" "));
            found.problem(&subject, format!("{} missing", missing.join(", ")), remedy);
        }
    }
}

/// Whether this process has the capability; one that can't be looked at passes.
pub(super) fn has(host: &Host, (bit, _): Capability) -> bool {
    let mask = host.field("proc/self/status", "CapEff:").and_then(|mask| u64::from_str_radix(&mask, 16).ok());
    mask.is_none_or(|mask| mask >> bit & 1 == 1)
}
