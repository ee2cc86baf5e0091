//! A small origin server, for demonstrations, tests and benches: it answers, echoes and generates.
//!
//! **Invariant:** built on the same stream layer as the gateway, so that it works on every plane.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::task::spawn_local;

use crate::config::Limits;
use crate::message::{Body, BodyError, BodyLength, BodySource, Chunk, Exchange, Head, HttpHead, Response};
use crate::net::{Address, ListenOptions, Listener, Transport};
use crate::proxy::reply::{local_reply, with_body};
use crate::stream::server::serve;
use crate::stream::{Refusal, ReplyTo, Service};

/// What the origin answers:
/// `/` a line with its name, `/bytes/N` a body of N bytes, `/echo` the request's own body, `/sink` how many bytes that had, `/headers` the
/// request's own head.
#[derive(Clone)]
pub struct Origin {
    greeting: Bytes,
}

impl Origin {
    /// An origin that calls itself `name`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { greeting: Bytes::from(format!("Hello from origin {name}.\n")) }
    }

    /// Listens on `address` and serves until its future is dropped. Says the address in force first.
    ///
    /// # Errors
    /// When it can't listen.
    pub async fn run<T: Transport>(
        self,
        transport: T,
        address: &Address,
        listening: impl FnOnce(&Address),
    ) -> io::Result<()> {
        let mut listener = transport.listen(address, &ListenOptions::default()).await?;
        listening(listener.local_addr());
        let limits = Rc::new(Limits::default());
        loop {
            let Ok(conn) = listener.accept().await else {
                tokio::time::sleep(limits.accept_pause).await;
                continue;
            };
            spawn_local(serve(conn, false, self.clone(), Rc::clone(&limits), Rc::default(), ()));
        }
    }

    fn answer(&self, x: &mut Exchange) -> Response {
        let Head::Http(head) = &x.request.head else { return local_reply(501) };
        let path = head.path();
        if let Some(n) = path.strip_prefix(b"/bytes/") {
            let n = std::str::from_utf8(n).ok().and_then(|n| n.parse().ok());
            return n.map_or_else(|| local_reply(400), generated);
        }
        match path {
            b"/" => with_body(200, "text/plain", self.greeting.clone()),
            b"/headers" => with_body(200, "text/plain", print_head(head)),
            b"/echo" => echo(std::mem::take(&mut x.request.body)),
            _ => local_reply(404),
        }
    }
}

impl Service for Origin {
    async fn call(&self, x: &mut Exchange, reply: &mut impl ReplyTo) {
        let expects = x.request.head.fields().is_some_and(|h| h.get("expect").is_some());
        let wants_body = x.request.head.fields().is_some_and(|h| matches!(h.path(), b"/echo" | b"/sink"));
        if expects && wants_body && reply.informational(HttpHead::response(100)).await.is_err() {
            return;
        }
        let answer = match x.request.head.fields().map(HttpHead::path) {
            Some(b"/sink") => sink(std::mem::take(&mut x.request.body)).await,
            _ => self.answer(x),
        };
        // A client that is gone needs no answer.
        let _ = reply.response(x, answer).await;
    }

    fn ended(&self, _: &mut Exchange, _: bool) {}

    fn refuse(&self, refusal: Refusal) -> Response {
        local_reply(refusal.status())
    }
}

/// A body of `left` bytes.
struct Generated {
    left: u64,
}

impl BodySource for Generated {
    fn length(&self) -> BodyLength {
        BodyLength::Exact(self.left)
    }

    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Result<Option<Chunk>, BodyError>> {
        let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(PATTERN.len());
        self.left -= n as u64;
        Poll::Ready(Ok((n > 0).then(|| Chunk::Data(Bytes::from_static(&PATTERN[..n])))))
    }
}

/// A request's body on its way back. Pulled while no connection is borrowed, because it goes out where it came in.
struct Echo {
    source: Box<dyn BodySource>,
    next: Option<Result<Option<Chunk>, BodyError>>,
}

impl BodySource for Echo {
    fn length(&self) -> BodyLength {
        self.source.length()
    }

    fn poll_beside(&mut self, cx: &mut Context<'_>) {
        if self.next.is_none()
            && let Poll::Ready(next) = self.source.poll_chunk(cx)
        {
            self.next = Some(next);
        }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, BodyError>> {
        match self.next.take() {
            Some(next) => {
                // The next piece is pulled in the next turn.
                cx.waker().wake_by_ref();
                Poll::Ready(next)
            }
            None => Poll::Pending,
        }
    }
}

fn echo(body: Body) -> Response {
    let mut response = with_body(200, "application/octet-stream", Bytes::new());
    response.body = match body {
        Body::Streaming(source) => Body::Streaming(Box::new(Echo { source, next: None })),
        whole => whole,
    };
    response
}

/// Takes a body in and says how long it was.
async fn sink(body: Body) -> Response {
    let mut taken = 0;
    match body {
        Body::Empty => {}
        Body::Full(bytes) => taken = bytes.len() as u64,
        Body::Streaming(mut source) => loop {
            match poll_fn(|cx| source.poll_chunk(cx)).await {
                Ok(Some(Chunk::Data(bytes))) => taken += bytes.len() as u64,
                Ok(Some(Chunk::Trailers(_))) => {}
                Ok(None) => break,
                Err(_) => return local_reply(400),
            }
        },
    }
    with_body(200, "text/plain", Bytes::from(format!("{taken}\n")))
}

fn generated(left: u64) -> Response {
    let mut response = with_body(200, "application/octet-stream", Bytes::new());
    response.body = Body::Streaming(Box::new(Generated { left }));
    response
}

fn print_head(head: &HttpHead) -> Bytes {
    let mut text = [head.method_bytes(), head.target()].join(&b' ');
    for (_, name, value) in head.fields() {
        text.push(b'\n');
        text.extend_from_slice(name);
        text.extend_from_slice(b": ");
        text.extend_from_slice(value);
    }
    text.push(b'\n');
    Bytes::from(text)
}

/// What generated bodies are made of.
static PATTERN: [u8; 16 * 1024] = [b'x'; 16 * 1024];
