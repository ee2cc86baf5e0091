//! Upgraded connections: bytes both ways, and not one of them before the 101.

use std::thread;
use std::time::Duration;

use test_support::{Client, Config, Origin, pattern, wait_until};

use crate::stage::{Plane, on_both_planes};

on_both_planes! {
    an_upgrade_becomes_a_tunnel,
    nothing_is_tunnelled_before_the_101,
    a_refused_upgrade_stays_http,
    much_goes_through_a_tunnel,
    a_full_direction_does_not_starve_the_other,
    an_idle_tunnel_is_closed,
    other_upgrades_are_not_offered,
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn open(client: &mut Client, target: &str) -> u16 {
    let answer = client.ask("GET", target, UPGRADE, b"");
    if answer.status == 101 {
        assert!(answer.head.get("upgrade").is_some_and(|u| u.eq_ignore_ascii_case("websocket")), "{answer:?}");
        assert!(answer.head.get("connection").is_some_and(|c| c.eq_ignore_ascii_case("upgrade")), "{answer:?}");
    }
    answer.status
}

fn an_upgrade_becomes_a_tunnel(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let mut client = stage.client();
    assert_eq!(open(&mut client, "/upgrade"), 101);
    let seen = origin.only_request();
    assert_eq!(seen.get("upgrade"), Some("websocket"));
    assert_eq!(seen.get("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    // A masked text frame "Hello" (RFC 6455, 5.7), and things that are none.
    for bytes in [&b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"[..], b"GET / HTTP/1.1\r\n\r\n", b"\0"] {
        client.send(bytes).unwrap();
        assert_eq!(client.take(bytes.len()).unwrap(), bytes);
    }
    client.half_close();
    assert!(client.is_closed());
    wait_until("the origin's end closes", || origin.open_conns() == 0);
    assert_eq!(stage.client().get("/").text(), "one");
    assert_eq!(origin.conns(), 2, "a tunnel's connection is not used again");
}

/// A client that sends ahead: if the origin says no, the bytes were a request after all, or nothing; they must not reach it as a tunnel.
fn nothing_is_tunnelled_before_the_101(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let mut client = stage.client();
    let ahead = "GET /smuggled HTTP/1.1\r\nHost: b\r\n\r\n";
    client.send(format!("GET /hold HTTP/1.1\r\nHost: a\r\n{UPGRADE}\r\n{ahead}").as_bytes()).unwrap();
    origin.wait_for_requests(1);
    assert!(client.is_silent_for(Duration::from_millis(200)));
    assert_eq!(origin.received().len(), 1, "nothing behind the upgrade was sent on");
    origin.release();
    assert_eq!(client.answer_to("GET").text(), "held");
    // The rest is a request of its own, with fields of its own, or the connection is closed.
    if client.try_answer_to("GET").is_ok() {
        let second = &origin.received()[1].head;
        assert_eq!((second.second(), second.get("host")), ("/smuggled", Some("b")));
        assert!(!second.has("upgrade"));
    }
    // And after a 101 what was sent ahead is the tunnel's first bytes.
    let mut client = stage.client();
    client.send(format!("GET /upgrade HTTP/1.1\r\nHost: a\r\n{UPGRADE}\r\nahead").as_bytes()).unwrap();
    assert_eq!(client.answer_to("GET").status, 101);
    assert_eq!(client.take(5).unwrap(), b"ahead");
}

fn a_refused_upgrade_stays_http(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let mut client = stage.client();
    assert_eq!(open(&mut client, "/refuse-upgrade"), 200);
    assert_eq!(client.get("/").text(), "one", "and the connection goes on as HTTP");
}

fn much_goes_through_a_tunnel(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let mut client = stage.client();
    assert_eq!(open(&mut client, "/upgrade"), 101);
    // Sent as a whole before anything is read back: the tunnel must not stop in one direction because the other is full.
    let total = 1 << 20;
    let stream = client.socket().try_clone().expect("a live socket");
    let sending = thread::spawn(move || {
        let mut stream = std::net::TcpStream::from(stream);
        std::io::Write::write_all(&mut stream, &pattern::bytes(total)).expect("the tunnel takes it");
    });
    let echoed = client.take(total).expect("all of it comes back");
    assert!(pattern::matches(0, &echoed));
    sending.join().expect("sent");
}

fn a_full_direction_does_not_starve_the_other(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let mut client = stage.client();
    assert_eq!(open(&mut client, "/upgrade-flood"), 101);
    let mut flooded = client.try_clone().expect("a live socket");
    let reading = thread::spawn(move || while flooded.take_some().is_ok_and(|bytes| !bytes.is_empty()) {});
    for n in 1..=50 {
        client.send(b".").unwrap();
        wait_until("a byte gets through against the flood", || origin.body_bytes() == n);
    }
    client.half_close();
    reading.join().expect("the flood ends with the tunnel");
}

fn an_idle_tunnel_is_closed(plane: Plane) {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()]).limit("tunnel_idle_timeout", "300ms");
    let Some(stage) = plane.start(config) else { return };
    let mut client = stage.client();
    assert_eq!(open(&mut client, "/upgrade"), 101);
    client.send(b"x").unwrap();
    assert_eq!(client.take(1).unwrap(), b"x");
    assert!(client.is_closed());
    wait_until("the origin's end closes", || origin.open_conns() == 0);
}

/// Only a WebSocket is passed on: an h2c that came through would be a tunnel around every filter.
fn other_upgrades_are_not_offered(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let fields = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    assert_eq!(stage.client().ask("GET", "/", fields, b"").status, 200);
    let seen = origin.only_request();
    assert!(!seen.has("upgrade") && !seen.has("http2-settings"), "{seen:?}");
}
