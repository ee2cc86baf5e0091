//! What is told of mistakes in routes: each in its own words, and none makes a route wider.

use ferrogate_core::config::schema::{PathMatch, RouteAction};
use ferrogate_core::config::{Config, Diagnostic};

fn read(route: &str) -> (Option<Config>, Vec<String>) {
    let text = format!(
        "servers: [{{listeners: [{{address: :80, routers: [{{{route}}}]}}]}}]\n\
         cluster_manager: {{clusters: [{{name: c, hosts: [{{address: \"127.0.0.1:1\"}}]}}]}}\n"
    );
    let told = |found: Vec<Diagnostic>| {
        let here = |path: String| path.replace("servers[0].listeners[0].routers[0]", "");
        found.into_iter().map(|d| format!("{}: {}: {}", d.severity, here(d.path), d.message)).collect()
    };
    match Config::parse(&text, "t") {
        Ok((config, found)) => (Some(config), told(found)),
        Err(found) => (None, told(found)),
    }
}

#[test]
fn mistakes_in_routes_are_told() {
    let to_c = "route: {cluster_name: c";
    for (route, report) in [
        (
            "match: {regex: '('}, route: {cluster_name: c}",
            "error: .match.regex: `(` is no regular expression: unclosed group",
        ),
        (
            "match: {headers: [{value: x}]}, route: {cluster_name: c}",
            "error: .match.headers[0]: the key `name` is missing",
        ),
        (
            "match: {headers: [{name: 'a b'}]}, route: {cluster_name: c}",
            "error: .match.headers[0].name: `a b` is no name of a field",
        ),
        (
            "match: {headers: [{name: a, value: '[', regex: true}]}, route: {cluster_name: c}",
            "error: .match.headers[0].value: `[` is no regular expression: unclosed character class",
        ),
        (
            "match: {variables: [{name: request_metod, value: a}]}, route: {cluster_name: c}",
            "error: .match.variables[0].name: there is no variable `request_metod` of a request",
        ),
        (
            "match: {variables: [{name: response_code, value: '1'}]}, route: {cluster_name: c}",
            "error: .match.variables[0].name: there is no variable `response_code` of a request",
        ),
        (
            "match: {variables: [{name: request_method}]}, route: {cluster_name: c}",
            "error: .match.variables[0]: nothing to compare with",
        ),
        (
            "match: {prefix: /, variables: [{name: request_method, value: a}]}, route: {cluster_name: c}",
            "warning: .match: `prefix` wins, `variables` has no effect",
        ),
        (
            "route: {weighted_clusters: [{cluster: {name: c}}]}",
            "error: .route: no cluster has a weight: no request could go anywhere",
        ),
        (
            "route: {weighted_clusters: [{cluster: {name: d, weight: 1}}]}",
            "error: .route.weighted_clusters[0].cluster: there is no cluster `d`",
        ),
        ("route: {timeout: 1s}", "error: .route: the key `cluster_name` is missing"),
        (
            "route: {cluster_variable: nothing}",
            "error: .route.cluster_variable: there is no variable `nothing` of a request",
        ),
        (&format!("{to_c}, host_rewrite: 'a b'}}"), "error: .route.host_rewrite: `a b` is no host"),
        (
            &format!("{to_c}, prefix_rewrite: /a, regex_rewrite: {{pattern: {{regex: a}}}}}}"),
            "warning: .route: `prefix_rewrite` wins, `regex_rewrite` has no effect",
        ),
        (
            &format!("{to_c}, regex_rewrite: {{substitution: a}}}}"),
            "error: .route.regex_rewrite: the key `pattern` is missing",
        ),
        (
            &format!("{to_c}, retry_policy: {{retry_on: sometimes}}}}"),
            "error: .route.retry_policy.retry_on: `sometimes` is no condition for a retry",
        ),
        (
            &format!("{to_c}, retry_policy: {{status_codes: [5]}}}}"),
            "error: .route.retry_policy.status_codes[0]: a status code is expected",
        ),
        (
            &format!("{to_c}, hash_policy: [{{header: {{key: a}}, source_ip: {{}}}}]}}"),
            "error: .route.hash_policy[0]: exactly one of `header`, `cookie` and `source_ip` is expected",
        ),
        (
            &format!("{to_c}, hash_policy: [{{cookie: {{name: a, path: '/;b'}}}}]}}"),
            "error: .route.hash_policy[0].cookie: a cookie's path holds no `;` and no control characters",
        ),
        (
            &format!("{to_c}}}, request_headers_to_add: [{{header: {{key: Content-Length, value: '1'}}}}]"),
            "error: .request_headers_to_add[0].header.key: `content-length` is written by the gateway itself: it can't be changed",
        ),
        (
            &format!("{to_c}}}, request_headers_to_add: [{{header: {{key: Host, value: a}}}}]"),
            "error: .request_headers_to_add: the Host field is not added",
        ),
        (
            &format!("{to_c}}}, request_headers_to_add: [{{header: {{key: a, value: \"b\\nc\"}}}}]"),
            "error: .request_headers_to_add[0].header.value: a field's value holds no control characters",
        ),
        (
            &format!("{to_c}}}, request_headers_to_add: [{{header: {{key: a, value: '%request_metod%'}}}}]"),
            "error: .request_headers_to_add[0].header.value: there is no variable `request_metod`",
        ),
        (
            &format!("{to_c}}}, request_headers_to_add: [{{header: {{key: a, value: '%response_code%'}}}}]"),
            "error: .request_headers_to_add: a variable of the answer, which is not known when the request leaves",
        ),
        (
            &format!("{to_c}}}, request_headers_to_remove: [host]"),
            "error: .request_headers_to_remove: every request has a Host field: it can't be taken away",
        ),
        (
            &format!("{to_c}}}, request_mirror_policies: {{cluster: d, percent: 5}}"),
            "error: .request_mirror_policies.cluster: there is no cluster `d`",
        ),
        (
            "redirect: {response_code: 200, path_redirect: /a}",
            "error: .redirect.response_code: 200 is no status of a redirect",
        ),
        ("redirect: {path_redirect: a}", "error: .redirect: `a` is no path"),
        ("redirect: {scheme_redirect: 'a:'}", "error: .redirect: `a:` is no scheme"),
        ("redirect: {response_code: 301}", "error: .redirect: a redirect to where the request was"),
    ] {
        let (config, told) = read(route);
        assert!(told.iter().any(|line| line == report), "{route}\n  expected: {report}\n  told: {told:#?}");
        assert_eq!(config.is_none(), report.starts_with("error"), "{route}: {told:?}");
    }
}

#[test]
fn what_is_written_right_is_taken_without_a_word() {
    let (config, told) = read(
        "match: {prefix: /a, headers: [{name: x, value: y}, {name: method, value: GET}]}, \
         route: {cluster_name: c, timeout: 5s, prefix_rewrite: /, auto_host_rewrite: true, \
           retry_policy: {retry_on: 'gateway-error, reset', num_retries: 2, retry_timeout: 1s, \
             retry_back_off: {base_interval: 5ms}, retry_budget: {budget_percent: 10}}, \
           hash_policy: [{cookie: {name: sid, path: /, ttl: 1h}}], \
           metadata_match: {filter_metadata: {mosn.lb: {zone: a}}}}, \
         request_headers_to_add: [{header: {key: X-A, value: '%request_method% at 100%'}, append: false}], \
         response_headers_to_remove: [server], request_mirror_policies: {cluster: c, percent: 5}",
    );
    assert!(told.is_empty(), "{told:?}");
    let config = config.unwrap();
    let route = &config.server.routers[0].virtual_hosts[0].routes[0];
    let RouteAction::Forward(forward) = &route.action else { panic!("{route:?}") };
    assert_eq!(route.matching.path, PathMatch::Prefix("/a".into()));
    assert_eq!((route.matching.fields.len(), route.matching.variables.len()), (1, 1));
    let retry = &forward.retry;
    assert!(retry.on.reset && retry.on.gateway_errors && !retry.on.timeout && retry.takes_status(503));
    assert_eq!((retry.back_off_base.as_millis(), retry.back_off_max.as_millis()), (5, 50));
    assert_eq!((retry.budget_percent, retry.budget_min), (10, 3));
    assert_eq!(forward.metadata.as_ref().unwrap().get("zone"), Some("a"));
    assert_eq!((route.edits.request_add[0].name.as_str(), route.edits.response_remove.len()), ("x-a", 1));
}
