//! Datagrams over kernel sockets, a burst to a system call.
//!
//! **Invariant:** a socket owns no buffer: what comes is shown where the worker receives all bursts, and what the kernel does not take is not
//! kept.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::task::Poll;

use ferrogate_core::net::{BURST_DATAGRAMS_MAX, DATAGRAM_BYTES_MAX, Datagram, Datagrams};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::buffers::Buffers;
use crate::socket::{Received, receive_burst, send_burst};
use crate::sockets::Used;

/// A socket for datagrams, of a listener or of one host.
pub struct KernelDatagrams {
    socket: UdpSocket,
    /// Of the same listener, where an old process with more workers has handed its sockets over.
    others: Vec<UdpSocket>,
    /// None: it is connected to one host.
    used: Option<Used>,
    local: SocketAddr,
    buffers: Rc<Buffers>,
}

impl KernelDatagrams {
    /// Of a listener; there is one socket at least.
    pub(crate) fn listening(sockets: Vec<std::net::UdpSocket>, used: Used, buffers: Rc<Buffers>) -> io::Result<Self> {
        let mut sockets = sockets.into_iter().map(UdpSocket::from_std).collect::<io::Result<Vec<_>>>()?;
        let socket = sockets.pop().ok_or(io::ErrorKind::NotFound)?;
        let local = socket.local_addr()?;
        Ok(Self { socket, others: sockets, used: Some(used), local, buffers })
    }

    /// Of one host.
    pub(crate) fn connected(socket: std::net::UdpSocket, buffers: Rc<Buffers>) -> io::Result<Self> {
        let socket = UdpSocket::from_std(socket)?;
        let local = socket.local_addr()?;
        Ok(Self { socket, others: Vec::new(), used: None, local, buffers })
    }

    fn is_connected(&self) -> bool {
        self.used.is_none()
    }

    /// A socket that has something, and whether that is an error. (A look for either at once would find neither.)
    async fn readable(&self) -> io::Result<(&UdpSocket, Interest)> {
        if self.is_connected() {
            // What the host's machine says of it is an error of the socket, which wakes nobody who only waits for datagrams.
            let ready = self.socket.ready(Interest::READABLE | Interest::ERROR).await?;
            let interest = if ready.is_readable() { Interest::READABLE } else { Interest::ERROR };
            return Ok((&self.socket, interest));
        }
        poll_fn(|cx| {
            for socket in [&self.socket].into_iter().chain(&self.others) {
                if let Poll::Ready(ready) = socket.poll_recv_ready(cx) {
                    return Poll::Ready(ready.map(|()| (socket, Interest::READABLE)));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Receives from a socket that may have something; None: it has not.
    fn take<R>(
        &self,
        (socket, interest): (&UdpSocket, Interest),
        f: impl FnOnce(&[Datagram<'_>]) -> R,
    ) -> Option<io::Result<R>> {
        let mut room = self.buffers.burst().borrow_mut();
        let mut received = [Received::NONE; BURST_DATAGRAMS_MAX];
        let mut count = 0;
        let result = socket.try_io(interest, || {
            count = receive_burst(socket.as_fd(), &mut room, &mut received)?;
            // Fewer than there could be: the next call waits, without asking the kernel in vain.
            if count < BURST_DATAGRAMS_MAX { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match result {
            Err(e) if count == 0 && !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Some(Err(e));
            }
            _ if count == 0 => return None,
            _ => {}
        }
        let mut burst = [Datagram::NONE; BURST_DATAGRAMS_MAX];
        for ((datagram, received), slot) in burst.iter_mut().zip(&received).zip(room.chunks_exact(DATAGRAM_BYTES_MAX)) {
            *datagram = Datagram { peer: received.peer, local: received.local, bytes: &slot[..received.len] };
        }
        Some(Ok(f(&burst[..count])))
    }
}

impl Datagrams for KernelDatagrams {
    async fn receive<R>(&self, f: impl FnOnce(&[Datagram<'_>]) -> R) -> io::Result<R> {
        let mut f = Some(f);
        loop {
            let readable = self.readable().await?;
            let shown = self.take(readable, |burst| f.take().map(|f| f(burst)));
            match shown {
                Some(Ok(Some(result))) => return Ok(result),
                Some(Err(e)) => return Err(e),
                // It had nothing after all. (`f` is there until it is called, which ends this.)
                None | Some(Ok(None)) => {}
            }
        }
    }

    fn try_send(&self, datagrams: &[Datagram<'_>]) -> io::Result<usize> {
        loop {
            match send_burst(self.socket.as_fd(), datagrams, self.is_connected()) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    // So that whoever waits for room does wait.
                    return self.socket.try_io(Interest::WRITABLE, || Err(io::ErrorKind::WouldBlock.into()));
                }
                sent => return sent,
            }
        }
    }

    async fn sendable(&self) -> io::Result<()> {
        self.socket.writable().await
    }

    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn is_handed_over(&self) -> bool {
        self.used.as_ref().is_some_and(Used::are_handed_over)
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket as StdSocket;

    use super::*;
    use crate::sockets::{Share, Sockets};

    fn listen(address: &str) -> KernelDatagrams {
        let address = address.parse().unwrap();
        let (sockets, used) = Sockets::default().listen_udp(address, Share { index: 0, workers: 1 }).unwrap();
        KernelDatagrams::listening(sockets, used, Rc::new(Buffers::new())).unwrap()
    }

    fn run<R>(test: impl Future<Output = R>) -> R {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
    }

    /// All that `socket` receives until there are `count`.
    async fn gather(socket: &KernelDatagrams, count: usize) -> Vec<(SocketAddr, Option<std::net::IpAddr>, Vec<u8>)> {
        let mut all = Vec::new();
        while all.len() < count {
            socket
                .receive(|burst| {
                    assert!(!burst.is_empty());
                    all.extend(burst.iter().map(|d| (d.peer, d.local, d.bytes.to_vec())));
                })
                .await
                .unwrap();
        }
        all
    }

    #[test]
    fn bursts_pass_both_ways_whole_and_in_order() {
        run(async {
            let listener = listen("127.0.0.1:0");
            let client = KernelDatagrams::connected(
                crate::socket::connect_udp(listener.local_addr()).unwrap(),
                Rc::clone(&listener.buffers),
            )
            .unwrap();
            let sent: Vec<Vec<u8>> = (0..100_u8).map(|n| vec![n; usize::from(n) * 13]).collect();
            // Where the client's came to is nothing to the host.
            let elsewhere = Some([127, 0, 0, 9].into());
            let letters: Vec<Datagram<'_>> =
                sent.iter().map(|bytes| Datagram { bytes, local: elsewhere, ..Datagram::NONE }).collect();
            let mut at = 0;
            while at < letters.len() {
                let taken = client.try_send(&letters[at..]).unwrap();
                assert!((1..=BURST_DATAGRAMS_MAX).contains(&taken));
                at += taken;
            }
            let came = gather(&listener, 100).await;
            assert!(came.iter().all(|(peer, local, _)| *peer == client.local_addr() && local.is_none()));
            assert_eq!(came.iter().map(|(.., bytes)| bytes.clone()).collect::<Vec<_>>(), sent);
            let largest = vec![7; 65_507];
            let answers = [&largest[..], b""].map(|bytes| Datagram { peer: client.local_addr(), local: None, bytes });
            assert_eq!(listener.try_send(&answers).unwrap(), 2);
            let came = gather(&client, 2).await;
            assert_eq!((came[0].2.len(), came[1].2.len()), (65_507, 0));
            assert_eq!(came[0].0, listener.local_addr());
        });
    }

    #[test]
    fn an_answer_leaves_from_where_the_question_came_to() {
        for (all, one) in [("0.0.0.0:0", "127.0.0.77"), ("[::]:0", "::1")] {
            run(async {
                let listener = listen(all);
                let (port, one) = (listener.local_addr().port(), one.parse().unwrap());
                let client = StdSocket::bind(SocketAddr::new(one, 0)).unwrap();
                client.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
                client.connect((one, port)).unwrap();
                client.send(b"who?").unwrap();
                let came = gather(&listener, 1).await;
                assert_eq!(came[0].1, Some(one));
                let answer = Datagram { peer: came[0].0, local: came[0].1, bytes: b"me" };
                assert_eq!(listener.try_send(&[answer]).unwrap(), 1);
                // A connected socket takes nothing from another address.
                let mut room = [0; 8];
                assert_eq!(client.recv(&mut room).unwrap(), 2);
            });
        }
    }

    #[test]
    fn a_host_that_nobody_listens_at_is_told() {
        run(async {
            let gone = StdSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let socket = crate::socket::connect_udp(gone).unwrap();
            let socket = KernelDatagrams::connected(socket, Rc::new(Buffers::new())).unwrap();
            assert_eq!(socket.try_send(&[Datagram { bytes: b"x", ..Datagram::NONE }]).unwrap(), 1);
            let refused = tokio::time::timeout(std::time::Duration::from_secs(20), socket.receive(|_| ())).await;
            assert_eq!(refused.expect("it is woken").unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        });
    }
}
