//! What a connection asks of the stack: open, read, write, relay, close.
//!
//! **Invariant:** a call changes rings and states only. Packets move in a turn.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::task::{Context, Poll};

use smoltcp::socket::tcp::{Socket, State};

use super::flow::{Fault, Stage};
use super::flow_table::{FlowKey, Holder};
use super::isn;
use super::{ORPHAN_TIMEOUT, ORPHAN_TOTAL, Stack};
use crate::device::Mac;
use crate::rss::{HomePorts, Words};

/// A flow that somebody holds: it stays in its place until [`Stack::let_go`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlowId(pub(super) u32);

/// What there is to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Incoming {
    /// Bytes in the ring.
    pub(crate) queued: usize,
    /// Bytes of the ring up to its wrap.
    pub(crate) contiguous: usize,
    /// The peer has ended its stream: nothing comes behind these.
    pub(crate) ended: bool,
    /// Less than half of the ring is free, so that the peer may be waiting for room.
    pub(crate) tight: bool,
}

impl Stack {
    /// Begins to open a connection.
    pub(crate) fn connect(&mut self, to: SocketAddr) -> io::Result<FlowId> {
        let local = self.source_for(to.ip())?;
        let key = |port| FlowKey { peer: to.ip(), local, peer_port: to.port(), local_port: port };
        let home = self.home_ports(to, local);
        let usable = |p: &u16| home.has(*p) && self.listeners.find(local, *p).is_none();
        let free = |p: &u16| usable(p) && self.table.get(&key(*p)).is_none();
        // When every port was used within a minute: we closed first, so the peer has forgotten the connection.
        let ended = |p: &u16| usable(p) && matches!(self.table.get(&key(*p)), Some(Holder::TimeWait(_)));
        let mut ports = self.ephemeral_ports_to(to);
        let port = ports.find(free).or_else(|| self.ephemeral_ports_to(to).find(ended));
        let port = port.ok_or(io::ErrorKind::AddrNotAvailable)?;
        // As accept(2) at its limit: try again later.
        let mut flow = self.take_flow(key(port)).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let number = isn::initial(self.config.seed, &key(port), self.now);
        let mut opener = isn::interface(number, &mut self.nic.link(Mac::BROADCAST, None), self.now);
        let connecting = flow.connect(key(port), &mut opener, self.sender(&key(port)), &self.config.limits);
        connecting.map_err(|_| io::ErrorKind::InvalidInput)?;
        let id = self.map(flow);
        self.set_stage(id, Stage::Connecting);
        self.mark(id);
        Ok(FlowId(id))
    }

    /// Waits for the handshake of [`connect`](Self::connect).
    pub(crate) fn poll_connected(&mut self, id: FlowId, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let flow = &mut self.flows[id.0 as usize];
        match flow.socket().state() {
            State::SynSent | State::SynReceived => {
                flow.socket().register_send_waker(cx.waker());
                Poll::Pending
            }
            State::Closed => Poll::Ready(Err(match flow.fault {
                Some(Fault::Reset) | None => io::ErrorKind::ConnectionRefused.into(),
                Some(fault) => error(fault),
            })),
            _ => {
                flow.set_timeout(None);
                self.set_stage(id.0, Stage::Owned);
                self.nic.counters.flows_connected.add(1);
                Poll::Ready(Ok(()))
            }
        }
    }

    /// The peer's address and ours.
    pub(crate) fn addresses(&self, id: FlowId) -> (SocketAddr, SocketAddr) {
        let flow = &self.flows[id.0 as usize];
        (flow.peer(), flow.local())
    }

    /// The TCP socket of a flow. After a change, [`touch`](Self::touch).
    pub(crate) fn socket(&mut self, id: FlowId) -> &mut Socket<'static> {
        self.flows[id.0 as usize].socket()
    }

    /// The rings of a flow changed: the next turn looks whether there is something to send.
    pub(crate) fn touch(&mut self, id: FlowId) {
        self.note_use(id.0);
        self.mark(id.0);
    }

    /// Bytes were taken out of a flow's receive ring: the next turn tells the peer of the room, if it is worth a word.
    pub(crate) fn drained(&mut self, id: FlowId) {
        self.note_use(id.0);
        let flow = &mut self.flows[id.0 as usize];
        if flow.dirty || !flow.mapped {
            return;
        }
        let shown = flow.clock.shown(self.now);
        if self.ifaces.of(flow.path).poll_at(shown, flow.sockets()).is_some_and(|at| at <= shown) {
            self.mark(id.0);
        }
    }

    /// What there is to read. The error of a connection that broke comes behind the bytes that arrived before.
    pub(crate) fn incoming(&mut self, id: FlowId) -> io::Result<Incoming> {
        let flow = &mut self.flows[id.0 as usize];
        let fault = flow.fault;
        let socket = flow.socket();
        let queued = socket.recv_queue();
        let open = matches!(socket.state(), State::Established | State::FinWait1 | State::FinWait2);
        if fault == Some(Fault::Aborted) {
            return Err(error(Fault::Aborted));
        }
        if !open && queued == 0 {
            // smoltcp knows whether a FIN came before the end.
            match (socket.peek(0), fault) {
                (Err(smoltcp::socket::tcp::RecvError::InvalidState), Some(fault)) => return Err(error(fault)),
                _ => return Ok(Incoming { queued, contiguous: 0, ended: true, tight: false }),
            }
        }
        let tight = queued > socket.recv_capacity() / 2;
        let contiguous = socket.peek(usize::MAX).map_or(0, <[u8]>::len);
        Ok(Incoming { queued, contiguous, ended: !open, tight })
    }

    /// Bytes that the send ring takes and the window allows. An error when the connection can't be written to any more.
    pub(crate) fn room(&mut self, id: FlowId) -> io::Result<usize> {
        let flow = &mut self.flows[id.0 as usize];
        if let Some(fault) = flow.fault {
            return Err(error(fault));
        }
        let socket = flow.socket();
        if !socket.may_send() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let (free, queued) = (socket.send_capacity() - socket.send_queue(), socket.send_queue());
        Ok(free.min(flow.sender.room(queued)))
    }

    /// Bytes that the send ring takes, whatever the window says.
    pub(crate) fn ring_room(&mut self, id: FlowId) -> usize {
        let socket = self.flows[id.0 as usize].socket();
        socket.send_capacity() - socket.send_queue()
    }

    /// Wakes `cx` when there is more room.
    pub(crate) fn await_room(&mut self, id: FlowId, cx: &Context<'_>) {
        let is_held_back = self.ring_room(id) > 0;
        let flow = &mut self.flows[id.0 as usize];
        flow.socket().register_send_waker(cx.waker());
        if is_held_back {
            flow.held_back = Some(cx.waker().clone());
        }
    }

    /// Why the connection broke, if it did.
    pub(crate) fn check(&self, id: FlowId) -> io::Result<()> {
        self.flows[id.0 as usize].fault.map_or(Ok(()), |fault| Err(error(fault)))
    }

    /// Lends room of `wish` bytes where the free part of the ring wraps around: the bytes are copied into it behind `f`.
    pub(crate) fn write_joined<R>(&mut self, id: FlowId, wish: usize, f: impl FnOnce(&mut [u8]) -> (usize, R)) -> R {
        let room = &mut self.scratch[..wish];
        let (used, result) = f(room);
        let sent = self.flows[id.0 as usize].socket().send_slice(&self.scratch[..used]);
        debug_assert_eq!(sent, Ok(used), "the caller made sure of the room");
        result
    }

    /// Copies up to `limit` bytes from the receive ring of one flow to the send ring of another. Answers how many.
    pub(crate) fn relay(&mut self, from: FlowId, to: FlowId, limit: usize) -> usize {
        let flows = self.flows.get2_mut(from.0 as usize, to.0 as usize);
        let (source, sink) = flows.expect("both flows are held, and two connections are two flows");
        let copied = copy(source.socket(), sink.socket(), limit);
        self.counters().relayed_bytes.add(copied as u64);
        self.drained(from);
        self.touch(to);
        copied
    }

    /// Ends a connection by RST. What is in its rings is lost.
    pub(crate) fn abort(&mut self, id: FlowId) {
        let flow = &mut self.flows[id.0 as usize];
        flow.fault = Some(Fault::Aborted);
        flow.socket().abort();
        self.mark(id.0);
    }

    /// Ends every connection by RST.
    pub fn reset_all(&mut self) {
        for id in self.flows.iter().map(|(id, _)| id).collect::<Vec<_>>() {
            self.abort(FlowId(u32::try_from(id).expect("ids are made from u32")));
        }
    }

    /// Nobody holds the flow any more: it sends what it has and ends.
    pub(crate) fn let_go(&mut self, id: FlowId) {
        let given_up_at = self.now + ORPHAN_TOTAL;
        let flow = &mut self.flows[id.0 as usize];
        // Over already, or so early that the peer does not know of it.
        if !flow.mapped || flow.socket().state() == State::SynSent || flow.is_over() {
            return self.release(id.0);
        }
        flow.given_up_at = given_up_at;
        flow.set_timeout(Some(ORPHAN_TIMEOUT));
        flow.socket().close();
        self.set_stage(id.0, Stage::Orphan);
        self.mark(id.0);
    }

    /// The address of ours that packets to `peer` come from. An error when there is no way.
    pub(super) fn source_for(&self, peer: IpAddr) -> io::Result<IpAddr> {
        let hop = self.ours.next_hop(peer).ok_or(io::ErrorKind::NetworkUnreachable)?;
        self.ours.source_for(peer, hop).ok_or_else(|| io::ErrorKind::NetworkUnreachable.into())
    }

    /// The ports of `local` that bring what `to` sends there to this lcore.
    pub(super) fn home_ports(&self, to: SocketAddr, local: IpAddr) -> HomePorts<'_> {
        let words = || Words::of_addresses(to.ip(), local).and_port(to.port());
        HomePorts(self.config.seat.as_ref().map(|seat| (seat, words())))
    }

    /// The ports for connections of our own, each once, from a place that nobody can guess (RFC 6056, 3.3.3).
    pub(super) fn ephemeral_ports_to(&self, to: SocketAddr) -> impl Iterator<Item = u16> + use<> {
        let mut hash = DefaultHasher::new();
        (self.config.seed, to, self.now.total_micros()).hash(&mut hash);
        let start = hash.finish() % u64::from(EPHEMERAL_PORTS);
        let start = u16::try_from(start).expect("less than 65536");
        (0..EPHEMERAL_PORTS).map(move |n| FIRST_EPHEMERAL_PORT + (start + n) % EPHEMERAL_PORTS)
    }

    /// The same, to listen on.
    pub(super) fn ephemeral_ports(&self) -> impl Iterator<Item = u16> + use<> {
        self.ephemeral_ports_to((Ipv4Addr::UNSPECIFIED, 0).into())
    }
}

/// Copies from a receive ring to a send ring: once, and in two parts where one of them wraps around.
pub(crate) fn copy(from: &mut Socket<'static>, to: &mut Socket<'static>, limit: usize) -> usize {
    let mut copied = 0;
    while copied < limit {
        let part = from.recv(|bytes| {
            let part = &bytes[..bytes.len().min(limit - copied)];
            let sent = to.send_slice(part).unwrap_or(0);
            (sent, sent)
        });
        match part {
            Ok(part) if part > 0 => copied += part,
            _ => break,
        }
    }
    copied
}

/// What a caller is told of a connection that broke.
fn error(fault: Fault) -> io::Error {
    match fault {
        Fault::Reset => io::ErrorKind::ConnectionReset,
        Fault::TimedOut => io::ErrorKind::TimedOut,
        Fault::Unreachable => io::ErrorKind::HostUnreachable,
        Fault::Aborted => io::ErrorKind::ConnectionAborted,
    }
    .into()
}

/// The first of the ports for connections of our own, and how many there are. As many as can be: one origin is one destination.
pub(super) const FIRST_EPHEMERAL_PORT: u16 = 32_768;
const EPHEMERAL_PORTS: u16 = 32_768;
