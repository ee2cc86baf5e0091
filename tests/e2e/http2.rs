//! HTTP/2 with the clients that people use: curl, nghttp and h2load; in clear text and over TLS, beside HTTP/1 on one port.

use std::process::Command;

use test_support::certs::Pair;
use test_support::process::run;
use test_support::{Config, Origin, pattern, skip, wait_until};

use crate::stage::{Plane, Stage, on_both_planes};

on_both_planes! {
    curl_by_prior_knowledge,
    curl_by_alpn,
    a_change_from_http1,
    nghttp_asks_for_many_at_once,
    h2load_gets_every_answer,
    both_protocols_on_one_port,
    floods_end_their_own_connection_only,
}

fn start(plane: Plane, config: Config, protocols: &str) -> Option<Stage> {
    plane.start(config.protocols(protocols))
}

fn curl(stage: &Stage, arguments: &[&str]) -> Result<String, String> {
    let mut command = stage.client_command("curl");
    run(command.args(["-sS", "--max-time", "20", "--noproxy", "*"]).args(arguments))
}

fn curl_by_prior_knowledge(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = start(plane, Config::proxy_to(&[origin.address()]), "Http2") else { return };
    let h2 = |path: &str, more: &[&str]| {
        let url = stage.url(path);
        let arguments = [&["--http2-prior-knowledge", "-w", " %{http_version} %{http_code}"], more, &[&url]].concat();
        curl(&stage, &arguments).unwrap_or_else(|e| panic!("{path}: {e}"))
    };
    assert_eq!(h2("/", &[]), "one 2 200");
    assert_eq!(h2("/big?bytes=5000000", &["-o", "/dev/null", "-w", "%{size_download}"]), "5000000");
    let folder = test_support::temp::TempDir::new();
    let file = folder.path().join("body");
    std::fs::write(&file, pattern::bytes(3_000_000)).unwrap();
    let upload = format!("@{}", file.display());
    assert_eq!(h2("/sink", &["--data-binary", &upload]), "bytes=3000000 intact=true 2 200");
    assert!(h2("/", &["-I"]).contains(" 2 200"));
    let head = origin.received().first().map(|request| request.head.start.clone()).unwrap_or_default();
    assert_eq!(head, "GET / HTTP/1.1", "the origin is asked in HTTP/1.1");
    assert!(stage.gateway.metric("ferrogate_h2_connection_total", "") >= 4.0);
    // The listener speaks nothing else.
    assert!(curl(&stage, &[&stage.url("/")]).is_err());
}

fn curl_by_alpn(plane: Plane) {
    let (origin, pair) = (Origin::start("one"), Pair::for_names(&["test.example"]));
    let config = Config::proxy_to(&[origin.address()]).tls(&[pair.paths()]);
    let Some(stage) = start(plane, config, "Auto") else { return };
    let port = stage.address.port();
    let resolve = format!("test.example:{port}:{}", stage.address.ip());
    let certificate = pair.certificate.display().to_string();
    let asked = |path: &str, more: &[&str]| {
        let url = format!("https://test.example:{port}{path}");
        let common = ["--resolve", &resolve, "--cacert", &certificate, "-w", " %{http_version}"];
        curl(&stage, &[&common[..], more, &[&url]].concat()).unwrap_or_else(|e| panic!("{path}: {e}"))
    };
    assert_eq!(asked("/", &["--http2"]), "one 2");
    assert_eq!(asked("/", &["--http1.1"]), "one 1.1");
    assert_eq!(asked("/", &["--no-alpn", "--http1.1"]), "one 1.1");
    assert_eq!(asked("/big?bytes=2000000", &["--http2", "-o", "/dev/null", "-w", "%{size_download}"]), "2000000");
    // Two URLs in one call go over one connection, at once.
    let twice = asked("/", &["--http2", "-Z", &format!("https://test.example:{port}/"), "-w", "%{num_connects} "]);
    assert_eq!(twice.matches("one").count(), 2, "{twice}");
}

/// `Upgrade: h2c`, as curl and nghttp offer it.
fn a_change_from_http1(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = start(plane, Config::proxy_to(&[origin.address()]), "Auto") else { return };
    let folder = test_support::temp::TempDir::new();
    let (small, large) = (folder.path().join("small"), folder.path().join("large"));
    std::fs::write(&small, pattern::bytes(900)).unwrap();
    std::fs::write(&large, pattern::bytes(3_000_000)).unwrap();
    let (small, large) = (format!("@{}", small.display()), format!("@{}", large.display()));
    let asked = |stage: &Stage, path: &str, more: &[&str]| {
        let url = stage.url(path);
        curl(stage, &[&["--http2", "-w", " %{http_version}"], more, &[&url]].concat())
            .unwrap_or_else(|e| panic!("{path}: {e}"))
    };
    assert_eq!(asked(&stage, "/", &[]), "one 2");
    assert_eq!(asked(&stage, "/big?bytes=2000000", &["-o", "/dev/null", "-w", "%{size_download}"]), "2000000");
    assert_eq!(asked(&stage, "/sink", &["--data-binary", &small]), "bytes=900 intact=true 2");
    // What is not here with its head is not waited for.
    assert_eq!(asked(&stage, "/sink", &["--data-binary", &large]), "bytes=3000000 intact=true 1.1");
    let mut command = stage.client_command("nghttp");
    match run(command.args(["-n", "-u", "-s", "-m", "5"]).arg(stage.url("/big?bytes=200000"))) {
        Ok(out) => {
            let answered = out.lines().filter(|line| line.contains(" 200 ") && line.contains("195K")).count();
            assert_eq!(answered, 5, "{out}");
        }
        Err(reason) if reason.contains("No such file") => skip!("e2e-nghttp", "{reason}"),
        Err(reason) => panic!("{reason}"),
    }
    for request in origin.received() {
        assert!(!request.head.has("upgrade") && !request.head.has("http2-settings"), "{request:?}");
    }
    drop(stage);
    let filter = "{type: proxy, config: {downstream_protocol: Auto, router_config_name: web, extend_config: {Http2: {upgrade_h2c: false}}}}";
    let Some(stage) = plane.start(Config::proxy_to(&[origin.address()]).filter(filter)) else { return };
    assert_eq!(asked(&stage, "/", &[]), "one 1.1");
}

fn nghttp_asks_for_many_at_once(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = start(plane, Config::proxy_to(&[origin.address()]), "Http2") else { return };
    let url = stage.url("/big?bytes=200000");
    let mut command = stage.client_command("nghttp");
    let out = match run(command.args(["-n", "-s", "-m", "20", "-t", "20"]).arg(&url)) {
        Ok(out) => out,
        Err(reason) if reason.contains("No such file") => return skip!("e2e-nghttp", "{reason}"),
        Err(reason) => panic!("{reason}"),
    };
    let answered = out.lines().filter(|line| line.contains(" 200 ") && line.contains("195K")).count();
    assert_eq!(answered, 20, "{out}");
}

fn h2load_gets_every_answer(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = start(plane, Config::proxy_to(&[origin.address()]), "Auto") else { return };
    for (requests, arguments) in [(2000, &["-c", "4", "-m", "32"][..]), (200, &["-c", "200", "-m", "1"])] {
        let mut command = stage.client_command("h2load");
        command.args(["-n", &requests.to_string()]).args(arguments).arg(stage.url("/"));
        let out = match run(&mut command) {
            Ok(out) => out,
            Err(reason) if reason.contains("No such file") => return skip!("e2e-h2load", "{reason}"),
            Err(reason) => panic!("{reason}"),
        };
        let whole =
            format!("{requests} total, {requests} started, {requests} done, {requests} succeeded, 0 failed, 0 errored");
        assert!(out.contains(&whole), "{out}");
        assert!(out.contains(&format!("{requests} 2xx")), "{out}");
    }
}

fn both_protocols_on_one_port(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = start(plane, Config::proxy_to(&[origin.address()]), "Http1,Http2") else { return };
    let version = ["-w", " %{http_version}"];
    let url = stage.url("/");
    assert_eq!(curl(&stage, &[&version[..], &["--http2-prior-knowledge", &url]].concat()).as_deref(), Ok("one 2"));
    assert_eq!(curl(&stage, &[&version[..], &[&url]].concat()).as_deref(), Ok("one 1.1"));
    // The first byte alone says nothing; the second does.
    let mut client = stage.client();
    client.send(b"P").unwrap();
    assert!(client.is_silent_for(std::time::Duration::from_millis(50)));
    client.send(b"UT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert_eq!(client.answer_to("PUT").text(), "one");
    // What is neither gets HTTP/1's word for it.
    let mut garbage = stage.client();
    garbage.send(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n").unwrap();
    assert_eq!(garbage.answer_to("GET").status, 505);
}

/// Each attack is sent whole by a client of its own: it is cut off and counted, and the next client gets its answer.
fn floods_end_their_own_connection_only(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = start(plane, Config::proxy_to(&[origin.address()]), "Http2") else { return };
    let get = |stream: u32| frame(1, 5, stream, b"\x82\x86\x84\x41\x01a");
    let reset = |stream: u32| frame(3, 0, stream, &[0, 0, 0, 8]);
    let odd = |n: u32| 2 * n + 1;
    let attacks: [(&str, Vec<u8>); 6] = [
        ("reset", (0..2000).flat_map(|n| [get(odd(n)), reset(odd(n))].concat()).collect()),
        // A window of nothing makes us reset the stream.
        ("reset", (0..2000).flat_map(|n| [get(odd(n)), frame(8, 0, odd(n), &[0; 4])].concat()).collect()),
        ("control", frame(6, 0, 0, b"12345678").repeat(4000)),
        ("control", frame(4, 0, 0, &[]).repeat(4000)),
        ("empty_data", [frame(1, 4, 1, b"\x83\x86\x84\x41\x01a"), frame(0, 0, 1, b"").repeat(4000)].concat()),
        ("continuation", [frame(1, 1, 1, b"\x82\x86\x84\x41\x01a"), frame(9, 0, 1, b"").repeat(4000)].concat()),
    ];
    for (limit, attack) in attacks {
        let metric = format!("ferrogate_h2_{limit}_flood_total");
        let before = stage.gateway.metric(&metric, "");
        let mut client = stage.client();
        // The gateway may close before it is all sent.
        let _ = client.send(&[&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[]), &attack].concat());
        wait_until("the attack is counted", || stage.gateway.metric(&metric, "") > before);
        drop(client);
        let after = curl(&stage, &["--http2-prior-knowledge", &stage.url("/")]);
        assert_eq!(after.as_deref(), Ok("one"), "{limit}");
    }
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[test]
fn a_drain_lets_running_streams_finish() {
    let origin = Origin::start("one");
    let stage = start(Plane::Kernel, Config::proxy_to(&[origin.address()]), "Http2").expect("always there");
    let url = stage.url("/hold");
    let client = std::thread::spawn(move || {
        run(Command::new("curl").args(["-sS", "--max-time", "20", "--noproxy", "*", "--http2-prior-knowledge", &url]))
    });
    wait_until("the request is at the origin", || !origin.received().is_empty());
    stage.gateway.process.signal("TERM");
    origin.release();
    assert_eq!(client.join().unwrap().as_deref(), Ok("held"));
    stage.gateway.stop();
}
