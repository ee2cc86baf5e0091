//! What one exchange needs of a connection, whatever protocol is spoken on it, at once or by a time.
//!
//! **Invariant:** a host that was being dialled when the time was over hears of it as a failure; who leaves of itself blames nobody.

use std::rc::Rc;

use tokio::time::{Instant, timeout_at};

use super::{ConnectError, HostPool, OriginConn, Outcome, RpcConn};
use crate::codec::detect::Protocol;
use crate::message::Downstream;
use crate::net::Transport;
use crate::stream::lease::Lease;
use crate::tls::MaybeTls;

/// That a connection is being opened; dropped when that is given up, and forgotten when it has come to an end.
pub(super) struct Dial<'a, T: Transport>(pub(super) &'a HostPool<T>);

impl<T: Transport> Drop for Dial<'_, T> {
    fn drop(&mut self) {
        self.0.dials_dropped.set(self.0.dials_dropped.get() + 1);
    }
}

impl<T: Transport> HostPool<T> {
    /// What one exchange in this protocol needs of a connection. With `fresh`, not of one that lay idle. `client` has sent it, if anybody has.
    ///
    /// # Errors
    /// As [`checkout`](Self::checkout).
    pub async fn lease(
        self: &Rc<Self>,
        protocol: Protocol,
        fresh: bool,
        client: Option<&Downstream>,
    ) -> Result<Lease<MaybeTls<T::Conn>>, ConnectError> {
        Ok(match protocol {
            Protocol::Http1 => Lease::Exclusive(self.checkout(fresh).await?),
            // One that is closed is known to be.
            Protocol::Http2 => Lease::Stream(self.stream::<OriginConn>(()).await?),
            Protocol::Rpc(protocol) => Lease::Rpc(self.stream::<RpcConn>(self.rpc_kind(protocol, client)?).await?),
        })
    }

    /// The same by this time. None: it was not to be had by then; where a connection was being opened meanwhile, that tells against the host.
    ///
    /// # Errors
    /// As [`checkout`](Self::checkout).
    pub async fn lease_by(
        self: &Rc<Self>,
        (protocol, fresh): (Protocol, bool),
        client: Option<&Downstream>,
        at: Instant,
    ) -> Result<Option<Lease<MaybeTls<T::Conn>>>, ConnectError> {
        if let Some(lease) = self.lease_at_once(protocol, fresh, client)? {
            return Ok(Some(lease));
        }
        // On the heap: all requests would carry the room for it, and most find a connection.
        let mut wait = Box::pin(self.lease(protocol, fresh, client));
        match timeout_at(at, wait.as_mut()).await {
            Ok(lease) => lease.map(Some),
            Err(_) => {
                let dropped = self.dials_dropped.get();
                drop(wait);
                if self.dials_dropped.get() != dropped {
                    self.report(Outcome::Timeout);
                }
                Ok(None)
            }
        }
    }

    /// What there is of a connection without a wait.
    fn lease_at_once(
        self: &Rc<Self>,
        protocol: Protocol,
        fresh: bool,
        client: Option<&Downstream>,
    ) -> Result<Option<Lease<MaybeTls<T::Conn>>>, ConnectError> {
        let entered = self.enter()?;
        let lease = match protocol {
            Protocol::Http1 if fresh => None,
            Protocol::Http1 => self.take_idle().map(|conn| Lease::Exclusive(self.leased(conn, self.need.want()))),
            Protocol::Http2 => self.take_stream::<OriginConn>(()).map(Lease::Stream),
            Protocol::Rpc(protocol) => self.take_stream::<RpcConn>(self.rpc_kind(protocol, client)?).map(Lease::Rpc),
        };
        if lease.is_some() {
            // Counted out when the lease ends.
            std::mem::forget(entered);
        }
        Ok(lease)
    }
}
