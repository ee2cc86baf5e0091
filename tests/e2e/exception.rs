//! The exception path of a DPDK port: the host goes on as if the port were still its own, beside the gateway on the same address.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::Duration;

use test_support::gateway::Exited;
use test_support::netns::{Namespace, Veth};
use test_support::process::{Process, run};
use test_support::temp::TempDir;
use test_support::{Config, Gateway, pattern, skip, wait_until};

use crate::stage::binary;
use crate::vlan::add_devices;

/// The host of the gateway, and a neighbour on the port's link.
struct Link {
    host: Namespace,
    neighbour: Namespace,
    /// Whom the gateway passes requests on to, behind the port.
    origin: SocketAddr,
    /// More of the port's configuration.
    of_port: &'static str,
    folder: TempDir,
}

impl Link {
    /// The port `port0` of the host has no address, as a port of DPDK's; the neighbour's end has.
    fn new() -> Result<Self, String> {
        let (host, neighbour) = (Namespace::new()?, Namespace::new()?);
        let far = ["link", "add", "port0", "type", "veth", "peer", "name", "far0", "netns", &neighbour.name];
        host.ip(&far)?;
        let _ = host.ip(&["link", "set", "port0", "addrgenmode", "none"]);
        host.ip(&["link", "set", "port0", "up"])?;
        let addresses = [format!("{THERE}/{}", Veth::PREFIX_LEN), format!("{THERE_6}/{}", Veth::PREFIX_LEN_6)];
        for address in &addresses {
            // Without the search for who else has it, which takes a second.
            neighbour.ip(&["address", "add", address, "dev", "far0", "nodad"])?;
        }
        neighbour.ip(&["link", "set", "far0", "up"])?;
        for (side, device) in [(&host, "port0"), (&neighbour, "far0")] {
            run(side
                .command("ethtool")
                .args(["-K", device, "tx", "off", "rx", "off", "gso", "off", "tso", "off", "gro", "off"]))?;
        }
        let origin = (THERE, 9100).into();
        Ok(Self { host, neighbour, origin, of_port: "", folder: TempDir::new() })
    }

    /// Runs `scene` in the host's namespace beside a gateway whose port has a twin with this policy. Where no port can be had, the row is skipped.
    fn with_gateway(self, row: &'static str, policy: &str, scene: impl FnOnce(&Self, &Gateway) + Send + 'static) {
        let policy = policy.to_owned();
        let name = self.host.name.clone();
        let host = Namespace { name };
        host.inside(move || {
            let mut config = Config::proxy_to(&[self.origin.to_string()]);
            config.listen.set_port(8080);
            let dataplane = format!(
                "dataplane:
  type: dpdk
  workers: 1
  fallback: none
  dpdk:
    hugepages: false
    memory_mib: 128
    ports:
      - device: \"net_af_xdp0,iface=port0\"
        address: {HERE}/{}
        addresses: [\"{HERE_6}/{}\", 198.18.0.77/24]
        exception: {{interface: fg0{policy}}}
{}",
                Veth::PREFIX_LEN,
                Veth::PREFIX_LEN_6,
                self.of_port,
            );
            let gateway = match Gateway::launch(&mut self.host.command(binary()), &config.dataplane(&dataplane)) {
                Ok(gateway) => gateway,
                Err(exited) => return skip_without_plane(row, &exited),
            };
            scene(&self, &gateway);
            gateway.stop();
        });
        // It is the link that takes it away.
        std::mem::forget(host);
    }

    fn out_of_neighbour(&self, program: &str, arguments: &[&str]) -> String {
        run(self.neighbour.command(program).args(arguments)).unwrap_or_else(|e| panic!("{program} {arguments:?}: {e}"))
    }
}

/// A link, unless this machine gives none.
fn link(row: &str) -> Option<Link> {
    match Link::new() {
        Ok(link) => Some(link),
        Err(reason) => {
            skip!(row, "{reason}");
            None
        }
    }
}

/// A build without DPDK, or a machine that does not let it have the port. Anything else is a failure.
fn skip_without_plane(row: &str, exited: &Exited) {
    let reason = exited.output.lines().last().unwrap_or_default();
    let lacks =
        ["without the feature dpdk", "give the process these capabilities"].iter().any(|cause| reason.contains(cause));
    assert!(lacks, "{}\n{}", exited.status, exited.output);
    skip!(row, "{reason}");
}

fn sent(gateway: &Gateway) -> f64 {
    gateway.metric("ferrogate_dpdk_lcore_exceptions_sent_total", "lcore=\"0\"")
}

#[test]
fn the_host_pings_serves_and_connects_beside_the_gateway() {
    let Some(link) = link("e2e-exception") else { return };
    link.with_gateway("e2e-exception", "", |link, gateway| {
        // The gateway is at its port, and answers pings itself.
        let _origin =
            Process::start(link.neighbour.command(binary()).args(["origin", "--listen", &format!("{THERE}:9100")]));
        wait_until("the gateway serves", || {
            run(link.neighbour.command("curl").args(["-sSf", "--max-time", "5", &format!("http://{HERE}:8080/")]))
                .is_ok()
        });
        for ip in [IpAddr::from(HERE), HERE_6.into()] {
            let said = link.out_of_neighbour("ping", &["-c", "3", "-i", "0.2", "-W", "5", &ip.to_string()]);
            assert!(said.contains(" 0% packet loss"), "{said}");
        }
        // The host's own pings.
        for ip in [IpAddr::from(THERE), THERE_6.into()] {
            wait_until("the host's address over IPv6 is its own", || {
                run(Command::new("ping").args(["-c", "1", "-W", "1", &ip.to_string()])).is_ok()
            });
            let said =
                run(Command::new("ping").args(["-c", "3", "-i", "0.2", "-W", "5", "-s", "1400", &ip.to_string()]))
                    .unwrap();
            assert!(said.contains(" 0% packet loss"), "{said}");
        }
        // A service of the host on the gateway's address, and one that the host asks. Beyond any window, both ways.
        for (server, to) in
            [(None, SocketAddr::from((HERE, 2222))), (None, (HERE_6, 2222).into()), (Some(()), (THERE, 2222).into())]
        {
            let (listener, stream) = match server {
                None => {
                    // An IPv6 address is the host's once its search for others that have it is over.
                    let mut listener = None;
                    wait_until("the host can listen at its address", || {
                        listener = TcpListener::bind(to).ok();
                        listener.is_some()
                    });
                    let stream = link.neighbour.inside(move || TcpStream::connect_timeout(&to, PATIENCE).unwrap());
                    (listener.unwrap(), stream)
                }
                Some(()) => {
                    let listener = link.neighbour.inside(move || TcpListener::bind(to).unwrap());
                    (listener, TcpStream::connect_timeout(&to, PATIENCE).unwrap())
                }
            };
            echoes(&listener, stream);
        }
        datagrams_pass(link);
        // The host has all addresses of the port.
        let more = TcpListener::bind("198.18.0.77:2223").unwrap();
        let stream =
            link.neighbour.inside(|| TcpStream::connect_timeout(&"198.18.0.77:2223".parse().unwrap(), PATIENCE));
        echoes(&more, stream.unwrap());
        // A port where nobody is, neither here nor there.
        let nowhere = SocketAddr::from((HERE, 9));
        let refused = link.neighbour.inside(move || TcpStream::connect_timeout(&nowhere, PATIENCE).unwrap_err());
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        assert!(
            sent(gateway) > 500.0
                && gateway.metric("ferrogate_dpdk_lcore_exceptions_received_total", "lcore=\"0\"") > 500.0
        );
        assert_eq!(gateway.metric("ferrogate_dpdk_dropped_frames_total", "reason=\"address_conflict\""), 0.0);
        run(link.neighbour.command("curl").args(["-sSf", "--max-time", "5", &format!("http://{HERE}:8080/")]))
            .expect("it serves");
    });
}

/// What the gateway answers at this address; 0 when nobody is there.
fn status_at(link: &Link, address: &str) -> u16 {
    let curl = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "3"];
    let said = run(link.neighbour.command("curl").args(curl).arg(format!("http://{address}:8080/")));
    said.map_or(0, |text| text.trim().parse().expect("a number"))
}

#[test]
fn what_linux_says_of_the_twin_holds_for_the_gateway() {
    let Some(mut link) = link("e2e-exception") else { return };
    // Behind a router of the link that answers no question about its address.
    link.origin = "203.0.113.1:9100".parse().unwrap();
    link.with_gateway("e2e-exception", ", follow: [addresses, routes, neighbours]", |link, gateway| {
        let host = |arguments: &str| run(Command::new("ip").args(arguments.split(' '))).unwrap();
        for (address, device) in [("203.0.113.1/32", "lo"), ("198.18.0.50/32", "lo")] {
            link.neighbour.ip(&["address", "add", address, "dev", device]).unwrap();
        }
        link.neighbour.ip(&["link", "set", "lo", "up"]).unwrap();
        run(link.neighbour.command("sysctl").args(["-q", "-w", "net.ipv4.conf.all.arp_ignore=1"])).unwrap();
        let origin = Process::start(link.neighbour.command(binary()).args(["origin", "--listen", "203.0.113.1:9100"]));
        let mac = link.out_of_neighbour("cat", &["/sys/class/net/far0/address"]);
        let here = HERE.to_string();
        assert_ne!(status_at(link, &here), 200, "there is no way to the origin");
        host("route add 203.0.113.0/24 via 198.18.0.50 dev fg0");
        assert_ne!(status_at(link, &here), 200, "its router does not answer");
        host(&format!("neighbour add 198.18.0.50 lladdr {} dev fg0 nud permanent", mac.trim()));
        wait_until("the origin is found", || status_at(link, &here) == 200);
        // An address that comes and goes, as keepalived's.
        assert_eq!(status_at(link, "198.18.0.99"), 0);
        host("address add 198.18.0.99/24 dev fg0");
        wait_until("the address is served", || status_at(link, "198.18.0.99") == 200);
        host("address delete 198.18.0.99/24 dev fg0");
        wait_until("the address is served no more", || status_at(link, "198.18.0.99") == 0);
        assert_eq!(status_at(link, "198.18.0.77"), 200, "what the file says stays");
        // Connections that there are go on by their station: it takes new ones to see that a way is gone.
        drop(origin);
        let without_way = || gateway.process.output().matches("network unreachable").count();
        let before = without_way();
        host("route delete 203.0.113.0/24");
        wait_until("the way is gone", || status_at(link, &here) == 502 && without_way() > before);
        assert_eq!(gateway.metric("ferrogate_dpdk_dropped_frames_total", "reason=\"address_conflict\""), 0.0);
    });
}

/// In a VLAN the gateway serves what is its own, and Linux the rest, by a device of its own at the twin; and so it does in a VLAN that is Linux's alone.
#[test]
fn the_host_is_in_the_ports_vlans_beside_the_gateway() {
    let Some(mut link) = link("e2e-exception-vlan") else { return };
    link.of_port = "        vlans: [{id: 100, address: 198.18.100.1/24}]\n";
    run(link.neighbour.command("ethtool").args(["-K", "far0", "txvlan", "off", "rxvlan", "off"])).expect("ethtool");
    link.with_gateway("e2e-exception-vlan", "", |link, gateway| {
        let vlans = |last| [(100, "fg100", last), (200, "fg200", last)];
        let _taggers = [
            add_devices(|program| link.host.command(program), "fg0", &vlans(1)),
            add_devices(|program| link.neighbour.command(program), "far0", &vlans(2)),
        ];
        let _origin =
            Process::start(link.neighbour.command(binary()).args(["origin", "--listen", &format!("{THERE}:9100")]));
        wait_until("the gateway serves the VLAN", || status_at(link, "198.18.100.1") == 200);
        assert_ne!(status_at(link, "198.18.200.1"), 200, "the other one is Linux's");
        for vlan in [100, 200] {
            let (here, there) = (Ipv4Addr::new(198, 18, vlan, 1), Ipv4Addr::new(198, 18, vlan, 2));
            let ping = |ip: Ipv4Addr| {
                ["-c", "3", "-i", "0.2", "-W", "5", "-s", "1400"].map(str::to_owned).into_iter().chain([ip.to_string()])
            };
            let said = run(Command::new("ping").args(ping(there))).unwrap();
            assert!(said.contains(" 0% packet loss"), "VLAN {vlan}: {said}");
            let said = run(link.neighbour.command("ping").args(ping(here))).unwrap();
            assert!(said.contains(" 0% packet loss"), "VLAN {vlan}: {said}");
            // A service of the host's, and one that it asks.
            let to = SocketAddr::from((here, 2222));
            let listener = TcpListener::bind(to).unwrap();
            let stream = link.neighbour.inside(move || TcpStream::connect_timeout(&to, PATIENCE).unwrap());
            echoes(&listener, stream);
            let to = SocketAddr::from((there, 2222));
            let listener = link.neighbour.inside(move || TcpListener::bind(to).unwrap());
            echoes(&listener, TcpStream::connect_timeout(&to, PATIENCE).unwrap());
        }
        assert_eq!(status_at(link, "198.18.100.1"), 200, "the gateway goes on");
        assert_eq!(gateway.metric("ferrogate_dpdk_dropped_frames_total", "reason=\"address_conflict\""), 0.0);
    });
}

/// Bytes come back over a connection of the host's.
fn echoes(listener: &TcpListener, mut stream: TcpStream) {
    let (mut served, _) = listener.accept().unwrap();
    for socket in [&stream, &served] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
    }
    let bytes = pattern::bytes(1 << 20);
    let mut writer = stream.try_clone().unwrap();
    let expected = bytes.clone();
    thread::scope(|scope| {
        scope.spawn(move || writer.write_all(&bytes).unwrap());
        scope.spawn(|| {
            let mut room = vec![0; 65_536];
            let mut left = expected.len();
            while left > 0 {
                let n = served.read(&mut room).unwrap();
                served.write_all(&room[..n]).unwrap();
                left -= n;
            }
        });
        let mut back = vec![0; expected.len()];
        stream.read_exact(&mut back).unwrap();
        assert!(back == expected);
    });
}

fn datagrams_pass(link: &Link) {
    let at = SocketAddr::from((HERE, 5353));
    let server = UdpSocket::bind(at).unwrap();
    let client = link.neighbour.inside(move || UdpSocket::bind((THERE, 0)).unwrap());
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    let mut room = [0; 2048];
    for len in [0, 1, 1400] {
        let bytes = pattern::bytes(len);
        client.send_to(&bytes, at).unwrap();
        let (n, from) = server.recv_from(&mut room).unwrap();
        assert_eq!(room[..n], bytes);
        server.send_to(&bytes, from).unwrap();
        assert_eq!(client.recv(&mut room).unwrap(), len);
    }
}

/// Two routers talk over the port, the gateway's host being one of them; what it tells is in the other's table.
#[test]
fn a_bgp_session_runs_over_the_port() {
    let Some(link) = link("e2e-exception-bgp") else { return };
    link.with_gateway("e2e-exception-bgp", ", protocols: [arp, icmp, tcp], tcp_ports: \"179,32768-60999\"", |link, gateway| {
        let router = |name: &str, own: (Ipv4Addr, u32), other: (Ipv4Addr, u32), more: &str| {
            let text = format!(
                "log stderr all;\nrouter id {id};\nprotocol device {{}}\nprotocol direct {{ ipv4; }}\nprotocol kernel {{ ipv4 {{ export all; }}; }}\n{more}\n\
                 protocol bgp peer {{ local {id} as {asn}; neighbor {other} as {other_asn}; connect delay time 1; \
                 ipv4 {{ import all; export where source = RTS_STATIC; }}; }}\n",
                id = own.0,
                asn = own.1,
                other = other.0,
                other_asn = other.1,
            );
            let file = link.folder.write(&format!("{name}.conf"), &text);
            let control = link.folder.path().join(format!("{name}.ctl"));
            (file.display().to_string(), control.display().to_string())
        };
        let (here, there) = ((HERE, 65_001), (THERE, 65_002));
        let told = "protocol static { ipv4; route 203.0.113.0/24 blackhole; }";
        let (file, control) = router("here", here, there, told);
        let (far_file, far_control) = router("there", there, here, "");
        let _here = Process::start(Command::new("bird").args(["-f", "-c", &file, "-s", &control]));
        let _there = Process::start(link.neighbour.command("bird").args(["-f", "-c", &far_file, "-s", &far_control]));
        wait_until("the session stands", || {
            let said = run(Command::new("birdc").args(["-s", &control, "show", "protocols", "peer"]));
            said.is_ok_and(|said| said.contains("Established"))
        });
        wait_until("the route is told", || {
            let routes = link.neighbour.ip(&["route", "show", "203.0.113.0/24"]);
            routes.is_ok_and(|routes| routes.contains(&format!("via {HERE}")))
        });
        assert!(sent(gateway) > 0.0);
        // What the policy does not name stays out.
        let closed = SocketAddr::from((HERE, 2222));
        let _listener = TcpListener::bind(closed).unwrap();
        let refused = link.neighbour.inside(move || TcpStream::connect_timeout(&closed, PATIENCE).unwrap_err());
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    });
}

/// Somebody sets the interface down and up again, and takes it away in the end: the host loses what it had by it, and the gateway nothing.
#[test]
fn a_twin_that_is_down_or_gone_keeps_nobody_busy() {
    let Some(link) = link("e2e-exception-gone") else { return };
    link.with_gateway("e2e-exception-gone", "", |link, gateway| {
        let reaches = || run(Command::new("ping").args(["-c", "1", "-W", "1", &THERE.to_string()])).is_ok();
        wait_until("the host reaches its neighbour", reaches);
        link.host.ip(&["link", "set", "fg0", "down"]).unwrap();
        rests(gateway);
        link.host.ip(&["link", "set", "fg0", "up"]).unwrap();
        wait_until("the host reaches its neighbour again", reaches);
        link.host.ip(&["link", "delete", "fg0"]).unwrap();
        rests(gateway);
        // Nobody takes what is not the gateway's, and what is goes on.
        let service = SocketAddr::from((HERE, 2222));
        let lost = link.neighbour.inside(move || TcpStream::connect_timeout(&service, Duration::from_millis(200)));
        assert_eq!(lost.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        assert!(gateway.metric("ferrogate_dpdk_dropped_frames_total", "reason=\"exception_full\"") > 0.0);
        let said = link.out_of_neighbour("ping", &["-c", "1", "-W", "5", &HERE.to_string()]);
        assert!(said.contains(" 0% packet loss"), "{said}");
    });
}

/// Waits until the gateway's process sleeps most of the time.
fn rests(gateway: &Gateway) {
    let spent = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", gateway.process.id())).expect("it runs");
        let fields: Vec<_> = stat.rsplit(')').next().expect("a name in brackets").split_whitespace().collect();
        [11, 12].map(|at| fields[at].parse::<u64>().expect("a number of ticks")).iter().sum::<u64>()
    };
    wait_until("the gateway rests", || {
        let before = spent();
        thread::sleep(Duration::from_millis(500));
        // Of fifty.
        spent() - before < 25
    });
}

/// A name that another interface has: the plane does not start, and says what it is about.
#[test]
fn a_twin_that_can_not_be_made_is_told_of() {
    let Some(link) = link("e2e-exception-name") else { return };
    let config = Config::proxy_to(&["127.0.0.1:1".to_owned()]).dataplane(
        "dataplane: {type: dpdk, fallback: none, dpdk: {hugepages: false, memory_mib: 64, ports: [{device: \"net_af_xdp0,iface=port0\", \
         address: 198.18.0.1/24, exception: {interface: port0}}]}}\n",
    );
    let refused = Gateway::launch(&mut link.host.command(binary()), &config);
    let exited = refused.map(Gateway::stop).expect_err("it has no plane");
    if !exited.output.contains("the exception path's interface port0 can't be made") {
        skip_without_plane("e2e-exception-name", &exited);
    }
}

const HERE: Ipv4Addr = Veth::PORT_ADDRESS;
const HERE_6: Ipv6Addr = Veth::PORT_ADDRESS_6;
const THERE: Ipv4Addr = Veth::PEER_ADDRESS;
const THERE_6: Ipv6Addr = Veth::PEER_ADDRESS_6;
const PATIENCE: Duration = Duration::from_secs(20);
