//! Requests and answers as users know them.

use std::time::Duration;

use ferrogate_core::codec::http2::ErrorCode;
use ferrogate_core::config::Limits;
use ferrogate_core::message::BodyError;
use ferrogate_core::stream::Wish;
use tokio::task::yield_now;

use crate::peer::{Heard, Peer, block, data, frame, get, last, post, reset, run, settings, window};

#[test]
fn what_we_say_of_ourselves() {
    run(async {
        let mut peer = Peer::silent(Limits::default());
        let Heard::Settings(ours) = peer.next().await else { panic!("SETTINGS come first") };
        assert_eq!((ours.push, ours.streams_max, ours.head_bytes_max), (false, 128, 65_536));
        assert_eq!((ours.window_bytes, ours.frame_bytes_max, ours.connect_protocol), (65_535, 16_384, true));
        assert_eq!(peer.next().await, Heard::Window(0, (2 << 20) - 65_535));
    });
}

#[test]
fn many_requests_are_answered_each_on_its_stream() {
    run(async {
        let mut peer = Peer::new(Limits::default()).await;
        let all: Vec<u8> = (0..100).flat_map(|n| get(2 * n + 1, &format!("/bytes/{n}"))).collect();
        peer.send(&all).await;
        let mut bodies = vec![None; 100];
        while bodies.iter().any(Option::is_none) {
            match peer.next().await {
                Heard::Head { stream, fields, end } => {
                    assert_eq!(fields[":status"], "200");
                    let n = (stream - 1) / 2;
                    assert_eq!((fields["content-length"].clone(), end), (n.to_string(), n == 0));
                    bodies[n as usize] = end.then_some(0);
                }
                Heard::Data { stream, data, end: true } => bodies[(stream as usize - 1) / 2] = Some(data.len()),
                other => panic!("{other:?}"),
            }
        }
        assert!(bodies.iter().enumerate().all(|(n, len)| *len == Some(n)));
        assert_eq!(peer.service.ended.borrow().iter().filter(|(_, whole)| *whole).count(), 100);
    });
}

#[test]
fn bodies_go_both_ways_with_trailers() {
    run(async {
        let mut peer = Peer::new(Limits::default()).await;
        peer.send(&post(1, "/echo")).await;
        assert!(matches!(peer.next().await, Heard::Head { stream: 1, end: false, .. }));
        for _ in 0..3 {
            peer.send(&data(1, b"there and back")).await;
            let Heard::Data { data, end, .. } = peer.next().await else { panic!("data comes back at once") };
            assert_eq!((&data[..], end), (&b"there and back"[..], false));
        }
        let trailers: Vec<u8> = crate::peer::literal("x-sum", "3");
        peer.send(&frame(1, 5, 1, &trailers)).await;
        let Heard::Head { fields, end, .. } = peer.next().await else { panic!("trailers come back") };
        assert_eq!((fields["x-sum"].as_str(), end), ("3", true));

        peer.send(&get(3, "/trailers")).await;
        let heard = peer.hear(|h| matches!(h, Heard::Head { end: true, .. })).await;
        let Some(Heard::Head { fields, .. }) = heard.last() else { panic!("{heard:?}") };
        assert_eq!(fields["grpc-status"], "0");
    });
}

#[test]
fn uploads_of_any_size_arrive_whole_and_windows_are_given_back() {
    run(async {
        let mut peer = Peer::new(Limits { body_in_hand_bytes_max: 10, ..Limits::default() }).await;
        let piece = vec![7; 16_384];
        peer.send(&post(1, "/count")).await;
        let (mut stream_room, mut conn_room, mut sent) = (65_535usize, 2usize << 20, 0);
        while sent < 20_000_000 {
            while stream_room < piece.len() || conn_room < piece.len() {
                match peer.next().await {
                    Heard::Window(0, n) => conn_room += n as usize,
                    Heard::Window(1, n) => stream_room += n as usize,
                    other => panic!("{other:?}"),
                }
            }
            peer.send(&data(1, &piece)).await;
            (stream_room, conn_room, sent) = (stream_room - piece.len(), conn_room - piece.len(), sent + piece.len());
        }
        peer.send(&last(1, b"")).await;
        assert_eq!(peer.answer(1).await.0, "200");
        assert_eq!(*peer.service.last_upload.borrow(), Some(Ok((sent as u64, false))));
    });
}

#[test]
fn an_answer_waits_for_the_clients_windows() {
    run(async {
        let mut peer = Peer::new(Limits::default()).await;
        peer.send(&[settings(&[(4, 10)]), get(1, "/bytes/25")].concat()).await;
        let heard = peer.hear(|h| matches!(h, Heard::Data { .. })).await;
        assert_eq!(heard.last(), Some(&Heard::Data { stream: 1, data: vec![b'x'; 10], end: false }));
        assert_eq!(peer.ping().await.len(), 1, "nothing more before the window opens");
        peer.send(&window(1, 5)).await;
        assert_eq!(peer.next().await, Heard::Data { stream: 1, data: vec![b'x'; 5], end: false });
        // A smaller initial window takes what is open below zero.
        peer.send(&[settings(&[(4, 0)]), window(1, 12)].concat()).await;
        peer.hear(|h| *h == Heard::SettingsAck).await;
        assert_eq!(peer.next().await, Heard::Data { stream: 1, data: vec![b'x'; 2], end: false });
        peer.send(&settings(&[(4, 8)])).await;
        peer.hear(|h| *h == Heard::SettingsAck).await;
        assert_eq!(peer.next().await, Heard::Data { stream: 1, data: vec![b'x'; 8], end: true });
    });
}

#[test]
fn the_connections_window_is_shared_and_nobody_starves() {
    run(async {
        let mut peer = Peer::new(Limits::default()).await;
        peer.send(&settings(&[(4, 1 << 20)])).await;
        peer.send(&[get(1, "/bytes/60000"), get(3, "/bytes/60000"), get(5, "/bytes/60000")].concat()).await;
        let mut got = [0; 3];
        let mut owed = 0;
        while got.iter().sum::<usize>() < 180_000 {
            if let Heard::Data { stream, data, .. } = peer.next().await {
                got[(stream as usize - 1) / 2] += data.len();
                owed += u32::try_from(data.len()).unwrap();
            }
            if owed >= 30_000 {
                peer.send(&window(0, owed)).await;
                owed = 0;
            }
        }
        assert_eq!(got, [60_000; 3]);
    });
}

#[test]
fn a_client_that_opens_no_window_is_given_up() {
    run(async {
        let limits = Limits { body_idle_timeout: Duration::from_secs(5), ..Limits::default() };
        let mut peer = Peer::new(limits).await;
        peer.send(&[settings(&[(4, 0)]), get(1, "/bytes/25")].concat()).await;
        let heard = peer.hear(|h| matches!(h, Heard::Reset(..))).await;
        assert_eq!(heard.last(), Some(&Heard::Reset(1, ErrorCode::InternalError)));
        peer.ping().await;
    });
}

#[test]
fn a_client_that_stalls_its_upload_is_given_up() {
    run(async {
        let limits = Limits { body_idle_timeout: Duration::from_secs(5), ..Limits::default() };
        let mut peer = Peer::new(limits).await;
        peer.send(&[post(1, "/count"), data(1, b"some")].concat()).await;
        assert_eq!(peer.answer(1).await.0, "400");
        assert_eq!(*peer.service.last_upload.borrow(), Some(Err(BodyError::Timeout)));
    });
}

#[test]
fn a_body_beyond_the_limit_is_refused() {
    run(async {
        let mut peer = Peer::new(Limits { request_body_bytes_max: 10, ..Limits::default() }).await;
        let head = block("POST", "/count", &[("content-length", "11")]);
        peer.send(&[frame(1, 4, 1, &head), last(1, &[0; 11])].concat()).await;
        assert_eq!(peer.answer(1).await.0, "413");
        peer.send(&post(3, "/count")).await;
        for _ in 0..4 {
            peer.send(&data(3, &[0; 4])).await;
        }
        assert_eq!(peer.answer(3).await.0, "400");
        assert_eq!(*peer.service.last_upload.borrow(), Some(Err(BodyError::TooLarge)));
        peer.ping().await;
    });
}

#[test]
fn what_is_answered_early_need_not_be_sent() {
    run(async {
        let mut peer = Peer::new(Limits::default()).await;
        peer.send(&post(1, "/early")).await;
        assert_eq!(peer.answer(1).await, ("200".into(), b"early".to_vec(), true));
        assert_eq!(peer.next().await, Heard::Reset(1, ErrorCode::NoError));
        // What was on its way is nobody's, and costs nobody anything.
        peer.send(&[data(1, &[0; 1000]), last(1, b"")].concat()).await;
        peer.send(&get(3, "/")).await;
        assert_eq!(peer.answer(3).await.1, b"hello");
    });
}

#[test]
fn a_reset_ends_the_exchange_and_nothing_else() {
    run(async {
        let mut peer = Peer::new(Limits::default()).await;
        peer.send(&[get(1, "/hang"), get(3, "/hang")].concat()).await;
        peer.ping().await;
        assert_eq!(peer.service.running.get(), 2);
        peer.send(&reset(1)).await;
        peer.ping().await;
        assert_eq!(peer.service.running.get(), 1);
        assert_eq!(*peer.service.ended.borrow(), [("/hang".into(), false)]);
        peer.send(&get(5, "/")).await;
        assert_eq!(peer.answer(5).await.1, b"hello");
    });
}

#[test]
fn answers_that_break_are_not_taken_for_whole() {
    run(async {
        let mut peer = Peer::new(Limits::default()).await;
        peer.send(&get(1, "/broken")).await;
        assert_eq!(peer.answer(1).await, ("200".into(), b"piecepiecepiece".to_vec(), false));
        peer.send(&get(3, "/silent")).await;
        assert_eq!(peer.next().await, Heard::Reset(3, ErrorCode::InternalError));
        peer.send(&get(5, "/")).await;
        assert_eq!(peer.answer(5).await.1, b"hello");
    });
}

#[test]
fn a_panic_costs_its_stream_only() {
    run(async {
        let mut peer = Peer::new(Limits::default()).await;
        peer.send(&[get(1, "/panic"), get(3, "/")].concat()).await;
        assert_eq!(peer.answer(3).await.1, b"hello");
        peer.send(&get(5, "/")).await;
        assert_eq!(peer.answer(5).await.1, b"hello");
    });
}

#[test]
fn heads_are_translated() {
    run(async {
        let mut peer = Peer::new(Limits::default()).await;
        peer.send(&get(1, "/fields")).await;
        let Heard::Head { fields, .. } = peer.next().await else { panic!("a head") };
        let named: Vec<_> = fields.iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(named, [":status=200", "content-length=2", "set-cookie=a=1|b=2", "x-upper-case=Kept"]);
        peer.hear(|h| matches!(h, Heard::Data { end: true, .. })).await;

        peer.send(&get(3, "/interim")).await;
        let statuses: Vec<_> = peer.hear(|h| matches!(h, Heard::Data { end: true, .. })).await;
        let statuses: Vec<_> = statuses
            .iter()
            .filter_map(|h| if let Heard::Head { fields, .. } = h { fields.get(":status").cloned() } else { None })
            .collect();
        assert_eq!(statuses, ["103", "200"]);

        peer.send(&frame(1, 5, 5, &block("HEAD", "/bytes/9", &[]))).await;
        let Heard::Head { fields, end, .. } = peer.next().await else { panic!("a head") };
        assert_eq!((fields["content-length"].as_str(), end), ("9", true));
        peer.send(&get(7, "/empty")).await;
        let Heard::Head { fields, end, .. } = peer.next().await else { panic!("a head") };
        assert_eq!((fields.len(), end), (1, true));
        let seen = peer.service.heads.borrow();
        assert_eq!(seen[0], "Host: test.example");
    });
}

#[test]
fn a_drain_says_go_away_twice_and_serves_what_came_meanwhile() {
    run(async {
        let mut peer = Peer::new(Limits::default()).await;
        peer.send(&get(1, "/hang")).await;
        peer.ping().await;
        peer.state.ask(Wish::Close);
        assert_eq!(peer.next().await, Heard::GoAway((1 << 31) - 1, ErrorCode::NoError));
        let Heard::Ping(data) = peer.next().await else { panic!("a PING tells when it was heard") };
        peer.send(&get(3, "/")).await;
        assert_eq!(peer.answer(3).await.1, b"hello");
        peer.send(&frame(6, 1, 0, &data)).await;
        assert_eq!(peer.next().await, Heard::GoAway(3, ErrorCode::NoError));
        // Too late: not served, and not answered either.
        peer.send(&get(5, "/")).await;
        peer.ping().await;
        assert_eq!(peer.service.running.get(), 1);
        peer.send(&reset(1)).await;
        assert_eq!(peer.next().await, Heard::Closed);
    });
}

#[test]
fn a_client_that_does_not_answer_holds_no_drain_up() {
    run(async {
        let mut peer = Peer::new(Limits::default()).await;
        peer.state.ask(Wish::Close);
        let heard = peer.hear(|h| *h == Heard::Closed).await;
        assert!(heard.contains(&Heard::GoAway(0, ErrorCode::NoError)), "{heard:?}");
    });
}

#[test]
fn the_last_request_of_a_connection_is_announced() {
    run(async {
        let mut peer = Peer::new(Limits { requests_per_conn_max: 2, ..Limits::default() }).await;
        peer.send(&[get(1, "/"), get(3, "/")].concat()).await;
        let heard = peer.hear(|h| *h == Heard::Closed).await;
        assert!(heard.contains(&Heard::GoAway(3, ErrorCode::NoError)), "{heard:?}");
        assert_eq!(heard.iter().filter(|h| matches!(h, Heard::Data { end: true, .. })).count(), 2);
    });
}

/// The end of its bytes is the end of the client: nobody waits for what is not answered yet, and no origin works for it.
#[test]
fn a_client_that_ends_its_side_is_gone() {
    run(async {
        let mut peer = Peer::new(Limits::default()).await;
        peer.send(&get(1, "/bytes/1000")).await;
        assert_eq!(peer.answer(1).await.1.len(), 1000);
        peer.send(&[get(3, "/hang"), post(5, "/count"), data(5, b"half"), post(7, "/hang")].concat()).await;
        peer.ping().await;
        assert_eq!(peer.service.running.get(), 3);
        let begun = tokio::time::Instant::now();
        peer.shut().await;
        let heard = peer.hear(|h| *h == Heard::Closed).await;
        assert!(begun.elapsed() < Duration::from_secs(1), "{heard:?}");
        assert_eq!(peer.service.running.get(), 0);
        let ended = peer.service.ended.borrow();
        assert_eq!(ended.iter().filter(|(_, whole)| !whole).count(), 3, "{ended:?}");
    });
}

#[test]
fn a_client_that_is_gone_ends_its_exchanges() {
    run(async {
        let mut peer = Peer::new(Limits::default()).await;
        peer.send(&[get(1, "/hang"), get(3, "/hang")].concat()).await;
        peer.ping().await;
        let service = peer.service.clone();
        // A window of nothing that was agreed on: the connection is lost.
        peer.send(&window(0, 0)).await;
        drop(peer);
        for _ in 0..10 {
            yield_now().await;
        }
        assert_eq!((service.running.get(), service.ended.borrow().len()), (0, 2));
    });
}
