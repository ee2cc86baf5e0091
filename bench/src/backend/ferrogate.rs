//! Ferrogate's own file.
//!
//! **Invariant:** pure text from a [`Site`].

use std::fmt::Write;

use crate::backend::{CLUSTERS, ROUTES, Site, VIRTUAL_HOSTS, cluster_of, host_name, route_prefix};
use crate::stage::certs::SERVER_NAME;

/// One worker.
#[must_use]
pub fn config(site: &Site<'_>) -> String {
    let mut text = format!(
        "servers:
  - default_log_path: stderr
    default_log_level: WARN
    graceful_timeout: 1s
    listeners:
      - name: web
        address: {listen}
        connection_idle_timeout: 1h
{log}        filter_chains:
          - filters:
              - {{type: proxy, config: {{downstream_protocol: Http1, router_config_name: web}}}}
{tls}    routers:
      - router_config_name: web
        virtual_hosts:
",
        listen = site.listen,
        log = site
            .access_log
            .as_ref()
            .map_or_else(String::new, |p| { format!("        access_logs:\n          - log_path: {}\n", p.display()) }),
        tls = site.tls.map_or_else(String::new, |pair| format!(
            "            tls_context: {{status: true, cert_chain: {}, private_key: {}, min_version: tlsv1_3}}\n",
            pair.certificate.display(),
            pair.key.display()
        )),
    );
    virtual_hosts(&mut text, site);
    clusters(&mut text, site);
    write!(
        text,
        "limits:
  idle_conns_per_host_max: 1024
  upstream_idle_timeout: 1h
admin:
  address:
    socket_address: {{address: {}, port_value: {}}}
",
        site.admin.ip(),
        site.admin.port(),
    )
    .expect("a string takes it");
    dataplane(&mut text, site);
    text
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
    text.push_str(
        "          - name: all
            domains: [\"*\"]
            routers:
              - {match: {prefix: /}, route: {cluster_name: app0}}
",
    );
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
    ports:
      - {{device: \"{device}\", address: {}/24}}
",
        site.hugepages,
        address.ip(),
    )
    .expect("a string takes it");
}

/// EAL's memory: mbufs alone, which is enough for any number of connections.
pub const MEMORY_MIB: u64 = 256;
