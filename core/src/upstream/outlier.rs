//! Outlier detection: a host whose answers fail is left out for a while, and for longer each time in a row.
//!
//! **Invariant:** never more than `max_ejection_percent` of the hosts are left out, but for one; counts and verdicts are those of all workers.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::host::{Fault, Host};
use super::host_set::HostSet;
use super::pick::Outcome;
use super::shared::ClusterShared;
use super::tally::Tally;
use crate::config::schema::{Outlier, SuccessRate};
use crate::telemetry::metrics::UpstreamCounters;

/// Takes note of what became of a request; says whether the host has failed often enough to be left out.
pub(super) fn observe(config: &Outlier, tally: &Tally, outcome: Outcome) -> bool {
    let (status, is_answer) = match outcome {
        Outcome::Answered { status, .. } => (status, true),
        Outcome::Connected { .. } => (200, true),
        Outcome::Unreachable | Outcome::Timeout | Outcome::Reset => (0, false),
        Outcome::Abandoned => return false,
    };
    let is_error = !is_answer || status >= 500;
    if config.rate.is_some() {
        tally.answers.fetch_add(1, Ordering::Relaxed);
        tally.successes.fetch_add(u32::from(!is_error), Ordering::Relaxed);
    }
    let is_gateway_error = !is_answer || (502..=504).contains(&status);
    let errors = count_row(&tally.errors, is_error, config.errors);
    let gateway_errors = count_row(&tally.gateway_errors, is_gateway_error, config.gateway_errors);
    let no_answers = count_row(&tally.no_answers, !is_answer, config.no_answers);
    errors || gateway_errors || no_answers
}

/// Leaves a host out, unless too many are already.
pub(super) fn eject(config: &Outlier, set: &HostSet, host: &Host, shared: &ClusterShared, counters: &UpstreamCounters) {
    if host.has(Fault::Outlier) {
        return;
    }
    let max = (set.members().len() * config.ejected_percent_max as usize / 100).max(1);
    if ejected(set) >= max {
        counters.outlier_overflow.inc();
        return;
    }
    let tally = host.tally();
    let times = tally.ejections.load(Ordering::Relaxed) + 1;
    let time = config.ejection.saturating_mul(times).min(config.ejection_max);
    tally.ejected_until.store(shared.now() + millis(time), Ordering::Relaxed);
    if !host.blame(Fault::Outlier) {
        return;
    }
    if ejected(set) > max {
        // Another worker ejected one at the same moment. Neither stays out: the next failure tries again.
        host.absolve(Fault::Outlier, shared.now());
        return;
    }
    tally.ejections.store(times, Ordering::Relaxed);
    counters.outlier_ejected.inc();
    shared.health_changed();
    tracing::warn!(host = %host.address(), ?time, "a host fails its requests and is left out");
}

/// Takes hosts back whose time is over, and compares rates of success. Every worker calls it; what is due is done by one of them.
pub(super) fn sweep(config: &Outlier, set: &HostSet, shared: &ClusterShared, counters: &UpstreamCounters) {
    let now = shared.now();
    for host in set.members().iter().map(|m| &m.host).filter(|host| host.has(Fault::Outlier)) {
        let tally = host.tally();
        if tally.ejected_until.load(Ordering::Relaxed) <= now && host.absolve(Fault::Outlier, now) {
            for count in [&tally.errors, &tally.gateway_errors, &tally.no_answers] {
                count.store(0, Ordering::Relaxed);
            }
            shared.health_changed();
            tracing::info!(host = %host.address(), "a host that was left out gets requests again");
        }
    }
    let due = |at: u64| (now >= at + millis(config.interval)).then_some(now);
    if shared.rated.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due).is_err() {
        return;
    }
    for tally in set.members().iter().filter(|m| !m.host.has(Fault::Outlier)).filter_map(|m| m.host.counted()) {
        // An interval without an ejection makes the next one shorter again.
        let _ = tally.ejections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
    }
    if let Some(rate) = &config.rate {
        for host in below_the_others(rate, set) {
            eject(config, set, host, shared, counters);
        }
    }
}

/// Takes every host back: the cluster is not watched any more.
pub(super) fn release(set: &HostSet, shared: &ClusterShared) {
    for host in set.members().iter().map(|m| &m.host).filter(|host| host.has(Fault::Outlier)) {
        host.absolve(Fault::Outlier, shared.now());
        shared.health_changed();
    }
}

/// Hosts whose rate of success within the interval that ends now is far below the mean.
fn below_the_others<'s>(rate: &SuccessRate, set: &'s HostSet) -> Vec<&'s Host> {
    let of = |host: &'s Host| {
        let tally = host.counted()?;
        let (answers, good) = (tally.answers.swap(0, Ordering::Relaxed), tally.successes.swap(0, Ordering::Relaxed));
        (answers >= rate.requests_min && answers > 0).then(|| (host, f64::from(good) / f64::from(answers)))
    };
    let rates: Vec<_> = set.members().iter().filter_map(|m| of(&m.host)).collect();
    if rates.len() < rate.hosts_min as usize || rates.is_empty() {
        return Vec::new();
    }
    #[expect(clippy::cast_precision_loss, reason = "a number of hosts")]
    let count = rates.len() as f64;
    let mean = rates.iter().map(|(_, r)| r).sum::<f64>() / count;
    let deviation = (rates.iter().map(|(_, r)| (r - mean).powi(2)).sum::<f64>() / count).sqrt();
    let bound = mean - deviation * f64::from(rate.stdev_thousandths) / 1000.0;
    // Where all are alike, rounding must not make an outlier.
    rates.into_iter().filter(|(_, r)| *r < bound - RATE_SLACK).map(|(host, _)| host).collect()
}

/// Hosts that are left out now.
pub(super) fn ejected(set: &HostSet) -> usize {
    set.members().iter().filter(|m| m.host.has(Fault::Outlier)).count()
}

/// Counts a failure in a row; says whether there are as many now as it takes. A good answer ends the row.
fn count_row(count: &AtomicU32, hit: bool, max: Option<u32>) -> bool {
    let Some(max) = max else { return false };
    if hit {
        return count.fetch_add(1, Ordering::Relaxed) + 1 >= max;
    }
    // Most answers are good: a load is cheaper than a store to a line that all workers share.
    if count.load(Ordering::Relaxed) != 0 {
        count.store(0, Ordering::Relaxed);
    }
    false
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 2)
}

/// A rate differs when it differs by more.
const RATE_SLACK: f64 = 1e-6;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::schema;
    use crate::upstream::Hosts;

    const BAD: Outcome = Outcome::Answered { status: 503, took: Duration::ZERO };
    const GOOD: Outcome = Outcome::Answered { status: 200, took: Duration::ZERO };

    fn hosts(n: u16) -> Hosts {
        let list: Vec<_> = (0..n).map(|i| schema::Host::at(([127, 0, 0, 1], 1000 + i).into_address())).collect();
        Hosts::new(Arc::new(schema::Cluster::new("c", list)), None)
    }

    trait IntoAddress {
        fn into_address(self) -> crate::config::Address;
    }

    impl IntoAddress for ([u8; 4], u16) {
        fn into_address(self) -> crate::config::Address {
            std::net::SocketAddr::from(self).into()
        }
    }

    fn fails(config: &Outlier, host: &Host, outcome: Outcome) -> bool {
        observe(config, host.tally(), outcome)
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_of_failures_ejects_for_longer_each_time() {
        let (hosts, shared, counters) = (hosts(10), ClusterShared::default(), UpstreamCounters::default());
        let set = hosts.current();
        let host = &set.members()[3].host;
        let config = Outlier::default();
        for _ in 0..4 {
            assert!(!fails(&config, host, BAD));
        }
        assert!(!fails(&config, host, GOOD));
        for time in [30, 60, 90] {
            for _ in 0..4 {
                assert!(!fails(&config, host, BAD));
            }
            assert!(fails(&config, host, BAD));
            eject(&config, &set, host, &shared, &counters);
            assert!(!host.is_healthy());
            // Straight to the end of the ejection: no interval passes without one.
            shared.rated.store(shared.now() + 1_000_000, Ordering::Relaxed);
            tokio::time::advance(Duration::from_secs(time - 1)).await;
            sweep(&config, &set, &shared, &counters);
            assert!(!host.is_healthy());
            tokio::time::advance(Duration::from_secs(2)).await;
            sweep(&config, &set, &shared, &counters);
            assert!(host.is_healthy());
        }
        assert_eq!(counters.outlier_ejected.get(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_share_are_left_out() {
        let (hosts, shared, counters) = (hosts(30), ClusterShared::default(), UpstreamCounters::default());
        let set = hosts.current();
        for member in set.members() {
            eject(&Outlier::default(), &set, &member.host, &shared, &counters);
        }
        assert_eq!((ejected(&set), counters.outlier_overflow.get()), (3, 27));
        let alone = Hosts::new(
            Arc::new(schema::Cluster::new("c", vec![schema::Host::at(([127, 0, 0, 1], 1).into_address())])),
            None,
        )
        .current();
        eject(&Outlier::default(), &alone, &alone.members()[0].host, &shared, &counters);
        assert_eq!(ejected(&alone), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_far_below_the_others_ejects() {
        let (hosts, shared, counters) = (hosts(20), ClusterShared::default(), UpstreamCounters::default());
        let set = hosts.current();
        let rate = SuccessRate { hosts_min: 5, requests_min: 100, stdev_thousandths: 1900 };
        let config = Outlier { errors: None, no_answers: None, rate: Some(rate), ..Outlier::default() };
        for (number, member) in set.members().iter().enumerate() {
            for i in 0..100 {
                let is_bad = number == 7 && i % 2 == 0;
                assert!(!fails(&config, &member.host, if is_bad { BAD } else { GOOD }));
            }
        }
        tokio::time::advance(Duration::from_secs(11)).await;
        sweep(&config, &set, &shared, &counters);
        assert!(!set.members()[7].host.is_healthy() && ejected(&set) == 1);
        // All alike, nobody is below.
        for member in set.members() {
            for _ in 0..100 {
                fails(&config, &member.host, BAD);
            }
        }
        tokio::time::advance(Duration::from_secs(11)).await;
        sweep(&config, &set, &shared, &counters);
        assert_eq!(ejected(&set), 1);
    }
}
