//! `servers[0]`.
//!
//! **Invariant:** a listener with its routes inline gets a router of its own; a router of the same name is a mistake.

use std::time::Duration;

use super::{listener, route};
use crate::config::reader::Reader;
use crate::config::schema::{LogLevel, Server};
use crate::config::tree::Node;

/// The server, and what it says about other sections.
pub(super) struct ReadServer {
    pub(super) server: Server,
    pub(super) graceful_timeout: Option<Duration>,
    pub(super) workers: Option<usize>,
}

pub(super) fn server(r: &mut Reader, node: &Node) -> Option<ReadServer> {
    let fields = r.map(node, "server")?;
    let mut server = Server {
        name: fields.text(r, "mosn_server_name").unwrap_or_default(),
        log_path: fields.text(r, "default_log_path").unwrap_or_else(|| "stderr".into()),
        log_level: fields.choice(r, "default_log_level", LEVELS).unwrap_or_default(),
        listeners: Vec::new(),
        routers: fields.list(r, "routers", route::router),
    };
    for (listener, inline) in fields.list(r, "listeners", listener::listener) {
        server.listeners.push(listener);
        server.routers.extend(inline);
    }
    if fields.get("listeners").is_none_or(Node::is_neutral) {
        r.warn(node.place, "there is no listener: nothing is served", "");
    }
    let graceful_timeout = fields.duration(r, "graceful_timeout");
    Some(ReadServer { server, graceful_timeout, workers: fields.threads(r, "processor") })
}

const LEVELS: &[(&str, LogLevel)] = &[
    ("OFF", LogLevel::Off),
    ("FATAL", LogLevel::Error),
    ("ERROR", LogLevel::Error),
    ("WARN", LogLevel::Warn),
    ("INFO", LogLevel::Info),
    ("DEBUG", LogLevel::Debug),
    ("TRACE", LogLevel::Trace),
];
