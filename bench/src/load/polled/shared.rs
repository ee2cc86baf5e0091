//! What the tasks of a polled load have in common, on their one thread.
//!
//! **Invariant:** no borrow is held across an await.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::super::args::LoadArgs;
use super::super::error::LoadError;
use super::super::pace::Pace;
use super::super::record::Record;
use super::super::requests::Requests;
use super::super::response::LastHead;
use super::super::slot::{Explained, Fault};
use super::super::spare::Meter;
use super::super::tls::Client;
use super::super::window::Window;
use crate::wire::clock::{Clock, Nanos, seconds};

/// The state of a run.
pub(super) struct Shared {
    pub(super) args: LoadArgs,
    pub(super) clock: Clock,
    /// The time of the last turn: for deadlines, which need no better.
    pub(super) now: Cell<Nanos>,
    pub(super) timeout: Nanos,
    pub(super) record: RefCell<Record>,
    pub(super) requests: RefCell<Requests>,
    pub(super) last_head: RefCell<LastHead>,
    pub(super) window: RefCell<Window>,
    pub(super) pace: RefCell<Option<Pace>>,
    pub(super) tls: Option<Client>,
    pub(super) stations: Box<[Station]>,
    /// Stations of a load with a rate that can take a request, longest free first; one that can take several stands here as often.
    pub(super) free: RefCell<VecDeque<usize>>,
    /// First connections under way or to come.
    pub(super) unopened: Cell<usize>,
    pub(super) established: Cell<u64>,
    /// The window has closed: what breaks now is our own leaving.
    pub(super) is_over: Cell<bool>,
    explained: RefCell<Explained>,
}

/// What others tell a connection's task.
#[derive(Default)]
pub(super) struct Station {
    /// The intended times of requests that wait to be sent.
    pub(super) due: RefCell<VecDeque<Nanos>>,
    /// When its request is given up.
    pub(super) deadline: Cell<Option<Nanos>>,
    waker: RefCell<Option<Waker>>,
}

impl Shared {
    pub(super) fn new(args: LoadArgs, meter: Meter) -> Result<Rc<Self>, LoadError> {
        let clock = Clock::new();
        let count = usize::try_from(args.connections).unwrap_or(usize::MAX);
        Ok(Rc::new(Self {
            clock,
            now: Cell::new(clock.now()),
            timeout: seconds(args.timeout),
            record: RefCell::new(Record::new()),
            requests: RefCell::new(Requests::new(&args)),
            last_head: RefCell::default(),
            window: RefCell::new(Window::new(&args, meter, clock.now())),
            pace: RefCell::default(),
            tls: Client::new(&args)?,
            stations: (0..count).map(|_| Station::default()).collect(),
            free: RefCell::new(VecDeque::with_capacity(count)),
            unopened: Cell::new(count),
            established: Cell::new(0),
            is_over: Cell::new(false),
            explained: RefCell::default(),
            args,
        }))
    }

    /// Counts a fault.
    pub(super) fn fault(&self, fault: Fault, error: &io::Error) {
        if self.is_over.get() {
            return;
        }
        self.explained.borrow_mut().say(fault, error);
        fault.count(&mut self.record.borrow_mut().counts.errors);
    }
}

impl Station {
    /// Pending, or the error of a request whose time is over.
    pub(super) fn late<R>(&self, now: Nanos) -> Poll<io::Result<R>> {
        match self.deadline.get() {
            Some(deadline) if deadline <= now => Poll::Ready(Err(ErrorKind::TimedOut.into())),
            _ => Poll::Pending,
        }
    }

    /// Remembers whom to wake. A task's waker stays the same.
    pub(super) fn keep(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if kept.is_none() {
            *kept = Some(waker.clone());
        }
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}
