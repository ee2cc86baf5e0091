//! Sockets with the options that a gateway wants, made in one place; and the calls that move bursts of datagrams, and records of TLS.
//!
//! **Invariant:** an option set on the listening socket is inherited by what it accepts, so that an accept costs no further system call.

#![allow(unsafe_code, reason = "recvmmsg and control messages with addresses have no safe wrapper among our packages")]

use std::fs::{File, Permissions};
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use ferrogate_core::net::{Address, BURST_DATAGRAMS_MAX, DATAGRAM_BYTES_MAX, Datagram, ListenOptions};
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
    if options.transparent {
        set_transparent(&socket, address)?;
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
    let (at, socket) = match address {
        Address::Unix(_) => return Ok(()),
        Address::Inet(at) => (at, Socket::new(Domain::for_address(*at), Type::STREAM, Some(Protocol::TCP))?),
        Address::Udp(at) => (at, Socket::new(Domain::for_address(*at), Type::DGRAM, Some(Protocol::UDP))?),
    };
    if matches!(address, Address::Inet(_)) {
        socket.set_reuse_address(true)?;
    }
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&(*at).into())
}

/// A socket for the datagrams that come to an address, non-blocking. Where that is every address, each says to which it came.
pub(crate) fn listen_udp(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if address.ip().is_unspecified() {
        report_destinations(&socket, address)?;
    }
    // What comes in while a worker is busy waits here; the kernel gives what it may.
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A socket for the datagrams to and from one host, non-blocking.
pub(crate) fn connect_udp(to: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    socket.connect(&to.into())?;
    Ok(socket.into())
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

/// Lets a socket take connections to addresses that this host does not have.
///
/// # Errors
/// `PermissionDenied` without CAP_NET_ADMIN.
pub(crate) fn set_transparent(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true),
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true),
    }
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

/// Has each datagram say to which address it came (ip(7) IP_PKTINFO, ipv6(7) IPV6_RECVPKTINFO).
fn report_destinations(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    let (level, name) = match address {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    };
    let on: libc::c_int = 1;
    set_option(socket.as_fd(), level, name, &on.to_ne_bytes())
}

/// Sets an option for which there is no safe wrapper, by the bytes of its value.
fn set_option(socket: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int, value: &[u8]) -> io::Result<()> {
    let len = libc::socklen_t::try_from(value.len()).unwrap_or_default();
    // SAFETY: the descriptor is open while it is borrowed; the kernel reads the bytes of `value`, which are as many as it is told, and copies
    // them.
    let rc = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), len) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A direction of a socket whose records the kernel takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Send,
    Receive,
}

/// Puts the kernel's TLS on an established connection; without keys it changes nothing yet.
///
/// # Errors
/// `NotFound`: the kernel has none, or its module is not loaded. Else those of `setsockopt(2)`.
pub(crate) fn put_tls(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_ULP, b"tls")
}

/// Gives the kernel the keys of one direction: a `tls12_crypto_info_*` of linux/tls.h, whatever the version.
///
/// # Errors
/// Those of `setsockopt(2)`: `EINVAL` and `ENOENT` where it does not know the suite, `EBUSY` where it has keys and can't renew them.
pub(crate) fn set_record_keys(socket: BorrowedFd<'_>, direction: Direction, info: &[u8]) -> io::Result<()> {
    let name = match direction {
        Direction::Send => libc::TLS_TX,
        Direction::Receive => libc::TLS_RX,
    };
    set_option(socket, libc::SOL_TLS, name, info)
}

/// Sends a record of another type than data, through the kernel's TLS, whole or not at all.
///
/// # Errors
/// Those of `sendmsg(2)`; `WouldBlock`: there is no room.
pub(crate) fn send_record(socket: BorrowedFd<'_>, kind: u8, content: &[u8]) -> io::Result<()> {
    let mut control = Control([0; CONTROL_BYTES]);
    let control_bytes = write_control(&mut control, libc::SOL_TLS, libc::TLS_SET_RECORD_TYPE, kind);
    let mut part = libc::iovec { iov_base: content.as_ptr().cast_mut().cast(), iov_len: content.len() };
    // SAFETY: integers and pointers, for all of which zeroes are a value: no address, nothing to carry.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = control_bytes;
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the header points to one part, which is `content`, and to a control message of the length given, all of which outlive the call;
    // the kernel only reads them.
    let n = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, flags) };
    if n < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Receives what one record carries, or several of data, through the kernel's TLS. Says how many bytes, and the type; without a type the
/// stream has ended.
///
/// # Errors
/// Those of `recvmsg(2)`; `EBADMSG`: it is not authentic.
pub(crate) fn receive_record(socket: BorrowedFd<'_>, room: &mut [u8]) -> io::Result<(usize, Option<u8>)> {
    let mut control = Control([0; CONTROL_BYTES]);
    let mut part = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
    // SAFETY: as in `send_record`.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_BYTES;
    // SAFETY: the header points to one part, which is `room`, and to a buffer for control messages of the length given, both of which outlive
    // the call and nobody else uses.
    let n = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
    Ok((n, record_type_of(&header)))
}

/// The type of the record that was received, where a control message tells.
fn record_type_of(header: &libc::msghdr) -> Option<u8> {
    // SAFETY: the kernel has filled the control buffer that this header points to, and its length in; both live.
    let first = unsafe { libc::CMSG_FIRSTHDR(header) };
    if first.is_null() {
        return None;
    }
    // SAFETY: it is not null, so a whole control header lies there.
    let (level, kind, data) = unsafe { ((*first).cmsg_level, (*first).cmsg_type, libc::CMSG_DATA(first)) };
    // SAFETY: a control message of this type carries one byte.
    (level == libc::SOL_TLS && kind == libc::TLS_GET_RECORD_TYPE).then(|| unsafe { data.read() })
}

/// A datagram that came: who sent it, to which address if the socket tells, and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) peer: SocketAddr,
    pub(crate) local: Option<IpAddr>,
    pub(crate) len: usize,
}

/// What the kernel is told of a burst. It holds pointers into itself once they are set, so it stays where it is until the call.
struct Burst {
    names: [Name; BURST_DATAGRAMS_MAX],
    controls: [Control; BURST_DATAGRAMS_MAX],
    parts: [libc::iovec; BURST_DATAGRAMS_MAX],
    headers: [libc::mmsghdr; BURST_DATAGRAMS_MAX],
}

/// A socket address of IP.
#[derive(Clone, Copy)]
#[repr(C)]
union Name {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

/// Room for one control message with an address, aligned as its header.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

/// Receives what is there, datagram by datagram into parts of `room` of [`DATAGRAM_BYTES_MAX`] each. Says how many came.
///
/// # Errors
/// What `recvmmsg(2)` answers; `WouldBlock` when there is nothing.
pub(crate) fn receive_burst(
    socket: BorrowedFd<'_>,
    room: &mut [u8],
    into: &mut [Received; BURST_DATAGRAMS_MAX],
) -> io::Result<usize> {
    let mut burst = Burst::new();
    let slots = (room.len() / DATAGRAM_BYTES_MAX).min(BURST_DATAGRAMS_MAX);
    for (index, slot) in room.chunks_exact_mut(DATAGRAM_BYTES_MAX).take(slots).enumerate() {
        burst.carry(index, slot.as_mut_ptr(), slot.len());
        burst.name(index);
        burst.control(index, CONTROL_BYTES);
    }
    let vlen = libc::c_uint::try_from(slots).unwrap_or_default();
    // SAFETY: the first `vlen` headers are set, and point to arrays of `burst` and to parts of `room`, all of which outlive the call and
    // nobody else uses; a null timeout is none.
    let n = unsafe {
        libc::recvmmsg(socket.as_raw_fd(), burst.headers.as_mut_ptr(), vlen, libc::MSG_DONTWAIT, std::ptr::null_mut())
    };
    let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
    for ((received, header), name) in into.iter_mut().zip(&burst.headers).zip(&burst.names).take(n) {
        let peer = address_of(name).unwrap_or(NOBODY);
        *received = Received { peer, local: destination_of(&header.msg_hdr), len: header.msg_len as usize };
    }
    Ok(n)
}

/// Sends the first datagrams of a burst, each to its peer, or all to the one that the socket is connected to. Says how many were taken.
///
/// # Errors
/// What `sendmmsg(2)` answers for the first of them; `WouldBlock` when there is no room for it.
pub(crate) fn send_burst(socket: BorrowedFd<'_>, datagrams: &[Datagram<'_>], is_connected: bool) -> io::Result<usize> {
    let mut burst = Burst::new();
    for (index, datagram) in datagrams.iter().take(BURST_DATAGRAMS_MAX).enumerate() {
        burst.carry(index, datagram.bytes.as_ptr().cast_mut(), datagram.bytes.len());
        if is_connected {
            // It has its own addresses, at both ends.
            continue;
        }
        burst.names[index] = name_of(datagram.peer);
        burst.name(index);
        if let Some(local) = datagram.local {
            let len = write_source(&mut burst.controls[index], local);
            burst.control(index, len);
        }
    }
    let vlen = libc::c_uint::try_from(datagrams.len().min(BURST_DATAGRAMS_MAX)).unwrap_or_default();
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the first `vlen` headers are set, and point to arrays of `burst` and to the bytes of `datagrams`, all of which outlive the
    // call; the kernel only reads what a message that is sent points to.
    let n = unsafe { libc::sendmmsg(socket.as_raw_fd(), burst.headers.as_mut_ptr(), vlen, flags) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

impl Burst {
    fn new() -> Self {
        // SAFETY: integers, bytes and pointers, for all of which zeroes are a value: no address, nothing to carry.
        unsafe { mem::zeroed() }
    }

    /// Message `index` has these bytes.
    fn carry(&mut self, index: usize, bytes: *mut u8, len: usize) {
        self.parts[index] = libc::iovec { iov_base: bytes.cast(), iov_len: len };
        let header = &mut self.headers[index].msg_hdr;
        header.msg_iov = &raw mut self.parts[index];
        header.msg_iovlen = 1;
    }

    /// Message `index` has an address, or room for one.
    fn name(&mut self, index: usize) {
        let name = &mut self.names[index];
        // SAFETY: each variant begins with the family, and zeroes are one.
        let is_v4 = i32::from(unsafe { name.family }) == libc::AF_INET;
        let len = if is_v4 { size_of::<libc::sockaddr_in>() } else { size_of::<libc::sockaddr_in6>() };
        let header = &mut self.headers[index].msg_hdr;
        header.msg_name = (&raw mut *name).cast();
        header.msg_namelen = libc::socklen_t::try_from(len).unwrap_or_default();
    }

    /// Message `index` has a control message of this length, or room for one.
    fn control(&mut self, index: usize, len: usize) {
        let header = &mut self.headers[index].msg_hdr;
        header.msg_control = self.controls[index].0.as_mut_ptr().cast();
        header.msg_controllen = len;
    }
}

fn name_of(address: SocketAddr) -> Name {
    match address {
        SocketAddr::V4(v4) => Name {
            v4: libc::sockaddr_in {
                sin_family: AF_INET,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            },
        },
        SocketAddr::V6(v6) => Name {
            v6: libc::sockaddr_in6 {
                sin6_family: AF_INET6,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            },
        },
    }
}

/// The address that the kernel has written; None where it is none of IP.
fn address_of(name: &Name) -> Option<SocketAddr> {
    // SAFETY: each variant begins with the family.
    match unsafe { name.family } {
        AF_INET => {
            // SAFETY: the family says that it is this variant.
            let v4 = unsafe { name.v4 };
            let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        AF_INET6 => {
            // SAFETY: the family says that it is this variant.
            let v6 = unsafe { name.v6 };
            let (ip, port) = (Ipv6Addr::from(v6.sin6_addr.s6_addr), u16::from_be(v6.sin6_port));
            Some(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// The address of ours that a datagram came to, where its control messages tell; an answer may leave from it.
fn destination_of(header: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: the kernel has filled the control buffer that this header points to, and its length in; both live.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !next.is_null() {
        // SAFETY: it is not null, so a whole control header lies there.
        let (level, kind, data) = unsafe { ((*next).cmsg_level, (*next).cmsg_type, libc::CMSG_DATA(next)) };
        match (level, kind) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // SAFETY: a control message of this type carries this structure.
                let info = unsafe { data.cast::<libc::in_pktinfo>().read_unaligned() };
                return Some(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()).into());
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                // SAFETY: a control message of this type carries this structure.
                let info = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
                let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                return (!ip.is_multicast()).then_some(ip.into());
            }
            _ => {}
        }
        // SAFETY: as for the first one; `next` is one of this header's.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
    None
}

/// Writes a control message that has a datagram leave from `source`; says how long it is.
fn write_source(control: &mut Control, source: IpAddr) -> usize {
    match source {
        IpAddr::V4(ip) => {
            let address = libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) };
            let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address, ipi_addr: address };
            write_control(control, libc::IPPROTO_IP, libc::IP_PKTINFO, info)
        }
        IpAddr::V6(ip) => {
            let info = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: ip.octets() }, ipi6_ifindex: 0 };
            write_control(control, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
        }
    }
}

fn write_control<P>(control: &mut Control, level: libc::c_int, kind: libc::c_int, payload: P) -> usize {
    const { assert!(size_of::<P>() + size_of::<libc::cmsghdr>() <= CONTROL_BYTES) };
    let len = libc::c_uint::try_from(size_of::<P>()).unwrap_or_default();
    let header = control.0.as_mut_ptr().cast::<libc::cmsghdr>();
    // SAFETY: the buffer is aligned as a control header and, by the assertion, has room for one with this payload behind it, where
    // CMSG_DATA points to.
    unsafe {
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        (*header).cmsg_len = libc::CMSG_LEN(len) as usize;
        libc::CMSG_DATA(header).cast::<P>().write_unaligned(payload);
        libc::CMSG_SPACE(len) as usize
    }
}

impl Received {
    /// Nothing, to fill arrays with.
    pub(crate) const NONE: Self = Self { peer: NOBODY, local: None, len: 0 };
}

/// Who can't be answered.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the constants are 2 and 10")]
const AF_INET: libc::sa_family_t = libc::AF_INET as libc::sa_family_t;

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "as above")]
const AF_INET6: libc::sa_family_t = libc::AF_INET6 as libc::sa_family_t;

/// A control header, and the longer of the two structures with an address (20 bytes), rounded up.
const CONTROL_BYTES: usize = 64;

/// What a listener's socket may hold that its worker has not taken yet, in bytes, if `net.core.rmem_max` allows it.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

fn backlog(options: &ListenOptions) -> i32 {
    i32::try_from(options.backlog_conns_max).unwrap_or(i32::MAX)
}

/// A silent peer is probed after this.
const KEEPALIVE_TIME: Duration = Duration::from_secs(120);

/// Between two probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Unanswered probes before the connection is given up.
const KEEPALIVE_PROBES_MAX: u32 = 4;
