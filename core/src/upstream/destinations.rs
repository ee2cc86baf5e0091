//! The hosts of a cluster of type ORIGINAL_DST: whatever the requests name.
//!
//! **Invariant:** bounded: what lies unused makes room, and what is in use is never dropped.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use super::host::Host;
use super::pick::NoHost;
use super::pool::HostPool;
use super::reach::Reach;
use crate::config::Address;
use crate::config::schema::OriginalDst;
use crate::net::Transport;

/// Pools by destination.
pub(super) struct Destinations<T: Transport>(RefCell<HashMap<Address, Rc<HostPool<T>>>>);

impl<T: Transport> Destinations<T> {
    /// The pool for a destination.
    pub(super) fn pool(
        &self,
        destination: &Address,
        config: &OriginalDst,
        reach: &Rc<Reach<T>>,
    ) -> Result<Rc<HostPool<T>>, NoHost> {
        let local = match destination {
            Address::Inet(a) if config.replace_local => {
                Some(Address::Inet(SocketAddr::from((Ipv4Addr::LOCALHOST, a.port()))))
            }
            _ => None,
        };
        let destination = local.as_ref().unwrap_or(destination);
        let mut pools = self.0.borrow_mut();
        if let Some(pool) = pools.get(destination) {
            return Ok(Rc::clone(pool));
        }
        let max = reach.limits.original_dst_hosts_max;
        if pools.len() >= max {
            pools.retain(|_, pool| is_used(pool));
        }
        if pools.len() >= max {
            // Idle connections of somebody else's destination, rather than no connection for this one.
            let idle = pools.iter().find(|(_, pool)| Rc::strong_count(pool) == 1).map(|(address, _)| address.clone());
            pools.remove(&idle.ok_or(NoHost::TooMany)?);
        }
        let host = Arc::new(Host::new(destination.clone(), "", 0));
        let pool = HostPool::new(host, false, Rc::clone(reach));
        pools.insert(destination.clone(), Rc::clone(&pool));
        Ok(pool)
    }

    pub(super) fn sweep(&self) {
        self.0.borrow_mut().retain(|_, pool| {
            pool.sweep();
            is_used(pool)
        });
    }
}

impl<T: Transport> Default for Destinations<T> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

/// Whether a request has it, or a connection lies in it.
fn is_used<T: Transport>(pool: &Rc<HostPool<T>>) -> bool {
    Rc::strong_count(pool) > 1 || pool.idle_conns() > 0
}
