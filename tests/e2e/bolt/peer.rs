//! Bolt as raw frames, for clients and origins alike: a parser of its own, stricter than what it tests.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use test_support::Wire;

/// A frame; of version 1 where nothing else is said, and without a checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// 1 or 2.
    pub version: u8,
    /// 0 a response, 1 a request, 2 a one-way request.
    pub kind: u8,
    /// 0 a heartbeat, 1 a request, 2 a response, 100 GoAway.
    pub command: u16,
    pub id: u32,
    /// Milliseconds of a request; the status of a response.
    pub varies: i32,
    pub class: Vec<u8>,
    pub headers: Vec<(String, String)>,
    pub content: Vec<u8>,
}

impl Frame {
    /// A request to a service, that waits for ten seconds.
    pub fn request(id: u32, service: &str, content: &[u8]) -> Self {
        Self {
            version: 1,
            kind: 1,
            command: 1,
            id,
            varies: 10_000,
            class: b"com.example.Request".to_vec(),
            headers: vec![("service".into(), service.into())],
            content: content.to_vec(),
        }
    }

    /// The answer to a request: its content again.
    pub fn answer(&self) -> Self {
        let class = b"com.example.Response".to_vec();
        Self { kind: 0, command: 2, varies: 0, class, headers: Vec::new(), ..self.clone() }
    }

    /// A frame without anything in it.
    pub fn bare(kind: u8, command: u16, id: u32, varies: i32) -> Self {
        Self { version: 1, kind, command, id, varies, class: Vec::new(), headers: Vec::new(), content: Vec::new() }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut headers = Vec::new();
        for part in self.headers.iter().flat_map(|(name, value)| [name, value]) {
            headers.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
            headers.extend(part.as_bytes());
        }
        let mut out = if self.version == 2 { vec![2, 1, self.kind] } else { vec![1, self.kind] };
        out.extend(self.command.to_be_bytes());
        out.push(1);
        out.extend(self.id.to_be_bytes());
        out.extend(if self.version == 2 { &[1, 0][..] } else { &[1] });
        match self.kind {
            0 => out.extend(u16::try_from(self.varies).unwrap().to_be_bytes()),
            _ => out.extend(self.varies.to_be_bytes()),
        }
        out.extend(u16::try_from(self.class.len()).unwrap().to_be_bytes());
        out.extend(u16::try_from(headers.len()).unwrap().to_be_bytes());
        out.extend(u32::try_from(self.content.len()).unwrap().to_be_bytes());
        out.extend(&self.class);
        out.extend(headers);
        out.extend(&self.content);
        out
    }
}

/// One connection.
pub struct Peer(pub Wire);

impl Peer {
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("somebody listens"))
    }

    fn over(stream: TcpStream) -> Self {
        Self(Wire::tcp(stream))
    }

    pub fn send(&mut self, frame: &Frame) {
        self.0.send(&frame.bytes()).expect("the peer takes a frame");
    }

    /// The next frame; None: the other side has closed.
    pub fn frame(&mut self) -> Option<Frame> {
        let version = self.0.take(1).ok()?[0];
        assert!(matches!(version, 1 | 2), "a version");
        if version == 2 {
            assert_eq!(self.0.take(1).expect("a whole head"), [1], "without a checksum");
        }
        let kind = self.0.take(1).expect("a whole head")[0];
        let mut fixed = self.0.take(8).expect("a whole head");
        if version == 2 {
            assert_eq!(self.0.take(1).expect("a whole head"), [0], "no switch");
        }
        fixed.extend(self.0.take(if kind == 0 { 10 } else { 12 }).expect("a whole head"));
        let number = |at: usize, len: usize| fixed[at..at + len].iter().fold(0u32, |n, b| n << 8 | u32::from(*b));
        assert_eq!((fixed[2], fixed[7]), (1, 1), "ver2 and codec");
        let varies_len = if kind == 0 { 2 } else { 4 };
        let (class, headers) = (number(8 + varies_len, 2), number(10 + varies_len, 2));
        let content = number(12 + varies_len, 4);
        let mut part = |len: u32| match len {
            0 => Vec::new(),
            len => self.0.take(len as usize).expect("a whole frame"),
        };
        Some(Frame {
            version,
            kind,
            command: u16::try_from(number(0, 2)).unwrap(),
            id: number(3, 4),
            varies: number(8, varies_len).cast_signed(),
            class: part(class),
            headers: pairs(&part(headers)),
            content: part(content),
        })
    }

    /// Sends a request and gives the frame that comes back.
    pub fn ask(&mut self, frame: &Frame) -> Frame {
        self.send(frame);
        self.frame().expect("an answer")
    }
}

fn pairs(mut block: &[u8]) -> Vec<(String, String)> {
    let mut texts = Vec::new();
    while !block.is_empty() {
        let (len, rest) = block.split_first_chunk::<4>().expect("a length");
        let (text, rest) = rest.split_at(u32::from_be_bytes(*len) as usize);
        texts.push(String::from_utf8(text.to_vec()).expect("text"));
        block = rest;
    }
    texts.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

/// An origin that hands its connections out, for a test to play it.
pub struct Listening {
    pub address: SocketAddr,
    conns: Receiver<Peer>,
}

impl Listening {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (give, conns) = channel();
        // Ends with the test's process, or when nobody takes its connections any more.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if give.send(Peer::over(stream)).is_err() {
                    return;
                }
            }
        });
        Self { address, conns }
    }

    /// The next connection.
    pub fn accept(&self) -> Peer {
        self.conns.recv_timeout(Duration::from_secs(20)).expect("the gateway connects")
    }

    /// The same, if it comes soon.
    pub fn accept_within(&self, time: Duration) -> Option<Peer> {
        self.conns.recv_timeout(time).ok()
    }

    /// An origin that answers each request with its content, on every connection.
    pub fn echo() -> SocketAddr {
        Self::answering(Frame::answer)
    }

    /// An origin that answers each request in its own way, on every connection.
    pub fn answering(answer: impl Fn(&Frame) -> Frame + Clone + Send + 'static) -> SocketAddr {
        let origin = Self::start();
        let address = origin.address;
        thread::spawn(move || {
            while let Ok(mut peer) = origin.conns.recv() {
                let answer = answer.clone();
                thread::spawn(move || {
                    while let Some(frame) = peer.frame() {
                        match frame.command {
                            0 => peer.send(&Frame::bare(0, 0, frame.id, 0)),
                            1 if frame.kind == 1 => peer.send(&answer(&frame)),
                            _ => {}
                        }
                    }
                });
            }
        });
        address
    }
}
