//! Dubbo 2 with npm's apache-dubbo-consumer and apache-dubbo-service, through one gateway and through two; and raw frames. On both planes.

use std::net::{SocketAddr, TcpListener};

use test_support::{Config, Gateway, Wire};

use crate::npm::{self, Server};
use crate::stage::{Plane, Stage, binary, on_both_planes};

on_both_planes! {
    through_one_gateway,
    through_two_gateways,
    another_protocol_upstream_is_refused,
    attachments_route_and_change,
    frames_of_every_kind,
}

/// Whether there is a Node.js with the apache-dubbo packages.
pub fn has_peers() -> bool {
    npm::has("e2e-apache-dubbo", &["apache-dubbo-service", "apache-dubbo-consumer", "js-to-java"])
}

/// A server of apache-dubbo-service.
pub fn server() -> Server {
    Server::start(&[("server.js", include_str!("dubbo/server.js"))])
}

/// Has the client go through rows, all of which must hold.
pub fn check(stage: &Stage, rows: &[&str]) {
    let scripts = &[("client.js", include_str!("dubbo/client.js"))];
    npm::check(stage.client_command("node"), scripts, stage.address, rows, &stage.gateway.process);
}

pub const ROWS: &[&str] = &["calls", "at_once", "failure", "no_route"];

/// A gateway to one host, for the requests of one service; `more` is said of their route.
fn gateway_to(address: SocketAddr, more: &str) -> Config {
    let route = format!(
        "{{match: {{headers: [{{name: service, value: com.example.Echo}}]}}, route: {{cluster_name: origins{more}}}}}"
    );
    Config::proxy_to(&[address.to_string()]).protocols("dubbo").route(&route)
}

fn through_one_gateway(plane: Plane) {
    if !has_peers() {
        return;
    }
    let server = server();
    let Some(stage) = plane.start(gateway_to(server.address, "")) else { return };
    check(&stage, ROWS);
    let conns = stage.gateway.metric("ferrogate_upstream_rpc_connection_total", "");
    assert!((conns - 1.0).abs() < 0.1, "{conns} connections");
}

/// The second one has the requests' attachments written anew.
fn through_two_gateways(plane: Plane) {
    if !has_peers() {
        return;
    }
    let server = server();
    let inner = Gateway::start(binary(), &gateway_to(server.address, ""));
    let adds = ", request_headers_to_add: [{header: {key: zone, value: blue}}]";
    let Some(stage) = plane.start(gateway_to(inner.listen, adds)) else { return };
    check(&stage, ROWS);
    assert!(inner.metric("downstream_request_total", "") > 200.0);
}

/// A frame: its flag, status, number and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame(pub u8, pub u8, pub u64, pub Vec<u8>);

pub fn send(wire: &mut Wire, Frame(flag, status, id, body): &Frame) {
    let mut out = vec![0xDA, 0xBB, *flag, *status];
    out.extend(id.to_be_bytes());
    out.extend(u32::try_from(body.len()).expect("short").to_be_bytes());
    out.extend(body);
    wire.send(&out).expect("the peer takes a frame");
}

/// The next frame; None: the other side has closed.
pub fn frame(wire: &mut Wire) -> Option<Frame> {
    let fixed = wire.take(16).ok()?;
    assert_eq!(fixed[..2], [0xDA, 0xBB]);
    let id = u64::from_be_bytes(fixed[4..12].try_into().expect("eight bytes"));
    let len = u32::from_be_bytes(fixed[12..].try_into().expect("four bytes"));
    let body = if len == 0 { Vec::new() } else { wire.take(len as usize).expect("a whole frame") };
    Some(Frame(fixed[2], fixed[3], id, body))
}

/// The next request; heartbeats before it are answered.
pub fn request(wire: &mut Wire) -> Frame {
    loop {
        match frame(wire).expect("a request") {
            Frame(0xE2, _, id, _) => send(wire, &Frame(0x22, 20, id, b"N".to_vec())),
            asked => return asked,
        }
    }
}

/// What a request of `hi` with one number says, its attachments in between.
pub fn hi(service: &str, attachments: &[u8]) -> Vec<u8> {
    let mut body = b"\x052.0.2".to_vec();
    body.push(u8::try_from(service.len()).expect("short"));
    body.extend(service.as_bytes());
    body.extend(b"\x031.0\x02hi\x01I\x90H");
    body.extend(attachments);
    body.push(b'Z');
    body
}

pub fn listener() -> (SocketAddr, impl Fn() -> Wire) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    (address, move || Wire::tcp(listener.accept().expect("the gateway connects").0))
}

fn attachments_route_and_change(plane: Plane) {
    let (address, accept) = listener();
    let edits = ", request_headers_to_add: [{header: {key: zone, value: blue}}], request_headers_to_remove: [secret]";
    let route = format!("{{match: {{headers: [{{name: group, value: g}}]}}, route: {{cluster_name: origins{edits}}}}}");
    let config = Config::proxy_to(&[address.to_string()]).protocols("dubbo").route(&route);
    let Some(stage) = plane.start(config) else { return };
    let mut wire = stage.wire();
    send(&mut wire, &Frame(0xC2, 0, 1, hi("com.Foo", b"\x01n\x91\x05group\x01g\x06secret\x01s")));
    let mut origin = accept();
    let asked = frame(&mut origin).expect("a request");
    assert_eq!(asked.3, hi("com.Foo", b"\x01n\x91\x05group\x01g\x04zone\x04blue"));
    send(&mut origin, &Frame(0x02, 20, asked.2, b"\x91\x90".to_vec()));
    assert_eq!(frame(&mut wire), Some(Frame(0x02, 20, 1, b"\x91\x90".to_vec())));
    send(&mut wire, &Frame(0xC2, 0, 2, hi("com.Foo", b"\x05group\x01h")));
    assert_eq!(frame(&mut wire), Some(Frame(0x02, 60, 2, b"\x16404|router unavailable".to_vec())));
}

/// Nothing is converted: the client is told at once, and goes on.
fn another_protocol_upstream_is_refused(plane: Plane) {
    let (address, _accept) = listener();
    let route =
        "{match: {headers: [{name: group, value: g}]}, route: {cluster_name: origins, upstream_protocol: bolt}}";
    let config = Config::proxy_to(&[address.to_string()]).protocols("dubbo").route(route);
    let Some(stage) = plane.start(config) else { return };
    let mut wire = stage.wire();
    for id in 1..3 {
        send(&mut wire, &Frame(0xC2, 0, id, hi("com.Foo", b"\x05group\x01g")));
        assert_eq!(frame(&mut wire), Some(Frame(0x02, 60, id, b"\x16502|no health upstream".to_vec())));
    }
}

fn frames_of_every_kind(plane: Plane) {
    let (address, accept) = listener();
    let config = gateway_to(address, "").cluster("keepalive: {interval: 1s, timeout: 5s}");
    let Some(mut stage) = plane.start(config) else { return };
    let mut wire = stage.wire();
    // A heartbeat is answered here.
    send(&mut wire, &Frame(0xE2, 0, 1, b"N".to_vec()));
    assert_eq!(frame(&mut wire), Some(Frame(0x22, 20, 1, b"NN".to_vec())));
    // A one-way request has no answer; one that waits names its own time.
    send(&mut wire, &Frame(0x82, 0, 2, hi("com.example.Echo", b"")));
    let mut origin = accept();
    assert_eq!(request(&mut origin).0, 0x82);
    send(&mut wire, &Frame(0xC2, 0, 3, hi("com.example.Echo", b"\x07timeout\x03100")));
    let late = request(&mut origin);
    assert_eq!(frame(&mut wire), Some(Frame(0x02, 30, 3, b"\x0B504|timeout".to_vec())));
    send(&mut origin, &Frame(0x02, 20, late.2, b"\x92".to_vec()));
    // A host that is silent is asked whether it lives.
    let beat = frame(&mut origin).expect("a heartbeat");
    assert_eq!((beat.0, beat.3), (0xE2, b"N".to_vec()));
    send(&mut origin, &Frame(0x22, 20, beat.2, b"N".to_vec()));
    // One that is to be read from only is asked no more.
    send(&mut origin, &Frame(0xA2, 0, 9, b"\x01R".to_vec()));
    assert_eq!(std::iter::from_fn(|| frame(&mut origin)).find(|frame| frame.0 & 0x20 == 0), None, "it is closed");
    send(&mut wire, &Frame(0xC2, 0, 4, hi("com.example.Echo", b"")));
    let mut second = accept();
    let asked = request(&mut second);
    send(&mut second, &Frame(0x02, 20, asked.2, b"\x92".to_vec()));
    assert_eq!(frame(&mut wire), Some(Frame(0x02, 20, 4, b"\x92".to_vec())));
    // A client that says what is no frame is told, and let go.
    let mut bad = stage.wire();
    bad.send(&[&[0xDA, 0xBB, 0xC2, 0, 0, 0, 0, 0, 0, 0, 0, 7][..], &[0xFF; 4]].concat()).expect("the gateway reads");
    assert_eq!(frame(&mut bad), Some(Frame(0x02, 70, 7, b"\x110|codec exception".to_vec())));
    assert_eq!(frame(&mut bad), None);
    // Arguments that nest too deep hide the attachments, and pass.
    let mut deep = b"\x052.0.2\x10com.example.Echo\x031.0\x02hi\x01I".to_vec();
    deep.extend([0x79; 100]);
    deep.extend(b"\x90H\x05group\x01gZ");
    send(&mut wire, &Frame(0xC2, 0, 5, deep.clone()));
    let asked = request(&mut second);
    assert_eq!(asked.3, deep);
    send(&mut second, &Frame(0x02, 20, asked.2, b"\x92".to_vec()));
    assert_eq!(frame(&mut wire), Some(Frame(0x02, 20, 5, b"\x92".to_vec())));
    assert!((stage.gateway.metric("ferrogate_rpc_unread_total", "") - 1.0).abs() < 0.1);
    // At the end clients hear that they are to go elsewhere.
    stage.gateway.process.signal("TERM");
    assert_eq!(frame(&mut wire), Some(Frame(0xA2, 0, 0, b"\x01R".to_vec())));
    assert_eq!(frame(&mut wire), None);
    assert_eq!(stage.gateway.process.wait().code(), Some(0));
}
