//! Who serves a connection: of one that was meant for somewhere else the listener that has its destination, and of a listener with several
//! filter chains the one that is for it.
//!
//! A further chain is an entrance of its own, without a socket.
//!
//! **Invariant:** decided by what is known of the connection alone; the same on every worker.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::entrance::Entrance;
use crate::config::schema::{ChainMatch, Interception, InterceptionKind, Listener};
use crate::message::Downstream;
use crate::net::{Conn, Transport};
use crate::router::choose_chain;
use crate::snapshot::ListenerConfig;

/// The entrances of a worker by their addresses; one without a socket goes before one with.
pub(super) struct ByAddress<T: Transport>(HashMap<SocketAddr, Weak<Entrance<T>>>);

impl<T: Transport> ByAddress<T> {
    /// Of these entrances.
    pub(super) fn new(entrances: &[Rc<Entrance<T>>]) -> Self {
        let mut found = HashMap::new();
        for with_socket in [true, false] {
            for entrance in entrances {
                let config = entrance.config.borrow();
                let is_one = config.config.bind_port == with_socket && config.config.chain_of.is_none();
                let address = config.config.address.inet().filter(|_| is_one);
                if let Some(address) = address {
                    found.insert(plain(address), Rc::downgrade(entrance));
                }
            }
        }
        Self(found)
    }

    /// The one for a destination: of just this address, else of its port on all addresses, or on the local one.
    pub(super) fn find(&self, wanted: SocketAddr, how: Interception) -> Option<Rc<Entrance<T>>> {
        let any: IpAddr = match (wanted, how.fallback_to_local) {
            (SocketAddr::V4(_), false) => Ipv4Addr::UNSPECIFIED.into(),
            (SocketAddr::V4(_), true) => Ipv4Addr::LOCALHOST.into(),
            (SocketAddr::V6(_), false) => Ipv6Addr::UNSPECIFIED.into(),
            (SocketAddr::V6(_), true) => Ipv6Addr::LOCALHOST.into(),
        };
        let at = |address| self.0.get(&plain(address))?.upgrade();
        at(wanted).or_else(|| at(SocketAddr::new(any, wanted.port())))
    }
}

impl<T: Transport> Default for ByAddress<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

/// The chains of one listener, the first one its own, for which there is None. Empty: it has one, for all its connections. The further ones
/// live as long as the listener lets anybody in: nobody else holds one that is retired.
pub(super) struct Chains<T: Transport>(Vec<Chain<T>>);

/// A chain as it was read, and its entrance unless that is the listener's own.
type Chain<T> = (Arc<ListenerConfig>, Option<Rc<Entrance<T>>>);

impl<T: Transport> Chains<T> {
    /// Those that `first` has among these entrances; none where it is a further chain itself.
    pub(super) fn new(first: &Entrance<T>, entrances: &[Rc<Entrance<T>>]) -> Self {
        let config = Arc::clone(&first.config.borrow());
        if config.config.chain_of.is_some() {
            return Self::default();
        }
        let mut chains = vec![(Arc::clone(&config), None)];
        for entrance in entrances {
            let further = Arc::clone(&entrance.config.borrow());
            if further.config.chain_of.as_ref() == Some(&config.config.name) {
                chains.push((further, Some(Rc::clone(entrance))));
            }
        }
        let is_choice = chains.len() > 1 || config.config.chain_match != ChainMatch::default();
        Self(if is_choice { chains } else { Vec::new() })
    }

    /// The chain for a connection that came to `first`; None: none is.
    pub(super) fn choose(&self, first: &Rc<Entrance<T>>, downstream: &Downstream) -> Option<Rc<Entrance<T>>> {
        if self.0.is_empty() {
            return Some(Rc::clone(first));
        }
        let chosen = choose_chain(self.0.iter().map(|(config, _)| &config.config.chain_match), downstream)?;
        let (_, chain) = self.0.get(chosen)?;
        Some(Rc::clone(chain.as_ref().unwrap_or(first)))
    }
}

impl<T: Transport> Default for Chains<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// Where a connection that came to this listener wanted to go; None: to the listener itself.
pub(super) fn wanted(listener: &Listener, conn: &impl Conn) -> Option<SocketAddr> {
    let (how, own) = (listener.interception?, conn.local_addr().inet()?);
    match how.kind {
        InterceptionKind::Redirect => conn.original_dst()?.inet().filter(|to| plain(*to) != plain(own)),
        InterceptionKind::Tproxy => Some(own).filter(|own| !is_at(*own, listener.address.inet())),
    }
}

/// Whether an address is that of a socket.
fn is_at(address: SocketAddr, socket: Option<SocketAddr>) -> bool {
    socket.is_some_and(|at| at.port() == address.port() && (at.ip().is_unspecified() || at.ip() == address.ip()))
}

/// Without what addresses of IPv6 have besides.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}
