//! `health_check` and `outlier_detection`.
//!
//! **Invariant:** a section that is there switches its function on; what it does not say has the default of the reference.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::reader::{Fields, Reader};
use crate::config::schema::{GrpcProbe, Health, HttpProbe, Outlier, Probe, SuccessRate};
use crate::config::tree::{Node, Value};

pub(super) fn health(r: &mut Reader, node: &Node, cluster: &str) -> Option<Health> {
    if node.is_neutral() {
        return None;
    }
    let f = r.map(node, "health_check")?;
    let d = Health::default();
    let protocol = f.text(r, "protocol").unwrap_or_default();
    let mut timeout = f.duration(r, "timeout");
    let (mut page, mut service) = (None, None);
    if let Some(node) = f.get("check_config") {
        r.at("check_config", |r| {
            let Some(f) = r.map(node, "check_config") else { return };
            page = f.with(r, "http_check_config", |r, node| http(r, node, &mut timeout));
            service = f.with(r, "grpc_check_config", grpc);
        });
    }
    let probe = match protocol.to_ascii_lowercase().as_str() {
        "http1" => Probe::Http(page.unwrap_or_default()),
        "http2" => Probe::Http2(page.unwrap_or_default()),
        "grpc" => Probe::Grpc(service.unwrap_or_default()),
        _ => Probe::Tcp,
    };
    let states = [("healthy", false), ("unhealthy", true), ("", false)];
    Some(Health {
        probe,
        timeout: timeout.unwrap_or(d.timeout),
        interval: f.duration(r, "interval").unwrap_or(d.interval),
        jitter: f.duration_or_none(r, "interval_jitter").unwrap_or(d.jitter),
        initial_delay: f.duration_or_none(r, "initial_delay_seconds").unwrap_or(d.initial_delay),
        healthy_threshold: f.number(r, "healthy_threshold", 0..=1000).unwrap_or(d.healthy_threshold).max(1),
        unhealthy_threshold: f.number(r, "unhealthy_threshold", 0..=1000).unwrap_or(d.unhealthy_threshold).max(1),
        starts_unhealthy: f.choice(r, "initial_state", &states).unwrap_or(d.starts_unhealthy),
        service: f.text(r, "service_name").unwrap_or_else(|| cluster.to_owned()),
    })
}

fn http(r: &mut Reader, node: &Node, timeout: &mut Option<Duration>) -> Option<HttpProbe> {
    let f = r.map(node, "http_check")?;
    let d = HttpProbe::default();
    // The narrower one counts: a probe has one time.
    if let Some(own) = f.duration(r, "timeout") {
        *timeout = Some(timeout.map_or(own, |t| t.min(own)));
    }
    f.choice(r, "scheme", &[("http", ()), ("", ())]);
    let codes = f.list(r, "codes", |r, node| {
        let f = r.map(node, "codes")?;
        if f.get("Start").is_none() {
            f.missing(r, "Start");
        }
        let start = f.number(r, "Start", 100..=599)?;
        Some(start..=f.number(r, "End", u64::from(start)..=599).unwrap_or(start))
    });
    Some(HttpProbe {
        port: f.number(r, "port", 0..=65535).filter(|port| *port != 0),
        method: f.with(r, "method", token).unwrap_or(d.method),
        path: f.with(r, "path", target).unwrap_or(d.path),
        domain: f.with(r, "domain", visible).unwrap_or_default(),
        codes: if codes.is_empty() { d.codes } else { codes },
    })
}

fn grpc(r: &mut Reader, node: &Node) -> Option<GrpcProbe> {
    let f = r.map(node, "grpc_check")?;
    Some(GrpcProbe {
        port: f.number(r, "port", 0..=65535).filter(|port| *port != 0),
        service: f.text(r, "service_name").unwrap_or_default(),
        authority: f.with(r, "authority", visible).unwrap_or_default(),
    })
}

pub(super) fn outlier(r: &mut Reader, node: &Node) -> Option<Outlier> {
    let f = r.map(node, "outlier_detection")?;
    let d = Outlier::default();
    let mut count = |key, default: Option<u32>| match f.number(r, key, 0..=COUNT_MAX) {
        None => default,
        Some(n) => Some(n).filter(|n: &u32| *n > 0),
    };
    let errors = count("consecutive_5xx", d.errors);
    let gateway_errors = count("consecutive_gateway_failure", d.gateway_errors);
    let no_answers = count("consecutive_local_origin_failure", d.no_answers);
    let stdev = count("success_rate_stdev_factor", None);
    let hosts_min = count("success_rate_minimum_hosts", Some(5));
    let requests_min = count("success_rate_request_volume", Some(100));
    let ejection = f.duration(r, "base_ejection_time").unwrap_or(d.ejection);
    Some(Outlier {
        errors,
        gateway_errors,
        no_answers,
        rate: stdev.map(|stdev_thousandths| SuccessRate {
            hosts_min: hosts_min.unwrap_or(1),
            requests_min: requests_min.unwrap_or(1),
            stdev_thousandths,
        }),
        interval: f.duration(r, "interval").unwrap_or(d.interval),
        ejection,
        ejection_max: f.duration(r, "max_ejection_time").unwrap_or(d.ejection_max).max(ejection),
        ejected_percent_max: f.number(r, "max_ejection_percent", PERCENT).unwrap_or(d.ejected_percent_max),
    })
}

/// A text that can stand in the start line of a request (RFC 9112, 3): no space, no control character.
fn token(r: &mut Reader, node: &Node) -> Option<String> {
    let text = visible(r, node)?;
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        r.error(node.place, format!("`{text}` is no method"), "");
        return None;
    }
    Some(text)
}

fn target(r: &mut Reader, node: &Node) -> Option<String> {
    let text = visible(r, node)?;
    if !text.starts_with('/') {
        r.error(node.place, format!("`{text}` is no path"), "begin it with `/`");
        return None;
    }
    Some(text)
}

fn visible(r: &mut Reader, node: &Node) -> Option<String> {
    if matches!(&node.value, Value::Text(t) if t.is_empty()) {
        return None;
    }
    let text = r.text(node)?;
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        r.error(node.place, format!("`{text}` has a character that can't stand there"), "write visible ASCII");
        return None;
    }
    Some(text)
}

pub(super) fn percent(r: &mut Reader, fields: &Fields<'_>, key: &str) -> Option<u32> {
    fields.number(r, key, PERCENT)
}

const PERCENT: RangeInclusive<u64> = 0..=100;

/// Answers or hosts, at most.
const COUNT_MAX: u64 = 1_000_000;
