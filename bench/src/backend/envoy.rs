//! Envoy with static resources, in its v3 API.
//!
//! **Invariant:** pure text from a [`Site`].

use serde_json::{Value, json};

use crate::backend::{CLUSTERS, ROUTES, Site, VIRTUAL_HOSTS, cluster_of, host_name, route_prefix};
use crate::stage::certs::SERVER_NAME;

/// JSON, which is YAML too. The number of workers is an argument of the command line.
#[must_use]
pub fn config(site: &Site<'_>) -> String {
    let mut manager = json!({
        "@type": of("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "web",
        "codec_type": if site.http2() { "HTTP2" } else { "HTTP1" },
        "generate_request_id": false,
        "route_config": {"virtual_hosts": virtual_hosts(site)},
        "common_http_protocol_options": {"idle_timeout": "3600s"},
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": of("envoy.extensions.filters.http.router.v3.Router"), "dynamic_stats": false},
        }],
    });
    if let Some(path) = &site.access_log {
        let typed = json!({"@type": of("envoy.extensions.access_loggers.file.v3.FileAccessLog"), "path": path});
        manager["access_log"] = json!([{"name": "envoy.access_loggers.file", "typed_config": typed}]);
    }
    let mut chain = if site.relay() {
        let relay = json!({
            "@type": of("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"),
            "stat_prefix": "relay",
            "cluster": "app0",
        });
        json!({"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": relay}]})
    } else {
        json!({"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]})
    };
    if let Some(pair) = site.tls {
        let certificate =
            json!({"certificate_chain": {"filename": pair.certificate}, "private_key": {"filename": pair.key}});
        chain["transport_socket"] = tls(
            "DownstreamTlsContext",
            json!({
                "tls_params": tls_13(),
                "tls_certificates": [certificate],
                "alpn_protocols": [if site.http2() { "h2" } else { "http/1.1" }],
            }),
            Value::Null,
        );
    }
    let document = json!({
        "static_resources": {
            "listeners": [{
                "name": "web",
                "address": address(site.listen),
                "tcp_backlog_size": 65535,
                "per_connection_buffer_limit_bytes": 32768,
                "filter_chains": [chain],
            }],
            "clusters": (0..CLUSTERS).map(|c| cluster(c, site)).collect::<Vec<_>>(),
        },
        "admin": {"address": address(site.admin)},
    });
    serde_json::to_string_pretty(&document).expect("plain data has a JSON form")
}

fn virtual_hosts(site: &Site<'_>) -> Vec<Value> {
    let route = |prefix: &str, cluster: usize| json!({"match": {"prefix": prefix}, "route": {"cluster": format!("app{cluster}")}});
    let mut hosts = Vec::new();
    if site.access_log.is_some() {
        for host in 0..VIRTUAL_HOSTS {
            let mut routes: Vec<Value> = (0..ROUTES).map(|r| route(&route_prefix(r), cluster_of(host, r))).collect();
            routes.push(route("/", 0));
            hosts.push(json!({"name": host_name(host), "domains": [host_name(host)], "routes": routes}));
        }
    }
    hosts.push(json!({"name": "all", "domains": ["*"], "routes": [route("/", 0)]}));
    hosts
}

fn cluster(number: usize, site: &Site<'_>) -> Value {
    let host = json!({"endpoint": {"address": address(site.origin)}});
    let breakers = json!({"max_connections": 65_535, "max_pending_requests": 65_535, "max_requests": 65_535});
    let mut cluster = json!({
        "name": format!("app{number}"),
        "type": "STATIC",
        "connect_timeout": "10s",
        "circuit_breakers": {"thresholds": [breakers]},
        "load_assignment": {"cluster_name": format!("app{number}"), "endpoints": [{"lb_endpoints": [host]}]},
    });
    if let Some(ca) = site.origin_ca {
        let validation = json!({
            "trusted_ca": {"filename": ca},
            "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": SERVER_NAME}}],
        });
        let common = json!({"tls_params": tls_13(), "validation_context": validation});
        cluster["transport_socket"] = tls("UpstreamTlsContext", common, json!(SERVER_NAME));
    }
    cluster
}

fn tls(kind: &str, common: Value, sni: Value) -> Value {
    let mut typed = json!({
        "@type": of(&format!("envoy.extensions.transport_sockets.tls.v3.{kind}")),
        "common_tls_context": common,
    });
    if !sni.is_null() {
        typed["sni"] = sni;
    }
    json!({"name": "envoy.transport_sockets.tls", "typed_config": typed})
}

fn tls_13() -> Value {
    json!({"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"})
}

fn address(of: std::net::SocketAddr) -> Value {
    json!({"socket_address": {"address": of.ip(), "port_value": of.port()}})
}

fn of(message: &str) -> String {
    format!("type.googleapis.com/{message}")
}
