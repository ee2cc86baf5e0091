//! Protocols that the gateway does not know, on a port where it serves others: they go to the next network filter with all that they have
//! said, be it nothing.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use test_support::certs::Pair;
use test_support::ports::free_address;
use test_support::process::run;
use test_support::temp::TempDir;
use test_support::wire::Wire;
use test_support::{Config, Origin, pattern, wait_until};

use crate::stage::{Plane, Stage, on_both_planes};

on_both_planes! {
    a_port_is_shared_with_an_unknown_protocol,
    much_that_came_at_once_arrives_whole,
    a_server_may_speak_first,
    partial_input_waits,
    tls_is_taken_off_before,
}

/// A server of lines, as that of Redis is one: greets with its name when `greets`, and says after each line its name and that line. After
/// `QUIT` it closes.
fn line_server(name: &'static str, greets: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("a bound socket");
    let serve = move |mut stream: TcpStream| -> std::io::Result<()> {
        if greets {
            write!(stream, "{name} ready\r\n")?;
        }
        for line in BufReader::new(stream.try_clone()?).split(b'\n') {
            let line = line?;
            stream.write_all(&[name.as_bytes(), b" ", &line, b"\n"].concat())?;
            if line == b"QUIT\r" {
                break;
            }
        }
        stream.shutdown(Shutdown::Write)
    };
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // A client that went away ends its own connection alone.
            thread::spawn(move || serve(stream).ok());
        }
    });
    address
}

/// HTTP to the origin, in both versions, and everything else to `others`.
fn shared(origin: &Origin, others: SocketAddr) -> Config {
    Config::proxy_to(&[origin.address()])
        .more_origins("others", &[others.to_string()])
        .limit("head_timeout", "700ms")
        .filter(
            "{type: proxy, config: {downstream_protocol: Auto, router_config_name: web, fallback_for_unknown_protocol: true}}
              - {type: tcp_proxy, config: {cluster: others}}",
        )
}

/// What the listener has counted.
fn counted(stage: &Stage, name: &str) -> f64 {
    stage.gateway.metric(&format!("ferrogate_listener_{name}"), "listener=\"http\"")
}

fn fell_back(stage: &Stage) -> f64 {
    counted(stage, "connection_fallback_total")
}

/// Says something and reads as many bytes as the answer is to have.
fn told(wire: &mut Wire, words: &str, answer: &str) {
    wire.send(words.as_bytes()).unwrap();
    let got = wire.take(answer.len()).unwrap_or_else(|e| panic!("{words:?}: {e}"));
    assert_eq!(String::from_utf8_lossy(&got), answer, "{words:?}");
}

fn a_port_is_shared_with_an_unknown_protocol(plane: Plane) {
    let (origin, folder) = (Origin::start("one"), TempDir::new());
    let log = folder.path().join("access.log");
    let format = "%protocol% %bytes_received% %bytes_sent% %upstream_cluster%";
    let line = format!("access_logs: [{{log_path: \"{}\", log_format: \"{format}\"}}]", log.display());
    let config = shared(&origin, line_server("lines", false)).listener(&line);
    let Some(stage) = plane.start(config) else { return };
    let mut redis = stage.wire();
    told(&mut redis, "*1\r\n$4\r\nPING\r\n", "lines *1\r\nlines $4\r\nlines PING\r\n");
    assert_eq!(stage.client().get("/").text(), "one");
    let mut curl = stage.client_command("curl");
    curl.args(["-sS", "--max-time", "20", "--noproxy", "*", "--http2-prior-knowledge", &stage.url("/")]);
    assert_eq!(run(&mut curl).as_deref(), Ok("one"));
    // Words that HTTP has too, and a second answer on the same connection.
    let mut memcached = stage.wire();
    told(&mut memcached, "GET key\r\n", "lines GET key\r\n");
    told(&mut memcached, "GET / HTTP/1.1\r\n", "lines GET / HTTP/1.1\r\n");
    told(&mut redis, "QUIT\r\n", "lines QUIT\r\n");
    assert!(redis.is_closed());
    drop(redis);
    assert!((fell_back(&stage) - 2.0).abs() < 0.1);
    let lines = || fs::read_to_string(&log).unwrap_or_default();
    // Its words are 14 and 6 bytes; each of the four lines comes back behind six bytes more.
    wait_until("the relayed connection is logged", || lines().lines().any(|l| l == "TCP 20 44 others"));
    assert_eq!(lines().lines().filter(|l| l.ends_with(" origins")).count(), 2, "{}", lines());
    // Another host of this kind can't be reached: a reset, as behind `tcp_proxy` alone.
    let Some(stage) = plane.start(shared(&origin, free_address())) else { return };
    let mut client = stage.wire();
    let _ = client.send(b"PING\r\n");
    assert!(client.rest().is_err());
    assert!((counted(&stage, "relay_failed_total") - 1.0).abs() < 0.1);
    assert_eq!(stage.client().get("/").text(), "one");
}

fn much_that_came_at_once_arrives_whole(plane: Plane) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("a bound socket");
    let Some(stage) = plane.start(shared(&Origin::start("one"), address)) else { return };
    let serving = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("it is relayed");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("the client's end is passed on");
        stream.write_all(&all).expect("it is taken");
    });
    let sent = [&b"\xff\0"[..], &pattern::bytes(1_000_000)].concat();
    let mut client = stage.wire();
    client.send(&sent).unwrap();
    client.half_close();
    assert!(client.rest().expect("all of it comes back") == sent);
    serving.join().expect("the server has an end");
}

fn a_server_may_speak_first(plane: Plane) {
    let origin = Origin::start("one");
    // Nobody who waits for the server is swept away as an idle client of HTTP.
    let config = shared(&origin, line_server("first", true)).limit("idle_timeout", "200ms");
    let Some(stage) = plane.start(config) else { return };
    let mut client = stage.wire();
    assert!(client.is_silent_for(Duration::from_millis(300)));
    told(&mut client, "", "first ready\r\n");
    told(&mut client, "EHLO a.example\r\n", "first EHLO a.example\r\n");
    assert!((fell_back(&stage) - 1.0).abs() < 0.1);
    // One that says nothing and goes is nobody's client.
    drop(stage.wire());
    wait_until("it is gone", || counted(&stage, "connection_active") < 1.1);
    assert!((fell_back(&stage) - 1.0).abs() < 0.1);
}

fn partial_input_waits(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.start(shared(&origin, line_server("lines", false))) else { return };
    let mut http = stage.client();
    http.send(b"GE").unwrap();
    assert!(http.is_silent_for(Duration::from_millis(100)));
    http.send(b"T / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(http.answer_to("GET").text(), "one");
    let mut other = stage.wire();
    other.send(b"PRI * HT").unwrap();
    assert!(other.is_silent_for(Duration::from_millis(100)));
    told(&mut other, "ML\r\n", "lines PRI * HTML\r\n");
    // It stops in the middle, for ever as it seems; or for good.
    let mut slow = stage.wire();
    slow.send(b"GE").unwrap();
    wait_until("it has waited long enough", || fell_back(&stage) > 1.9);
    told(&mut slow, "T / HTTP/1.1\r\n", "lines GET / HTTP/1.1\r\n");
    let mut cut = stage.wire();
    cut.send(b"GE").unwrap();
    cut.half_close();
    assert_eq!(cut.rest().expect("an answer to its end"), b"lines GE\n");
    assert!((fell_back(&stage) - 3.0).abs() < 0.1);
    // What has begun as a request is one, and is late in its own way.
    let mut late = stage.client();
    late.send(b"GET / HT").unwrap();
    assert_eq!(late.answer_to("GET").status, 408);
    assert!((fell_back(&stage) - 3.0).abs() < 0.1);
}

fn tls_is_taken_off_before(plane: Plane) {
    let (origin, pair, folder) = (Origin::start("one"), Pair::for_names(&["test.example"]), TempDir::new());
    let config = shared(&origin, line_server("lines", false)).tls(&[pair.paths()]).listener("inspector: true");
    let Some(stage) = plane.start(config) else { return };
    let port = stage.address.port();
    let mut curl = stage.client_command("curl");
    curl.args(["-sS", "--max-time", "20", "--noproxy", "*", "-w", " %{http_version}", "--cacert"]);
    curl.arg(&pair.certificate).args(["--resolve", &format!("test.example:{port}:{}", stage.address.ip())]);
    assert_eq!(run(curl.arg(format!("https://test.example:{port}/"))).as_deref(), Ok("one 2"));
    let words = folder.path().join("words");
    fs::write(&words, "PING\r\nQUIT\r\n").unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let mut client = stage.client_command("openssl");
        client.args(["s_client", "-quiet", version, "-connect", &stage.address.to_string()]);
        client.stdin(Stdio::from(File::open(&words).expect("it was written")));
        let out = client.output().expect("openssl runs");
        assert_eq!(String::from_utf8_lossy(&out.stdout), "lines PING\r\nlines QUIT\r\n", "{version}: {out:?}");
    }
    told(&mut stage.wire(), "PING\r\n", "lines PING\r\n");
    assert_eq!(stage.client().get("/").text(), "one");
    assert!((fell_back(&stage) - 3.0).abs() < 0.1);
}

/// A reload moves it, takes it away, and those who are relayed stay.
#[test]
fn a_reload_moves_it() {
    let origin = Origin::start("one");
    let (old, new) = (line_server("old", false), line_server("new", false));
    let config = shared(&origin, old).more_origins("more", &[new.to_string()]);
    let stage = Plane::Kernel.start(config).expect("always there");
    let mut before = stage.wire();
    told(&mut before, "PING\r\n", "old PING\r\n");
    let text = fs::read_to_string(stage.gateway.file()).unwrap();
    let moved = text.replace("config: {cluster: others}", "config: {cluster: more}");
    assert_ne!(moved, text);
    stage.gateway.rewrite(&moved);
    stage.gateway.reload().unwrap();
    wait_until("new connections go elsewhere", || {
        let mut client = stage.wire();
        client.send(b"PING\r\n").unwrap();
        client.take(3).unwrap() == b"new"
    });
    let alone = text.replace(", fallback_for_unknown_protocol: true", "");
    let alone = alone.replace("              - {type: tcp_proxy, config: {cluster: others}}\n", "");
    stage.gateway.rewrite(&alone);
    stage.gateway.reload().unwrap();
    wait_until("HTTP has the port alone", || {
        let mut client = stage.wire();
        client.send(b"PING\r\n").unwrap();
        client.take(12).unwrap() == b"HTTP/1.1 400"
    });
    told(&mut before, "PING\r\n", "old PING\r\n");
}
