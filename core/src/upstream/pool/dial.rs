//! A connection or a socket of its own to a host, for bytes that are nobody's request: never shared, never idle, never used again.
//!
//! **Invariant:** it has its place among the cluster's connections until it is closed.

use std::io;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::{Got, HostPool, Place, overflow};
use crate::net::Transport;
use crate::tls::MaybeTls;
use crate::upstream::pick::Outcome;
use crate::upstream::reach::{ConnectError, Opening, Overflow};

/// A connection of its own.
pub struct Dialed<T: Transport> {
    /// The connection.
    pub conn: MaybeTls<T::Conn>,
    /// Its place. Behind the connection, so that it is given back when that is closed.
    pub place: Occupied<T>,
}

/// A socket of its own to a host, for the datagrams of one client.
pub struct DialedDatagrams<T: Transport> {
    /// The socket.
    pub socket: T::Datagrams,
    /// Its place, as that of a connection. Behind the socket, so that it is given back when that is closed.
    pub place: Occupied<T>,
}

/// A place among the cluster's connections and in the work of the host, given back when dropped.
pub struct Occupied<T: Transport>(Rc<HostPool<T>>);

impl<T: Transport> HostPool<T> {
    /// Opens a connection that is used once, within the cluster's bound of connections. `preface` is sent before all else, TLS too.
    ///
    /// # Errors
    /// When it can't be opened in time, or the bound is reached.
    pub async fn dial(self: &Rc<Self>, preface: &[u8]) -> Result<Dialed<T>, ConnectError> {
        let reach = Rc::clone(&self.reach.borrow());
        let place = match self.place(&reach, true).await? {
            Got::Place(place) => place,
            Got::Conn(conn) => {
                // Its place serves as well.
                drop(conn);
                self.counts.closed();
                Place(self)
            }
        };
        let begun = Instant::now();
        // Boxed: it is large, and what it opens may stay for long.
        match Box::pin(self.open(&reach, Opening { preface, alpn: None })).await {
            Ok(conn) => {
                std::mem::forget(place);
                self.counts.opened();
                if reach.is_counted() {
                    self.host.tally().requests.fetch_add(1, Ordering::Relaxed);
                }
                self.report(Outcome::Connected { took: begun.elapsed() });
                Ok(Dialed { conn, place: Occupied(Rc::clone(self)) })
            }
            Err(e) => {
                self.report(Outcome::Unreachable);
                Err(e)
            }
        }
    }
}

impl<T: Transport> HostPool<T> {
    /// Opens a socket for datagrams to the host, within the cluster's bound of connections.
    ///
    /// # Errors
    /// When it can't be opened, or the bound is reached.
    pub fn dial_datagrams(self: &Rc<Self>) -> Result<DialedDatagrams<T>, ConnectError> {
        let reach = Rc::clone(&self.reach.borrow());
        let place = self.try_place(&reach).ok_or_else(|| overflow(&reach, Overflow::Conns))?;
        // A path has no datagrams here.
        let to = self.host.address().inet().ok_or(io::ErrorKind::Unsupported);
        match to.map_err(io::Error::from).and_then(|to| reach.transport.connect_datagrams(to)) {
            Ok(socket) => {
                std::mem::forget(place);
                self.counts.opened();
                if reach.is_counted() {
                    self.host.tally().requests.fetch_add(1, Ordering::Relaxed);
                }
                Ok(DialedDatagrams { socket, place: Occupied(Rc::clone(self)) })
            }
            Err(e) => {
                // All else is this machine's fault, such as having no port left.
                if matches!(e.kind(), io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) {
                    self.report(Outcome::Unreachable);
                }
                Err(ConnectError::of(e))
            }
        }
    }
}

impl<T: Transport> Occupied<T> {
    /// Of which host.
    #[must_use]
    pub fn host(&self) -> &Rc<HostPool<T>> {
        &self.0
    }
}

impl<T: Transport> Drop for Occupied<T> {
    fn drop(&mut self) {
        let host = &self.0;
        if host.reach.borrow().is_counted() {
            host.host.tally().requests.fetch_sub(1, Ordering::Relaxed);
        }
        host.closed();
    }
}
