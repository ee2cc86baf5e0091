//! HTTP/2 to origins: nghttpd and nginx as they are, and a second gateway; for clients of both versions, on both planes.

use test_support::certs::Pair;
use test_support::nghttpd::Nghttpd;
use test_support::nginx::Nginx;
use test_support::process::run;
use test_support::{Config, Gateway, Origin, pattern, skip, wait_until};

use crate::stage::{Plane, Stage, binary, on_both_planes};

on_both_planes! {
    clients_of_both_versions_reach_an_http2_origin,
    trailers_pass_with_and_without_a_length,
    over_tls_by_alpn,
    more_requests_than_streams,
    one_place_serves_both_versions,
    an_origin_that_restarts,
    through_two_gateways,
    one_protocol_a_route,
    probes_speak_http2,
}

/// An nghttpd with a file or two.
fn nghttpd(tls: Option<&Pair>, more: &[&str]) -> Option<Nghttpd> {
    match Nghttpd::start(tls.map(Pair::paths), more) {
        Ok(nghttpd) => {
            nghttpd.file("page", "a page");
            nghttpd.file("big", pattern::bytes(3_000_000));
            Some(nghttpd)
        }
        Err(reason) => {
            skip!("e2e-nghttpd", "{reason}");
            None
        }
    }
}

fn asking_in_http2(origin: &str) -> Config {
    Config::proxy_to(&[origin.to_owned()]).protocols("Auto").upstream_protocol("Http2")
}

fn curl(stage: &Stage, arguments: &[&str]) -> String {
    let mut command = stage.client_command("curl");
    run(command.args(["-sS", "--max-time", "20", "--noproxy", "*"]).args(arguments)).unwrap_or_else(|e| panic!("{e}"))
}

/// What a client may say of its version.
const VERSIONS: [&str; 2] = ["--http1.1", "--http2-prior-knowledge"];

fn clients_of_both_versions_reach_an_http2_origin(plane: Plane) {
    let Some(origin) = nghttpd(None, &[]) else { return };
    let Some(stage) = plane.start(asking_in_http2(&origin.address.to_string())) else { return };
    let folder = test_support::temp::TempDir::new();
    let (sent, got) = (folder.path().join("sent"), folder.path().join("got"));
    let body = pattern::bytes(3_000_000);
    std::fs::write(&sent, &body).unwrap();
    for version in VERSIONS {
        let asked = |path: &str, more: &[&str]| {
            let url = stage.url(path);
            curl(&stage, &[&[version, "-w", " %{http_code}"], more, &[&url]].concat())
        };
        assert_eq!(asked("/page", &[]), "a page 200");
        assert!(asked("/absent", &[]).ends_with(" 404"));
        let head = asked("/page", &["-I"]).to_lowercase();
        assert!(head.contains("content-length: 6"), "{head}");
        assert_eq!(asked("/big", &["-o", &got.display().to_string()]), " 200");
        assert!(std::fs::read(&got).unwrap() == body, "{version}: the file came changed");
        // Up and down at once.
        let upload = format!("@{}", sent.display());
        let more = ["--data-binary", &upload, "-H", "Expect:", "-o", &got.display().to_string()];
        assert_eq!(asked("/echo", &more), " 200");
        assert!(std::fs::read(&got).unwrap() == body, "{version}: the echo came changed");
        // A length that is not known before.
        let more = ["-H", "Transfer-Encoding: chunked", "--data-binary", "in pieces"];
        let more = if version == "--http1.1" { &more[..] } else { &more[2..] };
        assert_eq!(asked("/echo", more), "in pieces 200");
    }
    let connections = stage.gateway.metric("ferrogate_upstream_h2_connection_total", "");
    assert!((connections - 1.0).abs() < 0.1, "{connections} connections for requests one by one");
}

fn trailers_pass_with_and_without_a_length(plane: Plane) {
    let trailer = "--trailer=x-checked: yes";
    let Some(origin) = nghttpd(None, &[trailer]) else { return };
    let Some(stage) = plane.start(asking_in_http2(&origin.address.to_string())) else { return };
    let mut command = stage.client_command("nghttp");
    match run(command.args(["-n", "-v"]).arg(stage.url("/page"))) {
        Ok(out) => assert!(out.contains("x-checked: yes") && out.contains("content-length: 6"), "{out}"),
        Err(reason) if reason.contains("No such file") => skip!("e2e-nghttp", "{reason}"),
        Err(reason) => panic!("{reason}"),
    }
    drop(stage);
    let Some(origin) = nghttpd(None, &[trailer, "--no-content-length"]) else { return };
    let Some(stage) = plane.start(asking_in_http2(&origin.address.to_string())) else { return };
    let answer = stage.client().get("/page");
    assert_eq!(answer.text(), "a page");
    assert_eq!(answer.trailers.first(), Some(&("x-checked".into(), "yes".into())));
}

fn over_tls_by_alpn(plane: Plane) {
    let pair = Pair::for_names(&["origin.example"]);
    let Some(origin) = nghttpd(Some(&pair), &[]) else { return };
    let tls = |server: &str| {
        format!("tls_context: {{status: true, ca_cert: \"{}\", server_name: {server}}}", pair.certificate.display())
    };
    let config = asking_in_http2(&origin.address.to_string()).cluster(&tls("origin.example"));
    let Some(stage) = plane.start(config) else { return };
    for version in VERSIONS {
        assert_eq!(curl(&stage, &[version, &stage.url("/page")]), "a page");
    }
    drop(stage);
    // One that speaks HTTP/1.1 alone is told from a broken one.
    let nginx = match Nginx::start(Some(pair.paths())) {
        Ok(nginx) => nginx,
        Err(reason) => return skip!("e2e-nginx", "{reason}"),
    };
    let route = "{match: {path: /one}, route: {cluster_name: origins, upstream_protocol: Http1}}";
    let config = asking_in_http2(&nginx.address.to_string()).cluster(&tls("origin.example")).route(route);
    let Some(stage) = plane.start(config) else { return };
    let mut client = stage.client();
    assert_eq!(client.get("/two").status, 502);
    assert_eq!(client.get("/one").text(), "nginx says hello");
}

/// The origin allows two streams a connection; the cluster allows three connections.
fn more_requests_than_streams(plane: Plane) {
    let Some(origin) = nghttpd(None, &["-m", "2"]) else { return };
    let breakers = "circuit_breakers: [{max_connections: 3, max_pending_requests: 1000}]";
    let Some(stage) = plane.start(asking_in_http2(&origin.address.to_string()).cluster(breakers)) else { return };
    let mut command = stage.client_command("h2load");
    let out = match run(command.args(["-n", "1000", "-c", "2", "-m", "32", &stage.url("/page")])) {
        Ok(out) => out,
        Err(reason) if reason.contains("No such file") => return skip!("e2e-h2load", "{reason}"),
        Err(reason) => panic!("{reason}"),
    };
    assert!(out.contains("1000 succeeded, 0 failed, 0 errored") && out.contains("1000 2xx"), "{out}");
    let connections = stage.gateway.metric("ferrogate_upstream_h2_connection_total", "");
    assert!((connections - 3.0).abs() < 0.1, "{connections} connections");
    assert!(stage.gateway.metric("ferrogate_upstream_h2_stream_reset_total", "") < 0.1, "streams were refused");
}

/// An idle connection of one version gives its place to who asks in the other, on its worker and on others.
fn one_place_serves_both_versions(plane: Plane) {
    let origin = Origin::start("one");
    let inner = Gateway::start(binary(), &Config::proxy_to(&[origin.address()]).protocols("Auto"));
    for workers in [1, 2] {
        let breakers = "circuit_breakers: [{max_connections: 1, max_pending_requests: 10}]";
        let config = Config::proxy_to(&[inner.listen.to_string()]).protocols("Auto").upstream_protocol("Auto");
        let config = config.cluster(breakers).workers(workers);
        let Some(stage) = plane.start(config) else { return };
        for version in VERSIONS.into_iter().cycle().take(if workers == 1 { 4 } else { 24 }) {
            let got = curl(&stage, &[version, "-w", " %{http_code} %{time_total}", &stage.url("/")]);
            let seconds = got.strip_prefix("one 200 ").and_then(|time| time.parse::<f64>().ok());
            assert!(seconds.is_some_and(|seconds| seconds < 5.0), "{version}, {workers} workers: {got}");
        }
    }
}

fn an_origin_that_restarts(plane: Plane) {
    let Some(origin) = nghttpd(None, &[]) else { return };
    let address = origin.address;
    let Some(stage) = plane.start(asking_in_http2(&address.to_string())) else { return };
    let mut client = stage.client();
    assert_eq!(client.get("/page").text(), "a page");
    drop(origin);
    wait_until("the gateway sees that it is gone", || {
        stage.gateway.metric("upstream_connection_active", "cluster=\"origins\"") < 0.1
    });
    assert_eq!(client.get("/page").status, 502);
    let Ok(again) = Nghttpd::start_at(address, None, &[]) else { return };
    again.file("page", "another page");
    assert_eq!(client.get("/page").text(), "another page");
}

/// HTTP/1 or HTTP/2, HTTP/2 between the gateways, HTTP/1 to the origin.
fn through_two_gateways(plane: Plane) {
    let origin = Origin::start("one");
    let inner = Config::proxy_to(&[origin.address()]).protocols("Http2");
    let inner = Gateway::start(binary(), &inner);
    let Some(stage) = plane.start(asking_in_http2(&inner.listen.to_string())) else { return };
    let folder = test_support::temp::TempDir::new();
    let file = folder.path().join("body");
    let body = pattern::bytes(3_000_000);
    std::fs::write(&file, &body).unwrap();
    let upload = format!("@{}", file.display());
    for version in VERSIONS {
        assert_eq!(curl(&stage, &[version, &stage.url("/")]), "one");
        let sunk = curl(&stage, &[version, "--data-binary", &upload, "-H", "Expect:", &stage.url("/sink")]);
        assert_eq!(sunk, "bytes=3000000 intact=true");
        let got = folder.path().join("got");
        let arguments = ["--data-binary", &upload, "-H", "Expect:", "-o", &got.display().to_string()];
        curl(&stage, &[&[version], &arguments[..], &[&stage.url("/echo")]].concat());
        assert!(std::fs::read(&got).unwrap() == body, "{version}");
        let code = ["-o", "/dev/null", "-w", "%{http_code}"];
        assert_eq!(curl(&stage, &[&[version], &code[..], &[&stage.url("/status?code=204")]].concat()), "204");
        assert_eq!(curl(&stage, &[&[version], &code[..], &[&stage.url("/close")]].concat()), "502");
    }
    let mut client = stage.client();
    let chunked = client.get("/chunked");
    assert!(!chunked.trailers.is_empty(), "trailers pass through both");
    let request =
        b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n0\r\nx-sum: 7\r\n\r\n";
    client.send(request).unwrap();
    let echo = client.answer_to("POST");
    assert_eq!((echo.text().as_str(), echo.trailers.first()), ("four", Some(&("x-sum".into(), "7".into()))));
    let connections = stage.gateway.metric("upstream_connection_total", "cluster=\"origins\"");
    assert!((connections - 1.0).abs() < 0.1, "{connections} connections between the gateways");
}

/// One cluster, asked in one version by one route and in the other by another.
fn one_protocol_a_route(plane: Plane) {
    let origin = Origin::start("one");
    let inner = Gateway::start(binary(), &Config::proxy_to(&[origin.address()]).protocols("Auto"));
    let like_client = "{match: {path: /auto}, route: {cluster_name: origins, upstream_protocol: Auto}}";
    let http1 = "{match: {path: /one}, route: {cluster_name: origins, upstream_protocol: Http1}}";
    let config = asking_in_http2(&inner.listen.to_string()).route(like_client).route(http1);
    let Some(stage) = plane.start(config) else { return };
    let spoken = || inner.metric("ferrogate_h2_connection_total", "");
    for (path, version, connections) in [
        ("/one", VERSIONS[1], 0.0),
        ("/auto", VERSIONS[0], 0.0),
        ("/auto", VERSIONS[1], 1.0),
        ("/two", VERSIONS[0], 1.0),
    ] {
        assert_eq!(curl(&stage, &[version, &stage.url(path)]), "one");
        assert!((spoken() - connections).abs() < 0.1, "{path} {version}: {} connections of HTTP/2", spoken());
    }
}

fn probes_speak_http2(plane: Plane) {
    let pair = Pair::for_names(&["origin.example"]);
    let healthy = |stage: &Stage| stage.gateway.metric("ferrogate_upstream_membership_healthy", "cluster=\"origins\"");
    let tls = format!(
        "tls_context: {{status: true, ca_cert: \"{}\", server_name: origin.example}}",
        pair.certificate.display()
    );
    for secure in [false, true] {
        let Some(origin) = nghttpd(secure.then_some(&pair), &[]) else { return };
        for (path, good) in [("/page", 1.0), ("/absent", 0.0)] {
            let check = format!(
                "health_check: {{protocol: Http2, interval: 50ms, timeout: 5s, initial_delay_seconds: 1ms, initial_state: unhealthy, \
                 check_config: {{http_check_config: {{path: {path}}}}}}}"
            );
            let mut config = asking_in_http2(&origin.address.to_string()).cluster(&check);
            if secure {
                config = config.cluster(&tls);
            }
            let Some(stage) = plane.start(config) else { return };
            wait_until("it was probed, and again", || stage.probes() >= 3.0);
            assert!((healthy(&stage) - good).abs() < 0.1, "{path}, TLS {secure}: {} are healthy", healthy(&stage));
            if good > 0.5 {
                assert_eq!(curl(&stage, &[&stage.url("/page")]), "a page");
            }
        }
    }
}

/// A client that leaves, leaves at the origin too.
#[test]
fn a_client_that_leaves_is_told_to_the_origin() {
    let origin = Origin::start("one");
    let inner = Gateway::start(binary(), &Config::proxy_to(&[origin.address()]).protocols("Http2"));
    let stage = Plane::Kernel.start(asking_in_http2(&inner.listen.to_string())).expect("always there");
    let mut client = stage.client();
    client.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    origin.wait_for_requests(1);
    test_support::Wire::from(client).reset();
    wait_until("the stream is reset", || inner.metric("ferrogate_h2_stream_reset_total", "") > 0.9);
    origin.release();
    assert_eq!(curl(&stage, &[&stage.url("/")]), "one");
}
