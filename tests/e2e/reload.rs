//! Reloads: a whole new generation or the one before, and nothing lost on the way.

use std::net::TcpStream;

use test_support::load::{Habit, Load};
use test_support::ports::free_address;
use test_support::{Client, Config, Gateway, Origin, wait_until};

use crate::stage::{Plane, on_both_planes};

on_both_planes! {
    routes_change_under_open_connections,
}

/// The configuration with a route that tells which version of the file is in force.
fn version(config: &Config, n: usize) -> String {
    let route = "              - {match: {prefix: /}, route";
    let own = format!(
        "              - {{match: {{path: /version}}, direct_response: {{status: 200, body: \"{n}\"}}}}\n{route}"
    );
    let text = config.text();
    assert!(text.contains(route), "{text}");
    text.replacen(route, &own, 1)
}

fn generation(gateway: &Gateway) -> f64 {
    gateway.metric("ferrogate_config_generation", "")
}

fn routes_change_under_open_connections(plane: Plane) {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()]);
    let Some(stage) = plane.start(config.clone()) else { return };
    let mut client = stage.client();
    assert_eq!(client.get("/version").text(), "one", "the origin's answer to any page");
    // The stage has given the file its own data plane: only the routes change.
    let text = std::fs::read_to_string(stage.gateway.file()).unwrap();
    let route = "              - {match: {prefix: /}, route";
    let own = "              - {match: {path: /version}, direct_response: {status: 200, body: \"2\"}}\n";
    stage.gateway.rewrite(&text.replacen(route, &format!("{own}{route}"), 1));
    stage.gateway.process.signal("HUP");
    wait_until("the second generation is in force", || generation(&stage.gateway) > 1.5);
    // A worker takes it over at its next turn.
    wait_until("it counts on the connection that was open before", || client.get("/version").text() == "2");
}

/// The issue's own: 100 reloads under load, broken files among them.
#[test]
fn a_hundred_reloads_lose_nothing() {
    const CLIENTS: usize = 6;
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()]);
    let mut verbatim = config.clone();
    verbatim = verbatim.verbatim(&version(&config, 0));
    let stage = Plane::Kernel.start(verbatim).expect("always there");
    let gateway = &stage.gateway;
    // As many upstream connections as there can be requests at a time, so that no later one needs another.
    let mut held: Vec<Client> = (0..CLIENTS).map(|_| stage.client()).collect();
    held.iter_mut().for_each(|c| c.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").unwrap());
    origin.wait_for_requests(CLIENTS);
    origin.release();
    held.iter_mut().for_each(|c| assert_eq!(c.answer_to("GET").text(), "held"));
    let connections = || gateway.metric("upstream_connection_total", "cluster=\"origins\"");
    let before = connections();
    let mut habits = [Habit::KeepAlive; CLIENTS];
    habits[CLIENTS / 2..].fill(Habit::New);
    let load = Load::start(stage.address, "/", &habits);
    let mut open = stage.client();
    let mut good = 0;
    for n in 1..=100 {
        let text = version(&config, n);
        match n % 10 {
            3 => gateway.rewrite(&text.replace("cluster_name: origins", "cluster_name: nowhere")),
            7 => gateway.rewrite(&text[..text.len() / 2]),
            _ => gateway.rewrite(&text),
        }
        let reloaded = gateway.reload();
        assert_eq!(reloaded.is_ok(), n % 10 != 3 && n % 10 != 7, "{n}: {reloaded:?}");
        good = if reloaded.is_ok() { n } else { good };
        assert_eq!(open.get("/version").text(), good.to_string());
    }
    let answered = load.answered();
    wait_until("the last generation has served a while", || load.answered() > answered + 100);
    let (answered, failures) = load.finish();
    assert!(failures.is_empty(), "{} of {answered}: {failures:?}", failures.len());
    assert!((connections() - before).abs() < 0.1, "connections to an untouched cluster: {before}, {}", connections());
    assert!((generation(gateway) - 81.0).abs() < 0.1, "{}", generation(gateway));
    assert!((gateway.metric("ferrogate_config_reload_failure_total", "") - 20.0).abs() < 0.1);
    assert!(gateway.metric("ferrogate_config_last_reload_failed", "") < 0.1, "the last one was good");
}

#[test]
fn a_broken_file_is_told_and_the_running_one_serves_on() {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()]);
    let stage = Plane::Kernel.start(config.clone()).expect("always there");
    let text = config.text().replace("lb_type: LB_ROUNDROBIN", "lb_type: LB_ROUND");
    stage.gateway.rewrite(&text);
    let told = stage.gateway.reload().unwrap_err();
    assert!(told.contains("gateway.yaml:") && told.contains("lb_type"), "{told}");
    assert!(stage.gateway.metric("ferrogate_config_last_reload_failed", "") > 0.9);
    stage.gateway.process.signal("HUP");
    wait_until("the log says why", || stage.gateway.process.output().matches("lb_type").count() >= 2);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere =
        config.text().replace(&format!("\"{}\"", config.listen), &format!("\"{}\"", taken.local_addr().unwrap()));
    stage.gateway.rewrite(&elsewhere);
    let told = stage.gateway.reload().unwrap_err();
    assert!(told.contains("can't listen on"), "{told}");
    assert_eq!(stage.client().get("/").text(), "one");
}

#[test]
fn listeners_come_move_and_go() {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()]).workers(2);
    let stage = Plane::Kernel.start(config.clone()).expect("always there");
    let gateway = &stage.gateway;
    let second = free_address();
    let more = format!("      - {{name: second, address: \"{second}\", router_config_name: web}}\ncluster_manager:");
    let both = config.text().replacen("cluster_manager:", &more, 1);
    gateway.rewrite(&both);
    gateway.reload().unwrap();
    wait_until("the new listener listens", || Client::try_connect(second).is_ok());
    let mut on_second = Client::connect(second);
    let mut on_first = stage.client();
    assert_eq!((on_second.get("/").text(), on_first.get("/").text()), ("one".into(), "one".into()));
    let mut busy = Client::connect(second);
    busy.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    origin.wait_for_requests(3);
    let third = free_address();
    gateway.rewrite(&both.replace(&second.to_string(), &third.to_string()));
    gateway.reload().unwrap();
    wait_until("the old address is closed", || TcpStream::connect(second).is_err());
    wait_until("the new one listens", || Client::try_connect(third).is_ok());
    assert!(on_second.is_closed(), "an idle connection of the old address is closed");
    origin.release();
    let answer = busy.answer_to("GET");
    assert_eq!(answer.text(), "held", "a request in progress is answered");
    assert!(answer.head.get("connection").is_some_and(|c| c.eq_ignore_ascii_case("close")), "{:?}", answer.head);
    assert_eq!(Client::connect(third).get("/").text(), "one");
    gateway.rewrite(&config.text());
    gateway.reload().unwrap();
    wait_until("the removed listener is closed", || TcpStream::connect(third).is_err());
    assert_eq!(on_first.get("/").text(), "one", "the other listener's connection has noticed nothing");
}

#[test]
fn a_watched_file_is_reloaded_when_it_changes() {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()]).extra("control: {watch_config: true}\n");
    let stage = Plane::Kernel.start(config.clone()).expect("always there");
    stage.gateway.rewrite(&version(&config, 5));
    wait_until("the change is in force", || stage.client().get("/version").text() == "5");
}
