//! Which host of a cluster takes the next request.
//!
//! **Invariant:** a pick costs no allocation and never fails while there is a host.

use std::cell::Cell;

/// The closed set of balancers.
#[derive(Debug)]
pub enum Balancer {
    /// Each host in turn.
    RoundRobin(Cell<usize>),
}

impl Balancer {
    /// Round robin from `start`: workers start at different hosts, so that few requests spread as many do.
    #[must_use]
    pub fn round_robin(start: usize) -> Self {
        Self::RoundRobin(Cell::new(start))
    }

    /// The index of the next of `hosts` hosts; `None` when there are none.
    #[must_use]
    pub fn pick(&self, hosts: usize) -> Option<usize> {
        match self {
            Self::RoundRobin(next) => {
                let pick = next.get().checked_rem(hosts)?;
                next.set(pick + 1);
                Some(pick)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_robin_takes_each_in_turn() {
        let balancer = Balancer::round_robin(1);
        let picks: Vec<_> = (0..7).map(|_| balancer.pick(3).unwrap()).collect();
        assert_eq!(picks, [1, 2, 0, 1, 2, 0, 1]);
        assert_eq!(balancer.pick(0), None);
        assert_eq!(balancer.pick(1), Some(0));
    }
}
