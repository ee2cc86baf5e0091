//! Listeners.
//!
//! **Invariant:** plain data that compares by content.

use std::time::Duration;

use super::{FilterConfig, Forwarded, TlsConfig};
use crate::config::diagnostic::Origin;
use crate::config::log_format::LogFormat;
use crate::config::{Address, LogRoller};

/// One entry of `listeners`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// `name`; the address where the file says none.
    pub name: String,
    /// `address`, with `network`.
    pub address: Address,
    /// `bind_port`: whether it has a socket of its own.
    pub bind_port: bool,
    /// `connection_idle_timeout`; None: `limits.idle_timeout`.
    pub idle_timeout: Option<Duration>,
    /// `access_logs`.
    pub access_logs: Vec<AccessLog>,
    /// `stream_filters`, in order.
    pub filters: Vec<FilterConfig>,
    /// `filter_chains[0].tls_context` or `tls_context_set`, those that are on. Empty: plain text.
    pub tls: Vec<TlsConfig>,
    /// `filter_chains[0].filters[0].config`.
    pub proxy: Proxy,
    /// Where it stands.
    pub origin: Origin,
}

/// One entry of `access_logs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// `log_path`: `stdout`, `stderr` or a file.
    pub path: String,
    /// `log_format`, `json_format` or `json`.
    pub format: LogFormat,
    /// `log_roller`, else `global_log_roller`.
    pub roller: LogRoller,
}

/// The `proxy` network filter: HTTP, routed.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Proxy {
    /// `router_config_name`: a router of the same server.
    pub router: String,
    /// Where that stands.
    pub router_origin: Origin,
    /// `downstream_protocol`.
    pub protocols: Protocols,
    /// `extend_config.Http1.max_header_size`, in bytes; None: `limits.head_bytes_max`.
    pub head_bytes_max: Option<usize>,
    /// `extend_config.Http1.max_request_body_size`, in bytes, 0 is no limit; None: `limits.request_body_bytes_max`.
    pub request_body_bytes_max: Option<u64>,
    /// What origins are told about the client.
    pub forwarded: Forwarded,
}

/// What clients may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Protocols {
    /// HTTP/1.
    #[default]
    Http1,
    /// HTTP/2, by prior knowledge or by ALPN.
    Http2,
    /// Either: by ALPN, else by the first bytes.
    Both,
}
