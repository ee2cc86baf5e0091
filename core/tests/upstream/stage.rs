//! A cluster on a transport that leads nowhere.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use ferrogate_core::config::Limits;
use ferrogate_core::config::schema::{Balancing, Cluster as Config, Host};
use ferrogate_core::net::{Address, Conn, ListenOptions, Listener, NoDatagrams, Transport};
use ferrogate_core::upstream::{Cluster, ClusterShared, Hosts, NoHost, Reach, Wish};

/// Connections that never open.
#[derive(Clone)]
pub(crate) struct Nowhere;

pub(crate) enum Never {}

impl Transport for Nowhere {
    type Conn = Never;
    type Listener = Never;
    type Datagrams = NoDatagrams;

    async fn listen(&self, _: &Address, _: &ListenOptions) -> io::Result<Never> {
        pending().await
    }

    async fn connect(&self, _: &Address) -> io::Result<Never> {
        pending().await
    }
}

impl Listener for Never {
    type Conn = Never;

    async fn accept(&mut self) -> io::Result<Never> {
        match *self {}
    }

    fn local_addr(&self) -> &Address {
        match *self {}
    }
}

impl Conn for Never {
    fn poll_read_with<R>(
        &mut self,
        _: &mut Context<'_>,
        _: usize,
        _: impl FnOnce(&[u8]) -> (usize, R),
    ) -> Poll<io::Result<R>> {
        match *self {}
    }

    fn poll_write_with<R>(
        &mut self,
        _: &mut Context<'_>,
        _: usize,
        _: impl FnOnce(&mut [u8]) -> (usize, R),
    ) -> Poll<io::Result<R>> {
        match *self {}
    }

    fn poll_relay(&mut self, _: &mut Self, _: &mut Context<'_>, _: usize) -> Poll<io::Result<usize>> {
        match *self {}
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }

    fn peer_addr(&self) -> &Address {
        match *self {}
    }

    fn local_addr(&self) -> &Address {
        match *self {}
    }

    fn abort(&mut self) {
        match *self {}
    }
}

/// A cluster, and what its workers share.
pub(crate) struct Stage {
    pub(crate) hosts: Arc<Hosts>,
    pub(crate) shared: Arc<ClusterShared>,
}

impl Stage {
    pub(crate) fn new(config: Config) -> Self {
        Self { hosts: Arc::new(Hosts::new(Arc::new(config), None)), shared: Arc::default() }
    }

    /// The cluster of one worker.
    pub(crate) fn worker(&self, index: usize) -> Cluster<Nowhere> {
        let reach = Reach {
            worker: index,
            transport: Nowhere,
            tls: None,
            hosts: Arc::clone(&self.hosts),
            limits: Rc::new(Limits::default()),
            counters: self.shared.counters().of(index),
            shared: Arc::clone(&self.shared),
        };
        Cluster::new(reach, None)
    }

    /// The number of a host in the list, by its address.
    pub(crate) fn number(address: &Address) -> usize {
        usize::from(address.inet().unwrap().port()) - 1000
    }
}

/// The number of the host that takes a request.
pub(crate) fn pick(cluster: &Cluster<Nowhere>, wish: &Wish<'_>) -> Result<usize, NoHost> {
    cluster.pick(wish).map(|pool| Stage::number(pool.host().address()))
}

pub(crate) fn address(number: usize) -> Address {
    SocketAddr::from(([10, 0, 0, 1], u16::try_from(1000 + number).unwrap())).into()
}

/// Hosts with these weights.
pub(crate) fn hosts(weights: &[u32]) -> Vec<Host> {
    weights.iter().enumerate().map(|(i, weight)| Host { weight: *weight, ..Host::at(address(i)) }).collect()
}

pub(crate) fn config(balancing: Balancing, weights: &[u32]) -> Config {
    Config { balancing, ..Config::new("c", hosts(weights)) }
}

/// A number that looks like any other.
pub(crate) fn scramble(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}
