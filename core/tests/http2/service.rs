//! What the tests ask: a service with a path for each behaviour.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use ferrogate_core::message::{
    Body, BodyError, BodyLength, BodySource, Chunk, Exchange, Head, HttpHead, Method, Response, Version,
};
use ferrogate_core::stream::{Refusal, ReplyTo, Service, Tunnel};
use test_support::memory_conn::{MemoryConn, pair};

/// Answers by path; remembers what became of each request.
#[derive(Clone, Default)]
pub struct Paths(Rc<Record>);

#[derive(Default)]
pub struct Record {
    pub running: Cell<usize>,
    pub most_running: Cell<usize>,
    pub ended: RefCell<Vec<(String, bool)>>,
    pub refused: Cell<usize>,
    pub heads: RefCell<Vec<String>>,
    pub last_upload: RefCell<Option<Result<(u64, bool), BodyError>>>,
    /// The far ends of tunnels that were opened.
    pub tunnels: RefCell<Vec<MemoryConn>>,
}

impl std::ops::Deref for Paths {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.0
    }
}

struct Running(Paths);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get() - 1);
    }
}

impl Paths {
    /// Answers by a tunnel, and keeps its far end.
    async fn open_tunnel(&self, x: &mut Exchange, reply: &mut impl ReplyTo, offers: bool) {
        let (near, far) = pair(1 << 16);
        self.tunnels.borrow_mut().push(far);
        let mut head = HttpHead::response(if offers { 101 } else { 200 });
        if offers {
            head.append("upgrade", b"websocket");
            head.append("sec-websocket-accept", b"x");
        }
        head.append("sec-websocket-protocol", b"chat");
        let response = Response { head: Head::Http(head), body: Body::Empty };
        reply.upgrade(x, response, Tunnel { conn: Box::new(near), guard: Box::new(()) }).await.unwrap();
    }
}

impl Service for Paths {
    async fn call(&self, x: &mut Exchange, reply: &mut impl ReplyTo) {
        let head = x.request.head.fields().unwrap();
        assert!(matches!(head.version(), Version::Http11 | Version::Http2));
        let path = String::from_utf8(head.path().to_vec()).unwrap();
        let fields: Vec<_> = head
            .fields()
            .map(|(_, n, v)| format!("{}: {}", String::from_utf8_lossy(n), String::from_utf8_lossy(v)))
            .collect();
        self.heads.borrow_mut().push(fields.join("\n"));
        self.running.set(self.running.get() + 1);
        self.most_running.set(self.most_running.get().max(self.running.get()));
        let _running = Running(self.clone());
        let (is_connect, offers) = (head.method() == Method::Connect, x.upgrade);
        if (is_connect || offers) && path != "/early" {
            return self.open_tunnel(x, reply, offers).await;
        }
        let (head, body) = match &path[..] {
            "/echo" => (HttpHead::response(200), std::mem::take(&mut x.request.body)),
            "/count" => {
                let counted = read_whole(&mut x.request.body).await;
                *self.last_upload.borrow_mut() = Some(counted);
                let status = if counted.is_ok() { 200 } else { 400 };
                (HttpHead::response(status), Body::Full(Bytes::from(format!("{counted:?}"))))
            }
            "/hang" => pending().await,
            "/panic" => panic!("asked for"),
            "/silent" => return,
            "/empty" => (HttpHead::response(204), Body::Empty),
            "/early" => (HttpHead::response(200), Body::Full(Bytes::from_static(b"early"))),
            "/broken" => {
                (HttpHead::response(200), Body::Streaming(Box::new(Pieces::new(3, Some(BodyError::Truncated)))))
            }
            "/trailers" => (HttpHead::response(200), Body::Streaming(Box::new(Pieces::new(3, None)))),
            "/interim" => {
                let mut early = HttpHead::response(103);
                early.append("link", b"</x>");
                if reply.informational(early).await.is_err() {
                    return;
                }
                (HttpHead::response(200), Body::Full(Bytes::from_static(b"late")))
            }
            "/fields" => {
                let mut head = HttpHead::response(200);
                for (name, value) in [
                    ("Connection", "close, x-nominated"),
                    ("Keep-Alive", "timeout=5"),
                    ("Transfer-Encoding", "chunked"),
                    ("Upgrade", "h2c"),
                    ("Content-Length", "77"),
                    ("X-Upper-Case", "Kept"),
                    ("Set-Cookie", "a=1"),
                    ("Set-Cookie", "b=2"),
                ] {
                    assert!(head.append(name, value.as_bytes()));
                }
                (head, Body::Full(Bytes::from_static(b"ok")))
            }
            path => match path.strip_prefix("/bytes/").and_then(|n| n.parse().ok()) {
                Some(n) => (HttpHead::response(200), Body::Full(Bytes::from(vec![b'x'; n]))),
                None => (HttpHead::response(200), Body::Full(Bytes::from_static(b"hello"))),
            },
        };
        // What becomes of it is in `ended`.
        let _ = reply.response(x, Response { head: Head::Http(head), body }).await;
    }

    fn offers_h2c(&self) -> bool {
        true
    }

    fn ended(&self, x: &mut Exchange, whole: bool) {
        let path = x.request.head.fields().map(|h| String::from_utf8_lossy(h.path()).into_owned());
        self.ended.borrow_mut().push((path.unwrap_or_default(), whole));
    }

    fn refuse(&self, refusal: Refusal) -> Response {
        self.refused.set(self.refused.get() + 1);
        Response { head: Head::Http(HttpHead::response(refusal.status())), body: Body::Empty }
    }
}

/// Reads a body to its end: how long it is, and whether trailers came.
pub async fn read_whole(body: &mut Body) -> Result<(u64, bool), BodyError> {
    let mut source = match std::mem::take(body) {
        Body::Empty => return Ok((0, false)),
        Body::Full(bytes) => return Ok((bytes.len() as u64, false)),
        Body::Streaming(source) => source,
    };
    let (mut bytes, mut trailers) = (0, false);
    while let Some(chunk) = poll_fn(|cx| source.poll_chunk(cx)).await? {
        match chunk {
            Chunk::Data(data) => bytes += data.len() as u64,
            Chunk::Trailers(_) => trailers = true,
        }
    }
    Ok((bytes, trailers))
}

/// So many pieces, then an error or trailers.
struct Pieces {
    left: usize,
    error: Option<BodyError>,
    done: bool,
}

impl Pieces {
    fn new(left: usize, error: Option<BodyError>) -> Self {
        Self { left, error, done: false }
    }
}

impl BodySource for Pieces {
    fn length(&self) -> BodyLength {
        BodyLength::Chunked
    }

    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Result<Option<Chunk>, BodyError>> {
        if let Some(left) = self.left.checked_sub(1) {
            self.left = left;
            return Poll::Ready(Ok(Some(Chunk::Data(Bytes::from_static(b"piece")))));
        }
        if let Some(error) = self.error {
            return Poll::Ready(Err(error));
        }
        if std::mem::replace(&mut self.done, true) {
            return Poll::Ready(Ok(None));
        }
        let mut trailers = HttpHead::empty();
        trailers.append("grpc-status", b"0");
        Poll::Ready(Ok(Some(Chunk::Trailers(trailers))))
    }
}
