//! `header_to_metadata` with subsets: fields say which hosts of a cluster a request may go to.

use std::collections::BTreeSet;

use test_support::{Client, Config, Origin};

use super::{config, metric};
use crate::stage::Plane;

const FILTER: &str = "[{type: header_to_metadata, config: {request_rules: [
        {header: x-stage, on_header_present: {key: stage}, remove: true},
        {header: x-zone, on_header_present: {key: zone}}]}}]";

const ALL: &[&str] = &["blue-a", "blue-b", "green"];

struct Hosts {
    plain: Origin,
    blue_a: Origin,
    blue_b: Origin,
    green: Origin,
}

impl Hosts {
    fn start() -> Self {
        let [plain, blue_a, blue_b, green] = ["plain", ALL[0], ALL[1], ALL[2]].map(Origin::start);
        Self { plain, blue_a, blue_b, green }
    }

    /// A cluster of the last three, with subsets by stage and by stage and zone.
    fn cluster(&self, name: &str, fallback: &str) -> String {
        let host = |origin: &Origin, says: &str| {
            format!("{{address: \"{}\", metadata: {{filter_metadata: {{mosn.lb: {{{says}}}}}}}}}", origin.address())
        };
        format!(
            "{{name: {name}, lb_subset_config: {{{fallback}, subset_selectors: [[stage], [stage, zone]]}}, hosts: [{}, {}, {}]}}",
            host(&self.blue_a, "stage: blue, zone: a"),
            host(&self.blue_b, "stage: blue, zone: b"),
            host(&self.green, "stage: green, zone: a"),
        )
    }

    fn config(&self, routes: &[&str]) -> Config {
        config(&self.plain, FILTER, routes)
            .another_cluster(&self.cluster("nowhere", "fall_back_policy: 0"))
            .another_cluster(&self.cluster("anywhere", "fall_back_policy: 1"))
            .another_cluster(&self.cluster("default", "fall_back_policy: 2, default_subset: {stage: green}"))
    }
}

/// The hosts that answer ten such requests, by name; what refuses them.
fn reached(client: &mut Client, target: &str, fields: &str) -> BTreeSet<String> {
    let answers = (0..10).map(|_| client.ask("GET", target, fields, b""));
    answers.map(|a| if a.status == 200 { a.text() } else { a.status.to_string() }).collect()
}

#[test]
fn a_field_leads_to_a_subset_or_to_the_fall_back() {
    let hosts = Hosts::start();
    let route = |cluster: &str| format!("{{match: {{prefix: /{cluster}}}, route: {{cluster_name: {cluster}}}}}");
    let fixed = "{match: {prefix: /fixed}, route: {cluster_name: nowhere, metadata_match: {filter_metadata: {mosn.lb: {stage: green}}}}}";
    let head = "{match: {path: /head}, route: {cluster_name: nowhere}}";
    let routes = [&route("nowhere"), &route("anywhere"), &route("default"), fixed, head];
    let stage = Plane::Kernel.start(hosts.config(&routes)).expect("always there");
    let mut client = stage.client();
    for (target, fields, expected) in [
        ("/nowhere", "x-stage: blue\r\n", &["blue-a", "blue-b"][..]),
        ("/nowhere", "X-Stage: blue\r\nX-Zone: b\r\n", &["blue-b"]),
        ("/nowhere", "x-stage: green\r\n", &["green"]),
        ("/nowhere", "x-stage: red\r\n", &["503"]),
        ("/nowhere", "", ALL),
        ("/anywhere", "x-stage: red\r\n", ALL),
        ("/anywhere", "x-zone: a\r\n", ALL),
        ("/default", "x-stage: red\r\n", &["green"]),
        ("/default", "x-stage: blue\r\n", &["blue-a", "blue-b"]),
        ("/fixed", "", &["green"]),
        ("/fixed", "x-zone: a\r\n", &["green"]),
        ("/fixed", "x-stage: blue\r\n", &["blue-a", "blue-b"]),
        ("/", "x-stage: red\r\n", &["plain"]),
    ] {
        let expected: BTreeSet<String> = expected.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(reached(&mut client, target, fields), expected, "{target} {fields}");
    }
    let fell_back =
        |cluster: &str| metric(&stage.gateway, "upstream_lb_subsets_fallback_total", &format!("cluster=\"{cluster}\""));
    assert_eq!((fell_back("nowhere"), fell_back("anywhere"), fell_back("default")), (0, 20, 10));
    let head = client.ask("GET", "/head", "x-stage: green\r\nx-zone: a\r\n", b"").text().to_ascii_lowercase();
    assert!(head.contains("x-zone: a") && !head.contains("x-stage"), "{head}");
}

#[test]
fn a_route_has_rules_of_its_own() {
    let hosts = Hosts::start();
    let own = "{match: {prefix: /own}, route: {cluster_name: nowhere}, per_filter_config: {header_to_metadata: {request_rules: [
                {header: x-stage, on_header_present: {key: stage, value: blue}, on_header_missing: {key: stage, value: green}}]}}}";
    let listeners = "{match: {prefix: /listeners}, route: {cluster_name: nowhere}}";
    let stage = Plane::Kernel.start(hosts.config(&[own, listeners])).expect("always there");
    let mut client = stage.client();
    for (target, fields, expected) in [
        ("/own", "x-stage: anything\r\n", &["blue-a", "blue-b"][..]),
        ("/own", "", &["green"]),
        ("/listeners", "x-stage: green\r\n", &["green"]),
        ("/listeners", "", ALL),
    ] {
        let expected: BTreeSet<String> = expected.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(reached(&mut client, target, fields), expected, "{target} {fields}");
    }
}
