//! The connections of a pool that speak RPC protocols.
//!
//! **Invariant:** a connection carries the requests of one protocol, and one that is bound those of one client's connection, which ends with it; what it has counted is shown in the turn of its task that counted it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use tokio::task::{JoinHandle, spawn_local};
use tokio::time::Instant;

use super::streams::{Carrier, Sharing, Streams};
use super::{HostPool, overflow};
use crate::config::schema::{RpcPool, RpcProtocol};
use crate::message::{Bond, Bonds, Downstream};
use crate::net::Transport;
use crate::stream::xprotocol::{Driver, End, OriginConn, RpcHome, RpcLease, connect};
use crate::tls::MaybeTls;
use crate::upstream::reach::{ConnectError, Opening, Overflow, Reach};

/// The connections of a pool for each protocol. Those of Bolt's versions are apart, too: a host may answer all its life in the version that a
/// connection began with.
#[derive(Default)]
pub(super) struct ByProtocol {
    shared: [Rc<Streams<OriginConn>>; RpcProtocol::COUNT],
    bound: RefCell<HashMap<Kind, Bound>>,
}

/// Whose requests go on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    protocol: RpcProtocol,
    /// The number of a client's connection, where it has one of its own.
    client: Option<u64>,
}

/// The connection of one client's connection.
struct Bound {
    streams: Rc<Streams<OriginConn>>,
    bonds: Weak<Bonds>,
}

/// Kept by a client's connection: when it has ended, so do those that are bound to it.
struct Tie<T: Transport> {
    pool: Weak<HostPool<T>>,
    kind: Kind,
}

impl<T: Transport> Bond for Tie<T> {
    fn is_over(&self) -> bool {
        self.pool.strong_count() == 0
    }
}

impl<T: Transport> Drop for Tie<T> {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.rpc.let_go(self.kind);
        }
    }
}

impl ByProtocol {
    fn of(&self, kind: Kind) -> Option<Rc<Streams<OriginConn>>> {
        match kind.client {
            None => Some(Rc::clone(&self.shared[kind.protocol.index()])),
            Some(_) => self.bound.borrow().get(&kind).map(|bound| Rc::clone(&bound.streams)),
        }
    }

    fn each(&self, mut look: impl FnMut(&Streams<OriginConn>)) {
        self.shared.iter().for_each(|streams| look(streams));
        self.bound.borrow().values().for_each(|bound| look(&bound.streams));
    }

    pub(super) fn conns(&self) -> usize {
        let mut conns = 0;
        self.each(|streams| conns += streams.conns());
        conns
    }

    /// Closes all, and with those that are bound their clients'; how many there were.
    pub(super) fn close_all(&self) -> usize {
        self.bound.borrow().values().filter_map(|bound| bound.bonds.upgrade()).for_each(|bonds| bonds.cut());
        let mut closed = 0;
        self.each(|streams| closed += streams.close_all());
        closed
    }

    /// A client's connection has ended. What it had goes when the last of its requests is over.
    fn let_go(&self, kind: Kind) {
        let Some(streams) = self.of(kind) else { return };
        streams.retire_all();
        if streams.conns() == 0 {
            self.bound.borrow_mut().remove(&kind);
        }
    }

    /// A connection of this kind has ended: with one that is bound the client's ends, too.
    fn ended(&self, kind: Kind, streams: &Streams<OriginConn>) {
        if kind.client.is_none() {
            return streams.changed();
        }
        let bonds = self.bound.borrow().get(&kind).map(|bound| Weak::clone(&bound.bonds));
        match bonds.and_then(|bonds| bonds.upgrade()) {
            Some(bonds) => bonds.cut(),
            None if streams.conns() == 0 => drop(self.bound.borrow_mut().remove(&kind)),
            None => {}
        }
        streams.changed();
    }
}

impl Carrier for OriginConn {
    type Lease = RpcLease;
    type Kind = Kind;

    fn of<T: Transport>(pool: &HostPool<T>, kind: Kind) -> Option<Rc<Streams<Self>>> {
        pool.rpc.of(kind)
    }

    fn each<T: Transport>(pool: &HostPool<T>, look: impl FnMut(&Streams<Self>)) {
        pool.rpc.each(look);
    }

    fn kind(&self) -> Kind {
        Kind { protocol: self.protocol(), client: self.client() }
    }

    fn sharing<T: Transport>(pool: &HostPool<T>, kind: Kind) -> Sharing {
        match pool.reach.borrow().config().rpc_pool {
            _ if kind.client.is_some() => Sharing::Bound,
            RpcPool::PingPong => Sharing::Alone,
            RpcPool::Multiplexed | RpcPool::Bound => Sharing::Many,
        }
    }

    fn room<T: Transport>(self: &Rc<Self>, pool: &Rc<HostPool<T>>, sharing: Sharing) -> Option<RpcLease> {
        self.lease(Rc::clone(pool) as Rc<dyn RpcHome>, sharing == Sharing::Alone)
    }

    async fn open<T: Transport>(
        pool: &Rc<HostPool<T>>,
        reach: &Reach<T>,
        kind: Kind,
    ) -> Result<(Rc<Self>, JoinHandle<()>), ConnectError> {
        let conn = pool.open(reach, Opening::default()).await?;
        let (conn, driver) =
            connect(conn, kind.protocol, (Rc::clone(&reach.limits), reach.config().keepalive), FIRST_NUMBER);
        conn.bind(kind.client);
        pool.counters().rpc_connection_total.inc();
        let task = spawn_local(drive(driver, Weak::clone(&pool.me), (kind, conn.id())));
        Ok((conn, task))
    }

    fn id(&self) -> u64 {
        self.id()
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
    /// Which connections a request of a client may be sent on: those of its own where the cluster has it so, and it is a client's.
    ///
    /// # Errors
    /// When the client is bound to as many as it may be.
    pub(super) fn rpc_kind(&self, protocol: RpcProtocol, client: Option<&Downstream>) -> Result<Kind, ConnectError> {
        let reach = self.reach.borrow();
        let is_bound = reach.config().rpc_pool == RpcPool::Bound;
        let client = client.filter(|_| is_bound);
        let kind = Kind { protocol, client: client.map(|client| client.id) };
        if let Some(client) = client
            && !self.rpc.bound.borrow().contains_key(&kind)
        {
            // What is dropped where there is no room finds nothing to let go.
            let tie = Box::new(Tie { pool: Weak::clone(&self.me), kind });
            let bonds = client.bind(tie, reach.limits.rpc_bonds_max).map(Rc::downgrade);
            let bonds = bonds.ok_or_else(|| overflow(&reach, Overflow::Conns))?;
            self.rpc.bound.borrow_mut().insert(kind, Bound { streams: Rc::default(), bonds });
        }
        Ok(kind)
    }

    /// A connection has ended.
    fn rpc_ended(&self, (kind, id): (Kind, u64), end: &End) {
        let Some(streams) = self.rpc.of(kind) else { return };
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
        self.rpc.ended(kind, &streams);
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
    fn request_ended(&self, conn: &Rc<OriginConn>) {
        self.leave();
        self.freed(conn);
    }
}

/// Runs a connection to its end.
async fn drive<T: Transport>(driver: Driver<MaybeTls<T::Conn>>, pool: Weak<HostPool<T>>, which: (Kind, u64)) {
    let end = driver
        .run(|conn| {
            if let Some(pool) = pool.upgrade() {
                pool.count_rpc(conn);
                if let Some(streams) = pool.rpc.of(which.0) {
                    streams.changed();
                }
            }
        })
        .await;
    if let Some(pool) = pool.upgrade() {
        pool.rpc_ended(which, &end);
    }
}

/// The first number of a connection: 0 stands for none in some clients.
const FIRST_NUMBER: u64 = 1;
