//! Writes a service's answer to the stream that it belongs to.
//!
//! **Invariant:** exactly one answer leaves per stream; one that can't be completed ends with RST_STREAM, so that no client takes half an
//! answer for a whole one.

use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};

use super::SharedMux;
use super::send::{Sent, Unsent};
use super::tunnel::connected;
use crate::message::{Body, BodyLength, BodySource, Chunk, Exchange, Head, HttpHead, Method, Response};
use crate::stream::timer::Timer;
use crate::stream::{ReplyError, ReplyTo, Tunnel};

/// The answer to the request of one stream.
pub(super) struct Http2Reply {
    mux: SharedMux,
    stream: u32,
    method: Method,
    timer: Timer,
    answered: bool,
    /// What the stream is to become.
    tunnel: Option<Tunnel>,
}

impl Http2Reply {
    pub(super) fn new(mux: SharedMux, stream: u32, method: Method) -> Self {
        Self { mux, stream, method, timer: Timer::new(), answered: false, tunnel: None }
    }

    /// What the answer has made of the stream.
    pub(super) fn into_tunnel(self) -> Option<Tunnel> {
        self.tunnel
    }

    /// Waits for room, then writes a head.
    async fn write_head(&mut self, head: &HttpHead, length: BodyLength, end: bool) -> Result<(), ReplyError> {
        self.wait(|reply, mux| {
            if !mux.has_room(reply.stream) {
                return Poll::Pending;
            }
            Poll::Ready(mux.send_head(reply.stream, (head, length, reply.method), end).map_err(unsent))
        })
        .await
    }

    async fn write_trailers(&mut self, trailers: &HttpHead) -> Result<(), ReplyError> {
        self.wait(|reply, mux| {
            if !mux.has_room(reply.stream) {
                return Poll::Pending;
            }
            Poll::Ready(mux.send_trailers(reply.stream, trailers).map_err(unsent))
        })
        .await
    }

    /// Writes a piece of the body; with `end` the last one.
    async fn write_data(&mut self, x: &mut Exchange, bytes: &mut Bytes, end: bool) -> Result<(), ReplyError> {
        loop {
            let piece = &bytes[..];
            let sent = self.wait(|reply, mux| match mux.send_data(reply.stream, piece, end) {
                Sent::Wait => Poll::Pending,
                Sent::Gone => Poll::Ready(Err(gone())),
                Sent::Bytes(sent) => Poll::Ready(Ok(sent)),
            });
            let sent = sent.await?;
            bytes.advance(sent);
            x.bytes_sent += sent as u64;
            if bytes.is_empty() {
                return Ok(());
            }
        }
    }

    /// Tries until it is done, the stream has gone, or the client has let nothing through for `body_idle_timeout`.
    async fn wait<T>(
        &mut self,
        mut step: impl FnMut(&Self, &mut super::mux::Mux) -> Poll<Result<T, ReplyError>>,
    ) -> Result<T, ReplyError> {
        let mut timed = false;
        poll_fn(|cx| {
            let mut mux = self.mux.borrow_mut();
            if let Poll::Ready(done) = step(self, &mut mux) {
                return Poll::Ready(done);
            }
            let idle = mux.limits.body_idle_timeout;
            drop(mux);
            if !std::mem::replace(&mut timed, true) {
                self.timer.set(idle);
            }
            self.timer.poll_expired(cx).map(|()| Err(ReplyError::Stalled))
        })
        .await
    }

    async fn write_stream(&mut self, x: &mut Exchange, mut source: Box<dyn BodySource>) -> Result<(), ReplyError> {
        let mut left = match source.length() {
            BodyLength::Exact(left) => Some(left),
            _ => None,
        };
        loop {
            let chunk = poll_fn(|cx| {
                source.poll_beside(cx);
                source.poll_chunk(cx)
            });
            match chunk.await.map_err(ReplyError::Source)? {
                Some(Chunk::Data(mut bytes)) => {
                    left = left.map(|left| left.saturating_sub(bytes.len() as u64));
                    // What ends it is mostly there by now: then it needs no frame of its own.
                    let after = if left == Some(0) { look(&mut *source).await } else { After::Unknown };
                    self.write_data(x, &mut bytes, matches!(after, After::End)).await?;
                    match after {
                        After::Unknown => {}
                        After::End => return Ok(()),
                        After::Trailers(trailers) => return self.write_trailers(&trailers).await,
                    }
                }
                Some(Chunk::Trailers(trailers)) => return self.write_trailers(&trailers).await,
                None => return self.write_data(x, &mut Bytes::new(), true).await,
            }
        }
    }
}

impl ReplyTo for Http2Reply {
    async fn informational(&mut self, head: HttpHead) -> Result<(), ReplyError> {
        if head.status() == 101 {
            return Ok(());
        }
        self.write_head(&head, BodyLength::None, false).await
    }

    async fn response(&mut self, x: &mut Exchange, response: Response) -> Result<(), ReplyError> {
        if std::mem::replace(&mut self.answered, true) {
            return Err(ReplyError::Misuse);
        }
        let Response { head: Head::Http(head), body } = response else { return Err(ReplyError::Misuse) };
        x.status = head.status();
        let bodiless = matches!(head.status(), 100..200 | 204 | 304);
        let length = if bodiless { BodyLength::None } else { body.length() };
        let end = matches!(length, BodyLength::None | BodyLength::Exact(0)) || self.method == Method::Head;
        self.write_head(&head, length, end).await?;
        match body {
            _ if end => Ok(()),
            Body::Empty => Ok(()),
            Body::Full(mut bytes) => self.write_data(x, &mut bytes, true).await,
            Body::Streaming(source) => self.write_stream(x, source).await,
        }
    }

    async fn upgrade(&mut self, x: &mut Exchange, response: Response, peer: Tunnel) -> Result<(), ReplyError> {
        if std::mem::replace(&mut self.answered, true) {
            return Err(ReplyError::Misuse);
        }
        let Response { head: Head::Http(mut head), .. } = response else { return Err(ReplyError::Misuse) };
        if head.status() == 101 {
            head = connected(&head);
        }
        x.status = head.status();
        // Its length is that of the tunnel, which nobody knows.
        self.write_head(&head, BodyLength::Chunked, false).await?;
        self.tunnel = Some(peer);
        Ok(())
    }
}

/// What comes behind the last byte of a body whose length is known.
enum After {
    Unknown,
    End,
    Trailers(HttpHead),
}

/// Pulls a body's end if it is there, so that what it came on is free for what comes next.
async fn look(source: &mut dyn BodySource) -> After {
    poll_fn(|cx: &mut Context<'_>| {
        source.poll_beside(cx);
        Poll::Ready(match source.poll_chunk(cx) {
            Poll::Ready(Ok(Some(Chunk::Trailers(trailers)))) => After::Trailers(trailers),
            Poll::Pending => After::Unknown,
            // The answer is whole, whatever this says.
            Poll::Ready(_) => After::End,
        })
    })
    .await
}

fn unsent(unsent: Unsent) -> ReplyError {
    match unsent {
        Unsent::Gone => gone(),
        Unsent::Unwritable(_) => ReplyError::Misuse,
    }
}

fn gone() -> ReplyError {
    ReplyError::Downstream(std::io::ErrorKind::ConnectionReset.into())
}
