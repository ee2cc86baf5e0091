//! A connection over a kernel socket.
//!
//! What is relayed is copied through the scratch buffer while it is little, and spliced through a pipe once it is much: a pipe costs two more
//! system calls than a copy of a short answer, and saves both copies of a long one.
//!
//! Of a connection that has the keys of its TLS session the kernel seals and opens the records: what is written is spliced as ever, what is read is
//! copied, because a record of another type than data can't be spliced.
//!
//! **Invariant:** a read asks the kernel only when the caller has used what is here, and memory is kept only for what is unread or unsent.

use std::cell::OnceCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use ferrogate_core::net::{Address, Conn, Detached, ROOM_BYTES_MAX};
use rustix::net::{SendFlags, sockopt};
use tls_offload::{SessionKeys, Suite};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use crate::buffers::{Buffers, Held, SCRATCH_BYTES};
use crate::pipes::Pipe;
use crate::records::{self, Sealed, Taken};
use crate::socket::{put_tls, receive_record};
use crate::stream::{Stream, recv, send};

/// A TCP or unix stream of one worker.
pub struct KernelConn {
    io: Io,
    buffers: Rc<Buffers>,
    unread: Held,
    unsent: Held,
    /// Behind `unsent`; never both.
    piped: Option<Box<Pipe>>,
    bulk: Bulk,
    ended: bool,
    peer: Address,
    local: OnceCell<Rc<Address>>,
}

/// A stream that no worker's reactor knows.
pub(crate) struct LooseConn {
    io: LooseIo,
    peer: Address,
}

enum LooseIo {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// How many of the last relay steps were long.
#[derive(Clone, Copy, Default)]
struct Bulk(u8);

enum Io {
    Tcp(TcpIo),
    Unix(UnixStream),
    Aborted,
}

struct TcpIo {
    stream: Stream,
    /// The kernel seals and opens what goes over it.
    sealed: Option<Box<Sealed>>,
    /// Whether the kernel takes keys for it, once it was asked.
    prepared: Option<bool>,
}

impl KernelConn {
    pub(crate) fn tcp(stream: Stream, peer: Address, local: Option<Rc<Address>>, buffers: Rc<Buffers>) -> Self {
        Self::new(Io::Tcp(TcpIo::new(stream)), peer, local, buffers)
    }

    pub(crate) fn unix(stream: UnixStream, peer: Address, local: Option<Rc<Address>>, buffers: Rc<Buffers>) -> Self {
        Self::new(Io::Unix(stream), peer, local, buffers)
    }

    /// Makes a stream that another worker has let go one of this worker's.
    pub(crate) fn attach(loose: LooseConn, buffers: Rc<Buffers>) -> io::Result<Self> {
        let io = match loose.io {
            LooseIo::Tcp(stream) => Io::Tcp(TcpIo::new(Stream::new(stream)?)),
            LooseIo::Unix(stream) => Io::Unix(UnixStream::from_std(stream)?),
        };
        Ok(Self::new(io, loose.peer, None, buffers))
    }

    fn new(io: Io, peer: Address, local: Option<Rc<Address>>, buffers: Rc<Buffers>) -> Self {
        let local = local.map_or_else(OnceCell::new, OnceCell::from);
        Self {
            io,
            buffers,
            unread: Held::default(),
            unsent: Held::default(),
            piped: None,
            bulk: Bulk::default(),
            ended: false,
            peer,
            local,
        }
    }

    /// Reads once into the scratch buffer and shows what came; keeps what `f` leaves.
    fn read_fresh<R>(&mut self, cx: &mut Context<'_>, f: impl FnOnce(&[u8]) -> (usize, R)) -> Poll<io::Result<R>> {
        let buffers = Rc::clone(&self.buffers);
        let mut scratch = buffers.scratch.borrow_mut();
        let n = ready!(self.io.poll_read(cx, &mut scratch))?;
        self.ended = n == 0;
        let (used, result) = f(&scratch[..n]);
        debug_assert!(used <= n, "a reader used more than it was shown");
        if used < n {
            self.unread.append(&scratch[used..n], &buffers);
        }
        Poll::Ready(Ok(result))
    }

    /// Reads once behind what is unread already.
    fn read_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let io = &mut self.io;
        let n = ready!(self.unread.fill(JOIN_READ_BYTES, &self.buffers, |room| {
            let read = io.poll_read(cx, room);
            let filled = if let Poll::Ready(Ok(n)) = read { n } else { 0 };
            (filled, read)
        }))?;
        self.ended = n == 0;
        Poll::Ready(Ok(()))
    }

    /// Writes the unsent rest and what is piped until it is gone or the socket is full.
    fn send_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let n = ready!(self.io.poll_write(cx, self.unsent.bytes(), SendFlags::empty()))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.consume(n, &self.buffers);
        }
        while let Some(pipe) = &mut self.piped {
            if ready!(self.io.poll_drain(cx, pipe))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if let Some(pipe) = self.piped.take_if(|pipe| pipe.is_empty()) {
                self.buffers.pipes.give(pipe);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes the unsent rest and ends our direction, so that the end is in the last segment: one of its own would be as much work for both sides
    /// as the bytes are.
    fn send_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let n = ready!(self.io.poll_write(cx, self.unsent.bytes(), SendFlags::MORE))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.consume(n, &self.buffers);
        }
        let Io::Tcp(s) = &self.io else { return Poll::Ready(Ok(())) };
        Poll::Ready(s.stream.shut_down())
    }

    /// Moves bytes to `to` through a pipe. None where that can't be done: then they have to be copied.
    fn poll_splice(&mut self, to: &mut Self, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<Option<usize>>> {
        if !matches!((&self.io, &to.io), (Io::Tcp(TcpIo { sealed: None, .. }), Io::Tcp(_))) {
            return Poll::Ready(Ok(None));
        }
        let Some(mut pipe) = self.buffers.pipes.take() else { return Poll::Ready(Ok(None)) };
        let filled = self.io.poll_fill(cx, &mut pipe, limit);
        let n = match filled {
            Poll::Ready(Ok(n)) => n,
            failed => {
                self.buffers.pipes.give(pipe);
                return failed.map(|failed| failed.map(Some));
            }
        };
        self.ended = n == 0;
        self.bulk.moved(n);
        if n == 0 {
            self.buffers.pipes.give(pipe);
        } else {
            to.piped = Some(pipe);
            // What it takes at once; the rest waits in the pipe.
            if let Poll::Ready(Err(e)) = to.send_rest(cx) {
                return Poll::Ready(Err(e));
            }
        }
        Poll::Ready(Ok(Some(n)))
    }

    /// Writes `bytes` to the socket and keeps what it does not take.
    fn send_or_keep(&mut self, cx: &mut Context<'_>, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.io.poll_write(cx, bytes, SendFlags::empty()) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(n)) => bytes = &bytes[n..],
                Poll::Ready(Err(e)) => return Err(e),
                Poll::Pending => {
                    self.unsent.append(bytes, &self.buffers);
                    break;
                }
            }
        }
        Ok(())
    }
}

impl Conn for KernelConn {
    fn poll_read_with<R>(
        &mut self,
        cx: &mut Context<'_>,
        known: usize,
        f: impl FnOnce(&[u8]) -> (usize, R),
    ) -> Poll<io::Result<R>> {
        if self.unread.is_empty() && !self.ended {
            return self.read_fresh(cx, f);
        }
        while self.unread.len() <= known && !self.ended {
            ready!(self.read_more(cx))?;
        }
        let (used, result) = f(self.unread.bytes());
        self.unread.consume(used, &self.buffers);
        Poll::Ready(Ok(result))
    }

    fn poll_write_with<R>(
        &mut self,
        cx: &mut Context<'_>,
        wish: usize,
        f: impl FnOnce(&mut [u8]) -> (usize, R),
    ) -> Poll<io::Result<R>> {
        let wish = wish.min(ROOM_BYTES_MAX);
        if self.piped.is_some() || self.unsent.len() + wish > UNSENT_BYTES_MAX {
            ready!(self.send_rest(cx))?;
        }
        if matches!(self.io, Io::Aborted) {
            return Poll::Ready(Err(aborted()));
        }
        Poll::Ready(Ok(self.unsent.fill(wish, &self.buffers, f)))
    }

    fn poll_relay(&mut self, to: &mut Self, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<usize>> {
        ready!(to.send_rest(cx))?;
        if !self.unread.is_empty() {
            let n = self.unread.len().min(limit);
            to.send_or_keep(cx, &self.unread.bytes()[..n])?;
            self.unread.consume(n, &self.buffers);
            return Poll::Ready(Ok(n));
        }
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        if self.bulk.is_bulk()
            && let Some(n) = ready!(self.poll_splice(to, cx, limit))?
        {
            return Poll::Ready(Ok(n));
        }
        let mut scratch = self.buffers.scratch.borrow_mut();
        let want = limit.min(SCRATCH_BYTES);
        let n = ready!(self.io.poll_read(cx, &mut scratch[..want]))?;
        self.ended = n == 0;
        self.bulk.moved(n);
        to.send_or_keep(cx, &scratch[..n])?;
        Poll::Ready(Ok(n))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.send_rest(cx)
    }

    fn poll_flush_last(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.piped.is_none()
            && !self.unsent.is_empty()
            && let Io::Tcp(TcpIo { sealed: None, .. }) = &self.io
        {
            return self.send_end(cx);
        }
        self.send_rest(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.send_rest(cx))?;
        match &mut self.io {
            Io::Tcp(s) => {
                ready!(s.poll_say_end(cx))?;
                Poll::Ready(s.stream.shut_down())
            }
            Io::Unix(s) => Pin::new(s).poll_shutdown(cx),
            Io::Aborted => Poll::Ready(Err(aborted())),
        }
    }

    fn peer_addr(&self) -> &Address {
        &self.peer
    }

    fn local_addr(&self) -> &Address {
        self.local.get_or_init(|| match &self.io {
            Io::Tcp(s) => Rc::new(s.stream.local_addr().map_or_else(|_| unbound(), Address::Inet)),
            Io::Unix(_) | Io::Aborted => Rc::new(unbound()),
        })
    }

    fn original_dst(&self) -> Option<Address> {
        let Io::Tcp(TcpIo { stream, .. }) = &self.io else { return None };
        let socket = stream.as_fd().ok()?;
        // Asked by what the socket is: one of IPv6 knows nothing by the option of IPv4.
        let original = match self.local_addr().inet()? {
            SocketAddr::V4(_) => sockopt::ip_original_dst(socket).map(SocketAddr::V4),
            SocketAddr::V6(_) => sockopt::ipv6_original_dst(socket).map(SocketAddr::V6),
        };
        // A kernel without connection tracking, or a connection that it does not track.
        original.ok().map(Address::Inet)
    }

    fn detach(self) -> Option<Detached> {
        if !self.unread.is_empty() || !self.unsent.is_empty() || self.piped.is_some() || self.ended {
            return None;
        }
        let io = match self.io {
            Io::Tcp(TcpIo { sealed: Some(_), .. }) => return None,
            Io::Tcp(tcp) => LooseIo::Tcp(tcp.stream.into_std()?),
            Io::Unix(stream) => LooseIo::Unix(stream.into_std().ok()?),
            Io::Aborted => return None,
        };
        Some(Detached::new(LooseConn { io, peer: self.peer }))
    }

    fn can_seal(&mut self, suite: Suite) -> bool {
        let is_quiet = self.unread.is_empty() && self.unsent.is_empty() && self.piped.is_none() && !self.ended;
        let Io::Tcp(tcp) = &mut self.io else { return false };
        is_quiet && tcp.sealed.is_none() && records::can_seal(suite) && tcp.is_prepared()
    }

    fn seal(&mut self, keys: SessionKeys) -> io::Result<()> {
        let Io::Tcp(tcp) = &mut self.io else { return Err(io::ErrorKind::Unsupported.into()) };
        tcp.sealed = Some(Box::new(Sealed::install(&tcp.stream.as_fd()?, keys)?));
        // What had come before is looked at anew.
        tcp.stream.look_anew();
        Ok(())
    }

    fn abort(&mut self) {
        if let Io::Tcp(s) = &self.io {
            // A failure means that the connection is gone already.
            let _ = s.stream.reset_on_drop();
        }
        self.io = Io::Aborted;
        self.unread.release(&self.buffers);
        self.unsent.release(&self.buffers);
        self.piped = None;
        self.ended = false;
    }
}

impl Io {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(TcpIo { sealed: Some(_), .. }) => self.poll_record(cx, into),
            Self::Tcp(s) => s.stream.poll_receive(cx, into.len(), |socket| recv(socket, &mut *into)),
            Self::Unix(s) => {
                let mut into = ReadBuf::new(into);
                ready!(Pin::new(s).poll_read(cx, &mut into))?;
                Poll::Ready(Ok(into.filled().len()))
            }
            Self::Aborted => Poll::Ready(Err(aborted())),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8], flags: SendFlags) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(TcpIo { stream, sealed, .. }) => {
                let written = ready!(stream.poll_send(cx, bytes.len(), |socket| {
                    may_send(sealed.as_deref_mut(), socket)?;
                    send(socket, bytes, flags)
                }));
                Poll::Ready(told_of(sealed, written))
            }
            Self::Unix(s) => Pin::new(s).poll_write(cx, bytes),
            Self::Aborted => Poll::Ready(Err(aborted())),
        }
    }

    /// Takes up to `limit` bytes into a pipe.
    fn poll_fill(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe, limit: usize) -> Poll<io::Result<usize>> {
        let Self::Tcp(s) = self else { return Poll::Ready(Err(aborted())) };
        // A pipe that took less may be full: that says nothing of the socket.
        s.stream.poll_receive(cx, 0, |socket| pipe.fill(socket, limit))
    }

    /// Sends what lies in a pipe.
    fn poll_drain(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<usize>> {
        let Self::Tcp(TcpIo { stream, sealed, .. }) = self else { return Poll::Ready(Err(aborted())) };
        let drained = ready!(stream.poll_send(cx, 0, |socket| {
            may_send(sealed.as_deref_mut(), socket)?;
            pipe.drain(socket)
        }));
        Poll::Ready(told_of(sealed, drained))
    }

    /// Reads what records carry that the kernel opens.
    fn poll_record(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let Self::Tcp(s) = self else { return Poll::Ready(Err(aborted())) };
        loop {
            if let Some(sealed) = &s.sealed {
                sealed.may_receive()?;
            }
            let mut kind = None;
            // A call ends at a record of another type, which the reactor does not tell again: that it moved little says nothing.
            let received = ready!(s.stream.poll_receive(cx, 0, |socket| {
                let (n, its_kind) = receive_record(socket, &mut *into)?;
                kind = its_kind;
                Ok(n)
            }));
            let Some(sealed) = &mut s.sealed else { return Poll::Ready(received) };
            match sealed.take(&s.stream.as_fd()?, received.map(|n| (kind, &into[..n])))? {
                Taken::Data(n) => return Poll::Ready(Ok(n)),
                Taken::End => return Poll::Ready(Ok(0)),
                Taken::Nothing => {}
            }
        }
    }
}

impl TcpIo {
    fn new(stream: Stream) -> Self {
        Self { stream, sealed: None, prepared: None }
    }

    /// Whether the kernel takes keys for it. It refuses a connection whose peer has ended its direction, and that has to show before the
    /// session gives its keys away.
    fn is_prepared(&mut self) -> bool {
        *self.prepared.get_or_insert_with(|| self.stream.as_fd().and_then(put_tls).is_ok())
    }

    /// Says `close_notify` where the kernel seals what goes over it, once.
    fn poll_say_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(sealed) = &mut self.sealed else { return Poll::Ready(Ok(())) };
        self.stream.poll_send(cx, 0, |socket| sealed.say_end(&socket).map(|()| 0)).map_ok(|_| ())
    }
}

impl Bulk {
    /// So many bytes were relayed in one step.
    fn moved(&mut self, n: usize) {
        self.0 = if n >= BULK_BYTES { (self.0 + 1).min(BULK_STEPS_MAX) } else { self.0.saturating_sub(1) };
    }

    /// Whether the next step is likely to be a long one.
    fn is_bulk(self) -> bool {
        self.0 >= BULK_STEPS
    }
}

fn aborted() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

/// What comes before a call that sends, where the kernel seals what goes over the socket.
fn may_send(sealed: Option<&mut Sealed>, socket: BorrowedFd<'_>) -> io::Result<()> {
    sealed.map_or(Ok(()), |sealed| sealed.may_send(&socket))
}

/// Has the kernel's TLS count what was sent.
fn told_of(sealed: &mut Option<Box<Sealed>>, written: io::Result<usize>) -> io::Result<usize> {
    if let (Some(sealed), Ok(n)) = (sealed, &written) {
        sealed.sent(*n);
    }
    written
}

/// The address of a unix stream that never bound, and of a socket that is gone.
fn unbound() -> Address {
    Address::Unix(std::path::PathBuf::new())
}

/// What a connection may hold unsent before a writer has to wait, in bytes.
const UNSENT_BYTES_MAX: usize = 2 * ROOM_BYTES_MAX;

/// A relay step of so many bytes is a long one.
const BULK_BYTES: usize = 32 * 1024;

/// So many long steps in a row, each short one taking one away, make a relay splice.
const BULK_STEPS: u8 = 2;

/// How many are remembered.
const BULK_STEPS_MAX: u8 = 6;

/// What one read adds to bytes that were seen and found too few, in bytes.
const JOIN_READ_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Read;
    use std::time::Duration;

    use ferrogate_core::net::{ListenOptions, Listener, Transport};

    use super::*;
    use crate::KernelTransport;

    #[tokio::test]
    async fn the_end_leaves_with_the_last_bytes() {
        let address = Address::Inet(([127, 0, 0, 1], 0).into());
        let mut listener = KernelTransport::new().listen(&address, &ListenOptions::default()).await.unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().inet().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut conn = listener.accept().await.unwrap();
        let write = |room: &mut [u8]| {
            room[..4].copy_from_slice(b"last");
            (4, ())
        };
        poll_fn(|cx| conn.poll_write_with(cx, 4, write)).await.unwrap();
        poll_fn(|cx| conn.poll_flush_last(cx)).await.unwrap();
        let mut all = String::new();
        client.read_to_string(&mut all).unwrap();
        assert_eq!(all, "last");
        // What may come still is read, and whoever ends it once more does no harm.
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(poll_fn(|cx| conn.poll_read_with(cx, 0, |bytes| (0, bytes.len()))).await.unwrap(), 0);
        poll_fn(|cx| conn.poll_flush_last(cx)).await.unwrap();
    }

    #[tokio::test]
    async fn who_ends_what_the_peer_has_reset_hears_no_error() {
        let address = Address::Inet(([127, 0, 0, 1], 0).into());
        let mut listener = KernelTransport::new().listen(&address, &ListenOptions::default()).await.unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().inet().unwrap()).unwrap();
        let mut conn = listener.accept().await.unwrap();
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        let read = poll_fn(|cx| conn.poll_read_with(cx, 0, |bytes| (0, bytes.len()))).await;
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        poll_fn(|cx| conn.poll_shutdown(cx)).await.unwrap();
    }
}
