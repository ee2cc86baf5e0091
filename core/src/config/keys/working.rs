//! The keys that have function. The reader asks for no key that is not here.
//!
//! **Invariant:** the default written here is the default in force; tests read both.

use super::cluster::{
    CHECK_CONFIG, CIRCUIT_BREAKER, CLUSTER, CLUSTER_MANAGER, CODES, DNS_RESOLVERS, HEALTH_CHECK, HOST, HTTP_CHECK,
    LBCONFIG, METADATA, ORIGINAL_DST_LB, OUTLIER, SLOW_START, SUBSET,
};
use super::routing::{
    DIRECT_RESPONSE, FILTER_METADATA, HASH_COOKIE, HASH_HEADER, HASH_POLICY, HEADER, HEADER_ADD, HEADER_MATCH, MATCH,
    METADATA_MATCH, MIRROR, PATTERN, REDIRECT, REGEX_REWRITE, RETRY_BACK_OFF, RETRY_BUDGET, RETRY_POLICY, ROUTE,
    ROUTE_ACTION, ROUTER, VARIABLE_MATCH, VIRTUAL_HOST, WEIGHTED, WEIGHTED_CLUSTER,
};
use super::{Key, Kind, Section, filters, network};
use Kind::{Any, Bool, Choice, Duration, Map, Maps, Number, Pem, Size, Text, Texts};

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
    Section { name: "filter_chain", path: "servers[0].listeners[].filter_chains[0]", keys: network::FILTER_CHAIN },
    Section { name: "filter", path: "servers[0].listeners[].filter_chains[0].filters[0]", keys: network::FILTER },
    Section { name: "proxy", path: "servers[0].listeners[].filter_chains[0].filters[0].config", keys: PROXY },
    Section { name: "proxy_extend", path: "….filters[0].config.extend_config", keys: PROXY_EXTEND },
    Section { name: "proxy_http1", path: "….filters[0].config.extend_config.Http1", keys: PROXY_HTTP1 },
    Section { name: "tcp_proxy", path: "tcp_proxy: filter_chains[0].filters[0].config", keys: network::TCP_PROXY },
    Section {
        name: "tcp_route",
        path: "tcp_proxy: filter_chains[0].filters[0].config.routes[]",
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
    Section { name: "circuit_breaker", path: "cluster_manager.clusters[].circuit_breakers[0]", keys: CIRCUIT_BREAKER },
    Section { name: "lbconfig", path: "cluster_manager.clusters[].lbconfig", keys: LBCONFIG },
    Section { name: "subset", path: "cluster_manager.clusters[].lb_subset_config", keys: SUBSET },
    Section { name: "slow_start", path: "cluster_manager.clusters[].slow_start", keys: SLOW_START },
    Section { name: "health_check", path: "cluster_manager.clusters[].health_check", keys: HEALTH_CHECK },
    Section { name: "check_config", path: "….health_check.check_config", keys: CHECK_CONFIG },
    Section { name: "http_check", path: "….health_check.check_config.http_check_config", keys: HTTP_CHECK },
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
    Section { name: "admin", path: "admin", keys: ADMIN },
    Section { name: "admin_address", path: "admin.address", keys: ADMIN_ADDRESS },
    Section { name: "socket_address", path: "admin.address.socket_address", keys: SOCKET_ADDRESS },
    Section { name: "pipe", path: "admin.address.pipe", keys: PIPE },
    Section { name: "dataplane", path: "dataplane", keys: DATAPLANE },
    Section { name: "dpdk", path: "dataplane.dpdk", keys: DPDK },
    Section { name: "dpdk_port", path: "dataplane.dpdk.ports[]", keys: DPDK_PORT },
    Section { name: "dpdk_idle", path: "dataplane.dpdk.idle", keys: DPDK_IDLE },
    Section { name: "tls_backend", path: "tls_backend", keys: TLS_BACKEND },
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
        "Whether a change of the file is a reload, as HUP is. The file is looked at twice a second.",
    ),
    key(
        "dynamic_config",
        Bool,
        "false",
        "Whether the admin API may change the configuration (`update_config`, `update_route`), for clients on this host.",
    ),
    key("auto_config", Bool, "false", "Whether such a change is written to the file, as JSON. (MOSN: a feature gate.)"),
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
        "The protocols of the clients, with commas between them, or `Auto`. Of all only `Http1` is served yet.",
    ),
    key("router_config_name", Text, "", "The router to use. Required, unless the listener has its routes inline."),
    key("extend_config", Map("proxy_extend"), "", "Settings of the protocols."),
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
    key("via", Text, "", "The name in a Via field (RFC 9110, 7.6.3). Absent: no such field."),
];

const PROXY_EXTEND: &[Key] = &[key(
    "Http1",
    Map("proxy_http1"),
    "",
    "Settings of HTTP/1. Where the protocol is `Http1` alone they may also stand in `extend_config` itself.",
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

const TLS_SERVER: &[Key] = &[
    key("status", Bool, "true with a certificate", "Whether TLS is on. (MOSN's default is false.)"),
    key(
        "cert_chain",
        Pem,
        "",
        "The certificate and those between it and the root: a file or PEM text. Required where TLS is on.",
    ),
    key("private_key", Pem, "", "Its key: a file or PEM text. Required where TLS is on."),
    key("alpn", Text, "", "Protocols to negotiate, with commas between them. `http/1.1` is the only one yet."),
    key(
        "min_version",
        Choice(VERSIONS),
        "tls_auto",
        "The oldest version; `tls_auto` is 1.2. Older ones than 1.2 are not spoken.",
    ),
    key("max_version", Choice(VERSIONS), "tls_auto", "The newest version; `tls_auto` is 1.3."),
];

const TLS_CLIENT: &[Key] = &[
    key("status", Bool, "true with any other key", "Whether TLS is on. (MOSN's default is false.)"),
    key("server_name", Text, "the host's name", "The name that is asked for (SNI) and verified."),
    key("ca_cert", Pem, "the system's roots", "Whom to trust: a file or PEM text."),
    key("insecure_skip", Bool, "false", "Do not verify the origin's certificate."),
    key("alpn", Text, "", "Protocols to negotiate, with commas between them. `http/1.1` is the only one yet."),
    key(
        "min_version",
        Choice(VERSIONS),
        "tls_auto",
        "The oldest version; `tls_auto` is 1.2. Older ones than 1.2 are not spoken.",
    ),
    key("max_version", Choice(VERSIONS), "tls_auto", "The newest version; `tls_auto` is 1.3."),
];

const VERSIONS: &[&str] = &["tls_auto", "tlsv1_0", "tlsv1_1", "tlsv1_2", "tlsv1_3"];

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

const DATAPLANE: &[Key] = &[
    key(
        "type",
        Choice(&["kernel", "dpdk"]),
        "kernel",
        "`kernel`: the kernel's sockets. `dpdk`: a poll-mode port under a TCP of our own.",
    ),
    key("workers", Number, "auto", "Worker threads, or `auto`: one a core. On DPDK: queue pairs of each port."),
    key(
        "fallback",
        Choice(&["none", "kernel"]),
        "none",
        "When the DPDK plane can't start: exit with code 3, or serve over the kernel plane and say why.",
    ),
    key("dpdk", Map("dpdk"), "", "The ports and their TCP."),
];

const DPDK: &[Key] = &[
    key("ports", Maps("dpdk_port"), "", "Ports, each with one queue pair a worker. At least one with `type: dpdk`."),
    key("hugepages", Bool, "true", "Use hugepages; false is EAL's `--no-huge`."),
    key("memory_mib", Number, "256", "Memory for EAL, in MiB."),
    key("eal_args", Texts, "[]", "Further arguments for EAL."),
    key("rx_ring_bytes", Size, "64KiB", "Receive ring of one flow; a power of two."),
    key("tx_ring_bytes", Size, "64KiB", "Send ring of one flow; a power of two."),
    key(
        "congestion_control",
        Choice(&["cubic", "none"]),
        "cubic",
        "`cubic`: a flow sends as much as its path takes (RFC 9438). `none`: as much as rings and windows allow, for a network of one's own that never drops.",
    ),
    key("flows_max", Number, "200000", "Flows of one worker, at most."),
    key("syn_backlog_max", Number, "4096", "Flows that have not finished the handshake, at most."),
    key("idle", Map("dpdk_idle"), "", "How a polling worker rests."),
];

const DPDK_PORT: &[Key] = &[
    key(
        "device",
        Text,
        "",
        "A PCI address (`0000:3b:00.0`) or a virtual device with its arguments (`net_af_xdp0,iface=eth1`). Required.",
    ),
    key("address", Text, "", "Our IPv4 address and network on it: `10.1.2.3/24`. Required."),
    key("gateway", Text, "", "Where packets for other networks go: an IPv4 address within `address`."),
    key("mtu", Number, "1500", "Bytes of an IP packet, at most; 576 to 9216."),
];

const DPDK_IDLE: &[Key] = &[
    key(
        "mode",
        Choice(&["adaptive", "busy"]),
        "adaptive",
        "`adaptive`: busy, then pausing, then asleep. `busy`: a whole core, the lowest latency.",
    ),
    key("busy_polls", Number, "2000", "Empty polls before the worker pauses between them."),
    key("pause_polls", Number, "2000", "Further empty polls before it sleeps."),
    key("sleep_us", Number, "50", "How long it sleeps, in microseconds."),
];

const TLS_BACKEND: &[Key] = &[key(
    "backend",
    Choice(&["auto", "rustls"]),
    "auto",
    "`auto`: the best there is on this host. `rustls`: software.",
)];

const LIMITS: &[Key] = &[
    key(
        "downstream_conns_max",
        Number,
        "0",
        "Downstream connections of one worker, at most. 0 derives it from the limit of open files at start.",
    ),
    key(
        "memory_bytes_max",
        Size,
        "0",
        "Memory that one worker holds for connections, requests and buffers, at most: beyond it new requests are answered with 503 and `Retry-After`. 0 derives it at start: half of what the host and the control group allow, shared out among the workers.",
    ),
    key(
        "requests_active_max",
        Number,
        "0",
        "Requests in progress on one worker, at most (503 beyond). 0 is no limit but that of the connections.",
    ),
    key("request_line_bytes_max", Size, "16KiB", "Bytes of a request line, at most (414 beyond)."),
    key(
        "head_bytes_max",
        Size,
        "64KiB",
        "Bytes of a head, start line and fields together, at most (431 beyond; 502 for an origin's).",
    ),
    key("head_fields_max", Number, "128", "Fields of a head or of trailers, at most (431 beyond)."),
    key(
        "request_body_bytes_max",
        Size,
        "0",
        "Bytes of a request's body, at most (413 beyond). 0 is no limit: bodies stream and are never held whole.",
    ),
    key(
        "proxy_header_bytes_max",
        Size,
        "4KiB",
        "Bytes of a PROXY header in binary, at most (the connection is closed beyond); one in text has 107 at most.",
    ),
    key("chunk_line_bytes_max", Size, "4KiB", "Bytes of a chunk-size line with its extensions, at most (400 beyond)."),
    key("body_in_hand_bytes_max", Size, "16KiB", "Bytes of a body that is held in hand rather than streamed, at most."),
    key("interim_responses_max", Number, "16", "Interim (1xx) responses before the final one, at most (502 beyond)."),
    key("requests_per_conn_max", Number, "0", "Requests on one downstream connection, at most. 0 is no limit."),
    key("idle_conns_per_host_max", Number, "256", "Idle upstream connections that one worker keeps per host, at most."),
    key(
        "retry_buffer_bytes_max",
        Size,
        "64KiB",
        "Bytes of a request body that are kept to send it again, or to a mirror, at most. A longer one is sent once.",
    ),
    key("mirror_requests_max", Number, "256", "Copies of requests that one worker has under way, at most."),
    key(
        "original_dst_hosts_max",
        Number,
        "1024",
        "Destinations of one `ORIGINAL_DST` cluster that one worker keeps connections to, at most (503 beyond, when all are in use).",
    ),
    key(
        "drain_bytes_max",
        Size,
        "64KiB",
        "Bytes of a request's body that are read and thrown away to keep a connection whose request was answered early, at most.",
    ),
    key(
        "access_log_queue_bytes_max",
        Size,
        "16MiB",
        "Bytes of access log lines that wait to be written, of all workers together, at most; further lines are dropped and counted.",
    ),
    key(
        "compressions_max",
        Number,
        "1024",
        "Answers of one listener that are being compressed at a time, of all workers together, at most; further ones go as they are. Each \
         holds up to 1 MiB.",
    ),
    key(
        "host_metrics_max",
        Number,
        "1024",
        "Hosts, of all clusters together, that the metrics show one by one, at most; of further ones that were used only the number is shown, \
         as `ferrogate_upstream_hosts_omitted`.",
    ),
    key("head_timeout", Duration, "15s", "From the first byte of a head to its end (408 beyond)."),
    key(
        "body_bytes_per_second_min",
        Number,
        "240",
        "Bytes a second of a request's body, at least, while the client is waited for (408 below). 0 is no limit.",
    ),
    key("body_rate_window", Duration, "10s", "Over how long `body_bytes_per_second_min` is measured."),
    key(
        "turn_time_max",
        Duration,
        "1s",
        "A turn of a worker. While one takes longer, so that everything waits for so long, new requests are answered with 503 and `Retry-After`.",
    ),
    key(
        "stall_timeout",
        Duration,
        "200ms",
        "One step of one connection. A worker that does not come out of it in this time is logged and counted.",
    ),
    key("idle_timeout", Duration, "90s", "Between two requests of a connection."),
    key("body_idle_timeout", Duration, "60s", "Between two reads or writes of a body."),
    key("tunnel_idle_timeout", Duration, "1h", "Between two bytes of a tunnel (Upgrade, CONNECT)."),
    key("handshake_timeout", Duration, "15s", "A TLS handshake from accept to end."),
    key(
        "connect_timeout",
        Duration,
        "10s",
        "Opening an upstream connection, TLS included, unless the cluster says otherwise.",
    ),
    key(
        "request_timeout",
        Duration,
        "60s",
        "From the request sent to the end of the response's head, unless the route says otherwise (504 beyond).",
    ),
    key(
        "upstream_idle_timeout",
        Duration,
        "60s",
        "An idle upstream connection is closed after this, unless the cluster says otherwise.",
    ),
    key(
        "dns_settle_timeout",
        Duration,
        "5s",
        "A start or reload waits this long for the first lookup of every host's name, then goes on without.",
    ),
    key(
        "linger_timeout",
        Duration,
        "2s",
        "A connection that was told to close is given this long to take its last bytes.",
    ),
    key(
        "accept_pause",
        Duration,
        "100ms",
        "How long accepting pauses when the process has no descriptor or memory left.",
    ),
    key("graceful_timeout", Duration, "30s", "At a stop: how long running requests are given to finish."),
];
