//! `cluster_manager`.
//!
//! **Invariant:** a balancer that is not here is replaced only where requests still go to hosts that are meant for them.

use super::tls;
use crate::config::reader::{Fields, Reader};
use crate::config::schema::{Balancing, Cluster, Host, TlsContext};
use crate::config::tree::Node;
use crate::net::Address;

pub(super) fn cluster_manager(r: &mut Reader, node: &Node) -> Option<Vec<Cluster>> {
    let fields = r.map(node, "cluster_manager")?;
    let shared = fields.with(r, "tls_context", tls::client);
    Some(fields.list(r, "clusters", |r, node| cluster(r, node, shared.as_ref())))
}

fn cluster(r: &mut Reader, node: &Node, shared: Option<&TlsContext>) -> Option<Cluster> {
    let fields = r.map(node, "cluster")?;
    let name = fields.required(r, "name");
    fields.with(r, "type", kind);
    let balancing = fields.with(r, "lb_type", balancing).unwrap_or_default();
    let hosts = fields.list(r, "hosts", host);
    if fields.get("hosts").is_none_or(Node::is_neutral) {
        r.warn(node.place, "a cluster without hosts: its requests are answered with 503", "");
    }
    Some(Cluster {
        balancing,
        connect_timeout: fields.duration(r, "connect_timeout"),
        idle_timeout: fields.duration(r, "idle_timeout"),
        conns_max: conns_max(r, &fields),
        tls: cluster_tls(r, &fields, shared),
        hosts,
        origin: r.origin(node.place),
        name: name?,
    })
}

fn kind(r: &mut Reader, node: &Node) -> Option<()> {
    let text = r.text(node)?;
    let message = match text.as_str() {
        "SIMPLE" | "STATIC" => return Some(()),
        "STRICT_DNS" => "hosts are not looked up by name yet",
        "DYNAMIC" | "EDS" => "hosts are not fetched from a control plane yet",
        "ORIGINAL_DST" => "requests are not sent where they were going yet",
        _ => "is not known here",
    };
    r.error(node.place, format!("`{text}`: {message}"), "write SIMPLE, and the hosts as IP addresses");
    None
}

fn balancing(r: &mut Reader, node: &Node) -> Option<Balancing> {
    let text = r.text(node)?;
    match text.as_str() {
        "LB_ROUNDROBIN" => {}
        "LB_RANDOM" | "LB_WEIGHTED_ROUNDROBIN" | "LB_LEAST_REQUEST" | "LB_LEAST_CONNECTION" | "LB_PEAK_EWMA" => {
            r.warn(node.place, format!("`{text}` has no function yet: round robin is used"), "");
        }
        "LB_MAGLEV" => {
            r.error(node.place, "`LB_MAGLEV` has no function yet: requests of one key would go to different hosts", "");
        }
        "LB_REQUEST_ROUNDROBIN" => {
            r.error(node.place, "`LB_REQUEST_ROUNDROBIN` has no function yet: stand-by hosts would get requests", "");
        }
        "LB_ORIGINAL_DST" => {
            r.error(
                node.place,
                "`LB_ORIGINAL_DST` has no function yet: requests would not go where they were going",
                "",
            );
        }
        _ => r.warn(node.place, format!("`{text}` is not known: round robin is used, as in MOSN"), ""),
    }
    Some(Balancing::RoundRobin)
}

fn conns_max(r: &mut Reader, fields: &Fields<'_>) -> Option<u32> {
    let breakers = fields.list(r, "circuit_breakers", |r, node| {
        let fields = r.map(node, "circuit_breaker")?;
        Some((fields.number(r, "max_connections", 0..=u64::from(u32::MAX)), node.place))
    });
    if let Some((_, place)) = breakers.get(1) {
        r.at("circuit_breakers", |r| r.warn(*place, "only the first entry counts", ""));
    }
    breakers.first().and_then(|(max, _)| *max).filter(|max| *max > 0)
}

fn cluster_tls(r: &mut Reader, fields: &Fields<'_>, shared: Option<&TlsContext>) -> Option<TlsContext> {
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
    Some(Host { address: address?, hostname: fields.text(r, "hostname").unwrap_or_default() })
}
