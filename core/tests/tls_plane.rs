//! Sessions whose keys the plane gets, over a plane in memory that seals: the client is a whole session of its own.
//!
//! **Invariant:** the clock is paused, as in `tls.rs`; a record that the plane seals with a wrong key or number fails the client.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ferrogate_core::net::Conn;
use ferrogate_core::tls::MaybeTls;
use test_support::drive::{exchange, read_exact, read_to_end, relay, shutdown, write_all};
use test_support::memory_conn::pair;
use test_support::sealing_conn::SealingConn;
use tls_offload::{
    Alpn, ClientOptions, ClientTls, Identity, Roots, ServerOptions, ServerTls, Suite, Version, Versions, self_signed,
};

type Tls = MaybeTls<SealingConn>;

fn configs(version: Version, export: bool) -> (ServerTls, ClientTls) {
    let (certificate, key) = self_signed(["a.example"]).unwrap();
    let identity = Identity { certificates: certificate.as_str().into(), key: key.as_str().into(), staple: None };
    let options = ServerOptions { export, alpn: Alpn::from_list("h2").unwrap(), ..ServerOptions::new(vec![identity]) };
    let client = ClientOptions {
        roots: Roots::Pem(certificate.as_str().into()),
        versions: Versions::only(version),
        alpn: Alpn::from_list("h2").unwrap(),
        ..ClientOptions::default()
    };
    (ServerTls::new(options).unwrap(), ClientTls::new(client).unwrap())
}

/// A client's and a server's end with the handshake done; the server's plane seals these suites.
async fn connected(version: Version, wire: usize, export: bool, suites: &'static [Suite]) -> (Tls, Tls) {
    let (server, client) = configs(version, export);
    let (near, far) = pair(wire);
    let (near, far) = (SealingConn::new(near, &[]), SealingConn::new(far, suites));
    let session = client.session("a.example").unwrap();
    let (near, far) = tokio::join!(Tls::connect(near, session), Tls::accept(far, &server));
    (near.unwrap(), far.unwrap())
}

async fn plain(wire: usize) -> (Tls, Tls) {
    let (near, far) = pair(wire);
    (MaybeTls::Plain(SealingConn::new(near, &[])), MaybeTls::Plain(SealingConn::new(far, &[])))
}

fn is_planes(conn: &Tls) -> bool {
    matches!(conn, MaybeTls::Tls(tls) if tls.is_sealed_by_plane())
}

fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), future).await }).expect("no deadlock")
}

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| ((i.wrapping_mul(2_654_435_761) >> 7) ^ seed).to_le_bytes()[0]).collect()
}

#[test]
fn the_plane_carries_on_where_the_session_was() {
    for version in [Version::Tls12, Version::Tls13] {
        for (wire, len) in [(1, 3000), (97, 300_000), (1 << 20, 5_000_000)] {
            run(async {
                let (mut near, mut far) = connected(version, wire, true, &Suite::ALL).await;
                let (asked, ask) = tokio::join!(read_exact(&mut far, 5), write_all(&mut near, b"asked"));
                ask.unwrap();
                assert_eq!(asked.unwrap(), b"asked");
                let (up, down) = (pattern(len, 1), pattern(len, 2));
                let (at_near, at_far) = tokio::join!(exchange(&mut near, &up), exchange(&mut far, &down));
                assert!(at_near.unwrap() == down && at_far.unwrap() == up, "{version} over {wire}");
                // Over a narrow wire tickets may be under way for as long as there is something to send.
                assert!(is_planes(&far) || wire < 1000, "{version} over {wire}");
                assert!(!is_planes(&near));
                // What was agreed is known all the same.
                let info = far.info().unwrap();
                assert_eq!((info.version, info.sni), (Some(version), Some("a.example")));
                assert_eq!(info.alpn, Some(&b"h2"[..]));
                assert!(far.peer_certificate().is_none());
            });
        }
    }
}

/// A request that comes with the end of the handshake is opened by the session; what follows, by the plane.
#[test]
fn what_the_session_has_opened_is_read_first() {
    run(async {
        let (server, client) = configs(Version::Tls13, true);
        let (near, far) = pair(1 << 20);
        let (near, far) = (SealingConn::new(near, &[]), SealingConn::new(far, &Suite::ALL));
        let session = client.session("a.example").unwrap();
        let talk = async {
            let mut near = Tls::connect(near, session).await.unwrap();
            write_all(&mut near, b"first.second.thi").await.unwrap();
            near
        };
        let (mut near, far) = tokio::join!(talk, Tls::accept(far, &server));
        let mut far = far.unwrap();
        let look = async |far: &mut Tls, known, used| {
            poll_fn(|cx| far.poll_read_with(cx, known, |b| (used, b.to_vec()))).await.unwrap()
        };
        assert_eq!(look(&mut far, 0, 6).await, b"first.second.thi");
        assert!(is_planes(&far));
        assert_eq!(look(&mut far, 0, 7).await, b"second.thi");
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(far.poll_read_with(cx, 3, |b| (0, b.len())).is_pending(), "three bytes are known");
        write_all(&mut near, b"rd.").await.unwrap();
        assert_eq!(look(&mut far, 3, 6).await, b"third.", "joined with what the plane has opened");
        write_all(&mut near, b"fourth.").await.unwrap();
        assert_eq!(look(&mut far, 0, 7).await, b"fourth.");
    });
}

#[test]
fn a_session_stays_where_nobody_takes_its_keys() {
    let suite = Suite { version: Version::Tls12, ..Suite::ALL[0] };
    let other: &'static [Suite] = Box::leak(Box::new([suite]));
    for (export, suites) in [(false, &Suite::ALL[..]), (true, &[]), (true, other)] {
        run(async {
            let (mut near, mut far) = connected(Version::Tls13, 4096, export, suites).await;
            let (up, down) = (pattern(100_000, 1), pattern(100_000, 2));
            let (at_near, at_far) = tokio::join!(exchange(&mut near, &up), exchange(&mut far, &down));
            assert!(at_near.unwrap() == down && at_far.unwrap() == up);
            assert!(!is_planes(&far));
        });
    }
}

#[test]
fn ends_are_told_and_cuts_are_errors() {
    for version in [Version::Tls12, Version::Tls13] {
        run(async {
            let (mut near, mut far) = handed_down(version).await;
            shutdown(&mut near).await.unwrap();
            assert_eq!(read_to_end(&mut far).await.unwrap(), b"");
            // Its own direction is open still.
            write_all(&mut far, b"late").await.unwrap();
            drop(far);
            assert_eq!(read_to_end(&mut near).await.unwrap(), b"late", "a drop says close_notify");
        });
        run(async {
            let (mut near, mut far) = handed_down(version).await;
            far.abort();
            let error = read_to_end(&mut near).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            let cx = &mut Context::from_waker(Waker::noop());
            let Poll::Ready(Err(error)) = far.poll_read_with(cx, 0, |b| (0, b.len())) else { panic!("aborted") };
            assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        });
    }
}

/// A pair whose server's plane has the keys.
async fn handed_down(version: Version) -> (Tls, Tls) {
    let (mut near, mut far) = connected(version, 1 << 16, true, &Suite::ALL).await;
    write_all(&mut near, b"asked").await.unwrap();
    assert_eq!(read_exact(&mut far, 5).await.unwrap(), b"asked");
    assert!(is_planes(&far));
    (near, far)
}

/// Ends of a relay: plain, sealed here, sealed by the plane.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Plain,
    Ours,
    Planes,
}

/// What is the last is whole when it has left, its end included, however little the peer takes at a time: the connection may be dropped then.
#[test]
fn the_last_that_is_written_has_its_end() {
    for version in [Version::Tls12, Version::Tls13] {
        // For some of them the wire is full when the last byte is on it.
        for len in 5_940..6_000 {
            run(async {
                let (mut near, mut far) = connected(version, 3_000, true, &Suite::ALL).await;
                let (asked, ask) = tokio::join!(read_exact(&mut far, 5), write_all(&mut near, b"asked"));
                ask.unwrap();
                assert_eq!(asked.unwrap(), b"asked");
                let data = pattern(len, 1);
                let last = async {
                    write_all(&mut far, &data[..1]).await.unwrap();
                    assert!(is_planes(&far));
                    let put = |room: &mut [u8]| {
                        room[..len - 1].copy_from_slice(&data[1..]);
                        (len - 1, ())
                    };
                    poll_fn(|cx| far.poll_write_with(cx, len - 1, put)).await.unwrap();
                    poll_fn(|cx| far.poll_flush_last(cx)).await.unwrap();
                    drop(far);
                };
                let ((), got) = tokio::join!(last, read_to_end(&mut near));
                assert!(got.unwrap() == data, "{version} {len}");
            });
        }
    }
}

#[test]
fn every_pair_relays() {
    let ends = [End::Plain, End::Ours, End::Planes];
    for (left, right) in ends.iter().flat_map(|left| ends.map(|right| (*left, right))) {
        for (limit, wire) in [(usize::MAX, 1 << 16), (1000, 4096), (usize::MAX, 300)] {
            run(async {
                let make = async |end: End| match end {
                    End::Plain => plain(wire).await,
                    _ => connected(Version::Tls13, wire, end == End::Planes, &Suite::ALL).await,
                };
                let ((mut sender, mut from), (mut to, mut receiver)) = (make(left).await, swap(make(right).await));
                // The far end gets the keys when it reads first.
                for (conn, peer) in [(&mut from, &mut sender), (&mut to, &mut receiver)] {
                    let (read, written) = tokio::join!(read_exact(conn, 5), write_all(peer, b"hello"));
                    written.unwrap();
                    assert_eq!(read.unwrap(), b"hello");
                }
                if wire >= 4096 {
                    assert_eq!((is_planes(&from), is_planes(&to)), (left == End::Planes, right == End::Planes));
                }
                let data = pattern(200_000, 9);
                let send = async {
                    write_all(&mut sender, &data).await.unwrap();
                    shutdown(&mut sender).await.unwrap();
                };
                let relayed = relay(&mut from, &mut to, limit);
                let ((), moved, got) = tokio::join!(send, relayed, read_to_end(&mut receiver));
                assert_eq!(moved.unwrap(), data.len(), "{left:?} to {right:?}");
                assert!(got.unwrap() == data, "{left:?} to {right:?}");
            });
        }
    }
}

fn swap((near, far): (Tls, Tls)) -> (Tls, Tls) {
    (far, near)
}
