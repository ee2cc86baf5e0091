//! One listener of datagrams on one worker: who has a session, who gets one, and when it ends.
//!
//! **Invariant:** a client has one session at a time, and no more of them are open than `udp_sessions_max`; what a stranger sends beyond that
//! costs a look into a table.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use tokio::task::{AbortHandle, spawn_local, yield_now};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::entrance::{Entrance, QUEUE_TIMEOUT};
use super::{SWEEP_INTERVAL, Worker};
use crate::net::{Datagram, Datagrams, Transport};
use crate::proxy::{Client, Outbox, Passed, UdpSession};
use crate::stream::load::{Charge, SESSION_BYTES};
use crate::telemetry::metrics::ListenerCounters;
use crate::telemetry::pulse::Work;

/// The sessions of one listener.
struct Relay<T: Transport> {
    entrance: Rc<Entrance<T>>,
    socket: Rc<T::Datagrams>,
    outbox: Rc<Outbox<T::Datagrams>>,
    table: RefCell<Table<T>>,
    me: Weak<Self>,
}

struct Table<T: Transport> {
    sessions: Slab<Entry<T>>,
    by_client: HashMap<Client, usize>,
    /// Where the next sweep begins.
    swept: usize,
}

/// A session, and the task that passes its answers on, which ends with it.
struct Entry<T: Transport> {
    session: Rc<UdpSession<T>>,
    answers: AbortHandle,
}

/// A session is counted, and its memory, while this lives.
pub(super) struct Pass<T: Transport> {
    worker: Rc<Worker<T>>,
    listener: Arc<ListenerCounters>,
    _charge: Charge,
}

/// Serves one listener's datagrams until it is retired and its sessions are over, or aborted.
pub(super) async fn relay<T: Transport>(entrance: Rc<Entrance<T>>, socket: T::Datagrams) {
    let relay = Relay::new(entrance, Rc::new(socket));
    let outbox = Rc::clone(&relay.outbox);
    let _sender = Ends(spawn_local(async move { outbox.send().await }).abort_handle());
    let mut tick = interval(SWEEP_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut retired: Option<Instant> = None;
    loop {
        let is_new = retired.is_none_or(|since| since.elapsed() < QUEUE_TIMEOUT);
        tokio::select! {
            received = relay.socket.receive(|burst| relay.take(burst, is_new)), if !relay.socket.is_handed_over() => {
                match received {
                    Ok(()) => yield_now().await,
                    Err(error) => relay.pause(&error).await,
                }
            }
            () = relay.entrance.retire.notified() => retired = Some(Instant::now()),
            _ = tick.tick() => relay.sweep(retired.is_some()),
        }
        if let Some(since) = retired
            && relay.is_over(since)
        {
            return;
        }
    }
}

impl<T: Transport> Relay<T> {
    fn new(entrance: Rc<Entrance<T>>, socket: Rc<T::Datagrams>) -> Rc<Self> {
        let counters = Arc::clone(entrance.service.borrow().listener_counters());
        let outbox = Rc::new(Outbox::new(Rc::clone(&socket), counters));
        let table = RefCell::new(Table { sessions: Slab::new(), by_client: HashMap::new(), swept: 0 });
        Rc::new_cyclic(|me| Self { entrance, socket, outbox, table, me: Weak::clone(me) })
    }

    /// Passes a burst on, the datagrams of one client that stand together in one go. With `is_new` strangers get sessions.
    fn take(&self, burst: &[Datagram<'_>], is_new: bool) {
        let _running = self.entrance.worker.load.enter(Work::Datagrams, 0);
        let now = Instant::now();
        let mut rest = burst;
        while let Some(first) = rest.first() {
            let client = Client::of(first);
            let run = rest.iter().take_while(|next| Client::of(next) == client).count();
            self.pass(client, &rest[..run], now, is_new);
            rest = &rest[run..];
        }
    }

    /// Passes datagrams of one client on. One whose host has nobody listening gets another session, once.
    fn pass(&self, client: Client, mut datagrams: &[Datagram<'_>], now: Instant, is_new: bool) {
        for _ in 0..SESSIONS_TRIED_MAX {
            let Some(session) = self.session(client, datagrams.len(), is_new) else { return };
            match session.pass(datagrams, now) {
                Passed::All => return,
                Passed::Refused(passed) => {
                    self.end(&session);
                    datagrams = &datagrams[passed..];
                }
            }
        }
        self.listener_counters().datagrams_dropped.add(datagrams.len() as u64);
    }

    /// The session of a client, or a new one; None, and so many datagrams counted, when it gets none.
    fn session(&self, client: Client, datagrams: usize, is_new: bool) -> Option<Rc<UdpSession<T>>> {
        let mut table = self.table.borrow_mut();
        if let Some(&key) = table.by_client.get(&client) {
            return Some(Rc::clone(&table.sessions[key].session));
        }
        let worker = &self.entrance.worker;
        if !is_new || !worker.has_room_for_session() {
            self.entrance.service.borrow().listener_counters().session_refused.add(datagrams as u64);
            return None;
        }
        let session = self.entrance.open_session(client, self.socket.local_addr())?;
        let pass = worker.enter_session(self.listener_counters());
        let answers = spawn_local(answers(Weak::clone(&self.me), Rc::clone(&session), pass)).abort_handle();
        let key = table.sessions.insert(Entry { session: Rc::clone(&session), answers });
        table.by_client.insert(client, key);
        Some(session)
    }

    /// Ends a session, if it is still its client's.
    fn end(&self, session: &Rc<UdpSession<T>>) {
        let mut table = self.table.borrow_mut();
        let key = table.by_client.get(&session.client()).copied();
        if let Some(key) = key.filter(|key| Rc::ptr_eq(&table.sessions[*key].session, session)) {
            table.remove(key);
        }
    }

    /// Ends sessions in which nothing has moved for too long, and those whose host is to get no more.
    fn sweep(&self, is_retired: bool) {
        let _running = self.entrance.worker.load.enter(Work::Sweep, 0);
        let Some((timeout, generation)) = self.entrance.session_terms() else { return };
        let timeout = if is_retired { timeout.min(LAST_WORDS_TIMEOUT) } else { timeout };
        let mut table = self.table.borrow_mut();
        let now = Instant::now();
        let start = if table.swept < table.sessions.capacity() { table.swept } else { 0 };
        for key in start..start + SWEEP_SESSIONS_MAX {
            let Some(Entry { session, .. }) = table.sessions.get(key) else { continue };
            if session.silent_for(now) >= timeout {
                self.listener_counters().session_idle_closed.inc();
                table.remove(key);
            } else if session.is_outdated(&generation) {
                table.remove(key);
            }
        }
        table.swept = start + SWEEP_SESSIONS_MAX;
    }

    /// Whether a listener that has been retired `since` then has nothing more to do.
    fn is_over(&self, since: Instant) -> bool {
        let limit = self.entrance.limits.borrow().graceful_timeout;
        let passed = since.elapsed();
        passed >= limit || (passed >= QUEUE_TIMEOUT && self.table.borrow().sessions.is_empty())
    }

    /// After a failed receive: memory may come back.
    async fn pause(&self, error: &io::Error) {
        tracing::warn!(%error, "receiving datagrams pauses");
        let pause = self.entrance.limits.borrow().accept_pause;
        sleep(pause).await;
    }

    fn listener_counters(&self) -> Arc<ListenerCounters> {
        Arc::clone(self.entrance.service.borrow().listener_counters())
    }
}

impl<T: Transport> Table<T> {
    fn remove(&mut self, key: usize) {
        let entry = self.sessions.remove(key);
        self.by_client.remove(&entry.session.client());
    }
}

impl<T: Transport> Drop for Entry<T> {
    fn drop(&mut self) {
        self.answers.abort();
    }
}

/// Passes a session's answers on until its host fails.
async fn answers<T: Transport>(relay: Weak<Relay<T>>, session: Rc<UdpSession<T>>, pass: Pass<T>) {
    let _pass = pass;
    let Some(outbox) = relay.upgrade().map(|relay| Rc::clone(&relay.outbox)) else { return };
    session.answers(&outbox).await;
    if let Some(relay) = relay.upgrade() {
        relay.end(&session);
    }
}

impl<T: Transport> Worker<T> {
    /// Whether one more session may be opened. Connections and sessions share descriptors: together they are bounded by what either may have.
    fn has_room_for_session(&self) -> bool {
        let (open, sessions_max) = (self.sessions.get(), self.sessions_max.get());
        let has_descriptor = self.conns.borrow().len() + open < self.conns_max.get().max(sessions_max);
        open < sessions_max && has_descriptor && !self.load.is_full()
    }

    fn enter_session(self: &Rc<Self>, listener: Arc<ListenerCounters>) -> Pass<T> {
        self.sessions.set(self.sessions.get() + 1);
        listener.session_total.inc();
        listener.session_active.inc();
        Pass { worker: Rc::clone(self), listener, _charge: self.load.charge(SESSION_BYTES) }
    }
}

impl<T: Transport> Drop for Pass<T> {
    fn drop(&mut self) {
        let worker = &self.worker;
        let was_full = worker.is_full();
        worker.sessions.set(worker.sessions.get() - 1);
        if was_full {
            worker.room.notify_waiters();
        }
        self.listener.session_active.dec();
        if std::thread::panicking() {
            worker.counters.downstream.panicked.inc();
        }
    }
}

/// A task that ends with this.
struct Ends(AbortHandle);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sessions that one sweep looks at.
const SWEEP_SESSIONS_MAX: usize = 4096;

/// Sessions that one datagram may go through: a host that has nobody listening is found out by the second.
const SESSIONS_TRIED_MAX: usize = 2;

/// A session of a retired listener is over when nothing has moved for so long: nobody says when it ends.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);
