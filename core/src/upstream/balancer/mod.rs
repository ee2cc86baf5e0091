//! Which of the hosts that can take it gets a request.
//!
//! A [`Balancer`] is one worker's, over the hosts of one priority and subset that are healthy now; it is made anew when those change. What
//! is dear to make, the tables of Maglev and the ring, belongs to the set of hosts and is shared by all workers.
//!
//! **Invariant:** a pick costs no allocation, and never fails while there is a host.

mod maglev;
mod measure;
mod ring;
mod smooth;

use std::cell::{Cell, RefCell};

pub(super) use maglev::Maglev;
use measure::{Measure, Weights};
pub(super) use ring::Ring;
use smooth::{Earliest, Smooth};

use super::host::Host;
use super::pick::Wish;
use super::random::Random;
use crate::config::schema::{Balancing, SlowStart};

/// The shared part of a consistent balancer, over all hosts of one priority and subset, healthy or not.
#[derive(Debug)]
pub(super) enum Table {
    Maglev(Maglev),
    Ring(Ring),
}

/// One worker's balancer.
#[derive(Debug)]
pub(super) struct Balancer {
    /// The hosts that can take a request, by their index in the set; sorted.
    eligible: Box<[u32]>,
    kind: Kind,
}

/// The closed set of balancers.
#[derive(Debug)]
enum Kind {
    Random,
    RoundRobin(Cell<usize>),
    InOrder,
    /// Weighted turns, few hosts.
    Smooth(RefCell<Smooth>, RefCell<Weights>),
    /// Weighted turns, many hosts, or a weight that follows the work in progress.
    Earliest(RefCell<Earliest>, RefCell<Weights>, Option<Measure>),
    /// The best of some that are drawn at random.
    Best {
        drawn: usize,
        measure: Measure,
    },
    Consistent,
}

/// What a pick may look at.
pub(super) struct Look<'a> {
    pub(super) hosts: &'a dyn Fn(u32) -> &'a Host,
    pub(super) table: Option<&'a Table>,
    pub(super) wish: &'a Wish<'a>,
    pub(super) random: &'a Random,
    /// The cluster's clock, in milliseconds. Looked at only where weights follow the time.
    pub(super) now: &'a dyn Fn() -> u64,
}

impl Look<'_> {
    /// The clock, for a measure that looks at it.
    fn now_for(&self, measure: &Measure) -> u64 {
        if measure.follows_time() { (self.now)() } else { 0 }
    }
}

impl Balancer {
    /// A balancer over the `eligible` hosts, with the weight of each.
    pub(super) fn new(
        balancing: &Balancing,
        slow_start: Option<SlowStart>,
        eligible: Box<[u32]>,
        weights: &[u32],
        random: &Random,
    ) -> Self {
        let differ = weights.windows(2).any(|w| w[0] != w[1]);
        let weights = Weights::new(weights, slow_start);
        let earliest = |measure, weights: Weights| {
            let earliest = Earliest::new(weights.base(), random);
            Kind::Earliest(RefCell::new(earliest), RefCell::new(weights), measure)
        };
        let weighted = differ || slow_start.is_some();
        let best = |measure, drawn: u32, weights| match weighted {
            true => earliest(Some(measure), weights),
            false => Kind::Best { drawn: drawn as usize, measure },
        };
        let kind = match balancing {
            Balancing::Random => Kind::Random,
            Balancing::InOrder => Kind::InOrder,
            Balancing::Maglev { .. } | Balancing::RingHash { .. } => Kind::Consistent,
            Balancing::LeastRequest(choices) => best(Measure::requests(choices), choices.count, weights),
            Balancing::LeastConnection(choices) => best(Measure::conns(choices), choices.count, weights),
            Balancing::PeakEwma { choices, client_error_bias, server_error_bias } => {
                best(Measure::ewma(choices, *client_error_bias, *server_error_bias), choices.count, weights)
            }
            Balancing::Weighted if weighted && eligible.len() > SMOOTH_HOSTS_MAX => earliest(None, weights),
            Balancing::Weighted if weighted => {
                Kind::Smooth(RefCell::new(Smooth::new(weights.base(), random)), RefCell::new(weights))
            }
            Balancing::Weighted | Balancing::RoundRobin => Kind::RoundRobin(Cell::new(random.below(eligible.len()))),
        };
        Self { eligible, kind }
    }

    /// Whether it can take this host.
    pub(super) fn has(&self, index: u32) -> bool {
        self.eligible.binary_search(&index).is_ok()
    }

    /// The index in the set of the host for a request, one that was not tried if there is one. None when there is no host.
    pub(super) fn pick(&self, look: &Look<'_>) -> Option<u32> {
        if self.eligible.len() <= 1 {
            return self.eligible.first().copied();
        }
        // Without anything tried the test is never made: that is the way of nearly all requests.
        if look.wish.tried.is_empty() {
            return self.pick_of(look, |_| true);
        }
        let untried = |index: u32| !look.wish.tried.contains(&(look.hosts)(index).id());
        self.pick_of(look, untried).or_else(|| self.pick_of(look, |_| true))
    }

    fn pick_of(&self, look: &Look<'_>, may: impl Fn(u32) -> bool) -> Option<u32> {
        let at = |place: usize| self.eligible[place];
        let place = match &self.kind {
            Kind::Random => self.draw(look.random, &may)?,
            Kind::RoundRobin(next) => {
                let start = next.get();
                let len = self.eligible.len();
                let place = (0..len).map(|step| (start + step) % len).find(|place| may(at(*place)))?;
                next.set((place + 1) % len);
                place
            }
            Kind::InOrder => (0..self.eligible.len()).find(|place| may(at(*place)))?,
            Kind::Smooth(smooth, weights) => {
                let mut weights = weights.borrow_mut();
                weights.follow(&self.eligible, look);
                smooth.borrow_mut().pick(weights.now(), |place| may(at(place)))?
            }
            Kind::Earliest(earliest, weights, measure) => {
                let mut weights = weights.borrow_mut();
                weights.follow(&self.eligible, look);
                let now = measure.as_ref().map_or(0, |m| look.now_for(m));
                let weight = |place: usize| {
                    let weight = weights.now()[place];
                    measure.as_ref().map_or(weight, |m| weight / m.cost((look.hosts)(at(place)), now))
                };
                earliest.borrow_mut().pick(weight, |place| may(at(place)))?
            }
            Kind::Best { drawn, measure } => self.best(*drawn, measure, look, &may)?,
            Kind::Consistent => return self.consistent(look, &may),
        };
        Some(at(place))
    }

    /// A place at random that may be taken.
    fn draw(&self, random: &Random, may: impl Fn(u32) -> bool) -> Option<usize> {
        let len = self.eligible.len();
        let start = random.below(len);
        (0..len).map(|step| (start + step) % len).find(|place| may(self.eligible[*place]))
    }

    fn best(&self, drawn: usize, measure: &Measure, look: &Look<'_>, may: impl Fn(u32) -> bool) -> Option<usize> {
        let now = look.now_for(measure);
        let cost = |place: usize| measure.cost((look.hosts)(self.eligible[place]), now);
        let len = self.eligible.len();
        if len <= drawn {
            // From a random one on: of equals it must not always be the first.
            let start = look.random.below(len);
            let places = (0..len).map(|step| (start + step) % len).filter(|place| may(self.eligible[*place]));
            return places.min_by(|a, b| cost(*a).total_cmp(&cost(*b)));
        }
        let mut best: Option<(usize, f64)> = None;
        for _ in 0..drawn {
            let place = self.draw(look.random, &may)?;
            let cost = cost(place);
            if best.is_none_or(|(_, least)| cost < least) {
                best = Some((place, cost));
            }
        }
        best.map(|(place, _)| place)
    }

    fn consistent(&self, look: &Look<'_>, may: impl Fn(u32) -> bool) -> Option<u32> {
        let hash = look.wish.hash.unwrap_or_else(|| look.random.next());
        let can = |index| self.has(index) && may(index);
        match look.table? {
            Table::Maglev(table) => table.pick(hash, can),
            Table::Ring(ring) => ring.pick(hash, can),
        }
    }
}

impl Table {
    /// The table that `balancing` needs over hosts, each with its index, name and weight; None when it needs none.
    pub(super) fn of(balancing: &Balancing, hosts: impl Iterator<Item = (u32, String, u32)>) -> Option<Self> {
        match balancing {
            Balancing::Maglev { table_size } => {
                Some(Self::Maglev(Maglev::new(&hosts.collect::<Vec<_>>(), *table_size)))
            }
            Balancing::RingHash { points_min, points_max } => {
                Some(Self::Ring(Ring::new(&hosts.collect::<Vec<_>>(), *points_min, *points_max)))
            }
            _ => None,
        }
    }
}

/// Whether a balancer looks at what [`Tally`](super::tally::Tally) counts.
pub(super) fn counts(balancing: &Balancing) -> bool {
    matches!(balancing, Balancing::LeastRequest(_) | Balancing::LeastConnection(_) | Balancing::PeakEwma { .. })
}

/// With more hosts, smooth turns would cost too much a pick.
const SMOOTH_HOSTS_MAX: usize = 32;
