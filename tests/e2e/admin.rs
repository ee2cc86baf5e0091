//! The admin API: who we are, what state we are in, and numbers that are true.

use std::process::Command;

use test_support::load::{Habit, Load};
use test_support::{Client, Config, Origin, wait_until};

use crate::stage::{Plane, Stage, binary, on_both_planes};

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
    let mut client = Client::connect(stage.gateway.admin);
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

/// The configuration in force, without its keys, whole and in parts; `plan` reads it.
#[test]
fn the_configuration_is_shown_without_secrets() {
    let origin = Origin::start("one");
    let secret = "-----BEGIN PRIVATE KEY-----\\nMIIEv\\n-----END PRIVATE KEY-----";
    let off = format!("tls_context: {{status: false, private_key: \"{secret}\"}}");
    let stage = Plane::Kernel.start(Config::proxy_to(&[origin.address()]).cluster(&off)).expect("always there");
    let admin = |path: &str| stage.gateway.admin(path);
    let dump = admin("/api/v1/config_dump").text();
    assert!(dump.contains("mosn_config") && dump.contains("router_config_name"), "{dump}");
    assert!(!dump.contains("MIIEv"), "{dump}");
    for (query, has, lacks) in [
        ("?mosnconfig", "cluster_manager", "nothing"),
        ("?alllisteners", "\"http\"", "origins\": {"),
        ("?listener=http", "filter_chains", "virtual_hosts"),
        ("?router=web", "virtual_hosts", "filter_chains"),
        ("?allclusters", "origins", "virtual_hosts"),
        ("?cluster=origins", "LB_ROUNDROBIN", "virtual_hosts"),
    ] {
        let text = admin(&format!("/api/v1/config_dump{query}")).text();
        assert!(text.contains(has) && !text.contains(lacks), "{query}: {text}");
    }
    assert_eq!(admin("/api/v1/config_dump?cluster=none").status, 404);
    let plan = Command::new(binary()).args(["plan", "-c"]).arg(stage.gateway.file()).output().unwrap();
    let said = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(plan.status.success() && said.contains("nothing would change"), "{said} {plan:?}");
}

#[test]
fn readiness_levels_and_the_like() {
    let origin = Origin::start("one");
    let mut stage = Plane::Kernel.front_of(&origin).expect("always there");
    let admin = |path: &str| stage.gateway.admin(path);
    assert_eq!(admin("/ready").status, 200);
    assert!(admin("/api/v1/features").text().contains("\"auto_config\": false"));
    assert!(admin("/api/v1/features?key=auto_config").text().contains("false"));
    assert_eq!(admin("/api/v1/features?key=none").status, 404);
    assert!(admin("/api/v1/env").text().contains("MOSN_CONFIG"));
    assert!(admin("/api/v1/stats?key=upstream").text().contains("origins"));
    let post = |path: &str, body: &str| Client::connect(stage.gateway.admin).ask("POST", path, "", body.as_bytes());
    assert_eq!(admin("/api/v1/get_loglevel").text(), "INFO\n");
    assert_eq!(post("/api/v1/update_loglevel", "{\"log_path\": \"\", \"log_level\": \"DEBUG\"}").status, 200);
    assert_eq!(admin("/api/v1/get_loglevel").text(), "DEBUG\n");
    let mut bad = stage.client();
    bad.send(b"nonsense\r\n\r\n").unwrap();
    assert_eq!(bad.answer_to("GET").status, 400);
    wait_until("what is logged has changed", || stage.gateway.process.output().contains("a request was refused"));
    let mut busy = stage.client();
    busy.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    origin.wait_for_requests(1);
    assert_eq!(post("/api/v1/drain_listeners", "").status, 200);
    wait_until("it is not ready any more", || admin("/ready").status == 503);
    origin.release();
    assert_eq!(busy.answer_to("GET").text(), "held");
    assert_eq!(stage.gateway.process.wait().code(), Some(0));
}

/// Whatever a client of the API sends, it gets an answer that says so, and traffic goes on.
#[test]
fn garbage_is_answered() {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()]).extra("control: {dynamic_config: true}\n");
    let stage = Plane::Kernel.start(config).expect("always there");
    let client = || Client::connect(stage.gateway.admin);
    for path in ["/api/v1/update_config", "/api/v1/update_route", "/debug/update_route", "/api/v1/update_loglevel"] {
        for body in [
            "",
            "{",
            "[]",
            "null",
            "\u{0}\u{1}",
            "{\"type\": 7}",
            "{\"type\": \"cluster\", \"config\": 7}",
            &"[".repeat(100_000),
        ] {
            let answer = client().ask("POST", path, "", body.as_bytes());
            assert_eq!(answer.status, 400, "{path} {body:.40}: {}", answer.text());
        }
    }
    assert_eq!(client().ask("GET", "/api/v1/reload", "", b"").status, 405);
    assert_eq!(client().ask("DELETE", "/metrics", "", b"").status, 405);
    assert_eq!(client().ask("POST", "/api/v1/none", "", b"").status, 404);
    assert_eq!(client().ask("GET", "/%ff?%zz=%", "", b"").status, 404);
    let nowhere = "{\"type\": \"router\", \"config\": {\"router_config_name\": \"web\", \"virtual_hosts\": \
                   [{\"routers\": [{\"route\": {\"cluster_name\": \"nowhere\"}}]}]}}";
    let refused = client().ask("POST", "/api/v1/update_config", "", nowhere.as_bytes());
    assert!(refused.status == 422 && refused.text().contains("nowhere"), "{refused:?}");
    assert_eq!(stage.client().get("/").text(), "one");
}

#[test]
fn the_configuration_is_changed_where_that_is_allowed() {
    let (one, two) = (Origin::start("one"), Origin::start("two"));
    let change = format!(
        "{{\"type\": \"cluster\", \"config\": {{\"name\": \"origins\", \"hosts\": [{{\"address\": \"{}\"}}]}}}}",
        two.address()
    );
    let stage = Plane::Kernel.front_of(&one).expect("always there");
    let post = |stage: &Stage| {
        Client::connect(stage.gateway.admin).ask("POST", "/api/v1/update_config", "", change.as_bytes())
    };
    assert_eq!(post(&stage).status, 403, "the switch is off");
    let stage = Plane::Kernel
        .start(
            Config::proxy_to(&[one.address()])
                .extra("control: {dynamic_config: true, auto_config: true, watch_config: true}\n"),
        )
        .expect("always there");
    let mut client = stage.client();
    assert_eq!(client.get("/").text(), "one");
    let answer = post(&stage);
    assert_eq!(answer.status, 200, "{}", answer.text());
    wait_until("the new host answers", || client.get("/").text() == "two");
    let written = std::fs::read_to_string(stage.gateway.file()).unwrap();
    assert!(written.contains(&two.address()) && !written.contains(&one.address()), "{written}");
    stage.gateway.reload().expect("what was written can be read");
    assert_eq!(client.get("/").text(), "two");
    // The change and the reload, and none for the file that was written.
    assert!((stage.gateway.metric("ferrogate_config_generation", "") - 3.0).abs() < 0.1);
}

/// MOSN's way to change the routes of one virtual host: traffic goes on, what is wrong changes nothing.
#[test]
fn routes_come_and_go_under_traffic() {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()]).workers(2);
    // No route that takes all requests: one that is added stands behind it.
    let text = config.text().replace("{prefix: /}", "{prefix: /first}");
    let off = Plane::Kernel.start(config.clone().verbatim(&text)).expect("always there");
    let post = |stage: &Stage, path: &str, kind: &str, rest: &str| {
        let body = format!(r#"{{"type": "{kind}", "config": {{"router_config_name": {rest}}}}}"#);
        Client::connect(stage.gateway.admin).ask("POST", path, "", body.as_bytes())
    };
    assert_eq!(post(&off, "/api/v1/update_route", "remove", r#""web""#).status, 403, "the switch is off");
    drop(off);
    let text = text + "control: {dynamic_config: true, auto_config: true}\n";
    let stage = Plane::Kernel.start(config.verbatim(&text)).expect("always there");
    let added = |prefix: &str, cluster: &str| {
        format!(r#""route": {{"match": {{"prefix": "{prefix}"}}, "route": {{"cluster_name": "{cluster}"}}}}"#)
    };
    let is_third = || (stage.gateway.metric("ferrogate_config_generation", "") - 3.0).abs() < 0.1;
    let load = Load::start(stage.address, "/first", &[Habit::KeepAlive, Habit::New]);
    let mut client = stage.client();
    assert_eq!(client.get("/added").status, 404);
    let rest = format!(r#""web", "domain": "*", {}"#, added("/added", "origins"));
    let answer = post(&stage, "/api/v1/update_route", "add", &rest);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let rest = format!(r#""web", {}"#, added("/default", "origins"));
    assert_eq!(post(&stage, "/debug/update_route", "add", &rest).status, 200);
    wait_until("the routes are there, on an open connection", || {
        client.get("/added").status == 200 && client.get("/default").text() == "one"
    });
    assert!(is_third(), "one for each");
    for (rest, told) in [
        (format!(r#""web", "domain": "shop.test", {}"#, added("/x", "origins")), "`shop.test`"),
        (format!(r#""none", "domain": "*", {}"#, added("/x", "origins")), "`none`"),
        (format!(r#""web", "domain": "*", {}"#, added("/x", "nowhere")), "nowhere"),
    ] {
        let refused = post(&stage, "/api/v1/update_route", "add", &rest);
        assert!(refused.status == 422 && refused.text().contains(told), "{rest}: {refused:?}");
    }
    assert!(is_third() && client.get("/added").status == 200, "what was refused changed nothing");
    let (answered, failures) = load.finish();
    assert!(failures.is_empty(), "of {answered}: {failures:?}");
    stage.gateway.reload().expect("what was written can be read");
    assert_eq!(client.get("/added").status, 200, "the file has it");
    assert_eq!(post(&stage, "/api/v1/update_route", "remove", r#""web", "domain": "*""#).status, 200);
    wait_until("all routes are gone", || client.get("/added").status == 404 && client.get("/first").status == 404);
}

#[test]
fn metrics_have_a_sink_of_their_own() {
    let origin = Origin::start("one");
    let at = test_support::ports::free_address();
    let sink =
        format!("metrics: {{sinks: [{{type: prometheus, config: {{port: {}, endpoint: /numbers}}}}]}}\n", at.port());
    let stage = Plane::Kernel.start(Config::proxy_to(&[origin.address()]).extra(&sink)).expect("always there");
    assert_eq!(stage.client().get("/").status, 200);
    let at = std::net::SocketAddr::from(([127, 0, 0, 1], at.port()));
    let get = |path: &str| Client::connect(at).get(path);
    wait_until("the request is counted", || get("/numbers").text().contains("downstream_request_time_seconds_count 1"));
    let page = get("/numbers").text();
    assert!(page.contains("# TYPE downstream_request_time_seconds histogram"), "{page}");
    assert!(page.contains("downstream_request_time_seconds_bucket{le=\"+Inf\"} 1"), "{page}");
    assert_eq!(get("/api/v1/config_dump").status, 404, "nothing else is served there");
}

/// Each metric is in docs/reference/metrics.md with the text that it has itself. `FERROGATE_BLESS=1` writes the page.
#[test]
fn every_metric_is_documented() {
    let origin = Origin::start("one");
    let stage = Plane::Kernel.front_of(&origin).expect("always there");
    let page = stage.gateway.admin("/metrics").text();
    let mut rows = Vec::new();
    for help in page.lines().filter_map(|l| l.strip_prefix("# HELP ")) {
        let (name, help) = help.split_once(' ').unwrap_or((help, ""));
        let kind = page.lines().find_map(|l| l.strip_prefix(&format!("# TYPE {name} "))).expect("it has a type");
        let shown = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        rows.push(format!("| `{shown}` | {kind} | {} |", help.trim_end_matches('.')));
    }
    assert!(rows.len() > 30, "{page}");
    rows.sort();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/metrics.md");
    let before = std::fs::read_to_string(path).unwrap_or_default();
    let (head, rest) = before.split_once(BEGIN).expect("the page has its marks");
    let (_, tail) = rest.split_once(END).expect("the page has its marks");
    let table = format!("\n| metric | type | counts |\n|---|---|---|\n{}\n", rows.join("\n"));
    let wanted = format!("{head}{BEGIN}{table}{END}{tail}");
    if std::env::var_os("FERROGATE_BLESS").is_some() {
        std::fs::write(path, &wanted).expect("the page can be written");
    } else {
        assert_eq!(
            before, wanted,
            "docs/reference/metrics.md is stale: FERROGATE_BLESS=1 cargo test --test e2e documented"
        );
    }
}

const BEGIN: &str = "<!-- generated -->\n";
const END: &str = "<!-- end of what is generated -->\n";
