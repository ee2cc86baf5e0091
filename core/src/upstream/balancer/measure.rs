//! What makes one host better than another: its weight now, and what a request to it costs.
//!
//! **Invariant:** a weight is positive, a cost is positive and finite.

use super::super::host::Host;
use super::Look;
use crate::config::schema::{Choices, Decimal, SlowStart};

use std::sync::atomic::Ordering;

/// The weights of the hosts of a balancer, by their places. Under slow start they follow the time.
#[derive(Debug)]
pub(super) struct Weights {
    base: Box<[f64]>,
    slow: Option<Slow>,
}

#[derive(Debug)]
struct Slow {
    start: SlowStart,
    now: Box<[f64]>,
    /// When they were computed last, on the cluster's clock; None: never.
    at: Option<u64>,
    /// Whether all have their full weight: they were eligible from the start, so none goes back.
    is_over: bool,
}

impl Weights {
    pub(super) fn new(weights: &[u32], slow_start: Option<SlowStart>) -> Self {
        let base: Box<[f64]> = weights.iter().map(|w| f64::from(*w)).collect();
        let slow = slow_start.map(|start| Slow { start, now: base.clone(), at: None, is_over: false });
        Self { base, slow }
    }

    /// The full weights.
    pub(super) fn base(&self) -> &[f64] {
        &self.base
    }

    /// The weights of now.
    pub(super) fn now(&self) -> &[f64] {
        self.slow.as_ref().map_or(&self.base, |slow| &slow.now)
    }

    /// Lets them follow the time.
    pub(super) fn follow(&mut self, eligible: &[u32], look: &Look<'_>) {
        let Some(slow) = self.slow.as_mut().filter(|slow| !slow.is_over) else { return };
        let now = (look.now)();
        if slow.at.is_some_and(|at| now < at + REFRESH_MILLIS) {
            return;
        }
        slow.at = Some(now);
        slow.is_over = true;
        for ((weight, base), index) in slow.now.iter_mut().zip(&self.base).zip(eligible) {
            let factor = factor(&slow.start, (look.hosts)(*index).since(), now);
            *weight = base * factor;
            slow.is_over &= factor >= 1.0;
        }
    }
}

/// The share of its weight that a host has which came at `since`. 0 is before the cluster served: such a host has its full weight.
fn factor(start: &SlowStart, since: u64, now: u64) -> f64 {
    if since == 0 {
        return 1.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "a process does not live 2^52 ms")]
    let age = (now.saturating_sub(since) as f64 / 1000.0).max(1.0) / start.window.as_secs_f64();
    if age >= 1.0 {
        return 1.0;
    }
    age.powf(1.0 / start.aggression.get()).max(start.weight_min.get()).max(FACTOR_MIN)
}

/// What a request to a host costs.
#[derive(Debug)]
pub(super) struct Measure {
    by: By,
    bias: f64,
}

#[derive(Debug)]
enum By {
    Requests,
    Conns,
    Ewma { client_error_bias: f64, server_error_bias: f64 },
}

impl Measure {
    pub(super) fn requests(choices: &Choices) -> Self {
        Self { by: By::Requests, bias: choices.bias.get() }
    }

    pub(super) fn conns(choices: &Choices) -> Self {
        Self { by: By::Conns, bias: choices.bias.get() }
    }

    pub(super) fn ewma(choices: &Choices, client_error_bias: Decimal, server_error_bias: Decimal) -> Self {
        let by = By::Ewma { client_error_bias: client_error_bias.get(), server_error_bias: server_error_bias.get() };
        Self { by, bias: choices.bias.get() }
    }

    /// Whether a cost follows the time.
    pub(super) fn follows_time(&self) -> bool {
        matches!(self.by, By::Ewma { .. })
    }

    /// The cost at `now`, the cluster's clock, where it follows the time.
    pub(super) fn cost(&self, host: &Host, now: u64) -> f64 {
        let tally = host.tally();
        let load = |active: u32| power(f64::from(active) + 1.0, self.bias);
        match &self.by {
            By::Requests => load(tally.requests.load(Ordering::Relaxed)),
            By::Conns => load(tally.conns.load(Ordering::Relaxed)),
            By::Ewma { client_error_bias, server_error_bias } => {
                let speed = tally.speed(now);
                let good = power(1.0 - speed.client_errors, *client_error_bias)
                    * power(1.0 - speed.server_errors, *server_error_bias);
                // A host that has not answered yet costs what its work in progress says: it is asked soon, and not by all.
                let latency = speed.latency.unwrap_or(LATENCY_UNKNOWN).max(1.0);
                latency * load(tally.requests.load(Ordering::Relaxed)) / good.max(GOOD_MIN)
            }
        }
    }
}

/// `base` to the `exponent`; 1 and 0 are what nearly everyone has, and cost nothing.
fn power(base: f64, exponent: f64) -> f64 {
    if exponent == 1.0 {
        base
    } else if exponent == 0.0 {
        1.0
    } else {
        base.powf(exponent)
    }
}

/// Weights under slow start are computed again after so many milliseconds.
const REFRESH_MILLIS: u64 = 100;

/// A host under slow start has this share of its weight at least.
const FACTOR_MIN: f64 = 0.001;

/// The share of good answers counts as this much at least.
const GOOD_MIN: f64 = 0.1;

/// Nanoseconds that an answer of a host is taken to need which has not answered yet.
const LATENCY_UNKNOWN: f64 = 1e6;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn weight_grows_with_age() {
        let start =
            SlowStart { window: Duration::from_secs(100), aggression: Decimal::ONE, weight_min: Decimal(100_000) };
        let after = |secs: u64| factor(&start, 1, 1 + secs * 1000);
        assert_eq!([after(0), after(5), after(50), after(100)].map(|f| (f * 100.0).round()), [10.0, 10.0, 50.0, 100.0]);
        assert_eq!(factor(&start, 0, 0), 1.0);
        let eager = SlowStart { aggression: Decimal(2_000_000), ..start };
        assert_eq!((factor(&eager, 1, 25_001) * 100.0).round(), 50.0);
    }
}
