//! A tunnel: bytes both ways between two connections, each direction ended by itself.
//!
//! **Invariant:** nothing is parsed and nothing is kept: a direction reads only what the other side can take.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use super::timer::Timer;
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
    /// Nothing moved for `idle_timeout`.
    Idle,
}

/// Relays between `a` and `b` until both directions have ended, one side breaks, or nothing moves for `idle_timeout`.
pub async fn tunnel<C: Conn>(a: &mut C, b: &mut C, idle_timeout: Duration) -> (Moved, TunnelEnd) {
    let mut moved = Moved::default();
    let (mut forth, mut back) = (Direction::Open, Direction::Open);
    let mut timer = Timer::new();
    timer.set(idle_timeout);
    let end = poll_fn(|cx| {
        let before = moved;
        let (one, two) = (forth.poll(cx, a, b, &mut moved.forth), back.poll(cx, b, a, &mut moved.back));
        if moved != before {
            timer.set(idle_timeout);
        }
        match (one, two) {
            (Err(()), _) | (_, Err(())) => Poll::Ready(TunnelEnd::Broken),
            (Ok(Direction::Ended), Ok(Direction::Ended)) => Poll::Ready(TunnelEnd::Closed),
            _ => timer.poll_expired(cx).map(|()| TunnelEnd::Idle),
        }
    })
    .await;
    if end != TunnelEnd::Closed {
        // What one side sent before it broke still belongs to the other.
        timer.set(LAST_BYTES_TIMEOUT);
        poll_fn(|cx| {
            let (one, two) = (a.poll_flush(cx), b.poll_flush(cx));
            if one.is_ready() && two.is_ready() { Poll::Ready(()) } else { timer.poll_expired(cx) }
        })
        .await;
        a.abort();
        b.abort();
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
    /// Moves what can be moved now; the state it got to.
    fn poll<C: Conn>(&mut self, cx: &mut Context<'_>, from: &mut C, to: &mut C, moved: &mut u64) -> Result<Self, ()> {
        while *self == Self::Open {
            match from.poll_relay(to, cx, RELAY_BYTES) {
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

/// What one relay step moves at most, in bytes.
const RELAY_BYTES: usize = 1 << 20;
