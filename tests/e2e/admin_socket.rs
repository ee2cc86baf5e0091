//! The admin API on a unix socket: for curl, for `plan` and for a new process, and for no other user.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use test_support::process::{Process, run};
use test_support::temp::TempDir;
use test_support::{Client, Config, Gateway, Origin, wait_until};

use crate::restart::is_alive;
use crate::stage::binary;

/// A gateway whose admin API is at `socket` alone.
struct Served {
    process: Process,
    listen: SocketAddr,
    /// Where the admin API would be with the file as other tests have it.
    tcp: SocketAddr,
    file: PathBuf,
    socket: PathBuf,
    _folder: TempDir,
}

/// A process that took another's place; it ends with the test.
struct Successor(u32);

impl Served {
    fn start(origin: &Origin) -> Self {
        let folder = TempDir::new();
        let socket = folder.path().join("admin.sock");
        // As a process that crashed leaves it.
        drop(UnixListener::bind(&socket).expect("the folder is the test's"));
        let config = Config::proxy_to(&[origin.address()]);
        let file = folder.write("gateway.yaml", &text(&config, &socket));
        let process = Process::start(Command::new(binary()).arg("start").arg("-c").arg(&file));
        let served = Self { process, listen: config.listen, tcp: config.admin, file, socket, _folder: folder };
        wait_until("the gateway serves", || served.state() == Some((served.process.id(), 6)));
        served
    }

    /// What curl gets from a path of the API.
    fn curl(&self, more: &[&str], path: &str) -> Result<String, String> {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "20", "--unix-socket"]).arg(&self.socket);
        run(command.args(more).arg(format!("http://localhost{path}")))
    }

    /// The process that answers and its state; None while nobody does.
    fn state(&self) -> Option<(u32, u32)> {
        let text = self.curl(&[], "/api/v1/states").ok()?;
        let (id, state) = text.trim().strip_prefix("pid=")?.split_once("&state=")?;
        Some((id.parse().ok()?, state.parse().ok()?))
    }

    fn mode(&self) -> u32 {
        fs::metadata(&self.socket).expect("it is there").permissions().mode() & 0o777
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if is_alive(self.0) {
            let _ = Command::new("sh").args(["-c", "kill -s KILL \"$0\"", &self.0.to_string()]).status();
        }
    }
}

/// A file whose admin API is at `socket`.
fn text(config: &Config, socket: &Path) -> String {
    let tcp = format!("socket_address: {{address: {}, port_value: {}}}", config.admin.ip(), config.admin.port());
    let text = config.clone().extra("control: {dynamic_config: true}\n").text();
    assert!(text.contains(&tcp), "{text}");
    text.replace(&tcp, &format!("pipe: {{path: \"{}\"}}", socket.display()))
}

#[test]
fn curl_reads_it_and_changes_the_configuration() {
    let (one, two) = (Origin::start("one"), Origin::start("two"));
    let mut served = Served::start(&one);
    assert_eq!(served.mode(), 0o600, "for its own user");
    assert!(Client::try_connect(served.tcp).is_err(), "and nowhere else");
    let metrics = served.curl(&[], "/metrics").unwrap();
    assert!(metrics.contains("ferrogate_config_generation 1"), "{metrics}");
    let mut client = Client::connect(served.listen);
    assert_eq!(client.get("/").text(), "one");
    let hosts = format!("[{{\"address\": \"{}\"}}]", two.address());
    let change = format!("{{\"type\": \"cluster\", \"config\": {{\"name\": \"origins\", \"hosts\": {hosts}}}}}");
    let answer = served.curl(&["--fail", "--data", &change], "/api/v1/update_config").unwrap();
    assert!(answer.contains("\"generation\": 2"), "{answer}");
    wait_until("the new host answers", || client.get("/").text() == "two");
    let socket = format!("unix:{}", served.socket.display());
    for against in [&[][..], &["--against", &socket]] {
        let plan = run(Command::new(binary()).args(["plan", "-c"]).arg(&served.file).args(against)).unwrap();
        assert!(plan.contains(&format!("- cluster_manager.clusters[origins].hosts[{}]", two.address())), "{plan}");
    }
    served.process.signal("TERM");
    assert_eq!(served.process.wait().code(), Some(0));
    assert!(!served.socket.exists(), "the socket goes with the process");
}

/// Who finds the socket served leaves it to who serves it.
#[test]
fn a_served_socket_is_not_taken() {
    let origin = Origin::start("one");
    let served = Served::start(&origin);
    let refused = Gateway::refused(binary(), &text(&Config::proxy_to(&[origin.address()]), &served.socket));
    assert!(!refused.status.success() && refused.output.contains("admin.sock"), "{}", refused.output);
    assert!(refused.output.contains("in use"), "{}", refused.output);
    assert_eq!(served.state(), Some((served.process.id(), 6)));
    assert_eq!(Client::connect(served.listen).get("/").text(), "one");
}

#[test]
fn a_new_process_takes_it_over() {
    let origin = Origin::start("one");
    let mut served = Served::start(&origin);
    served.process.signal("USR2");
    let mut new = None;
    wait_until("another process answers", || {
        new = served.state().filter(|(id, state)| *id != served.process.id() && *state == 6);
        new.is_some()
    });
    let new = Successor(new.expect("it answers").0);
    // Its end alone: the new process writes to the same output.
    wait_until("the old process ends", || served.process.ended().is_some_and(|status| status.success()));
    assert_eq!((served.state(), served.mode()), (Some((new.0, 6)), 0o600), "the path is the new process's");
    assert_eq!(Client::connect(served.listen).get("/").text(), "one");
    let status = Command::new("sh").args(["-c", "kill -s TERM \"$0\"", &new.0.to_string()]).status();
    assert!(status.expect("a shell").success());
    wait_until("the new process ends", || !is_alive(new.0));
    assert!(!served.socket.exists(), "and goes with it");
}
