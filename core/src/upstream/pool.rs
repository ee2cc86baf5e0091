//! The HTTP/1 connections of one worker to one host: idle ones to use again, new ones when there are none.
//!
//! **Invariant:** a connection is idle here or leased to one exchange, never both; idle ones are bounded in number and age.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tls_offload::{ClientTls, SessionError};
use tokio::time::{Instant, timeout};

use super::pick::{HostId, Outcome};
use super::shared::ClusterShared;
use crate::config::Limits;
use crate::net::{Address, Transport};
use crate::stream::client::{ClientConn, Home, Lease};
use crate::telemetry::metrics::UpstreamCounters;
use crate::tls::{HandshakeError, MaybeTls};

/// One host, and this worker's connections to it.
pub struct HostPool<T: Transport> {
    id: HostId,
    name: Rc<str>,
    hostname: String,
    address: Address,
    tls: Option<Tls>,
    transport: T,
    settings: HostSettings,
    limits: Rc<Limits>,
    counters: Arc<UpstreamCounters>,
    shared: Arc<ClusterShared>,
    idle: RefCell<Vec<Idle<MaybeTls<T::Conn>>>>,
}

/// How a host is reached over TLS.
#[derive(Clone)]
pub struct Tls {
    /// Roots, versions and session cache.
    pub client: ClientTls,
    /// The name its certificate must carry, also sent as SNI.
    pub server_name: String,
}

/// What a host's connections may take.
#[derive(Clone, Copy, Debug)]
pub struct HostSettings {
    /// To open one, TLS included.
    pub connect_timeout: Duration,
    /// To lie idle.
    pub idle_timeout: Duration,
    /// Connections to the whole cluster, on all workers together, at most; `None` is no bound.
    pub conns_max: Option<u32>,
}

/// Why no connection could be had.
#[derive(Debug)]
pub enum ConnectError {
    /// The host refused, or is not reachable.
    Failed(io::Error),
    /// It did not answer within `connect_timeout`.
    Timeout,
    /// This process has no descriptor or memory left.
    Exhausted(io::Error),
    /// The cluster has as many connections as it may have, and none is idle.
    Overflow,
    /// The TLS handshake failed: the wrong certificate, name, version or no TLS at all.
    Tls(HandshakeError),
    /// The host's name is no name that a certificate could carry.
    Name(SessionError),
}

/// A place that was taken for a connection; given back if the connection is not opened.
struct Place<'a>(&'a ClusterShared);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

struct Idle<C> {
    conn: Box<ClientConn<C>>,
    since: Instant,
}

impl<T: Transport> HostPool<T> {
    /// An empty pool for the host at `address`.
    pub fn new(
        transport: T,
        address: Address,
        tls: Option<Tls>,
        settings: HostSettings,
        limits: Rc<Limits>,
        counters: Arc<UpstreamCounters>,
        shared: Arc<ClusterShared>,
    ) -> Self {
        let name = address.to_string().into();
        Self {
            id: HostId::unique(),
            name,
            hostname: String::new(),
            address,
            tls,
            transport,
            settings,
            limits,
            counters,
            shared,
            idle: RefCell::default(),
        }
    }

    /// Gives the host a name besides its address.
    #[must_use]
    pub fn with_hostname(mut self, hostname: &str) -> Self {
        hostname.clone_into(&mut self.hostname);
        self
    }

    /// The name that it was given; maybe empty.
    #[must_use]
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// The host's identity.
    #[must_use]
    pub fn id(&self) -> HostId {
        self.id
    }

    /// Says what became of a request at this host. Once for each connection that was checked out.
    pub fn report(&self, outcome: Outcome) {
        match outcome {
            Outcome::Answered { status, .. } if status < 500 => self.counters.response_success.inc(),
            Outcome::Answered { .. } => self.counters.response_failed.inc(),
            Outcome::Timeout => self.counters.request_timeout.inc(),
            Outcome::Reset => self.counters.request_reset.inc(),
            Outcome::Unreachable => self.counters.connection_con_fail.inc(),
            Outcome::Abandoned => {}
        }
    }

    /// The host's address as text, for logs.
    #[must_use]
    pub fn name(&self) -> &Rc<str> {
        &self.name
    }

    /// What this worker counts of the host's cluster.
    #[must_use]
    pub fn counters(&self) -> &UpstreamCounters {
        &self.counters
    }

    /// A connection: an idle one, or a new one. With `fresh`, always a new one.
    ///
    /// # Errors
    /// When a new one can't be opened in time.
    pub async fn checkout(self: &Rc<Self>, fresh: bool) -> Result<Lease<MaybeTls<T::Conn>>, ConnectError> {
        if !fresh && let Some(conn) = self.take_idle() {
            return Ok(self.lease(conn));
        }
        if !self.shared.open(self.settings.conns_max) {
            self.counters.request_pending_overflow.inc();
            return Err(ConnectError::Overflow);
        }
        let place = Place(&self.shared);
        match timeout(self.settings.connect_timeout, self.open()).await.unwrap_or(Err(ConnectError::Timeout)) {
            Ok(conn) => {
                std::mem::forget(place);
                self.counters.connection_total.inc();
                self.counters.connection_active.inc();
                Ok(self.lease(Box::new(ClientConn::new(conn, Rc::clone(&self.limits)))))
            }
            Err(e) => {
                self.report(Outcome::Unreachable);
                Err(e)
            }
        }
    }

    /// Closes what has lain idle for too long, and what its host has closed. To be called now and then.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.idle.borrow_mut().retain_mut(|idle| {
            let keep = !self.shared.is_wanted()
                && now.duration_since(idle.since) < self.settings.idle_timeout
                && idle.conn.is_usable();
            if !keep {
                self.gone();
            }
            keep
        });
    }

    /// Idle connections now.
    #[must_use]
    pub fn idle_conns(&self) -> usize {
        self.idle.borrow().len()
    }

    /// The idle connection that was used last: the ones below it may expire.
    fn take_idle(&self) -> Option<Box<ClientConn<MaybeTls<T::Conn>>>> {
        loop {
            let mut idle = self.idle.borrow_mut().pop()?;
            if idle.conn.is_usable() {
                return Some(idle.conn);
            }
            self.gone();
        }
    }

    fn lease(self: &Rc<Self>, conn: Box<ClientConn<MaybeTls<T::Conn>>>) -> Lease<MaybeTls<T::Conn>> {
        Lease::new(conn, Rc::clone(self) as Rc<dyn Home<_>>)
    }

    async fn open(&self) -> Result<MaybeTls<T::Conn>, ConnectError> {
        let conn = self.transport.connect(&self.address).await.map_err(ConnectError::of)?;
        let Some(tls) = &self.tls else { return Ok(MaybeTls::Plain(conn)) };
        let session = tls.client.session(&tls.server_name).map_err(ConnectError::Name)?;
        MaybeTls::connect(conn, session).await.map_err(ConnectError::Tls)
    }
}

impl<T: Transport> Home<MaybeTls<T::Conn>> for HostPool<T> {
    fn give_back(&self, conn: Box<ClientConn<MaybeTls<T::Conn>>>) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.limits.idle_conns_per_host_max && !self.shared.is_wanted() {
            idle.push(Idle { conn, since: Instant::now() });
        } else {
            self.gone();
        }
    }

    fn gone(&self) {
        self.counters.connection_active.dec();
        self.counters.connection_close.inc();
        self.shared.close();
    }
}

impl<T: Transport> Drop for HostPool<T> {
    fn drop(&mut self) {
        for _ in 0..self.idle.get_mut().len() {
            self.gone();
        }
    }
}

impl ConnectError {
    /// EMFILE, ENFILE, ENOBUFS and ENOMEM are ours, everything else the host's.
    fn of(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(ENOMEM | ENFILE | EMFILE | ENOBUFS) => Self::Exhausted(error),
            _ => Self::Failed(error),
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(e) => write!(f, "the connection could not be opened: {e}"),
            Self::Exhausted(e) => {
                write!(
                    f,
                    "no connection can be opened: {e}: raise LimitNOFILE (ulimit -n) or lower limits.downstream_conns_max"
                )
            }
            Self::Overflow => f.write_str("the cluster has max_connections connections and none is idle"),
            Self::Timeout => f.write_str("the connection could not be opened within connect_timeout"),
            Self::Name(e) => write!(f, "TLS to the host needs a name to verify: set tls_context.server_name: {e}"),
            Self::Tls(e) => write!(f, "the TLS handshake with the host failed: {e}"),
        }
    }
}

impl std::error::Error for ConnectError {}

// Linux's numbers, on every architecture: the standard library gives these errors no kind of their own.
const ENOMEM: i32 = 12;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const ENOBUFS: i32 = 105;
