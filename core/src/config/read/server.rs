//! `servers[0]`.
//!
//! **Invariant:** a listener with its routes inline gets a router of its own; a router of the same name is a mistake.

use std::time::Duration;

use super::{listener, route};
use crate::config::LogRoller;
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
    let log_roller = fields.with(r, "global_log_roller", log_roller).unwrap_or_default();
    let mut server = Server {
        name: fields.text(r, "mosn_server_name").unwrap_or_default(),
        log_path: fields.text(r, "default_log_path").unwrap_or_else(|| "stderr".into()),
        log_level: fields.choice(r, "default_log_level", LEVELS).unwrap_or_default(),
        listeners: Vec::new(),
        log_roller: LogRoller::default(),
        routers: fields.list(r, "routers", route::router),
    };
    for (chains, inline) in fields.list(r, "listeners", |r, node| listener::listener(r, node, &log_roller)) {
        server.listeners.extend(chains);
        server.routers.extend(inline);
    }
    if fields.get("listeners").is_none_or(Node::is_neutral) {
        r.warn(node.place, "there is no listener: nothing is served", "");
    }
    server.log_roller = log_roller;
    let graceful_timeout = fields.duration(r, "graceful_timeout");
    Some(ReadServer { server, graceful_timeout, workers: fields.threads(r, "processor") })
}

/// `log_roller` and `global_log_roller`.
pub(super) fn log_roller(r: &mut Reader, node: &Node) -> Option<LogRoller> {
    let text = r.text(node)?;
    match LogRoller::parse(&text) {
        Ok(roller) => Some(roller),
        Err(word) => {
            let message = format!("`{word}` is not known here");
            r.error(node.place, message, "like \"time=24 size=1000 age=7 keep=10 compress=on\", or \"off\"");
            None
        }
    }
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
