//! Between a memif port and its peer: their control connection passes here, so that a peer that goes does not take the gateway along.
//!
//! The driver unmaps the rings as soon as it hears that the peer has gone, on a thread of its own, while an lcore may be within a burst over them. Here
//! the end is heard first: the [`Gate`] closes, no burst is left, the driver is told, and when it has let go of the rings the gate opens again.
//!
//! ```text
//! peer  --  its socket, as configured  --  relay  --  an abstract socket of ours  --  driver
//! ```
//!
//! A peer that is connected has nothing more to say but that it goes: whatever comes from it then is taken for that.
//!
//! **Invariant:** the driver hears of an end only behind a closed gate; and nobody but this process gets through to the driver.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen, recvmsg, sendmsg,
    shutdown, socket_with,
};

use dpdk_sys as sys;

use super::Eal;
use crate::device::Device;

/// Keeps bursts off the rings of a port while its driver lets go of them.
#[derive(Debug)]
pub(super) struct Gate {
    closed: AtomicBool,
    /// By queue: an lcore is within a burst.
    inside: Box<[AtomicBool]>,
}

/// A burst that runs.
pub(super) struct Inside<'a>(&'a AtomicBool);

impl Gate {
    fn new(queues: u16) -> Self {
        Self { closed: AtomicBool::new(false), inside: (0..queues).map(|_| AtomicBool::new(false)).collect() }
    }

    /// Lets a burst of `queue` begin. None: not now.
    pub(super) fn enter(&self, queue: u16) -> Option<Inside<'_>> {
        let inside = &self.inside[usize::from(queue)];
        // Both sides write and then read, in one order of all: one of them sees the other.
        inside.store(true, Ordering::SeqCst);
        let burst = Inside(inside);
        (!self.closed.load(Ordering::SeqCst)).then_some(burst)
    }

    /// Lets no burst begin any more, and waits for those that run. A burst takes microseconds.
    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        while self.inside.iter().any(|inside| inside.load(Ordering::SeqCst)) {
            thread::yield_now();
        }
    }

    fn open(&self) {
        self.closed.store(false, Ordering::SeqCst);
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// The thread that relays. Dropped, it ends, and the peer hears that the port has gone.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) gate: Arc<Gate>,
    /// The port's number, once it runs.
    port: Arc<AtomicU32>,
    /// Its other end is seen to close.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// For a memif device: the relay, and the text that the driver is to get in place of the device's. None: it is no memif device.
    ///
    /// # Errors
    /// When the socket of a server can't be made: another process listens there.
    pub(super) fn of(device: &Device, queues: u16, eal: &Arc<Eal>) -> io::Result<Option<(Self, String)>> {
        if !device.is_vdev("net_memif") {
            return Ok(None);
        }
        let config = MemifDevice::of(device);
        let (public, private) = (config.address()?, SocketAddrUnix::new_abstract_name(config.name.as_bytes())?);
        let role = if config.is_server {
            Role::Server { listener: config.listen(&public)?, driver: private, secret: config.secret.clone() }
        } else {
            Role::Client { listener: listen_at(&private)?, peer: public }
        };
        let (stop, stopped) = UnixStream::pair()?;
        let gate = Arc::new(Gate::new(queues));
        let (text, port) = (config.text, Arc::new(AtomicU32::new(u32::MAX)));
        let path = config.path.filter(|_| config.is_server);
        let relaying =
            Relaying { role, gate: Arc::clone(&gate), port: Arc::clone(&port), eal: Arc::clone(eal), stopped, path };
        let thread = thread::Builder::new().name("memif".to_owned()).spawn(move || relaying.run())?;
        Ok(Some((Self { gate, port, stop: Some(stop), thread: Some(thread) }, text)))
    }

    /// The port runs, by this number.
    pub(super) fn opened(&self, port: u16) {
        self.port.store(u32::from(port), Ordering::Release);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the thread between a memif port and its peer panicked");
        }
    }
}

/// What a memif device is asked for, and what its driver is told instead.
struct MemifDevice {
    is_server: bool,
    /// The socket's path; None: an abstract one.
    path: Option<PathBuf>,
    socket: String,
    /// The driver's socket, in the abstract space.
    name: String,
    /// What a peer of the driver has to know; nobody but us does, unless it is configured.
    secret: Option<String>,
    text: String,
}

impl MemifDevice {
    fn of(device: &Device) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let is_server = matches!(device.argument("role"), Some("server" | "master"));
        let socket = device.argument("socket").unwrap_or(DEFAULT_SOCKET).to_owned();
        let is_abstract = device.argument("socket-abstract").unwrap_or("yes") == "yes";
        let name = format!("ferrogate-memif-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let configured = device.argument("secret").is_some();
        let secret = (is_server && !configured).then(|| format!("{:016x}", RandomState::new().hash_one(0)));
        let kept = device
            .as_str()
            .split(',')
            .filter(|part| !part.starts_with("socket=") && !part.starts_with("socket-abstract="));
        let mut text = kept.collect::<Vec<_>>().join(",");
        text += &format!(",socket={name},socket-abstract=yes");
        if let Some(secret) = &secret {
            text += &format!(",secret={secret}");
        }
        let path = (!is_abstract).then(|| PathBuf::from(&socket));
        Self { is_server, path, socket, name, secret, text }
    }

    fn address(&self) -> io::Result<SocketAddrUnix> {
        Ok(match &self.path {
            Some(path) => SocketAddrUnix::new(path.as_path())?,
            None => SocketAddrUnix::new_abstract_name(self.socket.as_bytes())?,
        })
    }

    /// Listens where peers look for us. A socket that a dead process has left is replaced.
    fn listen(&self, public: &SocketAddrUnix) -> io::Result<OwnedFd> {
        match (listen_at(public), &self.path) {
            (Err(e), Some(path)) if e.kind() == io::ErrorKind::AddrInUse && is_left(public) => {
                std::fs::remove_file(path)?;
                listen_at(public)
            }
            (listener, _) => listener,
        }
    }
}

/// Whether nobody listens at a socket that is there.
fn is_left(address: &SocketAddrUnix) -> bool {
    dial(address).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
}

fn socket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

fn listen_at(address: &SocketAddrUnix) -> io::Result<OwnedFd> {
    let listener = socket()?;
    bind(&listener, address)?;
    listen(&listener, BACKLOG)?;
    Ok(listener)
}

fn dial(address: &SocketAddrUnix) -> io::Result<OwnedFd> {
    let conn = socket()?;
    connect(&conn, address)?;
    Ok(conn)
}

/// Which side listens.
enum Role {
    /// Peers come to us; the driver listens.
    Server { listener: OwnedFd, driver: SocketAddrUnix, secret: Option<String> },
    /// The driver comes to us, and we go to the peer.
    Client { listener: OwnedFd, peer: SocketAddrUnix },
}

/// What the thread has.
struct Relaying {
    role: Role,
    gate: Arc<Gate>,
    port: Arc<AtomicU32>,
    eal: Arc<Eal>,
    stopped: UnixStream,
    /// The socket's name, which goes at the end.
    path: Option<PathBuf>,
}

/// The port closes.
struct Stopped;

impl Relaying {
    fn run(&self) {
        while let Ok(pair) = self.pair() {
            if let Some((peer, driver)) = pair
                && self.relay(&peer, &driver).is_err()
            {
                break;
            }
        }
        if let Some(path) = &self.path {
            remove(path);
        }
    }

    /// A peer, and the driver's end for it. None: there was one, and it did not come to that.
    fn pair(&self) -> Result<Option<(OwnedFd, OwnedFd)>, Stopped> {
        match &self.role {
            Role::Server { listener, driver, .. } => {
                let peer = self.accept(listener)?;
                Ok(peer.zip(dial(driver).ok()))
            }
            Role::Client { listener, peer } => {
                let Some(driver) = self.accept(listener)?.filter(is_ours) else { return Ok(None) };
                loop {
                    if let Ok(peer) = dial(peer) {
                        return Ok(Some((peer, driver)));
                    }
                    // The peer may start after us.
                    self.wait([driver.as_fd()], Some(DIAL_INTERVAL))?;
                }
            }
        }
    }

    fn accept(&self, listener: &OwnedFd) -> Result<Option<OwnedFd>, Stopped> {
        self.wait([listener.as_fd()], None)?;
        match accept_with(listener, SocketFlags::CLOEXEC) {
            Ok(conn) => Ok(Some(conn)),
            Err(_) => {
                // Out of descriptors, or it has left already.
                self.wait([], Some(DIAL_INTERVAL)).map(|_| None)
            }
        }
    }

    /// Passes messages on until one side ends.
    fn relay(&self, peer: &OwnedFd, driver: &OwnedFd) -> Result<(), Stopped> {
        let mut is_connected = false;
        loop {
            // Peers are served one after the other: one that says nothing must not keep the others out.
            let patience = (!is_connected).then_some(HANDSHAKE_TIMEOUT);
            let [from_peer, from_driver] = self.wait([peer.as_fd(), driver.as_fd()], patience)?;
            if from_driver {
                match Message::receive(driver) {
                    Some(message) => {
                        is_connected |= message.kind() == CONNECTED;
                        message.send(peer);
                    }
                    // It has ended this itself: nothing is left to be kept from it.
                    None => return Ok(()),
                }
            } else if from_peer {
                match Message::receive(peer).filter(|message| !is_connected && message.kind() != DISCONNECT) {
                    Some(mut message) => {
                        is_connected = message.kind() == CONNECTED;
                        self.introduce(&mut message);
                        message.send(driver);
                    }
                    None => return self.end(driver),
                }
            } else {
                tracing::warn!("a peer of a memif port has not connected within {HANDSHAKE_TIMEOUT:?}");
                return self.end(driver);
            }
        }
    }

    /// The driver asks for a secret that only we know.
    fn introduce(&self, message: &mut Message) {
        if let Role::Server { secret: Some(secret), .. } = &self.role
            && message.kind() == INIT
            && let Some(room) = message.bytes.get_mut(SECRET_AT..SECRET_AT + SECRET_BYTES)
        {
            room.fill(0);
            room[..secret.len()].copy_from_slice(secret.as_bytes());
        }
    }

    /// The peer has gone: the driver is told while no burst runs, and has let go of the rings when it closes its end.
    fn end(&self, driver: &OwnedFd) -> Result<(), Stopped> {
        tracing::warn!("the peer of a memif port has gone");
        self.gate.close();
        // An error: it has closed already.
        let _ = shutdown(driver, Shutdown::Write);
        let (mut result, mut patience) = (Ok(()), Some(RELEASE_TIMEOUT));
        loop {
            match self.wait([driver.as_fd()], patience) {
                Ok([true]) => {
                    if Message::receive(driver).is_none() {
                        break;
                    }
                }
                Ok([false]) => {
                    tracing::error!(
                        "the driver of a memif port does not let go of its rings: the port stays shut until it does"
                    );
                    patience = None;
                }
                Err(stopped) => {
                    result = Err(stopped);
                    break;
                }
            }
        }
        if result.is_ok() {
            self.restart();
        }
        self.gate.open();
        result
    }

    /// A driver that went to its peer does so once, when it is started.
    fn restart(&self) {
        let (Role::Client { .. }, Ok(port)) = (&self.role, u16::try_from(self.port.load(Ordering::Acquire))) else {
            return;
        };
        let open = self.eal.ports.read().expect("nobody panics while he opens or closes a port");
        if !open.contains(&port) {
            return;
        }
        // SAFETY: the port is open for as long as we hold the lock, since its end takes it for writing. No lcore is within a burst, and none begins
        // one behind the closed gate.
        let ret = unsafe { sys::fg_port_restart(port) };
        if ret != 0 {
            tracing::error!(
                port,
                errno = -ret,
                "a memif port can't be started again: it has no peer until the gateway is"
            );
        }
    }

    /// Waits until one of these can be read from, or for so long. Says which can.
    fn wait<const N: usize>(
        &self,
        fds: [std::os::fd::BorrowedFd<'_>; N],
        at_most: Option<Duration>,
    ) -> Result<[bool; N], Stopped> {
        let stopped = PollFd::new(&self.stopped, PollFlags::IN);
        let mut all: Vec<_> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).chain([stopped]).collect();
        let timeout = at_most.and_then(|time| Timespec::try_from(time).ok());
        while let Err(Errno::INTR) = poll(&mut all, timeout.as_ref()) {}
        if !all[N].revents().is_empty() {
            return Err(Stopped);
        }
        Ok(std::array::from_fn(|n| !all[n].revents().is_empty()))
    }
}

/// Whether this process is at the other end.
fn is_ours(conn: &OwnedFd) -> bool {
    socket_peercred(conn).is_ok_and(|peer| peer.pid == rustix::process::getpid())
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "the socket of a memif port stays");
    }
}

/// A message of the control connection, with the descriptor that came with it.
struct Message {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Message {
    /// None: the other side has ended the connection, or broken it.
    fn receive(from: &OwnedFd) -> Option<Self> {
        let mut bytes = vec![0; MESSAGE_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = recvmsg(from, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        bytes.truncate(got.bytes);
        (!bytes.is_empty()).then_some(Self { bytes, fds })
    }

    /// A side that can't be sent to is found out when it is read from.
    fn send(&self, to: &OwnedFd) {
        let fds: Vec<_> = self.fds.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&fds));
        }
        let _ = sendmsg(to, &[IoSlice::new(&self.bytes)], &mut control, SendFlags::NOSIGNAL);
    }

    /// What it is (`memif_msg_type_t`).
    fn kind(&self) -> u16 {
        self.bytes.first_chunk().map_or(0, |kind| u16::from_ne_bytes(*kind))
    }
}

// memif.h
const INIT: u16 = 3;
const CONNECTED: u16 = 7;
const DISCONNECT: u16 = 8;
/// Of an INIT message: behind its kind, version, number and mode.
const SECRET_AT: usize = 9;
const SECRET_BYTES: usize = 24;
/// Longer than any.
const MESSAGE_BYTES_MAX: usize = 512;
const FDS_MAX: usize = 4;
/// The driver's own default.
const DEFAULT_SOCKET: &str = "/run/memif.sock";
const BACKLOG: i32 = 8;
/// Between two tries to reach a peer.
const DIAL_INTERVAL: Duration = Duration::from_millis(200);
/// Between a peer's connection and its being connected, which takes it a few messages.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the driver may take to let go of the rings.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_is_told_of_our_socket_in_place_of_the_peers() {
        let server =
            MemifDevice::of(&Device::new("net_memif0,role=server,id=3,socket=/p/x.sock,socket-abstract=no,rsize=11"));
        assert!(server.is_server && server.path.as_deref() == Some(Path::new("/p/x.sock")));
        let secret = server.secret.expect("one of ours");
        let wanted =
            format!("net_memif0,role=server,id=3,rsize=11,socket={},socket-abstract=yes,secret={secret}", server.name);
        assert_eq!(server.text, wanted);
        let client = MemifDevice::of(&Device::new("net_memif1,secret=abc"));
        assert!(!client.is_server && client.path.is_none() && client.secret.is_none());
        assert_eq!(
            (client.socket.as_str(), client.text),
            (DEFAULT_SOCKET, format!("net_memif1,secret=abc,socket={},socket-abstract=yes", client.name))
        );
    }

    #[test]
    fn no_burst_runs_behind_a_closed_gate() {
        let gate = Arc::new(Gate::new(2));
        let counted = Arc::new(AtomicU32::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..2)
            .map(|queue| {
                let (gate, counted, stop) = (Arc::clone(&gate), Arc::clone(&counted), Arc::clone(&stop));
                thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        if let Some(_burst) = gate.enter(queue) {
                            counted.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        for _ in 0..1000 {
            gate.close();
            let before = counted.load(Ordering::Relaxed);
            for _ in 0..50 {
                std::hint::spin_loop();
            }
            assert_eq!(counted.load(Ordering::Relaxed), before);
            gate.open();
        }
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
