//! A DPDK plane ends well, and outlives what it stands on: its link, its process, its root.

use std::fs;
use std::process::Command;
use std::thread;

use test_support::process::{Process, run};
use test_support::temp::TempDir;
use test_support::{Client, Config, Gateway, Origin, skip, wait_until};

use crate::stage::{Plane, Stage, binary};

const PLANES: [Plane; 2] = [Plane::AfPacket, Plane::AfXdp];

fn ip(arguments: &[&str]) -> String {
    run(Command::new("ip").args(arguments)).unwrap_or_else(|e| panic!("ip {arguments:?}: {e}"))
}

/// Whether a program is on the port's interface.
fn has_xdp(stage: &Stage) -> bool {
    ip(&["-d", "link", "show", &stage.veth().port]).contains("prog/xdp")
}

/// Whether a client is served, on a connection of its own.
fn serves(stage: &Stage) -> bool {
    let Ok(mut client) = stage.try_client() else { return false };
    client.send(b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").is_ok()
        && client.try_answer_to("GET").is_ok_and(|answer| answer.status == 200)
}

#[test]
fn a_link_goes_down_and_comes_back() {
    let origin = Origin::start("a");
    for plane in PLANES {
        let Some(stage) = plane.front_of(&origin) else { continue };
        let mut client = stage.client();
        assert_eq!(client.get("/before").status, 200);
        ip(&["link", "set", &stage.veth().port, "down"]);
        client.send(b"GET /meanwhile HTTP/1.1\r\nHost: x\r\n\r\n").expect("the kernel takes it");
        assert_eq!(stage.gateway.admin("/ready").status, 200);
        ip(&["link", "set", &stage.veth().port, "up"]);
        assert_eq!(client.answer_to("GET").status, 200, "{plane:?}: the connection goes on");
        assert!(serves(&stage), "{plane:?}");
        stage.gateway.stop();
    }
}

#[test]
fn a_link_that_is_gone_takes_nobody_along() {
    let origin = Origin::start("a");
    for plane in PLANES {
        let Some(stage) = plane.front_of(&origin) else { continue };
        let mut client = stage.client();
        assert_eq!(client.get("/before").status, 200);
        ip(&["link", "delete", &stage.veth().port]);
        // The lcore has seen it: it goes on to turn, and the admin API to answer.
        let turns = || stage.gateway.metric("ferrogate_dpdk_lcore_turns_total", "lcore=\"0\"");
        let before = turns();
        wait_until("it turns", || turns() > before);
        assert_eq!(stage.gateway.admin("/ready").status, 200, "{plane:?}");
        stage.gateway.process.signal("INT");
        let mut gateway = stage.gateway;
        assert!(gateway.process.wait().success(), "{plane:?}: {}", gateway.process.output());
    }
}

#[test]
fn a_process_that_was_killed_is_followed_by_the_next_and_that_one_leaves_nothing() {
    let origin = Origin::start("a");
    for plane in PLANES {
        let Some(mut stage) = plane.front_of(&origin) else { continue };
        assert!(serves(&stage), "{plane:?}");
        for _ in 0..2 {
            stage.gateway.process.signal("KILL");
            stage.gateway.process.wait();
            stage.gateway.process =
                Process::start(Command::new(binary()).arg("start").arg("-c").arg(stage.gateway.file()));
            wait_until("the next one serves", || {
                assert!(stage.gateway.process.ended().is_none(), "{plane:?}: {}", stage.gateway.process.output());
                serves(&stage)
            });
        }
        assert_eq!(has_xdp(&stage), plane == Plane::AfXdp);
        stage.gateway.process.signal("TERM");
        assert!(stage.gateway.process.wait().success(), "{plane:?}: {}", stage.gateway.process.output());
        assert!(!has_xdp(&stage), "{plane:?}");
    }
}

#[test]
fn root_is_given_up_once_the_ports_are_open() {
    let origin = Origin::start("a");
    let (bind_service, net_admin) = (1_u64 << 10, 1_u64 << 12);
    for (plane, kept) in [(Plane::AfPacket, bind_service), (Plane::AfXdp, bind_service | net_admin)] {
        let config = Config::proxy_to(&[origin.address()]).dpdk("user: nobody");
        let Some(mut stage) = plane.start(config) else { continue };
        assert!(serves(&stage), "{plane:?}");
        let tasks = fs::read_dir(format!("/proc/{}/task", stage.gateway.process.id())).expect("it runs");
        for task in tasks.flatten() {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0").trim();
            assert!(
                line("Uid:").split('\t').all(|id| id != "0") && line("Gid:").split('\t').all(|id| id != "0"),
                "{status}"
            );
            for set in ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:"] {
                let mask = u64::from_str_radix(line(set), 16).unwrap_or(u64::MAX);
                assert_eq!(mask & !kept, 0, "{plane:?}: {set}\n{status}");
            }
        }
        stage.gateway.process.signal("TERM");
        assert!(stage.gateway.process.wait().success(), "{plane:?}: {}", stage.gateway.process.output());
        assert!(!has_xdp(&stage), "{plane:?}");
    }
}

#[test]
fn who_can_not_be_the_user_does_not_start() {
    let origin = Origin::start("a");
    let config = Config::proxy_to(&[origin.address()]).dataplane(
        "dataplane: {type: dpdk, dpdk: {user: nobody-has-this-name, hugepages: false, memory_mib: 64, ports: [{device: net_ring0, address: 198.18.0.1/24}]}}\n",
    );
    let exited = Gateway::refused(binary(), &config.text());
    if exited.output.contains("without the feature dpdk") {
        return skip!("e2e-user", "built without DPDK");
    }
    assert_eq!(exited.status.code(), Some(3), "{}", exited.output);
    assert!(exited.output.contains("can't become \"nobody-has-this-name\""), "{}", exited.output);
}

/// A gateway whose only port is one end of a memif. With an Ethernet address of its own: the driver draws another for each process, and a neighbour
/// would not know it for a minute.
fn on_memif(role: &str, socket: &str, last: u8, host: &str) -> Option<Gateway> {
    let dataplane = format!(
        "dataplane:\n  type: dpdk\n  workers: 1\n  dpdk:\n    hugepages: false\n    memory_mib: 64\n    ports:\n      \
         - {{device: \"net_memif0,role={role},id=0,socket={socket},socket-abstract=no,mac=02:00:00:00:07:0{last}\", address: 198.18.7.{last}/24}}\n"
    );
    let config = Config::proxy_to(&[host.to_owned()]).dataplane(&dataplane).limit("connect_timeout", "2s");
    match Gateway::launch(&mut Command::new(binary()), &config) {
        Ok(gateway) => Some(gateway),
        Err(exited) if exited.status.code() == Some(3) => {
            skip!("e2e-memif", "{}", exited.output.lines().last().unwrap_or("the plane can't start"));
            None
        }
        Err(exited) => panic!("{}\n{}", exited.status, exited.output),
    }
}

/// Whether a request comes through, on a connection of its own.
fn passes(gateway: &Gateway) -> bool {
    let Ok(mut client) = Client::try_connect(gateway.listen) else { return false };
    client.send(b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").is_ok()
        && client.try_answer_to("GET").is_ok_and(|answer| answer.status == 200)
}

/// Two gateways on one memif: the first serves what the second asks it for. A peer that is killed while packets run leaves the other unharmed, and
/// the next one is served.
#[test]
fn a_memif_peer_that_is_killed_does_not_take_the_gateway_along() {
    let (origin, folder) = (Origin::start("a"), TempDir::new());
    let socket = folder.path().join("memif.sock");
    let socket = socket.to_str().expect("a path of the test");
    let Some(mut server) = on_memif("server", socket, 1, &origin.address()) else { return };
    let host = format!("198.18.7.1:{}", server.listen.port());
    for round in 0..2 {
        let Some(mut peer) = on_memif("client", socket, 2, &host) else { return };
        wait_until("requests pass", || {
            assert!(server.process.ended().is_none(), "round {round}: {}", server.process.output());
            passes(&peer)
        });
        // Killed with frames on their way.
        let load: Vec<_> = (0..4)
            .map(|_| {
                let listen = peer.listen;
                thread::spawn(move || {
                    let Ok(mut client) = Client::try_connect(listen) else { return };
                    while client.send(b"GET /y HTTP/1.1\r\nHost: x\r\n\r\n").is_ok()
                        && client.try_answer_to("GET").is_ok()
                    {}
                })
            })
            .collect();
        let requests = || server.metric("downstream_request_total", "");
        let before = requests();
        wait_until("the load runs", || requests() > before + 200.0);
        peer.process.signal("KILL");
        peer.process.wait();
        load.into_iter().for_each(|thread| thread.join().expect("a client ends"));
        assert_eq!(server.admin("/ready").status, 200, "round {round}");
    }
    // The other way round: who goes is the one that listens.
    let Some(mut peer) = on_memif("client", socket, 2, &host) else { return };
    wait_until("requests pass", || passes(&peer));
    server.process.signal("KILL");
    server.process.wait();
    assert!(!passes(&peer), "nobody is there");
    assert_eq!(peer.admin("/ready").status, 200);
    // What it has left of its socket is in nobody's way.
    server.process = Process::start(Command::new(binary()).arg("start").arg("-c").arg(server.file()));
    wait_until("requests pass again", || {
        assert!(peer.process.ended().is_none() && server.process.ended().is_none(), "{}", peer.process.output());
        passes(&peer)
    });
    peer.stop();
    server.stop();
    assert!(!fs::exists(socket).unwrap_or(true), "its socket goes with it");
}

/// Peers are served one after the other: one that connects and says nothing is given up for the next.
#[test]
fn a_memif_peer_that_says_nothing_keeps_nobody_out() {
    let (origin, folder) = (Origin::start("a"), TempDir::new());
    let socket = folder.path().join("memif.sock");
    let socket = socket.to_str().expect("a path of the test");
    let Some(server) = on_memif("server", socket, 1, &origin.address()) else { return };
    let silent = format!(
        "import socket, time\ns = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\ns.connect({socket:?})\nprint('connected', flush=True)\ntime.sleep(120)"
    );
    let mut stranger = Process::start(Command::new("python3").args(["-c", &silent]));
    wait_until("the stranger has connected", || stranger.output().contains("connected"));
    let host = format!("198.18.7.1:{}", server.listen.port());
    let Some(peer) = on_memif("client", socket, 2, &host) else { return };
    wait_until("requests of another pass", || passes(&peer));
    assert!(stranger.ended().is_none(), "it is still there, and silent");
    peer.stop();
    server.stop();
}
