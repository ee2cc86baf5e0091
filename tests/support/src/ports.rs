//! Ports that nobody else takes.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

/// A free TCP port of the loopback address, for a process that has to be told its port.
///
/// It is below the range from which Linux draws the ports of outgoing connections, so that no connection takes it in the meantime;
/// processes of tests that run side by side start at different places.
///
/// # Panics
/// When none is free.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % u32::from(COUNT)).expect("less than the count");
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (start.wrapping_mul(STRIDE).wrapping_add(step)) % COUNT;
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

/// A port of the loopback address that is free for datagrams.
///
/// # Panics
/// When none is free.
#[must_use]
pub fn free_udp_address() -> SocketAddr {
    loop {
        let address = free_address();
        if UdpSocket::bind((Ipv4Addr::UNSPECIFIED, address.port())).is_ok() {
            return address;
        }
    }
}

/// A free port with the loopback address.
#[must_use]
pub fn free_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}

const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;
/// Neighbouring process ids start this far from each other.
const STRIDE: u16 = 97;
