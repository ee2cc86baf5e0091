//! From a request's head to its route: virtual host by authority, then the first route whose path matches.
//!
//! **Invariant:** a pure function of an immutable table: no I/O, no clock, no allocation on the way.

mod matcher;
mod virtual_host;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::config::schema::{ClusterId, RouteAction as Action, RouteTimeout, RouterConfig};
use crate::message::{HttpHead, Method};
use matcher::Matcher;
pub(crate) use matcher::with_normal_path;
use virtual_host::VirtualHosts;

/// The routes of one `router_config_name`.
#[derive(Debug)]
pub struct Router {
    config: RouterConfig,
    hosts: VirtualHosts,
    /// For each virtual host its routes, in the order of the file.
    routes: Vec<Vec<(Matcher, Arc<Route>)>>,
}

/// What happens to the requests that a route takes.
#[derive(Debug, PartialEq, Eq)]
pub struct Route {
    /// Its place in its router, counted through all virtual hosts.
    pub id: RouteId,
    /// `name`, maybe empty.
    pub name: String,
    /// The name of its virtual host.
    pub virtual_host: String,
    /// What happens.
    pub action: RouteAction,
    /// From the request sent to the end of the response's head. None: no limit; the default is filled in already.
    pub timeout: Option<Duration>,
}

/// A route's place in its router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(pub u32);

/// What a [`Route`] does.
#[derive(Debug, PartialEq, Eq)]
pub enum RouteAction {
    /// Sends the request to a cluster.
    Cluster(ClusterId),
    /// Answers it here.
    Direct {
        /// The status code.
        status: u16,
        /// The body.
        body: Bytes,
    },
}

/// A route names a cluster that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownCluster {
    /// The name.
    pub name: String,
}

impl Router {
    /// Makes the table. `cluster` resolves names; `request_timeout` is for the routes that say none.
    ///
    /// # Errors
    /// When a route names a cluster that `cluster` does not know.
    pub fn new(
        config: &RouterConfig,
        cluster: impl Fn(&str) -> Option<ClusterId>,
        request_timeout: Duration,
    ) -> Result<Self, UnknownCluster> {
        let mut routes = Vec::with_capacity(config.virtual_hosts.len());
        let mut id = 0;
        for host in &config.virtual_hosts {
            let mut list = Vec::with_capacity(host.routes.len());
            for route in &host.routes {
                let (action, timeout) = match &route.action {
                    Action::Direct { status, body } => {
                        let body = Bytes::copy_from_slice(body.as_bytes());
                        (RouteAction::Direct { status: *status, body }, RouteTimeout::Default)
                    }
                    Action::Cluster { name, timeout, .. } => {
                        let cluster = cluster(name).ok_or_else(|| UnknownCluster { name: name.clone() })?;
                        (RouteAction::Cluster(cluster), *timeout)
                    }
                };
                let timeout = match timeout {
                    RouteTimeout::Default => Some(request_timeout),
                    RouteTimeout::After(timeout) => Some(timeout),
                    RouteTimeout::Never => None,
                };
                let (name, virtual_host) = (route.name.clone(), host.name.clone());
                let route_id = RouteId(id);
                id += 1;
                list.push((
                    Matcher::new(&route.path),
                    Arc::new(Route { id: route_id, name, virtual_host, action, timeout }),
                ));
            }
            routes.push(list);
        }
        Ok(Self { config: config.clone(), hosts: VirtualHosts::new(&config.virtual_hosts), routes })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// What it was made from.
    #[must_use]
    pub fn config(&self) -> &RouterConfig {
        &self.config
    }

    /// The route that takes the request; None is a 404.
    ///
    /// The path is compared percent-decoded and with its dot segments and double slashes resolved, as an origin will take it; what is
    /// forwarded is the path as it came. A CONNECT request has no path and is matched as `/`.
    #[must_use]
    pub fn route(&self, head: &HttpHead) -> Option<&Arc<Route>> {
        let host = self.hosts.find(head.authority())?;
        let path = if head.method() == Method::Connect { b"/" } else { head.path() };
        let routes = &self.routes[host];
        with_normal_path(path, |path| routes.iter().find(|(matcher, _)| matcher.matches(path)).map(|(_, route)| route))
    }
}

impl fmt::Display for UnknownCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no cluster `{}`", self.name)
    }
}

impl std::error::Error for UnknownCluster {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const FILE: &str = r#"
servers:
- routers:
  - router_config_name: web
    virtual_hosts:
    - name: shop
      domains: [shop.example, "shop.example:8443", "*.shop.example:*"]
      routers:
      - {name: health, match: {path: /Healthz}, direct_response: {status: 200, body: fine}}
      - {name: api, match: {prefix: /api}, route: {cluster_name: a, timeout: 5s}}
      - {name: late-api, match: {prefix: /api/v2}, route: {cluster_name: b}}
      - {name: forever, match: {prefix: /watch}, route: {cluster_name: b, timeout: -1s}}
      - {name: zero, match: {prefix: /zero}, route: {cluster_name: b, timeout: 0s}}
    - name: rest
      domains: ["*"]
      routers: [{name: all, route: {cluster_name: b}}]
cluster_manager:
  clusters:
  - {name: a, hosts: [{address: "127.0.0.1:1"}]}
  - {name: b, hosts: [{address: "127.0.0.1:2"}]}
"#;

    fn router() -> Router {
        let (config, _) = Config::parse(FILE, "test").unwrap();
        let id = |name: &str| {
            config.clusters.iter().position(|c| c.name == name).map(|i| ClusterId(u32::try_from(i).unwrap()))
        };
        Router::new(&config.server.routers[0], id, Duration::from_secs(60)).unwrap()
    }

    fn head(method: &str, target: &str, host: &str) -> HttpHead {
        let mut head = HttpHead::request(method, target.as_bytes());
        assert!(host.is_empty() || head.append("host", host.as_bytes()));
        head
    }

    #[test]
    fn the_first_route_that_matches_takes_the_request() {
        let router = router();
        for (target, host, route) in [
            ("/healthz", "shop.example", Some("health")),
            ("/HEALTHZ?x=1", "Shop.Example", Some("health")),
            ("/healthz/", "shop.example", None),
            ("/api", "shop.example:8443", Some("api")),
            ("/apiary", "shop.example", Some("api")),
            ("/API", "shop.example", None),
            ("/api/v2/x", "a.shop.example", Some("api")),
            ("/%61pi", "shop.example", Some("api")),
            ("/x/..//./api", "shop.example", Some("api")),
            ("/api/../nowhere", "shop.example", None),
            ("/nowhere", "shop.example", None),
            ("/api", "shop.example:80", Some("all")),
            ("/api", "other", Some("all")),
            ("http://shop.example/api", "other", Some("api")),
            ("/", "", Some("all")),
        ] {
            let found = router.route(&head("GET", target, host)).map(|r| r.name.as_str());
            assert_eq!(found, route, "{target} {host}");
        }
    }

    #[test]
    fn a_connect_request_is_matched_as_the_root() {
        let router = router();
        assert_eq!(router.route(&head("CONNECT", "other:443", "")).unwrap().name, "all");
        assert!(router.route(&head("CONNECT", "x.shop.example:443", "")).is_none());
    }

    #[test]
    fn routes_carry_their_cluster_and_timeout() {
        let router = router();
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        for (target, cluster, timeout) in
            [("/api", 0, Some(5 * second)), ("/watch", 1, None), ("/zero", 1, Some(minute))]
        {
            let route = router.route(&head("GET", target, "shop.example")).unwrap();
            assert_eq!(
                (&route.action, route.timeout),
                (&RouteAction::Cluster(ClusterId(cluster)), timeout),
                "{target}"
            );
        }
        let direct = router.route(&head("GET", "/healthz", "shop.example")).unwrap();
        assert_eq!(direct.action, RouteAction::Direct { status: 200, body: Bytes::from_static(b"fine") });
        assert_eq!((direct.id, direct.virtual_host.as_str()), (RouteId(0), "shop"));
        assert_eq!(router.route(&head("GET", "/", "x")).unwrap().id, RouteId(5));
    }

    #[test]
    fn a_route_to_no_cluster_is_refused() {
        let (config, _) = Config::parse(FILE, "test").unwrap();
        let error = Router::new(&config.server.routers[0], |_| None, Duration::ZERO).unwrap_err();
        assert_eq!(error.to_string(), "there is no cluster `a`");
    }
}
