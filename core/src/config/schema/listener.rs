//! Listeners.
//!
//! **Invariant:** plain data that compares by content.

use std::time::Duration;

use super::protocol::Protocols;
use super::route_action::{ClusterChoice, UpstreamProtocol};
use super::{FilterConfig, Forwarded, HostPattern, IpNetwork, TlsConfig};
use crate::config::diagnostic::Origin;
use crate::config::log_format::LogFormat;
use crate::config::{Address, LogRoller};

/// One entry of `listeners`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// `name`; the address where the file says none.
    pub name: String,
    /// `address`, with `network`.
    pub address: Address,
    /// `bind_port`: whether it has a socket of its own.
    pub bind_port: bool,
    /// `inspector`: whether clients without TLS are served too, in clear.
    pub inspector: bool,
    /// `use_original_dst`, or the listener filter `original_dst`; None: connections are meant for the listener itself.
    pub interception: Option<Interception>,
    /// `connection_idle_timeout`; None: `limits.idle_timeout`.
    pub idle_timeout: Option<Duration>,
    /// `access_logs`.
    pub access_logs: Vec<AccessLog>,
    /// `listener_filters`, in order.
    pub listener_filters: Vec<ListenerFilter>,
    /// `stream_filters`, in order.
    pub filters: Vec<FilterConfig>,
    /// `filter_chains[].tls_context` or `tls_context_set`, those that are on. Empty: plain text.
    pub tls: Vec<TlsConfig>,
    /// `fault_inject` among `filter_chains[].filters`.
    pub fault: Option<ConnFault>,
    /// The last of `filter_chains[].filters`.
    pub filter: NetworkFilter,
    /// `filter_chains[].filter_chain_match` of the chain that it is of.
    pub chain_match: ChainMatch,
    /// Whose further chain it is: the name of the listener that hands it its connections. None: it is a listener, with its first chain.
    pub chain_of: Option<String>,
    /// Where it stands.
    pub origin: Origin,
}

/// Which connections a filter chain is for. What it says nothing of is for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainMatch {
    /// `destination_port`.
    pub destination_port: Option<u16>,
    /// `prefix_ranges`: where the connection goes.
    pub destinations: Vec<IpNetwork>,
    /// `server_names`: names and wildcards.
    pub server_names: Vec<HostPattern>,
    /// `transport_protocol`: TLS or none.
    pub is_tls: Option<bool>,
    /// `application_protocols`: of all that chains have the client wants one of these most (ALPN).
    pub protocols: Vec<String>,
    /// `source_prefix_ranges`.
    pub sources: Vec<IpNetwork>,
    /// `source_ports`.
    pub source_ports: Vec<u16>,
}

impl ChainMatch {
    /// Whether it goes by what a client says first.
    #[must_use]
    pub fn asks_hello(&self) -> bool {
        !self.server_names.is_empty() || self.is_tls.is_some() || !self.protocols.is_empty()
    }

    /// Whether there are connections that fit both equally well, so that nothing tells the two apart.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        fn meet<T: PartialEq>(a: &[T], b: &[T]) -> bool {
            (a.is_empty() && b.is_empty()) || a.iter().any(|one| b.contains(one))
        }
        self.destination_port == other.destination_port
            && meet(&self.destinations, &other.destinations)
            && meet(&self.server_names, &other.server_names)
            && self.is_tls == other.is_tls
            && meet(&self.protocols, &other.protocols)
            && meet(&self.sources, &other.sources)
            && meet(&self.source_ports, &other.source_ports)
    }
}

/// One entry of `access_logs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// `log_path`: `stdout`, `stderr` or a file.
    pub path: String,
    /// `log_format`, `json_format` or `json`.
    pub format: LogFormat,
    /// `log_roller`, else `global_log_roller`.
    pub roller: LogRoller,
}

/// One entry of `listener_filters`: what looks at the first bytes of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerFilter {
    /// `proxy_protocol`: they say whose connection it is.
    ProxyProtocol {
        /// `trusted_sources`: who says so, and must; the connections of others are their own. None: everybody.
        trusted: Option<Vec<IpNetwork>>,
    },
    /// `tls_inspector`: they may be those of a TLS client, which say the name that it asks for.
    TlsInspector,
}

/// How connections come to a listener that were meant for somewhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interception {
    /// Which way.
    pub kind: InterceptionKind,
    /// `fallback_to_local`: a connection whose very destination no listener has goes to one on the loopback address at its port, not on all
    /// addresses.
    pub fallback_to_local: bool,
}

/// `use_original_dst`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterceptionKind {
    /// `redirect`: the kernel has put the listener's address in the place of theirs (iptables REDIRECT), and knows what stood there.
    Redirect,
    /// `tproxy`: they keep theirs (iptables TPROXY).
    Tproxy,
}

/// The `fault_inject` network filter: connections that wait, or fail, on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnFault {
    /// `delay_duration`.
    pub delay: Duration,
    /// `delay_percent`: of a hundred connections.
    pub delay_percent: u8,
    /// `abort_percent`: of a hundred connections.
    pub abort_percent: u8,
}

/// `proxy_protocol` of a [`TcpProxy`]: how the host is told whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// `v1`: in text.
    V1,
    /// `v2`: in binary.
    V2,
}

/// The network filter: what happens to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkFilter {
    /// `proxy`.
    Proxy(Proxy),
    /// `tcp_proxy`.
    TcpProxy(TcpProxy),
    /// `udp_proxy`.
    UdpProxy(UdpProxy),
}

/// The `tcp_proxy` network filter: bytes both ways, to a host of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpProxy {
    /// `routes`, the first that fits counts; with `cluster` one that fits all. Never empty.
    pub routes: Vec<TcpRoute>,
    /// `idle_timeout`; None: the listener's, else `limits.tunnel_idle_timeout`.
    pub idle_timeout: Option<Duration>,
    /// `max_connect_attempts`.
    pub attempts_max: u32,
    /// `proxy_protocol`; None: the host is not told.
    pub proxy_header: Option<ProxyHeader>,
}

/// The `udp_proxy` network filter: datagrams both ways, a session for each client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpProxy {
    /// `routes`, the first that fits counts; with `cluster` one that fits all. Never empty.
    pub routes: Vec<TcpRoute>,
    /// `idle_timeout`; None: the listener's, else `limits.udp_idle_timeout`.
    pub idle_timeout: Option<Duration>,
}

/// One entry of `routes` of a [`TcpProxy`] or a [`UdpProxy`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpRoute {
    /// `cluster` or `weighted_clusters`; never a variable.
    pub cluster: ClusterChoice,
    /// `source_addrs`. Empty: everybody, also who has no IP address.
    pub sources: Vec<IpNetwork>,
    /// `destination_addrs`.
    pub destinations: Vec<IpNetwork>,
    /// `source_port`: ranges, both ends included. Empty: all.
    pub source_ports: Vec<(u16, u16)>,
    /// `destination_port`.
    pub destination_ports: Vec<(u16, u16)>,
    /// `server_names`: names and wildcards. Empty: all, also who asks for none.
    pub server_names: Vec<HostPattern>,
}

impl TcpRoute {
    /// For every connection.
    #[must_use]
    pub fn everybody(cluster: ClusterChoice) -> Self {
        let (sources, destinations, source_ports, destination_ports, server_names) = Default::default();
        Self { cluster, sources, destinations, source_ports, destination_ports, server_names }
    }
}

impl TcpProxy {
    /// Whether a route of it goes by what a TLS client says first.
    #[must_use]
    pub fn asks_hello(&self) -> bool {
        self.routes.iter().any(|route| !route.server_names.is_empty())
    }
}

impl Listener {
    /// Whether its socket takes connections to addresses that this host does not have.
    #[must_use]
    pub fn is_transparent(&self) -> bool {
        self.interception.is_some_and(|i| i.kind == InterceptionKind::Tproxy)
    }

    /// Its `proxy` filter, where it serves HTTP.
    #[must_use]
    pub fn proxy(&self) -> Option<&Proxy> {
        match &self.filter {
            NetworkFilter::Proxy(proxy) => Some(proxy),
            NetworkFilter::TcpProxy(_) | NetworkFilter::UdpProxy(_) => None,
        }
    }

    /// Its `tcp_proxy` filter, where it relays, be it only what its `proxy` filter does not know.
    #[must_use]
    pub fn tcp_proxy(&self) -> Option<&TcpProxy> {
        match &self.filter {
            NetworkFilter::TcpProxy(tcp) => Some(tcp),
            NetworkFilter::Proxy(proxy) => proxy.fallback.as_ref(),
            NetworkFilter::UdpProxy(_) => None,
        }
    }

    /// Its `udp_proxy` filter, where it relays datagrams.
    #[must_use]
    pub fn udp_proxy(&self) -> Option<&UdpProxy> {
        match &self.filter {
            NetworkFilter::UdpProxy(udp) => Some(udp),
            NetworkFilter::Proxy(_) | NetworkFilter::TcpProxy(_) => None,
        }
    }

    /// Where its connections or datagrams may go as they are. Empty: it serves requests alone, whose routes are its router's.
    #[must_use]
    pub fn relay_routes(&self) -> &[TcpRoute] {
        match &self.filter {
            NetworkFilter::Proxy(proxy) => proxy.fallback.as_ref().map_or(&[], |tcp| &tcp.routes),
            NetworkFilter::TcpProxy(tcp) => &tcp.routes,
            NetworkFilter::UdpProxy(udp) => &udp.routes,
        }
    }
}

/// The `proxy` network filter: HTTP and RPC, routed.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Proxy {
    /// `router_config_name`: a router of the same server.
    pub router: String,
    /// Where that stands.
    pub router_origin: Origin,
    /// `downstream_protocol`.
    pub protocols: Protocols,
    /// `upstream_protocol`: for routes that say none.
    pub upstream_protocol: Option<UpstreamProtocol>,
    /// `extend_config.Http1.max_header_size`, in bytes; None: `limits.head_bytes_max`.
    pub head_bytes_max: Option<usize>,
    /// `extend_config.Http1.max_request_body_size`, in bytes, 0 is no limit; None: `limits.request_body_bytes_max`.
    pub request_body_bytes_max: Option<u64>,
    /// `extend_config.bolt.enable_bolt_goaway`: whether clients of RPC are told that their connection is about to be closed.
    pub says_go_away: bool,
    /// What origins are told about the client.
    pub forwarded: Forwarded,
    /// `extend_config.Http2`.
    pub http2: Http2Offers,
    /// `fallback_for_unknown_protocol`: the `tcp_proxy` behind it, which gets what is of none of the protocols. None: it is refused.
    pub fallback: Option<TcpProxy>,
}

/// What clients of HTTP/2 are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Offers {
    /// `extended_connect`: WebSockets (RFC 8441).
    pub extended_connect: bool,
    /// `upgrade_h2c`: the change from HTTP/1.1 in clear text (RFC 7540, 3.2).
    pub upgrade_h2c: bool,
}

impl Default for Http2Offers {
    fn default() -> Self {
        Self { extended_connect: true, upgrade_h2c: true }
    }
}
