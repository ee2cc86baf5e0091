//! The keys that have function. The reader asks for no key that is not here.
//!
//! **Invariant:** the default written here is the default in force; tests read both.

use super::cluster::{
    CHECK_CONFIG, CIRCUIT_BREAKER, CLUSTER, CLUSTER_MANAGER, CODES, DNS_RESOLVERS, GRPC_CHECK, HEALTH_CHECK, HOST,
    HTTP_CHECK, KEEPALIVE, LBCONFIG, METADATA, ORIGINAL_DST_LB, OUTLIER, SLOW_START, SUBSET,
};
use super::dataplane::{DATAPLANE, DPDK, DPDK_EXCEPTION, DPDK_IDLE, DPDK_OFFLOADS, DPDK_PORT, DPDK_ROUTE, DPDK_VLAN};
use super::limits::LIMITS;
use super::routing::{
    DIRECT_RESPONSE, FILTER_METADATA, HASH_COOKIE, HASH_HEADER, HASH_POLICY, HEADER, HEADER_ADD, HEADER_MATCH, MATCH,
    METADATA_MATCH, MIRROR, PATTERN, REDIRECT, REGEX_REWRITE, RETRY_BACK_OFF, RETRY_BUDGET, RETRY_POLICY, ROUTE,
    ROUTE_ACTION, ROUTER, VARIABLE_MATCH, VIRTUAL_HOST, WEIGHTED, WEIGHTED_CLUSTER,
};
use super::tls::{ACCELERATOR, EXTEND_VERIFY, TLS_BACKEND, TLS_CLIENT, TLS_SERVER};
use super::{Key, Kind, Section, filters, network};
use Kind::{Any, Bool, Choice, Duration, Map, Maps, Number, Size, Text};

pub(super) const fn key(name: &'static str, kind: Kind, default: &'static str, meaning: &'static str) -> Key {
    Key { name, kind, default, meaning }
}

/// Every map of the file, in the order of the reference page.
pub(crate) const SECTIONS: &[Section] = &[
    Section { name: "file", path: "", keys: FILE },
    Section { name: "server", path: "servers[0]", keys: SERVER },
    Section { name: "listener", path: "servers[0].listeners[]", keys: network::LISTENER },
    Section { name: "access_log", path: "servers[0].listeners[].access_logs[]", keys: ACCESS_LOG },
    Section { name: "stream_filter", path: "servers[0].listeners[].stream_filters[]", keys: STREAM_FILTER },
    Section { name: "fault", path: "fault: stream_filters[].config", keys: filters::FAULT },
    Section { name: "fault_delay", path: "fault: stream_filters[].config.delay", keys: filters::FAULT_DELAY },
    Section { name: "fault_abort", path: "fault: stream_filters[].config.abort", keys: filters::FAULT_ABORT },
    Section { name: "mirror_filter", path: "mirror: stream_filters[].config", keys: filters::MIRROR },
    Section { name: "payload_limit", path: "payload_limit: stream_filters[].config", keys: filters::PAYLOAD_LIMIT },
    Section { name: "transcoder", path: "transcoder: stream_filters[].config", keys: filters::TRANSCODER },
    Section {
        name: "transcoder_phase",
        path: "transcoder: stream_filters[].config.trans",
        keys: filters::TRANSCODER_PHASE,
    },
    Section {
        name: "transcoder_rule",
        path: "transcoder: stream_filters[].config.rules[]",
        keys: filters::TRANSCODER_RULE,
    },
    Section {
        name: "transcoder_matcher",
        path: "transcoder: stream_filters[].config.rules[].matcher_config",
        keys: filters::TRANSCODER_MATCHER,
    },
    Section {
        name: "transcoder_field",
        path: "transcoder: stream_filters[].config.rules[].matcher_config.config",
        keys: filters::TRANSCODER_FIELD,
    },
    Section {
        name: "transcoder_info",
        path: "transcoder: stream_filters[].config.rules[].rule_info",
        keys: filters::TRANSCODER_INFO,
    },
    Section { name: "flow_control", path: "flowControlFilter: stream_filters[].config", keys: filters::FLOW_CONTROL },
    Section {
        name: "flow_action",
        path: "flowControlFilter: stream_filters[].config.action",
        keys: filters::FLOW_ACTION,
    },
    Section { name: "flow_rule", path: "flowControlFilter: stream_filters[].config.rules[]", keys: filters::FLOW_RULE },
    Section { name: "gzip", path: "gzip: stream_filters[].config", keys: filters::GZIP },
    Section {
        name: "header_to_metadata",
        path: "header_to_metadata: stream_filters[].config",
        keys: filters::HEADER_TO_METADATA,
    },
    Section {
        name: "metadata_rule",
        path: "header_to_metadata: stream_filters[].config.request_rules[]",
        keys: filters::METADATA_RULE,
    },
    Section {
        name: "metadata_value",
        path: "header_to_metadata: on_header_present, on_header_missing",
        keys: filters::METADATA_VALUE,
    },
    Section { name: "ip_access", path: "ip_access: stream_filters[].config", keys: filters::IP_ACCESS },
    Section { name: "ip_access_rule", path: "ip_access: stream_filters[].config.ips[]", keys: filters::IP_ACCESS_RULE },
    Section {
        name: "listener_filter",
        path: "servers[0].listeners[].listener_filters[]",
        keys: network::LISTENER_FILTER,
    },
    Section {
        name: "proxy_protocol",
        path: "proxy_protocol: listener_filters[].config",
        keys: network::PROXY_PROTOCOL,
    },
    Section { name: "original_dst", path: "original_dst: listener_filters[].config", keys: network::ORIGINAL_DST },
    Section { name: "filter_chain", path: "servers[0].listeners[].filter_chains[]", keys: network::FILTER_CHAIN },
    Section {
        name: "filter_chain_match",
        path: "….filter_chains[].filter_chain_match",
        keys: network::FILTER_CHAIN_MATCH,
    },
    Section {
        name: "prefix_range",
        path: "….filter_chain_match.prefix_ranges[], source_prefix_ranges[]",
        keys: network::PREFIX_RANGE,
    },
    Section { name: "filter", path: "servers[0].listeners[].filter_chains[].filters[]", keys: network::FILTER },
    Section { name: "proxy", path: "servers[0].listeners[].filter_chains[].filters[0].config", keys: PROXY },
    Section {
        name: "client_cert_details",
        path: "set_current_client_cert_details of a proxy filter",
        keys: CLIENT_CERT_DETAILS,
    },
    Section { name: "proxy_extend", path: "….filters[0].config.extend_config", keys: PROXY_EXTEND },
    Section { name: "proxy_http1", path: "….filters[0].config.extend_config.Http1", keys: PROXY_HTTP1 },
    Section { name: "proxy_http2", path: "….filters[0].config.extend_config.Http2", keys: PROXY_HTTP2 },
    Section { name: "proxy_bolt", path: "….filters[0].config.extend_config.bolt", keys: PROXY_BOLT },
    Section {
        name: "fault_inject",
        path: "fault_inject: filter_chains[].filters[].config",
        keys: network::FAULT_INJECT,
    },
    Section { name: "tcp_proxy", path: "tcp_proxy: filter_chains[].filters[0].config", keys: network::TCP_PROXY },
    Section { name: "udp_proxy", path: "udp_proxy: filter_chains[].filters[0].config", keys: network::UDP_PROXY },
    Section {
        name: "tcp_route",
        path: "tcp_proxy: filter_chains[].filters[0].config.routes[]",
        keys: network::TCP_ROUTE,
    },
    Section {
        name: "cidr_range",
        path: "tcp_proxy: ….config.routes[].SourceAddrs[], DestinationAddrs[]",
        keys: network::CIDR_RANGE,
    },
    Section { name: "router", path: "servers[0].routers[]", keys: ROUTER },
    Section { name: "virtual_host", path: "servers[0].routers[].virtual_hosts[]", keys: VIRTUAL_HOST },
    Section { name: "route", path: "servers[0].routers[].virtual_hosts[].routers[]", keys: ROUTE },
    Section { name: "match", path: "….virtual_hosts[].routers[].match", keys: MATCH },
    Section { name: "route_action", path: "….virtual_hosts[].routers[].route", keys: ROUTE_ACTION },
    Section {
        name: "header_match",
        path: "….routers[].match.headers[], and headers[] of a stream filter",
        keys: HEADER_MATCH,
    },
    Section { name: "variable_match", path: "….routers[].match.variables[]", keys: VARIABLE_MATCH },
    Section { name: "weighted", path: "….routers[].route.weighted_clusters[]", keys: WEIGHTED },
    Section {
        name: "weighted_cluster", path: "….routers[].route.weighted_clusters[].cluster", keys: WEIGHTED_CLUSTER
    },
    Section { name: "metadata_match", path: "….routers[].route.metadata_match", keys: METADATA_MATCH },
    Section {
        name: "filter_metadata",
        path: "….routers[].route.metadata_match.filter_metadata",
        keys: FILTER_METADATA,
    },
    Section { name: "retry_policy", path: "….routers[].route.retry_policy", keys: RETRY_POLICY },
    Section { name: "retry_back_off", path: "….routers[].route.retry_policy.retry_back_off", keys: RETRY_BACK_OFF },
    Section { name: "retry_budget", path: "….routers[].route.retry_policy.retry_budget", keys: RETRY_BUDGET },
    Section { name: "regex_rewrite", path: "….routers[].route.regex_rewrite", keys: REGEX_REWRITE },
    Section { name: "pattern", path: "….routers[].route.regex_rewrite.pattern", keys: PATTERN },
    Section { name: "hash_policy", path: "….routers[].route.hash_policy[]", keys: HASH_POLICY },
    Section { name: "hash_header", path: "….routers[].route.hash_policy[].header", keys: HASH_HEADER },
    Section { name: "hash_cookie", path: "….routers[].route.hash_policy[].cookie", keys: HASH_COOKIE },
    Section { name: "mirror", path: "….routers[].request_mirror_policies", keys: MIRROR },
    Section { name: "header_add", path: "….request_headers_to_add[] and the like", keys: HEADER_ADD },
    Section { name: "header", path: "….request_headers_to_add[].header", keys: HEADER },
    Section { name: "redirect", path: "….virtual_hosts[].routers[].redirect", keys: REDIRECT },
    Section { name: "direct_response", path: "….virtual_hosts[].routers[].direct_response", keys: DIRECT_RESPONSE },
    Section { name: "cluster_manager", path: "cluster_manager", keys: CLUSTER_MANAGER },
    Section { name: "cluster", path: "cluster_manager.clusters[]", keys: CLUSTER },
    Section { name: "keepalive", path: "cluster_manager.clusters[].keepalive", keys: KEEPALIVE },
    Section { name: "circuit_breaker", path: "cluster_manager.clusters[].circuit_breakers[0]", keys: CIRCUIT_BREAKER },
    Section { name: "lbconfig", path: "cluster_manager.clusters[].lbconfig", keys: LBCONFIG },
    Section { name: "subset", path: "cluster_manager.clusters[].lb_subset_config", keys: SUBSET },
    Section { name: "slow_start", path: "cluster_manager.clusters[].slow_start", keys: SLOW_START },
    Section { name: "health_check", path: "cluster_manager.clusters[].health_check", keys: HEALTH_CHECK },
    Section { name: "check_config", path: "….health_check.check_config", keys: CHECK_CONFIG },
    Section { name: "http_check", path: "….health_check.check_config.http_check_config", keys: HTTP_CHECK },
    Section { name: "grpc_check", path: "….health_check.check_config.grpc_check_config", keys: GRPC_CHECK },
    Section { name: "codes", path: "….http_check_config.codes[]", keys: CODES },
    Section { name: "outlier_detection", path: "cluster_manager.clusters[].outlier_detection", keys: OUTLIER },
    Section {
        name: "original_dst_lb",
        path: "cluster_manager.clusters[].original_dst_lb_config",
        keys: ORIGINAL_DST_LB,
    },
    Section { name: "dns_resolvers", path: "cluster_manager.clusters[].dns_resolvers", keys: DNS_RESOLVERS },
    Section { name: "host", path: "cluster_manager.clusters[].hosts[]", keys: HOST },
    Section { name: "metadata", path: "cluster_manager.clusters[].hosts[].metadata", keys: METADATA },
    Section { name: "tls_server", path: "tls_context and tls_context_set[] of a filter chain", keys: TLS_SERVER },
    Section { name: "tls_client", path: "tls_context of a cluster or of cluster_manager", keys: TLS_CLIENT },
    Section { name: "extend_verify", path: "extend_verify of a tls_context of a cluster", keys: EXTEND_VERIFY },
    Section { name: "admin", path: "admin", keys: ADMIN },
    Section { name: "admin_address", path: "admin.address", keys: ADMIN_ADDRESS },
    Section { name: "socket_address", path: "admin.address.socket_address", keys: SOCKET_ADDRESS },
    Section { name: "pipe", path: "admin.address.pipe", keys: PIPE },
    Section { name: "dataplane", path: "dataplane", keys: DATAPLANE },
    Section { name: "dpdk", path: "dataplane.dpdk", keys: DPDK },
    Section { name: "dpdk_port", path: "dataplane.dpdk.ports[]", keys: DPDK_PORT },
    Section { name: "dpdk_exception", path: "dataplane.dpdk.ports[].exception", keys: DPDK_EXCEPTION },
    Section { name: "dpdk_offloads", path: "dataplane.dpdk.ports[].offloads", keys: DPDK_OFFLOADS },
    Section { name: "dpdk_route", path: "routes[] of a port and of its VLANs", keys: DPDK_ROUTE },
    Section { name: "dpdk_vlan", path: "dataplane.dpdk.ports[].vlans[]", keys: DPDK_VLAN },
    Section { name: "dpdk_idle", path: "dataplane.dpdk.idle", keys: DPDK_IDLE },
    Section { name: "tls_backend", path: "tls_backend", keys: TLS_BACKEND },
    Section { name: "accelerator", path: "tls_backend.accelerators[]", keys: ACCELERATOR },
    Section { name: "metrics", path: "metrics", keys: METRICS },
    Section { name: "sink", path: "metrics.sinks[]", keys: SINK },
    Section { name: "prometheus", path: "metrics.sinks[].config", keys: PROMETHEUS },
    Section { name: "control", path: "control", keys: CONTROL },
    Section { name: "limits", path: "limits", keys: LIMITS },
];

const FILE: &[Key] = &[
    key("servers", Maps("server"), "", "What listens. Exactly one. Required."),
    key("cluster_manager", Map("cluster_manager"), "", "Where requests go."),
    key("admin", Map("admin"), "", "The admin API. Absent: none."),
    key("dataplane", Map("dataplane"), "", "Ferrogate's own: which packet backend carries the traffic."),
    key("metrics", Map("metrics"), "", "Where metrics are served beside the admin API."),
    key("control", Map("control"), "", "Ferrogate's own: what may change a running gateway."),
    key(
        "pid",
        Text,
        "",
        "A file for the process id, which `ferrogate reload` and `ferrogate stop` look for. Absent: none is written.",
    ),
    key("limits", Map("limits"), "", "Ferrogate's own: every limit by name."),
    key("tls_backend", Map("tls_backend"), "", "Ferrogate's own: who does the cryptography of TLS."),
];

const METRICS: &[Key] = &[key("sinks", Maps("sink"), "", "Where they are served.")];

const SINK: &[Key] = &[
    key("type", Choice(&["prometheus", "console"]), "", "`prometheus`; a `console` sink does nothing. Required."),
    key("config", Map("prometheus"), "", "Where."),
];

const PROMETHEUS: &[Key] = &[
    key("port", Number, "", "The TCP port. Required."),
    key("address", Text, "127.0.0.1", "Ferrogate's own: the IP address. (MOSN listens on every interface.)"),
    key("endpoint", Text, "/metrics", "The path."),
];

const CONTROL: &[Key] = &[
    key(
        "watch_config",
        Bool,
        "false",
        "Whether a change of the file, or of one that a `tls_context` names, is a reload, as HUP is. They are looked at twice a second; of more than a \
         thousand, more seldom.",
    ),
    key(
        "dynamic_config",
        Bool,
        "false",
        "Whether the admin API may change the configuration (`update_config`, `update_route`), for clients on this host.",
    ),
    key("auto_config", Bool, "false", "Whether such a change is written to the file, as JSON. (MOSN: a feature gate.)"),
    key(
        "capture",
        Bool,
        "false",
        "Whether the admin API at an IP address gives frames of the DPDK plane, with what clients send in them (`ferrogate capture`). At a unix \
         socket, which only root and the gateway's user can open, it does in any case.",
    ),
];

const SERVER: &[Key] = &[
    key("mosn_server_name", Text, "", "A name for this gateway, in logs."),
    key("default_log_path", Text, "stderr", "Where the log goes: `stdout`, `stderr` or a file."),
    key("global_log_roller", Text, ROLLER, "When log files are put aside: see `log_roller` of an access log."),
    key("default_log_level", Choice(LEVELS), "INFO", "The least grave entries that are logged. `FATAL` is `ERROR`."),
    key(
        "graceful_timeout",
        Duration,
        "30s",
        "How long running requests are given at a stop. The same as `limits.graceful_timeout`.",
    ),
    key(
        "processor",
        Number,
        "auto",
        "Worker threads, or `auto`: one a core. `dataplane.workers` says the same and wins.",
    ),
    key("listeners", Maps("listener"), "", "Addresses that are served."),
    key("routers", Maps("router"), "", "Route tables, which listeners refer to by name."),
];

const LEVELS: &[&str] = &["OFF", "FATAL", "ERROR", "WARN", "INFO", "DEBUG", "TRACE"];

const STREAM_FILTER: &[Key] =
    &[key("type", Text, "", "Which filter. Required."), key("config", Any, "", "The filter's own configuration.")];

const ACCESS_LOG: &[Key] = &[
    key("log_path", Text, "stdout", "`stdout`, `stderr` or a file."),
    key("log_format", Text, "MOSN's default", "The line, with `%variable%`s: docs/operating/access-log.md lists them."),
    key("json", Bool, "false", "Ferrogate's own: a JSON object a line, with the fields that are used most."),
    key("json_format", Any, "", "Ferrogate's own: a JSON object a line; a map of names to texts with `%variable%`s."),
    key(
        "log_roller",
        Text,
        "global_log_roller",
        "When the file is put aside, as in MOSN: `time` in hours, `size` in MB; `age` in days and `keep` say what is kept of old files; \
         `compress=on` packs them. `off`: never.",
    ),
];

const ROLLER: &str = "time=24 size=1000 age=7 keep=10 compress=off";

const PROXY: &[Key] = &[
    key(
        "downstream_protocol",
        Text,
        "Http1",
        "The protocols of the clients, with commas between them: `Http1`, `Http2`, `bolt`, `boltv2`, `dubbo`, `dubbo-thrift`, `tars`. `Auto` is all of them. Where there is \
         more than one, ALPN says which it is, else the first bytes. `X` is the one that `extend_config.sub_protocol` names. A connection of \
         `bolt` or `boltv2` may carry frames of both.",
    ),
    key("router_config_name", Text, "", "The router to use. Required, unless the listener has its routes inline."),
    key(
        "upstream_protocol",
        Text,
        "Http1",
        "What origins are asked in, by routes that say nothing of it: `Http1`, `Http2`, or `Auto`, which is what the client speaks.",
    ),
    key("extend_config", Map("proxy_extend"), "", "Settings of the protocols."),
    key(
        "fallback_for_unknown_protocol",
        Bool,
        "false",
        "A connection that begins with none of the protocols, or says nothing for `limits.head_timeout`, goes to the `tcp_proxy` filter behind \
         this one, with all that it has sent. For `Auto` and lists of protocols.",
    ),
    key(
        "use_remote_address",
        Bool,
        "true",
        "Clients are not believed: X-Forwarded-For gets their address behind what they say, X-Forwarded-Proto is set anew, and so is \
         X-Request-Id. False: the fields pass as they came. (Envoy's default is false; MOSN has none of this.)",
    ),
    key(
        "xff_num_trusted_hops",
        Number,
        "0",
        "Proxies before this one that are believed, up to 64. With one or more X-Forwarded-Proto and X-Request-Id pass as they came.",
    ),
    key("skip_xff_append", Bool, "false", "Leave X-Forwarded-For as it came."),
    key("generate_request_id", Bool, "true", "Give a request without an X-Request-Id one, a random UUID."),
    key("preserve_external_request_id", Bool, "false", "Keep the X-Request-Id of a client that is not believed."),
    key(
        "forward_client_cert_details",
        Choice(&["SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"]),
        "SANITIZE",
        "What becomes of X-Forwarded-Client-Cert, as in Envoy. `SANITIZE`: it is removed. `SANITIZE_SET`: it is what we know of the client, \
         `APPEND_FORWARD`: that behind what the client says, `FORWARD_ONLY`: what the client says, each where the client's certificate was \
         verified (`verify_client`), and removed elsewhere. `ALWAYS_FORWARD_ONLY`: it passes as it came.",
    ),
    key(
        "set_current_client_cert_details",
        Map("client_cert_details"),
        "",
        "What is told of the client beside the certificate's digest (`Hash`) and our own certificate's URI (`By`, where there is one certificate).",
    ),
    key("via", Text, "", "The name in a Via field (RFC 9110, 7.6.3). Absent: no such field."),
];

const CLIENT_CERT_DETAILS: &[Key] = &[
    key("subject", Bool, "false", "`Subject`: the subject, as RFC 2253 writes it."),
    key("cert", Bool, "false", "`Cert`: the certificate in PEM, percent-encoded."),
    key("chain", Bool, "false", "`Chain`: it and those behind it. Of a resumed session OpenSSL knows the first only."),
    key("dns", Bool, "false", "`DNS`: each DNS name among its alternative names."),
    key("uri", Bool, "false", "`URI`: each URI among them."),
];

const PROXY_EXTEND: &[Key] = &[
    key(
        "Http1",
        Map("proxy_http1"),
        "",
        "Settings of HTTP/1. Where the protocol is `Http1` alone they may also stand in `extend_config` itself.",
    ),
    key("Http2", Map("proxy_http2"), "", "Settings of HTTP/2."),
    key(
        "bolt",
        Map("proxy_bolt"),
        "",
        "Settings of Bolt. Where the protocol is `bolt` or `boltv2` alone they may also stand in `extend_config` itself.",
    ),
    key("boltv2", Map("proxy_bolt"), "", "The same."),
    key(
        "sub_protocol",
        Text,
        "",
        "The protocol of the clients where `downstream_protocol` is `X`, as files for MOSN before 0.26 have it.",
    ),
];

const PROXY_HTTP2: &[Key] = &[
    key(
        "extended_connect",
        Bool,
        "true",
        "Tell clients that they may ask for a WebSocket over HTTP/2 (RFC 8441, SETTINGS_ENABLE_CONNECT_PROTOCOL).",
    ),
    key(
        "upgrade_h2c",
        Bool,
        "true",
        "Let clients in clear text change from HTTP/1.1 by `Upgrade: h2c` (RFC 7540, 3.2), where both are spoken.",
    ),
];

const PROXY_BOLT: &[Key] = &[key(
    "enable_bolt_goaway",
    Bool,
    "false",
    "Tell clients to send no more requests on a connection that is to be closed: at a reload, at the end, or when it was idle. Without it a \
     connection is closed once nothing is open on it.",
)];

const PROXY_HTTP1: &[Key] = &[
    key(
        "max_header_size",
        Size,
        "limits.head_bytes_max",
        "Bytes of a request's head, at most (431 beyond). (MOSN's default is 8192.)",
    ),
    key(
        "max_request_body_size",
        Size,
        "limits.request_body_bytes_max",
        "Bytes of a request's body, at most (413 beyond); 0 is no limit.",
    ),
];

const ADMIN: &[Key] = &[key("address", Map("admin_address"), "", "Where it listens.")];

const ADMIN_ADDRESS: &[Key] = &[
    key("socket_address", Map("socket_address"), "", "An IP address and a port."),
    key("pipe", Map("pipe"), "", "A unix socket, in place of these."),
];

const SOCKET_ADDRESS: &[Key] = &[
    key("address", Text, "127.0.0.1", "An IP address. The admin API asks nobody who they are: keep it on loopback."),
    key("port_value", Number, "9901", "The port."),
];

const PIPE: &[Key] = &[key(
    "path",
    Text,
    "",
    "Where the socket is. Only the user that the gateway runs as, and root, may connect. Required.",
)];
