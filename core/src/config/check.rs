//! What no single map can tell: names that stand twice, names that stand nowhere, listeners that share an address.
//!
//! **Invariant:** a configuration that passes can be made a snapshot.

use std::collections::{HashMap, HashSet};

use super::dataplane::Plane;
use super::diagnostic::Origin;
use super::keys;
use super::reader::{Reader, did_you_mean};
use super::schema::{Cluster, Config, Listener, Source};
use crate::config::Address;

/// Checks the whole file.
pub(super) fn whole(r: &mut Reader, config: &Config) {
    unique(r, "cluster", config.clusters.iter().map(|c| (c.name.as_str(), &c.origin)));
    unique(r, "router", config.server.routers.iter().map(|x| (x.name.as_str(), &x.origin)));
    unique(r, "listener", config.server.listeners.iter().map(|l| (l.name.as_str(), &l.origin)));
    references(r, config);
    addresses(r, config);
    interception(r, config);
    datagrams(r, config);
}

fn unique<'c>(r: &mut Reader, what: &str, names: impl Iterator<Item = (&'c str, &'c Origin)>) {
    let mut seen: HashMap<&str, &Origin> = HashMap::new();
    for (name, origin) in names {
        match seen.get(name) {
            Some(first) => {
                let message = format!("the {what} `{name}` stands {} already", r.line_of(first.place));
                r.error_at(origin, message, "give one of the two another name");
            }
            None => drop(seen.insert(name, origin)),
        }
    }
}

fn references(r: &mut Reader, config: &Config) {
    let routers: HashSet<&str> = config.server.routers.iter().map(|x| x.name.as_str()).collect();
    for listener in &config.server.listeners {
        let Some(proxy) = listener.proxy() else { continue };
        let name = proxy.router.as_str();
        if !name.is_empty() && !routers.contains(name) {
            missing(r, &proxy.router_origin, "router", name, routers.iter().copied());
        }
    }
    let clusters: HashSet<&str> = config.clusters.iter().map(|c| c.name.as_str()).collect();
    let relayed = config.server.listeners.iter().flat_map(|l| l.relay_routes()).flat_map(|r| r.cluster.origins());
    let routed = config.server.routers.iter().flat_map(|router| router.cluster_origins());
    for (name, origin) in routed.chain(relayed).filter(|(name, _)| !clusters.contains(name)) {
        missing(r, origin, "cluster", name, clusters.iter().copied());
    }
}

fn missing<'c>(r: &mut Reader, origin: &Origin, what: &str, name: &str, known: impl Iterator<Item = &'c str>) {
    let mut known: Vec<&str> = known.collect();
    known.sort_unstable();
    let remedy = did_you_mean(keys::nearest(name, known.into_iter()));
    r.error_at(origin, format!("there is no {what} `{name}`"), remedy);
}

/// Connections that are handed on: by what they can be, and to whom.
fn interception(r: &mut Reader, config: &Config) {
    let listeners = &config.server.listeners;
    let takes = |l: &&Listener| l.bind_port && l.interception.is_some();
    if config.dataplane.plane == Plane::Dpdk
        && let Some(listener) = listeners.iter().find(takes)
    {
        let message = "the DPDK plane takes no connections that were meant for somewhere else yet";
        r.error_at(&listener.origin, message, "write `dataplane: {type: kernel}`, or leave `use_original_dst` out");
    }
    let handed_on = listeners.iter().any(|l| takes(&l));
    let mut seen: HashMap<&Address, &Origin> = HashMap::new();
    for listener in listeners.iter().filter(|l| !l.bind_port && l.chain_of.is_none()) {
        if !handed_on {
            let message = "a listener with `bind_port: false` takes no connections: none has `use_original_dst`, which hands it some";
            r.warn_at(&listener.origin, message, "");
        }
        match seen.get(&listener.address) {
            Some(first) => {
                let line = r.line_of(first.place);
                let message = format!("connections to {} are those of the listener {line}", listener.address);
                r.error_at(&listener.origin, message, "keep one of the two");
            }
            None => drop(seen.insert(&listener.address, &listener.origin)),
        }
    }
}

/// What listeners of datagrams can't have: clusters that they can't go to.
fn datagrams(r: &mut Reader, config: &Config) {
    let clusters: HashMap<&str, &Cluster> = config.clusters.iter().map(|c| (c.name.as_str(), &**c)).collect();
    for listener in &config.server.listeners {
        let Some(udp) = listener.udp_proxy() else { continue };
        for (name, origin) in udp.routes.iter().flat_map(|route| route.cluster.origins()) {
            let Some(cluster) = clusters.get(name) else { continue };
            if cluster.tls.is_some() {
                let message = format!("datagrams to the cluster `{name}` would go in clear: there is no DTLS");
                r.error_at(origin, message, "use a cluster without `tls_context`");
            }
            if matches!(cluster.source, Source::OriginalDst(_)) {
                let message = format!("the cluster `{name}` is of type ORIGINAL_DST, which datagrams don't have");
                r.error_at(origin, message, "use a cluster with hosts");
            }
        }
    }
}

/// Two sockets can't have the same address.
fn addresses(r: &mut Reader, config: &Config) {
    let mut seen: HashMap<Address, &Origin> = HashMap::new();
    for listener in config.server.listeners.iter().filter(|l| l.bind_port) {
        // Port 0 is another port for each listener.
        if listener.address.ip_and_port().is_some_and(|a| a.port() == 0) {
            continue;
        }
        match seen.get(&listener.address) {
            _ if config.admin.as_ref() == Some(&listener.address) => {
                let message = format!("the address {} is taken by the admin API", listener.address);
                r.error_at(&listener.origin, message, "");
            }
            Some(first) => {
                let line = r.line_of(first.place);
                let message = format!("the address {} is taken by the listener {line}", listener.address);
                r.error_at(&listener.origin, message, "");
            }
            None => drop(seen.insert(listener.address.clone(), &listener.origin)),
        }
    }
}
