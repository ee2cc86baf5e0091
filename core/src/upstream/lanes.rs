//! The hosts of one group as a worker picks from them: levels by priority and nearness, each with a balancer over its healthy hosts.
//!
//! **Invariant:** made anew when hosts or their health change, never on a pick.

use super::balancer::{Balancer, Look};
use super::host_set::{Group, HostSet, Level};
use super::random::Random;
use crate::config::schema;

/// A group's levels, and how much of the load each takes.
#[derive(Debug)]
pub(super) struct Lanes {
    levels: Box<[Lane]>,
    /// Whether the group has any host, healthy or not.
    is_empty: bool,
}

#[derive(Debug)]
struct Lane {
    balancer: Balancer,
    /// The share of the load that this level and those before it take, in percent.
    until: usize,
    /// Whether all hosts are used because too few are healthy.
    panics: bool,
}

/// A host that was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Picked {
    pub(super) index: u32,
    /// Whether it was picked regardless of its health.
    pub(super) in_panic: bool,
}

impl Lanes {
    pub(super) fn new(config: &schema::Cluster, set: &HostSet, group: &Group, random: &Random) -> Self {
        let healthy =
            |level: &Level| level.members.iter().filter(|i| set.members()[**i as usize].host.is_healthy()).count();
        let counts: Vec<(usize, usize)> = group.levels.iter().map(|l| (healthy(l), l.members.len())).collect();
        // A level with 71 % of its hosts healthy can take its whole load.
        let fitness: Vec<usize> = counts.iter().map(|(h, all)| (h * OVERPROVISION / (*all).max(1)).min(100)).collect();
        let total = fitness.iter().sum::<usize>().min(100);
        let (mut until, mut levels) = (0, Vec::with_capacity(counts.len()));
        for ((level, fit), (healthy, all)) in group.levels.iter().zip(&fitness).zip(&counts) {
            let panics = total < 100 && healthy * 100 < all * config.panic_percent as usize;
            let share = match total {
                // Nobody is healthy: if anybody is to be asked, then those of the first level.
                0 => 100 - until,
                total => (fit * 100).div_ceil(total).min(100 - until),
            };
            until += share;
            let is_eligible = |i: &&u32| panics || set.members()[**i as usize].host.is_healthy();
            let eligible: Box<[u32]> = level.members.iter().filter(is_eligible).copied().collect();
            let weights: Vec<u32> = eligible.iter().map(|i| set.spec(&set.members()[*i as usize]).weight).collect();
            let balancer = Balancer::new(&config.balancing, config.slow_start, eligible, &weights, random);
            levels.push(Lane { balancer, until, panics });
        }
        Self { levels: levels.into(), is_empty: counts.iter().all(|(_, all)| *all == 0) }
    }

    /// Whether the group has no host at all.
    pub(super) fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// The host for a request: from the level that the load falls to, else from any that has one, best one that was not tried.
    pub(super) fn pick<'a>(&self, group: &'a Group, look: &mut Look<'a>) -> Option<Picked> {
        match &*self.levels {
            [] => return None,
            [lane] => return lane.pick(&group.levels[0], look),
            _ => {}
        }
        let drawn = look.random.below(100);
        let first = self.levels.iter().position(|lane| drawn < lane.until).unwrap_or(0);
        let others = (0..self.levels.len()).filter(|at| *at != first);
        let mut tried = None;
        for at in std::iter::once(first).chain(others) {
            let picked = self.levels[at].pick(&group.levels[at], look);
            match picked {
                Some(picked) if look.wish.tried.contains(&(look.hosts)(picked.index).id()) => {
                    tried = tried.or(Some(picked));
                }
                Some(picked) => return Some(picked),
                None => {}
            }
        }
        tried
    }
}

impl Lane {
    fn pick<'a>(&self, level: &'a Level, look: &mut Look<'a>) -> Option<Picked> {
        look.table = level.table.as_ref();
        self.balancer.pick(look).map(|index| Picked { index, in_panic: self.panics })
    }
}

/// How much a level can take beyond its share, in percent: losing a few hosts sends nothing to the next one.
const OVERPROVISION: usize = 140;
