//! Clusters and hosts.
//!
//! **Invariant:** plain data that compares by content.

use std::time::Duration;

use super::TlsConfig;
use crate::config::Address;
use crate::config::diagnostic::Origin;

/// One entry of `cluster_manager.clusters`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// `name`.
    pub name: String,
    /// `lb_type`.
    pub balancing: Balancing,
    /// `connect_timeout`; None: `limits.connect_timeout`.
    pub connect_timeout: Option<Duration>,
    /// `idle_timeout`; None: `limits.upstream_idle_timeout`.
    pub idle_timeout: Option<Duration>,
    /// `circuit_breakers[0].max_connections`; None: no limit.
    pub conns_max: Option<u32>,
    /// `tls_context` when it is on, or that of `cluster_manager` with `cluster_manager_tls`.
    pub tls: Option<TlsConfig>,
    /// `hosts`.
    pub hosts: Vec<Host>,
    /// Where it stands.
    pub origin: Origin,
}

/// A cluster's place among the clusters of one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterId(pub u32);

/// `lb_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Balancing {
    /// `LB_ROUNDROBIN`.
    #[default]
    RoundRobin,
}

/// One entry of `hosts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// `address`.
    pub address: Address,
    /// `hostname`: a name for it, in logs; maybe empty.
    pub hostname: String,
    /// `weight`: its share, 1 to 128. Round robin does not look at it.
    pub weight: u32,
}
