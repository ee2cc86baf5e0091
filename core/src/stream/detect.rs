//! Waits for the first bytes of a connection and says which protocol they are.
//!
//! **Invariant:** nothing is taken from the connection: whoever serves it reads it from its first byte. A client that says nothing is as
//! idle as any other, and one that stops in the middle is given `head_timeout`.

use std::future::poll_fn;
use std::task::Poll;

use super::timer::Timer;
use super::{ConnState, Wish};
use crate::codec::detect::{Opening, Protocol};
use crate::config::Limits;
use crate::config::schema::Protocols;
use crate::net::Conn;

/// The protocol of those that are served which the client speaks; None: it speaks another, is gone, or took too long. A connection that is
/// asked for something meanwhile goes to the likeliest: each has its own ways of ending one that has carried nothing yet.
pub async fn detect<C: Conn>(conn: &mut C, served: Protocols, state: &ConnState, limits: &Limits) -> Option<Protocol> {
    let (mut known, mut timer) = (0, Timer::new());
    if !state.is_swept() {
        timer.set(limits.idle_timeout);
    }
    poll_fn(|cx| {
        loop {
            let read = conn.poll_read_with(cx, known, |bytes| {
                (0, (bytes.len() > known).then(|| (bytes.len(), Protocol::of_first_bytes(bytes, served))))
            });
            match read {
                Poll::Ready(Ok(Some((seen, Opening::More)))) => {
                    if known == 0 {
                        timer.set(limits.head_timeout);
                    }
                    known = seen;
                }
                Poll::Ready(Ok(Some((_, Opening::Is(protocol))))) => return Poll::Ready(Some(protocol)),
                Poll::Ready(Ok(Some((_, Opening::Unknown)))) => return Poll::Ready(None),
                // Cut short: its codec knows what to do with that.
                Poll::Ready(Ok(None)) => return Poll::Ready((known > 0).then(|| Protocol::likeliest(served))),
                Poll::Ready(Err(_)) => return Poll::Ready(None),
                Poll::Pending if state.wish() != Wish::Stay => return Poll::Ready(Some(Protocol::likeliest(served))),
                Poll::Pending => {
                    state.rest(cx);
                    return timer.poll_expired(cx).map(|()| None);
                }
            }
        }
    })
    .await
}
