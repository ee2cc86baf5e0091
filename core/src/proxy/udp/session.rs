//! A session: one client's datagrams to one host, and the host's to the client.
//!
//! **Invariant:** the socket is this client's alone: what comes from the host by it can be for nobody else.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Client, Outbox};
use crate::message::ResponseFlags;
use crate::net::{Datagram, Datagrams, Transport};
use crate::proxy::Generation;
use crate::proxy::record::Record;
use crate::telemetry::metrics::ListenerCounters;
use crate::upstream::{DialedDatagrams, HostPool, Outcome};

/// A session of one client.
pub struct UdpSession<T: Transport> {
    client: Client,
    cluster: Box<str>,
    dialed: DialedDatagrams<T>,
    listener: Arc<ListenerCounters>,
    /// When a datagram last went either way.
    moved: Cell<Instant>,
    /// Bytes from the client, and to it.
    bytes: Cell<(u64, u64)>,
    /// The generation, and the cluster's hosts and their health, that the host was last looked up in.
    seen: Cell<(u64, (u64, u64))>,
    /// Where there is a log.
    record: RefCell<Option<Box<Record>>>,
}

/// What became of datagrams that were to go to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// They are on their way, or were lost as datagrams may be.
    All,
    /// Nobody listens there: the session is over, and these from this one on have not been sent.
    Refused(usize),
}

impl<T: Transport> UdpSession<T> {
    pub(super) fn new(
        client: Client,
        cluster: Box<str>,
        dialed: DialedDatagrams<T>,
        listener: Arc<ListenerCounters>,
        record: Option<Box<Record>>,
    ) -> Self {
        Self {
            client,
            cluster,
            dialed,
            listener,
            moved: Cell::new(Instant::now()),
            bytes: Cell::default(),
            seen: Cell::default(),
            record: RefCell::new(record),
        }
    }

    /// Whose it is.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client
    }

    /// Passes datagrams of the client on to the host. What its socket has no room for is lost.
    pub fn pass(&self, datagrams: &[Datagram<'_>], now: Instant) -> Passed {
        self.moved.set(now);
        let mut done = 0;
        while done < datagrams.len() {
            match self.dialed.socket.try_send(&datagrams[done..]) {
                Ok(sent) => {
                    let bytes = total(&datagrams[done..done + sent]);
                    self.listener.datagrams_read.add(sent as u64);
                    self.listener.relay_bytes_read.add(bytes);
                    self.host().counters().relay_bytes_write.add(bytes);
                    let (forth, back) = self.bytes.get();
                    self.bytes.set((forth + bytes, back));
                    done += sent;
                }
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                    self.broken(&e);
                    return Passed::Refused(done);
                }
                Err(error) => {
                    tracing::debug!(client = %self.client.peer, host = %self.host().name(), %error, "a datagram is lost");
                    // Of a full socket all that is left is lost, else the first: the next may be shorter.
                    let lost = if error.kind() == io::ErrorKind::WouldBlock { datagrams.len() - done } else { 1 };
                    self.listener.datagrams_dropped.add(lost as u64);
                    done += lost;
                }
            }
        }
        Passed::All
    }

    /// Puts what the host sends into `outbox`, until it fails.
    pub async fn answers(&self, outbox: &Outbox<T::Datagrams>) {
        loop {
            outbox.room().await;
            let received = self.dialed.socket.receive(|burst| {
                for datagram in burst {
                    outbox.put(self.client, datagram.bytes);
                }
                self.answered(burst);
            });
            match received.await {
                // Behind those of others that have come meanwhile.
                Ok(()) => tokio::task::yield_now().await,
                Err(error) => {
                    tracing::debug!(client = %self.client.peer, host = %self.host().name(), %error, "a session breaks");
                    return self.broken(&error);
                }
            }
        }
    }

    /// How long nothing has moved.
    #[must_use]
    pub fn silent_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.moved.get())
    }

    /// Whether its host is to get no more: its cluster is gone, or lacks it, or it is unhealthy. The next datagram opens another session then.
    #[must_use]
    pub fn is_outdated(&self, generation: &Generation<T>) -> bool {
        let snapshot = generation.snapshot();
        let Some(id) = snapshot.cluster_id(&self.cluster) else { return true };
        let cluster = generation.cluster(id);
        let now = (snapshot.generation, cluster.versions());
        self.seen.replace(now) != now && !cluster.has_healthy(self.host().id())
    }

    fn host(&self) -> &Rc<HostPool<T>> {
        self.dialed.place.host()
    }

    fn answered(&self, burst: &[Datagram<'_>]) {
        let bytes = total(burst);
        self.moved.set(Instant::now());
        self.listener.datagrams_write.add(burst.len() as u64);
        self.listener.relay_bytes_write.add(bytes);
        self.host().counters().relay_bytes_read.add(bytes);
        let (forth, back) = self.bytes.get();
        self.bytes.set((forth, back + bytes));
    }

    /// It can't go on. What the host or the way to it has said counts against the host, what this machine lacks does not.
    fn broken(&self, error: &io::Error) {
        use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
        self.listener.session_broken.inc();
        if matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable) {
            self.host().report(Outcome::Unreachable);
        }
        if let Some(record) = &mut *self.record.borrow_mut() {
            record.x.flags.add(ResponseFlags::CONNECTION_TERMINATED);
        }
    }
}

impl<T: Transport> Drop for UdpSession<T> {
    fn drop(&mut self) {
        if let Some(record) = self.record.get_mut() {
            record.end(self.bytes.get(), None);
        }
    }
}

impl<T: Transport> fmt::Debug for UdpSession<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpSession")
            .field("client", &self.client)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

fn total(datagrams: &[Datagram<'_>]) -> u64 {
    datagrams.iter().map(|d| d.bytes.len() as u64).sum()
}
