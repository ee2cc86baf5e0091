//! Configuration files: a bad one never starts, and what is wrong with it is said by name and place.

use std::process::Command;

use test_support::temp::TempDir;
use test_support::{Config, Gateway, Origin};

use crate::stage::{Plane, binary};

#[test]
fn a_bad_file_never_starts() {
    let good = Config::proxy_to(&["127.0.0.1:9".to_owned()]);
    let rows = [
        ("no YAML", "servers: [\n".to_owned(), ""),
        ("nothing at all", String::new(), ""),
        ("an address that is none", good.text().replace(&good.listen.to_string(), "nowhere"), "nowhere"),
        (
            "a router that is not there",
            good.text().replace("router_config_name: web}", "router_config_name: wep}"),
            "wep",
        ),
        ("a cluster that is not there", good.text().replace("cluster_name: origins", "cluster_name: origns"), "origns"),
        ("a wrong type", good.text().replace("bind_port: true", "bind_port: [1]"), "bind_port"),
        ("a bad duration", good.clone().limit("idle_timeout", "soon").text(), "idle_timeout"),
        ("a bad host", good.text().replace("127.0.0.1:9\"", "127.0.0.1\""), "127.0.0.1"),
        ("a filter without function", with_filter(&good, "rbac"), "rbac"),
        ("a certificate that is not there", with_certificate(&good), "absent.pem"),
        ("two listeners on one address", good.text().replace("    listeners:\n", &second_listener(&good)), ""),
    ];
    for (what, text, named) in rows {
        let exited = Gateway::refused(binary(), &text);
        assert!(!exited.status.success() && exited.status.code().is_some(), "{what}: {}", exited.status);
        assert!(exited.output.contains(named), "{what}: {named:?} is not named in\n{}", exited.output);
        assert!(!exited.output.contains("panicked"), "{what}:\n{}", exited.output);
    }
}

/// A filter that guards and would not: ignoring it would open a hole.
fn with_filter(config: &Config, kind: &str) -> String {
    let filter = format!(
        "        stream_filters: [{{type: {kind}, config: {{default_action: deny}}}}]\n        filter_chains:\n"
    );
    config.text().replace("        filter_chains:\n", &filter)
}

fn with_certificate(config: &Config) -> String {
    let absent = std::path::Path::new("/nowhere/absent.pem");
    config.clone().tls(&[(absent, absent)]).text()
}

fn second_listener(config: &Config) -> String {
    format!(
        "    listeners:\n      - name: second\n        address: \"{}\"\n        bind_port: true\n        filter_chains:\n          - filters:\n              - {{type: proxy, config: {{downstream_protocol: Http1, router_config_name: web}}}}\n",
        config.listen
    )
}

#[test]
fn an_unknown_key_is_told() {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()]).listener("no_such_key: 1");
    let stage = Plane::Kernel.start(config).expect("always there");
    assert_eq!(stage.client().get("/").status, 200, "MOSN would take it, so do we");
    assert!(stage.gateway.process.output().contains("no_such_key"), "{}", stage.gateway.process.output());
}

#[test]
fn a_taken_port_is_an_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = Config::proxy_to(&["127.0.0.1:9".to_owned()]);
    let text = config.text().replace(&config.listen.to_string(), &taken.local_addr().unwrap().to_string());
    let exited = Gateway::refused(binary(), &text);
    assert!(!exited.status.success());
    assert!(exited.output.contains(&taken.local_addr().unwrap().to_string()), "{}", exited.output);
}

/// JSON is the schema's first form; the same file in it serves as well.
#[test]
fn json_is_taken_too() {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()]);
    let json = format!(
        r#"{{"servers": [{{"default_log_path": "stderr", "routers": [{{"router_config_name": "r", "virtual_hosts": [
            {{"name": "shop", "domains": ["shop.example"], "routers": [{{"match": {{"prefix": "/a"}}, "route": {{"cluster_name": "c"}}}},
                {{"match": {{"path": "/fine"}}, "direct_response": {{"status": 200, "body": "fine"}}}}]}}]}}],
          "listeners": [{{"name": "l", "address": "{listen}", "bind_port": true, "filter_chains": [{{"filters": [
            {{"type": "proxy", "config": {{"downstream_protocol": "Http1", "router_config_name": "r"}}}}]}}]}}]}}],
          "cluster_manager": {{"clusters": [{{"name": "c", "type": "SIMPLE", "lb_type": "LB_ROUNDROBIN", "hosts": [{{"address": "{host}"}}]}}]}},
          "admin": {{"address": {{"socket_address": {{"address": "127.0.0.1", "port_value": {admin}}}}}}}}}"#,
        listen = config.listen,
        host = origin.address(),
        admin = config.admin.port(),
    );
    let stage = Plane::Kernel.start(config.verbatim(&json)).expect("always there");
    let ask = |target: &str, host: &str| {
        let mut client = stage.client();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).unwrap();
        client.answer_to("GET")
    };
    assert_eq!(ask("/a/b", "shop.example").text(), "one");
    assert_eq!(ask("/fine", "shop.example").text(), "fine");
    assert_eq!(ask("/other", "shop.example").status, 404);
    assert_eq!(ask("/a", "unknown.example").status, 404);
}

/// What `ferrogate` prints on both streams, and whether it ends well.
fn ferrogate(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(binary()).args(arguments).env_remove("MOSN_CONFIG").output().expect("the binary");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// Five mistakes of different kinds, one of them only seen when certificates are read: all are told at once, with their places.
#[test]
fn check_tells_every_mistake_with_its_place() {
    let folder = TempDir::new();
    let file = folder.path().join("five.yaml");
    let text = "servers:
- listeners:
  - name: web
    adress: 127.0.0.1:1
    filter_chains:
    - tls_context: {status: true, cert_chain: /nowhere/a.pem, private_key: /nowhere/b.pem}
      filters: [{type: proxy, config: {router_config_name: web}}]
  routers:
  - router_config_name: web
    virtual_hosts: [{domains: [\"*\"], routers: [{route: {cluster_name: ap, timeout: soon}}]}]
cluster_manager:
  clusters: [{name: app, hosts: [{address: 127.0.0.1:2}]}]
";
    std::fs::write(&file, text).unwrap();
    let (good, told) = ferrogate(&["check", "-c", file.to_str().unwrap()]);
    assert!(!good);
    for part in [
        "five.yaml:3:5: error: servers[0].listeners[0]: the key `address` is missing",
        "five.yaml:4:5: warning: servers[0].listeners[0].adress: the key `adress` is unknown and has no effect (did you mean `address`?)",
        "five.yaml:6:20: error: servers[0].listeners[0].filter_chains[0].tls_context: ",
        "five.yaml:10:71: error: servers[0].routers[0].virtual_hosts[0].routers[0].route.cluster_name: there is no cluster `ap` (did you mean `app`?)",
        "five.yaml:10:84: error: servers[0].routers[0].virtual_hosts[0].routers[0].route.timeout: `soon` is no duration",
    ] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
    let repaired = text.replace("adress", "address").replace("cluster_name: ap,", "cluster_name: app,");
    let repaired = repaired.replace("soon", "5s").replace(
        "    - tls_context: {status: true, cert_chain: /nowhere/a.pem, private_key: /nowhere/b.pem}\n      filters",
        "    - filters",
    );
    std::fs::write(&file, &repaired).unwrap();
    let (good, told) = ferrogate(&["check", "-c", file.to_str().unwrap(), "--strict"]);
    assert!(good, "{told}");
    std::fs::write(&file, repaired + "no_such_key: 1\n").unwrap();
    assert!(ferrogate(&["check", "-c", file.to_str().unwrap()]).0, "a warning is no error");
    assert!(!ferrogate(&["check", "-c", file.to_str().unwrap(), "--strict"]).0, "but it is with --strict");
}

#[test]
fn plan_lists_exactly_what_a_reload_would_change() {
    let folder = TempDir::new();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let config = Config::proxy_to(&["127.0.0.1:9".to_owned()]);
    let old = config.text();
    let new = old.replace("127.0.0.1:9\"", "127.0.0.1:10\"") + "# a comment changes nothing\n";
    std::fs::write(path("old.yaml"), &old).unwrap();
    std::fs::write(path("new.yaml"), &new).unwrap();
    let against = |new: &str| ferrogate(&["plan", "-c", &path(new), "--against", &path("old.yaml")]);
    let (good, told) = against("new.yaml");
    assert!(good, "{told}");
    let told: Vec<&str> = told.lines().filter(|line| !line.contains("warning")).collect();
    assert_eq!(
        told,
        [
            "- cluster_manager.clusters[origins].hosts[127.0.0.1:9]",
            "+ cluster_manager.clusters[origins].hosts[127.0.0.1:10]: {\"address\":\"127.0.0.1:10\"}",
            "2 changes"
        ]
    );
    assert_eq!(against("old.yaml").1.lines().last(), Some("nothing would change"));
    std::fs::write(path("bad.yaml"), old.replace("cluster_name: origins", "cluster_name: gone")).unwrap();
    let (good, told) = against("bad.yaml");
    assert!(!good && told.contains("there is no cluster `gone`") && told.contains("would be refused"), "{told}");
    let (good, told) = ferrogate(&["plan", "-c", &path("new.yaml")]);
    assert!(!good && told.contains("can't be asked"), "nothing runs at its admin address: {told}");
}

/// A port that can't be opened here: the doctor says so before anybody tries, and how to mend it.
#[test]
fn the_doctor_names_what_keeps_a_port_from_opening() {
    let folder = TempDir::new();
    let text = "servers: [{listeners: [{address: \"127.0.0.1:1\", routers: [{direct_response: {status: 200}}]}]}]\n\
                dataplane: {type: dpdk, dpdk: {ports: [{device: \"net_af_packet0,iface=nosuch\", address: 10.0.0.1/24}]}}\n";
    let file = folder.write("gateway.yaml", text);
    let output = Command::new(binary()).arg("doctor").arg("-c").arg(file).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("PROBLEM  port net_af_packet0,iface=nosuch: there is no interface nosuch"), "{said}");
    assert!(said.contains("ip link show; one of: "), "{said}");
    let alone = Command::new(binary()).arg("doctor").env_remove("MOSN_CONFIG").output().expect("it runs");
    assert!(String::from_utf8_lossy(&alone.stdout).contains("cores: "), "{alone:?}");
}
