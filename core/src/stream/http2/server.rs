//! The task of an HTTP/2 connection: reads for its machine, writes what it says, and starts a task for each request.
//!
//! **Invariant:** a connection that is lost says so (GOAWAY) and takes no exchange of another connection with it; between two requests it
//! holds no more than its compression table.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::marker::PhantomData;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::SharedMux;
use super::exchange::{Call, Shared};
use super::floods::Flood;
use super::mux::{Leaving, Lost, Mux, Phase, Side};
use super::wire::Wire;
use crate::codec::http2::{ErrorCode, Settings};
use crate::config::Limits;
use crate::message::{Downstream, HttpHead};
use crate::net::Conn;
use crate::stream::linger::Linger;
use crate::stream::load::Charge;
use crate::stream::server::watched;
use crate::stream::task_pool::TaskPool;
use crate::stream::timer::Timer;
use crate::stream::{ConnState, Ended, Service, Wish};

/// A connection and its machine.
struct Server<C, S> {
    wire: Wire<C>,
    shared: Rc<Shared<S>>,
    tasks: Rc<TaskPool<Call<C, S>>>,
    limits: Rc<Limits>,
    requests: u64,
    head_timer: Timer,
    /// The last stream when it was started: the next head has a time of its own.
    timed_after: u32,
    settings_timer: Timer,
    leave_timer: Timer,
    charge: Option<Charge>,
}

/// A request with which a client of HTTP/1.1 has changed to HTTP/2.
pub(in crate::stream) struct Changed {
    /// Its head.
    pub(in crate::stream) head: HttpHead,
    /// The whole of its body.
    pub(in crate::stream) body: Option<Bytes>,
    /// Whether the client takes trailers.
    pub(in crate::stream) te_trailers: bool,
    /// What it has said of itself.
    pub(in crate::stream) settings: Settings,
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// There is nothing left to do.
    Done,
    /// Its client broke the protocol, or a limit.
    Lost(Lost),
    /// Our SETTINGS were not acknowledged.
    SettingsTimeout,
    /// The preface or a head did not come in time.
    HeadTimeout,
}

/// Serves HTTP/2 on `conn` until it is closed. `tasks` run its requests; `guard` lives as long as the connection.
///
/// # Errors
/// When the connection breaks; its peer sees no more of us then.
pub fn serve_for<C: Conn, S: Service>(
    conn: C,
    downstream: Rc<Downstream>,
    (service, tasks): (S, Rc<TaskPool<Call<C, S>>>),
    limits: Rc<Limits>,
    state: Rc<ConnState>,
    guard: impl Sized,
) -> impl Future<Output = io::Result<Ended<C>>> {
    let mux = Mux::new(Rc::clone(&limits), Side::Server, service.offers_websocket());
    run(Server::new(conn, downstream, (service, tasks), limits, state, mux), guard)
}

/// Serves HTTP/2 on a connection that has changed to it.
///
/// # Errors
/// As [`serve_for`].
pub(in crate::stream) async fn serve_changed<C: Conn, S: Service>(
    conn: C,
    downstream: Rc<Downstream>,
    service: S,
    limits: Rc<Limits>,
    state: Rc<ConnState>,
    changed: Changed,
) -> io::Result<Ended<C>> {
    let mut mux = Mux::new(Rc::clone(&limits), Side::Server, service.offers_websocket());
    mux.change(changed);
    // Few connections change: each has its tasks to itself, and keeps none.
    let tasks = Rc::new(TaskPool::new(0));
    run(Server::new(conn, downstream, (service, tasks), limits, state, mux), ()).await
}

async fn run<C: Conn, S: Service>(mut server: Server<C, S>, _guard: impl Sized) -> io::Result<Ended<C>> {
    let shared = Rc::clone(&server.shared);
    let served = poll_fn(|cx| watched(&shared.state, &shared.downstream, || server.poll(cx))).await;
    let end = match served {
        Ok(end) => end,
        Err(e) => {
            shared.mux.borrow_mut().lose();
            return Err(e);
        }
    };
    server.say_why(end);
    let mut linger = Linger::new();
    server.leave_timer.set(server.limits.linger_timeout);
    poll_fn(|cx| match server.wire.poll_write(cx, &shared.mux) {
        Poll::Ready(Ok(())) => linger.poll(cx, &mut server.wire.conn, &mut server.leave_timer),
        Poll::Ready(Err(_)) => Poll::Ready(()),
        Poll::Pending => server.leave_timer.poll_expired(cx),
    })
    .await;
    Ok(Ended::Closed)
}

impl<C: Conn, S: Service> Server<C, S> {
    fn new(
        conn: C,
        downstream: Rc<Downstream>,
        (service, tasks): (S, Rc<TaskPool<Call<C, S>>>),
        limits: Rc<Limits>,
        state: Rc<ConnState>,
        mux: Mux,
    ) -> Self {
        let charge = state.load().map(|load| {
            load.counters().downstream.h2_connection_total.inc();
            load.charge(0)
        });
        let mux: SharedMux = Rc::new(RefCell::new(mux));
        Self {
            wire: Wire::new(conn),
            tasks,
            shared: Rc::new(Shared { mux, service, downstream, state }),
            limits,
            requests: 0,
            head_timer: Timer::new(),
            timed_after: 0,
            settings_timer: Timer::new(),
            leave_timer: Timer::new(),
            charge,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<End>> {
        loop {
            if let Poll::Ready(read) = self.poll_read(cx) {
                return Poll::Ready(read.map(End::Lost));
            }
            let was_hearing = self.shared.mux.borrow().is_hearing();
            let written = self.wire.poll_write(cx, &self.shared.mux)?;
            if written.is_pending() || was_hearing || !self.shared.mux.borrow().is_hearing() {
                break;
            }
        }
        self.count();
        self.poll_rest(cx).map(Ok)
    }

    /// Reads until there is nothing to read or nothing may be. Ready when the connection is lost.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Lost>> {
        while self.shared.mux.borrow().is_hearing() {
            if let Err(lost) = ready!(self.wire.poll_read(cx, &self.shared.mux))? {
                return Poll::Ready(Ok(lost));
            }
            self.start_exchanges();
        }
        Poll::Pending
    }

    fn start_exchanges(&mut self) {
        loop {
            // Not in the condition: the borrow would last as long as the body.
            let arrived = {
                let mut mux = self.shared.mux.borrow_mut();
                // A client that has come from HTTP/1.1 is answered when it has said that it is here: curl has no room for more behind the 101.
                if matches!(mux.phase, Phase::Preface(_) | Phase::Settings) {
                    return;
                }
                mux.next_arrived()
            };
            let Some(arrived) = arrived else { return };
            self.shared.state.work();
            self.requests += 1;
            if self.limits.requests_per_conn_max > 0 && self.requests >= self.limits.requests_per_conn_max {
                self.shared.mux.borrow_mut().say_last();
            }
            self.tasks.start(Call { shared: Rc::clone(&self.shared), arrived, conn: PhantomData });
        }
    }

    /// Nothing to read or to write: what is there to wait for?
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let shared = Rc::clone(&self.shared);
        let mut mux = shared.mux.borrow_mut();
        if shared.state.wish() != Wish::Stay && mux.leaving == Leaving::No {
            mux.announce();
            self.leave_timer.set(self.limits.linger_timeout);
            cx.waker().wake_by_ref();
        }
        if mux.leaving == Leaving::Announced && self.leave_timer.poll_expired(cx).is_ready() {
            mux.say_last();
            cx.waker().wake_by_ref();
        }
        let is_deaf = !mux.is_hearing() && mux.out.is_empty();
        if mux.store.len() == 0 && (is_deaf || mux.leaving == Leaving::Said) {
            return Poll::Ready(End::Done);
        }
        if self.timed_after != mux.last_stream() {
            self.timed_after = mux.last_stream();
            self.head_timer.release();
        }
        if self.head_timer.watch(mux.is_in_head(), self.limits.head_timeout, cx) {
            return Poll::Ready(End::HeadTimeout);
        }
        if self.settings_timer.watch(mux.is_unacknowledged(), self.limits.h2_settings_timeout, cx) {
            return Poll::Ready(End::SettingsTimeout);
        }
        if mux.store.len() == 0 {
            shared.state.rest(cx);
            mux.release();
        } else {
            shared.state.watch(cx);
        }
        if let Some(charge) = &mut self.charge {
            charge.set(mux.held_bytes());
        }
        match &mut mux.task {
            Some(task) => task.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Moves what the machine has counted to where it is shown.
    fn count(&self) {
        let tally = std::mem::take(&mut self.shared.mux.borrow_mut().tally);
        if let Some(load) = self.shared.state.load()
            && tally != Default::default()
        {
            let counters = &load.counters().downstream;
            counters.h2_stream_refused.add(tally.refused);
            counters.h2_stream_malformed.add(tally.malformed);
            counters.h2_stream_reset.add(tally.reset);
        }
    }

    /// Tells the client why the connection ends, ends its exchanges, and counts it.
    fn say_why(&self, end: End) {
        self.count();
        let mut mux = self.shared.mux.borrow_mut();
        let code = match end {
            End::Done => None,
            End::Lost(lost) => Some(lost.code()),
            End::SettingsTimeout => Some(ErrorCode::SettingsTimeout),
            End::HeadTimeout => Some(ErrorCode::NoError),
        };
        if let Some(code) = code {
            tracing::debug!(peer = %self.shared.downstream.peer, ?end, "an HTTP/2 connection is given up");
            mux.go_away(code);
        }
        mux.lose();
        let Some(load) = self.shared.state.load() else { return };
        let counters = &load.counters().downstream;
        match end {
            End::Done => {}
            End::Lost(Lost::Fault(_)) => counters.h2_protocol_error.inc(),
            End::Lost(Lost::Flood(flood)) => match flood {
                Flood::Resets => counters.h2_reset_flood.inc(),
                Flood::Control => counters.h2_control_flood.inc(),
                Flood::EmptyData => counters.h2_empty_data_flood.inc(),
                Flood::Continuations => counters.h2_continuation_flood.inc(),
            },
            End::SettingsTimeout => counters.h2_settings_timeout.inc(),
            End::HeadTimeout => counters.head_timeout.inc(),
        }
    }
}
