//! A small kernel transport: enough to stand beside a stack in a test.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ferrogate_core::net::{Address, Conn, ListenOptions, Listener, NoDatagrams, Transport};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone)]
pub struct TestKernel;

pub struct TestListener(TcpListener, Address);

pub struct TestConn {
    stream: TcpStream,
    unread: Vec<u8>,
    ended: bool,
    unsent: Vec<u8>,
    peer: Address,
    local: Address,
}

impl TestConn {
    fn new(stream: TcpStream) -> io::Result<Self> {
        let (peer, local) = (stream.peer_addr()?.into(), stream.local_addr()?.into());
        Ok(Self { stream, unread: Vec::new(), ended: false, unsent: Vec::new(), peer, local })
    }
}

impl Transport for TestKernel {
    type Conn = TestConn;
    type Listener = TestListener;
    type Datagrams = NoDatagrams;

    async fn listen(&self, address: &Address, _: &ListenOptions) -> io::Result<TestListener> {
        let listener = TcpListener::bind(address.inet().expect("no unix sockets here")).await?;
        let address = listener.local_addr()?.into();
        Ok(TestListener(listener, address))
    }

    async fn connect(&self, address: &Address) -> io::Result<TestConn> {
        TestConn::new(TcpStream::connect(address.inet().expect("no unix sockets here")).await?)
    }
}

impl Listener for TestListener {
    type Conn = TestConn;

    async fn accept(&mut self) -> io::Result<TestConn> {
        TestConn::new(self.0.accept().await?.0)
    }

    fn local_addr(&self) -> &Address {
        &self.1
    }
}

impl Conn for TestConn {
    fn poll_read_with<R>(
        &mut self,
        cx: &mut Context<'_>,
        known: usize,
        f: impl FnOnce(&[u8]) -> (usize, R),
    ) -> Poll<io::Result<R>> {
        while self.unread.len() <= known && !self.ended {
            let mut room = [0; 4096];
            let mut buf = ReadBuf::new(&mut room);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
            self.ended = buf.filled().is_empty();
            self.unread.extend_from_slice(buf.filled());
        }
        let (used, result) = f(&self.unread);
        self.unread.drain(..used);
        Poll::Ready(Ok(result))
    }

    fn poll_write_with<R>(
        &mut self,
        cx: &mut Context<'_>,
        wish: usize,
        f: impl FnOnce(&mut [u8]) -> (usize, R),
    ) -> Poll<io::Result<R>> {
        ready!(self.poll_flush(cx))?;
        self.unsent.resize(wish, 0);
        let (used, result) = f(&mut self.unsent);
        self.unsent.truncate(used);
        let _ = self.poll_flush(cx)?;
        Poll::Ready(Ok(result))
    }

    fn poll_relay(&mut self, _: &mut Self, _: &mut Context<'_>, _: usize) -> Poll<io::Result<usize>> {
        unimplemented!("not between two of these")
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let n = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.unsent))?;
            self.unsent.drain(..n);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn peer_addr(&self) -> &Address {
        &self.peer
    }

    fn local_addr(&self) -> &Address {
        &self.local
    }

    fn abort(&mut self) {
        unimplemented!("not aborted here")
    }
}
