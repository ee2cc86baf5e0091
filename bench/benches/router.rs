//! From a request to its route: many hosts, many routes, and what a pattern or a field costs beside them.
//!
//! Every look-up takes another path than the one before, so that caches and predictors see what a gateway's see.

#[path = "counting/mod.rs"]
mod counting;

use std::fmt::Write;
use std::hint::black_box;
use std::rc::Rc;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use ferrogate_core::config::schema::ClusterId;
use ferrogate_core::config::{Address, Config};
use ferrogate_core::message::{Body, Downstream, Exchange, Head, HttpHead, Request};
use ferrogate_core::router::Router;

fn lookups(c: &mut Criterion) {
    let mut group = c.benchmark_group("route");
    let one = router(&virtual_host("*", 1));
    steady(&mut group, "1 route", &one, &requests(64, |_| ("shop.example".into(), "/anything".into())));

    let hosts: String = (0..200).map(|n| virtual_host(&host(n), 50)).collect();
    let many = router(&hosts);
    let mixed = requests(4096, |n| (host(n * 7 % 200), path(n * 13 % 50)));
    steady(&mut group, "200 hosts x 50 routes", &many, &mixed);

    let big = router(&virtual_host("*", 10_000));
    let all = requests(4096, |n| ("shop.example".into(), path(n * 2_477 % 10_000)));
    steady(&mut group, "10000 routes", &big, &all);
    let escaped = requests(4096, |n| ("shop.example".into(), path(n * 2_477 % 10_000).replacen("/a", "/%61", 1)));
    steady(&mut group, "10000 routes, escapes", &big, &escaped);
    let missed = requests(4096, |n| ("shop.example".into(), format!("/nowhere/{n}")));
    steady(&mut group, "10000 routes, none takes it", &big, &missed);

    // Ten patterns and ten fields stand before all the others, and are asked each time.
    let mut before = String::from("    - name: v\n      domains: ['*']\n      routers:\n");
    for n in 0..10 {
        writeln!(before, "      - {{match: {{regex: '^/x{n}/[0-9]+$'}}, direct_response: {{status: 200}}}}")
            .expect("a string");
        writeln!(before, "      - {{match: {{prefix: /, headers: [{{name: x-env-{n}, value: a}}]}}, direct_response: {{status: 200}}}}")
            .expect("a string");
    }
    let patterns = router(&(before + &routes(10_000)));
    steady(&mut group, "10000 routes behind 10 patterns and 10 fields", &patterns, &all);
    group.finish();
}

/// Looks each request up in turn; a look-up that allocates fails the bench.
fn steady(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, router: &Router, requests: &[Exchange]) {
    // Of a path that is not normal the first look-up makes room for its normal form.
    for x in requests {
        black_box(router.route(x));
    }
    let mut turn = requests.iter().cycle();
    let op = || black_box(router.route(black_box(turn.next().expect("an endless round"))).is_some());
    if let Some(counted) = counting::bench(group, BenchmarkId::new("look-up", name), op) {
        counted.assert_none(name);
    }
}

fn host(n: usize) -> String {
    match n % 4 {
        0 => format!("*.team{n}.example"),
        1 => format!("api-{n}.example:8443"),
        _ => format!("service-{n}.internal.example"),
    }
}

/// Half of the routes match a whole path, half of them a prefix; names are as people give them.
fn path(n: usize) -> String {
    let areas = ["accounts", "billing", "catalogue", "checkout", "search", "sessions", "shipping", "stock"];
    let area = areas[n % areas.len()];
    if n.is_multiple_of(2) { format!("/api/v{}/{area}/resource-{n}", n % 3 + 1) } else { format!("/apps/{area}/{n}/") }
}

fn routes(count: usize) -> String {
    let mut text = String::new();
    for n in 0..count {
        let kind = if n % 2 == 0 { "path" } else { "prefix" };
        writeln!(text, "      - {{name: r{n}, match: {{{kind}: {}}}, route: {{cluster_name: c}}}}", path(n))
            .expect("a string");
    }
    text
}

fn virtual_host(domain: &str, count: usize) -> String {
    let all = if count == 1 { "      - {route: {cluster_name: c}}\n".into() } else { routes(count) };
    format!("    - name: '{domain}'\n      domains: ['{domain}']\n      routers:\n{all}")
}

fn router(virtual_hosts: &str) -> Router {
    let text = format!(
        "servers:\n- routers:\n  - router_config_name: r\n    virtual_hosts:\n{virtual_hosts}\
         cluster_manager: {{clusters: [{{name: c, hosts: [{{address: '127.0.0.1:1'}}]}}]}}\n"
    );
    let (config, _) = Config::parse(&text, "bench").expect("it is written right");
    Router::new(&config.server.routers[0], |_| Some(ClusterId(0)), Duration::from_secs(60)).expect("there is a cluster")
}

/// Requests as a browser sends them, to what `target` says for each.
fn requests(count: usize, target: impl Fn(usize) -> (String, String)) -> Vec<Exchange> {
    let address: Address = "192.0.2.7:4000".parse().expect("an address");
    let downstream = Rc::new(Downstream::new(1, address.clone(), address, true));
    let request = |n| {
        let (host, path) = target(n);
        let below =
            if path.ends_with('/') { "orders/2024-06-04/items?page=3&sort=price" } else { "?page=3&sort=price" };
        let mut head = HttpHead::request("GET", format!("{path}{below}").as_bytes());
        let fields = [
            ("host", host.replacen('*', "www", 1).as_str()),
            ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) Engine/537.36 (KHTML, like Gecko) Browser/126.0.0.0"),
            ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
            ("accept-encoding", "gzip, deflate, br, zstd"),
            ("accept-language", "en-GB,en-US;q=0.9,en;q=0.8"),
            ("cookie", "sid=3f9c1e0b7a5d4e2f8b6a1c0d9e8f7a6b; theme=dark; consent=1.2.3"),
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ("content-type", "application/json"),
        ]
        .map(|(name, value)| assert!(head.append(name, value.as_bytes())));
        assert_eq!(fields.len(), 8);
        Exchange::new(Request { head: Head::Http(head), body: Body::Empty }, Rc::clone(&downstream))
    };
    (0..count).map(request).collect()
}

criterion_group!(benches, lookups);
criterion_main!(benches);
