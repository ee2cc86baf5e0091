//! Relayed connections: bytes both ways as they are, each direction ended by itself, over hosts, reloads and drains.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use test_support::certs::Pair;
use test_support::nginx::Nginx;
use test_support::ports::free_address;
use test_support::process::run;
use test_support::temp::TempDir;
use test_support::wire::Wire;
use test_support::{Client, Config, Origin, pattern, skip, wait_until};

use crate::stage::{Plane, Stage, on_both_planes};

on_both_planes! {
    bytes_pass_as_they_are,
    each_direction_ends_by_itself,
    much_goes_both_ways_at_once,
    a_full_direction_does_not_starve_the_other,
    another_host_is_tried,
    nobody_to_relay_to_is_a_reset,
    an_idle_relay_is_closed,
    routes_go_by_port,
    a_relay_outlives_a_reload,
    a_drain_waits_for_relays,
    tls_is_taken_off,
    faults_come_on_purpose,
}

/// A server of one connection at a time, each served by `serve`.
fn server(serve: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("a bound socket");
    thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(serve));
    address
}

fn relay_to(hosts: &[SocketAddr]) -> Config {
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    Config::proxy_to(&hosts).relay("")
}

/// What one worker's only listener has counted.
fn listener(stage: &Stage, name: &str) -> f64 {
    stage.gateway.metric(&format!("ferrogate_listener_{name}"), "listener=\"http\"")
}

/// Whether a client is reset, be it while it connects.
fn is_refused(stage: &Stage) -> bool {
    let Ok(mut client) = stage.try_client() else { return true };
    // A reset that is there already is told by the first call, and by that alone.
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").is_err() || client.rest().is_err()
}

fn bytes_pass_as_they_are(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.start(Config::proxy_to(&[origin.address()]).relay("")) else { return };
    let mut client = stage.client();
    assert_eq!(client.get("/").text(), "one");
    // What an HTTP proxy would refuse or change: fields of its own, an odd case, a space too many.
    let odd = "GET /head HTTP/1.1\r\nHost: a\r\nX-Odd :  b\r\nconnection: keep-alive, x\r\n\r\n";
    client.send(odd.as_bytes()).unwrap();
    assert_eq!(client.answer_to("GET").text(), odd);
    assert_eq!(origin.conns(), 1);
    // An answer is counted when its turn is over, which may be after it was read here.
    let counted = || (listener(&stage, "relay_bytes_read_total"), listener(&stage, "relay_bytes_write_total"));
    wait_until("both answers are counted", || counted().1 > counted().0);
    let (read, written) = counted();
    assert!(read > odd.len() as f64, "{read} {written}");
    let cluster = |name: &str| stage.gateway.metric(name, "cluster=\"origins\"");
    assert!((cluster("ferrogate_upstream_relay_bytes_write_total") - read).abs() < 0.1);
    assert!((cluster("ferrogate_upstream_relay_bytes_read_total") - written).abs() < 0.1);
    assert!((cluster("upstream_connection_active") - 1.0).abs() < 0.1);
    drop(client);
    wait_until("the host's side closes", || origin.open_conns() == 0);
    wait_until("and is counted out", || cluster("upstream_connection_active") < 0.1);
}

fn each_direction_ends_by_itself(plane: Plane) {
    // Answers when the request has ended, with more than fits into any buffer on the way.
    let address = server(|mut stream| {
        let mut asked = Vec::new();
        stream.read_to_end(&mut asked).expect("the request ends");
        assert_eq!(asked, b"question");
        stream.write_all(&pattern::bytes(3_000_000)).expect("the answer is taken");
    });
    let Some(stage) = plane.start(relay_to(&[address])) else { return };
    let mut client = stage.client();
    client.send(b"question").unwrap();
    client.half_close();
    let answer = client.rest().expect("an answer to its end");
    assert_eq!(answer.len(), 3_000_000);
    assert!(pattern::matches(0, &answer));
    // And the other way round: the server ends first, and still hears.
    let (told, heard) = std::sync::mpsc::channel();
    let address = server(move |mut stream| {
        stream.write_all(b"bye").expect("taken");
        stream.shutdown(Shutdown::Write).expect("ended");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("the client's last words");
        told.send(rest).expect("the test waits for it");
    });
    let Some(stage) = plane.start(relay_to(&[address])) else { return };
    let mut client = stage.client();
    assert_eq!(client.rest().expect("the server's end is passed on"), b"bye");
    client.send(b"last words").unwrap();
    client.half_close();
    assert_eq!(heard.recv_timeout(Duration::from_secs(20)).expect("heard"), b"last words");
    wait_until("the connection is gone", || listener(&stage, "connection_active") < 0.1);
    assert!(listener(&stage, "relay_broken_total") < 0.1);
}

/// An echo of 8 MiB that the client writes to the end before it reads: every buffer on the way is full.
fn much_goes_both_ways_at_once(plane: Plane) {
    let address = server(|stream| {
        let mut reader = stream.try_clone().expect("a live socket");
        thread::spawn(move || {
            let mut writer = stream;
            let copied = std::io::copy(&mut reader, &mut writer);
            let _ = writer.shutdown(Shutdown::Write);
            copied.ok()
        });
    });
    let Some(stage) = plane.start(relay_to(&[address])) else { return };
    let total = 8 << 20;
    let mut clients: Vec<_> = (0..3).map(|_| stage.client()).collect();
    for client in &mut clients {
        let mut writer = client.try_clone().expect("a live socket");
        thread::spawn(move || {
            writer.send(&pattern::bytes(total)).expect("all is taken");
            writer.half_close();
        });
    }
    for client in &mut clients {
        let echoed = client.rest().expect("all comes back");
        assert_eq!(echoed.len(), total);
        assert!(pattern::matches(0, &echoed));
    }
}

fn a_full_direction_does_not_starve_the_other(plane: Plane) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let Some(stage) = plane.start(relay_to(&[listener.local_addr().expect("a bound socket")])) else { return };
    // The server floods, and what the client says is heard; then the client floods, and what the server says is.
    for client_floods in [false, true] {
        let near = Wire::from(stage.client());
        let far = Wire::tcp(listener.accept().expect("it is relayed").0);
        let (mut flooding, mut flooded) = if client_floods { (near, far) } else { (far, near) };
        let mut sink = flooded.try_clone().expect("a live socket");
        let sinking = thread::spawn(move || while sink.take_some().is_ok_and(|bytes| !bytes.is_empty()) {});
        let mut source = flooding.try_clone().expect("a live socket");
        let sending = thread::spawn(move || while source.send(&[0; 65536]).is_ok() {});
        for n in 0..50 {
            flooded.send(&[n]).unwrap();
            assert_eq!(flooding.take(1).expect("it gets through against the flood"), [n]);
        }
        for end in [&flooding, &flooded] {
            end.socket().shutdown(Shutdown::Both).unwrap();
        }
        sinking.join().expect("the flood has an end");
        sending.join().expect("the flood has an end");
    }
}

fn another_host_is_tried(plane: Plane) {
    let (origin, nobody) = (Origin::start("one"), free_address().to_string());
    let hosts = [nobody, origin.address()];
    let Some(stage) = plane.start(Config::proxy_to(&hosts).relay("")) else { return };
    for _ in 0..4 {
        assert_eq!(stage.client().get("/").text(), "one");
    }
    let cluster = |name: &str| stage.gateway.metric(name, "cluster=\"origins\"");
    assert!(cluster("upstream_connection_con_fail_total") > 0.9);
    assert!((cluster("upstream_request_retry_total") - cluster("upstream_connection_con_fail_total")).abs() < 0.1);
}

fn nobody_to_relay_to_is_a_reset(plane: Plane) {
    let Some(stage) = plane.start(relay_to(&[free_address()])) else { return };
    assert!(is_refused(&stage), "an end would be an empty answer");
    assert!((listener(&stage, "relay_failed_total") - 1.0).abs() < 0.1);
    let tries = stage.gateway.metric("upstream_connection_con_fail_total", "cluster=\"origins\"");
    assert!((tries - 3.0).abs() < 0.1, "max_connect_attempts: {tries}");
}

fn an_idle_relay_is_closed(plane: Plane) {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()]).relay("idle_timeout: 400ms");
    let Some(stage) = plane.start(config) else { return };
    let mut client = stage.client();
    assert_eq!(client.get("/").text(), "one");
    assert!(client.is_closed());
    wait_until("the host's side closes", || origin.open_conns() == 0);
    wait_until("it is counted", || listener(&stage, "relay_idle_closed_total") > 0.9);
}

fn routes_go_by_port(plane: Plane) {
    let (one, two) = (Origin::start("one"), Origin::start("two"));
    let config = Config::proxy_to(&[one.address()]).more_origins("others", &[two.address()]);
    let port = config.listen.port();
    let filter = |own: u16| {
        format!(
            "{{type: tcp_proxy, config: {{routes: [{{cluster: origins, destination_port: \"{own}\"}}, {{cluster: others, \
             source_addrs: [0.0.0.0/0, \"::/0\"], source_port: 1-65535}}]}}}}"
        )
    };
    for (own, text) in [(port, "one"), (port - 1, "two")] {
        let Some(stage) = plane.start(config.clone().filter(&filter(own))) else { return };
        assert_eq!(stage.client().get("/").text(), text);
    }
    let nobody =
        format!("{{type: tcp_proxy, config: {{routes: [{{cluster: origins, destination_port: \"{}\"}}]}}}}", port - 1);
    let Some(stage) = plane.start(config.filter(&nobody)) else { return };
    assert!(is_refused(&stage));
    assert!((listener(&stage, "relay_failed_total") - 1.0).abs() < 0.1);
}

/// The tunnel's cluster goes, then its listener: it is for those who come.
fn a_relay_outlives_a_reload(plane: Plane) {
    let (one, two) = (Origin::start("one"), Origin::start("two"));
    let config = Config::proxy_to(&[one.address()]).relay("").more_origins("others", &[two.address()]);
    let Some(stage) = plane.start(config) else { return };
    let mut before = stage.client();
    assert_eq!(before.get("/").text(), "one");
    let text = fs::read_to_string(stage.gateway.file()).unwrap();
    let moved = text.replace("{cluster: origins, }", "{cluster: others}");
    assert_ne!(moved, text);
    stage.gateway.rewrite(&moved);
    stage.gateway.reload().unwrap();
    wait_until("new connections go elsewhere", || stage.client().get("/").text() == "two");
    assert_eq!(before.get("/").text(), "one");
    // The listener serves requests from here on, and then bytes again, under a connection that has sent requests.
    let http = moved
        .replace("{type: tcp_proxy, config: {cluster: others}}", "{type: proxy, config: {router_config_name: web}}");
    assert_ne!(http, moved);
    stage.gateway.rewrite(&http);
    stage.gateway.reload().unwrap();
    wait_until("requests are seen", || {
        stage.client().ask("GET", "/head", "X-Forwarded-For: x\r\n", b"").text().contains("x, ")
    });
    let mut requests = stage.client();
    assert_eq!(requests.get("/").text(), "one");
    stage.gateway.rewrite(&moved);
    stage.gateway.reload().unwrap();
    assert!(requests.is_closed(), "its next bytes would be nobody's");
    assert_eq!(stage.client().get("/").text(), "two");
    assert_eq!(before.get("/").text(), "one");
    assert_eq!(one.received().iter().filter(|r| r.conn == 0).count(), 3);
}

fn a_drain_waits_for_relays(plane: Plane) {
    let origin = Origin::start("one");
    let Some(mut stage) = plane.start(Config::proxy_to(&[origin.address()]).relay("")) else { return };
    let mut client = stage.client();
    assert_eq!(client.get("/").text(), "one");
    stage.gateway.process.signal("TERM");
    assert!(client.is_silent_for(Duration::from_millis(200)));
    assert_eq!(client.get("/").text(), "one", "it goes on");
    client.half_close();
    assert!(client.is_closed());
    assert_eq!(stage.gateway.process.wait().code(), Some(0), "{}", stage.gateway.process.output());
}

/// TLS in front, plain text behind; and the other way round below.
fn tls_is_taken_off(plane: Plane) {
    let (origin, pair) = (Origin::start("one"), Pair::for_names(&["test.example"]));
    let config = Config::proxy_to(&[origin.address()]).relay("").tls(&[pair.paths()]);
    let Some(stage) = plane.start(config) else { return };
    let port = stage.address.port();
    let curl = |path: &str, arguments: &[&str]| {
        let mut command = stage.client_command("curl");
        command.args(["-sS", "--max-time", "20", "--noproxy", "*", "--cacert"]).arg(&pair.certificate);
        command.args(["--resolve", &format!("test.example:{port}:{}", stage.address.ip())]).args(arguments);
        run(command.arg(format!("https://test.example:{port}{path}")))
    };
    assert_eq!(curl("/", &[]).as_deref(), Ok("one"));
    let big = curl("/big?bytes=5000000", &["-o", "/dev/null", "-w", "%{size_download}"]);
    assert_eq!(big.as_deref(), Ok("5000000"));
    let folder = TempDir::new();
    let file = folder.path().join("body");
    fs::write(&file, pattern::bytes(3_000_000)).unwrap();
    let upload = format!("@{}", file.display());
    assert_eq!(curl("/sink", &["--data-binary", &upload, "-H", "Expect:"]).as_deref(), Ok("bytes=3000000 intact=true"));
}

fn faults_come_on_purpose(plane: Plane) {
    let origin = Origin::start("one");
    for serving in ["{type: tcp_proxy, config: {cluster: origins}}", "{type: proxy, config: {router_config_name: web}}"]
    {
        let config = |fault: &str| {
            let both = format!("{{type: fault_inject, config: {{{fault}}}}}\n              - {serving}");
            Config::proxy_to(&[origin.address()]).filter(&both)
        };
        let Some(stage) = plane.start(config("delay_percent: 100, delay_duration: 300ms")) else { return };
        let begun = Instant::now();
        let mut client = stage.client();
        assert_eq!(client.get("/").text(), "one");
        assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
        let delayed = |stage: &Stage| listener(stage, "connection_delayed_total");
        assert_eq!((client.get("/").text(), delayed(&stage).round()), ("one".into(), 1.0), "a connection waits once");
        let Some(stage) = plane.start(config("abort_percent: 100")) else { return };
        assert!(is_refused(&stage));
        assert!((listener(&stage, "connection_aborted_total") - 1.0).abs() < 0.1);
        let Some(stage) = plane.start(config("delay_percent: 0, delay_duration: 60s, abort_percent: 0")) else {
            return;
        };
        assert_eq!(stage.client().get("/").text(), "one");
    }
}

#[test]
fn tls_is_put_on() {
    let pair = Pair::for_names(&["origin.example"]);
    let nginx = match Nginx::start(Some(pair.paths())) {
        Ok(nginx) => nginx,
        Err(reason) => return skip!("e2e-nginx", "{reason}"),
    };
    let tls = |name: &str| {
        format!("tls_context: {{status: true, ca_cert: \"{}\", server_name: {name}}}", pair.certificate.display())
    };
    let config = |name: &str| Config::proxy_to(&[nginx.address.to_string()]).relay("").cluster(&tls(name));
    let stage = Plane::Kernel.start(config("origin.example")).expect("always there");
    assert!(stage.client().get("/").text().contains("nginx says hello"));
    let stage = Plane::Kernel.start(config("wrong.example")).expect("always there");
    assert!(is_refused(&stage), "a host that can't be verified gets nothing");
}

/// What `max_connections` bounds, on all workers together.
#[test]
fn the_bound_of_connections_is_exact() {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()]).relay("").workers(4);
    let config = config.cluster("circuit_breakers: [{max_connections: 3}]");
    let stage = Plane::Kernel.start(config).expect("always there");
    let mut held: Vec<Client> = (0..3).map(|_| stage.client()).collect();
    held.iter_mut().for_each(|client| assert_eq!(client.get("/").text(), "one"));
    for _ in 0..8 {
        assert!(is_refused(&stage));
    }
    let overflow = stage.gateway.metric("upstream_request_pending_overflow_total", "cluster=\"origins\"");
    assert!((overflow - 8.0).abs() < 0.1, "each is counted once: {overflow}");
    held.pop();
    wait_until("a place comes free", || !is_refused(&stage) && origin.conns() > 3);
}

#[test]
fn hosts_are_chosen_by_the_balancer_and_hashes_by_the_client() {
    let origins: Vec<Origin> = ["a", "b", "c"].iter().map(|name| Origin::start(name)).collect();
    let hosts: Vec<String> = origins.iter().map(Origin::address).collect();
    let stage = Plane::Kernel.start(Config::proxy_to(&hosts).relay("")).expect("always there");
    for _ in 0..6 {
        assert_eq!(stage.client().get("/").status, 200);
    }
    assert!(origins.iter().all(|o| o.conns() == 2), "in turns");
    let config = Config::proxy_to(&hosts).relay("");
    let text = config.text().replace("LB_ROUNDROBIN", "LB_MAGLEV");
    let stage = Plane::Kernel.start(config.verbatim(&text)).expect("always there");
    let first = stage.client().get("/").text();
    for _ in 0..5 {
        assert_eq!(stage.client().get("/").text(), first, "one client, one host");
    }
}

#[test]
fn a_line_tells_of_each_connection() {
    let (origin, folder) = (Origin::start("one"), TempDir::new());
    let log = folder.path().join("access.log");
    let format = "%protocol% %response_code% %bytes_received% %bytes_sent% %upstream_host% %upstream_cluster% \
                  %response_flags% %request_method% %request_scheme% %upstream_attempts% %downstream_remote_address%";
    let line = format!("access_logs: [{{log_path: \"{}\", log_format: \"{format}\"}}]", log.display());
    let config = Config::proxy_to(&[origin.address()]).relay("").listener(&line);
    let stage = Plane::Kernel.start(config.clone()).expect("always there");
    let mut client = stage.client();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let answer = client.rest().unwrap();
    drop(client);
    let lines = || fs::read_to_string(&log).unwrap_or_default();
    wait_until("the line is written", || lines().ends_with('\n'));
    let expected = format!("TCP 0 46 {} {} origins - - - 1 127.0.0.1:", answer.len(), origin.address());
    assert!(lines().starts_with(&expected), "{} is not {expected}", lines());
    let nobody = config.text().replace(&origin.address(), &free_address().to_string());
    stage.gateway.rewrite(&nobody);
    stage.gateway.reload().unwrap();
    wait_until("the other host is in force", || is_refused(&stage));
    wait_until("the failure is written", || lines().lines().count() >= 2);
    assert!(lines().lines().nth(1).unwrap().contains(" origins UF - - 3 127.0.0.1:"), "{}", lines());
}

/// A real client and server of a protocol of their own: OpenSSL, end to end, through a relay that knows nothing of TLS.
#[test]
fn tls_passes_through() {
    let pair = Pair::for_names(&["origin.example"]);
    let nginx = match Nginx::start(Some(pair.paths())) {
        Ok(nginx) => nginx,
        Err(reason) => return skip!("e2e-nginx", "{reason}"),
    };
    let config = Config::proxy_to(&[nginx.address.to_string()]).relay("");
    let stage = Plane::Kernel.start(config).expect("always there");
    let port = stage.address.port();
    let out = run(Command::new("curl")
        .args(["-sS", "--max-time", "20", "--noproxy", "*", "--cacert"])
        .arg(&pair.certificate)
        .args(["--resolve", &format!("origin.example:{port}:127.0.0.1"), &format!("https://origin.example:{port}/")]));
    assert!(out.is_ok_and(|text| text.contains("nginx says hello")));
}
