//! The client's side: a connection to an origin that carries many exchanges, its task, and a stream's lease.
//!
//! **Invariant:** a connection is given exchanges only once the origin has said by its SETTINGS that it speaks HTTP/2 and how many streams
//! it takes; when it is lost every exchange on it hears so.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::SharedMux;
use super::floods::Flood;
use super::mux::{Lost, Mux, Phase, Side, Tally};
use super::wire::Wire;
use crate::codec::http2::ErrorCode;
use crate::config::Limits;
use crate::message::next_conn_id;
use crate::net::Conn;
use crate::stream::timer::Timer;

/// A connection to an origin, as its pool keeps it.
pub struct OriginConn {
    id: u64,
    pub(super) mux: SharedMux,
    pub(super) limits: Rc<Limits>,
    pub(super) scheme: &'static str,
    /// The address it is from, as text for logs.
    local_text: Rc<str>,
    exchanges: Cell<u64>,
    opened: Instant,
}

/// Where a stream goes when its exchange is over: the pool that it was leased from.
pub trait StreamHome {
    /// An exchange is over; its stream is free for another.
    fn stream_ended(&self, conn: &Rc<OriginConn>);
}

/// The use of one stream of a connection, until it is dropped; dropping resets what is not complete.
pub struct StreamLease {
    pub(super) conn: Rc<OriginConn>,
    /// None: it is promised and not open yet.
    pub(super) stream: Option<u32>,
    /// For what the exchange waits for, one after the other.
    pub(super) timer: Timer,
    home: Rc<dyn StreamHome>,
}

/// The task of a connection: reads for its machine, and writes what it says.
pub struct Driver<C> {
    wire: Wire<C>,
    mux: SharedMux,
    limits: Rc<Limits>,
    head_timer: Timer,
    /// For what the origin has to acknowledge: our SETTINGS, and whether it lives.
    answer_timer: Timer,
}

/// Why a connection to an origin could not be taken into use.
#[derive(Debug)]
pub enum ConnectError {
    /// It broke, or its end came first.
    Io(io::Error),
    /// What came first is not what HTTP/2 starts with.
    Protocol,
}

/// How a connection to an origin ended.
#[derive(Debug)]
pub enum End {
    /// It was let go and its last exchange is over.
    Done,
    /// The origin has closed it.
    Closed,
    /// It broke.
    Broken(io::Error),
    /// The origin broke the protocol.
    Fault(ErrorCode),
    /// The origin has sent too much of what costs it nothing.
    Flood,
    /// The origin has not acknowledged our SETTINGS, or a PING, within `h2_settings_timeout`, or has not ended a head within `head_timeout`.
    Silent,
}

/// Makes a connection one of HTTP/2: both sides say how they mean to go on. The caller bounds the time.
///
/// # Errors
/// When the connection ends before that, or the origin speaks something else.
pub async fn connect<C: Conn>(
    conn: C,
    scheme: &'static str,
    limits: Rc<Limits>,
) -> Result<(Rc<OriginConn>, Driver<C>), ConnectError> {
    let mux: SharedMux = Rc::new(RefCell::new(Mux::new(Rc::clone(&limits), Side::Client, false)));
    let local_text = conn.local_addr().log_text().into();
    let (head_timer, answer_timer) = (Timer::new(), Timer::new());
    let mut driver =
        Driver { wire: Wire::new(conn), mux: Rc::clone(&mux), limits: Rc::clone(&limits), head_timer, answer_timer };
    poll_fn(|cx| match driver.poll(cx) {
        Poll::Ready(End::Broken(e)) => Poll::Ready(Err(ConnectError::Io(e))),
        Poll::Ready(End::Fault(_) | End::Flood) => Poll::Ready(Err(ConnectError::Protocol)),
        Poll::Ready(_) => Poll::Ready(Err(ConnectError::Io(io::ErrorKind::UnexpectedEof.into()))),
        Poll::Pending if mux.borrow().phase == Phase::Frames => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await?;
    let (exchanges, opened) = (Cell::new(0), Instant::now());
    let conn = Rc::new(OriginConn { id: next_conn_id(), mux, limits, scheme, local_text, exchanges, opened });
    Ok((conn, driver))
}

impl OriginConn {
    /// Its number among the connections of this process.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
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

    /// A stream of it. None: it has no room for one more, or takes none any more.
    #[must_use]
    pub fn lease(self: &Rc<Self>, home: Rc<dyn StreamHome>) -> Option<StreamLease> {
        let timer = {
            let mut mux = self.mux.borrow_mut();
            if mux.streams_left() == 0 {
                return None;
            }
            mux.opening.reserved += 1;
            mux.opening.timers.pop().unwrap_or_default()
        };
        self.exchanges.set(self.exchanges.get() + 1);
        Some(StreamLease { conn: Rc::clone(self), stream: None, timer, home })
    }

    /// Whether it takes exchanges, now or when others are over.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.mux.borrow().is_open()
    }

    /// Whether the origin takes extended CONNECT (RFC 8441, 3).
    pub(super) fn takes_websocket(&self) -> bool {
        self.mux.borrow().peer.connect_protocol
    }

    /// Whether it is open and takes no exchange at all: the origin allows no streams.
    #[must_use]
    pub fn is_barren(&self) -> bool {
        let mux = self.mux.borrow();
        mux.is_open() && mux.streams_max() == 0
    }

    /// Whether it carries nothing.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let mux = self.mux.borrow();
        mux.store.len() + mux.opening.reserved == 0
    }

    /// Takes no exchange any more, and is closed when the last one is over.
    pub fn retire(&self) {
        let mut mux = self.mux.borrow_mut();
        if !std::mem::replace(&mut mux.opening.retired, true) {
            mux.wake_conn();
        }
    }

    /// Whether the origin has said that it goes.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.mux.borrow().opening.told.is_some()
    }

    /// Streams reset since this was last asked: by the origin, and by us because the origin broke the protocol on them.
    #[must_use]
    pub fn take_resets(&self) -> (u64, u64) {
        let Tally { reset, malformed, .. } = std::mem::take(&mut self.mux.borrow_mut().tally);
        (reset, malformed)
    }
}

impl StreamLease {
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

    /// Has the machine wake the task that asks when something happens on the stream.
    pub(super) fn watch(&self, cx: &Context<'_>) {
        let mut mux = self.conn.mux.borrow_mut();
        let Some(stream) = self.stream.and_then(|id| mux.store.get_mut(id)) else { return };
        match &mut stream.task {
            Some(task) => task.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }
}

impl Drop for StreamLease {
    fn drop(&mut self) {
        // Borrowed only when it panics in the machine itself: then the connection's task can't go on either.
        if let Ok(mut mux) = self.conn.mux.try_borrow_mut() {
            match self.stream {
                Some(id) => mux.close(id),
                None => mux.opening.reserved -= 1,
            }
            self.timer.clear();
            mux.opening.timers.push(std::mem::take(&mut self.timer));
        }
        self.home.stream_ended(&self.conn);
    }
}

impl<C: Conn> Driver<C> {
    /// Runs the connection until it ends. `changed` is called when it may take more exchanges than before, or no more.
    pub async fn run(mut self, changed: impl Fn()) -> End {
        let end = poll_fn(|cx| {
            let end = self.poll(cx);
            if std::mem::take(&mut self.mux.borrow_mut().opening.changed) {
                changed();
            }
            end
        })
        .await;
        let code = match end {
            End::Fault(code) => Some(code),
            End::Flood => Some(ErrorCode::EnhanceYourCalm),
            End::Silent | End::Done => Some(ErrorCode::NoError),
            End::Closed | End::Broken(_) => None,
        };
        {
            let mut mux = self.mux.borrow_mut();
            if let Some(code) = code {
                mux.go_away(code);
            }
            mux.lose();
        }
        // What the socket takes at once: an origin that reads nothing is not waited for.
        poll_fn(|cx| {
            if let Poll::Ready(Ok(())) = self.wire.poll_write(cx, &self.mux) {
                drop(self.wire.conn.poll_shutdown(cx));
            }
            Poll::Ready(())
        })
        .await;
        end
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            while self.mux.borrow().is_hearing() {
                match self.wire.poll_read(cx, &self.mux) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(Ok(()))) => {}
                    Poll::Ready(Ok(Err(Lost::Fault(code)))) => return Poll::Ready(End::Fault(code)),
                    Poll::Ready(Ok(Err(Lost::Flood(flood)))) => return Poll::Ready(flooded(flood)),
                    Poll::Ready(Err(e)) => return Poll::Ready(End::Broken(e)),
                }
            }
            let was_hearing = self.mux.borrow().is_hearing();
            let written = match self.wire.poll_write(cx, &self.mux) {
                Poll::Ready(Err(e)) => return Poll::Ready(End::Broken(e)),
                written => written,
            };
            if written.is_pending() || was_hearing || !self.mux.borrow().is_hearing() {
                break;
            }
        }
        self.poll_rest(cx)
    }

    /// Nothing to read or to write: what is there to wait for?
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let mut mux = self.mux.borrow_mut();
        if mux.phase == Phase::Deaf {
            return Poll::Ready(End::Closed);
        }
        let is_idle = mux.store.len() + mux.opening.reserved == 0;
        if is_idle && mux.phase == Phase::Frames && (mux.opening.retired || mux.opening.told.is_some()) {
            return Poll::Ready(End::Done);
        }
        let waits = mux.is_unacknowledged() || mux.opening.is_probing;
        let in_head = mux.block.is_some();
        if self.head_timer.watch(in_head, self.limits.head_timeout, cx)
            || self.answer_timer.watch(waits, self.limits.h2_settings_timeout, cx)
        {
            return Poll::Ready(End::Silent);
        }
        if is_idle {
            mux.release();
        }
        match &mut mux.task {
            Some(task) => task.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

fn flooded(flood: Flood) -> End {
    tracing::debug!(?flood, "an origin sends too much of what costs it nothing");
    End::Flood
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(e) => write!(f, "the connection ended before its SETTINGS came: {e}"),
            Self::Protocol => f.write_str("what it says first is not what HTTP/2 starts with"),
        }
    }
}

impl std::error::Error for ConnectError {}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("nothing is left to do on it"),
            Self::Closed => f.write_str("the origin has closed it"),
            Self::Broken(e) => write!(f, "it broke: {e}"),
            Self::Fault(code) => write!(f, "the origin broke the protocol: {code:?}"),
            Self::Flood => f.write_str("the origin sends too much of what costs it nothing"),
            Self::Silent => f.write_str(
                "the origin does not acknowledge within h2_settings_timeout, or end a head within head_timeout",
            ),
        }
    }
}
