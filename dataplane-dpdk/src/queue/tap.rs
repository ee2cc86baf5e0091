//! A TAP interface of the kernel as a source of frames, and where they go: a port's twin.
//!
//! **Invariant:** the interface is gone with the process; no call blocks.

use std::fmt;
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::task::{Context, Poll};

use ferrogate_core::config::dataplane::Network;
use rustix::net::{AddressFamily, SocketType, socket};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use super::PacketQueue;
use crate::device::Mac;
use crate::frame::{Frame, FrameVec};

/// One queue of an interface that is up, not yet of any thread.
pub struct TapInterface(SyncDevice);

/// What an interface is to be.
#[derive(Clone, Copy, Debug)]
pub struct TapOptions<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its MTU in bytes.
    pub mtu: u16,
    /// Its addresses. One that Linux does not take is told of in the log, and missing.
    pub addresses: &'a [Network],
    /// Its queues: one for each thread that is to have one.
    pub queues: usize,
}

impl TapInterface {
    /// Makes the interface.
    ///
    /// # Errors
    /// Without CAP_NET_ADMIN or `/dev/net/tun`, and when the name belongs to another interface.
    pub fn open(options: &TapOptions<'_>) -> io::Result<Vec<Self>> {
        let first = DeviceBuilder::new()
            .name(options.name)
            .layer(Layer::L2)
            .packet_information(false)
            .mac_addr(options.mac.0)
            .mtu(options.mtu)
            .multi_queue(options.queues > 1)
            .build_sync()?;
        for (number, network) in options.addresses.iter().enumerate() {
            let added = match network.ip {
                IpAddr::V4(ip) => add_address_v4(options.name, number, ip, network.prefix_len),
                IpAddr::V6(ip) => first.add_address_v6(ip, network.prefix_len),
            };
            if let Err(error) = added {
                tracing::warn!(
                    interface = options.name,
                    address = %network.ip,
                    %error,
                    "the exception path's interface goes without this address: services of the host can't be reached at it"
                );
            }
        }
        let more: io::Result<Vec<_>> = (1..options.queues).map(|_| first.try_clone()).collect();
        let queues: Vec<_> = [first].into_iter().chain(more?).collect();
        queues.iter().try_for_each(|queue| queue.set_nonblocking(true))?;
        Ok(queues.into_iter().map(Self).collect())
    }
}

/// Gives an interface one more IPv4 address: each but the first under a name of its own, `fg0:1`, as netdevice(7) has it.
fn add_address_v4(interface: &str, number: usize, ip: Ipv4Addr, prefix_len: u8) -> io::Result<()> {
    let name = if number == 0 { interface.to_owned() } else { format!("{interface}:{number}") };
    let mask = Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(prefix_len)).unwrap_or(0));
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    for (request, value) in [(libc::SIOCSIFADDR, ip), (libc::SIOCSIFNETMASK, mask)] {
        let mut wish = wish_for(&name, value)?;
        // SAFETY: the kernel reads a whole `ifreq` for these two, and keeps nothing of it; the socket is open.
        let result = unsafe { libc::ioctl(socket.as_raw_fd(), request, &raw mut wish) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// What netdevice(7)'s calls for an IPv4 address take.
fn wish_for(name: &str, ip: Ipv4Addr) -> io::Result<libc::ifreq> {
    // SAFETY: an `ifreq` is plain data, for which zeros are a value.
    let mut wish: libc::ifreq = unsafe { mem::zeroed() };
    // With a zero at the end.
    if name.len() >= wish.ifr_name.len() {
        return Err(io::Error::other(format!("{name} is longer than a name of an interface may be")));
    }
    for (to, from) in wish.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    let sa_family = libc::sa_family_t::try_from(libc::AF_INET).map_err(io::Error::other)?;
    let mut address = libc::sockaddr { sa_family, sa_data: [0; 14] };
    // Behind the port, which is 0 (`sockaddr_in`).
    for (to, from) in address.sa_data[2..].iter_mut().zip(ip.octets()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    wish.ifr_ifru.ifru_addr = address;
    Ok(wish)
}

impl fmt::Debug for TapInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TapInterface")
    }
}

/// One queue of an interface, on the thread that has it.
pub struct TapQueue {
    device: AsyncFd<SyncDevice>,
    room: Box<[u8]>,
}

impl TapQueue {
    /// Takes a queue. In a runtime with I/O only.
    ///
    /// # Errors
    /// When the reactor can't take it.
    pub fn new(interface: TapInterface) -> io::Result<Self> {
        // SAFETY: a `SyncDevice` owns one descriptor, which it keeps and answers for as long as it lives, and nothing takes it out of the `AsyncFd`.
        let device = unsafe { AsyncFd::register_with_interest(interface.0, Interest::READABLE) }?;
        Ok(Self { device, room: vec![0; FRAME_BYTES_MAX].into() })
    }
}

impl PacketQueue for TapQueue {
    fn rx_burst(&mut self, into: &mut FrameVec) {
        while into.room() > 0 {
            let Self { device, room } = self;
            // Whatever keeps it from reading (nothing there, set down, taken away) ends its readiness, or who waits for it would be woken for ever.
            let read = |device: &SyncDevice| device.recv(room).map_err(|_| io::ErrorKind::WouldBlock.into());
            match device.try_io(Interest::READABLE, read) {
                Ok(n) => into.push(Frame::from(room[..n].to_vec())),
                Err(_) => break,
            }
        }
    }

    fn tx_burst(&mut self, from: &mut FrameVec) {
        let taken = |frame: &Frame| self.device.get_ref().send(frame.bytes()).is_ok();
        let frames = from.as_slice().iter().take_while(|frame| taken(frame)).count();
        from.take_front(frames).for_each(drop);
    }

    fn alloc_burst(&mut self, _into: &mut FrameVec) {
        // Frames are copied on their way, in both directions.
    }

    fn poll_rx(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.device.poll_read_ready(cx) {
            Poll::Ready(Ok(_)) => Poll::Ready(()),
            // The runtime ends.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }
}

/// The longest frame that a port's MTU allows, with the tag of a VLAN.
const FRAME_BYTES_MAX: usize = 9216 + 14 + 4;
