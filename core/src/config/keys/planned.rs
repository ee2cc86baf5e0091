//! The keys of MOSN's schema that have no function here yet. A row goes when its function lands.
//!
//! An error where ignoring the key would open, lose or misroute traffic; else a warning that says the effect. A value that switches
//! nothing on (false, 0, an empty text, list or map) is not reported.
//!
//! **Invariant:** nothing that is known and without function is missing here: no key is ignored silently.

use super::Planned;
use crate::config::diagnostic::Severity::{self, Error, Warning};

const fn row(section: &'static str, name: &'static str, severity: Severity, effect: &'static str) -> Planned {
    Planned { section, name, severity, effect, inner: "" }
}

const fn deep(
    section: &'static str,
    name: &'static str,
    severity: Severity,
    effect: &'static str,
    inner: &'static str,
) -> Planned {
    Planned { section, name, severity, effect, inner }
}

#[rustfmt::skip]
pub(crate) const PLANNED: &[Planned] = &[
    // tidy: table
    deep("metrics", "stats_matcher", Warning, "no statistic is left out", "stats_matcher"),
    deep("metrics", "sample", Warning, "times are counted in buckets, not sampled", "sample"),
    deep("metrics", "ewma", Warning, "there are no moving averages", "ewma"),
    row("metrics", "shm_zone", Warning, "counters start anew with each process"),
    row("metrics", "shm_size", Warning, "counters start anew with each process"),
    row("metrics", "flush_mosn", Warning, "all statistics are served"),
    row("metrics", "lazy_flush", Warning, "all statistics are served"),
    row("prometheus", "percentiles", Warning, "times are histograms: Prometheus computes percentiles of them"),
    row("prometheus", "disable_collect_process", Warning, "no statistics of the process are served"),
    row("prometheus", "disable_collect_go", Warning, "there is no Go runtime"),
    row("prometheus", "export_url", Warning, "metrics are fetched, never pushed; in MOSN the key has no effect either"),
    deep("file", "tracing", Warning, "no trace is written", "tracing"),
    row("file", "extends", Error, "the extensions are not started: what they register, tunnel or convert is lost"),
    row("file", "third_part_codec", Error, "the protocols of loaded codecs are not served"),
    row("file", "dynamic_resources", Error, "nothing is fetched from a control plane: its listeners, routes and clusters are missing"),
    row("file", "static_resources", Error, "the clusters of this section, which the control plane is reached by, are missing"),
    row("file", "wasm_global_plugins", Warning, "no plugin is loaded"),
    row("file", "plugin", Warning, "no plugin process is started"),
    row("file", "pprof", Warning, "no profile port is opened"),
    row("file", "service_registry", Warning, "nothing is registered"),
    row("file", "node", Warning, "no control plane learns it"),
    row("file", "uds_dir", Warning, "there is no hot upgrade, so there are no sockets for it"),
    row("file", "close_graceful", Warning, "a stop is always graceful"),
    row("file", "disable_upgrade", Warning, "there is no hot upgrade to disable"),
    row("file", "inherit_old_mosnconfig", Warning, "there is no hot upgrade: the file alone counts"),

    row("server", "use_netpoll_mode", Warning, "every worker polls its own sockets; there is no other mode"),

    row("listener", "type", Warning, "logs and metrics do not tell ingress from egress"),
    row("listener", "reuseport", Warning, "every worker has a listening socket of its own in any case"),
    row("listener", "default_read_buffer_size", Warning, "an idle connection holds no buffer at all"),

    row("filter_chain", "match", Error, "every connection would take this chain; write `filter_chain_match`"),
    row("stream_filter", "go_plugin_config", Error, "the filter would be missing"),
    row("filter", "go_plugin_config", Error, "the filter would be missing"),

    row("proxy", "name", Warning, "statistics go by the listener's name"),
    row("proxy", "router_handler_name", Warning, "routes are always chosen by the default rules"),
    row("proxy", "concurrency_num", Warning, "requests run on the workers"),
    row("proxy", "validate_clusters", Warning, "clusters of routes are always checked"),
    row("proxy", "transparent_proxy", Error, "origins would see the gateway's address instead of the client's"),
    row("proxy_http2", "http2_use_stream", Warning, "bodies of HTTP/2 always stream"),
    row("tcp_proxy", "stat_prefix", Warning, "statistics go by the listener's name"),
    row("tcp_proxy", "transparent_proxy", Error, "hosts would see the gateway's address instead of the client's"),
    row("udp_proxy", "stat_prefix", Warning, "statistics go by the listener's name"),
    row("udp_proxy", "max_connect_attempts", Warning, "a host that can't be reached is found out by the datagrams: the next ones go to another"),
    row("proxy_extend", "dubbo", Warning, "the protocol has no settings"),
    row("proxy_extend", "dubbo-thrift", Warning, "the protocol has no settings"),
    row("proxy_extend", "tars", Warning, "the protocol has no settings"),
    row("proxy_extend", "http2_use_stream", Warning, "bodies of HTTP/2 always stream"),
    row("proxy_http1", "http2_use_stream", Warning, "bodies always stream"),
    row("proxy_http1", "enable_bolt_goaway", Warning, "it is a setting of `bolt`"),
    row("proxy_http1", "sub_protocol", Error, "it belongs to `downstream_protocol: X`"),

    row("virtual_host", "require_tls", Warning, "requests without TLS are served too; in MOSN the key has no effect either"),
    row("flow_control", "app_name", Warning, "counters go by the listener and the rule"),
    row("flow_control", "callback_name", Error, "the callbacks that are named would not run"),
    row("flow_control", "log_path", Warning, "what is refused is counted, not logged"),
    row("flow_control", "dynamic_data_resources", Error, "the rules of these sources would be missing"),
    row("flow_control", "direction", Warning, "every listener counts for itself"),
    row("flow_rule", "tokenCalculateStrategy", Error, "the limit would not warm up or follow the memory"),
    row("flow_rule", "relationStrategy", Error, "requests for this resource would be bounded, not those for another one"),
    row("flow_rule", "refResource", Warning, "no rule looks at another resource"),
    row("flow_rule", "warmUpPeriodSec", Warning, "limits do not warm up"),
    row("flow_rule", "warmUpColdFactor", Warning, "limits do not warm up"),
    row("flow_rule", "limitApp", Warning, "every client counts"),
    row("flow_rule", "strategy", Warning, "a rule bounds its own resource"),
    row("flow_rule", "clusterMode", Error, "each gateway would count for itself"),


    row("route", "metadata", Warning, "nothing reads it"),
    row("route", "decorator", Warning, "no trace is written"),

    row("mirror", "trace_sampled", Warning, "no trace is written"),
    row("mirror", "amplification", Warning, "it is a key of the stream filter `mirror`"),
    row("mirror", "broadcast", Warning, "it is a key of the stream filter `mirror`"),
    row("pattern", "google_re2", Warning, "there is one kind of pattern"),

    deep("match", "dsl_expressions", Error, "the route would take requests for which the expressions are false", "dsl"),

    row("cluster_manager", "cluster_pool_enable", Warning, "every cluster has pools of its own in any case"),

    row("cluster", "sub_type", Warning, "nothing reads it; in MOSN the key has no effect either"),
    row("cluster", "conn_buffer_limit_bytes", Warning, "buffers are bounded by `limits`; in MOSN the key has no effect either"),
    row("cluster", "mark", Error, "connections would lack the mark that routing or the firewall goes by"),
    row("cluster", "spec", Error, "the hosts that a registry would tell are missing"),
    row("health_check", "common_callbacks", Warning, "nothing is called"),
    row("health_check", "event_log_path", Warning, "changes of health are in the log"),
    row("cluster", "cluster_pool_enable", Warning, "every cluster has pools of its own in any case"),



    row("tls_server", "type", Error, "the peer would not be verified as this type does"),
    row("tls_server", "server_name", Warning, "certificates are chosen by the names in them"),
    row("tls_server", "insecure_skip", Warning, "clients are verified as `verify_client` says"),
    row("tls_server", "ticket", Warning, "tickets are sealed with keys of our own; write `session_ticket_keys`"),
    row("tls_server", "fall_back", Warning, "a bad certificate stops the start; nothing falls back to plain text"),
    row("tls_server", "extend_verify", Error, "the peer would not be verified by these rules"),
    row("tls_server", "callbacks", Error, "the peer would not be verified by these callbacks"),
    row("tls_server", "sds_source", Error, "the certificates of the secret service would be missing"),

    row("tls_client", "verify_client", Warning, "this is the client's side"),
    row("tls_client", "require_client_cert", Warning, "this is the client's side"),
    row("tls_client", "ticket", Warning, "sessions are resumed where the origin allows it"),
    row("tls_client", "fall_back", Warning, "a failed handshake fails the request; nothing falls back to plain text"),
    row("tls_client", "callbacks", Error, "the origin would not be verified by these callbacks"),
    row("tls_client", "sds_source", Error, "the certificates of the secret service would be missing"),

    row("admin", "access_log_path", Warning, "requests to the admin API are not logged"),
    row("admin", "access_log", Warning, "requests to the admin API are not logged"),
    row("admin", "profile_path", Warning, "no profile is written"),
    row("transcoder", "go_plugin_config", Error, "the plugin's conversions would be missing"),
    row("admin", "socket_options", Warning, "the socket has the usual options"),
    row("pipe", "mode", Warning, "the socket is for the user that the gateway runs as (0600)"),
    row("socket_address", "protocol", Warning, "it is TCP"),
    row("socket_address", "named_port", Warning, "only `port_value` counts"),
    row("socket_address", "resolver_name", Warning, "the address is an IP address"),
    row("socket_address", "ipv4_compat", Warning, "the address is taken as it is written"),
];

/// The keys within keys that have no function yet, so that a misspelt one is seen: `key>row` says what is within a key in turn.
#[rustfmt::skip]
pub(crate) const INNER: &[(&str, &str)] = &[
    // tidy: table
    ("stats_matcher", "reject_all exclusion_labels exclusion_keys"),
    ("sample", "type size exp_decay_alpha"),
    ("ewma", "alpha target duration"),
    ("tracing", "enable tracer driver config"),
    ("dsl", "expression"),
];

/// A value of MOSN's schema, a filter's type or the like, that has no function yet.
#[derive(Debug)]
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    pub(crate) severity: Severity,
    pub(crate) effect: &'static str,
}

const fn variant(name: &'static str, severity: Severity, effect: &'static str) -> Variant {
    Variant { name, severity, effect }
}

/// The stream filters of MOSN (`stream_filters[].type`) that do not run yet.
#[rustfmt::skip]
pub(crate) const STREAM_FILTERS: &[Variant] = &[
    // tidy: table
    variant("fault_tolerance", Warning, "a host that fails keeps its share of the requests"),
    variant("dsl", Error, "requests would be neither changed nor refused"),
    variant("dubbo_stream", Error, "requests would not find their service"),
    variant("grpc_metric", Warning, "these statistics are missing"),
    variant("seata", Error, "transactions would not be opened, committed or rolled back"),
    variant("proxywasm", Error, "what the plugin refuses or changes would pass unchanged"),
    variant("jwt_authn", Error, "requests without a valid token would be let through"),
    variant("istio.stats", Warning, "these statistics are missing"),
    variant("mixer", Warning, "nothing is reported to Mixer"),
    variant("rbac", Error, "requests that are meant to be refused would be let through"),
    variant("health_check", Warning, "health checks are passed on like any other request"),
];

/// The network filters of MOSN (`filters[].type`) that do not run yet.
#[rustfmt::skip]
pub(crate) const NETWORK_FILTERS: &[Variant] = &[
    // tidy: table
    variant("grpc", Error, "the service would not be served"),
    variant("tunnel", Error, "agents could not connect"),
    variant("connection_manager", Error, "write the router under `servers[0].routers`, and its name in the `proxy` filter"),
];

/// The types of clusters that are not here yet.
pub(crate) const CLUSTER_TYPES: &[Variant] = &[variant("EDS", Error, "hosts are not fetched from a control plane")];
