//! The tasks of a polled load whose connections carry many requests at a time.
//!
//! **Invariant:** what has come together is taken together, and what it makes room for leaves in one write.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::task::{Context, Poll};

use ferrogate_core::net::Transport;
use tokio::sync::Semaphore;
use tokio::task::spawn_local;
use tokio::time::sleep;

use super::super::multiplexed::{Done, Multiplexed};
use super::super::slot::Fault;
use super::open::{Established, OPENING_MAX, REST, open};
use super::shared::{Shared, Station};
use super::stream::{Stream, cut_short};

/// Starts all connections. A bounded number is being opened at a time.
pub(super) fn start<T: Transport, S: Multiplexed>(transport: &T, shared: &Rc<Shared>) {
    let opening = Rc::new(Semaphore::new(OPENING_MAX));
    for i in 0..shared.stations.len() {
        let task = Task { transport: transport.clone(), shared: Rc::clone(shared), i };
        spawn_local(task.run::<S>(Rc::clone(&opening)));
    }
}

struct Task<T> {
    transport: T,
    shared: Rc<Shared>,
    i: usize,
}

/// A connection, and the requests on it.
struct Link<T: Transport, S> {
    stream: Stream<T::Conn>,
    session: S,
    _counted: Established,
}

/// Until when a connection is driven.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// What is under way is answered; nothing new begins.
    Quiet,
    /// The server ends it.
    Ended,
}

impl<T: Transport> Task<T> {
    async fn run<S: Multiplexed>(self, opening: Rc<Semaphore>) {
        let permit = opening.acquire().await;
        let mut link = self.open_first::<S>().await;
        drop(permit);
        self.shared.unopened.set(self.shared.unopened.get() - 1);
        self.offer(link.as_ref().map_or(self.shared.args.streams as usize, |link| link.session.room()));
        loop {
            let driven = match &mut link {
                Some(link) => poll_fn(|cx| link.poll_drive(cx, &self.shared, self.i, Until::Ended)).await,
                None => Ok(()),
            };
            if let Err(error) = driven {
                self.lost(link.take(), &error);
                sleep(REST).await;
            }
            link = match self.connect().await {
                Ok(link) => Some(link),
                Err(error) => {
                    self.lost::<S>(None, &error);
                    sleep(REST).await;
                    None
                }
            };
        }
    }

    /// The first connection, after it has carried a request: only then has the other side accepted it.
    async fn open_first<S: Multiplexed>(&self) -> Option<Link<T, S>> {
        match self.connect::<S>().await {
            Ok(mut link) => {
                let now = self.shared.clock.now();
                link.session.begin(now);
                self.shared.stations[self.i].deadline.set(Some(now + self.shared.timeout));
                match poll_fn(|cx| link.poll_drive(cx, &self.shared, self.i, Until::Quiet)).await {
                    Ok(()) => return Some(link),
                    Err(error) => self.shared.fault(Fault::of(&error, true), &error),
                }
            }
            Err(error) => self.shared.fault(Fault::of(&error, false), &error),
        }
        None
    }

    async fn connect<S: Multiplexed>(&self) -> io::Result<Link<T, S>> {
        let (stream, counted) = open(&self.transport, &self.shared, self.i).await?;
        Ok(Link { stream, session: S::new(&self.shared.args), _counted: counted })
    }

    /// Counts what a broken connection takes along; in a load with a rate others may be sent in its place.
    fn lost<S: Multiplexed>(&self, link: Option<Link<T, S>>, error: &io::Error) {
        let under_way = link.as_ref().map_or(0, |link| link.session.under_way());
        let fault = Fault::of(error, link.is_some());
        (0..under_way.max(1)).for_each(|_| self.shared.fault(fault, error));
        self.offer(under_way);
    }

    fn offer(&self, count: usize) {
        if self.shared.args.rate.is_some() {
            self.shared.free.borrow_mut().extend(std::iter::repeat_n(self.i, count));
        }
    }
}

impl<T: Transport, S: Multiplexed> Link<T, S> {
    fn poll_drive(&mut self, cx: &mut Context<'_>, shared: &Shared, i: usize, until: Until) -> Poll<io::Result<()>> {
        let station = &shared.stations[i];
        station.keep(cx.waker());
        loop {
            if until == Until::Ended {
                self.begin_due(shared, station);
            }
            self.poll_send(cx, shared)?;
            let is_done = match until {
                Until::Quiet => self.session.under_way() == 0,
                Until::Ended => self.session.is_over(),
            };
            if is_done {
                station.deadline.set(None);
                return Poll::Ready(Ok(()));
            }
            let Poll::Ready(count) = self.poll_receive(cx, shared, i)? else {
                return station.late(shared.now.get());
            };
            if count == 0 {
                return Poll::Ready(Err(cut_short()));
            }
            let is_waiting = self.session.under_way() > 0;
            station.deadline.set(is_waiting.then(|| shared.now.get() + shared.timeout));
        }
    }

    /// Begins what is due; without a rate, as much as there is room for.
    fn begin_due(&mut self, shared: &Shared, station: &Station) {
        let room = self.session.room();
        if room == 0 {
            return;
        }
        let was_idle = self.session.under_way() == 0;
        if shared.args.rate.is_none() {
            let now = shared.clock.now();
            (0..room).for_each(|_| self.session.begin(now));
        } else {
            let mut due = station.due.borrow_mut();
            let count = due.len().min(room);
            due.drain(..count).for_each(|intended| self.session.begin(intended));
        }
        if was_idle && self.session.under_way() > 0 {
            station.deadline.set(Some(shared.now.get() + shared.timeout));
        }
    }

    /// Sends what goes.
    fn poll_send(&mut self, cx: &mut Context<'_>, shared: &Shared) -> io::Result<()> {
        while !self.session.unsent().is_empty() {
            let Poll::Ready(count) = self.stream.poll_send(cx, self.session.unsent())? else { break };
            self.session.sent(count);
            shared.record.borrow_mut().counts.bytes_out += count as u64;
        }
        match self.stream.poll_flush(cx) {
            Poll::Ready(Err(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes what has come, once: how many bytes off the wire.
    fn poll_receive(&mut self, cx: &mut Context<'_>, shared: &Shared, i: usize) -> Poll<io::Result<usize>> {
        let now = shared.clock.now();
        let mut record = shared.record.borrow_mut();
        let (mut answered, mut is_malformed) = (0, false);
        let Self { stream, session, .. } = self;
        let received = stream.poll_receive(cx, |bytes| {
            let fed = session.feed(bytes, |Done { intended, is_good }| {
                answered += 1;
                if is_good {
                    record.response(now.saturating_sub(intended));
                } else {
                    record.counts.errors.status += 1;
                }
            });
            is_malformed |= fed.is_err();
        });
        let Poll::Ready(count) = received? else { return Poll::Pending };
        record.counts.bytes_in += count as u64;
        drop(record);
        if is_malformed {
            return Poll::Ready(Err(ErrorKind::InvalidData.into()));
        }
        if shared.args.rate.is_some() && answered > 0 {
            shared.free.borrow_mut().extend(std::iter::repeat_n(i, answered));
            shared.catch_up(now);
        }
        Poll::Ready(Ok(count))
    }
}
