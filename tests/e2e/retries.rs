//! Requests that are tried again, and those that are not.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use test_support::ports::free_address;
use test_support::wire::Length;
use test_support::{Config, Origin, Wire, wait_until};

use crate::stage::{Plane, on_both_planes};

on_both_planes! {
    an_answer_with_a_bad_status_is_tried_elsewhere,
    a_body_is_sent_again_from_what_was_kept,
    a_try_that_takes_too_long_is_given_up,
}

/// An origin that reads each request and then does the same with all.
struct Failing {
    address: String,
    requests: Arc<AtomicUsize>,
}

#[derive(Clone, Copy)]
enum Failure {
    /// Answers 503 after this time.
    Status(Duration),
    /// Answers nothing.
    Stall,
    /// Closes the connection.
    Close,
}

impl Failing {
    fn start(failure: Failure) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, requests) = (listener.local_addr().unwrap().to_string(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let requests = Arc::clone(&counted);
                thread::spawn(move || serve(Wire::tcp(stream), failure, &requests));
            }
        });
        Self { address, requests }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

fn serve(mut wire: Wire, failure: Failure, requests: &AtomicUsize) {
    while let Ok(Some(head)) = wire.head() {
        if wire.body(head.length().unwrap_or(Length::Exact(0)), |_| {}).is_err() {
            return;
        }
        requests.fetch_add(1, Ordering::Relaxed);
        match failure {
            Failure::Status(after) => {
                thread::sleep(after);
                if wire.send(b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno").is_err() {
                    return;
                }
            }
            Failure::Stall => drop(wire.rest()),
            Failure::Close => return,
        }
    }
}

/// In front of these hosts, with this retry policy.
fn config(hosts: &[String], policy: &str) -> Config {
    let route =
        format!("{{match: {{prefix: /}}, route: {{cluster_name: origins, timeout: 20s, retry_policy: {{{policy}}}}}}}");
    Config::proxy_to(hosts).route(&route)
}

fn an_answer_with_a_bad_status_is_tried_elsewhere(plane: Plane) {
    let (origin, failing) = (Origin::start("one"), Failing::start(Failure::Status(Duration::ZERO)));
    let hosts = [failing.address.clone(), origin.address()];
    let Some(stage) = plane.start(config(&hosts, "retry_on: true, num_retries: 1")) else { return };
    let mut client = stage.client();
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "one");
        assert_eq!(client.ask("PUT", "/echo", "", b"body").text(), "body");
    }
    assert!(failing.requests() >= 5, "its turn came");
    // A request that is not to be repeated takes what it gets.
    let posts: Vec<u16> = (0..6).map(|_| client.ask("POST", "/echo", "", b"x").status).collect();
    assert!(posts.contains(&503) && posts.contains(&200), "{posts:?}");
    let retries = stage.gateway.metric("upstream_request_retry_total", "cluster=\"origins\"");
    assert!(retries >= 5.0, "{retries}");
}

fn a_body_is_sent_again_from_what_was_kept(plane: Plane) {
    let (origin, failing) = (Origin::start("one"), Failing::start(Failure::Close));
    let hosts = [failing.address.clone(), origin.address()];
    let Some(stage) = plane.start(config(&hosts, "retry_on: true")) else { return };
    let mut client = stage.client();
    let body: Vec<u8> = (0..50_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    for _ in 0..4 {
        let answer = client.ask("PUT", "/echo", "", &body);
        assert_eq!((answer.status, answer.body == body), (200, true));
    }
    let chunked = "PUT /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n3\r\nefg\r\n0\r\nX-End: 1\r\n\r\n";
    for _ in 0..4 {
        client.send(chunked.as_bytes()).unwrap();
        assert_eq!(client.answer_to("PUT").text(), "abcdefg");
    }
    assert!(failing.requests() >= 3, "its turn came");
    // One that is longer than what is kept is sent once.
    let long = vec![b'x'; 100_000];
    let all: Vec<u16> = (0..6).map(|_| stage.client().ask("PUT", "/echo", "", &long).status).collect();
    assert!(all.contains(&502) && all.contains(&200), "{all:?}");
}

fn a_try_that_takes_too_long_is_given_up(plane: Plane) {
    let (origin, stalling) = (Origin::start("one"), Failing::start(Failure::Stall));
    let hosts = [stalling.address.clone(), origin.address()];
    let policy = "retry_on: true, retry_timeout: 200ms, num_retries: 1";
    let Some(stage) = plane.start(config(&hosts, policy)) else { return };
    let mut client = stage.client();
    let begun = Instant::now();
    for _ in 0..4 {
        assert_eq!(client.get("/").text(), "one");
    }
    assert!(stalling.requests() >= 1 && begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    // A client may ask for less time, for one try or for all.
    let begun = Instant::now();
    let slow = client.ask("POST", "/stall", "X-Mosn-Global-Timeout: 100\r\n", b"");
    assert!(slow.status == 504 && begun.elapsed() < Duration::from_secs(5), "{slow:?} {:?}", begun.elapsed());
}

/// A host that refuses is not the request's problem, whatever its method and whatever the policy.
#[test]
fn a_connection_that_is_refused_is_tried_elsewhere() {
    let origin = Origin::start("one");
    let hosts = [free_address().to_string(), free_address().to_string(), origin.address()];
    let stage = Plane::Kernel.start(Config::proxy_to(&hosts)).expect("always there");
    let mut client = stage.client();
    let body = vec![b'x'; 100_000];
    for _ in 0..9 {
        let answer = client.ask("POST", "/echo", "", &body);
        assert_eq!((answer.status, answer.body.len()), (200, body.len()));
    }
}

/// An origin that fails every request does not get many more of them for it.
#[test]
fn a_retry_storm_stays_within_its_budget() {
    const CLIENTS: usize = 50;
    const EACH: usize = 20;
    let failing = Failing::start(Failure::Status(Duration::from_millis(20)));
    let policy = "retry_on: true, num_retries: 3, retry_back_off: {base_interval: 1ms}";
    let stage =
        Plane::Kernel.start(config(std::slice::from_ref(&failing.address), policy).workers(2)).expect("always there");
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = stage.client();
                for _ in 0..EACH {
                    assert_eq!(client.get("/").status, 503);
                }
            });
        }
    });
    let (requests, tries) = (CLIENTS * EACH, failing.requests());
    assert!(tries > requests, "some were tried again: {tries}");
    // At most a fifth of the active requests are retries at any time; without a budget it would be four tries each.
    assert!(tries * 100 <= requests * 130, "{tries} tries of {requests} requests");
    let over = || stage.gateway.metric("ferrogate_upstream_retry_budget_exceeded_total", "cluster=\"origins\"");
    wait_until("the metric says so", || over() > 0.0);
}
