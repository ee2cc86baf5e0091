//! nginx as one that serves much is set up.
//!
//! **Invariant:** pure text from a [`Site`].

use std::fmt::Write;

use crate::backend::{CLUSTERS, ROUTES, Site, VIRTUAL_HOSTS, cluster_of, host_name, route_prefix};
use crate::stage::certs::SERVER_NAME;

/// One process that is master and worker in one; what serves a request is the same code as with a worker of its own.
#[must_use]
pub fn config(site: &Site<'_>) -> String {
    if site.relay() {
        return relay(site);
    }
    let log = site
        .access_log
        .as_ref()
        .map_or_else(|| "off".to_owned(), |path| format!("{} combined buffer=64k flush=1s", path.display()));
    let mut text = format!(
        "daemon off;
master_process off;
worker_processes 1;
worker_rlimit_nofile {files};
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections {files}; multi_accept on; }}
http {{
  access_log {log};
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  sendfile on;
  tcp_nodelay on;
  server_tokens off;
  keepalive_requests 1000000000;
  keepalive_timeout 3600s;
  proxy_http_version 1.1;
  proxy_set_header Connection \"\";
  proxy_set_header Host $host;
  proxy_max_temp_file_size 0;
  server_names_hash_max_size 4096;
  server_names_hash_bucket_size 128;
",
        files = files(site),
    );
    if let Some(ca) = site.origin_ca {
        write!(
            text,
            "  proxy_ssl_protocols TLSv1.3;
  proxy_ssl_verify on;
  proxy_ssl_trusted_certificate {};
  proxy_ssl_server_name on;
  proxy_ssl_name {SERVER_NAME};
  proxy_ssl_session_reuse on;
",
            ca.display()
        )
        .expect("a string takes it");
    }
    for cluster in 0..CLUSTERS {
        writeln!(
            text,
            "  upstream app{cluster} {{ server {}; keepalive 1024; keepalive_requests 1000000000; keepalive_timeout 3600s; }}",
            site.origin
        )
        .expect("a string takes it");
    }
    servers(&mut text, site);
    text.push_str("}\n");
    text
}

/// The same process, relaying connections.
fn relay(site: &Site<'_>) -> String {
    format!(
        "load_module {STREAM_MODULE};
daemon off;
master_process off;
worker_processes 1;
worker_rlimit_nofile {files};
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections {files}; multi_accept on; }}
stream {{
  access_log off;
  tcp_nodelay on;
  proxy_timeout 3600s;
{buffers}  server {{ listen {}; proxy_pass {}; }}
}}
",
        format_args!("{} backlog=65535", site.listen),
        site.origin,
        files = files(site),
        // As for HAProxy: by itself it has 16 KiB.
        buffers = if site.large_bodies { "  proxy_buffer_size 64k;\n" } else { "" },
    )
}

fn servers(text: &mut String, site: &Site<'_>) {
    let scheme = if site.origin_ca.is_some() { "https" } else { "http" };
    let (flag, pair) = site.tls.map_or(("", String::new()), |pair| {
        let (certificate, key) = (pair.certificate.display(), pair.key.display());
        let lines = format!(
            "ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.3; ssl_session_tickets on;"
        );
        (" ssl", lines)
    });
    let flag = format!("{flag}{}", if site.http2() { " http2" } else { "" });
    let all = format!("    location / {{ proxy_pass {scheme}://app0; }}\n");
    writeln!(text, "  server {{\n    listen {}{flag} backlog=65535 default_server; {pair}\n{all}  }}", site.listen)
        .expect("a string takes it");
    if site.access_log.is_none() {
        return;
    }
    for host in 0..VIRTUAL_HOSTS {
        write!(text, "  server {{\n    listen {}{flag}; server_name {}; {pair}\n{all}", site.listen, host_name(host))
            .expect("a string takes it");
        for route in 0..ROUTES {
            let (prefix, cluster) = (route_prefix(route), cluster_of(host, route));
            writeln!(text, "    location {prefix} {{ proxy_pass {scheme}://app{cluster}; }}")
                .expect("a string takes it");
        }
        text.push_str("  }\n");
    }
}

/// Both sides of each connection, and some more, within what a small machine allows.
fn files(site: &Site<'_>) -> u64 {
    (2 * site.connections + 1024).min(FILES_MAX)
}

/// The module that relays connections.
pub const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

const FILES_MAX: u64 = 19_000;
