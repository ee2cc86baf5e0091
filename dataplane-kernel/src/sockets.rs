//! The listening sockets of this process, by address: those that an old process handed over, and those that a new one will be handed.
//!
//! A TCP or UDP address has a socket for each worker (SO_REUSEPORT), a unix path one that the workers share. The very sockets are handed over,
//! never others in their place: a socket of a REUSEPORT group that is closed takes the connections in its queue along.
//!
//! **Invariant:** a socket stays open while a listener uses it, and not longer; what was handed over and is not used any more is closed.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use ferrogate_core::net::{Address, ListenOptions};
use socket2::SockRef;

use crate::socket;

/// The listening sockets of a process. Cheap to clone.
#[derive(Clone, Default)]
#[allow(clippy::disallowed_types, reason = "taken when a worker begins or ends to listen, never on a request's path")]
pub struct Sockets {
    table: Arc<std::sync::Mutex<Table>>,
    /// A new process has them too: paths are its own now, and stay when we end; datagrams are its own to receive.
    handed_over: Arc<AtomicBool>,
}

#[derive(Default)]
struct Table {
    /// From an old process; not used yet.
    inherited: HashMap<Address, Vec<Option<OwnedFd>>>,
    /// In use here, by a number that only grows.
    used: Vec<(u64, Address, OwnedFd)>,
    shared: HashMap<std::path::PathBuf, Shared>,
    next: u64,
}

/// The socket of a unix path.
struct Shared {
    listener: UnixListener,
    /// Workers that listen on it.
    users: usize,
    /// Whether more of them may.
    is_open: bool,
}

/// Sockets that a listener uses; closed for the process when dropped.
pub(crate) struct Used {
    sockets: Sockets,
    ids: Vec<u64>,
}

/// Which of the workers asks, and how many there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    pub(crate) index: usize,
    pub(crate) workers: usize,
}

impl Sockets {
    /// With sockets that an old process handed over.
    #[must_use]
    pub fn inherited(sockets: Vec<(Address, OwnedFd)>) -> Self {
        let this = Self::default();
        let mut table = this.table();
        for (address, fd) in sockets {
            table.inherited.entry(address).or_default().push(Some(fd));
        }
        drop(table);
        this
    }

    /// Whether an old process handed sockets of this address over.
    #[must_use]
    pub fn has_inherited(&self, address: &Address) -> bool {
        self.table().inherited.contains_key(address)
    }

    /// Closes what was handed over and is listened on by nobody here: the listener is gone from the configuration.
    pub fn close_unused(&self) {
        self.table().inherited.clear();
    }

    /// Every socket in use, for a new process.
    ///
    /// # Errors
    /// When a descriptor can't be copied.
    pub fn export(&self) -> io::Result<Vec<(Address, OwnedFd)>> {
        let table = self.table();
        let used = table.used.iter().map(|(_, address, fd)| Ok((address.clone(), fd.try_clone()?)));
        let shared = table
            .shared
            .iter()
            .map(|(path, s)| Ok((Address::Unix(path.clone()), s.listener.as_fd().try_clone_to_owned()?)));
        used.chain(shared).collect()
    }

    /// The new process serves: paths of unix sockets are its own from now on, and so are datagrams that come in.
    pub fn hand_over(&self) {
        self.handed_over.store(true, Ordering::Relaxed);
    }

    /// Whether a new process serves.
    pub(crate) fn are_handed_over(&self) -> bool {
        self.handed_over.load(Ordering::Relaxed)
    }

    /// The sockets of one worker for a TCP address: its share of those that were handed over, else a new one.
    pub(crate) fn listen_tcp(
        &self,
        address: std::net::SocketAddr,
        options: &ListenOptions,
        share: Share,
    ) -> io::Result<(Vec<std::net::TcpListener>, Used)> {
        let share = options.reuse_port.then_some(share);
        let (taken, used) =
            self.take(Address::Inet(address), share, || Ok(socket::listen_tcp(address, options)?.into()))?;
        let listeners: Vec<std::net::TcpListener> = taken.into_iter().map(Into::into).collect();
        for listener in &listeners {
            listener.set_nonblocking(true)?;
            if options.transparent {
                // One that was handed over may not be yet.
                socket::set_transparent(&SockRef::from(listener), address)?;
            }
        }
        Ok((listeners, used))
    }

    /// The sockets of one worker for a UDP address, likewise.
    pub(crate) fn listen_udp(
        &self,
        address: std::net::SocketAddr,
        share: Share,
    ) -> io::Result<(Vec<std::net::UdpSocket>, Used)> {
        let (taken, used) =
            self.take(Address::Udp(address), Some(share), || Ok(socket::listen_udp(address)?.into()))?;
        let sockets: Vec<std::net::UdpSocket> = taken.into_iter().map(Into::into).collect();
        for socket in &sockets {
            socket.set_nonblocking(true)?;
        }
        Ok((sockets, used))
    }

    /// A share of the sockets that were handed over for an address, or all of them; else a new one.
    fn take(
        &self,
        key: Address,
        share: Option<Share>,
        make: impl FnOnce() -> io::Result<OwnedFd>,
    ) -> io::Result<(Vec<OwnedFd>, Used)> {
        // Before the lock: should this fail half-way, it is dropped behind it, and takes the lock to give back what it has.
        let mut used = Used { sockets: self.clone(), ids: Vec::new() };
        let mut table = self.table();
        let mut taken: Vec<OwnedFd> = Vec::new();
        if let Some(fds) = table.inherited.get_mut(&key) {
            let is_own = |n: usize| share.is_none_or(|share| n % share.workers == share.index);
            let own = fds.iter_mut().enumerate().filter(|(n, _)| is_own(*n));
            taken.extend(own.filter_map(|(_, fd)| fd.take()));
        }
        if taken.is_empty() {
            taken.push(make()?);
        }
        for fd in &taken {
            table.next += 1;
            let (id, fd) = (table.next, fd.try_clone()?);
            table.used.push((id, key.clone(), fd));
            used.ids.push(id);
        }
        Ok((taken, used))
    }

    /// The socket of a unix path: that of the other workers, else the one that was handed over, else a new one.
    pub(crate) fn listen_unix(&self, path: &Path, options: &ListenOptions) -> io::Result<UnixListener> {
        let mut table = self.table();
        if let Some(shared) = table.shared.get_mut(path) {
            if !(shared.is_open && options.reuse_port) {
                // Two who know nothing of each other would each get a part of the connections.
                return Err(io::ErrorKind::AddrInUse.into());
            }
            let listener = shared.listener.try_clone()?;
            shared.users += 1;
            return Ok(listener);
        }
        let inherited = table.inherited.remove(&Address::Unix(path.to_owned()));
        let listener = match inherited.into_iter().flatten().flatten().next() {
            Some(fd) => UnixListener::from(fd),
            None => socket::listen_unix(path, options)?,
        };
        listener.set_nonblocking(true)?;
        let shared = Shared { listener: listener.try_clone()?, users: 1, is_open: options.reuse_port };
        table.shared.insert(path.to_owned(), shared);
        Ok(listener)
    }

    /// One worker listens no more on a path; with the last the socket goes, and its file.
    pub(crate) fn leave(&self, path: &Path) {
        let mut table = self.table();
        let handed_over = self.are_handed_over();
        let Some(shared) = table.shared.get_mut(path) else { return };
        shared.users -= 1;
        if shared.users == 0 {
            table.shared.remove(path);
            if !handed_over {
                let _ = std::fs::remove_file(path);
            }
        }
    }

    #[allow(clippy::disallowed_types, reason = "as above")]
    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Used {
    /// Whether a new process has them too.
    pub(crate) fn are_handed_over(&self) -> bool {
        self.sockets.are_handed_over()
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        let ids = &self.ids;
        self.sockets.table().used.retain(|(id, ..)| !ids.contains(id));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_path_that_one_has_alone_is_shared_with_nobody() {
        let path = std::env::temp_dir().join(format!("ferrogate-sockets-{}", std::process::id()));
        let sockets = Sockets::default();
        let shared = ListenOptions::default();
        let alone = ListenOptions { reuse_port: false, owner_only: true, ..ListenOptions::default() };
        for (first, second) in [(&alone, &shared), (&alone, &alone), (&shared, &alone)] {
            let _first = sockets.listen_unix(&path, first).unwrap();
            if first.owner_only {
                assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            }
            let refused = sockets.listen_unix(&path, second).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
            sockets.leave(&path);
            assert!(!path.exists());
        }
    }
}
