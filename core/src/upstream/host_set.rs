//! The hosts of a cluster: immutable versions, each with what the balancers need to be ready, and the cell that holds the one in force.
//!
//! A cluster's hosts change without a new generation: an answer of the DNS or a run-time update makes another version of this cluster's
//! set, and each worker sees it at its next pick.
//!
//! **Invariant:** a version never changes; a host that stays is the same object in the next version, with its health and its counts.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::balancer::Table;
use super::host::{Fault, Host};
use super::subset::Subsets;
use crate::config::Address;
use crate::config::schema::{self, MetadataMatch, Target};

/// One version of a cluster's hosts.
#[derive(Debug)]
pub struct HostSet {
    specs: Arc<[schema::Host]>,
    members: Box<[Member]>,
    /// Group 0 has all hosts; each other one is a subset.
    groups: Box<[Group]>,
    subsets: Option<Subsets>,
}

/// A host in a set.
#[derive(Clone, Debug)]
pub struct Member {
    /// The host.
    pub host: Arc<Host>,
    /// What is configured of it, by its place in the list.
    spec: u32,
}

/// Hosts that requests of one kind may go to.
#[derive(Debug)]
pub(super) struct Group {
    /// By priority; within one, those of our locality first.
    pub(super) levels: Box<[Level]>,
}

/// Hosts that are equally near.
#[derive(Debug)]
pub(super) struct Level {
    /// By their index in the set, in order.
    pub(super) members: Box<[u32]>,
    pub(super) table: Option<Table>,
}

/// The hosts in force, and how they change.
#[derive(Debug)]
pub struct Hosts {
    config: Arc<schema::Cluster>,
    set: ArcSwap<HostSet>,
    version: AtomicU64,
}

impl HostSet {
    fn new(config: &schema::Cluster, specs: Arc<[schema::Host]>, members: Vec<Member>) -> Self {
        let spec = |index: &u32| &specs[members[*index as usize].spec as usize];
        let metadata = |index: u32| spec(&index).metadata.as_deref();
        let all: Vec<u32> = (0..).take(members.len()).collect();
        let subsets = config.subsets.as_ref().map(|c| Subsets::new(c, all.len(), metadata));
        let group = |hosts: &[u32]| {
            let mut levels: Vec<((u32, bool), Vec<u32>)> = Vec::new();
            for index in hosts {
                let spec = spec(index);
                let is_far = !config.locality.is_empty() && spec.locality != config.locality;
                match levels.binary_search_by_key(&(spec.priority, is_far), |(key, _)| *key) {
                    Ok(at) => levels[at].1.push(*index),
                    Err(at) => levels.insert(at, ((spec.priority, is_far), vec![*index])),
                }
            }
            let level = |(_, indexes): (_, Vec<u32>)| {
                let named =
                    indexes.iter().map(|i| (*i, members[*i as usize].host.address().to_string(), spec(i).weight));
                Level { table: Table::of(&config.balancing, named), members: indexes.into() }
            };
            Group { levels: levels.into_iter().map(level).collect() }
        };
        let of_subsets = subsets.as_ref().map_or(&[][..], |(_, groups)| groups);
        let groups = std::iter::once(&all).chain(of_subsets).map(|hosts| group(hosts)).collect();
        Self { subsets: subsets.map(|(subsets, _)| subsets), groups, members: members.into(), specs }
    }

    /// The hosts.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// What is configured of a host.
    #[must_use]
    pub fn spec(&self, member: &Member) -> &schema::Host {
        &self.specs[member.spec as usize]
    }

    /// The hosts as they are configured; one of them may be several members, or none.
    #[must_use]
    pub fn specs(&self) -> &[schema::Host] {
        &self.specs
    }

    /// Hosts that may get requests.
    #[must_use]
    pub fn healthy(&self) -> usize {
        self.members.iter().filter(|m| m.host.is_healthy()).count()
    }

    pub(super) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The group for a request that asks for this metadata, and whether it fell back to it. None: there is none for it.
    pub(super) fn group(&self, metadata: Option<&MetadataMatch>) -> Option<(usize, bool)> {
        match (&self.subsets, metadata.filter(|m| !m.is_empty())) {
            (Some(subsets), Some(metadata)) => subsets.find(metadata),
            _ => Some((0, false)),
        }
    }

    /// Subsets that were made.
    #[must_use]
    pub fn subsets(&self) -> usize {
        self.groups.len() - 1
    }
}

impl Hosts {
    /// The hosts of a configuration. Those that `previous` has, at that time of the cluster's clock, stay the same objects; names that it has
    /// looked up keep their addresses.
    #[must_use]
    pub fn new(config: Arc<schema::Cluster>, previous: Option<(&Self, u64)>) -> Self {
        let now = previous.map_or(0, |(_, now)| now);
        let previous = previous.map(|(hosts, _)| hosts);
        let before = previous.map(Self::current);
        let specs: Arc<[schema::Host]> = match (&before, previous) {
            // What was told at run time outlives a reload that changes something else.
            (Some(set), Some(p)) if is_told(&config) && p.config.hosts == config.hosts => Arc::clone(&set.specs),
            _ => Arc::clone(&config.hosts),
        };
        let known = |target: &Target| {
            let set = before.as_deref()?;
            let of_target = |m: &&Member| set.spec(m).target == *target;
            Some(set.members.iter().filter(of_target).map(|m| m.host.address().clone()).collect())
        };
        let set = make(&config, specs, before.as_deref(), now, |target| known(target).unwrap_or_default());
        Self { set: ArcSwap::from_pointee(set), version: AtomicU64::new(0), config }
    }

    /// The cluster that they are of.
    #[must_use]
    pub fn config(&self) -> &Arc<schema::Cluster> {
        &self.config
    }

    /// The version in force.
    #[must_use]
    pub fn current(&self) -> Arc<HostSet> {
        self.set.load_full()
    }

    /// Counts up with each change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Says where a name is now; `now` is the cluster's clock. Says whether that is a change.
    pub fn resolve(&self, name: &Target, addresses: &[Address], now: u64) -> bool {
        let before = self.current();
        let known = |target: &Target| -> Vec<Address> {
            if target == name {
                return addresses.to_vec();
            }
            before
                .members
                .iter()
                .filter(|m| before.spec(m).target == *target)
                .map(|m| m.host.address().clone())
                .collect()
        };
        let set = make(&self.config, Arc::clone(&before.specs), Some(&before), now, known);
        let same = set.members.len() == before.members.len()
            && set.members.iter().zip(&before.members).all(|(a, b)| Arc::ptr_eq(&a.host, &b.host) && a.spec == b.spec);
        if !same {
            self.publish(set);
        }
        !same
    }

    /// Puts other hosts in force (run-time updates); those that stay keep their health and counts.
    pub fn put(&self, hosts: Vec<schema::Host>, now: u64) {
        let before = self.current();
        let known = |target: &Target| {
            before
                .members
                .iter()
                .filter(|m| before.spec(m).target == *target)
                .map(|m| m.host.address().clone())
                .collect()
        };
        self.publish(make(&self.config, hosts.into(), Some(&before), now, known));
    }

    /// Adds hosts; one whose address is there already takes its place.
    pub fn add(&self, hosts: Vec<schema::Host>, now: u64) {
        let mut all = self.current().specs.to_vec();
        for host in hosts {
            match all.iter_mut().find(|h| h.target == host.target) {
                Some(old) => *old = host,
                None => all.push(host),
            }
        }
        self.put(all, now);
    }

    /// Takes the hosts with these addresses out.
    pub fn remove(&self, targets: &[Target], now: u64) {
        let rest = self.current().specs.iter().filter(|h| !targets.contains(&h.target)).cloned().collect();
        self.put(rest, now);
    }

    fn publish(&self, set: HostSet) {
        self.set.store(Arc::new(set));
        self.version.fetch_add(1, Ordering::Release);
    }
}

/// Whether run-time updates are what the cluster is for.
fn is_told(config: &schema::Cluster) -> bool {
    matches!(config.source, schema::Source::Dynamic)
}

/// A version: each configured host at its address, or at those that `known` says for its name; an address only once.
fn make(
    config: &schema::Cluster,
    specs: Arc<[schema::Host]>,
    before: Option<&HostSet>,
    now: u64,
    known: impl Fn(&Target) -> Vec<Address>,
) -> HostSet {
    let mut old: HashMap<&Address, &Arc<Host>> =
        before.map(|b| b.members.iter().map(|m| (m.host.address(), &m.host)).collect()).unwrap_or_default();
    let mut seen: HashMap<Address, ()> = HashMap::with_capacity(specs.len());
    let mut members = Vec::with_capacity(specs.len());
    for (spec, place) in specs.iter().zip(0..) {
        let addresses = match &spec.target {
            Target::Address(address) => vec![address.clone()],
            name @ Target::Name(..) => known(name),
        };
        for address in addresses {
            if seen.insert(address.clone(), ()).is_some() {
                continue;
            }
            let kept = old.remove(&address).filter(|host| host.hostname() == hostname(spec)).map(Arc::clone);
            let host = kept.unwrap_or_else(|| new_host(config, address, spec, now));
            members.push(Member { host, spec: place });
        }
    }
    HostSet::new(config, specs, members)
}

fn new_host(config: &schema::Cluster, address: Address, spec: &schema::Host, now: u64) -> Arc<Host> {
    let host = Host::new(address, hostname(spec), now);
    if config.health.as_ref().is_some_and(|h| h.starts_unhealthy) {
        host.blame(Fault::Unprobed);
    }
    Arc::new(host)
}

/// The name to verify and to show: that of the file, else the one that was looked up.
fn hostname(spec: &schema::Host) -> &str {
    match (&spec.target, spec.hostname.as_str()) {
        (Target::Name(name, _), "") => name,
        (_, hostname) => hostname,
    }
}
