//! What the exchanges say, and what they take of the bodies that come.
//!
//! **Invariant:** no more data is written than both windows and `h2_out_bytes_max` have room for; nothing is written on a stream that its
//! state does not allow.

use bytes::{Buf, Bytes};

use super::mux::{Leaving, Mux, Side};
use super::state::{Event, State};
use crate::codec::http1::EncodeError;
use crate::codec::http2::{
    ErrorCode, FRAME_HEAD_BYTES, FrameHead, HeadEncoder, Kind, STREAM_ID_MAX, flags, put_go_away, put_ping, put_reset,
};
use crate::message::{BodyError, BodyLength, HttpHead, Method};

/// What became of a piece of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// So many bytes of it are on their way.
    Bytes(usize),
    /// There is no room; the exchange is woken when there is.
    Wait,
    /// The stream has gone.
    Gone,
}

/// Why a head was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsent {
    /// The stream has gone.
    Gone,
    /// It can't be expressed.
    Unwritable(EncodeError),
}

/// What there is of a body.
#[derive(Debug)]
pub(super) enum Taken {
    Data(Bytes),
    Trailers(HttpHead),
    End,
    Broken(BodyError),
    Wait,
}

/// What there is of a tunnel's bytes.
#[derive(Debug)]
pub(super) enum Seen<'a> {
    Data(&'a [u8]),
    End,
    Broken,
    Wait,
}

impl Mux {
    /// Whether an exchange may write a head. If not, it is woken when it may.
    pub(super) fn has_room(&mut self, id: u32) -> bool {
        let has = self.out.len() < self.limits.h2_out_bytes_max;
        if !has {
            self.enqueue(id);
        }
        has
    }

    /// Writes the head of an answer to `method`; with `end` nothing follows.
    pub(super) fn send_head(
        &mut self,
        id: u32,
        (head, length, method): (&HttpHead, BodyLength, Method),
        end: bool,
    ) -> Result<(), Unsent> {
        let next = self.may_send(id, if end { Event::SendHeadersEnd } else { Event::SendHeaders })?;
        self.put_head(id, end, |encoder, out| encoder.response(head, length, method, out))?;
        self.set_state(id, next);
        Ok(())
    }

    /// Writes trailers, which end the answer.
    pub(super) fn send_trailers(&mut self, id: u32, trailers: &HttpHead) -> Result<(), Unsent> {
        let next = self.may_send(id, Event::SendHeadersEnd)?;
        self.put_head(id, true, |encoder, out| {
            encoder.trailers(trailers, out);
            Ok(())
        })?;
        self.set_state(id, next);
        Ok(())
    }

    /// Writes as much of `bytes` as there is room for, in one frame; if that is all, `end` says whether the answer ends with it.
    pub(super) fn send_data(&mut self, id: u32, bytes: &[u8], end: bool) -> Sent {
        let Ok(next) = self.may_send(id, if end { Event::SendDataEnd } else { Event::SendData }) else {
            return Sent::Gone;
        };
        let out_room = self.limits.h2_out_bytes_max.saturating_sub(self.out.len() + FRAME_HEAD_BYTES);
        let conn_room = self.send.room();
        let frame_max = (self.peer.frame_bytes_max as usize).min(FRAME_BYTES_MAX);
        let Some(stream) = self.store.get_mut(id) else { return Sent::Gone };
        let windows = stream.send.room().min(conn_room);
        let len = bytes.len().min(frame_max).min(windows).min(out_room);
        if len == 0 && !bytes.is_empty() {
            // A stream whose own window is shut is woken by that.
            if stream.send.room() > 0 {
                self.enqueue(id);
            }
            return Sent::Wait;
        }
        let last = end && len == bytes.len();
        stream.send.sent(len);
        if last || !end {
            stream.state = next;
        }
        self.send.sent(len);
        if len < windows {
            // Not the peer's windows made it this small.
            self.floods.useful();
        }
        FrameHead::put(Kind::Data, if last { flags::END_STREAM } else { 0 }, id, len, &mut self.out);
        self.out.extend_from_slice(&bytes[..len]);
        self.wake_conn();
        Sent::Bytes(len)
    }

    /// What there is of a body, and takes it.
    pub(super) fn take_body(&mut self, id: u32) -> Taken {
        let Some(stream) = self.store.get_mut(id) else { return Taken::Broken(BodyError::Truncated) };
        if stream.broken == Some(BodyError::TooLarge) {
            return Taken::Broken(BodyError::TooLarge);
        }
        if !stream.inbox.is_empty() {
            let data = std::mem::take(&mut stream.inbox).freeze();
            self.consumed(Some(id), data.len());
            return Taken::Data(data);
        }
        if let Some(broken) = stream.broken {
            return Taken::Broken(broken);
        }
        if let Some(trailers) = stream.trailers.take() {
            return Taken::Trailers(trailers);
        }
        if stream.state.is_receiving() { Taken::Wait } else { Taken::End }
    }

    /// How much data may be sent on a stream now; None: the stream has gone. At 0 it is woken when there may be more.
    pub(super) fn data_room(&mut self, id: u32) -> Option<usize> {
        self.may_send(id, Event::SendData).ok()?;
        let out_room = self.limits.h2_out_bytes_max.saturating_sub(self.out.len() + FRAME_HEAD_BYTES);
        let own = self.store.get(id)?.send.room();
        let room = own.min(self.send.room()).min(out_room);
        if room == 0 && own > 0 {
            self.enqueue(id);
        }
        Some(room)
    }

    /// What there is of a tunnel's bytes.
    pub(super) fn look_at_data(&self, id: u32) -> Seen<'_> {
        match self.store.get(id) {
            Some(stream) if !stream.inbox.is_empty() => Seen::Data(&stream.inbox),
            Some(stream) if stream.broken.is_some() => Seen::Broken,
            Some(stream) if stream.state.is_receiving() => Seen::Wait,
            Some(_) => Seen::End,
            None => Seen::Broken,
        }
    }

    /// So many of those have been passed on.
    pub(super) fn passed(&mut self, id: u32, bytes: usize) {
        if let Some(stream) = self.store.get_mut(id) {
            stream.inbox.advance(bytes);
            self.consumed(Some(id), bytes);
        }
    }

    /// Resets a stream that is a tunnel, if anything of it is left.
    pub(super) fn abort(&mut self, id: u32, code: ErrorCode) {
        let Some(stream) = self.store.get_mut(id) else { return };
        if let Ok(next) = stream.state.on(Event::SendReset) {
            stream.state = next;
            put_reset(id, code, &mut self.out);
            self.wake_conn();
        }
    }

    /// The whole body, if it has come, is no longer than `bytes_max`, and has no trailers.
    pub(super) fn take_whole_body(&mut self, id: u32, bytes_max: usize) -> Option<Bytes> {
        let stream = self.store.get_mut(id)?;
        let whole = !stream.state.is_receiving() && stream.broken.is_none() && stream.trailers.is_none();
        if !whole || stream.inbox.len() > bytes_max {
            return None;
        }
        let data = std::mem::take(&mut stream.inbox).freeze();
        if !data.is_empty() {
            self.consumed(Some(id), data.len());
        }
        Some(data)
    }

    /// The exchange is over: whatever was not said or heard is given up.
    pub(super) fn close(&mut self, id: u32) {
        let Some(stream) = self.store.get_mut(id) else { return };
        let code = if self.side == Side::Client {
            (stream.state.is_sending() || stream.state.is_receiving()).then_some(ErrorCode::Cancel)
        } else if stream.state.is_sending() {
            Some(ErrorCode::InternalError)
        } else if stream.state.is_receiving() {
            // RFC 9113, 8.1: the answer is whole, and the rest of the request is not wanted.
            Some(ErrorCode::NoError)
        } else {
            None
        };
        let next = code.and_then(|_| stream.state.on(Event::SendReset).ok());
        stream.state = next.unwrap_or(stream.state);
        if let Some(code) = code {
            put_reset(id, code, &mut self.out);
        }
        if let Some(stream) = self.store.remove(id)
            && !stream.inbox.is_empty()
        {
            self.consumed(None, stream.inbox.len());
        }
        self.wake_conn();
    }

    /// Tells the client that we are about to go.
    pub(super) fn announce(&mut self) {
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Announced;
            put_go_away(STREAM_ID_MAX, ErrorCode::NoError, &mut self.out);
            put_ping(false, LEAVING_PING, &mut self.out);
        }
    }

    /// Tells the client which of its streams is the last that is served.
    pub(super) fn say_last(&mut self) {
        if self.leaving != Leaving::Said {
            self.leaving = Leaving::Said;
            put_go_away(self.last_stream(), ErrorCode::NoError, &mut self.out);
        }
    }

    /// Tells the peer why the connection ends.
    pub(super) fn go_away(&mut self, code: ErrorCode) {
        // An origin has opened no stream.
        let last = if self.side == Side::Server { self.last_stream() } else { 0 };
        put_go_away(last, code, &mut self.out);
    }

    fn may_send(&self, id: u32, event: Event) -> Result<State, Unsent> {
        let stream = self.store.get(id).ok_or(Unsent::Gone)?;
        stream.state.on(event).map_err(|_| Unsent::Gone)
    }

    fn set_state(&mut self, id: u32, state: State) {
        if let Some(stream) = self.store.get_mut(id) {
            stream.state = state;
        }
        self.wake_conn();
    }

    /// Writes a header block, in as many frames as it needs.
    pub(super) fn put_head(
        &mut self,
        id: u32,
        end: bool,
        encode: impl FnOnce(&mut HeadEncoder, &mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), Unsent> {
        let start = self.out.len();
        let end_stream = if end { flags::END_STREAM } else { 0 };
        FrameHead::put(Kind::Headers, end_stream | flags::END_HEADERS, id, 0, &mut self.out);
        if let Err(error) = encode(&mut self.encoder, &mut self.out) {
            self.out.truncate(start);
            return Err(Unsent::Unwritable(error));
        }
        let len = self.out.len() - start - FRAME_HEAD_BYTES;
        let frame_max = self.peer.frame_bytes_max as usize;
        if len <= frame_max {
            let head = FrameHead::bytes(Kind::Headers, end_stream | flags::END_HEADERS, id, len);
            self.out[start..start + FRAME_HEAD_BYTES].copy_from_slice(&head);
            return Ok(());
        }
        let block = self.out.split_off(start + FRAME_HEAD_BYTES);
        self.out.truncate(start);
        let (mut kind, mut rest) = (Kind::Headers, &block[..]);
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(frame_max));
            let end_stream = if kind == Kind::Headers { end_stream } else { 0 };
            let end_headers = if after.is_empty() { flags::END_HEADERS } else { 0 };
            FrameHead::put(kind, end_stream | end_headers, id, piece.len(), &mut self.out);
            self.out.extend_from_slice(piece);
            (kind, rest) = (Kind::Continuation, after);
        }
        Ok(())
    }

    fn enqueue(&mut self, id: u32) {
        if let Some(stream) = self.store.get_mut(id)
            && !stream.queued
        {
            stream.queued = true;
            self.queue.push_back(id);
        }
    }
}

/// The PING behind the GOAWAY that announces.
pub(super) const LEAVING_PING: [u8; 8] = *b"leaving\0";

/// The longest DATA frame that is written, whatever the peer takes, in bytes: the streams take turns.
const FRAME_BYTES_MAX: usize = 16 * 1024;
