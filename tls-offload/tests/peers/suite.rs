//! Sessions against other people's TLS: curl and openssl, as they are installed.
//!
//! **Invariant:** loopback only; every process and thread that a test starts has ended when it ends.

#[path = "../../examples/handshake.rs"]
#[allow(dead_code, unreachable_pub, reason = "the example's main is not called here")]
mod handshake;

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use handshake::Stream;
use tls_offload::{
    Alpn, Backend, ClientOptions, ClientTls, Identity, Roots, ServerOptions, ServerTls, Version, Versions, self_signed,
};

/// Makes the tests of a backend.
#[macro_export]
macro_rules! peers {
    ($backend:ident: $($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                suite::$name(tls_offload::Backend::$backend);
            }
        )*
    };
}

/// A certificate of our own, in files for the other side to read.
struct Certificate {
    pem: String,
    dir: std::path::PathBuf,
    /// Who computes on our side.
    backend: Backend,
}

impl Certificate {
    fn new(test: &str, backend: Backend) -> Self {
        let (pem, key) = self_signed(["localhost", "127.0.0.1"]).unwrap();
        let dir = std::env::temp_dir().join(format!("tls-offload-peers-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("a.crt"), &pem).unwrap();
        std::fs::write(dir.join("a.key"), &key).unwrap();
        Self { pem, dir, backend }
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    fn server(&self, versions: Versions) -> ServerTls {
        let identity =
            Identity { certificates: self.pem.as_str().into(), key: self.path("a.key").as_str().into(), staple: None };
        let mut options = ServerOptions::new(vec![identity]);
        options.alpn = Alpn::from_list("http/1.1").unwrap();
        options.versions = versions;
        options.backend = self.backend;
        ServerTls::new(options).unwrap()
    }

    fn client(&self, versions: Versions) -> ClientTls {
        let roots = Roots::Pem(self.pem.as_str().into());
        ClientTls::new(ClientOptions { roots, versions, backend: self.backend, ..ClientOptions::default() }).unwrap()
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Serves `conns` connections on a free port in a thread.
fn serve(tls: ServerTls, conns: usize) -> (SocketAddr, JoinHandle<Vec<io::Result<usize>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve_one = move |tls: &ServerTls| {
        let (socket, _) = listener.accept()?;
        limit(&socket);
        handshake::serve(Stream::new(socket, tls.session())?)
    };
    (address, std::thread::spawn(move || (0..conns).map(|_| serve_one(&tls)).collect()))
}

/// A peer that stops talking fails the test rather than hang it.
fn limit(socket: &TcpStream) {
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
}

/// A tool's output, or None where it is not installed; CI has all of them.
fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(program).args(arguments).stdin(Stdio::null()).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == io::ErrorKind::NotFound && std::env::var_os("CI").is_none() => {
            test_support::skip!(&format!("tls-{program}"), "{program} is not installed");
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn curl_gets_two_answers_on_one_connection(backend: Backend) {
    if run("curl", &["--version"]).is_none() {
        return;
    }
    let certificate = Certificate::new("curl", backend);
    for (flag, version) in [("--tls-max=1.2", Version::Tls12), ("--tlsv1.3", Version::Tls13)] {
        let (address, server) = serve(certificate.server(Versions::default()), 1);
        let url = format!("https://localhost:{}/", address.port());
        let mut arguments = vec!["-sS", "--noproxy", "*", "--max-time", "20", "--cacert"];
        let ca = certificate.path("a.crt");
        let tls_max = ["--tls-max", "1.2"];
        arguments.push(&ca);
        if version == Version::Tls12 {
            arguments.extend(tls_max)
        } else {
            arguments.push(flag)
        }
        arguments.extend([url.as_str(), url.as_str()]);
        let output = run("curl", &arguments).unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let answer = text(&output.stdout);
        assert_eq!(answer.matches("SessionInfo").count(), 2, "{answer}");
        for words in
            [format!("version: Some({version:?})"), "sni: Some(\"localhost\")".into(), "104, 116, 116, 112".into()]
        {
            assert!(answer.contains(&words), "{words} in {answer}");
        }
        // curl says close_notify; the server counts what it answered.
        assert_eq!(server.join().unwrap().remove(0).unwrap(), 2);
    }
}

pub(crate) fn curl_refuses_what_it_does_not_trust(backend: Backend) {
    if run("curl", &["--version"]).is_none() {
        return;
    }
    let certificate = Certificate::new("distrust", backend);
    let (address, server) = serve(certificate.server(Versions::default()), 1);
    let url = format!("https://localhost:{}/", address.port());
    let output = run("curl", &["-sS", "--noproxy", "*", "--max-time", "20", &url]).unwrap();
    assert_eq!(output.status.code(), Some(60), "{}", text(&output.stderr));
    let error = server.join().unwrap().remove(0).unwrap_err();
    assert!(error.to_string().contains("the peer ended the TLS session"), "{error}");
}

pub(crate) fn openssl_s_client_updates_keys_and_resumes(backend: Backend) {
    if run("openssl", &["version"]).is_none() {
        return;
    }
    let certificate = Certificate::new("s_client", backend);
    let (address, server) = serve(certificate.server(Versions::default()), 3);
    let (address, ca) = (address.to_string(), certificate.path("a.crt"));
    let connect =
        ["s_client", "-connect", &address, "-servername", "localhost", "-CAfile", &ca, "-verify_return_error"];
    let session = certificate.path("session");

    // 'K' asks for a key update of both directions, between two requests of one connection.
    let mut client = Talker::start(&connect, &[]);
    client.say("GET / HTTP/1.1\r\n\r\n");
    client.hear("SessionInfo");
    client.say("K\n");
    client.hear("KEYUPDATE");
    client.say("GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
    client.hear("SessionInfo");
    client.end();

    for (further, resumed) in [(["-sess_out", session.as_str()], false), (["-sess_in", session.as_str()], true)] {
        let mut client = Talker::start(&connect, &[&further[..], &["-tls1_2"]].concat());
        client.say("GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
        let line = client.hear("SessionInfo");
        assert!(line.contains(&format!("resumed: {resumed}")), "{line}");
        client.end();
    }
    let requests: Vec<usize> = server.join().unwrap().into_iter().map(|r| r.unwrap()).collect();
    assert_eq!(requests, [2, 1, 1]);
}

/// A client that lists the weaker suite first is answered with the stronger.
pub(crate) fn the_servers_order_of_suites_decides(backend: Backend) {
    if run("openssl", &["version"]).is_none() {
        return;
    }
    let certificate = Certificate::new("order", backend);
    let (address, server) = serve(certificate.server(Versions::default()), 2);
    let (address, ca) = (address.to_string(), certificate.path("a.crt"));
    let connect = ["s_client", "-connect", &address, "-servername", "localhost", "-CAfile", &ca];
    for (offered, chosen) in [
        (["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384"], "TLS_AES_256_GCM_SHA384"),
        (
            ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384"],
            "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        ),
    ] {
        let mut client = Talker::start(&connect, &offered);
        client.say("GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
        let line = client.hear("SessionInfo");
        assert!(line.contains(chosen), "{line}");
        client.end();
    }
    assert!(server.join().unwrap().into_iter().all(|r| r.is_ok()));
}

pub(crate) fn our_client_talks_to_openssl_s_server(backend: Backend) {
    if run("openssl", &["version"]).is_none() {
        return;
    }
    let certificate = Certificate::new("s_server", backend);
    let (crt, key) = (certificate.path("a.crt"), certificate.path("a.key"));
    for version in [Version::Tls12, Version::Tls13] {
        // -naccept: it ends by itself.
        let mut server = Talker::start(
            &["s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-www", "-cert", &crt, "-key", &key],
            &[],
        );
        let line = server.hear("ACCEPT 127.0.0.1:");
        let address = line.trim().trim_start_matches("ACCEPT ").to_owned();
        let socket = TcpStream::connect(&address).unwrap();
        limit(&socket);
        let session = certificate.client(Versions::only(version)).session("localhost").unwrap();
        let mut stream = Stream::new(socket, session).unwrap();
        assert_eq!(stream.session.info().version, Some(version));
        stream.write(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        while let Some(piece) = stream.read().unwrap() {
            answer.extend(piece);
        }
        assert!(text(&answer).starts_with("HTTP/1.0 200 ok"), "{}", text(&answer));
        drop(stream);
        server.end();
    }
}

/// An openssl command that is talked to. Killed when dropped before its end.
struct Talker {
    child: Child,
    output: BufReader<io::PipeReader>,
}

impl Talker {
    fn start(arguments: &[&str], further: &[&str]) -> Self {
        let (reader, writer) = io::pipe().unwrap();
        let mut command = Command::new("openssl");
        command.args(arguments).args(further).stdin(Stdio::piped());
        let child = command.stdout(writer.try_clone().unwrap()).stderr(writer).spawn().unwrap();
        let output = BufReader::new(reader);
        Self { child, output }
    }

    fn say(&mut self, words: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        input.write_all(words.as_bytes()).unwrap();
        input.flush().unwrap();
    }

    /// Waits for a line with `words` in it.
    fn hear(&mut self, words: &str) -> String {
        let mut heard = String::new();
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "ended without {words:?}: {heard}");
            if line.contains(words) {
                return line;
            }
            heard.push_str(&line);
        }
    }

    /// Waits for it to end by itself.
    fn end(mut self) {
        io::copy(&mut self.output, &mut io::sink()).unwrap();
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
