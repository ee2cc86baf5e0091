//! Bytes from one connection to another, unseen.

use std::cell::Cell;
use std::time::Duration;

use ferrogate_core::net::Conn;
use test_support::pattern;
use tokio::time::{sleep, timeout};

use crate::calls::{
    ClientConn, ServerConn, flush, look, pair, read, read_all, read_message, relay, relay_all, relay_to_end, send,
    shutdown, write_all,
};
use crate::harness::Harness;

/// A source's client and its accepted end, and the same of a sink.
struct Through<H: Harness> {
    source: ClientConn<H>,
    from: ServerConn<H>,
    to: ServerConn<H>,
    sink: ClientConn<H>,
}

async fn through<H: Harness>(plane: &H) -> Through<H> {
    let ((from, source), (to, sink)) = (pair(plane).await, pair(plane).await);
    Through { source, from, to, sink }
}

/// Content, order and end.
pub async fn everything_goes_across<H: Harness>(plane: &H) {
    let mut t = through(plane).await;
    let bytes = pattern::bytes(3_000_000);
    let (sent, moved, received) = tokio::join!(
        async {
            send(&mut t.source, &bytes).await?;
            shutdown(&mut t.source).await
        },
        async {
            let moved = relay_to_end(&mut t.from, &mut t.to).await?;
            assert_eq!(relay(&mut t.from, &mut t.to, 1).await?, 0, "an end stays an end");
            shutdown(&mut t.to).await?;
            std::io::Result::Ok(moved)
        },
        read_all(&mut t.sink),
    );
    sent.unwrap();
    assert_eq!(moved.unwrap(), bytes.len());
    assert!(received.unwrap() == bytes);
}

/// Never more than the limit; what is behind it stays readable.
pub async fn a_limit_is_kept<H: Harness>(plane: &H) {
    let mut t = through(plane).await;
    send(&mut t.source, b"body of tennext message").await.unwrap();
    let mut left = 11;
    while left > 0 {
        let moved = relay(&mut t.from, &mut t.to, left.min(4)).await.unwrap();
        assert!((1..=left.min(4)).contains(&moved), "{moved} of at most {left}");
        left -= moved;
    }
    flush(&mut t.to).await.unwrap();
    assert_eq!(read_message(&mut t.sink, 11).await.unwrap(), b"body of ten");
    assert_eq!(read_message(&mut t.from, 12).await.unwrap(), b"next message");
    assert!(timeout(Duration::from_millis(20), read(&mut t.sink)).await.is_err(), "nothing more went across");
}

/// What was written to the sink before leaves first, and what was seen of the source but not used goes across too.
pub async fn what_was_there_goes_first<H: Harness>(plane: &H) {
    let mut t = through(plane).await;
    send(&mut t.source, b"HEAD;body").await.unwrap();
    assert_eq!(read_message(&mut t.from, 5).await.unwrap(), b"HEAD;");
    let mut known = 0;
    while known < 4 {
        known = look(&mut t.from, known).await.unwrap().len();
    }
    write_all(&mut t.to, b"head;").await.unwrap();
    let mut moved = 0;
    while moved < 4 {
        moved += relay(&mut t.from, &mut t.to, 100).await.unwrap();
    }
    assert_eq!(moved, 4);
    flush(&mut t.to).await.unwrap();
    assert_eq!(read_message(&mut t.sink, 9).await.unwrap(), b"head;body");
    // And after a relay the connection can be written to again, in order.
    send(&mut t.source, b"-more").await.unwrap();
    let mut moved = 0;
    while moved < 5 {
        moved += relay(&mut t.from, &mut t.to, 100).await.unwrap();
    }
    send(&mut t.to, b"-end").await.unwrap();
    assert_eq!(read_message(&mut t.sink, 9).await.unwrap(), b"-more-end");
}

/// A sink that does not read stops the source: nothing piles up in between.
pub async fn a_slow_sink_stops_the_source<H: Harness>(plane: &H) {
    let mut t = through(plane).await;
    let total = 3 * plane.in_flight_bytes_max();
    let written = Cell::new(0_usize);
    let writing = async {
        let mut piece = vec![0; 10_000];
        while written.get() < total {
            let n = (total - written.get()).min(piece.len());
            pattern::fill(written.get() as u64, &mut piece);
            send(&mut t.source, &piece[..n]).await.unwrap();
            written.set(written.get() + n);
        }
        shutdown(&mut t.source).await.unwrap();
    };
    let reading = async {
        let (mut last, mut still) = (0, 0);
        while still < 20 {
            sleep(Duration::from_millis(10)).await;
            still = if written.get() > 0 && written.get() == last { still + 1 } else { 0 };
            last = written.get();
        }
        assert!(last <= 2 * plane.in_flight_bytes_max(), "{last} bytes in two connections and nobody reads");
        let mut at = 0;
        loop {
            let part = read(&mut t.sink).await.unwrap();
            if part.is_empty() {
                return assert_eq!(at, total as u64);
            }
            assert!(pattern::matches(at, &part), "at {at}");
            at += part.len() as u64;
        }
    };
    let (moved, (), ()) = tokio::join!(relay_all(&mut t.from, &mut t.to), writing, reading);
    assert_eq!(moved.unwrap(), total);
}

/// A sink that is gone is an error of the relay, not a wait.
pub async fn a_lost_sink_is_an_error<H: Harness>(plane: &H) {
    let mut t = through(plane).await;
    t.sink.abort();
    drop(t.sink);
    let bytes = pattern::bytes(100_000);
    let (_, moved) = tokio::join!(
        async {
            // It may be stopped for good: then the relay has told already.
            let _ = timeout(Duration::from_secs(5), send(&mut t.source, &bytes)).await;
            let _ = timeout(Duration::from_secs(5), shutdown(&mut t.source)).await;
        },
        relay_all(&mut t.from, &mut t.to),
    );
    assert!(moved.is_err(), "{moved:?} went to nobody");
}

/// Much that the sink has not taken yet, words of our own behind it, and much again: all in order. A plane may move much in another way than
/// little.
pub async fn words_between_much_keep_their_place<H: Harness>(plane: &H) {
    const ROUNDS: usize = 3;
    let mut t = through(plane).await;
    let bytes = pattern::bytes(1 << 20);
    let (sent, relayed, received) = tokio::join!(
        async {
            for _ in 0..ROUNDS {
                send(&mut t.source, &bytes).await?;
            }
            std::io::Result::Ok(())
        },
        async {
            for _ in 0..ROUNDS {
                let mut left = bytes.len();
                while left > 0 {
                    left -= relay(&mut t.from, &mut t.to, left).await?;
                }
                send(&mut t.to, b"-word-").await?;
            }
            shutdown(&mut t.to).await
        },
        read_all(&mut t.sink),
    );
    sent.unwrap();
    relayed.unwrap();
    let expected = [&bytes[..], b"-word-"].concat().repeat(ROUNDS);
    assert!(received.unwrap() == expected);
}
