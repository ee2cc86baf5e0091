//! A request's body, kept so that it can be sent again.
//!
//! **Invariant:** never keeps more than it may: a longer body is passed on as if it were not kept, and then can't be sent twice.

use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use crate::message::{Body, BodyError, BodyLength, BodySource, Chunk, Exchange, HttpHead, Relay};

/// What is needed to send a request's body a second time.
pub(super) enum Replay {
    /// There is none.
    Empty,
    /// It is in hand.
    Full(Bytes),
    /// It is in hand, and whoever sends it leaves it where it is.
    Stays,
    /// It is kept while it streams.
    Tape(Rc<RefCell<Tape>>),
    /// It streams and is not kept: once begun it can't be sent again.
    Streams,
}

/// A body that streams, and what of it has come so far.
pub(super) struct Tape {
    source: Box<dyn BodySource>,
    length: BodyLength,
    kept: Vec<Bytes>,
    trailers: Option<HttpHead>,
    /// Bytes that may still be kept; None: it was too long, and nothing is kept any more.
    room: Option<usize>,
    ended: bool,
}

/// One way through a [`Tape`], from its start.
struct Playback {
    tape: Rc<RefCell<Tape>>,
    /// Pieces that have been taken.
    at: usize,
    trailers_taken: bool,
}

impl Replay {
    /// Takes note of the body of `x`. With `keep`, one that streams is kept up to `bytes_max`; with `stays`, one that is in hand is left there
    /// by whoever sends it, as what goes into a frame is copied, and nobody else wants it.
    pub(super) fn of(x: &mut Exchange, (keep, stays): (bool, bool), bytes_max: usize) -> Self {
        if stays && matches!(x.request.body, Body::Full(_)) {
            return Self::Stays;
        }
        match std::mem::take(&mut x.request.body) {
            Body::Empty => Self::Empty,
            Body::Full(bytes) => {
                x.request.body = Body::Full(bytes.clone());
                Self::Full(bytes)
            }
            Body::Streaming(source) => {
                let length = source.length();
                let too_long = matches!(length, BodyLength::Exact(n) if n > bytes_max as u64);
                if !keep || too_long {
                    x.request.body = Body::Streaming(source);
                    return Self::Streams;
                }
                let (kept, trailers, room) = (Vec::new(), None, Some(bytes_max));
                let tape = Rc::new(RefCell::new(Tape { source, length, kept, trailers, room, ended: false }));
                x.request.body = play(&tape);
                Self::Tape(tape)
            }
        }
    }

    /// Whether the body can be sent again, although it may have begun to leave.
    pub(super) fn is_whole(&self) -> bool {
        match self {
            Self::Empty | Self::Full(_) | Self::Stays => true,
            Self::Tape(tape) => tape.borrow().room.is_some(),
            Self::Streams => false,
        }
    }

    /// Whether some of it is still to come, and all of it is kept so far.
    pub(super) fn is_coming(&self) -> bool {
        match self {
            Self::Empty | Self::Full(_) | Self::Stays | Self::Streams => false,
            Self::Tape(tape) => {
                let tape = tape.borrow();
                !tape.ended && tape.room.is_some()
            }
        }
    }

    /// Puts the body back to its start, if it has begun to leave.
    pub(super) fn restore(&self, x: &mut Exchange) {
        match self {
            Self::Empty | Self::Stays | Self::Streams => {}
            Self::Full(bytes) => x.request.body = Body::Full(bytes.clone()),
            Self::Tape(tape) => x.request.body = play(tape),
        }
    }

    /// The whole body, if all of it has come and was kept. For a copy that goes elsewhere; without its trailers.
    pub(super) fn copy(&self) -> Option<Body> {
        match self {
            Self::Empty => Some(Body::Empty),
            Self::Full(bytes) => Some(Body::Full(bytes.clone())),
            Self::Tape(tape) => {
                let tape = tape.borrow();
                (tape.ended && tape.room.is_some()).then(|| Body::Full(tape.kept.concat().into()))
            }
            Self::Stays | Self::Streams => None,
        }
    }
}

fn play(tape: &Rc<RefCell<Tape>>) -> Body {
    Body::Streaming(Box::new(Playback { tape: Rc::clone(tape), at: 0, trailers_taken: false }))
}

impl Tape {
    fn keep(&mut self, bytes: &Bytes) {
        self.room = self.room.and_then(|room| room.checked_sub(bytes.len()));
        if self.room.is_some() {
            self.kept.push(bytes.clone());
        } else {
            self.kept = Vec::new();
        }
    }
}

impl BodySource for Playback {
    fn length(&self) -> BodyLength {
        self.tape.borrow().length
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, BodyError>> {
        let tape = &mut *self.tape.borrow_mut();
        if tape.room.is_some()
            && let Some(bytes) = tape.kept.get(self.at)
        {
            self.at += 1;
            return Poll::Ready(Ok(Some(Chunk::Data(bytes.clone()))));
        }
        if tape.ended {
            let trailers = tape.trailers.clone().filter(|_| !self.trailers_taken);
            self.trailers_taken = true;
            return Poll::Ready(Ok(trailers.map(Chunk::Trailers)));
        }
        let chunk = ready!(tape.source.poll_chunk(cx))?;
        match &chunk {
            Some(Chunk::Data(bytes)) => {
                tape.keep(bytes);
                self.at += 1;
            }
            Some(Chunk::Trailers(trailers)) => {
                tape.trailers = Some(trailers.clone());
                (tape.ended, self.trailers_taken) = (true, true);
            }
            None => tape.ended = true,
        }
        Poll::Ready(Ok(chunk))
    }

    fn poll_beside(&mut self, cx: &mut Context<'_>) {
        self.tape.borrow_mut().source.poll_beside(cx);
    }

    fn poll_relay(&mut self, cx: &mut Context<'_>, to: &mut dyn Any) -> Poll<Result<Relay, BodyError>> {
        let tape = &mut *self.tape.borrow_mut();
        if tape.room.is_some() || tape.ended {
            return Poll::Ready(Ok(Relay::Unsupported));
        }
        let moved = ready!(tape.source.poll_relay(cx, to))?;
        tape.ended |= moved == Relay::Done;
        Poll::Ready(Ok(moved))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use super::*;
    use crate::config::Address;
    use crate::message::{Downstream, Head, Request};

    /// A body that comes in these pieces; an empty one is a moment without any.
    struct Pieces(VecDeque<Option<Chunk>>);

    impl BodySource for Pieces {
        fn length(&self) -> BodyLength {
            BodyLength::Chunked
        }

        fn poll_chunk(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, BodyError>> {
            match self.0.pop_front() {
                None => Poll::Ready(Ok(None)),
                Some(None) => Poll::Pending,
                Some(Some(chunk)) => Poll::Ready(Ok(Some(chunk))),
            }
        }
    }

    fn exchange(pieces: &[&'static str], trailer: bool) -> Exchange {
        let piece = |text: &&'static str| (!text.is_empty()).then(|| Chunk::Data(Bytes::from_static(text.as_bytes())));
        let mut pieces: VecDeque<_> = pieces.iter().map(piece).collect();
        if trailer {
            let mut head = HttpHead::empty();
            assert!(head.append("x-end", b"1"));
            pieces.push_back(Some(Chunk::Trailers(head)));
        }
        let address = || "192.0.2.7:4000".parse::<Address>().unwrap();
        let downstream = Downstream::new(1, address(), address(), false);
        let body = Body::Streaming(Box::new(Pieces(pieces)));
        Exchange::new(Request { head: Head::Http(HttpHead::request("PUT", b"/")), body }, Rc::new(downstream))
    }

    /// What can be had of the body now, and whether it was all.
    fn pull(x: &mut Exchange) -> (String, bool) {
        let Body::Streaming(source) = &mut x.request.body else { panic!("no body") };
        let (mut text, mut cx) = (String::new(), Context::from_waker(Waker::noop()));
        loop {
            match source.poll_chunk(&mut cx) {
                Poll::Pending => return (text, false),
                Poll::Ready(chunk) => match chunk.unwrap() {
                    Some(Chunk::Data(bytes)) => text.push_str(std::str::from_utf8(&bytes).unwrap()),
                    Some(Chunk::Trailers(head)) => text.push_str(&format!("+{}", head.field_count())),
                    None => return (text, true),
                },
            }
        }
    }

    #[test]
    fn a_body_that_had_begun_is_sent_from_its_start() {
        let mut x = exchange(&["ab", "", "cd", "", "ef"], true);
        let replay = Replay::of(&mut x, (true, false), 6);
        assert_eq!(pull(&mut x), ("ab".into(), false));
        assert!(replay.is_whole() && replay.copy().is_none());
        replay.restore(&mut x);
        assert_eq!(pull(&mut x), ("abcd".into(), false));
        assert_eq!(pull(&mut x), ("ef+1".into(), true));
        assert!(replay.is_whole());
        assert!(matches!(replay.copy(), Some(Body::Full(bytes)) if bytes == "abcdef"));
        replay.restore(&mut x);
        assert_eq!(pull(&mut x), ("abcdef+1".into(), true));
    }

    #[test]
    fn a_body_that_is_too_long_goes_through_once() {
        let mut x = exchange(&["ab", "", "cd", "ef"], true);
        let replay = Replay::of(&mut x, (true, false), 3);
        assert_eq!((pull(&mut x), replay.is_whole()), (("ab".into(), false), true));
        assert_eq!((pull(&mut x), replay.is_whole()), (("cdef+1".into(), true), false));
        assert!(replay.copy().is_none());
        let mut x = exchange(&["ab"], false);
        assert!(!Replay::of(&mut x, (false, false), 100).is_whole());
        assert_eq!(pull(&mut x), ("ab".into(), true));
    }
}
