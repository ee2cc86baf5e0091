//! Dubbo's Thrift: npm's thrift behind a header written by hand, as client and as server, through one gateway and through two; and raw frames.
//! On both planes.

use std::net::SocketAddr;

use test_support::{Config, Gateway, Wire, wait_until};

use crate::dubbo::listener;
use crate::npm::{self, Script, Server};
use crate::stage::{Plane, Stage, binary, on_both_planes};

on_both_planes! {
    through_one_gateway,
    through_two_gateways,
    frames_of_every_kind,
    what_a_route_can_change,
}

/// Whether there is a Node.js with thrift.
fn has_peers() -> bool {
    npm::has("e2e-thrift", &["thrift"])
}

/// What both sides need.
const PEER: Script = ("peer.js", include_str!("dubbo_thrift/peer.js"));

fn server() -> Server {
    Server::start(&[("server.js", include_str!("dubbo_thrift/server.js")), PEER])
}

/// Has the client go through rows, all of which must hold.
fn check(stage: &Stage, rows: &[&str]) {
    let scripts = &[("client.js", include_str!("dubbo_thrift/client.js")), PEER];
    npm::check(stage.client_command("node"), scripts, stage.address, rows, &stage.gateway.process);
}

const ROWS: &[&str] = &["calls", "at_once", "failure", "no_route", "one_way"];

/// A gateway to one host, for the calls of one service; `more` is said of their route.
fn gateway_to(address: SocketAddr, more: &str) -> Config {
    let route = format!(
        "{{match: {{headers: [{{name: service, value: com.example.Echo}}]}}, route: {{cluster_name: origins{more}}}}}"
    );
    Config::proxy_to(&[address.to_string()]).protocols("dubbo-thrift").route(&route)
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

fn through_two_gateways(plane: Plane) {
    if !has_peers() {
        return;
    }
    let server = server();
    let inner = Gateway::start(binary(), &gateway_to(server.address, ""));
    let Some(stage) = plane.start(gateway_to(inner.listen, "")) else { return };
    check(&stage, ROWS);
    assert!(inner.metric("downstream_request_total", "") > 200.0);
}

/// A frame: its service, its number, the type and name of its message, and its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Frame(&'static str, u64, u8, &'static str, Vec<u8>);

fn text(text: &str) -> Vec<u8> {
    [&u32::try_from(text.len()).expect("short").to_be_bytes()[..], text.as_bytes()].concat()
}

impl Frame {
    /// What comes behind its lengths.
    fn rest(&self) -> Vec<u8> {
        let Self(service, id, kind, name, fields) = self;
        let header_len = u16::try_from(21 + service.len()).expect("short");
        let header = [&header_len.to_be_bytes()[..], &[1], &text(service), &id.to_be_bytes()].concat();
        [&header[..], &[0x80, 1, 0, *kind], &text(name), &[0, 0, 0, 9], fields].concat()
    }
}

fn send(wire: &mut Wire, frame: &Frame) {
    let rest = frame.rest();
    let len = u32::try_from(rest.len() + 6).expect("short").to_be_bytes();
    wire.send(&[&len[..], &[0xDA, 0xBC], &len, &rest].concat()).expect("the peer takes a frame");
}

/// Reads a frame and sees that it is this one.
fn expect(wire: &mut Wire, frame: &Frame) {
    let len = u32::from_be_bytes(wire.take(4).expect("a frame").try_into().expect("four bytes"));
    let got = wire.take(len as usize).expect("a whole frame");
    assert_eq!(got[..6], [&[0xDA, 0xBC], &len.to_be_bytes()[..]].concat());
    assert_eq!(got[6..], frame.rest(), "{frame:?}");
}

const SERVICE: &str = "com.example.Echo";
const CALL: u8 = 1;
const REPLY: u8 = 2;
const EXCEPTION: u8 = 3;
const ONE_WAY: u8 = 4;

fn exception(said: &str, kind: u8) -> Vec<u8> {
    [&b"\x0B\0\x01"[..], &text(said), b"\x08\0\x02\0\0\0", &[kind, 0]].concat()
}

fn frames_of_every_kind(plane: Plane) {
    let (address, accept) = listener();
    let Some(stage) = plane.start(gateway_to(address, ", timeout: 1s")) else { return };
    let mut wire = stage.wire();
    let fields = b"\x0B\0\x01\0\0\0\x02hi\0".to_vec();
    send(&mut wire, &Frame(SERVICE, 70, ONE_WAY, "note", fields.clone()));
    let mut origin = accept();
    expect(&mut origin, &Frame(SERVICE, 1, ONE_WAY, "note", fields.clone()));
    // Numbers are those of the connection; what comes back has the client's own.
    send(&mut wire, &Frame(SERVICE, 70, CALL, "hi", fields.clone()));
    expect(&mut origin, &Frame(SERVICE, 2, CALL, "hi", fields.clone()));
    send(&mut origin, &Frame(SERVICE, 2, REPLY, "hi", b"\0".to_vec()));
    expect(&mut wire, &Frame(SERVICE, 70, REPLY, "hi", b"\0".to_vec()));
    // One that is not answered in time, and is then.
    send(&mut wire, &Frame(SERVICE, 71, CALL, "hi", fields.clone()));
    expect(&mut origin, &Frame(SERVICE, 3, CALL, "hi", fields.clone()));
    expect(&mut wire, &Frame(SERVICE, 71, EXCEPTION, "hi", exception("timeout", 6)));
    send(&mut origin, &Frame(SERVICE, 3, REPLY, "hi", b"\0".to_vec()));
    send(&mut origin, &Frame(SERVICE, 99, REPLY, "hi", b"\0".to_vec()));
    wait_until("both are counted", || {
        let counted = |what: &str| stage.gateway.metric(&format!("ferrogate_upstream_rpc_response_{what}_total"), "");
        (counted("late"), counted("unknown")) == (1.0, 1.0)
    });
    // A client that says what is no frame is told, and let go; others live.
    let mut bad = stage.wire();
    let len = [0xFF; 4];
    bad.send(&[&len[..], &[0xDA, 0xBC], &len, &Frame(SERVICE, 7, CALL, "hi", Vec::new()).rest()].concat())
        .expect("it reads");
    expect(&mut bad, &Frame(SERVICE, 7, EXCEPTION, "hi", exception("codec exception", 7)));
    assert!(bad.take(1).is_err(), "it is closed");
    send(&mut wire, &Frame("com.example.Other", 72, CALL, "hi", fields));
    expect(&mut wire, &Frame("com.example.Other", 72, EXCEPTION, "hi", exception("router unavailable", 1)));
}

/// There is no place for headers on the wire: the service and the method are what there is.
fn what_a_route_can_change(plane: Plane) {
    let (address, accept) = listener();
    let set = |name: &str, append: bool| {
        format!(", request_headers_to_add: [{{header: {{key: {name}, value: other}}, append: {append}}}]")
    };
    let config = gateway_to(address, &set("method", false));
    let also = format!(
        "{{match: {{headers: [{{name: service, value: com.example.Other}}]}}, route: {{cluster_name: origins{}}}}}",
        set("zone", true)
    );
    let Some(stage) = plane.start(config.route(&also)) else { return };
    let mut wire = stage.wire();
    send(&mut wire, &Frame(SERVICE, 5, CALL, "hi", b"\0".to_vec()));
    let mut origin = accept();
    expect(&mut origin, &Frame(SERVICE, 1, CALL, "other", b"\0".to_vec()));
    send(&mut origin, &Frame(SERVICE, 1, REPLY, "other", b"\0".to_vec()));
    expect(&mut wire, &Frame(SERVICE, 5, REPLY, "other", b"\0".to_vec()));
    send(&mut wire, &Frame("com.example.Other", 6, CALL, "hi", b"\0".to_vec()));
    expect(&mut wire, &Frame("com.example.Other", 6, EXCEPTION, "hi", exception("no health upstream", 6)));
    wait_until("the log says why", || stage.gateway.process.output().contains("no other headers"));
}
