//! The connections to hosts that speak RPC: who gets which, when there are few. On both planes.

use std::net::SocketAddr;

use test_support::{Config, Wire, wait_until};

use crate::bolt::peer::{Frame as Bolt, Peer};
use crate::dubbo::{Frame as Dubbo, frame, hi, listener, request, send};
use crate::stage::{Plane, Stage, on_both_planes};

on_both_planes! {
    an_idle_connection_makes_room_for_another_protocol,
    room_is_for_who_waits_for_its_protocol,
}

/// A gateway to a host that takes requests of Bolt and of Dubbo, one at a time on each of so many connections.
fn gateway_to(address: SocketAddr, conns_max: usize) -> Config {
    let of_every_service = "{match: {headers: [{name: service, value: \".*\"}]}, route: {cluster_name: origins}}";
    Config::proxy_to(&[address.to_string()])
        .protocols("bolt,dubbo")
        .route(of_every_service)
        .limit("rpc_streams_max", "1")
        .cluster(&format!("circuit_breakers: [{{max_connections: {conns_max}, max_pending_requests: 10}}]"))
}

fn ask_in_bolt(stage: &Stage) -> Peer {
    let mut client = Peer(stage.wire());
    client.send(&Bolt::request(7, "s", b"ask"));
    client
}

fn ask_in_dubbo(stage: &Stage) -> Wire {
    let mut client = stage.wire();
    send(&mut client, &Dubbo(0xC2, 0, 7, hi("s", b"")));
    client
}

/// Answers the next request of Bolt, and sees that the answer is its client's.
fn answer_bolt(origin: &mut Peer, client: &mut Peer) {
    let asked = origin.frame().expect("a request");
    origin.send(&asked.answer());
    assert_eq!(client.frame().expect("an answer").content, b"ask");
}

/// The same in Dubbo.
fn answer_dubbo(origin: &mut Wire, client: &mut Wire) {
    let asked = request(origin);
    send(origin, &Dubbo(0x02, 20, asked.2, b"\x92".to_vec()));
    assert_eq!(frame(client), Some(Dubbo(0x02, 20, 7, b"\x92".to_vec())));
}

/// There is one place; who has it and needs it no more gives it to who speaks otherwise, on the same worker.
fn an_idle_connection_makes_room_for_another_protocol(plane: Plane) {
    let (address, accept) = listener();
    let Some(stage) = plane.start(gateway_to(address, 1)) else { return };
    for _ in 0..2 {
        let mut client = ask_in_bolt(&stage);
        let mut origin = Peer(accept());
        answer_bolt(&mut origin, &mut client);
        let mut client = ask_in_dubbo(&stage);
        assert!(origin.frame().is_none(), "it is closed");
        answer_dubbo(&mut accept(), &mut client);
    }
}

/// Two connections, both busy, and somebody waits for each: what comes free is for who can use it.
fn room_is_for_who_waits_for_its_protocol(plane: Plane) {
    let (address, accept) = listener();
    let Some(stage) = plane.start(gateway_to(address, 2)) else { return };
    let mut bolt = ask_in_bolt(&stage);
    let mut of_bolt = Peer(accept());
    let mut dubbo = ask_in_dubbo(&stage);
    let mut of_dubbo = accept();
    let open = |count: f64| {
        wait_until("the request has come", || stage.gateway.metric("downstream_request_active", "") > count - 0.1);
    };
    // Who waits longest is not who is to be told.
    let mut next_bolt = ask_in_bolt(&stage);
    open(3.0);
    let mut next_dubbo = ask_in_dubbo(&stage);
    open(4.0);
    answer_dubbo(&mut of_dubbo, &mut dubbo);
    answer_dubbo(&mut of_dubbo, &mut next_dubbo);
    // Nobody wants to speak Dubbo any more: its place is for the other.
    assert_eq!(frame(&mut of_dubbo), None, "it is closed");
    answer_bolt(&mut Peer(accept()), &mut next_bolt);
    answer_bolt(&mut of_bolt, &mut bolt);
}
