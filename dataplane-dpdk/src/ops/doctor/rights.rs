//! What this process may do.
//!
//! **Invariant:** asks for what the drivers of the named ports need and for nothing else.

use super::Findings;
use super::host::Host;
use crate::device::Device;
use crate::preflight::{Capability, missing_capabilities, needs_of};

pub(super) fn look(host: &Host, devices: &[Device], found: &mut Findings) {
    for device in devices {
        let Some(needs) = needs_of(device) else { continue };
        let subject = format!("rights for {}", device.name());
        let missing = missing(host, needs);
        if missing.is_empty() {
            let names: Vec<&str> = needs.iter().map(|(_, name)| *name).collect();
            found.good(&subject, names.join(", "));
        } else {
            let remedy = format!("run as root, or AmbientCapabilities={} in the unit", missing.join(" "));
            found.problem(&subject, format!("{} missing", missing.join(", ")), remedy);
        }
    }
}

/// Those that this process lacks; what can't be looked at passes.
pub(super) fn missing(host: &Host, needs: &[Capability]) -> Vec<&'static str> {
    missing_capabilities(&host.text("proc/self/status").unwrap_or_default(), needs)
}
