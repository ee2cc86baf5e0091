//! What a load run prints: one line of JSON on stdout, between the lines `measuring` and `measured`.
//!
//! **Invariant:** counts and times only of the measured window, but for `established`, which is the state at its end.

use serde::{Deserialize, Serialize};

/// The outcome of one load run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadResult {
    /// Responses that came back whole, with status 200.
    pub requests: u64,
    /// What did not.
    pub errors: Errors,
    /// Length of the measured window.
    pub seconds: f64,
    /// Bytes off the wire, records and heads included.
    pub bytes_in: u64,
    /// Bytes of requests, heads included; without the records around them.
    pub bytes_out: u64,
    /// Connections on which the first byte could be sent.
    pub conns_opened: u64,
    /// Handshakes with the server's certificate.
    pub handshakes_full: u64,
    /// Handshakes from a ticket or a session id.
    pub handshakes_resumed: u64,
    /// From the send, or the intended send when there is a rate, to the last byte.
    pub latency_us: LatencyUs,
    /// Requests per second that were asked for; `None` without a rate.
    pub rate_wanted: Option<f64>,
    /// Requests that came due while no connection was free to carry them.
    pub behind: u64,
    /// Share of this core's time that was left idle, 0 to 1.
    pub spare: f64,
    /// Connections open at the end, their handshake done.
    pub established: u64,
}

/// Requests without a good response, by what went wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errors {
    /// The connection was not established.
    pub connect: u64,
    /// No whole response within the time allowed.
    pub timeout: u64,
    /// A response, but not status 200.
    pub status: u64,
    /// The connection was closed or reset under a request.
    pub reset: u64,
    /// Bytes that are no response to what was asked, or no TLS.
    pub protocol: u64,
}

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencyUs {
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// The longest.
    pub max: f64,
    /// Arithmetic mean.
    pub mean: f64,
}

impl Errors {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.connect + self.timeout + self.status + self.reset + self.protocol
    }
}
