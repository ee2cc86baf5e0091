//! Tars with npm's @tars/rpc as client and as server, through one gateway and through two; and raw frames. On both planes.

use std::net::SocketAddr;
use std::process::Command;

use test_support::ports::free_address;
use test_support::{Config, Gateway, Wire, wait_until};

use crate::dubbo::listener;
use crate::npm::{self, Server};
use crate::stage::{Plane, Stage, binary, on_both_planes};

on_both_planes! {
    through_one_gateway,
    through_two_gateways,
    frames_of_every_kind,
    a_context_routes_and_changes,
    tars_beside_all_others,
}

/// Whether there is a Node.js with @tars/rpc.
fn has_peers() -> bool {
    npm::has("e2e-tars-rpc", &["@tars/rpc"])
}

/// A server of @tars/rpc.
fn server() -> Server {
    let scripts = &[("server.js", include_str!("tars/server.js"))];
    Server::start_at(Command::new("node"), scripts, free_address()).that_accepts()
}

/// Has the client go through rows, all of which must hold.
fn check(stage: &Stage, rows: &[&str]) {
    let scripts = &[("client.js", include_str!("tars/client.js"))];
    npm::check(stage.client_command("node"), scripts, stage.address, rows, &stage.gateway.process);
}

const ROWS: &[&str] = &["calls", "at_once", "context", "failure", "no_route", "one_way", "ping", "tup"];

/// A gateway to one host, for the calls of one servant; `more` is said of their route.
fn gateway_to(address: SocketAddr, more: &str) -> Config {
    let route = format!(
        "{{match: {{headers: [{{name: service, value: App.Echo.EchoObj}}]}}, route: {{cluster_name: origins{more}}}}}"
    );
    Config::proxy_to(&[address.to_string()]).protocols("tars").route(&route)
}

fn through_one_gateway(plane: Plane) {
    if !has_peers() {
        return;
    }
    let server = server();
    let Some(stage) = plane.start(gateway_to(server.address, "")) else { return };
    check(&stage, ROWS);
    wait_until("the one-way call arrives", || server.process.output().contains("noted in passing"));
    let conns = stage.gateway.metric("ferrogate_upstream_rpc_connection_total", "");
    assert!((conns - 1.0).abs() < 0.1, "{conns} connections");
}

/// The second one has the requests' contexts written anew.
fn through_two_gateways(plane: Plane) {
    if !has_peers() {
        return;
    }
    let server = server();
    let inner = Gateway::start(binary(), &gateway_to(server.address, ""));
    let adds = ", request_headers_to_add: [{header: {key: hop, value: one}}], response_headers_to_add: [{header: {key: back, value: two}}]";
    let Some(stage) = plane.start(gateway_to(inner.listen, adds)) else { return };
    check(&stage, ROWS);
    check(&stage, &["added"]);
    assert!(inner.metric("downstream_request_total", "") > 200.0);
}

/// Sends a frame of these fields.
fn send(wire: &mut Wire, fields: &[&[u8]]) {
    let body = fields.concat();
    let len = u32::try_from(body.len() + 4).expect("short");
    wire.send(&[&len.to_be_bytes()[..], &body].concat()).expect("the peer takes a frame");
}

/// The fields of the next frame; None: the other side has closed.
fn frame(wire: &mut Wire) -> Option<Vec<u8>> {
    let len = u32::from_be_bytes(wire.take(4).ok()?.try_into().expect("four bytes"));
    Some(wire.take(len as usize - 4).expect("a whole frame"))
}

/// The fields of a request before its content: its packet type, its number below 128, and its names.
fn start(packet: &'static [u8], id: u8, servant: &str) -> Vec<u8> {
    let len = u8::try_from(servant.len()).expect("short");
    [b"\x10\x01", packet, b"\x3C\x40", &[id], b"\x56", &[len], servant.as_bytes(), b"\x66\x02hi"].concat()
}

/// The fields of an answer: its number below 128, its result, and its text.
fn answer(id: u8, result: &[u8], text: &str) -> Vec<u8> {
    let (number, len) = (if id == 0 { vec![0x3C] } else { vec![0x30, id] }, u8::try_from(text.len()).expect("short"));
    [b"\x10\x01\x2C", &number[..], b"\x4C", result, b"\x6D\0\x0C\x78\x0C\x86", &[len], text.as_bytes(), b"\x98\x0C"]
        .concat()
}

const CALL: &[u8] = b"\x2C";
const ONE_WAY: &[u8] = b"\x20\x01";
const CONTENT: &[u8] = b"\x7D\0\0\x02\x0C\x1C";
/// No timeout, no context and no status.
const REST: &[u8] = b"\x8C\x98\x0C\xA8\x0C";
const SERVANT: &str = "App.Echo.EchoObj";

/// The number of a request, where it is below 128.
fn number(fields: &[u8]) -> u8 {
    let at = fields.windows(2).position(|pair| pair == b"\x3C\x40").expect("a kind of message and a number");
    fields[at + 2]
}

/// The next request; pings before it are answered.
fn request(wire: &mut Wire) -> Vec<u8> {
    loop {
        let fields = frame(wire).expect("a request");
        if !fields.windows(9).any(|name| name == b"tars_ping") {
            return fields;
        }
        send(wire, &[&answer(number(&fields), b"\x5C", "")]);
    }
}

fn frames_of_every_kind(plane: Plane) {
    let (address, accept) = listener();
    let config = gateway_to(address, "").cluster("keepalive: {interval: 1s, timeout: 5s}");
    let Some(mut stage) = plane.start(config) else { return };
    let mut wire = stage.wire();
    // A ping is answered here.
    send(&mut wire, &[b"\x10\x01\x2C\x3C\x40\x01\x56\x01x\x66\x09tars_ping\x7D\0\x0C", REST]);
    let pong = b"\x10\x01\x2C\x30\x01\x4C\x5C\x6D\0\0\x01\x0C\x78\x0C\x86\0\x98\x0C";
    assert_eq!(frame(&mut wire).as_deref(), Some(&pong[..]));
    // A one-way call has no answer; one that waits names its own time.
    send(&mut wire, &[&start(ONE_WAY, 2, SERVANT), CONTENT, REST]);
    let mut origin = accept();
    assert_eq!(request(&mut origin)[2..4], *ONE_WAY);
    send(&mut wire, &[&start(CALL, 3, SERVANT), CONTENT, b"\x80\x64\x98\x0C\xA8\x0C"]);
    let late = request(&mut origin);
    assert_eq!(frame(&mut wire), Some(answer(3, b"\x50\xF9", "timeout")));
    send(&mut origin, &[&answer(number(&late), b"\x5C", "")]);
    // What was never asked is nobody's.
    send(&mut origin, &[&answer(0, b"\x5C", "news")]);
    // A host that is silent is asked whether it lives; that it has no such servant is an answer, and counts as nothing else.
    let ping = frame(&mut origin).expect("a ping");
    assert_eq!(ping[6..], *b"\x56\0\x66\x09tars_ping\x7D\0\x0C\x8C\x98\x0C\xA8\x0C".as_slice());
    send(&mut origin, &[&answer(number(&ping), b"\x50\xFC", "")]);
    wait_until("both are counted", || {
        let counted = |what: &str| stage.gateway.metric(&format!("ferrogate_upstream_rpc_response_{what}_total"), "");
        (counted("late"), counted("unknown")) == (1.0, 1.0)
    });
    // One that says goodbye is asked no more.
    send(&mut origin, &[&answer(0, b"\x5C", "_reconnect_")]);
    assert_eq!(frame(&mut origin), None, "it is closed");
    send(&mut wire, &[&start(CALL, 4, SERVANT), CONTENT, REST]);
    let mut second = accept();
    let asked = request(&mut second);
    send(&mut second, &[&answer(number(&asked), b"\x5C", "fine")]);
    assert_eq!(frame(&mut wire), Some(answer(4, b"\x5C", "fine")));
    // A client that says what is no frame is told, and let go.
    let mut bad = stage.wire();
    send(&mut bad, &[&start(CALL, 7, SERVANT), b"\x7D\0\x02\x7F\xFF\xFF\xFF"]);
    assert_eq!(frame(&mut bad), Some(answer(7, b"\x50\xFF", "codec exception")));
    assert_eq!(frame(&mut bad), None);
    let mut deep = stage.wire();
    send(&mut deep, &[&start(CALL, 8, SERVANT), CONTENT, b"\x8C\x98\x0C\xA8\x0C\xBA", &[0x0A; 1000]]);
    assert_eq!(frame(&mut deep), Some(answer(8, b"\x50\xFF", "codec exception")));
    wait_until("the bound is counted", || stage.gateway.metric("ferrogate_rpc_too_deep_total", "") == 1.0);
    // At the end clients hear that they are to go elsewhere.
    stage.gateway.process.signal("TERM");
    assert_eq!(frame(&mut wire), Some(answer(0, b"\x5C", "_reconnect_")));
    assert_eq!(frame(&mut wire), None);
    assert_eq!(stage.gateway.process.wait().code(), Some(0));
}

fn a_context_routes_and_changes(plane: Plane) {
    let (address, accept) = listener();
    let edits = ", request_headers_to_add: [{header: {key: zone, value: blue}}], request_headers_to_remove: [secret]";
    let route = format!("{{match: {{headers: [{{name: group, value: g}}]}}, route: {{cluster_name: origins{edits}}}}}");
    let config = Config::proxy_to(&[address.to_string()]).protocols("tars").route(&route);
    let Some(stage) = plane.start(config) else { return };
    let mut wire = stage.wire();
    let context = b"\x8C\x98\0\x02\x06\x05group\x16\x01g\x06\x06secret\x16\x01s\xA8\x0C\xB6\x01?";
    send(&mut wire, &[&start(CALL, 1, SERVANT), CONTENT, context]);
    let mut origin = accept();
    let changed = b"\x8C\x98\0\x02\x06\x05group\x16\x01g\x06\x04zone\x16\x04blue\xA8\x0C\xB6\x01?";
    let asked = request(&mut origin);
    assert_eq!(asked, [&start(CALL, number(&asked), SERVANT)[..], CONTENT, changed].concat());
    send(&mut origin, &[&answer(number(&asked), b"\x5C", "")]);
    assert_eq!(frame(&mut wire), Some(answer(1, b"\x5C", "")));
    send(&mut wire, &[&start(CALL, 2, SERVANT), CONTENT, REST]);
    assert_eq!(frame(&mut wire), Some(answer(2, b"\x50\xFC", "router unavailable")));
}

/// Its clients are found by their first bytes, however slowly those come, where a listener serves whatever there is.
fn tars_beside_all_others(plane: Plane) {
    let Some(stage) = plane.start(
        Config::proxy_to(&["127.0.0.1:9".to_owned()])
            .protocols("Auto")
            .route("{match: {path: /x}, direct_response: {status: 200}}"),
    ) else {
        return;
    };
    let mut wire = stage.wire();
    let call = [&start(CALL, 1, SERVANT)[..], CONTENT, REST].concat();
    let len = u32::try_from(call.len() + 4).expect("short").to_be_bytes();
    for piece in [&len[..1], &len[1..], &call[..1], &call[1..]] {
        wire.send(piece).expect("the gateway reads");
    }
    assert!(frame(&mut wire).expect("an answer").starts_with(b"\x10\x01\x2C\x30\x01\x4C\x50"));
    assert_eq!(stage.client().get("/x").status, 200);
}
