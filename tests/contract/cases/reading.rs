//! What a reader is shown.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use ferrogate_core::net::Conn;
use test_support::pattern;
use tokio::task::coop::{consume_budget, has_budget_remaining};
use tokio::task::{spawn_local, yield_now};
use tokio::time::timeout;

use crate::calls::{listen, look, pair, pair_at, read, read_message, send, shutdown};
use crate::harness::Harness;

/// Unused bytes are shown again, in one piece, with more behind them, and only when there are more.
pub async fn what_was_seen_is_shown_with_more<H: Harness>(plane: &H) {
    let (mut server, mut client) = pair(plane).await;
    let mut sent = Vec::new();
    for n in 1..20_u8 {
        let piece = vec![n; usize::from(n) * 37];
        let known = sent.len();
        let waits = timeout(Duration::from_millis(20), look(&mut server, known)).await;
        assert!(waits.is_err(), "there are no more than {known} bytes yet");
        send(&mut client, &piece).await.unwrap();
        sent.extend_from_slice(&piece);
        let mut seen = look(&mut server, known).await.unwrap();
        while seen.len() < sent.len() {
            assert!(seen.len() > known, "more than is known");
            assert_eq!(seen, sent[..seen.len()]);
            seen = look(&mut server, seen.len()).await.unwrap();
        }
        assert_eq!(seen, sent);
    }
    assert_eq!(read_message(&mut server, sent.len()).await.unwrap(), sent);
}

/// What lies behind a message that was used is shown without waiting for anything.
pub async fn pipelined_messages_are_shown_at_once<H: Harness>(plane: &H) {
    let (mut server, mut client) = pair(plane).await;
    send(&mut client, b"first;second;third;").await.unwrap();
    // All of it is here before the first is used.
    let mut known = 0;
    while known < 19 {
        known = look(&mut server, known).await.unwrap().len();
    }
    assert_eq!(read_message(&mut server, 6).await.unwrap(), b"first;");
    assert_eq!(look(&mut server, 0).await.unwrap(), b"second;third;");
    assert_eq!(read_message(&mut server, 7).await.unwrap(), b"second;");
    assert_eq!(read_message(&mut server, 6).await.unwrap(), b"third;");
    assert!(timeout(Duration::from_millis(20), read(&mut server)).await.is_err(), "and then it waits");
}

/// Messages of many sizes, each taken whole: wherever a ring ends, a message crosses it some time.
pub async fn messages_cross_every_edge_of_a_ring<H: Harness>(plane: &H) {
    let (mut server, mut client) = pair(plane).await;
    let sizes = || (0..1500_usize).map(|n| 1 + (n * 7919) % 2500);
    let sending = async {
        let mut at = 0;
        for size in sizes() {
            let mut message = vec![0; size];
            pattern::fill(at, &mut message);
            send(&mut client, &message).await.unwrap();
            at += size as u64;
        }
    };
    let receiving = async {
        let mut at = 0;
        for size in sizes() {
            let message = read_message(&mut server, size).await.unwrap();
            assert!(pattern::matches(at, &message), "{size} bytes at {at}");
            at += size as u64;
        }
    };
    tokio::join!(sending, receiving);
}

/// A message longer than any ring or window is shown whole, up to the longest head that a codec takes.
pub async fn a_long_message_is_shown_whole<H: Harness>(plane: &H) {
    let (mut server, mut client) = pair(plane).await;
    let message = pattern::bytes(LONGEST_MESSAGE_BYTES);
    for _ in 0..3 {
        let (sent, received) =
            tokio::join!(send(&mut client, &message), read_message(&mut server, LONGEST_MESSAGE_BYTES));
        sent.unwrap();
        assert!(received.unwrap() == message);
    }
}

/// A stream that ends within a message: what there is, is shown once more, and no more than was known.
pub async fn an_end_within_a_message_is_told<H: Harness>(plane: &H) {
    let (mut server, mut client) = pair(plane).await;
    send(&mut client, b"part").await.unwrap();
    shutdown(&mut client).await.unwrap();
    let error = read_message(&mut server, 10).await.expect_err("it ends before");
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert_eq!(look(&mut server, 4).await.unwrap(), b"part", "no more than was known: the end");
    assert_eq!(read(&mut server).await.unwrap(), b"part", "what is there can still be used");
    assert_eq!(read(&mut server).await.unwrap(), b"");
}

/// Whichever task waits for a connection's bytes is woken, also when another waited before it.
pub async fn the_task_that_waits_last_is_woken<H: Harness>(plane: &H) {
    let (mut server, mut client) = pair(plane).await;
    for n in 0..20_u8 {
        let waiting = spawn_local(async move {
            let waits = poll_fn(|cx| Poll::Ready(server.poll_read_with(cx, 0, |_| (0, ())).is_pending())).await;
            (server, waits)
        });
        let waits;
        (server, waits) = waiting.await.unwrap();
        assert!(waits, "there is nothing yet");
        let reading = spawn_local(async move { (read(&mut server).await, server) });
        // It waits by the time that something is sent.
        yield_now().await;
        send(&mut client, &[n]).await.unwrap();
        let read;
        (read, server) = timeout(LONG, reading).await.expect("woken").unwrap();
        assert_eq!(read.unwrap(), [n]);
    }
}

/// A task that has used up its turn, and then waits for bytes, is woken when they come.
pub async fn a_task_at_the_end_of_its_turn_is_woken<H: Harness>(plane: &H) {
    let (mut server, mut client) = pair(plane).await;
    for n in 0..20_u8 {
        let reading = spawn_local(async move {
            let mut calls = 0..TURN_MAX;
            poll_fn(|cx| {
                // In the first turn only; a runtime may set no bound.
                for _ in calls.by_ref() {
                    if !has_budget_remaining() || pin!(consume_budget()).poll(cx).is_pending() {
                        calls = 0..0;
                        break;
                    }
                }
                server.poll_read_with(cx, 0, |bytes| (bytes.len(), bytes.to_vec()))
            })
            .await
            .map(|read| (read, server))
        });
        yield_now().await;
        send(&mut client, &[n]).await.unwrap();
        let read;
        (read, server) = timeout(LONG, reading).await.expect("woken").unwrap().unwrap();
        assert_eq!(read, [n]);
    }
}

/// A connection that always has something to read does not keep the others of its worker waiting.
pub async fn one_hot_connection_starves_nobody<H: Harness>(plane: &H) {
    let (mut listener, address) = listen(plane).await;
    let (mut hot_server, mut hot_client) = pair_at(plane, &mut listener, &address).await;
    let (mut server, mut client) = pair_at(plane, &mut listener, &address).await;
    let (done, bytes) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0_u64)));
    // Each end in a task of its own, as on a worker.
    let (stop, counted) = (Rc::clone(&done), Rc::clone(&bytes));
    let sending = spawn_local(async move {
        let piece = pattern::bytes(16 * 1024);
        while !stop.get() {
            send(&mut hot_client, &piece).await.unwrap();
        }
        shutdown(&mut hot_client).await.unwrap();
    });
    let receiving = spawn_local(async move {
        while let n @ 1.. = read(&mut hot_server).await.unwrap().len() {
            counted.set(counted.get() + n as u64);
        }
    });
    let answering = spawn_local(async move {
        for _ in 0..200 {
            assert_eq!(read_message(&mut server, 4).await.unwrap(), b"ping");
            send(&mut server, b"pong").await.unwrap();
        }
        server
    });
    for _ in 0..200 {
        send(&mut client, b"ping").await.unwrap();
        assert_eq!(read_message(&mut client, 4).await.unwrap(), b"pong");
    }
    assert!(bytes.get() > 0, "the hot one ran all the while");
    done.set(true);
    for task in [sending, receiving] {
        task.await.unwrap();
    }
    answering.await.unwrap();
}

/// As `head_bytes_max` by default: a plane has to be able to show it in one piece.
const LONGEST_MESSAGE_BYTES: usize = 64 * 1024;

/// Until a test that waits in vain fails.
const LONG: Duration = Duration::from_secs(10);

/// More calls than tokio gives a task in a turn.
const TURN_MAX: usize = 1000;
