//! One HTTP/1 connection as raw bytes, for origins and clients alike.
//!
//! It reads what a correct peer may send and panics at anything else: a test's own parser must be stricter than what it tests.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use socket2::SockRef;

use crate::wait::PATIENCE;

/// A connection with what was read too far.
#[derive(Debug)]
pub struct Wire {
    stream: Stream,
    unread: Vec<u8>,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A head as received.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// Every byte, the empty line included.
    pub raw: Vec<u8>,
    /// The start line.
    pub start: String,
    /// Name and value of each field, in order.
    pub fields: Vec<(String, String)>,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// After so many bytes.
    Exact(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection.
    UntilClose,
}

impl Wire {
    /// Over TCP.
    ///
    /// # Panics
    /// When the socket takes no options.
    #[must_use]
    pub fn tcp(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a live socket");
        Self::new(Stream::Tcp(stream))
    }

    /// Over a unix socket.
    #[must_use]
    pub fn unix(stream: UnixStream) -> Self {
        Self::new(Stream::Unix(stream))
    }

    fn new(stream: Stream) -> Self {
        let wire = Self { stream, unread: Vec::new() };
        wire.set_patience(PATIENCE);
        wire
    }

    /// A second handle on the connection, for another thread. What was read too far stays with the first.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        let stream = match &self.stream {
            Stream::Tcp(s) => Stream::Tcp(s.try_clone()?),
            Stream::Unix(s) => Stream::Unix(s.try_clone()?),
        };
        Ok(Self { stream, unread: Vec::new() })
    }

    /// How long reads and writes wait before they fail with `WouldBlock`.
    ///
    /// # Panics
    /// When the socket takes no options.
    pub fn set_patience(&self, patience: Duration) {
        let socket = self.socket();
        socket.set_read_timeout(Some(patience)).expect("a live socket");
        socket.set_write_timeout(Some(patience)).expect("a live socket");
    }

    /// The socket, for its options.
    #[must_use]
    pub fn socket(&self) -> SockRef<'_> {
        match &self.stream {
            Stream::Tcp(s) => s.into(),
            Stream::Unix(s) => s.into(),
        }
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(s) => s.write_all(bytes),
            Stream::Unix(s) => s.write_all(bytes),
        }
    }

    /// The next head, or `None` when the peer closed before it began.
    ///
    /// # Errors
    /// Those of the socket; `UnexpectedEof` within a head.
    pub fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = self.unread.windows(4).position(|w| w == b"\r\n\r\n") {
                let raw: Vec<u8> = self.unread.drain(..end + 4).collect();
                return Ok(Some(Head::parse(raw)));
            }
            if self.fill()? == 0 {
                return if self.unread.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// Reads a body and shows its pieces; answers its trailers.
    ///
    /// # Errors
    /// Those of the socket; `UnexpectedEof` when it breaks off, `InvalidData` when a chunk is malformed.
    pub fn body(&mut self, length: Length, mut show: impl FnMut(&[u8])) -> io::Result<Vec<(String, String)>> {
        match length {
            Length::Exact(n) => self.exact(n, &mut show)?,
            Length::Chunked => return self.chunks(&mut show),
            Length::UntilClose => loop {
                show(&self.unread);
                self.unread.clear();
                if self.fill()? == 0 {
                    break;
                }
            },
        }
        Ok(Vec::new())
    }

    /// Everything up to the peer's end of the stream.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? > 0 {}
        Ok(std::mem::take(&mut self.unread))
    }

    /// Exactly `n` bytes.
    ///
    /// # Errors
    /// Those of the socket; `UnexpectedEof` when there are fewer.
    pub fn take(&mut self, n: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(n);
        self.exact(n as u64, &mut |piece: &[u8]| bytes.extend_from_slice(piece))?;
        Ok(bytes)
    }

    /// What is there, at least one byte; empty at the peer's end.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn take_some(&mut self) -> io::Result<Vec<u8>> {
        if self.unread.is_empty() {
            self.fill()?;
        }
        Ok(std::mem::take(&mut self.unread))
    }

    /// Whether the peer has closed or reset, after nothing more was received. Waits for it.
    #[must_use]
    pub fn is_closed(&mut self) -> bool {
        match self.fill() {
            Ok(n) => n == 0 && self.unread.is_empty(),
            Err(e) => matches!(e.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe),
        }
    }

    /// Whether nothing at all comes within `time`: neither a byte nor an end.
    ///
    /// # Panics
    /// When the socket takes no options.
    #[must_use]
    pub fn is_silent_for(&mut self, time: Duration) -> bool {
        self.set_patience(time);
        let silent = self.unread.is_empty()
            && matches!(self.fill(), Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut));
        self.set_patience(PATIENCE);
        silent
    }

    /// Ends our direction.
    pub fn half_close(&mut self) {
        let _ = match &self.stream {
            Stream::Tcp(s) => s.shutdown(Shutdown::Write),
            Stream::Unix(s) => s.shutdown(Shutdown::Write),
        };
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        let _ = self.socket().set_linger(Some(Duration::ZERO));
    }

    fn exact(&mut self, mut left: u64, show: &mut impl FnMut(&[u8])) -> io::Result<()> {
        while left > 0 {
            if self.unread.is_empty() && self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(self.unread.len());
            show(&self.unread[..n]);
            self.unread.drain(..n);
            left -= n as u64;
        }
        Ok(())
    }

    fn chunks(&mut self, show: &mut impl FnMut(&[u8])) -> io::Result<Vec<(String, String)>> {
        loop {
            let line = self.line()?;
            let digits = line.split(';').next().unwrap_or_default();
            let size = u64::from_str_radix(digits, 16).map_err(|_| invalid(&line))?;
            if size == 0 {
                break;
            }
            self.exact(size, show)?;
            if !self.line()?.is_empty() {
                return Err(invalid("no line end behind a chunk"));
            }
        }
        let mut trailers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(trailers);
            }
            trailers.push(field(&line));
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|w| w == b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads once behind what is unread; 0 is the peer's end.
    fn fill(&mut self) -> io::Result<usize> {
        let old = self.unread.len();
        self.unread.resize(old + READ_BYTES, 0);
        let read = loop {
            let read = match &mut self.stream {
                Stream::Tcp(s) => s.read(&mut self.unread[old..]),
                Stream::Unix(s) => s.read(&mut self.unread[old..]),
            };
            if !matches!(&read, Err(e) if e.kind() == io::ErrorKind::Interrupted) {
                break read;
            }
        };
        self.unread.truncate(old + *read.as_ref().unwrap_or(&0));
        read
    }
}

impl Head {
    fn parse(raw: Vec<u8>) -> Self {
        let text = String::from_utf8_lossy(&raw).into_owned();
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        Self { raw, start, fields: lines.map(field).collect() }
    }

    /// The first value of a field, whatever its case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// Whether a field is there.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The second word of the start line: a request's target, a response's status.
    #[must_use]
    pub fn second(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// The length that the fields declare: chunked, a number, or neither.
    ///
    /// # Panics
    /// When they declare it twice or badly: that must never reach a peer of the gateway.
    #[must_use]
    pub fn length(&self) -> Option<Length> {
        let all = |name: &str| self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).count();
        assert!(all("content-length") + all("transfer-encoding") <= 1, "two lengths in {self:?}");
        if let Some(coding) = self.get("transfer-encoding") {
            assert_eq!(coding.to_ascii_lowercase(), "chunked", "{self:?}");
            return Some(Length::Chunked);
        }
        self.get("content-length").map(|n| Length::Exact(n.parse().unwrap_or_else(|_| panic!("{self:?}"))))
    }
}

fn field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no field: {line:?}"));
    (name.to_owned(), value.trim().to_owned())
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

const READ_BYTES: usize = 64 * 1024;
