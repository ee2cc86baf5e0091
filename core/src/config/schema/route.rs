//! Routers, virtual hosts and routes: which requests, and what is done with all of them.
//!
//! **Invariant:** a [`Domain`] in here is in lower case; everything else stands as the file has it.

use super::domain::Domain;
use super::filter::FilterConfig;
use super::pattern::Pattern;
use super::route_action::{MirrorPolicy, RouteAction};
use super::template::{Template, Variable};
use crate::config::diagnostic::Origin;

/// One entry of `routers`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RouterConfig {
    /// `router_config_name`.
    pub name: String,
    /// `virtual_hosts`.
    pub virtual_hosts: Vec<VirtualHost>,
    /// What is done to the fields of every message.
    pub edits: Edits,
    /// Where it stands.
    pub origin: Origin,
}

/// One entry of `virtual_hosts`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct VirtualHost {
    /// `name`; the first domain where the file says none.
    pub name: String,
    /// `domains`.
    pub domains: Vec<Domain>,
    /// `routers`: the routes, the first that matches wins.
    pub routes: Vec<Route>,
    /// What is done to the fields of its messages.
    pub edits: Edits,
    /// `per_filter_config`.
    pub filters: Vec<FilterConfig>,
}

/// One entry of a virtual host's `routers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `name`, for logs; empty where the file says none.
    pub name: String,
    /// `match`.
    pub matching: Match,
    /// `route`, `redirect` or `direct_response`.
    pub action: RouteAction,
    /// What is done to the fields of its messages.
    pub edits: Edits,
    /// `request_mirror_policies`.
    pub mirror: Option<MirrorPolicy>,
    /// `per_filter_config`.
    pub filters: Vec<FilterConfig>,
}

/// `match`: which requests. All of it must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// What the path must be.
    pub path: PathMatch,
    /// `headers`.
    pub fields: Vec<FieldMatch>,
    /// `variables`.
    pub variables: Vec<VariableMatch>,
}

/// What a path must be, after percent-decoding and without the query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// Any path: a match by other things only.
    Any,
    /// `prefix`: case-sensitive, no regard to segments: `/foo` matches `/foobar`.
    Prefix(String),
    /// `path`: the whole path, upper and lower case of ASCII letters alike.
    Path(String),
    /// `regex`: found anywhere in the path.
    Regex(Pattern),
}

/// One entry of `match.headers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldMatch {
    /// `name`, in lower case.
    pub name: String,
    /// What the first field of that name must be. A request without one does not match.
    pub value: ValueMatch,
}

/// One entry of `match.variables`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariableMatch {
    /// `name`.
    pub variable: Variable,
    /// What it must be. One without a value is an empty text.
    pub value: ValueMatch,
    /// `model: or`: when this one holds, with all before it back to the last `or`, the ones behind it need not.
    pub or: bool,
}

/// What a text must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueMatch {
    /// This.
    Exact(String),
    /// Anything but nothing.
    Present,
    /// Something in which this is found.
    Regex(Pattern),
}

/// What is done to the fields of messages, at one level: a route, a virtual host or a router.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Edits {
    /// `request_headers_to_add`.
    pub request_add: Vec<FieldAdd>,
    /// `request_headers_to_remove`.
    pub request_remove: Vec<String>,
    /// `response_headers_to_add`.
    pub response_add: Vec<FieldAdd>,
    /// `response_headers_to_remove`.
    pub response_remove: Vec<String>,
}

/// One entry of `request_headers_to_add` and the like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldAdd {
    /// `header.key`.
    pub name: String,
    /// `header.value`.
    pub value: Template,
    /// `append`: behind the value that is there, else instead of it.
    pub append: bool,
}

impl RouterConfig {
    /// The clusters that its routes name, as often as they do.
    pub fn cluster_names(&self) -> impl Iterator<Item = &str> {
        self.cluster_origins().map(|(name, _)| name)
    }

    /// The clusters that its routes name, and where.
    pub fn cluster_origins(&self) -> impl Iterator<Item = (&str, &Origin)> {
        let routes = self.virtual_hosts.iter().flat_map(|v| &v.routes);
        routes.flat_map(|route| {
            let mirror = route.mirror.iter().map(|m| (m.cluster.as_str(), &m.origin));
            let forward = match &route.action {
                RouteAction::Forward(forward) => Some(forward),
                RouteAction::Direct { .. } | RouteAction::Redirect(_) => None,
            };
            forward.map(|f| f.cluster.origins()).unwrap_or_default().into_iter().chain(mirror)
        })
    }
}

impl Default for Match {
    fn default() -> Self {
        Self { path: PathMatch::Prefix("/".into()), fields: Vec::new(), variables: Vec::new() }
    }
}
