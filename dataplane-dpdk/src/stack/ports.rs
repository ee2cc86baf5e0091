//! Who listens where: a port at one address of ours, at all of one family, or at all.
//!
//! **Invariant:** the most specific listener has it, and no two have the same place.

use std::collections::HashMap;
use std::net::IpAddr;

use super::keyed_hash::Keyed;

/// At which addresses somebody listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bind {
    /// At this one.
    One(IpAddr),
    /// At all of IPv4.
    V4,
    /// At all.
    Any,
}

/// The listeners of one stack, by port.
#[derive(Debug, Default)]
pub(super) struct Ports {
    /// Few listen on one port.
    all: HashMap<u16, Vec<(Bind, u32)>, Keyed>,
}

impl Ports {
    /// Who has what comes to this address and port.
    pub(super) fn find(&self, local: IpAddr, port: u16) -> Option<u32> {
        let here = self.all.get(&port)?;
        let at = |wanted: Bind| here.iter().find(|(bind, _)| *bind == wanted);
        let of_family = || if local.is_ipv4() { at(Bind::V4) } else { None };
        at(Bind::One(local)).or_else(of_family).or_else(|| at(Bind::Any)).map(|(_, id)| *id)
    }

    /// Whether nobody has this very place.
    pub(super) fn is_free(&self, bind: Bind, port: u16) -> bool {
        self.all.get(&port).is_none_or(|here| here.iter().all(|(taken, _)| *taken != bind))
    }

    /// Gives a free place to `id`.
    pub(super) fn insert(&mut self, bind: Bind, port: u16, id: u32) {
        self.all.entry(port).or_default().push((bind, id));
    }

    /// The place is free again.
    pub(super) fn remove(&mut self, bind: Bind, port: u16) {
        if let Some(here) = self.all.get_mut(&port) {
            here.retain(|(taken, _)| *taken != bind);
            if here.is_empty() {
                self.all.remove(&port);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_listener_has_it() {
        let (v4, other, v6): (IpAddr, IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), [1_u16; 8].into());
        let mut ports = Ports::default();
        for (bind, id) in [(Bind::Any, 1), (Bind::V4, 2), (Bind::One(v4), 3)] {
            assert!(ports.is_free(bind, 80));
            ports.insert(bind, 80, id);
            assert!(!ports.is_free(bind, 80) && ports.is_free(bind, 81));
        }
        let find = |ports: &Ports| [v4, other, v6].map(|ip| ports.find(ip, 80));
        assert_eq!(find(&ports), [Some(3), Some(2), Some(1)]);
        ports.remove(Bind::One(v4), 80);
        assert_eq!(find(&ports), [Some(2), Some(2), Some(1)]);
        ports.remove(Bind::V4, 80);
        ports.remove(Bind::Any, 80);
        assert_eq!(find(&ports), [None; 3]);
        assert!(ports.all.is_empty());
    }
}
