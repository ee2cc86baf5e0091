//! A connection that is TLS or is not: drives a [`Session`] over any [`Conn`] and is a [`Conn`] itself.
//!
//! **Closing.** The peer's `close_notify` is the end of the stream. An end without it is [`UnexpectedEof`](io::ErrorKind::UnexpectedEof):
//! someone on the way may have cut the stream off (RFC 8446 section 6.1). Many peers omit it all the same, so the caller judges by its
//! framing: between two messages it is an ordinary end; a message whose length is known is incomplete anyway; a body that is delimited by
//! the end of the connection must be treated as cut off. We say `close_notify` on [`poll_shutdown`](Conn::poll_shutdown), and when a
//! connection is dropped with nothing unsent. Whoever drops a connection in the middle of a message calls [`abort`](Conn::abort) first, so
//! that the peer does not take it for complete.
//!
//! **Memory.** Ciphertext stays in the connection below until a record is whole; it is opened into the worker's scratch and shown from
//! there. Only what the reader leaves is kept. Plaintext to be sent gathers in a buffer from the worker's free list until it is flushed,
//! so that many small writes are one record. An idle connection owns neither.
//!
//! **Keys to the plane.** A listener may let the plane have the keys of its sessions (kTLS). It gets them at the first read that finds
//! nothing under way: no byte of ours unsent, none of the peer's read and not opened. A connection that never comes to such a point goes on
//! as it is.
//!
//! **Invariant:** no byte of a plaintext leaves unsealed, and none that did not authenticate is shown.

use std::fmt;
use std::future::Future;
use std::io;
use std::task::{Context, Poll};

use tls_offload::{PeerCertificate, ServerTls, Session, SessionInfo, TlsError};

use crate::net::{Address, Conn, Detached};

mod buffers;
mod conn;
mod handshake;
mod records;

pub use conn::TlsConn;
pub(crate) use records::take_handed_down;

/// A connection with or without TLS. Not more than a pointer larger than the plain one.
pub enum MaybeTls<C: Conn> {
    /// Bytes as they are.
    Plain(C),
    /// Sealed. Boxed: a session is large.
    Tls(Box<TlsConn<C>>),
}

impl<C: Conn> MaybeTls<C> {
    /// Takes the server's side of a handshake. The caller bounds the time: the future may be dropped at any point.
    ///
    /// # Errors
    /// The connection or the handshake failed; the peer was sent an alert if there is one for it.
    pub fn accept(conn: C, tls: &ServerTls) -> impl Future<Output = Result<Self, HandshakeError>> + use<C> {
        Self::shake(conn, tls.session(), tls.exports())
    }

    /// Drives a session's handshake: `ClientTls::session` for the client's side. The caller bounds the time: the future may be dropped at
    /// any point.
    ///
    /// # Errors
    /// As [`accept`](Self::accept); the server's certificate is refused here.
    pub fn connect(conn: C, session: Session) -> impl Future<Output = Result<Self, HandshakeError>> + use<C> {
        Self::shake(conn, session, false)
    }

    async fn shake(conn: C, session: Session, hand_down: bool) -> Result<Self, HandshakeError> {
        Ok(Self::Tls(Box::new(handshake::handshake(conn, session, hand_down).await?)))
    }

    /// The plane's own connection, where what is read from it and written to it is plaintext.
    fn bare(&mut self) -> Option<&mut C> {
        match self {
            Self::Plain(c) => Some(c),
            Self::Tls(t) => t.bare(),
        }
    }

    /// The certificate that the peer has shown; None without TLS.
    #[must_use]
    pub fn peer_certificate(&self) -> Option<PeerCertificate> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(t) => t.peer_certificate(),
        }
    }

    /// What the handshake agreed; None without TLS.
    #[must_use]
    pub fn info(&self) -> Option<SessionInfo<'_>> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(t) => Some(t.info()),
        }
    }
}

impl<C: Conn> Conn for MaybeTls<C> {
    fn poll_read_with<R>(
        &mut self,
        cx: &mut Context<'_>,
        known: usize,
        f: impl FnOnce(&[u8]) -> (usize, R),
    ) -> Poll<io::Result<R>> {
        match self {
            Self::Plain(c) => c.poll_read_with(cx, known, f),
            Self::Tls(t) => t.poll_read_with(cx, known, f),
        }
    }

    fn poll_write_with<R>(
        &mut self,
        cx: &mut Context<'_>,
        wish: usize,
        f: impl FnOnce(&mut [u8]) -> (usize, R),
    ) -> Poll<io::Result<R>> {
        match self {
            Self::Plain(c) => c.poll_write_with(cx, wish, f),
            Self::Tls(t) => t.poll_write_with(cx, wish, f),
        }
    }

    /// Plain to plain is the plane's own relay, also where it is the plane that seals. Whatever is sealed here is opened or sealed on its way,
    /// in bounded buffers.
    fn poll_relay(&mut self, to: &mut Self, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<usize>> {
        if let (Some(from), Some(to)) = (self.bare(), to.bare()) {
            return from.poll_relay(to, cx, limit);
        }
        match (self, to) {
            (Self::Plain(from), Self::Tls(to)) => to.poll_take_from(from, cx, limit),
            (Self::Tls(from), to) => from.poll_relay_to(to, cx, limit),
            (Self::Plain(from), Self::Plain(to)) => from.poll_relay(to, cx, limit),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(c) => c.poll_flush(cx),
            Self::Tls(t) => t.poll_flush(cx),
        }
    }

    fn poll_flush_last(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(c) => c.poll_flush_last(cx),
            Self::Tls(t) => t.poll_flush_last(cx),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(c) => c.poll_shutdown(cx),
            Self::Tls(t) => t.poll_shutdown(cx),
        }
    }

    fn peer_addr(&self) -> &Address {
        match self {
            Self::Plain(c) => c.peer_addr(),
            Self::Tls(t) => t.peer_addr(),
        }
    }

    fn local_addr(&self) -> &Address {
        match self {
            Self::Plain(c) => c.local_addr(),
            Self::Tls(t) => t.local_addr(),
        }
    }

    fn original_dst(&self) -> Option<Address> {
        match self {
            Self::Plain(c) => c.original_dst(),
            Self::Tls(t) => t.original_dst(),
        }
    }

    /// A TLS session stays with its worker.
    fn detach(self) -> Option<Detached> {
        match self {
            Self::Plain(c) => c.detach(),
            Self::Tls(_) => None,
        }
    }

    fn abort(&mut self) {
        match self {
            Self::Plain(c) => c.abort(),
            Self::Tls(t) => t.abort(),
        }
    }
}

/// Why a handshake ended without a session.
#[derive(Debug)]
pub enum HandshakeError {
    /// The peer ended the connection before the handshake was complete.
    Closed,
    /// The connection failed.
    Io(io::Error),
    /// The handshake failed.
    Tls(TlsError),
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the peer closed the connection during the TLS handshake"),
            Self::Io(e) => write!(f, "the connection failed during the TLS handshake: {e}"),
            Self::Tls(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for HandshakeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Closed => None,
            Self::Io(e) => Some(e),
            Self::Tls(e) => Some(e),
        }
    }
}

impl From<io::Error> for HandshakeError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}
