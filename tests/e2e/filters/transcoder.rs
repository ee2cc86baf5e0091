//! `transcoder`: MOSN's types, rules by a field, and a route's own.

use test_support::Config;
use test_support::process::run;

use crate::bolt::peer::{Frame, Listening};
use crate::stage::{Plane, Stage, on_both_planes};

on_both_planes! {
    rules_say_what_an_origin_is_asked_in,
}

fn ask(stage: &Stage, arguments: &[&str], path: &str) -> String {
    let mut command = stage.client_command("curl");
    command
        .args(["-sS", "--max-time", "20", "--noproxy", "*", "-w", " %{http_code}"])
        .args(arguments)
        .arg(stage.url(path));
    run(&mut command).unwrap_or_else(|e| panic!("{e}"))
}

/// A host of Bolt; whoever asks it in HTTP is cut off.
fn host() -> String {
    let answer = |asked: &Frame| Frame { content: format!("bolt {}", asked.version).into_bytes(), ..asked.answer() };
    Listening::answering(answer).to_string()
}

fn rules_say_what_an_origin_is_asked_in(plane: Plane) {
    let start = |filter: &str, more: &str| {
        let config = Config::proxy_to(&[host()]).protocols("Auto").listener(&format!("stream_filters: [{filter}]"));
        plane.start(config.route(&format!("{{match: {{prefix: /own}}, route: {{cluster_name: origins}}{more}}}")))
    };
    let simple = "{type: transcoder, config: {type: http2bolt_simple, trans: {receiver_phase: 0}}}";
    let Some(stage) = start(simple, "") else { return };
    assert_eq!(ask(&stage, &["--http1.1"], "/"), "bolt 1 200");
    let other = ask(&stage, &["--http2-prior-knowledge", "-o", "/dev/null"], "/");
    assert_eq!(other, " 502", "it is for clients of HTTP/1");
    let rule = |field: &str, to: &str| {
        let matcher = "matcher_type: simpleMatcher, config";
        format!(
            "{{matcher_config: {{{matcher}: {{name: {field}, value: \"1\"}}}}, rule_info: {{upstream_protocol: {to}, description: x, config: {{}}}}}}"
        )
    };
    // A second one that takes no request of HTTP/1 leaves it what the first has said.
    let Some(stage) =
        start(&format!("{simple}, {{type: transcoder, config: {{rules: [{}]}}}}", rule("x-none", "boltv2")), "")
    else {
        return;
    };
    assert_eq!(ask(&stage, &["--http1.1"], "/"), "bolt 1 200");
    let rules =
        format!("{{type: transcoder, config: {{rules: [{}, {}]}}}}", rule("x-one", "bolt"), rule("x-two", "boltv2"));
    let own = ", per_filter_config: {transcoder: {rules: [{rule_info: {upstream_protocol: boltv2}}]}}";
    let Some(stage) = start(&rules, own) else { return };
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        assert_eq!(ask(&stage, &[version, "-H", "x-one: 1"], "/"), "bolt 1 200");
        assert_eq!(ask(&stage, &[version, "-H", "x-two: 1"], "/"), "bolt 2 200");
        assert_eq!(ask(&stage, &[version, "-o", "/dev/null", "-H", "x-one: 2"], "/"), " 502");
        assert_eq!(ask(&stage, &[version], "/own"), "bolt 2 200");
    }
}
