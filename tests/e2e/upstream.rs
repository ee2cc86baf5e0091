//! Clusters from outside: who is asked, who is left out, and what bounds hold over all workers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use test_support::{Client, Config, Origin, wait_until};

use crate::stage::{Plane, Stage, on_both_planes};

on_both_planes! {
    a_host_that_fails_its_probes_is_left_out_and_comes_back,
    a_target_that_hangs_costs_nothing_else,
    a_host_that_fails_requests_is_left_out,
    a_host_may_have_a_name,
    connections_are_retired,
    requests_wait_for_a_connection,
    requests_in_progress_are_bounded,
    as_many_connections_stay_as_were_needed_at_once,
}

/// An origin that answers everything with the status that a test sets.
struct Moody {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    asked: Arc<AtomicUsize>,
}

impl Moody {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (status, asked) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicUsize::new(0)));
        let (s, a) = (Arc::clone(&status), Arc::clone(&asked));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (s, a) = (Arc::clone(&s), Arc::clone(&a));
                thread::spawn(move || {
                    let (mut stream, mut bytes) = (stream, [0; 4096]);
                    while stream.read(&mut bytes).is_ok_and(|n| n > 0) {
                        a.fetch_add(1, Ordering::Relaxed);
                        let answer =
                            format!("HTTP/1.1 {} X\r\nContent-Length: 5\r\n\r\nmoody", s.load(Ordering::Relaxed));
                        if stream.write_all(answer.as_bytes()).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Self { address, status, asked }
    }
}

const OF_CLUSTER: &str = "cluster=\"origins\"";

fn healthy(stage: &Stage) -> String {
    stage.gateway.metric("ferrogate_upstream_membership_healthy", OF_CLUSTER).to_string()
}

fn a_host_that_fails_its_probes_is_left_out_and_comes_back(plane: Plane) {
    let (good, moody) = (Origin::start("good"), Moody::start());
    let config = Config::proxy_to(&[good.address(), moody.address.to_string()]).workers(2).cluster(
        "health_check: {protocol: Http1, interval: 50ms, timeout: 5s, initial_delay_seconds: 1ms, unhealthy_threshold: 2, \
         healthy_threshold: 2, check_config: {http_check_config: {path: /healthz, codes: [{Start: 200, End: 299}]}}}",
    );
    let Some(stage) = plane.start(config) else { return };
    wait_until("both are probed", || moody.asked.load(Ordering::Relaxed) > 0);
    assert_eq!(healthy(&stage), "2");
    moody.status.store(503, Ordering::Relaxed);
    wait_until("it is left out", || healthy(&stage) == "1");
    for _ in 0..20 {
        // On connections of their own: on both workers.
        assert_eq!(stage.client().get("/").text(), "good");
    }
    moody.status.store(201, Ordering::Relaxed);
    wait_until("it is back", || healthy(&stage) == "2");
    moody.status.store(200, Ordering::Relaxed);
    wait_until("it is asked again", || stage.client().get("/").text() == "moody");
    assert!(stage.gateway.metric("healthcheck_failure_total", OF_CLUSTER) >= 2.0);
    assert!(good.received().iter().any(|r| r.head.start == "GET /healthz HTTP/1.1"));
}

fn a_target_that_hangs_costs_nothing_else(plane: Plane) {
    // It takes connections, by the kernel's hand, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let good = Origin::start("good");
    let config = Config::proxy_to(&[good.address(), silent.local_addr().unwrap().to_string()]).cluster(
        "health_check: {protocol: Http1, interval: 50ms, timeout: 300ms, initial_delay_seconds: 1ms, initial_state: unhealthy}",
    );
    let Some(stage) = plane.start(config) else { return };
    wait_until("the good one is found", || healthy(&stage) == "1");
    let start = Instant::now();
    for _ in 0..100 {
        assert_eq!(stage.client().get("/").text(), "good");
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    wait_until("probes of the silent one run out", || {
        stage.gateway.metric("healthcheck_active_failure_total", OF_CLUSTER) >= 2.0
    });
    assert_eq!(healthy(&stage), "1");
}

fn a_host_that_fails_requests_is_left_out(plane: Plane) {
    let (good, moody) = (Origin::start("good"), Moody::start());
    moody.status.store(500, Ordering::Relaxed);
    let config = Config::proxy_to(&[good.address(), moody.address.to_string()])
        .cluster("outlier_detection: {consecutive_5xx: 3, base_ejection_time: 1s, max_ejection_percent: 50}");
    let Some(stage) = plane.start(config) else { return };
    let mut client = stage.client();
    wait_until("it is left out", || {
        client.get("/");
        healthy(&stage) == "1"
    });
    assert_eq!(moody.asked.load(Ordering::Relaxed), 3);
    assert!((0..10).all(|_| client.get("/").text() == "good"));
    moody.status.store(200, Ordering::Relaxed);
    wait_until("it is tried again", || client.get("/").text() == "moody");
    assert!(stage.gateway.metric("ferrogate_upstream_outlier_ejected_total", OF_CLUSTER) >= 1.0);
}

fn a_host_may_have_a_name(plane: Plane) {
    let origin = Origin::start("one");
    let port = origin.address().rsplit_once(':').unwrap().1.to_owned();
    let config = Config::proxy_to(&[format!("localhost:{port}")]).cluster("dns_lookup_family: V4_ONLY");
    let Some(stage) = plane.start(config) else { return };
    assert_eq!(stage.client().get("/").text(), "one", "the first request already");
    assert!(stage.gateway.metric("ferrogate_upstream_dns_update", OF_CLUSTER) >= 1.0);
}

fn connections_are_retired(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.start(Config::proxy_to(&[origin.address()]).cluster("max_request_per_conn: 3")) else {
        return;
    };
    let mut client = stage.client();
    for _ in 0..9 {
        assert_eq!(client.get("/").text(), "one");
    }
    assert_eq!(origin.conns(), 3);
    drop(stage);
    let Some(stage) = plane.start(Config::proxy_to(&[origin.address()]).cluster("max_connection_duration: 1ms")) else {
        return;
    };
    let mut client = stage.client();
    for _ in 0..3 {
        thread::sleep(Duration::from_millis(5));
        assert_eq!(client.get("/").text(), "one");
    }
    assert!(origin.conns() >= 5, "{}", origin.conns());
}

fn requests_wait_for_a_connection(plane: Plane) {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()])
        .workers(2)
        .cluster("circuit_breakers: [{max_connections: 2, max_pending_requests: 20}]");
    let Some(stage) = plane.start(config) else { return };
    let clients: Vec<Client> = (0..12).map(|_| stage.client()).collect();
    let threads: Vec<_> = clients
        .into_iter()
        .map(|mut client| thread::spawn(move || (0..30).filter(|_| client.get("/").status == 200).count()))
        .collect();
    let good: usize = threads.into_iter().map(|t| t.join().unwrap()).sum();
    assert_eq!(good, 12 * 30, "none was refused");
    assert!(origin.open_conns() <= 2, "{}", origin.open_conns());
}

fn requests_in_progress_are_bounded(plane: Plane) {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()]).workers(2).cluster("circuit_breakers: [{max_requests: 3}]");
    let Some(stage) = plane.start(config) else { return };
    let mut held: Vec<Client> = (0..3).map(|_| stage.client()).collect();
    for client in &mut held {
        client.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    origin.wait_for_requests(3);
    for _ in 0..5 {
        assert_eq!(stage.client().get("/").status, 503);
    }
    assert!(stage.gateway.metric("ferrogate_upstream_request_overflow_total", OF_CLUSTER) >= 5.0);
    origin.release();
    for client in &mut held {
        assert_eq!(client.answer_to("GET").text(), "held");
    }
    assert_eq!(stage.client().get("/").text(), "one");
}

fn as_many_connections_stay_as_were_needed_at_once(plane: Plane) {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()]).workers(1).limit("idle_conns_per_host_max", "2");
    let Some(stage) = plane.start(config) else { return };
    let mut clients: Vec<Client> = (0..24).map(|_| stage.client()).collect();
    for client in &mut clients {
        client.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    origin.wait_for_requests(24);
    origin.release();
    for client in &mut clients {
        assert_eq!(client.answer_to("GET").text(), "held");
    }
    // By the gateway's count, which is there before the answer is.
    let open = stage.gateway.metric("upstream_connection_active", OF_CLUSTER);
    assert!(open > 12.0, "{open}");
    assert_eq!(origin.conns(), 24);
    // Nobody needs them any more.
    wait_until("the limit holds", || origin.open_conns() <= 2);
    assert_eq!(clients[0].get("/").text(), "one");
    assert_eq!(origin.conns(), 24);
}

/// Eight workers: what one of them has opened, requests of the others don't open again and again.
#[test]
fn eight_workers_reuse_their_connections() {
    for (cluster, bound) in [
        ("max_request_per_conn: 0", None),
        ("circuit_breakers: [{max_connections: 4, max_pending_requests: 100}]", Some(4)),
    ] {
        let origin = Origin::start("one");
        let config = Config::proxy_to(&[origin.address()]).workers(8).cluster(cluster);
        let Some(stage) = Plane::Kernel.start(config) else { return };
        let address = stage.address;
        let threads: Vec<_> = (0..8)
            .map(|_| {
                thread::spawn(move || {
                    for _ in 0..125 {
                        // A few requests a connection: the next one may come to another worker.
                        let mut client = Client::connect(address);
                        for _ in 0..8 {
                            assert_eq!(client.get("/").status, 200);
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|t| t.join().unwrap());
        let (requests, opened) = (8 * 125 * 8, origin.conns());
        println!(
            "{cluster}: {requests} requests on {opened} connections: {:.2} % reused",
            100.0 - opened as f64 * 100.0 / f64::from(requests)
        );
        assert!(opened * 100 <= 8000, "{opened} connections");
        if let Some(bound) = bound {
            assert!(origin.open_conns() <= bound);
        }
    }
}
