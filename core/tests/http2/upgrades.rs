//! From HTTP/1.1 to HTTP/2 on one connection: `Upgrade: h2c` (RFC 7540, 3.2).

use std::time::Duration;

use ferrogate_core::codec::http2::{ErrorCode, PREFACE};
use ferrogate_core::config::Limits;
use ferrogate_core::stream::Wish;

use crate::peer::{Heard, Peer, frame, get, literal, run};

const OFFER: &str =
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAAAKAAIAAAAA\r\n";

fn asking(method: &str, path: &str, fields: &str, body: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: test.example\r\n{fields}\r\n{body}").into_bytes()
}

/// What a client sends once it has read the 101.
fn greeting() -> Vec<u8> {
    [&PREFACE[..], &frame(4, 0, 0, &[])].concat()
}

#[test]
fn the_request_that_offers_it_is_stream_1() {
    run(async {
        for body in ["", "some bytes of it"] {
            let mut peer = Peer::of_http1(Limits::default());
            let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
            peer.send(&asking("POST", "/echo", &format!("{OFFER}{length}"), body)).await;
            assert_eq!(
                peer.text().await,
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
            );
            assert!(matches!(peer.next().await, Heard::Settings(_)), "SETTINGS come first");
            assert!(peer.service.heads.borrow().is_empty(), "the client has to be here first");
            peer.send(&greeting()).await;
            // The window that the offer has said: ten bytes.
            let heard = peer.hear(|h| matches!(h, Heard::Head { .. })).await;
            let Some(Heard::Head { stream: 1, fields, .. }) = heard.last() else { panic!("{heard:?}") };
            assert_eq!(fields[":status"], "200");
            if !body.is_empty() {
                peer.send(&frame(8, 0, 1, &100u32.to_be_bytes())).await;
                let mut got = Vec::new();
                while got.len() < body.len() {
                    if let Heard::Data { stream: 1, data, .. } = peer.next().await {
                        assert!(data.len() <= 10 || !got.is_empty(), "the window of the offer is kept");
                        got.extend(data);
                    }
                }
                assert_eq!(got, body.as_bytes());
            }
            peer.send(&get(3, "/")).await;
            assert_eq!(peer.answer(3).await.1, b"hello");
            assert_eq!(peer.service.ended.borrow().len(), 2);
            let seen = peer.service.heads.borrow()[0].to_lowercase();
            assert!(seen.contains("host: test.example"), "{seen}");
        }
    });
}

#[test]
fn stream_1_takes_nothing_more() {
    run(async {
        let mut peer = Peer::of_http1(Limits::default());
        peer.send(&asking("GET", "/hang", OFFER, "")).await;
        peer.text().await;
        let head =
            [literal(":method", "GET"), literal(":scheme", "http"), literal(":path", "/"), literal(":authority", "a")];
        peer.send(&[greeting(), frame(1, 5, 1, &head.concat())].concat()).await;
        let heard = peer.hear(|h| matches!(h, Heard::Reset(..) | Heard::GoAway(..))).await;
        assert_eq!(heard.last(), Some(&Heard::Reset(1, ErrorCode::StreamClosed)), "{heard:?}");
        peer.ping().await;
    });
}

/// What is not to the letter is answered in HTTP/1.1, and the connection goes on.
#[test]
fn an_offer_that_is_not_taken_changes_nothing() {
    let with = |fields: &str| asking("GET", "/", fields, "");
    let large = "x".repeat(20_000);
    for (what, bytes) in [
        ("no settings", with("Connection: Upgrade\r\nUpgrade: h2c\r\n")),
        ("settings that are not named", with("Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n")),
        (
            "an upgrade that is not named",
            with("Connection: HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
        ),
        ("settings twice", with(&format!("{OFFER}HTTP2-Settings: AAMAAABk\r\n"))),
        (
            "settings that are none",
            with("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n"),
        ),
        ("HTTP/2 over TLS", with("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2\r\nHTTP2-Settings: AAMAAABk\r\n")),
        (
            "a body that is too large to hold",
            asking("POST", "/count", &format!("{OFFER}Content-Length: 20000\r\n"), &large),
        ),
        (
            "a body of unknown length",
            asking("POST", "/count", &format!("{OFFER}Transfer-Encoding: chunked\r\n"), "1\r\nx\r\n0\r\n\r\n"),
        ),
    ] {
        run(async {
            let mut peer = Peer::of_http1(Limits::default());
            for _ in 0..2 {
                peer.send(&bytes).await;
                let answer = peer.text().await;
                assert!(
                    answer.starts_with("HTTP/1.1 200 ") && !answer.to_lowercase().contains("h2c"),
                    "{what}: {answer}"
                );
            }
            assert_eq!(peer.service.heads.borrow().len(), 2, "{what}");
        });
    }
}

#[test]
fn who_offers_it_and_then_says_something_else_is_left() {
    run(async {
        let mut peer = Peer::of_http1(Limits::default());
        peer.send(&asking("GET", "/", OFFER, "")).await;
        peer.text().await;
        peer.send(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let heard = peer.hear(|h| matches!(h, Heard::GoAway(..))).await;
        assert_eq!(heard.last(), Some(&Heard::GoAway(1, ErrorCode::ProtocolError)));
        assert!(peer.service.heads.borrow().is_empty(), "nobody is asked for who does not speak HTTP/2");
        // Or leaves.
        let mut peer = Peer::of_http1(Limits::default());
        peer.send(&asking("GET", "/", OFFER, "")).await;
        peer.text().await;
        peer.shut().await;
        peer.hear(|h| *h == Heard::Closed).await;
        assert!(peer.service.heads.borrow().is_empty());
        assert_eq!(*peer.service.ended.borrow(), [("/".to_owned(), false)], "the service hears of it");
        // Or says nothing at all.
        let mut peer = Peer::of_http1(Limits { head_timeout: Duration::from_secs(5), ..Limits::default() });
        peer.send(&asking("GET", "/", OFFER, "")).await;
        peer.text().await;
        let begun = tokio::time::Instant::now();
        peer.hear(|h| *h == Heard::Closed).await;
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    });
}

#[test]
fn a_connection_that_is_to_close_does_not_change() {
    run(async {
        let mut peer = Peer::of_http1(Limits::default());
        peer.state.ask(Wish::Close);
        peer.send(&asking("GET", "/", OFFER, "")).await;
        assert!(peer.text().await.starts_with("HTTP/1.1 200 "));
    });
}
