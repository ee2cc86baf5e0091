//! The admin API: who we are, what state we are in, and numbers that are true.

use test_support::{Config, Origin, wait_until};

use crate::stage::{Plane, on_both_planes};

on_both_planes! {
    numbers_are_true,
}

fn numbers_are_true(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let mut client = stage.client();
    for _ in 0..7 {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!(client.get("/status?code=404").status, 404);
    let mut bad = stage.client();
    bad.send(b"nonsense\r\n\r\n").unwrap();
    assert_eq!(bad.answer_to("GET").status, 400);
    drop(bad);
    let value = |name: &str| stage.gateway.metric(name, "");
    wait_until("the refused connection is closed", || (value("downstream_connection_active") - 1.0).abs() < 0.1);
    assert!([8.0, 9.0].contains(&value("downstream_request_total")), "whether the refused one counts is open");
    assert!((value("downstream_connection_total") - 2.0).abs() < 0.1);
    assert!((value("upstream_request_total") - 8.0).abs() < 0.1);
    assert!((value("upstream_connection_total") - 1.0).abs() < 0.1);
    let plane_name = stage.gateway.admin("/api/v1/dataplane").text();
    let expected = if plane == Plane::Kernel { "kernel" } else { "dpdk" };
    assert!(plane_name.contains(expected), "{plane_name}");
}

/// The PMD and its packet counters, by name.
#[test]
fn a_packet_port_tells_its_counters() {
    let origin = Origin::start("one");
    let Some(stage) = Plane::AfXdp.front_of(&origin) else { return };
    let mut client = stage.client();
    for _ in 0..10 {
        assert_eq!(client.get("/").status, 200);
    }
    let report = stage.gateway.admin("/api/v1/dataplane").text();
    assert!(report.contains("af_xdp"), "{report}");
    let metrics = stage.gateway.admin("/metrics").text();
    let counted = metrics.lines().filter(|l| !l.starts_with('#') && l.contains("packets"));
    let total: f64 = counted.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum();
    assert!(total >= 20.0, "packets in and out for ten requests and answers:\n{metrics}");
}

#[test]
fn the_api_answers_as_mosns_does() {
    let origin = Origin::start("one");
    let stage = Plane::Kernel.front_of(&origin).expect("always there");
    let admin = |path: &str| stage.gateway.admin(path);
    assert!(admin("/api/v1/version").text().contains(env!("CARGO_PKG_VERSION")));
    let states = admin("/api/v1/states").text();
    assert!(states.contains(&format!("pid={}", stage.gateway.process.id())) && states.contains("state=6"), "{states}");
    let stats = admin("/api/v1/stats");
    assert_eq!(stats.status, 200);
    assert!(stats.text().contains("\"downstream\"") && stats.text().contains("\"upstream\""), "{}", stats.text());
    let metrics = admin("/metrics");
    assert!(metrics.head.get("content-type").is_some_and(|t| t.contains("text")), "{:?}", metrics.head);
    assert!(metrics.text().contains("# TYPE "));
    assert!(admin("/").text().contains("/api/v1/stats"), "a list of what there is");
    let unknown = admin("/api/v1/unknown");
    assert!(unknown.status == 404 || unknown.text().contains("/api/v1/stats"), "{unknown:?}");
    let mut client = test_support::Client::connect(stage.gateway.admin);
    assert_eq!(client.ask("POST", "/api/v1/stats", "", b"x").status / 100, 4, "nothing here can be changed");
}

/// Not asked for, it listens on loopback only; and not at all when there is no section.
#[test]
fn the_api_is_on_loopback_by_default() {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()]);
    let port = config.admin.port();
    let text = config.text().replace(&format!("address: {}, port_value", config.admin.ip()), "port_value");
    assert!(text.contains(&format!("{{port_value: {port}")), "{text}");
    let stage = Plane::Kernel.start(config.verbatim(&text)).expect("always there");
    let table = std::fs::read_to_string("/proc/net/tcp").expect("readable");
    // Local address and state 0A (listening), in the kernel's hexadecimal of this byte order.
    let rows: Vec<_> = table.lines().filter(|l| l.contains(&format!(":{port:04X} 00000000:0000 0A"))).collect();
    assert!(!rows.is_empty() && rows.iter().all(|l| l.contains("0100007F:")), "{rows:?}");
    drop(stage);
}
