//! The back ends.

use std::cell::{Cell, RefCell};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use dataplane_dpdk::queue::PacketQueue;
use dataplane_dpdk::queue::wire::{self, WireOptions};
use dataplane_dpdk::{Clock, ClockIdle, DpdkTransport, LcoreCounters, Mac, NoKernel, Poller, Stack, StackConfig};
use dataplane_kernel::KernelTransport;
use ferrogate_core::config::dataplane::{CongestionControl, Network};
use ferrogate_core::config::limits::FlowLimits;
use ferrogate_core::net::Address;
use test_support::kernel;
use test_support::ports::free_address;
use test_support::temp::TempDir;

use crate::harness::Harness;

/// The kernel's sockets, TCP on loopback or unix.
pub struct Kernel {
    transport: KernelTransport,
    folder: Option<TempDir>,
    next: Cell<u32>,
}

impl Kernel {
    /// TCP.
    pub async fn tcp() -> Result<Self, String> {
        Ok(Self { transport: KernelTransport::new(), folder: None, next: Cell::new(0) })
    }

    /// Unix sockets.
    pub async fn unix() -> Result<Self, String> {
        Ok(Self { transport: KernelTransport::new(), folder: Some(TempDir::new()), next: Cell::new(0) })
    }

    fn fresh_path(&self, folder: &TempDir) -> Address {
        self.next.set(self.next.get() + 1);
        Address::Unix(folder.path().join(format!("{}.sock", self.next.get())))
    }
}

impl Harness for Kernel {
    type Server = KernelTransport;
    type Client = KernelTransport;
    const SIMULATED: bool = false;

    fn server(&self) -> &KernelTransport {
        &self.transport
    }

    fn client(&self) -> &KernelTransport {
        &self.transport
    }

    fn listen_address(&self) -> Address {
        match &self.folder {
            None => "127.0.0.1:0".parse().expect("an address"),
            Some(folder) => self.fresh_path(folder),
        }
    }

    fn silent_address(&self) -> Address {
        match &self.folder {
            None => free_address().into(),
            Some(folder) => self.fresh_path(folder),
        }
    }

    fn has_resets(&self) -> bool {
        self.folder.is_none()
    }

    /// Both buffers of a connection, as large as Linux lets them grow, and what the gateway holds itself.
    fn in_flight_bytes_max(&self) -> usize {
        let buffers = match &self.folder {
            None => kernel::limit_bytes("tcp_rmem") + kernel::limit_bytes("tcp_wmem"),
            Some(_) => 15 << 20,
        };
        usize::try_from(buffers).expect("a buffer fits into memory") + (1 << 20)
    }

    fn many_conns(&self) -> usize {
        400
    }
}

/// Two stacks on a simulated wire; the clock is paused.
pub struct Wire {
    server: DpdkTransport<NoKernel>,
    client: DpdkTransport<NoKernel>,
    many_conns: usize,
}

impl Wire {
    /// A local network: 50 µs, nothing is lost.
    pub async fn clean() -> Result<Self, String> {
        Ok(Self::new(1, &WireOptions { latency: Duration::from_micros(50), ..WireOptions::default() }, 400))
    }

    /// A bad network: 2 ms, every fiftieth frame is lost, some come twice or late.
    pub async fn lossy() -> Result<Self, String> {
        let options = WireOptions {
            latency: Duration::from_millis(2),
            loss: 0.02,
            duplicate: 0.01,
            reorder: 0.01,
            late_by: Duration::from_millis(1),
            ..WireOptions::default()
        };
        // A lost handshake takes a second to repeat: few connections, or the case takes minutes of its clock.
        Ok(Self::new(20_260, &options, 50))
    }

    fn new(seed: u64, options: &WireOptions, many_conns: usize) -> Self {
        let (left, right) = wire::pair(seed, options);
        Self { server: host(left, 1), client: host(right, 2), many_conns }
    }
}

impl Harness for Wire {
    type Server = DpdkTransport<NoKernel>;
    type Client = DpdkTransport<NoKernel>;
    const SIMULATED: bool = true;

    fn server(&self) -> &Self::Server {
        &self.server
    }

    fn client(&self) -> &Self::Client {
        &self.client
    }

    fn listen_address(&self) -> Address {
        "10.0.0.1:0".parse().expect("an address")
    }

    fn silent_address(&self) -> Address {
        "10.0.0.1:9".parse().expect("an address")
    }

    fn has_resets(&self) -> bool {
        true
    }

    /// The rings of both ends and what the wire holds.
    fn in_flight_bytes_max(&self) -> usize {
        4 * RING_BYTES + (1 << 20)
    }

    fn many_conns(&self) -> usize {
        self.many_conns
    }
}

/// A stack at 10.0.0.`n` on one end of a wire, driven by a poller of its own.
fn host(queue: impl PacketQueue + 'static, n: u8) -> DpdkTransport<NoKernel> {
    let config = StackConfig {
        mac: Mac([2, 0, 0, 0, 0, n]),
        addresses: vec![Network::new(Ipv4Addr::new(10, 0, 0, n), 24)],
        routes: Vec::new(),
        mtu: 1500,
        tx_checksum: false,
        rx_ring_bytes: RING_BYTES,
        tx_ring_bytes: RING_BYTES,
        congestion_control: CongestionControl::Cubic,
        flows_max: 2000,
        syn_backlog_max: 1000,
        limits: FlowLimits::default(),
        seed: u64::from(n),
        seat: None,
    };
    let (clock, counters) = (Clock::new(), Arc::new(LcoreCounters::default()));
    let stack = Stack::new(Box::new(queue), config, Arc::clone(&counters), clock.now());
    let stack = Rc::new(RefCell::new(stack));
    tokio::task::spawn_local(Poller::new([Rc::clone(&stack)], clock, ClockIdle::default(), counters));
    DpdkTransport::new([stack], NoKernel)
}

/// A flow's rings: small, so that they wrap often.
const RING_BYTES: usize = 16 * 1024;
