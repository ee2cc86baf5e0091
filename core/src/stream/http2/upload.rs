//! The body of a request on its way to an origin.
//!
//! **Invariant:** takes from the body only what the stream has room for; a body that breaks off is never ended as if it were whole.

use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};

use super::SharedMux;
use super::send::Sent;
use crate::message::{Body, BodyError, Chunk, HttpHead};

/// A body that is being sent.
pub(super) struct Upload {
    body: Body,
    step: Step,
    /// Bytes that have been handed to the machine.
    sent: u64,
}

enum Step {
    /// The next piece has to be pulled.
    Pull,
    /// A piece waits for room; whether it is the last.
    Push(Bytes, bool),
    Trailers(HttpHead),
    /// Everything was sent but the word that it was.
    End,
}

impl Upload {
    /// None: the head has said that nothing follows.
    pub(super) fn new(body: Body) -> Option<Self> {
        let (body, step) = match body {
            Body::Empty => return None,
            Body::Full(bytes) if bytes.is_empty() => return None,
            Body::Full(bytes) => (Body::Empty, Step::Push(bytes, true)),
            streaming @ Body::Streaming(_) => (streaming, Step::Pull),
        };
        Some(Self { body, step, sent: 0 })
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends what can be sent. Ready when all of it was, or the origin wants no more.
    ///
    /// # Errors
    /// When the body broke off.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, mux: &SharedMux, id: u32) -> Poll<Result<(), BodyError>> {
        loop {
            match &mut self.step {
                Step::Pull => {
                    let Body::Streaming(source) = &mut self.body else { return Poll::Ready(Ok(())) };
                    source.poll_beside(cx);
                    self.step = match ready!(source.poll_chunk(cx))? {
                        Some(Chunk::Data(bytes)) => Step::Push(bytes, false),
                        Some(Chunk::Trailers(trailers)) => Step::Trailers(trailers),
                        None => Step::End,
                    };
                }
                Step::Push(bytes, last) => match mux.borrow_mut().send_data(id, bytes, *last) {
                    Sent::Wait => return Poll::Pending,
                    Sent::Gone => return Poll::Ready(Ok(())),
                    Sent::Bytes(sent) => {
                        bytes.advance(sent);
                        self.sent += sent as u64;
                        if bytes.is_empty() {
                            if *last {
                                return Poll::Ready(Ok(()));
                            }
                            self.step = Step::Pull;
                        }
                    }
                },
                Step::Trailers(trailers) => {
                    let mut mux = mux.borrow_mut();
                    if !mux.has_room(id) {
                        return Poll::Pending;
                    }
                    // Gone: the origin wants no more.
                    let _ = mux.send_trailers(id, trailers);
                    return Poll::Ready(Ok(()));
                }
                Step::End => match mux.borrow_mut().send_data(id, &[], true) {
                    Sent::Wait => return Poll::Pending,
                    Sent::Gone | Sent::Bytes(_) => return Poll::Ready(Ok(())),
                },
            }
        }
    }
}
