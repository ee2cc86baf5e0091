//! `cluster_manager`.
//!
//! **Invariant:** a balancer that is not here is replaced only where requests still go to hosts that are meant for them.

use super::tls;
use crate::config::Address;
use crate::config::diagnostic::Place;
use crate::config::keys::{BALANCERS, CLUSTER_TYPES};
use crate::config::reader::{Fields, Reader};
use crate::config::schema::{Balancing, Breakers, Cluster, Host, TlsConfig};
use crate::config::tree::Node;

pub(super) fn cluster_manager(r: &mut Reader, node: &Node) -> Option<Vec<Cluster>> {
    let fields = r.map(node, "cluster_manager")?;
    let shared = fields.with(r, "tls_context", tls::client);
    Some(fields.list(r, "clusters", |r, node| cluster(r, node, shared.as_ref())))
}

fn cluster(r: &mut Reader, node: &Node, shared: Option<&TlsConfig>) -> Option<Cluster> {
    let fields = r.map(node, "cluster")?;
    let name = fields.required(r, "name");
    fields.with(r, "type", kind);
    let balancing = fields.with(r, "lb_type", balancing).unwrap_or_default();
    let hosts = fields.list(r, "hosts", host);
    equal_weights(r, &hosts);
    if fields.get("hosts").is_none_or(Node::is_neutral) {
        r.warn(node.place, "a cluster without hosts: its requests are answered with 503", "");
    }
    Some(Cluster {
        balancing,
        connect_timeout: fields.duration(r, "connect_timeout"),
        idle_timeout: fields.duration(r, "idle_timeout"),
        breakers: breakers(r, &fields),
        tls: cluster_tls(r, &fields, shared),
        hosts: hosts.into_iter().map(|(host, _)| host).collect(),
        origin: r.origin(node.place),
        name: name?,
    })
}

fn kind(r: &mut Reader, node: &Node) -> Option<()> {
    let text = r.text(node)?;
    if !["", "SIMPLE", "STATIC"].contains(&text.as_str()) {
        r.variant(node.place, "cluster type", &text, CLUSTER_TYPES);
    }
    Some(())
}

fn balancing(r: &mut Reader, node: &Node) -> Option<Balancing> {
    let text = r.text(node)?;
    if !["", "LB_ROUNDROBIN"].contains(&text.as_str()) {
        r.variant(node.place, "balancer", &text, BALANCERS);
    }
    Some(Balancing::RoundRobin)
}

/// Round robin looks at no weights: says so where they are not all the same.
fn equal_weights(r: &mut Reader, hosts: &[(Host, Place)]) {
    let mut hosts = hosts.iter();
    if let Some((first, _)) = hosts.next()
        && let Some((other, place)) = hosts.find(|(h, _)| h.weight != first.weight)
    {
        let message = format!(
            "weights have no function yet: hosts with {} and {} get the same share",
            first.weight, other.weight
        );
        r.at("hosts", |r| r.warn(*place, message, ""));
    }
}

fn breakers(r: &mut Reader, fields: &Fields<'_>) -> Breakers {
    let found = fields.list(r, "circuit_breakers", |r, node| {
        let fields = r.map(node, "circuit_breaker")?;
        // 0 is no limit, as in MOSN.
        let mut max = |key| fields.number(r, key, 0..=u64::from(u32::MAX)).filter(|max| *max > 0);
        Some((Breakers { conns_max: max("max_connections"), retries_max: max("max_retries") }, node.place))
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

fn host(r: &mut Reader, node: &Node) -> Option<(Host, Place)> {
    let fields = r.map(node, "host")?;
    let text = fields.required(r, "address")?;
    let address = fields.with(r, "address", |r, node| match text.parse::<Address>() {
        Ok(Address::Inet(a)) if a.port() == 0 => {
            r.error(node.place, "a host without a port", "write IP:PORT");
            None
        }
        Ok(address) => Some(address),
        Err(error) => {
            let named = text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            let (message, remedy) = match named {
                true => (
                    "is a name, which needs a cluster of type STRICT_DNS; that is not here yet",
                    "write IP:PORT".into(),
                ),
                false => ("is no address", error.to_string()),
            };
            r.error(node.place, format!("`{text}` {message}"), remedy);
            None
        }
    });
    let weight = fields.number(r, "weight", 0..=u64::from(u32::MAX)).unwrap_or(1);
    // As in MOSN: what is out of the range is brought into it.
    let host = Host {
        address: address?,
        hostname: fields.text(r, "hostname").unwrap_or_default(),
        weight: u32::clamp(weight, 1, 128),
    };
    Some((host, node.place))
}
