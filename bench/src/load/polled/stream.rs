//! A connection of the plane seam, and the TLS session on it when there is one.
//!
//! **Invariant:** bytes are read where they arrived and written where they leave; a whole message never passes a buffer of its own.

use std::io::{self, ErrorKind};
use std::task::{Context, Poll, ready};

use ferrogate_core::net::{Conn, ROOM_BYTES_MAX};
use rustls::{Connection, HandshakeKind};

/// A connection, in the clear or not.
pub(super) struct Stream<C> {
    conn: C,
    tls: Option<Box<Connection>>,
}

impl<C: Conn> Stream<C> {
    pub(super) fn new(conn: C, tls: Option<Connection>) -> Self {
        Self { conn, tls: tls.map(Box::new) }
    }

    /// Sends from the front of `bytes`: how many were taken, at least one.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Some(tls) = &mut self.tls else {
            let wish = bytes.len().min(ROOM_BYTES_MAX);
            return self.conn.poll_write_with(cx, wish, |room| {
                let count = room.len().min(bytes.len());
                room[..count].copy_from_slice(&bytes[..count]);
                (count, count)
            });
        };
        let taken = io::Write::write(&mut tls.writer(), bytes)?;
        match self.poll_flush(cx)? {
            _ if taken > 0 => Poll::Ready(Ok(taken)),
            // The session holds as much as it may, and what would make room has to come in or go out first.
            _ => Poll::Pending,
        }
    }

    /// Hands what has come to `sink`: how many bytes off the wire, 0 at the end of the stream.
    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        mut sink: impl FnMut(&[u8]),
    ) -> Poll<io::Result<usize>> {
        let Some(tls) = &mut self.tls else {
            return self.conn.poll_read_with(cx, 0, |bytes| {
                sink(bytes);
                (bytes.len(), bytes.len())
            });
        };
        let read = self.conn.poll_read_with(cx, 0, |bytes| {
            (bytes.len(), crate::wire::io::open(tls, bytes, sink).map(|()| bytes.len()))
        });
        // An alert tells the peer why.
        let flushed = self.poll_flush(cx);
        let count = ready!(read)??;
        match flushed {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(count)),
        }
    }

    /// Sends what the session and the connection hold.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                let wrote = ready!(self.conn.poll_write_with(cx, FLUSH_BYTES, |mut room| {
                    let whole = room.len();
                    let mut wrote = Ok(());
                    while tls.wants_write() && !room.is_empty() && wrote.is_ok() {
                        wrote = tls.write_tls(&mut room).map(drop);
                    }
                    (whole - room.len(), wrote)
                }));
                wrote??;
            }
        }
        self.conn.poll_flush(cx)
    }

    /// Ends our direction.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
        ready!(self.poll_flush(cx))?;
        self.conn.poll_shutdown(cx)
    }

    /// Whether the handshake, if any, is over.
    pub(super) fn is_ready(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking())
    }

    /// What kind of handshake it was.
    pub(super) fn handshake(&self) -> Option<HandshakeKind> {
        self.tls.as_ref().and_then(|tls| tls.handshake_kind())
    }
}

/// The error of a stream that ended in the wrong place.
pub(super) fn cut_short() -> io::Error {
    ErrorKind::UnexpectedEof.into()
}

const FLUSH_BYTES: usize = 4_096;
