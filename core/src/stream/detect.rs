//! Waits for the first bytes of a connection and says which protocol they are.
//!
//! **Invariant:** nothing is taken from the connection: whoever serves it reads it from its first byte. A client that says nothing is as
//! idle as any other, and one that stops in the middle is given `head_timeout`. Where somebody is there for clients of no known protocol,
//! one that says nothing is given as long, for its server may be the one that speaks first.

use std::future::poll_fn;
use std::task::Poll;

use super::timer::Timer;
use super::{ConnState, Wish};
use crate::codec::detect::{Opening, Protocol};
use crate::config::Limits;
use crate::config::schema::Protocols;
use crate::net::Conn;

/// What a client was found to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A protocol of those that are served.
    Is(Protocol),
    /// None of them, or so far nothing.
    Unknown,
    /// The client is gone, or has been idle for too long.
    Gone,
}

/// Which protocol of those that are served the client speaks. `falls_back`: somebody is there for one that speaks none of them. A connection
/// that is asked for something meanwhile goes to the likeliest: each has its own ways of ending one that has carried nothing yet.
pub async fn detect<C: Conn>(
    conn: &mut C,
    (served, falls_back): (Protocols, bool),
    state: &ConnState,
    limits: &Limits,
) -> Found {
    let (mut known, mut timer) = (0, Timer::new());
    if falls_back {
        timer.set(limits.head_timeout);
    } else if !state.is_swept() {
        timer.set(limits.idle_timeout);
    }
    let decide = if falls_back { Protocol::surely_of_first_bytes } else { Protocol::of_first_bytes };
    poll_fn(|cx| {
        loop {
            let read = conn.poll_read_with(cx, known, |bytes| {
                (0, (bytes.len() > known).then(|| (bytes.len(), decide(bytes, served))))
            });
            match read {
                Poll::Ready(Ok(Some((seen, Opening::More)))) => {
                    if known == 0 && !falls_back {
                        timer.set(limits.head_timeout);
                    }
                    known = seen;
                }
                Poll::Ready(Ok(Some((_, Opening::Is(protocol))))) => return Poll::Ready(Found::Is(protocol)),
                Poll::Ready(Ok(Some((_, Opening::Unknown)))) => return Poll::Ready(Found::Unknown),
                Poll::Ready(Ok(None)) if known > 0 && falls_back => return Poll::Ready(Found::Unknown),
                // Cut short: its codec knows what to do with that.
                Poll::Ready(Ok(None)) if known > 0 => return Poll::Ready(Found::Is(Protocol::likeliest(served))),
                Poll::Ready(Ok(None) | Err(_)) => return Poll::Ready(Found::Gone),
                Poll::Pending if state.wish() != Wish::Stay => {
                    return Poll::Ready(Found::Is(Protocol::likeliest(served)));
                }
                Poll::Pending if falls_back => {
                    // Not at rest: who sweeps the idle ones would close it before its time.
                    state.watch(cx);
                    return timer.poll_expired(cx).map(|()| Found::Unknown);
                }
                Poll::Pending => {
                    state.rest(cx);
                    return timer.poll_expired(cx).map(|()| Found::Gone);
                }
            }
        }
    })
    .await
}
