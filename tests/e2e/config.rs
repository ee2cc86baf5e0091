//! Configuration files: a bad one never starts, and what is wrong with it is said by name and place.

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
