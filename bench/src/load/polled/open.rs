//! How a connection of a polled load is opened, and counted while it lives.
//!
//! **Invariant:** a connection counts as established from the end of its handshake until it is dropped.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Duration;

use ferrogate_core::net::{Address, Transport};
use rustls::HandshakeKind;
use tokio::time::timeout;

use super::super::tls::Client;
use super::shared::Shared;
use super::stream::{Stream, cut_short};

/// Counts as an established connection as long as it lives.
pub(super) struct Established(Rc<Shared>);

/// Opens the connection of station `i`, its handshake included.
pub(super) async fn open<T: Transport>(
    transport: &T,
    shared: &Rc<Shared>,
    i: usize,
) -> io::Result<(Stream<T::Conn>, Established)> {
    let to = Address::Inet(shared.args.to[i % shared.args.to.len()]);
    let limit = Duration::from_nanos(shared.timeout);
    let opened = timeout(limit, async {
        let conn = transport.connect(&to).await?;
        let session = shared.tls.as_ref().map(Client::session).transpose().map_err(io::Error::other)?;
        let mut stream = Stream::new(conn, session);
        poll_fn(|cx| stream.poll_flush(cx)).await?;
        while !stream.is_ready() {
            if poll_fn(|cx| stream.poll_receive(cx, |_| {})).await? == 0 {
                return Err(cut_short());
            }
        }
        Ok(stream)
    });
    let stream = opened.await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))?;
    let counts = &mut shared.record.borrow_mut().counts;
    counts.conns_opened += 1;
    match stream.handshake() {
        None => {}
        Some(HandshakeKind::Resumed) => counts.handshakes_resumed += 1,
        Some(_) => counts.handshakes_full += 1,
    }
    Ok((stream, Established::new(shared)))
}

impl Established {
    fn new(shared: &Rc<Shared>) -> Self {
        shared.established.set(shared.established.get() + 1);
        Self(Rc::clone(shared))
    }
}

impl Drop for Established {
    fn drop(&mut self) {
        self.0.established.set(self.0.established.get() - 1);
    }
}

/// Connections that are being opened at a time.
pub(super) const OPENING_MAX: usize = 256;

/// How long a connection's task rests after a failure.
pub(super) const REST: Duration = Duration::from_millis(10);
