//! Real DNS over the UDP proxy: ten thousand clients, each with a session, none with another's answer.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::Duration;

use test_support::ports::free_udp_address;
use test_support::process::Process;
use test_support::{Config, skip, wait_until};

use crate::stage::{Plane, Stage, binary, on_both_planes};

on_both_planes!(ten_thousand_clients_are_answered);

/// dnsmasq, with an address for every name below `test.example`.
struct Dns(#[expect(dead_code, reason = "it runs as long as this is there")] Process);

impl Dns {
    fn start(stage: &Stage, address: SocketAddr) -> Self {
        let mut command = stage.client_command("dnsmasq");
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
        ]);
        command.args(["--user=root", "--pid-file=", "--address=/test.example/192.0.2.7"]);
        command.args([format!("--listen-address={}", address.ip()), format!("--port={}", address.port())]);
        let process = Process::start(&mut command);
        wait_until("the name server answers", || {
            stage.inside(move || ask(&socket(address.ip(), 0, address), 1, "up", Duration::from_millis(200)).is_ok())
        });
        Self(process)
    }
}

fn socket(ip: IpAddr, port: u16, to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((ip, port)).unwrap_or_else(|e| panic!("{ip}:{port}: {e}"));
    socket.connect(to).expect("a route");
    socket
}

/// Asks for the address of `name.test.example` and checks the answer: the id, the question and the address (RFC 1035, 4.1).
fn ask(socket: &UdpSocket, id: u16, name: &str, patience: Duration) -> Result<(), String> {
    let mut query = id.to_be_bytes().to_vec();
    query.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let question = query.len();
    for label in [name, "test", "example"] {
        query.push(u8::try_from(label.len()).expect("a short label"));
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    socket.set_read_timeout(Some(patience)).map_err(|e| e.to_string())?;
    socket.send(&query).map_err(|e| e.to_string())?;
    let mut answer = [0; 512];
    let n = socket.recv(&mut answer).map_err(|e| e.to_string())?;
    let answer = &answer[..n];
    let is_right = answer.starts_with(&id.to_be_bytes())
        && answer.get(question..query.len()) == Some(&query[question..])
        && answer.ends_with(&[192, 0, 2, 7]);
    if is_right { Ok(()) } else { Err(format!("{name} was answered by {answer:02x?}")) }
}

/// Everybody asks, and is answered.
fn ask_all(stage: &Stage, ips: &[IpAddr], round: u16) {
    let to = stage.address;
    thread::scope(|scope| {
        for share in 0..THREADS {
            let ips = ips.to_vec();
            scope.spawn(move || {
                stage.inside(move || {
                    for number in (share..CLIENTS).step_by(usize::from(THREADS)) {
                        // Each has an address and a port of its own.
                        let (ip, port) = (ips[usize::from(number / PORTS)], FIRST_PORT + number % PORTS);
                        let (socket, name) = (socket(ip, port, to), format!("r{round}n{number}"));
                        let answered = (0..TRIES_MAX).find_map(|_| ask(&socket, number, &name, PATIENCE).ok());
                        assert!(answered.is_some(), "{name} was not answered");
                    }
                });
            });
        }
    });
}

fn ten_thousand_clients_are_answered(plane: Plane) {
    if Command::new("dnsmasq").arg("--version").output().is_err() {
        return skip!("e2e-dnsmasq", "dnsmasq is not installed (dnsmasq-base)");
    }
    // As many descriptors as this needs, where they may be had.
    let limit = format!("ulimit -n {DESCRIPTORS}");
    if !Command::new("sh").args(["-c", &limit]).status().is_ok_and(|status| status.success()) {
        return skip!("e2e-descriptors", "{limit} is refused");
    }
    let servers = plane.servers(1);
    let mut config = Config::proxy_to(&[servers[0].to_string()])
        .listener("network: udp")
        .filter("{type: udp_proxy, config: {cluster: origins, idle_timeout: 10m}}")
        .limit("udp_sessions_max", &CLIENTS.to_string());
    config.listen = free_udp_address();
    let gateway = || {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{limit} && exec \"$0\" \"$@\""), binary()]);
        command
    };
    let Some(stage) = plane.start_by(gateway, config) else { return };
    let _dns = Dns::start(&stage, servers[0]);
    let gateway = &stage.gateway;
    let listener = |name: &str| gateway.metric(&format!("ferrogate_listener_{name}"), "listener=\"http\"").round();
    let ips: Vec<IpAddr> = (1..=100).map(|number| stage.client_ip(number)).collect();
    // The second time by the session that there is then.
    for round in 0..2 {
        ask_all(&stage, &ips, round);
        assert_eq!(listener("session_active"), f64::from(CLIENTS));
        assert_eq!(listener("session_total"), f64::from(CLIENTS));
    }
    // A session has a socket, which on a port is none of the kernel's.
    let (files, sockets) =
        (gateway.process.open_files(), if plane == Plane::Kernel { usize::from(CLIENTS) } else { 0 });
    assert!((sockets..sockets + 100).contains(&files), "{files} files for {sockets} sockets");
    // One more than there may be.
    let (ip, to) = (ips[0], stage.address);
    assert!(stage.inside(move || ask(&socket(ip, 0, to), 1, "late", Duration::from_millis(200))).is_err());
    assert!(listener("session_refused_total") >= 1.0);
    stage.gateway.stop();
}

const CLIENTS: u16 = 10_000;
const DESCRIPTORS: u16 = 12_000;
const THREADS: u16 = 4;
const PORTS: u16 = 100;
const FIRST_PORT: u16 = 18_000;

/// A datagram may be lost where a socket's buffer is full: resolvers ask again, too.
const TRIES_MAX: usize = 3;

const PATIENCE: Duration = Duration::from_secs(5);
