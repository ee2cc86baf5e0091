//! The `tcp_proxy` and `udp_proxy` network filters.
//!
//! **Invariant:** a route that says who it is for is for nobody else: what can't be read is an error, never left out.

use super::route_action::weighted_cluster;
use crate::config::reader::{Fields, Reader};
use crate::config::schema::{
    ClusterChoice, Domain, HostPattern, IpNetwork, PortPattern, ProxyHeader, TcpProxy, TcpRoute, UdpProxy,
};
use crate::config::tree::Node;

pub(super) fn tcp_proxy(r: &mut Reader, node: &Node) -> Option<TcpProxy> {
    let fields = r.map(node, "tcp_proxy")?;
    Some(TcpProxy {
        routes: routes(r, &fields, "connections"),
        idle_timeout: fields.duration(r, "idle_timeout"),
        proxy_header: fields.choice(r, "proxy_protocol", PROXY_HEADERS).flatten(),
        attempts_max: fields.number(r, "max_connect_attempts", 1..=100).unwrap_or(ATTEMPTS_DEFAULT),
    })
}

pub(super) fn udp_proxy(r: &mut Reader, node: &Node) -> Option<UdpProxy> {
    let fields = r.map(node, "udp_proxy")?;
    let routes = routes(r, &fields, "datagrams");
    if routes.iter().any(|route| !route.server_names.is_empty()) {
        r.error(node.place, "`server_names` would fit nobody: nothing looks into datagrams", "leave it out");
    }
    Some(UdpProxy { routes, idle_timeout: fields.duration(r, "idle_timeout") })
}

/// Where what comes in goes: `cluster`, `weighted_clusters` or `routes`.
fn routes(r: &mut Reader, fields: &Fields<'_>, what: &str) -> Vec<TcpRoute> {
    let own = cluster(r, fields, &["cluster"]);
    let mut routes = fields.list(r, "routes", route);
    let given = fields.get("routes").filter(|node| !node.is_neutral());
    match (own, given) {
        (Some(cluster), given) => {
            if let Some(routes) = given {
                let message = "with a cluster of the filter itself the routes have no effect, as in MOSN";
                r.at("routes", |r| {
                    r.warn(routes.place, message, "remove it, and end the routes with one for everybody")
                });
            }
            routes = vec![TcpRoute::everybody(cluster)];
        }
        (None, Some(_)) => {}
        (None, None) => {
            r.error(fields.node.place, format!("{what} would go nowhere"), "write `cluster`, or `routes`");
        }
    }
    routes
}

fn route(r: &mut Reader, node: &Node) -> Option<TcpRoute> {
    let fields = r.map(node, "tcp_route")?;
    let cluster = cluster(r, &fields, &["cluster", "Cluster"]);
    if cluster.is_none() {
        fields.missing(r, "cluster");
    }
    let both = |r: &mut Reader, own: &str, mosn: &str| -> Vec<IpNetwork> {
        let mut all = fields.list(r, own, network);
        all.extend(fields.list(r, mosn, cidr_range));
        all
    };
    let (sources, destinations) =
        (both(r, "source_addrs", "SourceAddrs"), both(r, "destination_addrs", "DestinationAddrs"));
    let ports = |r: &mut Reader, own: &str, mosn: &str| -> Vec<(u16, u16)> {
        let key = if fields.get(own).is_some() { own } else { mosn };
        fields.with(r, key, port_ranges).unwrap_or_default()
    };
    let (source_ports, destination_ports) =
        (ports(r, "source_port", "SourcePort"), ports(r, "destination_port", "DestinationPort"));
    let server_names = fields.list(r, "server_names", server_name);
    Some(TcpRoute { cluster: cluster?, sources, destinations, source_ports, destination_ports, server_names })
}

/// The cluster, under one of these keys, or `weighted_clusters`.
fn cluster(r: &mut Reader, fields: &Fields<'_>, keys: &[&str]) -> Option<ClusterChoice> {
    let named = keys.iter().find_map(|key| Some((*key, fields.text(r, key)?)));
    if let Some(node) = fields.get("weighted_clusters").filter(|node| !node.is_neutral()) {
        if let Some((key, _)) = named {
            r.warn(node.place, format!("`weighted_clusters` wins, `{key}` has no effect"), "keep one of the two");
        }
        let entries = fields.list(r, "weighted_clusters", weighted_cluster);
        if entries.iter().all(|entry| entry.weight == 0) {
            r.error(node.place, "no cluster has a weight: no connection could go anywhere", "");
        }
        return Some(ClusterChoice::Weighted(entries));
    }
    let (key, name) = named?;
    let origin = fields.with(r, key, |r, node| Some(r.origin(node.place))).unwrap_or_default();
    Some(ClusterChoice::Name { name, origin })
}

pub(super) fn network(r: &mut Reader, node: &Node) -> Option<IpNetwork> {
    let text = r.text(node)?;
    let network = IpNetwork::parse(&text);
    if network.is_none() {
        r.error(node.place, format!("`{text}` is no network"), "write an address, or one with its bits: `10.0.0.0/8`");
    }
    network
}

/// `a.example`, `*.example`.
pub(super) fn server_name(r: &mut Reader, node: &Node) -> Option<HostPattern> {
    let text = r.text(node)?;
    let domain: Option<Domain> = text.parse().ok().filter(|d: &Domain| d.port == PortPattern::Absent);
    let pattern = domain.map(|domain| domain.host).filter(|host| match host {
        HostPattern::Default => false,
        HostPattern::Exact(_) => true,
        HostPattern::Suffix(suffix) => suffix.starts_with('.'),
    });
    if pattern.is_none() {
        let remedy = "write a name, or a wildcard: `a.example`, `*.example`";
        r.error(node.place, format!("`{text}` is no name that a client could ask for"), remedy);
    }
    pattern
}

/// `{Address: 10.0.0.0, Length: 8}`.
fn cidr_range(r: &mut Reader, node: &Node) -> Option<IpNetwork> {
    let fields = r.map(node, "cidr_range")?;
    let address = match fields.text(r, "address") {
        Some(address) => address,
        None => fields.required(r, "Address")?,
    };
    let short: Option<u8> = fields.number(r, "length", 0..=128);
    let length = short.or_else(|| fields.number(r, "Length", 0..=128)).unwrap_or(0);
    network_of(r, node, &address, length)
}

/// The network of an address and the number of bits that count.
pub(super) fn network_of(r: &mut Reader, node: &Node, address: &str, length: u8) -> Option<IpNetwork> {
    let network = IpNetwork::parse(&format!("{address}/{length}"));
    if network.is_none() {
        r.error(node.place, format!("`{address}` of {length} bits is no network"), "");
    }
    network
}

/// `80,8000-8999`.
pub(super) fn port_ranges(r: &mut Reader, node: &Node) -> Option<Vec<(u16, u16)>> {
    let text = r.text(node)?;
    let port = |text: &str| text.parse::<u16>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some((port(first.trim())?, port(last.trim())?)).filter(|(first, last)| first <= last)
    };
    let ranges: Option<Vec<_>> = text.split(',').filter(|_| !text.is_empty()).map(|part| range(part.trim())).collect();
    if ranges.is_none() {
        r.error(node.place, format!("`{text}` are no ports"), "write them like `80,8000-8999`");
    }
    ranges
}

const PROXY_HEADERS: &[(&str, Option<ProxyHeader>)] =
    &[("off", None), ("v1", Some(ProxyHeader::V1)), ("v2", Some(ProxyHeader::V2))];

/// Hosts that are tried where the file does not say, as in MOSN.
const ATTEMPTS_DEFAULT: u32 = 3;
