//! How one worker reaches the hosts of one cluster: over which transport, with what TLS, within which limits, and where it is counted.
//!
//! **Invariant:** the same for every host of the cluster; what differs between hosts is in [`Host`](super::Host) and its pool.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tls_offload::{Alpn, ClientTls, SessionError};
use tokio::time::timeout;

use super::balancer;
use super::host::Host;
use super::host_set::Hosts;
use super::shared::ClusterShared;
use crate::config::schema;
use crate::config::{Address, Limits};
use crate::net::{Conn, ROOM_BYTES_MAX, Transport};
use crate::stream::http2;
use crate::telemetry::metrics::UpstreamCounters;
use crate::tls::{HandshakeError, MaybeTls};

/// What the pools of a cluster have in common.
pub struct Reach<T: Transport> {
    /// The worker's index.
    pub worker: usize,
    /// The worker's.
    pub transport: T,
    /// How to talk TLS to the hosts; None: plain text.
    pub tls: Option<Arc<ClientTls>>,
    /// The cluster's hosts, and how it is configured.
    pub hosts: Arc<Hosts>,
    /// The limits in force.
    pub limits: Rc<Limits>,
    /// What this worker counts of the cluster.
    pub counters: Arc<UpstreamCounters>,
    /// What all workers share of it.
    pub shared: Arc<ClusterShared>,
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
    /// The cluster has as many connections or requests as it may have.
    Overflow(Overflow),
    /// The TLS handshake failed: the wrong certificate, name, version or no TLS at all.
    Tls(HandshakeError),
    /// The host's name is no name that a certificate could carry.
    Name(SessionError),
    /// It did not agree to HTTP/2 in the TLS handshake.
    NoHttp2,
    /// It agreed, or there was no TLS to ask it in, and it speaks something else.
    NotHttp2(http2::ConnectError),
    /// It speaks HTTP/2 and allows no requests (SETTINGS_MAX_CONCURRENT_STREAMS is 0).
    NoStreams,
}

/// What to send first, and what to agree to, when a connection is opened.
#[derive(Clone, Copy, Default)]
pub(super) struct Opening<'a> {
    /// Sent before all else, TLS too.
    pub(super) preface: &'a [u8],
    /// What TLS is to offer and the host to agree to, in place of what the cluster says.
    pub(super) alpn: Option<&'a Alpn>,
}

/// Which bound of a cluster is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// `max_connections`, and none is idle.
    Conns,
    /// `max_pending_requests` wait for a connection already, or this one has waited for `connect_timeout`.
    Pending,
    /// `max_requests`.
    Requests,
}

impl<T: Transport> Reach<T> {
    /// The cluster as it is configured.
    pub(super) fn config(&self) -> &schema::Cluster {
        self.hosts.config()
    }

    /// Whether connections made by the one serve the other as well.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let same_tls = match (&self.tls, &other.tls) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        same_tls && self.is_counted() == other.is_counted() && self.bounds_requests() == other.bounds_requests()
    }

    /// Whether the work of each host is counted for the balancer.
    pub(super) fn is_counted(&self) -> bool {
        balancer::counts(&self.config().balancing)
    }

    pub(super) fn bounds_requests(&self) -> bool {
        self.config().breakers.requests_max.is_some()
    }

    /// To open a connection, TLS included.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.config().connect_timeout.unwrap_or(self.limits.connect_timeout)
    }

    /// To lie idle.
    pub(super) fn idle_timeout(&self) -> Duration {
        self.config().idle_timeout.unwrap_or(self.limits.upstream_idle_timeout)
    }

    /// Opens a connection to a host within `within`, TLS included unless it is `plain`.
    ///
    /// # Errors
    /// When it can't be opened in time.
    pub(super) async fn connect(
        &self,
        host: &Host,
        address: &Address,
        plain: bool,
        within: Duration,
        opening: Opening<'_>,
    ) -> Result<MaybeTls<T::Conn>, ConnectError> {
        let open = async {
            let mut conn = self.transport.connect(address).await.map_err(ConnectError::of)?;
            send(&mut conn, opening.preface).await.map_err(ConnectError::of)?;
            let Some(tls) = self.tls.as_ref().filter(|_| !plain) else { return Ok(MaybeTls::Plain(conn)) };
            // A name to verify: the context's own (kept by the TLS configuration itself), else the host's, else its address.
            let ip;
            let name = match (host.hostname(), address.inet()) {
                ("", Some(inet)) => {
                    ip = inet.ip().to_string();
                    ip.as_str()
                }
                (name, _) => name,
            };
            let session = match opening.alpn {
                None => tls.session(name),
                Some(alpn) => tls.session_offering(name, alpn),
            };
            let conn =
                MaybeTls::connect(conn, session.map_err(ConnectError::Name)?).await.map_err(ConnectError::Tls)?;
            // A server may go on without a word on what it was offered (RFC 7301, 3.2).
            let agreed = opening.alpn.is_none() || conn.info().is_some_and(|info| info.alpn.is_some());
            if agreed { Ok(conn) } else { Err(ConnectError::NoHttp2) }
        };
        timeout(within, open).await.unwrap_or(Err(ConnectError::Timeout))
    }
}

/// Sends bytes; few, or none.
async fn send<C: Conn>(conn: &mut C, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let put = |room: &mut [u8]| {
            let n = room.len().min(bytes.len());
            room[..n].copy_from_slice(&bytes[..n]);
            (n, n)
        };
        let wish = bytes.len().min(ROOM_BYTES_MAX);
        let n = poll_fn(|cx| conn.poll_write_with(cx, wish, put)).await?;
        bytes = &bytes[n..];
        if bytes.is_empty() {
            poll_fn(|cx| conn.poll_flush(cx)).await?;
        }
    }
    Ok(())
}

impl ConnectError {
    /// EMFILE, ENFILE, ENOBUFS and ENOMEM are ours, everything else the host's.
    pub(super) fn of(error: io::Error) -> Self {
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
            Self::Overflow(which) => which.fmt(f),
            Self::Timeout => f.write_str("the connection could not be opened within connect_timeout"),
            Self::Name(e) => write!(f, "TLS to the host needs a name to verify: set tls_context.server_name: {e}"),
            Self::Tls(e) => write!(f, "the TLS handshake with the host failed: {e}"),
            Self::NoHttp2 => {
                f.write_str("the host did not agree to h2 in the TLS handshake: set upstream_protocol to Http1")
            }
            Self::NotHttp2(e) => write!(f, "the host does not speak HTTP/2: {e}: set upstream_protocol to Http1"),
            Self::NoStreams => f.write_str("the host allows no HTTP/2 requests (SETTINGS_MAX_CONCURRENT_STREAMS is 0)"),
        }
    }
}

impl std::error::Error for ConnectError {}

impl fmt::Display for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Conns => "the cluster has max_connections connections and none is free",
            Self::Pending => "the cluster has max_connections connections and max_pending_requests wait for one",
            Self::Requests => "the cluster has max_requests requests in progress",
        })
    }
}

// Linux's numbers, on every architecture: the standard library gives these errors no kind of their own.
const ENOMEM: i32 = 12;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const ENOBUFS: i32 = 105;
