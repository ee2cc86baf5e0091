//! Real DNS over the UDP proxy: ten thousand clients, each with a session, none with another's answer.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::Duration;

use test_support::ports::free_udp_address;
use test_support::process::Process;
use test_support::{Config, Gateway, skip, wait_until};

use crate::stage::binary;

/// dnsmasq, with an address for every name below `test.example`.
struct Dns {
    _process: Process,
    address: SocketAddr,
}

impl Dns {
    fn start() -> Result<Self, String> {
        if Command::new("dnsmasq").arg("--version").output().is_err() {
            return Err("dnsmasq is not installed (dnsmasq-base)".into());
        }
        let address = free_udp_address();
        let mut command = Command::new("dnsmasq");
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
        ]);
        command.args(["--listen-address=127.0.0.1", "--user=root", "--pid-file=", "--address=/test.example/192.0.2.7"]);
        command.arg(format!("--port={}", address.port()));
        let process = Process::start(&mut command);
        wait_until("the name server answers", || {
            ask(&socket(IpAddr::from([127, 0, 0, 1]), 0, address), 1, "up", Duration::from_millis(200)).is_ok()
        });
        Ok(Self { _process: process, address })
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

/// A client of each number has an address and a port of its own.
fn client(number: u16, to: SocketAddr) -> UdpSocket {
    let [_, low] = (number / PORTS).to_be_bytes();
    socket(IpAddr::from([127, 0, 9, low + 1]), FIRST_PORT + number % PORTS, to)
}

#[test]
fn ten_thousand_clients_are_answered() {
    let dns = match Dns::start() {
        Ok(dns) => dns,
        Err(reason) => return skip!("e2e-dnsmasq", "{reason}"),
    };
    let mut config = Config::proxy_to(&[dns.address.to_string()])
        .listener("network: udp")
        .filter("{type: udp_proxy, config: {cluster: origins, idle_timeout: 10m}}")
        .limit("udp_sessions_max", &CLIENTS.to_string());
    config.listen = free_udp_address();
    // As many descriptors as this needs, where they may be had.
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 12000 && exec \"$0\" \"$@\"", binary()]);
    let gateway = match Gateway::launch(&mut command, &config) {
        Ok(gateway) => gateway,
        Err(exited) if exited.output.contains("ulimit") => return skip!("e2e-descriptors", "{}", exited.output.trim()),
        Err(exited) => panic!("{}\n{}", exited.status, exited.output),
    };
    let to = gateway.listen;
    let listener = |name: &str| gateway.metric(&format!("ferrogate_listener_{name}"), "listener=\"http\"").round();
    // Everybody asks, and asks again by the session that there is then.
    for round in 0..2_u16 {
        let shares: Vec<_> = (0..THREADS)
            .map(|share| {
                thread::spawn(move || {
                    for number in (share..CLIENTS).step_by(usize::from(THREADS)) {
                        let (socket, name) = (client(number, to), format!("r{round}n{number}"));
                        let answered = (0..TRIES_MAX).find_map(|_| ask(&socket, number, &name, PATIENCE).ok());
                        assert!(answered.is_some(), "{name} was not answered");
                    }
                })
            })
            .collect();
        for share in shares {
            share.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        assert_eq!(listener("session_active"), f64::from(CLIENTS));
        assert_eq!(listener("session_total"), f64::from(CLIENTS));
    }
    let files = gateway.process.open_files();
    assert!((usize::from(CLIENTS)..usize::from(CLIENTS) + 100).contains(&files), "one socket a session: {files}");
    // One more than there may be.
    let late = socket(IpAddr::from([127, 0, 10, 1]), 0, to);
    assert!(ask(&late, 1, "late", Duration::from_millis(200)).is_err());
    assert!(listener("session_refused_total") >= 1.0);
    gateway.stop();
}

const CLIENTS: u16 = 10_000;
const THREADS: u16 = 4;
const PORTS: u16 = 100;
const FIRST_PORT: u16 = 18_000;

/// A datagram may be lost where a socket's buffer is full: resolvers ask again, too.
const TRIES_MAX: usize = 3;

const PATIENCE: Duration = Duration::from_secs(5);
