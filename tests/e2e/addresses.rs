//! The addresses of a DPDK port, both families of them, as the kernel at the other end of the link sees them.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use test_support::netns::Veth;
use test_support::ports::free_udp_address;
use test_support::process::{Process, run};
use test_support::{Config, Origin, pattern, wait_until};

use crate::stage::{Plane, Stage, binary};

/// A program that runs where clients are; what it printed.
fn out_of(stage: &Stage, program: &str, arguments: &[&str]) -> String {
    run(stage.client_command(program).args(arguments)).unwrap_or_else(|e| panic!("{program} {arguments:?}: {e}"))
}

#[test]
fn a_port_is_pinged_and_serves_over_ipv6() {
    let origin = Origin::start("here");
    let Some(stage) = Plane::AfPacket.front_of(&origin) else { return };
    let at = stage.address_6().expect("it is a port");
    for ip in [stage.address.ip(), at.ip()] {
        let said = out_of(&stage, "ping", &["-c", "3", "-i", "0.2", "-W", "5", "-s", "1000", &ip.to_string()]);
        assert!(said.contains(" 0% packet loss"), "{said}");
    }
    let url = format!("http://{at}/");
    for _ in 0..3 {
        assert_eq!(out_of(&stage, "curl", &["-sS", "-g", "--max-time", "20", &url]), "here");
    }
    // Beyond a window, both ways.
    let big = format!("http://{at}/big?bytes=3000000");
    let got =
        out_of(&stage, "curl", &["-sS", "-g", "--max-time", "20", "-o", "/dev/null", "-w", "%{size_download}", &big]);
    assert_eq!(got, "3000000");
    // Nobody listens there.
    let nowhere = format!("http://{}/", SocketAddr::new(at.ip(), 9));
    let refused = run(stage.client_command("curl").args(["-sS", "-g", "--max-time", "20", &nowhere])).unwrap_err();
    assert!(refused.contains("onnection refused") || refused.contains("connect"), "{refused}");
    stage.gateway.stop();
}

#[test]
fn origins_are_reached_over_ipv6_and_by_a_router() {
    let far = SocketAddr::from(([203, 0, 113, 5], 9100));
    let origins = [SocketAddr::from((Veth::PEER_ADDRESS_6, 9100)), far];
    for at in origins {
        let Some(stage) = Plane::AfPacket.start(Config::proxy_to(&[at.to_string()])) else { return };
        if at == far {
            out_of(&stage, "ip", &["address", "add", "203.0.113.5/32", "dev", "lo"]);
        }
        let mut command = stage.client_command(binary());
        let _origin = Process::start(command.args(["origin", "--listen", &at.to_string()]));
        wait_until("the origin answers", || {
            stage.inside(move || std::net::TcpStream::connect_timeout(&at, Duration::from_secs(1)).is_ok())
        });
        let answer = stage.client().get("/");
        assert_eq!(answer.status, 200, "{}", answer.text());
        stage.gateway.stop();
    }
}

#[test]
fn datagrams_pass_over_ipv6() {
    let host = SocketAddr::from((Veth::PEER_ADDRESS_6, 9100));
    let mut config = Config::proxy_to(&[host.to_string()])
        .listener("network: udp")
        .filter("{type: udp_proxy, config: {cluster: origins}}");
    config.listen = free_udp_address();
    let Some(stage) = Plane::AfXdp.start(config) else { return };
    let server = stage.bind(host);
    let client = stage.bind((IpAddr::from([0_u16; 8]), 0).into());
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a live socket");
    }
    client.connect(stage.address_6().expect("it is a port")).expect("a route");
    let receive = |socket: &UdpSocket| {
        let mut room = vec![0; 65_536];
        let (n, from) = socket.recv_from(&mut room).expect("it comes");
        room.truncate(n);
        (room, from)
    };
    for len in [0, 1, 1232, 1452, 1453, 9000, 65_507] {
        let bytes = pattern::bytes(len);
        client.send(&bytes).expect("it is taken");
        let (question, from) = receive(&server);
        assert!(question == bytes, "{len} bytes there");
        server.send_to(&bytes, from).expect("it is taken");
        assert!(receive(&client).0 == bytes, "{len} bytes back");
    }
    stage.gateway.stop();
}

/// Whoever knew another station by the port's address learns of the port without a question (with `arp_accept`, also who knew none).
#[test]
fn a_port_tells_where_its_addresses_are() {
    let origin = Origin::start("");
    let Some(stage) = Plane::AfPacket.front_of(&origin) else { return };
    let link = stage.link().expect("it is a port").to_owned();
    let ours = stage.address.ip().to_string();
    out_of(&stage, "sysctl", &["-qw", &format!("net.ipv4.conf.{link}.arp_accept=1")]);
    let at = stage.address_6().expect("it is a port").ip().to_string();
    // Another station had them.
    for ip in [&ours, &at] {
        out_of(
            &stage,
            "ip",
            &["neighbour", "replace", ip, "lladdr", "02:00:00:00:00:99", "dev", &link, "nud", "stale"],
        );
    }
    for ip in [&ours, &at] {
        wait_until("it is known where the address is now", || {
            let seen = out_of(&stage, "ip", &["neighbour", "show", ip, "dev", &link]);
            seen.contains("lladdr") && !seen.contains("02:00:00:00:00:99")
        });
    }
}

/// Another machine with an address of ours shows: in the metrics, and to itself.
#[test]
fn a_conflict_of_addresses_is_counted() {
    let origin = Origin::start("");
    let Some(stage) = Plane::AfPacket.front_of(&origin) else { return };
    let link = stage.link().expect("it is a port").to_owned();
    let conflicts =
        || stage.gateway.metric("ferrogate_dpdk_dropped_frames_total", "reason=\"address_conflict\"").round();
    assert_eq!(conflicts(), 0.0);
    let at = format!("{}/64", stage.address_6().expect("it is a port").ip());
    // The kernel looks whether anybody has it.
    out_of(&stage, "ip", &["address", "add", &at, "dev", &link]);
    let is_told = || out_of(&stage, "ip", &["-6", "address", "show", "dev", &link]).contains("dadfailed");
    wait_until("it is counted", || {
        // An announcement of the port's first seconds may have told it before it asked: then it asks again.
        if conflicts() == 0.0 && is_told() {
            for change in ["delete", "add"] {
                out_of(&stage, "ip", &["address", change, &at, "dev", &link]);
            }
        }
        conflicts() > 0.0
    });
    wait_until("the kernel has been told", is_told);
    assert_eq!(stage.client().get("/").status, 200, "it goes on");
}
