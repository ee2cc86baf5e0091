//! What the suite asks of a back end, and how a row runs.

use std::future::Future;
use std::time::Duration;

use ferrogate_core::net::{Address, Transport};
use test_support::skip;
use tokio::runtime::Builder;
use tokio::task::LocalSet;
use tokio::time::timeout;

/// A back end: where to listen, where to connect from, and what it can't promise.
///
/// It is made inside the runtime that drives the case, and dropped there: a plane that needs a poller spawns it when it is made. Server and
/// client may be two transports, because a packet port can't connect to itself.
pub trait Harness {
    /// The transport that listens. Both ends of a relay are its connections.
    type Server: Transport;
    /// The transport that connects.
    type Client: Transport;

    /// Whether the clock may be paused: then whole minutes of waiting pass at once, and a case that hangs fails at once.
    const SIMULATED: bool;

    /// The transport that listens.
    fn server(&self) -> &Self::Server;

    /// The transport that connects.
    fn client(&self) -> &Self::Client;

    /// An address to listen on, another one at each call. Port 0 where ports are chosen.
    fn listen_address(&self) -> Address;

    /// An address that `client` could reach, but where nobody listens.
    fn silent_address(&self) -> Address;

    /// Whether an abort reaches the peer as a reset, and not just as an end.
    fn has_resets(&self) -> bool;

    /// What one direction of a connection may hold when nobody reads, in bytes.
    fn in_flight_bytes_max(&self) -> usize;

    /// What a datagram to its server may carry, in bytes, at most.
    fn datagram_bytes_max(&self) -> usize {
        65_507
    }

    /// How many connections at once it is asked to carry.
    fn many_conns(&self) -> usize;
}

/// Runs a case on a back end, or skips the row and says why.
pub fn run<H, F>(row: &str, harness: impl FnOnce() -> F, case: impl AsyncFnOnce(H))
where
    H: Harness,
    F: Future<Output = Result<H, String>>,
{
    let runtime = Builder::new_current_thread().enable_all().start_paused(H::SIMULATED).build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        match harness().await {
            Ok(plane) => timeout(CASE_TIME_MAX, case(plane)).await.expect("the case ends in time"),
            Err(reason) => skip!(&format!("contract-{row}"), "{reason}"),
        }
    });
}

/// How long a case may take before it counts as stuck.
const CASE_TIME_MAX: Duration = Duration::from_secs(60);
