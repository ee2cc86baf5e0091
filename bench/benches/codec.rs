//! HTTP/1.1 heads: decoding and encoding, per head, next to what `httparse` needs to split the same bytes.
//!
//! `httparse` only splits: it does not judge the framing, the host or the connection, keeps nothing, and fills an array on the stack.
//! `decode` is everything: the checks, and a head of its own that outlives the input. Compare ratios within one run.
//!
//! None of them may allocate once the worker's free lists are filled: the bench stops with an error when one does.

mod counting;

use std::hint::black_box;
use std::mem::MaybeUninit;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ferrogate_core::codec::Codec;
use ferrogate_core::codec::http1::{
    CodecLimits, ConnectionField, Frame, RequestDecoder, RequestEncoder, ResponseDecoder, ResponseEncoder,
};
use ferrogate_core::message::{BodyLength, HttpHead, Method};

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("request");
    for (name, src) in [("wrk", WRK.to_vec()), ("browser24", browser())] {
        group.throughput(Throughput::Bytes(src.len() as u64));
        steady(&mut group, "httparse", name, || {
            let mut fields = [const { MaybeUninit::uninit() }; 64];
            let mut request = httparse::Request::new(&mut []);
            let parsed = request.parse_with_uninit_headers(black_box(&src), &mut fields);
            assert!(parsed.is_ok_and(|s| s.is_complete()));
            black_box(request.headers.len())
        });
        let mut decoder = RequestDecoder::new(CodecLimits::default());
        steady(&mut group, "decode", name, || black_box(decode_request(&mut decoder, black_box(&src))).1);
        let mut room = vec![0; 16 * 1024];
        let (head, body) = decode_request(&mut decoder, &src);
        steady(&mut group, "encode", name, || {
            let mut out = &mut room[..];
            RequestEncoder::new(black_box(&head), body).encode(&mut out).expect("there is room");
            black_box(out.len())
        });
        steady(&mut group, "forward", name, || {
            let (head, body) = decode_request(&mut decoder, black_box(&src));
            let mut out = &mut room[..];
            RequestEncoder::new(&head, body).encode(&mut out).expect("there is room");
            black_box(out.len())
        });
    }
    group.finish();
}

fn responses(c: &mut Criterion) {
    let mut group = c.benchmark_group("response");
    let (name, src) = ("4k_reply", REPLY);
    group.throughput(Throughput::Bytes(src.len() as u64));
    steady(&mut group, "httparse", name, || {
        let mut fields = [const { MaybeUninit::uninit() }; 64];
        let mut response = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let parsed = config.parse_response_with_uninit_headers(&mut response, black_box(src), &mut fields);
        assert!(parsed.is_ok_and(|s| s.is_complete()));
        black_box(response.headers.len())
    });
    let mut decoder = ResponseDecoder::new(CodecLimits::default());
    steady(&mut group, "decode", name, || black_box(decode_response(&mut decoder, black_box(src))).1);
    let mut room = vec![0; 16 * 1024];
    steady(&mut group, "forward", name, || {
        let (head, body) = decode_response(&mut decoder, black_box(src));
        let mut out = &mut room[..];
        let mut encoder = ResponseEncoder::new(&head, body, Method::Get);
        encoder.connection = ConnectionField::Omit;
        encoder.encode(&mut out).expect("there is room");
        black_box(out.len())
    });
    group.finish();
}

fn chunks(c: &mut Criterion) {
    let mut src = Vec::new();
    for _ in 0..16 {
        src.extend_from_slice(b"100\r\n");
        src.extend_from_slice(&[b'x'; 256]);
        src.extend_from_slice(b"\r\n");
    }
    src.extend_from_slice(b"0\r\n\r\n");
    let mut all = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    all.extend_from_slice(&src);
    let mut group = c.benchmark_group("chunked");
    group.throughput(Throughput::Elements(16));
    let mut decoder = ResponseDecoder::new(CodecLimits::default());
    steady(&mut group, "decode", "16x256", || {
        decoder.expect_response(Method::Get);
        let mut at = 0;
        while !decoder.is_body_done() {
            let (frame, used) = decoder.decode(black_box(&all[at..])).expect("valid").expect("complete");
            black_box(&frame);
            at += used;
        }
        at
    });
    group.finish();
}

/// A bench whose operation allocates nothing, or fails.
fn steady<O>(group: &mut BenchmarkGroup<'_, WallTime>, what: &str, name: &str, op: impl FnMut() -> O) {
    if let Some(counted) = counting::bench(group, BenchmarkId::new(what, name), op) {
        counted.assert_none(&format!("{what}/{name}"));
    }
}

fn decode_request(decoder: &mut RequestDecoder, src: &[u8]) -> (HttpHead, BodyLength) {
    match decoder.decode(src) {
        Ok(Some((Frame::Head(head, body, _), _))) => (head, body),
        other => panic!("no head: {other:?}"),
    }
}

fn decode_response(decoder: &mut ResponseDecoder, src: &[u8]) -> (HttpHead, BodyLength) {
    decoder.expect_response(Method::Get);
    let decoded = match decoder.decode(src) {
        Ok(Some((Frame::Head(head, body, _), _))) => (head, body),
        other => panic!("no head: {other:?}"),
    };
    decoder.advance_body(decoder.body_left().unwrap_or_default());
    decoded
}

/// A GET with the 24 fields that a browser sends to a site that it knows.
fn browser() -> Vec<u8> {
    let mut text = String::from("GET /shop/category/garden/chairs?page=3&sort=price_asc&colour=green HTTP/1.1\r\n");
    for (name, value) in BROWSER_FIELDS {
        text.push_str(name);
        text.push_str(": ");
        text.push_str(value);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.into_bytes()
}

const BROWSER_FIELDS: [(&str, &str); 24] = [
    ("Host", "www.shop.example"),
    ("Connection", "keep-alive"),
    ("Cache-Control", "max-age=0"),
    ("sec-ch-ua", "\"Browser\";v=\"126\", \"Engine\";v=\"126\", \"Not-A.Brand\";v=\"8\""),
    ("sec-ch-ua-mobile", "?0"),
    ("sec-ch-ua-platform", "\"Linux\""),
    ("DNT", "1"),
    ("Upgrade-Insecure-Requests", "1"),
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) Engine/537.36 (KHTML, like Gecko) Browser/126.0.0.0 Safari/537.36"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"),
    ("Sec-Fetch-Site", "same-origin"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-User", "?1"),
    ("Sec-Fetch-Dest", "document"),
    ("Referer", "https://www.shop.example/shop/category/garden/chairs?page=2&sort=price_asc&colour=green"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Accept-Language", "en-GB,en-US;q=0.9,en;q=0.8,de;q=0.7"),
    (
        "Cookie",
        "sid=3f9c1e0b7a5d4e2f8b6a1c0d9e8f7a6b; theme=dark; consent=1.2.3; ab=home%3Dtwo%2Clist%3Done; basket=7a6b5c4d3e2f",
    ),
    ("If-None-Match", "\"5f3e-61a2b3c4d5e6f\""),
    ("If-Modified-Since", "Tue, 04 Jun 2024 08:12:31 GMT"),
    ("Priority", "u=0, i"),
    ("X-Requested-With", "fetch"),
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ("Pragma", "no-cache"),
];

const WRK: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

const REPLY: &[u8] = b"HTTP/1.1 200 OK\r\nServer: origin/1.27\r\nDate: Tue, 04 Jun 2024 08:12:31 GMT\r\n\
Content-Type: text/html; charset=utf-8\r\nContent-Length: 4096\r\nLast-Modified: Mon, 03 Jun 2024 17:00:00 GMT\r\n\
Connection: keep-alive\r\nETag: \"665df0f0-1000\"\r\nCache-Control: public, max-age=300\r\nVary: Accept-Encoding\r\n\
Accept-Ranges: bytes\r\n\r\n";

criterion_group!(benches, requests, responses, chunks);
criterion_main!(benches);
