//! What the service manager is told (sd_notify(3)): a datagram to the socket that it names.
//!
//! **Invariant:** without such a socket, and when nobody listens on it, nothing happens.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Says something, such as `READY=1`; several lines at once where there are several.
pub fn notify(state: &str) {
    // The gateway serves whether or not somebody hears of it.
    let _ = try_notify(state);
}

/// How often the manager wants to hear `WATCHDOG=1`, if it does: half the time after which it takes us for hung.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    let of_us = env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
    let micros: u64 = env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    (of_us && micros > 0).then(|| Duration::from_micros(micros / 2))
}

fn try_notify(state: &str) -> io::Result<()> {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(&path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}
