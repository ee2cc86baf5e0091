//! HAProxy as one that serves much is set up: routes in a map, connections to origins shared.
//!
//! **Invariant:** pure text from a [`Site`], but for the map, which is a file of its own.

use std::fmt::Write;

use crate::backend::{CLUSTERS, ROUTES, Site, VIRTUAL_HOSTS, cluster_of, host_name, route_prefix};
use crate::error::BenchError;
use crate::stage::certs::SERVER_NAME;

/// One thread.
#[must_use]
pub fn config(site: &Site<'_>) -> String {
    let tls = site.tls.map_or_else(String::new, |pair| {
        format!(" ssl crt {} ssl-min-ver TLSv1.3 prefer-client-ciphers", pair.both.display())
    });
    let log = if site.access_log.is_some() { "  option httplog\n  log global\n" } else { "" };
    let mut text = format!(
        "global
  nbthread 1
  maxconn {conns}
  no strict-limits
  tune.pool-low-fd-ratio 100
  tune.pool-high-fd-ratio 100
  log stdout format raw local0
  ssl-server-verify required
{buffers}defaults
  mode {mode}
  timeout connect 10s
  timeout client 3600s
  timeout server 3600s
{http}  option splice-auto
{log}frontend web
  bind {listen} backlog 65535{tls}{h2}
  maxconn {conns}
",
        conns = site.connections + 512,
        mode = if site.relay() { "tcp" } else { "http" },
        http = if site.relay() { "" } else { HTTP },
        // Splicing moves a pipe at a time, 64 KiB by itself; with these a large answer costs it a third.
        buffers = if site.large_bodies { "  tune.bufsize 65536\n  tune.pipesize 1048576\n" } else { "" },
        listen = site.listen,
        h2 = match (site.http2(), site.tls) {
            (false, _) => "",
            (true, None) => " proto h2",
            (true, Some(_)) => " alpn h2",
        },
    );
    if site.access_log.is_some() {
        writeln!(text, "  use_backend %[base,map_beg({},app0)]", map_path(site).display()).expect("a string takes it");
    }
    text.push_str("  default_backend app0\n");
    let origin_tls = site.origin_ca.map_or_else(String::new, |ca| {
        format!(" ssl ca-file {} sni str({SERVER_NAME}) verifyhost {SERVER_NAME} ssl-min-ver TLSv1.3", ca.display())
    });
    let pool = if site.relay() { "" } else { " pool-max-conn -1 pool-purge-delay 3600s" };
    for cluster in 0..CLUSTERS {
        writeln!(text, "backend app{cluster}\n  server origin {}{origin_tls}{pool}", site.origin)
            .expect("a string takes it");
    }
    text
}

/// The map from host and path to the backend, for 200 virtual hosts.
///
/// # Errors
/// When it can't be written.
pub fn write_map(site: &Site<'_>) -> Result<(), BenchError> {
    if site.access_log.is_none() {
        return Ok(());
    }
    let mut text = String::new();
    for host in 0..VIRTUAL_HOSTS {
        for route in 0..ROUTES {
            let (name, prefix, cluster) = (host_name(host), route_prefix(route), cluster_of(host, route));
            writeln!(text, "{name}{prefix} app{cluster}").expect("a string takes it");
        }
    }
    site.folder.write(MAP, &text).map(|_| ())
}

fn map_path(site: &Site<'_>) -> std::path::PathBuf {
    site.folder.path(MAP)
}

/// What only requests have.
const HTTP: &str = "  timeout http-request 15s\n  timeout http-keep-alive 3600s\n  http-reuse always\n";

const MAP: &str = "haproxy.map";
