//! The walk over the file: from the tree to the data, with every mistake on the way.
//!
//! **Invariant:** one function a map; each reads its keys, falls back to the default after a mistake and goes on.

mod access_log;
mod admin;
mod balancing;
mod chain_match;
mod cluster;
mod dataplane;
mod dns;
mod edits;
mod filter;
mod flow_control;
mod forwarded;
mod health;
mod limits;
mod listener;
mod listener_filter;
mod metrics;
mod proxy;
mod route;
mod route_action;
mod route_match;
mod server;
mod tcp_proxy;
mod tls;
mod transcoder;

use std::path::PathBuf;
use std::sync::Arc;

use super::check;
use super::reader::Reader;
use super::schema::{Config, Control, Server};
use super::tree::{Node, Value};

/// The whole file. The data is only good when the reader found no error.
pub(super) fn file(r: &mut Reader, root: &Node, files: &[String]) -> Option<Config> {
    let fields = r.map(root, "file")?;
    let mut limits = fields.with(r, "limits", limits::limits).unwrap_or_default();
    let dataplane = fields.with(r, "dataplane", dataplane::dataplane).unwrap_or_default();
    let admin = fields.with(r, "admin", admin::admin);
    let who = fields.with(r, "tls_backend", tls::backend).unwrap_or_default();
    let mut clusters = fields.with(r, "cluster_manager", cluster::cluster_manager).unwrap_or_default();
    let mut server = Server::default();
    let mut dataplane = dataplane;
    match fields.get("servers") {
        None => fields.missing(r, "servers"),
        Some(node) => r.at("servers", |r| {
            if let Some(first) = the_only(r, node, "server") {
                r.at("[0]", |r| {
                    if let Some(read) = server::server(r, first) {
                        limits.graceful_timeout = read.graceful_timeout.unwrap_or(limits.graceful_timeout);
                        dataplane.workers = dataplane.workers.or(read.workers);
                        server = read.server;
                    }
                });
            }
        }),
    }
    let control = fields.with(r, "control", control).unwrap_or_default();
    let pid_file = fields.text(r, "pid").map(PathBuf::from);
    let metrics_sinks = fields.with(r, "metrics", metrics::sinks).unwrap_or_default();
    let files = files.to_owned();
    let of_listeners = server.listeners.iter_mut().flat_map(|l| &mut l.tls);
    let of_clusters = clusters.iter_mut().filter(|c| c.tls.is_some()).filter_map(|c| Arc::make_mut(c).tls.as_mut());
    tls::resolve(r, of_listeners.chain(of_clusters), &who);
    let tls::Who { backend: tls_backend, ktls, accelerators } = who;
    let config = Config {
        files,
        server,
        clusters,
        admin,
        dataplane,
        limits,
        tls_backend,
        ktls,
        accelerators,
        metrics_sinks,
        control,
        pid_file,
    };
    check::whole(r, &config);
    Some(config)
}

/// The element of a list that must have exactly one.
fn the_only<'n>(r: &mut Reader, node: &'n Node, what: &str) -> Option<&'n Node> {
    let Value::List(list) = &node.value else {
        r.wrong_type(node, "a list");
        return None;
    };
    match list.as_slice() {
        [] => r.error(node.place, format!("no {what}"), "write exactly one"),
        [_] => {}
        [_, second, ..] => r.error(second.place, format!("more than one {what}"), "keep exactly one"),
    }
    list.first()
}

fn control(r: &mut Reader, node: &Node) -> Option<Control> {
    let fields = r.map(node, "control")?;
    Some(Control {
        watch_config: fields.boolean(r, "watch_config").unwrap_or(false),
        dynamic_config: fields.boolean(r, "dynamic_config").unwrap_or(false),
        auto_config: fields.boolean(r, "auto_config").unwrap_or(false),
        capture: fields.boolean(r, "capture").unwrap_or(false),
    })
}
