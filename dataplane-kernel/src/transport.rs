//! The core's transport over tokio's socket types.
//!
//! **Invariant:** everything here belongs to one worker, but for the table of listening sockets: a unix path can be bound only once, and
//! a new process takes all of them over.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::task::Poll;

use ferrogate_core::net::{Address, Detached, ListenOptions, Listener, Transport};
use tls_offload::Suite;
use tokio::net::{UnixListener, UnixStream};

use crate::buffers::Buffers;
use crate::conn::{KernelConn, LooseConn};
use crate::datagrams::KernelDatagrams;
use crate::records;
use crate::socket;
use crate::sockets::{Share, Sockets, Used};
use crate::stream::{Acceptor, Stream};

/// The kernel's sockets, as one worker uses them.
#[derive(Clone)]
pub struct KernelTransport {
    buffers: Rc<Buffers>,
    sockets: Sockets,
    share: Share,
}

/// The listening sockets of one worker for one address.
pub struct KernelListener {
    io: Io,
    local: Rc<Address>,
    /// Connections have local addresses of their own.
    transparent: bool,
    buffers: Rc<Buffers>,
}

enum Io {
    /// More than one where an old process with more workers has handed its sockets over.
    Tcp {
        listeners: Vec<Acceptor>,
        _used: Used,
    },
    Unix(UnixListener, Sockets),
}

impl KernelTransport {
    /// A transport whose sockets nobody else shares. Needs a tokio runtime with its I/O driver on when used.
    #[must_use]
    pub fn new() -> Self {
        Self::with_sockets(Sockets::default(), 0, 1)
    }

    /// The transport of one of so many workers, which use `sockets` together.
    #[must_use]
    pub fn with_sockets(sockets: Sockets, index: usize, workers: usize) -> Self {
        Self { buffers: Rc::new(Buffers::new()), sockets, share: Share { index, workers } }
    }

    async fn connect_tcp(&self, address: SocketAddr) -> io::Result<KernelConn> {
        let stream = Stream::connect(address).await?;
        Ok(KernelConn::tcp(stream, address.into(), None, Rc::clone(&self.buffers)))
    }
}

impl Default for KernelTransport {
    fn default() -> Self {
        Self::new()
    }
}

impl Transport for KernelTransport {
    type Conn = KernelConn;
    type Listener = KernelListener;
    type Datagrams = KernelDatagrams;

    fn held_bytes(&self) -> usize {
        self.buffers.held_bytes()
    }

    fn sealing(&self) -> io::Result<&'static [Suite]> {
        records::sealing()
    }

    async fn listen(&self, address: &Address, options: &ListenOptions) -> io::Result<KernelListener> {
        let buffers = Rc::clone(&self.buffers);
        match address {
            Address::Inet(inet) => {
                let (listeners, used) = self.sockets.listen_tcp(*inet, options, self.share)?;
                let listeners: Vec<_> = listeners.into_iter().map(Acceptor::new).collect::<io::Result<_>>()?;
                let local = listeners.first().ok_or(io::ErrorKind::NotFound)?.local_addr()?;
                let (io, local) = (Io::Tcp { listeners, _used: used }, Rc::new(local.into()));
                Ok(KernelListener { io, local, transparent: options.transparent, buffers })
            }
            Address::Unix(path) => {
                let io = UnixListener::from_std(self.sockets.listen_unix(path, options)?)?;
                let io = Io::Unix(io, self.sockets.clone());
                Ok(KernelListener { io, local: Rc::new(address.clone()), transparent: false, buffers })
            }
            Address::Udp(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    async fn connect(&self, address: &Address) -> io::Result<KernelConn> {
        match address {
            Address::Inet(inet) => self.connect_tcp(*inet).await,
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await?;
                Ok(KernelConn::unix(stream, address.clone(), None, Rc::clone(&self.buffers)))
            }
            Address::Udp(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn listen_datagrams(&self, address: SocketAddr) -> io::Result<KernelDatagrams> {
        let (sockets, used) = self.sockets.listen_udp(address, self.share)?;
        KernelDatagrams::listening(sockets, used, Rc::clone(&self.buffers))
    }

    fn connect_datagrams(&self, to: SocketAddr) -> io::Result<KernelDatagrams> {
        KernelDatagrams::connected(socket::connect_udp(to)?, Rc::clone(&self.buffers))
    }

    fn attach(&self, conn: Detached) -> io::Result<KernelConn> {
        let loose = conn.downcast::<LooseConn>().ok_or(io::ErrorKind::InvalidInput)?;
        KernelConn::attach(loose, Rc::clone(&self.buffers))
    }
}

impl Listener for KernelListener {
    type Conn = KernelConn;

    async fn accept(&mut self) -> io::Result<KernelConn> {
        let buffers = Rc::clone(&self.buffers);
        match &self.io {
            Io::Tcp { listeners, .. } => {
                let (stream, peer) = accept_any(listeners).await?;
                let is_known = |a: SocketAddr| !a.ip().is_unspecified() && !self.transparent;
                let bound = self.local.inet().is_some_and(is_known);
                Ok(KernelConn::tcp(stream, peer.into(), bound.then(|| Rc::clone(&self.local)), buffers))
            }
            Io::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok(KernelConn::unix(stream, Address::Unix(PathBuf::new()), Some(Rc::clone(&self.local)), buffers))
            }
        }
    }

    fn local_addr(&self) -> &Address {
        &self.local
    }
}

impl Drop for KernelListener {
    fn drop(&mut self) {
        if let (Io::Unix(_, sockets), Address::Unix(path)) = (&self.io, &*self.local) {
            sockets.leave(path);
        }
    }
}

/// The next connection of any of some sockets. There is more than one only until the next restart.
async fn accept_any(listeners: &[Acceptor]) -> io::Result<(Stream, SocketAddr)> {
    poll_fn(|cx| {
        let accepted = listeners.iter().find_map(|listener| match listener.poll_accept(cx) {
            Poll::Ready(accepted) => Some(accepted),
            Poll::Pending => None,
        });
        accepted.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}
