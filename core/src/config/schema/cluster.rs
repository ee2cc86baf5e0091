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
    /// `circuit_breakers[0]`.
    pub breakers: Breakers,
    /// `tls_context` when it is on, or that of `cluster_manager` with `cluster_manager_tls`.
    pub tls: Option<TlsConfig>,
    /// `hosts`.
    pub hosts: Vec<Host>,
    /// Where it stands.
    pub origin: Origin,
}

/// `circuit_breakers[0]`: bounds that hold for all workers together. None: no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Breakers {
    /// `max_connections`.
    pub conns_max: Option<u32>,
    /// `max_retries`: retries in progress at a time.
    pub retries_max: Option<u32>,
}

/// `original_dst_lb_config`: where the requests of an `ORIGINAL_DST` cluster go.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OriginalDst {
    /// The header that names the destination as `IP:PORT`, in lower case. None: where the client's connection wanted to go.
    pub header: Option<String>,
    /// `replace_local`: to this port of 127.0.0.1 instead.
    pub replace_local: bool,
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

/// `metadata_match` of a route: what a host's metadata (`mosn.lb`) must say, sorted by key, each key once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct MetadataMatch(Vec<(Box<str>, Box<str>)>);

impl MetadataMatch {
    /// Of pairs in any order; of two with the same key the later one counts.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut made = Self::default();
        for (key, value) in pairs {
            made.set(&key, &value);
        }
        made
    }

    /// Says `value` for `key`.
    pub fn set(&mut self, key: &str, value: &str) {
        match self.0.binary_search_by(|(k, _)| (**k).cmp(key)) {
            Ok(at) => self.0[at].1 = value.into(),
            Err(at) => self.0.insert(at, (key.into(), value.into())),
        }
    }

    /// What it says for `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    /// Each key with its value, sorted by key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (&**k, &**v))
    }

    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_sorted_and_the_later_value_counts() {
        let pairs = [("zone", "b"), ("app", "x"), ("zone", "a")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let made = MetadataMatch::new(pairs);
        assert_eq!(made.iter().collect::<Vec<_>>(), [("app", "x"), ("zone", "a")]);
        assert_eq!((made.get("zone"), made.get("none"), made.is_empty()), (Some("a"), None, false));
    }
}
