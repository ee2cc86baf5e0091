//! `fault`: delays and aborts, for some requests, and for one route.

use std::time::{Duration, Instant};

use test_support::Origin;

use super::{config, metric, start};
use crate::stage::{Plane, on_both_planes};

on_both_planes! {
    a_delay_and_an_abort,
}

fn a_delay_and_an_abort(plane: Plane) {
    let origin = Origin::start("one");
    let filter = "[{type: fault, config: {delay: {fixed_delay: 200ms, percentage: 100}, headers: [{name: x-slow}]}},
        {type: fault, config: {abort: {status: 555, percentage: 100}, headers: [{name: x-fail, value: \"^y\", regex: true}]}}]";
    let Some(stage) = plane.start(config(&origin, filter, &[])) else { return };
    let mut client = stage.client();
    let begun = Instant::now();
    for (fields, status) in [
        ("", 200),
        ("x-fail: no\r\n", 200),
        ("x-fail: yes\r\n", 555),
        ("x-slow: 1\r\n", 200),
        ("x-slow: 1\r\nx-fail: yes\r\n", 555),
    ] {
        assert_eq!(client.ask("POST", "/echo", fields, b"body").status, status, "{fields}");
    }
    assert!(begun.elapsed() >= Duration::from_millis(400), "two of them waited: {:?}", begun.elapsed());
    assert_eq!(origin.received().len(), 3);
    assert_eq!(metric(&stage.gateway, "ferrogate_filter_fault_delayed", "http"), 2);
    assert_eq!(metric(&stage.gateway, "ferrogate_filter_fault_aborted", "http"), 2);
}

#[test]
fn a_share_of_the_requests_to_one_cluster() {
    let origin = Origin::start("one");
    let filter = "[{type: fault, config: {abort: {status: 503, percentage: 30}, upstream_cluster: origins}}]";
    let direct = "{match: {prefix: /direct}, direct_response: {status: 200}}";
    let other = "{match: {prefix: /never}, route: {cluster_name: origins}, per_filter_config: {fault: {}}}";
    let all = "{match: {prefix: /always}, route: {cluster_name: origins}, per_filter_config: {fault: {abort: {status: 500, percentage: 100}}}}";
    let stage = start(&origin, filter, &[direct, other, all]);
    let mut client = stage.client();
    let mut failed = |target: &str| (0..200).filter(|_| client.get(target).status >= 500).count();
    let some = failed("/");
    assert!((30..=90).contains(&some), "{some} of 200");
    assert_eq!((failed("/direct"), failed("/never"), failed("/always")), (0, 0, 200));
}

/// Of weighted clusters the one that was drawn counts, and of named ones the one that is named: not one request more, and not one less.
#[test]
fn the_cluster_is_the_one_that_the_route_has_chosen() {
    let (origin, canary) = (Origin::start("one"), Origin::start("two"));
    let filter = "[{type: fault, config: {abort: {status: 555, percentage: 100}, upstream_cluster: canary}}]";
    let share = "{match: {prefix: /share}, route: {weighted_clusters: [{cluster: {name: origins, weight: 50}}, {cluster: {name: canary, weight: 50}}]}}";
    let named = "{match: {prefix: /named}, route: {cluster_header: x-cluster}}";
    let to_none = "{match: {prefix: /spared}, route: {cluster_name: canary}, per_filter_config: {fault: {abort: {status: 555, percentage: 100}, upstream_cluster: nowhere}}}";
    let config = config(&origin, filter, &[share, named, to_none]).more_origins("canary", &[canary.address()]);
    let stage = Plane::Kernel.start(config).expect("always there");
    let mut client = stage.client();
    let answers: Vec<u16> = (0..200).map(|_| client.get("/share").status).collect();
    let passed = answers.iter().filter(|status| **status == 200).count();
    assert!((60..=140).contains(&passed), "{passed} of 200");
    assert_eq!(answers.iter().filter(|status| **status == 555).count(), 200 - passed);
    assert_eq!((origin.received().len(), canary.received().len()), (passed, 0));
    for (field, status) in [("x-cluster: origins\r\n", 200), ("x-cluster: canary\r\n", 555), ("", 404)] {
        assert_eq!(client.ask("GET", "/named", field, b"").status, status, "{field}");
    }
    assert_eq!((client.get("/").text(), client.get("/spared").text()), ("one".into(), "two".into()));
}

/// A client that leaves while its request waits takes the request with it.
#[test]
fn a_client_that_leaves_does_not_wait_on() {
    let origin = Origin::start("one");
    let stage = start(&origin, "[{type: fault, config: {delay: {fixed_delay: 1h, percentage: 100}}}]", &[]);
    let mut client = stage.client();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    test_support::wait_until("it waits", || metric(&stage.gateway, "ferrogate_filter_fault_delayed", "http") == 1);
    test_support::Wire::from(client).reset();
    let active = || metric(&stage.gateway, "downstream_request_active", "");
    test_support::wait_until("nothing is left of it", || active() == 0);
}
