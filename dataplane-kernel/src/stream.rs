//! A TCP stream as its worker's reactor knows it, and the socket that streams are accepted at.
//!
//! A fresh stream may be written to, which the reactor would tell of each with a look at all sockets. So it is registered for reading alone until
//! a write has to wait for the first time, and what has come with it is read without being told.
//!
//! **Invariant:** whoever was told to wait is woken: a stream that is registered anew has all who waited look again.

use std::cell::Cell;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags, SocketFlags, acceptfrom_with};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::coop::has_budget_remaining;

use crate::socket::set_stream_options;

/// A stream of one worker.
pub(crate) struct Stream {
    /// None only if it could not be registered anew: it is of no use then.
    io: Option<AsyncFd<std::net::TcpStream>>,
    /// It was accepted and not read from yet: what the peer has said may be there.
    is_fresh: bool,
    /// It is registered for writing, too.
    tells_room: bool,
    /// Whom the reactor wakes for the next bytes that come, if it is known to hold one.
    reader: Option<Waker>,
}

/// A listening socket of one worker.
pub(crate) struct Acceptor {
    io: AsyncFd<std::net::TcpListener>,
    /// There was more than one connection in its queue.
    is_busy: Cell<bool>,
}

/// What came of one call.
enum Tried {
    Done(io::Result<usize>),
    /// It was made, and interrupted, or the socket was not ready after all.
    InVain,
    /// It was not made: the socket is not ready.
    NotReady,
}

impl Stream {
    /// One that is connected.
    pub(crate) fn new(stream: std::net::TcpStream) -> io::Result<Self> {
        Self::registered(stream, Interest::READABLE)
    }

    fn accepted(stream: std::net::TcpStream) -> io::Result<Self> {
        Ok(Self { is_fresh: true, ..Self::new(stream)? })
    }

    /// Connects to `address`.
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        set_stream_options(&socket)?;
        match socket.connect(&address.into()) {
            Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => return Err(e),
            _ => {}
        }
        let this = Self::registered(socket.into(), BOTH)?;
        let guard = this.io()?.writable().await?;
        drop(guard);
        match this.io()?.get_ref().take_error()? {
            Some(e) => Err(e),
            None => Ok(this),
        }
    }

    fn registered(stream: std::net::TcpStream, interest: Interest) -> io::Result<Self> {
        let tells_room = interest.is_writable();
        Ok(Self { io: Some(register(stream, interest)?), is_fresh: false, tells_room, reader: None })
    }

    /// The stream, which no reactor knows any more.
    pub(crate) fn into_std(self) -> Option<std::net::TcpStream> {
        self.io.map(AsyncFd::into_inner)
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io()?.get_ref().local_addr()
    }

    /// Ends our direction. Of a connection that the peer has reset it has ended already.
    pub(crate) fn shut_down(&self) -> io::Result<()> {
        match self.io()?.get_ref().shutdown(Shutdown::Write) {
            Err(e) if e.kind() == io::ErrorKind::NotConnected => Ok(()),
            shut => shut,
        }
    }

    pub(crate) fn as_fd(&self) -> io::Result<BorrowedFd<'_>> {
        Ok(self.io()?.get_ref().as_fd())
    }

    /// Has it reset when it is dropped.
    pub(crate) fn reset_on_drop(&self) -> io::Result<()> {
        SockRef::from(self.io()?.get_ref()).set_linger(Some(Duration::ZERO))
    }

    /// Whoever reads next asks the kernel, whatever was known of the socket.
    pub(crate) fn look_anew(&mut self) {
        self.reader = None;
    }

    /// Reads up to `wish` bytes with `call`, now or when the reactor says that something has come. A call that moved fewer has emptied the
    /// socket; 0: that its call moved little says nothing.
    ///
    /// A task that looks at two sockets is woken for one of them: the reactor is not told again, under its lock, that the other is waited for.
    pub(crate) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        wish: usize,
        mut call: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if std::mem::take(&mut self.is_fresh) {
            match call(self.io()?.get_ref().as_fd()) {
                Err(e) if is_to_repeat(&e) => {}
                read => return Poll::Ready(read),
            }
        }
        // Nobody is to be woken who only takes a look.
        let is_look = cx.waker().will_wake(Waker::noop());
        if is_look || self.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
            match self.once(Interest::READABLE, wish, &mut call) {
                Tried::Done(read) => {
                    self.reader = None;
                    return Poll::Ready(read);
                }
                Tried::InVain if !is_look => {}
                Tried::InVain | Tried::NotReady => return Poll::Pending,
            }
        }
        self.reader = None;
        loop {
            match self.io()?.poll_read_ready(cx) {
                Poll::Ready(ready) => drop(ready?),
                Poll::Pending => {
                    // Without budget it was the scheduler that was told, not the reactor.
                    if has_budget_remaining() {
                        self.reader = Some(cx.waker().clone());
                    }
                    return Poll::Pending;
                }
            }
            if let Tried::Done(read) = self.once(Interest::READABLE, wish, &mut call) {
                return Poll::Ready(read);
            }
        }
    }

    /// Writes up to `wish` bytes with `call`, now or when there is room. A call that moved fewer has filled the socket; 0: that says nothing.
    ///
    /// A socket is hardly ever full: asking whether it is, which also counts against the task's turn, comes second.
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        wish: usize,
        mut call: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let tried = if self.tells_room {
                self.once(Interest::WRITABLE, wish, &mut call)
            } else {
                match call(self.io()?.get_ref().as_fd()) {
                    Err(e) if is_to_repeat(&e) => Tried::NotReady,
                    done => Tried::Done(done),
                }
            };
            if let Tried::Done(written) = tried {
                return Poll::Ready(written);
            }
            self.tell_room()?;
            drop(ready!(self.io()?.poll_write_ready(cx))?);
        }
    }

    /// Has the reactor tell when there is room, too.
    fn tell_room(&mut self) -> io::Result<()> {
        if self.tells_room {
            return Ok(());
        }
        let stream = self.io.take().ok_or(io::ErrorKind::NotConnected)?.into_inner();
        self.io = Some(register(stream, BOTH)?);
        self.tells_room = true;
        // The reactor has forgotten who reads.
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Ok(())
    }

    /// Makes a call for `wish` bytes if the socket is ready.
    ///
    /// A call that moved fewer has emptied or filled the socket: the next one waits, without asking the kernel in vain (as tokio's own does).
    fn once(
        &self,
        interest: Interest,
        wish: usize,
        call: &mut impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Tried {
        let io = match self.io() {
            Ok(io) => io,
            Err(e) => return Tried::Done(Err(e)),
        };
        let (mut called, mut moved) = (false, None);
        let result = io.try_io(interest, |socket| {
            called = true;
            match call(socket.as_fd()) {
                Ok(n) if 0 < n && n < wish => {
                    moved = Some(n);
                    Err(io::ErrorKind::WouldBlock.into())
                }
                result => result,
            }
        });
        match result {
            _ if !called => Tried::NotReady,
            result => match moved {
                Some(n) => Tried::Done(Ok(n)),
                None if result.as_ref().is_err_and(is_to_repeat) => Tried::InVain,
                None => Tried::Done(result),
            },
        }
    }

    fn io(&self) -> io::Result<&AsyncFd<std::net::TcpStream>> {
        self.io.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Acceptor {
    pub(crate) fn new(listener: std::net::TcpListener) -> io::Result<Self> {
        Ok(Self { io: register(listener, Interest::READABLE)?, is_busy: Cell::new(false) })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }

    /// The next connection of its queue, and who made it.
    pub(crate) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, SocketAddr)>> {
        loop {
            let mut queue = ready!(self.io.poll_read_ready(cx))?;
            match acceptfrom_with(self.io.get_ref(), SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((socket, peer)) => {
                    // To accept in vain, only to hear that there is no other, costs as much as half of a connection.
                    if !self.is_busy.get() {
                        self.is_busy.set(has_more(self.io.get_ref().as_fd()));
                        if !self.is_busy.get() {
                            queue.clear_ready();
                        }
                    }
                    let peer = peer.and_then(|peer| peer.try_into().ok()).ok_or(io::ErrorKind::ConnectionAborted)?;
                    return Poll::Ready(Stream::accepted(socket.into()).map(|stream| (stream, peer)));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.is_busy.set(false);
                    queue.clear_ready();
                }
                Err(e) => return Poll::Ready(Err(e.into())),
            }
        }
    }
}

/// Straight to the kernel: with threads about, the C library's calls are points of cancellation, which costs a relayed request 3 % of its time.
pub(crate) fn recv(socket: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::net::recv(socket, into, RecvFlags::empty())?.1)
}

pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], flags: SendFlags) -> io::Result<usize> {
    Ok(rustix::net::send(socket, bytes, flags | SendFlags::NOSIGNAL)?)
}

/// Whether a call has to wait for the socket, or was interrupted.
fn is_to_repeat(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Whether there is a connection in the queue. Where that can't be told, an accept will.
fn has_more(listener: BorrowedFd<'_>) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::from_borrowed_fd(listener, PollFlags::IN)], Some(&now)) != Ok(0)
}

#[allow(deprecated, reason = "its successor is unsafe, for descriptors that may change; one that is owned does not")]
fn register<T: AsRawFd>(io: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(io, interest)
}

const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::poll_fn;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::rc::Rc;

    use tokio::task::{LocalSet, spawn_local, yield_now};

    use super::*;

    fn listening() -> (Acceptor, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        (Acceptor::new(listener).unwrap(), address)
    }

    fn client(address: SocketAddr) -> std::net::TcpStream {
        let client = std::net::TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client
    }

    async fn accepted(acceptor: &Acceptor) -> (Stream, SocketAddr) {
        poll_fn(|cx| acceptor.poll_accept(cx)).await.unwrap()
    }

    async fn read(stream: &RefCell<Stream>) -> Vec<u8> {
        let mut bytes = [0; 100];
        let n = poll_fn(|cx| stream.borrow_mut().poll_receive(cx, 100, |socket| recv(socket, &mut bytes))).await;
        bytes[..n.unwrap()].to_vec()
    }

    async fn write(stream: &RefCell<Stream>, bytes: &[u8]) -> usize {
        let send = |socket: BorrowedFd<'_>| send(socket, bytes, SendFlags::empty());
        poll_fn(|cx| stream.borrow_mut().poll_send(cx, bytes.len(), send)).await.unwrap()
    }

    #[tokio::test]
    async fn who_comes_alone_and_who_comes_with_others_is_accepted() {
        let (acceptor, address) = listening();
        for together in [1, 1, 5, 2, 1, 3] {
            let clients: Vec<_> = (0..together).map(|_| client(address)).collect();
            for client in &clients {
                let (_, peer) = accepted(&acceptor).await;
                assert_eq!(peer, client.local_addr().unwrap());
            }
            let waits = poll_fn(|cx| Poll::Ready(acceptor.poll_accept(cx).is_pending())).await;
            assert!(waits, "{together} have come, and nobody else");
        }
    }

    #[tokio::test]
    async fn what_comes_with_a_connection_and_behind_it_is_read() {
        let (acceptor, address) = listening();
        let mut client = client(address);
        client.write_all(b"first").unwrap();
        let stream = RefCell::new(accepted(&acceptor).await.0);
        assert_eq!(read(&stream).await, b"first");
        client.write_all(b"second").unwrap();
        assert_eq!(read(&stream).await, b"second");
        drop(client);
        assert_eq!(read(&stream).await, b"");
    }

    /// A reader in a task of its own is not forgotten when a writer has to wait for the first time.
    #[tokio::test]
    async fn a_full_socket_keeps_nobody_from_reading() {
        let (acceptor, address) = listening();
        let mut client = client(address);
        let stream = Rc::new(RefCell::new(accepted(&acceptor).await.0));
        LocalSet::new()
            .run_until(async move {
                let reads = spawn_local({
                    let stream = Rc::clone(&stream);
                    async move { read(&stream).await }
                });
                yield_now().await;
                let writes = spawn_local({
                    let stream = Rc::clone(&stream);
                    async move {
                        let (block, mut written) = (vec![7; 1 << 20], 0);
                        while written < TOTAL_BYTES {
                            written += write(&stream, &block[..block.len().min(TOTAL_BYTES - written)]).await;
                        }
                    }
                });
                while !stream.borrow().tells_room && !writes.is_finished() {
                    yield_now().await;
                }
                client.write_all(b"!").unwrap();
                assert_eq!(reads.await.unwrap(), b"!");
                let taker = std::thread::spawn(move || {
                    let mut taken = Vec::new();
                    client.read_to_end(&mut taken).map(|_| taken.len())
                });
                writes.await.unwrap();
                drop(stream);
                assert_eq!(taker.join().unwrap().unwrap(), TOTAL_BYTES);
            })
            .await;
    }

    /// More than a socket takes.
    const TOTAL_BYTES: usize = 64 << 20;
}
