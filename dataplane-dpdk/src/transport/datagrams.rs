//! A socket for datagrams on this plane: of the stacks of a worker, of its kernel, or of both.
//!
//! **Invariant:** what is shown lies where it arrived, and no stack is borrowed meanwhile: whoever sees it may send.

use std::cell::Cell;
use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use ferrogate_core::net::{BURST_DATAGRAMS_MAX, Datagram, Datagrams};
use tokio::task::coop;

use crate::stack::{Bind, Received, SharedStack, SocketId};

/// A socket for datagrams over the ports, the kernel (`D`), or both.
pub struct DpdkDatagrams<D> {
    bound: Vec<Bound>,
    kernel: Option<D>,
    local: SocketAddr,
    /// It has one address alone, so that nobody need be told which.
    is_alone: bool,
    /// Which of the stacks is looked at first, and whether the kernel is before them: none keeps the others from being received.
    turn: Cell<usize>,
    kernel_first: Cell<bool>,
    /// Who had no room when it was last sent on: one of `bound`, or else the kernel.
    full: Cell<usize>,
}

impl<D: Datagrams> DpdkDatagrams<D> {
    /// A listener's: on each of these stacks, and on the kernel beside them.
    pub(super) fn listening(
        address: SocketAddr,
        bind: Bind,
        stacks: Vec<SharedStack>,
        kernel: Option<D>,
    ) -> io::Result<Self> {
        let mut port = kernel.as_ref().map_or(address.port(), |kernel| kernel.local_addr().port());
        let mut bound = Vec::with_capacity(stacks.len());
        for stack in stacks {
            let (id, chosen) = stack.borrow_mut().bind_datagrams(bind, port)?;
            port = chosen;
            bound.push(Bound { stack, id });
        }
        let is_alone = kernel.is_none() && matches!(bind, Bind::One(_));
        Ok(Self::new(bound, kernel, SocketAddr::new(address.ip(), port), is_alone))
    }

    /// Of one host, over the port on the way to it.
    pub(super) fn connected(stack: &SharedStack, to: SocketAddr) -> io::Result<Self> {
        let (id, local) = stack.borrow_mut().connect_datagrams(to)?;
        let bound = vec![Bound { stack: SharedStack::clone(stack), id }];
        Ok(Self::new(bound, None, local, true))
    }

    /// Over the kernel alone.
    pub(super) fn over_kernel(kernel: D) -> Self {
        let local = kernel.local_addr();
        Self::new(Vec::new(), Some(kernel), local, true)
    }

    fn new(bound: Vec<Bound>, kernel: Option<D>, local: SocketAddr, is_alone: bool) -> Self {
        Self { bound, kernel, local, is_alone, turn: Cell::new(0), kernel_first: Cell::new(false), full: Cell::new(0) }
    }

    /// Takes what there is on one of the stacks.
    fn poll_bound(&self, cx: &mut Context<'_>) -> Poll<io::Result<Burst<'_>>> {
        let coop = ready!(coop::poll_proceed(cx));
        let (count, turn) = (self.bound.len(), self.turn.get());
        for n in 0..count {
            let place = (turn + n) % count;
            let Bound { stack, id, .. } = &self.bound[place];
            if let Poll::Ready(taken) = stack.borrow_mut().poll_datagrams(*id, cx) {
                coop.made_progress();
                self.turn.set((place + 1) % count);
                return Poll::Ready(taken.map(|datagrams| Burst { stack, datagrams }));
            }
        }
        Poll::Pending
    }

    /// Which socket a datagram leaves by: the one with its address, or else the kernel's.
    fn way_of(&self, datagram: &Datagram<'_>) -> usize {
        if self.kernel.is_none() && self.bound.len() == 1 {
            return 0;
        }
        let local = datagram.local.map(|ip| ip.to_canonical());
        let is_it = |bound: &Bound| local.is_some_and(|ip| bound.stack.borrow().has_address(ip));
        self.bound.iter().position(is_it).unwrap_or(self.bound.len())
    }
}

impl<D: Datagrams> Datagrams for DpdkDatagrams<D> {
    async fn receive<R>(&self, f: impl FnOnce(&[Datagram<'_>]) -> R) -> io::Result<R> {
        let f = Cell::new(Some(f));
        let mut kernel = pin!(async {
            match &self.kernel {
                Some(kernel) => kernel.receive(|burst| f.take().map(|f| f(burst))).await,
                None => pending().await,
            }
        });
        poll_fn(|cx| {
            // In turn, where both have something.
            for by_kernel in [self.kernel_first.get(), !self.kernel_first.get()] {
                let shown = if by_kernel {
                    kernel.as_mut().poll(cx)
                } else {
                    let burst = self.poll_bound(cx);
                    burst.map_ok(|burst| f.take().map(|f| burst.show(self.is_alone, f)))
                };
                if shown.is_ready() {
                    self.kernel_first.set(!by_kernel);
                    return shown;
                }
            }
            Poll::Pending
        })
        .await
        .map(|shown| shown.expect("it was shown once"))
    }

    fn try_send(&self, datagrams: &[Datagram<'_>]) -> io::Result<usize> {
        let Some(first) = datagrams.first() else { return Ok(0) };
        let way = self.way_of(first);
        let run = datagrams.iter().take_while(|next| self.way_of(next) == way).count();
        let sent = match (self.bound.get(way), &self.kernel) {
            (Some(Bound { stack, id, .. }), _) => stack.borrow_mut().send_datagrams(*id, &datagrams[..run]),
            (None, Some(kernel)) => kernel.try_send(&datagrams[..run]),
            (None, None) => Err(io::ErrorKind::AddrNotAvailable.into()),
        };
        if sent.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock) {
            self.full.set(way);
        }
        sent
    }

    async fn sendable(&self) -> io::Result<()> {
        match (self.bound.get(self.full.get()), &self.kernel) {
            (Some(Bound { stack, .. }), _) => {
                poll_fn(|cx| stack.borrow_mut().poll_sendable(cx)).await;
                Ok(())
            }
            (None, Some(kernel)) => kernel.sendable().await,
            (None, None) => Ok(()),
        }
    }

    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn is_handed_over(&self) -> bool {
        self.kernel.as_ref().is_some_and(Datagrams::is_handed_over)
    }
}

impl<D> fmt::Debug for DpdkDatagrams<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DpdkDatagrams").field("local", &self.local).finish_non_exhaustive()
    }
}

/// A socket of one stack. Dropped, it is closed.
struct Bound {
    stack: SharedStack,
    id: SocketId,
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.stack.borrow_mut().close_datagrams(self.id);
    }
}

/// Datagrams that were taken off a stack.
struct Burst<'s> {
    stack: &'s SharedStack,
    datagrams: Vec<Received>,
}

impl Burst<'_> {
    /// Shows them; `is_alone`: of a socket with one address.
    fn show<R>(self, is_alone: bool, f: impl FnOnce(&[Datagram<'_>]) -> R) -> R {
        let mut shown = [Datagram::NONE; BURST_DATAGRAMS_MAX];
        for (datagram, received) in shown.iter_mut().zip(&self.datagrams) {
            let local = (!is_alone).then_some(received.local);
            *datagram = Datagram { peer: received.peer, local, bytes: received.bytes() };
        }
        let result = f(&shown[..self.datagrams.len()]);
        self.stack.borrow_mut().give_back(self.datagrams);
        result
    }
}
