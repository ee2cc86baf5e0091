//! Relayed datagrams: a session for each client, over hosts that fail, reloads, drains and restarts. The kernel plane's own.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use test_support::ports::free_udp_address;
use test_support::temp::TempDir;
use test_support::{Config, Gateway, pattern, wait_until};

use crate::restart::{is_alive, serving};
use crate::stage::binary;

/// A server that answers each datagram with its name and the same again.
struct Echo {
    address: SocketAddr,
    clients: Arc<Mutex<HashSet<SocketAddr>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    fn start(name: &str) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a live socket");
        let address = socket.local_addr().expect("a bound socket");
        let clients: Arc<Mutex<HashSet<SocketAddr>>> = Arc::default();
        let over = Arc::new(AtomicBool::new(false));
        let (seen, end, name) = (Arc::clone(&clients), Arc::clone(&over), name.to_owned());
        let thread = thread::spawn(move || {
            let mut room = vec![0; 65_536];
            while !end.load(Ordering::Relaxed) {
                let Ok((n, from)) = socket.recv_from(&mut room) else { continue };
                seen.lock().expect("nobody panics").insert(from);
                let mut answer = name.clone().into_bytes();
                answer.extend_from_slice(&room[..n]);
                // A largest one has no room for the name.
                answer.truncate(65_507);
                let _ = socket.send_to(&answer, from);
            }
        });
        Self { address, clients, over, thread: Some(thread) }
    }

    /// How many sockets it has heard from.
    fn clients(&self) -> usize {
        self.clients.lock().expect("nobody panics").len()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A client that hears only whom it asked.
struct Asker(UdpSocket);

impl Asker {
    fn of(address: SocketAddr) -> Self {
        let from =
            if address.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { "::".parse().expect("an address") };
        Self::from(from, address)
    }

    fn from(ip: IpAddr, address: SocketAddr) -> Self {
        let socket = UdpSocket::bind((ip, 0)).expect("a port");
        socket.connect(address).expect("a route");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a live socket");
        Self(socket)
    }

    fn ask(&self, question: &[u8]) -> Vec<u8> {
        self.0.send(question).expect("it is taken");
        self.answer().expect("an answer")
    }

    fn text(&self, question: &str) -> String {
        String::from_utf8_lossy(&self.ask(question.as_bytes())).into_owned()
    }

    fn answer(&self) -> io::Result<Vec<u8>> {
        let mut room = vec![0; 65_536];
        let n = self.0.recv(&mut room)?;
        room.truncate(n);
        Ok(room)
    }

    /// Asks again and again until there is an answer: a datagram may be lost.
    fn text_at_last(&self, question: &str) -> String {
        self.0.set_read_timeout(Some(Duration::from_millis(200))).expect("a live socket");
        let mut text = String::new();
        wait_until("an answer", || {
            let _ = self.0.send(question.as_bytes());
            self.answer().is_ok_and(|answer| {
                text = String::from_utf8_lossy(&answer).into_owned();
                true
            })
        });
        text
    }

    fn hears_nothing_for(&self, time: Duration) -> bool {
        self.0.set_read_timeout(Some(time)).expect("a live socket");
        self.answer().is_err()
    }
}

fn relay_to(hosts: &[SocketAddr], more: &str) -> Config {
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    let mut config = Config::proxy_to(&hosts)
        .listener("network: udp")
        .filter(&format!("{{type: udp_proxy, config: {{cluster: origins, {more}}}}}"));
    config.listen = free_udp_address();
    config
}

fn start(config: &Config) -> Gateway {
    Gateway::start(binary(), config)
}

/// What the only listener has counted.
fn listener(gateway: &Gateway, name: &str) -> f64 {
    gateway.metric(&format!("ferrogate_listener_{name}"), "listener=\"http\"").round()
}

#[test]
fn datagrams_pass_whole_and_as_they_are() {
    let echo = Echo::start("");
    let gateway = start(&relay_to(&[echo.address], ""));
    let asker = Asker::of(gateway.listen);
    for len in [0, 1, 1400, 1500, 9000, 65_507] {
        let question = pattern::bytes(len);
        assert!(asker.ask(&question) == question, "{len} bytes");
    }
    assert_eq!(echo.clients(), 1, "a session has one socket");
    assert_eq!(listener(&gateway, "session_total"), 1.0);
    assert_eq!(listener(&gateway, "session_active"), 1.0);
    assert_eq!((listener(&gateway, "datagrams_read_total"), listener(&gateway, "datagrams_write_total")), (6.0, 6.0));
    let bytes = f64::from(1 + 1400 + 1500 + 9000 + 65_507);
    assert_eq!(listener(&gateway, "relay_bytes_read_total"), bytes);
    let cluster = |name: &str| gateway.metric(name, "cluster=\"origins\"").round();
    assert_eq!(cluster("ferrogate_upstream_relay_bytes_read_total"), bytes);
    assert_eq!(cluster("upstream_connection_active"), 1.0);
    gateway.stop();
}

/// Many at once by one client: all are passed on in their order, in bursts.
#[test]
fn a_burst_keeps_its_order() {
    let echo = Echo::start("");
    let gateway = start(&relay_to(&[echo.address], ""));
    let asker = Asker::of(gateway.listen);
    for round in 0..20_u32 {
        for n in 0..25_u32 {
            asker.0.send(&(round * 25 + n).to_be_bytes()).expect("it is taken");
        }
        for n in 0..25_u32 {
            assert_eq!(asker.answer().expect("an answer"), (round * 25 + n).to_be_bytes());
        }
    }
    gateway.stop();
}

#[test]
fn an_answer_comes_from_where_the_question_went() {
    let echo = Echo::start("");
    for (all, one) in [("0.0.0.0", "127.0.0.77"), ("[::]", "[::1]")] {
        let mut config = relay_to(&[echo.address], "");
        config.listen = format!("{all}:{}", config.listen.port()).parse().expect("an address");
        let _gateway = start(&config);
        let at = format!("{one}:{}", config.listen.port()).parse().expect("an address");
        assert_eq!(Asker::of(at).text("who?"), "who?");
    }
}

/// The same port for TCP and UDP, as DNS has it.
#[test]
fn one_port_serves_both() {
    let (echo, origin) = (Echo::start("udp "), test_support::Origin::start("tcp"));
    let config = relay_to(&[echo.address], "").more_origins("web", &[origin.address()]);
    let second = format!(
        "      - {{name: second, address: \"{}\", filter_chains: [{{filters: [{{type: tcp_proxy, config: {{cluster: web}}}}]}}]}}\ncluster_manager:",
        config.listen
    );
    let text = config.text().replacen("cluster_manager:", &second, 1);
    let gateway = start(&config.verbatim(&text));
    assert_eq!(Asker::of(gateway.listen).text("x"), "udp x");
    assert_eq!(gateway.client().get("/").text(), "tcp");
}

#[test]
fn clients_go_by_their_address_to_one_host() {
    let echoes: Vec<Echo> = ["a ", "b ", "c "].into_iter().map(Echo::start).collect();
    let hosts: Vec<SocketAddr> = echoes.iter().map(|echo| echo.address).collect();
    let config = relay_to(&hosts, "");
    let text = config.text().replace("LB_ROUNDROBIN", "LB_MAGLEV");
    let gateway = start(&config.workers(2).verbatim(&text));
    let mut chosen = HashSet::new();
    for last in 1..=40 {
        let ip = IpAddr::from([127, 0, 0, last]);
        let first = Asker::from(ip, gateway.listen).text("x");
        for _ in 0..3 {
            assert_eq!(
                Asker::from(ip, gateway.listen).text("x"),
                first,
                "another port, another session, the same host"
            );
        }
        chosen.insert(first);
    }
    assert_eq!(chosen.len(), 3, "{chosen:?}");
}

#[test]
fn a_silent_session_is_over() {
    let echo = Echo::start("");
    let gateway = start(&relay_to(&[echo.address], "idle_timeout: 300ms"));
    let asker = Asker::of(gateway.listen);
    assert_eq!(asker.text("one"), "one");
    wait_until("it is over", || listener(&gateway, "session_active") == 0.0);
    assert_eq!(listener(&gateway, "session_idle_closed_total"), 1.0);
    assert_eq!(gateway.metric("upstream_connection_active", "cluster=\"origins\"").round(), 0.0);
    assert_eq!(asker.text("two"), "two");
    assert_eq!(echo.clients(), 2);
}

#[test]
fn sessions_are_bounded() {
    let echo = Echo::start("");
    let gateway = start(&relay_to(&[echo.address], "idle_timeout: 1500ms").limit("udp_sessions_max", "3"));
    let held: Vec<Asker> = (0..3).map(|_| Asker::of(gateway.listen)).collect();
    for asker in &held {
        assert_eq!(asker.text("x"), "x");
    }
    let late = Asker::of(gateway.listen);
    late.0.send(b"late").expect("it is taken");
    wait_until("it is refused", || listener(&gateway, "session_refused_total") > 0.0);
    assert!(late.hears_nothing_for(Duration::from_millis(100)));
    assert_eq!(held[0].text("still"), "still", "those who are in are served");
    assert_eq!(late.text_at_last("late"), "late", "a place has come free");
    assert!(echo.clients() >= 4);
}

/// What the cluster bounds holds for sessions as for connections, on all workers together.
#[test]
fn the_bound_of_a_cluster_holds() {
    let echo = Echo::start("");
    let config = relay_to(&[echo.address], "").workers(2).cluster("circuit_breakers: [{max_connections: 2}]");
    let gateway = start(&config);
    let askers: Vec<Asker> = (0..6).map(|_| Asker::of(gateway.listen)).collect();
    askers.iter().for_each(|asker| drop(asker.0.send(b"x")));
    wait_until("four get no host", || listener(&gateway, "session_failed_total") == 4.0);
    assert_eq!(listener(&gateway, "session_active"), 2.0);
}

#[test]
fn a_host_that_refuses_is_left() {
    let (echo, nobody) = (Echo::start("live "), free_udp_address());
    let gateway = start(&relay_to(&[nobody, echo.address], ""));
    let askers: Vec<Asker> = (0..4).map(|_| Asker::of(gateway.listen)).collect();
    for asker in &askers {
        assert_eq!(asker.text_at_last("x"), "live x");
    }
    assert!(listener(&gateway, "session_broken_total") > 0.0);
    assert!(gateway.metric("upstream_connection_con_fail_total", "cluster=\"origins\"") > 0.0);
    // Nobody at all: nothing is answered, and nothing breaks.
    let gateway = start(&relay_to(&[nobody], ""));
    let asker = Asker::of(gateway.listen);
    for _ in 0..3 {
        asker.0.send(b"x").expect("the gateway's own socket is there");
        assert!(asker.hears_nothing_for(Duration::from_millis(50)));
    }
    gateway.stop();
}

#[test]
fn routes_go_by_the_client() {
    let (one, two) = (Echo::start("one "), Echo::start("two "));
    let config = relay_to(&[one.address], "").more_origins("others", &[two.address.to_string()]);
    let filter = "{type: udp_proxy, config: {routes: [{cluster: origins, source_addrs: [127.0.1.0/24]}, \
                  {cluster: others, source_addrs: [127.0.2.0/24]}]}}";
    let gateway = start(&config.filter(filter));
    let from = |ip: [u8; 4]| Asker::from(ip.into(), gateway.listen);
    assert_eq!(from([127, 0, 1, 1]).text("x"), "one x");
    assert_eq!(from([127, 0, 2, 1]).text("x"), "two x");
    from([127, 0, 3, 1]).0.send(b"x").expect("it is taken");
    wait_until("it goes nowhere", || listener(&gateway, "session_failed_total") == 1.0);
}

#[test]
fn a_reload_keeps_sessions_as_long_as_their_host_stays() {
    let (one, two) = (Echo::start("one "), Echo::start("two "));
    let config = relay_to(&[one.address], "").more_origins("others", &[two.address.to_string()]);
    let gateway = start(&config);
    let before = Asker::of(gateway.listen);
    assert_eq!(before.text("x"), "one x");
    let text = fs::read_to_string(gateway.file()).expect("the file");
    let moved = text.replace("{cluster: origins, }", "{cluster: others}");
    assert_ne!(moved, text);
    gateway.rewrite(&moved);
    gateway.reload().expect("it is good");
    wait_until("new sessions go elsewhere", || Asker::of(gateway.listen).text("x") == "two x");
    let sessions = one.clients();
    for _ in 0..5 {
        assert_eq!(before.text("x"), "one x", "who has a session keeps it");
    }
    assert_eq!(one.clients(), sessions);
    // Its host goes, and with it the session; the next datagram begins another.
    let gone = moved.replace(&one.address.to_string(), &two.address.to_string());
    gateway.rewrite(&gone);
    gateway.reload().expect("it is good");
    wait_until("it goes where the others go", || before.text_at_last("x") == "two x");
    // The listener goes.
    gateway.rewrite(&gone.replace("bind_port: true", "bind_port: false"));
    gateway.reload().expect("it is good");
    wait_until("nobody is served", || {
        let asker = Asker::of(gateway.listen);
        let _ = asker.0.send(b"x");
        asker.hears_nothing_for(Duration::from_millis(100))
    });
}

#[test]
fn a_drain_waits_for_answers() {
    let echo = Echo::start("");
    let mut gateway = start(&relay_to(&[echo.address], ""));
    let asker = Asker::of(gateway.listen);
    assert_eq!(asker.text("x"), "x");
    gateway.process.signal("TERM");
    for n in 0..5 {
        assert_eq!(asker.text(&n.to_string()), n.to_string(), "who has a session is served");
        thread::sleep(Duration::from_millis(100));
    }
    let stranger = Asker::of(gateway.listen);
    let _ = stranger.0.send(b"x");
    assert!(stranger.hears_nothing_for(Duration::from_millis(100)));
    assert_eq!(gateway.process.wait().code(), Some(0), "it ends when all are silent: {}", gateway.process.output());
}

/// A new process takes the very socket over: whoever asks during that is answered.
#[test]
fn a_restart_loses_nothing() {
    let echo = Echo::start("");
    let gateway = start(&relay_to(&[echo.address], "").workers(2));
    let askers: Vec<Asker> = (0..8).map(|_| Asker::of(gateway.listen)).collect();
    let ask_all = || askers.iter().all(|asker| asker.text("x") == "x");
    assert!(ask_all());
    gateway.process.signal("USR2");
    let mut id = gateway.process.id();
    wait_until("another process answers", || {
        assert!(ask_all());
        serving(&gateway).is_some_and(|serves| {
            id = serves;
            id != gateway.process.id()
        })
    });
    wait_until("the old process is gone", || {
        assert!(ask_all());
        !is_alive(gateway.process.id())
    });
    assert!(ask_all());
    let term = Command::new("sh").args(["-c", "kill -s TERM \"$0\"", &id.to_string()]).status();
    assert!(term.expect("a shell").success());
    wait_until("the new process ends", || !is_alive(id));
}

#[test]
fn a_line_tells_of_each_session() {
    let (echo, folder) = (Echo::start("12345"), TempDir::new());
    let log = folder.path().join("access.log");
    let format = "%protocol% %bytes_received% %bytes_sent% %upstream_host% %upstream_cluster% %response_flags% \
                  %request_scheme% %downstream_remote_address% %downstream_local_address%";
    let line = format!("access_logs: [{{log_path: \"{}\", log_format: \"{format}\"}}]", log.display());
    let nobody = free_udp_address();
    let config = relay_to(&[echo.address], "idle_timeout: 200ms").listener(&line);
    let gateway = start(&config);
    let asker = Asker::of(gateway.listen);
    assert_eq!(asker.text("abc"), "12345abc");
    let lines = || fs::read_to_string(&log).unwrap_or_default();
    wait_until("the line is written", || lines().ends_with('\n'));
    let client = asker.0.local_addr().expect("a bound socket");
    let expected = format!("UDP 3 8 {} origins - - {client} {}\n", echo.address, gateway.listen);
    assert_eq!(lines(), expected);
    gateway.rewrite(&config.text().replace(&echo.address.to_string(), &nobody.to_string()));
    gateway.reload().expect("it is good");
    wait_until("the refusal is written", || {
        let _ = asker.0.send(b"x");
        lines().lines().any(|line| line.contains(&format!("{nobody} origins UC")))
    });
}

/// Where datagrams can't be relayed, the check says so.
#[test]
fn the_dpdk_plane_says_that_it_has_none() {
    let config = relay_to(&[free_udp_address()], "").dataplane("dataplane: {type: dpdk}\n");
    let refused = Gateway::refused(binary(), &config.text());
    assert!(refused.output.contains("the DPDK plane relays no datagrams yet"), "{}", refused.output);
}
