//! The TLS handshake of a client that was let in.
//!
//! **Invariant:** how one fails is counted, and costs nothing but its own connection.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tls_offload::{PeerCertificate, ServerTls, TlsError, Unsupported};
use tokio::time::timeout;

use super::entrance::Entrance;
use super::handshakes::Step;
use crate::config::Limits;
use crate::config::schema::Ktls;
use crate::net::{Conn, Transport};
use crate::proxy::client_cert_element;
use crate::snapshot::ListenerConfig;
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

/// Whether the plane can seal what this listener's clients are sent, where that is required (`tls_backend.ktls`).
///
/// # Errors
/// Why it can't.
pub(super) fn sealed_as_wanted<T: Transport>(config: &ListenerConfig, transport: &T) -> io::Result<()> {
    let (Some(tls), Some(context)) = (&config.tls, config.config.tls.first()) else { return Ok(()) };
    if context.ktls != Ktls::Require {
        return Ok(());
    }
    let why = match transport.sealing() {
        Ok(_) if tls.exports() => return Ok(()),
        Ok(_) => Unsupported::Backend.to_string(),
        Err(error) => error.to_string(),
    };
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        format!("its records can't be the kernel's (tls_backend.ktls: require): {why}"),
    ))
}

/// Says who seals records, where a listener lets the plane have them.
pub(super) fn tell_who_seals<T: Transport>(listeners: &[Arc<ListenerConfig>], transport: &T) {
    if !listeners.iter().any(|listener| listener.tls.as_ref().is_some_and(|tls| tls.exports())) {
        return;
    }
    match transport.sealing() {
        Ok(suites) => {
            let suites: Vec<String> = suites.iter().map(ToString::to_string).collect();
            tracing::info!(suites = suites.join(", "), "the kernel seals the records of TLS (tls_backend.ktls)");
        }
        Err(error) => {
            tracing::warn!(%error, "records of TLS are sealed in this process, not by the kernel (tls_backend.ktls: auto)")
        }
    }
}

/// What origins are told of a client by its certificate, which was verified.
pub(super) fn told_of<T: Transport>(entrance: &Entrance<T>, shown: &PeerCertificate, tls: &ServerTls) -> Box<str> {
    let config = &entrance.config.borrow().config;
    let settings = config.proxy().map(|proxy| &proxy.forwarded.client_cert);
    settings.map_or_else(Box::default, |settings| client_cert_element(settings, tls.uris(), shown))
}
