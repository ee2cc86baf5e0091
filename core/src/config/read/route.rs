//! Routers, virtual hosts and routes.
//!
//! **Invariant:** a route that could take requests it is not meant for is an error.

use std::collections::HashMap;

use super::edits::edits;
use super::{filter, route_action, route_match};
use crate::config::diagnostic::Place;
use crate::config::reader::{Fields, Reader};
use crate::config::schema::{
    Domain, HostPattern, Match, PathMatch, PathRewrite, PortPattern, Route, RouteAction, RouterConfig, VirtualHost,
};
use crate::config::tree::{Node, Value};

pub(super) fn router(r: &mut Reader, node: &Node) -> Option<RouterConfig> {
    let fields = r.map(node, "router")?;
    let name = fields.required(r, "router_config_name");
    let virtual_hosts = virtual_hosts(r, &fields);
    if fields.get("virtual_hosts").is_none_or(Node::is_neutral) && fields.get("router_configs").is_none() {
        r.error(node.place, "no virtual host", "write at least one under `virtual_hosts`");
    }
    let edits = edits(r, &fields);
    Some(RouterConfig { name: name?, virtual_hosts, edits, origin: r.origin(node.place) })
}

/// `virtual_hosts` of a router or a listener.
pub(super) fn virtual_hosts(r: &mut Reader, fields: &Fields<'_>) -> Vec<VirtualHost> {
    duplicate_domains(r, fields);
    fields.list(r, "virtual_hosts", virtual_host)
}

fn virtual_host(r: &mut Reader, node: &Node) -> Option<VirtualHost> {
    let fields = r.map(node, "virtual_host")?;
    let first = node.get("domains").and_then(|d| texts(d).next()).map_or("*", |(text, _)| text);
    let name = fields.text(r, "name").unwrap_or_else(|| first.to_owned());
    let domains = match fields.get("domains") {
        None => every_domain(),
        Some(list) => {
            if texts(list).next().is_none() {
                r.at("domains", |r| r.error(list.place, "no domain", "write hosts, or \"*\" for every host"));
            }
            fields.list(r, "domains", |r, node| {
                let text = r.text(node)?;
                text.parse().map_err(|error| r.error(node.place, format!("`{text}`: {error}"), "")).ok()
            })
        }
    };
    let routes = fields.list(r, "routers", route);
    if fields.get("routers").is_none() {
        r.warn(node.place, "a virtual host without routes answers everything with 404", "");
    }
    let filters = fields.with(r, "per_filter_config", filter::per_filter).unwrap_or_default();
    Some(VirtualHost { name, domains, routes, edits: edits(r, &fields), filters })
}

/// What `domains` is when it is absent.
pub(super) fn every_domain() -> Vec<Domain> {
    vec![Domain { host: HostPattern::Default, port: PortPattern::Absent }]
}

pub(super) fn route(r: &mut Reader, node: &Node) -> Option<Route> {
    let fields = r.map(node, "route")?;
    let name = fields.text(r, "name").unwrap_or_default();
    let matching = match fields.get("match") {
        None => Some(Match::default()),
        Some(node) => r.at("match", |r| route_match::matching(r, node)),
    };
    let actions: Vec<&Node> = ["route", "redirect", "direct_response"]
        .iter()
        .filter_map(|key| node.get(key))
        .filter(|n| !n.is_neutral())
        .collect();
    match actions.as_slice() {
        [] => r.error(node.place, "the route does nothing", "write `route`, `redirect` or `direct_response`"),
        [_] => {}
        [_, second, ..] => {
            r.error(second.place, "more than one of `route`, `redirect` and `direct_response`", "keep one")
        }
    }
    let mut edits = edits(r, &fields);
    let mut mirror = fields.with(r, "request_mirror_policies", route_action::mirror);
    let direct = fields.with(r, "direct_response", direct_response);
    let redirect = fields.with(r, "redirect", route_action::redirect);
    let forward = fields.with(r, "route", |r, node| {
        let inner = r.map(node, "route_action")?;
        edits.append(self::edits(r, &inner));
        mirror = mirror.take().or_else(|| inner.with(r, "request_mirror_policies", route_action::mirror));
        route_action::forward(r, &inner)
    });
    let action = direct.or(redirect).or(forward)?;
    if let (Some(matching), RouteAction::Forward(forward)) = (&matching, &action)
        && matching.path == PathMatch::Any
        && matches!(forward.path_rewrite, Some(PathRewrite::Prefix(_)))
    {
        r.warn(node.place, "`prefix_rewrite` has no effect: the route does not match by path", "use `regex_rewrite`");
    }
    let filters = fields.with(r, "per_filter_config", filter::per_filter).unwrap_or_default();
    Some(Route { name, matching: matching?, action, edits, mirror, filters })
}

fn direct_response(r: &mut Reader, node: &Node) -> Option<RouteAction> {
    let fields = r.map(node, "direct_response")?;
    if fields.get("status").is_none() {
        fields.missing(r, "status");
    }
    let status = fields.number(r, "status", 200..=599)?;
    let body = fields.text(r, "body").unwrap_or_default();
    if !body.is_empty() && matches!(status, 204 | 304) {
        r.warn(node.place, format!("a response with status {status} has no body: this one is not sent"), "");
    }
    Some(RouteAction::Direct { status, body })
}

/// Reports a domain that two virtual hosts of a router share: a request could go to either.
fn duplicate_domains(r: &mut Reader, fields: &Fields<'_>) {
    let Some(hosts) = fields.get("virtual_hosts").filter(|n| matches!(n.value, Value::List(_))) else { return };
    let mut seen: HashMap<Domain, Place> = HashMap::new();
    r.at("virtual_hosts", |r| {
        r.each(hosts, |r, host| {
            let listed: Vec<(Domain, Place)> = match host.get("domains") {
                Some(list) => texts(list).filter_map(|(t, place)| Some((t.parse().ok()?, place))).collect(),
                None => every_domain().into_iter().map(|d| (d, host.place)).collect(),
            };
            for (mut domain, place) in listed {
                if domain.host == HostPattern::Default {
                    domain.port = PortPattern::Absent;
                }
                if let Some(first) = seen.get(&domain) {
                    let message = format!("the same domain stands {} already", r.line_of(*first));
                    r.at("domains", |r| r.error(place, message, "remove one of the two"));
                } else {
                    seen.insert(domain, place);
                }
            }
        });
    });
}

fn texts(node: &Node) -> impl Iterator<Item = (&str, Place)> {
    let list = match &node.value {
        Value::List(list) => list.as_slice(),
        _ => &[],
    };
    list.iter().filter_map(|n| match &n.value {
        Value::Text(t) => Some((t.as_str(), n.place)),
        _ => None,
    })
}
