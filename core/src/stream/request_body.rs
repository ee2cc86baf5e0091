//! A request's body, pulled from the connection that its head came on.
//!
//! **Invariant:** reads only within the request: the bytes behind it belong to the next one and stay unread.

use std::any::Any;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::server::{ServerIo, SharedIo};
use crate::codec::Codec;
use crate::codec::http1::{DecodeError, Frame};
use crate::message::{BodyError, BodyLength, BodySource, Chunk, Relay};
use crate::net::Conn;

/// The body of the request that a connection is serving.
pub(super) struct RequestBody<C> {
    io: SharedIo<C>,
    puller: Puller,
}

impl<C: Conn> RequestBody<C> {
    pub(super) fn new(io: SharedIo<C>) -> Self {
        Self { io, puller: Puller::default() }
    }
}

impl<C: Conn> BodySource for RequestBody<C> {
    fn length(&self) -> BodyLength {
        self.io.borrow().decoder.body_length()
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, BodyError>> {
        // Borrowed only when a service sends a request's body straight back where it came from: see `BodySource::poll_beside`.
        let Ok(mut io) = self.io.try_borrow_mut() else { return Poll::Ready(Err(BodyError::Sink)) };
        let chunk = self.puller.poll(&mut io, cx);
        // While the chunk is on its way to its receiver, the sender's clock stands still.
        self.puller.timed = false;
        io.body_broken |= matches!(chunk, Poll::Ready(Err(_)));
        chunk
    }

    fn poll_relay(&mut self, cx: &mut Context<'_>, to: &mut dyn Any) -> Poll<Result<Relay, BodyError>> {
        let Ok(mut io) = self.io.try_borrow_mut() else { return Poll::Ready(Ok(Relay::Unsupported)) };
        let io = &mut *io;
        if io.decoder.is_body_done() {
            return Poll::Ready(Ok(Relay::Done));
        }
        let (Some(left), Some(to)) = (io.decoder.body_left(), to.downcast_mut::<C>()) else {
            return Poll::Ready(Ok(Relay::Unsupported));
        };
        let limit = usize::try_from(left).unwrap_or(usize::MAX);
        match io.conn.poll_relay(to, cx, limit) {
            Poll::Ready(Ok(0)) => {
                io.body_broken = true;
                Poll::Ready(Err(BodyError::Truncated))
            }
            Poll::Ready(Ok(n)) => {
                io.decoder.advance_body(n as u64);
                io.count_upload(n as u64);
                if self.puller.progress(io, n as u64).is_err() && !is_readable(io, cx) {
                    io.body_broken = true;
                    return Poll::Ready(Err(BodyError::TooSlow));
                }
                Poll::Ready(Ok(Relay::Moved(n as u64)))
            }
            Poll::Ready(Err(_)) => {
                // The error does not say whose it is; a connection that broke says so again, as an error or as its end.
                let ended = io.conn.poll_read_with(cx, 0, |bytes| (0, bytes.is_empty()));
                io.body_broken = matches!(ended, Poll::Ready(Err(_) | Ok(true)));
                Poll::Ready(Err(if io.body_broken { BodyError::Truncated } else { BodyError::Sink }))
            }
            Poll::Pending => {
                let stalled = ready!(self.puller.poll_stalled(io, cx));
                // Bytes are there: it is the receiver that takes none, and its own clock will say so.
                if is_readable(io, cx) {
                    self.puller.start_clock(io);
                    return Poll::Pending;
                }
                io.body_broken = true;
                Poll::Ready(Err(stalled))
            }
        }
    }
}

/// Whether more has come: then it is not the client that is slow.
fn is_readable<C: Conn>(io: &mut ServerIo<C>, cx: &mut Context<'_>) -> bool {
    matches!(io.conn.poll_read_with(cx, 0, |bytes| (0, !bytes.is_empty())), Poll::Ready(Ok(true)))
}

/// Takes a request's body off its connection, for whoever wants it or for nobody.
#[derive(Default)]
pub(super) struct Puller {
    timed: bool,
    /// Since when the client has been waited for.
    since: Option<Instant>,
    /// How long it was waited for in this window of the rate.
    waited: Duration,
    /// What came in it.
    bytes: u64,
}

impl Puller {
    fn poll<C: Conn>(&mut self, io: &mut ServerIo<C>, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, BodyError>> {
        while !io.decoder.is_body_done() {
            match ready!(self.poll_step(io, cx, true))? {
                Step::Chunk(chunk) => return Poll::Ready(Ok(Some(chunk))),
                Step::Nothing => {}
            }
        }
        Poll::Ready(Ok(None))
    }

    /// Takes some bytes off and forgets them.
    pub(super) fn poll_discard<C: Conn>(
        &mut self,
        io: &mut ServerIo<C>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), BodyError>> {
        self.poll_step(io, cx, false).map_ok(|_| ())
    }

    fn poll_step<C: Conn>(
        &mut self,
        io: &mut ServerIo<C>,
        cx: &mut Context<'_>,
        keep: bool,
    ) -> Poll<Result<Step, BodyError>> {
        let (known, decoder) = (io.known, &mut io.decoder);
        let read = io.conn.poll_read_with(cx, known, |bytes| {
            if bytes.len() <= known {
                return (0, Err(BodyError::Truncated));
            }
            match decoder.decode(bytes) {
                Ok(Some((frame, used))) => {
                    let data = if let Frame::Data(bytes) = &frame { bytes.len() } else { 0 };
                    (used, Ok((0, step(frame, keep), data)))
                }
                Ok(None) => (0, Ok((bytes.len(), Step::Nothing, 0))),
                Err(DecodeError::BodyTooLarge) => (0, Err(BodyError::TooLarge)),
                Err(_) => (0, Err(BodyError::Malformed)),
            }
        });
        match read {
            Poll::Ready(Ok(Ok((known, step, data)))) => {
                io.known = known;
                io.count_upload(data as u64);
                match self.progress(io, data as u64) {
                    Err(e) if !is_readable(io, cx) => Poll::Ready(Err(e)),
                    _ => Poll::Ready(Ok(step)),
                }
            }
            Poll::Ready(Ok(Err(e))) => Poll::Ready(Err(e)),
            Poll::Ready(Err(_)) => Poll::Ready(Err(BodyError::Truncated)),
            Poll::Pending => self.poll_stalled(io, cx).map(Err),
        }
    }

    /// So many bytes have come. An error when they come too slowly.
    fn progress<C>(&mut self, io: &mut ServerIo<C>, bytes: u64) -> Result<(), BodyError> {
        self.start_clock(io);
        self.bytes += bytes;
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
        if self.waited < io.limits.body_rate_window {
            return Ok(());
        }
        let enough = io.limits.body_bytes_per_second_min.saturating_mul(self.waited.as_secs());
        let is_slow = self.bytes < enough;
        (self.waited, self.bytes) = (Duration::ZERO, 0);
        if is_slow { Err(BodyError::TooSlow) } else { Ok(()) }
    }

    fn start_clock<C>(&mut self, io: &mut ServerIo<C>) {
        self.timed = true;
        io.timer.set(io.limits.body_idle_timeout);
    }

    fn poll_stalled<C>(&mut self, io: &mut ServerIo<C>, cx: &mut Context<'_>) -> Poll<BodyError> {
        if self.since.is_none() || !self.timed {
            self.since.get_or_insert_with(Instant::now);
            if !self.timed {
                self.start_clock(io);
            }
        }
        io.timer.poll_expired(cx).map(|()| BodyError::Timeout)
    }
}

enum Step {
    Chunk(Chunk),
    Nothing,
}

fn step(frame: Frame<'_>, keep: bool) -> Step {
    match frame {
        Frame::Data(bytes) if keep => Step::Chunk(Chunk::Data(Bytes::copy_from_slice(bytes))),
        Frame::Trailers(trailers) if keep => Step::Chunk(Chunk::Trailers(trailers)),
        _ => Step::Nothing,
    }
}
