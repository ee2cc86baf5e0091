//! The keys of `cluster_manager`.
//!
//! **Invariant:** as in [`working`](super::working): the default written here is the default in force.

use super::Key;
use super::Kind::{Address, Any, Bool, Choice, Duration, Map, Maps, Number, Text, Texts};
use super::working::key;

pub(super) const CLUSTER_MANAGER: &[Key] = &[
    key("clusters", Maps("cluster"), "", "Groups of hosts that serve the same."),
    key(
        "clusters_configs",
        Text,
        "",
        "A directory with a file (`.json`, `.yaml`, `.yml`) for each cluster, instead of `clusters`. A relative path starts at the working directory.",
    ),
    key("tls_context", Map("tls_client"), "", "TLS for the clusters that say `cluster_manager_tls`."),
    key(
        "locality",
        Text,
        "",
        "Ferrogate's own: where this gateway stands. Hosts of the same `locality` come first within their priority.",
    ),
];

pub(super) const CLUSTER: &[Key] = &[
    key("name", Text, "", "Its name. No two alike. Required."),
    key(
        "type",
        Choice(&["SIMPLE", "STATIC", "DYNAMIC", "STRICT_DNS", "ORIGINAL_DST"]),
        "SIMPLE",
        "Where its hosts come from: the file, run-time updates (`DYNAMIC`), or each request (`ORIGINAL_DST`). Hosts with a name are looked up in clusters of every type.",
    ),
    key("lb_type", Choice(BALANCERS), "LB_ROUNDROBIN", "Which host gets the next request."),
    key("lbconfig", Map("lbconfig"), "", "What `lb_type` has to set."),
    key("lb_subset_config", Map("subset"), "", "Subsets of the hosts by their metadata."),
    key(
        "slow_start",
        Map("slow_start"),
        "",
        "Give a new host a small share first. For weighted, least and EWMA balancers.",
    ),
    key(
        "panic_threshold",
        Number,
        "0",
        "Ferrogate's own, in percent: when fewer of the hosts are healthy, all of them are used. 0 is never.",
    ),
    key("connect_timeout", Duration, "limits.connect_timeout", "Opening a connection, TLS included."),
    key(
        "keepalive",
        Map("keepalive"),
        "",
        "How a host that has been silent on a connection of an RPC protocol is asked whether it lives. Six questions in a row without a word \
         from it end the connection.",
    ),
    key(
        "rpc_pool",
        Choice(&["multiplexed", "ping_pong", "bound"]),
        "multiplexed",
        "Ferrogate's own: how requests of RPC protocols share the connections to a host. `multiplexed`: many at a time on one; another is \
         opened where `limits.rpc_streams_max` are open on each. `ping_pong`: one at a time on each. `bound`: those of each client's connection \
         have one of their own, and the two end together.",
    ),
    key(
        "idle_timeout",
        Duration,
        "limits.upstream_idle_timeout",
        "An idle connection is closed after this. (MOSN's default is never.)",
    ),
    key("max_request_per_conn", Number, "0", "A connection is closed after so many requests; 0 is no limit."),
    key(
        "max_connection_duration",
        Duration,
        "",
        "Ferrogate's own: a connection takes no further request when it is older, so that load follows a change of hosts.",
    ),
    key("circuit_breakers", Maps("circuit_breaker"), "", "Limits; the first entry counts."),
    key("health_check", Map("health_check"), "", "Probes. Absent: none."),
    key(
        "outlier_detection",
        Map("outlier_detection"),
        "",
        "Ferrogate's own: leave hosts out that fail requests. Absent: none.",
    ),
    key("original_dst_lb_config", Map("original_dst_lb"), "", "For `ORIGINAL_DST`: where requests go."),
    key("dns_refresh_rate", Duration, "5s", "How often names are looked up."),
    key(
        "respect_dns_ttl",
        Bool,
        "false",
        "Look names up when their answer's time to live is over, `dns_refresh_rate` at the least.",
    ),
    key(
        "dns_lookup_family",
        Choice(FAMILIES),
        "AUTO",
        "Which addresses of a name are used. (MOSN's default is V4_ONLY.)",
    ),
    key("dns_resolvers", Map("dns_resolvers"), "", "Which servers are asked, and how."),
    key(
        "dns_resolver_file",
        Text,
        "/etc/resolv.conf",
        "Where the servers are listed, when `dns_resolvers` names none.",
    ),
    key("dns_resolver_port", Number, "53", "The port of servers that are given without one."),
    key("tls_context", Map("tls_client"), "", "TLS to the hosts."),
    key("cluster_manager_tls", Bool, "false", "Use the `tls_context` of `cluster_manager`."),
    key("hosts", Maps("host"), "", "Its hosts."),
];

const BALANCERS: &[&str] = &[
    "LB_ROUNDROBIN",
    "LB_RANDOM",
    "LB_WEIGHTED_ROUNDROBIN",
    "LB_LEAST_REQUEST",
    "LB_LEAST_CONNECTION",
    "LB_PEAK_EWMA",
    "LB_MAGLEV",
    "LB_RING_HASH",
    "LB_REQUEST_ROUNDROBIN",
    "LB_ORIGINAL_DST",
];

const FAMILIES: &[&str] = &["AUTO", "V4_ONLY", "V6_ONLY"];

pub(super) const LBCONFIG: &[Key] = &[
    key("choice_count", Number, "2", "Least and EWMA: hosts drawn at random, of which the best is taken."),
    key("active_request_bias", Number, "1.0", "Least and EWMA: how much the work in progress counts; 0 not at all."),
    key("client_error_bias", Number, "0.0", "EWMA: how much a host's share of 4xx answers counts against it."),
    key("server_error_bias", Number, "1.0", "EWMA: how much its share of 5xx answers does."),
    key("table_size", Number, "by the hosts", "Ferrogate's own, Maglev: places in the table, rounded up to a prime."),
    key("minimum_ring_size", Number, "1024", "Ferrogate's own, ring hash: points on the ring, at least."),
    key("maximum_ring_size", Number, "1048576", "Ferrogate's own, ring hash: points on the ring, at most."),
];

pub(super) const SUBSET: &[Key] = &[
    key(
        "fall_back_policy",
        Number,
        "0",
        "For requests that no subset is there for: 0 no host, 1 any host, 2 `default_subset`.",
    ),
    key("default_subset", Any, "", "Metadata of the hosts to fall back to."),
    key(
        "subset_selectors",
        Any,
        "",
        "Lists of metadata keys. For each list, hosts with the same values form a subset.",
    ),
];

pub(super) const SLOW_START: &[Key] = &[
    key("mode", Choice(&["duration"]), "duration", "By time."),
    key("slow_start_duration", Duration, "", "How long until a host has its full weight. Required."),
    key("aggression", Number, "1.0", "1 grows evenly, more grows faster at first."),
    key("min_weight_percent", Number, "0.10", "The fraction of its weight that a host begins with."),
];

pub(super) const HEALTH_CHECK: &[Key] = &[
    key(
        "protocol",
        Text,
        "TCP",
        "`Http1` and `Http2` ask for a page, `grpc` asks the health service of gRPC (`grpc.health.v1`); anything else opens a connection. \
         (MOSN has `Http1` and TCP.)",
    ),
    key("timeout", Duration, "1s", "A probe without an answer has failed."),
    key("interval", Duration, "15s", "Between two probes of a host."),
    key("interval_jitter", Duration, "5ms", "Up to this much more, so that probes spread out."),
    key("initial_delay_seconds", Duration, "1s", "Before the first probe."),
    key("healthy_threshold", Number, "1", "So many good probes in a row make a host healthy."),
    key("unhealthy_threshold", Number, "1", "So many bad ones make it unhealthy."),
    key(
        "initial_state",
        Choice(&["healthy", "unhealthy"]),
        "healthy",
        "Ferrogate's own: a host before its first verdict.",
    ),
    key("service_name", Text, "the cluster's name", "The name in metrics. (MOSN does not probe without it.)"),
    key("check_config", Map("check_config"), "", "What is asked for."),
];

pub(super) const CHECK_CONFIG: &[Key] = &[
    key("http_check_config", Map("http_check"), "", "For `Http1` and `Http2`."),
    key("grpc_check_config", Map("grpc_check"), "", "Ferrogate's own, for `grpc`."),
];

pub(super) const GRPC_CHECK: &[Key] = &[
    key("port", Number, "the host's", "Which port is asked."),
    key("service_name", Text, "", "Which service is asked about. Empty: the server as a whole."),
    key("authority", Text, "the host's address", "The `:authority` of the request."),
];

pub(super) const HTTP_CHECK: &[Key] = &[
    key("port", Number, "the host's", "Which port is asked."),
    key("timeout", Duration, "that of health_check", "A probe without an answer has failed. (MOSN's default is 30s.)"),
    key("path", Text, "/", "What is asked for."),
    key("method", Text, "GET", "How."),
    key("scheme", Choice(&["http"]), "http", "TLS is that of the cluster."),
    key("domain", Text, "the host's address", "The `Host` of the request."),
    key("codes", Maps("codes"), "200", "The statuses that are good."),
];

pub(super) const CODES: &[Key] =
    &[key("Start", Number, "", "The first. Required."), key("End", Number, "Start", "The last.")];

pub(super) const OUTLIER: &[Key] = &[
    key("consecutive_5xx", Number, "5", "So many answers of 500 and more, or none, in a row. 0: not looked at."),
    key(
        "consecutive_gateway_failure",
        Number,
        "0",
        "So many of 502, 503 and 504, or none, in a row. 0: not looked at.",
    ),
    key(
        "consecutive_local_origin_failure",
        Number,
        "5",
        "So many times in a row without any answer. 0: not looked at.",
    ),
    key(
        "success_rate_stdev_factor",
        Number,
        "0",
        "A host is left out whose rate of good answers is so many thousandths of a standard deviation below the mean. 0: not looked at.",
    ),
    key("success_rate_minimum_hosts", Number, "5", "For rates: hosts with enough requests, at least."),
    key("success_rate_request_volume", Number, "100", "For rates: requests of a host within an interval, at least."),
    key("interval", Duration, "10s", "How often rates are looked at."),
    key(
        "base_ejection_time",
        Duration,
        "30s",
        "How long a host is left out the first time; each further time in a row this much longer.",
    ),
    key("max_ejection_time", Duration, "300s", "How long at most."),
    key(
        "max_ejection_percent",
        Number,
        "10",
        "Share of the hosts that is left out at a time, at most; one host may always be.",
    ),
];

pub(super) const ORIGINAL_DST_LB: &[Key] = &[
    key("use_header", Bool, "false", "A header says where the request goes, not the client's connection."),
    key("header_name", Text, "host", "Which header: `IP:PORT`."),
    key("replace_local", Bool, "false", "To the same port of 127.0.0.1."),
];

pub(super) const DNS_RESOLVERS: &[Key] = &[
    key("servers", Texts, "those of the file", "`IP` or `IP:PORT`."),
    key("search", Texts, "", "Domains that are appended to names with few dots."),
    key("port", Number, "53", "The port of servers without one."),
    key("ndots", Number, "1", "A name with so many dots is tried as it is first."),
    key("timeout", Number, "5", "Seconds for one question."),
    key("attempts", Number, "2", "How often each server is asked."),
    key("rotate", Bool, "false", "Ask the servers in turn."),
    key("use_tcp", Bool, "false", "Over TCP."),
];

pub(super) const KEEPALIVE: &[Key] = &[
    key("interval", Duration, "15s", "After so long a silence."),
    key("timeout", Duration, "1s", "How long its answer is waited for."),
];

pub(super) const CIRCUIT_BREAKER: &[Key] = &[
    key("max_connections", Number, "0", "Connections to the cluster, at most; 0 is no limit."),
    key(
        "max_pending_requests",
        Number,
        "0",
        "Requests that wait, `connect_timeout` at most, for one of `max_connections`; 0: none waits. (No function in MOSN.)",
    ),
    key("max_requests", Number, "0", "Requests in progress, at most; 0 is no limit."),
    key("max_retries", Number, "0", "Retries in progress at a time, at most; 0 is no limit."),
];

pub(super) const HOST: &[Key] = &[
    key("address", Address, "", "`IP:PORT`, `[IPv6]:PORT`, `unix:/PATH` or `NAME:PORT`. Required."),
    key("hostname", Text, "", "The name that its certificate must carry, and in logs."),
    key("weight", Number, "1", "Its share of the requests, 1 to 128, for the balancers that look at it."),
    key("metadata", Map("metadata"), "", "What subsets are made of."),
    key("tls_disable", Bool, "false", "Plain text although the cluster has TLS."),
    key(
        "priority",
        Number,
        "0",
        "Ferrogate's own: hosts with a higher number get requests when too few of the lower ones are healthy.",
    ),
    key("locality", Text, "", "Ferrogate's own: where it stands. See `cluster_manager.locality`."),
];

pub(super) const METADATA: &[Key] = &[key("filter_metadata", Any, "", "`{\"mosn.lb\": {KEY: VALUE, ...}}`.")];
