//! What a writer is lent, and when it has to wait.

use std::cell::Cell;
use std::future::poll_fn;
use std::time::Duration;

use ferrogate_core::net::{Conn, ROOM_BYTES_MAX};
use test_support::pattern;
use tokio::time::{sleep, timeout};

use crate::calls::{flush, pair, read, read_all, read_message, send, shutdown, write};
use crate::harness::Harness;

/// Room is at least as long as wished for, up to the promise, and only what was written is kept.
pub async fn room_is_as_long_as_wished_for<H: Harness>(plane: &H) {
    let (mut server, mut client) = pair(plane).await;
    let mut sent = 0_u64;
    for wish in [1, 100, 5000, ROOM_BYTES_MAX, ROOM_BYTES_MAX, 1, 7000, ROOM_BYTES_MAX] {
        let place = sent;
        let room = poll_fn(|cx| {
            client.poll_write_with(cx, wish, |room| {
                pattern::fill(place, &mut room[..wish]);
                // Half of it is kept: the rest was room, not a message.
                (wish.div_ceil(2), room.len())
            })
        });
        assert!(room.await.unwrap() >= wish, "{wish}");
        let kept = wish.div_ceil(2);
        let (flushed, received) = tokio::join!(flush(&mut client), read_message(&mut server, kept));
        flushed.unwrap();
        assert!(pattern::matches(sent, &received.unwrap()), "{wish}");
        sent += kept as u64;
    }
    // A longer wish than the promise gets the promise.
    let room = poll_fn(|cx| client.poll_write_with(cx, usize::MAX, |room| (0, room.len()))).await.unwrap();
    assert!(room >= ROOM_BYTES_MAX);
}

/// Backpressure: when nobody reads, the writer has to wait, and what is on its way is bounded; then all of it arrives.
pub async fn a_slow_reader_stops_the_writer<H: Harness>(plane: &H) {
    let (mut server, mut client) = pair(plane).await;
    let total = 2 * plane.in_flight_bytes_max();
    let written = Cell::new(0_usize);
    let writing = async {
        let mut piece = vec![0; 10_000];
        while written.get() < total {
            pattern::fill(written.get() as u64, &mut piece);
            let n = write(&mut client, &piece[..(total - written.get()).min(10_000)]).await.unwrap();
            written.set(written.get() + n);
        }
        flush(&mut client).await.unwrap();
        shutdown(&mut client).await.unwrap();
    };
    let reading = async {
        let stopped = settled(&written).await;
        assert!(stopped <= plane.in_flight_bytes_max(), "{stopped} bytes on their way and nobody reads");
        let mut at = 0;
        loop {
            let part = read(&mut server).await.unwrap();
            if part.is_empty() {
                return assert_eq!(at, total as u64);
            }
            assert!(pattern::matches(at, &part), "at {at}");
            at += part.len() as u64;
        }
    };
    tokio::join!(writing, reading);
}

/// Both sides write until they are stopped before either reads: neither direction depends on the other.
pub async fn both_directions_are_full_at_once<H: Harness>(plane: &H) {
    let (mut server, mut client) = pair(plane).await;
    // To the brim.
    for conn_is_full in [fill(&mut server).await, fill(&mut client).await] {
        assert!(conn_is_full > 0);
    }
    let (one, two) = tokio::join!(
        async {
            let part = read(&mut server).await.unwrap();
            send(&mut server, b"x").await.unwrap();
            part
        },
        async {
            let mut all = Vec::new();
            while all.last() != Some(&b'x') {
                all.extend(read(&mut client).await.unwrap());
            }
            all
        },
    );
    assert!(!one.is_empty() && two.len() > 1);
    shutdown_quickly(&mut client).await;
    drop(client);
    let _ = read_all(&mut server).await;
}

/// Writes zeros until the connection takes no more for a while.
async fn fill<C: Conn>(conn: &mut C) -> usize {
    let mut written = 0;
    while let Ok(n) = timeout(Duration::from_millis(50), write(conn, &[0; 8192])).await {
        written += n.unwrap();
    }
    written
}

async fn shutdown_quickly<C: Conn>(conn: &mut C) {
    let _ = timeout(Duration::from_millis(50), shutdown(conn)).await;
}

/// The value of a counter once it has stood still for a while.
async fn settled(counter: &Cell<usize>) -> usize {
    let (mut last, mut still) = (0, 0);
    while still < 20 {
        sleep(Duration::from_millis(10)).await;
        let now = counter.get();
        still = if now > 0 && now == last { still + 1 } else { 0 };
        last = now;
    }
    last
}
