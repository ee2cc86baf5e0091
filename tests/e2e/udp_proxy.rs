//! Relayed datagrams: a session for each client, over hosts that fail, reloads, drains and restarts. Hosts are beside the clients: on the DPDK
//! plane both sides of a session go over the port.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use test_support::ports::free_udp_address;
use test_support::temp::TempDir;
use test_support::{Config, Gateway, pattern, wait_until};

use crate::restart::{is_alive, serving};
use crate::stage::{Plane, Stage, binary, on_both_planes};

on_both_planes!(
    a_burst_keeps_its_order,
    one_port_serves_both,
    clients_go_by_their_address_to_one_host,
    a_silent_session_is_over,
    sessions_are_bounded,
    the_bound_of_a_cluster_holds,
    a_host_that_refuses_is_left,
    routes_go_by_the_client,
    a_reload_keeps_sessions_as_long_as_their_host_stays,
    a_drain_waits_for_answers,
    a_line_tells_of_each_session,
);

/// A server that answers each datagram with its name and the same again.
struct Echo {
    address: SocketAddr,
    clients: Arc<Mutex<HashSet<SocketAddr>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Beside the clients.
    fn at(stage: &Stage, address: SocketAddr, name: &str) -> Self {
        Self::over(stage.bind(address), name)
    }

    /// On loopback.
    fn start(name: &str) -> Self {
        Self::over(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"), name)
    }

    fn over(socket: UdpSocket, name: &str) -> Self {
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
    fn of(stage: &Stage) -> Self {
        Self::over(stage.bind((Ipv4Addr::UNSPECIFIED, 0).into()), stage.address)
    }

    fn from(stage: &Stage, ip: IpAddr) -> Self {
        Self::over(stage.bind((ip, 0).into()), stage.address)
    }

    /// On this host, whatever its plane.
    fn local(address: SocketAddr) -> Self {
        let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        Self::over(UdpSocket::bind((any, 0)).expect("a port"), address)
    }

    fn over(socket: UdpSocket, address: SocketAddr) -> Self {
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

/// A gateway in front of one host.
fn one_host(plane: Plane, more: &str) -> Option<(Stage, Echo)> {
    let hosts = plane.servers(1);
    let stage = plane.start(relay_to(&hosts, more))?;
    let echo = Echo::at(&stage, hosts[0], "");
    Some((stage, echo))
}

/// What the only listener has counted.
fn listener(gateway: &Gateway, name: &str) -> f64 {
    gateway.metric(&format!("ferrogate_listener_{name}"), "listener=\"http\"").round()
}

#[test]
fn datagrams_pass_whole_and_as_they_are() {
    pass_whole(Plane::Kernel);
}

/// On AF_XDP: before net_af_packet the kernel puts fragments together, and cuts what does not fit into a frame of the port.
#[test]
fn datagrams_pass_a_port_whole_and_as_they_are() {
    pass_whole(Plane::AfXdp);
}

fn pass_whole(plane: Plane) {
    let Some((stage, echo)) = one_host(plane, "") else { return };
    let gateway = &stage.gateway;
    let asker = Asker::of(&stage);
    for len in [0, 1, 1400, 1500, 9000, 65_507] {
        let question = pattern::bytes(len);
        assert!(asker.ask(&question) == question, "{len} bytes");
    }
    assert_eq!(echo.clients(), 1, "a session has one socket");
    assert_eq!(listener(gateway, "session_total"), 1.0);
    assert_eq!(listener(gateway, "session_active"), 1.0);
    assert_eq!((listener(gateway, "datagrams_read_total"), listener(gateway, "datagrams_write_total")), (6.0, 6.0));
    let bytes = f64::from(1 + 1400 + 1500 + 9000 + 65_507);
    assert_eq!(listener(gateway, "relay_bytes_read_total"), bytes);
    let cluster = |name: &str| gateway.metric(name, "cluster=\"origins\"").round();
    assert_eq!(cluster("ferrogate_upstream_relay_bytes_read_total"), bytes);
    assert_eq!(cluster("upstream_connection_active"), 1.0);
    stage.gateway.stop();
}

/// Many at once by one client: all are passed on in their order, in bursts.
fn a_burst_keeps_its_order(plane: Plane) {
    let Some((stage, _echo)) = one_host(plane, "") else { return };
    let asker = Asker::of(&stage);
    for round in 0..20_u32 {
        for n in 0..25_u32 {
            asker.0.send(&(round * 25 + n).to_be_bytes()).expect("it is taken");
        }
        for n in 0..25_u32 {
            assert_eq!(asker.answer().expect("an answer"), (round * 25 + n).to_be_bytes());
        }
    }
    stage.gateway.stop();
}

#[test]
fn an_answer_comes_from_where_the_question_went() {
    let echo = Echo::start("");
    for (all, one) in [("0.0.0.0", "127.0.0.77"), ("[::]", "[::1]")] {
        let mut config = relay_to(&[echo.address], "");
        config.listen = format!("{all}:{}", config.listen.port()).parse().expect("an address");
        let _gateway = start(&config);
        let at = format!("{one}:{}", config.listen.port()).parse().expect("an address");
        assert_eq!(Asker::local(at).text("who?"), "who?");
    }
}

/// The same port for TCP and UDP, as DNS has it.
fn one_port_serves_both(plane: Plane) {
    let (hosts, origin) = (plane.servers(1), test_support::Origin::start("tcp"));
    let config = relay_to(&hosts, "").more_origins("web", &[origin.address()]);
    let second = format!(
        "{{name: second, address: \"{}\", filter_chains: [{{filters: [{{type: tcp_proxy, config: {{cluster: web}}}}]}}]}}",
        config.listen
    );
    let Some(stage) = plane.start(config.another_listener(&second)) else { return };
    let _echo = Echo::at(&stage, hosts[0], "udp ");
    assert_eq!(Asker::of(&stage).text("x"), "udp x");
    assert_eq!(stage.client().get("/").text(), "tcp");
}

fn clients_go_by_their_address_to_one_host(plane: Plane) {
    let hosts = plane.servers(3);
    let Some(stage) = plane.start(relay_to(&hosts, "").lb_type("LB_MAGLEV").workers(2)) else { return };
    let _echoes: Vec<Echo> =
        hosts.iter().zip(["a ", "b ", "c "]).map(|(at, name)| Echo::at(&stage, *at, name)).collect();
    let mut chosen = HashSet::new();
    for last in 1..=40 {
        let ip = stage.client_ip(last);
        let first = Asker::from(&stage, ip).text("x");
        for _ in 0..3 {
            assert_eq!(Asker::from(&stage, ip).text("x"), first, "another port, another session, the same host");
        }
        chosen.insert(first);
    }
    assert_eq!(chosen.len(), 3, "{chosen:?}");
}

fn a_silent_session_is_over(plane: Plane) {
    let Some((stage, echo)) = one_host(plane, "idle_timeout: 300ms") else { return };
    let gateway = &stage.gateway;
    let asker = Asker::of(&stage);
    assert_eq!(asker.text("one"), "one");
    wait_until("it is over", || listener(gateway, "session_active") == 0.0);
    assert_eq!(listener(gateway, "session_idle_closed_total"), 1.0);
    assert_eq!(gateway.metric("upstream_connection_active", "cluster=\"origins\"").round(), 0.0);
    assert_eq!(asker.text("two"), "two");
    assert_eq!(echo.clients(), 2);
}

fn sessions_are_bounded(plane: Plane) {
    let hosts = plane.servers(1);
    let config = relay_to(&hosts, "idle_timeout: 1500ms").limit("udp_sessions_max", "3");
    let Some(stage) = plane.start(config) else { return };
    let echo = Echo::at(&stage, hosts[0], "");
    let held: Vec<Asker> = (0..3).map(|_| Asker::of(&stage)).collect();
    for asker in &held {
        assert_eq!(asker.text("x"), "x");
    }
    let late = Asker::of(&stage);
    late.0.send(b"late").expect("it is taken");
    wait_until("it is refused", || listener(&stage.gateway, "session_refused_total") > 0.0);
    assert!(late.hears_nothing_for(Duration::from_millis(100)));
    assert_eq!(held[0].text("still"), "still", "those who are in are served");
    assert_eq!(late.text_at_last("late"), "late", "a place has come free");
    assert!(echo.clients() >= 4);
}

/// What the cluster bounds holds for sessions as for connections, on all workers together.
fn the_bound_of_a_cluster_holds(plane: Plane) {
    let hosts = plane.servers(1);
    let config = relay_to(&hosts, "").workers(2).cluster("circuit_breakers: [{max_connections: 2}]");
    let Some(stage) = plane.start(config) else { return };
    let _echo = Echo::at(&stage, hosts[0], "");
    let askers: Vec<Asker> = (0..6).map(|_| Asker::of(&stage)).collect();
    askers.iter().for_each(|asker| drop(asker.0.send(b"x")));
    wait_until("four get no host", || listener(&stage.gateway, "session_failed_total") == 4.0);
    assert_eq!(listener(&stage.gateway, "session_active"), 2.0);
}

fn a_host_that_refuses_is_left(plane: Plane) {
    let hosts = plane.servers(2);
    let Some(stage) = plane.start(relay_to(&hosts, "")) else { return };
    let _echo = Echo::at(&stage, hosts[1], "live ");
    let askers: Vec<Asker> = (0..4).map(|_| Asker::of(&stage)).collect();
    for asker in &askers {
        assert_eq!(asker.text_at_last("x"), "live x");
    }
    assert!(listener(&stage.gateway, "session_broken_total") > 0.0);
    assert!(stage.gateway.metric("upstream_connection_con_fail_total", "cluster=\"origins\"") > 0.0);
    // Nobody at all: nothing is answered, and nothing breaks.
    let Some(stage) = plane.start(relay_to(&hosts[..1], "")) else { return };
    let asker = Asker::of(&stage);
    for _ in 0..3 {
        asker.0.send(b"x").expect("the gateway's own socket is there");
        assert!(asker.hears_nothing_for(Duration::from_millis(50)));
    }
    stage.gateway.stop();
}

fn routes_go_by_the_client(plane: Plane) {
    let hosts = plane.servers(2);
    let config = relay_to(&hosts[..1], "").more_origins("others", &[hosts[1].to_string()]);
    let filter = "{type: udp_proxy, config: {routes: [{cluster: origins, source_addrs: [127.0.0.0/31, 198.18.0.100/31]}, \
                  {cluster: others, source_addrs: [127.0.0.2/32, 198.18.0.102/32]}]}}";
    let Some(stage) = plane.start(config.filter(filter)) else { return };
    let _echoes = [Echo::at(&stage, hosts[0], "one "), Echo::at(&stage, hosts[1], "two ")];
    let from = |number| Asker::from(&stage, stage.client_ip(number));
    assert_eq!(from(1).text("x"), "one x");
    assert_eq!(from(2).text("x"), "two x");
    from(3).0.send(b"x").expect("it is taken");
    wait_until("it goes nowhere", || listener(&stage.gateway, "session_failed_total") == 1.0);
}

fn a_reload_keeps_sessions_as_long_as_their_host_stays(plane: Plane) {
    let hosts = plane.servers(2);
    let config = relay_to(&hosts[..1], "").more_origins("others", &[hosts[1].to_string()]);
    let Some(stage) = plane.start(config) else { return };
    let (one, two) = (Echo::at(&stage, hosts[0], "one "), Echo::at(&stage, hosts[1], "two "));
    let gateway = &stage.gateway;
    let before = Asker::of(&stage);
    assert_eq!(before.text("x"), "one x");
    let text = fs::read_to_string(gateway.file()).expect("the file");
    let moved = text.replace("{cluster: origins, }", "{cluster: others}");
    assert_ne!(moved, text);
    gateway.rewrite(&moved);
    gateway.reload().expect("it is good");
    wait_until("new sessions go elsewhere", || Asker::of(&stage).text("x") == "two x");
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
        let asker = Asker::of(&stage);
        let _ = asker.0.send(b"x");
        asker.hears_nothing_for(Duration::from_millis(100))
    });
}

fn a_drain_waits_for_answers(plane: Plane) {
    let Some((mut stage, _echo)) = one_host(plane, "") else { return };
    let asker = Asker::of(&stage);
    assert_eq!(asker.text("x"), "x");
    stage.gateway.process.signal("TERM");
    for n in 0..5 {
        assert_eq!(asker.text(&n.to_string()), n.to_string(), "who has a session is served");
        thread::sleep(Duration::from_millis(100));
    }
    let stranger = Asker::of(&stage);
    let _ = stranger.0.send(b"x");
    assert!(stranger.hears_nothing_for(Duration::from_millis(100)));
    assert_eq!(
        stage.gateway.process.wait().code(),
        Some(0),
        "it ends when all are silent: {}",
        stage.gateway.process.output()
    );
}

/// A new process takes the very socket over: whoever asks during that is answered.
#[test]
fn a_restart_loses_nothing() {
    let echo = Echo::start("");
    let gateway = start(&relay_to(&[echo.address], "").workers(2));
    let askers: Vec<Asker> = (0..8).map(|_| Asker::local(gateway.listen)).collect();
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

fn a_line_tells_of_each_session(plane: Plane) {
    let (hosts, folder) = (plane.servers(2), TempDir::new());
    let log = folder.path().join("access.log");
    let format = "%protocol% %bytes_received% %bytes_sent% %upstream_host% %upstream_cluster% %response_flags% \
                  %request_scheme% %downstream_remote_address% %downstream_local_address%";
    let line = format!("access_logs: [{{log_path: \"{}\", log_format: \"{format}\"}}]", log.display());
    let config = relay_to(&hosts[..1], "idle_timeout: 200ms").listener(&line);
    let Some(stage) = plane.start(config) else { return };
    let (echo, nobody) = (Echo::at(&stage, hosts[0], "12345"), hosts[1]);
    let (gateway, asker) = (&stage.gateway, Asker::of(&stage));
    assert_eq!(asker.text("abc"), "12345abc");
    let lines = || fs::read_to_string(&log).unwrap_or_default();
    wait_until("the line is written", || lines().ends_with('\n'));
    let client = asker.0.local_addr().expect("a connected socket");
    let expected = format!("UDP 3 8 {} origins - - {client} {}\n", echo.address, stage.address);
    assert_eq!(lines(), expected);
    let text = fs::read_to_string(gateway.file()).expect("the file");
    gateway.rewrite(&text.replace(&echo.address.to_string(), &nobody.to_string()));
    gateway.reload().expect("it is good");
    wait_until("the refusal is written", || {
        let _ = asker.0.send(b"x");
        lines().lines().any(|line| line.contains(&format!("{nobody} origins UC")))
    });
}

/// A port and this host's own loopback are served by one listener: who asks there is answered from there.
#[test]
fn a_port_and_loopback_are_one_listener() {
    let hosts = Plane::AfPacket.servers(1);
    let mut config = relay_to(&hosts, "");
    config.listen.set_ip(Ipv4Addr::UNSPECIFIED.into());
    let Some(stage) = Plane::AfPacket.start(config) else { return };
    let echo = Echo::at(&stage, hosts[0], "");
    assert_eq!(Asker::of(&stage).text("by the port"), "by the port");
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, stage.address.port()));
    assert_eq!(Asker::local(here).text("by loopback"), "by loopback");
    assert_eq!((echo.clients(), listener(&stage.gateway, "session_active")), (2, 2.0));
}

/// What the stack counts of datagrams is in the metrics, each loss by its reason.
#[test]
fn the_port_counts_what_it_drops() {
    let Some((stage, _echo)) = one_host(Plane::AfXdp, "") else { return };
    assert_eq!(Asker::of(&stage).ask(&pattern::bytes(5000)).len(), 5000);
    let lcore = |name: &str| stage.gateway.metric(&format!("ferrogate_dpdk_lcore_{name}_total"), "").round();
    assert_eq!((lcore("datagrams_received"), lcore("datagrams_sent")), (2.0, 2.0));
    assert_eq!((lcore("datagrams_reassembled"), lcore("datagrams_fragmented")), (2.0, 2.0));
    let mut nowhere = stage.address;
    nowhere.set_port(9);
    let asker = Asker::over(stage.bind((Ipv4Addr::UNSPECIFIED, 0).into()), nowhere);
    asker.0.send(b"anybody?").expect("it is taken");
    assert_eq!(asker.answer().unwrap_err().kind(), io::ErrorKind::ConnectionRefused, "the sender is told");
    let dropped = stage.gateway.metric("ferrogate_dpdk_dropped_frames_total", "reason=\"udp_port\"").round();
    assert_eq!(dropped, 1.0);
}
