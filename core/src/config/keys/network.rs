//! The keys of listeners, and of their listener and network filters but `proxy`.
//!
//! **Invariant:** the default written here is the default in force.

use super::Key;
use super::Kind::{Address, Bool, ByType, Choice, Duration, Map, Maps, Number, Numbers, Text, Texts};
use super::working::key;

pub(super) const LISTENER: &[Key] = &[
    key("name", Text, "the address", "Its name in logs and metrics. No two alike."),
    key(
        "address",
        Address,
        "",
        "`IP:PORT`, `[IPv6]:PORT`, `:PORT`, `unix:/PATH`; with `network: unix` a path. Required.",
    ),
    key("network", Choice(&["tcp", "udp", "unix"]), "tcp", "What kind of socket. `udp` is for `udp_proxy`."),
    key(
        "bind_port",
        Bool,
        "true",
        "Whether it has a socket of its own. One without serves what another listener with `use_original_dst` hands it: connections that were \
         meant for its address, or for its port where the address is `0.0.0.0` or `[::]`. (MOSN's default is false.)",
    ),
    key(
        "use_original_dst",
        Choice(&["", "redirect", "tproxy"]),
        "",
        "Connections come here that were meant for somewhere else: `redirect`, by iptables REDIRECT, `tproxy`, by iptables TPROXY. The listener \
         that has their destination serves them, else this one. On the kernel plane.",
    ),
    key("connection_idle_timeout", Duration, "limits.idle_timeout", "Between two requests of a connection."),
    key("access_logs", Maps("access_log"), "", "Where a line for each request goes."),
    key(
        "filter_chains",
        Maps("filter_chain"),
        "",
        "TLS and what happens to a connection. One chain, or none where the routes are inline; of several each says by `filter_chain_match` which \
         connections it is for, and one that none is for is reset.",
    ),
    key(
        "inspector",
        Bool,
        "false",
        "Whether clients without TLS are served too, in clear: the first byte that a client sends decides. Needs a `tls_context`.",
    ),
    key(
        "listener_filters",
        Maps("listener_filter"),
        "",
        "What looks at the first bytes of a connection, in this order.",
    ),
    key("stream_filters", Maps("stream_filter"), "", "What happens to each request, in this order."),
    key(
        "router_config_name",
        Text,
        "",
        "Ferrogate's own, short for a chain with one `proxy` filter: the router to use.",
    ),
    key(
        "virtual_hosts",
        Maps("virtual_host"),
        "",
        "Ferrogate's own: virtual hosts inline, instead of a router by name.",
    ),
    key("routers", Maps("route"), "", "Ferrogate's own: routes inline, for every host, instead of a router by name."),
];

pub(super) const FILTER_CHAIN: &[Key] = &[
    key(
        "name",
        Text,
        "",
        "Of a further chain: it is counted and logged as a listener of its own, `LISTENER/NAME`; without a name as `LISTENER[n]`.",
    ),
    key(
        "filter_chain_match",
        Map("filter_chain_match"),
        "",
        "Which connections it is for, as in Envoy: the keys decide in the order below, the closest value that fits wins, and a chain without a key \
         is for those that no other chain has a value for. Chains that can't be told apart are an error.",
    ),
    key("tls_context", Map("tls_server"), "", "TLS with one certificate."),
    key(
        "tls_context_set",
        Maps("tls_server"),
        "",
        "TLS with several certificates, chosen by the name the client asks for (SNI).",
    ),
    key(
        "filters",
        Maps("filter"),
        "",
        "What happens to a connection: one `proxy` or `tcp_proxy`, and before it a `fault_inject` if one is wanted. Behind a `proxy` with `fallback_for_unknown_protocol`: a `tcp_proxy`. Of a listener with `network: udp`: one `udp_proxy`.",
    ),
];

pub(super) const FILTER_CHAIN_MATCH: &[Key] = &[
    key("destination_port", Number, "", "Where the connection goes to; with `use_original_dst` where it was going."),
    key("prefix_ranges", Maps("prefix_range"), "", "Where the connection goes to: the longest prefix wins."),
    key(
        "server_names",
        Texts,
        "",
        "The names that clients ask for in TLS (SNI): `a.example`, `*.example`; the longest wins. As the next two it needs the listener filter \
         `tls_inspector`.",
    ),
    key("transport_protocol", Choice(&["", "tls", "raw_buffer"]), "", "Whether the client speaks TLS, or none."),
    key(
        "application_protocols",
        Texts,
        "",
        "What clients offer in TLS (ALPN): `h2`, `http/1.1`. The one that the client names first decides.",
    ),
    key("source_prefix_ranges", Maps("prefix_range"), "", "The clients: the longest prefix wins."),
    key("source_ports", Numbers, "", "The clients' ports."),
];

pub(super) const PREFIX_RANGE: &[Key] = &[
    key("address_prefix", Text, "", "An address of the network. Required."),
    key("prefix_len", Number, "0", "How many bits its addresses share."),
];

pub(super) const FILTER: &[Key] = &[
    key(
        "type",
        Text,
        "",
        "`proxy`: HTTP. `tcp_proxy`: bytes both ways, to a host of a cluster. `udp_proxy`: datagrams, likewise. `fault_inject`: connections wait, or fail, on purpose. Required.",
    ),
    key(
        "config",
        ByType(&[
            ("proxy", "proxy"),
            ("tcp_proxy", "tcp_proxy"),
            ("udp_proxy", "udp_proxy"),
            ("fault_inject", "fault_inject"),
        ]),
        "",
        "The filter's own configuration.",
    ),
];

pub(super) const LISTENER_FILTER: &[Key] = &[
    key(
        "type",
        Text,
        "",
        "`proxy_protocol`: connections say whose they are. `tls_inspector`: TLS clients say which name they ask for. `original_dst`: as \
         `use_original_dst`. Required.",
    ),
    key(
        "config",
        ByType(&[("proxy_protocol", "proxy_protocol"), ("original_dst", "original_dst")]),
        "",
        "The filter's own configuration.",
    ),
];

pub(super) const PROXY_PROTOCOL: &[Key] = &[key(
    "trusted_sources",
    Texts,
    "",
    "Who sends a PROXY header, version 1 or 2, and must: `10.0.0.1`, `10.0.0.0/8`. The connections of others are their own; nothing is looked \
     for in them. Absent: everybody must. An empty list is a mistake.",
)];

pub(super) const ORIGINAL_DST: &[Key] = &[
    key(
        "type",
        Choice(&["", "redirect", "tproxy"]),
        "use_original_dst, else redirect",
        "How connections come here that were meant for somewhere else.",
    ),
    key(
        "fallback_to_local",
        Bool,
        "false",
        "A connection whose very destination no listener has goes to one on `127.0.0.1` or `[::1]` at its port, rather than on `0.0.0.0` or `[::]`.",
    ),
];

pub(super) const FAULT_INJECT: &[Key] = &[
    key("delay_percent", Number, "0", "How many of a hundred connections wait before anything is done for them."),
    key("delay_duration", Duration, "", "How long they wait. Required where `delay_percent` says that some do."),
    key(
        "abort_percent",
        Number,
        "0",
        "Ferrogate's own: how many of a hundred connections are reset, after they have waited.",
    ),
];

const WEIGHTED_CLUSTERS: Key = key(
    "weighted_clusters",
    Maps("weighted"),
    "",
    "Ferrogate's own, instead of `cluster`: one of these, by their weights.",
);

pub(super) const TCP_PROXY: &[Key] = &[
    key("cluster", Text, "", "Where every connection goes. With it `routes` have no effect, as in MOSN."),
    WEIGHTED_CLUSTERS,
    key(
        "routes",
        Maps("tcp_route"),
        "",
        "Where connections go, by who comes and where to: the first that fits. A connection that none fits is closed.",
    ),
    key(
        "idle_timeout",
        Duration,
        "connection_idle_timeout, else limits.tunnel_idle_timeout",
        "A connection on which nothing moved for so long is closed, up to a quarter later.",
    ),
    key(
        "proxy_protocol",
        Choice(&["off", "v1", "v2"]),
        "off",
        "Ferrogate's own: tell the host whose connection it is, by a PROXY header before all else, TLS too. `v1` is text, `v2` binary.",
    ),
    key("max_connect_attempts", Number, "3", "How many hosts are tried, 1 to 100. (MOSN tries 3 in any case.)"),
];

pub(super) const UDP_PROXY: &[Key] = &[
    key("cluster", Text, "", "Where every session goes. With it `routes` have no effect, as in MOSN."),
    WEIGHTED_CLUSTERS,
    key(
        "routes",
        Maps("tcp_route"),
        "",
        "Where sessions go, by who sends and where to: the first that fits. Datagrams that none fits are dropped. `server_names` fit nobody.",
    ),
    key(
        "idle_timeout",
        Duration,
        "connection_idle_timeout, else limits.udp_idle_timeout",
        "A session in which nothing moved for so long is over. (In MOSN: 5 s.)",
    ),
];

pub(super) const TCP_ROUTE: &[Key] = &[
    key("cluster", Text, "", "Where its connections go. Required, unless `Cluster` or `weighted_clusters` says it."),
    key("Cluster", Text, "", "The same, as MOSN's own dumps spell it."),
    WEIGHTED_CLUSTERS,
    key(
        "source_addrs",
        Texts,
        "",
        "The clients: `10.0.0.1`, `10.0.0.0/8`, `2001:db8::/32`. Absent: all. (In MOSN a route without them fits nobody.)",
    ),
    key("SourceAddrs", Maps("cidr_range"), "", "The same, in MOSN's form."),
    key("destination_addrs", Texts, "", "Where they connected to, in the same form. Absent: everywhere."),
    key("DestinationAddrs", Maps("cidr_range"), "", "The same, in MOSN's form."),
    key(
        "server_names",
        Texts,
        "",
        "The names that clients ask for in TLS (SNI): `a.example`, `*.example`. They need the listener filter `tls_inspector`. Absent: all, also \
         who asks for none.",
    ),
    key("source_port", Text, "", "The clients' ports: `1024-65535,7`. Absent: all."),
    key("SourcePort", Text, "", "The same."),
    key("destination_port", Text, "", "The ports that they connected to, in the same form. Absent: all."),
    key("DestinationPort", Text, "", "The same."),
];

pub(super) const CIDR_RANGE: &[Key] = &[
    key("Address", Text, "", "An address of the network. Required, unless `address` says it."),
    key("address", Text, "", "The same."),
    key("Length", Number, "0", "How many bits its addresses share."),
    key("length", Number, "0", "The same."),
];
