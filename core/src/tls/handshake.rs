//! The handshake over a connection.
//!
//! **Invariant:** reading and writing never wait for each other, or two ends with small buffers would wait for ever; a failed handshake still
//! tries to deliver its alert, and waits for nobody to take it.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use tls_offload::{Session, Step, TlsError};

use super::HandshakeError;
use super::conn::{TlsConn, drain_output};
use crate::net::Conn;

/// `hand_down`: the plane gets the session's keys, where it can do with them.
pub(super) async fn handshake<C: Conn>(
    mut conn: C,
    mut session: Session,
    hand_down: bool,
) -> Result<TlsConn<C>, HandshakeError> {
    let mut known = 0;
    let result = poll_fn(|cx| poll_handshake(&mut conn, &mut session, &mut known, cx)).await;
    if result.is_err() {
        poll_fn(|cx| {
            let _ = drain_output(&mut conn, &mut session, cx);
            Poll::Ready(())
        })
        .await;
    }
    result.map(|()| TlsConn::new(conn, session, hand_down))
}

fn poll_handshake<C: Conn>(
    conn: &mut C,
    session: &mut Session,
    known: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<Result<(), HandshakeError>> {
    loop {
        // Without input: a client's first message, and what became possible since an accelerator finished.
        let step = session.handshake(cx, &mut &[][..], &mut no_room());
        if matches!(step, Poll::Ready(Ok(Step::Done))) && !session.peer_awaits_output() {
            // Tickets are not waited for: a peer that sends before it reads would wait for us, and we for it. The connection has them leave,
            // with the first answer where that is under way.
            return Poll::Ready(Ok(()));
        }
        let drained = drain_output(conn, session, cx)?;
        if ready!(step).map_err(HandshakeError::Tls)? == Step::Done {
            return drained.map(Ok);
        }
        match ready!(poll_look(conn, session, *known, cx))? {
            Look::Ended => return Poll::Ready(Err(HandshakeError::Closed)),
            Look::Used { result: Poll::Ready(Err(e)), .. } => return Poll::Ready(Err(HandshakeError::Tls(e))),
            // What it left it did not find too little: it waits for an accelerator, and will look again.
            Look::Used { result: Poll::Pending, .. } => *known = 0,
            Look::Used { left, .. } => *known = left,
        }
    }
}

/// Shows the session what has arrived.
fn poll_look<C: Conn>(
    conn: &mut C,
    session: &mut Session,
    known: usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Look>> {
    let waker = cx.waker().clone();
    conn.poll_read_with(cx, known, |wire| {
        if wire.len() <= known {
            return (0, Look::Ended);
        }
        let mut rest = wire;
        let result = session.handshake(&mut Context::from_waker(&waker), &mut rest, &mut no_room());
        (wire.len() - rest.len(), Look::Used { result, left: rest.len() })
    })
}

enum Look {
    /// The peer ended its stream.
    Ended,
    Used {
        result: Poll<Result<Step, TlsError>>,
        left: usize,
    },
}

/// Output is queued in the session and drained where the connection may be written to.
fn no_room() -> &'static mut [u8] {
    &mut []
}
