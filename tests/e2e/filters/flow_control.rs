//! `flowControlFilter`: rates and places, by path, route and field, exact over workers.

use std::time::{Duration, Instant};

use test_support::{Client, Origin};

use super::{config, metric, start};
use crate::stage::{Plane, Stage};

fn with_rules(rules: &str) -> String {
    format!(
        "[{{type: flowControlFilter, config: {{global_switch: true, action: {{status: 429, body: slow down}}, rules: [{rules}]}}}}]"
    )
}

/// How many of `n` requests pass.
fn passed(client: &mut Client, n: usize, target: &str, fields: &str) -> usize {
    (0..n).filter(|_| client.ask("GET", target, fields, b"").status == 200).count()
}

#[test]
fn a_rate_bounds_its_resource_only() {
    let origin = Origin::start("one");
    // One token an hour: what passes is what the bucket holds.
    let rules = "{id: pay, resource: /pay, threshold: 3, statIntervalInMs: 10800000},
        {resource: /pay, headers: [{name: x-batch}], threshold: 1, statIntervalInMs: 3600000},
        {route: shop, threshold: 2, statIntervalInMs: 7200000}";
    let shop = "{name: shop, match: {prefix: /shop}, route: {cluster_name: origins}}";
    let stage = start(&origin, &with_rules(rules), &[shop]);
    let mut client = stage.client();
    assert_eq!(passed(&mut client, 5, "/pay", "x-batch: 1\r\n"), 1, "two rules: the tighter one decides");
    assert_eq!(passed(&mut client, 5, "/pay?order=1", ""), 2, "what was refused has used up nothing");
    let refused = client.get("//pay/../%70ay");
    assert_eq!((refused.status, refused.text().as_str()), (429, "slow down"), "whatever way the path is written");
    assert_eq!(passed(&mut client, 5, "/shop/x", ""), 2);
    assert_eq!(passed(&mut client, 20, "/", ""), 20);
    assert_eq!(metric(&stage.gateway, "ferrogate_filter_flow_control_refused", "rule=\"pay\""), 4);
}

#[test]
fn a_rate_is_exact_over_workers() {
    let origin = Origin::start("one");
    let rules = with_rules("{threshold: 50, statIntervalInMs: 36000000}");
    let stage = Plane::Kernel.start(config(&origin, &rules, &[]).workers(4)).expect("always there");
    let passed: usize = (0..40).map(|_| passed(&mut stage.client(), 5, "/", "")).sum();
    assert_eq!(passed, 50);
}

#[test]
fn places_are_bounded_and_given_back() {
    let origin = Origin::start("one");
    let stage = start(&origin, &with_rules("{grade: 0, threshold: 2}"), &[]);
    let ask = |stage: &Stage| {
        let mut client = stage.client();
        client.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        client
    };
    let (mut first, second) = (ask(&stage), ask(&stage));
    origin.wait_for_requests(2);
    assert_eq!(stage.client().get("/").status, 429);
    // One leaves: its place is free as soon as that is seen.
    test_support::Wire::from(second).reset();
    test_support::wait_until("its place is given back", || stage.client().get("/").status == 200);
    origin.release();
    assert_eq!(first.answer_to("GET").status, 200);
    assert_eq!(passed(&mut first, 10, "/", ""), 10);
}

#[test]
fn requests_wait_for_their_turn() {
    let origin = Origin::start("one");
    let rules = with_rules("{threshold: 20, controlBehavior: 1, maxQueueingTimeMs: 10000}");
    let stage = start(&origin, &rules, &[]);
    let begun = Instant::now();
    assert_eq!(passed(&mut stage.client(), 7, "/", ""), 7);
    assert!(begun.elapsed() >= Duration::from_millis(280), "50 ms between two: {:?}", begun.elapsed());
    assert!(metric(&stage.gateway, "ferrogate_filter_flow_control_queued", "") >= 5);
}

#[test]
fn a_monitor_counts_and_refuses_nothing() {
    let origin = Origin::start("one");
    let filter = "[{type: flowControlFilter, config: {monitor: true, rules: [{resource: /a, threshold: 0}]}}]";
    let stage = start(&origin, filter, &[]);
    assert_eq!(passed(&mut stage.client(), 5, "/a", ""), 5);
    assert_eq!(metric(&stage.gateway, "ferrogate_filter_flow_control_watched", "rule=\"/a\""), 5);
}

#[test]
fn a_route_has_limits_of_its_own() {
    let origin = Origin::start("one");
    let own = "{match: {prefix: /own}, route: {cluster_name: origins}, per_filter_config: {flowControlFilter: {global_switch: true, rules: [{threshold: 1, statIntervalInMs: 3600000}]}}}";
    let stage = start(&origin, &with_rules("{threshold: 2, statIntervalInMs: 7200000}"), &[own]);
    let mut client = stage.client();
    assert_eq!((passed(&mut client, 5, "/own", ""), passed(&mut client, 5, "/", "")), (1, 2));
}
