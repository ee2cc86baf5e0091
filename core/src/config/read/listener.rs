//! `servers[0].listeners[]` and what is within: filter chains, the `proxy` filter.
//!
//! **Invariant:** a filter that would not run is never passed over in silence.

use std::net::SocketAddr;

use super::{access_log, chain_match, filter as stream_filter, listener_filter, proxy, route, tcp_proxy, tls};
use crate::config::diagnostic::Origin;
use crate::config::keys::NETWORK_FILTERS;
use crate::config::reader::{Fields, Reader};
use crate::config::schema::{
    ChainMatch, ClientAuth, ConnFault, Edits, Listener, ListenerFilter, NetworkFilter, Pem, Protocols, Proxy,
    RouterConfig, TcpProxy, TlsConfig, VirtualHost,
};
use crate::config::tree::{Node, Value};
use crate::config::{Address, LogRoller};

/// A listener with its first filter chain and behind it its further ones, and its router where the routes are inline.
pub(super) fn listener(
    r: &mut Reader,
    node: &Node,
    log_roller: &LogRoller,
) -> Option<(Vec<Listener>, Option<RouterConfig>)> {
    let fields = r.map(node, "listener")?;
    // Without a good address the rest is still looked at; the file is refused in any case.
    let read_address = address(r, &fields);
    let address = read_address.clone().unwrap_or_else(|| Address::Inet(SocketAddr::from(([0, 0, 0, 0], 0))));
    let name = fields.text(r, "name").unwrap_or_else(|| address.to_string());
    let inline = inline_router(r, &fields, &name);
    let mut chains = match fields.get("filter_chains") {
        Some(node) => r.at("filter_chains", |r| filter_chains(r, node)),
        None => vec![Chain { filter: Some(NetworkFilter::Proxy(Proxy::default())), ..Chain::default() }],
    };
    let inspector = fields.boolean(r, "inspector").unwrap_or(false);
    let (listener_filters, interception) = listener_filter::listener_filters(r, &fields);
    if interception.is_some() && address.inet().is_none() {
        let remedy = "leave `use_original_dst` out, or write `network: tcp`";
        r.error(node.place, "only TCP connections are intercepted", remedy);
    }
    if inspector && chains.iter().all(|chain| chain.tls.is_empty()) {
        r.warn(node.place, "`inspector` has no effect: the listener has no `tls_context`", "");
    }
    if inspector && chains.iter().any(|chain| chain.tls.iter().any(|tls| tls.client_auth == ClientAuth::Required)) {
        let message = "`inspector` lets clients in without TLS, and so without the certificate that `require_client_cert` wants of the others";
        r.warn(node.place, message, "leave `inspector` out, or serve those in clear by a listener of their own");
    }
    if chains.iter().any(Chain::asks_hello) && !listener_filters.contains(&ListenerFilter::TlsInspector) {
        let remedy = "add `listener_filters: [{type: tls_inspector}]`";
        r.error(
            node.place,
            "`server_names` and the like would fit nobody: nothing looks at what clients ask for",
            remedy,
        );
    }
    if let Some(address) = &read_address {
        datagrams(r, &fields, address, &chains);
    }
    without_routes(r, &fields, &chains);
    for proxy in chains.iter_mut().filter_map(Chain::proxy_mut) {
        *proxy = choose_router(r, &fields, std::mem::take(proxy), inline.as_ref());
    }
    shared_routers(r, node, &chains);
    let mut chains = chains.into_iter();
    let first = chains.next()?;
    let first = Listener {
        bind_port: fields.boolean(r, "bind_port").unwrap_or(true),
        inspector,
        interception,
        idle_timeout: fields.duration(r, "connection_idle_timeout"),
        access_logs: fields.list(r, "access_logs", |r, node| access_log::access_log(r, node, log_roller)),
        listener_filters,
        filters: fields.list(r, "stream_filters", stream_filter::stream_filter),
        tls: first.tls,
        fault: first.fault,
        filter: first.filter?,
        chain_match: first.chain_match,
        chain_of: None,
        origin: r.origin(node.place),
        name,
        address,
    };
    let further: Vec<_> = (1..).zip(chains).filter_map(|(n, chain)| further_chain(&first, n, chain)).collect();
    Some((std::iter::once(first).chain(further).collect(), inline))
}

/// A further chain, as a listener that is handed its connections by the one that has the first.
fn further_chain(first: &Listener, n: usize, chain: Chain) -> Option<Listener> {
    let name = match &chain.name {
        Some(name) => format!("{}/{name}", first.name),
        None => format!("{}[{n}]", first.name),
    };
    let filter = chain.filter?;
    let filters = if matches!(filter, NetworkFilter::Proxy(_)) { first.filters.clone() } else { Vec::new() };
    Some(Listener {
        name,
        bind_port: false,
        interception: None,
        listener_filters: Vec::new(),
        filters,
        tls: chain.tls,
        fault: chain.fault,
        filter,
        chain_match: chain.chain_match,
        chain_of: Some(first.name.clone()),
        origin: chain.origin,
        ..first.clone()
    })
}

/// `network`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Network {
    #[default]
    Tcp,
    Udp,
    Unix,
}

const NETWORKS: &[(&str, Network)] = &[("tcp", Network::Tcp), ("udp", Network::Udp), ("unix", Network::Unix)];

#[derive(Default)]
struct Chain {
    name: Option<String>,
    chain_match: ChainMatch,
    tls: Vec<TlsConfig>,
    fault: Option<ConnFault>,
    filter: Option<NetworkFilter>,
    origin: Origin,
}

impl Chain {
    /// Whether it, or a route of it, goes by what a client says first.
    fn asks_hello(&self) -> bool {
        let by_route = match &self.filter {
            Some(NetworkFilter::TcpProxy(tcp)) => tcp.asks_hello(),
            Some(NetworkFilter::Proxy(proxy)) => proxy.fallback.as_ref().is_some_and(TcpProxy::asks_hello),
            Some(NetworkFilter::UdpProxy(_)) | None => false,
        };
        by_route || self.chain_match.asks_hello()
    }

    fn proxy_mut(&mut self) -> Option<&mut Proxy> {
        match &mut self.filter {
            Some(NetworkFilter::Proxy(proxy)) => Some(proxy),
            _ => None,
        }
    }
}

/// The chains that can be read; those that no connection could tell apart are reported.
fn filter_chains(r: &mut Reader, node: &Node) -> Vec<Chain> {
    let Value::List(list) = &node.value else {
        r.wrong_type(node, "a list");
        return Vec::new();
    };
    if list.is_empty() {
        r.error(node.place, "no filter chain", "write one");
    }
    let mut chains: Vec<Chain> = Vec::new();
    r.each(node, |r, node| {
        let Some(chain) = filter_chain(r, node) else { return };
        if let Some(other) = chains.iter().find(|other| other.chain_match.is_like(&chain.chain_match)) {
            let line = r.line_of(other.origin.place);
            let message = format!("connections that this chain is for are as well for that {line}");
            r.error(node.place, message, "say by `filter_chain_match` what tells the two apart");
        }
        chains.push(chain);
    });
    chains
}

fn address(r: &mut Reader, fields: &Fields<'_>) -> Option<Address> {
    let network = fields.choice(r, "network", NETWORKS).unwrap_or_default();
    let text = fields.required(r, "address")?;
    fields.with(r, "address", |r, node| match text.parse() {
        _ if network == Network::Unix => Some(Address::Unix(text.strip_prefix("unix:").unwrap_or(&text).into())),
        Ok(Address::Inet(at)) if network == Network::Udp => Some(Address::Udp(at)),
        Ok(_) if network == Network::Udp => {
            r.error(node.place, format!("`{text}` is no address for datagrams"), "write an IP address and a port");
            None
        }
        Ok(address) => Some(address),
        Err(error) => {
            r.error(node.place, format!("`{text}` is no address"), error);
            None
        }
    })
}

/// Reports where a listener of datagrams does not relay them, what it says of connections, and where another relays datagrams.
fn datagrams(r: &mut Reader, fields: &Fields<'_>, address: &Address, chains: &[Chain]) {
    let place = fields.node.place;
    let relays = |chain: &Chain| matches!(chain.filter, Some(NetworkFilter::UdpProxy(_)));
    match address {
        Address::Udp(_) if !chains.iter().all(relays) => {
            return r.error(place, "a listener of `network: udp` has no connections", "write a `udp_proxy` filter");
        }
        Address::Udp(_) => {}
        _ if chains.iter().any(relays) => {
            return r.error(
                place,
                "`udp_proxy` relays datagrams, of which this listener has none",
                "write `network: udp`",
            );
        }
        _ => return,
    }
    for key in ["inspector", "listener_filters"] {
        if let Some(node) = fields.get(key).filter(|node| !node.is_neutral()) {
            r.at(key, |r| r.error(node.place, format!("`{key}` is for connections, and this listener has none"), ""));
        }
    }
    if chains.iter().any(|chain| !chain.tls.is_empty()) {
        r.error(place, "datagrams are relayed as they are: there is no DTLS", "remove the `tls_context`");
    }
    if chains.iter().any(|chain| chain.fault.is_some()) {
        r.error(place, "`fault_inject` is for connections, and this listener has none", "");
    }
    if chains.len() > 1 || chains.iter().any(|chain| chain.chain_match != ChainMatch::default()) {
        r.error(
            place,
            "chains are chosen by connection, and this listener has none",
            "use the `udp_proxy` filter's `routes`",
        );
    }
}

/// The router that `virtual_hosts` or `routers` of the listener itself make.
fn inline_router(r: &mut Reader, fields: &Fields<'_>, listener: &str) -> Option<RouterConfig> {
    let (hosts, routes) = (fields.get("virtual_hosts"), fields.get("routers"));
    let origin = r.origin(hosts.or(routes)?.place);
    if let (Some(_), Some(routes)) = (hosts, routes) {
        r.error(routes.place, "both `virtual_hosts` and `routers`", "move the routes into a virtual host");
    }
    let virtual_hosts = match hosts {
        Some(_) => route::virtual_hosts(r, fields),
        None => vec![VirtualHost {
            name: listener.to_owned(),
            domains: route::every_domain(),
            routes: fields.list(r, "routers", route::route),
            ..VirtualHost::default()
        }],
    };
    Some(RouterConfig { name: format!("{listener} (inline)"), virtual_hosts, edits: Edits::default(), origin })
}

/// Settles which router the proxy uses: the filter's, the listener's or the inline one, but one of them.
fn choose_router(r: &mut Reader, fields: &Fields<'_>, mut proxy: Proxy, inline: Option<&RouterConfig>) -> Proxy {
    let own = Some((proxy.router.clone(), proxy.router_origin.clone())).filter(|(name, _)| !name.is_empty());
    let inline = inline.map(|i| (i.name.clone(), i.origin.clone()));
    let mut given: Vec<_> = [own, proxy::router_name(r, fields), inline].into_iter().flatten().collect();
    match given.len() {
        0 => {
            let remedy = "write `router_config_name`, or `routers` with the routes themselves";
            r.error(fields.node.place, "the listener has no routes", remedy);
        }
        1 => (proxy.router, proxy.router_origin) = given.remove(0),
        _ => r.error(fields.node.place, "the listener says more than once which routes it has", "keep one"),
    }
    proxy
}

/// Reports what a listener says of requests although it knows of none.
fn without_routes(r: &mut Reader, fields: &Fields<'_>, chains: &[Chain]) {
    let name = match chains {
        [Chain { filter: Some(NetworkFilter::UdpProxy(_)), .. }, ..] => "udp_proxy",
        _ => "tcp_proxy",
    };
    // A chain that could not be read may have had routes.
    if chains.is_empty() || chains.iter().any(|c| matches!(c.filter, Some(NetworkFilter::Proxy(_)) | None)) {
        return;
    }
    for key in ["router_config_name", "virtual_hosts", "routers", "stream_filters"] {
        if let Some(node) = fields.get(key).filter(|node| !node.is_neutral()) {
            let remedy = format!("write a `proxy` filter, or say in the `{name}` filter's `routes` where all goes");
            r.at(key, |r| r.error(node.place, format!("`{name}` sees no requests that `{key}` could be for"), remedy));
        }
    }
}

fn filter_chain(r: &mut Reader, node: &Node) -> Option<Chain> {
    let fields = r.map(node, "filter_chain")?;
    let one = fields.with(r, "tls_context", tls::server);
    let set = fields.list(r, "tls_context_set", |r, node| Some(tls::server(r, node)));
    if let (Some(_), Some(second)) =
        (fields.get("tls_context"), fields.get("tls_context_set").filter(|n| !n.is_neutral()))
    {
        r.error(second.place, "both `tls_context` and `tls_context_set`", "keep one of the two");
    }
    let (all, on) = (set.len(), set.iter().flatten().count());
    if on > 0 && on < all {
        r.warn(fields.node.place, format!("{} of {all} certificates are off and not used", all - on), "");
    }
    let mut chain = Chain {
        name: fields.text(r, "name"),
        chain_match: fields.with(r, "filter_chain_match", chain_match::chain_match).unwrap_or_default(),
        tls: one.into_iter().chain(set.into_iter().flatten()).collect(),
        origin: r.origin(node.place),
        ..Chain::default()
    };
    match fields.get("filters") {
        None => fields.missing(r, "filters"),
        Some(node) => r.at("filters", |r| network_filters(r, node, &mut chain)),
    }
    offer(r, &mut chain);
    client_certs(r, node, &chain);
    Some(chain)
}

/// Warns of chains that ask clients for different certificates and route alike: a client may ask one for what the other guards.
fn shared_routers(r: &mut Reader, node: &Node, chains: &[Chain]) {
    let routed = |chain: &Chain| match &chain.filter {
        Some(NetworkFilter::Proxy(proxy)) => Some((proxy.router.clone(), chain.tls.first().map(asks))),
        _ => None,
    };
    let routed: Vec<_> = chains.iter().filter_map(routed).collect();
    let differs = |(router, asked): &(String, _)| routed.iter().any(|(other, then)| other == router && then != asked);
    let is_guarded = chains.iter().flat_map(|chain| &chain.tls).any(|tls| tls.client_auth.is_verified());
    if let Some((router, _)) = routed.iter().find(|chain| is_guarded && differs(chain)) {
        let message = format!(
            "filter chains with the router `{router}` ask clients for different certificates: a request's Host may name what another chain guards"
        );
        r.warn(node.place, message, "give each of them a router of its own");
    }
}

/// What clients are asked for.
fn asks(tls: &TlsConfig) -> (ClientAuth, Option<Pem>, Option<Pem>) {
    (tls.client_auth, tls.ca_cert.clone(), tls.crl.clone())
}

/// Reports what a chain resumes or asks its clients for in two ways, and what it would tell of clients that it does not ask.
fn client_certs(r: &mut Reader, node: &Node, chain: &Chain) {
    if chain.tls.windows(2).any(|two| two[0].resumption != two[1].resumption) {
        let message = "the certificates of one chain resume sessions in different ways";
        let remedy = "write the same `session_tickets`, `session_ticket_keys` and `session_timeout` in each";
        r.error(node.place, message, remedy);
    }
    if chain.tls.windows(2).any(|two| asks(&two[0]) != asks(&two[1])) {
        let message =
            "the certificates of one chain ask clients for different ones: which holds would be the client's choice";
        let remedy = "write the same `verify_client`, `require_client_cert`, `ca_cert` and `crl` in each, or a chain with a router of its own for each name";
        r.error(node.place, message, remedy);
    }
    let verifies = chain.tls.iter().any(|tls| tls.client_auth.is_verified());
    if let Some(NetworkFilter::Proxy(proxy)) = &chain.filter
        && !verifies
        && proxy.forwarded.client_cert.mode.tells()
    {
        let message =
            "`forward_client_cert_details`: no client is asked for a certificate, so origins are told of none";
        r.warn(node.place, message, "write `verify_client: true` and `ca_cert` in the `tls_context`");
    }
}

/// What happens to a connection: a fault first, if there is one, then what serves it, and behind that what takes it if it can't be served.
fn network_filters(r: &mut Reader, node: &Node, chain: &mut Chain) {
    let is_fault =
        |node: &Node| matches!(node.get("type"), Some(Node { value: Value::Text(kind), .. }) if kind == "fault_inject");
    let (first, serving) = match &node.value {
        Value::List(list) if list.first().is_some_and(is_fault) => (list.first(), list.get(1..).unwrap_or_default()),
        Value::List(list) => (None, &list[..]),
        _ => return r.wrong_type(node, "a list"),
    };
    if let Some(first) = first {
        chain.fault = r.at("[0]", |r| conn_fault(r, first));
    }
    let index = usize::from(first.is_some());
    match serving {
        [] => r.error(node.place, "no network filter", "write exactly one"),
        [first, behind @ ..] => {
            chain.filter = r.at(&format!("[{index}]"), |r| filter(r, first));
            fallback(r, first, (index + 1, behind), chain);
        }
    }
}

/// What stands behind the filter that serves: a `tcp_proxy`, where `fallback_for_unknown_protocol` sends it something.
fn fallback(r: &mut Reader, first: &Node, (index, behind): (usize, &[Node]), chain: &mut Chain) {
    let key = first.get("config").and_then(|config| config.get("fallback_for_unknown_protocol"));
    let asked = key.filter(|node| matches!(node.value, Value::Bool(true)));
    match (asked, behind) {
        (None, []) => {}
        (None, [second, ..]) => {
            let remedy = match second.get("type") {
                Some(Node { value: Value::Text(kind), .. }) if kind == "tcp_proxy" => {
                    "keep exactly one, or write `fallback_for_unknown_protocol: true` in the `proxy` filter"
                }
                _ => "keep exactly one",
            };
            r.error(second.place, "more than one network filter", remedy);
        }
        (Some(asked), []) => {
            let message = "`fallback_for_unknown_protocol` would pass connections on to nobody: no `tcp_proxy` is behind the filter";
            r.error(asked.place, message, "add a `tcp_proxy` filter behind it, or leave the key out");
        }
        (Some(_), [second, more @ ..]) => {
            match (&mut chain.filter, r.at(&format!("[{index}]"), |r| filter(r, second))) {
                (Some(NetworkFilter::Proxy(proxy)), Some(NetworkFilter::TcpProxy(tcp))) => proxy.fallback = Some(tcp),
                (Some(NetworkFilter::Proxy(_)), Some(_)) => {
                    let message = "only a `tcp_proxy` can take connections of an unknown protocol";
                    r.error(second.place, message, "write one here");
                }
                // It has been told what is wrong with one of them.
                _ => {}
            }
            if let [third, ..] = more {
                r.error(third.place, "nothing reaches a filter behind `tcp_proxy`", "remove it");
            }
        }
    }
}

/// `fault_inject`.
fn conn_fault(r: &mut Reader, node: &Node) -> Option<ConnFault> {
    let fields = r.map(node, "filter")?;
    fields.with(r, "config", |r, node| {
        let fields = r.map(node, "fault_inject")?;
        let percent = |r: &mut Reader, key: &str| fields.number(r, key, 0..=100).unwrap_or(0);
        let (delay_percent, abort_percent) = (percent(r, "delay_percent"), percent(r, "abort_percent"));
        let delay = fields.duration_or_none(r, "delay_duration");
        if delay_percent > 0 && fields.get("delay_duration").is_none() {
            fields.missing(r, "delay_duration");
        }
        Some(ConnFault { delay: delay.unwrap_or_default(), delay_percent, abort_percent })
    })
}

/// The network filter.
fn filter(r: &mut Reader, node: &Node) -> Option<NetworkFilter> {
    if let Some(Node { value: Value::Text(kind), place }) = node.get("type")
        && !kind.is_empty()
        && kind != "proxy"
        && kind != "tcp_proxy"
        && kind != "udp_proxy"
    {
        // Its configuration has other keys, so it is not looked into.
        r.at("type", |r| r.variant(*place, "network filter", kind, NETWORK_FILTERS));
        return None;
    }
    let fields = r.map(node, "filter")?;
    let kind = fields.required(r, "type")?;
    let empty = Node { place: node.place, value: Value::Map(Vec::new()) };
    let config = fields.get("config").unwrap_or(&empty);
    r.at("config", |r| match kind.as_str() {
        "tcp_proxy" => tcp_proxy::tcp_proxy(r, config).map(NetworkFilter::TcpProxy),
        "udp_proxy" => tcp_proxy::udp_proxy(r, config).map(NetworkFilter::UdpProxy),
        _ => proxy::proxy(r, config).map(NetworkFilter::Proxy),
    })
}

/// What TLS offers is what is served: where the file says nothing, all of it; what is not served is not offered.
fn offer(r: &mut Reader, chain: &mut Chain) {
    let Some(NetworkFilter::Proxy(proxy)) = &chain.filter else { return };
    let http1 = proxy.protocols.has(Protocols::HTTP1);
    let served: &[&str] = match proxy.protocols.has(Protocols::HTTP2) {
        true if http1 => &["h2", "http/1.1"],
        true => &["h2"],
        false if http1 => &["http/1.1"],
        false => &[],
    };
    for tls in &mut chain.tls {
        if tls.alpn.is_empty() && proxy.protocols != Protocols::HTTP1 {
            tls.alpn = served.iter().map(|&name| name.to_owned()).collect();
        }
        let offered = tls.alpn.len();
        tls.alpn.retain(|name| served.contains(&name.as_str()));
        if tls.alpn.len() < offered {
            r.warn(tls.origin.place, "`alpn` offers a protocol that `downstream_protocol` does not serve", "");
        }
    }
}
