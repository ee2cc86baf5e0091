//! The plane seam: what the core asks of a packet backend, and the only thing it knows of one.
//!
//! A plane is the kernel's sockets, or a userspace TCP over DPDK, or a simulated wire in a test. All of them lend their bytes: a
//! [`Conn`] shows its caller what is readable and takes what is written inside a closure, so that a message is parsed where it
//! arrived and serialised where it leaves.
//!
//! **Invariant:** nothing here names a plane, holds a runtime or is `Send`: a connection in use never leaves its core. An idle upstream one
//! may, where its plane can take it off.

use std::any::Any;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::task::{Context, Poll};

use tls_offload::{SessionKeys, Suite};

pub use crate::config::{Address, AddressError};

/// Opens listening sockets and connections on one plane. One per worker; cheap to clone.
pub trait Transport: Clone + 'static {
    /// The plane's byte stream.
    type Conn: Conn;
    /// The plane's listening socket.
    type Listener: Listener<Conn = Self::Conn>;
    /// The plane's socket for datagrams; [`NoDatagrams`] where it has none.
    type Datagrams: Datagrams;

    /// Binds and listens. Errors are those of `bind(2)` and `listen(2)`, on every plane.
    fn listen(&self, address: &Address, options: &ListenOptions) -> impl Future<Output = io::Result<Self::Listener>>;

    /// Bytes that the plane holds for this worker's connections right now: what has come and is not taken, what waits to leave, and what is
    /// kept to hold it. Asked for each request: a sum that is at hand.
    fn held_bytes(&self) -> usize {
        0
    }

    /// Whether its worker never sleeps, so that what wants to be looked at again soon needs no timer.
    fn is_polled(&self) -> bool {
        false
    }

    /// Suites whose records this plane can seal and open by itself (kTLS).
    ///
    /// # Errors
    /// Why it can seal none, and what to do about it.
    fn sealing(&self) -> io::Result<&'static [Suite]> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "no socket of this plane is the kernel's"))
    }

    /// Opens a connection. The caller bounds the time: the future may be dropped at any point and leaves nothing behind.
    fn connect(&self, address: &Address) -> impl Future<Output = io::Result<Self::Conn>>;

    /// Binds a socket for the datagrams that come to `address`; each worker has one, and a client always reaches the same.
    ///
    /// # Errors
    /// Those of `bind(2)`; `Unsupported` where the plane has no datagrams.
    fn listen_datagrams(&self, address: SocketAddr) -> io::Result<Self::Datagrams> {
        let _ = address;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// A socket of its own port for the datagrams to and from one host, and nobody else's.
    ///
    /// # Errors
    /// Those of `socket(2)` and `connect(2)`; `Unsupported` where the plane has no datagrams.
    fn connect_datagrams(&self, to: SocketAddr) -> io::Result<Self::Datagrams> {
        let _ = to;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Goes on with a connection that another worker has [detached](Conn::detach).
    ///
    /// # Errors
    /// When this plane's connections stay with their worker, or this one can't be taken over.
    fn attach(&self, _: Detached) -> io::Result<Self::Conn> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// An idle connection on its way from one worker to another.
pub struct Detached(Box<dyn Any + Send>);

impl Detached {
    /// What the plane needs to go on with a connection elsewhere.
    #[must_use]
    pub fn new(conn: impl Any + Send) -> Self {
        Self(Box::new(conn))
    }

    /// What [`new`](Self::new) was given, if it was this.
    #[must_use]
    pub fn downcast<C: Any>(self) -> Option<C> {
        self.0.downcast().ok().map(|conn| *conn)
    }
}

/// A listening socket of one worker.
pub trait Listener: 'static {
    /// The plane's byte stream.
    type Conn: Conn;

    /// Waits for the next connection. `EMFILE`, `ENFILE` and `ENOMEM` are passed up: the caller pauses and tries again.
    fn accept(&mut self) -> impl Future<Output = io::Result<Self::Conn>>;

    /// The address in force: with port 0 in the configuration, the one the plane chose.
    fn local_addr(&self) -> &Address;
}

/// A byte stream with one peer. Closed when dropped; what was written and flushed before is still delivered.
pub trait Conn: Unpin + 'static {
    /// Shows `f` the readable bytes and removes as many as it says it used.
    ///
    /// `known` is how many unused bytes the caller has seen already and found too few: the call waits until there are more than that.
    /// A caller starts with 0 and, after a look that used nothing, passes the length it saw. When `f` is shown no more than `known`
    /// bytes, the peer has ended its stream. Bytes that `f` leaves are shown again, in one piece, with more behind them.
    ///
    /// `f` parses or serialises and touches no other connection: the plane may be borrowed while it runs.
    fn poll_read_with<R>(
        &mut self,
        cx: &mut Context<'_>,
        known: usize,
        f: impl FnOnce(&[u8]) -> (usize, R),
    ) -> Poll<io::Result<R>>;

    /// Lends `f` room of at least `wish` bytes (at most [`ROOM_BYTES_MAX`]) and keeps as many as it says it wrote.
    ///
    /// Waits while what was written before leaves too little room: this is the backpressure of a slow reader. The bytes leave on
    /// [`poll_flush`](Self::poll_flush) at the latest.
    fn poll_write_with<R>(
        &mut self,
        cx: &mut Context<'_>,
        wish: usize,
        f: impl FnOnce(&mut [u8]) -> (usize, R),
    ) -> Poll<io::Result<R>>;

    /// Moves up to `limit` readable bytes straight to `to`, without showing them to anyone. Says how many; 0 is the end of the stream.
    ///
    /// Waits when there is nothing to read or `to` can take nothing; it reads only what `to` has room for, so that a slow reader closes
    /// the sender's window. What was written to `to` before leaves first. The bytes may still need a flush of `to`.
    fn poll_relay(&mut self, to: &mut Self, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<usize>>;

    /// Hands everything written to the plane. Ready when nothing waits in this process (the kernel plane) or in the queue in front of
    /// the send ring (DPDK).
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Flushes what is the last that is written. What stands between, TLS, has its own end behind it in the same piece, and a plane may have the
    /// end of our direction leave with it; where it does not, that is still to come, by [`poll_shutdown`](Self::poll_shutdown) or by the connection
    /// being dropped.
    fn poll_flush_last(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }

    /// Flushes and ends our direction (FIN). Reading goes on.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// The peer's address.
    fn peer_addr(&self) -> &Address;

    /// Our address.
    fn local_addr(&self) -> &Address;

    /// Where the peer wanted to go, when the kernel has redirected the connection; None where it keeps no such thing. Of a connection that was
    /// taken transparently that is [`local_addr`](Self::local_addr).
    fn original_dst(&self) -> Option<Address> {
        None
    }

    /// Takes an idle connection off its worker, for another one to [attach](Transport::attach). None, and the connection closed, when it has
    /// unread or unsent bytes, or can't leave.
    fn detach(self) -> Option<Detached>
    where
        Self: Sized,
    {
        None
    }

    /// Whether the plane would take the keys of this connection's TLS session now: it knows the suite, and has none of the connection's
    /// bytes, read or unsent. It gets ready for them: what it says no to now it would have refused with the keys in hand.
    fn can_seal(&mut self, suite: Suite) -> bool {
        let _ = suite;
        false
    }

    /// Gives the plane the keys. From here on what is read and written is plaintext: the plane seals and opens the records, says
    /// `close_notify` when the connection is shut down, takes the peer's for its end, and answers `UnexpectedEof` to an end without it.
    ///
    /// # Errors
    /// It can't after all. The connection is of no more use then.
    fn seal(&mut self, keys: SessionKeys) -> io::Result<()> {
        drop(keys);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Ends the connection at once (RST); unsent bytes are lost. The next read or write answers `ConnectionAborted`.
    fn abort(&mut self);
}

/// A socket for datagrams: of a listener, where anybody's come, or of one host alone. Its calls move bursts.
pub trait Datagrams: 'static {
    /// Waits for datagrams and shows `f` those that are there, at most [`BURST_DATAGRAMS_MAX`], each whole. The plane may be borrowed while
    /// it runs: `f` may send on any socket, and receives on none. Loses nothing when it is dropped while it waits.
    ///
    /// # Errors
    /// Those of `recvmsg(2)`; on the socket of one host `ConnectionRefused` when nobody listens there.
    fn receive<R>(&self, f: impl FnOnce(&[Datagram<'_>]) -> R) -> impl Future<Output = io::Result<R>>;

    /// Sends the first datagrams of a burst, at most [`BURST_DATAGRAMS_MAX`], and says how many were taken: at least one. The socket of one
    /// host sends to it, from its own address, whatever the datagrams say of both.
    ///
    /// # Errors
    /// Those of `sendmsg(2)`, of the first of them, which is not sent then; `WouldBlock` when there is no room for it.
    fn try_send(&self, datagrams: &[Datagram<'_>]) -> io::Result<usize>;

    /// Waits, after `WouldBlock`, until there may be room.
    ///
    /// # Errors
    /// When the plane has ended.
    fn sendable(&self) -> impl Future<Output = io::Result<()>>;

    /// The address in force.
    fn local_addr(&self) -> SocketAddr;

    /// Whether another process receives on this very socket from now on, so that this one is to send only.
    fn is_handed_over(&self) -> bool {
        false
    }
}

/// One datagram of a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'b> {
    /// Who sent it, or is to get it.
    pub peer: SocketAddr,
    /// The address of ours that it came to, or leaves from. None where the socket has only one.
    pub local: Option<IpAddr>,
    /// What it carries; may be nothing.
    pub bytes: &'b [u8],
}

impl Datagram<'_> {
    /// Nothing to nobody, to fill arrays with.
    pub const NONE: Datagram<'static> =
        Datagram { peer: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0), local: None, bytes: &[] };
}

/// The datagrams of a plane that has none.
#[derive(Clone, Copy, Debug)]
pub enum NoDatagrams {}

impl Datagrams for NoDatagrams {
    async fn receive<R>(&self, _: impl FnOnce(&[Datagram<'_>]) -> R) -> io::Result<R> {
        match *self {}
    }

    fn try_send(&self, _: &[Datagram<'_>]) -> io::Result<usize> {
        match *self {}
    }

    async fn sendable(&self) -> io::Result<()> {
        match *self {}
    }

    fn local_addr(&self) -> SocketAddr {
        match *self {}
    }
}

/// What one datagram carries, in bytes, at most: what UDP over IPv6 can; over IPv4 it is 20 less (RFC 768).
pub const DATAGRAM_BYTES_MAX: usize = 65_527;

/// Datagrams of one burst, at most.
pub const BURST_DATAGRAMS_MAX: usize = 32;

/// The largest room that [`Conn::poll_write_with`] promises in one piece, in bytes. A longer message is written in parts.
pub const ROOM_BYTES_MAX: usize = 16 * 1024;

/// How to listen.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// Connections that wait to be accepted, at most.
    pub backlog_conns_max: u32,
    /// Whether several workers bind the same address, each with a queue of its own (`SO_REUSEPORT`).
    pub reuse_port: bool,
    /// Whether only the user of this process may connect to a unix socket (mode 0600).
    pub owner_only: bool,
    /// Whether connections are taken that go to addresses which this host does not have (`IP_TRANSPARENT`).
    pub transparent: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { backlog_conns_max: 4096, reuse_port: true, owner_only: false, transparent: false }
    }
}
