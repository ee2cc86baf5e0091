//! Every pair of protocols, run, and written down as what the client was told.

use std::fmt::Write;
use std::net::{SocketAddr, TcpListener};
use std::thread;

use test_support::nghttpd::Nghttpd;
use test_support::ports::free_address;
use test_support::temp::TempDir;
use test_support::{Config, Gateway, Origin, Wire};

use super::{curl, sofa_content};
use crate::bolt::peer::{Frame, Listening, Peer};
use crate::bolt::{self, SERVICE};
use crate::dubbo;
use crate::npm;
use crate::stage::{Plane, Stage, binary};

/// Where the table is.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/conversion-matrix.md");

/// A protocol, on either side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Http1,
    Http2,
    Bolt,
    BoltV2,
    Dubbo,
}

const SIDES: [Side; 5] = [Side::Http1, Side::Http2, Side::Bolt, Side::BoltV2, Side::Dubbo];

impl Side {
    /// Its name in the file.
    fn name(self) -> &'static str {
        match self {
            Self::Http1 => "Http1",
            Self::Http2 => "Http2",
            Self::Bolt => "bolt",
            Self::BoltV2 => "boltv2",
            Self::Dubbo => "dubbo",
        }
    }

    /// Who asks in it.
    fn client(self) -> &'static str {
        match self {
            Self::Http1 | Self::Http2 => "curl",
            Self::Bolt | Self::BoltV2 => "raw frames with content of sofa-rpc-node",
            Self::Dubbo => "raw frames",
        }
    }

    /// Who answers in it.
    fn origin(self) -> &'static str {
        match self {
            Self::Http1 => "the tests' own server",
            Self::Http2 => "nghttpd",
            Self::Bolt | Self::BoltV2 => "sofa-rpc-node",
            Self::Dubbo => "apache-dubbo-service",
        }
    }

    /// A status as its protocol calls it.
    fn status(self, code: i32) -> String {
        let name = match (self, code) {
            (Self::Http1 | Self::Http2, _) => "",
            (Self::Bolt | Self::BoltV2, 0) => " SUCCESS",
            (Self::Bolt | Self::BoltV2, 3) => " UNKNOWN",
            (Self::Bolt | Self::BoltV2, 4) => " SERVER_THREADPOOL_BUSY",
            (Self::Bolt | Self::BoltV2, 6) => " NO_PROCESSOR",
            (Self::Bolt | Self::BoltV2, 7) => " TIMEOUT",
            (Self::Dubbo, 20) => " OK",
            (Self::Dubbo, 30) => " CLIENT_TIMEOUT",
            (Self::Dubbo, 40) => " BAD_REQUEST",
            (Self::Dubbo, 60) => " SERVICE_NOT_FOUND",
            (Self::Dubbo, 100) => " SERVER_THREADPOOL_EXHAUSTED",
            _ => " (no name)",
        };
        format!("{code}{name}")
    }
}

/// The origins of all pairs.
struct Origins {
    http1: Origin,
    nghttpd: Nghttpd,
    sofa: npm::Server,
    dubbo: npm::Server,
    busy_http: Gateway,
    busy_bolt: SocketAddr,
    busy_dubbo: SocketAddr,
    silent: SocketAddr,
    dead: SocketAddr,
    /// The class and the content of a call of sofa-rpc, and the content in a file.
    call: (Vec<u8>, Vec<u8>),
    folder: TempDir,
}

impl Origins {
    fn start() -> Self {
        let busy = Config::proxy_to(&[])
            .protocols("Auto")
            .route("{match: {prefix: /}, direct_response: {status: 503, body: busy}}");
        let call = sofa_content("hello");
        let folder = TempDir::new();
        std::fs::write(folder.path().join("content"), &call.1).expect("a file can be written");
        Self {
            http1: Origin::start("one"),
            nghttpd: Nghttpd::start(None, &[]).expect("nghttpd is installed"),
            sofa: bolt::server(),
            dubbo: dubbo::server(),
            busy_http: Gateway::start(binary(), &busy),
            busy_bolt: Listening::answering(|asked| Frame { varies: 4, ..asked.answer() }),
            busy_dubbo: dubbo_busy(),
            silent: silent(),
            dead: free_address(),
            call,
            folder,
        }
    }

    fn of(&self, side: Side) -> String {
        match side {
            Side::Http1 => self.http1.address(),
            Side::Http2 => self.nghttpd.address.to_string(),
            Side::Bolt | Side::BoltV2 => self.sofa.address.to_string(),
            Side::Dubbo => self.dubbo.address.to_string(),
        }
    }

    fn busy(&self, side: Side) -> SocketAddr {
        match side {
            Side::Http1 | Side::Http2 => self.busy_http.listen,
            Side::Bolt | Side::BoltV2 => self.busy_bolt,
            Side::Dubbo => self.busy_dubbo,
        }
    }

    /// A gateway from one side to the other, whose request goes where its field `x-wish` says.
    fn gateway(&self, from: Side, to: Side) -> Stage {
        let mut config = Config::proxy_to(&[self.of(to)])
            .protocols(from.name())
            .more_origins("busy", &[self.busy(to).to_string()])
            // A connection of HTTP/2 is open when its origin has said something.
            .another_cluster(&format!(
                "{{name: late, connect_timeout: 500ms, hosts: [{{address: \"{}\"}}]}}",
                self.silent
            ))
            .more_origins("gone", &[self.dead.to_string()]);
        let protocol = to.name();
        for wish in ["busy", "late", "gone"] {
            config = config.route(&format!(
                "{{match: {{headers: [{{name: x-wish, value: {wish}}}]}}, route: {{cluster_name: {wish}, timeout: 500ms, \
                 upstream_protocol: {protocol}}}}}"
            ));
        }
        let rewrite =
            if to == Side::Http1 { ", regex_rewrite: {pattern: {regex: \".*\"}, substitution: /echo}" } else { "" };
        let config = config.route(&format!(
            "{{match: {{headers: [{{name: x-wish, value: answer}}]}}, route: {{cluster_name: origins, upstream_protocol: {protocol}{rewrite}}}}}"
        ));
        Plane::Kernel.start(config).expect("the kernel plane always starts")
    }

    /// What a client is told whose request goes where `wish` says, by its protocol's own status, and the body.
    fn ask(&self, stage: &Stage, (from, to): (Side, Side), wish: &str) -> (i32, Vec<u8>) {
        match from {
            Side::Http1 => self.ask_http(stage, "--http1.1", to, wish),
            Side::Http2 => self.ask_http(stage, "--http2-prior-knowledge", to, wish),
            Side::Bolt => self.ask_bolt(stage, 1, wish),
            Side::BoltV2 => self.ask_bolt(stage, 2, wish),
            Side::Dubbo => ask_dubbo(stage, wish),
        }
    }

    fn ask_http(&self, stage: &Stage, version: &str, to: Side, wish: &str) -> (i32, Vec<u8>) {
        let class = format!("x-bolt-class: {}", String::from_utf8_lossy(&self.call.0));
        let is_answered = wish == "answer";
        let (service, wish) = (format!("service: {SERVICE}"), format!("x-wish: {wish}"));
        let file = format!("@{}", self.folder.path().join("content").display());
        let out = self.folder.path().join("answer").display().to_string();
        let body = if to == Side::Dubbo { "[\"hello\"]" } else { file.as_str() };
        let kind =
            if to == Side::Dubbo { "content-type: application/json" } else { "content-type: application/octet-stream" };
        let mut arguments = vec![version, "-o", &out, "-H", &wish, "-H", &service, "-H", &class, "-H", kind];
        if is_answered {
            // Over HTTP/2 this curl takes an answer before the end of its body for an error.
            arguments.extend(["--data-binary", body]);
        }
        let code = curl(stage, "/com.example.Echo/echo", &arguments);
        (code.trim().parse().expect("a status"), std::fs::read(out).unwrap_or_default())
    }

    fn ask_bolt(&self, stage: &Stage, version: u8, wish: &str) -> (i32, Vec<u8>) {
        let (class, content) = self.call.clone();
        let mut asked = Frame { version, class, ..Frame::request(7, SERVICE, &content) };
        asked.headers.push(("x-wish".to_owned(), wish.to_owned()));
        let answer = Peer(stage.wire()).ask(&asked);
        assert_eq!((answer.version, answer.id, answer.kind), (version, 7, 0));
        (answer.varies, answer.content)
    }
}

/// A call of `echo`.
fn ask_dubbo(stage: &Stage, wish: &str) -> (i32, Vec<u8>) {
    let mut body = Vec::new();
    for text in ["2.0.2", "com.example.Echo", "0.0.0", "echo", "Ljava/lang/String;", "hello"] {
        put(text, &mut body);
    }
    body.push(b'H');
    let attachments =
        [("path", "com.example.Echo"), ("interface", "com.example.Echo"), ("version", "0.0.0"), ("x-wish", wish)];
    for text in attachments.iter().flat_map(|(name, value)| [name, value]) {
        put(text, &mut body);
    }
    body.push(b'Z');
    let mut wire = stage.wire();
    dubbo::send(&mut wire, &dubbo::Frame(0xC2, 0, 9, body));
    let dubbo::Frame(flag, status, id, body) = dubbo::frame(&mut wire).expect("an answer");
    assert_eq!((flag, id), (0x02, 9));
    (status.into(), body)
}

fn put(text: &str, out: &mut Vec<u8>) {
    out.push(u8::try_from(text.len()).expect("short"));
    out.extend(text.as_bytes());
}

/// A host of Dubbo that has enough to do.
fn dubbo_busy() -> SocketAddr {
    serve(|wire| {
        while let Some(dubbo::Frame(.., id, _)) = dubbo::frame(wire) {
            dubbo::send(wire, &dubbo::Frame(0x02, 100, id, b"\x04busy".to_vec()));
        }
    })
}

/// A host that takes everything and says nothing.
fn silent() -> SocketAddr {
    serve(|wire| while wire.take_some().is_ok_and(|bytes| !bytes.is_empty()) {})
}

fn serve(each: impl Fn(&mut Wire) + Copy + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || each(&mut Wire::tcp(stream)));
        }
    });
    address
}

/// Whether the one becomes the other.
fn is_converted(from: Side, to: Side) -> bool {
    let is_bolt = |side| matches!(side, Side::Bolt | Side::BoltV2);
    !(is_bolt(from) && to == Side::Dubbo || from == Side::Dubbo && is_bolt(to))
}

fn row(origins: &Origins, from: Side, to: Side) -> String {
    let stage = origins.gateway(from, to);
    let (code, body) = origins.ask(&stage, (from, to), "answer");
    let is_answered = body.windows(5).any(|five| five == b"hello");
    assert_eq!(is_answered, is_converted(from, to), "{from:?} to {to:?}: {code} {:?}", String::from_utf8_lossy(&body));
    let mut told = vec![from.status(code)];
    for wish in ["busy", "late", "gone"] {
        told.push(from.status(origins.ask(&stage, (from, to), wish).0));
    }
    let peers = format!("{} · {}", from.client(), to.origin());
    let is = if is_answered { "yes" } else { "no" };
    format!("| {} | {} | {is} | {} | {peers} |\n", from.name(), to.name(), told.join(" | "))
}

/// `FERROGATE_BLESS=1` writes the page.
#[test]
fn the_matrix_is_what_happens() {
    if !bolt::has_peers() || !dubbo::has_peers() {
        return;
    }
    let origins = Origins::start();
    let mut page = HEAD.to_owned();
    for from in SIDES {
        for to in SIDES {
            page.push_str(&row(&origins, from, to));
        }
    }
    writeln!(page, "\n{FOOT}").expect("a string takes it");
    if std::env::var_os("FERROGATE_BLESS").is_some() {
        std::fs::write(PAGE, &page).expect("the page can be written");
    }
    let there = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(
        there == page,
        "docs/reference/conversion-matrix.md is stale: FERROGATE_BLESS=1 cargo test --test e2e the_matrix_is\n{page}"
    );
}

const HEAD: &str = "# Which protocol becomes which

Written by the test that runs every pair through a gateway (`tests/e2e/conversion/matrix.rs`; `FERROGATE_BLESS=1 cargo test --test e2e the_matrix_is` writes
it anew). Rows are what clients speak and what `upstream_protocol` says; the next four columns are what the client is told, in its own protocol, when

- **an answer** comes: the origin is a real one, and what it says arrives;
- **busy**: the origin says that it has too much to do (503, SERVER_THREADPOOL_BUSY, SERVER_THREADPOOL_EXHAUSTED);
- **late**: it says nothing within the route's timeout;
- **gone**: no connection to it can be opened.

[conversion.md](conversion.md) has what becomes of each part of a message.

| from | to | converted | an answer | busy | late | gone | client · origin of the answer |
|---|---|---|---|---|---|---|---|
";

const FOOT: &str = "Clients of sofa-rpc-node and of apache-dubbo-consumer go through both versions of HTTP and back to servers of sofa-rpc-node and apache-dubbo-service in
`tests/e2e/conversion.rs`.";
