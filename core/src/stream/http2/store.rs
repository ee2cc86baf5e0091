//! The streams of a connection, and what is remembered of those that were.
//!
//! **Invariant:** the streams that are kept are those with an exchange at work, bounded by what the peer was told; of the closed ones a
//! fixed number is remembered.

use std::collections::{HashMap, VecDeque};
use std::task::Waker;

use bytes::BytesMut;
use foldhash::fast::RandomState;
use tokio::time::Instant;

use super::flow::{RecvWindow, SendWindow};
use super::state::{Cause, State};
use crate::codec::http2::{ErrorCode, HeadError};
use crate::message::{BodyError, HttpHead};

/// A stream with an exchange at work.
pub(super) struct Stream {
    pub(super) state: State,
    pub(super) send: SendWindow,
    pub(super) recv: RecvWindow,
    /// Data that has come and was not taken.
    pub(super) inbox: BytesMut,
    pub(super) trailers: Option<HttpHead>,
    /// What content-length says is still to come.
    pub(super) left: Option<u64>,
    /// Data bytes that have come.
    pub(super) received: u64,
    /// When the last of it had, where that was not with the head.
    pub(super) ended: Option<Instant>,
    /// Why the rest of the body will not come, or is not wanted.
    pub(super) broken: Option<BodyError>,
    /// What comes is thrown away.
    pub(super) discards: bool,
    /// What comes is a tunnel's, not a message's.
    pub(super) is_tunnel: bool,
    /// What the origin has answered, where we are the client.
    pub(super) answer: Answered,
    /// Why no more of that will come.
    pub(super) failure: Option<Failure>,
    /// Whether it is in the queue for room.
    pub(super) queued: bool,
    /// The task of the exchange.
    pub(super) task: Option<Waker>,
}

/// What has come of an origin's answer.
#[derive(Default)]
pub(super) struct Answered {
    /// Interim heads that were not taken yet, the first one first.
    pub(super) interims: VecDeque<HttpHead>,
    /// How many there were.
    pub(super) interims_seen: u32,
    /// The head of the answer, until it is taken.
    pub(super) head: Option<HttpHead>,
    /// It has come.
    pub(super) has_head: bool,
    /// It answers HEAD.
    pub(super) to_head: bool,
    /// It answers CONNECT: 2xx makes the stream a tunnel.
    pub(super) to_connect: bool,
}

/// Why an origin's answer will not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The origin has not looked at the request and never will (RFC 9113, 8.7).
    Refused,
    /// The origin has reset the stream.
    Reset(ErrorCode),
    /// We have, because the origin broke the protocol on it.
    Broken(ErrorCode),
    /// Its head is none, or breaks a limit.
    Head(HeadError),
    /// There were more interim ones than there may be.
    Interims,
    /// The connection is gone.
    Lost,
}

/// The streams of one connection.
#[derive(Default)]
pub(super) struct Store {
    open: HashMap<u32, Stream, RandomState>,
    closed: VecDeque<(u32, Cause)>,
}

impl Stream {
    pub(super) fn new(state: State, send: SendWindow, recv: RecvWindow) -> Self {
        Self {
            state,
            send,
            recv,
            inbox: BytesMut::new(),
            trailers: None,
            left: None,
            received: 0,
            ended: None,
            broken: None,
            discards: false,
            is_tunnel: false,
            answer: Answered::default(),
            failure: None,
            queued: false,
            task: None,
        }
    }

    /// Wakes its exchange.
    pub(super) fn wake(&self) {
        if let Some(task) = &self.task {
            task.wake_by_ref();
        }
    }

    /// Nothing more comes or goes; what has come whole can still be taken.
    pub(super) fn give_up(&mut self, cause: Cause, failure: Failure) {
        if self.state.is_receiving() {
            self.broken.get_or_insert(BodyError::Truncated);
        }
        self.state = State::Closed(cause);
        self.failure.get_or_insert(failure);
        self.wake();
    }

    /// Whether the peer has given it up, or is gone.
    pub(super) fn is_gone(&self) -> bool {
        self.state == State::Closed(Cause::PeerReset)
    }
}

impl Store {
    pub(super) fn insert(&mut self, id: u32, stream: Stream) {
        self.open.insert(id, stream);
    }

    pub(super) fn get(&self, id: u32) -> Option<&Stream> {
        self.open.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Stream> {
        self.open.get_mut(&id)
    }

    /// Forgets a stream whose exchange is over, but for why it is closed.
    pub(super) fn remove(&mut self, id: u32) -> Option<Stream> {
        let stream = self.open.remove(&id)?;
        if let State::Closed(cause) = stream.state {
            self.note_closed(id, cause);
        }
        Some(stream)
    }

    /// Remembers why a stream is closed.
    pub(super) fn note_closed(&mut self, id: u32, cause: Cause) {
        if self.closed.len() == CLOSED_STREAMS_MAX {
            self.closed.pop_front();
        }
        self.closed.push_back((id, cause));
    }

    /// Why a stream is closed that is not open; None when that is forgotten.
    pub(super) fn cause(&self, id: u32) -> Option<Cause> {
        self.closed.iter().rev().find(|(closed, _)| *closed == id).map(|(_, cause)| *cause)
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Stream)> {
        self.open.iter_mut().map(|(id, stream)| (*id, stream))
    }

    /// Bytes that it holds, what came on the streams aside.
    pub(super) fn held_bytes(&self) -> usize {
        self.open.capacity() * size_of::<(u32, Stream)>() + self.closed.capacity() * size_of::<(u32, Cause)>()
    }
}

/// Closed streams that are remembered: frames that were on their way when a stream was closed name one of the last.
const CLOSED_STREAMS_MAX: usize = 128;
