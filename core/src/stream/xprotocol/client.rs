//! The client's side: a connection to an origin that carries many requests, its task, and a request's lease.
//!
//! **Invariant:** a number means one request at a time; an answer under a number that nothing waits for is dropped and counted, as late where
//! the number was given before; when the connection is lost every request on it hears so.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::ids::Ids;
use super::wire::{Outbox, Seen, Wire};
use crate::codec::xprotocol::{Fault, RpcCodec, RpcFrame, RpcLimits, codec_of};
use crate::config::Limits;
use crate::config::schema::{Keepalive, RpcProtocol};
use crate::message::{RpcKind, next_conn_id};
use crate::net::Conn;
use crate::stream::timer::Timer;

/// A connection to an origin, as its pool keeps it.
pub struct OriginConn {
    id: u64,
    protocol: RpcProtocol,
    pub(super) codec: &'static dyn RpcCodec,
    pub(super) limits: Rc<Limits>,
    pub(super) out: RefCell<Outbox>,
    pub(super) ids: RefCell<Ids<Slot>>,
    pub(super) state: Cell<State>,
    told: Cell<bool>,
    /// Leases that have no number: they have yet to send, or wait for nothing.
    reserved: Cell<usize>,
    /// Of requests that are over: one that is set anew costs less than a new one.
    timers: RefCell<Vec<Timer>>,
    tally: Cell<Tally>,
    /// The address it is from, as text for logs.
    local_text: Rc<str>,
    exchanges: Cell<u64>,
    opened: Instant,
    client: Cell<Option<u64>>,
}

/// What waits under a number.
pub(super) enum Slot {
    Waiting(Option<Waker>),
    Answered(RpcFrame),
    /// Its answer was taken.
    Taken,
}

/// Whether a connection takes requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// It takes no further request: its pool lets it go, or the origin wants none.
    Retired,
    /// It is gone.
    Lost,
}

/// What a connection has counted since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answers that came when nobody waited for them any more.
    pub late: u64,
    /// Answers to what was never asked.
    pub unknown: u64,
    /// Heartbeats sent.
    pub heartbeats: u64,
    /// Heartbeats that were not answered in time.
    pub missed: u64,
}

/// Where the place of a request goes when it is over: the pool that it was leased from.
pub trait RpcHome {
    /// A request is over; its place is free for another.
    fn request_ended(&self, conn: &Rc<OriginConn>);
}

/// A place on a connection for one request, until it is dropped; an answer that comes later is nobody's.
pub struct RpcLease {
    pub(super) conn: Rc<OriginConn>,
    /// None: nothing waits.
    pub(super) number: Option<u64>,
    /// For what the request waits for, one after the other.
    pub(super) timer: Timer,
    /// No other request is to be on the connection while this one is.
    is_alone: bool,
    home: Rc<dyn RpcHome>,
}

/// The task of a connection: reads answers and writes requests.
pub struct Driver<C> {
    wire: Wire<C>,
    conn: Rc<OriginConn>,
    frames: VecDeque<RpcFrame>,
    pulse: Keepalive,
    pulse_timer: Timer,
    /// Heartbeats in a row without a word from the origin.
    silent: u32,
    /// One waits for its answer.
    is_asking: bool,
    /// The number of the last one.
    asked: Option<u64>,
}

/// How a connection to an origin ended.
#[derive(Debug)]
pub enum End {
    /// It was let go and its last request is over.
    Done,
    /// The origin has closed it.
    Closed,
    /// It broke.
    Broken(io::Error),
    /// The origin sent what is no frame.
    Fault(Fault),
    /// The origin does not answer heartbeats.
    Silent,
}

/// Makes a connection one of an RPC protocol. `first` is the first number.
pub fn connect<C: Conn>(
    conn: C,
    protocol: RpcProtocol,
    (limits, pulse): (Rc<Limits>, Keepalive),
    first: u64,
) -> (Rc<OriginConn>, Driver<C>) {
    let codec = codec_of(protocol);
    let origin = Rc::new(OriginConn {
        id: next_conn_id(),
        protocol,
        codec,
        out: RefCell::new(Outbox::new(limits.rpc_out_bytes_max)),
        limits,
        ids: RefCell::new(Ids::new(first, codec.id_max())),
        state: Cell::new(State::Open),
        told: Cell::new(false),
        reserved: Cell::new(0),
        timers: RefCell::default(),
        tally: Cell::default(),
        local_text: conn.local_addr().log_text().into(),
        exchanges: Cell::new(0),
        opened: Instant::now(),
        client: Cell::new(None),
    });
    let mut pulse_timer = Timer::new();
    pulse_timer.set(pulse.interval);
    let (wire, frames, conn) = (Wire::new(conn), VecDeque::new(), Rc::clone(&origin));
    (origin, Driver { wire, conn, frames, pulse, pulse_timer, silent: 0, is_asking: false, asked: None })
}

impl OriginConn {
    /// Its number among the connections of this process.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What is spoken on it.
    #[must_use]
    pub fn protocol(&self) -> RpcProtocol {
        self.protocol
    }

    /// Requests that it has carried.
    #[must_use]
    pub fn exchanges(&self) -> u64 {
        self.exchanges.get()
    }

    /// When it was opened.
    #[must_use]
    pub fn opened(&self) -> Instant {
        self.opened
    }

    /// The client's connection, by its number, whose requests alone go on it; None: it takes those of all.
    #[must_use]
    pub fn client(&self) -> Option<u64> {
        self.client.get()
    }

    /// Says whose requests go on it.
    pub fn bind(&self, client: Option<u64>) {
        self.client.set(client);
    }

    /// A place on it; with `is_alone` the only one while it is taken, and the connection's end if its request is given up. None: it has room for
    /// no more, or takes none any more.
    #[must_use]
    pub fn lease(self: &Rc<Self>, home: Rc<dyn RpcHome>, is_alone: bool) -> Option<RpcLease> {
        let max = if is_alone { 1 } else { self.limits.rpc_streams_max as usize };
        if self.state.get() != State::Open || self.open() >= max {
            return None;
        }
        self.reserved.set(self.reserved.get() + 1);
        self.exchanges.set(self.exchanges.get() + 1);
        let timer = self.timers.borrow_mut().pop().unwrap_or_default();
        Some(RpcLease { conn: Rc::clone(self), number: None, timer, is_alone, home })
    }

    fn open(&self) -> usize {
        self.ids.borrow().len() + self.reserved.get()
    }

    /// Whether it carries nothing.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.open() == 0
    }

    /// Whether it takes requests, now or when others are over.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state.get() == State::Open
    }

    /// Takes no request any more, and is closed when the last one is over.
    pub fn retire(&self) {
        if self.state.get() == State::Open {
            self.state.set(State::Retired);
            self.out.borrow_mut().wake();
        }
    }

    /// Whether the origin has said that it goes.
    #[must_use]
    pub fn was_told(&self) -> bool {
        self.told.get()
    }

    /// What it has counted since this was last asked.
    #[must_use]
    pub fn take_tally(&self) -> Tally {
        self.tally.take()
    }

    fn count(&self, count: impl FnOnce(&mut Tally)) {
        let mut tally = self.tally.get();
        count(&mut tally);
        self.tally.set(tally);
    }

    /// Whether a request of this number is under way.
    fn awaits(&self, id: u64) -> bool {
        self.ids.borrow_mut().get_mut(id).is_some()
    }

    /// Gives an answer to who waits for it.
    fn answer(&self, frame: RpcFrame) {
        let mut ids = self.ids.borrow_mut();
        let id = frame.head.id;
        let was_given = ids.was_given(id);
        match ids.get_mut(id) {
            Some(slot @ Slot::Waiting(_)) => {
                if let Slot::Waiting(Some(waker)) = std::mem::replace(slot, Slot::Answered(frame)) {
                    waker.wake();
                }
            }
            // A second answer is nobody's.
            Some(Slot::Answered(_) | Slot::Taken) => self.count(|tally| tally.unknown += 1),
            None if was_given => self.count(|tally| tally.late += 1),
            None => self.count(|tally| tally.unknown += 1),
        }
    }

    fn lose(&self) {
        self.state.set(State::Lost);
        for slot in self.ids.borrow_mut().values_mut() {
            if let Slot::Waiting(waker) = slot
                && let Some(waker) = waker.take()
            {
                waker.wake();
            }
        }
        self.out.borrow_mut().wake_waiting();
    }
}

impl RpcLease {
    /// The number of its connection among those of this process.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.conn.id
    }

    /// The address that its connection is from, as text.
    #[must_use]
    pub fn local_text(&self) -> Rc<str> {
        Rc::clone(&self.conn.local_text)
    }

    /// Waits for an answer under a number from now on.
    pub(super) fn wait_under(&mut self, number: u64) {
        self.conn.ids.borrow_mut().put(number, Slot::Waiting(None));
        self.conn.reserved.set(self.conn.reserved.get() - 1);
        self.number = Some(number);
    }
}

impl Drop for RpcLease {
    fn drop(&mut self) {
        match self.number {
            Some(number) => {
                let slot = self.conn.ids.borrow_mut().remove(number);
                // Its answer would come before that of the next one, which it would hold up.
                if self.is_alone && matches!(slot, Some(Slot::Waiting(_))) {
                    self.conn.retire();
                }
            }
            None => self.conn.reserved.set(self.conn.reserved.get() - 1),
        }
        self.timer.clear();
        let mut timers = self.conn.timers.borrow_mut();
        if timers.len() < TIMERS_MAX {
            timers.push(std::mem::take(&mut self.timer));
        }
        drop(timers);
        if self.conn.state.get() != State::Open && self.conn.is_idle() {
            self.conn.out.borrow_mut().wake();
        }
        self.home.request_ended(&self.conn);
    }
}

impl<C: Conn> Driver<C> {
    /// Runs the connection until it ends. `changed` is called when it takes no more requests, or has counted something.
    pub async fn run(mut self, changed: impl Fn(&OriginConn)) -> End {
        let mut was_open = true;
        let end = poll_fn(|cx| {
            let end = self.poll(cx);
            let closes = std::mem::replace(&mut was_open, self.conn.state.get() == State::Open) && !was_open;
            if closes || self.conn.tally.get() != Tally::default() {
                changed(&self.conn);
            }
            end
        })
        .await;
        self.conn.lose();
        // What the socket takes at once: an origin that reads nothing is not waited for.
        poll_fn(|cx| {
            let written = self.wire.poll_write(cx, &mut self.conn.out.borrow_mut()).1;
            if let Poll::Ready(Ok(())) = written {
                drop(self.wire.conn.poll_shutdown(cx));
            }
            Poll::Ready(())
        })
        .await;
        end
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let limits = RpcLimits::from(&*self.conn.limits);
        // What an origin sends unasked is answered only while it takes the answers.
        while self.conn.out.borrow().has_room() || self.conn.open() > 0 {
            match self.wire.poll_read(cx, (self.conn.codec, limits), &mut self.frames, None) {
                Poll::Pending => break,
                Poll::Ready(Ok(Seen::Bytes)) => self.take_frames(),
                Poll::Ready(Ok(Seen::End)) => return Poll::Ready(End::Closed),
                Poll::Ready(Ok(Seen::Fault(fault))) => {
                    self.take_frames();
                    return Poll::Ready(End::Fault(fault));
                }
                Poll::Ready(Err(e)) => return Poll::Ready(End::Broken(e)),
            }
        }
        let was_deaf = !self.conn.out.borrow().has_room() && self.conn.open() == 0;
        if self.poll_pulse(cx) {
            return Poll::Ready(End::Silent);
        }
        let conn = Rc::clone(&self.conn);
        let mut out = conn.out.borrow_mut();
        if let Poll::Ready(Err(e)) = self.wire.poll_write(cx, &mut out).1 {
            return Poll::Ready(End::Broken(e));
        }
        if was_deaf && out.has_room() {
            // Nothing was waited for on the connection, and now it is to be heard again.
            cx.waker().wake_by_ref();
        }
        if conn.is_idle() {
            if conn.state.get() != State::Open {
                return Poll::Ready(End::Done);
            }
            out.release();
        }
        out.watch(cx);
        Poll::Pending
    }

    fn take_frames(&mut self) {
        // A word of the origin's: it lives.
        (self.silent, self.is_asking) = (0, false);
        self.pulse_timer.set(self.pulse.interval);
        let conn = &self.conn;
        for mut frame in self.frames.drain(..) {
            conn.codec.of_origin(&mut frame.head);
            match frame.head.kind {
                // In some protocols it is an answer like others.
                RpcKind::Response if self.asked == Some(frame.head.id) && !conn.awaits(frame.head.id) => {
                    self.asked = None
                }
                RpcKind::Response => conn.answer(frame),
                RpcKind::HeartbeatAck => self.asked = None,
                RpcKind::OneWay => {}
                RpcKind::Heartbeat => {
                    let mut out = conn.out.borrow_mut();
                    if out.has_room() {
                        conn.codec.heartbeat_ack(&frame.head, &mut out.bytes);
                    }
                }
                // Nothing here serves origins.
                RpcKind::Request => {
                    let mut out = conn.out.borrow_mut();
                    if out.has_room() {
                        conn.codec.reply(&frame.head, 404, &mut out.bytes);
                    }
                }
                RpcKind::GoAway => {
                    conn.told.set(true);
                    conn.state.set(State::Retired);
                }
            }
        }
    }

    /// Asks an origin that has been silent whether it lives; says whether to give it up.
    fn poll_pulse(&mut self, cx: &mut Context<'_>) -> bool {
        while self.pulse_timer.poll_expired(cx).is_ready() {
            let conn = &self.conn;
            let mut out = conn.out.borrow_mut();
            // One that takes nothing can't even be asked.
            if self.is_asking || !out.has_room() {
                self.silent += 1;
                conn.count(|tally| tally.missed += 1);
                if self.silent >= SILENT_MAX {
                    return true;
                }
            }
            let id = conn.ids.borrow_mut().draw();
            let mut wait = self.pulse.timeout;
            if out.has_room() {
                self.is_asking = conn.codec.heartbeat(id, &mut out.bytes);
                self.asked = Some(id);
                conn.count(|tally| tally.heartbeats += u64::from(self.is_asking));
                if !self.is_asking {
                    wait = self.pulse.interval;
                }
            }
            // A timeout of zero would never let anything else run.
            self.pulse_timer.set(wait.max(Duration::from_millis(1)));
        }
        false
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("nothing is left to do on it"),
            Self::Closed => f.write_str("the origin has closed it"),
            Self::Broken(e) => write!(f, "it broke: {e}"),
            Self::Fault(fault) => write!(f, "the origin sent what is no frame: {fault}"),
            Self::Silent => write!(f, "the origin left {SILENT_MAX} heartbeats in a row unanswered"),
        }
    }
}

/// Heartbeats in a row without a word from the origin; then its connection is given up (MOSN: six).
const SILENT_MAX: u32 = 6;

/// Timers that a connection keeps for requests to come, at most.
const TIMERS_MAX: usize = 64;
