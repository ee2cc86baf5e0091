//! Writes a service's answer to the client it belongs to.
//!
//! **Invariant:** exactly one answer leaves per request; when it can't be completed the connection is cut, so that no client takes half an
//! answer for a whole one.

use std::future::poll_fn;
use std::task::{Context, Poll};

use super::pump::{Pump, PumpError, Put};
use super::server::SharedIo;
use super::{ConnState, ReplyError, ReplyTo, Tunnel, Wish};
use crate::codec::http1::{ConnectionField, ConnectionOptions, ResponseEncoder};
use crate::message::{BodyLength, Exchange, Head, HttpHead, Method, Response, Version};
use crate::net::Conn;

/// The answer to one request on an HTTP/1 connection.
pub(super) struct Http1Reply<'a, C: Conn> {
    io: SharedIo<C>,
    state: Option<&'a ConnState>,
    asked: Asked,
    outcome: Outcome,
}

/// What of the request decides how its answer is written.
#[derive(Clone, Copy)]
struct Asked {
    method: Method,
    version: Version,
    keep_alive: bool,
    expects_continue: bool,
}

impl Asked {
    /// How a body of length `body` is delimited for this client (RFC 9112, 6.3).
    fn length(self, status: u16, body: BodyLength) -> BodyLength {
        let bodiless = status < 200 || matches!(status, 204 | 304);
        match (body, self.version) {
            _ if bodiless => BodyLength::None,
            (BodyLength::Chunked, Version::Http10) => BodyLength::UntilClose,
            // Chunks tell an HTTP/1.1 client a whole body from a broken one, and let its connection live.
            (BodyLength::UntilClose, Version::Http11 | Version::Http2) => BodyLength::Chunked,
            (length, _) => length,
        }
    }
}

/// What the answer means for the connection.
pub(super) enum Outcome {
    /// Nothing was answered.
    Unanswered,
    /// Another request may follow.
    KeepAlive,
    /// The answer was whole and the connection ends.
    Close,
    /// The answer broke off.
    Broken,
    /// The connection becomes a tunnel.
    Tunnel(Tunnel),
}

impl<'a, C: Conn> Http1Reply<'a, C> {
    /// For a request whose head is `head` and says `options` of its connection.
    pub(super) fn new(io: SharedIo<C>, head: &HttpHead, options: ConnectionOptions, state: &'a ConnState) -> Self {
        let asked = Asked {
            method: head.method(),
            version: head.version(),
            // What a client sends behind a CONNECT is for the tunnel, not for us: after a refusal nothing of it may be read as a request.
            keep_alive: options.keep_alive && head.method() != Method::Connect,
            expects_continue: options.expect_continue,
        };
        Self { io, state: Some(state), asked, outcome: Outcome::Unanswered }
    }

    /// For bytes that were no request.
    pub(super) fn refusing(io: SharedIo<C>) -> Self {
        let asked =
            Asked { method: Method::Other, version: Version::Http11, keep_alive: false, expects_continue: false };
        Self { io, state: None, asked, outcome: Outcome::Unanswered }
    }

    pub(super) fn into_outcome(mut self) -> Outcome {
        std::mem::replace(&mut self.outcome, Outcome::Close)
    }

    /// Whether the connection can carry another request after this answer.
    fn keeps_alive(&self, length: BodyLength) -> bool {
        let wanted = self.asked.keep_alive && self.state.is_some_and(|s| s.wish() != Wish::Close);
        wanted && length != BodyLength::UntilClose && self.can_drain()
    }

    /// Whether what is left of the request's body is worth reading. A client that waits for 100 may never send it: then it is not.
    fn can_drain(&self) -> bool {
        let io = self.io.borrow();
        if io.decoder.is_body_done() {
            return true;
        }
        if io.body_broken {
            return false;
        }
        let small = io.decoder.body_left().is_some_and(|left| left <= io.limits.drain_bytes_max);
        small && !self.asked.expects_continue
    }

    async fn write_head(&self, encoder: &ResponseEncoder<'_>) -> Result<(), ReplyError> {
        let mut put = Put::new(encoder.head_len_max());
        self.start_clock();
        poll_fn(|cx| {
            let mut io = self.io.borrow_mut();
            match put.poll(cx, &mut io.conn, |room| encoder.encode(room)) {
                Poll::Pending => io.timer.poll_expired(cx).map(|()| Err(ReplyError::Stalled)),
                Poll::Ready(Ok(Ok(()))) => Poll::Ready(Ok(())),
                Poll::Ready(Ok(Err(_))) => Poll::Ready(Err(ReplyError::Misuse)),
                Poll::Ready(Err(e)) => Poll::Ready(Err(ReplyError::Downstream(e))),
            }
        })
        .await
    }

    async fn write_body(&self, x: &mut Exchange, pump: &mut Pump) -> Result<(), ReplyError> {
        poll_fn(|cx| {
            pump.poll_beside(cx);
            self.poll_body(cx, x, pump)
        })
        .await
    }

    fn poll_body(&self, cx: &mut Context<'_>, x: &mut Exchange, pump: &mut Pump) -> Poll<Result<(), ReplyError>> {
        let mut io = self.io.borrow_mut();
        let sent = pump.poll(cx, &mut io.conn);
        if pump.sent() != x.bytes_sent {
            x.bytes_sent = pump.sent();
            let idle = io.limits.body_idle_timeout;
            io.timer.set(idle);
        }
        match sent {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(PumpError::Source(e))) => Poll::Ready(Err(ReplyError::Source(e))),
            Poll::Ready(Err(PumpError::Sink(e))) => Poll::Ready(Err(ReplyError::Downstream(e))),
            Poll::Pending => io.timer.poll_expired(cx).map(|()| Err(ReplyError::Stalled)),
        }
    }

    async fn flush(&self) -> Result<(), ReplyError> {
        poll_fn(|cx| {
            let mut io = self.io.borrow_mut();
            match io.conn.poll_flush(cx) {
                Poll::Pending => io.timer.poll_expired(cx).map(|()| Err(ReplyError::Stalled)),
                Poll::Ready(flushed) => Poll::Ready(flushed.map_err(ReplyError::Downstream)),
            }
        })
        .await
    }

    fn start_clock(&self) {
        let mut io = self.io.borrow_mut();
        let idle = io.limits.body_idle_timeout;
        io.timer.set(idle);
    }
}

impl<C: Conn> Drop for Http1Reply<'_, C> {
    fn drop(&mut self) {
        // The task was dropped in the middle of an answer. An orderly end would pass for the answer's own.
        if matches!(self.outcome, Outcome::Broken)
            && let Ok(mut io) = self.io.try_borrow_mut()
        {
            io.conn.abort();
        }
    }
}

impl<C: Conn> ReplyTo for Http1Reply<'_, C> {
    async fn informational(&mut self, head: HttpHead) -> Result<(), ReplyError> {
        if self.asked.version == Version::Http10 {
            return Ok(());
        }
        self.write_head(&ResponseEncoder::new(&head, BodyLength::None, self.asked.method)).await?;
        self.flush().await
    }

    async fn response(&mut self, x: &mut Exchange, response: Response) -> Result<(), ReplyError> {
        if !matches!(self.outcome, Outcome::Unanswered) {
            return Err(ReplyError::Misuse);
        }
        self.outcome = Outcome::Broken;
        let Response { head: Head::Http(head), body } = response else { return Err(ReplyError::Misuse) };
        x.status = head.status();
        let length = self.asked.length(head.status(), body.length());
        let keep_alive = self.keeps_alive(length);
        let mut encoder = ResponseEncoder::new(&head, length, self.asked.method);
        encoder.connection = match (keep_alive, self.asked.version) {
            (false, _) => ConnectionField::Close,
            (true, Version::Http10) => ConnectionField::KeepAlive,
            (true, Version::Http11 | Version::Http2) => ConnectionField::Omit,
        };
        self.write_head(&encoder).await?;
        if self.asked.method == Method::Head || length == BodyLength::None {
            drop(body);
            self.flush().await?;
        } else {
            let pump = Pump::new(body, length == BodyLength::Chunked);
            let mut pump = if keep_alive { pump } else { pump.last() };
            self.write_body(x, &mut pump).await?;
        }
        self.outcome = if keep_alive { Outcome::KeepAlive } else { Outcome::Close };
        Ok(())
    }

    async fn upgrade(&mut self, x: &mut Exchange, response: Response, peer: Tunnel) -> Result<(), ReplyError> {
        if !matches!(self.outcome, Outcome::Unanswered) {
            return Err(ReplyError::Misuse);
        }
        self.outcome = Outcome::Broken;
        let Head::Http(head) = &response.head else { return Err(ReplyError::Misuse) };
        x.status = head.status();
        let mut encoder = ResponseEncoder::new(head, BodyLength::None, self.asked.method);
        if head.status() == 101 {
            encoder.connection = ConnectionField::Upgrade;
        }
        self.write_head(&encoder).await?;
        self.flush().await?;
        self.outcome = Outcome::Tunnel(peer);
        Ok(())
    }
}
