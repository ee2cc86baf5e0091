//! Maglev: a table in which each host has places by its weight, and keeps nearly all of them when others come and go.
//!
//! **Invariant:** the same hosts give the same table on every gateway, in whatever order they are listed.

use super::super::random::{mix, stable_hash};

/// The table: which host each place belongs to.
#[derive(Debug)]
pub(in crate::upstream) struct Maglev(Places);

/// Two bytes a place where that is enough.
#[derive(Debug)]
enum Places {
    Narrow(Box<[u16]>),
    Wide(Box<[u32]>),
}

/// A host on its way through the table.
struct Walk {
    host: u32,
    weight: u64,
    /// It has its turn when the round's share has come to this.
    due: u64,
    at: u64,
    skip: u64,
}

impl Maglev {
    /// A table over hosts, each with its index, its name and its weight of at least 1; `size` places or more, None: what fits.
    pub(in crate::upstream) fn new(hosts: &[(u32, String, u32)], size: Option<u32>) -> Self {
        let wish = size.map_or((hosts.len() * PLACES_PER_HOST).max(PLACES_MIN), |size| size as usize);
        let places = next_prime(wish.max(hosts.len()).max(3) as u64);
        let mut walks: Vec<_> =
            hosts.iter().map(|(host, name, weight)| Walk::new(*host, name, *weight, places)).collect();
        // In the order of their hashes: that of the file must not matter.
        walks.sort_unstable_by_key(|w| (w.skip, w.at, w.host));
        let table = fill(&mut walks, usize::try_from(places).unwrap_or(usize::MAX));
        let narrow: Result<Box<[u16]>, _> = table.iter().map(|host| u16::try_from(*host)).collect();
        Self(narrow.map_or(Places::Wide(table.into()), Places::Narrow))
    }

    fn len(&self) -> usize {
        match &self.0 {
            Places::Narrow(p) => p.len(),
            Places::Wide(p) => p.len(),
        }
    }

    fn host(&self, place: usize) -> u32 {
        match &self.0 {
            Places::Narrow(p) => u32::from(p[place]),
            Places::Wide(p) => p[place],
        }
    }

    /// The host for `hash`. Where that one can't take it, the next in an order of the hash's own: the keys of a host that is lost spread over
    /// the others, and those of the others stay.
    pub(in crate::upstream) fn pick(&self, hash: u64, mut can: impl FnMut(u32) -> bool) -> Option<u32> {
        let len = self.len();
        if len == 0 {
            return None;
        }
        let mut hash = hash;
        let mut place = 0;
        for _ in 0..DRAWS {
            place = usize::try_from((u128::from(mix(hash)) * len as u128) >> 64).unwrap_or(0);
            let host = self.host(place);
            if can(host) {
                return Some(host);
            }
            hash = mix(hash ^ REHASH);
        }
        (0..len).map(|step| self.host((place + step) % len)).find(|host| can(*host))
    }

    /// Which host has each place.
    #[cfg(test)]
    fn places(&self) -> impl Iterator<Item = u32> {
        (0..self.len()).map(|place| self.host(place))
    }
}

impl Walk {
    fn new(host: u32, name: &str, weight: u32, places: u64) -> Self {
        let at = stable_hash(name.as_bytes(), 1) % places;
        let skip = stable_hash(name.as_bytes(), 2) % (places - 1) + 1;
        Self { host, weight: u64::from(weight.max(1)), due: 0, at, skip }
    }
}

/// Round by round each host takes the next free place of its own order: the heaviest one in every round, the others as often as their
/// weight says.
fn fill(walks: &mut [Walk], places: usize) -> Vec<u32> {
    let mut table = vec![FREE; places];
    let heaviest = walks.iter().map(|w| w.weight).max().unwrap_or(1);
    let (mut taken, mut round) = (0, 0);
    while taken < places && !walks.is_empty() {
        round += 1;
        for walk in walks.iter_mut() {
            if round * walk.weight < walk.due || taken == places {
                continue;
            }
            walk.due += heaviest;
            let place = loop {
                let place = usize::try_from(walk.at).unwrap_or(0);
                walk.at = (walk.at + walk.skip) % places as u64;
                if table[place] == FREE {
                    break place;
                }
            };
            table[place] = walk.host;
            taken += 1;
        }
    }
    if walks.is_empty() { Vec::new() } else { table }
}

fn next_prime(from: u64) -> u64 {
    (from..).find(|n| is_prime(*n)).unwrap_or(from)
}

fn is_prime(n: u64) -> bool {
    n > 1 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d))
}

const FREE: u32 = u32::MAX;

/// Draws before the table is walked place by place.
const DRAWS: u32 = 16;

/// Sets the second draw of a hash off from the first.
const REHASH: u64 = 0x5bd1_e995_97f4_a7c5;

/// Places for each host where the file does not say how many: hosts of the same weight differ by about a hundredth in their share.
const PLACES_PER_HOST: usize = 100;

/// Places at least.
const PLACES_MIN: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(n: u32, weight: impl Fn(u32) -> u32) -> Vec<(u32, String, u32)> {
        (0..n).map(|i| (i, format!("10.0.{}.{}:80", i / 250, i % 250), weight(i))).collect()
    }

    #[test]
    fn places_are_shared_by_weight_and_whatever_the_order() {
        let mut list = hosts(10, |i| 1 + i % 3);
        let table = Maglev::new(&list, None);
        let total: u32 = list.iter().map(|h| h.2).sum();
        for (host, _, weight) in &list {
            let places = table.places().filter(|p| p == host).count();
            let fair = table.len() as f64 * f64::from(*weight) / f64::from(total);
            assert!((places as f64 - fair).abs() <= fair * 0.02 + 1.0, "{host}: {places} of {fair}");
        }
        list.reverse();
        assert!(Maglev::new(&list, None).places().eq(table.places()));
    }

    /// When one of 100 hosts leaves, its hundredth of the keys must move; of the others hardly any does.
    #[test]
    fn a_host_that_leaves_disturbs_few() {
        for size in [None, Some(65_537)] {
            let all = hosts(100, |_| 1);
            let before = Maglev::new(&all, size);
            let mut worst = 0.0f64;
            for gone in [0, 17, 99] {
                let mut rest = all.clone();
                rest.remove(gone);
                let after = Maglev::new(&rest, size.or(Some(u32::try_from(before.len()).unwrap())));
                let gone = u32::try_from(gone).unwrap();
                let moved = (0..100_000u64)
                    .filter(|key| {
                        let old = before.pick(mix(*key), |_| true).unwrap();
                        old != gone && after.pick(mix(*key), |_| true).unwrap() != old
                    })
                    .count();
                worst = worst.max(moved as f64 / 100_000.0);
                // Marked unhealthy instead of removed, it disturbs nobody else at all.
                let kept = (0..10_000u64).all(|key| {
                    let old = before.pick(mix(key), |_| true).unwrap();
                    old == gone || before.pick(mix(key), |h| h != gone) == Some(old)
                });
                assert!(kept);
            }
            println!(
                "Maglev, {} places: 1 of 100 hosts leaves, {:.2} % of the other keys move",
                before.len(),
                worst * 100.0
            );
            assert!(worst < 0.04, "{worst}");
        }
    }

    #[test]
    fn nobody_and_everybody_lost() {
        assert_eq!(Maglev::new(&[], None).pick(1, |_| true), None);
        let table = Maglev::new(&hosts(3, |_| 1), None);
        assert_eq!(table.pick(1, |_| false), None);
        assert_eq!(table.pick(1, |h| h == 2), Some(2));
    }
}
