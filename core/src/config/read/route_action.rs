//! `route` and `redirect`, and what belongs to them.
//!
//! **Invariant:** what a rewrite or a redirect is given is checked here, so that nothing it makes is no request target and no host.

use std::time::Duration;

use super::edits::{field_name, is_token};
use super::route_match::{known, pattern};
use crate::config::reader::{Fields, Reader};
use crate::config::schema::{
    ClusterChoice, Forward, HashPolicy, HostRewrite, MetadataMatch, MirrorPolicy, PathRewrite, Redirect, RetryOn,
    RetryPolicy, RouteAction, RouteTimeout, RpcProtocol, UpstreamProtocol, Variable, WeightedCluster,
};
use crate::config::tree::{Node, Value};

/// The keys of `route` that say where a request goes, and how.
pub(super) fn forward(r: &mut Reader, fields: &Fields<'_>) -> Option<RouteAction> {
    let timeout = match fields.signed_duration(r, "timeout") {
        None => RouteTimeout::Default,
        Some((true, _)) => RouteTimeout::Never,
        Some((false, d)) if d.is_zero() => RouteTimeout::Default,
        Some((false, d)) => RouteTimeout::After(d),
    };
    let (retry, try_timeout) = fields.with(r, "retry_policy", retry).unwrap_or_default();
    let metadata = fields.with(r, "metadata_match", metadata);
    let path_rewrite = path_rewrite(r, fields);
    let host_rewrite = host_rewrite(r, fields);
    let hashes = fields.list(r, "hash_policy", hash);
    if hashes.len() > 1 {
        let message = "only the first entry counts";
        fields.report(r, "hash_policy", |r, node| r.warn(node.place, message, ""));
    }
    let hash = hashes.into_iter().next();
    let cluster = cluster(r, fields)?;
    let protocol = fields.choice(r, "upstream_protocol", UPSTREAM_PROTOCOLS);
    let forward =
        Forward { cluster, timeout, try_timeout, retry, path_rewrite, host_rewrite, hash, metadata, protocol };
    Some(RouteAction::Forward(Box::new(forward)))
}

fn cluster(r: &mut Reader, fields: &Fields<'_>) -> Option<ClusterChoice> {
    let weighted = fields.get("weighted_clusters").filter(|n| !n.is_neutral());
    let name = fields.text(r, "cluster_name");
    if let Some(node) = weighted {
        if name.is_some() {
            r.warn(node.place, "`weighted_clusters` wins, `cluster_name` has no effect", "keep one of the two");
        }
        let entries = fields.list(r, "weighted_clusters", weighted_cluster);
        if entries.iter().all(|entry| entry.weight == 0) {
            r.error(node.place, "no cluster has a weight: no request could go anywhere", "");
            return None;
        }
        return Some(ClusterChoice::Weighted(entries));
    }
    if let Some(name) = name {
        let origin = fields.with(r, "cluster_name", |r, node| Some(r.origin(node.place))).unwrap_or_default();
        return Some(ClusterChoice::Name { name, origin });
    }
    if let Some(name) = fields.text(r, "cluster_variable") {
        return fields.with(r, "cluster_variable", |r, node| known(r, node, &name)).map(ClusterChoice::Variable);
    }
    match fields.with(r, "cluster_header", field_name) {
        Some(name) => Some(ClusterChoice::Variable(Variable::RequestField(name))),
        None if fields.get("cluster_header").is_some() => None,
        None => {
            fields.required(r, "cluster_name");
            None
        }
    }
}

pub(super) fn weighted_cluster(r: &mut Reader, node: &Node) -> Option<WeightedCluster> {
    let outer = r.map(node, "weighted")?;
    if outer.get("cluster").is_none() {
        outer.missing(r, "cluster");
    }
    outer.with(r, "cluster", |r, node| {
        let fields = r.map(node, "weighted_cluster")?;
        let name = fields.required(r, "name");
        let weight = fields.number(r, "weight", 0..=WEIGHT_MAX).unwrap_or(0);
        let metadata = fields.with(r, "metadata_match", metadata);
        Some(WeightedCluster { name: name?, weight, metadata, origin: r.origin(node.place) })
    })
}

/// `{filter_metadata: {mosn.lb: {KEY: VALUE}}}`.
fn metadata(r: &mut Reader, node: &Node) -> Option<MetadataMatch> {
    let fields = r.map(node, "metadata_match")?;
    let pairs = fields.with(r, "filter_metadata", |r, node| {
        let fields = r.map(node, "filter_metadata")?;
        fields.with(r, "mosn.lb", |r, node| {
            let Value::Map(entries) = &node.value else {
                r.wrong_type(node, "a map");
                return None;
            };
            let pair = |e: &crate::config::tree::Entry| Some((e.key.clone(), r.text(&e.node)?));
            Some(entries.iter().filter_map(pair).collect::<Vec<_>>())
        })
    })?;
    Some(MetadataMatch::new(pairs)).filter(|made| !made.is_empty())
}

fn retry(r: &mut Reader, node: &Node) -> Option<(RetryPolicy, Option<Duration>)> {
    let fields = r.map(node, "retry_policy")?;
    let default = RetryPolicy::default();
    let statuses = fields.list(r, "status_codes", |r, node| match node.value {
        Value::Int(status) if (100..=999).contains(&status) => u16::try_from(status).ok(),
        _ => {
            r.error(node.place, "a status code is expected", "");
            None
        }
    });
    let on = fields.with(r, "retry_on", |r, node| retry_on(r, node, &statuses)).unwrap_or_default();
    let back_off = fields.with(r, "retry_back_off", |r, node| {
        let fields = r.map(node, "retry_back_off")?;
        let base = fields.duration(r, "base_interval").unwrap_or(default.back_off_base);
        Some((base, fields.duration(r, "max_interval").unwrap_or(base * 10)))
    });
    let budget = fields.with(r, "retry_budget", |r, node| {
        let fields = r.map(node, "retry_budget")?;
        let percent = fields.number(r, "budget_percent", 0..=100).unwrap_or(default.budget_percent);
        Some((percent, fields.number(r, "min_retry_concurrency", 0..=10_000).unwrap_or(default.budget_min)))
    });
    let (back_off_base, back_off_max) = back_off.unwrap_or((default.back_off_base, default.back_off_max));
    let (budget_percent, budget_min) = budget.unwrap_or((default.budget_percent, default.budget_min));
    let policy = RetryPolicy {
        on,
        statuses,
        retries_max: fields.number(r, "num_retries", 0..=RETRIES_MAX).unwrap_or(default.retries_max),
        non_idempotent: fields.boolean(r, "retry_non_idempotent").unwrap_or(false),
        back_off_base,
        back_off_max: back_off_max.max(back_off_base),
        budget_percent,
        budget_min,
    };
    let timeout = fields.signed_duration(r, "retry_timeout").filter(|(negative, d)| !negative && !d.is_zero());
    Some((policy, timeout.map(|(_, d)| d)))
}

/// MOSN's `true`, or a list of conditions as Envoy has them.
fn retry_on(r: &mut Reader, node: &Node, statuses: &[u16]) -> Option<RetryOn> {
    let text = match &node.value {
        Value::Bool(true) => {
            let listed = !statuses.is_empty();
            return Some(RetryOn { reset: true, timeout: true, server_errors: !listed, listed, ..RetryOn::default() });
        }
        Value::Bool(false) => return None,
        _ => r.text(node)?,
    };
    let mut on = RetryOn { listed: !statuses.is_empty(), ..RetryOn::default() };
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match word {
            "5xx" => (on.server_errors, on.reset, on.timeout) = (true, true, true),
            "gateway-error" => on.gateway_errors = true,
            "reset" => on.reset = true,
            "per-try-timeout" => on.timeout = true,
            "retriable-4xx" => on.conflict = true,
            "retriable-status-codes" => on.listed = true,
            // Always in force.
            "connect-failure" | "refused-stream" => {}
            other => {
                let remedy = "true, or some of 5xx, gateway-error, reset, per-try-timeout, retriable-4xx, \
                              retriable-status-codes, connect-failure";
                r.error(node.place, format!("`{other}` is no condition for a retry"), remedy);
            }
        }
    }
    Some(on)
}

fn path_rewrite(r: &mut Reader, fields: &Fields<'_>) -> Option<PathRewrite> {
    let prefix = fields.text(r, "prefix_rewrite");
    let regex = fields.with(r, "regex_rewrite", |r, node| {
        let fields = r.map(node, "regex_rewrite")?;
        if fields.get("pattern").is_none() {
            fields.missing(r, "pattern");
        }
        let pattern = fields.with(r, "pattern", |r, node| {
            let fields = r.map(node, "pattern")?;
            fields.required(r, "regex")?;
            fields.with(r, "regex", pattern)
        });
        let substitution = fields.text(r, "substitution").unwrap_or_default();
        if substitution.len() > SUBSTITUTION_BYTES_MAX {
            r.error(node.place, format!("a substitution of more than {SUBSTITUTION_BYTES_MAX} bytes"), "");
        }
        Some(PathRewrite::Regex { pattern: pattern?, substitution })
    });
    match (prefix, regex) {
        (Some(prefix), other) => {
            if other.is_some() {
                let message = "`prefix_rewrite` wins, `regex_rewrite` has no effect";
                r.warn(fields.node.place, message, "keep one of the two");
            }
            Some(PathRewrite::Prefix(prefix))
        }
        (None, regex) => regex,
    }
}

fn host_rewrite(r: &mut Reader, fields: &Fields<'_>) -> Option<HostRewrite> {
    let to = fields.text(r, "host_rewrite");
    let field = fields.text(r, "auto_host_rewrite_header");
    let auto = fields.boolean(r, "auto_host_rewrite").unwrap_or(false);
    if let Some(host) = to {
        return fields.with(r, "host_rewrite", |r, node| host_text(r, node, &host)).map(HostRewrite::To);
    }
    match field {
        Some(_) => fields.with(r, "auto_host_rewrite_header", field_name).map(HostRewrite::Field),
        None => auto.then_some(HostRewrite::Upstream),
    }
}

/// `host` or `host:port`, as a request may carry it.
fn host_text(r: &mut Reader, node: &Node, text: &str) -> Option<String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-._~:[]".contains(&b);
    if text.is_empty() || !text.bytes().all(good) {
        r.error(node.place, format!("`{text}` is no host"), "write HOST or HOST:PORT");
        return None;
    }
    Some(text.to_owned())
}

fn hash(r: &mut Reader, node: &Node) -> Option<HashPolicy> {
    let fields = r.map(node, "hash_policy")?;
    let header = fields.with(r, "header", |r, node| {
        let fields = r.map(node, "hash_header")?;
        fields.required(r, "key")?;
        fields.with(r, "key", field_name).map(HashPolicy::Field)
    });
    let cookie = fields.with(r, "cookie", cookie);
    // The key alone says it: its value is an empty map in MOSN.
    let source = node.get("source_ip").map(|_| HashPolicy::SourceIp);
    let all = [&header, &cookie, &source].iter().filter(|policy| policy.is_some()).count();
    if all != 1 {
        r.error(node.place, "exactly one of `header`, `cookie` and `source_ip` is expected", "");
    }
    header.or(cookie).or(source)
}

fn cookie(r: &mut Reader, node: &Node) -> Option<HashPolicy> {
    let fields = r.map(node, "hash_cookie")?;
    let name = fields.required(r, "name")?;
    let path = fields.text(r, "path").unwrap_or_default();
    if !is_token(&name) {
        r.error(node.place, format!("`{name}` is no name of a cookie"), "");
    }
    if path.bytes().any(|b| !(0x20..0x7f).contains(&b) || b == b';') {
        r.error(node.place, "a cookie's path holds no `;` and no control characters", "");
    }
    let ttl = fields.signed_duration(r, "ttl").map(|(_, ttl)| ttl);
    Some(HashPolicy::Cookie { name, path, ttl })
}

/// `redirect`.
pub(super) fn redirect(r: &mut Reader, node: &Node) -> Option<RouteAction> {
    let fields = r.map(node, "redirect")?;
    let status = match fields.number(r, "response_code", 0..=999) {
        None | Some(0) => 301,
        Some(status @ (301 | 302 | 303 | 307 | 308)) => status,
        Some(other) => {
            let message = format!("{other} is no status of a redirect");
            fields.report(r, "response_code", |r, node| r.error(node.place, message, "301, 302, 303, 307 or 308"));
            301
        }
    };
    let scheme = fields.text(r, "scheme_redirect").map(|scheme| scheme.to_ascii_lowercase());
    if let Some(scheme) = &scheme {
        let tail = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b);
        if !scheme.starts_with(|c: char| c.is_ascii_lowercase()) || !scheme.bytes().all(tail) {
            r.error(node.place, format!("`{scheme}` is no scheme"), "");
        }
    }
    let host = fields.text(r, "host_redirect");
    let host = host.and_then(|host| fields.with(r, "host_redirect", |r, node| host_text(r, node, &host)));
    let path = fields.text(r, "path_redirect");
    if let Some(path) = path.as_ref().filter(|p| !p.starts_with('/') || !p.bytes().all(|b| (0x21..0x7f).contains(&b))) {
        r.error(node.place, format!("`{path}` is no path"), "start it with `/`, and percent-encode what is not ASCII");
    }
    if scheme.is_none() && host.is_none() && path.is_none() {
        r.error(node.place, "a redirect to where the request was", "change the scheme, the host or the path");
    }
    Some(RouteAction::Redirect(Redirect { status, scheme, host, path }))
}

/// `request_mirror_policies`.
pub(super) fn mirror(r: &mut Reader, node: &Node) -> Option<MirrorPolicy> {
    let fields = r.map(node, "mirror")?;
    let percent = fields.number(r, "percent", 0..=100).unwrap_or(0);
    if percent == 0 {
        return None;
    }
    let cluster = fields.required(r, "cluster")?;
    let origin = fields.with(r, "cluster", |r, node| Some(r.origin(node.place))).unwrap_or_default();
    Some(MirrorPolicy { cluster, percent, origin })
}

/// What origins can be asked in.
pub(super) const UPSTREAM_PROTOCOLS: &[(&str, UpstreamProtocol)] = &{
    let mut all = [("Auto", UpstreamProtocol::LikeClient); 3 + RpcProtocol::COUNT];
    all[0] = ("Http1", UpstreamProtocol::Http1);
    all[1] = ("Http2", UpstreamProtocol::Http2);
    let mut at = 0;
    while at < RpcProtocol::COUNT {
        let protocol = RpcProtocol::ALL[at];
        all[3 + at] = (protocol.name(), UpstreamProtocol::Rpc(protocol));
        at += 1;
    }
    all
};

/// The largest weight of a cluster.
const WEIGHT_MAX: u64 = 1 << 24;

/// Retries of one request, at most.
const RETRIES_MAX: u64 = 100;

/// What a match may be replaced with, in bytes, at most.
const SUBSTITUTION_BYTES_MAX: usize = 4096;
