//! The PROXY protocol, to and from a real HAProxy, and from those who should not speak it.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::Command;
use std::thread;
use std::time::Duration;

use test_support::certs::Pair;
use test_support::haproxy::Haproxy;
use test_support::ports::free_address;
use test_support::process::run;
use test_support::temp::TempDir;
use test_support::{Config, Origin, skip, wait_until};

use crate::stage::{Plane, Stage, on_both_planes};

on_both_planes! {
    a_header_says_whose_connection_it_is,
    what_is_no_header_is_refused,
    others_are_not_looked_at,
}

const FILTER: &str = "listener_filters: [{type: proxy_protocol}]";

/// Version 2 for 192.0.2.7:4000 to 192.0.2.8:80, with an extension that nobody knows.
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11\xc0\0\x02\x07\xc0\0\x02\x08\x0f\xa0\0\x50\xee\0\x02ab";

/// The header fields that the origin gets for a request behind these bytes.
fn forwarded_for(stage: &Stage, header: &[u8]) -> String {
    let mut client = stage.client();
    client.send(header).unwrap();
    let head = client.ask("GET", "/head", "", b"").text();
    let field = head.lines().find_map(|line| line.strip_prefix("x-forwarded-for: "));
    field.unwrap_or_else(|| panic!("{head}")).to_owned()
}

fn a_header_says_whose_connection_it_is(plane: Plane) {
    let (origin, folder) = (Origin::start("one"), TempDir::new());
    let log = folder.path().join("access.log");
    let line = format!(
        "access_logs: [{{log_path: \"{}\", log_format: \"%downstream_remote_address% %downstream_local_address%\"}}]",
        log.display()
    );
    let config = Config::proxy_to(&[origin.address()]).listener(FILTER).listener(&line);
    let Some(stage) = plane.start(config) else { return };
    let text = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n";
    assert_eq!(forwarded_for(&stage, text), "192.0.2.1");
    assert_eq!(forwarded_for(&stage, b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n"), "2001:db8::1");
    assert_eq!(forwarded_for(&stage, BINARY), "192.0.2.7");
    let own = forwarded_for(&stage, b"PROXY UNKNOWN\r\n");
    assert!(!own.starts_with("192.0.2."), "the sender's own address: {own}");
    // Byte by byte, and together with the request.
    let mut client = stage.client();
    for byte in text {
        client.send(&[*byte]).unwrap();
        thread::sleep(Duration::from_micros(200));
    }
    assert_eq!(client.get("/").text(), "one");
    let mut client = stage.client();
    client.send(&[&text[..], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"].concat()).unwrap();
    assert_eq!(client.answer_to("GET").text(), "one");
    let lines = || fs::read_to_string(&log).unwrap_or_default();
    wait_until("the lines are written", || lines().lines().count() >= 6);
    assert_eq!(lines().lines().next(), Some("192.0.2.1:56324 192.0.2.2:443"));
    assert_eq!(lines().lines().nth(2), Some("192.0.2.7:4000 192.0.2.8:80"));
}

fn what_is_no_header_is_refused(plane: Plane) {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()]).listener(FILTER);
    let config = config.limit("head_timeout", "500ms").limit("proxy_header_bytes_max", "200");
    let Some(stage) = plane.start(config) else { return };
    let long = [&BINARY[..14], &[1, 0][..], &[0; 256]].concat();
    let rows: [&[u8]; 7] = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 0443\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        &long,
        // Too late: nothing, or a part of a header.
        b"",
        &BINARY[..20],
    ];
    for (n, bytes) in rows.iter().enumerate() {
        let Ok(mut client) = stage.try_client() else { continue };
        let _ = client.send(bytes);
        let rest = client.rest();
        assert!(rest.as_ref().map_or(true, Vec::is_empty), "row {n}: {rest:?}");
    }
    assert_eq!(origin.received().len(), 0);
    let refused = stage.gateway.metric("ferrogate_listener_connection_refused_total", "listener=\"http\"");
    assert!((refused - 7.0).abs() < 0.1, "{refused}");
    assert_eq!(forwarded_for(&stage, BINARY), "192.0.2.7", "others are served");
}

/// A server that speaks first must not wait for a header that never comes.
fn others_are_not_looked_at(plane: Plane) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("a bound socket");
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.write_all(b"220 hello\r\n");
            let _ = std::io::copy(&mut stream.try_clone().expect("a live socket"), &mut stream);
        }
    });
    let filter = "listener_filters: [{type: proxy_protocol, config: {trusted_sources: [203.0.113.0/24]}}]";
    let config = Config::proxy_to(&[address.to_string()]).relay("").listener(filter);
    let Some(stage) = plane.start(config) else { return };
    let mut client = stage.client();
    assert_eq!(client.take(11).unwrap(), b"220 hello\r\n");
    // And what it says is its own affair, not ours.
    client.send(b"PROXY UNKNOWN\r\n").unwrap();
    assert_eq!(client.take(15).unwrap(), b"PROXY UNKNOWN\r\n");
}

/// A command that comes from another address of the loopback network than HAProxy and the gateway.
fn curl(port: u16, more: &[&str]) -> String {
    let url = if more.contains(&"--cacert") {
        format!("https://test.example:{port}/head")
    } else {
        format!("http://127.0.0.1:{port}/head")
    };
    let resolve = format!("test.example:{port}:127.0.0.1");
    run(Command::new("curl")
        .args(["-sS", "--max-time", "20", "--noproxy", "*", "--interface", CLIENT, "--resolve", &resolve])
        .args(more)
        .arg(url))
    .unwrap_or_else(|e| panic!("{e}"))
}

const CLIENT: &str = "127.0.0.9";

#[test]
fn from_haproxy() {
    let (origin, pair) = (Origin::start("one"), Pair::for_names(&["test.example"]));
    for (send, tls) in [
        ("send-proxy", false),
        ("send-proxy-v2", false),
        ("send-proxy-v2 proxy-v2-options crc32c,unique-id", false),
        ("send-proxy-v2", true),
    ] {
        let config = Config::proxy_to(&[origin.address()]).listener(FILTER);
        let stage = Plane::Kernel.start(if tls { config.tls(&[pair.paths()]) } else { config }).expect("always there");
        let listen = free_address();
        let sections = format!(
            "listen front\n  mode tcp\n  bind {listen}\n  unique-id-format %pid\n  server gateway {} {send}\n",
            stage.address
        );
        let _haproxy = match Haproxy::start(listen, &sections) {
            Ok(haproxy) => haproxy,
            Err(reason) => return skip!("e2e-haproxy", "{reason}"),
        };
        let authority = pair.certificate.display().to_string();
        let more: &[&str] = if tls { &["--cacert", &authority] } else { &[] };
        let head = curl(listen.port(), more);
        assert!(head.contains(&format!("x-forwarded-for: {CLIENT}\r\n")), "{send}: {head}");
    }
}

#[test]
fn to_haproxy() {
    let (origin, pair) = (Origin::start("one"), Pair::for_names(&["test.example"]));
    let folder = TempDir::new();
    let both = folder
        .write("both.pem", &[&pair.certificate, &pair.key].map(|path| fs::read_to_string(path).unwrap()).concat());
    for (version, tls) in [("v1", false), ("v2", false), ("v2", true)] {
        let listen = free_address();
        let crt = if tls { format!(" ssl crt {}", both.display()) } else { String::new() };
        let sections = format!(
            "listen back\n  mode http\n  bind {listen} accept-proxy{crt}\n  http-request set-header X-Seen %[src]:%[src_port]>%[dst]:%[dst_port]\n  server origin {}\n",
            origin.address()
        );
        let _haproxy = match Haproxy::start(listen, &sections) {
            Ok(haproxy) => haproxy,
            Err(reason) => return skip!("e2e-haproxy", "{reason}"),
        };
        let config = Config::proxy_to(&[listen.to_string()]).relay(&format!("proxy_protocol: {version}"));
        let verified = format!(
            "tls_context: {{status: true, ca_cert: \"{}\", server_name: test.example}}",
            pair.certificate.display()
        );
        let stage = Plane::Kernel.start(if tls { config.cluster(&verified) } else { config }).expect("always there");
        let head = curl(stage.address.port(), &[]);
        let seen = head.lines().find_map(|line| line.strip_prefix("x-seen: ").or(line.strip_prefix("X-Seen: ")));
        let (source, destination) = seen.and_then(|seen| seen.split_once('>')).unwrap_or_else(|| panic!("{head}"));
        let source: SocketAddr = source.parse().unwrap();
        assert_eq!(source.ip(), CLIENT.parse::<IpAddr>().unwrap(), "{version}");
        assert_eq!(destination, stage.address.to_string(), "{version}");
    }
}

/// Through two gateways: the second believes the first.
#[test]
fn a_header_is_passed_on() {
    let origin = Origin::start("one");
    let inner = Plane::Kernel.start(Config::proxy_to(&[origin.address()]).listener(FILTER)).expect("always there");
    let relay = Config::proxy_to(&[inner.address.to_string()]).relay("proxy_protocol: v2").listener(FILTER);
    let outer = Plane::Kernel.start(relay).expect("always there");
    assert_eq!(forwarded_for(&outer, b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n"), "2001:db8::1");
}

/// Bytes that keep coming win no time.
#[test]
fn a_header_that_drips_is_not_waited_for() {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()]).listener(FILTER).limit("head_timeout", "600ms");
    let stage = Plane::Kernel.start(config).expect("always there");
    let mut client = stage.client();
    let drips = b"PROXY UNKNOWN ".iter().chain([b'x'; 80].iter());
    let taken = drips.take_while(|byte| {
        thread::sleep(Duration::from_millis(50));
        client.send(&[**byte]).is_ok()
    });
    assert!(taken.count() < 60, "it is given up after head_timeout");
}
