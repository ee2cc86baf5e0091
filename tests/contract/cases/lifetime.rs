//! How connections begin and end.

use std::io::ErrorKind;
use std::time::Duration;

use ferrogate_core::net::{Conn, Listener, Transport};
use test_support::pattern;
use tokio::time::{sleep, timeout};

use crate::calls::{flush, listen, pair, pair_at, read, read_all, read_message, send, shutdown, write_all};
use crate::harness::Harness;

/// Bytes go both ways, and both ends agree on who they are.
pub async fn a_request_and_its_answer<H: Harness>(plane: &H) {
    let (mut listener, address) = listen(plane).await;
    let (mut server, mut client) = pair_at(plane, &mut listener, &address).await;
    assert_eq!((server.local_addr(), client.peer_addr()), (&address, &address));
    assert_eq!(server.peer_addr(), client.local_addr());
    for n in 0..10 {
        let (request, answer) = (format!("request {n}"), format!("answer {n}"));
        send(&mut client, request.as_bytes()).await.unwrap();
        assert_eq!(read_message(&mut server, request.len()).await.unwrap(), request.as_bytes());
        send(&mut server, answer.as_bytes()).await.unwrap();
        assert_eq!(read_message(&mut client, answer.len()).await.unwrap(), answer.as_bytes());
    }
}

/// Half-close: the end of one direction leaves the other open for as long as it likes.
pub async fn each_direction_ends_by_itself<H: Harness>(plane: &H) {
    let (mut server, mut client) = pair(plane).await;
    send(&mut client, b"all there is").await.unwrap();
    shutdown(&mut client).await.unwrap();
    assert_eq!(read_all(&mut server).await.unwrap(), b"all there is");
    assert_eq!(read(&mut server).await.unwrap(), b"", "an end stays an end");
    sleep(Duration::from_millis(50)).await;
    let answer = pattern::bytes(300_000);
    let (sent, received) = tokio::join!(
        async {
            send(&mut server, &answer).await?;
            shutdown(&mut server).await
        },
        read_all(&mut client),
    );
    sent.unwrap();
    assert!(received.unwrap() == answer);
}

/// What was flushed is delivered though its connection is dropped.
pub async fn a_drop_delivers_what_was_flushed<H: Harness>(plane: &H) {
    for len in [1, 1000, 10_000] {
        let (mut server, mut client) = pair(plane).await;
        write_all(&mut server, &pattern::bytes(len)).await.unwrap();
        flush(&mut server).await.unwrap();
        drop(server);
        assert!(read_all(&mut client).await.unwrap() == pattern::bytes(len), "{len} bytes");
    }
}

/// A shutdown needs no flush before it, whatever there is to send.
pub async fn a_shutdown_flushes<H: Harness>(plane: &H) {
    let (mut server, mut client) = pair(plane).await;
    let bytes = pattern::bytes(200_000);
    let (sent, received) = tokio::join!(
        async {
            write_all(&mut server, &bytes).await?;
            shutdown(&mut server).await
        },
        read_all(&mut client),
    );
    sent.unwrap();
    assert!(received.unwrap() == bytes);
    assert!(write_all(&mut server, b"x").await.and(flush(&mut server).await).is_err(), "nothing can follow");
}

/// An abort: the peer is told at once, and the connection says what it is from then on.
pub async fn an_abort_is_told<H: Harness>(plane: &H) {
    let (mut server, mut client) = pair(plane).await;
    send(&mut client, b"hello").await.unwrap();
    assert_eq!(read_message(&mut server, 5).await.unwrap(), b"hello");
    client.abort();
    let kind = |r: std::io::Result<Vec<u8>>| r.expect_err("aborted").kind();
    assert_eq!(kind(read(&mut client).await), ErrorKind::ConnectionAborted);
    let wrote = write_all(&mut client, b"x").await.and(flush(&mut client).await);
    assert_eq!(wrote.expect_err("aborted").kind(), ErrorKind::ConnectionAborted);
    match read(&mut server).await {
        Ok(end) => assert!(end.is_empty() && !plane.has_resets(), "a reset is no clean end"),
        Err(e) => assert_eq!(e.kind(), ErrorKind::ConnectionReset),
    }
}

/// A connect that is given up: nothing of it stays, and the listener goes on.
pub async fn a_dropped_connect_leaves_nothing<H: Harness>(plane: &H) {
    let (mut listener, address) = listen(plane).await;
    for _ in 0..20 {
        // Polled once at most, then dropped.
        let _ = timeout(Duration::ZERO, plane.client().connect(&address)).await;
    }
    let mut client = plane.client().connect(&address).await.expect("the listener goes on");
    send(&mut client, b"mine").await.unwrap();
    let mut server = loop {
        // What was already under way when it was given up arrives first, and is over.
        let mut server = listener.accept().await.unwrap();
        if read(&mut server).await.is_ok_and(|bytes| bytes == b"mine") {
            break server;
        }
    };
    send(&mut server, b"yours").await.unwrap();
    assert_eq!(read_message(&mut client, 5).await.unwrap(), b"yours");
}

/// Many connections at once, none mixed up with another, and all their room is given back.
pub async fn many_connections<H: Harness>(plane: &H) {
    let (mut listener, address) = listen(plane).await;
    let mut pairs = Vec::new();
    for round in 0..2 {
        for n in 0..plane.many_conns() {
            let (server, mut client) = pair_at(plane, &mut listener, &address).await;
            send(&mut client, format!("{round}.{n};").as_bytes()).await.unwrap();
            pairs.push((server, client));
        }
        for (n, (server, client)) in pairs.iter_mut().enumerate() {
            let hello = format!("{round}.{n};");
            assert_eq!(read_message(server, hello.len()).await.unwrap(), hello.as_bytes());
            send(server, hello.as_bytes()).await.unwrap();
            assert_eq!(read_message(client, hello.len()).await.unwrap(), hello.as_bytes());
        }
        pairs.clear();
    }
}
