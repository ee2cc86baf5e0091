//! An answer's body on its way through a compressor.
//!
//! **Invariant:** holds one piece of its source and what came of it; a source that pauses leaves nothing behind in the compressor; and
//! after so many pieces the worker's other tasks get their turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;

use super::encoder::{Broken, Encoder, PIECE_BYTES_MAX};
use crate::filter::Tally;
use crate::message::{BodyError, BodyLength, BodySource, Chunk, HttpHead};

/// A body that is compressed while it streams.
pub(super) struct Compressed {
    input: Input,
    /// None: the stream has ended.
    encoder: Option<Encoder>,
    /// Whether the compressor may hold something back.
    held: bool,
    /// Pieces in this turn.
    pieces: u32,
    trailers: Option<HttpHead>,
    counts: Counts,
    _slot: Slot,
}

/// Where the plain bytes come from.
struct Input {
    /// None: there is no more.
    source: Option<Box<dyn BodySource>>,
    /// What has been pulled and not been compressed yet.
    pulled: Bytes,
}

/// What compressing brought.
#[derive(Clone)]
pub(super) struct Counts {
    /// Bytes that went in.
    pub(super) bytes_in: Arc<Tally>,
    /// Bytes that came out.
    pub(super) bytes_out: Arc<Tally>,
}

/// Streams that are being compressed, of all workers together.
#[derive(Debug, Default)]
pub(super) struct Slots(AtomicUsize);

/// One of them.
pub(super) struct Slot(Arc<Slots>);

impl Slots {
    /// Takes one of `max`. None: all are taken.
    pub(super) fn take(self: &Arc<Self>, max: usize) -> Option<Slot> {
        let free = |taken: usize| (taken < max).then_some(taken + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok()?;
        Some(Slot(Arc::clone(self)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Compressed {
    /// The bytes in hand and then those of `source`.
    pub(super) fn new(
        in_hand: Bytes,
        source: Option<Box<dyn BodySource>>,
        encoder: Encoder,
        counts: Counts,
        slot: Slot,
    ) -> Self {
        let input = Input { source, pulled: in_hand };
        Self { input, encoder: Some(encoder), held: false, pieces: 0, trailers: None, counts, _slot: slot }
    }

    fn poll_out(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<(), BodyError>> {
        while let Some(encoder) = &mut self.encoder {
            match self.input.poll_piece(cx, &mut self.trailers) {
                Poll::Ready(Ok(Some(piece))) => {
                    self.counts.bytes_in.add(piece.len() as u64);
                    encoder.write(&piece, out).map_err(broken)?;
                    self.held = true;
                    self.pieces += 1;
                }
                Poll::Ready(Ok(None)) => {
                    if let Some(encoder) = self.encoder.take() {
                        encoder.finish(out).map_err(broken)?;
                    }
                }
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => {
                    self.pieces = 0;
                    if !self.held {
                        return Poll::Pending;
                    }
                    encoder.flush(out).map_err(broken)?;
                    self.held = false;
                }
            }
            if !out.is_empty() {
                break;
            }
            if self.pieces >= PIECES_PER_TURN_MAX {
                self.pieces = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl BodySource for Compressed {
    fn length(&self) -> BodyLength {
        BodyLength::Chunked
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, BodyError>> {
        // A receiver that takes everything must not keep this task running.
        if self.pieces >= PIECES_PER_TURN_MAX {
            self.pieces = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut out = Vec::new();
        match self.poll_out(cx, &mut out) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
            Poll::Ready(Ok(())) => {}
        }
        if out.is_empty() {
            return Poll::Ready(Ok(self.trailers.take().map(Chunk::Trailers)));
        }
        self.counts.bytes_out.add(out.len() as u64);
        Poll::Ready(Ok(Some(Chunk::Data(Bytes::from(out)))))
    }

    fn poll_beside(&mut self, cx: &mut Context<'_>) {
        if let Some(source) = &mut self.input.source {
            source.poll_beside(cx);
        }
    }
}

impl Input {
    /// The next piece to be compressed, or None behind the last.
    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        trailers: &mut Option<HttpHead>,
    ) -> Poll<Result<Option<Bytes>, BodyError>> {
        while self.pulled.is_empty() {
            let Some(source) = &mut self.source else { return Poll::Ready(Ok(None)) };
            match source.poll_chunk(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Ready(Ok(Some(Chunk::Data(bytes)))) => self.pulled = bytes,
                Poll::Ready(Ok(end)) => {
                    self.source = None;
                    if let Some(Chunk::Trailers(found)) = end {
                        *trailers = Some(found);
                    }
                }
            }
        }
        let piece = self.pulled.split_to(self.pulled.len().min(PIECE_BYTES_MAX));
        Poll::Ready(Ok(Some(piece)))
    }
}

/// The receiver learns from the cut that the answer is not whole.
fn broken(_: Broken) -> BodyError {
    BodyError::Truncated
}

/// Pieces that one stream compresses before the worker's other tasks get their turn: a millisecond or two.
const PIECES_PER_TURN_MAX: u32 = 4;
