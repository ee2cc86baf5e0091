//! A worker without kernel sockets.
//!
//! **Invariant:** it never opens anything.

use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::task::{Context, Poll};

use ferrogate_core::net::{Address, Conn, ListenOptions, Listener, NoDatagrams, Transport};

/// Stands where the kernel's transport goes: every call answers `Unsupported`. For a stack by itself: examples, simulations.
#[derive(Clone, Copy, Debug)]
pub struct NoKernel;

impl Transport for NoKernel {
    type Conn = Nothing;
    type Listener = Nothing;
    type Datagrams = NoDatagrams;

    fn listen(&self, _: &Address, _: &ListenOptions) -> impl Future<Output = io::Result<Nothing>> {
        ready(Err(io::ErrorKind::Unsupported.into()))
    }

    fn connect(&self, _: &Address) -> impl Future<Output = io::Result<Nothing>> {
        ready(Err(io::ErrorKind::Unsupported.into()))
    }
}

/// The listener and the connection that [`NoKernel`] never opens.
#[derive(Debug)]
pub struct Nothing(Infallible);

impl Listener for Nothing {
    type Conn = Self;

    async fn accept(&mut self) -> io::Result<Self> {
        match self.0 {}
    }

    fn local_addr(&self) -> &Address {
        match self.0 {}
    }
}

impl Conn for Nothing {
    fn poll_read_with<R>(
        &mut self,
        _: &mut Context<'_>,
        _: usize,
        _: impl FnOnce(&[u8]) -> (usize, R),
    ) -> Poll<io::Result<R>> {
        match self.0 {}
    }

    fn poll_write_with<R>(
        &mut self,
        _: &mut Context<'_>,
        _: usize,
        _: impl FnOnce(&mut [u8]) -> (usize, R),
    ) -> Poll<io::Result<R>> {
        match self.0 {}
    }

    fn poll_relay(&mut self, _: &mut Self, _: &mut Context<'_>, _: usize) -> Poll<io::Result<usize>> {
        match self.0 {}
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0 {}
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0 {}
    }

    fn peer_addr(&self) -> &Address {
        match self.0 {}
    }

    fn local_addr(&self) -> &Address {
        match self.0 {}
    }

    fn abort(&mut self) {
        match self.0 {}
    }
}
