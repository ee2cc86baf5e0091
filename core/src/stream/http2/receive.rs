//! What the frames of a peer mean.
//!
//! **Invariant:** a frame that does not fit costs its stream or the connection what RFC 9113 says, and counts against its sender; every header
//! block is decoded, whatever becomes of it.

use tokio::time::Instant;

use super::floods::Flood;
use super::flow::{Exceeded, RecvWindow, SendWindow};
use super::mux::{Arrived, Block, Leaving, Lost, Mux, PROTOCOL, Phase, Side};
use super::state::{Cause, Event, Misfit, State};
use super::store::{Failure, Stream};
use crate::codec::http1::DecodeError;
use crate::codec::http2::{
    Decoded, ErrorCode, Fault, Frame, HeadError, HeadKind, Scope, Settings, put_ping, put_reset, put_settings_ack,
    put_window_update,
};
use crate::message::{BodyError, Method};

impl Mux {
    pub(super) fn frame(&mut self, frame: Frame<'_>) -> Result<(), Lost> {
        match frame {
            Frame::Data { stream, data, flow_bytes, end_stream } => self.data(stream, data, flow_bytes, end_stream),
            Frame::Headers { stream, fragment, end_stream, end_headers } => {
                self.check_headers(stream)?;
                if end_headers {
                    return self.head(stream, end_stream, fragment);
                }
                self.block = Some(Block { stream, end_stream, bytes: fragment.to_vec() });
                Ok(())
            }
            Frame::Continuation { fragment, end_headers, .. } => self.continuation(fragment, end_headers),
            Frame::Reset { stream, code } => self.reset(stream, code),
            Frame::Settings { entries } => self.settings(entries),
            Frame::SettingsAck => {
                self.unacknowledged = false;
                Ok(self.floods.note(Flood::Control)?)
            }
            Frame::Ping { ack, data } => self.ping(ack, data),
            Frame::WindowUpdate { stream, increment } => self.window_update(stream, increment),
            // A client pushes nothing (RFC 9113, 8.4), and an origin was told not to.
            Frame::PushPromise { .. } => Err(PROTOCOL),
            Frame::GoAway { last_stream, code } if self.side == Side::Client => self.told_to_go(last_stream, code),
            Frame::GoAway { .. } | Frame::Priority { .. } | Frame::Unknown { .. } => {
                Ok(self.floods.note(Flood::Control)?)
            }
        }
    }

    /// Something is wrong: with the connection, or with a stream, which is reset.
    pub(super) fn fault(&mut self, fault: Fault) -> Result<(), Lost> {
        match fault.scope {
            Scope::Connection => Err(Lost::Fault(fault.code)),
            // RFC 9113, 5.1: of an idle stream nothing can be reset.
            Scope::Stream(id) if self.is_idle(id) => Err(Lost::Fault(fault.code)),
            Scope::Stream(id) => self.reset_for(id, fault.code),
        }
    }

    /// Resets a stream for a fault of the peer. That costs a client as if it had reset the stream itself.
    pub(super) fn reset_for(&mut self, id: u32, code: ErrorCode) -> Result<(), Lost> {
        put_reset(id, code, &mut self.out);
        match self.store.get_mut(id) {
            Some(stream) => {
                stream.broken.get_or_insert(BodyError::Malformed);
                stream.give_up(Cause::OurReset, Failure::Broken(code));
            }
            None => self.store.note_closed(id, Cause::OurReset),
        }
        // What we open we have to blame on ourselves; but not all that an origin may do on it.
        Ok(self.floods.note(if self.side == Side::Server { Flood::Resets } else { Flood::Control })?)
    }

    fn misfit(&mut self, id: u32, misfit: Misfit) -> Result<(), Lost> {
        misfit.fault(id).map_or(Ok(()), |fault| self.fault(fault))
    }

    /// Whether nobody has opened a stream, or one above it. Even ones never are: they are the server's, and pushes are off.
    fn is_idle(&self, id: u32) -> bool {
        id > self.last_stream || id.is_multiple_of(2)
    }

    /// The state of a stream, open or not.
    fn state(&self, id: u32) -> State {
        if self.is_idle(id) {
            return State::Idle;
        }
        let state = self.store.get(id).map(|stream| stream.state);
        // Of what was forgotten we may have given up any: as many as our clients have.
        let forgotten = if self.side == Side::Server { Cause::PeerReset } else { Cause::OurReset };
        state.unwrap_or_else(|| State::Closed(self.store.cause(id).unwrap_or(forgotten)))
    }

    fn data(&mut self, id: u32, data: &[u8], flow_bytes: u32, end: bool) -> Result<(), Lost> {
        self.recv.take(flow_bytes).map_err(|Exceeded| Lost::Fault(ErrorCode::FlowControlError))?;
        if self.side == Side::Client {
            self.promise_again(flow_bytes);
        }
        match (data.is_empty(), end) {
            (true, false) => self.floods.note(Flood::EmptyData)?,
            _ => self.floods.useful(),
        }
        let event = if end { Event::RecvDataEnd } else { Event::RecvData };
        let next = match self.state(id).on(event) {
            Ok(next) => next,
            Err(misfit) => {
                self.consumed(None, flow_bytes as usize);
                return self.misfit(id, misfit);
            }
        };
        let Some(stream) = self.store.get_mut(id) else { return Ok(()) };
        if stream.recv.take(flow_bytes).is_err() {
            self.consumed(None, flow_bytes as usize);
            return self.reset_for(id, ErrorCode::FlowControlError);
        }
        stream.state = next;
        let is_early = self.side == Side::Client && !stream.answer.has_head;
        if is_early || !stream.count(data.len(), end) {
            self.consumed(None, flow_bytes as usize);
            self.tally.malformed += 1;
            return self.reset_for(id, ErrorCode::ProtocolError);
        }
        let body_max = self.limits.request_body_bytes_max;
        if self.side == Side::Server && body_max > 0 && stream.received > body_max && !stream.is_tunnel {
            stream.broken.get_or_insert(BodyError::TooLarge);
            stream.discards = true;
        }
        if end {
            stream.ended = Some(Instant::now());
        }
        let kept = if stream.discards { 0 } else { data.len() };
        stream.inbox.extend_from_slice(&data[..kept]);
        stream.wake();
        let gone = flow_bytes as usize - kept;
        if gone > 0 {
            self.consumed(Some(id), gone);
        }
        Ok(())
    }

    /// On a connection to an origin nothing that has come counts any more: each stream has its own window.
    fn promise_again(&mut self, flow_bytes: u32) {
        let promise = self.recv.release(flow_bytes);
        if promise > 0 {
            put_window_update(0, promise, &mut self.out);
        }
    }

    /// What can be said of HEADERS before their block is complete.
    fn check_headers(&self, id: u32) -> Result<(), Lost> {
        // RFC 9113, 5.1.1: a client's streams are odd.
        if id.is_multiple_of(2) {
            return Err(PROTOCOL);
        }
        if id > self.last_stream {
            // RFC 9113, 5.1.1: an origin opens none.
            return if self.side == Side::Server { Ok(()) } else { Err(PROTOCOL) };
        }
        if self.store.get(id).is_some() {
            return Ok(());
        }
        match self.store.cause(id) {
            Some(Cause::OurReset) => Ok(()),
            None if self.side == Side::Client => Ok(()),
            Some(Cause::Ended | Cause::PeerReset) => Err(Lost::Fault(ErrorCode::StreamClosed)),
            // Never opened, as far as we remember: numbers only go up.
            None => Err(PROTOCOL),
        }
    }

    fn continuation(&mut self, fragment: &[u8], end_headers: bool) -> Result<(), Lost> {
        self.floods.note(Flood::Continuations)?;
        let Some(block) = &mut self.block else { return Err(PROTOCOL) };
        // What is compressed is never longer than what is not: this can't become a head that is taken.
        if block.bytes.len() + fragment.len() > self.limits.head_bytes_max {
            return Err(Lost::Flood(Flood::Continuations));
        }
        block.bytes.extend_from_slice(fragment);
        if !end_headers {
            return Ok(());
        }
        self.floods.block_ended();
        match self.block.take() {
            Some(block) => self.head(block.stream, block.end_stream, &block.bytes),
            None => Ok(()),
        }
    }

    /// A header block is complete: it is decoded whatever becomes of it, or the tables of the two sides would differ.
    fn head(&mut self, id: u32, end: bool, block: &[u8]) -> Result<(), Lost> {
        let state = self.state(id);
        let kind = match self.side {
            Side::Server if state == State::Idle => HeadKind::Request,
            Side::Client if self.store.get(id).is_some_and(|stream| !stream.answer.has_head) => HeadKind::Response,
            _ => HeadKind::Trailers,
        };
        let decoded = self.decoder.decode(kind, block).map_err(|_| Lost::Fault(ErrorCode::CompressionError))?;
        let next = match state.on(if end { Event::RecvHeadersEnd } else { Event::RecvHeaders }) {
            Ok(next) => next,
            Err(misfit) => return self.misfit(id, misfit),
        };
        match kind {
            HeadKind::Trailers => return self.trailers(id, next, decoded.ok().filter(|_| end)),
            HeadKind::Response => return self.answer(id, next, decoded, end),
            HeadKind::Request => self.last_stream = id,
        }
        self.floods.useful();
        if self.leaving == Leaving::Said {
            self.store.note_closed(id, Cause::OurReset);
            return Ok(());
        }
        if self.store.len() >= self.limits.h2_streams_max as usize {
            self.tally.refused += 1;
            return self.reset_for(id, ErrorCode::RefusedStream);
        }
        let decoded = match decoded {
            Ok(decoded) => Ok(decoded),
            Err(HeadError::Refused(error)) => Err(error),
            Err(HeadError::Malformed(reason)) => {
                tracing::debug!(stream = id, %reason, "a request was malformed");
                self.tally.malformed += 1;
                return self.reset_for(id, ErrorCode::ProtocolError);
            }
        };
        self.admit(id, next, decoded, end)
    }

    /// Trailers end a message (RFC 9113, 8.1), and all of its body has to have come.
    fn trailers(&mut self, id: u32, next: State, trailers: Option<Decoded>) -> Result<(), Lost> {
        // On a tunnel there is DATA alone (RFC 9113, 8.5).
        let stream = self.store.get_mut(id).filter(|stream| stream.left.unwrap_or(0) == 0 && !stream.is_tunnel);
        let (Some(stream), Some(trailers)) = (stream, trailers) else {
            self.tally.malformed += 1;
            return self.reset_for(id, ErrorCode::ProtocolError);
        };
        stream.state = next;
        stream.trailers = Some(trailers.head).filter(|head| head.field_count() > 0);
        stream.ended = Some(Instant::now());
        stream.wake();
        Ok(())
    }

    fn admit(
        &mut self,
        id: u32,
        state: State,
        mut decoded: Result<Decoded, DecodeError>,
        end: bool,
    ) -> Result<(), Lost> {
        // CONNECT has no length, and TRACE no content (RFC 9110, 9.3.6 and 9.3.8).
        let method = decoded.as_ref().map_or(Method::Other, |decoded| decoded.head.method());
        let length = decoded.as_ref().ok().and_then(|decoded| decoded.content_length);
        let is_upgrade = decoded.as_ref().is_ok_and(|decoded| decoded.upgrade);
        let is_tunnel = is_upgrade || method == Method::Connect;
        let empty = match method {
            Method::Trace => true,
            _ if is_tunnel => length.is_some(),
            _ => end,
        };
        if empty && (!end || length.unwrap_or(0) > 0) {
            self.tally.malformed += 1;
            return self.reset_for(id, ErrorCode::ProtocolError);
        }
        let body_max = self.limits.request_body_bytes_max;
        if body_max > 0 && length.is_some_and(|length| length > body_max) {
            decoded = Err(DecodeError::BodyTooLarge);
        }
        // A client that has not heard of our window yet takes it to be the usual one (RFC 9113, 6.9.2).
        let usual = if self.unacknowledged { Settings::default().window_bytes } else { 0 };
        let size = self.limits.h2_stream_window_bytes.max(usual);
        let window = RecvWindow::new(size, self.limits.h2_stream_window_bytes_max);
        let mut stream = Stream::new(state, SendWindow::new(self.peer.window_bytes), window);
        stream.left = length;
        (stream.discards, stream.is_tunnel) = (decoded.is_err(), is_tunnel);
        self.store.insert(id, stream);
        let te_trailers = decoded.as_ref().is_ok_and(|decoded| decoded.te_trailers);
        let head = decoded.map(|decoded| decoded.head);
        self.arrived.push_back(Arrived { stream: id, head, te_trailers, is_upgrade, body: None });
        Ok(())
    }

    fn reset(&mut self, id: u32, code: ErrorCode) -> Result<(), Lost> {
        let next = match self.state(id).on(Event::RecvReset) {
            Ok(next) => next,
            Err(misfit) => return self.misfit(id, misfit),
        };
        let Some(stream) = self.store.get_mut(id) else { return Ok(()) };
        if stream.state == next {
            return Ok(());
        }
        let is_refused = code == ErrorCode::RefusedStream;
        stream.give_up(Cause::PeerReset, if is_refused { Failure::Refused } else { Failure::Reset(code) });
        self.tally.reset += 1;
        // An origin can reset no more than we have opened.
        if self.side == Side::Server {
            self.floods.note(Flood::Resets)?;
        }
        Ok(())
    }

    fn settings(&mut self, entries: &[u8]) -> Result<(), Lost> {
        self.floods.note(Flood::Control)?;
        if self.phase == Phase::Settings {
            self.phase = Phase::Frames;
        }
        self.opening.changed = true;
        let before = self.peer.window_bytes;
        self.peer.apply(entries).map_err(|fault| Lost::Fault(fault.code))?;
        if self.side == Side::Client && self.peer.push {
            return Err(PROTOCOL);
        }
        let by = i64::from(self.peer.window_bytes) - i64::from(before);
        if by != 0 {
            for (_, stream) in self.store.iter_mut() {
                stream.send.shift(by).map_err(|Exceeded| Lost::Fault(ErrorCode::FlowControlError))?;
                stream.wake();
            }
        }
        put_settings_ack(&mut self.out);
        Ok(())
    }

    fn ping(&mut self, ack: bool, data: [u8; 8]) -> Result<(), Lost> {
        self.floods.note(Flood::Control)?;
        if !ack {
            put_ping(true, data, &mut self.out);
        } else if data == super::send::LEAVING_PING && self.leaving == Leaving::Announced {
            // The client has heard that we go: what it sends from here on it sends knowing that.
            self.say_last();
        } else if data == super::open::PROBE_PING {
            (self.opening.is_probing, self.opening.changed) = (false, true);
        }
        Ok(())
    }

    fn window_update(&mut self, id: u32, increment: u32) -> Result<(), Lost> {
        if increment < USEFUL_INCREMENT_BYTES_MIN {
            self.floods.note(Flood::Control)?;
        }
        if id == 0 {
            self.send.open(increment).map_err(|Exceeded| Lost::Fault(ErrorCode::FlowControlError))?;
            self.wake_queue();
            return Ok(());
        }
        if let Err(misfit) = self.state(id).on(Event::RecvWindow) {
            return self.misfit(id, misfit);
        }
        let Some(stream) = self.store.get_mut(id) else { return Ok(self.floods.note(Flood::Control)?) };
        match stream.send.open(increment) {
            Ok(()) => {
                stream.wake();
                Ok(())
            }
            Err(Exceeded) => self.reset_for(id, ErrorCode::FlowControlError),
        }
    }
}

impl Stream {
    /// So many bytes have come; whether they are what content-length says (RFC 9113, 8.1.1).
    fn count(&mut self, bytes: usize, end: bool) -> bool {
        self.received += bytes as u64;
        let Some(left) = &mut self.left else { return true };
        match left.checked_sub(bytes as u64) {
            Some(rest) if rest == 0 || !end => *left = rest,
            _ => return false,
        }
        true
    }
}

/// A window that is opened by less is none: a client that lets data out by the byte makes as many frames of it.
const USEFUL_INCREMENT_BYTES_MIN: u32 = 256;
