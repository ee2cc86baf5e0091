//! From a request to its route: virtual host by authority, then the first route in the file that matches.
//!
//! **Invariant:** a pure function of an immutable table: no I/O, no clock, no allocation on the way.

mod chain;
mod condition;
mod edits;
mod hash;
mod index;
mod path;
mod ranges;
mod redirect;
mod rewrite;
mod route;
mod tcp;
mod variable;
mod virtual_host;

use std::fmt;
use std::time::Duration;

pub use chain::choose_chain;
pub use hash::HashKey;
pub(crate) use hash::source as source_hash;
pub use ranges::Ranges;
pub use rewrite::TargetTooLong;
pub use route::{Chosen, Course, Forward, Mirror, Route, RouteAction};
pub use tcp::TcpRoutes;
pub use variable::Facts;

use crate::config::schema::{ClusterId, RouterConfig};
use crate::message::{Exchange, Method};
use index::Index;
pub(crate) use path::with_normal_path;
use virtual_host::VirtualHosts;

/// The routes of one `router_config_name`.
#[derive(Debug)]
pub struct Router {
    config: RouterConfig,
    hosts: VirtualHosts,
    /// For each virtual host its routes.
    routes: Vec<Index>,
}

/// A route's place in its router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(pub u32);

/// A route names a cluster that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownCluster {
    /// The name.
    pub name: String,
}

/// What a route is made with besides its own configuration.
struct Resolve<'a> {
    cluster: &'a dyn Fn(&str) -> Option<ClusterId>,
    request_timeout: Duration,
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
        let resolve = Resolve { cluster: &cluster, request_timeout };
        let mut ids = (0..).map(RouteId);
        let mut routes = Vec::with_capacity(config.virtual_hosts.len());
        for host in &config.virtual_hosts {
            routes.push(Index::new(host, &config.edits, &resolve, &mut ids)?);
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

    /// Every route by its [`RouteId`]: that of place n has the id n.
    pub fn routes(&self) -> impl Iterator<Item = Route<'_>> {
        self.routes.iter().flat_map(Index::routes)
    }

    /// The route that takes the request; None is a 404.
    ///
    /// The path is compared percent-decoded and with its dot segments and double slashes resolved, as an origin will take it; what is
    /// forwarded is the path as it came. A CONNECT request has no path and is matched as `/`.
    #[must_use]
    pub fn route(&self, x: &Exchange) -> Option<Route<'_>> {
        let head = x.request.head.fields()?;
        let routes = &self.routes[self.hosts.find(head.authority())?];
        let path = if head.method() == Method::Connect { b"/" } else { head.path() };
        with_normal_path(path, |path| routes.find(path, &Facts { path: Some(path), ..Facts::of(x) }))
    }
}

impl Resolve<'_> {
    fn cluster(&self, name: &str) -> Result<ClusterId, UnknownCluster> {
        (self.cluster)(name).ok_or_else(|| UnknownCluster { name: name.to_owned() })
    }
}

impl fmt::Display for UnknownCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no cluster `{}`", self.name)
    }
}

impl std::error::Error for UnknownCluster {}

#[cfg(test)]
pub(crate) mod tests {
    use std::rc::Rc;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::config::{Address, Config};
    use crate::message::{Body, Downstream, Head, HttpHead, Request};

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

    /// A request, for the tests of this module.
    pub(crate) fn exchange(method: &str, target: &str, fields: &[(&str, &str)]) -> Exchange {
        let mut head = HttpHead::request(method, target.as_bytes());
        for (name, value) in fields {
            assert!(head.append(name, value.as_bytes()), "{name}: {value}");
        }
        let address = |text: &str| text.parse::<Address>().unwrap();
        let downstream = Downstream::new(1, address("192.0.2.7:4000"), address("192.0.2.1:80"), false);
        Exchange::new(Request { head: Head::Http(head), body: Body::Empty }, Rc::new(downstream))
    }

    fn router_of(text: &str) -> Router {
        let (config, _) = Config::parse(text, "test").unwrap_or_else(|found| panic!("{found:?}"));
        let id = |name: &str| {
            config.clusters.iter().position(|c| c.name == name).map(|i| ClusterId(u32::try_from(i).unwrap()))
        };
        Router::new(&config.server.routers[0], id, Duration::from_secs(60)).unwrap()
    }

    fn router() -> Router {
        router_of(FILE)
    }

    fn head(method: &str, target: &str, host: &str) -> Exchange {
        exchange(method, target, if host.is_empty() { vec![] } else { vec![("host", host)] }.as_slice())
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
            let found = router.route(&head("GET", target, host)).map(|r| r.name().to_owned());
            assert_eq!(found.as_deref(), route, "{target} {host}");
        }
    }

    #[test]
    fn a_connect_request_is_matched_as_the_root() {
        let router = router();
        assert_eq!(router.route(&head("CONNECT", "other:443", "")).unwrap().name(), "all");
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
            let RouteAction::Forward(forward) = &route.action else { panic!("{target}") };
            let chosen = forward.choose(|| unreachable!());
            assert_eq!((chosen, forward.timeout), (Chosen::Cluster(ClusterId(cluster), None), timeout), "{target}");
        }
        let direct = router.route(&head("GET", "/healthz", "shop.example")).unwrap();
        let fine = Bytes::from_static(b"fine");
        assert!(matches!(&direct.action, RouteAction::Direct { status: 200, body } if *body == fine));
        assert_eq!((direct.id(), &*direct.virtual_host), (RouteId(0), "shop"));
        assert_eq!(router.route(&head("GET", "/", "x")).unwrap().id(), RouteId(5));
    }

    #[test]
    fn routes_that_do_the_same_share_a_course() {
        let router = router_of(
            r#"
servers:
- routers:
  - router_config_name: web
    virtual_hosts:
    - routers:
      - {name: a, match: {prefix: /a}, route: {cluster_name: a}}
      - {name: other, match: {prefix: /b}, route: {cluster_name: b}}
      - {name: also a, match: {path: /c}, route: {cluster_name: a}}
      - {name: one, match: {prefix: /one}, route: {cluster_name: a, prefix_rewrite: /x}}
      - {name: three, match: {prefix: /three}, route: {cluster_name: a, prefix_rewrite: /x}}
cluster_manager: {clusters: [{name: a, hosts: [{address: "127.0.0.1:1"}]}, {name: b, hosts: [{address: "127.0.0.1:2"}]}]}
"#,
        );
        let (first, other, also) = (exchange("GET", "/a", &[]), exchange("GET", "/b", &[]), exchange("GET", "/c", &[]));
        let [first, other, also] = [&first, &other, &also].map(|x| router.route(x).unwrap());
        assert!(std::ptr::eq(first.course(), also.course()) && !std::ptr::eq(first.course(), other.course()));
        assert_eq!((first.name(), also.name(), also.id()), ("a", "also a", RouteId(2)));
        // What is cut off a path is what was matched.
        for (target, rewritten) in [("/one/y", "/x/y"), ("/three/y", "/x/y")] {
            let mut x = exchange("GET", target, &[]);
            let route = router.route(&x).unwrap();
            route.edit_request(&mut x, 100).unwrap();
            assert_eq!(x.request.head.fields().unwrap().target(), rewritten.as_bytes());
        }
    }

    #[test]
    fn a_route_to_no_cluster_is_refused() {
        let (config, _) = Config::parse(FILE, "test").unwrap();
        let error = Router::new(&config.server.routers[0], |_| None, Duration::ZERO).unwrap_err();
        assert_eq!(error.to_string(), "there is no cluster `a`");
    }

    #[test]
    fn fields_variables_and_patterns_decide_in_the_order_of_the_file() {
        let router = router_of(
            r#"
servers:
- routers:
  - router_config_name: web
    virtual_hosts:
    - routers:
      - {name: green, match: {prefix: /api, headers: [{name: X-Env, value: "gr.*", regex: true}]}, route: {cluster_name: a}}
      - {name: item, match: {regex: "^/item/[0-9]+$"}, route: {cluster_name: a}}
      - {name: post, match: {path: /API/x, headers: [{name: method, value: POST}]}, route: {cluster_name: a}}
      - {name: rpc, match: {headers: [{name: service, value: ".*"}]}, route: {cluster_name: a}}
      - {name: arg, match: {variables: [{name: request_arg_v, value: "2", model: or}, {name: cookie_beta, value: "1"}]}, route: {cluster_name: a}}
      - {name: api, match: {prefix: /api}, route: {cluster_name: a}}
      - {name: late, match: {path: /api/x}, route: {cluster_name: a}}
      - {name: part, match: {regex: "/part"}, route: {cluster_name: a}}
cluster_manager: {clusters: [{name: a, hosts: [{address: "127.0.0.1:1"}]}]}
"#,
        );
        for (method, target, fields, route) in [
            ("GET", "/api/x", &[("x-env", "green")][..], Some("green")),
            ("GET", "/api/x", &[("x-env", "blue")], Some("api")),
            ("GET", "/api/x", &[], Some("api")),
            ("POST", "/api/X", &[], Some("post")),
            ("POST", "/api/x", &[("x-env", "green")], Some("green")),
            ("GET", "/item/12", &[("service", "a")], Some("item")),
            ("GET", "/item/12/", &[("service", "a")], Some("rpc")),
            ("GET", "/api", &[("service", "")], Some("api")),
            ("GET", "/api?v=2", &[], Some("arg")),
            ("GET", "/?v=3", &[("cookie", "beta=1")], Some("arg")),
            ("GET", "/?v=3", &[("cookie", "beta=2")], None),
            ("GET", "/some/part/of", &[], Some("part")),
            ("GET", "/some/%70art", &[], Some("part")),
        ] {
            let found = router.route(&exchange(method, target, fields)).map(|r| r.name().to_owned());
            assert_eq!(found.as_deref(), route, "{method} {target} {fields:?}");
        }
    }

    #[derive(Clone, Debug)]
    struct Any {
        kind: u8,
        text: String,
        field: bool,
    }

    fn takes(route: &Any, path: &str, field: bool) -> bool {
        let path = match route.kind {
            0 => path.starts_with(&route.text),
            1 => path.eq_ignore_ascii_case(&route.text),
            _ => path.contains(&route.text),
        };
        path && (field || !route.field)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn the_index_finds_what_a_scan_finds(
            routes in proptest::collection::vec((0_u8..3, "/[abA/]{0,4}", any::<bool>()), 1..24),
            paths in proptest::collection::vec(("/[abA]{0,3}(/[abA]{0,2})?", any::<bool>()), 24),
        ) {
            let routes: Vec<Any> = routes.into_iter().map(|(kind, text, field)| Any { kind, text, field }).collect();
            let mut text = String::from("servers: [{routers: [{router_config_name: r, virtual_hosts: [{routers: [\n");
            for (at, route) in routes.iter().enumerate() {
                let kind = ["prefix", "path", "regex"][usize::from(route.kind)];
                let headers = if route.field { ", headers: [{name: x, value: \"1\"}]" } else { "" };
                text += &format!(
                    "  {{name: \"{at}\", match: {{{kind}: \"{}\"{headers}}}, direct_response: {{status: 200}}}},\n",
                    route.text
                );
            }
            let router = router_of(&(text + "]}]}]}]"));
            for (path, field) in paths {
                let fields: &[(&str, &str)] = if field { &[("x", "1")] } else { &[] };
                let x = exchange("GET", &path, fields);
                let normal = with_normal_path(path.as_bytes(), |p| String::from_utf8(p.to_vec()).unwrap());
                let scan = routes.iter().position(|route| takes(route, &normal, field)).map(|at| at.to_string());
                prop_assert_eq!(router.route(&x).map(|r| r.name().to_owned()), scan, "{} {}", path, field);
            }
        }
    }
}
