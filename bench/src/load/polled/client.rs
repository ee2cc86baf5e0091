//! The tasks of a polled load: one for each connection.
//!
//! **Invariant:** a request allocates nothing; its deadline is looked at when bytes come and when the director wakes the task.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use ferrogate_core::net::{Address, Transport};
use tokio::sync::Semaphore;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use super::super::args::{LoadArgs, Mode};
use super::super::response::{Outcome, Reader};
use super::super::slot::Fault;
use super::open::{Established, OPENING_MAX, REST, open};
use super::shared::{Shared, Station};
use super::stream::{Stream, cut_short};
use crate::wire::clock::{Nanos, seconds};

/// Starts all connections. A bounded number is being opened at a time.
pub(super) fn start<T: Transport>(transport: &T, shared: &Rc<Shared>) {
    let opening = Rc::new(Semaphore::new(OPENING_MAX));
    for i in 0..shared.stations.len() {
        let task = Task { transport: transport.clone(), shared: Rc::clone(shared), i, is_first: true };
        spawn_local(task.run(Rc::clone(&opening)));
    }
}

/// Waits until the server can be reached: what is sent while a link comes up is lost, and sent again only much later.
pub(super) async fn probe<T: Transport>(transport: &T, args: &LoadArgs) {
    let Some(&to) = args.to.first() else { return };
    let reached = async {
        while !matches!(timeout(PROBE_TIMEOUT, transport.connect(&Address::Inet(to))).await, Ok(Ok(_))) {
            sleep(REST).await;
        }
    };
    // In vain: then that is what the load finds.
    let _ = timeout(Duration::from_nanos(seconds(args.timeout)), reached).await;
}

struct Task<T> {
    transport: T,
    shared: Rc<Shared>,
    i: usize,
    /// The run still waits for this task's first connection.
    is_first: bool,
}

/// A connection and what it has carried.
struct Link<T: Transport> {
    stream: Stream<T::Conn>,
    served: u32,
    reader: Reader,
    _counted: Established,
}

impl<T: Transport> Task<T> {
    async fn run(mut self, opening: Rc<Semaphore>) {
        let mut link = None;
        if !self.is_short() {
            let permit = opening.acquire().await;
            link = self.open_first().await;
            drop(permit);
        }
        self.first_done();
        if self.shared.args.mode == Mode::Idle {
            return self.rest(link).await;
        }
        loop {
            let intended = self.next_request().await;
            self.shared.stations[self.i].deadline.set(Some(intended + self.shared.timeout));
            let done = self.request(&mut link, intended).await;
            self.shared.stations[self.i].deadline.set(None);
            if let Err(error) = done {
                let established = link.take().is_some();
                self.shared.fault(Fault::of(&error, established), &error);
                sleep(REST).await;
            }
        }
    }

    /// A new connection for each request: none to begin with.
    fn is_short(&self) -> bool {
        self.shared.args.mode == Mode::Http && self.shared.args.requests_per_connection == 1
    }

    async fn open_first(&self) -> Option<Link<T>> {
        let args = &self.shared.args;
        let wants_request = args.opens_with_a_request();
        let mut link = None;
        let now = self.shared.clock.now();
        self.shared.stations[self.i].deadline.set(Some(now + self.shared.timeout));
        let opened = async {
            link = Some(self.connect().await?);
            if wants_request { self.request(&mut link, now).await } else { Ok(()) }
        };
        let opened = opened.await;
        self.shared.stations[self.i].deadline.set(None);
        if let Err(error) = opened {
            self.shared.fault(Fault::of(&error, link.take().is_some()), &error);
        }
        link
    }

    fn first_done(&mut self) {
        if std::mem::take(&mut self.is_first) {
            self.shared.unopened.set(self.shared.unopened.get() - 1);
        }
    }

    /// Holds a connection that nothing is sent on.
    async fn rest(&self, link: Option<Link<T>>) {
        let Some(mut link) = link else { return };
        // Whatever ends it, it is no longer established; what comes without being asked for is not looked at.
        while let Ok(1..) = poll_fn(|cx| link.stream.poll_receive(cx, |_| {})).await {}
    }

    /// Waits for the time to send: when the request was meant to leave.
    async fn next_request(&self) -> Nanos {
        if self.shared.args.rate.is_none() {
            return self.shared.clock.now();
        }
        let station = &self.shared.stations[self.i];
        self.shared.free.borrow_mut().push_back(self.i);
        poll_fn(|cx| {
            station.keep(cx.waker());
            station.due.borrow_mut().pop_front().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Sends one request and reads its answer.
    async fn request(&self, link: &mut Option<Link<T>>, intended: Nanos) -> io::Result<()> {
        let open = match link {
            Some(open) => open,
            None => link.insert(self.connect().await?),
        };
        let shared = &*self.shared;
        let number = shared.requests.borrow_mut().next();
        let length = shared.requests.borrow_mut().bytes(number).len();
        open.reader.begin((shared.args.mode == Mode::Tcp).then_some(length));
        let mut sent = 0;
        let (status, close) = poll_fn(|cx| open.poll_exchange(cx, shared, self.i, number, &mut sent)).await?;
        if status == 200 {
            shared.record.borrow_mut().response(shared.clock.now() - intended);
        } else {
            shared.record.borrow_mut().counts.errors.status += 1;
        }
        open.served = open.served.saturating_add(1);
        let is_last = open.served == shared.args.requests_per_connection;
        if close || (is_last && open.served == 1) {
            // The server closes; until it has, the exchange is not over.
            let station = &shared.stations[self.i];
            poll_fn(|cx| open.poll_end(cx, shared, station)).await?;
        }
        if close || is_last || sent < length {
            // A peer that has gone needs no good-bye.
            let _ = poll_fn(|cx| open.stream.poll_shutdown(cx)).await;
            *link = None;
        }
        Ok(())
    }

    /// Opens a connection, its handshake included.
    async fn connect(&self) -> io::Result<Link<T>> {
        let (stream, counted) = open(&self.transport, &self.shared, self.i).await?;
        Ok(Link { stream, served: 0, reader: Reader::default(), _counted: counted })
    }
}

impl<T: Transport> Link<T> {
    /// Sends what is unsent and reads what has come, until the answer is whole: its status, and whether the server closes.
    fn poll_exchange(
        &mut self,
        cx: &mut Context<'_>,
        shared: &Shared,
        i: usize,
        number: u32,
        sent: &mut usize,
    ) -> Poll<io::Result<(u16, bool)>> {
        shared.stations[i].keep(cx.waker());
        loop {
            let mut requests = shared.requests.borrow_mut();
            let rest = &requests.bytes(number)[*sent..];
            if rest.is_empty() {
                break;
            }
            let Poll::Ready(count) = self.stream.poll_send(cx, rest)? else { break };
            *sent += count;
            shared.record.borrow_mut().counts.bytes_out += count as u64;
        }
        // What waits to leave goes on leaving while the answer is waited for.
        let _ = self.stream.poll_flush(cx)?;
        loop {
            let mut last = shared.last_head.borrow_mut();
            let Self { stream, reader, .. } = self;
            let Poll::Ready(count) = stream.poll_receive(cx, |bytes| reader.feed(bytes, &mut last))? else {
                return shared.stations[i].late(shared.now.get());
            };
            shared.record.borrow_mut().counts.bytes_in += count as u64;
            let outcome = if count == 0 { reader.close() } else { reader.outcome() };
            match outcome {
                Outcome::Whole { status, close } => return Poll::Ready(Ok((status, close))),
                Outcome::Malformed => return Poll::Ready(Err(ErrorKind::InvalidData.into())),
                Outcome::Pending if count == 0 => return Poll::Ready(Err(cut_short())),
                Outcome::Pending => {}
            }
        }
    }

    /// Waits for the end of the stream.
    fn poll_end(&mut self, cx: &mut Context<'_>, shared: &Shared, station: &Station) -> Poll<io::Result<()>> {
        station.keep(cx.waker());
        loop {
            let Poll::Ready(count) = self.stream.poll_receive(cx, |_| {})? else {
                return station.late(shared.now.get());
            };
            if count == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// How long one attempt to reach the server takes at most.
const PROBE_TIMEOUT: Duration = Duration::from_millis(200);
