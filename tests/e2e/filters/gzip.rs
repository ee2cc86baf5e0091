//! `gzip` over real connections: every framing that an origin and a client can have.

use std::io::Read;

use test_support::wire::Length;
use test_support::{Origin, pattern};

use super::{config, metric, start};
use crate::stage::{Plane, on_both_planes};

on_both_planes! {
    answers_arrive_whole_in_every_framing,
    what_the_origin_has_sent_is_not_held_back,
}

const FILTER: &str = "[{type: gzip, config: {content_length: 20, content_types: [text/html, application/json]}}]";
const ACCEPT: &str = "Accept-Encoding: gzip, deflate, br\r\n";

fn plain(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).expect("a whole gzip stream");
    plain
}

fn answers_arrive_whole_in_every_framing(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.start(config(&origin, FILTER, &[])) else { return };
    let mut client = stage.client();
    for bytes in [20, 3000, 40_000, 2_000_000] {
        let body = pattern::bytes(bytes);
        for path in ["/big", "/big-chunked"] {
            let target = format!("{path}?bytes={bytes}&type=text/html;charset=utf-8");
            let answer = client.ask("GET", &target, ACCEPT, b"");
            assert_eq!((answer.status, answer.head.get("content-encoding")), (200, Some("gzip")), "{target}");
            assert!(plain(&answer.body) == body, "{target}");
            let answer = client.ask("GET", &target, "", b"");
            assert!(
                answer.body == body && !answer.head.has("content-encoding"),
                "{target}, of a client that takes none"
            );
            assert_eq!(answer.head.get("vary"), Some("Accept-Encoding"));
            let answer = client.ask("GET", &format!("{path}?bytes={bytes}&type=image/png"), ACCEPT, b"");
            assert!(answer.body == body && !answer.head.has("vary"), "{target}, of another type");
        }
    }
    let head = client.ask("HEAD", "/big?bytes=3000&type=text/html", ACCEPT, b"");
    assert_eq!((head.status, head.head.has("content-encoding")), (200, false));
    // To HTTP/1.0 the end of the connection is the end of the body.
    client.send(format!("GET /big?bytes=40000&type=text/html HTTP/1.0\r\n{ACCEPT}\r\n").as_bytes()).unwrap();
    let old = client.answer_to("GET");
    assert_eq!((old.head.get("content-encoding"), old.head.length()), (Some("gzip"), None));
    assert!(plain(&old.body) == pattern::bytes(40_000));
    assert!(metric(&stage.gateway, "ferrogate_filter_gzip_responses", "coding=\"gzip\"") >= 9);
}

fn what_the_origin_has_sent_is_not_held_back(plane: Plane) {
    let origin = Origin::start("one");
    let filter = "[{type: gzip, config: {content_length: 1}}]";
    let Some(stage) = plane.start(config(&origin, filter, &[])) else { return };
    let mut client = stage.client();
    client.send(format!("GET /hold-body?type=text/html HTTP/1.1\r\nHost: a\r\n{ACCEPT}\r\n").as_bytes()).unwrap();
    assert_eq!(client.answer_head().unwrap().head.get("content-encoding"), Some("gzip"));
    let mut decoder = flate2::Decompress::new_gzip(15);
    let mut seen = Vec::with_capacity(100);
    let mut released = false;
    let body = |piece: &[u8]| {
        decoder.decompress_vec(piece, &mut seen, flate2::FlushDecompress::None).expect("gzip");
        if seen == b"first" && !released {
            released = true;
            origin.release();
        }
    };
    client.body(Length::Chunked, body).unwrap();
    assert!(released, "the first half came before the second was sent");
    assert_eq!(seen, b"firstother");
}

#[test]
fn the_client_and_the_file_choose_the_coding() {
    let origin = Origin::start("one");
    let filter = "[{type: gzip, config: {encodings: [zstd, br, gzip], content_types: [\"text/*\"]}}]";
    let off =
        "{match: {prefix: /big-chunked}, route: {cluster_name: origins}, per_filter_config: {gzip: {encodings: []}}}";
    let direct =
        "{match: {path: /direct}, direct_response: {status: 200, body: \"".to_owned() + &"text ".repeat(500) + "\"}}";
    let stage = start(&origin, filter, &[off, &direct]);
    let mut client = stage.client();
    let html = "bytes=5000&type=text/html";
    for (target, accept, coding) in [
        (format!("/big?{html}"), "gzip, deflate, br, zstd", Some("zstd")),
        (format!("/big?{html}"), "gzip, br", Some("br")),
        (format!("/big?{html}"), "br;q=0.5, gzip", Some("gzip")),
        (format!("/big?{html}"), "*;q=0", None),
        (format!("/big-chunked?{html}"), "gzip", None),
        ("/direct".to_owned(), "br", Some("br")),
    ] {
        let answer = client.ask("GET", &target, &format!("Accept-Encoding: {accept}\r\n"), b"");
        assert_eq!(answer.head.get("content-encoding"), coding, "{target} {accept}");
        if target == "/direct" {
            assert!(answer.body.len() < 250, "{} bytes", answer.body.len());
        }
    }
}

/// An answer that breaks off must not look whole, compressed or not.
#[test]
fn a_broken_answer_stays_broken() {
    let origin = Origin::start("one");
    let stage = start(&origin, "[{type: gzip, config: {content_length: 1}}]", &[]);
    let raw = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 100\r\n\r\nhalf";
    let target = test_support::origin::raw_target(raw, "close");
    let mut client = stage.client();
    client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{ACCEPT}\r\n").as_bytes()).unwrap();
    match client.try_answer_to("GET") {
        Err(_) => {}
        Ok(answer) => assert_eq!(answer.status, 502),
    }
}
