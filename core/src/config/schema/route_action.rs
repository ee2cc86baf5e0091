//! What a route does with a request, and how a request that goes to a cluster is treated.
//!
//! **Invariant:** plain data; weights are not all nothing, and names of fields and cookies are tokens.

use std::time::Duration;

use super::cluster::MetadataMatch;
use super::pattern::Pattern;
use super::protocol::RpcProtocol;
use super::template::Variable;
use crate::config::diagnostic::Origin;

/// What happens to a request that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteAction {
    /// `route`: to a cluster.
    Forward(Box<Forward>),
    /// `redirect`.
    Redirect(Redirect),
    /// `direct_response`.
    Direct {
        /// `status`.
        status: u16,
        /// `body`.
        body: String,
    },
}

/// `route`: where a request goes, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// `cluster_name`, `weighted_clusters`, `cluster_variable` or `cluster_header`.
    pub cluster: ClusterChoice,
    /// `timeout`.
    pub timeout: RouteTimeout,
    /// `retry_policy.retry_timeout`: of one try.
    pub try_timeout: Option<Duration>,
    /// `retry_policy`.
    pub retry: RetryPolicy,
    /// `prefix_rewrite` or `regex_rewrite`.
    pub path_rewrite: Option<PathRewrite>,
    /// `host_rewrite`, `auto_host_rewrite_header` or `auto_host_rewrite`.
    pub host_rewrite: Option<HostRewrite>,
    /// The first of `hash_policy`.
    pub hash: Option<HashPolicy>,
    /// `metadata_match`.
    pub metadata: Option<MetadataMatch>,
    /// `upstream_protocol`; None: what the listener says.
    pub protocol: Option<UpstreamProtocol>,
}

/// `upstream_protocol`: what origins are asked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// `Http1`.
    Http1,
    /// `Http2`.
    Http2,
    /// `Auto`: what the client speaks.
    LikeClient,
    /// A protocol of RPC, by its name.
    Rpc(RpcProtocol),
}

/// Which cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterChoice {
    /// `cluster_name`.
    Name {
        /// The name.
        name: String,
        /// Where it stands.
        origin: Origin,
    },
    /// `weighted_clusters`.
    Weighted(Vec<WeightedCluster>),
    /// `cluster_variable`, or `cluster_header`: the one whose name this says.
    Variable(Variable),
}

/// One entry of `weighted_clusters`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedCluster {
    /// `name`.
    pub name: String,
    /// `weight`: its share.
    pub weight: u32,
    /// `metadata_match`, beside that of the route.
    pub metadata: Option<MetadataMatch>,
    /// Where it stands.
    pub origin: Origin,
}

/// `route.timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RouteTimeout {
    /// Absent or 0: `limits.request_timeout`.
    #[default]
    Default,
    /// Negative: no limit.
    Never,
    /// This long.
    After(Duration),
}

/// `retry_policy`: which requests are tried again once a byte of them has left. Until then they always are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// `retry_on`: what is tried again.
    pub on: RetryOn,
    /// `num_retries`.
    pub retries_max: u32,
    /// `status_codes`: with `retry_on: true` these and no others.
    pub statuses: Vec<u16>,
    /// `retry_non_idempotent`: also POST and the like.
    pub non_idempotent: bool,
    /// `retry_back_off.base_interval`.
    pub back_off_base: Duration,
    /// `retry_back_off.max_interval`.
    pub back_off_max: Duration,
    /// `retry_budget.budget_percent`: retries among the active requests of the cluster, at most.
    pub budget_percent: u32,
    /// `retry_budget.min_retry_concurrency`: so many at a time are always within the budget.
    pub budget_min: u32,
}

/// `retry_on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RetryOn {
    /// The connection broke before the answer's head was there.
    pub reset: bool,
    /// No answer within `retry_timeout`.
    pub timeout: bool,
    /// A status of 500 and above.
    pub server_errors: bool,
    /// 502, 503 and 504.
    pub gateway_errors: bool,
    /// 409.
    pub conflict: bool,
    /// Those of `status_codes`.
    pub listed: bool,
}

/// `prefix_rewrite` or `regex_rewrite`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRewrite {
    /// Instead of the prefix, or of the whole path, that matched.
    Prefix(String),
    /// Every match of the pattern is replaced.
    Regex {
        /// `pattern.regex`.
        pattern: Pattern,
        /// `substitution`: `$1` is what the first group matched.
        substitution: String,
    },
}

/// What the origin is asked for as its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostRewrite {
    /// `host_rewrite`: this.
    To(String),
    /// `auto_host_rewrite_header`: what the field of this name says, where there is one.
    Field(String),
    /// `auto_host_rewrite`: the name of the host that was chosen, where it has one.
    Upstream,
}

/// `hash_policy`: what decides which host of a cluster gets a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashPolicy {
    /// `header.key`.
    Field(String),
    /// `cookie`.
    Cookie {
        /// `name`.
        name: String,
        /// `path`.
        path: String,
        /// `ttl`: a client without the cookie gets one for so long; zero: for its session. None: it gets none.
        ttl: Option<Duration>,
    },
    /// `source_ip`.
    SourceIp,
}

/// `redirect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// `response_code`.
    pub status: u16,
    /// `scheme_redirect`.
    pub scheme: Option<String>,
    /// `host_redirect`.
    pub host: Option<String>,
    /// `path_redirect`.
    pub path: Option<String>,
}

/// `request_mirror_policies`: where a copy of a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorPolicy {
    /// `cluster`.
    pub cluster: String,
    /// `percent` of the requests.
    pub percent: u32,
    /// Where the cluster's name stands.
    pub origin: Origin,
}

impl Forward {
    /// To this cluster, with nothing special.
    #[must_use]
    pub fn to(name: &str, origin: Origin) -> Self {
        Self {
            cluster: ClusterChoice::Name { name: name.to_owned(), origin },
            timeout: RouteTimeout::Default,
            try_timeout: None,
            retry: RetryPolicy::default(),
            path_rewrite: None,
            host_rewrite: None,
            hash: None,
            metadata: None,
            protocol: None,
        }
    }
}

impl ClusterChoice {
    /// The clusters that it names, and where.
    #[must_use]
    pub fn origins(&self) -> Vec<(&str, &Origin)> {
        match self {
            Self::Name { name, origin } => vec![(name, origin)],
            Self::Weighted(entries) => entries.iter().map(|e| (e.name.as_str(), &e.origin)).collect(),
            Self::Variable(_) => Vec::new(),
        }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            on: RetryOn::default(),
            retries_max: 3,
            statuses: Vec::new(),
            non_idempotent: false,
            back_off_base: Duration::from_millis(25),
            back_off_max: Duration::from_millis(250),
            budget_percent: 20,
            budget_min: 3,
        }
    }
}

impl RetryPolicy {
    /// Whether an answer with this status is to be tried again.
    #[must_use]
    pub fn takes_status(&self, status: u16) -> bool {
        let on = self.on;
        on.server_errors && status >= 500
            || on.gateway_errors && matches!(status, 502..=504)
            || on.conflict && status == 409
            || on.listed && self.statuses.contains(&status)
    }

    /// Whether anything is tried again once a byte has left.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.on != RetryOn::default() && self.retries_max > 0
    }
}
