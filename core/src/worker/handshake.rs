//! The TLS handshake of a client that was let in.
//!
//! **Invariant:** how one fails is counted, and costs nothing but its own connection.

use std::future::poll_fn;
use std::pin::pin;

use tls_offload::{PeerCertificate, ServerTls, TlsError};
use tokio::time::timeout;

use super::entrance::Entrance;
use crate::config::Limits;
use crate::net::{Conn, Transport};
use crate::proxy::client_cert_element;
use crate::telemetry::pulse::Work;
use crate::tls::{HandshakeError, MaybeTls};

/// Takes it. None: it failed.
pub(super) async fn handshake<T: Transport>(
    conn: T::Conn,
    tls: &ServerTls,
    entrance: &Entrance<T>,
    limits: &Limits,
) -> Option<MaybeTls<T::Conn>> {
    let peer = conn.peer_addr().clone();
    let mut handshake = pin!(timeout(limits.handshake_timeout, MaybeTls::accept(conn, tls)));
    let watched = poll_fn(|cx| {
        let _running = entrance.worker.load.enter(Work::Handshake, 0);
        handshake.as_mut().poll(cx)
    });
    match watched.await {
        Ok(Ok(conn)) => return Some(conn),
        Ok(Err(error)) => {
            if let HandshakeError::Tls(TlsError::Certificate(_)) = error {
                entrance.worker.counters.downstream.client_cert_refused.inc();
            }
            tracing::debug!(%peer, %error, "a TLS handshake failed");
        }
        Err(_) => {
            entrance.worker.counters.downstream.handshake_timeout.inc();
            tracing::debug!(%peer, "a TLS handshake took longer than handshake_timeout");
        }
    }
    entrance.worker.counters.downstream.handshake_failed.inc();
    None
}

/// What origins are told of a client by its certificate, which was verified.
pub(super) fn told_of<T: Transport>(entrance: &Entrance<T>, shown: &PeerCertificate, tls: &ServerTls) -> Box<str> {
    let config = &entrance.config.borrow().config;
    let settings = config.proxy().map(|proxy| &proxy.forwarded.client_cert);
    settings.map_or_else(Box::default, |settings| client_cert_element(settings, tls.uris(), shown))
}
