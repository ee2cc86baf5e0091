//! Ring hash (ketama): each host has points on a ring by its weight; a key belongs to the first point behind it.
//!
//! **Invariant:** the same hosts give the same ring on every gateway, in whatever order they are listed.

use super::super::random::stable_hash;

/// The ring: points in order, each with its host.
#[derive(Debug)]
pub(in crate::upstream) struct Ring(Box<[(u32, u32)]>);

impl Ring {
    /// A ring over hosts, each with its index, its name and its weight of at least 1.
    pub(in crate::upstream) fn new(hosts: &[(u32, String, u32)], points_min: u32, points_max: u32) -> Self {
        let total: u64 = hosts.iter().map(|(.., weight)| u64::from(*weight)).sum();
        let wish = u64::from(points_min)
            .max(hosts.len() as u64 * POINTS_PER_HOST)
            .min(u64::from(points_max).max(hosts.len() as u64));
        let mut points = Vec::with_capacity(usize::try_from(wish).unwrap_or(0) + hosts.len());
        for (host, name, weight) in hosts {
            let share = (wish * u64::from(*weight)).div_ceil(total.max(1));
            points.extend((0..share).map(|i| (top(stable_hash(name.as_bytes(), i + 3)), *host)));
        }
        points.sort_unstable();
        Self(points.into())
    }

    /// The host for `hash`; where that one can't take it, the next on the ring that can.
    pub(in crate::upstream) fn pick(&self, hash: u64, mut can: impl FnMut(u32) -> bool) -> Option<u32> {
        let start = self.0.partition_point(|(point, _)| *point < top(hash));
        let (before, after) = self.0.split_at(start);
        after.iter().chain(before).map(|(_, host)| *host).find(|host| can(*host))
    }
}

/// The upper half of a hash.
fn top(hash: u64) -> u32 {
    u32::try_from(hash >> 32).unwrap_or(u32::MAX)
}

/// Points for each host, where that is more than `minimum_ring_size`: with fewer, shares are uneven.
const POINTS_PER_HOST: u64 = 160;

#[cfg(test)]
mod tests {
    use super::super::super::random::mix;
    use super::*;

    #[test]
    fn keys_spread_by_weight_and_few_move() {
        let list: Vec<_> = (0..100).map(|i| (i, format!("10.0.0.{i}:80"), 1 + i % 2)).collect();
        let ring = Ring::new(&list, 1024, 1 << 20);
        let mut rest = list.clone();
        rest.remove(7);
        let after = Ring::new(&rest, 1024, 1 << 20);
        let (mut heavy, mut moved) = (0, 0);
        for key in 0..100_000u64 {
            let host = ring.pick(mix(key), |_| true).unwrap();
            heavy += host % 2;
            let next = ring.pick(mix(key), |h| h != 7).unwrap();
            assert!(host == 7 || next == host);
            moved += usize::from(host != 7 && after.pick(mix(key), |_| true) != Some(host));
        }
        println!("ring hash: 1 of 100 hosts leaves, {:.2} % of the other keys move", moved as f64 / 1000.0);
        assert!((62_000..71_000).contains(&heavy), "{heavy}");
        // Points are given out anew by the new total, so that a few of the others move too.
        assert!(moved < 3000, "{moved}");
        assert_eq!(ring.pick(1, |_| false), None);
        assert_eq!(Ring::new(&[], 1024, 1 << 20).pick(1, |_| true), None);
    }
}
