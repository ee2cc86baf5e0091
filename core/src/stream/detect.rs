//! Waits for the first bytes of a connection and says which protocol they are.
//!
//! **Invariant:** nothing is taken from the connection: whoever serves it reads it from its first byte. A client that says nothing is as
//! idle as any other, and one that stops in the middle is given `head_timeout`.

use std::future::poll_fn;
use std::task::Poll;

use super::timer::Timer;
use super::{ConnState, Wish};
use crate::codec::detect::Protocol;
use crate::config::Limits;
use crate::net::Conn;

/// The protocol that the client speaks; None: it is gone, or took too long. A connection that is asked for something meanwhile is
/// HTTP/1's: it has its own ways of ending one that has carried nothing yet.
pub async fn detect<C: Conn>(conn: &mut C, state: &ConnState, limits: &Limits) -> Option<Protocol> {
    let (mut known, mut timer) = (0, Timer::new());
    if !state.is_swept() {
        timer.set(limits.idle_timeout);
    }
    poll_fn(|cx| {
        loop {
            let read = conn.poll_read_with(cx, known, |bytes| {
                (0, (bytes.len() > known).then(|| (bytes.len(), Protocol::of_first_bytes(bytes))))
            });
            match read {
                Poll::Ready(Ok(Some((seen, None)))) => {
                    if known == 0 {
                        timer.set(limits.head_timeout);
                    }
                    known = seen;
                }
                Poll::Ready(Ok(Some((_, protocol)))) => return Poll::Ready(protocol),
                // Cut short: HTTP/1 knows what to do with that.
                Poll::Ready(Ok(None)) => return Poll::Ready((known > 0).then_some(Protocol::Http1)),
                Poll::Ready(Err(_)) => return Poll::Ready(None),
                Poll::Pending if state.wish() != Wish::Stay => return Poll::Ready(Some(Protocol::Http1)),
                Poll::Pending => {
                    state.rest(cx);
                    return timer.poll_expired(cx).map(|()| None);
                }
            }
        }
    })
    .await
}
