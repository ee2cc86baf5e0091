//! Routes as users write them: where requests go, what is changed on the way, and what is answered here.

use test_support::ports::free_address;
use test_support::{Config, Origin, wait_until};

use crate::stage::{Plane, on_both_planes};

on_both_planes! {
    requests_are_rewritten_on_their_way,
    redirects_and_direct_answers_leave_the_connection_alone,
    copies_go_to_a_mirror,
}

fn requests_are_rewritten_on_their_way(plane: Plane) {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()])
        .route(
            "{name: main, match: {prefix: /api}, route: {cluster_name: origins, prefix_rewrite: /v2, host_rewrite: inner.test}, \
             request_headers_to_add: [{header: {key: x-a, value: route}}, {header: {key: x-client, value: '%request_header_x-forged%'}, append: false}], \
             response_headers_to_add: [{header: {key: x-route, value: '%route_name% %response_code%'}}]}",
        )
        .route("{match: {regex: '^/item/([0-9]+)$'}, route: {cluster_name: origins, regex_rewrite: {pattern: {regex: '^/item/([0-9]+)$'}, substitution: '/i/$1.html'}}}")
        .virtual_host("request_headers_to_add: [{header: {key: x-a, value: host}}]")
        .virtual_host("response_headers_to_remove: [x-origin]")
        .router("request_headers_to_add: [{header: {key: x-a, value: 'router %request_method%'}}]")
        .router("request_headers_to_remove: [x-secret]");
    let Some(stage) = plane.start(config) else { return };
    let mut client = stage.client();
    let answer = client.ask("GET", "/api/a%2Fb?q=1", "X-A: client\r\nX-Secret: 1\r\nX-Client: forged\r\n", b"");
    assert_eq!((answer.head.get("x-route"), answer.head.has("x-origin")), (Some("main 200"), false));
    client.get("/item/12?x");
    client.send(b"GET http://absolute.test/api HTTP/1.1\r\nHost: field.test\r\n\r\n").unwrap();
    client.answer_to("GET");
    client.get("/other/../api/./x");
    let seen = origin.received();
    let (first, item, absolute, dots) = (&seen[0].head, &seen[1].head, &seen[2].head, &seen[3].head);
    assert_eq!((first.start.as_str(), first.get("host")), ("GET /v2/a%2Fb?q=1 HTTP/1.1", Some("inner.test")));
    assert_eq!(first.get("x-a"), Some("client,route,host,router GET"));
    assert!(!first.has("x-secret") && !first.has("x-client"), "{first:?}");
    assert_eq!((item.start.as_str(), item.get("x-a")), ("GET /i/12.html?x HTTP/1.1", Some("host,router GET")));
    assert_eq!((absolute.start.as_str(), absolute.get("host")), ("GET /v2 HTTP/1.1", Some("inner.test")));
    assert_eq!(dots.start, "GET /v2/x HTTP/1.1");
}

fn redirects_and_direct_answers_leave_the_connection_alone(plane: Plane) {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()])
        .route("{match: {prefix: /old}, redirect: {response_code: 308, scheme_redirect: https, host_redirect: new.test, path_redirect: /new}}")
        .route(
            "{match: {path: /ready}, direct_response: {status: 200, body: fine}, \
             response_headers_to_add: [{header: {key: x-direct, value: '1'}}]}",
        )
        .route("{match: {path: /none}, direct_response: {status: 204, body: ''}}")
        .route("{match: {prefix: /same}, redirect: {host_redirect: other.test}}");
    let Some(stage) = plane.start(config) else { return };
    let mut client = stage.client();
    for (method, target, body, status, text) in [
        ("GET", "/old/x?q=1", &b""[..], 308, ""),
        ("HEAD", "/old", b"", 308, ""),
        ("POST", "/old", b"a body that nobody reads", 308, ""),
        ("GET", "/ready", b"", 200, "fine"),
        ("HEAD", "/READY", b"", 200, ""),
        ("PUT", "/ready", b"x", 200, "fine"),
        ("GET", "/none", b"", 204, ""),
        ("GET", "/same/%20?r", b"", 301, ""),
    ] {
        let answer = client.ask(method, target, "", body);
        assert_eq!((answer.status, answer.text().as_str()), (status, text), "{method} {target}");
        let location = match target {
            "/old/x?q=1" => Some("https://new.test/new?q=1"),
            "/old" => Some("https://new.test/new"),
            "/same/%20?r" => Some("http://other.test/same/%20?r"),
            _ => None,
        };
        assert_eq!(answer.head.get("location"), location, "{method} {target}");
        assert_eq!(answer.head.has("x-direct"), target.eq_ignore_ascii_case("/ready"), "{method} {target}");
        assert!(answer.head.get("connection").is_none_or(|c| c != "close"), "{method} {target}");
    }
    assert_eq!(client.get("/").text(), "one", "on the same connection, as all before");
    assert_eq!(origin.received().len(), 1);
}

fn copies_go_to_a_mirror(plane: Plane) {
    let (origin, mirror) = (Origin::start("one"), Origin::start("two"));
    let to = |cluster: &str| format!("request_mirror_policies: {{cluster: {cluster}, percent: 100}}");
    let config = Config::proxy_to(&[origin.address()])
        .more_origins("mirror", &[mirror.address()])
        .more_origins("nowhere", &[free_address().to_string()])
        .route(&format!("{{match: {{prefix: /nowhere}}, route: {{cluster_name: origins}}, {}}}", to("nowhere")))
        .route(&format!(
            "{{match: {{prefix: /copied/}}, route: {{cluster_name: origins, prefix_rewrite: /}}, {}}}",
            to("mirror")
        ));
    let Some(stage) = plane.start(config) else { return };
    let mut client = stage.client();
    // In hand with the head, streaming and kept, and too long to be kept.
    for (bytes, copies) in [(0, 1), (500, 2), (50_000, 3), (200_000, 3)] {
        let body = vec![b'x'; bytes];
        let answer = client.ask("PUT", "/copied/echo", "", &body);
        assert_eq!((answer.status, answer.body.len()), (200, bytes), "{bytes}");
        mirror.wait_for_requests(copies);
    }
    let seen = mirror.received();
    assert_eq!(seen.len(), 3, "the fourth had a body too long to keep");
    assert!(seen.iter().all(|r| r.head.start == "PUT /echo HTTP/1.1"), "{seen:?}");
    assert_eq!(seen[2].head.get("content-length"), Some("50000"));
    wait_until("the copies' bodies arrive", || mirror.body_bytes() == 50_500);
    assert_eq!(client.get("/nowhere").text(), "one", "a mirror that is not there is nobody's problem");
    let labels = "cluster=\"mirror\"";
    assert!((stage.gateway.metric("ferrogate_upstream_mirror_total", labels) - 3.0).abs() < 0.1);
    assert!((stage.gateway.metric("ferrogate_upstream_mirror_dropped_total", labels) - 1.0).abs() < 0.1);
}

/// Requests go where weights, a field or a variable say.
#[test]
fn clusters_are_chosen() {
    let (one, two) = (Origin::start("one"), Origin::start("two"));
    let config = Config::proxy_to(&[one.address()])
        .more_origins("canary", &[two.address()])
        .route("{match: {prefix: /named}, route: {cluster_header: x-cluster}}")
        .route("{match: {prefix: /arg}, route: {cluster_variable: request_arg_to}}")
        .route("{match: {prefix: /share}, route: {weighted_clusters: [{cluster: {name: origins, weight: 80}}, {cluster: {name: canary, weight: 20}}]}}");
    let stage = Plane::Kernel.start(config).expect("always there");
    let mut client = stage.client();
    for (target, fields, status, text) in [
        ("/named", "x-cluster: canary\r\n", 200, "two"),
        ("/named", "x-cluster: origins\r\n", 200, "one"),
        ("/named", "x-cluster: none\r\n", 404, "404 Not Found\n"),
        ("/named", "", 404, "404 Not Found\n"),
        ("/arg?to=canary", "", 200, "two"),
    ] {
        let answer = client.ask("GET", target, fields, b"");
        assert_eq!((answer.status, answer.text().as_str()), (status, text), "{target} {fields}");
    }
    let canary = (0..1000).filter(|_| client.get("/share").text() == "two").count();
    assert!((150..250).contains(&canary), "{canary} of 1000");
}

/// A client without a cookie gets one, which is the origin's to see only when the client brings it.
#[test]
fn a_cookie_leads_back() {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()]).route(
        "{match: {prefix: /}, route: {cluster_name: origins, hash_policy: [{cookie: {name: sid, path: /, ttl: 60s}}]}}",
    );
    let stage = Plane::Kernel.start(config).expect("always there");
    let mut client = stage.client();
    let given = client.get("/").head.get("set-cookie").map(str::to_owned).expect("a cookie");
    let (pair, rest) = given.split_once(';').expect("it has attributes");
    assert!(pair.starts_with("sid=") && pair.len() == 20 && rest == " Path=/; Max-Age=60; HttpOnly", "{given}");
    let other = stage.client().get("/").head.get("set-cookie").map(str::to_owned);
    assert!(other.is_some_and(|other| other != given), "another client gets another one");
    let answer = client.ask("GET", "/", &format!("Cookie: a=b; {pair}\r\n"), b"");
    assert!(!answer.head.has("set-cookie"), "who has one gets none");
}

/// The field of an ORIGINAL_DST cluster names an address, and nothing else.
#[test]
fn a_field_says_the_destination() {
    let (one, two) = (Origin::start("one"), Origin::start("two"));
    let config = Config::proxy_to(&[one.address()])
        .another_cluster(
            "{name: anywhere, type: ORIGINAL_DST, original_dst_lb_config: {use_header: true, header_name: x-to}}",
        )
        .route("{match: {prefix: /to}, route: {cluster_name: anywhere}}");
    let stage = Plane::Kernel.start(config).expect("always there");
    let mut client = stage.client();
    for (to, status, text) in [
        (two.address(), 200, "two"),
        (one.address(), 200, "one"),
        ("unix:/var/run/some.sock".into(), 503, "503 Service Unavailable\n"),
        ("two.test:80".into(), 503, "503 Service Unavailable\n"),
        (String::new(), 503, "503 Service Unavailable\n"),
        // Back to the gateway itself, round and round.
        (stage.address.to_string(), 503, "503 Service Unavailable\n"),
    ] {
        let answer = client.ask("GET", "/to", &format!("X-To: {to}\r\n"), b"");
        assert_eq!((answer.status, answer.text().as_str()), (status, text), "{to}");
    }
}
