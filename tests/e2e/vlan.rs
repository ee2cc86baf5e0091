//! VLANs of a DPDK port, with Linux at the other end of the link: by VLAN devices of its own, or, where the kernel has none, by TAPs and a program
//! that tags their frames.

use std::net::{Ipv6Addr, SocketAddr};
use std::process::Command;

use test_support::process::{Process, run};
use test_support::{Config, wait_until};

use crate::stage::{Plane, Stage, binary};

const HERE: [u8; 4] = [198, 18, 100, 1];
const HERE_6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x198, 0x18, 0x100, 0, 0, 0, 1);

/// A gateway with a leg in VLAN 100, where its origin is.
struct Scene {
    stage: Stage,
    _origin: Process,
    _tagger: Option<Process>,
}

fn scene(plane: Plane, of_port: &str) -> Option<Scene> {
    let config = Config::proxy_to(&["198.18.100.2:9100".to_owned()])
        .port("vlans: [{id: 100, address: 198.18.100.1/24, addresses: [\"fd00:198:18:100::1/64\"]}]")
        .port(of_port);
    let stage = plane.start(config)?;
    let tagger = add_vlans(&stage);
    let origin = Process::start(stage.client_command(binary()).args(["origin", "--listen", "198.18.100.2:9100"]));
    wait_until("the origin answers", || stage.try_client().is_ok_and(|mut client| client.get("/").status == 200));
    Some(Scene { stage, _origin: origin, _tagger: tagger })
}

/// The clients' ends of VLANs 100 and 200.
fn add_vlans(stage: &Stage) -> Option<Process> {
    let veth = stage.veth();
    // Between veths a tag is beside the frame, where net_af_xdp does not see it.
    run(veth.command("ethtool").args(["-K", &veth.peer, "txvlan", "off", "rxvlan", "off"])).expect("ethtool");
    add_devices(|program| veth.command(program), &veth.peer, &[(100, "fg100", 2), (200, "fg200", 2)])
}

/// Devices of VLANs on a link of Linux: the number, the name, and the last part of the addresses of each. Where the kernel has none these are
/// TAPs, and the program that tags their frames comes back.
pub fn add_devices(command: impl Fn(&str) -> Command, link: &str, vlans: &[(u16, &str, u8)]) -> Option<Process> {
    let ip = |arguments: &str| run(command("ip").args(arguments.split(' ')));
    let add =
        |(id, name, _): &(u16, &str, u8)| ip(&format!("link add link {link} name {name} type vlan id {id}")).map(drop);
    let tagger = vlans.iter().try_for_each(add).err().map(|_| {
        let mac = run(command("cat").arg(format!("/sys/class/net/{link}/address"))).expect("a link has an address");
        for (_, name, _) in vlans {
            ip(&format!("tuntap add dev {name} mode tap")).expect("a TAP device");
            ip(&format!("link set {name} address {}", mac.trim())).expect("the link's address");
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/vlan/tagger.py");
        let lanes = vlans.iter().map(|(id, name, _)| format!("{id}:{name}"));
        Process::start(command("python3").args([script, link]).args(lanes))
    });
    for (id, name, last) in vlans {
        ip(&format!("address add 198.18.{id}.{last}/24 dev {name}")).expect("an address");
        ip(&format!("address add fd00:198:18:{id}::{last}/64 dev {name} nodad")).expect("an address");
        ip(&format!("link set {name} up")).expect("a device");
    }
    tagger
}

fn curl(stage: &Stage, to: SocketAddr, path: &str) -> Result<String, String> {
    run(stage.client_command("curl").args(["-sSf", "--max-time", "10", &format!("http://{to}{path}")]))
}

fn serve(stage: &Stage) {
    let port = stage.address.port();
    for to in [stage.address, (HERE, port).into(), (HERE_6, port).into()] {
        for _ in 0..20 {
            curl(stage, to, "/").unwrap_or_else(|e| panic!("{to}: {e}"));
        }
        // Full packets, with a tag besides.
        let long = curl(stage, to, "/bytes/300000").unwrap_or_else(|e| panic!("{to}: {e}"));
        assert_eq!(long.len(), 300_000, "{to}");
    }
    for ip in ["198.18.100.1", "fd00:198:18:100::1"] {
        let said = run(stage.client_command("ping").args(["-c", "3", "-i", "0.2", "-W", "5", "-s", "1400", ip]));
        assert!(said.as_ref().is_ok_and(|said| said.contains(" 0% packet loss")), "{said:?}");
    }
    // The same address asked for in another VLAN: nobody is there.
    let refused = stage.gateway.metric("ferrogate_dpdk_dropped_frames_total", "reason=\"ether_type\"");
    run(stage.client_command("ip").args(["route", "add", "198.18.100.1/32", "dev", "fg200"])).expect("a route");
    let told =
        run(stage.client_command("curl").args(["-sS", "--max-time", "2", &format!("http://198.18.100.1:{port}/")]));
    assert!(told.is_err(), "{told:?}");
    assert!(stage.gateway.metric("ferrogate_dpdk_dropped_frames_total", "reason=\"ether_type\"") > refused);
}

/// Whether the port takes tags off and puts them on.
fn tags_by_port(stage: &Stage) -> [bool; 2] {
    let shown = stage.gateway.admin("/api/v1/dataplane").text().split_whitespace().collect::<String>();
    ["vlan_strip", "vlan_insert"].map(|name| shown.contains(&format!("\"{name}\":{{\"port\":true,\"used\":true}}")))
}

#[test]
fn a_vlan_is_a_network_of_its_own_where_the_port_knows_tags() {
    let Some(Scene { stage, .. }) = &scene(Plane::AfPacket, "offloads: {rx_checksum: true}") else { return };
    assert_eq!(tags_by_port(stage), [true, true]);
    serve(stage);
}

#[test]
fn a_vlan_is_a_network_of_its_own_where_the_port_is_not_to_touch_tags() {
    let Some(Scene { stage, .. }) = &scene(Plane::AfPacket, "offloads: {vlan_strip: false, vlan_insert: false}") else {
        return;
    };
    assert_eq!(tags_by_port(stage), [false, false]);
    serve(stage);
}

#[test]
fn a_vlan_is_a_network_of_its_own_where_the_port_does_not_know_tags() {
    let Some(Scene { stage, .. }) = &scene(Plane::AfXdp, "mtu: 1500") else { return };
    assert_eq!(tags_by_port(stage), [false, false]);
    serve(stage);
}

#[test]
fn a_vlan_is_served_by_several_workers() {
    let Some(Scene { stage, .. }) = &scene(Plane::AfPacketPair, "mtu: 1500") else { return };
    serve(stage);
    let accepted =
        |lcore| stage.gateway.metric("ferrogate_dpdk_lcore_flows_accepted_total", &format!("lcore=\"{lcore}\""));
    assert!(accepted(0) > 5.0 && accepted(1) > 5.0, "{} {}", accepted(0), accepted(1));
}
