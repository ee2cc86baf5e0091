//! Clients of TLS that mean no good: each costs itself, and nobody else.

use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use test_support::certs::Pair;
use test_support::process::run;
use test_support::wire::Wire;
use test_support::{Config, Origin, wait_until};

use crate::stage::{Plane, Stage, on_both_planes, tls_backends};

on_both_planes! {
    half_open_handshakes_keep_nobody_out,
    a_burst_of_handshakes_is_served_a_few_at_a_time,
}

struct Set {
    origin: Origin,
    pair: Pair,
}

impl Set {
    fn new() -> Self {
        Self { origin: Origin::start("one"), pair: Pair::for_names(&["test.example"]) }
    }

    fn config(&self, backend: &str) -> Config {
        let config = Config::proxy_to(&[self.origin.address()]).tls(&[self.pair.paths()]);
        config.extra(&format!("tls_backend: {{backend: {backend}}}\n"))
    }

    fn curl(&self, stage: &Stage) -> Result<String, String> {
        let port = stage.address.port();
        let mut command = stage.client_command("curl");
        command.args(["-sS", "--max-time", "20", "--noproxy", "*", "--cacert"]).arg(&self.pair.certificate);
        command.args(["--resolve", &format!("test.example:{port}:{}", stage.address.ip())]);
        run(command.arg(format!("https://test.example:{port}/")))
    }
}

/// More than there may be stay in the middle of a handshake; the oldest make room, and who means it is served.
fn half_open_handshakes_keep_nobody_out(plane: Plane) {
    let set = Set::new();
    for &backend in tls_backends() {
        let Some(stage) = plane.start(set.config(backend).limit("handshakes_max", "16")) else { return };
        let metric = |name: &str| stage.gateway.metric(&format!("ferrogate_tls_handshake_{name}"), "");
        let mut stalled: Vec<Wire> = Vec::new();
        for n in 0..100 {
            let mut wire = stage.wire();
            // Nothing, the beginning of a record, the beginning of a hello.
            let begun: &[u8] = [&b""[..], b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"][n % 3];
            wire.send(begun).unwrap();
            stalled.push(wire);
        }
        wait_until("the oldest are ended", || metric("evicted_total") > 83.5);
        wait_until("as many as may be are there", || (metric("active") - 16.0).abs() < 0.1);
        for _ in 0..5 {
            assert_eq!(set.curl(&stage).as_deref(), Ok("one"), "{backend}");
        }
        drop(stalled);
        wait_until("those who are gone are forgotten", || metric("active") < 0.5);
    }
}

/// One step a turn: the others wait for theirs, and each has it.
fn a_burst_of_handshakes_is_served_a_few_at_a_time(plane: Plane) {
    const CLIENTS: usize = 24;
    let set = Set::new();
    for &backend in tls_backends() {
        let Some(stage) = plane.start(set.config(backend).limit("turn_handshakes_max", "1")) else { return };
        wait_until("some have waited", || {
            std::thread::scope(|scope| {
                let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| set.curl(&stage))).collect();
                for client in clients {
                    assert_eq!(client.join().unwrap().as_deref(), Ok("one"), "{backend}");
                }
            });
            stage.gateway.metric("ferrogate_tls_handshake_deferred_total", "") > 0.5
        });
        assert!(stage.gateway.metric("ferrogate_tls_handshake_failed_total", "") < 0.5, "{backend}");
    }
}

/// What is no handshake, or one that nobody should agree to.
#[test]
fn hostile_bytes_end_their_own_connection() {
    let set = Set::new();
    // SSL 2.0's hello, as old scanners send it.
    let ssl2 = b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\x01\x00\x80\x02\x00\x80\x03\x00\x80\x04\x00\x80\x05\x00\x80\x06\x00\x40\x07\x00\xc0";
    // A hello in TLS 1.0 with one suite.
    let mut tls10 = b"\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x01".to_vec();
    tls10.extend_from_slice(&[7; 32]);
    tls10.extend_from_slice(b"\x00\x00\x02\x00\x2f\x01\x00");
    // A hello that says that it is sixteen million bytes long, and goes on and on.
    let mut endless = Vec::new();
    for record in 0..64 {
        endless.extend_from_slice(b"\x16\x03\x01\x40\x00");
        let begin: &[u8] = if record == 0 { b"\x01\xff\xff\xff" } else { b"\x00\x00\x00\x00" };
        endless.extend_from_slice(begin);
        endless.extend_from_slice(&vec![0; 16 * 1024 - 4]);
    }
    for &backend in tls_backends() {
        let stage = Plane::Kernel.start(set.config(backend)).expect("always there");
        let rows: [(&str, &[u8]); 9] = [
            ("plain HTTP", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("SSL 2.0", ssl2),
            ("TLS 1.0", &tls10),
            ("a record of an unknown kind", b"\x63\x03\x01\x00\x01\x00"),
            ("a record that is too long", b"\x16\x03\x01\xff\xff\x01"),
            ("an empty handshake record", b"\x16\x03\x01\x00\x00"),
            ("data before the handshake", b"\x17\x03\x03\x00\x05hello"),
            ("an endless hello", &endless),
            ("noise", &[0xa5; 4096]),
        ];
        for (what, bytes) in rows {
            let mut client = stage.client();
            let _ = client.send(bytes);
            let ended = client.rest();
            // With bytes unread an end is a reset.
            let is_over =
                ended.as_ref().map_or_else(|e| e.kind() == ErrorKind::ConnectionReset, |alert| alert.len() < 100);
            assert!(is_over, "{backend} {what}: {ended:?}");
            assert_eq!(set.curl(&stage).as_deref(), Ok("one"), "{backend} {what}");
        }
        let failed = stage.gateway.metric("ferrogate_tls_handshake_failed_total", "");
        assert!((failed - 9.0).abs() < 0.1, "{backend}: {failed}");
    }
}

/// A client of TLS 1.2 that wants to begin anew in the middle of its session is not let.
#[test]
fn there_is_no_renegotiation() {
    let set = Set::new();
    for &backend in tls_backends() {
        let stage = Plane::Kernel.start(set.config(backend)).expect("always there");
        let out = s_client(&stage, &["-tls1_2"], b"R\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert!(out.contains("RENEGOTIATING") && out.contains("no renegotiation"), "{backend}: {out}");
        assert_eq!(set.curl(&stage).as_deref(), Ok("one"), "{backend}");
    }
}

/// A request in early data could be replayed, so there is none: no ticket offers it, and a client that insists has to send its request again.
#[test]
fn early_data_is_not_taken() {
    let (set, folder) = (Set::new(), test_support::temp::TempDir::new());
    let request = b"POST /order HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
    let early = folder.write("request", std::str::from_utf8(request).unwrap());
    for &backend in tls_backends() {
        let stage = Plane::Kernel.start(set.config(backend)).expect("always there");
        let session = folder.path().join(backend);
        let session = session.to_str().unwrap();
        let out = s_client(&stage, &["-tls1_3", "-sess_out", session], request);
        assert!(out.contains("Max Early Data: 0") && out.contains("HTTP/1.1 200"), "{backend}: {out}");
        let before = set.origin.received().len();
        let out = s_client(&stage, &["-tls1_3", "-sess_in", session, "-early_data", early.to_str().unwrap()], request);
        assert!(out.contains("Early data was not sent") || out.contains("Early data was rejected"), "{backend}: {out}");
        assert_eq!(set.origin.received().len() - before, 1, "{backend}: {out}");
    }
}

/// What `openssl s_client` says to a client's input, within ten seconds.
fn s_client(stage: &Stage, arguments: &[&str], input: &[u8]) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &stage.address.to_string(), "-servername", "test.example"]).args(arguments);
    // With `R` on a line of its own s_client asks for a renegotiation, but for -ign_eof.
    if !input.starts_with(b"R") {
        command.arg("-ign_eof");
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input).unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(20));
        if begun.elapsed() > Duration::from_secs(2) && input.starts_with(b"R") {
            break;
        }
    }
    drop(stdin);
    let _ = child.kill();
    let out = child.wait_with_output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}
