//! An answer of HTTP/1 that begins before its request has been sent whole: whose clock runs while the rest of it is on its way.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use ferrogate_core::config::Limits;
use ferrogate_core::message::{Body, BodyError, BodyLength, BodySource, Chunk, Head, HttpHead, Request};
use ferrogate_core::net::Conn;
use ferrogate_core::stream::client::{Answer, ClientConn, Home, Lease, SendOptions};
use test_support::memory_conn::{MemoryConn, pair};
use tokio::time::{Instant, Sleep, sleep};

struct Pool;

impl Home<MemoryConn> for Pool {
    fn give_back(&self, _: Box<ClientConn<MemoryConn>>) {}

    fn gone(&self) {}
}

/// So many pieces, one every three seconds.
struct Slow {
    left: usize,
    next: Pin<Box<Sleep>>,
}

impl BodySource for Slow {
    fn length(&self) -> BodyLength {
        BodyLength::Chunked
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, BodyError>> {
        if self.left == 0 {
            return Poll::Ready(Ok(None));
        }
        if self.next.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.left -= 1;
        self.next.as_mut().reset(Instant::now() + Duration::from_secs(3));
        Poll::Ready(Ok(Some(Chunk::Data(Bytes::from_static(b"piece")))))
    }
}

async fn write(conn: &mut MemoryConn, text: &str) {
    let put = |room: &mut [u8]| {
        room[..text.len()].copy_from_slice(text.as_bytes());
        (text.len(), ())
    };
    poll_fn(|cx| conn.poll_write_with(cx, text.len(), put)).await.unwrap();
    poll_fn(|cx| conn.poll_flush(cx)).await.unwrap();
}

async fn read_until(conn: &mut MemoryConn, end: &str) {
    let mut all = String::new();
    while !all.ends_with(end) {
        let read = poll_fn(|cx| conn.poll_read_with(cx, 0, |b| (b.len(), String::from_utf8_lossy(b).into_owned())));
        let read = read.await.unwrap();
        assert!(!read.is_empty(), "{all}");
        all += &read;
    }
}

/// The body of an answer whose origin says nothing while an upload of so many pieces is on its way, and then the rest or nothing.
async fn answer_beside(pieces: usize, ends: bool) -> (Vec<u8>, Result<(), BodyError>, Duration) {
    let (client, mut origin) = pair(1 << 16);
    let limits = Limits { body_idle_timeout: Duration::from_secs(5), ..Limits::default() };
    let lease = Lease::new(Box::new(ClientConn::new(client, Rc::new(limits))), Rc::new(Pool));
    let mut head = HttpHead::request("POST", b"/");
    head.append("host", b"test.example");
    let body = Body::Streaming(Box::new(Slow { left: pieces, next: Box::pin(sleep(Duration::from_secs(3))) }));
    let mut request = Request { head: Head::Http(head), body };
    let options = SendOptions { timeout: Some(Duration::from_secs(60)), upgrade: false, te_trailers: false };
    let begun = Instant::now();
    let origin = async {
        read_until(&mut origin, "\r\n\r\n").await;
        write(&mut origin, "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npart").await;
        read_until(&mut origin, "0\r\n\r\n").await;
        if ends {
            write(&mut origin, "rest").await;
        }
        origin
    };
    let answer = async {
        let mut flight = lease.send(&mut request, options).await.unwrap();
        let Answer::Response(response) = flight.answer().await.unwrap() else { panic!("an answer") };
        let Body::Streaming(mut source) = response.body else { panic!("its body streams") };
        let mut got = Vec::new();
        loop {
            let chunk = poll_fn(|cx| {
                source.poll_beside(cx);
                source.poll_chunk(cx)
            });
            match chunk.await {
                Ok(Some(Chunk::Data(data))) => got.extend(data),
                Ok(_) => return (got, Ok(())),
                Err(error) => return (got, Err(error)),
            }
        }
    };
    let (_origin, (got, end)) = tokio::join!(origin, answer);
    (got, end, begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_makes_progress_holds_the_answers_clock() {
    let (got, end, took) = answer_beside(5, true).await;
    assert_eq!((got, end), (b"partrest".to_vec(), Ok(())));
    assert!(took >= Duration::from_secs(15), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_has_all_and_says_nothing_is_given_up() {
    let (got, end, took) = answer_beside(2, false).await;
    assert_eq!((got, end), (b"part".to_vec(), Err(BodyError::Timeout)));
    assert!((11..=12).contains(&took.as_secs()), "{took:?}");
}
