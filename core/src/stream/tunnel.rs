//! A tunnel: bytes both ways between two connections, or streams of HTTP/2, each direction ended by itself.
//!
//! **Invariant:** nothing is parsed and nothing is kept: a direction reads only what the other side can take.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use super::timer::{IdleTimer, Timer};
use crate::net::Conn;

/// Bytes moved by a tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// From the first connection to the second.
    pub forth: u64,
    /// From the second connection to the first.
    pub back: u64,
}

/// Why a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelEnd {
    /// Both directions were ended by their senders.
    Closed,
    /// One side broke; the other has been cut off too.
    Broken,
    /// Nothing moved for `idle_timeout`, or up to a quarter longer.
    Idle,
}

/// One side of a tunnel: a connection, or a stream of one.
pub trait Mouth {
    /// Hands everything that was written on.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ends our direction, behind what was written.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ends both directions at once.
    fn abort(&mut self);
}

/// A side whose bytes can go to that one.
pub trait Passes<B>: Mouth {
    /// Moves up to `limit` bytes that have come, no more than `to` has room for. Says how many; 0 is the end.
    fn poll_pass(&mut self, to: &mut B, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<usize>>;
}

impl<C: Conn> Mouth for C {
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Conn::poll_flush(self, cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Conn::poll_shutdown(self, cx)
    }

    fn abort(&mut self) {
        Conn::abort(self);
    }
}

impl<C: Conn> Passes<C> for C {
    fn poll_pass(&mut self, to: &mut C, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<usize>> {
        self.poll_relay(to, cx, limit)
    }
}

/// Relays between `a` and `b` until both directions have ended, one side breaks, or nothing moves for `idle_timeout`. `meter` is told what
/// each turn has moved.
pub async fn tunnel<A: Passes<B>, B: Passes<A>>(
    a: &mut A,
    b: &mut B,
    idle_timeout: Duration,
    mut meter: impl FnMut(Moved),
) -> (Moved, TunnelEnd) {
    let mut moved = Moved::default();
    let (mut forth, mut back) = (Direction::Open, Direction::Open);
    let mut idle = IdleTimer::new(idle_timeout);
    let end = poll_fn(|cx| {
        let before = moved;
        let (one, two) = (forth.poll(cx, a, b, &mut moved.forth), back.poll(cx, b, a, &mut moved.back));
        if moved != before {
            meter(Moved { forth: moved.forth - before.forth, back: moved.back - before.back });
        }
        match (one, two) {
            (Err(()), _) | (_, Err(())) => Poll::Ready(TunnelEnd::Broken),
            (Ok(Direction::Ended), Ok(Direction::Ended)) => Poll::Ready(TunnelEnd::Closed),
            _ => idle.poll_expired(cx, moved != before).map(|()| TunnelEnd::Idle),
        }
    })
    .await;
    if end != TunnelEnd::Closed {
        // What one side sent before it broke still belongs to the other.
        let mut timer = Timer::new();
        timer.set(LAST_BYTES_TIMEOUT);
        poll_fn(|cx| {
            let (one, two) = (forth.poll_last(cx, b), back.poll_last(cx, a));
            if one.is_ready() && two.is_ready() { Poll::Ready(()) } else { timer.poll_expired(cx) }
        })
        .await;
        // Who has had all that there was, and the end of it, keeps that: a reset could overtake it.
        if back != Direction::Ended {
            a.abort();
        }
        if forth != Direction::Ended {
            b.abort();
        }
    }
    (moved, end)
}

/// One direction: `Open` until its sender ends, then `Ending` until that has been passed on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Open,
    Ending,
    Ended,
}

impl Direction {
    /// Lets the last bytes leave, and the end where it is one.
    fn poll_last<B: Mouth>(&mut self, cx: &mut Context<'_>, to: &mut B) -> Poll<()> {
        if *self != Self::Ending {
            return to.poll_flush(cx).map(drop);
        }
        to.poll_shutdown(cx).map(|shut| {
            if shut.is_ok() {
                *self = Self::Ended;
            }
        })
    }

    /// Moves what can be moved now; the state it got to.
    fn poll<A: Passes<B>, B: Mouth>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut A,
        to: &mut B,
        moved: &mut u64,
    ) -> Result<Self, ()> {
        let mut steps = 0;
        while *self == Self::Open {
            if steps == STEPS_MAX {
                // The other direction's turn: this one could go on for as long as its sender is as fast as we are.
                cx.waker().wake_by_ref();
                break;
            }
            steps += 1;
            match from.poll_pass(to, cx, RELAY_BYTES) {
                Poll::Ready(Ok(0)) => *self = Self::Ending,
                Poll::Ready(Ok(n)) => *moved += n as u64,
                Poll::Ready(Err(_)) => return Err(()),
                Poll::Pending => {
                    if let Poll::Ready(Err(_)) = to.poll_flush(cx) {
                        return Err(());
                    }
                    break;
                }
            }
        }
        if *self == Self::Ending {
            match to.poll_shutdown(cx) {
                Poll::Ready(Ok(())) => *self = Self::Ended,
                Poll::Ready(Err(_)) => return Err(()),
                Poll::Pending => {}
            }
        }
        Ok(*self)
    }
}

/// A broken tunnel's last bytes are given this long to leave.
const LAST_BYTES_TIMEOUT: Duration = Duration::from_secs(1);

/// What one direction does before the other has its turn, in steps: each costs the task one of the 128 calls that it has in a turn.
const STEPS_MAX: u32 = 16;

/// What one relay step moves at most, in bytes.
const RELAY_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io;
    use std::pin::pin;
    use std::rc::Rc;
    use std::task::Waker;

    use super::*;
    use crate::net::Address;

    /// A peer that sends without end, or one byte; whatever it is sent it takes at once.
    struct Peer {
        left: usize,
        taken: Rc<Cell<usize>>,
        address: Address,
    }

    impl Peer {
        fn new(left: usize) -> Self {
            Self { left, taken: Rc::default(), address: "127.0.0.1:1".parse().unwrap() }
        }
    }

    impl Conn for Peer {
        fn poll_read_with<R>(
            &mut self,
            _: &mut Context<'_>,
            _: usize,
            _: impl FnOnce(&[u8]) -> (usize, R),
        ) -> Poll<io::Result<R>> {
            unreachable!("a tunnel looks at nothing")
        }

        fn poll_write_with<R>(
            &mut self,
            _: &mut Context<'_>,
            _: usize,
            _: impl FnOnce(&mut [u8]) -> (usize, R),
        ) -> Poll<io::Result<R>> {
            unreachable!("a tunnel says nothing")
        }

        fn poll_relay(&mut self, to: &mut Self, _: &mut Context<'_>, limit: usize) -> Poll<io::Result<usize>> {
            let moved = self.left.min(limit);
            if moved == 0 {
                return Poll::Pending;
            }
            self.left -= moved;
            to.taken.set(to.taken.get().wrapping_add(moved));
            Poll::Ready(Ok(moved))
        }

        fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn peer_addr(&self) -> &Address {
            &self.address
        }

        fn local_addr(&self) -> &Address {
            &self.address
        }

        fn abort(&mut self) {}
    }

    #[tokio::test]
    async fn a_sender_without_end_leaves_the_other_direction_its_turn() {
        let (mut a, mut b) = (Peer::new(usize::MAX), Peer::new(1));
        let (at_a, at_b) = (Rc::clone(&a.taken), Rc::clone(&b.taken));
        let metered = Cell::new(Moved::default());
        let mut relayed = pin!(tunnel(&mut a, &mut b, Duration::from_secs(1), |moved| metered.set(moved)));
        let pending = relayed.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
        assert!(pending && at_a.get() == 1, "one turn is enough");
        assert_eq!(metered.get(), Moved { forth: at_b.get() as u64, back: 1 });
    }
}
