//! MOSN's file: the schema is ours, in JSON, without our own sections.
//!
//! **Invariant:** pure text from a [`Site`].

use serde_json::{Value, json};

use crate::backend::{CLUSTERS, ROUTES, Site, VIRTUAL_HOSTS, cluster_of, host_name, route_prefix};
use crate::stage::certs::SERVER_NAME;

/// One processor.
#[must_use]
pub fn config(site: &Site<'_>) -> String {
    let downstream = if site.http2() { "Http2" } else { "Http1" };
    let mut proxy = json!({
        "type": "proxy",
        "config": {"downstream_protocol": downstream, "upstream_protocol": "Http1", "router_config_name": "web"},
    });
    if site.bolt() {
        proxy["config"] = json!({
            "downstream_protocol": "X",
            "upstream_protocol": "X",
            "router_config_name": "web",
            "extend_config": {"sub_protocol": "bolt"},
        });
    }
    let relay = json!({"type": "tcp_proxy", "config": {"cluster": "app0", "idle_timeout": "1h"}});
    let mut chain = json!({"filters": [if site.relay() { relay } else { proxy }]});
    if let Some(pair) = site.tls {
        chain["tls_context"] =
            json!({"status": true, "cert_chain": pair.certificate, "private_key": pair.key, "min_version": "TLSv1_3"});
    }
    let mut listener = json!({
        "name": "web",
        "address": site.listen,
        "bind_port": true,
        "connection_idle_timeout": "1h",
        "filter_chains": [chain],
    });
    if let Some(path) = &site.access_log {
        listener["access_logs"] = json!([{"log_path": path}]);
    }
    let document = json!({
        "close_graceful": true,
        "servers": [{
            "default_log_path": "stdout",
            "default_log_level": "ERROR",
            "processor": 1,
            "routers": [{"router_config_name": "web", "virtual_hosts": virtual_hosts(site)}],
            "listeners": [listener],
        }],
        "cluster_manager": {"clusters": (0..CLUSTERS).map(|c| cluster(c, site)).collect::<Vec<_>>()},
        "admin": {"address": {"socket_address": {"address": site.admin.ip(), "port_value": site.admin.port()}}},
    });
    serde_json::to_string_pretty(&document).expect("plain data has a JSON form")
}

fn virtual_hosts(site: &Site<'_>) -> Vec<Value> {
    let route = |prefix: &str, cluster: usize| json!({"match": {"prefix": prefix}, "route": {"cluster_name": format!("app{cluster}")}});
    let mut hosts = Vec::new();
    if site.access_log.is_some() {
        for host in 0..VIRTUAL_HOSTS {
            let mut routes: Vec<Value> = (0..ROUTES).map(|r| route(&route_prefix(r), cluster_of(host, r))).collect();
            routes.push(route("/", 0));
            hosts.push(json!({"name": host_name(host), "domains": [host_name(host)], "routers": routes}));
        }
    }
    let mut all = route("/", 0);
    if site.bolt() {
        all["match"] = json!({"headers": [{"name": "service", "value": ".*"}]});
    }
    hosts.push(json!({"name": "all", "domains": ["*"], "routers": [all]}));
    hosts
}

fn cluster(number: usize, site: &Site<'_>) -> Value {
    let mut cluster = json!({
        "name": format!("app{number}"),
        "type": "SIMPLE",
        "lb_type": "LB_ROUNDROBIN",
        "max_request_per_conn": 1_000_000_000,
        "conn_buffer_limit_bytes": 16384,
        "hosts": [{"address": site.origin}],
    });
    if let Some(ca) = site.origin_ca {
        cluster["tls_context"] = json!({"status": true, "server_name": SERVER_NAME, "ca_cert": ca});
    }
    cluster
}
