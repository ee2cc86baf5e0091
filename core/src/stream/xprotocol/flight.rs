//! A request on its way over an RPC connection, and the answer that comes back. Runs in the task of the request.
//!
//! **Invariant:** a request leaves whole or not at all.

use std::future::poll_fn;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::client::{RpcLease, Slot, State};
use super::reply::whole;
use crate::codec::http1::EncodeError;
use crate::codec::xprotocol::RpcFrame;
use crate::message::{Body, Head, Request, Response, RpcHead, RpcKind};
use crate::stream::client::{Answer, SendError, SendOptions};

/// A request on its way and the answer that comes back.
pub struct Flight {
    lease: RpcLease,
}

impl RpcLease {
    /// Puts the frame of `request` on the way. A body that is in hand is copied, and stays there for another try; one that streams is taken.
    ///
    /// # Errors
    /// When the connection goes, takes nothing in time, or the request can't be expressed.
    pub async fn send(mut self, request: &mut Request, options: SendOptions) -> Result<Flight, SendError> {
        let Request { head: Head::Rpc(head), body } = request else {
            return Err(SendError::Unwritable(EncodeError::Foreign));
        };
        let gathered;
        let content: &[u8] = match body {
            Body::Empty => &[],
            Body::Full(bytes) => bytes,
            Body::Streaming(_) => {
                // On the heap: hardly any comes so, and all would carry the room for it.
                let whole = Box::pin(whole(std::mem::take(body), self.conn.limits.rpc_frame_bytes_max));
                gathered = whole.await.map_err(SendError::RequestBody)?;
                &gathered
            }
        };
        let Self { conn, timer, .. } = &mut self;
        timer.set(options.timeout.unwrap_or(conn.limits.body_idle_timeout));
        let room = poll_fn(|cx| {
            if conn.state.get() == State::Lost {
                return Poll::Ready(Err(SendError::Refused));
            }
            match conn.out.borrow_mut().poll_room(cx) {
                Poll::Ready(()) => Poll::Ready(Ok(())),
                Poll::Pending => timer.poll_expired(cx).map(|()| Err(SendError::Timeout)),
            }
        });
        room.await?;
        self.put(head, content)?;
        match options.timeout {
            Some(timeout) => self.timer.set(timeout),
            None => self.timer.clear(),
        }
        Ok(Flight { lease: self })
    }

    fn put(&mut self, head: &RpcHead, content: &[u8]) -> Result<(), SendError> {
        let number = self.conn.ids.borrow_mut().draw();
        {
            let mut out = self.conn.out.borrow_mut();
            self.conn.codec.encode(head, number, content, out.end()).map_err(SendError::Unframed)?;
            out.wake();
        }
        if head.kind == RpcKind::Request {
            self.wait_under(number);
        }
        Ok(())
    }
}

impl Flight {
    /// Waits for its answer until this time at most.
    pub(crate) fn end_by(&mut self, at: Instant) {
        self.lease.timer.end_by(at);
    }

    /// The answer; nothing for a request that has none.
    ///
    /// # Errors
    /// When there is none in time, or the connection is lost.
    pub async fn answer(&mut self) -> Result<Answer, SendError> {
        poll_fn(|cx| self.poll_answer(cx)).await
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer, SendError>> {
        let Some(number) = self.lease.number else { return Poll::Ready(Ok(Answer::None)) };
        let conn = &self.lease.conn;
        match conn.ids.borrow_mut().get_mut(number) {
            Some(slot @ Slot::Answered(_)) => {
                if let Slot::Answered(RpcFrame { head, content }) = std::mem::replace(slot, Slot::Taken) {
                    let body = if content.is_empty() { Body::Empty } else { Body::Full(content) };
                    return Poll::Ready(Ok(Answer::Response(Response { head: Head::Rpc(head), body })));
                }
            }
            Some(Slot::Waiting(_)) if conn.state.get() == State::Lost => {
                return Poll::Ready(Err(SendError::Closed { reused: conn.exchanges() > 1 }));
            }
            Some(Slot::Waiting(Some(waker))) => waker.clone_from(cx.waker()),
            Some(Slot::Waiting(none)) => *none = Some(cx.waker().clone()),
            Some(Slot::Taken) | None => return Poll::Ready(Err(SendError::Unexpected)),
        }
        self.lease.timer.poll_expired(cx).map(|()| Err(SendError::Timeout))
    }
}
