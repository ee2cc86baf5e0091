//! Sends a body into a connection, in whatever framing its receiver was promised.
//!
//! **Invariant:** takes from the body only what the connection has room for; a body that breaks off is never ended as if it were whole.

use std::any::Any;
use std::io;
use std::num::NonZeroUsize;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes};

use crate::codec::http1::{
    CHUNK_END, CHUNK_PREFIX_BYTES_MAX, LAST_CHUNK, put_chunk_prefix, put_trailers, trailers_len,
};
use crate::message::{Body, BodyError, Chunk, HttpHead, Relay};
use crate::net::{Conn, ROOM_BYTES_MAX};

/// A body on its way into a connection.
pub(crate) struct Pump {
    body: Body,
    chunked: bool,
    state: State,
    sent: u64,
    /// Its end is that of all that is written to its receiver.
    is_last: bool,
}

/// Why a body did not arrive.
#[derive(Debug)]
pub(crate) enum PumpError {
    /// The body broke off.
    Source(BodyError),
    /// The connection it goes to broke.
    Sink(#[allow(dead_code, reason = "shown by Debug in logs")] io::Error),
}

/// Writes something in one piece: a head.
pub(crate) struct Put {
    /// The most that it can come to, in bytes.
    len: usize,
    /// A head longer than the room that a connection promises is written here first and leaves in parts.
    parts: Option<Pump>,
}

impl Put {
    pub(crate) fn new(len: usize) -> Self {
        Self { len, parts: None }
    }

    /// Ready when `put`'s bytes have been handed to the connection; they may still need a flush.
    pub(crate) fn poll<C: Conn, E>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut C,
        put: impl FnOnce(&mut &mut [u8]) -> Result<(), E>,
    ) -> Poll<io::Result<Result<(), E>>> {
        if self.len <= ROOM_BYTES_MAX {
            return to.poll_write_with(cx, self.len, |mut room| {
                let all = room.len();
                let result = put(&mut room);
                (all - room.len(), result)
            });
        }
        if self.parts.is_none() {
            let mut whole = vec![0; self.len];
            let mut room = whole.as_mut_slice();
            if let Err(e) = put(&mut room) {
                return Poll::Ready(Ok(Err(e)));
            }
            let written = self.len - room.len();
            whole.truncate(written);
            self.parts = Some(Pump::new(Body::Full(Bytes::from(whole)), false));
        }
        let Some(parts) = &mut self.parts else { return Poll::Ready(Ok(Ok(()))) };
        parts.poll(cx, to).map(|sent| match sent {
            Ok(()) => Ok(Ok(())),
            Err(PumpError::Sink(e)) => Err(e),
            Err(PumpError::Source(_)) => Err(io::ErrorKind::InvalidData.into()),
        })
    }
}

enum State {
    /// The next piece has to be pulled.
    Pull,
    /// A piece waits for room.
    Push(Bytes),
    /// The end of a chunked body waits for room.
    Last(Option<HttpHead>),
    /// Everything has been written; what is left is to flush.
    Flush,
}

impl Pump {
    /// A pump for `body`; `chunked` says how its receiver was told to find the end.
    pub(crate) fn new(body: Body, chunked: bool) -> Self {
        let (body, state) = match body {
            Body::Empty if chunked => (Body::Empty, State::Last(None)),
            Body::Empty => (Body::Empty, State::Flush),
            Body::Full(bytes) if bytes.is_empty() && !chunked => (Body::Empty, State::Flush),
            Body::Full(bytes) if bytes.is_empty() => (Body::Empty, State::Last(None)),
            Body::Full(bytes) => (Body::Empty, State::Push(bytes)),
            streaming @ Body::Streaming(_) => (streaming, State::Pull),
        };
        Self { body, chunked, state, sent: 0, is_last: false }
    }

    /// Says that nothing is written behind it.
    pub(crate) fn last(mut self) -> Self {
        self.is_last = true;
        self
    }

    /// Body bytes that have been written so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Drives what has to go on beside this body. To be called before [`poll`](Self::poll), with neither connection borrowed.
    pub(crate) fn poll_beside(&mut self, cx: &mut Context<'_>) {
        if let Body::Streaming(source) = &mut self.body {
            source.poll_beside(cx);
        }
    }

    /// Sends what can be sent; ready when the body has been handed to the connection whole and flushed.
    pub(crate) fn poll<C: Conn>(&mut self, cx: &mut Context<'_>, to: &mut C) -> Poll<Result<(), PumpError>> {
        loop {
            let step = match &mut self.state {
                State::Pull => self.poll_pull(cx, to),
                State::Push(_) => self.poll_push(cx, to),
                State::Last(_) => self.poll_last(cx, to),
                State::Flush if self.is_last => return to.poll_flush_last(cx).map_err(PumpError::Sink),
                State::Flush => return to.poll_flush(cx).map_err(PumpError::Sink),
            };
            match step {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => {
                    // What has been written must not wait for what has not arrived.
                    if let Poll::Ready(Err(e)) = to.poll_flush(cx) {
                        return Poll::Ready(Err(PumpError::Sink(e)));
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    fn poll_pull<C: Conn>(&mut self, cx: &mut Context<'_>, to: &mut C) -> Poll<Result<(), PumpError>> {
        let Body::Streaming(source) = &mut self.body else {
            self.state = self.after_last();
            return Poll::Ready(Ok(()));
        };
        if !self.chunked {
            let to: &mut dyn Any = to;
            match ready!(source.poll_relay(cx, to)).map_err(PumpError::Source)? {
                Relay::Moved(n) => {
                    self.sent += n;
                    return Poll::Ready(Ok(()));
                }
                Relay::Done => {
                    self.state = State::Flush;
                    return Poll::Ready(Ok(()));
                }
                Relay::Unsupported => {}
            }
        }
        self.state = match ready!(source.poll_chunk(cx)).map_err(PumpError::Source)? {
            Some(Chunk::Data(bytes)) => State::Push(bytes),
            Some(Chunk::Trailers(trailers)) if self.chunked => State::Last(Some(trailers)),
            Some(Chunk::Trailers(_)) => State::Flush,
            None => self.after_last(),
        };
        Poll::Ready(Ok(()))
    }

    fn poll_push<C: Conn>(&mut self, cx: &mut Context<'_>, to: &mut C) -> Poll<Result<(), PumpError>> {
        let State::Push(bytes) = &mut self.state else { return Poll::Ready(Ok(())) };
        let frame = if self.chunked { CHUNK_PREFIX_BYTES_MAX + CHUNK_END.len() } else { 0 };
        let n = bytes.len().min(ROOM_BYTES_MAX - frame);
        let (piece, size) = (&bytes[..n], NonZeroUsize::new(n).filter(|_| self.chunked));
        let write = |mut room: &mut [u8]| {
            let all = room.len();
            if let Some(size) = size {
                put_chunk_prefix(size, &mut room);
            }
            room.put_slice(piece);
            if size.is_some() {
                room.put_slice(CHUNK_END);
            }
            (all - room.len(), ())
        };
        ready!(to.poll_write_with(cx, n + frame, write)).map_err(PumpError::Sink)?;
        bytes.advance(n);
        self.sent += n as u64;
        if bytes.is_empty() {
            self.state = match self.body {
                Body::Streaming(_) => State::Pull,
                _ => self.after_last(),
            };
        }
        Poll::Ready(Ok(()))
    }

    fn poll_last<C: Conn>(&mut self, cx: &mut Context<'_>, to: &mut C) -> Poll<Result<(), PumpError>> {
        let State::Last(trailers) = &self.state else { return Poll::Ready(Ok(())) };
        let wish = trailers.as_ref().map_or(LAST_CHUNK.len(), trailers_len);
        if wish > ROOM_BYTES_MAX {
            // Trailers that long would have to be written in parts; an honest end without them is better than a broken one.
            self.state = State::Last(None);
            return Poll::Ready(Ok(()));
        }
        let write = |mut room: &mut [u8]| {
            let all = room.len();
            match trailers {
                // The room is as long as asked for: what can't be written then is left out.
                Some(trailers) if put_trailers(trailers, &mut room).is_ok() => {}
                _ => room.put_slice(LAST_CHUNK),
            }
            (all - room.len(), ())
        };
        ready!(to.poll_write_with(cx, wish.max(LAST_CHUNK.len()), write)).map_err(PumpError::Sink)?;
        self.state = State::Flush;
        Poll::Ready(Ok(()))
    }

    fn after_last(&self) -> State {
        if self.chunked { State::Last(None) } else { State::Flush }
    }
}
