//! The HTTP/2 connections of a pool.
//!
//! **Invariant:** a connection that ends is counted once, by why it ended.

use std::rc::{Rc, Weak};

use tls_offload::Alpn;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::Instant;

use super::HostPool;
use super::streams::{Carrier, Sharing, Streams};
use crate::net::Transport;
use crate::stream::http2::{Driver, End, OriginConn, StreamHome, StreamLease, connect};
use crate::tls::MaybeTls;
use crate::upstream::reach::{ConnectError, Opening, Reach};

impl Carrier for OriginConn {
    type Lease = StreamLease;
    type Kind = ();

    fn of<T: Transport>(pool: &HostPool<T>, (): ()) -> Option<Rc<Streams<Self>>> {
        Some(Rc::clone(&pool.streams))
    }

    fn each<T: Transport>(pool: &HostPool<T>, mut look: impl FnMut(&Streams<Self>)) {
        look(&pool.streams);
    }

    fn kind(&self) {}

    fn sharing<T: Transport>(_: &HostPool<T>, (): ()) -> Sharing {
        Sharing::Many
    }

    fn room<T: Transport>(self: &Rc<Self>, pool: &Rc<HostPool<T>>, _: Sharing) -> Option<StreamLease> {
        self.lease(Rc::clone(pool) as Rc<dyn StreamHome>)
    }

    async fn open<T: Transport>(
        pool: &Rc<HostPool<T>>,
        reach: &Reach<T>,
        (): (),
    ) -> Result<(Rc<Self>, JoinHandle<()>), ConnectError> {
        let alpn = Alpn::new(["h2"]).expect("a name that ALPN can carry");
        let conn = pool.open(reach, Opening { alpn: Some(&alpn), ..Opening::default() }).await?;
        let scheme = if matches!(conn, MaybeTls::Tls(_)) { "https" } else { "http" };
        let connected = connect(conn, scheme, Rc::clone(&reach.limits)).await;
        let (conn, driver) = connected.map_err(ConnectError::NotHttp2)?;
        pool.counters().h2_connection_total.inc();
        let task = spawn_local(drive(driver, Weak::clone(&pool.me), conn.id()));
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
        self.is_barren()
    }

    fn retire(&self) {
        self.retire();
    }
}

impl<T: Transport> HostPool<T> {
    /// A connection has ended.
    fn streams_ended(&self, id: u64, end: &End) {
        let Some(conn) = self.streams.remove(|conn| conn.id() == id) else { return };
        let counters = self.counters();
        counters.h2_goaway.add(u64::from(conn.is_told()));
        self.count_resets(&conn);
        if matches!(end, End::Fault(_) | End::Flood | End::Silent) {
            counters.h2_connection_lost.inc();
            tracing::warn!(host = %self.name, %end, "an HTTP/2 connection to a host is given up");
        } else {
            tracing::debug!(host = %self.name, %end, "an HTTP/2 connection to a host has ended");
        }
        self.closed();
        self.streams.changed();
    }

    fn count_resets(&self, conn: &OriginConn) {
        let (reset, malformed) = conn.take_resets();
        self.counters().h2_stream_reset.add(reset);
        self.counters().h2_stream_malformed.add(malformed);
    }
}

impl<T: Transport> StreamHome for HostPool<T> {
    fn stream_ended(&self, conn: &Rc<OriginConn>) {
        self.leave();
        self.count_resets(conn);
        self.freed(conn);
    }
}

/// Runs a connection to its end.
async fn drive<T: Transport>(driver: Driver<MaybeTls<T::Conn>>, pool: Weak<HostPool<T>>, id: u64) {
    let changed = || {
        if let Some(pool) = pool.upgrade() {
            pool.streams.changed();
        }
    };
    let end = driver.run(changed).await;
    if let Some(pool) = pool.upgrade() {
        pool.streams_ended(id, &end);
    }
}
