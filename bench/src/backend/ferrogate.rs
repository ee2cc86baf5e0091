//! Ferrogate's own file.
//!
//! **Invariant:** pure text from a [`Site`].

use std::fmt::Write;
use std::net::SocketAddr;

use crate::backend::{CLUSTERS, ROUTES, Site, VIRTUAL_HOSTS, cluster_of, host_name, route_prefix};
use crate::scenario::Protocol;
use crate::stage::certs::{Pair, SERVER_NAME};

/// One worker.
#[must_use]
pub fn config(site: &Site<'_>) -> String {
    let mut text =
        "servers:\n  - default_log_path: stderr\n    default_log_level: WARN\n    graceful_timeout: 1s\n    listeners:\n".to_owned();
    for listen in site.listeners() {
        listener(&mut text, site, listen);
    }
    text.push_str("    routers:\n      - router_config_name: web\n        virtual_hosts:\n");
    virtual_hosts(&mut text, site);
    clusters(&mut text, site);
    write!(
        text,
        "limits:
  downstream_conns_max: {}
  idle_conns_per_host_max: 1024
  upstream_idle_timeout: 1h
admin:
  address:
    socket_address: {{address: {}, port_value: {}}}
",
        site.connections + 1024,
        site.admin.ip(),
        site.admin.port(),
    )
    .expect("a string takes it");
    dataplane(&mut text, site);
    text
}

fn listener(text: &mut String, site: &Site<'_>, listen: SocketAddr) {
    let log = |path: &std::path::PathBuf| format!("        access_logs:\n          - log_path: {}\n", path.display());
    let tls = |pair: &Pair| {
        let (certificate, key) = (pair.certificate.display(), pair.key.display());
        format!(
            "            tls_context: {{status: true, cert_chain: {certificate}, private_key: {key}, min_version: tlsv1_3}}\n"
        )
    };
    write!(
        text,
        "      - name: web{port}
        address: {listen}
        connection_idle_timeout: 1h
{log}        filter_chains:
          - filters:
              - {filter}
{tls}",
        port = listen.port(),
        filter = match site.protocol {
            Protocol::Http1 => HTTP,
            Protocol::Http2 { .. } => HTTP2,
            Protocol::Relay => RELAY,
            Protocol::Bolt { .. } => BOLT,
        },
        log = site.access_log.as_ref().map_or_else(String::new, log),
        tls = site.tls.map_or_else(String::new, tls),
    )
    .expect("a string takes it");
}

fn virtual_hosts(text: &mut String, site: &Site<'_>) {
    if site.access_log.is_some() {
        for host in 0..VIRTUAL_HOSTS {
            let name = host_name(host);
            writeln!(text, "          - name: {name}\n            domains: [{name}]\n            routers:")
                .expect("a string takes it");
            for route in 0..ROUTES {
                let (prefix, cluster) = (route_prefix(route), cluster_of(host, route));
                writeln!(
                    text,
                    "              - {{match: {{prefix: {prefix}}}, route: {{cluster_name: app{cluster}}}}}"
                )
                .expect("a string takes it");
            }
            text.push_str("              - {match: {prefix: /}, route: {cluster_name: app0}}\n");
        }
    }
    let all = if site.bolt() { "headers: [{name: service, value: \".*\"}]" } else { "prefix: /" };
    write!(
        text,
        "          - name: all
            domains: [\"*\"]
            routers:
              - {{match: {{{all}}}, route: {{cluster_name: app0}}}}
"
    )
    .expect("a string takes it");
}

fn clusters(text: &mut String, site: &Site<'_>) {
    text.push_str("cluster_manager:\n  clusters:\n");
    for cluster in 0..CLUSTERS {
        writeln!(
            text,
            "    - name: app{cluster}\n      type: SIMPLE\n      lb_type: LB_ROUNDROBIN\n      hosts: [{{address: \"{}\"}}]",
            site.origin
        )
        .expect("a string takes it");
        if let Some(ca) = site.origin_ca {
            writeln!(
                text,
                "      tls_context: {{status: true, server_name: {SERVER_NAME}, ca_cert: {}}}",
                ca.display()
            )
            .expect("a string takes it");
        }
    }
}

fn dataplane(text: &mut String, site: &Site<'_>) {
    let Some((device, address)) = &site.port else {
        text.push_str("dataplane:\n  type: kernel\n  workers: 1\n");
        return;
    };
    write!(
        text,
        "dataplane:
  type: dpdk
  workers: 1
  fallback: none
  dpdk:
    hugepages: {}
    memory_mib: {MEMORY_MIB}
{rings}    ports:
      - {{device: \"{device}\", address: {}/24}}
",
        site.hugepages,
        address.ip(),
        // Rings count in full against the memory that a worker may hold: who serves so many gives each less.
        rings = if site.connections > MANY { "    rx_ring_bytes: 16KiB\n    tx_ring_bytes: 16KiB\n" } else { "" },
    )
    .expect("a string takes it");
}

const HTTP: &str = "{type: proxy, config: {downstream_protocol: Http1, router_config_name: web}}";

const HTTP2: &str = "{type: proxy, config: {downstream_protocol: Http2, router_config_name: web}}";

const BOLT: &str = "{type: proxy, config: {downstream_protocol: bolt, router_config_name: web}}";

const RELAY: &str = "{type: tcp_proxy, config: {cluster: app0}}";

/// More connections than this get smaller rings.
const MANY: u64 = 20_000;

/// EAL's memory: mbufs alone, which is enough for any number of connections.
pub const MEMORY_MIB: u64 = 256;
