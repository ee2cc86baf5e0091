//! An origin for load tests: one thread that answers, drains what is posted, and does nothing else.
//!
//! **Invariant:** no allocation per request; answers are made before, and written from where they lie.

mod answers;
mod conn;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use rustls::crypto::aws_lc_rs;
use rustls::{ServerConfig, ServerConnection};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use socket2::{Domain, Socket, Type};

use crate::load::LoadError;
use crate::load::certificates;
use crate::wire::io::{Io, Scratch};
pub(crate) use answers::{Answer, Answers, Asked};
use conn::{Conn, Turn};

/// Where to listen, and as what.
#[derive(Args, Clone, Debug)]
pub struct OriginArgs {
    /// Address to listen on.
    #[arg(long)]
    pub listen: SocketAddr,
    /// Speaks TLS.
    #[arg(long, requires_all = ["cert", "key"])]
    pub tls: bool,
    /// Certificate chain (PEM).
    #[arg(long)]
    pub cert: Option<PathBuf>,
    /// Private key (PEM).
    #[arg(long)]
    pub key: Option<PathBuf>,
    /// Sends back what comes, without HTTP.
    #[arg(long)]
    pub echo: bool,
}

/// Answers until it is ended. Prints `listening on ADDRESS` first.
///
/// Paths: `/` a line of 13 bytes, `/bytes/N` a body of N bytes, `/real..` and `/rNN/..` 4 KiB under ten header fields; anything else 404. A body
/// that comes with the request is drained before the answer.
///
/// # Errors
/// When it can't listen.
pub fn run(args: &OriginArgs) -> Result<(), LoadError> {
    let mut origin = Origin::new(args)?;
    println!("listening on {}", origin.listener.local_addr()?);
    origin.drive()
}

struct Origin {
    poll: Poll,
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    conns: Vec<Option<Conn>>,
    vacant: Vec<usize>,
    answers: Answers,
    scratch: Scratch,
    echo: bool,
}

impl Origin {
    fn new(args: &OriginArgs) -> Result<Self, LoadError> {
        let poll = Poll::new()?;
        let mut listener = listen(args.listen)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let tls = match (&args.cert, &args.key) {
            (Some(cert), Some(key)) if args.tls => Some(Arc::new(server_config(cert, key)?)),
            _ => None,
        };
        let (conns, vacant) = (Vec::new(), Vec::new());
        let (answers, scratch) = (Answers::new(), Scratch::new());
        Ok(Self { poll, listener, tls, conns, vacant, answers, scratch, echo: args.echo })
    }

    fn drive(&mut self) -> Result<(), LoadError> {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    Token(i) => self.turn(i, event.is_read_closed()),
                }
            }
        }
    }

    fn accept(&mut self) {
        // Errors are those of a connection that has gone already, or of descriptors that have run out: the next accept tells.
        while let Ok((mut stream, _)) = self.listener.accept() {
            let _ = stream.set_nodelay(true);
            let i = self.vacant.pop().unwrap_or_else(|| {
                self.conns.push(None);
                self.conns.len() - 1
            });
            let session = self.tls.as_ref().map(|config| ServerConnection::new(Arc::clone(config)));
            let registered =
                self.poll.registry().register(&mut stream, Token(i), Interest::READABLE | Interest::WRITABLE);
            match (session.transpose(), registered) {
                (Ok(session), Ok(())) => {
                    self.conns[i] = Some(Conn::new(Io::new(stream, session.map(Into::into)), self.echo));
                    // The request often is there already; it would be told by the first event, too.
                    self.turn(i, false);
                }
                _ => self.vacant.push(i),
            }
        }
    }

    fn turn(&mut self, i: usize, is_closed: bool) {
        let Some(conn) = &mut self.conns[i] else { return };
        if conn.turn(&self.answers, &mut self.scratch, is_closed) == Turn::Over {
            self.conns[i] = None;
            self.vacant.push(i);
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

fn server_config(cert: &Path, key: &Path) -> Result<ServerConfig, LoadError> {
    let chain = certificates(cert)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|_| LoadError::Pem(key.to_owned()))?;
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let mut config =
        builder.with_safe_default_protocol_versions()?.with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(config)
}

const LISTENER: Token = Token(usize::MAX - 1);
/// As large as the system's own bound (net.core.somaxconn) lets it be.
const BACKLOG: i32 = 65_535;
