//! What no single map can tell: names that stand twice, names that stand nowhere, listeners that share an address.
//!
//! **Invariant:** a configuration that passes can be made a snapshot.

use std::collections::{HashMap, HashSet};

use super::diagnostic::Origin;
use super::keys;
use super::reader::{Reader, did_you_mean};
use super::schema::Config;
use crate::config::Address;

/// Checks the whole file.
pub(super) fn whole(r: &mut Reader, config: &Config) {
    unique(r, "cluster", config.clusters.iter().map(|c| (c.name.as_str(), &c.origin)));
    unique(r, "router", config.server.routers.iter().map(|x| (x.name.as_str(), &x.origin)));
    unique(r, "listener", config.server.listeners.iter().map(|l| (l.name.as_str(), &l.origin)));
    references(r, config);
    addresses(r, config);
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
    let relays = config.server.listeners.iter().filter_map(|l| l.tcp_proxy());
    let relayed = relays.flat_map(|tcp| &tcp.routes).flat_map(|route| route.cluster.origins());
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

/// Two sockets can't have the same address.
fn addresses(r: &mut Reader, config: &Config) {
    let mut seen: HashMap<Address, &Origin> = HashMap::new();
    for listener in config.server.listeners.iter().filter(|l| l.bind_port) {
        // Port 0 is another port for each listener.
        if listener.address.inet().is_some_and(|a| a.port() == 0) {
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
