//! Numbers of single listeners and hosts: true, parts of the whole, and the same after a reload.

use std::net::TcpStream;

use test_support::ports::free_address;
use test_support::{Client, Config, Gateway, Origin, wait_until};

use crate::stage::Plane;

/// The file with a second listener before the first, which is called `http`.
fn with_listener(config: &Config, name: &str, address: &str) -> String {
    let first = "      - name: http\n";
    let second =
        format!("      - {{name: {name}, address: \"{address}\", bind_port: true, router_config_name: web}}\n");
    let text = config.text();
    assert!(text.contains(first), "{text}");
    text.replacen(first, &format!("{second}{first}"), 1)
}

/// Waits until each of these numbers has its value: what an answer counts last is counted when the client has it already.
fn sees(gateway: &Gateway, labels: &str, wanted: &[(&str, f64)]) {
    for (name, value) in wanted {
        wait_until(&format!("{name} with {labels} is {value}"), || (gateway.metric(name, labels) - value).abs() < 0.1);
    }
}

fn ask(client: &mut Client, paths: &[(&str, u16)]) {
    for (path, status) in paths {
        assert_eq!(client.get(path).status, *status, "{path}");
    }
}

/// Two listeners; a cluster of which one host refuses, and one that has no other.
#[test]
fn each_listener_and_each_host_has_its_numbers() {
    let origin = Origin::start("one");
    let (api, dead, nobody) = (free_address(), free_address().to_string(), free_address().to_string());
    let config = Config::proxy_to(&[dead.clone(), origin.address()])
        .route("{match: {path: /nobody}, route: {cluster_name: nobody}}")
        .more_origins("nobody", &[nobody])
        .more_origins("spare", &[free_address().to_string()]);
    let text = with_listener(&config, "api", &api.to_string());
    let stage = Plane::Kernel.start(config.clone().verbatim(&text)).expect("always there");
    let gateway = &stage.gateway;
    let (mut of_http, mut of_api) = (stage.client(), Client::connect(api));
    ask(&mut of_http, &[("/", 200); 6]);
    ask(&mut of_api, &[("/", 200), ("/", 200), ("/status?code=404", 404), ("/status?code=500", 500), ("/nobody", 502)]);

    sees(gateway, "{listener=\"http\"}", &of_listener(6.0, [6.0, 0.0, 0.0], 0.0));
    sees(gateway, "{listener=\"http\"}", &[("ferrogate_listener_bytes_write_total", 18.0)]);
    sees(gateway, "{listener=\"api\"}", &of_listener(5.0, [2.0, 1.0, 2.0], 1.0));
    sees(gateway, "", &[("downstream_request_total", 11.0), ("ferrogate_downstream_response_5xx_total", 2.0)]);
    let alive = format!("{{cluster=\"origins\",host=\"{}\"}}", origin.address());
    sees(gateway, &alive, &of_host(10.0, [9.0, 1.0]));
    sees(gateway, "{cluster=\"origins\"}", &of_cluster(10.0, 1.0));
    let dead = format!("{{cluster=\"origins\",host=\"{dead}\"}}");
    sees(gateway, &dead, &of_host(0.0, [0.0, 0.0]));
    let refused = gateway.metric("ferrogate_upstream_host_connection_con_fail_total", &dead);
    assert!(refused > 0.5, "every other request was tried there first");
    sees(gateway, "{cluster=\"origins\"}", &[("upstream_connection_con_fail_total", refused)]);
    sees(gateway, "", &[("ferrogate_upstream_hosts_omitted", 0.0)]);
    let page = gateway.admin("/metrics").text();
    assert!(!page.contains("seconds_count{cluster=\"spare\"") && !page.contains("{cluster=\"spare\",host"), "{page}");

    // Another limit is another generation of everything: connections and counts stay.
    gateway.rewrite(&format!("{text}limits: {{host_metrics_max: 2}}\n"));
    gateway.reload().expect("nothing is wrong with it");
    ask(&mut of_http, &[("/", 200)]);
    ask(&mut Client::connect(api), &[("/", 200)]);
    sees(gateway, "{listener=\"http\"}", &of_listener(7.0, [7.0, 0.0, 0.0], 0.0));
    sees(gateway, "{listener=\"api\"}", &of_listener(6.0, [3.0, 1.0, 2.0], 1.0));
    sees(gateway, "{listener=\"api\"}", &[("ferrogate_listener_connection_total", 2.0)]);
    sees(gateway, &alive, &of_host(12.0, [11.0, 1.0]));
    sees(gateway, "{cluster=\"origins\"}", &of_cluster(12.0, 1.0));
    sees(gateway, "", &[("ferrogate_upstream_hosts_omitted", 1.0)]);
    drop((of_http, of_api));
    sees(gateway, "{listener=\"http\"}", &[("ferrogate_listener_connection_active", 0.0)]);
}

/// A name that is given to another address keeps its counts; an address that is given another name counts under it from then on.
#[test]
fn a_listener_is_counted_under_its_name() {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()]);
    let (first, second) = (free_address(), free_address());
    let stage = Plane::Kernel
        .start(config.clone().verbatim(&with_listener(&config, "api", &first.to_string())))
        .expect("always there");
    let gateway = &stage.gateway;
    let requests = |n| [("ferrogate_listener_request_total", n)];
    let mut early = Client::connect(first);
    ask(&mut early, &[("/", 200); 3]);
    sees(gateway, "{listener=\"api\"}", &requests(3.0));
    gateway.rewrite(&with_listener(&config, "api", &second.to_string()));
    gateway.reload().expect("nothing is wrong with it");
    wait_until("it listens there", || TcpStream::connect(second).is_ok());
    ask(&mut Client::connect(second), &[("/", 200); 2]);
    sees(gateway, "{listener=\"api\"}", &requests(5.0));
    gateway.rewrite(&with_listener(&config, "web", &second.to_string()));
    gateway.reload().expect("nothing is wrong with it");
    let has = |name: &str| gateway.admin("/metrics").text().contains(&format!("{{listener=\"{name}\"}}"));
    wait_until("it has its new name", || has("web"));
    ask(&mut Client::connect(second), &[("/", 200)]);
    sees(gateway, "{listener=\"web\"}", &requests(1.0));
    assert!(!has("api"), "nothing listens under that name");
}

#[test]
fn the_api_has_the_same_numbers_as_json() {
    let origin = Origin::start("one");
    let stage = Plane::Kernel.front_of(&origin).expect("always there");
    ask(&mut stage.client(), &[("/", 200); 3]);
    let group = |name: &str| -> serde_json::Value {
        let text = stage.gateway.admin(&format!("/api/v1/stats?key={name}")).text();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    };
    assert_eq!(group("listener")["listener"]["http"]["ferrogate_listener_request"], 3);
    let upstream = group("upstream");
    let host = &upstream["upstream"]["origins"]["hosts"][origin.address()];
    assert_eq!(host["ferrogate_upstream_host_request"], 3, "{host}");
}

/// What a listener shows that has a connection open, after so many requests whose answers had a 2xx, 4xx and 5xx, and failures of ours.
fn of_listener(requests: f64, [ok, client, server]: [f64; 3], failed: f64) -> [(&'static str, f64); 8] {
    [
        ("ferrogate_listener_request_time_seconds_count", requests),
        ("ferrogate_listener_request_total", requests),
        ("ferrogate_listener_request_active", 0.0),
        ("ferrogate_listener_request_failed_total", failed),
        ("ferrogate_listener_response_2xx_total", ok),
        ("ferrogate_listener_response_4xx_total", client),
        ("ferrogate_listener_response_5xx_total", server),
        ("ferrogate_listener_connection_active", 1.0),
    ]
}

/// What a host shows that has a connection open if it has ever answered.
fn of_host(requests: f64, [success, failed]: [f64; 2]) -> [(&'static str, f64); 6] {
    [
        ("ferrogate_upstream_host_request_total", requests),
        ("ferrogate_upstream_host_request_active", 0.0),
        ("ferrogate_upstream_host_response_success_total", success),
        ("ferrogate_upstream_host_response_failed_total", failed),
        ("ferrogate_upstream_host_connection_total", requests.min(1.0)),
        ("ferrogate_upstream_host_connection_active", requests.min(1.0)),
    ]
}

/// The histograms of a cluster.
fn of_cluster(answers: f64, connections: f64) -> [(&'static str, f64); 2] {
    [
        ("upstream_request_duration_time_seconds_count", answers),
        ("ferrogate_upstream_connect_seconds_count", connections),
    ]
}
