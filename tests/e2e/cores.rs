//! Several workers on one DPDK port: connections of both families and datagrams over all of them, whatever the port knows of flows.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use test_support::client::Client;
use test_support::ports::free_udp_address;
use test_support::process::{Process, run};
use test_support::{Config, Veth, Wire, pattern, wait_until};

use crate::stage::{Plane, Stage, binary};

/// Clients of the port, over each family.
const CLIENTS: usize = 100;

/// A gateway with two workers in front of an origin at the other end of the link, which is asked over a connection of its own for each request.
fn stage(plane: Plane) -> Option<(Stage, Process)> {
    let origin = SocketAddr::from((Veth::PEER_ADDRESS, 9100)).to_string();
    let stage = plane.start(Config::proxy_to(std::slice::from_ref(&origin)).cluster("max_request_per_conn: 1"))?;
    let origin = Process::start(stage.client_command(binary()).args(["origin", "--listen", &origin]));
    wait_until("the origin answers", || stage.try_client().is_ok_and(|mut client| client.get("/").status == 200));
    Some((stage, origin))
}

fn counted(stage: &Stage, name: &str, lcore: usize) -> f64 {
    stage.gateway.metric(&format!("ferrogate_dpdk_lcore_{name}"), &format!("lcore=\"{lcore}\""))
}

/// What `ferrogate lcores` says.
fn advice(stage: &Stage) -> String {
    let admin = stage.gateway.admin.to_string();
    run(Command::new(binary()).args(["lcores", "--interval", "0.1", "--admin", &admin])).expect("it answers")
}

fn serve_many(stage: &Stage) {
    // The origin was asked before it was there.
    let resets = [0, 1].map(|lcore| counted(stage, "flows_reset_total", lcore));
    for address in [Some(stage.address), stage.address_6()].into_iter().flatten() {
        let conns: Vec<_> = stage.inside(move || {
            let connect = |_| std::net::TcpStream::connect(address).unwrap_or_else(|e| panic!("{address}: {e}"));
            (0..CLIENTS).map(connect).collect()
        });
        // All are open at once, and each is asked twice.
        let mut clients: Vec<_> = conns.into_iter().map(|conn| Client::over(Wire::tcp(conn))).collect();
        for _ in 0..2 {
            for client in &mut clients {
                assert_eq!(client.get("/").status, 200, "{address}");
            }
        }
    }
    for (lcore, resets) in resets.into_iter().enumerate() {
        for count in ["flows_accepted_total", "flows_connected_total", "requests_total"] {
            assert!(counted(stage, count, lcore) > 40.0, "lcore {lcore}: {} {count}", counted(stage, count, lcore));
        }
        assert_eq!(counted(stage, "flows_reset_total", lcore), resets);
    }
    let dropped = |reason| stage.gateway.metric("ferrogate_dpdk_dropped_frames_total", &format!("reason=\"{reason}\""));
    assert_eq!(dropped("handover_full"), 0.0);
}

#[test]
fn two_workers_serve_one_queue_of_a_port() {
    let Some((stage, _origin)) = stage(Plane::AfXdpShared) else { return };
    serve_many(&stage);
    // The one that has the queue gives the other what is its own.
    assert!(counted(&stage, "foreign_packets_total", 0) > 100.0);
    assert_eq!(counted(&stage, "foreign_packets_total", 1), 0.0);
    assert!(advice(&stage).contains("1 of 2 lcores have a queue pair of it"), "{}", advice(&stage));
    let shown = stage.gateway.admin("/api/v1/dataplane").text();
    assert!(shown.contains("\"queues\": 1") && shown.contains("\"rss_entries\": null"), "{shown}");
}

#[test]
fn two_workers_serve_two_queues_that_the_kernel_fills() {
    let Some((stage, _origin)) = stage(Plane::AfPacketPair) else { return };
    serve_many(&stage);
    // Half of what the kernel's own hash brings is another's.
    let foreign = [0, 1].map(|lcore| counted(&stage, "foreign_packets_total", lcore));
    assert!(foreign.iter().all(|packets| *packets > 50.0), "{foreign:?}");
    assert!(!advice(&stage).contains("have a queue pair"), "{}", advice(&stage));
}

/// A datagram that comes in fragments is put together where they come, and served where its client's session is.
#[test]
fn two_workers_share_datagrams() {
    let host = SocketAddr::from((Veth::PEER_ADDRESS, 9200));
    let mut config = Config::proxy_to(&[host.to_string()])
        .listener("network: udp")
        .filter("{type: udp_proxy, config: {cluster: origins}}");
    config.listen = free_udp_address();
    let Some(stage) = Plane::AfXdpShared.start(config) else { return };
    let server = stage.bind(host);
    let answering = std::thread::spawn(move || {
        let mut room = vec![0; 65_536];
        for _ in 0..40 {
            let (len, from) = server.recv_from(&mut room).expect("a question");
            server.send_to(&room[..len], from).expect("an answer");
        }
    });
    for n in 0..20_usize {
        let socket = stage.bind((IpAddr::from([0, 0, 0, 0]), 0).into());
        socket.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        for len in [100 + n, 5000 + n] {
            let sent = pattern::bytes(len);
            socket.send_to(&sent, stage.address).unwrap();
            let mut room = vec![0; 65_536];
            let len = socket.recv(&mut room).unwrap_or_else(|e| panic!("client {n}, {len} bytes: {e}"));
            assert!(room[..len] == sent, "client {n}, {len} bytes");
        }
    }
    answering.join().unwrap();
    for lcore in 0..2 {
        assert!(counted(&stage, "datagrams_received_total", lcore) > 10.0);
    }
}
