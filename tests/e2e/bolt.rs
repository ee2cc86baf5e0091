//! SOFA Bolt: sofa-rpc-node as client and server through one gateway and through two; and raw frames for what no good peer does. On both
//! planes.

#[path = "bolt/peer.rs"]
pub mod peer;

use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use test_support::netns::Namespace;
use test_support::ports::free_address;
use test_support::process::{Process, run};
use test_support::temp::TempDir;
use test_support::{Config, Gateway, skip, wait_until};

use self::peer::{Frame, Listening, Peer};
use crate::npm::{self, Server};
use crate::stage::{Plane, Stage, binary, on_both_planes};

on_both_planes! {
    through_one_gateway,
    through_two_gateways,
    the_example_file_runs,
    answers_of_our_own,
    routes_by_service,
    what_was_not_changed_leaves_as_it_came,
    headers_that_a_route_changes,
    a_host_that_a_route_rewrites_is_for_http,
    ten_thousand_at_once,
    heartbeats_are_answered_and_asked,
    a_host_that_goes_away,
    clients_are_told_when_we_go,
    hostile_bytes_close_their_connection_alone,
    one_listener_for_all_protocols,
}

/// Whether there is a Node.js with sofa-rpc-node.
pub fn has_peers() -> bool {
    npm::has("e2e-sofa-rpc-node", &["sofa-rpc-node", "sofa-bolt-node"])
}

/// A server of sofa-rpc-node.
pub fn server() -> Server {
    server_by(Command::new("node"), free_address())
}

/// The same by another command.
fn server_by(command: Command, address: SocketAddr) -> Server {
    Server::start_at(command, &[("server.js", include_str!("bolt/server.js"))], address)
}

/// Has the client go through rows, all of which must hold.
pub fn check(stage: &Stage, address: SocketAddr, rows: &[&str]) {
    check_by(stage.client_command("node"), address, rows, &stage.gateway.process);
}

fn check_by(command: Command, address: SocketAddr, rows: &[&str], gateway: &Process) {
    npm::check(command, &[("client.js", include_str!("bolt/client.js"))], address, rows, gateway);
}

pub const SERVICE: &str = "com.example.Echo:1.0";

/// A gateway to one host, for the requests of one service.
fn gateway_to(address: SocketAddr) -> Config {
    let route =
        format!("{{match: {{headers: [{{name: service, value: \"{SERVICE}\"}}]}}, route: {{cluster_name: origins}}}}");
    Config::proxy_to(&[address.to_string()]).protocols("bolt").route(&route)
}

/// The same, for those of every service.
fn gateway_to_all(address: SocketAddr) -> Config {
    let route = "{match: {headers: [{name: service, value: \".*\"}]}, route: {cluster_name: origins}}";
    Config::proxy_to(&[address.to_string()]).protocols("bolt").route(route)
}

fn client(stage: &Stage) -> Peer {
    Peer(stage.wire())
}

pub const ROWS: &[&str] = &["calls", "at_once", "failure", "timeout", "no_route", "one_way", "version_2"];

fn through_one_gateway(plane: Plane) {
    if !has_peers() {
        return;
    }
    let server = server();
    let Some(stage) = plane.start(gateway_to(server.address)) else { return };
    check(&stage, stage.address, ROWS);
    wait_until("the one-way request arrives", || server.process.output().contains("noted in passing"));
    wait_until("the late answer is counted", || {
        stage.gateway.metric("ferrogate_upstream_rpc_response_late_total", "") > 0.9
    });
    let conns = stage.gateway.metric("ferrogate_upstream_rpc_connection_total", "");
    assert!(conns < 2.1, "{conns} connections: one of either version");
}

fn through_two_gateways(plane: Plane) {
    if !has_peers() {
        return;
    }
    let server = server();
    let inner = Gateway::start(binary(), &gateway_to(server.address));
    let Some(stage) = plane.start(gateway_to_all(inner.listen)) else { return };
    check(&stage, stage.address, ROWS);
    assert!(inner.metric("downstream_request_total", "") > 300.0);
}

/// MOSN's file of a sidecar: out by its egress listener, in by its ingress listener, to the application. Only its ports are others here.
fn the_example_file_runs(plane: Plane) {
    if plane != Plane::Kernel {
        return;
    }
    if !has_peers() {
        return;
    }
    let server = server();
    let (egress, ingress, admin) = (free_address(), free_address(), free_address());
    let mut text = include_str!("../../core/tests/data/config/mosn_sidecar_bolt.json").to_owned();
    for (from, to) in [
        ("127.0.0.1:18220", egress.to_string()),
        ("127.0.0.1:18221", ingress.to_string()),
        ("127.0.0.1:12200", server.address.to_string()),
        ("18092", admin.port().to_string()),
    ] {
        assert!(text.contains(from), "the file has {from}");
        text = text.replace(from, &to);
    }
    let mut config = Config::proxy_to(&[]).verbatim(&text);
    (config.listen, config.admin) = (egress, admin);
    let Some(stage) = plane.start(config) else { return };
    check(&stage, egress, &["calls", "at_once", "failure", "one_way", "version_2"]);
    check(&stage, ingress, &["calls"]);
    // Without the service that has a route of its own, but with one: the default cluster. Without any: no route.
    let mut peer = Peer::connect(egress);
    let answer = peer.ask(&Frame::request(3, "", b""));
    assert_eq!((answer.id, answer.varies), (3, 6), "NO_PROCESSOR");
}

/// The same file as it is, every byte of it, in a network of its own where its ports are free.
#[test]
fn the_example_file_runs_unchanged() {
    if !has_peers() {
        return;
    }
    let network = match Namespace::new() {
        Ok(network) => network,
        Err(reason) => return skip!("e2e-namespace", "{reason}"),
    };
    let of_file = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let _server = server_by(network.command("node"), of_file(12200));
    let folder = TempDir::new();
    let file = folder.write("sidecar.json", include_str!("../../core/tests/data/config/mosn_sidecar_bolt.json"));
    let mut command = network.command(binary());
    let mut gateway = Process::start(command.arg("start").arg("-c").arg(file));
    wait_until("the gateway serves", || {
        let ended = gateway.ended();
        assert!(ended.is_none(), "{}", gateway.output());
        [18220, 18221].iter().all(|port| network.inside(move || TcpStream::connect(of_file(*port)).is_ok()))
    });
    let rows = ["calls", "at_once", "failure", "one_way", "version_2"];
    check_by(network.command("node"), of_file(18220), &rows, &gateway);
    check_by(network.command("node"), of_file(18221), &["calls"], &gateway);
}

fn answers_of_our_own(plane: Plane) {
    let (dead, origin) = (free_address(), Listening::start());
    let services = [
        ("dead", "route: {cluster_name: dead}"),
        ("none", "route: {cluster_name: none}"),
        ("slow", "route: {cluster_name: origins, timeout: 100ms}"),
        ("direct", "direct_response: {status: 403}"),
        ("full", "route: {cluster_name: full}"),
    ];
    let mut config = Config::proxy_to(&[origin.address.to_string()])
        .protocols("bolt")
        .another_cluster(&format!("{{name: dead, hosts: [{{address: \"{dead}\"}}]}}"))
        .another_cluster("{name: none, type: SIMPLE, hosts: []}")
        .another_cluster(&format!(
            "{{name: full, circuit_breakers: [{{max_requests: 1}}], hosts: [{{address: \"{}\"}}]}}",
            origin.address
        ));
    for (service, action) in services {
        config = config.route(&format!("{{match: {{headers: [{{name: service, value: {service}}}]}}, {action}}}"));
    }
    let Some(stage) = plane.start(config) else { return };
    let mut peer = client(&stage);
    for (id, service, status) in [(1, "dead", 6), (2, "none", 6), (3, "nowhere", 6), (4, "slow", 7), (5, "direct", 2)] {
        let answer = peer.ask(&Frame::request(id, service, b"x"));
        assert_eq!(answer, Frame::bare(0, 2, id, status), "{service}");
    }
    // One that waits, and one too many.
    peer.send(&Frame::request(7, "full", b""));
    // The first connection is that of the service that was too slow.
    let _slow = origin.accept();
    let mut held = origin.accept();
    assert!(held.frame().expect("a request").content.is_empty());
    assert_eq!(peer.ask(&Frame::request(8, "full", b"")), Frame::bare(0, 2, 8, 4), "SERVER_THREADPOOL_BUSY");
    // What the frame says goes before the default of the file, and is no longer than what the route says.
    let begun = std::time::Instant::now();
    let answer = peer.ask(&Frame { varies: 200, ..Frame::request(9, "dead", b"") });
    assert_eq!(answer.varies, 6);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

fn routes_by_service(plane: Plane) {
    let named = |name: &'static str| {
        Listening::answering(move |asked| Frame { content: name.into(), ..asked.answer() }).to_string()
    };
    let route = |service: &str, cluster: &str| {
        format!("{{match: {{headers: [{{name: service, value: \"{service}\"}}]}}, route: {{cluster_name: {cluster}}}}}")
    };
    let config = Config::proxy_to(&[named("one")])
        .protocols("bolt")
        .more_origins("others", &[named("others")])
        .route(&route("com.example.A:1.0", "origins"))
        .route(&route(".*", "others"));
    let Some(stage) = plane.start(config) else { return };
    let mut peer = client(&stage);
    for (id, service, who) in
        [(1, "com.example.A:1.0", "one"), (2, "com.example.A:1.00", "others"), (3, ".*", "others")]
    {
        let answer = peer.ask(&Frame::request(id, service, b""));
        assert_eq!((answer.id, String::from_utf8_lossy(&answer.content).as_ref()), (id, who), "{service}");
    }
    assert_eq!(peer.ask(&Frame::request(4, "", b"")).varies, 6, "an empty service is none");
}

fn what_was_not_changed_leaves_as_it_came(plane: Plane) {
    let origin = Listening::start();
    let Some(stage) = plane.start(gateway_to(origin.address)) else { return };
    let mut peer = client(&stage);
    let mut asked = Frame::request(77, SERVICE, &[0, 255, 10, 13]);
    asked.headers.extend([("b".into(), String::new()), ("a\r\n".into(), "\0".into()), ("b".into(), "2".into())]);
    peer.send(&asked);
    let mut conn = origin.accept();
    let got = conn.frame().expect("a request");
    assert_eq!(Frame { id: 77, ..got.clone() }, asked, "all but the number");
    conn.send(&got.answer());
    assert_eq!(peer.frame(), Some(asked.answer()));
}

fn headers_that_a_route_changes(plane: Plane) {
    let origin = Listening::start();
    let route = format!(
        "{{match: {{headers: [{{name: service, value: \"{SERVICE}\"}}]}}, route: {{cluster_name: origins, \
         request_headers_to_add: [{{header: {{key: x-zone, value: blue}}}}], request_headers_to_remove: [secret], \
         response_headers_to_add: [{{header: {{key: x-by, value: gateway}}}}]}}}}"
    );
    let config = Config::proxy_to(&[origin.address.to_string()]).protocols("bolt").route(&route);
    let Some(stage) = plane.start(config) else { return };
    let mut peer = client(&stage);
    let mut asked = Frame::request(1, SERVICE, b"content");
    asked.headers.push(("secret".into(), "s".into()));
    peer.send(&asked);
    let mut conn = origin.accept();
    let got = conn.frame().expect("a request");
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(got.headers, [pair("service", SERVICE), pair("x-zone", "blue")]);
    assert_eq!((&got.class, &got.content, got.varies), (&asked.class, &asked.content, asked.varies));
    conn.send(&got.answer());
    let answer = peer.frame().expect("an answer");
    assert_eq!((answer.headers, answer.content), (vec![pair("x-by", "gateway")], b"content".to_vec()));
}

/// A frame asks for no host: what a route says of it changes nothing.
fn a_host_that_a_route_rewrites_is_for_http(plane: Plane) {
    for rewrite in ["host_rewrite: a.example", "auto_host_rewrite: true"] {
        let origin = Listening::start();
        let route = format!(
            "{{match: {{headers: [{{name: service, value: \"{SERVICE}\"}}]}}, route: {{cluster_name: named, {rewrite}}}}}"
        );
        let named = format!("{{name: named, hosts: [{{hostname: b.example, address: \"{}\"}}]}}", origin.address);
        let config = Config::proxy_to(&[]).protocols("bolt").another_cluster(&named).route(&route);
        let Some(stage) = plane.start(config) else { return };
        let mut peer = client(&stage);
        let asked = Frame::request(7, SERVICE, b"content");
        peer.send(&asked);
        let got = origin.accept().frame().expect("a request");
        assert_eq!(Frame { id: 7, ..got }, asked, "{rewrite}");
    }
}

/// The numbers of a hundred clients are the same; the requests of all of them are on one connection. Some are answered late, some never.
fn ten_thousand_at_once(plane: Plane) {
    const CLIENTS: u32 = 100;
    const EACH: u32 = 100;
    let origin = Listening::start();
    let Some(stage) = plane.start(gateway_to(origin.address)) else { return };
    let fate = |client: u32, id: u32| match (client + id) % 50 {
        0 => Fate::Late,
        1 => Fate::Never,
        _ => Fate::Answered,
    };
    let mut peers: Vec<_> = (0..CLIENTS).map(|_| client(&stage)).collect();
    for (client, peer) in (0..CLIENTS).zip(&mut peers) {
        let requests = (1..=EACH).map(|id| {
            let varies = if fate(client, id) == Fate::Answered { 60_000 } else { 6000 };
            Frame { varies, ..Frame::request(id, SERVICE, format!("{client} {id}").as_bytes()) }.bytes()
        });
        peer.0.send(&requests.collect::<Vec<_>>().concat()).expect("the gateway takes requests");
    }
    let mut conn = origin.accept();
    let mut asked: Vec<_> = (0..CLIENTS * EACH).map(|_| conn.frame().expect("a request")).collect();
    let mut numbers: Vec<_> = asked.iter().map(|frame| frame.id).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 10_000, "each has a number of its own");
    // In another order than they came.
    asked.sort_by_key(|frame| frame.id.wrapping_mul(0x9E37_79B9));
    let of = |frame: &Frame| {
        let text = String::from_utf8(frame.content.clone()).expect("text");
        let (client, id) = text.split_once(' ').expect("two numbers");
        fate(client.parse().expect("a number"), id.parse().expect("a number"))
    };
    let mut late = Vec::new();
    for frame in &asked {
        match of(frame) {
            Fate::Answered => conn.send(&frame.answer()),
            Fate::Late => late.push(frame.answer()),
            Fate::Never => {}
        }
    }
    for (client, peer) in (0..CLIENTS).zip(&mut peers) {
        let answers: HashMap<u32, Frame> =
            (0..EACH).map(|_| peer.frame().expect("an answer")).map(|a| (a.id, a)).collect();
        for id in 1..=EACH {
            let answer = answers.get(&id).unwrap_or_else(|| panic!("client {client} has no answer {id}"));
            if fate(client, id) == Fate::Answered {
                assert_eq!((answer.varies, &answer.content[..]), (0, format!("{client} {id}").as_bytes()));
            } else {
                assert_eq!(*answer, Frame::bare(0, 2, id, 7), "TIMEOUT");
            }
        }
    }
    assert_eq!(late.len(), 200);
    late.iter().for_each(|answer| conn.send(answer));
    conn.send(&Frame::bare(0, 2, 4_000_000_000, 0));
    wait_until("what nobody waits for is counted", || {
        let count = |name| stage.gateway.metric(name, "").round();
        (count("ferrogate_upstream_rpc_response_late_total"), count("ferrogate_upstream_rpc_response_unknown_total"))
            == (200.0, 1.0)
    });
    assert!((stage.gateway.metric("ferrogate_upstream_rpc_connection_total", "") - 1.0).abs() < 0.1);
    // Nothing is left over: the next answer is the next request's.
    let next = Frame::request(5, SERVICE, b"next");
    peers[0].send(&next);
    let got = conn.frame().expect("a request");
    conn.send(&got.answer());
    assert_eq!(peers[0].frame(), Some(next.answer()));
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    Late,
    Never,
}

fn heartbeats_are_answered_and_asked(plane: Plane) {
    let origin = Listening::start();
    let config = gateway_to(origin.address).cluster("keepalive: {interval: 200ms, timeout: 100ms}");
    let Some(stage) = plane.start(config) else { return };
    let mut peer = client(&stage);
    assert_eq!(peer.ask(&Frame::bare(1, 0, 9, -1)), Frame::bare(0, 0, 9, 0));
    peer.send(&Frame::request(1, SERVICE, b""));
    let mut conn = origin.accept();
    let asked = conn.frame().expect("a request");
    // While nothing comes from the host it is asked whether it lives, be a request open or not.
    for _ in 0..3 {
        let beat = conn.frame().expect("a heartbeat");
        assert_eq!(beat, Frame::bare(1, 0, beat.id, -1));
        assert_ne!(beat.id, asked.id);
        conn.send(&Frame::bare(0, 0, beat.id, 0));
    }
    conn.send(&asked.answer());
    assert_eq!(peer.frame().expect("an answer").id, 1);
    // It asks us, too.
    conn.send(&Frame::bare(1, 0, 123, -1));
    let reply = std::iter::repeat_with(|| conn.frame().expect("a frame")).find(|frame| frame.kind == 0);
    assert_eq!(reply, Some(Frame::bare(0, 0, 123, 0)));
    // One that leaves them unanswered is left, and what was open there fails.
    peer.send(&Frame::request(2, SERVICE, b""));
    let mut beats = 0;
    while let Some(frame) = conn.frame() {
        beats += usize::from(frame.command == 0);
    }
    assert_eq!(beats, 6);
    assert_eq!(peer.frame().expect("an answer"), Frame::bare(0, 2, 2, 6));
    assert!(stage.gateway.metric("ferrogate_upstream_rpc_connection_lost_total", "") > 0.9);
}

fn a_host_that_goes_away(plane: Plane) {
    let origin = Listening::start();
    let Some(stage) = plane.start(gateway_to(origin.address)) else { return };
    let mut peer = client(&stage);
    peer.send(&Frame::request(1, SERVICE, b"first"));
    let mut first = origin.accept();
    let open = first.frame().expect("a request");
    first.send(&Frame::bare(1, 100, 55, 0));
    // What is asked from now on goes elsewhere; what is open is still answered.
    let mut second = None;
    wait_until("the next request goes to another connection", || {
        peer.send(&Frame::request(2, SERVICE, b"second"));
        second = origin.accept_within(Duration::from_millis(50));
        let answering = second.as_mut().unwrap_or(&mut first);
        let asked = answering.frame().expect("a request");
        answering.send(&asked.answer());
        assert_eq!(peer.frame().expect("an answer").id, 2);
        second.is_some()
    });
    first.send(&open.answer());
    assert_eq!(peer.frame().expect("an answer").content, b"first");
    assert_eq!(first.frame(), None, "it is closed once nothing is open on it");
    assert!(stage.gateway.metric("ferrogate_upstream_rpc_go_away_total", "") > 0.9);
}

fn clients_are_told_when_we_go(plane: Plane) {
    for says in [true, false] {
        let origin = Listening::start();
        let config = gateway_to(origin.address).extend_config(&format!("{{bolt: {{enable_bolt_goaway: {says}}}}}"));
        let Some(mut stage) = plane.start(config) else { return };
        let (mut busy, mut idle) = (client(&stage), client(&stage));
        idle.ask(&Frame::bare(1, 0, 9, -1));
        busy.send(&Frame::request(1, SERVICE, b"open"));
        let mut conn = origin.accept();
        let open = conn.frame().expect("a request");
        stage.gateway.process.signal("TERM");
        if says {
            let told = busy.frame().expect("a word");
            assert_eq!((told.kind, told.command), (1, 100), "GoAway");
            assert_eq!(idle.frame().expect("a word").command, 100);
        }
        // What comes a moment later is served as well.
        busy.send(&Frame::request(2, SERVICE, b"late"));
        let late = conn.frame().expect("a request");
        conn.send(&late.answer());
        assert_eq!(busy.frame().expect("an answer").id, 2);
        assert_eq!(idle.frame(), None, "it is closed when its moment is over");
        conn.send(&open.answer());
        assert_eq!(busy.frame().expect("an answer").content, b"open");
        assert_eq!(busy.frame(), None);
        assert_eq!(stage.gateway.process.wait().code(), Some(0));
    }
}

fn hostile_bytes_close_their_connection_alone(plane: Plane) {
    let origin = Listening::echo();
    let Some(stage) = plane.start(gateway_to(origin)) else { return };
    let mut good = client(&stage);
    let request = Frame::request(2, SERVICE, b"hi").bytes();
    let change = |at: usize, with: &[u8]| {
        let mut bytes = request.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        bytes
    };
    let header_at = 22 + "com.example.Request".len();
    for (what, bytes, told) in [
        ("4 GiB of content", change(18, &[0xFF; 4]), true),
        ("a header block that overruns", change(header_at, &[0, 0, 0xFF, 0]), true),
        ("an unknown command", change(2, &[0, 9]), true),
        ("an unknown type", change(1, &[9]), false),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), false),
    ] {
        let mut bad = client(&stage);
        bad.0.send(&bytes).expect("the gateway reads");
        if told {
            assert_eq!(bad.frame(), Some(Frame::bare(0, 2, 2, 9)), "{what}: CODEC_EXCEPTION");
        }
        assert_eq!(bad.frame(), None, "{what}: closed");
        assert_eq!(good.ask(&Frame::request(1, SERVICE, b"good")).content, b"good", "{what}");
    }
    // The same number twice is the client's own affair: both are answered.
    let twice = [Frame::request(4, SERVICE, b"a").bytes(), Frame::request(4, SERVICE, b"b").bytes()].concat();
    good.0.send(&twice).expect("the gateway reads");
    let mut contents = [good.frame().expect("an answer").content, good.frame().expect("an answer").content];
    contents.sort();
    assert_eq!(contents, [b"a", b"b"]);
    // What nobody asked is ignored.
    good.send(&Frame::bare(0, 2, 99, 0));
    assert_eq!(good.ask(&Frame::request(5, SERVICE, b"still")).content, b"still");
    let count = |name| stage.gateway.metric(name, "").round();
    assert_eq!((count("ferrogate_rpc_frame_too_long_total"), count("ferrogate_rpc_protocol_error_total")), (1.0, 4.0));
}

fn one_listener_for_all_protocols(plane: Plane) {
    let origin = Listening::echo();
    let config =
        gateway_to(origin).protocols("Auto").route("{match: {prefix: /}, direct_response: {status: 200, body: http}}");
    let Some(stage) = plane.start(config) else { return };
    assert_eq!(client(&stage).ask(&Frame::request(1, SERVICE, b"rpc")).content, b"rpc");
    assert_eq!(stage.client().get("/").text(), "http");
    let mut command = stage.client_command("curl");
    command.args(["-sS", "--max-time", "20", "--noproxy", "*", "--http2-prior-knowledge", &stage.url("/")]);
    assert_eq!(run(&mut command).unwrap_or_else(|e| panic!("{e}")), "http");
}
