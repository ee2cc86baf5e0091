//! `cluster_manager`.
//!
//! **Invariant:** a balancer or type that is not here is refused, never replaced by another.

use std::net::IpAddr;
use std::sync::Arc;

use super::balancing::{balancing, metadata, slow_start, subsets};
use super::{dns, health, tls};
use crate::config::Address;
use crate::config::keys::CLUSTER_TYPES;
use crate::config::reader::{Fields, Reader};
use crate::config::schema::{Breakers, Cluster, Host, Keepalive, RpcPool, Source, Target, TlsConfig};
use crate::config::tree::Node;

pub(super) fn cluster_manager(r: &mut Reader, node: &Node) -> Option<Vec<Arc<Cluster>>> {
    let fields = r.map(node, "cluster_manager")?;
    let shared = fields.with(r, "tls_context", tls::client);
    let locality = fields.text(r, "locality").unwrap_or_default();
    Some(fields.list(r, "clusters", |r, node| cluster(r, node, shared.as_ref(), &locality).map(Arc::new)))
}

fn cluster(r: &mut Reader, node: &Node, shared: Option<&TlsConfig>, locality: &str) -> Option<Cluster> {
    let fields = r.map(node, "cluster")?;
    let name = fields.required(r, "name");
    let source = source(r, &fields);
    let hosts = fields.list(r, "hosts", host);
    if matches!(source, Source::Static) && fields.get("hosts").is_none_or(Node::is_neutral) {
        r.warn(node.place, "a cluster without hosts: its requests are answered with 503", "");
    }
    Some(Cluster {
        source,
        dns: dns::dns(r, &fields),
        balancing: balancing(r, &fields),
        subsets: fields.with(r, "lb_subset_config", subsets),
        slow_start: fields.with(r, "slow_start", slow_start),
        panic_percent: health::percent(r, &fields, "panic_threshold").unwrap_or(0),
        connect_timeout: fields.duration(r, "connect_timeout"),
        idle_timeout: fields.duration(r, "idle_timeout"),
        requests_per_conn_max: fields.number(r, "max_request_per_conn", COUNT).filter(|max| *max > 0),
        conn_age_max: fields.duration(r, "max_connection_duration"),
        keepalive: fields.with(r, "keepalive", keepalive).unwrap_or_default(),
        rpc_pool: fields.choice(r, "rpc_pool", RPC_POOLS).unwrap_or_default(),
        breakers: breakers(r, &fields),
        health: fields.with(r, "health_check", |r, node| health::health(r, node, name.as_deref().unwrap_or_default())),
        outlier: fields.with(r, "outlier_detection", health::outlier),
        tls: cluster_tls(r, &fields, shared),
        locality: locality.to_owned(),
        hosts: hosts.into(),
        origin: r.origin(node.place),
        name: name?,
    })
}

fn source(r: &mut Reader, fields: &Fields<'_>) -> Source {
    let kind = fields.with(r, "type", |r, node| Some((r.text(node)?, node.place)));
    let original = fields.with(r, "original_dst_lb_config", dns::original_dst);
    match kind.as_ref().map_or("", |(kind, _)| kind.as_str()).to_ascii_uppercase().as_str() {
        "" | "SIMPLE" | "STATIC" | "STRICT_DNS" => Source::Static,
        "DYNAMIC" => Source::Dynamic,
        "ORIGINAL_DST" => Source::OriginalDst(original.unwrap_or_default()),
        other => {
            let place = kind.as_ref().map_or(fields.node.place, |(_, place)| *place);
            r.at("type", |r| r.variant(place, "cluster type", other, CLUSTER_TYPES));
            Source::Static
        }
    }
}

fn keepalive(r: &mut Reader, node: &Node) -> Option<Keepalive> {
    let (fields, default) = (r.map(node, "keepalive")?, Keepalive::default());
    let mut positive = |key, default| fields.duration(r, key).filter(|found| !found.is_zero()).unwrap_or(default);
    Some(Keepalive { interval: positive("interval", default.interval), timeout: positive("timeout", default.timeout) })
}

fn breakers(r: &mut Reader, fields: &Fields<'_>) -> Breakers {
    let found = fields.list(r, "circuit_breakers", |r, node| {
        let fields = r.map(node, "circuit_breaker")?;
        // 0 is no limit, as in MOSN.
        let mut max = |key| fields.number(r, key, COUNT).filter(|max| *max > 0);
        let breakers = Breakers {
            conns_max: max("max_connections"),
            pending_max: max("max_pending_requests"),
            requests_max: max("max_requests"),
            retries_max: max("max_retries"),
        };
        Some((breakers, node.place))
    });
    if let Some((_, place)) = found.get(1) {
        r.at("circuit_breakers", |r| r.warn(*place, "only the first entry counts", ""));
    }
    found.first().map(|(breakers, _)| *breakers).unwrap_or_default()
}

fn cluster_tls(r: &mut Reader, fields: &Fields<'_>, shared: Option<&TlsConfig>) -> Option<TlsConfig> {
    let own = fields.with(r, "tls_context", tls::client);
    if !fields.boolean(r, "cluster_manager_tls").unwrap_or(false) {
        return own;
    }
    if shared.is_none() {
        let message =
            "`cluster_manager_tls`, but the `tls_context` of `cluster_manager` is off: requests would go in plain text";
        r.error(fields.node.place, message, "write that `tls_context`");
    }
    shared.cloned()
}

fn host(r: &mut Reader, node: &Node) -> Option<Host> {
    let fields = r.map(node, "host")?;
    let text = fields.required(r, "address")?;
    let target = fields.with(r, "address", |r, node| target(r, node, &text));
    let weight = fields.number(r, "weight", COUNT).unwrap_or(1);
    Some(Host {
        // As in MOSN: what is out of the range is brought into it.
        weight: u32::clamp(weight, 1, WEIGHT_MAX),
        hostname: fields.text(r, "hostname").unwrap_or_default(),
        metadata: fields.with(r, "metadata", metadata).map(Arc::new),
        plain: fields.boolean(r, "tls_disable").unwrap_or(false),
        priority: fields.number(r, "priority", 0..=PRIORITY_MAX).unwrap_or(0),
        locality: fields.text(r, "locality").unwrap_or_default(),
        target: target?,
    })
}

fn target(r: &mut Reader, node: &Node, text: &str) -> Option<Target> {
    match text.parse::<Address>() {
        Ok(Address::Inet(a)) if a.port() == 0 => {
            r.error(node.place, "a host without a port", "write IP:PORT");
            None
        }
        Ok(address) => Some(Target::Address(address)),
        Err(error) => {
            let named = text.rsplit_once(':').and_then(|(name, port)| Some((name, port.parse::<u16>().ok()?)));
            match named {
                Some((name, port)) if port > 0 && dns::is_name(name) && !looks_like_ip(name) => {
                    Some(Target::Name(name.to_ascii_lowercase().into(), port))
                }
                _ => {
                    r.error(node.place, format!("`{text}` is no address"), format!("{error}, or NAME:PORT"));
                    None
                }
            }
        }
    }
}

/// A mistyped IPv4 address is not asked for in the DNS: no top-level domain is a number (RFC 3696, 2).
fn looks_like_ip(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok() || name.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()))
}

/// The values of `rpc_pool`.
const RPC_POOLS: &[(&str, RpcPool)] =
    &[("multiplexed", RpcPool::Multiplexed), ("ping_pong", RpcPool::PingPong), ("bound", RpcPool::Bound)];

/// The largest weight of a host.
const WEIGHT_MAX: u32 = 128;

/// The highest priority number.
const PRIORITY_MAX: u64 = 127;

const COUNT: std::ops::RangeInclusive<u64> = 0..=u32::MAX as u64;
