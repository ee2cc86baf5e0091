//! The TLS handshake of a client that was let in.
//!
//! **Invariant:** how one fails is counted, and costs nothing but its own connection.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use tls_offload::{PeerCertificate, ServerTls, TlsError};
use tokio::time::timeout;

use super::entrance::Entrance;
use super::handshakes::Step;
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
    let (worker, peer) = (&entrance.worker, conn.peer_addr().clone());
    let counters = &worker.counters.downstream;
    let running = worker.handshakes.begin(limits.handshakes_max, limits.turn_handshakes_max, counters);
    let mut handshake = pin!(timeout(limits.handshake_timeout, MaybeTls::accept(conn, tls)));
    let watched = poll_fn(|cx| match running.step(cx) {
        Step::Later => Poll::Pending,
        Step::Evicted => Poll::Ready(None),
        Step::Now => {
            let _running = worker.load.enter(Work::Handshake, 0);
            handshake.as_mut().poll(cx).map(Some)
        }
    });
    match watched.await {
        Some(Ok(Ok(conn))) => return Some(conn),
        Some(Ok(Err(error))) => {
            if let HandshakeError::Tls(TlsError::Certificate(_)) = error {
                counters.client_cert_refused.inc();
            }
            tracing::debug!(%peer, %error, "a TLS handshake failed");
        }
        None => tracing::debug!(%peer, "a TLS handshake ended: handshakes_max are under way"),
        Some(Err(_)) => {
            counters.handshake_timeout.inc();
            tracing::debug!(%peer, "a TLS handshake took longer than handshake_timeout");
        }
    }
    counters.handshake_failed.inc();
    None
}

/// What origins are told of a client by its certificate, which was verified.
pub(super) fn told_of<T: Transport>(entrance: &Entrance<T>, shown: &PeerCertificate, tls: &ServerTls) -> Box<str> {
    let config = &entrance.config.borrow().config;
    let settings = config.proxy().map(|proxy| &proxy.forwarded.client_cert);
    settings.map_or_else(Box::default, |settings| client_cert_element(settings, tls.uris(), shown))
}
