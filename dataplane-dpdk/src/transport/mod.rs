//! The plane seam over the stack: listen, accept, connect.
//!
//! A worker has one stack for each port, and the kernel's sockets beside them for what never leaves the host. Which way an address goes:
//!
//! | address | listen | connect |
//! |---|---|---|
//! | an address of a port | that port's stack, at that address | (an address of our own is nobody's on the link) |
//! | `0.0.0.0` | every port's stack, at its IPv4 addresses, and the kernel's loopback | - |
//! | `[::]` | every port's stack, at all its addresses, and the kernel's loopback | - |
//! | loopback | every port's stack, at all its addresses, and the kernel at that address | kernel |
//! | unix | kernel | kernel |
//! | any other | `AddrNotAvailable` | the port whose network it is in, else the first that has a way to it |
//!
//! Sockets for datagrams go the same ways.
//!
//! **Invariant:** everything here is on one thread, and no borrow of a stack is held across an await.

mod conn;
mod datagrams;
mod flow;
mod none;

use std::future::{Future, pending, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use ferrogate_core::net::{Address, ListenOptions, Listener, Transport};
use tokio::task::coop;

pub use self::conn::DpdkConn;
pub use self::datagrams::DpdkDatagrams;
pub use self::flow::FlowConn;
pub use self::none::NoKernel;
use crate::stack::{Bind, FlowId, SharedStack};

/// One worker's way to the network: its stacks, and the kernel's sockets (`K`).
#[derive(Clone, Debug)]
pub struct DpdkTransport<K> {
    stacks: Rc<[SharedStack]>,
    kernel: K,
}

impl<K> DpdkTransport<K> {
    /// Over `stacks`, one for each port, and `kernel` for what they can't reach.
    #[must_use]
    pub fn new(stacks: impl Into<Rc<[SharedStack]>>, kernel: K) -> Self {
        Self { stacks: stacks.into(), kernel }
    }

    /// The stacks, in the order of the ports.
    #[must_use]
    pub fn stacks(&self) -> &[SharedStack] {
        &self.stacks
    }

    /// The stacks that serve a listener on `ip`, at which of their addresses, and the address that the kernel serves beside them.
    fn places(&self, ip: IpAddr) -> (Vec<SharedStack>, Bind, Option<IpAddr>) {
        let all = || self.stacks.to_vec();
        match ip.to_canonical() {
            IpAddr::V4(v4) if v4.is_unspecified() => (all(), Bind::V4, Some(Ipv4Addr::LOCALHOST.into())),
            IpAddr::V6(v6) if v6.is_unspecified() => (all(), Bind::Any, Some(Ipv6Addr::LOCALHOST.into())),
            ip if ip.is_loopback() => (all(), Bind::Any, Some(ip)),
            ip => (all().into_iter().filter(|s| s.borrow().has_address(ip)).collect(), Bind::One(ip), None),
        }
    }

    /// The stack on the way to `ip`: on the same network, else the first with a way there.
    fn stack_to(&self, ip: IpAddr) -> Option<&SharedStack> {
        let on_link = |s: &&SharedStack| s.borrow().is_on_link(ip);
        let routed = |s: &&SharedStack| s.borrow().reaches(ip);
        self.stacks.iter().find(on_link).or_else(|| self.stacks.iter().find(routed))
    }
}

impl<K: Transport> Transport for DpdkTransport<K> {
    type Conn = DpdkConn<K::Conn>;
    type Listener = DpdkListener<K>;
    type Datagrams = DpdkDatagrams<K::Datagrams>;

    /// A flow's rings count whole: that is what its peer can make it use.
    fn held_bytes(&self) -> usize {
        let held = |stack: &SharedStack| stack.try_borrow().map_or(0, |stack| stack.held_bytes());
        self.stacks.iter().map(held).sum::<usize>() + self.kernel.held_bytes()
    }

    fn is_polled(&self) -> bool {
        true
    }

    async fn listen(&self, address: &Address, options: &ListenOptions) -> io::Result<Self::Listener> {
        let Some(inet) = address.inet() else {
            let kernel = self.kernel.listen(address, options).await?;
            let address = kernel.local_addr().clone();
            return Ok(DpdkListener { kernel: Some(kernel), bound: Vec::new(), address });
        };
        let (stacks, bind, local) = self.places(inet.ip());
        if stacks.is_empty() && local.is_none() {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let (mut kernel, mut port) = (None, inet.port());
        if let Some(local) = local {
            match self.kernel.listen(&SocketAddr::new(local, port).into(), options).await {
                Ok(listener) => {
                    port = listener.local_addr().inet().map_or(port, |a| a.port());
                    kernel = Some(listener);
                }
                // A plane without kernel sockets serves its ports alone.
                Err(e) if e.kind() == io::ErrorKind::Unsupported => {}
                Err(e) => return Err(e),
            }
        }
        let backlog = usize::try_from(options.backlog_conns_max).unwrap_or(usize::MAX);
        let mut listener = DpdkListener { kernel, bound: Vec::new(), address: inet.into() };
        for stack in stacks {
            let (id, chosen) = stack.borrow_mut().bind(bind, port, backlog)?;
            port = chosen;
            listener.bound.push(Bound { stack, id });
        }
        listener.address = SocketAddr::new(inet.ip(), port).into();
        Ok(listener)
    }

    async fn connect(&self, address: &Address) -> io::Result<Self::Conn> {
        if address.is_host_local() {
            return self.kernel.connect(address).await.map(DpdkConn::Kernel);
        }
        let inet = address.inet().ok_or(io::ErrorKind::Unsupported)?;
        let ip = inet.ip().to_canonical();
        let stack = self.stack_to(ip).ok_or(io::ErrorKind::NetworkUnreachable)?;
        let id = stack.borrow_mut().connect(SocketAddr::new(ip, inet.port()))?;
        // From here on a dropped future drops the flow with it.
        let conn = FlowConn::new(stack, id);
        poll_fn(|cx| conn.poll_connected(cx)).await?;
        Ok(DpdkConn::Flow(conn))
    }

    fn listen_datagrams(&self, address: SocketAddr) -> io::Result<Self::Datagrams> {
        let (stacks, bind, local) = self.places(address.ip());
        if stacks.is_empty() && local.is_none() {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let kernel = match local.map(|local| self.kernel.listen_datagrams(SocketAddr::new(local, address.port()))) {
            // A plane without kernel sockets serves its ports alone.
            Some(Err(e)) if e.kind() == io::ErrorKind::Unsupported => None,
            Some(Err(e)) => return Err(e),
            Some(Ok(kernel)) => Some(kernel),
            None => None,
        };
        DpdkDatagrams::listening(address, bind, stacks, kernel)
    }

    fn connect_datagrams(&self, to: SocketAddr) -> io::Result<Self::Datagrams> {
        if Address::from(to).is_host_local() {
            return self.kernel.connect_datagrams(to).map(DpdkDatagrams::over_kernel);
        }
        let ip = to.ip().to_canonical();
        let stack = self.stack_to(ip).ok_or(io::ErrorKind::NetworkUnreachable)?;
        DpdkDatagrams::connected(stack, SocketAddr::new(ip, to.port()))
    }
}

/// A listening socket on the stacks of a worker, on its kernel, or on both.
pub struct DpdkListener<K: Transport> {
    kernel: Option<K::Listener>,
    bound: Vec<Bound>,
    address: Address,
}

impl<K: Transport> Listener for DpdkListener<K> {
    type Conn = DpdkConn<K::Conn>;

    /// As the kernel's `accept`, it loses nothing when it is dropped while it waits.
    async fn accept(&mut self) -> io::Result<Self::Conn> {
        let Self { kernel, bound, .. } = self;
        let mut from_kernel = pin!(async {
            match kernel {
                Some(kernel) => kernel.accept().await,
                None => pending().await,
            }
        });
        poll_fn(|cx| {
            if let Poll::Ready(flow) = poll_accept(bound, cx) {
                return Poll::Ready(Ok(DpdkConn::Flow(flow)));
            }
            from_kernel.as_mut().poll(cx).map_ok(DpdkConn::Kernel)
        })
        .await
    }

    fn local_addr(&self) -> &Address {
        &self.address
    }
}

impl<K: Transport> std::fmt::Debug for DpdkListener<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DpdkListener").field("address", &self.address).finish_non_exhaustive()
    }
}

/// A listener of one stack. Dropped, it stops listening.
struct Bound {
    stack: SharedStack,
    id: u32,
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.stack.borrow_mut().unbind(self.id);
    }
}

fn poll_accept(bound: &[Bound], cx: &mut Context<'_>) -> Poll<FlowConn> {
    let coop = ready!(coop::poll_proceed(cx));
    for Bound { stack, id } in bound {
        let accepted: Poll<FlowId> = stack.borrow_mut().poll_accept(*id, cx);
        if let Poll::Ready(flow) = accepted {
            coop.made_progress();
            return Poll::Ready(FlowConn::new(stack, flow));
        }
    }
    Poll::Pending
}
