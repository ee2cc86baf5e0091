//! Hosts that have a name: each name is looked up again and again, and its cluster's hosts follow the answers.
//!
//! **Invariant:** a lookup that fails or finds nothing changes no host: the last ones stay, and the log and the counters say so.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts, ServerOrderingStrategy,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::system_conf::{parse_resolv_conf, read_system_conf};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep, timeout};

use crate::config::Address;
use crate::config::schema::{Dns, Family, Target};
use crate::snapshot::{ClusterConfig, Snapshot};

/// The lookups of the generation in force. Cheap to clone; of the control thread.
#[derive(Clone, Default)]
pub struct Names(Rc<RefCell<Inner>>);

#[derive(Default)]
struct Inner {
    resolvers: Vec<(Dns, TokioResolver)>,
    /// The running lookups of each cluster that has names.
    running: HashMap<String, (Arc<ClusterConfig>, Vec<Running>)>,
}

/// One name that is looked up until this is dropped.
struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Names {
    /// The lookups of the generation in force, when each name has been looked up once or `dns_settle_timeout` is over.
    pub async fn of(snapshot: &watch::Receiver<Arc<Snapshot>>) -> Self {
        let (names, snapshot) = (Self::default(), Arc::clone(&snapshot.borrow()));
        names.prepare(&snapshot).await;
        names
    }

    /// Looks the names of the next generation up, as [`follow`](Self::follow), and waits until each has been looked up once, for
    /// `dns_settle_timeout` at most.
    pub async fn prepare(&self, snapshot: &Snapshot) {
        self.follow(snapshot);
        self.settled(snapshot.limits.dns_settle_timeout).await;
    }

    /// Looks the names of `snapshot` up from now on, and no others. Clusters that it kept go on as they are. To be called before it is put
    /// in force.
    pub fn follow(&self, snapshot: &Snapshot) {
        let mut inner = self.0.borrow_mut();
        let mut before = std::mem::take(&mut inner.running);
        for cluster in snapshot.clusters.iter().filter(|c| has_names(c)) {
            let name = &cluster.config.name;
            let kept = before.remove(name).filter(|(old, _)| Arc::ptr_eq(old, cluster));
            let running = kept.unwrap_or_else(|| (Arc::clone(cluster), inner.start(cluster)));
            inner.running.insert(name.clone(), running);
        }
        let in_use: Vec<Dns> = inner.running.values().map(|(c, _)| c.config.dns.clone()).collect();
        inner.resolvers.retain(|(dns, _)| in_use.contains(dns));
    }

    /// Waits until every name has been looked up once, with or without success, for at most `limit`.
    pub async fn settled(&self, limit: Duration) {
        let is_settled = |cluster: &ClusterConfig, names: usize| {
            cluster.shared.dns_updates() + cluster.shared.dns_failures() >= names as u64
        };
        let all = async {
            while !self.0.borrow().running.values().all(|(cluster, names)| is_settled(cluster, names.len())) {
                sleep(SETTLE_INTERVAL).await;
            }
        };
        if timeout(limit, all).await.is_err() {
            tracing::warn!("some names of hosts have no answer yet: their clusters start without these hosts");
        }
    }
}

impl Inner {
    fn start(&mut self, cluster: &Arc<ClusterConfig>) -> Vec<Running> {
        let mut targets: Vec<&Target> = Vec::new();
        for host in cluster.config.hosts.iter() {
            if matches!(host.target, Target::Name(..)) && !targets.contains(&&host.target) {
                targets.push(&host.target);
            }
        }
        let resolver = match self.resolver(&cluster.config.dns) {
            Ok(resolver) => resolver,
            Err(error) => {
                tracing::error!(cluster = %cluster.config.name, error, "names can't be looked up");
                targets.iter().for_each(|_| cluster.shared.looked_up(false));
                return Vec::new();
            }
        };
        let start = |target: &&Target| {
            let (cluster, resolver) = (Arc::clone(cluster), resolver.clone());
            Running(spawn_local(look_up_for_ever(cluster, resolver, Target::clone(target))))
        };
        targets.iter().map(start).collect()
    }

    /// The resolver for these settings: one for all clusters that have the same.
    fn resolver(&mut self, dns: &Dns) -> Result<TokioResolver, String> {
        if let Some((_, resolver)) = self.resolvers.iter().find(|(known, _)| known == dns) {
            return Ok(resolver.clone());
        }
        let resolver = resolver(dns)?;
        self.resolvers.push((dns.clone(), resolver.clone()));
        Ok(resolver)
    }
}

fn has_names(cluster: &ClusterConfig) -> bool {
    cluster.config.hosts.iter().any(|h| matches!(h.target, Target::Name(..)))
}

async fn look_up_for_ever(cluster: Arc<ClusterConfig>, resolver: TokioResolver, target: Target) {
    let Target::Name(name, port) = &target else { return };
    let mut failed = false;
    loop {
        let answer = look_up(&resolver, name, *port).await;
        cluster.shared.looked_up(answer.is_ok());
        let wait = match answer {
            Ok((addresses, ttl)) => {
                if cluster.hosts.resolve(&target, &addresses, cluster.shared.now()) {
                    tracing::info!(cluster = %cluster.config.name, %name, hosts = addresses.len(), "the hosts of a name have changed");
                } else if failed {
                    tracing::info!(cluster = %cluster.config.name, %name, "the name can be looked up again");
                }
                failed = false;
                let ttl = if cluster.config.dns.ttl { ttl.min(TTL_MAX) } else { Duration::ZERO };
                ttl.max(cluster.config.dns.refresh)
            }
            Err(error) => {
                // Once, not at each try.
                if !failed {
                    tracing::warn!(cluster = %cluster.config.name, %name, error,
                        "the name can't be looked up: its last hosts stay");
                }
                failed = true;
                cluster.config.dns.refresh
            }
        };
        sleep(wait).await;
    }
}

/// The addresses of a name, each once and in order, and how long they hold.
async fn look_up(resolver: &TokioResolver, name: &str, port: u16) -> Result<(Vec<Address>, Duration), String> {
    let answer = resolver.lookup_ip(name).await.map_err(|e| e.to_string())?;
    let ttl = answer.valid_until().saturating_duration_since(Instant::now().into_std());
    // In order: a server that turns its answers round changes nothing.
    let mut ips: Vec<IpAddr> = answer.iter().collect();
    ips.sort_unstable();
    ips.dedup();
    ips.truncate(ADDRESSES_MAX);
    if ips.is_empty() {
        return Err("the answer has no address".into());
    }
    Ok((ips.into_iter().map(|ip| SocketAddr::new(ip, port).into()).collect(), ttl))
}

fn resolver(dns: &Dns) -> Result<TokioResolver, String> {
    let (mut config, mut options) = match &dns.file {
        _ if !dns.servers.is_empty() => (ResolverConfig::default(), ResolverOpts::default()),
        None => read_system_conf().map_err(|e| format!("/etc/resolv.conf: {e}"))?,
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
            parse_resolv_conf(text).map_err(|e| format!("{}: {e}", file.display()))?
        }
    };
    for server in &dns.servers {
        config.add_name_server(name_server(*server, dns.tcp));
    }
    for domain in &dns.search {
        config.add_search(Name::from_utf8(domain).map_err(|e| format!("{domain}: {e}"))?);
    }
    options.ip_strategy = match dns.family {
        Family::Auto => LookupIpStrategy::Ipv4AndIpv6,
        Family::V4 => LookupIpStrategy::Ipv4Only,
        Family::V6 => LookupIpStrategy::Ipv6Only,
    };
    options.ndots = dns.ndots.map_or(options.ndots, |n| n as usize);
    options.timeout = dns.timeout.unwrap_or(options.timeout);
    options.attempts = dns.attempts.map_or(options.attempts, |n| n as usize);
    if dns.rotate {
        options.server_ordering_strategy = ServerOrderingStrategy::RoundRobin;
    }
    // When to ask again is decided here.
    options.cache_size = 0;
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    builder.build().map_err(|e| e.to_string())
}

fn name_server(server: SocketAddr, tcp_only: bool) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::tcp()];
    if !tcp_only {
        connections.insert(0, ConnectionConfig::udp());
    }
    for connection in &mut connections {
        connection.port = server.port();
    }
    NameServerConfig::new(server.ip(), true, connections)
}

/// Hosts of one name, at most.
const ADDRESSES_MAX: usize = 4096;

/// An answer is asked for again after this, whatever it says.
const TTL_MAX: Duration = Duration::from_secs(24 * 3600);

/// How often it is looked whether all names have been looked up.
const SETTLE_INTERVAL: Duration = Duration::from_millis(5);
