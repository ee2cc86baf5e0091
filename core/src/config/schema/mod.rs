//! The configuration as data: what the file says, typed, with defaults filled in and names not yet resolved.
//!
//! **Invariant:** plain data that compares by content; where a thing stands in the file makes no difference.

mod cluster;
mod domain;
mod filter;
mod forwarded;
mod health;
mod listener;
mod pattern;
mod protocol;
mod route;
mod route_action;
mod template;
mod tls;

pub use cluster::{
    Balancing, Breakers, Choices, Cluster, ClusterId, Decimal, Dns, Fallback, Family, Host, Keepalive, MetadataMatch,
    OriginalDst, RpcPool, SlowStart, Source, Subsets, Target,
};
pub(crate) use domain::{DOMAIN_BYTES_MAX, split_port};
pub use domain::{Domain, DomainError, HostPattern, PortPattern};
pub use filter::{
    Abort, Coding, Delay, Fault, FilterConfig, FilterSettings, FlowControl, FlowKey, FlowLimit, FlowMode, FlowRule,
    Gzip, HeaderToMetadata, IpAccess, IpNetwork, IpRule, MetadataRule, Mirror, PayloadLimit, Transcoder,
    TranscoderRule,
};
pub use forwarded::{ClientCertMode, ForwardClientCert, Forwarded};
pub use health::{GrpcProbe, Health, HttpProbe, Outlier, Probe, SuccessRate};
pub use listener::{
    AccessLog, ChainMatch, ConnFault, Http2Offers, Interception, InterceptionKind, Listener, ListenerFilter,
    NetworkFilter, Proxy, ProxyHeader, TcpProxy, TcpRoute, UdpProxy,
};
pub use pattern::{Pattern, PatternError};
pub use protocol::{Protocols, RpcProtocol};
pub use route::{
    Edits, FieldAdd, FieldMatch, Match, PathMatch, Route, RouterConfig, ValueMatch, VariableMatch, VirtualHost,
};
pub use route_action::{
    ClusterChoice, Forward, HashPolicy, HostRewrite, MirrorPolicy, PathRewrite, Redirect, RetryOn, RetryPolicy,
    RouteAction, RouteTimeout, UpstreamProtocol, WeightedCluster,
};
pub use template::{Piece, Template, Variable};
pub use tls::{
    AcceleratorConfig, AcceleratorFallback, AcceleratorKind, AcceleratorNotify, ClientAuth, Ktls, Pem, Resumption,
    TlsBackend, TlsConfig, TlsVersion,
};

use std::path::PathBuf;
use std::sync::Arc;

use super::dataplane::Dataplane;
use super::limits::Limits;
use crate::config::{Address, LogRoller};

/// A whole configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file's name, and behind it those of the files of its directories, for reports about them.
    pub files: Vec<String>,
    /// `servers[0]`.
    pub server: Server,
    /// `cluster_manager.clusters`.
    pub clusters: Vec<Arc<Cluster>>,
    /// `admin`: where the admin API listens, if anywhere.
    pub admin: Option<Address>,
    /// `dataplane`; `workers` is `servers[0].processor` where the section does not say.
    pub dataplane: Dataplane,
    /// `limits`; `graceful_timeout` is that of `servers[0]` where it says one.
    pub limits: Limits,
    /// `tls_backend.backend`.
    pub tls_backend: TlsBackend,
    /// `tls_backend.ktls`.
    pub ktls: Ktls,
    /// `tls_backend.accelerators`.
    pub accelerators: Vec<Arc<AcceleratorConfig>>,
    /// `metrics.sinks`.
    pub metrics_sinks: Vec<MetricsSink>,
    /// `control`.
    pub control: Control,
    /// `pid`: where the process id is written, if anywhere.
    pub pid_file: Option<PathBuf>,
}

/// `control`: what may change a running gateway.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Control {
    /// `watch_config`: whether a change of the file is a reload.
    pub watch_config: bool,
    /// `dynamic_config`: whether the admin API may change the configuration.
    pub dynamic_config: bool,
    /// `auto_config`: whether such a change is written to the file.
    pub auto_config: bool,
    /// `capture`: whether the admin API at an IP address gives frames.
    pub capture: bool,
}

/// One entry of `metrics.sinks`: where metrics are served beside the admin API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsSink {
    /// `config.address` and `config.port`.
    pub address: Address,
    /// `config.endpoint`.
    pub path: String,
}

/// `servers[0]`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Server {
    /// `mosn_server_name`.
    pub name: String,
    /// `default_log_path`: `stdout`, `stderr` or a file. Empty: `stderr`.
    pub log_path: String,
    /// `default_log_level`.
    pub log_level: LogLevel,
    /// `global_log_roller`: of the log, and of access logs without one of their own.
    pub log_roller: LogRoller,
    /// `listeners`.
    pub listeners: Vec<Listener>,
    /// `routers`, and behind them one for each listener that has its routes inline.
    pub routers: Vec<RouterConfig>,
}

/// `default_log_level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the levels speak for themselves; MOSN's FATAL is an error here")]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}
