//! From each protocol to each other: by the peers that there are, by raw frames, and as the table in docs/reference/conversion-matrix.md.

#[path = "conversion/matrix.rs"]
mod matrix;

use std::process::Command;

use test_support::nghttpd::Nghttpd;
use test_support::process::run;
use test_support::{Config, Gateway, Origin, wait_until};

use crate::bolt::peer::{Frame, Listening, Peer};
use crate::bolt::{self, SERVICE};
use crate::dubbo;
use crate::npm;
use crate::stage::{Plane, Stage, binary, on_both_planes};

on_both_planes! {
    curl_asks_bolt,
    bolt_asks_http,
    sofa_rpc_through_http,
    curl_calls_dubbo,
    dubbo_through_http,
    what_is_refused,
    large_bodies,
}

/// The clients' version of HTTP, by curl's word for it.
const CLIENTS: [&str; 2] = ["--http1.1", "--http2-prior-knowledge"];

/// What is said of a route that every request takes.
fn all(config: Config, more: &str) -> Config {
    let route = |matching: &str| format!("{{match: {{{matching}}}, route: {{cluster_name: origins, {more}}}}}");
    config.route(&route("prefix: /")).route(&route("headers: [{name: service, value: \".*\"}]"))
}

fn curl(stage: &Stage, path: &str, arguments: &[&str]) -> String {
    let mut command = stage.client_command("curl");
    command
        .args(["-sS", "--max-time", "20", "--noproxy", "*", "-w", " %{http_code}"])
        .args(arguments)
        .arg(stage.url(path));
    run(&mut command).unwrap_or_else(|e| panic!("{e}\n{}", stage.gateway.process.output()))
}

fn header(frame: &Frame, name: &str) -> Option<String> {
    frame.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
}

/// A host of Bolt that tells what it was asked, and answers as a field asks it to.
fn teller() -> String {
    let answer = |asked: &Frame| {
        let told = |name| header(asked, name).unwrap_or_default();
        let line =
            format!("{} {} {} {}", told("x-mosn-method"), told("x-mosn-path"), told("host"), asked.content.len());
        let status = told("x-wish").parse().unwrap_or(0);
        let headers =
            vec![("x-told".to_owned(), told("x-tell")), ("content-length".to_owned(), line.len().to_string())];
        Frame { varies: status, content: line.into_bytes(), headers, ..asked.answer() }
    };
    Listening::answering(answer).to_string()
}

fn curl_asks_bolt(plane: Plane) {
    for protocol in ["bolt", "boltv2"] {
        let config = Config::proxy_to(&[teller()]).protocols("Auto");
        let Some(stage) = plane.start(all(config, &format!("upstream_protocol: {protocol}"))) else { return };
        for client in CLIENTS {
            let got = curl(&stage, "/a/b?c", &[client, "-H", "Host: a.example", "-d", "four", "-H", "x-tell: it"]);
            assert_eq!(got, "POST /a/b a.example 4 200", "{protocol} {client}");
            let got = curl(&stage, "/", &[client, "-X", "PURGE", "-H", "x-tell: it", "-D", "-", "-o", "/dev/null"]);
            let got = got.to_ascii_lowercase();
            assert!(got.contains("x-told: it\r\n") && got.contains("x-bolt-class: com.example.response\r\n"), "{got}");
            for (status, shown) in [(1, 500), (4, 503), (7, 504), (16, 502)] {
                let got = curl(&stage, "/", &[client, "-o", "/dev/null", "-H", &format!("x-wish: {status}")]);
                assert_eq!(got, format!(" {shown}"), "{protocol} {client} {status}");
            }
            assert_eq!(curl(&stage, "/", &[client, "-H", "x-rpc-oneway: true"]), " 202");
            assert_eq!(curl(&stage, "/", &[client, "-I", "-o", "/dev/null"]), " 200");
        }
        let conns = stage.gateway.metric("ferrogate_upstream_rpc_connection_total", "");
        assert!((conns - 1.0).abs() < 0.1, "all over one connection: {conns}");
    }
}

/// What raw frames of Bolt ask origins of both versions of HTTP, and get.
fn bolt_asks_http(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) =
        plane.start(all(Config::proxy_to(&[origin.address()]).protocols("bolt"), "upstream_protocol: Http1"))
    else {
        return;
    };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    for version in [1, 2] {
        let mut peer = Peer(stage.wire());
        let mut asked = Frame { version, ..Frame::request(5, SERVICE, b"content") };
        asked.headers.extend([
            pair("x-mosn-path", "/echo"),
            pair("x-mosn-method", "PUT"),
            pair("x-mosn-querystring", "a=b"),
        ]);
        let answer = peer.ask(&asked);
        assert_eq!((answer.version, answer.id, answer.varies, answer.kind), (version, 5, 0, 0));
        assert_eq!(answer.content, b"content");
        let head = origin.received().pop().expect("it came").head;
        assert_eq!(head.start, "PUT /echo?a=b HTTP/1.1");
        for (name, value) in [
            ("service", Some(SERVICE)),
            ("host", Some(origin.address().as_str())),
            ("content-length", Some("7")),
            ("x-bolt-class", Some("com.example.Request")),
            ("x-mosn-global-timeout", Some("10000")),
            ("x-forwarded-proto", Some("http")),
            ("x-mosn-path", None),
        ] {
            assert_eq!(head.get(name), value, "{name}");
        }
        for (code, status) in [(204, 0), (404, 6), (500, 3), (503, 4), (504, 7)] {
            let mut asked = Frame { version, ..Frame::request(6, SERVICE, b"") };
            asked.headers.extend([pair("x-mosn-path", "/status"), pair("x-mosn-querystring", &format!("code={code}"))]);
            let answer = peer.ask(&asked);
            assert_eq!((answer.varies, header(&answer, "x-mosn-status")), (status, Some(code.to_string())));
        }
        // One-way: the request comes, and the next answer is the next request's.
        let mut asked = Frame { version, kind: 2, ..Frame::request(7, SERVICE, b"content") };
        asked.headers.push(pair("x-mosn-path", "/sink"));
        peer.send(&asked);
        wait_until("it comes", || origin.received().iter().any(|r| r.head.start == "POST /sink HTTP/1.1"));
        let mut asked = Frame { version, ..Frame::request(8, SERVICE, b"") };
        asked.headers.push(pair("x-mosn-path", "/echo"));
        assert_eq!(peer.ask(&asked).id, 8);
    }
    let nghttpd = Nghttpd::start(None, &[]).expect("nghttpd is installed");
    let config = Config::proxy_to(&[nghttpd.address.to_string()]).protocols("bolt");
    let Some(stage) = plane.start(all(config, "upstream_protocol: Http2")) else { return };
    let mut peer = Peer(stage.wire());
    let answer = peer.ask(&Frame::request(1, SERVICE, b"uploaded"));
    assert_eq!((answer.varies, answer.content), (0, b"uploaded".to_vec()));
    let mut asked = Frame::request(2, SERVICE, b"");
    asked.headers.extend([pair("x-mosn-path", "/none"), pair("x-mosn-method", "GET")]);
    assert_eq!(peer.ask(&asked).varies, 6, "404 is NO_PROCESSOR");
}

/// A gateway that takes what comes as HTTP, and asks in a protocol of RPC.
fn inner(host: &str, protocol: &str) -> Gateway {
    let config = all(Config::proxy_to(&[host.to_owned()]).protocols("Auto"), &format!("upstream_protocol: {protocol}"));
    Gateway::start(binary(), &config)
}

/// sofa-rpc-node as client and as server, with HTTP of both versions in between.
fn sofa_rpc_through_http(plane: Plane) {
    if !bolt::has_peers() {
        return;
    }
    let server = bolt::server();
    let inner = inner(&server.address.to_string(), "bolt");
    for version in ["Http1", "Http2"] {
        let route = format!(
            "{{match: {{headers: [{{name: service, value: \"{SERVICE}\"}}]}}, route: {{cluster_name: origins, \
             upstream_protocol: {version}}}}}"
        );
        let config = Config::proxy_to(&[inner.listen.to_string()]).protocols("bolt").route(&route);
        let Some(stage) = plane.start(config) else { return };
        bolt::check(&stage, stage.address, bolt::ROWS);
    }
    assert!(inner.metric("downstream_request_total", "") > 300.0);
}

fn curl_calls_dubbo(plane: Plane) {
    if !dubbo::has_peers() {
        return;
    }
    let server = dubbo::server();
    let config = all(Config::proxy_to(&[server.address.to_string()]).protocols("Auto"), "upstream_protocol: dubbo");
    let Some(stage) = plane.start(config) else { return };
    let json = ["-H", "content-type: application/json", "-d"];
    for client in CLIENTS {
        for (path, more, body, expected) in [
            ("/com.example.Echo/echo", &[][..], "[\"hello\"]", "\"hello\" 200"),
            (
                "/com.example.Echo/echo",
                &["-H", "x-dubbo-types: java.lang.String"],
                "[\"\u{e4}\u{4e2d} \\\"\"]",
                "\"\u{e4}\u{4e2d} \\\"\" 200",
            ),
            (
                "/any",
                &["-H", "x-dubbo-service: com.example.Echo", "-H", "x-dubbo-method: pause"],
                "{\"args\":[7]}",
                "7 200",
            ),
            ("/com.example.Echo/echo", &[], "[\"a\",", "400 Bad Request\n 400"),
            ("/com.example.Echo", &[], "[]", "400 Bad Request\n 400"),
        ] {
            assert_eq!(
                curl(&stage, path, &[&[client][..], more, &json, &[body]].concat()),
                expected,
                "{client} {path}"
            );
        }
        let got = curl(&stage, "/com.example.Echo/fail", &[&[client][..], &json, &["[\"no such luck\"]"]].concat());
        assert!(got.ends_with(" 500") && got.starts_with("{\"exception\":") && got.contains("no such luck"), "{got}");
        let got = curl(&stage, "/com.example.Other/echo", &[&[client][..], &json, &["[]"]].concat());
        assert!(got.ends_with(" 404") || got.ends_with(" 500"), "{got}");
        let got = curl(&stage, "/com.example.Echo/echo", &[client, "-H", "content-type: text/plain", "-d", "[]"]);
        assert!(got.ends_with(" 415"), "{got}");
    }
}

/// npm's Dubbo as client and as server, with HTTP of both versions in between.
fn dubbo_through_http(plane: Plane) {
    if !dubbo::has_peers() {
        return;
    }
    let server = dubbo::server();
    let inner = inner(&server.address.to_string(), "dubbo");
    for version in ["Http1", "Http2"] {
        let route = format!(
            "{{match: {{headers: [{{name: service, value: com.example.Echo}}]}}, route: {{cluster_name: origins, \
             upstream_protocol: {version}}}}}"
        );
        let config = Config::proxy_to(&[inner.listen.to_string()]).protocols("dubbo").route(&route);
        let Some(stage) = plane.start(config) else { return };
        dubbo::check(&stage, dubbo::ROWS);
    }
    assert!(inner.metric("downstream_request_total", "") > 200.0);
}

/// What can't be said in the origin's protocol never gets there, and the connection lives on. The whole table is that of the unit tests.
fn what_is_refused(plane: Plane) {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()]).protocols("bolt");
    let Some(stage) = plane.start(all(config, "upstream_protocol: Http1")) else { return };
    let mut peer = Peer(stage.wire());
    for (name, value) in [
        ("x\r\nx-evil: 1", "1"),
        ("x y", "1"),
        ("x:", "1"),
        (":path", "/evil"),
        ("x", "1\r\nx-evil: 1"),
        ("x", "\0"),
        ("x-mosn-path", "/ HTTP/1.1\r\nHost: evil\r\n\r\n"),
        ("content-length", "100"),
        ("x-mosn-method", "CONNECT"),
    ] {
        let mut asked = Frame::request(9, SERVICE, b"content");
        asked.headers.push((name.to_owned(), value.to_owned()));
        assert_eq!(peer.ask(&asked), Frame::bare(0, 2, 9, 3), "{name:?} {value:?}");
    }
    assert_eq!(peer.ask(&Frame::request(1, SERVICE, b"")).varies, 0);
    assert_eq!(origin.received().len(), 1, "the good one");
    assert!((stage.gateway.metric("ferrogate_convert_refused_total", "") - 9.0).abs() < 0.1);
    // An answer that can't be said: the client is told that there is none.
    let evil = Listening::answering(|asked| Frame { headers: vec![("x\r\ny".into(), "z".into())], ..asked.answer() });
    let config = Config::proxy_to(&[evil.to_string()]).protocols("Auto");
    let Some(stage) = plane.start(all(config, "upstream_protocol: bolt")) else { return };
    assert_eq!(curl(&stage, "/", &["-o", "/dev/null"]), " 502");
    assert!(
        (stage.gateway.metric("ferrogate_upstream_convert_refused_total", "{cluster=\"origins\"}") - 1.0).abs() < 0.1
    );
}

/// A body is held whole: as long as a frame may be, as much as a worker may hold, and no client waits for a 100 that nobody sends.
fn large_bodies(plane: Plane) {
    let config = Config::proxy_to(&[teller()]).protocols("Auto").limit("rpc_frame_bytes_max", "1MiB");
    let Some(stage) = plane.start(all(config.limit("converted_bytes_max", "600KiB"), "upstream_protocol: bolt")) else {
        return;
    };
    let folder = test_support::temp::TempDir::new();
    let file = |bytes: usize| {
        let path = folder.write(&format!("{bytes}"), &"a".repeat(bytes));
        format!("@{}", path.display())
    };
    for client in CLIENTS {
        let post = |bytes: usize, more: &[&str]| {
            curl(&stage, "/a", &[&[client, "-H", "Host: h", "--data-binary", &file(bytes)][..], more].concat())
        };
        assert_eq!(post(500_000, &[]), "POST /a h 500000 200", "{client}");
        assert_eq!(post(500_000, &["-H", "Expect: 100-continue", "--expect100-timeout", "15"]), "POST /a h 500000 200");
        assert_eq!(post(500_000, &["-H", "Transfer-Encoding: chunked"]), "POST /a h 500000 200", "{client}");
        if client == "--http1.1" {
            // Over HTTP/2 this curl takes an answer before the end of its body for an error.
            assert!(post(2_000_000, &[]).ends_with(" 413"), "{client}");
            assert!(post(700_000, &[]).ends_with(" 503"), "{client}");
        }
    }
    assert!((stage.gateway.metric("ferrogate_convert_overflow_total", "") - 1.0).abs() < 0.1);
    // What was held is free again.
    assert_eq!(curl(&stage, "/a", &["-H", "Host: h", "--data-binary", &file(500_000)]), "POST /a h 500000 200");
}

/// The class and the content of a request of sofa-rpc for `echo`.
fn sofa_content(text: &str) -> (Vec<u8>, Vec<u8>) {
    let folder = test_support::temp::TempDir::new();
    let script = folder.write("content.js", include_str!("bolt/content.js"));
    let out = run(Command::new("node").env("NODE_PATH", npm::MODULES).arg(script).arg(text)).expect("node runs");
    let (class, content) = out.trim().split_once('\n').expect("two lines");
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("two digits");
    (class.into(), content.as_bytes().chunks(2).map(byte).collect())
}
