//! Which answers are compressed, what becomes of their heads, and how streams flow.

use std::collections::VecDeque;
use std::io::Read;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::config::Limits;
use crate::config::schema::{FilterConfig, RouterConfig};
use crate::filter::FilterSet;
use crate::message::{BodyError, BodySource, Chunk, Downstream, Request};
use crate::net::Address;

fn set(config: Gzip, compressions_max: usize) -> FilterSet {
    let router = RouterConfig::default();
    let limits = Limits { compressions_max, ..Limits::default() };
    FilterSet::new(&[FilterConfig::Gzip(config)], "l", &router, &|_| None, &limits, None)
}

/// Asks with these request fields for an answer with these response fields (lines) and this body.
fn answer(set: &FilterSet, method: &str, accept: Option<&str>, status: u16, fields: &str, body: Body) -> Response {
    let mut request = HttpHead::request(method, b"/");
    if let Some(accept) = accept {
        request.append("Accept-Encoding", accept.as_bytes());
    }
    let mut head = HttpHead::response(status);
    for line in fields.lines() {
        let (name, value) = line.split_once(": ").unwrap();
        assert!(head.append(name, value.as_bytes()));
    }
    let here: Address = "127.0.0.1:1".parse().unwrap();
    let downstream = Downstream::new(1, here.clone(), here, false);
    let mut x = Exchange::new(Request { head: Head::Http(request), body: Body::Empty }, Rc::new(downstream));
    let mut response = Response { head: Head::Http(head), body };
    for filter in &set.filters {
        assert!(matches!(filter.on_response(&mut x, &mut response, None), Verdict::Continue));
    }
    response
}

fn field<'r>(response: &'r Response, name: &str) -> Option<&'r str> {
    response.head.fields()?.get(name).map(|v| std::str::from_utf8(v).unwrap())
}

fn text() -> Body {
    Body::Full(Bytes::from("all the same words ".repeat(200)))
}

const HTML: &str = "Content-Type: text/html; charset=utf-8";

#[test]
fn only_what_may_be_compressed_is() {
    let set = set(Gzip { types: vec!["text/html".into(), "application/*".into()], ..Gzip::default() }, 10);
    for (method, accept, status, fields, body, compressed, varies) in [
        ("GET", Some("gzip"), 200, HTML, text(), true, true),
        ("GET", Some("gzip"), 404, "content-type: APPLICATION/json", text(), true, true),
        ("POST", Some("br, gzip;q=0.1"), 200, HTML, text(), true, true),
        ("GET", Some("br"), 200, HTML, text(), false, true),
        ("GET", None, 200, HTML, text(), false, true),
        ("GET", Some("gzip;q=0"), 200, HTML, text(), false, true),
        ("HEAD", Some("gzip"), 200, HTML, Body::Empty, false, true),
        ("GET", Some("gzip"), 200, "Content-Type: text/htmlx", text(), false, false),
        ("GET", Some("gzip"), 200, "X: y", text(), false, false),
        ("GET", Some("gzip"), 204, HTML, Body::Empty, false, false),
        ("GET", Some("gzip"), 304, HTML, Body::Empty, false, false),
        ("GET", Some("gzip"), 206, HTML, text(), false, false),
        ("GET", Some("gzip"), 200, HTML, Body::Full(Bytes::from_static(b"short")), false, false),
        ("GET", Some("gzip"), 200, &format!("{HTML}\nContent-Encoding: br"), text(), false, false),
        ("GET", Some("gzip"), 200, &format!("{HTML}\nContent-Encoding: identity"), text(), true, true),
        ("GET", Some("gzip"), 200, &format!("{HTML}\nCache-Control: public, No-Transform"), text(), false, false),
    ] {
        let response = answer(&set, method, accept, status, fields, body);
        let what = format!("{method} {accept:?} {status} {fields}");
        assert_eq!(field(&response, "content-encoding") == Some("gzip"), compressed, "{what}");
        assert_eq!(field(&response, "vary"), varies.then_some("Accept-Encoding"), "{what}");
    }
    assert_eq!(set.tallies()[0].get(), 4, "{:?}", set.tallies());
}

#[test]
fn the_head_says_what_is_true_of_the_compressed_body() {
    let set = set(Gzip::default(), 10);
    let fields = format!(
        "{HTML}\nContent-Length: 3800\nETag: \"abc\"\nAccept-Ranges: bytes\nVary: Origin\nDigest: sha-256=x\nX-Kept: 1"
    );
    let response = answer(&set, "GET", Some("gzip"), 200, &fields, text());
    for (name, value) in [
        ("content-length", None),
        ("etag", Some("W/\"abc\"")),
        ("accept-ranges", None),
        ("digest", None),
        ("x-kept", Some("1")),
        ("content-encoding", Some("gzip")),
    ] {
        assert_eq!(field(&response, name), value, "{name}");
    }
    let all: Vec<_> = values(response.head.fields().unwrap(), "vary").collect();
    assert_eq!(all, [&b"Origin"[..], b"Accept-Encoding"]);
    let Body::Full(bytes) = response.body else { panic!("small bodies keep a length") };
    let mut plain = String::new();
    flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut plain).unwrap();
    assert_eq!(plain, "all the same words ".repeat(200));
    let fields = format!("{HTML}\nETag: W/\"abc\"\nVary: accept-encoding");
    let response = answer(&set, "GET", Some("gzip"), 200, &fields, text());
    assert_eq!(field(&response, "etag"), Some("W/\"abc\""));
    assert_eq!(values(response.head.fields().unwrap(), "vary").count(), 1);
}

/// A source that gives one of these at a time; None: it pauses.
struct Script(VecDeque<Option<Chunk>>);

impl BodySource for Script {
    fn length(&self) -> BodyLength {
        BodyLength::Exact(1 << 40)
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, BodyError>> {
        match self.0.pop_front() {
            Some(Some(chunk)) => Poll::Ready(Ok(Some(chunk))),
            Some(None) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => Poll::Ready(Ok(None)),
        }
    }
}

fn streamed(set: &FilterSet, script: Vec<Option<Chunk>>) -> Box<dyn BodySource> {
    let body = Body::Streaming(Box::new(Script(script.into())));
    match answer(set, "GET", Some("gzip"), 200, HTML, body).body {
        Body::Streaming(source) => source,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pause_of_the_source_flushes_what_there_is() {
    let set = set(Gzip::default(), 10);
    let mut trailers = HttpHead::empty();
    trailers.append("x-sum", b"1");
    let mut source = streamed(
        &set,
        vec![
            Some(Chunk::Data(Bytes::from_static(b"first event"))),
            None,
            Some(Chunk::Data(Bytes::from_static(b", second"))),
            Some(Chunk::Trailers(trailers)),
        ],
    );
    assert_eq!(source.length(), BodyLength::Chunked);
    let mut cx = Context::from_waker(Waker::noop());
    let (mut wire, mut seen, mut ended) = (Vec::new(), Vec::new(), false);
    for _ in 0..20 {
        match source.poll_chunk(&mut cx) {
            Poll::Ready(Ok(Some(Chunk::Data(bytes)))) => {
                wire.extend_from_slice(&bytes);
                let mut plain = Vec::with_capacity(1000);
                let mut half = flate2::Decompress::new_gzip(15);
                half.decompress_vec(&wire, &mut plain, flate2::FlushDecompress::None).unwrap();
                seen.push(String::from_utf8(plain).unwrap());
            }
            Poll::Ready(Ok(Some(Chunk::Trailers(t)))) => {
                assert_eq!(t.get("x-sum"), Some(&b"1"[..]));
                ended = true;
            }
            Poll::Ready(Ok(None)) => break,
            Poll::Ready(Err(e)) => panic!("{e}"),
            Poll::Pending => {}
        }
    }
    assert!(ended && seen.contains(&"first event".to_owned()), "{seen:?}");
    assert_eq!(seen.last().map(String::as_str), Some("first event, second"));
}

#[test]
fn a_long_body_gives_the_others_their_turn() {
    let set = set(Gzip::default(), 10);
    let noise: Vec<u8> = (0..1_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    let mut source = streamed(&set, vec![Some(Chunk::Data(Bytes::from(noise)))]);
    let mut cx = Context::from_waker(Waker::noop());
    let (mut run, mut longest, mut pauses) = (0, 0, 0);
    loop {
        match source.poll_chunk(&mut cx) {
            Poll::Ready(Ok(Some(_))) => run += 1,
            Poll::Ready(Ok(None)) => break,
            Poll::Ready(Err(e)) => panic!("{e}"),
            Poll::Pending => {
                pauses += 1;
                run = 0;
            }
        }
        longest = longest.max(run);
    }
    assert!(longest <= 5 && pauses >= 14, "{longest} pieces in a turn, {pauses} turns");
}

#[test]
fn no_more_are_compressed_at_a_time_than_the_limit_says() {
    let set = set(Gzip::default(), 1);
    let first = streamed(&set, vec![Some(Chunk::Data(Bytes::from_static(b"x")))]);
    let again = || answer(&set, "GET", Some("gzip"), 200, HTML, Body::Streaming(Box::new(Script(VecDeque::new()))));
    assert_eq!(field(&again(), "content-encoding"), None);
    let limited = |set: &FilterSet| set.tallies().iter().find(|t| t.name.ends_with("limited")).unwrap().get();
    assert_eq!(limited(&set), 1);
    drop(first);
    assert_eq!(field(&again(), "content-encoding"), Some("gzip"));
    assert_eq!(limited(&set), 1);
}
