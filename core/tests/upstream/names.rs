//! Names of hosts, asked of a server that says what a test wants.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ferrogate_core::config::Config;
use ferrogate_core::control::Certificates;
use ferrogate_core::control::dns::Names;
use ferrogate_core::snapshot::Snapshot;
use tokio::net::UdpSocket;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep};

/// What the server answers: addresses, or a failure.
#[derive(Clone, Default)]
struct Zone(Rc<RefCell<Answer>>);

#[derive(Default)]
struct Answer {
    addresses: Vec<IpAddr>,
    ttl: u32,
    fails: bool,
    asked: u32,
}

impl Zone {
    /// A server; says its port.
    async fn serve(&self) -> u16 {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let zone = self.clone();
        spawn_local(async move {
            let mut question = [0; 512];
            while let Ok((len, from)) = socket.recv_from(&mut question).await {
                let answer = zone.0.borrow_mut().to(&question[..len]);
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        port
    }

    fn set(&self, addresses: &[&str]) {
        let mut answer = self.0.borrow_mut();
        answer.addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
        answer.fails = false;
    }
}

impl Answer {
    /// The answer to a question with one name in it (RFC 1035, 4.1).
    fn to(&mut self, question: &[u8]) -> Vec<u8> {
        self.asked += 1;
        let name_end = 12 + question[12..].iter().position(|b| *b == 0).unwrap() + 1;
        let is_v6 = question[name_end + 1] == 28;
        let records: Vec<Vec<u8>> = self
            .addresses
            .iter()
            .filter_map(|ip| match ip {
                IpAddr::V4(ip) if !is_v6 => Some(ip.octets().to_vec()),
                IpAddr::V6(ip) if is_v6 => Some(ip.octets().to_vec()),
                _ => None,
            })
            .collect();
        let code = if self.fails { 2 } else { 0 };
        let mut out = question[..2].to_vec();
        out.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(records.len()).unwrap(), 0, 0, 0, 0]);
        out.extend(&question[12..name_end + 4]);
        for data in records {
            out.extend([0xc0, 12, 0, question[name_end + 1], 0, 1]);
            out.extend(self.ttl.to_be_bytes());
            out.extend([0, u8::try_from(data.len()).unwrap()]);
            out.extend(data);
        }
        out
    }
}

fn snapshot(port: u16, more: &str, previous: Option<&Snapshot>) -> Snapshot {
    let text = format!(
        "servers: [{{listeners: []}}]\ncluster_manager: {{clusters: [{{name: c, type: STRICT_DNS, dns_refresh_rate: 100ms, \
         dns_resolvers: {{servers: [\"127.0.0.1:{port}\"], timeout: 1, attempts: 1}}, {more} \
         hosts: [{{address: \"origin.test:80\", weight: 3}}]}}]}}\n"
    );
    let (config, _) = Config::parse(&text, "t").unwrap_or_else(|e| panic!("{e:?}"));
    Snapshot::build(&config, previous, &mut Certificates::default()).unwrap()
}

fn hosts(snapshot: &Snapshot) -> Vec<String> {
    let set = snapshot.clusters[0].hosts.current();
    set.members().iter().map(|m| m.host.address().to_string()).collect()
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what} did not come about");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn hosts_follow_the_answers_and_stay_without_them() {
    LocalSet::new()
        .run_until(async {
            let zone = Zone::default();
            zone.set(&["10.0.0.2", "10.0.0.1", "fd00::1"]);
            let first = snapshot(zone.serve().await, "", None);
            let names = Names::default();
            names.follow(&first);
            names.settled(Duration::from_secs(10)).await;
            assert_eq!(hosts(&first), ["10.0.0.1:80", "10.0.0.2:80", "[fd00::1]:80"]);
            let set = first.clusters[0].hosts.current();
            assert!(set.members().iter().all(|m| set.spec(m).weight == 3));
            // The same in another order changes nothing; others do.
            zone.set(&["10.0.0.1", "fd00::1", "10.0.0.2"]);
            let updates = first.clusters[0].shared.dns_updates();
            until("another lookup", || first.clusters[0].shared.dns_updates() > updates + 1).await;
            assert_eq!(first.clusters[0].hosts.version(), 1);
            zone.set(&["10.0.0.3"]);
            until("the new host", || hosts(&first) == ["10.0.0.3:80"]).await;
            // Nothing, and failure, are no reason to send requests nowhere.
            for fails in [false, true] {
                zone.set(&[]);
                zone.0.borrow_mut().fails = fails;
                let failures = first.clusters[0].shared.dns_failures();
                until("failed lookups", || first.clusters[0].shared.dns_failures() >= failures + 2).await;
                assert_eq!(hosts(&first), ["10.0.0.3:80"]);
            }
            zone.set(&["10.0.0.4"]);
            until("the name again", || hosts(&first) == ["10.0.0.4:80"]).await;
        })
        .await;
}

#[tokio::test]
async fn a_reload_keeps_what_was_looked_up() {
    LocalSet::new()
        .run_until(async {
            let zone = Zone::default();
            zone.set(&["10.0.0.1"]);
            let port = zone.serve().await;
            let names = Names::default();
            let first = snapshot(port, "", None);
            names.follow(&first);
            names.settled(Duration::from_secs(10)).await;
            zone.0.borrow_mut().fails = true;
            let next = snapshot(port, "panic_threshold: 50,", Some(&first));
            assert!(!Arc::ptr_eq(&first.clusters[0], &next.clusters[0]));
            assert_eq!(hosts(&next), ["10.0.0.1:80"]);
            let same = |a: &Snapshot, b: &Snapshot| {
                a.clusters[0].hosts.current().members()[0].host.id()
                    == b.clusters[0].hosts.current().members()[0].host.id()
            };
            assert!(same(&first, &next));
            names.follow(&next);
            zone.set(&["10.0.0.1", "10.0.0.2"]);
            until("the lookup of the new generation", || hosts(&next).len() == 2).await;
            assert!(same(&first, &next) && hosts(&first).len() == 1);
        })
        .await;
}

#[tokio::test]
async fn families_and_times_to_live_are_kept() {
    LocalSet::new()
        .run_until(async {
            let zone = Zone::default();
            zone.set(&["10.0.0.1", "fd00::1"]);
            zone.0.borrow_mut().ttl = 3600;
            let port = zone.serve().await;
            let names = Names::default();
            let only = snapshot(port, "dns_lookup_family: V6_ONLY, respect_dns_ttl: true,", None);
            names.follow(&only);
            names.settled(Duration::from_secs(10)).await;
            assert_eq!(hosts(&only), ["[fd00::1]:80"]);
            // It holds for an hour: many refresh intervals pass without a question.
            let asked = zone.0.borrow().asked;
            sleep(Duration::from_millis(500)).await;
            assert_eq!(zone.0.borrow().asked, asked);
        })
        .await;
}

#[tokio::test]
async fn a_server_that_hangs_holds_nothing_up() {
    LocalSet::new()
        .run_until(async {
            let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let names = Names::default();
            let first = snapshot(silent.local_addr().unwrap().port(), "", None);
            names.follow(&first);
            let start = Instant::now();
            names.settled(Duration::from_millis(100)).await;
            assert!(start.elapsed() < Duration::from_millis(900) && hosts(&first).is_empty());
        })
        .await;
}
