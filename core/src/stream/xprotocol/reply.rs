//! Writes a service's answer as the frame that its client waits for.
//!
//! **Invariant:** a request that waits gets one frame, a request that does not wait gets none.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, ready};

use bytes::Bytes;

use super::exchange::Side;
use crate::message::{
    Body, BodyError, BodySource, Chunk, Exchange, Head, HttpHead, Response, ResponseFlags, RpcHead, RpcKind,
};
use crate::stream::timer::Timer;
use crate::stream::{ReplyError, ReplyTo, Tunnel};

/// The answer to one request.
pub(super) struct RpcReply {
    conn: Rc<Side>,
    id: u64,
    /// None is written any more, or ever.
    done: bool,
}

impl RpcReply {
    pub(super) fn new(conn: Rc<Side>, to: &RpcHead) -> Self {
        Self { conn, id: to.id, done: to.kind != RpcKind::Request }
    }

    /// Tells a client whose request was given up that there is no answer.
    pub(super) fn finish(&mut self, x: &Exchange) {
        if !std::mem::replace(&mut self.done, true) {
            self.put_own(x, 500);
        }
    }

    /// Writes an answer of the gateway's own.
    fn put_own(&self, x: &Exchange, status: u16) {
        if let Some(to) = x.request.head.rpc() {
            // MOSN tells a cluster without a host from one that is full.
            let status = if x.flags.has(ResponseFlags::NO_HEALTHY_UPSTREAM) { 502 } else { status };
            let mut out = self.conn.out.borrow_mut();
            self.conn.codec.reply(to, status, out.end());
            out.wake();
        }
    }

    async fn room(&self) -> Result<(), ReplyError> {
        let mut timer = Timer::new();
        timer.set(self.conn.limits.body_idle_timeout);
        poll_fn(|cx| match self.conn.out.borrow_mut().poll_room(cx) {
            Poll::Ready(()) => Poll::Ready(Ok(())),
            Poll::Pending => timer.poll_expired(cx).map(|()| Err(ReplyError::Stalled)),
        })
        .await
    }
}

impl ReplyTo for RpcReply {
    /// There are none.
    async fn informational(&mut self, _: HttpHead) -> Result<(), ReplyError> {
        Ok(())
    }

    async fn response(&mut self, x: &mut Exchange, response: Response) -> Result<(), ReplyError> {
        let Response { head, body } = response;
        x.status = head.fields().map_or(0, HttpHead::status);
        if self.done {
            return Ok(());
        }
        let content = whole(body, self.conn.limits.rpc_frame_bytes_max).await.map_err(ReplyError::Source)?;
        self.room().await?;
        self.done = true;
        let written = match &head {
            Head::Http(_) => {
                self.put_own(x, x.status);
                return Ok(());
            }
            Head::Rpc(head) => {
                let mut out = self.conn.out.borrow_mut();
                let written = self.conn.codec.encode(head, self.id, &content, out.end());
                out.wake();
                written
            }
        };
        match written {
            Ok(()) => {
                x.bytes_sent += content.len() as u64;
                Ok(())
            }
            Err(error) => {
                tracing::debug!(%error, "an answer can't be written: its client is told so");
                self.put_own(x, 500);
                Err(ReplyError::Misuse)
            }
        }
    }

    /// No frame becomes a tunnel.
    async fn upgrade(&mut self, _: &mut Exchange, _: Response, _: Tunnel) -> Result<(), ReplyError> {
        Err(ReplyError::Misuse)
    }
}

/// All of a body: a frame says how long it is before it begins.
pub(super) async fn whole(body: Body, bytes_max: usize) -> Result<Bytes, BodyError> {
    match body {
        Body::Empty => Ok(Bytes::new()),
        Body::Full(bytes) => Ok(bytes),
        Body::Streaming(source) => gather(source, bytes_max).await,
    }
}

async fn gather(mut source: Box<dyn BodySource>, bytes_max: usize) -> Result<Bytes, BodyError> {
    let mut all = Vec::new();
    poll_fn(|cx| {
        loop {
            source.poll_beside(cx);
            match ready!(source.poll_chunk(cx))? {
                Some(Chunk::Data(bytes)) if all.len() + bytes.len() > bytes_max => {
                    return Poll::Ready(Err(BodyError::TooLarge));
                }
                Some(Chunk::Data(bytes)) => all.extend_from_slice(&bytes),
                Some(Chunk::Trailers(_)) => {}
                None => return Poll::Ready(Ok(())),
            }
        }
    })
    .await?;
    Ok(all.into())
}
