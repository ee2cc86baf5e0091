//! A request on its way over a stream, and the answer that comes back. Runs in the task of the request.
//!
//! **Invariant:** after the head of an answer nothing is tried again; an answer that breaks off is never ended as if it were whole.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::client::StreamLease;
use super::open::{Asking, Next, Wants};
use super::send::{Taken, Unsent};
use super::store::Failure;
use super::tunnel::{StreamMouth, switching};
use super::upload::Upload;
use crate::codec::http1::EncodeError;
use crate::codec::http2::HeadError;
use crate::codec::websocket::{self, ACCEPT_BYTES};
use crate::message::{Body, BodyError, BodyLength, BodySource, Chunk, Head, HttpHead, Method, Request, Response};
use crate::stream::Tunnel;
use crate::stream::client::{Answer, STALL_SLACK, SendError, SendOptions};

/// A request on its way and the answer that comes back.
pub struct Flight {
    /// Until the answer's head has come.
    lease: Option<StreamLease>,
    upload: Option<Upload>,
    timeout: Option<Duration>,
    to_head: bool,
    /// It asks for a tunnel.
    to_connect: bool,
    /// That is for a WebSocket: what a client of HTTP/1.1 is answered with.
    accept: Option<Box<[u8; ACCEPT_BYTES]>>,
}

impl StreamLease {
    /// Opens the stream with the head of `request`, takes its body, and lets it leave while the answer is awaited. The body stays where it
    /// is if the origin takes no stream any more.
    ///
    /// # Errors
    /// When the connection goes, or the request can't be expressed.
    pub async fn send(mut self, request: &mut Request, options: SendOptions) -> Result<Flight, SendError> {
        let Head::Http(head) = &request.head else { return Err(SendError::Unwritable(EncodeError::Foreign)) };
        let length = request.body.length();
        let is_streaming = matches!(request.body, Body::Streaming(_));
        let end = matches!(length, BodyLength::None | BodyLength::Exact(0)) && !is_streaming;
        let (scheme, te_trailers) = (self.conn.scheme, options.te_trailers);
        let key = if options.upgrade && end { websocket::asked(head) } else { None };
        let wants = match key {
            Some(_) if !self.conn.takes_websocket() => return Err(SendError::NoWebSocket),
            Some(_) => Wants::WebSocket,
            None if head.method() == Method::Connect => Wants::Tunnel,
            None => Wants::Message,
        };
        let to_connect = wants != Wants::Message;
        let asking = Asking { head, length, scheme, te_trailers, wants, end: end && !to_connect };
        let Self { conn, timer, .. } = &mut self;
        timer.set(conn.limits.body_idle_timeout + STALL_SLACK);
        let opened = poll_fn(|cx| match conn.mux.borrow_mut().poll_open(cx, &asking) {
            Poll::Pending => timer.poll_expired(cx).map(|()| Err(SendError::Timeout)),
            Poll::Ready(opened) => Poll::Ready(opened.map_err(|unsent| match unsent {
                Unsent::Gone => SendError::Refused,
                Unsent::Unwritable(error) => SendError::Unwritable(error),
            })),
        });
        self.stream = Some(opened.await?);
        let to_head = head.method() == Method::Head;
        let accept = key.map(|key| Box::new(websocket::accept(key)));
        let upload = Upload::new(std::mem::take(&mut request.body));
        self.time(upload.is_some(), options.timeout);
        Ok(Flight { lease: Some(self), upload, timeout: options.timeout, to_head, to_connect, accept })
    }

    /// The stream. Asked for only once it is open.
    fn open_stream(&self) -> u32 {
        self.stream.expect("a flight's stream is open")
    }

    /// Sets the clock: that of the request's body, or that of the answer.
    fn time(&mut self, uploads: bool, timeout: Option<Duration>) {
        match timeout {
            _ if uploads => self.timer.set(self.conn.limits.body_idle_timeout + STALL_SLACK),
            Some(timeout) => self.timer.set(timeout),
            None => self.timer.clear(),
        }
    }
}

impl Flight {
    /// The next thing the upstream sends. After a response the flight is over.
    ///
    /// # Errors
    /// When the exchange failed; the stream is reset then.
    pub async fn answer(&mut self) -> Result<Answer, SendError> {
        poll_fn(|cx| self.poll_answer(cx)).await
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer, SendError>> {
        let Some(lease) = &mut self.lease else { return Poll::Ready(Err(SendError::Unexpected)) };
        lease.watch(cx);
        let id = lease.open_stream();
        if let Some(upload) = &mut self.upload {
            let before = upload.sent();
            match upload.poll(cx, &lease.conn.mux, id) {
                Poll::Ready(Err(e)) => return Poll::Ready(Err(SendError::RequestBody(e))),
                Poll::Ready(Ok(())) => {
                    self.upload = None;
                    lease.time(false, self.timeout);
                }
                Poll::Pending if upload.sent() != before => lease.time(true, self.timeout),
                Poll::Pending => {}
            }
        }
        let next = lease.conn.mux.borrow_mut().take_answer(id);
        match next {
            Next::Interim(head) => {
                if self.upload.is_some() {
                    // A client that waited for this one starts its body's clock now.
                    lease.time(true, self.timeout);
                }
                Poll::Ready(Ok(Answer::Interim(head)))
            }
            Next::Head(head) if self.to_connect && (200..300).contains(&head.status()) => Poll::Ready(self.join(&head)),
            Next::Head(head) => Poll::Ready(Ok(Answer::Response(self.finish(head)))),
            Next::Failed(failure) => Poll::Ready(Err(error_of(failure, lease.conn.exchanges() > 1))),
            Next::Wait => {
                ready!(lease.timer.poll_expired(cx));
                lease.conn.mux.borrow_mut().probe();
                Poll::Ready(Err(SendError::Timeout))
            }
        }
    }

    /// The stream is a tunnel from here on.
    fn join(&mut self, head: &HttpHead) -> Result<Answer, SendError> {
        let head = match &self.accept {
            Some(accept) => switching(head, accept),
            None => head.clone(),
        };
        let mouth = self.lease.take().and_then(StreamMouth::to_origin).ok_or(SendError::Unexpected)?;
        let response = Response { head: Head::Http(head), body: Body::Empty };
        Ok(Answer::Upgraded(response, Tunnel { conn: Box::new(mouth), guard: Box::new(()) }))
    }

    fn finish(&mut self, head: HttpHead) -> Response {
        let mut lease = self.lease.take().expect("held until the answer");
        let mut whole = None;
        if !self.to_head && !matches!(head.status(), 204 | 304) {
            let bytes_max = lease.conn.limits.body_in_hand_bytes_max;
            whole = lease.conn.mux.borrow_mut().take_whole_body(lease.open_stream(), bytes_max);
            if whole.is_none() {
                lease.timer.clear();
                let source = AnswerBody { lease: Some(lease), upload: self.upload.take(), broken: None };
                return Response { head: Head::Http(head), body: Body::Streaming(Box::new(source)) };
            }
        }
        // All of the answer is here; what it left of the request is not wanted.
        let body = whole.filter(|bytes| !bytes.is_empty()).map_or(Body::Empty, Body::Full);
        Response { head: Head::Http(head), body }
    }
}

/// The body of an answer, taken from its stream as it comes, and the rest of the request beside it.
struct AnswerBody {
    /// Gone once the body is complete.
    lease: Option<StreamLease>,
    upload: Option<Upload>,
    /// The rest of the request broke off: the origin must not take what it has for the whole.
    broken: Option<BodyError>,
}

impl BodySource for AnswerBody {
    fn length(&self) -> BodyLength {
        let Some(lease) = &self.lease else { return BodyLength::None };
        let mux = lease.conn.mux.borrow();
        match mux.store.get(lease.open_stream()) {
            Some(stream) => match stream.left {
                Some(left) => BodyLength::Exact(left + stream.inbox.len() as u64),
                None => BodyLength::Chunked,
            },
            None => BodyLength::None,
        }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, BodyError>> {
        if let Some(broken) = self.broken {
            return Poll::Ready(Err(broken));
        }
        let Some(lease) = &mut self.lease else { return Poll::Ready(Ok(None)) };
        lease.watch(cx);
        let taken = lease.conn.mux.borrow_mut().take_body(lease.open_stream());
        let last = match taken {
            Taken::Data(bytes) => {
                // While the piece is on its way to the client, the origin's clock stands still.
                lease.timer.clear();
                return Poll::Ready(Ok(Some(Chunk::Data(bytes))));
            }
            Taken::Broken(error) => return Poll::Ready(Err(error)),
            Taken::Wait => {
                if !lease.timer.is_set() {
                    lease.timer.set(lease.conn.limits.body_idle_timeout);
                }
                return lease.timer.poll_expired(cx).map(|()| Err(BodyError::Timeout));
            }
            Taken::Trailers(trailers) => Some(Chunk::Trailers(trailers)),
            Taken::End => None,
        };
        (self.lease, self.upload) = (None, None);
        Poll::Ready(Ok(last))
    }

    fn poll_beside(&mut self, cx: &mut Context<'_>) {
        let (Some(upload), Some(lease)) = (&mut self.upload, &mut self.lease) else { return };
        lease.watch(cx);
        let before = upload.sent();
        let polled = upload.poll(cx, &lease.conn.mux, lease.open_stream());
        if upload.sent() != before || polled.is_ready() {
            // An origin that waits for more of the request is not silent.
            lease.timer.clear();
        }
        let Poll::Ready(sent) = polled else { return };
        self.upload = None;
        self.broken = sent.err();
    }
}

fn error_of(failure: Failure, reused: bool) -> SendError {
    match failure {
        Failure::Refused => SendError::Refused,
        Failure::Reset(code) => SendError::Reset(code),
        Failure::Broken(code) => SendError::Broken(code),
        Failure::Head(HeadError::Malformed(why)) => SendError::MalformedHead(why),
        Failure::Head(HeadError::Refused(why)) => SendError::Malformed(why),
        Failure::Interims => SendError::Unexpected,
        Failure::Lost => SendError::Closed { reused },
    }
}
