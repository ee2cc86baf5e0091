//! The keys of network filters but `proxy`.
//!
//! **Invariant:** the default written here is the default in force.

use super::Key;
use super::Kind::{Duration, Maps, Number, Text, Texts};
use super::working::key;

pub(super) const TCP_PROXY: &[Key] = &[
    key("cluster", Text, "", "Where every connection goes. With it `routes` have no effect, as in MOSN."),
    key(
        "weighted_clusters",
        Maps("weighted"),
        "",
        "Ferrogate's own, instead of `cluster`: one of these, by their weights.",
    ),
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
        "A connection on which nothing moved for so long is closed.",
    ),
    key("max_connect_attempts", Number, "3", "How many hosts are tried, 1 to 100. (MOSN tries 3 in any case.)"),
];

pub(super) const TCP_ROUTE: &[Key] = &[
    key("cluster", Text, "", "Where its connections go. Required, unless `Cluster` or `weighted_clusters` says it."),
    key("Cluster", Text, "", "The same, as MOSN's own dumps spell it."),
    key(
        "weighted_clusters",
        Maps("weighted"),
        "",
        "Ferrogate's own, instead of `cluster`: one of these, by their weights.",
    ),
    key(
        "source_addrs",
        Texts,
        "",
        "The clients: `10.0.0.1`, `10.0.0.0/8`, `2001:db8::/32`. Absent: all. (In MOSN a route without them fits nobody.)",
    ),
    key("SourceAddrs", Maps("cidr_range"), "", "The same, in MOSN's form."),
    key("destination_addrs", Texts, "", "Where they connected to, in the same form. Absent: everywhere."),
    key("DestinationAddrs", Maps("cidr_range"), "", "The same, in MOSN's form."),
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
