//! The load generator as a process, against an origin that keeps its own count, and against its own origin.

#![allow(clippy::disallowed_types, reason = "the test measures a process from outside")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use ferrogate_bench::load::LoadResult;
use test_support::certs::Pair;
use test_support::origin::raw_target;
use test_support::process::Process;
use test_support::{Origin, wait_until};

const BENCH: &str = env!("CARGO_BIN_EXE_ferrogate-bench");

/// Runs a load to its end: its result, after both lines of the window.
fn load(to: &str, flags: &str) -> LoadResult {
    let mut process = Process::start(Command::new(BENCH).args(["load", "--to", to]).args(flags.split_whitespace()));
    assert!(process.wait().success(), "{}", process.output());
    let output = process.output();
    let said: Vec<_> = output.lines().filter(|line| line.starts_with("measur")).collect();
    assert_eq!(said, ["measuring", "measured"], "{output}");
    let json: Vec<_> = output.lines().filter(|line| line.starts_with('{')).collect();
    assert_eq!(json.len(), 1, "{output}");
    serde_json::from_str(json[0]).expect("the result as it was agreed")
}

/// The generator's own origin.
struct OwnOrigin {
    _process: Process,
    address: String,
}

impl OwnOrigin {
    fn start(flags: &[&str]) -> Self {
        let command = &mut Command::new(BENCH);
        let process = Process::start(command.args(["origin", "--listen", "127.0.0.1:0"]).args(flags));
        let address = || process.output().lines().find_map(|l| l.strip_prefix("listening on ").map(str::to_owned));
        wait_until("the origin listens", || address().is_some());
        Self { address: address().expect("waited for"), _process: process }
    }

    fn tls() -> (Self, Pair) {
        let pair = Pair::for_names(&["localhost"]);
        let (cert, key) = pair.paths();
        let path = |p: &std::path::Path| p.to_str().expect("UTF-8").to_owned();
        (Self::start(&["--tls", "--cert", &path(cert), "--key", &path(key)]), pair)
    }
}

/// A server that takes its time for each answer. Its threads end with their connections.
fn slow_server(pause: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    thread::spawn(move || {
        while let Ok((mut conn, _)) = listener.accept() {
            thread::spawn(move || {
                while let Ok(1..) = conn.read(&mut [0; 1024]) {
                    thread::sleep(pause);
                    if conn.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

/// No errors, and numbers that fit each other.
#[track_caller]
fn assert_clean(result: &LoadResult) {
    assert_eq!(result.errors.total(), 0, "{result:?}");
    assert!(result.requests > 0, "{result:?}");
    let l = result.latency_us;
    assert!(0.0 < l.p50 && l.p50 <= l.p90 && l.p90 <= l.p99 && l.p99 <= l.p999 && l.p999 <= l.max, "{l:?}");
    assert!(0.0 < l.mean && l.mean <= l.max, "{l:?}");
    assert!((0.0..=1.0).contains(&result.spare), "{result:?}");
}

#[test]
fn a_closed_loop_counts_what_the_origin_counts() {
    let origin = Origin::start("counted");
    let result = load(&origin.address(), "--seconds 0.5 --warmup 0 --connections 8");
    assert_clean(&result);
    // Uncounted is only what came before the last of the connections was open, and what was under way at the end.
    let received = origin.received().len() as u64;
    assert!(result.requests <= received && result.requests >= received / 2, "{} of {received}", result.requests);
    assert_eq!((result.established, origin.conns()), (8, 8));
}

#[test]
fn a_single_connection_counts_exactly() {
    let origin = Origin::start("one");
    let result = load(&origin.address(), "--seconds 0.5 --warmup 0 --connections 1");
    assert_clean(&result);
    // One may have been sent before the window opened, one may be under way when it closes.
    let received = origin.received().len() as u64;
    assert!((received.saturating_sub(2)..=received).contains(&result.requests), "{} of {received}", result.requests);
}

#[test]
fn a_rate_is_kept() {
    let origin = OwnOrigin::start(&[]);
    let result = load(&origin.address, "--seconds 1 --warmup 0.2 --connections 16 --rate 500");
    assert_clean(&result);
    assert_eq!(result.rate_wanted, Some(500.0));
    let wanted = 500.0 * result.seconds;
    #[allow(clippy::cast_precision_loss, reason = "a few hundred")]
    let requests = result.requests as f64;
    // At the edges of the window, and where the machine stalls, some fall on the other side.
    assert!((requests - wanted).abs() < wanted / 4.0, "{requests} of {wanted}");
}

#[test]
fn requests_that_wait_for_a_connection_are_behind_and_late() {
    // Forty a second on two connections, where two hundred are wanted.
    let server = slow_server(Duration::from_millis(50));
    let result = load(&server, "--seconds 1 --warmup 0 --connections 2 --rate 200");
    assert_eq!(result.errors.total(), 0, "{result:?}");
    assert!(result.behind > 100, "{result:?}");
    assert!(result.requests < 60, "{result:?}");
    assert!(result.latency_us.p99 > 300_000.0, "the wait is part of it: {result:?}");
}

#[test]
fn a_connection_carries_as_many_requests_as_it_may() {
    let origin = OwnOrigin::start(&[]);
    let short = load(&origin.address, "--seconds 0.5 --warmup 0.1 --connections 4 --requests-per-connection 1");
    assert_clean(&short);
    assert!(short.conns_opened.abs_diff(short.requests) <= 4, "{short:?}");
    let ten = load(&origin.address, "--seconds 0.5 --warmup 0.1 --connections 4 --requests-per-connection 10");
    assert_clean(&ten);
    assert!((ten.requests / 10).abs_diff(ten.conns_opened) <= 5, "{ten:?}");
}

#[test]
fn bodies_go_up_and_come_down_whole() {
    let origin = OwnOrigin::start(&[]);
    let flags = "--seconds 0.5 --warmup 0 --connections 4";
    let up = load(&origin.address, &format!("{flags} --body-bytes 300000"));
    assert_clean(&up);
    assert!(up.bytes_out >= up.requests * 300_000, "{up:?}");
    let down = load(&origin.address, &format!("{flags} --path /bytes/300000"));
    assert_clean(&down);
    // The first answers may have begun before the window.
    assert!(down.bytes_in + 4 * 300_000 >= down.requests * 300_000, "{down:?}");
    let real = load(&origin.address, &format!("{flags} --shape real"));
    assert_clean(&real);
    assert!(real.bytes_in + 4 * 4_500 >= real.requests * 4_096, "{real:?}");
}

#[test]
fn handshakes_are_full_or_resumed_as_asked_for() {
    let (origin, pair) = OwnOrigin::tls();
    let ca = pair.certificate.to_str().expect("UTF-8");
    let tls = |flags: &str| {
        let flags = format!("--tls --ca {ca} --server-name localhost --seconds 0.7 --connections 4 {flags}");
        let result = load(&origin.address, &flags);
        assert_clean(&result);
        result
    };
    let kept = tls("--warmup 0.1");
    assert_eq!((kept.established, kept.handshakes_full + kept.handshakes_resumed), (4, 0), "{kept:?}");
    for version in ["1.2", "1.3"] {
        let full = tls(&format!("--warmup 0.1 --requests-per-connection 1 --tls-version {version}"));
        assert!(full.handshakes_full > 0 && full.handshakes_resumed == 0, "{version}: {full:?}");
        assert!(full.handshakes_full.abs_diff(full.requests) <= 8, "{version}: {full:?}");
        let resumed = tls(&format!("--warmup 0.5 --requests-per-connection 1 --resume always --tls-version {version}"));
        assert!(resumed.handshakes_resumed > 0 && resumed.handshakes_full == 0, "{version}: {resumed:?}");
    }
}

#[test]
fn idle_connections_are_held_and_counted() {
    let origin = Origin::start("idle");
    let result = load(&origin.address(), "--mode idle --seconds 0.2 --connections 50");
    assert_eq!((result.established, result.errors.total()), (50, 0), "{result:?}");
    assert_eq!((origin.received().len(), origin.conns()), (50, 50));
    let (own, _pair) = OwnOrigin::tls();
    let result = load(&own.address, "--mode idle --seconds 0.2 --connections 50 --tls");
    assert_eq!((result.established, result.errors.total()), (50, 0), "{result:?}");
}

#[test]
fn bytes_come_back_in_tcp_mode() {
    let origin = OwnOrigin::start(&["--echo"]);
    let result = load(&origin.address, "--mode tcp --body-bytes 1000 --seconds 0.3 --warmup 0 --connections 4");
    assert_clean(&result);
    assert!(result.bytes_in.abs_diff(result.bytes_out) <= 8_000, "{result:?}");
    // An echo is no answer.
    let http = load(&origin.address, "--seconds 0.3 --warmup 0 --connections 4");
    assert!(http.requests == 0 && http.errors.protocol > 0, "{http:?}");
}

#[test]
fn each_kind_of_failure_has_its_count() {
    let origin = Origin::start("faulty");
    let flags = "--seconds 0.3 --warmup 0 --connections 2";
    let missing = load(&origin.address(), &format!("{flags} --path /status?code=503"));
    assert!(missing.errors.status > 0 && missing.errors.status == missing.errors.total(), "{missing:?}");
    let short = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive!";
    let cut = load(&origin.address(), &format!("{flags} --path {}", raw_target(short, "close")));
    assert!(cut.errors.reset > 0 && cut.errors.reset == cut.errors.total() && cut.requests == 0, "{cut:?}");
    let silent = load(&origin.address(), "--path /stall --seconds 0.6 --warmup 0 --connections 2 --timeout 0.2");
    assert!(silent.errors.timeout > 0 && silent.errors.timeout == silent.errors.total(), "{silent:?}");
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port that nobody listens on");
    let refused = load(&nobody.to_string(), flags);
    assert!(refused.errors.connect > 0 && refused.errors.connect == refused.errors.total(), "{refused:?}");
}

#[test]
fn a_certificate_that_the_ca_did_not_sign_is_refused() {
    let (origin, _pair) = OwnOrigin::tls();
    let other = Pair::for_names(&["localhost"]);
    let ca = other.certificate.to_str().expect("UTF-8");
    let flags = format!("--tls --ca {ca} --server-name localhost --seconds 0.2 --warmup 0 --connections 2");
    let result = load(&origin.address, &flags);
    assert!(result.requests == 0 && result.errors.protocol > 0, "{result:?}");
}

#[test]
fn it_ends_at_once_when_told_to() {
    let origin = OwnOrigin::start(&[]);
    let mut process = Process::start(Command::new(BENCH).args(["load", "--to", &origin.address, "--seconds", "60"]));
    wait_until("it measures", || process.output().contains("measuring"));
    let told = Instant::now();
    process.signal("TERM");
    process.wait();
    assert!(told.elapsed().as_secs() < 5);
    assert!(!process.output().contains('{'), "half a window is no result");
}
