//! The core's transport over tokio's socket types.
//!
//! **Invariant:** everything here belongs to one worker, but for the listening unix sockets: a path can be bound only once, so that
//! workers share its accept queue.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use ferrogate_core::net::{Address, Detached, ListenOptions, Listener, Transport};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixStream};

use crate::buffers::Buffers;
use crate::conn::{KernelConn, LooseConn};
use crate::socket;

/// The kernel's sockets, as one worker uses them.
#[derive(Clone)]
pub struct KernelTransport {
    buffers: Rc<Buffers>,
    unix: UnixSockets,
}

/// A listening socket of one worker.
pub struct KernelListener {
    io: Io,
    local: Rc<Address>,
    buffers: Rc<Buffers>,
    unix: Option<UnixSockets>,
}

enum Io {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The unix sockets that the workers of one process listen on together.
#[derive(Clone, Default)]
#[allow(clippy::disallowed_types, reason = "taken when a worker starts to listen, never on a request's path")]
pub struct UnixSockets(Arc<std::sync::Mutex<HashMap<PathBuf, (StdUnixListener, usize)>>>);

impl KernelTransport {
    /// A transport whose unix sockets nobody else shares. Needs a tokio runtime with its I/O driver on when used.
    #[must_use]
    pub fn new() -> Self {
        Self::with_unix_sockets(UnixSockets::default())
    }

    /// A transport whose unix sockets are shared with the others that were given a clone of `unix`.
    #[must_use]
    pub fn with_unix_sockets(unix: UnixSockets) -> Self {
        Self { buffers: Rc::new(Buffers::new()), unix }
    }

    async fn connect_tcp(&self, address: SocketAddr) -> io::Result<KernelConn> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket::set_stream_options(&socket)?;
        let stream = TcpSocket::from_std_stream(socket.into()).connect(address).await?;
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

    async fn listen(&self, address: &Address, options: &ListenOptions) -> io::Result<KernelListener> {
        let buffers = Rc::clone(&self.buffers);
        match address {
            Address::Inet(inet) => {
                let io = TcpListener::from_std(socket::listen_tcp(*inet, options)?)?;
                let local = Rc::new(io.local_addr()?.into());
                Ok(KernelListener { io: Io::Tcp(io), local, buffers, unix: None })
            }
            Address::Unix(path) => {
                let io = UnixListener::from_std(self.unix.listen(path, options)?)?;
                Ok(KernelListener {
                    io: Io::Unix(io),
                    local: Rc::new(address.clone()),
                    buffers,
                    unix: Some(self.unix.clone()),
                })
            }
        }
    }

    async fn connect(&self, address: &Address) -> io::Result<KernelConn> {
        match address {
            Address::Inet(inet) => self.connect_tcp(*inet).await,
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await?;
                Ok(KernelConn::unix(stream, address.clone(), None, Rc::clone(&self.buffers)))
            }
        }
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
            Io::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                let bound = self.local.inet().is_some_and(|a| !a.ip().is_unspecified());
                Ok(KernelConn::tcp(stream, peer.into(), bound.then(|| Rc::clone(&self.local)), buffers))
            }
            Io::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok(KernelConn::unix(stream, Address::Unix(PathBuf::new()), Some(Rc::clone(&self.local)), buffers))
            }
        }
    }

    fn local_addr(&self) -> &Address {
        &self.local
    }
}

impl UnixSockets {
    fn listen(&self, path: &Path, options: &ListenOptions) -> io::Result<StdUnixListener> {
        let mut bound = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((listener, users)) = bound.get_mut(path).filter(|_| options.reuse_port) {
            let listener = listener.try_clone()?;
            *users += 1;
            return Ok(listener);
        }
        let listener = socket::listen_unix(path, options)?;
        bound.insert(path.to_owned(), (listener.try_clone()?, 1));
        Ok(listener)
    }

    /// One worker listens no more; with the last the socket goes, and its file.
    fn leave(&self, path: &Path) {
        let mut bound = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some((_, users)) = bound.get_mut(path) else { return };
        *users -= 1;
        if *users == 0 {
            bound.remove(path);
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Drop for KernelListener {
    fn drop(&mut self) {
        if let (Some(sockets), Address::Unix(path)) = (&self.unix, &*self.local) {
            sockets.leave(path);
        }
    }
}
