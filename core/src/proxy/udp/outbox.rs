//! What waits to leave by a listener's socket: the answers to all its clients, sent together.
//!
//! The sessions that hear of their hosts in one turn of the worker put their answers here, and one system call takes many: whenever a burst is
//! full, and when the sender has its turn behind them.
//!
//! **Invariant:** bounded: a session that finds it full waits before it receives more, and what its host sends meanwhile waits in the kernel,
//! or is lost there.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;

use super::Client;
use crate::net::{BURST_DATAGRAMS_MAX, Datagram, Datagrams};
use crate::telemetry::metrics::ListenerCounters;

/// The answers that wait for one socket.
pub struct Outbox<D> {
    socket: Rc<D>,
    counters: Arc<ListenerCounters>,
    waiting: RefCell<Waiting>,
    filled: Notify,
    drained: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    letters: Vec<Letter>,
    /// How many of the letters have left.
    sent: usize,
    /// The socket took no more.
    is_blocked: bool,
}

/// One datagram: to whom, and where it lies.
#[derive(Debug)]
struct Letter {
    to: Client,
    place: Range<usize>,
}

impl<D: Datagrams> Outbox<D> {
    /// An empty one; what is lost is counted in `counters`.
    #[must_use]
    pub fn new(socket: Rc<D>, counters: Arc<ListenerCounters>) -> Self {
        Self { socket, counters, waiting: RefCell::default(), filled: Notify::new(), drained: Notify::new() }
    }

    /// Puts an answer in. Lost when it is full, because more sessions heard of their hosts at once than there is room for.
    pub fn put(&self, to: Client, bytes: &[u8]) {
        let mut waiting = self.waiting.borrow_mut();
        let is_burst = waiting.letters.len() - waiting.sent >= BURST_DATAGRAMS_MAX;
        if (is_burst || waiting.is_full()) && !waiting.is_blocked {
            self.flush(&mut waiting);
        }
        if waiting.is_full() {
            self.counters.datagrams_dropped.inc();
            return;
        }
        if waiting.letters.is_empty() {
            self.filled.notify_one();
        }
        let start = waiting.bytes.len();
        waiting.bytes.extend_from_slice(bytes);
        waiting.letters.push(Letter { to, place: start..start + bytes.len() });
    }

    /// Waits until it is not full.
    pub async fn room(&self) {
        while self.waiting.borrow().is_full() {
            self.drained.notified().await;
        }
    }

    /// Sends what is put in, as long as there is a socket.
    pub async fn send(&self) {
        loop {
            self.filled.notified().await;
            loop {
                self.flush(&mut self.waiting.borrow_mut());
                if !self.waiting.borrow().is_blocked {
                    break;
                }
                if self.socket.sendable().await.is_err() {
                    return;
                }
            }
            self.drained.notify_waiters();
        }
    }

    /// Sends until all has left or the socket takes no more. What it refuses is lost.
    fn flush(&self, waiting: &mut Waiting) {
        waiting.is_blocked = false;
        while waiting.sent < waiting.letters.len() {
            match waiting.send_some(&*self.socket) {
                Ok(n) => waiting.sent += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    waiting.is_blocked = true;
                    return;
                }
                Err(error) => {
                    tracing::debug!(client = %waiting.letters[waiting.sent].to.peer, %error, "an answer can't be sent");
                    self.counters.datagrams_dropped.inc();
                    waiting.sent += 1;
                }
            }
        }
        waiting.clear();
    }
}

impl<D> fmt::Debug for Outbox<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("letters", &self.waiting.borrow().letters.len()).finish_non_exhaustive()
    }
}

impl Waiting {
    fn is_full(&self) -> bool {
        self.bytes.len() >= WAITING_BYTES_MAX || self.letters.len() >= WAITING_DATAGRAMS_MAX
    }

    /// Sends the next letters, at most a burst; says how many.
    fn send_some(&self, socket: &impl Datagrams) -> io::Result<usize> {
        let mut burst = [Datagram::NONE; BURST_DATAGRAMS_MAX];
        let letters = &self.letters[self.sent..];
        for (datagram, letter) in burst.iter_mut().zip(letters) {
            let bytes = &self.bytes[letter.place.clone()];
            *datagram = Datagram { peer: letter.to.peer, local: letter.to.local, bytes };
        }
        socket.try_send(&burst[..letters.len().min(BURST_DATAGRAMS_MAX)])
    }

    /// Empties it; memory for more than is usual is given back.
    fn clear(&mut self) {
        self.bytes.clear();
        self.letters.clear();
        self.sent = 0;
        if self.bytes.capacity() > KEPT_BYTES_MAX {
            self.bytes = Vec::new();
        }
    }
}

/// Bytes that wait, at which no session receives more; one datagram may come on top.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// Datagrams that wait, likewise.
const WAITING_DATAGRAMS_MAX: usize = 4096;

/// Memory that is kept for the next time, in bytes.
const KEPT_BYTES_MAX: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::{Future, pending};
    use std::net::SocketAddr;
    use std::pin::pin;
    use std::task::Waker;

    use super::*;

    /// A socket with room for so many.
    #[derive(Default)]
    struct Socket {
        room: Cell<usize>,
        sent: RefCell<Vec<Vec<u8>>>,
        calls: Cell<usize>,
    }

    impl Datagrams for Socket {
        async fn receive<R>(&self, _: impl FnOnce(&[Datagram<'_>]) -> R) -> io::Result<R> {
            pending().await
        }

        fn try_send(&self, datagrams: &[Datagram<'_>]) -> io::Result<usize> {
            self.calls.set(self.calls.get() + 1);
            let n = datagrams.len().min(self.room.get());
            if n == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.room.set(self.room.get() - n);
            self.sent.borrow_mut().extend(datagrams[..n].iter().map(|d| d.bytes.to_vec()));
            Ok(n)
        }

        async fn sendable(&self) -> io::Result<()> {
            std::future::poll_fn(|_| if self.room.get() > 0 { Ok(()).into() } else { std::task::Poll::Pending }).await
        }

        fn local_addr(&self) -> SocketAddr {
            Datagram::NONE.peer
        }
    }

    const ANYBODY: Client = Client { peer: Datagram::NONE.peer, local: None };

    fn poll(future: std::pin::Pin<&mut impl Future>) -> bool {
        future.poll(&mut std::task::Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn answers_leave_together_and_in_order() {
        let socket = Rc::new(Socket { room: Cell::new(usize::MAX), ..Socket::default() });
        let outbox = Outbox::new(Rc::clone(&socket), Arc::default());
        let mut sender = pin!(outbox.send());
        assert!(!poll(sender.as_mut()));
        for n in 0..70_u8 {
            outbox.put(ANYBODY, &[n]);
        }
        assert_eq!(socket.sent.borrow().len(), 64, "a full burst does not wait");
        assert!(!poll(sender.as_mut()));
        assert_eq!(*socket.sent.borrow(), (0..70_u8).map(|n| vec![n]).collect::<Vec<_>>());
        assert_eq!(socket.calls.get(), 3);
    }

    #[test]
    fn what_waits_is_bounded_and_waits_for_room() {
        let (socket, counters) = (Rc::new(Socket::default()), Arc::new(ListenerCounters::default()));
        let outbox = Outbox::new(Rc::clone(&socket), Arc::clone(&counters));
        let mut sender = pin!(outbox.send());
        for n in 0..WAITING_DATAGRAMS_MAX + 10 {
            outbox.put(ANYBODY, &n.to_be_bytes());
        }
        assert_eq!((counters.datagrams_dropped.get(), socket.calls.get()), (10, 1), "a full socket is asked once");
        assert!(!poll(sender.as_mut()));
        let mut room = pin!(outbox.room());
        assert!(!poll(room.as_mut()));
        socket.room.set(usize::MAX);
        assert!(!poll(sender.as_mut()));
        assert_eq!(socket.sent.borrow().len(), WAITING_DATAGRAMS_MAX);
        assert!(poll(room.as_mut()));
        for _ in 0..BURST_DATAGRAMS_MAX {
            outbox.put(ANYBODY, &[0; 65_507]);
        }
        assert!(outbox.waiting.borrow().bytes.len() < WAITING_BYTES_MAX + 65_507);
        assert_eq!(counters.datagrams_dropped.get(), 10, "a socket with room takes more than may wait");
    }
}
