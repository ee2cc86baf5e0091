//! `mirror`: more copies than one, to one host or to all.

use test_support::Origin;

use super::{config, metric};
use crate::stage::Plane;

#[test]
fn copies_are_as_many_as_the_filter_says() {
    let origin = Origin::start("one");
    let (left, right) = (Origin::start("left"), Origin::start("right"));
    let route = |path: &str, own: &str| {
        format!(
            "{{match: {{prefix: {path}}}, route: {{cluster_name: origins}}, request_mirror_policies: {{cluster: shadow, percent: 100}}{own}}}"
        )
    };
    let all = route("/all", ", per_filter_config: {mirror: {amplification: 2, broadcast: true}}");
    let shadow = format!(
        "    - {{name: shadow, hosts: [{{address: \"{}\"}}, {{address: \"{}\"}}]}}\n",
        left.address(),
        right.address()
    );
    let config = config(&origin, "[{type: mirror, config: {amplification: 4}}]", &[&all, &route("/some", "")]);
    let text = config.text().replace("    - name: origins\n", &format!("{shadow}    - name: origins\n"));
    let stage = Plane::Kernel.start(config.verbatim(&text)).expect("always there");
    let mut client = stage.client();
    let copies = || left.received().len() + right.received().len();
    assert_eq!(client.ask("POST", "/some", "", b"body").text(), "one");
    test_support::wait_until("four copies", || copies() == 4);
    assert_eq!(client.ask("POST", "/all", "", b"body").text(), "one");
    test_support::wait_until("two copies to each host", || copies() == 8);
    let of_all = |o: &Origin| o.received().iter().filter(|r| r.head.second() == "/all").count();
    assert_eq!((of_all(&left), of_all(&right)), (2, 2));
    assert_eq!(client.get("/").text(), "one");
    assert_eq!((origin.received().len(), copies()), (3, 8));
}

/// The filter and the policy are one way to a copy, not two: together they make as many as the filter says, and the filter alone none.
#[test]
fn the_filter_and_the_policy_make_the_same_copies() {
    let policy = "request_mirror_policies: {cluster: shadow, percent: 100}";
    let to = "route: {cluster_name: origins, retry_policy: {retry_on: true, num_retries: 2}}";
    let copied = format!("{{match: {{prefix: /copied}}, {to}, {policy}}}");
    let retried = format!("{{match: {{prefix: /status}}, {to}, {policy}}}");
    let none = format!("{{match: {{prefix: /none}}, {to}, request_mirror_policies: {{cluster: shadow, percent: 0}}}}");
    for (filters, copies) in [
        ("[]", 1_u64),
        ("[{type: mirror, config: {}}]", 1),
        ("[{type: mirror, config: {amplification: 3}}]", 3),
        ("[{type: mirror, config: {broadcast: true}}]", 2),
        ("[{type: mirror, config: {amplification: 3, broadcast: true}}]", 6),
    ] {
        let (origin, left, right) = (Origin::start("one"), Origin::start("left"), Origin::start("right"));
        let config = config(&origin, filters, &[&copied, &retried, &none]);
        let config = config.more_origins("shadow", &[left.address(), right.address()]);
        let stage = Plane::Kernel.start(config).expect("always there");
        let mut client = stage.client();
        for (target, status, tries) in
            [("/copied", 200, 1), ("/status?code=503", 503, 3), ("/none", 200, 1), ("/other", 200, 1)]
        {
            let before = origin.received().len();
            assert_eq!(client.get(target).status, status, "{target}");
            assert_eq!(origin.received().len() - before, tries, "{filters} {target}");
        }
        // Of the first two, and of the one that is tried again no more than of the other.
        let arrived = || (left.received().len() + right.received().len()) as u64;
        test_support::wait_until("the copies arrive", || arrived() >= 2 * copies);
        let sent = metric(&stage.gateway, "ferrogate_upstream_mirror_total", "cluster=\"shadow\"");
        assert_eq!((sent, arrived()), (2 * copies, 2 * copies), "{filters}");
    }
}

/// What is above the limit of copies under way is counted, and the request is none the worse.
#[test]
fn copies_under_way_are_bounded() {
    let (origin, shadow) = (Origin::start("one"), Origin::start("two"));
    let route = "{match: {prefix: /stall}, route: {cluster_name: origins}, request_mirror_policies: {cluster: shadow, percent: 100}}";
    let config = config(&origin, "[{type: mirror, config: {amplification: 5}}]", &[route])
        .limit("mirror_requests_max", "3")
        .more_origins("shadow", &[shadow.address()]);
    let stage = Plane::Kernel.start(config).expect("always there");
    let mut client = stage.client();
    client.send(b"GET /stall HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    origin.wait_for_requests(1);
    shadow.wait_for_requests(3);
    let counted = |name: &str| metric(&stage.gateway, name, "cluster=\"shadow\"");
    let counts = (counted("ferrogate_upstream_mirror_total"), counted("ferrogate_upstream_mirror_dropped_total"));
    assert_eq!(counts, (3, 2));
    assert_eq!(stage.client().get("/").text(), "one");
}
