//! Bodies: they stream in both directions, arrive as they were sent, and wait for a slow reader without filling memory.

use std::thread;

use test_support::kernel::limit_bytes;
use test_support::{Client, Config, Origin, Wire, pattern, wait_until};

use crate::stage::{Plane, Stage, on_both_planes};

on_both_planes! {
    trailers_pass_both_ways,
    large_bodies_pass_in_flat_memory,
    a_slow_client_stops_the_origin,
    a_slow_origin_stops_the_client,
    both_directions_at_once,
    an_early_answer_is_passed_on,
}

fn trailers_pass_both_ways(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let mut client = stage.client();
    let request = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nTrailer: X-Check\r\n\r\n\
                   5;name=\"v\"\r\nhello\r\n0\r\nX-Check: 42\r\n\r\n";
    client.send(request.as_bytes()).unwrap();
    let answer = client.answer_to("POST");
    assert_eq!(answer.text(), "hello");
    assert_eq!(answer.trailers, [("X-Check".to_owned(), "42".to_owned())], "the origin sent back what it got");
    let answer = client.ask("GET", "/chunked", "TE: trailers\r\nConnection: TE\r\n", b"");
    assert_eq!((answer.text().as_str(), answer.trailers.len()), ("hello, world", 1));
}

fn large_bodies_pass_in_flat_memory(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let bytes = large_bytes();
    // What a connection ever needs is in place after the first exchange.
    download(&stage, "/big", 1 << 20);
    upload(&stage, 1 << 20, false);
    let before = stage.gateway.process.resident_bytes();
    download(&stage, "/big", bytes);
    download(&stage, "/big-chunked", bytes);
    upload(&stage, bytes, false);
    upload(&stage, bytes, true);
    let grown = stage.gateway.process.resident_bytes().saturating_sub(before);
    assert!(grown < FLAT_BYTES_MAX, "{grown} bytes more after {bytes} bytes in each direction");
}

fn a_slow_client_stops_the_origin(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let mut slow = stage.client();
    // A small window, so that little is on its way.
    slow.socket().set_recv_buffer_size(64 * 1024).unwrap();
    let before = stage.gateway.process.resident_bytes();
    slow.send(b"GET /big?bytes=268435456 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let sent = settled(|| origin.body_bytes());
    assert!(sent < in_flight_bytes_max(), "{sent} bytes left the origin though nobody reads them");
    assert!(stage.gateway.process.resident_bytes().saturating_sub(before) < FLAT_BYTES_MAX);
    assert_eq!(stage.client().get("/").text(), "one", "the other clients are served");
    let mut read = 0;
    let answer = slow.answer_with("GET", |piece| {
        assert!(pattern::matches(read, piece), "at {read}");
        read += piece.len() as u64;
    });
    assert_eq!((answer.unwrap().status, read), (200, 268_435_456), "when it reads again, all of it comes");
}

fn a_slow_origin_stops_the_client(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let mut client = stage.client();
    client.send(b"POST /slow-sink HTTP/1.1\r\nHost: a\r\nContent-Length: 134217728\r\n\r\n").unwrap();
    let before = stage.gateway.process.resident_bytes();
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = std::sync::Arc::clone(&sent);
    let sending = thread::spawn(move || {
        send_pattern(&mut client, 134_217_728, |n| {
            counted.store(n, std::sync::atomic::Ordering::SeqCst);
        });
        client
    });
    let stopped = settled(|| sent.load(std::sync::atomic::Ordering::SeqCst));
    assert!(stopped < in_flight_bytes_max(), "{stopped} bytes left the client though the origin reads nothing");
    assert!(stage.gateway.process.resident_bytes().saturating_sub(before) < FLAT_BYTES_MAX);
    origin.release();
    let mut client = sending.join().expect("the body can be sent");
    assert_eq!(client.answer_to("POST").text(), "bytes=134217728 intact=true");
}

fn both_directions_at_once(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| download(&stage, "/big", 4 << 20));
            scope.spawn(|| upload(&stage, 4 << 20, true));
        }
    });
}

fn an_early_answer_is_passed_on(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let mut client = stage.client();
    client.send(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nstart").unwrap();
    assert_eq!(client.answer_to("POST").text(), "early", "before the body was sent");
}

/// Both workers, many connections: nothing is mixed up.
#[test]
fn answers_are_never_mixed_up() {
    let (one, two) = (Origin::start("one"), Origin::start("two"));
    let config = Config::proxy_to(&[one.address(), two.address()]).workers(2);
    let stage = Plane::Kernel.start(config).expect("always there");
    thread::scope(|scope| {
        for n in 0..8 {
            let stage = &stage;
            scope.spawn(move || {
                let mut client = stage.client();
                for m in 0..100 {
                    let body = format!("{n}:{m};").repeat(1 + (n * m) % 200);
                    assert_eq!(client.ask("POST", "/echo", "", body.as_bytes()).text(), body);
                }
            });
        }
    });
}

fn download(stage: &Stage, path: &str, bytes: u64) {
    let mut client = stage.client();
    client.send(format!("GET {path}?bytes={bytes} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
    let mut read = 0;
    let answer = client.answer_with("GET", |piece| {
        assert!(pattern::matches(read, piece), "at {read}");
        read += piece.len() as u64;
    });
    assert_eq!((answer.unwrap().status, read), (200, bytes));
}

fn upload(stage: &Stage, bytes: u64, chunked: bool) {
    let mut client = stage.client();
    if chunked {
        client.send(b"POST /sink HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        send_chunks(&mut client, bytes);
    } else {
        client.send(format!("POST /sink HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n").as_bytes()).unwrap();
        send_pattern(&mut client, bytes, |_| {});
    }
    assert_eq!(client.answer_to("POST").text(), format!("bytes={bytes} intact=true"));
}

fn send_pattern(client: &mut Client, bytes: u64, mut sent: impl FnMut(u64)) {
    for_pieces(bytes, |at, piece| {
        client.send(piece).expect("the body can be sent");
        sent(at + piece.len() as u64);
    });
}

fn send_chunks(wire: &mut Wire, bytes: u64) {
    for_pieces(bytes, |_, piece| {
        let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
        wire.send(&chunk).expect("the body can be sent");
    });
    wire.send(b"0\r\n\r\n").expect("the body can be sent");
}

/// Shows the pattern piece by piece, with the place of each.
fn for_pieces(bytes: u64, mut show: impl FnMut(u64, &[u8])) {
    let mut piece = vec![0; 100_000];
    let mut at = 0;
    while at < bytes {
        let n = usize::try_from(bytes - at).unwrap_or(usize::MAX).min(piece.len());
        pattern::fill(at, &mut piece[..n]);
        show(at, &piece[..n]);
        at += n as u64;
    }
}

/// The value of a counter once it has begun to move and then stood still for a while.
fn settled(read: impl Fn() -> u64) -> u64 {
    let (mut last, mut still) = (0, 0);
    wait_until("the counter stands still", || {
        let now = read();
        still = if now > 0 && now == last { still + 1 } else { 0 };
        last = now;
        still > 100
    });
    last
}

/// How long the long bodies are: `FERROGATE_E2E_BODY_MIB`, for runs that have time for 1 GiB.
fn large_bytes() -> u64 {
    let mib = std::env::var("FERROGATE_E2E_BODY_MIB").ok().and_then(|n| n.parse().ok()).unwrap_or(64);
    mib << 20
}

/// What memory may grow by while a body passes, in bytes: far less than the body.
const FLAT_BYTES_MAX: u64 = 8 << 20;

/// What may be on its way of a body that nobody reads, in bytes: the sockets of two senders and of the gateway, each as large as the
/// kernel lets them grow (since Linux 6.16 a receiver's up to 32 MiB), and the little that the gateway holds itself.
fn in_flight_bytes_max() -> u64 {
    let sockets = limit_bytes("tcp_rmem") + 2 * limit_bytes("tcp_wmem");
    sockets + FLAT_BYTES_MAX
}
