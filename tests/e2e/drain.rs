//! TERM: no new connections, what runs is finished, and an end within the time that was set.

use std::net::TcpStream;
use std::time::Duration;

use test_support::{Config, Origin, wait_until};
use tokio::time::Instant;

use crate::stage::{Plane, on_both_planes};

on_both_planes! {
    requests_in_progress_are_finished,
    bodies_in_progress_are_finished,
    a_stalled_request_does_not_hold_the_end,
}

fn requests_in_progress_are_finished(plane: Plane) {
    let origin = Origin::start("one");
    let Some(mut stage) = plane.front_of(&origin) else { return };
    let (mut busy, mut idle) = (stage.client(), stage.client());
    assert_eq!(idle.get("/").text(), "one");
    busy.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    origin.wait_for_requests(2);
    stage.gateway.process.signal("TERM");
    assert!(idle.is_closed(), "an idle connection is closed at once");
    assert!(busy.is_silent_for(Duration::from_millis(200)), "a busy one is not");
    origin.release();
    let answer = busy.answer_to("GET");
    assert_eq!(answer.text(), "held");
    assert!(answer.head.get("connection").is_some_and(|c| c.eq_ignore_ascii_case("close")), "{:?}", answer.head);
    assert!(busy.is_closed());
    let status = stage.gateway.process.wait();
    assert_eq!(status.code(), Some(0), "{}", stage.gateway.process.output());
}

fn bodies_in_progress_are_finished(plane: Plane) {
    let origin = Origin::start("one");
    let Some(mut stage) = plane.front_of(&origin) else { return };
    let mut download = stage.client();
    download.send(b"GET /hold-body HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(download.answer_head().unwrap().status, 200);
    let mut upload = stage.client();
    upload.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf").unwrap();
    origin.wait_for_requests(2);
    stage.gateway.process.signal("TERM");
    origin.release();
    assert_eq!(download.take(10).unwrap(), b"firstother");
    upload.send(b"rest").unwrap();
    assert_eq!(upload.answer_to("POST").text(), "halfrest");
    assert_eq!(stage.gateway.process.wait().code(), Some(0));
}

fn a_stalled_request_does_not_hold_the_end(plane: Plane) {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()]).limit("graceful_timeout", "500ms");
    let Some(mut stage) = plane.start(config) else { return };
    let mut client = stage.client();
    client.send(b"GET /stall HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    origin.wait_for_requests(1);
    let start = Instant::now();
    stage.gateway.process.signal("TERM");
    let status = stage.gateway.process.wait();
    assert_eq!(status.code(), Some(0), "{}", stage.gateway.process.output());
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(400), "it waited for the request: {took:?}");
    assert!(took < Duration::from_secs(10), "but not for ever: {took:?}");
}

#[test]
fn nobody_new_gets_in() {
    let origin = Origin::start("one");
    let mut stage = Plane::Kernel.front_of(&origin).expect("always there");
    let mut busy = stage.client();
    busy.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    origin.wait_for_requests(1);
    stage.gateway.process.signal("TERM");
    wait_until("the port is closed", || TcpStream::connect(stage.address).is_err());
    let states = stage.gateway.admin("/api/v1/states").text();
    assert!(states.contains("state=8"), "MOSN's GracefulStopping: {states}");
    origin.release();
    assert_eq!(busy.answer_to("GET").text(), "held");
    assert_eq!(stage.gateway.process.wait().code(), Some(0));
}

/// An idle gateway ends at once, by INT as well: it is what Ctrl-C sends.
#[test]
fn an_idle_gateway_ends_at_once() {
    for signal in ["TERM", "INT"] {
        let origin = Origin::start("one");
        let mut stage = Plane::Kernel.front_of(&origin).expect("always there");
        assert_eq!(stage.client().get("/").status, 200);
        stage.gateway.process.signal(signal);
        assert_eq!(stage.gateway.process.wait().code(), Some(0), "{signal}");
    }
}
