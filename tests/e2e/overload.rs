//! More than a worker can do, and clients that take their time: who is served goes on, the others are told or cut.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use test_support::{Client, Config, Origin, wait_until};

use crate::stage::{Plane, Stage, on_both_planes};

on_both_planes! {
    requests_beyond_the_limit_are_told_to_come_back,
    a_body_that_trickles_is_given_up,
    memory_has_a_budget,
}

fn requests_beyond_the_limit_are_told_to_come_back(plane: Plane) {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()]).workers(1).limit("requests_active_max", "2");
    let Some(stage) = plane.start(config) else { return };
    let mut held: Vec<Client> = (0..2).map(|_| stage.client()).collect();
    for client in &mut held {
        client.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    origin.wait_for_requests(2);
    let mut third = stage.client();
    let answer = third.get("/");
    assert_eq!((answer.status, answer.head.get("retry-after")), (503, Some("1")), "{answer:?}");
    assert_eq!(third.ask("POST", "/echo", "", b"x").status, 503, "its connection lives on");
    assert_eq!(origin.received().len(), 2, "the origin hears nothing of it");
    origin.release();
    for client in &mut held {
        assert_eq!(client.answer_to("GET").status, 200, "what runs is not hurt");
    }
    wait_until("there is room again", || third.get("/").status == 200);
    assert!(stage.gateway.metric("ferrogate_request_shed_active_total", "") >= 2.0);
}

/// Connections that do nothing but fill the budget: requests are told to come back, until some have gone.
fn memory_has_a_budget(plane: Plane) {
    let origin = Origin::start("one");
    // On DPDK the rings of the two connections in use take half of it.
    let budget = if plane == Plane::Kernel { "256KiB" } else { "512KiB" };
    let config = Config::proxy_to(&[origin.address()]).workers(1).limit("memory_bytes_max", budget);
    let Some(stage) = plane.start(config) else { return };
    let mut client = stage.client();
    assert_eq!(client.get("/").status, 200);
    let mut idle: Vec<Client> = Vec::new();
    let shed = loop {
        idle.push(stage.client());
        let answer = client.get("/");
        if answer.status != 200 || idle.len() > 400 {
            break answer;
        }
    };
    assert_eq!((shed.status, shed.head.get("retry-after")), (503, Some("1")), "{} connections", idle.len());
    drop(idle);
    wait_until("the memory is back", || client.get("/").status == 200);
    assert!(stage.gateway.metric("ferrogate_request_shed_memory_total", "") >= 1.0);
}

/// It keeps sending, so that it never pauses for long, but it would take days.
fn a_body_that_trickles_is_given_up(plane: Plane) {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()])
        .limit("body_bytes_per_second_min", "1000")
        .limit("body_rate_window", "1s");
    let Some(stage) = plane.start(config) else { return };
    for framing in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
        let mut client = stage.client();
        client.send(format!("POST /echo HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n").as_bytes()).unwrap();
        let piece: &[u8] = if framing.contains("chunked") { b"1\r\nx\r\n" } else { b"x" };
        let start = Instant::now();
        while client.send(piece).is_ok() && client.is_silent_for(Duration::from_millis(30)) {
            assert!(start.elapsed() < Duration::from_secs(30), "{framing}: it goes on for ever");
        }
        wait_until("the origin is not kept waiting", || origin.open_conns() == 0);
    }
    assert!(stage.gateway.metric("ferrogate_body_too_slow_total", "") >= 2.0);
    let body = vec![b'x'; 300_000];
    assert_eq!(stage.client().ask("POST", "/echo", "", &body).status, 200, "an honest upload passes");
}

/// A thousand clients that send a byte a second, half of them heads and half of them bodies, beside others: these notice nothing, those are
/// cut. Times are printed, not judged.
#[test]
fn slow_clients_hurt_nobody_else() {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()])
        .limit("head_timeout", "3s")
        .limit("body_bytes_per_second_min", "100")
        .limit("body_rate_window", "3s");
    let stage = Plane::Kernel.start(config.clone()).expect("always there");
    let before = p99(&stage, || false);
    let mut slow: Vec<TcpStream> = (0..slow_clients_max()).map(|i| slow_client(config.listen, i)).collect();
    let (opened, start, mut sent) = (slow.len(), Instant::now(), 0);
    let beside = p99(&stage, || {
        // A byte a second each, one after the other.
        let due = usize::try_from(start.elapsed().as_millis()).unwrap() * opened / 1000;
        for number in sent..due.min(sent + slow.len()) {
            let number = number % slow.len().max(1);
            if slow.get_mut(number).is_some_and(|conn| is_over(conn) || conn.write(b"x").is_err()) {
                slow.swap_remove(number);
            }
        }
        sent = due;
        !slow.is_empty()
    });
    println!("normal p99 alone {before:?}, beside {opened} slow clients, until all are cut, {beside:?}");
    let cut = ["ferrogate_head_timeout_total", "ferrogate_body_too_slow_total"].map(|m| stage.gateway.metric(m, ""));
    #[allow(clippy::cast_precision_loss, reason = "a thousand is exact")]
    let halves = [opened.div_ceil(2) as f64, (opened / 2) as f64];
    assert_eq!(cut, halves, "each was cut for its own reason");
    wait_until("the origin is not kept waiting", || origin.open_conns() <= 8);
}

/// The 99th percentile of requests one after the other, each of which is answered: 500, and further ones while `go_on` says so.
fn p99(stage: &Stage, mut go_on: impl FnMut() -> bool) -> Duration {
    let mut client = stage.client();
    let mut times = Vec::new();
    let start = Instant::now();
    while go_on() || times.len() < 500 {
        assert!(start.elapsed() < Duration::from_secs(60), "slow clients are never cut");
        let sent = Instant::now();
        assert_eq!(client.get("/").status, 200);
        times.push(sent.elapsed());
        std::thread::sleep(Duration::from_millis(1));
    }
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

/// The even ones begin a head, the odd ones a body.
fn slow_client(address: SocketAddr, number: usize) -> TcpStream {
    let mut conn = TcpStream::connect(address).expect("the gateway accepts");
    let begin = ["GET / HTTP/1.1\r\nX: ", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"];
    conn.write_all(begin[number % 2].as_bytes()).unwrap();
    conn.set_nonblocking(true).unwrap();
    conn
}

/// Whether the gateway has answered or closed.
fn is_over(conn: &mut TcpStream) -> bool {
    !matches!(conn.read(&mut [0; 64]), Err(e) if e.kind() == ErrorKind::WouldBlock)
}

/// A thousand, or what the descriptors of this process and of the gateway are enough for.
fn slow_clients_max() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files = limits.lines().find(|l| l.starts_with("Max open files"));
    let soft = files.and_then(|l| l.split_whitespace().nth(3)?.parse::<usize>().ok()).unwrap_or(usize::MAX);
    (soft / 4).min(1000)
}

#[test]
fn turns_are_measured() {
    let origin = Origin::start("one");
    let stage = Plane::Kernel.front_of(&origin).expect("always there");
    assert_eq!(stage.client().get("/").status, 200);
    wait_until("a turn is sampled", || stage.gateway.metric("ferrogate_turn_seconds_count", "") > 0.0);
    assert!(stage.gateway.metric("ferrogate_turn_seconds_bucket", "+Inf") > 0.0);
    assert_eq!(stage.gateway.metric("ferrogate_worker_stall_total", "worker=\"0\"").to_bits(), 0.0f64.to_bits());
    wait_until("memory is measured", || stage.gateway.metric("ferrogate_memory_held_bytes", "") > 0.0);
}
