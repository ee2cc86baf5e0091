//! A response's body, pulled from the upstream connection that its head came on.
//!
//! **Invariant:** the connection goes back to its pool after the last byte of the body and not before; a body that breaks off takes its
//! connection with it.

use std::any::Any;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::client::{ClientConn, Lease};
use super::pump::Pump;
use crate::codec::Codec;
use crate::codec::http1::Frame;
use crate::message::{BodyError, BodyLength, BodySource, Chunk, Relay};
use crate::net::Conn;

/// The body of the answer that an upstream connection is sending.
pub(super) struct ResponseBody<C> {
    /// Gone once the body is complete.
    lease: Option<Lease<C>>,
    /// The rest of the request, when the origin answered before it had all of it.
    pump: Option<Pump>,
    length: BodyLength,
    /// Whether the connection may carry another exchange after this one.
    reusable: bool,
    /// Whether the origin's clock runs: not while a piece is on its way to the client.
    timed: bool,
}

impl<C: Conn> ResponseBody<C> {
    pub(super) fn new(mut lease: Lease<C>, pump: Option<Pump>, length: BodyLength, reusable: bool) -> Self {
        let conn = lease.conn();
        conn.timer.set(conn.limits.body_idle_timeout);
        Self { lease: Some(lease), pump, length, reusable, timed: false }
    }

    /// The body is complete: the connection goes home if it can carry another exchange.
    fn finish(&mut self) {
        let Some(mut lease) = self.lease.take() else { return };
        let conn = lease.conn();
        if self.reusable && self.pump.is_none() && conn.decoder.is_body_done() && conn.is_usable() {
            lease.give_back();
        }
    }

    /// Reads until there is a piece of the body, or its end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, BodyError>> {
        loop {
            let Some(lease) = &mut self.lease else { return Poll::Ready(Ok(None)) };
            let conn = lease.conn();
            if conn.decoder.is_body_done() {
                self.finish();
                return Poll::Ready(Ok(None));
            }
            if let Some(chunk) = ready!(poll_step(conn, cx, &mut self.timed))? {
                self.timed = false;
                return Poll::Ready(Ok(Some(chunk)));
            }
        }
    }
}

impl<C: Conn> BodySource for ResponseBody<C> {
    fn length(&self) -> BodyLength {
        self.length
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, BodyError>> {
        self.poll_piece(cx)
    }

    fn poll_beside(&mut self, cx: &mut Context<'_>) {
        let (Some(pump), Some(lease)) = (&mut self.pump, &mut self.lease) else { return };
        let (before, conn) = (pump.sent(), lease.conn());
        let polled = pump.poll(cx, &mut conn.conn);
        if pump.sent() != before || polled.is_ready() {
            // An origin that waits for more of the request is not silent.
            conn.timer.set(conn.limits.body_idle_timeout);
        }
        if let Poll::Ready(sent) = polled {
            if sent.is_err() {
                // The origin took no more, or the client sent no more: the answer still counts, the connection does not.
                self.reusable = false;
            }
            self.pump = None;
        }
    }

    fn poll_relay(&mut self, cx: &mut Context<'_>, to: &mut dyn Any) -> Poll<Result<Relay, BodyError>> {
        let Some(lease) = &mut self.lease else { return Poll::Ready(Ok(Relay::Done)) };
        let conn = lease.conn();
        let limit = match conn.decoder.body_length() {
            _ if conn.decoder.is_body_done() => {
                self.finish();
                return Poll::Ready(Ok(Relay::Done));
            }
            BodyLength::Exact(left) => usize::try_from(left).unwrap_or(usize::MAX),
            BodyLength::UntilClose => usize::MAX,
            BodyLength::None | BodyLength::Chunked => return Poll::Ready(Ok(Relay::Unsupported)),
        };
        let Some(to) = to.downcast_mut::<C>() else { return Poll::Ready(Ok(Relay::Unsupported)) };
        match conn.conn.poll_relay(to, cx, limit) {
            Poll::Ready(Ok(0)) => {
                Poll::Ready(conn.decoder.finish().map(|()| Relay::Done).map_err(|_| BodyError::Truncated))
            }
            Poll::Ready(Ok(n)) => {
                conn.decoder.advance_body(n as u64);
                conn.timer.set(conn.limits.body_idle_timeout);
                Poll::Ready(Ok(Relay::Moved(n as u64)))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(BodyError::Sink)),
            Poll::Pending => conn.timer.poll_expired(cx).map(|()| Err(BodyError::Timeout)),
        }
    }
}

fn poll_step<C: Conn>(
    conn: &mut ClientConn<C>,
    cx: &mut Context<'_>,
    timed: &mut bool,
) -> Poll<Result<Option<Chunk>, BodyError>> {
    if !*timed {
        *timed = true;
        conn.timer.set(conn.limits.body_idle_timeout);
    }
    let (known, decoder) = (conn.known, &mut conn.decoder);
    let read = conn.conn.poll_read_with(cx, known, |bytes| {
        if bytes.len() <= known {
            let ended = decoder.finish().map(|()| (0, None)).map_err(|_| BodyError::Truncated);
            return (0, ended);
        }
        match decoder.decode(bytes) {
            Ok(Some((frame, used))) => (used, Ok((0, chunk_of(frame)))),
            Ok(None) => (0, Ok((bytes.len(), None))),
            Err(_) => (0, Err(BodyError::Malformed)),
        }
    });
    match read {
        Poll::Ready(Ok(Ok((known, chunk)))) => {
            conn.known = known;
            conn.timer.set(conn.limits.body_idle_timeout);
            Poll::Ready(Ok(chunk))
        }
        Poll::Ready(Ok(Err(e))) => Poll::Ready(Err(e)),
        Poll::Ready(Err(_)) => Poll::Ready(Err(BodyError::Truncated)),
        Poll::Pending => conn.timer.poll_expired(cx).map(|()| Err(BodyError::Timeout)),
    }
}

fn chunk_of(frame: Frame<'_>) -> Option<Chunk> {
    match frame {
        Frame::Data(bytes) => Some(Chunk::Data(Bytes::copy_from_slice(bytes))),
        Frame::Trailers(trailers) => Some(Chunk::Trailers(trailers)),
        _ => None,
    }
}
