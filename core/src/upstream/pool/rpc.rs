//! The connections of a pool that speak RPC protocols.
//!
//! **Invariant:** a connection carries the requests of one protocol; what it has counted is shown in the turn of its task that counted it.

use std::rc::{Rc, Weak};

use tokio::task::{JoinHandle, spawn_local};
use tokio::time::Instant;

use super::HostPool;
use super::streams::{Carrier, Streams};
use crate::config::schema::RpcProtocol;
use crate::net::Transport;
use crate::stream::xprotocol::{Driver, End, OriginConn, RpcHome, RpcLease, connect};
use crate::tls::MaybeTls;
use crate::upstream::reach::{ConnectError, Opening, Reach};

/// The connections of a pool for each protocol. Those of Bolt's versions are apart, too: a host may answer all its life in the version that a
/// connection began with.
#[derive(Default)]
pub(super) struct ByProtocol([Streams<OriginConn>; RpcProtocol::COUNT]);

impl ByProtocol {
    pub(super) fn of(&self, protocol: RpcProtocol) -> &Streams<OriginConn> {
        &self.0[protocol.index()]
    }

    pub(super) fn conns(&self) -> usize {
        self.0.iter().map(Streams::conns).sum()
    }

    /// Closes all; how many there were.
    pub(super) fn close_all(&self) -> usize {
        self.0.iter().map(Streams::close_all).sum()
    }
}

impl Carrier for OriginConn {
    type Lease = RpcLease;
    type Kind = RpcProtocol;

    fn of<T: Transport>(pool: &HostPool<T>, kind: RpcProtocol) -> &Streams<Self> {
        pool.rpc.of(kind)
    }

    fn kinds() -> &'static [RpcProtocol] {
        RpcProtocol::ALL
    }

    fn kind(&self) -> RpcProtocol {
        self.protocol()
    }

    fn room<T: Transport>(self: &Rc<Self>, pool: &Rc<HostPool<T>>) -> Option<RpcLease> {
        self.lease(Rc::clone(pool) as Rc<dyn RpcHome>)
    }

    async fn open<T: Transport>(
        pool: &Rc<HostPool<T>>,
        reach: &Reach<T>,
        kind: RpcProtocol,
    ) -> Result<(Rc<Self>, JoinHandle<()>), ConnectError> {
        let conn = pool.open(reach, Opening::default()).await?;
        let (conn, driver) = connect(conn, kind, (Rc::clone(&reach.limits), reach.config().keepalive), FIRST_NUMBER);
        pool.counters().rpc_connection_total.inc();
        let task = spawn_local(drive(driver, Weak::clone(&pool.me), (kind, conn.id())));
        Ok((conn, task))
    }

    fn exchanges(&self) -> u64 {
        self.exchanges()
    }

    fn opened(&self) -> Instant {
        self.opened()
    }

    fn is_idle(&self) -> bool {
        self.is_idle()
    }

    fn is_open(&self) -> bool {
        self.is_open()
    }

    fn is_barren(&self) -> bool {
        false
    }

    fn retire(&self) {
        self.retire();
    }
}

impl<T: Transport> HostPool<T> {
    /// A connection has ended.
    fn rpc_ended(&self, (protocol, id): (RpcProtocol, u64), end: &End) {
        let streams = self.rpc.of(protocol);
        let Some(conn) = streams.remove(|conn| conn.id() == id) else { return };
        let counters = self.counters();
        counters.rpc_go_away.add(u64::from(conn.was_told()));
        self.count_rpc(&conn);
        if matches!(end, End::Fault(_) | End::Silent) {
            counters.rpc_connection_lost.inc();
            tracing::warn!(host = %self.name, %end, "an RPC connection to a host is given up");
        } else {
            tracing::debug!(host = %self.name, %end, "an RPC connection to a host has ended");
        }
        self.closed();
        streams.changed();
    }

    fn count_rpc(&self, conn: &OriginConn) {
        let tally = conn.take_tally();
        if tally != Default::default() {
            let counters = self.counters();
            counters.rpc_response_late.add(tally.late);
            counters.rpc_response_unknown.add(tally.unknown);
            counters.rpc_heartbeat.add(tally.heartbeats);
            counters.rpc_heartbeat_missed.add(tally.missed);
        }
    }
}

impl<T: Transport> RpcHome for HostPool<T> {
    fn request_ended(&self, conn: &OriginConn) {
        self.leave();
        self.freed(conn);
    }
}

/// Runs a connection to its end.
async fn drive<T: Transport>(driver: Driver<MaybeTls<T::Conn>>, pool: Weak<HostPool<T>>, which: (RpcProtocol, u64)) {
    let end = driver
        .run(|conn| {
            if let Some(pool) = pool.upgrade() {
                pool.count_rpc(conn);
                pool.rpc.of(which.0).changed();
            }
        })
        .await;
    if let Some(pool) = pool.upgrade() {
        pool.rpc_ended(which, &end);
    }
}

/// The first number of a connection: 0 stands for none in some clients.
const FIRST_NUMBER: u64 = 1;
