//! Stream filters as users write them: each alone in front of an origin, and for one route only.

mod fault;
mod flow_control;
mod gzip;
mod header_to_metadata;
mod ip_access;
mod mirror;
mod payload_limit;
mod transcoder;

use test_support::{Config, Gateway, Origin};

use crate::stage::{Plane, Stage};

/// In front of `origin`, with these stream filters (a list of YAML) and, before the route to the origin, these others.
fn config(origin: &Origin, filters: &str, routes: &[&str]) -> Config {
    let config = Config::proxy_to(&[origin.address()]).listener(&format!("stream_filters: {filters}"));
    routes.iter().fold(config, |config, route| config.route(route))
}

fn start(origin: &Origin, filters: &str, routes: &[&str]) -> Stage {
    Plane::Kernel.start(config(origin, filters, routes)).expect("always there")
}

/// The value of a metric, added up over its labels that hold `with`.
fn metric(gateway: &Gateway, name: &str, with: &str) -> u64 {
    let text = gateway.admin("/metrics").text();
    let lines = text.lines().filter(|l| l.starts_with(name) && l.contains(with));
    lines.filter_map(|l| l.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}
