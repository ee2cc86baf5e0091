//! The client's side of the machine: opens streams, and takes an origin's answers.
//!
//! ```text
//!   reserve --> open --> (interim heads) --> head --> body, trailers --> close
//!      |          \________________ failure ________________/
//!      +--> unreserve
//! ```
//!
//! **Invariant:** no more streams are open or promised than the origin allows; none is opened once it has said that it goes.

use std::task::{Context, Poll, Waker};

use super::floods::Flood;
use super::flow::{RecvWindow, SendWindow};
use super::mux::{Lost, Mux, Phase};
use super::send::Unsent;
use super::state::{Cause, Event, State};
use super::store::{Failure, Stream};
use crate::codec::http2::{Decoded, ErrorCode, HeadError, Malformed, RequestTerms, STREAM_ID_MAX, put_ping};
use crate::message::{BodyLength, HttpHead, Method};
use crate::stream::timer::Timer;

/// What the client's side keeps besides what both do.
#[derive(Default)]
pub(super) struct Opening {
    /// Streams that were promised to exchanges and are not open yet.
    pub(super) reserved: usize,
    /// The origin has said that it goes (RFC 9113, 6.8), for this reason.
    pub(super) told: Option<ErrorCode>,
    /// We have decided to go.
    pub(super) retired: bool,
    /// The origin was asked whether it lives and has not answered.
    pub(super) is_probing: bool,
    /// What a pool would want to know of has changed.
    pub(super) changed: bool,
    /// Those of exchanges that are over: a timer costs more to make than to set anew.
    pub(super) timers: Vec<Timer>,
    /// Exchanges that wait for room to open a stream.
    waiting: Vec<Waker>,
}

/// A request's head, and what is to be said with it.
pub(super) struct Asking<'a> {
    pub(super) head: &'a HttpHead,
    pub(super) length: BodyLength,
    pub(super) scheme: &'static str,
    pub(super) te_trailers: bool,
    /// What it asks for: a message, or a tunnel.
    pub(super) wants: Wants,
    /// Nothing follows.
    pub(super) end: bool,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    Message,
    /// A tunnel, by CONNECT.
    Tunnel,
    /// One for a WebSocket, by extended CONNECT.
    WebSocket,
}

/// The next thing of an answer.
pub(super) enum Next {
    Interim(HttpHead),
    Head(HttpHead),
    Failed(Failure),
    Wait,
}

impl Mux {
    /// Whether a stream may be opened, now or when there is room for its head.
    pub(super) fn is_open(&self) -> bool {
        let Opening { told, retired, is_probing, .. } = &self.opening;
        let is_going = told.is_some() || *retired || *is_probing;
        self.phase == Phase::Frames && !is_going && self.last_stream < STREAM_ID_MAX - 1
    }

    /// How many more streams may be promised.
    pub(super) fn streams_left(&self) -> usize {
        if !self.is_open() {
            return 0;
        }
        (self.streams_max() as usize).saturating_sub(self.store.len() + self.opening.reserved)
    }

    /// How many streams may be open at a time: as many as the origin says, and as we want at most.
    pub(super) fn streams_max(&self) -> u32 {
        self.peer.streams_max.min(self.limits.h2_streams_max)
    }

    /// Opens a stream with the head of a request. Ready with its number.
    pub(super) fn poll_open(&mut self, cx: &Context<'_>, asking: &Asking<'_>) -> Poll<Result<u32, Unsent>> {
        if self.phase == Phase::Deaf || self.opening.told.is_some() || self.last_stream >= STREAM_ID_MAX - 1 {
            return Poll::Ready(Err(Unsent::Gone));
        }
        if self.out.len() >= self.limits.h2_out_bytes_max {
            if !self.opening.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                self.opening.waiting.push(cx.waker().clone());
            }
            return Poll::Pending;
        }
        Poll::Ready(self.open(asking))
    }

    fn open(&mut self, asking: &Asking<'_>) -> Result<u32, Unsent> {
        let Asking { head, length, scheme, te_trailers, wants, end } = *asking;
        let id = if self.last_stream == 0 { 1 } else { self.last_stream + 2 };
        let event = if end { Event::SendHeadersEnd } else { Event::SendHeaders };
        let state = State::Idle.on(event).map_err(|_| Unsent::Gone)?;
        let terms = RequestTerms { scheme, te_trailers, websocket: wants == Wants::WebSocket };
        self.put_head(id, end, |encoder, out| encoder.request(head, length, terms, out))?;
        self.last_stream = id;
        self.opening.reserved -= 1;
        // The origin has our SETTINGS before this head: it knows this window.
        let window = RecvWindow::new(self.limits.h2_stream_window_bytes, self.limits.h2_stream_window_bytes_max);
        let mut stream = Stream::new(state, SendWindow::new(self.peer.window_bytes), window);
        stream.answer.to_head = head.method() == Method::Head;
        stream.answer.to_connect = wants != Wants::Message;
        self.store.insert(id, stream);
        self.floods.useful();
        self.wake_conn();
        Ok(id)
    }

    /// The next thing of the answer on a stream, and takes it.
    pub(super) fn take_answer(&mut self, id: u32) -> Next {
        let Some(stream) = self.store.get_mut(id) else { return Next::Failed(Failure::Lost) };
        if let Some(interim) = stream.answer.interims.pop_front() {
            return Next::Interim(interim);
        }
        match (stream.answer.head.take(), stream.failure) {
            (Some(head), _) => Next::Head(head),
            (None, Some(failure)) => Next::Failed(failure),
            (None, None) if !stream.state.is_receiving() => Next::Failed(Failure::Lost),
            (None, None) => Next::Wait,
        }
    }

    /// The head of an answer, or an interim one.
    pub(super) fn answer(
        &mut self,
        id: u32,
        next: State,
        decoded: Result<Decoded, HeadError>,
        end: bool,
    ) -> Result<(), Lost> {
        self.floods.useful();
        let interims_max = self.limits.interim_responses_max;
        let Some(stream) = self.store.get_mut(id) else { return Ok(()) };
        let Decoded { head, content_length, .. } = match decoded {
            Ok(decoded) => decoded,
            Err(error) => return self.refuse_answer(id, Failure::Head(error), ErrorCode::ProtocolError),
        };
        let answer = &mut stream.answer;
        if head.status() < 200 {
            answer.interims_seen += 1;
            if end {
                return self.refuse_answer(id, malformed(Malformed::Status), ErrorCode::ProtocolError);
            }
            if answer.interims_seen > interims_max {
                return self.refuse_answer(id, Failure::Interims, ErrorCode::EnhanceYourCalm);
            }
            answer.interims.push_back(head);
            stream.wake();
            return Ok(());
        }
        // RFC 9110, 6.4.1: what content-length says of these is not there.
        let is_bodiless = answer.to_head || matches!(head.status(), 204 | 304);
        // Nor is it with a tunnel (RFC 9110, 9.3.6).
        let is_tunnel = answer.to_connect && (200..300).contains(&head.status());
        let left = match is_bodiless {
            _ if is_tunnel => None,
            true => Some(0),
            false => content_length,
        };
        if end && left.unwrap_or(0) > 0 {
            return self.refuse_answer(id, malformed(Malformed::BodyLength), ErrorCode::ProtocolError);
        }
        (answer.head, answer.has_head) = (Some(head), true);
        (stream.left, stream.state, stream.is_tunnel) = (left, next, is_tunnel);
        stream.wake();
        Ok(())
    }

    fn refuse_answer(&mut self, id: u32, failure: Failure, code: ErrorCode) -> Result<(), Lost> {
        if let Some(stream) = self.store.get_mut(id) {
            stream.failure.get_or_insert(failure);
        }
        self.tally.malformed += 1;
        self.reset_for(id, code)
    }

    /// The origin goes: what it has not looked at is given back (RFC 9113, 6.8).
    pub(super) fn told_to_go(&mut self, last_stream: u32, code: ErrorCode) -> Result<(), Lost> {
        self.floods.note(Flood::Control)?;
        (self.opening.told, self.opening.changed) = (Some(code), true);
        for (id, stream) in self.store.iter_mut() {
            if id > last_stream {
                stream.give_up(Cause::PeerReset, Failure::Refused);
            }
        }
        self.wake_openers();
        Ok(())
    }

    /// Asks an origin that leaves a request unanswered whether it lives. Until it says so it is given no others.
    pub(super) fn probe(&mut self) {
        if self.phase == Phase::Frames && !self.opening.is_probing {
            self.opening.is_probing = true;
            put_ping(false, PROBE_PING, &mut self.out);
            self.wake_conn();
        }
    }

    /// Wakes the exchanges that wait to open a stream.
    pub(super) fn wake_openers(&mut self) {
        self.opening.waiting.drain(..).for_each(Waker::wake);
    }
}

fn malformed(why: Malformed) -> Failure {
    Failure::Head(HeadError::Malformed(why))
}

/// The PING that asks whether an origin lives.
pub(super) const PROBE_PING: [u8; 8] = *b"alive?\0\0";
