//! MaybeTls over connections in memory that promise no more than the contract.
//!
//! **Invariant:** the clock is paused: a deadlock lets it jump to the time limit, so that a test that hangs fails at once.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ferrogate_core::net::{Conn, ROOM_BYTES_MAX};
use ferrogate_core::tls::{HandshakeError, MaybeTls};
use proptest::prelude::*;
use test_support::drive::{exchange, read_exact, read_some, read_to_end, relay, shutdown, write_all};
use test_support::memory_conn::{MemoryConn, pair};
use tls_offload::{
    ClientOptions, ClientTls, Identity, Pem, Roots, ServerOptions, ServerTls, Session, Step, TlsError, Version,
    Versions, self_signed,
};

type Tls = MaybeTls<MemoryConn>;

fn configs(version: Version) -> (ServerTls, ClientTls) {
    let (certificate, key) = self_signed(["a.example"]).unwrap();
    let identity = Identity { certificates: certificate.as_str().into(), key: key.as_str().into(), staple: None };
    let server = ServerTls::new(ServerOptions::new(vec![identity])).unwrap();
    let options = ClientOptions {
        roots: Roots::Pem(Pem::from(certificate.as_str())),
        versions: Versions::only(version),
        ..ClientOptions::default()
    };
    (server, ClientTls::new(options).unwrap())
}

/// A client's and a server's end with the handshake done, over wires of a size.
async fn connected(version: Version, wire_bytes_max: usize) -> (Tls, Tls) {
    let (server, client) = configs(version);
    let (near, far) = pair(wire_bytes_max);
    let session = client.session("a.example").unwrap();
    let (near, far) = tokio::join!(MaybeTls::connect(near, session), MaybeTls::accept(far, &server));
    (near.unwrap(), far.unwrap())
}

/// Two ends, with TLS or without.
async fn ends(tls: bool, wire_bytes_max: usize) -> (Tls, Tls) {
    if tls {
        connected(Version::Tls13, wire_bytes_max).await
    } else {
        let (near, far) = pair(wire_bytes_max);
        (MaybeTls::Plain(near), MaybeTls::Plain(far))
    }
}

/// A TLS server's end against a bare wire with a client's session: for what a well-behaved client does not do.
async fn half_bare(wire_bytes_max: usize) -> (MemoryConn, Session, Tls) {
    let (server, client) = configs(Version::Tls13);
    let (mut near, far) = pair(wire_bytes_max);
    let mut session = client.session("a.example").unwrap();
    let bare = async {
        let mut known = Vec::new();
        loop {
            let mut out = Vec::new();
            let mut rest = &known[..];
            let step = session.handshake(&mut Context::from_waker(Waker::noop()), &mut rest, &mut out);
            let Poll::Ready(step) = step else { panic!("software never waits") };
            known = rest.to_vec();
            write_all(&mut near, &out).await.unwrap();
            if step.unwrap() == Step::Done {
                break;
            }
            known.extend(read_some(&mut near).await.unwrap());
        }
    };
    let ((), far) = tokio::join!(bare, MaybeTls::accept(far, &server));
    (near, session, far.unwrap())
}

fn seal(session: &mut Session, plain: &[u8]) -> Vec<u8> {
    let mut wire = vec![0; 64 * 1024];
    let mut rest = plain;
    let written = session.seal(&mut rest, &mut wire).unwrap();
    assert!(rest.is_empty());
    wire.truncate(written);
    wire
}

async fn write_unflushed(conn: &mut Tls, bytes: &[u8]) {
    let len = bytes.len();
    let write = |room: &mut [u8]| {
        room[..len].copy_from_slice(bytes);
        (len, ())
    };
    let mut write = Some(write);
    poll_fn(|cx| {
        let mut kept = write.take();
        let poll = conn.poll_write_with(cx, len, |room| kept.take().expect("called once")(room));
        write = kept;
        poll
    })
    .await
    .unwrap();
}

/// Shows what is readable behind `known` bytes and uses `used` of it.
async fn look(conn: &mut Tls, known: usize, used: usize) -> Vec<u8> {
    poll_fn(|cx| conn.poll_read_with(cx, known, |b| (used.min(b.len()), b.to_vec()))).await.unwrap()
}

/// Looks for something to read where there is nothing.
async fn nothing_comes(conn: &mut Tls) {
    let found = poll_fn(|cx| Poll::Ready(conn.poll_read_with(cx, 0, |b| (0, b.len())).is_ready())).await;
    assert!(!found);
}

/// Runs on a paused clock with a time limit that only a deadlock reaches.
fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), future).await }).expect("no deadlock")
}

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| ((i.wrapping_mul(2_654_435_761) >> 7) ^ seed).to_le_bytes()[0]).collect()
}

fn held(conn: &Tls) -> usize {
    match conn {
        MaybeTls::Plain(_) => 0,
        MaybeTls::Tls(t) => t.held_bytes(),
    }
}

#[test]
fn large_transfers_both_ways_over_any_wire() {
    for version in [Version::Tls12, Version::Tls13] {
        for (wire_bytes_max, len) in [(1, 3_000), (97, 300_000), (4096, 2_000_000), (1 << 20, 5_000_000)] {
            run(async {
                let (mut near, mut far) = connected(version, wire_bytes_max).await;
                assert_eq!(near.info().unwrap().version, Some(version));
                assert_eq!(far.info().unwrap().sni, Some("a.example"));
                let (up, down) = (pattern(len, 1), pattern(len, 2));
                let (at_near, at_far) = tokio::join!(exchange(&mut near, &up), exchange(&mut far, &down));
                assert!(at_near.unwrap() == down && at_far.unwrap() == up, "{version} over {wire_bytes_max}");
            });
        }
    }
}

#[test]
fn idle_connections_hold_nothing() {
    for version in [Version::Tls12, Version::Tls13] {
        run(async {
            let (mut near, mut far) = connected(version, 4096).await;
            for _ in 0..2 {
                // Nothing has come: then the server's tickets leave by themselves.
                nothing_comes(&mut far).await;
                assert_eq!((held(&near), held(&far)), (0, 0));
                let data = pattern(100_000, 3);
                let (written, read) = tokio::join!(write_all(&mut near, &data), read_exact(&mut far, data.len()));
                written.unwrap();
                assert!(read.unwrap() == data);
                let (written, read) = tokio::join!(write_all(&mut far, b"answer"), read_exact(&mut near, 6));
                written.unwrap();
                assert_eq!(read.unwrap(), b"answer");
            }
            assert_eq!((held(&near), held(&far)), (0, 0));
        });
    }
}

#[test]
fn tickets_leave_with_the_first_answer() {
    run(async {
        let (mut near, mut session, mut far) = half_bare(1 << 20).await;
        write_all(&mut near, &seal(&mut session, b"request")).await.unwrap();
        assert_eq!(read_exact(&mut far, 7).await.unwrap(), b"request");
        // Its client is watched while the answer is made.
        nothing_comes(&mut far).await;
        assert!(near.poll_read_with(&mut Context::from_waker(Waker::noop()), 0, |b| (0, b.len())).is_pending());
        write_all(&mut far, b"answer").await.unwrap();
        let mut plain = Vec::new();
        let wire = read_some(&mut near).await.unwrap();
        session.open(&mut &wire[..], &mut plain).unwrap();
        assert_eq!(plain, b"answer");
        assert!(wire.len() > 200, "{} bytes: the tickets before it", wire.len());
        assert_eq!(held(&far), 0);
    });
}

#[test]
fn the_end_leaves_with_the_last_that_is_written() {
    run(async {
        let (mut near, mut session, mut far) = half_bare(1 << 20).await;
        write_unflushed(&mut far, b"answer").await;
        poll_fn(|cx| far.poll_flush_last(cx)).await.unwrap();
        let (wire, mut plain) = (read_some(&mut near).await.unwrap(), Vec::new());
        let mut rest = &wire[..];
        while !rest.is_empty() && session.open(&mut rest, &mut plain).unwrap() != Step::Closed {}
        assert_eq!((plain.as_slice(), rest), (&b"answer"[..], &b""[..]), "its close_notify is in the same piece");
        drop(far);
        assert_eq!(read_some(&mut near).await.unwrap(), b"", "and is said once");
    });
}

#[test]
fn no_more_than_one_look_keeps_tickets_back() {
    run(async {
        let (mut near, mut session, mut far) = half_bare(1 << 20).await;
        for part in [b"first", b"other"] {
            write_all(&mut near, &seal(&mut session, part)).await.unwrap();
            assert_eq!(read_exact(&mut far, 5).await.unwrap(), part);
        }
        assert!(read_some(&mut near).await.unwrap().len() > 200, "a long upload does not let them pile up");
    });
}

#[test]
fn what_a_reader_leaves_is_shown_again_with_more_behind() {
    run(async {
        let (mut near, mut far) = connected(Version::Tls13, 4096).await;
        write_all(&mut near, b"first.second.thi").await.unwrap();
        assert_eq!(look(&mut far, 0, 6).await, b"first.second.thi");
        assert_eq!(look(&mut far, 0, 7).await, b"second.thi", "what is left is shown at once");
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(far.poll_read_with(cx, 3, |b| (0, b.len())).is_pending(), "three bytes are known");
        write_all(&mut near, b"rd.").await.unwrap();
        assert_eq!(look(&mut far, 3, 0).await, b"third.");
        shutdown(&mut near).await.unwrap();
        assert_eq!(look(&mut far, 6, 6).await, b"third.", "not more than is known: the end");
        assert_eq!(look(&mut far, 0, 0).await, b"");
        assert_eq!(held(&far), 0);
    });
}

#[test]
fn a_message_larger_than_the_scratch_is_joined() {
    run(async {
        let (mut near, mut far) = connected(Version::Tls13, 10_000).await;
        let message = pattern(200_000, 5);
        let reader = async {
            let mut known = 0;
            while known < message.len() {
                let shown = look(&mut far, known, 0).await;
                assert!(shown.len() > known && message.starts_with(&shown));
                known = shown.len();
            }
            look(&mut far, 0, known).await
        };
        let (written, read) = tokio::join!(write_all(&mut near, &message), reader);
        written.unwrap();
        assert!(read == message);
        assert_eq!(held(&far), 0);
    });
}

#[test]
fn a_slow_reader_stops_the_writer() {
    run(async {
        let (mut near, mut far) = connected(Version::Tls13, 8192).await;
        let cx = &mut Context::from_waker(Waker::noop());
        let mut accepted = 0;
        while let Poll::Ready(written) = near.poll_write_with(cx, 1000, |room| {
            room[..1000].copy_from_slice(&pattern(1000, accepted / 1000));
            (1000, 1000)
        }) {
            accepted += written.unwrap();
            let _ = near.poll_flush(cx).map(|r| r.unwrap());
            assert!(accepted < 200_000, "the writer is not stopped");
        }
        assert!(held(&near) <= 33_000, "{}", held(&near));
        let (flushed, read) = tokio::join!(poll_fn(|cx| near.poll_flush(cx)), read_exact(&mut far, accepted));
        flushed.unwrap();
        let expected: Vec<u8> = (0..accepted / 1000).flat_map(|i| pattern(1000, i)).collect();
        assert!(read.unwrap() == expected);
    });
}

#[test]
fn small_writes_leave_as_one_record() {
    run(async {
        let (mut near, mut session, mut far) = half_bare(1 << 20).await;
        for _ in 0..100 {
            write_unflushed(&mut far, b"0123456789").await;
        }
        poll_fn(|cx| far.poll_flush(cx)).await.unwrap();
        let mut plain = Vec::new();
        let mut wire = read_some(&mut near).await.unwrap();
        let mut sizes = Vec::new();
        while let [kind, _, _, high, low, ..] = wire[..] {
            let len = 5 + usize::from(u16::from_be_bytes([high, low]));
            assert_eq!(kind, 23);
            sizes.push(len);
            session.open(&mut &wire[..len], &mut plain).unwrap();
            wire.drain(..len);
        }
        assert_eq!(plain, b"0123456789".repeat(100));
        // The session tickets come before; the thousand bytes are one record.
        assert_eq!(*sizes.last().unwrap(), 1000 + 5 + 17, "{sizes:?}");
    });
}

#[test]
fn an_end_without_close_notify_is_told_from_a_true_one() {
    run(async {
        // Said on shutdown; the other direction goes on.
        let (mut near, mut far) = connected(Version::Tls13, 4096).await;
        shutdown(&mut near).await.unwrap();
        assert_eq!(read_to_end(&mut far).await.unwrap(), b"");
        write_all(&mut far, b"still here").await.unwrap();
        assert_eq!(read_exact(&mut near, 10).await.unwrap(), b"still here");
        let error = write_all(&mut near, b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        // Said on drop, when nothing is unsent.
        write_all(&mut far, b"bye").await.unwrap();
        drop(far);
        assert_eq!(read_to_end(&mut near).await.unwrap(), b"bye");

        // Not said on drop with plaintext unsent: that would make a part look whole.
        let (mut near, mut far) = connected(Version::Tls13, 4096).await;
        write_all(&mut far, b"flushed").await.unwrap();
        write_unflushed(&mut far, b"not").await;
        drop(far);
        assert_eq!(read_exact(&mut near, 7).await.unwrap(), b"flushed");
        assert_eq!(read_some(&mut near).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(read_some(&mut near).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "it stays so");
    });
}

#[test]
fn a_stream_cut_anywhere_is_unexpected() {
    run(async {
        // Behind a record, and in the header, the middle and the tag of one.
        for cut in [0, 1, 20, 33] {
            let (mut near, mut session, mut far) = half_bare(4096).await;
            let first = seal(&mut session, b"whole");
            let second = seal(&mut session, b"cut off here");
            assert!(cut < second.len());
            write_all(&mut near, &first).await.unwrap();
            write_all(&mut near, &second[..cut]).await.unwrap();
            shutdown(&mut near).await.unwrap();
            assert_eq!(read_some(&mut far).await.unwrap(), b"whole");
            let error = read_some(&mut far).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            assert!(error.to_string().contains("without ending its TLS session"), "{error}");
            // The peer may still read: our direction is not broken by its end.
            write_all(&mut far, b"answer").await.unwrap();
        }
    });
}

#[test]
fn a_changed_record_is_an_error_and_an_alert() {
    run(async {
        let (mut near, mut session, mut far) = half_bare(4096).await;
        let mut wire = seal(&mut session, b"good");
        let start = wire.len();
        wire.extend(seal(&mut session, b"changed"));
        wire[start + 8] ^= 0x40;
        write_all(&mut near, &wire).await.unwrap();
        assert_eq!(read_some(&mut far).await.unwrap(), b"good", "what authenticated is shown first");
        let error = read_some(&mut far).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.get_ref().unwrap().downcast_ref::<TlsError>().is_some());
        let error = write_all(&mut far, b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        // The alert is on the wire behind the tickets.
        drop(far);
        let mut plain = Vec::new();
        let wire = read_to_end(&mut near).await.unwrap();
        let error = session.open(&mut &wire[..], &mut plain).unwrap_err();
        assert!(matches!(error, TlsError::Alert(_)), "{error:?}");
    });
}

#[test]
fn abort_cuts_both_ends() {
    run(async {
        let (mut near, mut far) = connected(Version::Tls13, 4096).await;
        write_all(&mut near, b"unread").await.unwrap();
        near.abort();
        let read = read_some(&mut near).await.err();
        let written = write_all(&mut near, b"x").await.err();
        for error in [read, written, shutdown(&mut near).await.err()] {
            assert_eq!(error.unwrap().kind(), io::ErrorKind::ConnectionAborted);
        }
        assert_eq!(held(&near), 0);
        drop(near);
        assert_eq!(read_some(&mut far).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn handshakes_fail_for_their_reason() {
    run(async {
        let (server, _) = configs(Version::Tls13);
        // Plain HTTP: refused by its first bytes, and told so by an alert.
        let (mut near, far) = pair(4096);
        write_all(&mut near, b"GET / HTTP/1.1\r\n").await.unwrap();
        let error = MaybeTls::accept(far, &server).await.err().unwrap();
        assert!(matches!(error, HandshakeError::Tls(TlsError::NotTls)), "{error:?}");
        assert_eq!(read_to_end(&mut near).await.unwrap()[0], 21);

        // Gone without a word, and gone in the middle of the hello.
        for first in [&b""[..], &[22, 3, 1, 1, 0, 1]] {
            let (mut near, far) = pair(4096);
            write_all(&mut near, first).await.unwrap();
            shutdown(&mut near).await.unwrap();
            let error = MaybeTls::accept(far, &server).await.err().unwrap();
            assert!(matches!(error, HandshakeError::Closed), "{error:?}");
        }

        // A certificate of another's: the client refuses, the server is told.
        let (near, far) = pair(4096);
        let stranger = configs(Version::Tls13).1.session("a.example").unwrap();
        let (near, far) = tokio::join!(Tls::connect(near, stranger), Tls::accept(far, &server));
        assert!(matches!(near, Err(HandshakeError::Tls(TlsError::Certificate(_)))));
        assert!(matches!(far, Err(HandshakeError::Tls(TlsError::Alert(_)))));

        // A peer that says nothing: the caller's time limit drops the handshake, and the wire is closed.
        let (mut near, far) = pair(4096);
        let accept = Tls::accept(far, &server);
        assert!(tokio::time::timeout(Duration::from_secs(1), accept).await.is_err());
        assert_eq!(read_to_end(&mut near).await.unwrap(), b"");
    });
}

#[test]
fn every_pair_relays() {
    for (from_tls, to_tls) in [(false, false), (false, true), (true, false), (true, true)] {
        for (limit, wire_bytes_max) in [(usize::MAX, 50_000), (usize::MAX, 300), (1000, 4096), (1, 4096)] {
            let len = if limit == 1 { 3000 } else { 400_000 };
            run(async {
                let (mut sender, mut from) = ends(from_tls, wire_bytes_max).await;
                let (mut to, mut receiver) = ends(to_tls, wire_bytes_max).await;
                let data = pattern(len, 9);
                let send = async {
                    write_all(&mut sender, &data).await.unwrap();
                    shutdown(&mut sender).await.unwrap();
                };
                let relay = relay(&mut from, &mut to, limit);
                let ((), moved, got) = tokio::join!(send, relay, read_to_end(&mut receiver));
                assert_eq!(moved.unwrap(), len);
                assert!(got.unwrap() == data, "{from_tls} {to_tls} {limit} {wire_bytes_max}");
                assert_eq!((held(&from), held(&to)), (0, 0));
            });
        }
    }
}

#[test]
fn a_relay_reads_nothing_for_a_receiver_that_takes_nothing() {
    for (from_tls, to_tls) in [(false, true), (true, false), (true, true)] {
        run(async {
            let (mut sender, mut from) = ends(from_tls, 4096).await;
            let (mut to, _receiver) = ends(to_tls, 4096).await;
            let cx = &mut Context::from_waker(Waker::noop());
            let mut accepted = 0;
            for _ in 0..1000 {
                let wrote = sender.poll_write_with(cx, 1000, |room| (room.len().min(1000), ()));
                accepted += if wrote.is_ready() { 1000 } else { 0 };
                let _ = sender.poll_flush(cx);
                let _ = from.poll_relay(&mut to, cx, usize::MAX);
                let _ = to.poll_flush(cx);
            }
            // Each stage holds its bounded part: two wires, two planes, two send buffers, one look.
            assert!(accepted < 250_000, "{accepted} bytes went somewhere");
            assert!(held(&from) <= 64 * 1024 && held(&to) <= 33_000, "{} {}", held(&from), held(&to));
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Any sizes of writes, flushes, wires and looks carry the same bytes.
    #[test]
    fn any_rhythm_carries_the_same_bytes(
        tls13 in any::<bool>(),
        wire_bytes_max in 1usize..50_000,
        writes in prop::collection::vec((1usize..=ROOM_BYTES_MAX, any::<bool>()), 1..30),
        takes in prop::collection::vec(1usize..30_000, 1..20),
    ) {
        let data = pattern(writes.iter().map(|w| w.0).sum(), 11);
        let version = if tls13 { Version::Tls13 } else { Version::Tls12 };
        let got = run(async {
            let (mut near, mut far) = connected(version, wire_bytes_max).await;
            let write = async {
                let mut rest = &data[..];
                for &(len, flush) in &writes {
                    write_unflushed(&mut near, &rest[..len]).await;
                    rest = &rest[len..];
                    if flush {
                        poll_fn(|cx| near.poll_flush(cx)).await.unwrap();
                    }
                }
                shutdown(&mut near).await.unwrap();
            };
            let read = async {
                let mut got = Vec::new();
                let mut takes = takes.iter().cycle();
                loop {
                    let take = *takes.next().unwrap();
                    let shown = look(&mut far, 0, take).await;
                    if shown.is_empty() {
                        break got;
                    }
                    got.extend_from_slice(&shown[..take.min(shown.len())]);
                }
            };
            tokio::join!(write, read).1
        });
        prop_assert!(got == data);
    }
}
