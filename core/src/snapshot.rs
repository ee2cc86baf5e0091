//! One generation of the configuration: immutable, names resolved to indexes, shared by all workers and swapped whole.
//!
//! A generation keeps what it can: what did not change is the same `Arc` as in the one before, so that a worker keeps its pools,
//! cursors and sessions for it. Kept objects keep their order too, so that indexes move only when something before them goes.
//!
//! **Invariant:** every index in a snapshot is good in that snapshot, and in no other.

use std::collections::{HashMap, HashSet};
use std::ptr;
use std::sync::Arc;

pub use tls_offload::{Accelerator, ClientTls, ServerTls};

use crate::config::schema::{
    AcceleratorConfig, Cluster, ClusterId, Config, Listener, LogLevel, NetworkFilter, RouterConfig, TcpRoute, TlsConfig,
};
use crate::config::{Diagnostic, Limits, Origin};
use crate::filter::FilterSet;
use crate::router::{Router, TcpRoutes};
use crate::telemetry::metrics::ListenerCounters;
use crate::telemetry::per_worker::PerWorker;
use crate::upstream::{ClusterShared, Hosts};

/// One generation.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts up from 1 in the life of a process.
    pub generation: u64,
    /// The listeners.
    pub listeners: Vec<Arc<ListenerConfig>>,
    /// The stream filters of each listener, by its place in `listeners`.
    pub filters: Vec<Arc<FilterSet>>,
    /// The routers, by [`RouterId`].
    pub routers: Vec<Arc<Router>>,
    /// The clusters, by [`ClusterId`].
    pub clusters: Vec<Arc<ClusterConfig>>,
    /// The clusters by name.
    names: HashMap<Arc<str>, ClusterId>,
    /// The accelerators that its listeners use.
    pub accelerators: Vec<Accelerator>,
    /// The limits.
    pub limits: Arc<Limits>,
    /// The server itself.
    pub server: ServerFacts,
}

/// A router's place among the routers of one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouterId(pub u32);

/// A listener with its names resolved.
#[derive(Debug)]
pub struct ListenerConfig {
    /// What the file says.
    pub config: Listener,
    /// What becomes of its connections.
    pub target: Target,
    /// Where those go that its `proxy` filter does not know the protocol of. None: nowhere.
    pub fallback: Option<Arc<TcpRoutes>>,
    /// Its certificates; None: plain text.
    pub tls: Option<Arc<ServerTls>>,
    /// What each worker counts of it; the same as in the generation before, by its name.
    pub counters: Arc<PerWorker<ListenerCounters>>,
}

/// What becomes of a listener's connections.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// They carry HTTP requests, which this router routes.
    Http(RouterId),
    /// They are relayed as they are, to where these routes say.
    Tcp(Arc<TcpRoutes>),
    /// They are none, but datagrams, relayed to where these routes say.
    Udp(Arc<TcpRoutes>),
}

/// A cluster.
#[derive(Debug)]
pub struct ClusterConfig {
    /// What the file says.
    pub config: Arc<Cluster>,
    /// Its hosts, which change without a new generation.
    pub hosts: Arc<Hosts>,
    /// How to talk TLS to its hosts; None: plain text.
    pub tls: Option<Arc<ClientTls>>,
    /// What the workers share of it; the same as in the generation before.
    pub shared: Arc<ClusterShared>,
}

/// What the file says of the server as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// Its name.
    pub name: String,
    /// Where the log goes.
    pub log_path: String,
    /// What is logged.
    pub log_level: LogLevel,
}

/// Makes TLS configurations of what the file says: reads certificates and keys.
///
/// `previous` is what was made for the same listener or cluster before. When neither the contexts nor the files that they name have
/// changed, the same `Arc` is to be returned: then the listener or cluster is kept as it is.
pub trait MakeTls {
    /// For a listener; `contexts` are never empty.
    ///
    /// # Errors
    /// What is wrong with a context.
    fn server(&mut self, contexts: &[TlsConfig], previous: Option<&Arc<ServerTls>>) -> Result<Arc<ServerTls>, Fault>;

    /// For a cluster.
    ///
    /// # Errors
    /// What is wrong with the context.
    fn client(&mut self, context: &TlsConfig, previous: Option<&Arc<ClientTls>>) -> Result<Arc<ClientTls>, Fault>;

    /// The accelerators that were opened for the listeners, of those that the file has.
    fn accelerators(&mut self, wanted: &[Arc<AcceleratorConfig>]) -> Vec<Accelerator>;
}

/// Why a part of the configuration can't be made a part of a snapshot. A report of `check`, so in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The part: a TLS context, a router, a listener.
    pub origin: Origin,
    /// What is wrong.
    pub message: String,
    /// What to do about it; may be empty.
    pub remedy: String,
}

impl Snapshot {
    /// Makes a generation of a configuration. `previous` is the one in force.
    ///
    /// # Errors
    /// What [`Config::parse`] can't see: certificates that can't be read. A configuration that was not made by it may also name routers
    /// and clusters that are not there.
    pub fn build(config: &Config, previous: Option<&Self>, tls: &mut dyn MakeTls) -> Result<Self, Vec<Diagnostic>> {
        let mut faults = Vec::new();
        let clusters = clusters(config, previous, tls, &mut faults);
        let routers = routers(config, previous, &clusters, &mut faults);
        let listeners = listeners(config, previous, (&routers, &clusters), tls, &mut faults);
        if !faults.is_empty() {
            faults.sort_by_key(|f| f.origin.place);
            let report = |f: Fault| config.error_at(&f.origin, f.message, f.remedy);
            return Err(faults.into_iter().map(report).collect());
        }
        let filters = filters(config, previous, &listeners, &routers, &clusters);
        let kept_limits = previous.filter(|p| *p.limits == config.limits).map(|p| p.limits.clone());
        Ok(Self {
            generation: previous.map_or(1, |p| p.generation + 1),
            listeners,
            filters,
            routers,
            names: cluster_ids(&clusters).into_iter().map(|(name, id)| (name.into(), id)).collect(),
            clusters,
            accelerators: tls.accelerators(&config.accelerators),
            limits: kept_limits.unwrap_or_else(|| Arc::new(config.limits.clone())),
            server: ServerFacts {
                name: config.server.name.clone(),
                log_path: config.server.log_path.clone(),
                log_level: config.server.log_level,
            },
        })
    }

    /// The routes of a listener of this generation.
    #[must_use]
    pub fn router(&self, id: RouterId) -> &Arc<Router> {
        &self.routers[id.0 as usize]
    }

    /// The cluster of this name.
    #[must_use]
    pub fn cluster_id(&self, name: &str) -> Option<ClusterId> {
        self.names.get(name).copied()
    }

    /// The cluster of a route of this generation.
    #[must_use]
    pub fn cluster(&self, id: ClusterId) -> &Arc<ClusterConfig> {
        &self.clusters[id.0 as usize]
    }
}

impl From<(&Origin, String)> for Fault {
    fn from((origin, message): (&Origin, String)) -> Self {
        Self { origin: origin.clone(), message, remedy: String::new() }
    }
}

fn clusters(
    config: &Config,
    previous: Option<&Snapshot>,
    tls: &mut dyn MakeTls,
    faults: &mut Vec<Fault>,
) -> Vec<Arc<ClusterConfig>> {
    let before: &[_] = previous.map_or(&[], |p| &p.clusters);
    let in_order = in_order(&config.clusters, |c| &c.name, before, |c| &c.config.name);
    let mut out = Vec::with_capacity(in_order.len());
    for (cluster, old) in in_order {
        let old_tls = old.and_then(|o| o.tls.as_ref());
        let made = match cluster.tls.as_ref().map(|context| tls.client(context, old_tls)).transpose() {
            Ok(made) => made,
            Err(fault) => {
                faults.push(fault);
                None
            }
        };
        let kept = old.filter(|o| o.config == *cluster && same(o.tls.as_ref(), made.as_ref()));
        let anew = || {
            let shared = old.map(|o| Arc::clone(&o.shared)).unwrap_or_default();
            let hosts = Arc::new(Hosts::new(Arc::clone(cluster), old.map(|o| (&*o.hosts, o.shared.now()))));
            Arc::new(ClusterConfig { config: Arc::clone(cluster), hosts, tls: made, shared })
        };
        out.push(kept.cloned().unwrap_or_else(anew));
    }
    out
}

fn routers(
    config: &Config,
    previous: Option<&Snapshot>,
    clusters: &[Arc<ClusterConfig>],
    faults: &mut Vec<Fault>,
) -> Vec<Arc<Router>> {
    let (ids, old_ids) = (cluster_ids(clusters), previous.map(|p| cluster_ids(&p.clusters)));
    let timeout = config.limits.request_timeout;
    let same_timeout = previous.is_some_and(|p| p.limits.request_timeout == timeout);
    // A route holds the index of its cluster: where that moved, the router is made anew. It has no state to lose.
    let same_ids = |router: &RouterConfig| {
        let old_ids = old_ids.as_ref().filter(|_| same_timeout);
        old_ids.is_some_and(|old| router.cluster_names().all(|name| old.get(name) == ids.get(name)))
    };
    let before: &[_] = previous.map_or(&[], |p| &p.routers);
    let in_order = in_order(&config.server.routers, |r: &RouterConfig| &r.name, before, |r| r.name());
    let mut out = Vec::with_capacity(in_order.len());
    for (router, old) in in_order {
        if let Some(old) = old.filter(|o| o.config() == router && same_ids(router)) {
            out.push(old.clone());
            continue;
        }
        match Router::new(router, |name| ids.get(name).copied(), timeout) {
            Ok(made) => out.push(Arc::new(made)),
            Err(unknown) => faults.push(Fault::from((&router.origin, unknown.to_string()))),
        }
    }
    out
}

fn listeners(
    config: &Config,
    previous: Option<&Snapshot>,
    (routers, clusters): (&[Arc<Router>], &[Arc<ClusterConfig>]),
    tls: &mut dyn MakeTls,
    faults: &mut Vec<Fault>,
) -> Vec<Arc<ListenerConfig>> {
    let (routers, clusters) = (router_ids(routers), cluster_ids(clusters));
    let before: &[_] = previous.map_or(&[], |p| &p.listeners);
    let in_order = in_order(&config.server.listeners, |l| &l.name, before, |l| &l.config.name);
    let mut out = Vec::with_capacity(in_order.len());
    for (listener, old) in in_order {
        let (target, fallback) = match target(listener, &routers, &clusters) {
            Ok(found) => found,
            Err(message) => {
                faults.push(Fault::from((&listener.origin, message)));
                continue;
            }
        };
        let old_tls = old.and_then(|o| o.tls.as_ref());
        let contexts = Some(&listener.tls).filter(|t| !t.is_empty());
        let made = match contexts.map(|contexts| tls.server(contexts, old_tls)).transpose() {
            Ok(made) => made,
            Err(fault) => {
                faults.push(fault);
                continue;
            }
        };
        let kept = old.filter(|o| {
            o.config == *listener && o.target == target && o.fallback == fallback && same(o.tls.as_ref(), made.as_ref())
        });
        let anew = || {
            let counters = old.map(|o| Arc::clone(&o.counters)).unwrap_or_default();
            let (target, fallback) = (target.clone(), fallback.clone());
            Arc::new(ListenerConfig { config: listener.clone(), target, fallback, tls: made, counters })
        };
        out.push(kept.cloned().unwrap_or_else(anew));
    }
    out
}

/// Where a listener's connections go, and those of protocols that it does not know, by the names of this generation; what is wrong in
/// words.
fn target(
    listener: &Listener,
    routers: &HashMap<&str, RouterId>,
    clusters: &HashMap<&str, ClusterId>,
) -> Result<(Target, Option<Arc<TcpRoutes>>), String> {
    let relay = |routes: &[TcpRoute]| {
        let routes = TcpRoutes::new(routes, |name| clusters.get(name).copied());
        routes.map(Arc::new).map_err(|unknown| unknown.to_string())
    };
    Ok(match &listener.filter {
        NetworkFilter::Proxy(proxy) => {
            let id = routers.get(proxy.router.as_str()).copied();
            let id = id.ok_or_else(|| format!("there is no router `{}`", proxy.router))?;
            (Target::Http(id), proxy.fallback.as_ref().map(|tcp| relay(&tcp.routes)).transpose()?)
        }
        NetworkFilter::TcpProxy(tcp) => (Target::Tcp(relay(&tcp.routes)?), None),
        NetworkFilter::UdpProxy(udp) => (Target::Udp(relay(&udp.routes)?), None),
    })
}

/// The filters of each listener. They look into the routes, and are made anew with them; what they count and bound is kept.
fn filters(
    config: &Config,
    previous: Option<&Snapshot>,
    listeners: &[Arc<ListenerConfig>],
    routers: &[Arc<Router>],
    clusters: &[Arc<ClusterConfig>],
) -> Vec<Arc<FilterSet>> {
    let ids = cluster_ids(clusters);
    let find = |name: &str| ids.get(name).copied();
    let of = |listener: &Arc<ListenerConfig>| {
        let name = &listener.config.name;
        let Target::Http(router) = &listener.target else { return Arc::default() };
        let router = &routers[router.0 as usize];
        let before = previous.and_then(|p| {
            let index = p.listeners.iter().position(|l| l.config.name == *name)?;
            Some((p, &p.listeners[index], &p.filters[index]))
        });
        let kept = before.filter(|(p, old, _)| {
            let same_router = matches!(&old.target, Target::Http(old) if Arc::ptr_eq(p.router(*old), router));
            old.config.filters == listener.config.filters && same_router && *p.limits == config.limits
        });
        let anew = || {
            let old = before.map(|(_, _, filters)| &**filters);
            Arc::new(FilterSet::new(&listener.config.filters, name, router.config(), &find, &config.limits, old))
        };
        kept.map_or_else(anew, |(_, _, filters)| Arc::clone(filters))
    };
    listeners.iter().map(of).collect()
}

fn router_ids(routers: &[Arc<Router>]) -> HashMap<&str, RouterId> {
    (0..).zip(routers).map(|(i, r)| (r.name(), RouterId(i))).collect()
}

fn cluster_ids(clusters: &[Arc<ClusterConfig>]) -> HashMap<&str, ClusterId> {
    (0..).zip(clusters).map(|(i, c)| (c.config.name.as_str(), ClusterId(i))).collect()
}

/// The new objects with the old ones of the same names: first those that were there, in their old order, then the others.
fn in_order<'c, N, O>(
    new: &'c [N],
    new_name: impl Fn(&N) -> &str,
    old: &'c [Arc<O>],
    old_name: impl Fn(&O) -> &str,
) -> Vec<(&'c N, Option<&'c Arc<O>>)> {
    let by_name: HashMap<&str, &N> = new.iter().map(|n| (new_name(n), n)).collect();
    let old_names: HashSet<&str> = old.iter().map(|o| old_name(o)).collect();
    let kept = old.iter().filter_map(|o| Some((*by_name.get(old_name(o))?, Some(o))));
    kept.chain(new.iter().filter(|n| !old_names.contains(new_name(n))).map(|n| (n, None))).collect()
}

fn same<T: ?Sized>(a: Option<&Arc<T>>, b: Option<&Arc<T>>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b)),
        _ => false,
    }
}
