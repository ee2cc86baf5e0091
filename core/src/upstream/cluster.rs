//! A cluster as one worker sees it: its hosts, the balancer over them, and their pools.
//!
//! **Invariant:** derived from one generation's configuration; its pools outlive it when the next generation kept the cluster.

use std::rc::Rc;

use super::balancer::Balancer;
use super::pool::HostPool;
use crate::net::Transport;

/// A cluster of one worker.
pub struct Cluster<T: Transport> {
    name: Rc<str>,
    hosts: Vec<Rc<HostPool<T>>>,
    balancer: Balancer,
}

impl<T: Transport> Cluster<T> {
    /// A cluster called `name` over `hosts`; `start` is where its round begins.
    #[must_use]
    pub fn new(name: &str, hosts: Vec<Rc<HostPool<T>>>, start: usize) -> Self {
        Self { name: name.into(), hosts, balancer: Balancer::round_robin(start) }
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &Rc<str> {
        &self.name
    }

    /// The host for the next request.
    #[must_use]
    pub fn pick(&self) -> Option<&Rc<HostPool<T>>> {
        self.balancer.pick(self.hosts.len()).map(|index| &self.hosts[index])
    }

    /// Its hosts.
    #[must_use]
    pub fn hosts(&self) -> &[Rc<HostPool<T>>] {
        &self.hosts
    }
}
