//! Why the plane can't start: for each cause, one line that names it and what to do about it.
//!
//! **Invariant:** the text of an error is one line, and complete without any other output.

use std::fmt;
use std::io;

use crate::device::PortError;

/// Why the plane can't start.
#[derive(Debug)]
pub enum StartError {
    /// This binary has no DPDK in it.
    NotBuilt,
    /// The configuration has no port.
    NoPorts,
    /// A ring size or another number can't be.
    Config {
        /// The key under `dataplane.dpdk`.
        key: &'static str,
        /// What it has to be.
        must: &'static str,
    },
    /// Fewer hugepages are free than EAL is to have.
    NoHugepages {
        /// What it is to have.
        wanted_mib: u64,
        /// What is free.
        free_mib: u64,
        /// The number of pages that the host needs in all.
        pages: u64,
    },
    /// There is no device of this name.
    NoDevice {
        /// The device as configured.
        device: String,
        /// What the driver said.
        errno: i32,
    },
    /// There is no network interface of this name.
    NoInterface {
        /// The device as configured.
        device: String,
        /// The interface it names.
        interface: String,
    },
    /// The process lacks rights.
    Rights {
        /// The device as configured.
        device: String,
        /// The capabilities it lacks.
        missing: Vec<&'static str>,
    },
    /// Somebody else has the device.
    Busy {
        /// The device as configured.
        device: String,
        /// Who or what has it.
        by: String,
    },
    /// There are more workers than can share a port.
    Workers {
        /// The workers.
        wanted: usize,
        /// How many can.
        max: usize,
    },
    /// There is no memory for the frames of a port.
    NoMemory {
        /// The device as configured.
        device: String,
    },
    /// The device did not take its configuration, or did not start.
    Setup {
        /// The device as configured.
        device: String,
        /// Which step failed.
        step: &'static str,
        /// What the driver said.
        errno: i32,
    },
    /// EAL refused to start.
    Eal {
        /// What it said.
        errno: i32,
    },
    /// The exception path's interface can't be made.
    Twin {
        /// The interface as configured.
        interface: String,
        /// Why.
        error: io::Error,
    },
    /// The process can't become the user that it is to be.
    User {
        /// The user as configured.
        user: String,
        /// Why.
        error: io::Error,
    },
    /// EAL has run in this process before, and can't again.
    EalSpent,
    /// A thread or its runtime could not be made.
    Thread(io::Error),
}

impl StartError {
    /// Puts the error of a port into the words of the configuration.
    pub(crate) fn of_port(device: &str, error: PortError) -> Self {
        let device = device.to_owned();
        // tidy: table
        match error {
            PortError::NotBuilt => Self::NotBuilt,
            PortError::EalSpent => Self::EalSpent,
            PortError::Eal { errno } => Self::Eal { errno },
            PortError::NoDevice { errno: libc::EEXIST | libc::EBUSY } => {
                Self::Busy { device, by: "this or another process".to_owned() }
            }
            PortError::NoDevice { errno } => Self::NoDevice { device, errno },
            PortError::Queues => Self::Setup { device, step: "give a queue pair", errno: libc::ENODEV },
            PortError::NoMemory => Self::NoMemory { device },
            PortError::Configure { errno } => Self::Setup { device, step: "configure", errno },
            PortError::Start { errno } => Self::Setup { device, step: "start", errno },
            PortError::XdpBusy { interface, program } => {
                Self::Busy { device, by: format!("the XDP program `{program}` on {interface}") }
            }
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // tidy: table
        match self {
            Self::NotBuilt => write!(
                f,
                "this binary was built without the feature dpdk: build it with `make`, or with `--features dpdk` (needs libdpdk-dev)"
            ),
            Self::NoPorts => {
                write!(f, "dataplane.dpdk.ports is empty: name a port, such as a PCI address or net_af_xdp0,iface=eth1")
            }
            Self::Config { key, must } => write!(f, "dataplane.dpdk.{key} must be {must}"),
            Self::NoHugepages { wanted_mib, free_mib, pages } => write!(
                f,
                "{free_mib} MiB of hugepages are free and {wanted_mib} are wanted: as root, echo {pages} > /proc/sys/vm/nr_hugepages, or set dataplane.dpdk.hugepages: false",
            ),
            Self::NoDevice { device, errno } => write!(
                f,
                "{device} can't be opened ({}): check the name; a PCI device must be bound to vfio-pci (dpdk-devbind.py --status)",
                Errno(*errno)
            ),
            Self::NoInterface { device, interface } => {
                write!(f, "{device}: there is no network interface {interface}: see `ip link`")
            }
            Self::Rights { device, missing } => {
                write!(f, "{device} needs {}: run as root, or give the process these capabilities", missing.join(", "))
            }
            Self::Busy { device, by } => write!(
                f,
                "{device} is in use by {by}: stop it first (an XDP program is taken off by `ip link set IFACE xdp off`)"
            ),
            Self::Workers { wanted, max } => {
                write!(f, "dataplane.workers is {wanted} and {max} can share a port at most: lower workers")
            }
            Self::NoMemory { device } => {
                write!(f, "no memory for the frames of {device}: raise dataplane.dpdk.memory_mib")
            }
            Self::Setup { device, step, errno } => write!(
                f,
                "{device} did not {step} ({}): check its arguments, its MTU and that nobody else uses it",
                Errno(*errno)
            ),
            Self::Eal { errno } => write!(
                f,
                "DPDK's EAL did not start ({}): check dataplane.dpdk.eal_args and memory_mib; run as root or with access to hugepages",
                Errno(*errno)
            ),
            Self::Twin { interface, error } => write!(
                f,
                "the exception path's interface {interface} can't be made ({error}): check that the process has CAP_NET_ADMIN, that there is \
                 /dev/net/tun, and that no other interface has this name, or leave dataplane.dpdk.ports[].exception out"
            ),
            Self::User { user, error } => write!(
                f,
                "the process can't become {user:?} ({error}): check that there is such a user, and that it is started as root, or leave dataplane.dpdk.user out"
            ),
            Self::EalSpent => {
                write!(f, "DPDK's EAL has ended in this process and can't start again: restart the process")
            }
            Self::Thread(e) => write!(f, "a worker thread could not be started: {e}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Thread(e) | Self::User { error: e, .. } | Self::Twin { error: e, .. } => Some(e),
            _ => None,
        }
    }
}

/// An errno in the system's words.
struct Errno(i32);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_one_line_with_a_remedy() {
        let device = || "net_tap0".to_owned();
        let all = [
            StartError::NotBuilt,
            StartError::NoPorts,
            StartError::Config { key: "rx_ring_bytes", must: "a power of two" },
            StartError::NoHugepages { wanted_mib: 255, free_mib: 2, pages: 128 },
            StartError::NoDevice { device: device(), errno: libc::ENODEV },
            StartError::NoInterface { device: device(), interface: "eth9".to_owned() },
            StartError::Rights { device: device(), missing: vec!["CAP_NET_RAW", "CAP_NET_ADMIN"] },
            StartError::Busy { device: device(), by: "another".to_owned() },
            StartError::Workers { wanted: 999, max: 127 },
            StartError::NoMemory { device: device() },
            StartError::Setup { device: device(), step: "start", errno: libc::EINVAL },
            StartError::Eal { errno: libc::ENOMEM },
            StartError::User { user: "nobody".to_owned(), error: io::ErrorKind::NotFound.into() },
            StartError::EalSpent,
            StartError::Thread(io::ErrorKind::OutOfMemory.into()),
        ];
        for error in all {
            let text = error.to_string();
            assert!(!text.contains('\n') && text.len() > 30, "{text}");
        }
        let text = StartError::NoHugepages { wanted_mib: 255, free_mib: 2, pages: 128 }.to_string();
        assert!(text.contains("echo 128 >"), "{text}");
    }
}
