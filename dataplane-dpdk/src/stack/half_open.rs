//! Handshakes that have not ended, in all and by who began them.
//!
//! **Invariant:** as many entries as there are half-open flows, at most: `syn_backlog_max` bounds them.

use std::collections::HashMap;
use std::net::IpAddr;

use super::keyed_hash::Keyed;

/// The half-open flows of one stack.
#[derive(Debug, Default)]
pub(super) struct HalfOpen {
    all: usize,
    /// Keyed at random: peers choose what is in it.
    by_source: HashMap<u128, u32, Keyed>,
}

impl HalfOpen {
    /// A handshake begins.
    pub(super) fn add(&mut self, source: IpAddr) {
        self.all += 1;
        *self.by_source.entry(site(source)).or_default() += 1;
    }

    /// One has ended, well or not.
    pub(super) fn remove(&mut self, source: IpAddr) {
        let source = site(source);
        self.all -= 1;
        if let Some(left) = self.by_source.get_mut(&source) {
            *left -= 1;
            if *left == 0 {
                self.by_source.remove(&source);
            }
        }
    }

    /// All of them.
    pub(super) fn len(&self) -> usize {
        self.all
    }

    /// Those of one source.
    pub(super) fn of(&self, source: IpAddr) -> u32 {
        self.by_source.get(&site(source)).copied().unwrap_or(0)
    }
}

/// Who counts as one: whoever has an IPv6 address has 2^64 of them.
fn site(source: IpAddr) -> u128 {
    match source {
        // Its lower half is never 0.
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits() >> 64 << 64,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn sources_are_counted_and_forgotten() {
        let (mut half_open, a, b) = (HalfOpen::default(), Ipv4Addr::LOCALHOST.into(), Ipv4Addr::BROADCAST.into());
        [a, b, a].into_iter().for_each(|source| half_open.add(source));
        assert_eq!((half_open.len(), half_open.of(a), half_open.of(b)), (3, 2, 1));
        [a, b, a].into_iter().for_each(|source| half_open.remove(source));
        assert_eq!((half_open.len(), half_open.of(a), half_open.by_source.len()), (0, 0, 0));
        for ip in ["2001:db8::1", "2001:db8::2:1", "2001:db8:0:1::1"] {
            half_open.add(ip.parse().unwrap());
        }
        assert_eq!(half_open.of("2001:db8::9".parse().unwrap()), 2, "a site is a site");
    }
}
