//! A client, or an origin, that writes any bytes and understands what comes back.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use ferrogate_core::codec::Codec;
use ferrogate_core::codec::http2::hpack::{Decoder, Fields};
use ferrogate_core::codec::http2::{ErrorCode, Frame, FrameCodec, PREFACE, Settings};
use ferrogate_core::config::Limits;
use ferrogate_core::message::{Downstream, next_conn_id};
use ferrogate_core::net::Conn;
use ferrogate_core::stream::ConnState;
use ferrogate_core::stream::http2::{OriginConn, connect, serve_for};
use ferrogate_core::stream::server as http1;
use test_support::memory_conn::{MemoryConn, pair};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;

use crate::service::Paths;

/// A client and the server behind it.
pub struct Peer {
    conn: MemoryConn,
    unread: Vec<u8>,
    decoder: Decoder,
    heard: VecDeque<Heard>,
    pub service: Paths,
    pub state: Rc<ConnState>,
}

/// What the server has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Head {
        stream: u32,
        fields: BTreeMap<String, String>,
        end: bool,
    },
    Data {
        stream: u32,
        data: Vec<u8>,
        end: bool,
    },
    Reset(u32, ErrorCode),
    Settings(Settings),
    SettingsAck,
    Pong([u8; 8]),
    Ping([u8; 8]),
    GoAway(u32, ErrorCode),
    Window(u32, u32),
    /// The connection has ended.
    Closed,
}

#[derive(Default)]
struct Map(BTreeMap<String, String>);

impl Fields for Map {
    fn field(&mut self, name: &[u8], value: &[u8]) {
        let (name, value) = (String::from_utf8(name.to_vec()).unwrap(), String::from_utf8_lossy(value).into_owned());
        assert!(!name.bytes().any(|b| b.is_ascii_uppercase()), "{name}");
        self.0.entry(name).and_modify(|all| *all = format!("{all}|{value}")).or_insert(value);
    }
}

/// Runs a test on a clock that goes on when nothing else does.
pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

impl Peer {
    /// A client that has said nothing.
    pub fn silent(limits: Limits) -> Self {
        Self::silent_over(limits, 1 << 20)
    }

    /// The same, over a wire that holds so many bytes each way.
    pub fn silent_over(limits: Limits, wire_bytes: usize) -> Self {
        let (conn, server) = pair(wire_bytes);
        let (service, state) = (Paths::default(), Rc::new(ConnState::default()));
        let (peer, local) = (server.peer_addr().clone(), server.local_addr().clone());
        let downstream = Rc::new(Downstream::new(next_conn_id(), peer, local, false));
        let served =
            serve_for(server, downstream, (service.clone(), Rc::default()), Rc::new(limits), Rc::clone(&state), ());
        spawn_local(served);
        Self { service, state, ..Self::over(conn) }
    }

    /// A client of HTTP/1.1, which may change.
    pub fn of_http1(limits: Limits) -> Self {
        let (conn, server) = pair(1 << 20);
        let (service, state) = (Paths::default(), Rc::new(ConnState::default()));
        let served = http1::serve(server, false, service.clone(), Rc::new(limits), Rc::clone(&state), ());
        spawn_local(served);
        Self { service, state, ..Self::over(conn) }
    }

    /// A head of HTTP/1.1, and of its body what has a length.
    pub async fn text(&mut self) -> String {
        loop {
            if let Some(at) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8(self.unread.drain(..at + 4).collect()).unwrap();
                let lines = head.to_lowercase();
                let length = lines.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                let length: usize = length.unwrap_or(0);
                while self.unread.len() < length {
                    assert!(self.read().await, "the answer breaks off");
                }
                self.unread.drain(..length);
                return head;
            }
            assert!(self.read().await, "the connection has ended");
        }
    }

    fn over(conn: MemoryConn) -> Self {
        let (unread, heard) = (Vec::new(), VecDeque::new());
        let (service, state) = (Paths::default(), Rc::new(ConnState::default()));
        Self { conn, unread, decoder: Decoder::new(4096), heard, service, state }
    }

    /// An origin that says these SETTINGS, and the gateway's connection to it.
    pub async fn origin(limits: Limits, entries: &[(u16, u32)]) -> (Self, Rc<OriginConn>) {
        let (client, conn) = pair(1 << 20);
        let mut peer = Self::over(conn);
        let opened = async { connect(client, "http", Rc::new(limits)).await.unwrap() };
        let greeted = async {
            while peer.unread.len() < PREFACE.len() {
                peer.read().await;
            }
            assert_eq!(peer.unread.drain(..PREFACE.len()).collect::<Vec<_>>(), PREFACE);
            peer.send(&[settings(entries), frame(4, 1, 0, &[])].concat()).await;
        };
        let ((conn, driver), ()) = tokio::join!(opened, greeted);
        spawn_local(driver.run(|| ()));
        peer.hear(|heard| matches!(heard, Heard::SettingsAck)).await;
        (peer, conn)
    }

    /// A client that has said how it means to go on.
    pub async fn new(limits: Limits) -> Self {
        let mut peer = Self::silent(limits);
        peer.send(&[&PREFACE[..], &frame(4, 0, 0, &[]), &frame(4, 1, 0, &[])].concat()).await;
        peer.hear(|heard| matches!(heard, Heard::SettingsAck)).await;
        peer
    }

    /// Writes bytes. The server may have closed meanwhile.
    pub async fn send(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(8 * 1024) {
            let written = poll_fn(|cx| {
                self.conn.poll_write_with(cx, piece.len(), |room| {
                    room[..piece.len()].copy_from_slice(piece);
                    (piece.len(), ())
                })
            });
            if written.await.is_err() || poll_fn(|cx| self.conn.poll_flush(cx)).await.is_err() {
                return;
            }
        }
    }

    /// Writes bytes, but waits no longer than a moment: who reads nothing is written to no more.
    pub async fn offer(&mut self, bytes: &[u8]) {
        let _ = timeout(Duration::from_millis(1), self.send(bytes)).await;
    }

    /// The next thing that the server says, waited for as long as an honest server may need.
    pub async fn next(&mut self) -> Heard {
        match timeout(Duration::from_secs(3600), self.next_frame()).await {
            Ok(heard) => heard,
            Err(_) => panic!("the server says nothing more"),
        }
    }

    /// What the server says up to what fits, that included.
    pub async fn hear(&mut self, fits: impl Fn(&Heard) -> bool) -> Vec<Heard> {
        let mut all = Vec::new();
        loop {
            let heard = self.next().await;
            let is_last = fits(&heard) || heard == Heard::Closed;
            all.push(heard);
            if is_last {
                return all;
            }
        }
    }

    /// Asks whether the connection lives; what came before the answer.
    pub async fn ping(&mut self) -> Vec<Heard> {
        self.send(&frame(6, 0, 0, b"are you?")).await;
        let heard = self.hear(|heard| *heard == Heard::Pong(*b"are you?")).await;
        assert_eq!(heard.last(), Some(&Heard::Pong(*b"are you?")), "{heard:?}");
        heard
    }

    /// The status, the body and whether it is whole of the answer on a stream.
    pub async fn answer(&mut self, stream: u32) -> (String, Vec<u8>, bool) {
        let (mut status, mut body) = (String::new(), Vec::new());
        loop {
            match self.next().await {
                Heard::Head { stream: s, fields, end } if s == stream => {
                    if let Some(said) = fields.get(":status") {
                        status.clone_from(said);
                    }
                    if end {
                        return (status, body, true);
                    }
                }
                Heard::Data { stream: s, data, end } if s == stream => {
                    body.extend(data);
                    if end {
                        return (status, body, true);
                    }
                }
                Heard::Reset(s, _) if s == stream => return (status, body, false),
                Heard::Closed => return (status, body, false),
                _ => {}
            }
        }
    }

    /// Ends the client's side.
    pub async fn shut(&mut self) {
        poll_fn(|cx| self.conn.poll_shutdown(cx)).await.unwrap();
    }

    async fn next_frame(&mut self) -> Heard {
        loop {
            if let Some(heard) = self.heard.pop_front() {
                return heard;
            }
            let Some((heard, used)) = self.parse() else {
                if !self.read().await {
                    return Heard::Closed;
                }
                continue;
            };
            self.unread.drain(..used);
            self.heard.extend(heard);
        }
    }

    /// Reads what there is; whether there was anything.
    async fn read(&mut self) -> bool {
        let read = poll_fn(|cx| match self.conn.poll_read_with(cx, 0, |b| (b.len(), b.to_vec())) {
            Poll::Ready(read) => Poll::Ready(read.unwrap_or_default()),
            Poll::Pending => Poll::Pending,
        });
        let read = read.await;
        self.unread.extend(&read);
        !read.is_empty()
    }

    fn parse(&mut self) -> Option<(Option<Heard>, usize)> {
        let (frame, used) = FrameCodec { frame_bytes_max: 16_384 }.decode(&self.unread).unwrap()?;
        let heard = match frame {
            Frame::Headers { stream, fragment, end_stream, end_headers } => {
                assert!(end_headers, "heads of the tests are short");
                let mut map = Map::default();
                self.decoder.decode(fragment, &mut map).unwrap();
                Heard::Head { stream, fields: map.0, end: end_stream }
            }
            Frame::Data { stream, data, end_stream, .. } => {
                Heard::Data { stream, data: data.to_vec(), end: end_stream }
            }
            Frame::Reset { stream, code } => Heard::Reset(stream, code),
            Frame::Settings { entries } => {
                let mut settings = Settings::default();
                settings.apply(entries).unwrap();
                Heard::Settings(settings)
            }
            Frame::SettingsAck => Heard::SettingsAck,
            Frame::Ping { ack: true, data } => Heard::Pong(data),
            Frame::Ping { ack: false, data } => Heard::Ping(data),
            Frame::GoAway { last_stream, code } => Heard::GoAway(last_stream, code),
            Frame::WindowUpdate { stream, increment } => Heard::Window(stream, increment),
            other => panic!("nobody here sends {other:?}"),
        };
        Some((Some(heard), used))
    }
}

/// Any frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field that is written out.
pub fn literal(name: &str, value: &str) -> Vec<u8> {
    let len = |text: &str| u8::try_from(text.len()).ok().filter(|len| *len < 127).expect("a short text");
    [&[0, len(name)], name.as_bytes(), &[len(value)], value.as_bytes()].concat()
}

/// A header block: the pseudo-header fields of a request, and more.
pub fn block(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "test.example")];
    pseudo.iter().chain(more).flat_map(|(name, value)| literal(name, value)).collect()
}

/// A request without a body.
pub fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(1, 5, stream, &block("GET", path, &[]))
}

/// The head of a request with a body to come.
pub fn post(stream: u32, path: &str) -> Vec<u8> {
    frame(1, 4, stream, &block("POST", path, &[]))
}

/// DATA.
pub fn data(stream: u32, data: &[u8]) -> Vec<u8> {
    frame(0, 0, stream, data)
}

/// DATA that ends its stream.
pub fn last(stream: u32, data: &[u8]) -> Vec<u8> {
    frame(0, 1, stream, data)
}

/// RST_STREAM.
pub fn reset(stream: u32) -> Vec<u8> {
    frame(3, 0, stream, &8u32.to_be_bytes())
}

/// WINDOW_UPDATE.
pub fn window(stream: u32, increment: u32) -> Vec<u8> {
    frame(8, 0, stream, &increment.to_be_bytes())
}

/// SETTINGS.
pub fn settings(entries: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        entries.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    frame(4, 0, 0, &payload)
}
