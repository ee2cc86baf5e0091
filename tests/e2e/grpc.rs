//! gRPC with Python's client and server: every kind of call, deadlines, cancels and the gateway's own answers; through one gateway and
//! through two, on both planes.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use test_support::origin::raw_target;
use test_support::ports::free_address;
use test_support::process::{Process, run};
use test_support::temp::TempDir;
use test_support::{Config, Gateway, Origin, skip, wait_until};

use crate::stage::{Plane, Stage, binary, on_both_planes};

on_both_planes! {
    through_one_gateway,
    through_two_gateways,
    answers_of_our_own,
    a_deadline_is_kept,
    hosts_are_asked_for_their_health,
}

/// A Python that has grpcio: the first on the path, or the system's, which `make test` gives it to.
fn python() -> Option<&'static str> {
    let has_grpc = |python: &str| run(Command::new(python).args(["-c", "import grpc"])).is_ok();
    let found = ["/usr/bin/python3", "python3"].into_iter().find(|python| has_grpc(python));
    if found.is_none() {
        skip!("e2e-grpc", "no Python with grpcio (Debian: python3-grpcio)");
    }
    found
}

/// A gRPC server, ended when dropped.
struct Server {
    address: SocketAddr,
    _process: Process,
    _folder: TempDir,
}

impl Server {
    fn start(python: &str) -> Self {
        Self::start_as(python, "")
    }

    fn start_as(python: &str, state: &str) -> Self {
        let (address, folder) = (free_address(), TempDir::new());
        let script = folder.write("server.py", include_str!("grpc/server.py"));
        let mut process = Process::start(Command::new(python).arg(script).arg(address.port().to_string()).arg(state));
        wait_until("the gRPC server serves", || {
            let ended = process.ended();
            assert!(ended.is_none(), "{}", process.output());
            process.output().contains("serving")
        });
        Self { address, _process: process, _folder: folder }
    }
}

/// Has the client go through rows, all of which must hold.
fn check(python: &str, stage: &Stage, rows: &[&str]) {
    let folder = TempDir::new();
    let script = folder.write("client.py", include_str!("grpc/client.py"));
    let mut command = stage.client_command(python);
    let out = run(command.arg(script).arg(stage.address.to_string()).args(rows)).unwrap_or_else(|e| panic!("{e}"));
    let held: Vec<_> = out.lines().filter_map(|line| line.strip_prefix("ok ")).collect();
    assert_eq!(held, rows, "{out}");
}

fn gateway_to(address: SocketAddr) -> Config {
    Config::proxy_to(&[address.to_string()]).protocols("Http2").upstream_protocol("Http2")
}

/// Every kind of call.
const CALLS: &[&str] =
    &["unary", "at_once", "failure", "client_stream", "server_stream", "both_streams", "deadline", "cancel"];

fn through_one_gateway(plane: Plane) {
    let Some(python) = python() else { return };
    let server = Server::start(python);
    let Some(stage) = plane.start(gateway_to(server.address)) else { return };
    check(python, &stage, CALLS);
    assert!(stage.gateway.metric("ferrogate_upstream_h2_connection_lost_total", "") < 0.1);
}

fn through_two_gateways(plane: Plane) {
    let Some(python) = python() else { return };
    let server = Server::start(python);
    let inner = Gateway::start(binary(), &gateway_to(server.address));
    let Some(stage) = plane.start(gateway_to(inner.listen)) else { return };
    check(python, &stage, CALLS);
}

fn answers_of_our_own(plane: Plane) {
    let Some(python) = python() else { return };
    let dead = free_address();
    let config = gateway_to(dead)
        .route("{match: {prefix: /dead}, route: {cluster_name: origins}}")
        .route("{match: {prefix: /}, direct_response: {status: 404}}");
    let Some(stage) = plane.start(config) else { return };
    check(python, &stage, &["no_route", "no_origin"]);
}

/// By grpc.health.v1: one that serves, one that says it does not, one that is not there.
fn hosts_are_asked_for_their_health(plane: Plane) {
    let Some(python) = python() else { return };
    let (well, sick) = (Server::start(python), Server::start_as(python, "sick"));
    let hosts = [well.address, sick.address, free_address()].map(|address| address.to_string());
    let common = "interval: 50ms, timeout: 5s, initial_delay_seconds: 1ms, initial_state: unhealthy";
    let healthy = |stage: &Stage| stage.gateway.metric("ferrogate_upstream_membership_healthy", "cluster=\"origins\"");
    for service in ["", ", check_config: {grpc_check_config: {service_name: test.All}}"] {
        let config = Config::proxy_to(&hosts).protocols("Http2").upstream_protocol("Http2");
        let config = config.cluster(&format!("health_check: {{protocol: grpc, {common}{service}}}"));
        let Some(stage) = plane.start(config) else { return };
        wait_until("each was probed, and again", || stage.probes() >= 9.0);
        assert!((healthy(&stage) - 1.0).abs() < 0.1, "{} are healthy", healthy(&stage));
        check(python, &stage, &["unary", "unary", "unary", "unary"]);
    }
    let unknown = ", check_config: {grpc_check_config: {service_name: nobody}}";
    let config = Config::proxy_to(&hosts[..1]).cluster(&format!("health_check: {{protocol: grpc, {common}{unknown}}}"));
    let Some(stage) = plane.start(config) else { return };
    wait_until("it was probed, and again", || stage.probes() >= 3.0);
    assert!(healthy(&stage) < 0.1, "it does not know that service");
    assert!(stage.gateway.metric("healthcheck_active_failure_total", "cluster=\"origins\"") >= 2.0);
}

/// The deadline that a client names is the gateway's too, however long its route would wait, and whatever its origin speaks.
fn a_deadline_is_kept(plane: Plane) {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()]).protocols("Http2");
    let Some(stage) = plane.start(config) else { return };
    for (field, within) in [("300m", 10), ("1S", 10), ("200000u", 10)] {
        let begun = Instant::now();
        let mut command = stage.client_command("curl");
        command.args(["-sS", "-i", "--max-time", "20", "--noproxy", "*", "--http2-prior-knowledge"]);
        command.args(["-H", "content-type: application/grpc", "-H", &format!("grpc-timeout: {field}"), "-d", ""]);
        let out = run(command.arg(stage.url("/stall"))).unwrap_or_else(|e| panic!("{e}"));
        assert!(out.contains("HTTP/2 200") && out.contains("grpc-status: 4"), "{field}: {out}");
        assert!(out.contains("content-type: application/grpc"), "{field}: {out}");
        assert!(begun.elapsed() < Duration::from_secs(within), "{field}");
    }
    // An answer that has begun ends with it too: by its trailers, and at the origin.
    let begun = Instant::now();
    let part = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/grpc\r\n\r\n4\r\npart\r\n";
    let mut command = stage.client_command("curl");
    command.args(["-sS", "-i", "--max-time", "20", "--noproxy", "*", "--http2-prior-knowledge"]);
    command.args(["-H", "content-type: application/grpc", "-H", "grpc-timeout: 500m", "-d", ""]);
    let out = run(command.arg(stage.url(&raw_target(part, "stall")))).unwrap_or_else(|e| panic!("{e}"));
    assert!(out.contains("part") && out.contains("grpc-status: 4"), "{out}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    wait_until("the origin's connection is closed", || origin.open_conns() == 0);
}
