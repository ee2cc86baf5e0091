//! Connections of the kernel load as they come and go.
//!
//! **Invariant:** a failure is counted once and its slot rests a moment: a server that refuses is not hammered.

use std::io;
use std::net::{IpAddr, SocketAddr};

use mio::net::TcpStream;
use mio::{Interest, Token};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Socket, Type};

use super::super::args::{LoadArgs, Mode};
use super::super::slot::{Fault, Phase};
use super::super::tls::Client;
use super::Load;
use crate::wire::clock::Nanos;
use crate::wire::io::Io;

impl Load<'_> {
    /// Opens the first connections, a bounded number at a time: a listener's queue is finite.
    pub(super) fn open_more(&mut self, now: Nanos) {
        if !self.window.is_opening() {
            return;
        }
        let is_short = self.args.mode == Mode::Http && self.args.requests_per_connection == 1;
        while self.unopened > 0 && self.opening < OPENING_MAX {
            let i = self.slots.len() - self.unopened;
            self.unopened -= 1;
            if is_short {
                self.next(i, now);
                continue;
            }
            self.opening += 1;
            let slot = &mut self.slots[i];
            (slot.phase, slot.is_first, slot.deadline) = (Phase::Opening, true, now + self.timeout);
            slot.reader.begin(None);
            self.connect(i);
        }
        if self.unopened == 0 && self.opening == 0 {
            self.window.opened(now);
        }
    }

    /// Opens the slot's connection; false, and a failure counted, when not even that can be begun.
    pub(super) fn connect(&mut self, i: usize) -> bool {
        let LoadArgs { to, source: sources, .. } = self.args;
        let source = (!sources.is_empty()).then(|| sources[self.connects % sources.len()]);
        // Each address from each source: two coordinates.
        let to = to[self.connects / sources.len().max(1) % to.len()];
        self.connects += 1;
        let wants_nodelay = self.tls.is_some() || self.args.requests_per_connection != 1 || self.args.body_bytes > 0;
        let opened = open(to, source, wants_nodelay).and_then(|mut stream| {
            self.poll.registry().register(&mut stream, Token(i), Interest::READABLE | Interest::WRITABLE)?;
            let session = self.tls.as_ref().map(Client::session).transpose().map_err(io::Error::other)?;
            Ok(Io::new(stream, session))
        });
        let slot = &mut self.slots[i];
        (slot.served, slot.is_counted) = (0, false);
        match opened {
            Ok(io) => {
                slot.io = Some(io);
                true
            }
            // Out of ports or descriptors is no reason to end the load: it is what the load found.
            Err(error) => {
                self.explained.say(Fault::Connect, &error);
                self.fail(i, Fault::Connect);
                false
            }
        }
    }

    /// The connection is established.
    pub(super) fn count_open(&mut self, i: usize) {
        if !self.slots[i].is_counted {
            self.slots[i].is_counted = true;
            self.record.counts.conns_opened += 1;
        }
    }

    /// The run need not wait for this slot's first connection any longer.
    pub(super) fn first_done(&mut self, i: usize) {
        if self.slots[i].is_first {
            self.slots[i].is_first = false;
            self.opening -= 1;
        }
    }

    /// Counts a fault, drops the connection and lets the slot rest.
    pub(super) fn fail(&mut self, i: usize, fault: Fault) {
        fault.count(&mut self.record.counts.errors);
        self.first_done(i);
        self.slots[i].io = None;
        self.slots[i].phase = Phase::Free;
        self.resting.push_back((self.clock.now() + REST_NANOS, i));
    }
}

fn open(to: SocketAddr, source: Option<IpAddr>, wants_nodelay: bool) -> io::Result<TcpStream> {
    let stream = match source {
        None => TcpStream::connect(to)?,
        Some(source) => connect_from(to, source)?,
    };
    if wants_nodelay {
        stream.set_nodelay(true)?;
    }
    Ok(stream)
}

/// Connects from an address, its port chosen by the system only when the peer is known: a port serves several peers.
fn connect_from(to: SocketAddr, source: IpAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking().cloexec(), None)?;
    setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(nix::errno::Errno::EINPROGRESS as i32) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// First connections under way at a time.
const OPENING_MAX: usize = 128;
/// How long a slot rests after a failure.
const REST_NANOS: Nanos = 10_000_000;
