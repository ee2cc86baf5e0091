//! What tells that a frame has come to a port that nobody polls: the driver's own sockets, which DPDK has no name for.
//!
//! **Invariant:** only what appeared while the port was opened, and is of a kind that becomes readable by a frame. It is waited at, and never
//! read, written or closed here.

use std::ffi::c_int;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};
use std::{fs, io};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The descriptors that a queue can be waited at, and the waiting. It goes before the queue's handle of the port does.
#[derive(Debug)]
pub(super) struct Wakeups {
    /// None: the driver has none.
    sources: Vec<RawFd>,
    /// Registered with the runtime as long as somebody waits.
    waiting: Vec<AsyncFd<RawFd>>,
}

/// A descriptor's number, and what it is: `socket:[1234]`, or a path.
pub(super) type Descriptor = (RawFd, PathBuf);

impl Wakeups {
    /// For each of so many queues, by what is open now and was not `before`.
    pub(super) fn of_queues(queues: u16, before: &[Descriptor]) -> Vec<Self> {
        let is_new = |descriptor: &Descriptor| !before.contains(descriptor) && is_source(descriptor);
        let mut new: Vec<RawFd> = open_descriptors().into_iter().filter(is_new).map(|(fd, _)| fd).collect();
        new.sort_unstable();
        let queues = usize::from(queues);
        // Which is whose can be told when there is one of either, or as many as queues, which are set up in order.
        let of = |queue: usize| match new.len() {
            _ if queues == 1 => new.clone(),
            n if n == queues => vec![new[queue]],
            _ => Vec::new(),
        };
        (0..queues).map(|queue| Self { sources: of(queue), waiting: Vec::new() }).collect()
    }

    /// Ready when a frame may have come since the last look. None: it can't be waited for.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Option<Poll<()>> {
        if self.sources.is_empty() {
            return None;
        }
        if self.waiting.is_empty() {
            // SAFETY: the driver opened the descriptor and closes it with the port, which the queue holds for longer than this.
            let register = |&fd: &RawFd| unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
            let Ok(waiting) = self.sources.iter().map(register).collect() else {
                // Not of a kind that can be waited at, after all.
                self.sources.clear();
                return None;
            };
            self.waiting = waiting;
        }
        let mut ready = Poll::Pending;
        for source in &self.waiting {
            if let Poll::Ready(Ok(mut guard)) = source.poll_read_ready(cx) {
                // What is there is taken by the burst that follows; what comes then is news.
                guard.clear_ready();
                ready = Poll::Ready(());
            }
        }
        Some(ready)
    }

    /// The queue is polled again: frames tell nobody that they have come, which costs something for each.
    pub(super) fn end(&mut self) {
        self.waiting.clear();
    }
}

/// The descriptors of this process, with what they are. A number may be another's soon: together they tell one from the other.
pub(super) fn open_descriptors() -> Vec<Descriptor> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let number = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    let numbers: Vec<RawFd> = entries.filter_map(number).collect();
    let what = |fd| Some((fd, fs::read_link(format!("/proc/self/fd/{fd}")).ok()?));
    numbers.into_iter().filter_map(what).collect()
}

/// The sockets of net_af_packet and net_af_xdp, and the queues of net_tap.
fn is_source((fd, what): &Descriptor) -> bool {
    what == Path::new("/dev/net/tun") || matches!(domain(*fd), Some(libc::AF_PACKET | libc::AF_XDP))
}

/// Of a socket.
fn domain(fd: RawFd) -> Option<c_int> {
    let mut domain: c_int = 0;
    let mut len = libc::socklen_t::try_from(size_of::<c_int>()).expect("four bytes");
    // SAFETY: the kernel writes no more than `len` bytes to `domain`, which has them; what is no socket, or closed by now, is refused.
    let ret =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_DOMAIN, (&raw mut domain).cast(), &raw mut len) };
    (ret == 0).then_some(domain)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn what_is_no_port_s_is_no_source() {
        let before = open_descriptors();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let now = open_descriptors();
        let found = now.iter().find(|(fd, _)| *fd == socket.as_raw_fd()).expect("the socket");
        assert!(found.1.to_string_lossy().starts_with("socket:[") && !before.contains(found));
        assert_eq!((domain(socket.as_raw_fd()), domain(-1)), (Some(libc::AF_INET), None));
        let mut wakeups = Wakeups::of_queues(1, &before);
        assert!(wakeups[0].poll(&mut Context::from_waker(std::task::Waker::noop())).is_none());
    }
}
