//! Restarts: a new process takes the listening sockets over before the old one drains, and no client notices.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use test_support::load::{Habit, Load};
use test_support::temp::TempDir;
use test_support::{Client, Config, Gateway, Origin, wait_until};

use crate::stage::{Plane, binary};

/// The process that serves now: the first one or one that took its place. Ends it in any case.
struct Line<'a> {
    gateway: &'a Gateway,
    id: u32,
}

impl<'a> Line<'a> {
    fn of(gateway: &'a Gateway) -> Self {
        Self { gateway, id: gateway.process.id() }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &self.id.to_string()]).status();
        assert!(status.expect("a shell").success(), "{name}\n{}", self.gateway.process.output());
    }

    /// Has a new process take the place of the one that serves, and waits until that is alone.
    fn restart(&mut self) {
        let old = self.id;
        self.signal("USR2");
        wait_until("another process answers", || {
            serving(self.gateway).is_some_and(|id| {
                self.id = id;
                id != old
            })
        });
        if old != self.gateway.process.id() {
            wait_until("the old process is gone", || !is_alive(old));
        }
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if self.id != self.gateway.process.id() && is_alive(self.id) {
            let _ = Command::new("sh").args(["-c", "kill -s KILL \"$0\"", &self.id.to_string()]).status();
        }
    }
}

/// The process that the admin API is of, once it serves.
pub fn serving(gateway: &Gateway) -> Option<u32> {
    let mut client = Client::try_connect(gateway.admin).ok()?;
    client.send(b"GET /api/v1/states HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n").ok()?;
    let text = client.try_answer_to("GET").ok()?.text();
    let (id, state) = text.trim().strip_prefix("pid=")?.split_once("&state=")?;
    (state == "6").then(|| id.parse().ok())?
}

/// Whether a process runs; one that has ended and was not waited for does not.
pub fn is_alive(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}

/// The issue's own: ten restarts under load with new connections.
#[test]
fn ten_restarts_lose_nothing() {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()]).workers(2);
    let stage = Plane::Kernel.start(config).expect("always there");
    let mut line = Line::of(&stage.gateway);
    let load = Load::start(stage.address, "/", &[Habit::New; 4]);
    for _ in 0..10 {
        let answered = load.answered();
        line.restart();
        wait_until("the new process serves", || load.answered() > answered + 20);
    }
    let (answered, failures) = load.finish();
    assert!(failures.is_empty(), "{} of {answered}: {failures:?}\n{}", failures.len(), stage.gateway.process.output());
    line.signal("TERM");
    wait_until("the last process ends", || !is_alive(line.id));
}

/// What runs in the old process is finished there; a connection of its own is told to go; another number of workers takes the sockets too.
#[test]
fn the_old_process_finishes_what_it_began() {
    let origin = Origin::start("one");
    let folder = TempDir::new();
    let socket = folder.path().join("in.sock");
    let more = format!("{{name: second, address: \"unix:{}\", router_config_name: web}}", socket.display());
    let config = Config::proxy_to(&[origin.address()]).workers(3);
    let text = config.text().replacen("cluster_manager:", &format!("      - {more}\ncluster_manager:"), 1);
    let stage = Plane::Kernel.start(config.verbatim(&text)).expect("always there");
    let mut line = Line::of(&stage.gateway);
    let mut busy = stage.client();
    busy.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    origin.wait_for_requests(1);
    stage.gateway.rewrite(&text.replace("workers: 3", "workers: 1"));
    line.restart();
    assert!(is_alive(stage.gateway.process.id()), "the old one waits for its request");
    for _ in 0..20 {
        assert_eq!(stage.client().get("/").text(), "one", "by one worker over three sockets");
    }
    let unix = std::os::unix::net::UnixStream::connect(&socket).expect("the path is still served");
    assert_eq!(Client::over(test_support::wire::Wire::unix(unix)).get("/").text(), "one");
    origin.release();
    let answer = busy.answer_to("GET");
    assert_eq!(answer.text(), "held");
    assert!(answer.head.get("connection").is_some_and(|c| c.eq_ignore_ascii_case("close")), "{:?}", answer.head);
    wait_until("the old process ends", || !is_alive(stage.gateway.process.id()));
    assert!(socket.exists(), "the path is the new process's");
    line.signal("TERM");
    wait_until("the new process ends", || !is_alive(line.id));
    assert!(!socket.exists(), "and goes with it");
}

/// A new process that can't serve leaves the old one as it was.
#[test]
fn a_new_process_that_fails_changes_nothing() {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()]);
    let stage = Plane::Kernel.start(config.clone()).expect("always there");
    let mut client = stage.client();
    assert_eq!(client.get("/").text(), "one");
    stage.gateway.rewrite("servers: nonsense\n");
    stage.gateway.process.signal("USR2");
    wait_until("it is given up", || stage.gateway.process.output().contains("the new process was given up"));
    assert_eq!(client.get("/").text(), "one");
    assert_eq!(serving(&stage.gateway), Some(stage.gateway.process.id()));
    assert_eq!(stage.client().get("/").text(), "one");
    stage.gateway.stop();
}

/// The pid file, the verbs that go by it, and what systemd is told.
#[test]
fn the_process_can_be_found_told_and_stopped() {
    let origin = Origin::start("one");
    let folder = TempDir::new();
    let (pid_file, notify) = (folder.path().join("run/gateway.pid"), folder.path().join("notify"));
    let heard = UnixDatagram::bind(&notify).unwrap();
    heard.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let config = Config::proxy_to(&[origin.address()]).extra(&format!("pid: {}\n", pid_file.display()));
    let mut command = Command::new(binary());
    command.env("NOTIFY_SOCKET", &notify).env("WATCHDOG_USEC", "200000");
    let mut gateway = Gateway::launch(&mut command, &config).unwrap_or_else(|e| panic!("{}", e.output));
    wait_until("the pid file is written", || pid_file.exists());
    assert_eq!(fs::read_to_string(&pid_file).unwrap().trim(), gateway.process.id().to_string());
    let verb = |name: &str| Command::new(binary()).arg(name).arg("-c").arg(gateway.file()).output().expect("it runs");
    let mut said = String::new();
    let mut hear = |what: &str| {
        let mut buffer = [0; 256];
        while !said.contains(what) {
            let n = heard.recv(&mut buffer).unwrap_or_else(|e| panic!("{what}: {e} after {said:?}"));
            said += &String::from_utf8_lossy(&buffer[..n]);
            said += "\n";
        }
        said.clear();
    };
    hear(&format!("READY=1\nMAINPID={}", gateway.process.id()));
    hear("WATCHDOG=1");
    assert!(verb("reload").status.success());
    hear("RELOADING=1");
    hear("READY=1");
    wait_until("the file was read again", || gateway.metric("ferrogate_config_generation", "") > 1.5);
    let stopped = verb("stop");
    assert!(stopped.status.success(), "{stopped:?}");
    hear("STOPPING=1");
    assert_eq!(gateway.process.wait().code(), Some(0));
    assert!(!pid_file.exists());
}
