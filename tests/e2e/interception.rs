//! Connections that were meant for somewhere else, taken by real rules of the packet filter between namespaces, over IPv4 and IPv6.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use test_support::netns::Namespace;
use test_support::temp::TempDir;
use test_support::{Client, Config, Gateway, Wire, skip, wait_until};

use crate::stage::binary;

/// Three namespaces in a row: who asks, the gateway, who is asked. The one that asks finds the one that is asked by the gateway.
struct Row {
    client: Namespace,
    gateway: Namespace,
    server: Namespace,
}

impl Row {
    fn new() -> Result<Self, String> {
        let row = Self { client: Namespace::new()?, gateway: Namespace::new()?, server: Namespace::new()? };
        row.client.join(&row.gateway, 1)?;
        row.gateway.join(&row.server, 2)?;
        row.client.ip(&["route", "add", "default", "via", "198.18.1.2"])?;
        row.client.ip(&["-6", "route", "add", "default", "via", "fd00:1::2"])?;
        for port in [8080, 8081, 8082] {
            serve(&row.server, port);
        }
        Ok(row)
    }

    /// The addresses of the one that is asked.
    fn servers() -> [IpAddr; 2] {
        ["198.18.2.2", "fd00:2::2"].map(|ip| ip.parse().expect("an address"))
    }

    /// What the client is answered at an address.
    fn ask(&self, to: SocketAddr) -> String {
        connect(&self.client, to).get("/head").text()
    }
}

/// Answers every request, at all addresses of a namespace, with its head.
fn serve(namespace: &Namespace, port: u16) {
    // Of both families.
    let listener = namespace.inside(move || TcpListener::bind(("::", port)).expect("a port"));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || answer(stream));
        }
    });
}

fn answer(mut stream: TcpStream) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", head.len());
    // The client may have gone.
    let _ = stream.write_all(&[answer.as_bytes(), &head].concat());
}

fn connect(from: &Namespace, to: SocketAddr) -> Client {
    try_connect(from, to).unwrap_or_else(|e| panic!("{to}: {e}"))
}

fn try_connect(from: &Namespace, to: SocketAddr) -> io::Result<Client> {
    let stream = from.inside(move || TcpStream::connect_timeout(&to, Duration::from_secs(20)))?;
    Ok(Client::over(Wire::tcp(stream)))
}

/// Puts rules of the packet filter in force in a namespace.
fn filter(namespace: &Namespace, rules: &str) -> Result<(), String> {
    let mut command = namespace.command("nft");
    let child = command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|e| format!("nft: {e}"))?;
    child.stdin.take().expect("piped").write_all(format!("{rules}\n").as_bytes()).map_err(|e| e.to_string())?;
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

/// Starts a gateway in a namespace.
fn start(namespace: &Namespace, text: &str, admin: &str) -> Gateway {
    let mut config = Config::proxy_to(&[]);
    config.admin = admin.parse().expect("an address");
    let config = config.verbatim(text);
    // A group of its own: the rules know its own connections by it.
    namespace.inside(move || {
        let mut command = Command::new("setpriv");
        command.args(["--regid", GROUP, "--clear-groups"]).arg(binary());
        Gateway::launch(&mut command, &config).unwrap_or_else(|e| panic!("{}\n{}", e.status, e.output))
    })
}

/// The sum of a metric of a gateway in a namespace.
fn metric(namespace: &Namespace, gateway: &Gateway, name: &str, labels: &str) -> f64 {
    let (admin, start, labels) = (gateway.admin, format!("{name}{{"), labels.to_owned());
    let page = namespace.inside(move || Client::connect(admin).get("/metrics").text());
    let lines = page.lines().filter(|l| l.starts_with(&start) && l.contains(&labels));
    lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>().round()
}

/// A gateway that takes what was meant for elsewhere, and passes it on to there, but for what its listeners without sockets serve.
fn taking(kind: &str, log: &Path) -> String {
    let log = format!(
        "access_logs: [{{log_path: \"{}\", log_format: \"%downstream_local_address% %upstream_host%\"}}]",
        log.display()
    );
    let relay = "filter_chains: [{filters: [{type: tcp_proxy, config: {cluster: original}}]}]";
    let here = |text: &str| format!("routers: [{{direct_response: {{status: 200, body: \"{text}\"}}}}]");
    format!(
        "servers:
  - default_log_path: stderr
    listeners:
      - {{name: in4, address: \"0.0.0.0:15001\", use_original_dst: {kind}, {log}, {relay}}}
      - {{name: in6, address: \"[::]:15001\", listener_filters: [{{type: original_dst, config: {{type: {kind}}}}}], {log}, {relay}}}
      - {{name: this4, address: \"198.18.2.2:8081\", bind_port: false, {this}}}
      - {{name: this6, address: \"[fd00:2::2]:8081\", bind_port: false, {this}}}
      - {{name: other, address: \"198.18.9.9:8080\", bind_port: false, {other}}}
      - {{name: port4, address: \"0.0.0.0:8082\", bind_port: false, {port}}}
      - {{name: port6, address: \"[::]:8082\", bind_port: false, {port}}}
cluster_manager: {{clusters: [{{name: original, type: ORIGINAL_DST, lb_type: LB_ORIGINAL_DST}}]}}
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 9901}}}}}}
dataplane: {{type: kernel, workers: 2}}
",
        this = here("by address"),
        other = here("by another address"),
        port = here("by port"),
    )
}

/// Every kind of destination, through a gateway that takes connections so.
fn each_goes_where_it_is_served(row: &Row, kind: &str) {
    let folder = TempDir::new();
    let log = folder.path().join("access.log");
    let gateway = start(&row.gateway, &taking(kind, &log), "127.0.0.1:9901");
    for ip in Row::servers() {
        let at = |port| SocketAddr::new(ip, port);
        let passed_on = row.ask(at(8080));
        assert!(passed_on.starts_with("GET /head HTTP/1.1"), "{kind} {ip}: {passed_on}");
        assert_eq!(row.ask(at(8081)), "by address", "{kind} {ip}");
        assert_eq!(row.ask(at(8082)), "by port", "{kind} {ip}");
        let line = format!("{0} {0}", at(8080));
        wait_until("the line tells where it wanted to go", || {
            fs::read_to_string(&log).unwrap_or_default().lines().any(|l| l == line)
        });
    }
    let taken =
        |name: &str| metric(&row.gateway, &gateway, "ferrogate_listener_connection_total", &format!("\"{name}\""));
    let counted: Vec<f64> = ["in4", "in6", "this4", "port6", "other"].into_iter().map(taken).collect();
    assert_eq!(counted, [1.0, 1.0, 1.0, 1.0, 0.0], "each counts what it serves");
    // Who asks for the gateway itself is not sent round and round.
    for itself in ["198.18.1.2:15001", "[fd00:1::2]:15001"] {
        let to = itself.parse().expect("an address");
        let refused = match try_connect(&row.client, to) {
            Ok(mut client) => client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").and_then(|()| client.rest()).is_err(),
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        };
        assert!(refused, "{kind} {itself}");
    }
    let made = metric(&row.gateway, &gateway, "upstream_connection_total", "\"original\"");
    assert_eq!(made, 2.0, "one for each that was passed on");
}

/// A row with rules in force at the gateway; None, and a skipped row, where there can be none.
fn row_with(rules: &str) -> Option<Row> {
    let made = Row::new().and_then(|row| filter(&row.gateway, rules).map(|()| row));
    made.map_err(|reason| skip!("e2e-nftables", "{reason}")).ok()
}

#[test]
fn redirected_connections_go_where_they_were_going() {
    let rules = "table inet take { chain pre { type nat hook prerouting priority -100; tcp dport 8080-8082 redirect to :15001; }; }";
    let Some(row) = row_with(rules) else { return };
    each_goes_where_it_is_served(&row, "redirect");
}

#[test]
fn transparent_connections_go_where_they_were_going() {
    let rules = "table inet take { chain pre { type filter hook prerouting priority -150; \
                 tcp dport 8080-8082 tproxy to :15001 meta mark set 1 accept; }; }";
    let Some(row) = row_with(rules) else { return };
    // What is marked is delivered here, whatever its address.
    for (family, all) in [("-4", "0.0.0.0/0"), ("-6", "::/0")] {
        row.gateway.ip(&[family, "rule", "add", "fwmark", "1", "lookup", "100"]).expect("a rule");
        row.gateway.ip(&[family, "route", "add", "local", all, "dev", "lo", "table", "100"]).expect("a route");
    }
    each_goes_where_it_is_served(&row, "tproxy");
}

/// `configs/sidecar.yaml` as it is, on both sides: a client, its egress, the server's ingress, the server.
#[test]
fn sidecars_stand_on_both_sides() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/sidecar.yaml");
    let text = fs::read_to_string(path).expect("the file is shipped");
    let made = (|| {
        let (near, far) = (Namespace::new()?, Namespace::new()?);
        near.join(&far, 1)?;
        filter(&near, &EGRESS.replace("GROUP", GROUP))?;
        filter(&far, INGRESS)?;
        Ok::<_, String>((near, far))
    })();
    let (near, far) = match made {
        Ok(made) => made,
        Err(reason) => return skip!("e2e-nftables", "{reason}"),
    };
    for port in [8080, 5432] {
        serve(&far, port);
    }
    let (egress, ingress) = (start(&near, &text, "127.0.0.1:9901"), start(&far, &text, "127.0.0.1:9901"));
    for ip in ["198.18.1.2", "fd00:1::2"] {
        let at = |port| SocketAddr::new(ip.parse().expect("an address"), port);
        let asked = connect(&near, at(8080)).get("/head").text().to_ascii_lowercase();
        let hop = |name: &str| asked.find(&format!("via: 1.1 {name}\r\n"));
        assert!(hop("egress").is_some() && hop("egress") < hop("ingress"), "{ip}: {asked}");
        let asked = connect(&near, at(5432)).get("/head").text().to_ascii_lowercase();
        assert!(asked.starts_with("get /head http/1.1") && !asked.contains("via"), "{ip}: {asked}");
    }
    for (side, gateway) in [(&near, &egress), (&far, &ingress)] {
        let taken = |name: &str| metric(side, gateway, "ferrogate_listener_connection_total", &format!("\"{name}\""));
        assert_eq!((taken("database"), taken("database6")), (1.0, 1.0), "each side has its hand in it");
    }
}

/// What an application opens goes to the egress, but for what the gateway itself opens.
const EGRESS: &str = "table inet take { chain out { type nat hook output priority -100; \
                      meta skgid GROUP return; oifname \"lo\" return; meta l4proto tcp redirect to :15001; }; }";

/// What others open goes to the ingress.
const INGRESS: &str = "table inet take { chain pre { type nat hook prerouting priority -100; \
                       iifname \"lo\" return; meta l4proto tcp redirect to :15006; }; }";

/// The group that gateways run as.
const GROUP: &str = "65530";
