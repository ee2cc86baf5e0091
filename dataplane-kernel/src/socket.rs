//! Sockets with the options that a gateway wants, made in one place.
//!
//! **Invariant:** an option set on the listening socket is inherited by what it accepts, so that an accept costs no further system call.

use std::fs::{File, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use ferrogate_core::net::{Address, ListenOptions};
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

/// A listening TCP socket, non-blocking.
pub(crate) fn listen_tcp(address: SocketAddr, options: &ListenOptions) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        // `[::]` listens for IPv6 alone: with `0.0.0.0` beside it in the file, both must be able to bind.
        socket.set_only_v6(true)?;
    }
    set_stream_options(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(backlog(options))?;
    Ok(socket.into())
}

/// Whether another process listens on this address. With SO_REUSEPORT both could, and would share the traffic without a word.
///
/// # Errors
/// What `bind(2)` answers, `AddrInUse` above all.
pub fn probe(address: &Address) -> io::Result<()> {
    let Some(inet) = address.inet() else { return Ok(()) };
    let socket = Socket::new(Domain::for_address(inet), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if inet.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&inet.into())
}

/// A listening unix socket, non-blocking. A file that a crashed process left behind is replaced; one that somebody serves is not.
pub(crate) fn listen_unix(path: &Path, options: &ListenOptions) -> io::Result<std::os::unix::net::UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    let address = SockAddr::unix(path)?;
    if options.owner_only {
        // The file gets the mode that the socket has when it is bound: nobody can come in between.
        File::from(OwnedFd::from(socket.try_clone()?)).set_permissions(Permissions::from_mode(0o600))?;
    }
    match socket.bind(&address) {
        Err(e) if e.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
            std::fs::remove_file(path)?;
            socket.bind(&address)?;
        }
        other => other?,
    }
    socket.listen(backlog(options))?;
    Ok(socket.into())
}

/// Options of every TCP stream, listened for or connected.
pub(crate) fn set_stream_options(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_TIME)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_PROBES_MAX),
    )
}

/// Whether `path` is a socket that nobody listens on.
fn is_stale(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
    is_socket
        && std::os::unix::net::UnixStream::connect(path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
}

fn backlog(options: &ListenOptions) -> i32 {
    i32::try_from(options.backlog_conns_max).unwrap_or(i32::MAX)
}

/// A silent peer is probed after this.
const KEEPALIVE_TIME: Duration = Duration::from_secs(120);

/// Between two probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Unanswered probes before the connection is given up.
const KEEPALIVE_PROBES_MAX: u32 = 4;
