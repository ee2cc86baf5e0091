//! A whole connection under a peer that sends anything: what the fuzz target `stream_http2` runs and its corpus replays.
//!
//! Bytes are read as a script: frames, right and wrong, time that passes, answers read or left. Most of a connection lies behind frames that
//! are right, which bytes by chance hardly ever are.
//!
//! **Invariant:** panics when the gateway does, says what is no HTTP/2, sends more than it was allowed, or keeps a request after its peer
//! has gone; and only then.

use std::rc::Rc;
use std::time::Duration;

use ferrogate_core::codec::http2::PREFACE;
use ferrogate_core::config::Limits;
use ferrogate_core::message::{Body, Head, HttpHead, Request};
use ferrogate_core::stream::client::{Answer, SendOptions};
use ferrogate_core::stream::http2::{OriginConn, StreamHome};
use tokio::task::{JoinHandle, spawn_local, yield_now};
use tokio::time::{sleep, timeout};

use crate::peer::{Heard, Peer, block, data, frame, get, last, literal, reset, run, settings, window};
use crate::service::read_whole;

/// Runs one script. The first byte says whether the peer is a client or an origin, and how much the wire holds.
///
/// # Panics
/// When a promise is broken.
pub fn check(input: &[u8]) {
    let [mode, script @ ..] = input else { return };
    let mut script = Script(script);
    let wire_bytes = if mode & 2 == 0 { 1 << 20 } else { 1 + usize::from(mode >> 2) };
    if mode & 1 == 0 {
        run(be_client(&mut script, wire_bytes));
    } else {
        run(be_origin(&mut script));
    }
}

async fn be_client(script: &mut Script<'_>, wire_bytes: usize) {
    let mut peer = Peer::silent_over(limits(), wire_bytes);
    let mut credit = Credit::new();
    if !script.byte().is_multiple_of(8) {
        peer.offer(&[&PREFACE[..], &settings(&[])].concat()).await;
    }
    while let Some(step) = script.next() {
        let bytes = match step % 4 {
            0 | 1 => script.client_frame(),
            2 => script.any_frame(),
            _ => {
                script.rest(&mut peer, &mut credit).await;
                continue;
            }
        };
        credit.grant(&bytes);
        peer.offer(&bytes).await;
    }
    credit.read_some(&mut peer, 64).await;
    let service = peer.service.clone();
    drop(peer);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(service.running.get(), 0, "a request runs on and its client is gone");
}

async fn be_origin(script: &mut Script<'_>) {
    let (mut peer, conn) = Peer::origin(limits(), &[]).await;
    let mut credit = Credit::new();
    let mut flights: Vec<JoinHandle<()>> = Vec::new();
    while let Some(step) = script.next() {
        let bytes = match step % 4 {
            0 if flights.len() < FLIGHTS_MAX => {
                flights.push(spawn_local(fly(Rc::clone(&conn), step)));
                yield_now().await;
                continue;
            }
            0 | 1 => script.origin_frame(),
            2 => script.any_frame(),
            _ => {
                script.rest(&mut peer, &mut credit).await;
                continue;
            }
        };
        credit.grant(&bytes);
        peer.offer(&bytes).await;
    }
    credit.read_some(&mut peer, 64).await;
    drop(peer);
    for flight in flights {
        let ended = timeout(Duration::from_secs(1), flight).await;
        ended.expect("an exchange runs on and its origin is gone").expect("an exchange does not panic");
    }
}

/// One exchange with the origin, whatever becomes of it.
async fn fly(conn: Rc<OriginConn>, kind: u8) {
    let Some(lease) = conn.lease(Rc::new(Nowhere)) else { return };
    let method = ["GET", "POST", "HEAD", "PUT"][usize::from(kind >> 2 & 3)];
    let body = if kind & 0x10 == 0 { Body::Empty } else { Body::Full(vec![b'u'; usize::from(kind) << 9].into()) };
    let mut head = HttpHead::request(method, b"/x");
    head.append("Host", b"test.example");
    let mut request = Request { head: Head::Http(head), body };
    let options = SendOptions { timeout: Some(Duration::from_secs(60)), upgrade: false, te_trailers: kind & 0x20 == 0 };
    let Ok(mut flight) = lease.send(&mut request, options).await else { return };
    loop {
        match flight.answer().await {
            Ok(Answer::Interim(_)) => {}
            Ok(Answer::Response(mut response)) => {
                let _ = read_whole(&mut response.body).await;
                return;
            }
            Ok(Answer::Upgraded(..) | Answer::None) | Err(_) => return,
        }
    }
}

struct Nowhere;

impl StreamHome for Nowhere {
    fn stream_ended(&self, _: &Rc<OriginConn>) {}
}

/// Small ones, so that a short script reaches them.
fn limits() -> Limits {
    Limits { h2_streams_max: 4, ..Limits::default() }
}

/// How many bytes of DATA the gateway may send at most: what all windows of the connection came to.
struct Credit(u64);

impl Credit {
    fn new() -> Self {
        Self(65_535)
    }

    /// What these bytes give it, if they are taken. Cut or twisted frames give nothing, and what is counted too much is not missed.
    fn grant(&mut self, bytes: &[u8]) {
        if let [0, 0, 4, 8, _, 0, 0, 0, 0, increment @ ..] = bytes
            && let Some(increment) = increment.first_chunk()
        {
            self.0 += u64::from(u32::from_be_bytes(*increment) & 0x7fff_ffff);
        }
    }

    /// Reads what has been said, so many frames at most.
    async fn read_some(&mut self, peer: &mut Peer, frames_max: usize) {
        for _ in 0..frames_max {
            match timeout(Duration::from_millis(1), peer.next()).await {
                Ok(Heard::Data { data, .. }) => {
                    self.0 = self.0.checked_sub(data.len() as u64).expect("no more DATA than the window allows");
                }
                Ok(Heard::Closed) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}

/// What is left of the input.
struct Script<'i>(&'i [u8]);

impl Script<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    fn take(&mut self, count: usize) -> &[u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn stream(&mut self) -> u32 {
        u32::from(self.byte() % 16)
    }

    /// A frame that a client may send, where it is the time for it.
    fn client_frame(&mut self) -> Vec<u8> {
        let (kind, stream) = (self.byte(), self.stream());
        let path = PATHS[usize::from(self.byte()) % PATHS.len()];
        match kind % 4 {
            0 => get(stream, path),
            1 => frame(1, 4 | kind >> 7, stream, &block("POST", path, &[("te", "trailers")])),
            2 => {
                let cut = usize::from(self.byte());
                in_parts(stream, kind >> 7, &block("PUT", path, &[("content-length", "5")]), cut)
            }
            _ => self.common_frame(stream),
        }
    }

    /// A frame that an origin may send, where it is the time for it.
    fn origin_frame(&mut self) -> Vec<u8> {
        let (kind, stream) = (self.byte(), self.stream());
        let fields = HEADS[usize::from(self.byte()) % HEADS.len()];
        let head: Vec<u8> = fields.iter().flat_map(|(name, value)| literal(name, value)).collect();
        match kind % 4 {
            0 | 1 => frame(1, 4 | kind >> 7, stream, &head),
            2 => {
                let cut = usize::from(self.byte());
                in_parts(stream, kind >> 7, &head, cut)
            }
            _ => self.common_frame(stream),
        }
    }

    /// One that both may send.
    fn common_frame(&mut self, stream: u32) -> Vec<u8> {
        let (kind, value) = (self.byte(), u32::from(self.byte()) << 6);
        match kind % 10 {
            0 => data(stream, &vec![b'd'; value as usize]),
            1 => last(stream, &vec![b'l'; value as usize]),
            2 => window(0, value),
            3 => window(stream, value),
            4 => reset(stream),
            5 => settings(&[(u16::from(kind >> 5), value << (u32::from(kind >> 4 & 1) * 8))]),
            6 => frame(6, kind >> 7, 0, b"pingpong"),
            7 => frame(7, 0, 0, &[stream.to_be_bytes(), value.to_be_bytes()].concat()),
            8 => frame(1, 5, stream, &literal("grpc-status", "0")),
            _ => frame(4, 1, 0, &[]),
        }
    }

    /// Any frame, or what is none.
    fn any_frame(&mut self) -> Vec<u8> {
        let [kind, flags, len] = [self.byte(), self.byte(), self.byte()];
        let stream = self.stream();
        let payload = self.take(usize::from(len & 63)).to_vec();
        if len & 64 == 0 { frame(kind % 12, flags, stream, &payload) } else { payload }
    }

    /// Time passes, or what was said is read.
    async fn rest(&mut self, peer: &mut Peer, credit: &mut Credit) {
        match self.byte() {
            b @ 0..128 => credit.read_some(peer, usize::from(b)).await,
            b @ 128..192 => sleep(Duration::from_millis(u64::from(b) * 100)).await,
            _ => yield_now().await,
        }
    }
}

/// A head of several frames.
fn in_parts(stream: u32, flags: u8, block: &[u8], cut: usize) -> Vec<u8> {
    let (first, rest) = block.split_at(cut % (block.len() + 1));
    [frame(1, flags, stream, first), frame(9, 4, stream, rest)].concat()
}

const PATHS: [&str; 12] = [
    "/",
    "/echo",
    "/count",
    "/hang",
    "/silent",
    "/empty",
    "/early",
    "/broken",
    "/trailers",
    "/interim",
    "/fields",
    "/bytes/100000",
];

type Fields = &'static [(&'static str, &'static str)];

const HEADS: [Fields; 12] = [
    &[(":status", "200")],
    &[(":status", "200"), ("content-length", "5")],
    &[(":status", "200"), ("content-length", "5"), ("content-length", "6")],
    &[(":status", "103"), ("link", "a")],
    &[(":status", "100")],
    &[(":status", "101")],
    &[(":status", "204")],
    &[(":status", "304"), ("content-length", "9")],
    &[(":status", "99999")],
    &[("grpc-status", "0")],
    &[(":status", "200"), ("a", "b\r\nc: d")],
    &[(":status", "200"), ("Upper", "case")],
];

/// Requests that run to an origin at once.
const FLIGHTS_MAX: usize = 8;

#[test]
fn the_corpus_keeps_the_promises() {
    test_support::corpus::replay("stream_http2", 80, check);
}
