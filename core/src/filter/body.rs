//! A body on its way through filters that want to see it.
//!
//! **Invariant:** one piece at a time; what a filter makes of a piece is all that is held.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::{Direction, Filters};
use crate::message::{Body, BodyError, BodyLength, BodySource, Chunk};

/// `body` as `filters` let it pass. A filter may change its length, so that only chunks can say where it ends.
pub(super) fn filtered(filters: Rc<Filters>, direction: Direction, body: Body) -> Body {
    match body {
        Body::Empty => Body::Empty,
        Body::Full(bytes) => {
            let mut chunk = Chunk::Data(bytes);
            filters.on_data(direction, &mut chunk);
            match chunk {
                Chunk::Data(bytes) => Body::Full(bytes),
                Chunk::Trailers(_) => Body::Empty,
            }
        }
        Body::Streaming(source) => Body::Streaming(Box::new(Filtered { filters, direction, source })),
    }
}

struct Filtered {
    filters: Rc<Filters>,
    direction: Direction,
    source: Box<dyn BodySource>,
}

impl BodySource for Filtered {
    fn length(&self) -> BodyLength {
        match self.source.length() {
            BodyLength::Exact(_) => BodyLength::Chunked,
            other => other,
        }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, BodyError>> {
        loop {
            let Some(mut chunk) = ready!(self.source.poll_chunk(cx))? else { return Poll::Ready(Ok(None)) };
            self.filters.on_data(self.direction, &mut chunk);
            if !matches!(&chunk, Chunk::Data(bytes) if bytes.is_empty()) {
                return Poll::Ready(Ok(Some(chunk)));
            }
        }
    }

    fn poll_beside(&mut self, cx: &mut Context<'_>) {
        self.source.poll_beside(cx);
    }
}
