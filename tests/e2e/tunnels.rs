//! WebSockets and CONNECT where a side, or both, speak HTTP/2: Python's clients and server, nghttpx, and two gateways in a row.

use std::net::SocketAddr;
use std::process::Command;
use std::thread;

use test_support::nghttpd::Nghttpd;
use test_support::ports::free_address;
use test_support::process::{Process, run};
use test_support::temp::TempDir;
use test_support::{Client, Config, Gateway, Origin, pattern, skip, wait_until};

use crate::stage::{Plane, Stage, binary, on_both_planes};

on_both_planes! {
    clients_of_both_versions_to_an_http1_origin,
    through_two_gateways,
    through_nghttpx,
    connect_through_two_gateways,
    an_origin_that_is_no_websocket_server,
}

/// Debian's Python with what the scripts need.
fn python() -> Option<&'static str> {
    let python = "/usr/bin/python3";
    let found = run(Command::new(python).args(["-c", "import h2, websockets"])).is_ok();
    if !found {
        skip!("e2e-websockets", "no Python with h2 and websockets (Debian: python3-h2, python3-websockets)");
    }
    found.then_some(python)
}

/// A process that serves until it is dropped.
struct Server {
    address: SocketAddr,
    _process: Process,
    _folder: TempDir,
}

impl Server {
    fn websockets(python: &str) -> Self {
        let (address, folder) = (free_address(), TempDir::new());
        let script = folder.write("server.py", include_str!("tunnels/server.py"));
        let mut process = Process::start(Command::new(python).arg(script).arg(address.port().to_string()));
        wait_until("the server serves", || {
            let ended = process.ended();
            assert!(ended.is_none(), "{}", process.output());
            process.output().contains("serving")
        });
        Self { address, _process: process, _folder: folder }
    }

    /// nghttpx in clear text, HTTP/2 and HTTP/1.1 in front, and before a server of this protocol.
    fn nghttpx(backend: SocketAddr, protocol: &str) -> Option<Self> {
        let (address, folder) = (free_address(), TempDir::new());
        if let Err(e) = Command::new("nghttpx").arg("--version").output() {
            skip!("e2e-nghttpx", "nghttpx can't be run: {e} (Debian: nghttp2-proxy)");
            return None;
        }
        let mut command = Command::new("nghttpx");
        command.arg(format!("-f{},{};no-tls", address.ip(), address.port()));
        command.arg(format!("-b{},{};;proto={protocol}", backend.ip(), backend.port()));
        command.args(["--conf=/dev/null", "--workers=1", "--errorlog-file=/dev/stderr"]);
        let mut process = Process::start(&mut command);
        wait_until("nghttpx listens", || {
            let ended = process.ended();
            assert!(ended.is_none(), "{}", process.output());
            std::net::TcpStream::connect(address).is_ok()
        });
        Some(Self { address, _process: process, _folder: folder })
    }
}

/// Has the client go through rows, all of which must hold.
fn check(python: &str, mut command: Command, address: SocketAddr, rows: &[&str]) {
    let folder = TempDir::new();
    let script = folder.write("client.py", include_str!("tunnels/client.py"));
    let out = run(command.arg(script).arg(address.to_string()).args(rows)).unwrap_or_else(|e| panic!("{python}: {e}"));
    let held: Vec<_> = out.lines().filter_map(|line| line.strip_prefix("ok ")).collect();
    assert_eq!(held, rows, "{out}");
}

fn check_stage(python: &str, stage: &Stage, rows: &[&str]) {
    check(python, stage.client_command(python), stage.address, rows);
}

fn clients_of_both_versions_to_an_http1_origin(plane: Plane) {
    let Some(python) = python() else { return };
    let server = Server::websockets(python);
    let config = Config::proxy_to(&[server.address.to_string()]).protocols("Auto");
    let logged = TempDir::new();
    let log = logged.path().join("access.log");
    let config = config.listener(&format!(
        "access_logs: [{{log_path: \"{}\", log_format: \"%request_method% %protocol% %response_code%\"}}]",
        log.display()
    ));
    let Some(stage) = plane.start(config) else { return };
    check_stage(python, &stage, &["http1", "http2"]);
    let want = ["GET Http1 101", "GET Http2 200", "GET Http2 426"];
    wait_until("the lines are written", || {
        std::fs::read_to_string(&log).unwrap_or_default().lines().collect::<Vec<_>>() == want
    });
}

/// HTTP/2 between the gateways, whatever the client speaks.
fn through_two_gateways(plane: Plane) {
    let Some(python) = python() else { return };
    let server = Server::websockets(python);
    let inner = Gateway::start(binary(), &Config::proxy_to(&[server.address.to_string()]).protocols("Http2"));
    let config = Config::proxy_to(&[inner.listen.to_string()]).protocols("Auto").upstream_protocol("Http2");
    let Some(stage) = plane.start(config) else { return };
    check_stage(python, &stage, &["http1", "http2", "http1", "http2"]);
    let connections = stage.gateway.metric("ferrogate_upstream_h2_connection_total", "");
    assert!((connections - 1.0).abs() < 0.1, "{connections} connections between the gateways");
    // Where the inner one does not offer it, the outer one says so.
    drop(stage);
    let closed = Config::proxy_to(&[server.address.to_string()])
        .filter("{type: proxy, config: {downstream_protocol: Http2, router_config_name: web, extend_config: {Http2: {extended_connect: false}}}}");
    let inner = Gateway::start(binary(), &closed);
    let config = Config::proxy_to(&[inner.listen.to_string()]).protocols("Auto").upstream_protocol("Http2");
    let Some(stage) = plane.start(config) else { return };
    check_stage(python, &stage, &["refused"]);
    wait_until("the log says why", || {
        stage
            .gateway
            .process
            .output()
            .contains("SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441); set upstream_protocol to Http1")
    });
}

/// Another's HTTP/2 on either side.
fn through_nghttpx(plane: Plane) {
    let Some(python) = python() else { return };
    let server = Server::websockets(python);
    let Some(behind) = Server::nghttpx(server.address, "http/1.1") else { return };
    let config = Config::proxy_to(&[behind.address.to_string()]).protocols("Auto").upstream_protocol("Http2");
    let Some(stage) = plane.start(config) else { return };
    check_stage(python, &stage, &["http1", "http2"]);
    drop(stage);
    if plane == Plane::Kernel {
        let stage =
            plane.start(Config::proxy_to(&[server.address.to_string()]).protocols("Http2")).expect("always there");
        let Some(before) = Server::nghttpx(stage.address, "h2") else { return };
        check(python, Command::new(python), before.address, &["http1"]);
        assert!(stage.gateway.metric("ferrogate_h2_connection_total", "") > 0.9);
    }
}

/// The bytes of a tunnel are its own: half-closes, much in one direction, nothing read in the other.
fn connect_through_two_gateways(plane: Plane) {
    let origin = Origin::start("one");
    let inner = Gateway::start(binary(), &Config::proxy_to(&[origin.address()]).protocols("Http2"));
    let config = Config::proxy_to(&[inner.listen.to_string()]).protocols("Auto").upstream_protocol("Http2");
    let Some(stage) = plane.start(config) else { return };
    let open = || {
        let mut client = stage.client();
        client.send(b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n").unwrap();
        assert_eq!(client.answer_to("CONNECT").status, 200);
        client
    };
    let mut client = open();
    let total = 3 << 20;
    let stream = client.socket().try_clone().expect("a live socket");
    let sending = thread::spawn(move || {
        let mut stream = std::net::TcpStream::from(stream);
        std::io::Write::write_all(&mut stream, &pattern::bytes(total)).expect("the tunnel takes it");
    });
    let echoed = client.take(total).expect("all of it comes back");
    assert!(pattern::matches(0, &echoed));
    sending.join().expect("sent");
    client.send(b"last words").unwrap();
    client.half_close();
    assert_eq!(client.take(10).unwrap(), b"last words");
    assert!(client.is_closed());
    wait_until("the origin's end closes", || origin.open_conns() == 0);
    assert_eq!(inner.metric("ferrogate_h2_stream_reset_total", ""), 0.0, "it was ended in order");
    // One that breaks off ends at the origin too, and others live.
    let (broken, mut other): (Client, Client) = (open(), open());
    wait_until("both are at the origin", || origin.open_conns() == 2);
    test_support::Wire::from(broken).reset();
    wait_until("the origin's end of it closes", || origin.open_conns() == 1);
    other.send(b"still").unwrap();
    assert_eq!(other.take(5).unwrap(), b"still");
}

fn an_origin_that_is_no_websocket_server(plane: Plane) {
    let Some(python) = python() else { return };
    // It switches, and knows nothing of the key.
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()])
        .protocols("Auto")
        .route("{match: {path: /chat}, route: {cluster_name: origins, prefix_rewrite: /upgrade}}");
    let Some(stage) = plane.start(config) else { return };
    check_stage(python, &stage, &["refused"]);
    drop(stage);
    // It does not switch: over HTTP/2 its 200 would say that it had.
    let Some(stage) = plane.start(Config::proxy_to(&[origin.address()]).protocols("Auto")) else { return };
    check_stage(python, &stage, &["refused"]);
    drop(stage);
    // An origin of HTTP/2 that takes none.
    let nghttpd = match Nghttpd::start(None, &[]) {
        Ok(nghttpd) => nghttpd,
        Err(reason) => return skip!("e2e-nghttpd", "{reason}"),
    };
    let config = Config::proxy_to(&[nghttpd.address.to_string()]).protocols("Auto").upstream_protocol("Http2");
    let Some(stage) = plane.start(config) else { return };
    check_stage(python, &stage, &["refused"]);
}
