//! Limits and timeouts that a user sets, seen from outside.

use std::time::Duration;

use test_support::{Client, Config, Origin, wait_until};

use crate::stage::{Plane, on_both_planes};

on_both_planes! {
    idle_connections_are_closed,
    a_stalled_upload_is_given_up,
    a_connection_serves_so_many_requests,
    a_route_has_its_own_timeout,
}

fn idle_connections_are_closed(plane: Plane) {
    let origin = Origin::start("one");
    let config =
        Config::proxy_to(&[origin.address()]).listener("connection_idle_timeout: 300ms").cluster("idle_timeout: 300ms");
    let Some(stage) = plane.start(config) else { return };
    let mut client = stage.client();
    assert_eq!(client.get("/").text(), "one");
    assert!(client.is_closed(), "the client's after its answer");
    assert!(stage.client().is_closed(), "and one that never asked");
    wait_until("the origin's idle connection is closed", || origin.open_conns() == 0);
}

fn a_stalled_upload_is_given_up(plane: Plane) {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()]).limit("body_idle_timeout", "300ms");
    let Some(stage) = plane.start(config) else { return };
    let mut client = stage.client();
    client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf").unwrap();
    if let Ok(answer) = client.try_answer_to("POST") {
        assert_eq!(answer.status, 408, "{answer:?}");
        assert!(client.is_closed());
    }
    wait_until("the origin is not kept waiting", || origin.open_conns() == 0);
    assert_eq!(stage.client().get("/").text(), "one");
}

fn a_connection_serves_so_many_requests(plane: Plane) {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()]).limit("requests_per_conn_max", "3");
    let Some(stage) = plane.start(config) else { return };
    let mut client = stage.client();
    for n in 1..=3 {
        let answer = client.get("/");
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.head.get("connection").is_some_and(|c| c.eq_ignore_ascii_case("close")),
            n == 3,
            "request {n}"
        );
    }
    assert!(client.is_closed());
    assert_eq!(stage.client().get("/").status, 200);
}

fn a_route_has_its_own_timeout(plane: Plane) {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()]);
    let text = config.text().replace("cluster_name: origins}", "cluster_name: origins, timeout: 200ms}");
    assert!(text.contains("timeout: 200ms"));
    // The text is fixed here, so the plane's own section has to be the kernel's.
    if plane != Plane::Kernel {
        return;
    }
    let Some(stage) = plane.start(config.verbatim(&text)) else { return };
    assert_eq!(stage.client().get("/stall").status, 504);
}

/// More clients than a worker takes: the ones that are in go on, the others wait or are told, and room is made when one leaves.
#[test]
fn connections_have_a_limit() {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()]).limit("downstream_conns_max", "4");
    let stage = Plane::Kernel.start(config).expect("always there");
    let mut inside: Vec<Client> = (0..4).map(|_| stage.client()).collect();
    for client in &mut inside {
        assert_eq!(client.get("/").status, 200);
    }
    let mut outside = stage.client();
    let _ = outside.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(outside.is_silent_for(Duration::from_millis(300)), "it waits to be accepted");
    assert_eq!(origin.received().len(), 4, "and nothing of it was served");
    assert_eq!(inside[0].get("/").status, 200, "those inside go on");
    drop(inside.pop());
    assert_eq!(outside.answer_to("GET").status, 200, "until one leaves");
}

/// A cluster's `max_connections` holds: what is beyond waits or is refused, but never opens one more.
#[test]
fn a_cluster_has_its_connections() {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()])
        .cluster("circuit_breakers: [{max_connections: 2}]")
        .limit("request_timeout", "10s");
    let stage = Plane::Kernel.start(config).expect("always there");
    let mut clients: Vec<Client> = (0..6).map(|_| stage.client()).collect();
    for client in &mut clients {
        client.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    origin.wait_for_requests(2);
    origin.release();
    let statuses: Vec<u16> = clients.iter_mut().map(|c| c.answer_to("GET").status).collect();
    assert!(origin.conns() <= 2, "{} connections", origin.conns());
    assert!(statuses.iter().all(|s| [200, 503].contains(s)), "{statuses:?}");
    assert!(statuses.iter().filter(|s| **s == 200).count() >= 2, "{statuses:?}");
    assert_eq!(stage.client().get("/").status, 200, "and it recovers");
}
