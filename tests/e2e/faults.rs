//! Origins that fail: the client gets a clean status, or a closed connection once the head was sent, and never someone else's bytes.

use std::io::ErrorKind;
use std::process::Command;
use std::time::Duration;

use test_support::origin::raw_target;
use test_support::ports::free_address;
use test_support::{Client, Config, Gateway, Origin, wait_until};

use crate::stage::{Plane, binary, on_both_planes};

on_both_planes! {
    an_origin_that_is_not_there,
    an_origin_that_ends_without_an_answer,
    an_origin_that_stalls,
    an_origin_that_breaks_off_within_the_body,
    a_stale_connection_is_not_the_clients_problem,
    a_client_that_leaves_is_told_to_the_origin,
    a_client_that_half_closes_is_answered,
}

fn an_origin_that_is_not_there(plane: Plane) {
    let Some(stage) = plane.start(Config::proxy_to(&[free_address().to_string()])) else { return };
    let mut client = stage.client();
    for _ in 0..3 {
        let answer = client.get("/");
        assert!(matches!(answer.status, 502 | 503), "{answer:?}");
    }
    assert_eq!(client.ask("POST", "/", "", &[b'x'; 50_000]).status / 100, 5, "also with a body");
}

fn an_origin_that_ends_without_an_answer(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let mut client = stage.client();
    for target in ["/close", "/reset", &raw_target(b"HTTP/1.1 200 OK\r\nConte", "close")] {
        // A request that must not be repeated, so that the failure is visible.
        let answer = client.ask("POST", target, "", b"x");
        assert_eq!(answer.status, 502, "{target}");
        assert_eq!(client.get("/").text(), "one", "after {target}");
    }
}

fn an_origin_that_stalls(plane: Plane) {
    let origin = Origin::start("one");
    let config =
        Config::proxy_to(&[origin.address()]).limit("request_timeout", "300ms").limit("body_idle_timeout", "300ms");
    let Some(stage) = plane.start(config) else { return };
    let mut client = stage.client();
    assert_eq!(client.get("/stall").status, 504);
    assert_eq!(client.get("/").text(), "one", "the client's connection is of use still");
    // Half an answer and then nothing: the client must not wait for ever, nor take the half for the whole.
    let half = raw_target(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "stall");
    client.send(format!("GET {half} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
    let error = client.try_answer_to("GET").expect_err("half an answer");
    assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{error}");
    wait_until("the stalled connections are closed", || origin.open_conns() <= 1);
}

fn an_origin_that_breaks_off_within_the_body(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let answers: [&[u8]; 3] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ];
    for answer in answers {
        for then in ["close", "reset"] {
            let mut client = stage.client();
            let target = raw_target(answer, then);
            client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
            match client.try_answer_to("GET") {
                Err(e) => assert!(matches!(e.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{e}"),
                // The failure may be known before the head was sent.
                Ok(whole) => assert_eq!(whole.status, 502, "{whole:?}"),
            }
        }
    }
    assert_eq!(stage.client().get("/").text(), "one");
}

fn a_stale_connection_is_not_the_clients_problem(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let mut client = stage.client();
    for _ in 0..10 {
        assert_eq!(client.get("/").status, 200);
        // The origin closes its idle connections, as all do some day; the next request must not fail for that.
        origin.close_conns();
        assert_eq!(client.get("/").status, 200);
    }
}

fn a_client_that_leaves_is_told_to_the_origin(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let mut client = stage.client();
    client.send(b"GET /stall HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    origin.wait_for_requests(1);
    test_support::Wire::from(client).reset();
    wait_until("the origin's connection is closed", || origin.open_conns() == 0);
    let mut client = stage.client();
    client.send(b"GET /big?bytes=1000000000 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    client.answer_head().unwrap();
    drop(client);
    wait_until("the download is given up", || origin.open_conns() == 0);
}

/// A client may end its own direction once its request is sent (RFC 9112, 9.6): the answer is still for it.
fn a_client_that_half_closes_is_answered(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let mut client = stage.client();
    client.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    client.half_close();
    origin.wait_for_requests(1);
    assert!(client.is_silent_for(Duration::from_millis(200)));
    origin.release();
    assert_eq!(client.answer_to("GET").text(), "held");
    assert!(client.is_closed());
}

/// Out of descriptors: accepting pauses and goes on by itself, and nothing leaks.
#[test]
fn running_out_of_descriptors_passes() {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()]);
    let mut command = Command::new("prlimit");
    command.args(["--nofile=64:64", binary()]);
    let gateway = Gateway::launch(&mut command, &config).unwrap_or_else(|e| panic!("{}", e.output));
    assert_eq!(gateway.client().get("/").text(), "one");
    let idle_files = gateway.process.open_files();
    for _ in 0..2 {
        let crowd: Vec<Client> = (0..200).map(|_| gateway.client()).collect();
        wait_until("the descriptors are used up", || gateway.process.open_files() >= 60);
        drop(crowd);
        // Everybody has left: it has to recover without help.
        assert_eq!(gateway.client().get("/").status, 200);
        wait_until("the descriptors are given back", || gateway.process.open_files() <= idle_files + 2);
    }
    gateway.stop();
}

/// A cluster without a host that can be reached fails its own requests only.
#[test]
fn one_bad_host_does_not_take_the_good_one_along() {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address(), free_address().to_string()]);
    let stage = Plane::Kernel.start(config).expect("always there");
    let statuses: Vec<u16> = (0..10).map(|_| stage.client().get("/").status).collect();
    assert!(statuses.iter().filter(|s| **s == 200).count() >= 5, "{statuses:?}");
    assert!(statuses.iter().all(|s| [200, 502, 503].contains(s)), "{statuses:?}");
}
