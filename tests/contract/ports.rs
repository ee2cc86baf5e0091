//! The DPDK rows: a stack on a port, driven by the case's own thread.
//!
//! On net_ring a port hears what it says, so that one stack is server and client. On a veth pair the client is the kernel's TCP at the
//! other end, in a namespace that the case's thread has entered.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use dataplane_dpdk::port::{Eal, LcoreThread, Port};
use dataplane_dpdk::{
    Clock, Device, DpdkTransport, LcoreCounters, NoKernel, PolledIdle, Poller, PortError, PortOptions, Stack,
    StackConfig,
};
use dataplane_kernel::KernelTransport;
use ferrogate_core::config::dataplane::{CongestionControl, Idle, Network, Offloads};
use ferrogate_core::config::limits::FlowLimits;
use ferrogate_core::net::Address;
use test_support::{Veth, kernel};

use crate::harness::Harness;

/// A stack on a net_ring port: server and client in one.
pub struct Ring {
    transport: DpdkTransport<NoKernel>,
    next_port: AtomicU16,
    _thread: LcoreThread,
}

/// A stack on one end of a veth pair, and the kernel's TCP at the other.
pub struct Link {
    server: DpdkTransport<NoKernel>,
    client: KernelTransport,
    next_port: AtomicU16,
    datagram_bytes_max: usize,
    _thread: LcoreThread,
    _veth: Veth,
}

impl Ring {
    /// On a device of its own.
    pub async fn open() -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let device = format!("net_ring_c{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let (transport, thread) = start(&device, RING_ADDRESS)?;
        Ok(Self { transport, next_port: AtomicU16::new(FIRST_PORT), _thread: thread })
    }
}

impl Link {
    /// Through `driver`, on a pair of its own.
    pub async fn open(driver: &str) -> Result<Self, String> {
        let veth = Veth::new()?;
        let number = veth.port.bytes().filter(u8::is_ascii_digit).map(char::from).collect::<String>();
        let (server, thread) = start(&format!("{driver}{number},iface={}", veth.port), Veth::PORT_ADDRESS)?;
        veth.enter();
        let next_port = AtomicU16::new(FIRST_PORT);
        // The kernel puts fragments together before net_af_packet sees them, and cuts what is longer than a frame then.
        let datagram_bytes_max = if driver == "net_af_packet" { 1472 } else { 65_507 };
        let client = KernelTransport::new();
        Ok(Self { server, client, next_port, datagram_bytes_max, _thread: thread, _veth: veth })
    }
}

impl Harness for Ring {
    type Server = DpdkTransport<NoKernel>;
    type Client = DpdkTransport<NoKernel>;
    const SIMULATED: bool = false;

    fn server(&self) -> &Self::Server {
        &self.transport
    }

    fn client(&self) -> &Self::Client {
        &self.transport
    }

    fn listen_address(&self) -> Address {
        port_of(RING_ADDRESS, &self.next_port)
    }

    fn silent_address(&self) -> Address {
        Address::Inet((RING_ADDRESS, 9).into())
    }

    fn has_resets(&self) -> bool {
        true
    }

    fn in_flight_bytes_max(&self) -> usize {
        4 * RING_BYTES + (1 << 20)
    }

    fn many_conns(&self) -> usize {
        200
    }
}

impl Harness for Link {
    type Server = DpdkTransport<NoKernel>;
    type Client = KernelTransport;
    const SIMULATED: bool = false;

    fn server(&self) -> &Self::Server {
        &self.server
    }

    fn client(&self) -> &Self::Client {
        &self.client
    }

    fn listen_address(&self) -> Address {
        port_of(Veth::PORT_ADDRESS, &self.next_port)
    }

    fn silent_address(&self) -> Address {
        Address::Inet((Veth::PORT_ADDRESS, 9).into())
    }

    fn has_resets(&self) -> bool {
        true
    }

    /// The rings, and what the kernel's send and receive buffers grow to.
    fn in_flight_bytes_max(&self) -> usize {
        let buffers = kernel::limit_bytes("tcp_rmem") + kernel::limit_bytes("tcp_wmem");
        4 * RING_BYTES + usize::try_from(buffers).expect("a buffer fits into memory")
    }

    fn datagram_bytes_max(&self) -> usize {
        self.datagram_bytes_max
    }

    fn many_conns(&self) -> usize {
        100
    }
}

/// A stack on `device`, polled by a task of this thread.
fn start(device: &str, address: Ipv4Addr) -> Result<(DpdkTransport<NoKernel>, LcoreThread), String> {
    let eal = eal().map_err(|e| format!("{e:?}"))?;
    let thread = LcoreThread::register(&eal, None).map_err(|e| format!("{e:?}"))?;
    let options = PortOptions { device: Device::new(device), queues: 1, mtu: 1500, offloads: Offloads::default() };
    let (port, queues) = Port::open(&eal, &options).map_err(|e| format!("{device}: {e:?}"))?;
    let config = StackConfig {
        mac: port.info().mac,
        addresses: vec![Network::new(address, 24)],
        routes: Vec::new(),
        mtu: 1500,
        tx_checksum: port.info().does.tx_checksum,
        rx_ring_bytes: RING_BYTES,
        tx_ring_bytes: RING_BYTES,
        congestion_control: CongestionControl::Cubic,
        flows_max: 2000,
        syn_backlog_max: 1000,
        limits: FlowLimits::default(),
        seed: 7,
        seat: None,
    };
    let (clock, counters) = (Clock::new(), Arc::new(LcoreCounters::default()));
    let queue = queues.into_iter().next().ok_or("the port has no queue")?;
    let stack = Rc::new(RefCell::new(Stack::new(Box::new(queue), config, Arc::clone(&counters), clock.now())));
    let poller = Poller::new([Rc::clone(&stack)], clock, PolledIdle::new(Idle::default()), counters);
    tokio::task::spawn_local(poller);
    Ok((DpdkTransport::new([stack], NoKernel), thread))
}

/// One EAL for all cases of this process: it can be started once. Its memory is for all ports of all cases, some 30 MiB each: a stack that
/// is dropped with its runtime may still hold frames, and then their pool stays.
fn eal() -> Result<Arc<Eal>, PortError> {
    static EAL: OnceLock<Result<Arc<Eal>, PortError>> = OnceLock::new();
    let args = "--no-huge --no-shconf -m 4096 --no-pci --no-telemetry --log-level=4";
    EAL.get_or_init(|| Eal::start(&args.split(' ').map(str::to_owned).collect::<Vec<_>>())).clone()
}

fn port_of(address: Ipv4Addr, next: &AtomicU16) -> Address {
    Address::Inet((address, next.fetch_add(1, Ordering::Relaxed)).into())
}

const RING_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const FIRST_PORT: u16 = 5000;

/// A flow's rings: small, so that they wrap often.
const RING_BYTES: usize = 16 * 1024;
