//! The task of an RPC client's connection: reads frames, starts a task for each request, or runs it itself where the client has one at a
//! time, and writes the answers as they come.
//!
//! **Invariant:** a client that breaks the protocol loses its connection and nobody else's; one that takes no answers is given no more
//! requests.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use slab::Slab;

use super::exchange::{Call, Open, Shared, Side};
use super::wire::{Outbox, Seen, Wire};
use crate::codec::xprotocol::{Fault, RpcFrame, RpcLimits, codec_of};
use crate::config::Limits;
use crate::config::schema::RpcProtocol;
use crate::message::{Downstream, RpcKind};
use crate::net::Conn;
use crate::stream::linger::Linger;
use crate::stream::load::Charge;
use crate::stream::server::watched;
use crate::stream::task_pool::{Hired, TaskPool};
use crate::stream::timer::Timer;
use crate::stream::{ConnState, Ended, Service, Wish};

/// How a listener treats its RPC clients.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// What they speak.
    pub protocol: RpcProtocol,
    /// Whether they are told when they are to send no more requests, where the protocol can say it and not every client knows it.
    pub says_go_away: bool,
}

struct Server<C, S> {
    wire: Wire<C>,
    shared: Rc<Shared<S>>,
    frame_limits: RpcLimits,
    manners: Manners,
    /// Frames that were read and wait for a place among the open requests.
    arrived: VecDeque<RpcFrame>,
    /// A request that runs here, where the client has one at a time.
    own: Option<Hired<Call<S>>>,
    /// How many requests in a row have come when no other was under way.
    alone: u8,
    /// The client sends no more.
    is_ended: bool,
    leaving: Leaving,
    leave_timer: Timer,
    frame_timer: Timer,
    /// What was held of a frame when its timer was started.
    timed_bytes: usize,
    write_timer: Timer,
    charge: Option<Charge>,
}

/// How far a connection is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    /// It was asked to go, and goes on for a moment: the client may have sent more before it heard of it.
    Asked,
    /// It goes once nothing is open.
    AtRest,
    /// Nothing more is read.
    Deaf,
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// There is nothing left to do.
    Done,
    /// What came is no frame.
    Fault(Fault),
    /// A frame did not come whole in time.
    FrameTimeout,
    /// The client takes nothing.
    Stalled,
}

/// Serves RPC on `conn` until it is closed. `tasks` run its requests; `guard` lives as long as the connection.
///
/// # Errors
/// When the connection breaks; its peer sees no more of us then.
pub fn serve_for<C: Conn, S: Service>(
    conn: C,
    (downstream, manners): (Rc<Downstream>, Manners),
    (service, tasks): (S, Rc<TaskPool<Call<S>>>),
    limits: Rc<Limits>,
    state: Rc<ConnState>,
    guard: impl Sized,
) -> impl Future<Output = io::Result<Ended<C>>> {
    let charge = state.load().map(|load| {
        load.counters().downstream.rpc_connection_total.inc();
        load.charge(0)
    });
    let frame_limits = RpcLimits::from(&*limits);
    let out = RefCell::new(Outbox::new(limits.rpc_out_bytes_max));
    let (codec, open, is_lost) = (codec_of(manners.protocol), RefCell::new(Slab::new()), Cell::new(false));
    let side = Rc::new(Side { codec, limits, out, open, held_bytes: Cell::new(0), is_lost });
    let server = Server {
        wire: Wire::new(conn),
        shared: Rc::new(Shared { service, downstream, state, conn: side, tasks }),
        frame_limits,
        manners,
        arrived: VecDeque::new(),
        own: None,
        alone: 0,
        is_ended: false,
        leaving: Leaving::No,
        leave_timer: Timer::new(),
        frame_timer: Timer::new(),
        timed_bytes: 0,
        write_timer: Timer::new(),
        charge,
    };
    run(server, guard)
}

async fn run<C: Conn, S: Service>(mut server: Server<C, S>, _guard: impl Sized) -> io::Result<Ended<C>> {
    let shared = Rc::clone(&server.shared);
    let served = poll_fn(|cx| watched(&shared.state, &shared.downstream, || server.poll(cx))).await;
    shared.conn.lose();
    // It hears of that as the others do.
    poll_fn(|cx| {
        server.poll_own(cx);
        Poll::Ready(())
    })
    .await;
    let end = served?;
    server.count(end);
    if end == End::Stalled {
        server.wire.conn.abort();
        return Ok(Ended::Closed);
    }
    let mut linger = Linger::new();
    server.leave_timer.set(shared.conn.limits.linger_timeout);
    poll_fn(|cx| match server.wire.poll_write(cx, &mut shared.conn.out.borrow_mut()).1 {
        Poll::Ready(Ok(())) => linger.poll(cx, &mut server.wire.conn, &mut server.leave_timer),
        Poll::Ready(Err(_)) => Poll::Ready(()),
        Poll::Pending => server.leave_timer.poll_expired(cx),
    })
    .await;
    Ok(Ended::Closed)
}

impl<C: Conn, S: Service> Server<C, S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<End>> {
        self.shared.conn.out.borrow_mut().rouse();
        self.poll_own(cx);
        loop {
            self.start_exchanges(cx);
            if let Poll::Ready(lost) = self.poll_read(cx)? {
                return Poll::Ready(Ok(End::Fault(lost)));
            }
            let was_hearing = self.is_hearing();
            let side = Rc::clone(&self.shared.conn);
            let (moved, written) = self.wire.poll_write(cx, &mut side.out.borrow_mut());
            if moved {
                self.write_timer.clear();
            }
            match written {
                Poll::Ready(result) => result?,
                Poll::Pending => break,
            }
            if was_hearing || !self.is_hearing() {
                break;
            }
        }
        self.poll_rest(cx).map(Ok)
    }

    /// Whether more may be read.
    fn is_hearing(&self) -> bool {
        let side = &self.shared.conn;
        let is_cut = self.shared.downstream.bonds().is_some_and(|bonds| bonds.is_cut());
        let is_open = !self.is_ended && self.leaving != Leaving::Deaf && !is_cut;
        is_open && self.arrived.is_empty() && side.has_place() && side.out.borrow().has_room()
    }

    /// Reads until there is nothing to read or nothing may be. Ready when what came is no frame.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Fault>> {
        while self.is_hearing() {
            let read = {
                let side = &self.shared.conn;
                let codec = (side.codec, self.frame_limits);
                let mut out = side.out.borrow_mut();
                self.wire.poll_read(cx, codec, &mut self.arrived, Some(&mut out.bytes))
            };
            match ready!(read)? {
                Seen::Bytes if !self.arrived.is_empty() => {
                    // The next frame has a time of its own.
                    self.frame_timer.release();
                    self.timed_bytes = 0;
                }
                Seen::Bytes => {}
                Seen::End => self.is_ended = true,
                Seen::Fault(fault) => return Poll::Ready(Ok(fault)),
            }
            self.start_exchanges(cx);
        }
        Poll::Pending
    }

    /// Takes what has arrived, as far as there is room for it.
    fn start_exchanges(&mut self, cx: &mut Context<'_>) {
        let side = Rc::clone(&self.shared.conn);
        while side.has_place()
            && let Some(frame) = self.arrived.pop_front()
        {
            // What a client sends is not idle, be it only to say that it lives.
            self.shared.state.work();
            match frame.head.kind {
                RpcKind::Request | RpcKind::OneWay => {
                    let held = frame.head.raw().len() + frame.content.len();
                    if frame.head.is_hiding {
                        self.downstream_counters(|counters| counters.rpc_unread.inc());
                    }
                    let is_alone = side.open.borrow().is_empty() && self.arrived.is_empty();
                    self.alone = if is_alone { self.alone.saturating_add(1) } else { 0 };
                    let is_own = self.own.is_none() && self.alone > ALONE_MIN;
                    let call = Call { open: Open::new(&self.shared, held), frame, is_own };
                    if is_own {
                        self.own = Some(self.shared.tasks.hire(call));
                        self.poll_own(cx);
                    } else {
                        self.shared.tasks.start(call);
                    }
                }
                RpcKind::Heartbeat => {
                    self.downstream_counters(|counters| counters.rpc_heartbeat.inc());
                    side.codec.heartbeat_ack(&frame.head, &mut side.out.borrow_mut().bytes);
                }
                // Nobody here has asked it anything, and a client that goes sends no more in any case.
                RpcKind::Response | RpcKind::HeartbeatAck | RpcKind::GoAway => {}
            }
        }
        if !self.arrived.is_empty() {
            self.downstream_counters(|counters| counters.rpc_read_paused.inc());
        }
    }

    /// Goes on with the request that runs here.
    fn poll_own(&mut self, cx: &mut Context<'_>) {
        if self.own.as_mut().is_some_and(|own| own.poll(cx).is_ready()) {
            self.own = None;
        }
    }

    /// Nothing to read or to write: what is there to wait for?
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let side = Rc::clone(&self.shared.conn);
        let (open, waits) = (side.open.borrow().len() + self.arrived.len(), !side.out.borrow().bytes.is_empty());
        let held = self.wire.held_bytes();
        let is_resting = open == 0 && !waits && (held == 0 || self.is_ended);
        if self.poll_leaving(cx) && open == 0 && !waits || self.is_ended && is_resting {
            return Poll::Ready(End::Done);
        }
        if held >= self.timed_bytes + FRAME_STEP_BYTES {
            self.timed_bytes = held;
            self.frame_timer.release();
        }
        let reads = held > 0 && self.is_hearing();
        if self.frame_timer.watch(reads, side.limits.head_timeout, cx) {
            return Poll::Ready(End::FrameTimeout);
        }
        if self.write_timer.watch(waits, side.limits.body_idle_timeout, cx) {
            return Poll::Ready(End::Stalled);
        }
        let mut out = side.out.borrow_mut();
        if is_resting {
            self.shared.state.rest(cx);
            out.release();
        } else {
            self.shared.state.watch(cx);
        }
        if let Some(charge) = &mut self.charge {
            charge.set(held + out.bytes.len());
        }
        out.watch(cx);
        Poll::Pending
    }

    /// Goes on with leaving; says whether to leave as soon as nothing is open.
    fn poll_leaving(&mut self, cx: &mut Context<'_>) -> bool {
        let side = Rc::clone(&self.shared.conn);
        let is_cut = self.shared.downstream.bonds().is_some_and(|bonds| {
            bonds.watch(cx);
            bonds.is_cut()
        });
        if self.leaving == Leaving::No && (is_cut || self.shared.state.wish() != Wish::Stay) {
            // What it asked of the host that has gone is not to be asked of another.
            self.leaving = if is_cut { Leaving::Deaf } else { Leaving::Asked };
            self.leave_timer.set(side.limits.linger_timeout);
            let out = &mut side.out.borrow_mut().bytes;
            if (self.manners.says_go_away || side.codec.knows_go_away()) && side.codec.go_away(0, out) {
                self.downstream_counters(|counters| counters.rpc_go_away.inc());
                cx.waker().wake_by_ref();
            }
        }
        while self.leaving != Leaving::No
            && self.leaving != Leaving::Deaf
            && self.leave_timer.poll_expired(cx).is_ready()
        {
            self.leaving = if self.leaving == Leaving::Asked { Leaving::AtRest } else { Leaving::Deaf };
            self.leave_timer.set(side.limits.graceful_timeout);
        }
        match self.leaving {
            Leaving::No | Leaving::Asked => false,
            Leaving::AtRest => self.wire.held_bytes() == 0,
            Leaving::Deaf => true,
        }
    }

    fn downstream_counters(&self, count: impl FnOnce(&crate::telemetry::metrics::DownstreamCounters)) {
        if let Some(load) = self.shared.state.load() {
            count(&load.counters().downstream);
        }
    }

    fn count(&self, end: End) {
        if end != End::Done {
            tracing::debug!(peer = %self.shared.downstream.peer, ?end, "an RPC connection is given up");
        }
        self.downstream_counters(|counters| match end {
            End::Done => {}
            End::Fault(Fault::Checksum) => counters.rpc_checksum_wrong.inc(),
            End::Fault(Fault::TooLong) => counters.rpc_frame_too_long.inc(),
            End::Fault(Fault::TooManyFields) => counters.rpc_fields_too_many.inc(),
            End::Fault(Fault::TooDeep) => counters.rpc_too_deep.inc(),
            End::Fault(_) => counters.rpc_protocol_error.inc(),
            End::FrameTimeout => counters.head_timeout.inc(),
            End::Stalled => counters.rpc_stalled.inc(),
        });
    }
}

/// So much of a frame comes in `head_timeout` at least, in bytes.
const FRAME_STEP_BYTES: usize = 64 * 1024;

/// After so many requests that were alone the next one is taken to be so, too. Where others come beside it its answer would be written before theirs
/// instead of with them.
const ALONE_MIN: u8 = 4;
