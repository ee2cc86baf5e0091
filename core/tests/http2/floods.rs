//! What a hostile client may not do: each flood ends its own connection, and costs no more than the limit says.

use std::time::Duration;

use ferrogate_core::codec::http2::ErrorCode;
use ferrogate_core::config::Limits;

use crate::peer::{Heard, Peer, block, data, frame, get, literal, post, reset, run, settings, window};

const CALM: ErrorCode = ErrorCode::EnhanceYourCalm;

/// Sends `rounds` pieces and hears how the connection ends.
async fn flood(limits: Limits, rounds: u32, piece: impl Fn(u32) -> Vec<u8>) -> (Peer, Option<ErrorCode>) {
    let mut peer = Peer::new(limits).await;
    for n in 0..rounds {
        peer.send(&piece(n)).await;
        tokio::task::yield_now().await;
    }
    peer.send(&frame(6, 0, 0, b"the end.")).await;
    let heard = peer.hear(|h| matches!(h, Heard::GoAway(..)) || *h == Heard::Pong(*b"the end.")).await;
    let code = match heard.last() {
        Some(Heard::GoAway(_, code)) => Some(*code),
        Some(Heard::Pong(_)) => None,
        other => panic!("{other:?}"),
    };
    (peer, code)
}

#[test]
fn rapid_resets() {
    run(async {
        let limits = || Limits { h2_resets_max: 50, ..Limits::default() };
        let attack = |n: u32| [get(2 * n + 1, "/hang"), reset(2 * n + 1)].concat();
        let (peer, code) = flood(limits(), 200, attack).await;
        assert_eq!(code, Some(CALM));
        assert!(peer.service.ended.borrow().len() <= 51);
        let (_, code) = flood(limits(), 50, attack).await;
        assert_eq!(code, None, "within the limit");
    });
}

/// However fast streams are opened and reset, no more are at work than may be.
#[test]
fn resets_do_not_make_room_for_more_than_may_run() {
    run(async {
        let mut peer = Peer::new(Limits { h2_streams_max: 4, ..Limits::default() }).await;
        let all: Vec<u8> = (0..40).flat_map(|n| [get(2 * n + 1, "/hang"), reset(2 * n + 1)].concat()).collect();
        peer.send(&all).await;
        peer.ping().await;
        assert!(peer.service.most_running.get() <= 4, "{}", peer.service.most_running.get());
    });
}

/// A client that breaks the protocol on a stream makes us reset it (MadeYouReset, CVE-2025-8671): that counts as its own reset.
#[test]
fn resets_that_we_are_made_to_send() {
    run(async {
        let limits = || Limits { h2_resets_max: 50, ..Limits::default() };
        for attack in [
            // Half-closed, then data.
            |n: u32| [get(2 * n + 1, "/hang"), data(2 * n + 1, b"x")].concat(),
            // A window that overflows.
            |n: u32| [get(2 * n + 1, "/hang"), window(2 * n + 1, (1 << 31) - 1)].concat(),
            // A window of nothing.
            |n: u32| [post(2 * n + 1, "/hang"), window(2 * n + 1, 0)].concat(),
            // A PRIORITY of the wrong size.
            |n: u32| [get(2 * n + 1, "/hang"), frame(2, 0, 2 * n + 1, b"1234")].concat(),
            // A body longer than it was said to be.
            |n: u32| {
                let head = block("POST", "/hang", &[("content-length", "1")]);
                [frame(1, 4, 2 * n + 1, &head), data(2 * n + 1, b"xx")].concat()
            },
        ] {
            let (_, code) = flood(limits(), 200, attack).await;
            assert_eq!(code, Some(CALM));
        }
    });
}

#[test]
fn control_frames() {
    run(async {
        let limits = || Limits { h2_control_frames_max: 100, ..Limits::default() };
        for attack in [
            frame(6, 0, 0, b"12345678"),
            frame(6, 1, 0, b"12345678"),
            settings(&[]),
            settings(&[(4, 1000)]),
            frame(4, 1, 0, &[]),
            frame(2, 0, 1, &[0, 0, 0, 0, 1]),
            frame(0x42, 0, 0, b"whatever"),
            window(0, 1),
        ] {
            let (_, code) = flood(limits(), 300, |_| attack.clone()).await;
            assert_eq!(code, Some(CALM), "{attack:?}");
            let (_, code) = flood(limits(), 90, |_| attack.clone()).await;
            assert_eq!(code, None, "{attack:?} within the limit");
        }
    });
}

#[test]
fn requests_pay_for_the_control_frames_beside_them() {
    run(async {
        let limits = Limits { h2_control_frames_max: 20, ..Limits::default() };
        let work = |n: u32| [get(2 * n + 1, "/bytes/9"), window(0, 9), window(2 * n + 1, 9)].concat();
        let (_, code) = flood(limits, 500, work).await;
        assert_eq!(code, None);
    });
}

#[test]
fn empty_data() {
    run(async {
        let limits = Limits { h2_empty_data_frames_max: 20, ..Limits::default() };
        let (_, code) = flood(limits, 100, |n| if n == 0 { post(1, "/count") } else { data(1, b"") }).await;
        assert_eq!(code, Some(CALM));
    });
}

#[test]
fn continuations() {
    run(async {
        let head = |n: u32| match n {
            0 => frame(1, 1, 1, &block("GET", "/", &[])),
            _ => frame(9, 0, 1, b""),
        };
        let (_, code) = flood(Limits::default(), 100, head).await;
        assert_eq!(code, Some(CALM), "many");
        let long = |n: u32| match n {
            0 => frame(1, 1, 1, &block("GET", "/", &[])),
            _ => frame(9, 0, 1, &literal("x", &"v".repeat(120)).repeat(100)),
        };
        let (peer, code) = flood(Limits::default(), 30, long).await;
        assert_eq!(code, Some(CALM), "long");
        assert!(peer.service.heads.borrow().is_empty());
    });
}

/// A head that is short on the wire and long in memory.
#[test]
fn a_head_that_grows_is_refused() {
    run(async {
        let mut peer = Peer::new(Limits { head_bytes_max: 8192, ..Limits::default() }).await;
        let mut bomb = vec![0x40, 1, b'a', 0x7f, 0x81, 0x1e];
        bomb.extend(vec![b'v'; 4000]);
        bomb.extend(vec![0xbe; 10_000]);
        peer.send(&frame(1, 5, 1, &[block("GET", "/", &[]), bomb].concat())).await;
        assert_eq!(peer.answer(1).await.0, "431");
        peer.send(&get(3, "/")).await;
        assert_eq!(peer.answer(3).await.1, b"hello");
        assert_eq!((peer.service.refused.get(), peer.service.heads.borrow().len()), (1, 1));
    });
}

/// A client that makes us answer and reads nothing is not read any further.
#[test]
fn a_client_that_does_not_read_is_not_heard() {
    run(async {
        let limits = Limits { h2_control_frames_max: 1_000_000, h2_out_bytes_max: 4096, ..Limits::default() };
        let mut peer = Peer::new(limits).await;
        let pings = frame(6, 0, 0, b"12345678").repeat(1000);
        // More than both wires and everything in between hold: the send does not end before the server takes it all.
        let stuck = tokio::time::timeout(Duration::from_secs(60), async {
            for _ in 0..1000 {
                peer.send(&pings).await;
            }
        });
        assert!(stuck.await.is_err(), "17 MB were taken and not answered");
    });
}

#[test]
fn silence() {
    run(async {
        let limits = || Limits { head_timeout: Duration::from_secs(3), ..Limits::default() };
        let mut peer = Peer::silent(limits());
        assert_eq!(peer.hear(|h| *h == Heard::Closed).await.len(), 4, "SETTINGS, a window, GOAWAY, the end");
        let mut peer = Peer::new(limits()).await;
        peer.send(&frame(1, 1, 1, &block("GET", "/", &[]))).await;
        assert!(matches!(peer.next().await, Heard::GoAway(0, ErrorCode::NoError)), "a head without an end");
        let mut peer = Peer::silent(Limits::default());
        peer.send(&[&ferrogate_core::codec::http2::PREFACE[..], &settings(&[])].concat()).await;
        let heard = peer.hear(|h| matches!(h, Heard::GoAway(..))).await;
        assert_eq!(heard.last(), Some(&Heard::GoAway(0, ErrorCode::SettingsTimeout)));
    });
}

/// A client whose heads always come in parts is not slow: each head has its own time.
#[test]
fn heads_in_parts_each_have_their_time() {
    run(async {
        let mut peer = Peer::new(Limits { head_timeout: Duration::from_secs(3), ..Limits::default() }).await;
        let begin = |n: u32| frame(1, 1, 2 * n + 1, &block("GET", "/", &[]));
        peer.send(&begin(0)).await;
        for n in 0..10 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            peer.send(&[frame(9, 4, 2 * n + 1, b""), begin(n + 1)].concat()).await;
            assert_eq!(peer.answer(2 * n + 1).await.0, "200", "the head {n}");
        }
    });
}
