//! One side of an HTTP/2 connection as a machine: bytes and messages in, messages and bytes out.
//!
//! It does no I/O, waits for nothing and knows no task but as a [`Waker`]. The connection's task shows it what was read and writes what it
//! has to say; the tasks of the exchanges take bodies from it and give it theirs ([`send`](super::send)). What only the client's side
//! does is in [`open`](super::open).
//!
//! **Invariant:** what a peer makes it hold is bounded: by the windows, by the streams it may have open, by the limits of a head, and by
//! twice `h2_out_bytes_max`, beyond which nothing more is read.

use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;

use bytes::Bytes;

use super::floods::{Flood, Floods};
use super::flow::{RecvWindow, SendWindow};
use super::open::Opening;
use super::server::Changed;
use super::state::{Cause, State};
use super::store::{Failure, Store, Stream};
use crate::codec::http1::DecodeError;
use crate::codec::http2::{
    ErrorCode, FRAME_HEAD_BYTES, Frame, FrameHead, HeadDecoder, HeadEncoder, HeadLimits, Kind, PREFACE,
    SWITCHING_TO_H2C, Settings, flags, put_window_update,
};
use crate::config::Limits;
use crate::message::HttpHead;

/// A connection's machine.
pub(super) struct Mux {
    pub(super) side: Side,
    pub(super) limits: Rc<Limits>,
    pub(super) store: Store,
    pub(super) encoder: HeadEncoder,
    pub(super) peer: Settings,
    /// What is to be written.
    pub(super) out: Vec<u8>,
    pub(super) send: SendWindow,
    pub(super) recv: RecvWindow,
    pub(super) decoder: HeadDecoder,
    pub(super) phase: Phase,
    /// A header block whose end has not come.
    pub(super) block: Option<Block>,
    pub(super) floods: Floods,
    pub(super) arrived: VecDeque<Arrived>,
    /// Streams that wait for room: in the window of the connection, or in what is to be written.
    pub(super) queue: VecDeque<u32>,
    /// The highest stream that the client, the peer or we, has opened.
    pub(super) last_stream: u32,
    /// What only the client's side keeps.
    pub(super) opening: Opening,
    /// Our SETTINGS are not acknowledged yet.
    pub(super) unacknowledged: bool,
    pub(super) leaving: Leaving,
    pub(super) tally: Tally,
    /// The task of the connection.
    pub(super) task: Option<Waker>,
}

/// Which side of its connection a machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The peer is a client.
    Server,
    /// The peer is an origin.
    Client,
}

/// How far the peer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// So many bytes of the preface have come.
    Preface(usize),
    /// SETTINGS must come first (RFC 9113, 3.4).
    Settings,
    Frames,
    /// The connection is lost, or the peer has ended its side: what comes is not looked at.
    Deaf,
}

/// Whether new streams are still served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// The client was told that we are about to go; what it has sent meanwhile is served (RFC 9113, 6.8).
    Announced,
    /// The client knows which stream was the last.
    Said,
}

/// A header block in parts.
pub(super) struct Block {
    pub(super) stream: u32,
    pub(super) end_stream: bool,
    pub(super) bytes: Vec<u8>,
}

/// A request whose head is complete.
pub(super) struct Arrived {
    pub(super) stream: u32,
    /// The head, or why it is refused.
    pub(super) head: Result<HttpHead, DecodeError>,
    pub(super) te_trailers: bool,
    /// It is an extended CONNECT.
    pub(super) is_upgrade: bool,
    /// The whole body, if it came before the stream.
    pub(super) body: Option<Bytes>,
}

/// Why a connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// The peer breaks the protocol.
    Fault(ErrorCode),
    /// The peer sends too much of what costs it nothing.
    Flood(Flood),
}

/// What happened that is counted elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) refused: u64,
    pub(super) malformed: u64,
    pub(super) reset: u64,
}

impl Lost {
    /// What the peer is told.
    pub(super) fn code(self) -> ErrorCode {
        match self {
            Self::Fault(code) => code,
            Self::Flood(_) => ErrorCode::EnhanceYourCalm,
        }
    }
}

impl From<Flood> for Lost {
    fn from(flood: Flood) -> Self {
        Self::Flood(flood)
    }
}

impl Mux {
    /// A machine at the start of a connection; its SETTINGS wait to be written, a client's preface before them. With `offers_websocket` they
    /// say that extended CONNECT is taken.
    pub(super) fn new(limits: Rc<Limits>, side: Side, offers_websocket: bool) -> Self {
        let initial = Settings::default();
        let is_server = side == Side::Server;
        let ours = Settings {
            push: false,
            // Nobody opens streams to us where we are the client: there are no pushes.
            streams_max: if is_server { limits.h2_streams_max } else { initial.streams_max },
            window_bytes: limits.h2_stream_window_bytes,
            head_bytes_max: u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX),
            connect_protocol: offers_websocket,
            ..Settings::default()
        };
        let mut out = if is_server { Vec::new() } else { PREFACE.to_vec() };
        ours.put(&mut out);
        let mut recv = RecvWindow::new(initial.window_bytes, initial.window_bytes);
        match recv.grow(limits.h2_conn_window_bytes) {
            0 => {}
            increment => put_window_update(0, increment, &mut out),
        }
        let mut decoder = HeadDecoder::new(initial.table_bytes_max as usize, HeadLimits::from(&*limits));
        if offers_websocket {
            decoder.allow_extended_connect();
        }
        Self {
            side,
            decoder,
            floods: Floods::new(&limits),
            limits,
            store: Store::default(),
            encoder: HeadEncoder::default(),
            // An origin must not ask for pushes (RFC 9113, 6.5.2): if it is true it did.
            peer: Settings { push: is_server, ..initial },
            out,
            send: SendWindow::new(initial.window_bytes),
            recv,
            phase: if is_server { Phase::Preface(0) } else { Phase::Settings },
            block: None,
            arrived: VecDeque::new(),
            queue: VecDeque::new(),
            last_stream: 0,
            opening: Opening::default(),
            unacknowledged: true,
            leaving: Leaving::No,
            tally: Tally::default(),
            task: None,
        }
    }

    /// The client has come from HTTP/1.1 with a request, which is stream 1 (RFC 7540, 3.2).
    pub(super) fn change(&mut self, changed: Changed) {
        let Changed { head, body, te_trailers, settings } = changed;
        self.out.splice(0..0, SWITCHING_TO_H2C.iter().copied());
        (self.peer, self.last_stream) = (settings, 1);
        let window = RecvWindow::new(self.limits.h2_stream_window_bytes, self.limits.h2_stream_window_bytes_max);
        self.store.insert(1, Stream::new(State::HalfClosedRemote, SendWindow::new(settings.window_bytes), window));
        self.arrived.push_back(Arrived { stream: 1, head: Ok(head), te_trailers, is_upgrade: false, body });
    }

    /// Takes frames in; how many bytes of `bytes` are behind us. What is left is the start of a frame.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<usize, Lost> {
        let mut used = 0;
        if let Phase::Preface(seen) = self.phase {
            used = self.preface(seen, bytes)?;
        }
        while self.phase != Phase::Deaf {
            let rest = &bytes[used..];
            let Some(head) = rest.first_chunk() else { return Ok(used) };
            let head = FrameHead::parse(head);
            self.check_place(head)?;
            let end = FRAME_HEAD_BYTES + head.len;
            let Some(payload) = rest.get(FRAME_HEAD_BYTES..end) else { return Ok(used) };
            match Frame::parse(head, payload) {
                Ok(frame) => self.frame(frame)?,
                Err(fault) => self.fault(fault)?,
            }
            used += end;
        }
        Ok(bytes.len())
    }

    /// The next request.
    pub(super) fn next_arrived(&mut self) -> Option<Arrived> {
        self.arrived.pop_front()
    }

    /// Whether part of the preface or of a header block has come, or the peer's SETTINGS have not: what the head timeout runs on.
    pub(super) fn is_in_head(&self) -> bool {
        self.block.is_some() || matches!(self.phase, Phase::Preface(_) | Phase::Settings)
    }

    /// Whether the acknowledgement of our SETTINGS is waited for.
    pub(super) fn is_unacknowledged(&self) -> bool {
        self.unacknowledged && self.phase == Phase::Frames
    }

    /// Whether more may be read: not while the peer does not read what it makes us say. What is ours to say, heads and data, stops at
    /// half of that: two gateways that have much for each other would wait for each other otherwise.
    pub(super) fn is_hearing(&self) -> bool {
        self.phase != Phase::Deaf && self.out.len() < 2 * self.limits.h2_out_bytes_max
    }

    /// The peer has ended its side. Of a client that is the end of its requests: what is answered already still leaves. Of an origin,
    /// whose task ends with it, what has come whole can still be taken.
    pub(super) fn end_of_input(&mut self) {
        self.lose();
    }

    /// Everything is over: the exchanges end, and nothing that comes is looked at.
    pub(super) fn lose(&mut self) {
        self.phase = Phase::Deaf;
        self.block = None;
        for (_, stream) in self.store.iter_mut() {
            stream.give_up(Cause::PeerReset, Failure::Lost);
        }
        self.wake_openers();
    }

    /// The highest stream that was or may be served.
    pub(super) fn last_stream(&self) -> u32 {
        self.last_stream
    }

    /// Bytes that it holds.
    pub(super) fn held_bytes(&self) -> usize {
        let block = self.block.as_ref().map_or(0, |block| block.bytes.capacity());
        self.out.capacity() + block + self.decoder.held_bytes() + self.store.held_bytes() + self.recv.held()
    }

    /// Gives back what nothing needs while no stream is open.
    pub(super) fn release(&mut self) {
        self.decoder.release();
        self.arrived = VecDeque::new();
        self.queue = VecDeque::new();
        self.opening.timers = Vec::new();
        if self.out.is_empty() {
            self.out = Vec::new();
        }
    }

    /// Data of a stream, or of nobody, is not held any more.
    pub(super) fn consumed(&mut self, stream: Option<u32>, bytes: usize) {
        let bytes = u32::try_from(bytes).expect("no more than a window was held");
        if self.phase == Phase::Deaf {
            return;
        }
        let Self { store, recv, out, .. } = self;
        if let Some((id, stream)) = stream.and_then(|id| Some((id, store.get_mut(id)?)))
            && stream.state.is_receiving()
        {
            let promise = stream.recv.release(bytes);
            if promise > 0 {
                put_window_update(id, promise, out);
            }
        }
        // What origins send is promised again when it comes: one client that takes nothing must not stop the answers of all others.
        let promise = if self.side == Side::Server { recv.release(bytes) } else { 0 };
        if promise > 0 {
            put_window_update(0, promise, out);
        }
        if !out.is_empty() {
            self.wake_conn();
        }
    }

    /// Wakes the connection's task: there is something to write, or a stream has gone.
    pub(super) fn wake_conn(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// Wakes the streams that wait for room.
    pub(super) fn wake_queue(&mut self) {
        while let Some(id) = self.queue.pop_front() {
            if let Some(stream) = self.store.get_mut(id) {
                stream.queued = false;
                stream.wake();
            }
        }
        self.wake_openers();
    }

    fn preface(&mut self, seen: usize, bytes: &[u8]) -> Result<usize, Lost> {
        let len = bytes.len().min(PREFACE.len() - seen);
        if bytes[..len] != PREFACE[seen..seen + len] {
            return Err(PROTOCOL);
        }
        self.phase = if seen + len == PREFACE.len() { Phase::Settings } else { Phase::Preface(seen + len) };
        Ok(len)
    }

    /// What may come now, by its head alone: nothing that is out of place is waited for.
    fn check_place(&self, head: FrameHead) -> Result<(), Lost> {
        if head.len > Settings::default().frame_bytes_max as usize {
            return Err(Lost::Fault(ErrorCode::FrameSizeError));
        }
        let continues = head.kind == Some(Kind::Continuation);
        let fits = match &self.block {
            Some(block) => continues && head.stream == block.stream,
            None => !continues,
        };
        // An acknowledgement is no SETTINGS to begin with.
        let begins =
            self.phase != Phase::Settings || (head.kind == Some(Kind::Settings) && head.flags & flags::ACK == 0);
        if fits && begins { Ok(()) } else { Err(PROTOCOL) }
    }
}

pub(super) const PROTOCOL: Lost = Lost::Fault(ErrorCode::ProtocolError);
