//! One route as a request meets it: names resolved, defaults filled in, and what nobody uses left out.
//!
//! **Invariant:** what a route does not use costs its requests a look at a None or at an empty list, and nothing else; routes that do the
//! same share one [`Course`], so that thousands of them need little memory that is warm.

use std::ops::Deref;
use std::time::Duration;

use bytes::Bytes;

use super::edits::Edits;
use super::hash::{self, HashKey};
use super::index::Entry;
use super::rewrite::{PathRewrite, TargetTooLong, rewrite_host};
use super::variable::Facts;
use super::{Resolve, RouteId, UnknownCluster, redirect};
use crate::config::schema::{
    self, ClusterId, HashPolicy, HostRewrite, MetadataMatch, Redirect, RetryPolicy, RouteTimeout, UpstreamProtocol,
    Variable,
};
use crate::message::{Exchange, Head, HttpHead};

/// A route that was found. What it is called lies apart from what happens to its requests: few ask for it, and it would be cold.
#[derive(Clone, Copy, Debug)]
pub struct Route<'r> {
    entry: &'r Entry,
    course: &'r Course,
}

/// What happens to the requests that a route takes.
#[derive(Debug)]
pub struct Course {
    /// The name of its virtual host.
    pub virtual_host: Box<str>,
    /// What happens.
    pub action: RouteAction,
    /// Where copies of its requests go.
    pub mirror: Option<Mirror>,
    requests: Edits,
    responses: Edits,
}

/// What a [`Course`] does.
#[derive(Debug)]
pub enum RouteAction {
    /// Sends the request to a cluster.
    Forward(Forward),
    /// Sends the client elsewhere.
    Redirect(Redirect),
    /// Answers it here.
    Direct {
        /// The status code.
        status: u16,
        /// The body.
        body: Bytes,
    },
}

/// Where a request goes, and how. What few routes have lies elsewhere: each request reads its route from memory that is cold.
#[derive(Debug)]
pub struct Forward {
    /// From the request sent to the end of the response's head, over all tries. None: no limit; the default is filled in already.
    pub timeout: Option<Duration>,
    /// Whether the file says that.
    pub sets_timeout: bool,
    /// The same for one try.
    pub try_timeout: Option<Duration>,
    /// What is tried again once a byte has left; None: nothing.
    pub retry: Option<Box<RetryPolicy>>,
    /// What its origins are asked in; None: what the listener says.
    pub protocol: Option<UpstreamProtocol>,
    cluster: ClusterChoice,
    metadata: Option<Box<MetadataMatch>>,
    path: Option<Box<PathRewrite>>,
    host: Option<Box<HostRewrite>>,
    hash: Option<Box<HashPolicy>>,
}

/// Where copies go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// The cluster.
    pub cluster: ClusterId,
    /// Of a hundred requests.
    pub percent: u32,
}

/// The cluster that a route has chosen for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chosen<'a> {
    /// This one, with what a host's metadata must say.
    Cluster(ClusterId, Option<&'a MetadataMatch>),
    /// The one whose name this variable says.
    Named(&'a Variable, Option<&'a MetadataMatch>),
}

#[derive(Debug, PartialEq)]
pub(super) enum ClusterChoice {
    One(ClusterId),
    /// Each with the sum of the weights up to it, the last one's being that of all.
    Weighted(Box<[(u64, ClusterId, Option<MetadataMatch>)]>),
    Variable(Box<Variable>),
}

impl Course {
    /// What `config` says, within `host` and `router`.
    pub(super) fn new(
        config: &schema::Route,
        host: &schema::VirtualHost,
        router: &schema::Edits,
        resolve: &Resolve<'_>,
    ) -> Result<Self, UnknownCluster> {
        let action = match &config.action {
            schema::RouteAction::Direct { status, body } => {
                RouteAction::Direct { status: *status, body: Bytes::copy_from_slice(body.as_bytes()) }
            }
            schema::RouteAction::Redirect(redirect) => RouteAction::Redirect(redirect.clone()),
            schema::RouteAction::Forward(forward) => {
                RouteAction::Forward(Forward::new(forward, &config.matching.path, resolve)?)
            }
        };
        let mirror = match &config.mirror {
            Some(mirror) => Some(Mirror { cluster: resolve.cluster(&mirror.cluster)?, percent: mirror.percent }),
            None => None,
        };
        let levels = [&config.edits, &host.edits, router];
        Ok(Self {
            virtual_host: host.name.as_str().into(),
            action,
            mirror,
            requests: Edits::of_requests(&levels),
            responses: Edits::of_responses(&levels),
        })
    }

    /// Whether two routes of one virtual host have one course. One that changes the path has its own: it knows what was matched.
    pub(super) fn is_shared(a: &schema::Route, b: &schema::Route) -> bool {
        let changes_path = matches!(&b.action, schema::RouteAction::Forward(forward) if forward.path_rewrite.is_some());
        !changes_path && a.action == b.action && a.edits == b.edits && a.mirror == b.mirror
    }

    /// Rewrites the path and the host of a request that is about to be forwarded.
    ///
    /// # Errors
    /// As [`Route::edit_request`].
    #[inline]
    pub fn rewrite(&self, head: &mut HttpHead, target_bytes_max: usize) -> Result<(), TargetTooLong> {
        if let RouteAction::Forward(forward) = &self.action {
            if let Some(path) = &forward.path {
                path.apply(head, target_bytes_max)?;
            }
            if let Some(host) = forward.host.as_ref().filter(|host| ***host != HostRewrite::Upstream) {
                rewrite_host(host, head, None);
            }
        }
        Ok(())
    }
}

impl Deref for Route<'_> {
    type Target = Course;

    #[inline]
    fn deref(&self) -> &Course {
        self.course
    }
}

impl<'r> Route<'r> {
    #[inline]
    pub(super) fn new(entry: &'r Entry, course: &'r Course) -> Self {
        Self { entry, course }
    }

    /// Its place in its router, counted through all virtual hosts.
    #[must_use]
    pub fn id(self) -> RouteId {
        self.entry.id
    }

    /// `name`, maybe empty.
    #[must_use]
    pub fn name(self) -> &'r str {
        &self.entry.name
    }

    /// What happens to its requests.
    #[inline]
    #[must_use]
    pub fn course(self) -> &'r Course {
        self.course
    }

    /// Makes the request what the origin is to see, but for its host: fields, then path. A frame of RPC has neither path nor host. Once for each
    /// request.
    ///
    /// # Errors
    /// When the rewritten target would be longer than `target_bytes_max`.
    #[inline]
    pub fn edit_request(self, x: &mut Exchange, target_bytes_max: usize) -> Result<(), TargetTooLong> {
        if !self.requests.is_empty() {
            self.requests.apply_to_request(x, self.name());
        }
        match &mut x.request.head {
            Head::Http(head) => self.rewrite(head, target_bytes_max),
            _ => Ok(()),
        }
    }

    /// Makes an answer what the client is to see.
    #[inline]
    pub fn edit_response(self, x: &Exchange, head: &mut HttpHead) {
        if !self.responses.is_empty() {
            self.responses.apply_to_response(x, self.name(), head);
        }
    }

    /// The Location of a redirect for this request.
    #[must_use]
    pub fn location(redirect: &Redirect, x: &Exchange) -> Vec<u8> {
        x.request.head.fields().map_or_else(Vec::new, |head| redirect::location(redirect, x, head))
    }
}

impl Forward {
    fn new(
        config: &schema::Forward,
        matching: &schema::PathMatch,
        resolve: &Resolve<'_>,
    ) -> Result<Self, UnknownCluster> {
        let timeout = match config.timeout {
            RouteTimeout::Default => Some(resolve.request_timeout),
            RouteTimeout::After(timeout) => Some(timeout),
            RouteTimeout::Never => None,
        };
        Ok(Self {
            timeout,
            sets_timeout: config.timeout != RouteTimeout::Default,
            // As in MOSN: a try that may take as long as all of them is not bounded by itself.
            try_timeout: config.try_timeout.filter(|one| timeout.is_none_or(|all| *one < all)),
            retry: Some(&config.retry).filter(|retry| retry.is_on()).cloned().map(Box::new),
            protocol: config.protocol,
            cluster: ClusterChoice::new(&config.cluster, config.metadata.as_ref(), resolve)?,
            metadata: config.metadata.clone().map(Box::new),
            path: config.path_rewrite.as_ref().and_then(|rewrite| PathRewrite::new(rewrite, matching)).map(Box::new),
            host: config.host_rewrite.clone().map(Box::new),
            hash: config.hash.clone().map(Box::new),
        })
    }

    /// The cluster for one request. `draw` gives a random number; the same number, the same cluster.
    #[inline]
    #[must_use]
    pub fn choose(&self, draw: impl FnOnce() -> u64) -> Chosen<'_> {
        self.cluster.choose(self.metadata.as_deref(), draw)
    }

    /// The hash of a request, where the route says how to make one.
    #[inline]
    #[must_use]
    pub fn hash(&self, x: &Exchange, draw: impl FnOnce() -> u64) -> Option<HashKey> {
        self.hash.as_ref().map(|policy| HashKey::new(policy, x, draw))
    }

    /// The hash of a request of a route that does not say how: by the client's address.
    #[must_use]
    pub fn default_hash(x: &Exchange) -> Option<u64> {
        hash::source(&x.downstream.peer)
    }

    /// Whether the origin is asked for its own name, which is known only when a host was chosen.
    #[must_use]
    pub fn wants_upstream_host(&self) -> bool {
        self.host.as_deref() == Some(&HostRewrite::Upstream)
    }

    /// Asks the origin for `hostname`.
    pub fn set_upstream_host(head: &mut HttpHead, hostname: &str) {
        rewrite_host(&HostRewrite::Upstream, head, Some(hostname));
    }
}

impl ClusterChoice {
    /// The cluster that `draw` says. `metadata` is the route's own.
    #[inline]
    pub(super) fn choose<'a>(&'a self, metadata: Option<&'a MetadataMatch>, draw: impl FnOnce() -> u64) -> Chosen<'a> {
        match self {
            Self::One(id) => Chosen::Cluster(*id, metadata),
            Self::Variable(variable) => Chosen::Named(variable, metadata),
            Self::Weighted(entries) => {
                let total = entries.last().map_or(1, |(sum, ..)| *sum);
                let at = draw() % total;
                let (_, id, metadata) = &entries[entries.partition_point(|(sum, ..)| *sum <= at)];
                Chosen::Cluster(*id, metadata.as_ref())
            }
        }
    }

    pub(super) fn new(
        config: &schema::ClusterChoice,
        metadata: Option<&MetadataMatch>,
        resolve: &Resolve<'_>,
    ) -> Result<Self, UnknownCluster> {
        Ok(match config {
            schema::ClusterChoice::Name { name, .. } => Self::One(resolve.cluster(name)?),
            schema::ClusterChoice::Variable(variable) => Self::Variable(Box::new(variable.clone())),
            schema::ClusterChoice::Weighted(entries) => {
                let mut sum = 0;
                let mut made = Vec::new();
                for entry in entries {
                    let id = resolve.cluster(&entry.name)?;
                    sum += u64::from(entry.weight);
                    if entry.weight > 0 {
                        made.push((sum, id, merged(metadata, entry.metadata.as_ref())));
                    }
                }
                Self::Weighted(made.into())
            }
        })
    }
}

impl Chosen<'_> {
    /// The name that the variable says, for a cluster that is chosen by name.
    #[must_use]
    pub fn name(variable: &Variable, x: &Exchange) -> Option<Vec<u8>> {
        Facts::of(x).get(variable).map(std::borrow::Cow::into_owned)
    }
}

/// What the route says and, where both say something, what the cluster's entry says.
fn merged(route: Option<&MetadataMatch>, entry: Option<&MetadataMatch>) -> Option<MetadataMatch> {
    let mut all = route.cloned().unwrap_or_default();
    for (key, value) in entry.iter().flat_map(|entry| entry.iter()) {
        all.set(key, value);
    }
    Some(all).filter(|all| !all.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Origin;
    use crate::config::schema::{PathMatch, WeightedCluster};

    fn forward(config: &schema::Forward) -> Forward {
        let ids = |name: &str| name.parse().ok().map(ClusterId);
        let resolve = Resolve { cluster: &ids, request_timeout: Duration::from_secs(60) };
        Forward::new(config, &PathMatch::Any, &resolve).unwrap()
    }

    #[test]
    fn a_course_takes_three_cache_lines() {
        assert!(size_of::<Course>() <= 192, "{} bytes", size_of::<Course>());
    }

    #[test]
    fn shares_are_as_the_weights_say() {
        let pairs = |text: &[(&str, &str)]| MetadataMatch::new(text.iter().map(|(k, v)| ((*k).into(), (*v).into())));
        let entry = |name: &str, weight, metadata: Option<MetadataMatch>| WeightedCluster {
            name: name.into(),
            weight,
            metadata,
            origin: Origin::default(),
        };
        let mut config = schema::Forward::to("9", Origin::default());
        config.metadata = Some(pairs(&[("zone", "a"), ("app", "x")]));
        config.cluster = schema::ClusterChoice::Weighted(vec![
            entry("1", 1, None),
            entry("2", 0, None),
            entry("3", 3, Some(pairs(&[("zone", "b")]))),
        ]);
        let made = forward(&config);
        let mut counts = [0; 4];
        for n in 0..8 {
            match made.choose(|| n) {
                Chosen::Cluster(id, metadata) => {
                    counts[id.0 as usize] += 1;
                    let zone = metadata.unwrap().get("zone").unwrap();
                    assert_eq!((zone, metadata.unwrap().get("app")), (if id.0 == 1 { "a" } else { "b" }, Some("x")));
                }
                Chosen::Named(..) => unreachable!(),
            }
        }
        assert_eq!(counts, [0, 2, 0, 6]);
        assert!(matches!(made.choose(|| u64::MAX), Chosen::Cluster(..)));
    }

    #[test]
    fn a_try_is_bounded_only_below_the_whole() {
        let mut config = schema::Forward::to("1", Origin::default());
        for (all, one, bounded) in [(5, 1, Some(1)), (5, 5, None), (1, 5, None)] {
            config.timeout = RouteTimeout::After(Duration::from_secs(all));
            config.try_timeout = Some(Duration::from_secs(one));
            assert_eq!(forward(&config).try_timeout, bounded.map(Duration::from_secs));
        }
    }
}
