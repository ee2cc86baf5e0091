//! Weighted turns: smooth where the hosts are few, by deadlines where they are many or where weights change with every request.
//!
//! **Invariant:** over a long run each host's share is that of its weight; no pick allocates.

use super::super::random::Random;

/// Smooth weighted round robin: every host gains its weight, the richest one is taken and pays for all. Linear in the hosts.
#[derive(Debug)]
pub(super) struct Smooth(Box<[f64]>);

impl Smooth {
    /// Each host starts somewhere in its turn: workers that start together don't go together.
    pub(super) fn new(weights: &[f64], random: &Random) -> Self {
        let total: f64 = weights.iter().sum();
        Self(weights.iter().map(|_| random.fraction() * total).collect())
    }

    /// The place of the host whose turn it is. One that `may` refuses keeps its turn.
    pub(super) fn pick(&mut self, weights: &[f64], mut may: impl FnMut(usize) -> bool) -> Option<usize> {
        let mut total = 0.0;
        let mut best: Option<(usize, f64)> = None;
        for (place, (credit, weight)) in self.0.iter_mut().zip(weights).enumerate() {
            total += weight;
            *credit += weight;
            if best.is_none_or(|(_, most)| *credit > most) && may(place) {
                best = Some((place, *credit));
            }
        }
        let (place, _) = best?;
        self.0[place] -= total;
        Some(place)
    }
}

/// Earliest deadline first: a host that is taken comes again after one over its weight. A heap: logarithmic in the hosts.
#[derive(Debug)]
pub(super) struct Earliest(Box<[(f64, u32)]>);

impl Earliest {
    /// Each host's first deadline lies somewhere in its first period.
    pub(super) fn new(weights: &[f64], random: &Random) -> Self {
        let mut heap: Box<[_]> =
            (0..).zip(weights).map(|(place, w)| (random.fraction() / w.max(WEIGHT_MIN), place)).collect();
        heap.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        Self(heap)
    }

    /// The place of the host with the earliest deadline among those that `may` be taken; `weight` is what it has now.
    pub(super) fn pick(&mut self, weight: impl Fn(usize) -> f64, mut may: impl FnMut(usize) -> bool) -> Option<usize> {
        let mut may = |(_, place): (f64, u32)| may(place as usize);
        let top = *self.0.first()?;
        // Whoever was tried is looked past, which is rare: a scan will do.
        let at = if may(top) {
            0
        } else {
            let others = self.0.iter().enumerate().filter(|(_, entry)| may(**entry));
            others.min_by(|(_, a), (_, b)| a.0.total_cmp(&b.0))?.0
        };
        let place = self.0[at].1 as usize;
        self.0[at].0 = self.0[at].0.max(top.0) + 1.0 / weight(place).max(WEIGHT_MIN);
        self.sink(at);
        Some(place)
    }

    fn sink(&mut self, mut at: usize) {
        loop {
            let child = (2 * at + 1..=2 * at + 2)
                .filter(|c| *c < self.0.len())
                .min_by(|a, b| self.0[*a].0.total_cmp(&self.0[*b].0));
            match child {
                Some(child) if self.0[child].0 < self.0[at].0 => {
                    self.0.swap(at, child);
                    at = child;
                }
                _ => return,
            }
        }
    }
}

/// A weight is never less: a deadline must come.
const WEIGHT_MIN: f64 = 1e-6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_smooth() {
        let weights = [5.0, 1.0, 1.0];
        let mut smooth = Smooth(Box::new([0.0; 3]));
        let picks: Vec<_> = (0..7).filter_map(|_| smooth.pick(&weights, |_| true)).collect();
        assert_eq!(picks, [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(smooth.pick(&weights, |_| false), None);
    }

    #[test]
    fn deadlines_give_each_its_share() {
        let weights: Vec<f64> = (0..50).map(|i| f64::from(1 + i % 7)).collect();
        let mut earliest = Earliest::new(&weights, &Random::new(1));
        let mut counts = [0u32; 50];
        let total: u32 = (0..50).map(|i| 1 + i % 7).sum();
        let rounds = 100.0;
        for _ in 0..total * 100 {
            counts[earliest.pick(|place| weights[place], |_| true).unwrap()] += 1;
        }
        for (count, weight) in counts.iter().zip(&weights) {
            assert!((f64::from(*count) - weight * rounds).abs() <= 1.0, "{count} of {weight}");
        }
    }

    #[test]
    fn who_was_tried_is_looked_past() {
        let mut earliest = Earliest::new(&[1.0, 1.0], &Random::new(1));
        for _ in 0..10 {
            assert_eq!(earliest.pick(|_| 1.0, |place| place == 1), Some(1));
        }
        assert_eq!(earliest.pick(|_| 1.0, |_| false), None);
    }
}
