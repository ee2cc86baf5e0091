//! One HTTP/1 connection as a client or an origin sees it, with a parser of its own: strict, and nothing of the gateway's.

use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use dataplane_dpdk::{DpdkTransport, NoKernel};
use ferrogate_core::net::{Conn, Transport};
use tokio::time::{Sleep, sleep, timeout};

/// The transport of every simulated host.
pub type SimTransport = DpdkTransport<NoKernel>;

/// A connection with what was read too far and what is still to be sent.
pub struct Line {
    pub conn: <SimTransport as Transport>::Conn,
    /// Bytes that have been read and not used.
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
    /// Sends so many bytes at once and then rests for a while.
    pub pace: Option<(usize, Duration)>,
    rest: Option<Pin<Box<Sleep>>>,
    /// Ends our direction behind the output.
    pub half_close: bool,
    shut: bool,
    /// How the reading ended.
    end: Option<Broken>,
    /// Silence for so long is the end.
    pub patience: Duration,
    /// Bytes that have been read in all.
    pub received: usize,
}

/// Why there is nothing more to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The peer ended its stream.
    Ended,
    /// The connection was reset, or is dead.
    Reset(ErrorKind),
    /// Nothing came for a long time.
    Silent,
    /// The bytes are no message.
    Malformed(String),
}

/// A start line and its fields, names in lower case.
#[derive(Debug)]
pub struct Head {
    pub start: String,
    fields: Vec<(String, String)>,
}

impl Head {
    /// The value of the only field of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let first = values.next();
        assert!(values.next().is_none(), "{name} is there twice");
        first
    }

    /// How the body behind it is delimited; `None` when nothing says so.
    pub fn body(&self) -> Result<Option<Body>, Broken> {
        let malformed = || Broken::Malformed(format!("framing of {self:?}"));
        match (self.get("content-length"), self.get("transfer-encoding")) {
            (None, None) => Ok(None),
            (Some(n), None) => Ok(Some(Body::Exact(n.parse().map_err(|_| malformed())?))),
            (None, Some("chunked")) => Ok(Some(Body::Chunked { left: 0, begun: false })),
            _ => Err(malformed()),
        }
    }
}

impl Line {
    pub fn new(conn: <SimTransport as Transport>::Conn, patience: Duration) -> Self {
        Self {
            conn,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            pace: None,
            rest: None,
            half_close: false,
            shut: false,
            end: None,
            patience,
            received: 0,
        }
    }

    /// Queues bytes; they leave while something is awaited.
    pub fn push(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// Whether something was read that nobody has used.
    pub fn has_rest(&self) -> bool {
        !self.input.is_empty()
    }

    /// Waits for more bytes, and sends meanwhile.
    pub async fn more(&mut self) -> Result<(), Broken> {
        let before = self.received;
        let patience = self.patience;
        let read = poll_fn(|cx| {
            let _ = self.poll_write(cx);
            if self.received == before && self.end.is_none() {
                ready!(self.poll_read(cx));
            }
            Poll::Ready(())
        });
        if timeout(patience, read).await.is_err() {
            return Err(Broken::Silent);
        }
        match &self.end {
            Some(end) if self.received == before => Err(end.clone()),
            _ => Ok(()),
        }
    }

    /// Waits until everything has been sent, and reads on meanwhile so that two writers can't block each other.
    pub async fn flushed(&mut self) {
        poll_fn(|cx| {
            while self.end.is_none() && self.input.len() < READ_AHEAD_MAX && self.poll_read(cx).is_ready() {}
            self.poll_write(cx)
        })
        .await;
    }

    /// The next head; `None` when the stream ended in front of it.
    pub async fn head(&mut self) -> Result<Option<Head>, Broken> {
        let end = loop {
            if let Some(at) = find(&self.input, b"\r\n\r\n") {
                break at;
            }
            match self.more().await {
                Err(Broken::Ended) if self.input.is_empty() => return Ok(None),
                more => more?,
            }
        };
        let bytes: Vec<u8> = self.input.drain(..end + 4).collect();
        let text = std::str::from_utf8(&bytes[..end]).map_err(|e| Broken::Malformed(e.to_string()))?;
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let field = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_ascii_lowercase(), value.to_owned()))
        };
        match lines.map(field).collect() {
            Some(fields) => Ok(Some(Head { start, fields })),
            None => Err(Broken::Malformed(text.to_owned())),
        }
    }

    async fn line(&mut self) -> Result<String, Broken> {
        loop {
            if let Some(at) = find(&self.input, b"\r\n") {
                let line: Vec<u8> = self.input.drain(..at + 2).take(at).collect();
                return String::from_utf8(line).map_err(|e| Broken::Malformed(e.to_string()));
            }
            self.more().await?;
        }
    }

    /// Up to `max` bytes, at least one.
    async fn some(&mut self, max: usize) -> Result<Vec<u8>, Broken> {
        if self.input.is_empty() {
            self.more().await?;
        }
        let n = self.input.len().min(max);
        Ok(self.input.drain(..n).collect())
    }

    /// Throws away what comes, to the end of the stream.
    pub async fn until_end(&mut self) -> Broken {
        loop {
            self.input.clear();
            if let Err(end) = self.more().await {
                return end;
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.sent < self.output.len() {
            if let Some(rest) = &mut self.rest {
                ready!(rest.as_mut().poll(cx));
                self.rest = None;
            }
            let most = self.pace.map_or(usize::MAX, |(piece, _)| piece);
            let part = &self.output[self.sent..];
            let part = &part[..part.len().min(most)];
            let written = self.conn.poll_write_with(cx, 1, |room| {
                let n = part.len().min(room.len());
                room[..n].copy_from_slice(&part[..n]);
                (n, n)
            });
            match ready!(written) {
                Ok(n) => {
                    self.sent += n;
                    self.rest = self.pace.map(|(_, rest)| Box::pin(sleep(rest)));
                }
                // What was sent to us before can still be read.
                Err(_) => self.sent = self.output.len(),
            }
        }
        self.output.clear();
        self.sent = 0;
        if self.half_close && !self.shut {
            self.shut = self.conn.poll_shutdown(cx).is_ready();
        }
        self.conn.poll_flush(cx).map(|_| ())
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let input = &mut self.input;
        let read = self.conn.poll_read_with(cx, 0, |bytes| {
            input.extend_from_slice(bytes);
            (bytes.len(), bytes.len())
        });
        match ready!(read) {
            Ok(0) => self.end = Some(Broken::Ended),
            Ok(n) => self.received += n,
            Err(e) => self.end = Some(Broken::Reset(e.kind())),
        }
        Poll::Ready(())
    }
}

/// What is left of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    Exact(usize),
    /// `left` of the chunk that has `begun`.
    Chunked {
        left: usize,
        begun: bool,
    },
    UntilEnd,
}

impl Body {
    /// The next bytes; `None` behind the last.
    pub async fn piece(&mut self, line: &mut Line) -> Result<Option<Vec<u8>>, Broken> {
        match self {
            Self::Exact(0) => Ok(None),
            Self::Exact(left) => {
                let piece = line.some(*left).await?;
                *left -= piece.len();
                Ok(Some(piece))
            }
            Self::UntilEnd => match line.some(usize::MAX).await {
                Err(Broken::Ended) => Ok(None),
                piece => piece.map(Some),
            },
            Self::Chunked { left, begun } => {
                if *left == 0 {
                    if *begun && !line.line().await?.is_empty() {
                        return Err(Broken::Malformed("no CRLF behind a chunk".to_owned()));
                    }
                    let size = line.line().await?;
                    *left =
                        usize::from_str_radix(&size, 16).map_err(|_| Broken::Malformed(format!("chunk {size:?}")))?;
                    *begun = true;
                }
                if *left == 0 {
                    while !line.line().await?.is_empty() {}
                    *self = Self::Exact(0);
                    return Ok(None);
                }
                let piece = line.some(*left).await?;
                *left -= piece.len();
                Ok(Some(piece))
            }
        }
    }

    /// All of it into `into`, which holds what came before a break.
    pub async fn rest(&mut self, line: &mut Line, into: &mut Vec<u8>) -> Result<(), Broken> {
        while let Some(piece) = self.piece(line).await? {
            into.extend_from_slice(&piece);
        }
        Ok(())
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|w| w == what)
}

const READ_AHEAD_MAX: usize = 1 << 20;
