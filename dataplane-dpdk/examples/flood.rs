//! A flood of SYNs from a DPDK port, each from another address of 198.18.0.0/15 (RFC 2544), as nobody goes on with.
//!
//! ```text
//! cargo run -p dataplane-dpdk --features dpdk --example flood -- \
//!     net_memif0,role=client,id=0,socket=/tmp/flood.sock,socket-abstract=no 10.98.0.2 10.98.0.1:8080 500000 10
//! ```
//!
//! A rate of 0 is as many as the port takes. Says when it begins and when it has ended, and holds the port until its input ends: a memif peer that is
//! polled must not go away first. `bench/flood.py` measures with it what is left for honest clients.

use std::error::Error;
use std::hint::spin_loop;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use dataplane_dpdk::port::{Eal, LcoreThread, Port, Queue};
use dataplane_dpdk::queue::PacketQueue;
use dataplane_dpdk::{BURST, Device, Frame, FrameVec, Mac, PortError, PortOptions};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};
use tokio::time::Instant;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(flood) = Flood::parse(&args) else {
        eprintln!("usage: flood DEVICE OUR-ADDRESS TARGET:PORT SYNS-PER-SECOND SECONDS");
        return ExitCode::from(2);
    };
    match flood.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("flood: {e}");
            ExitCode::FAILURE
        }
    }
}

fn said(error: PortError) -> String {
    format!("{error:?}")
}

struct Flood {
    device: Device,
    from: Ipv4Addr,
    to: SocketAddrV4,
    /// SYNs a second; 0: as many as the port takes.
    rate: u64,
    time: Duration,
}

impl Flood {
    fn parse(args: &[String]) -> Option<Self> {
        let [device, from, to, rate, seconds] = args else { return None };
        Some(Self {
            device: Device::new(device),
            from: from.parse().ok()?,
            to: to.parse().ok()?,
            rate: rate.parse().ok()?,
            time: Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?,
        })
    }

    fn run(&self) -> Result<(), Box<dyn Error>> {
        let eal_args = "--no-huge --no-shconf -m 64 --no-pci --no-telemetry --log-level=4 --single-file-segments";
        let eal = Eal::start(&eal_args.split(' ').map(str::to_owned).collect::<Vec<_>>()).map_err(said)?;
        let (port, queues) = Port::open(
            &eal,
            &PortOptions { device: self.device.clone(), queues: 1, mtu: 1500, offloads: Default::default() },
        )
        .map_err(said)?;
        let queue = queues.into_iter().next().ok_or("a port without a queue")?;
        let _thread = LcoreThread::register(&eal, None).map_err(said)?;
        let mut wire = Wire { queue, mac: port.info().mac, got: FrameVec::new(BURST) };
        let gateway = wire.find(self.from, *self.to.ip()).ok_or("nobody answers at the target's address")?;
        println!("flooding");
        let (sent, answered) = self.flood(&mut wire, gateway);
        println!("flooded {sent} {answered}");
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        Ok(())
    }

    /// Answers how many SYNs were sent and how many frames came.
    fn flood(&self, wire: &mut Wire, gateway: Mac) -> (u64, u64) {
        let (mut out, mut spare) = (FrameVec::new(BURST), FrameVec::new(BURST));
        let (mut sent, mut answered, mut draws) = (0, 0, 0_u64);
        let start = Instant::now();
        loop {
            let elapsed = start.elapsed();
            if elapsed >= self.time {
                return (sent, answered);
            }
            let due = match self.rate {
                0 => u64::MAX,
                rate => u64::try_from(elapsed.as_nanos() * u128::from(rate) / 1_000_000_000).unwrap_or(u64::MAX),
            };
            // What comes back is taken away as a host would, or the gateway's queue fills up.
            answered += wire.drain();
            while out.room() > 0 && sent + (out.len() as u64) < due {
                if spare.is_empty() {
                    wire.queue.alloc_burst(&mut spare);
                }
                let Some(mut frame) = spare.pop() else { break };
                draws += 1;
                self.write_syn(&mut frame, (wire.mac, gateway), mix(draws));
                out.push(frame);
            }
            let before = out.len();
            wire.queue.tx_burst(&mut out);
            sent += (before - out.len()) as u64;
            if self.rate > 0 && sent >= due {
                // The core is shared with honest clients.
                thread::sleep(Duration::from_micros(200));
            } else {
                spin_loop();
            }
        }
    }

    fn write_syn(&self, frame: &mut Frame, (from, to): (Mac, Mac), draw: u64) {
        let low = |shift: u32| u32::try_from(draw >> shift & 0xffff).expect("16 bits");
        let source = Ipv4Addr::from_bits(0xc612_0000 | (low(0) | (low(16) & 1) << 16));
        let tcp = TcpRepr {
            src_port: u16::try_from(1024 + low(17) % 64_000).expect("below 65536"),
            dst_port: self.to.port(),
            control: TcpControl::Syn,
            seq_number: TcpSeqNumber((low(33) << 16 | low(40)).cast_signed()),
            ack_number: None,
            window_len: 64_240,
            window_scale: Some(7),
            max_seg_size: Some(1460),
            sack_permitted: true,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        let ip = Ipv4Repr {
            src_addr: source,
            dst_addr: *self.to.ip(),
            next_header: IpProtocol::Tcp,
            payload_len: tcp.buffer_len(),
            hop_limit: 64,
        };
        let caps = ChecksumCapabilities::default();
        let end = ETHERNET_BYTES + ip.buffer_len() + tcp.buffer_len();
        frame.set_len(end);
        frame.offload_checksums(false);
        let bytes = frame.bytes_mut();
        write_ethernet(bytes, to, from, ETHER_IPV4);
        ip.emit(&mut Ipv4Packet::new_unchecked(&mut bytes[ETHERNET_BYTES..]), &caps);
        let at = ETHERNET_BYTES + ip.buffer_len();
        tcp.emit(&mut TcpPacket::new_unchecked(&mut bytes[at..]), &source.into(), &(*self.to.ip()).into(), &caps);
    }
}

/// A queue pair of ours.
struct Wire {
    queue: Queue,
    mac: Mac,
    got: FrameVec,
}

impl Wire {
    /// Asks for the Ethernet address of `ip` until it answers, or for five seconds.
    fn find(&mut self, our_ip: Ipv4Addr, ip: Ipv4Addr) -> Option<Mac> {
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            let mut ask = FrameVec::new(1);
            self.queue.alloc_burst(&mut ask);
            if let Some(mut frame) = ask.pop() {
                self.write_question(&mut frame, our_ip, ip);
                ask.push(frame);
                self.queue.tx_burst(&mut ask);
            }
            thread::sleep(Duration::from_millis(20));
            self.queue.rx_burst(&mut self.got);
            let n = self.got.len();
            if let Some(mac) = self.got.take_front(n).find_map(|frame| answer(&frame, ip)) {
                return Some(mac);
            }
        }
        None
    }

    fn write_question(&self, frame: &mut Frame, our_ip: Ipv4Addr, ip: Ipv4Addr) {
        let (none, mac) = (Mac([0; 6]), self.mac);
        frame.set_len(ETHERNET_BYTES + 28);
        frame.offload_checksums(false);
        let bytes = frame.bytes_mut();
        write_ethernet(bytes, Mac::BROADCAST, mac, ETHER_ARP);
        let question = [&ARP_ASKS[..], &mac.0, &our_ip.octets(), &none.0, &ip.octets()].concat();
        bytes[ETHERNET_BYTES..].copy_from_slice(&question);
    }

    /// Throws away what has come. Says how many frames.
    fn drain(&mut self) -> u64 {
        let mut drained = 0;
        loop {
            self.queue.rx_burst(&mut self.got);
            let n = self.got.len();
            drop(self.got.take_front(n));
            drained += n as u64;
            if n < BURST {
                return drained;
            }
        }
    }
}

/// The Ethernet address that an ARP answer tells of `ip`.
fn answer(frame: &Frame, ip: Ipv4Addr) -> Option<Mac> {
    let arp = frame.bytes().get(ETHERNET_BYTES..ETHERNET_BYTES + 28).filter(|_| frame.bytes()[12..14] == ETHER_ARP)?;
    let is_it = arp[..8] == ARP_ANSWERS && arp[14..18] == ip.octets();
    arp[8..14].first_chunk().copied().map(Mac).filter(|_| is_it)
}

fn write_ethernet(bytes: &mut [u8], to: Mac, from: Mac, kind: [u8; 2]) {
    bytes[..6].copy_from_slice(&to.0);
    bytes[6..12].copy_from_slice(&from.0);
    bytes[12..ETHERNET_BYTES].copy_from_slice(&kind);
}

/// A number that looks like any other (splitmix64).
fn mix(n: u64) -> u64 {
    let mut x = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

const ETHERNET_BYTES: usize = 14;
const ETHER_IPV4: [u8; 2] = [8, 0];
const ETHER_ARP: [u8; 2] = [8, 6];
/// RFC 826: of Ethernet and IPv4, a request and a reply.
const ARP_ASKS: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
const ARP_ANSWERS: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 2];
