//! Clusters and hosts.
//!
//! **Invariant:** plain data that compares by content.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Health, Outlier, TlsConfig};
use crate::config::Address;
use crate::config::diagnostic::Origin;

/// One entry of `cluster_manager.clusters`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// `name`.
    pub name: String,
    /// `type`.
    pub source: Source,
    /// `dns_*`: how hosts that have a name are looked up.
    pub dns: Dns,
    /// `lb_type` and `lbconfig`.
    pub balancing: Balancing,
    /// `lb_subset_config`.
    pub subsets: Option<Subsets>,
    /// `slow_start`.
    pub slow_start: Option<SlowStart>,
    /// `panic_threshold`: when less than this share of the hosts is healthy, all of them are used. 0: never.
    pub panic_percent: u32,
    /// `connect_timeout`; None: `limits.connect_timeout`.
    pub connect_timeout: Option<Duration>,
    /// `idle_timeout`; None: `limits.upstream_idle_timeout`.
    pub idle_timeout: Option<Duration>,
    /// `max_request_per_conn`; None: no limit.
    pub requests_per_conn_max: Option<u32>,
    /// `max_connection_duration`: a connection takes no request when it is older. None: no limit.
    pub conn_age_max: Option<Duration>,
    /// `keepalive`: of connections that speak an RPC protocol.
    pub keepalive: Keepalive,
    /// `rpc_pool`: how requests of RPC protocols share connections.
    pub rpc_pool: RpcPool,
    /// `circuit_breakers[0]`.
    pub breakers: Breakers,
    /// `health_check`.
    pub health: Option<Health>,
    /// `outlier_detection`.
    pub outlier: Option<Outlier>,
    /// `tls_context` when it is on, or that of `cluster_manager` with `cluster_manager_tls`.
    pub tls: Option<TlsConfig>,
    /// `cluster_manager.locality`: where this gateway stands; hosts of the same locality come first. Empty: nowhere.
    pub locality: String,
    /// `hosts`.
    pub hosts: Arc<[Host]>,
    /// Where it stands.
    pub origin: Origin,
}

/// `keepalive`: how a host that has been silent on an RPC connection is asked whether it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// `interval`: after so long a silence.
    pub interval: Duration,
    /// `timeout`: how long its answer is waited for.
    pub timeout: Duration,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { interval: Duration::from_secs(15), timeout: Duration::from_secs(1) }
    }
}

/// `rpc_pool`: how requests of RPC protocols share the connections to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RpcPool {
    /// `multiplexed`: many at a time on one, and another where those that there are have no room left.
    #[default]
    Multiplexed,
    /// `ping_pong`: one at a time on each.
    PingPong,
    /// `bound`: those of each client's connection have one of their own, which ends with it.
    Bound,
}

/// `type`: where a cluster's hosts come from.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Source {
    /// `SIMPLE`, `STATIC` and `STRICT_DNS`: from the file, names looked up.
    #[default]
    Static,
    /// `DYNAMIC`: from the file, then told at run time.
    Dynamic,
    /// `ORIGINAL_DST`: each request says where it goes.
    OriginalDst(OriginalDst),
}

/// `original_dst_lb_config`: where the requests of an `ORIGINAL_DST` cluster go.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OriginalDst {
    /// The header that names the destination as `IP:PORT`, in lower case. None: where the client's connection wanted to go.
    pub header: Option<String>,
    /// `replace_local`: to this port of 127.0.0.1 instead.
    pub replace_local: bool,
}

/// How names are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// `dns_refresh_rate`: how often; with `ttl`, how often at most.
    pub refresh: Duration,
    /// `respect_dns_ttl`: as often as the answer's time to live says.
    pub ttl: bool,
    /// `dns_lookup_family`.
    pub family: Family,
    /// `dns_resolvers.servers`; empty: those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// `dns_resolver_file`: instead of `/etc/resolv.conf`.
    pub file: Option<PathBuf>,
    /// `dns_resolvers.search`: appended to names with few dots.
    pub search: Vec<String>,
    /// `dns_resolvers.ndots`: a name with this many dots is tried as it is first.
    pub ndots: Option<u32>,
    /// `dns_resolvers.timeout`: one question to one server.
    pub timeout: Option<Duration>,
    /// `dns_resolvers.attempts`.
    pub attempts: Option<u32>,
    /// `dns_resolvers.rotate`: ask the servers in turn.
    pub rotate: bool,
    /// `dns_resolvers.use_tcp`.
    pub tcp: bool,
}

/// `dns_lookup_family`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Family {
    /// `AUTO`: both.
    #[default]
    Auto,
    /// `V4_ONLY`.
    V4,
    /// `V6_ONLY`.
    V6,
}

/// `circuit_breakers[0]`: bounds that hold for all workers together. None: no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Breakers {
    /// `max_connections`.
    pub conns_max: Option<u32>,
    /// `max_pending_requests`: requests that wait for a connection when there are `conns_max`.
    pub pending_max: Option<u32>,
    /// `max_requests`: requests in progress at a time.
    pub requests_max: Option<u32>,
    /// `max_retries`: retries in progress at a time.
    pub retries_max: Option<u32>,
}

/// A cluster's place among the clusters of one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterId(pub u32);

/// `lb_type`, with what `lbconfig` says for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Balancing {
    /// `LB_ROUNDROBIN`.
    #[default]
    RoundRobin,
    /// `LB_RANDOM`.
    Random,
    /// `LB_WEIGHTED_ROUNDROBIN`.
    Weighted,
    /// `LB_LEAST_REQUEST`.
    LeastRequest(Choices),
    /// `LB_LEAST_CONNECTION`.
    LeastConnection(Choices),
    /// `LB_PEAK_EWMA`.
    PeakEwma {
        /// How hosts are compared.
        choices: Choices,
        /// `client_error_bias`: how much a host's 4xx count against it.
        client_error_bias: Decimal,
        /// `server_error_bias`: how much its 5xx do.
        server_error_bias: Decimal,
    },
    /// `LB_MAGLEV`.
    Maglev {
        /// `table_size`: about as many places; None: a size that fits the hosts.
        table_size: Option<u32>,
    },
    /// `LB_RING_HASH`.
    RingHash {
        /// `minimum_ring_size`: points on the ring, at least.
        points_min: u32,
        /// `maximum_ring_size`: points on the ring, at most.
        points_max: u32,
    },
    /// `LB_REQUEST_ROUNDROBIN`.
    InOrder,
}

/// How balancers that compare hosts do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choices {
    /// `choice_count`: hosts drawn at random, of which the best is taken.
    pub count: u32,
    /// `active_request_bias`: how much the work in progress counts; 0 not at all.
    pub bias: Decimal,
}

/// A number with a fraction, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decimal(pub u32);

/// `lb_subset_config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subsets {
    /// `fall_back_policy`.
    pub fallback: Fallback,
    /// `subset_selectors`: each a list of keys, sorted, each once.
    pub selectors: Vec<Vec<String>>,
}

/// `fall_back_policy`: where a request goes that no subset is there for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// 0: nowhere.
    None,
    /// 1: to any host.
    Any,
    /// 2: to the hosts with this metadata (`default_subset`).
    Default(MetadataMatch),
}

/// `slow_start`: a new host begins with a small share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowStart {
    /// `slow_start_duration`: how long until it has its full weight.
    pub window: Duration,
    /// `aggression`: 1 grows evenly, more grows faster at first.
    pub aggression: Decimal,
    /// `min_weight_percent`: the share of its weight that it begins with, as a fraction of 1.
    pub weight_min: Decimal,
}

/// One entry of `hosts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// `address`.
    pub target: Target,
    /// `hostname`: the name that its certificate must carry, and in logs; maybe empty.
    pub hostname: String,
    /// `weight`: its share, 1 to 128, for the balancers that look at it.
    pub weight: u32,
    /// `metadata.filter_metadata."mosn.lb"`.
    pub metadata: Option<Arc<MetadataMatch>>,
    /// `tls_disable`: plain text although its cluster has TLS.
    pub plain: bool,
    /// `priority`: hosts with a higher number get requests when too few of the lower ones are healthy.
    pub priority: u32,
    /// `locality`: where it stands; maybe empty.
    pub locality: String,
}

/// Where a host is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// At an address.
    Address(Address),
    /// At every address of a name.
    Name(Arc<str>, u16),
}

/// `metadata_match` of a route, or the metadata of a host (`mosn.lb`): sorted by key, each key once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct MetadataMatch(Vec<(Box<str>, Box<str>)>);

impl Default for Dns {
    fn default() -> Self {
        Self {
            refresh: Duration::from_secs(5),
            ttl: false,
            family: Family::Auto,
            servers: Vec::new(),
            file: None,
            search: Vec::new(),
            ndots: None,
            timeout: None,
            attempts: None,
            rotate: false,
            tcp: false,
        }
    }
}

impl Default for Choices {
    fn default() -> Self {
        Self { count: 2, bias: Decimal::ONE }
    }
}

impl Decimal {
    /// 1.
    pub const ONE: Self = Self(1_000_000);

    /// As a floating-point number.
    #[must_use]
    pub fn get(self) -> f64 {
        f64::from(self.0) / 1e6
    }
}

impl Cluster {
    /// A cluster of this name and these hosts, everything else by default.
    #[must_use]
    pub fn new(name: &str, hosts: impl Into<Arc<[Host]>>) -> Self {
        Self {
            name: name.to_owned(),
            source: Source::default(),
            dns: Dns::default(),
            balancing: Balancing::default(),
            subsets: None,
            slow_start: None,
            panic_percent: 0,
            connect_timeout: None,
            idle_timeout: None,
            requests_per_conn_max: None,
            conn_age_max: None,
            keepalive: Keepalive::default(),
            rpc_pool: RpcPool::default(),
            breakers: Breakers::default(),
            health: None,
            outlier: None,
            tls: None,
            locality: String::new(),
            hosts: hosts.into(),
            origin: Origin::default(),
        }
    }
}

impl Host {
    /// A host at this address, everything else by default.
    #[must_use]
    pub fn at(address: Address) -> Self {
        Self {
            target: Target::Address(address),
            hostname: String::new(),
            weight: 1,
            metadata: None,
            plain: false,
            priority: 0,
            locality: String::new(),
        }
    }
}

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

    /// Whether it says everything that `other` does.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        other.iter().all(|(key, value)| self.get(key) == Some(value))
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
        let part = MetadataMatch::new([("zone".to_owned(), "a".to_owned())]);
        assert!(made.contains(&part) && !part.contains(&made));
    }
}
