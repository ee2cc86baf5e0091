//! The connections to hosts that speak RPC: who gets which, when there are few. On both planes.

use std::net::SocketAddr;

use test_support::{Config, Wire, wait_until};

use crate::bolt::peer::{Frame as Bolt, Peer};
use crate::dubbo::{Frame as Dubbo, frame, hi, listener, request, send};
use crate::stage::{Plane, Stage, on_both_planes};

on_both_planes! {
    an_idle_connection_makes_room_for_another_protocol,
    room_is_for_who_waits_for_its_protocol,
    one_request_at_a_time_on_each,
    one_connection_for_each_client,
    no_client_is_bound_to_more_hosts_than_it_may_be,
    one_request_at_a_time_from_a_client,
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

/// A gateway to a host that takes requests of Bolt; `pool` is how they share connections.
fn gateway_with(address: SocketAddr, pool: &str) -> Config {
    let of_every_service = "{match: {headers: [{name: service, value: \".*\"}]}, route: {cluster_name: origins}}";
    let config = Config::proxy_to(&[address.to_string()]).protocols("bolt").route(of_every_service);
    config.cluster(&format!("rpc_pool: {pool}"))
}

fn connections(stage: &Stage) -> f64 {
    stage.gateway.metric("ferrogate_upstream_rpc_connection_total", "")
}

/// The next request on a connection.
fn asked(origin: &mut Peer) -> Bolt {
    let asked = origin.frame().expect("a request");
    assert_eq!(asked.command, 1, "{asked:?}");
    asked
}

fn one_request_at_a_time_on_each(plane: Plane) {
    let (address, accept) = listener();
    let Some(stage) = plane.start(gateway_with(address, "ping_pong")) else { return };
    let (mut client, mut other) = (Peer(stage.wire()), Peer(stage.wire()));
    client.send(&Bolt::request(1, "s", b"one"));
    client.send(&Bolt::request(2, "s", b"two"));
    other.send(&Bolt::request(1, "s", b"three"));
    // Nothing was answered, and all of them are there.
    let mut origins: Vec<_> = (0..3).map(|_| Peer(accept())).map(|mut origin| (asked(&mut origin), origin)).collect();
    let mut contents: Vec<_> = origins.iter().map(|(asked, _)| asked.content.clone()).collect();
    contents.sort();
    assert_eq!(contents, [&b"one"[..], b"three", b"two"]);
    for (asked, origin) in &mut origins {
        origin.send(&asked.answer());
    }
    let mut answers: Vec<_> = (0..2).map(|_| client.frame().expect("an answer")).map(|a| (a.id, a.content)).collect();
    answers.sort();
    assert_eq!(answers, [(1, b"one".to_vec()), (2, b"two".to_vec())]);
    assert_eq!(other.frame().expect("an answer").content, b"three");
    // What has come back is used again, one after the other.
    for id in 3..6 {
        client.send(&Bolt { varies: 5000, ..Bolt::request(id, "s", b"more") });
        let (_, origin) = &mut origins[0];
        let asked = asked(origin);
        origin.send(&asked.answer());
        assert_eq!(client.frame().expect("an answer").id, id);
    }
    assert!((connections(&stage) - 3.0).abs() < 0.1);
    // One whose request was given up has an answer to come: nobody is to wait behind that.
    client.send(&Bolt { varies: 100, ..Bolt::request(6, "s", b"late") });
    let late = asked(&mut origins[0].1);
    assert_eq!(client.frame().expect("an answer").varies, 7);
    assert_eq!(late.content, b"late");
    assert!(origins[0].1.frame().is_none(), "it is closed");
}

fn one_connection_for_each_client(plane: Plane) {
    let (address, accept) = listener();
    let Some(stage) = plane.start(gateway_with(address, "bound")) else { return };
    let begin = |content: &[u8]| {
        let mut client = Peer(stage.wire());
        client.send(&Bolt::request(1, "s", content));
        let mut origin = Peer(accept());
        let first = asked(&mut origin);
        assert_eq!(first.content, content);
        (client, origin, first)
    };
    let (mut one, mut of_one, first) = begin(b"one");
    let (mut two, mut of_two, _) = begin(b"two");
    // While the first is open the second goes the same way, and its answer may come first.
    for (client, origin) in [(&mut one, &mut of_one), (&mut two, &mut of_two)] {
        client.send(&Bolt::request(2, "s", b"more"));
        let more = asked(origin);
        origin.send(&more.answer());
        assert_eq!(client.frame().map(|answer| (answer.id, answer.content)), Some((2, b"more".to_vec())));
    }
    // A client that leaves takes its connection along, and no other.
    of_one.send(&first.answer());
    assert_eq!(one.frame().map(|answer| (answer.id, answer.content)), Some((1, b"one".to_vec())));
    drop(one);
    assert!(of_one.frame().is_none(), "it is closed");
    two.send(&Bolt::request(3, "s", b"still"));
    assert_eq!(asked(&mut of_two).content, b"still");
    // With the host's side of it goes the client's: what was asked of the host is not asked of another.
    drop(of_two);
    let answers: Vec<_> = std::iter::from_fn(|| two.frame()).map(|answer| (answer.id, answer.varies)).collect();
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert!(answers.contains(&(1, 6)) && answers.contains(&(3, 6)), "{answers:?}");
    assert!((connections(&stage) - 2.0).abs() < 0.1);
    begin(b"three");
}

/// A client that is bound to as many hosts as it may be stays with those.
fn no_client_is_bound_to_more_hosts_than_it_may_be(plane: Plane) {
    let hosts = [listener(), listener()];
    let addresses = [0, 1].map(|host: usize| hosts[host].0);
    let of_every_service = "{match: {headers: [{name: service, value: \".*\"}]}, route: {cluster_name: origins}}";
    let config = Config::proxy_to(&addresses.map(|address| address.to_string())).protocols("bolt");
    let config = config.route(of_every_service).limit("rpc_bonds_max", "1").cluster("rpc_pool: bound");
    let Some(stage) = plane.start(config) else { return };
    let serve = |accept: Box<dyn Fn() -> Wire + Send>| {
        std::thread::spawn(move || {
            let mut origin = Peer(accept());
            let mut answered = 0;
            while let Some(asked) = origin.frame() {
                origin.send(&asked.answer());
                answered += 1;
            }
            answered
        })
    };
    let serving = hosts.map(|(_, accept)| serve(Box::new(accept)));
    let mut client = Peer(stage.wire());
    for id in 1..=6 {
        client.send(&Bolt::request(id, "s", b"x"));
        let answer = client.frame().expect("an answer");
        assert_eq!((answer.id, answer.varies, answer.content), (id, 0, b"x".to_vec()));
    }
    assert!((connections(&stage) - 1.0).abs() < 0.1);
    assert!(stage.gateway.metric("upstream_request_pending_overflow_total", "") > 0.9, "where the limit bit");
    drop(client);
    // The host that was never asked waits for somebody, too.
    for address in addresses {
        drop(std::net::TcpStream::connect(address));
    }
    let mut answered = serving.map(|serving| serving.join().expect("it serves"));
    answered.sort_unstable();
    assert_eq!(answered, [0, 6]);
}

/// Its requests run in its connection's task, which nobody is to notice.
fn one_request_at_a_time_from_a_client(plane: Plane) {
    let (address, accept) = listener();
    let Some(stage) = plane.start(gateway_with(address, "multiplexed")) else { return };
    let mut client = Peer(stage.wire());
    client.send(&Bolt::request(1, "s", b"first"));
    let mut origin = Peer(accept());
    let first = asked(&mut origin);
    origin.send(&first.answer());
    assert_eq!(client.frame().expect("an answer").id, 1);
    let mut ids = 2..;
    let mut one_by_one = |client: &mut Peer, origin: &mut Peer| {
        for id in ids.by_ref().take(8) {
            client.send(&Bolt::request(id, "s", &id.to_be_bytes()));
            let asked = asked(origin);
            assert_eq!(asked.content, id.to_be_bytes());
            origin.send(&asked.answer());
            let answer = client.frame().expect("an answer");
            assert_eq!((answer.id, answer.content), (id, id.to_be_bytes().to_vec()));
        }
    };
    one_by_one(&mut client, &mut origin);
    // One that comes beside another is answered before it where its host is done with it before.
    client.send(&Bolt::request(100, "s", b"slow"));
    let slow = asked(&mut origin);
    client.send(&Bolt::request(101, "s", b"fast"));
    let fast = asked(&mut origin);
    for (asked, id) in [(fast, 101), (slow, 100)] {
        origin.send(&asked.answer());
        assert_eq!(client.frame().expect("an answer").id, id);
    }
    one_by_one(&mut client, &mut origin);
    // One that its host does not answer in time.
    client.send(&Bolt { varies: 100, ..Bolt::request(102, "s", b"late") });
    asked(&mut origin);
    let answer = client.frame().expect("an answer");
    assert_eq!((answer.id, answer.varies), (102, 7));
    one_by_one(&mut client, &mut origin);
    // One whose client leaves ends with it.
    client.send(&Bolt::request(103, "s", b"left"));
    asked(&mut origin);
    let reset = || stage.gateway.metric("downstream_request_reset_total", "");
    let before = reset();
    client.0.reset();
    wait_until("its end is counted", || reset() > before + 0.9);
    assert!(stage.gateway.metric("downstream_request_active", "") < 0.1);
    let mut client = Peer(stage.wire());
    one_by_one(&mut client, &mut origin);
}
