//! An echo of smoltcp alone on a DPDK port: what a userspace TCP costs with nothing above it and nothing beside it.
//!
//! ```text
//! cargo run --release -p dataplane-dpdk --features dpdk --example bare -- \
//!     net_memif0,role=server,id=0,socket=/tmp/bare.sock,socket-abstract=no 10.99.0.1/24 8080 64
//! ```
//!
//! The last word is how many connections at a time. Each line of the input is answered by one that says for how many nanoseconds it was busy so
//! far: in turns to which a frame came. Ends with its input. `bench/floor.py` holds it beside the gateway.

use std::error::Error;
use std::io::BufRead;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use dataplane_dpdk::port::{Eal, LcoreThread, Port, Queue};
use dataplane_dpdk::queue::PacketQueue;
use dataplane_dpdk::{BURST, Device, Frame, FrameVec, Mac, PortError, PortOptions};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr, Ipv4Cidr};
use tokio::time::Instant as Clock;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(echo) = Echo::parse(&args) else {
        eprintln!("usage: bare DEVICE ADDRESS/PREFIX TCP-PORT CONNECTIONS");
        return ExitCode::from(2);
    };
    match echo.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bare: {e}");
            ExitCode::FAILURE
        }
    }
}

struct Echo {
    device: Device,
    network: Ipv4Cidr,
    port: u16,
    connections: usize,
}

impl Echo {
    fn parse(args: &[String]) -> Option<Self> {
        let [device, network, port, connections] = args else { return None };
        Some(Self {
            device: Device::new(device),
            network: network.parse().ok()?,
            port: port.parse().ok()?,
            connections: connections.parse().ok()?,
        })
    }

    fn run(&self) -> Result<(), Box<dyn Error>> {
        let eal_args = "--no-huge --no-shconf -m 64 --no-pci --no-telemetry --log-level=4 --single-file-segments";
        let said = |e: PortError| format!("{e:?}");
        let eal = Eal::start(&eal_args.split(' ').map(str::to_owned).collect::<Vec<_>>()).map_err(said)?;
        let options = PortOptions { device: self.device.clone(), queues: 1, mtu: 1500, offloads: Default::default() };
        let (port, queues) = Port::open(&eal, &options).map_err(said)?;
        let queue = queues.into_iter().next().ok_or("a port without a queue")?;
        let mac = port.info().mac;
        let (ended, busy) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            let polling = scope.spawn(|| -> Result<(), String> {
                let _thread = LcoreThread::register(&eal, None).map_err(said)?;
                self.poll(Nic::new(queue, mac, self.network.address()), &ended, &busy);
                Ok(())
            });
            for line in std::io::stdin().lock().lines() {
                if line.is_err() {
                    break;
                }
                println!("{}", busy.load(Ordering::Relaxed));
            }
            ended.store(true, Ordering::Relaxed);
            polling.join().map_err(|_| "the polling thread panicked")?
        })?;
        Ok(())
    }

    fn poll(&self, mut nic: Nic, ended: &AtomicBool, busy: &AtomicU64) {
        let start = Clock::now();
        let now = || Instant::from_micros(i64::try_from(start.elapsed().as_micros()).expect("less than 292,000 years"));
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut nic, now());
        interface.update_ip_addrs(|all| all.push(IpCidr::Ipv4(self.network)).expect("room for one address"));
        let mut sockets = SocketSet::new(Vec::new());
        let handles: Vec<SocketHandle> = (0..self.connections).map(|_| sockets.add(socket())).collect();
        while !ended.load(Ordering::Relaxed) {
            let before = Clock::now();
            let came = nic.receive_burst();
            interface.poll(now(), &mut nic, &mut sockets);
            handles.iter().for_each(|h| self.serve(sockets.get_mut(*h)));
            interface.poll(now(), &mut nic, &mut sockets);
            nic.send_burst();
            if came {
                let spent = u64::try_from(before.elapsed().as_nanos()).unwrap_or(u64::MAX);
                busy.fetch_add(spent, Ordering::Relaxed);
            }
        }
    }

    /// Sends back what has come.
    fn serve(&self, socket: &mut tcp::Socket<'_>) {
        if !socket.is_open() {
            socket.listen(self.port).expect("a port that is not 0");
        }
        let mut bytes = [0; 2048];
        while socket.can_recv() && socket.send_capacity() - socket.send_queue() >= bytes.len() {
            let Ok(len) = socket.recv_slice(&mut bytes) else { break };
            let _ = socket.send_slice(&bytes[..len]);
        }
        if socket.may_send() && !socket.may_recv() && socket.state() != tcp::State::SynReceived {
            socket.close();
        }
    }
}

fn socket() -> tcp::Socket<'static> {
    let ring = || tcp::SocketBuffer::new(vec![0; RING_BYTES]);
    let mut socket = tcp::Socket::new(ring(), ring());
    socket.set_nagle_enabled(false);
    // The answer carries it.
    socket.set_ack_delay(Some(smoltcp::time::Duration::from_millis(10)));
    socket
}

/// A queue pair as smoltcp drives it, below Ethernet, whose part is done here: one neighbour, who asks for our address.
struct Nic {
    queue: Queue,
    mac: Mac,
    address: Ipv4Addr,
    peer: Mac,
    came: FrameVec,
    packets: Vec<Frame>,
    spare: FrameVec,
    out: FrameVec,
}

impl Nic {
    fn new(queue: Queue, mac: Mac, address: Ipv4Addr) -> Self {
        let frames = || FrameVec::new(BURST);
        Self {
            queue,
            mac,
            address,
            peer: Mac::BROADCAST,
            came: frames(),
            packets: Vec::new(),
            spare: frames(),
            out: frames(),
        }
    }

    /// Takes a burst; whether there was one.
    fn receive_burst(&mut self) -> bool {
        self.queue.rx_burst(&mut self.came);
        let count = self.came.len();
        let frames: Vec<Frame> = self.came.take_front(count).collect();
        for mut frame in frames.into_iter().rev() {
            let kind = frame.bytes().get(12..14).and_then(|kind| kind.first_chunk().copied());
            match kind {
                Some([0x08, 0x00]) => {
                    self.peer.0.copy_from_slice(&frame.bytes()[6..12]);
                    self.packets.push(frame);
                }
                Some([0x08, 0x06]) if self.answers(&mut frame) => self.send(frame),
                _ => {}
            }
        }
        count > 0
    }

    /// Makes the answer of an ARP question that is about us (RFC 826).
    fn answers(&self, frame: &mut Frame) -> bool {
        let bytes = frame.bytes_mut();
        if bytes.len() < ARP_END || bytes[20..22] != [0, 1] || bytes[38..42] != self.address.octets() {
            return false;
        }
        bytes.copy_within(6..12, 0);
        bytes[6..12].copy_from_slice(&self.mac.0);
        bytes[21] = 2;
        bytes.copy_within(22..32, 32);
        bytes[22..28].copy_from_slice(&self.mac.0);
        bytes[28..32].copy_from_slice(&self.address.octets());
        frame.set_len(ARP_END);
        frame.offload_checksums(false);
        true
    }

    fn send(&mut self, frame: Frame) {
        if self.out.room() == 0 {
            self.send_burst();
        }
        if self.out.room() > 0 {
            self.out.push(frame);
        }
    }

    fn send_burst(&mut self) {
        if !self.out.is_empty() {
            self.queue.tx_burst(&mut self.out);
        }
    }
}

impl phy::Device for Nic {
    type RxToken<'a> = Packet;
    type TxToken<'a> = Room<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Packet, Room<'_>)> {
        let packet = self.packets.pop()?;
        Some((Packet(packet), Room(self)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Room<'_>> {
        (self.out.room() > 0).then_some(Room(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1500;
        capabilities
    }
}

struct Packet(Frame);

impl phy::RxToken for Packet {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0.bytes()[ETHERNET_BYTES..])
    }
}

struct Room<'a>(&'a mut Nic);

impl phy::TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let nic = self.0;
        if nic.spare.is_empty() {
            nic.queue.alloc_burst(&mut nic.spare);
        }
        // Without memory the packet is lost, as on a wire.
        let mut frame = nic.spare.pop().unwrap_or_else(|| Frame::heap(ETHERNET_BYTES + len));
        frame.set_len(ETHERNET_BYTES + len);
        frame.offload_checksums(false);
        let bytes = frame.bytes_mut();
        bytes[..6].copy_from_slice(&nic.peer.0);
        bytes[6..12].copy_from_slice(&nic.mac.0);
        bytes[12..14].copy_from_slice(&[0x08, 0x00]);
        let result = f(&mut bytes[ETHERNET_BYTES..]);
        nic.send(frame);
        result
    }
}

const ETHERNET_BYTES: usize = 14;
const ARP_END: usize = 42;

/// Of a connection's two rings each.
const RING_BYTES: usize = 4096;
