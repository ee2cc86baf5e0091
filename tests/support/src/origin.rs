//! An origin that does what the path of each request says: answers well, slowly, badly or not at all.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread;
use std::time::Duration;

use crate::pattern;
use crate::wait::{PATIENCE, wait_until};
use crate::wire::{Head, Length, Wire};

/// A running origin; its connections end when it is dropped.
///
/// | path | does |
/// |---|---|
/// | `/`, and any other | 200 with the origin's name |
/// | `/head` | 200 with the bytes of the request's head |
/// | `/echo` | 200 with the request's body; its trailers as trailers |
/// | `/sink` | reads a body of the [`pattern`], 200 with `bytes=N intact=BOOL` |
/// | `/slow-sink` | as `/sink`, but reads nothing before [`release`](Origin::release) |
/// | `/big?bytes=N`, `/big-chunked?bytes=N` | 200 with so many bytes of the pattern; `type=T` is their Content-Type, here and below |
/// | `/hold` | 200 after `release`; `/hold-body` sends head and half the body before |
/// | `/stall` | never answers |
/// | `/close`, `/reset` | ends the connection without an answer |
/// | `/raw?hex=H&then=keep\|close\|reset\|stall` | sends these bytes |
/// | `/status?code=N` | that status, without a body where the status has none |
/// | `/early` | 200 before it reads the body |
/// | `/continue`, `/no-continue` | 100 and then `/echo`; 417 and close |
/// | `/hints` | 103 and then 200 |
/// | `/http10` | an HTTP/1.0 answer that ends with the connection |
/// | `/chunked` | 200 in chunks, with trailers |
/// | `/upgrade`, and CONNECT | 101 (200), then echoes bytes to the end |
/// | `/upgrade-flood` | 101, then sends the pattern without end and counts what it reads |
/// | `/refuse-upgrade` | 200 |
#[derive(Debug)]
pub struct Origin {
    shared: Arc<Shared>,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A request as the origin got it.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its head.
    pub head: Head,
    /// On which of the origin's connections, counted from 0.
    pub conn: usize,
}

#[derive(Debug)]
struct Shared {
    name: String,
    stopping: AtomicBool,
    released: Mutex<bool>,
    release: Condvar,
    received: Mutex<Vec<Received>>,
    conns: AtomicUsize,
    open: AtomicUsize,
    body_bytes: AtomicU64,
    sockets: Mutex<Vec<Weak<socket2::Socket>>>,
}

impl Origin {
    /// Listens on a free port of the loopback address.
    ///
    /// # Panics
    /// When it can't.
    #[must_use]
    pub fn start(name: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("an origin can listen");
        let address = listener.local_addr().expect("a bound socket");
        let shared = Shared::new(name);
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if accepting.stopping.load(Ordering::SeqCst) {
                    break;
                }
                accepting.serve(Wire::tcp(stream));
            }
        });
        Self { shared, place: Place::Tcp(address) }
    }

    /// Listens on a unix socket.
    ///
    /// # Panics
    /// When it can't.
    #[must_use]
    pub fn start_unix(name: &str, path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("an origin can listen");
        let shared = Shared::new(name);
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if accepting.stopping.load(Ordering::SeqCst) {
                    break;
                }
                accepting.serve(Wire::unix(stream));
            }
        });
        Self { shared, place: Place::Unix(path.to_owned()) }
    }

    /// Its address, as a configuration file names it.
    #[must_use]
    pub fn address(&self) -> String {
        match &self.place {
            Place::Tcp(a) => a.to_string(),
            Place::Unix(p) => format!("unix:{}", p.display()),
        }
    }

    /// Every request so far.
    ///
    /// # Panics
    /// When a thread of the origin panicked.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().expect("no panic while held").clone()
    }

    /// The only request so far.
    ///
    /// # Panics
    /// When there was none, or more.
    #[must_use]
    pub fn only_request(&self) -> Head {
        let mut all = self.received();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0).head
    }

    /// Connections that were made to it.
    #[must_use]
    pub fn conns(&self) -> usize {
        self.shared.conns.load(Ordering::SeqCst)
    }

    /// Connections that are open.
    #[must_use]
    pub fn open_conns(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Body bytes that went through it, in either direction.
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        self.shared.body_bytes.load(Ordering::SeqCst)
    }

    /// Lets everything go on that waits in `/hold`, `/hold-body` and `/slow-sink`.
    ///
    /// # Panics
    /// When a thread of the origin panicked.
    pub fn release(&self) {
        *self.shared.released.lock().expect("no panic while held") = true;
        self.shared.release.notify_all();
    }

    /// Waits until this many requests have come.
    ///
    /// # Panics
    /// When they don't.
    pub fn wait_for_requests(&self, count: usize) {
        wait_until("the origin gets its requests", || self.received().len() >= count);
    }

    /// Closes every idle or busy connection, and goes on listening.
    ///
    /// # Panics
    /// When a thread of the origin panicked.
    pub fn close_conns(&self) {
        for socket in self.shared.sockets.lock().expect("no panic while held").drain(..) {
            if let Some(socket) = socket.upgrade() {
                let _ = socket.shutdown(std::net::Shutdown::Both);
            }
        }
        wait_until("the origin's connections end", || self.open_conns() == 0);
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.release();
        // Wakes the accepting thread, which then sees that it is to end.
        match &self.place {
            Place::Tcp(a) => drop(TcpStream::connect(a)),
            Place::Unix(p) => drop(UnixStream::connect(p)),
        }
        for socket in self.shared.sockets.lock().unwrap_or_else(std::sync::PoisonError::into_inner).drain(..) {
            if let Some(socket) = socket.upgrade() {
                let _ = socket.shutdown(std::net::Shutdown::Both);
            }
        }
    }
}

/// What becomes of a connection after an answer.
enum After {
    Keep,
    Close,
    Reset,
}

impl Shared {
    fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            stopping: AtomicBool::new(false),
            released: Mutex::new(false),
            release: Condvar::new(),
            received: Mutex::new(Vec::new()),
            conns: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            body_bytes: AtomicU64::new(0),
            sockets: Mutex::new(Vec::new()),
        })
    }

    /// Serves a connection on a thread of its own.
    fn serve(self: &Arc<Self>, mut wire: Wire) {
        let shared = Arc::clone(self);
        let conn = shared.conns.fetch_add(1, Ordering::SeqCst);
        shared.open.fetch_add(1, Ordering::SeqCst);
        let socket = Arc::new(wire.socket().try_clone().expect("a live socket"));
        shared.sockets.lock().expect("no panic while held").push(Arc::downgrade(&socket));
        // An idle connection may wait as long as the gateway keeps it.
        wire.set_patience(PATIENCE * 10);
        thread::spawn(move || {
            let socket = socket;
            while let Ok(Some(head)) = wire.head() {
                shared.received.lock().expect("no panic while held").push(Received { head: head.clone(), conn });
                match shared.answer(&head, &mut wire) {
                    Ok(After::Keep) => {}
                    Ok(After::Reset) => {
                        drop(socket);
                        wire.reset();
                        shared.open.fetch_sub(1, Ordering::SeqCst);
                        return;
                    }
                    Ok(After::Close) | Err(_) => break,
                }
            }
            drop((socket, wire));
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
    }

    // tidy: table
    fn answer(&self, head: &Head, wire: &mut Wire) -> io::Result<After> {
        let path = head.second().split('?').next().unwrap_or_default();
        if head.start.starts_with("CONNECT ") {
            return tunnel(wire, "HTTP/1.1 200 OK\r\n\r\n");
        }
        match path {
            "/head" => self.reply_after_body(head, wire, &head.raw),
            "/echo" => self.echo(head, wire),
            "/sink" => self.sink(head, wire),
            "/slow-sink" => self.wait_for_release().and_then(|()| self.sink(head, wire)),
            "/big" | "/big-chunked" => self.big(head, wire, path == "/big-chunked"),
            "/hold" => self.wait_for_release().and_then(|()| self.reply_after_body(head, wire, b"held")),
            "/hold-body" => self.hold_body(head, wire),
            "/stall" => wire.rest().map(|_| After::Close),
            "/close" => Ok(After::Close),
            "/reset" => Ok(After::Reset),
            "/raw" => raw(head, wire),
            "/status" => status(head, wire),
            "/early" => early(head, wire),
            "/continue" => {
                wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
                self.echo(head, wire)
            }
            "/no-continue" => send(
                wire,
                "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno",
                After::Close,
            ),
            "/hints" => {
                wire.send(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")?;
                self.reply_after_body(head, wire, b"hinted")
            }
            "/http10" => send(wire, "HTTP/1.0 200 OK\r\nX-Old: yes\r\n\r\nold style", After::Close),
            "/chunked" => send(
                wire,
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5;ext=1\r\nhello\r\n7\r\n, world\r\n0\r\nX-Sum: 12\r\n\r\n",
                After::Keep,
            ),
            "/upgrade" => {
                tunnel(wire, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            }
            "/upgrade-flood" => self.flood(wire),
            "/refuse-upgrade" => self.reply_after_body(head, wire, b"refused"),
            _ => self.reply_after_body(head, wire, self.name.as_bytes()),
        }
    }

    /// 200 with these bytes, after the request's body was read.
    fn reply_after_body(&self, head: &Head, wire: &mut Wire, body: &[u8]) -> io::Result<After> {
        self.read_body(head, wire, |_| {})?;
        let is_head = head.start.starts_with("HEAD ");
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Origin: {}\r\n\r\n", body.len(), self.name);
        let body = if is_head { b"" } else { body };
        wire.send(&[answer.as_bytes(), body].concat())?;
        Ok(if head.get("connection").is_some_and(|c| c.eq_ignore_ascii_case("close")) {
            After::Close
        } else {
            After::Keep
        })
    }

    fn echo(&self, head: &Head, wire: &mut Wire) -> io::Result<After> {
        let mut body = Vec::new();
        let trailers = self.read_body(head, wire, |piece| body.extend_from_slice(piece))?;
        if trailers.is_empty() {
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            wire.send(&[answer.as_bytes(), &body].concat())?;
            return Ok(After::Keep);
        }
        let trailers: String = trailers.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
        wire.send(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len()).as_bytes())?;
        wire.send(&body)?;
        send(wire, &format!("\r\n0\r\n{trailers}\r\n"), After::Keep)
    }

    fn sink(&self, head: &Head, wire: &mut Wire) -> io::Result<After> {
        let (mut bytes, mut intact) = (0, true);
        self.read_body(head, wire, |piece| {
            intact &= pattern::matches(bytes, piece);
            bytes += piece.len() as u64;
        })?;
        let body = format!("bytes={bytes} intact={intact}");
        send(wire, &format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()), After::Keep)
    }

    fn big(&self, head: &Head, wire: &mut Wire, chunked: bool) -> io::Result<After> {
        let bytes: u64 = parameter(head, "bytes").and_then(|n| n.parse().ok()).unwrap_or(0);
        let framing =
            if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {bytes}") };
        wire.send(format!("HTTP/1.1 200 OK\r\n{}{framing}\r\n\r\n", content_type(head)).as_bytes())?;
        if head.start.starts_with("HEAD ") {
            return Ok(After::Keep);
        }
        let mut piece = vec![0; PIECE_BYTES];
        let mut done = 0;
        while done < bytes {
            let n = usize::try_from(bytes - done).unwrap_or(usize::MAX).min(PIECE_BYTES);
            pattern::fill(done, &mut piece[..n]);
            if chunked {
                wire.send(format!("{n:x}\r\n").as_bytes())?;
            }
            wire.send(&piece[..n])?;
            if chunked {
                wire.send(b"\r\n")?;
            }
            done += n as u64;
            self.body_bytes.fetch_add(n as u64, Ordering::SeqCst);
        }
        if chunked { send(wire, "0\r\n\r\n", After::Keep) } else { Ok(After::Keep) }
    }

    fn flood(&self, wire: &mut Wire) -> io::Result<After> {
        wire.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")?;
        let mut flooding = wire.try_clone()?;
        let writer = thread::spawn(move || {
            let piece = pattern::bytes(PIECE_BYTES);
            while flooding.send(&piece).is_ok() {}
        });
        loop {
            let n = wire.take_some().map_or(0, |bytes| bytes.len());
            self.body_bytes.fetch_add(n as u64, Ordering::SeqCst);
            if n == 0 {
                let _ = wire.socket().shutdown(std::net::Shutdown::Both);
                let _ = writer.join();
                return Ok(After::Close);
            }
        }
    }

    fn hold_body(&self, head: &Head, wire: &mut Wire) -> io::Result<After> {
        let head = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 10\r\n\r\n", content_type(head));
        wire.send(format!("{head}first").as_bytes())?;
        self.wait_for_release()?;
        send(wire, "other", After::Keep)
    }

    fn read_body(
        &self,
        head: &Head,
        wire: &mut Wire,
        mut show: impl FnMut(&[u8]),
    ) -> io::Result<Vec<(String, String)>> {
        wire.body(head.length().unwrap_or(Length::Exact(0)), |piece| {
            self.body_bytes.fetch_add(piece.len() as u64, Ordering::SeqCst);
            show(piece);
        })
    }

    fn wait_for_release(&self) -> io::Result<()> {
        let released = self.released.lock().expect("no panic while held");
        let (_released, waited) = self
            .release
            .wait_timeout_while(released, PATIENCE * 3, |released| !*released)
            .expect("no panic while held");
        if waited.timed_out() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}

fn send(wire: &mut Wire, text: &str, after: After) -> io::Result<After> {
    wire.send(text.as_bytes()).map(|()| after)
}

/// Answers with this head and then echoes bytes until the peer ends its direction.
fn tunnel(wire: &mut Wire, head: &str) -> io::Result<After> {
    wire.send(head.as_bytes())?;
    loop {
        let bytes = wire.take_some()?;
        if bytes.is_empty() {
            return Ok(After::Close);
        }
        wire.send(&bytes)?;
    }
}

fn raw(head: &Head, wire: &mut Wire) -> io::Result<After> {
    let hex = parameter(head, "hex").unwrap_or_default();
    let digits = |i: usize| u8::from_str_radix(&hex[i..i + 2], 16).expect("hex digits");
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(digits).collect();
    wire.send(&bytes)?;
    match parameter(head, "then") {
        Some("close") => Ok(After::Close),
        Some("reset") => {
            // What was sent has to leave first: a reset throws away what the socket still holds.
            thread::sleep(Duration::from_millis(50));
            Ok(After::Reset)
        }
        Some("stall") => wire.rest().map(|_| After::Close),
        _ => Ok(After::Keep),
    }
}

fn status(head: &Head, wire: &mut Wire) -> io::Result<After> {
    let code = parameter(head, "code").unwrap_or("200");
    let rest = match code {
        "204" => String::new(),
        // The length that a 200 would have had (RFC 9110, 8.6); no body follows.
        "304" => "ETag: \"a\"\r\nContent-Length: 5\r\n".to_owned(),
        _ => "Content-Length: 0\r\n".to_owned(),
    };
    send(wire, &format!("HTTP/1.1 {code} Some Reason\r\n{rest}\r\n"), After::Keep)
}

fn early(head: &Head, wire: &mut Wire) -> io::Result<After> {
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly")?;
    wire.body(head.length().unwrap_or(Length::Exact(0)), |_| {})?;
    Ok(After::Keep)
}

/// The value of a query parameter.
fn parameter<'a>(head: &'a Head, name: &str) -> Option<&'a str> {
    let query = head.second().split_once('?')?.1;
    query.split('&').filter_map(|p| p.split_once('=')).find(|(n, _)| *n == name).map(|(_, v)| v)
}

/// The target of [`Origin`]'s `/raw` that sends these bytes.
#[must_use]
pub fn raw_target(bytes: &[u8], then: &str) -> String {
    use std::fmt::Write;
    let mut target = String::from("/raw?hex=");
    for byte in bytes {
        write!(target, "{byte:02x}").expect("a string takes it");
    }
    format!("{target}&then={then}")
}

/// The line for `type=T` of a target.
fn content_type(head: &Head) -> String {
    parameter(head, "type").map_or_else(String::new, |t| format!("Content-Type: {t}\r\n"))
}

const PIECE_BYTES: usize = 64 * 1024;
