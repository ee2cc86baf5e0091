//! Connections that are wanted by a time.

use std::time::Duration;

use ferrogate_core::codec::detect::Protocol;
use ferrogate_core::config::schema::{Balancing, Breakers, Outlier, RpcProtocol};
use ferrogate_core::upstream::{HostPool, NoHost, Wish};
use tokio::task::LocalSet;
use tokio::time::{Instant, timeout};

use crate::stage::{Nowhere, Stage, config, pick};

const PROTOCOLS: [Protocol; 3] = [Protocol::Http1, Protocol::Http2, Protocol::Rpc(RpcProtocol::Bolt)];

fn in_a_second() -> Instant {
    Instant::now() + Duration::from_secs(1)
}

/// Whether the one host of a cluster is left out after `ask` was done with it.
async fn is_left_out(breakers: Breakers, ask: impl AsyncFn(&std::rc::Rc<HostPool<Nowhere>>)) -> bool {
    let outlier = Some(Outlier { errors: Some(1), ejected_percent_max: 100, ..Outlier::default() });
    let mut config = config(Balancing::RoundRobin, &[1]);
    (config.outlier, config.breakers) = (outlier, breakers);
    let stage = Stage::new(config);
    let worker = stage.worker(0);
    let pool = worker.pick(&Wish::default()).unwrap();
    LocalSet::new().run_until(ask(&pool)).await;
    pick(&worker, &Wish::default()) == Err(NoHost::Unhealthy)
}

#[tokio::test(start_paused = true)]
async fn a_host_that_can_not_be_reached_by_a_deadline_is_blamed() {
    for protocol in PROTOCOLS {
        let by_then = is_left_out(Breakers::default(), async |pool| {
            let lease = pool.lease_by((protocol, false), None, in_a_second()).await;
            assert!(lease.is_ok_and(|lease| lease.is_none()));
        });
        assert!(by_then.await, "{protocol:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_blames_nobody() {
    for protocol in PROTOCOLS {
        let left = is_left_out(Breakers::default(), async |pool| {
            let lease = pool.lease_by((protocol, false), None, in_a_second());
            assert!(timeout(Duration::from_millis(500), lease).await.is_err());
        });
        assert!(!left.await, "{protocol:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dial_that_another_gives_up_blames_nobody() {
    let breakers = Breakers { conns_max: Some(1), pending_max: Some(9), ..Breakers::default() };
    let given_up = is_left_out(breakers, async |pool| {
        let (first, second, waited) = tokio::join!(
            timeout(Duration::from_millis(500), pool.lease(Protocol::Http1, false, None)),
            timeout(Duration::from_secs(2), pool.lease(Protocol::Http1, false, None)),
            pool.lease_by((Protocol::Http1, false), None, in_a_second())
        );
        assert!(first.is_err() && second.is_err() && waited.is_ok_and(|lease| lease.is_none()));
    });
    assert!(!given_up.await);
}

#[tokio::test(start_paused = true)]
async fn a_place_that_others_hold_blames_nobody() {
    let breakers = Breakers { conns_max: Some(1), pending_max: Some(9), ..Breakers::default() };
    let waited = is_left_out(breakers, async |pool| {
        let (first, second) = tokio::join!(
            timeout(Duration::from_secs(2), pool.lease(Protocol::Http1, false, None)),
            pool.lease_by((Protocol::Http1, false), None, in_a_second())
        );
        assert!(first.is_err() && second.is_ok_and(|lease| lease.is_none()));
    });
    assert!(!waited.await);
}
