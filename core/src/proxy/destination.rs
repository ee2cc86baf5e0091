//! Where a request to a cluster of type ORIGINAL_DST goes.
//!
//! **Invariant:** never back to a listener of this gateway: such a request would go round until a limit ends it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::config::Address;
use crate::config::schema::OriginalDst;
use crate::message::Exchange;
use crate::snapshot::Snapshot;

/// Where its field says, or, for a cluster without one, where the client's connection wanted to go. A client names no sockets of this
/// machine's file system.
pub(super) fn destination(original: &OriginalDst, x: &Exchange, snapshot: &Snapshot) -> Option<Address> {
    let Address::Inet(local) = x.downstream.local else { return None };
    let named = match &original.header {
        Some(name) => {
            let value = x.request.head.fields()?.get(name)?;
            std::str::from_utf8(value).ok()?.parse().ok()?
        }
        None => local,
    };
    let asked = if original.replace_local { SocketAddr::from((Ipv4Addr::LOCALHOST, named.port())) } else { named };
    let listeners = snapshot.listeners.iter().filter(|l| l.config.bind_port).filter_map(|l| match l.config.address {
        Address::Inet(address) => Some(address),
        Address::Udp(_) | Address::Unix(_) => None,
    });
    let here = (!x.downstream.intercepted).then_some(local);
    if leads_back(asked, here, listeners) {
        tracing::debug!(peer = %x.downstream.peer, destination = %asked, "refused: the destination is a listener of this gateway");
        return None;
    }
    Some(Address::Inet(named))
}

/// Whether a connection to `to` comes in here again. `local` is the address at which this client found us; None: it looked for another.
fn leads_back(to: SocketAddr, local: Option<SocketAddr>, mut listeners: impl Iterator<Item = SocketAddr>) -> bool {
    let (ip, here) = (to.ip().to_canonical(), local.map(|local| local.ip().to_canonical()));
    let is_ours = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified() || Some(ip) == here;
    let comes_in_at = |listening: SocketAddr| {
        let at = listening.ip().to_canonical();
        // A connection to 0.0.0.0 goes to this host.
        let reaches = ip == at || at.is_unspecified() && is_ours(ip) || ip.is_unspecified() && is_ours(at);
        to.port() == listening.port() && reaches
    };
    // A listener at a port that the system chose is known by where the client came in.
    local.is_some_and(comes_in_at) || listeners.any(comes_in_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_ours_is_found_by_every_name() {
        let listeners = ["0.0.0.0:80", "127.0.0.1:81"].map(|a| a.parse().unwrap());
        let local: SocketAddr = "192.0.2.1:80".parse().unwrap();
        for (to, back) in [
            ("192.0.2.1:80", true),
            ("[::ffff:192.0.2.1]:80", true),
            ("127.0.0.1:80", true),
            ("0.0.0.0:80", true),
            ("127.0.0.1:81", true),
            ("0.0.0.0:81", true),
            ("192.0.2.1:81", false),
            ("192.0.2.2:80", false),
            ("127.0.0.1:82", false),
        ] {
            assert_eq!(leads_back(to.parse().unwrap(), Some(local), listeners.into_iter()), back, "{to}");
        }
        for (to, back) in
            [("192.0.2.1:80", false), ("127.0.0.1:80", true), ("0.0.0.0:81", true), ("127.0.0.1:81", true)]
        {
            assert_eq!(leads_back(to.parse().unwrap(), None, listeners.into_iter()), back, "meant for {to}");
        }
    }
}
