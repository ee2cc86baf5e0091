//! What a query of the admin API wishes for, read with its bounds.
//!
//! **Invariant:** a key that is not known, or a value that is none, is told and never passed over.

use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use ferrogate_core::config::dataplane::Network;
use ferrogate_core::control::admin::Question;

use crate::stack::{FlowFilter, state_named};
use crate::trace::{Filter, Limits};

/// Which flows a query wants.
pub(super) fn flow_wish(question: &Question) -> Result<FlowFilter, String> {
    let mut filter = FlowFilter { rows_max: ROWS, ..FlowFilter::default() };
    for (key, value) in &question.query {
        // tidy: table
        match key.as_str() {
            "address" => filter.address = Some(network(value)?),
            "port" => filter.port = Some(number(key, value)?),
            "local_port" => filter.local_port = Some(number(key, value)?),
            "state" => {
                filter.state =
                    Some(state_named(value).ok_or_else(|| bad(key, value, "a state of TCP, like established"))?)
            }
            "age" => filter.age = time(key, value)?.into(),
            "idle" => filter.idle = time(key, value)?.into(),
            "bytes" => filter.bytes = number(key, value)?,
            "limit" => filter.rows_max = number::<usize>(key, value)?.min(ROWS_MAX),
            _ => return Err(unknown(key, "address, port, listener, local_port, state, age, idle, bytes, limit")),
        }
    }
    Ok(filter)
}

/// What a query wants captured, and how much of it.
pub(super) fn capture_wish(question: &Question) -> Result<(Filter, Limits), String> {
    let mut filter = Filter::default();
    let mut limits = Limits { bytes_max: BYTES, frames_max: u64::MAX, time_max: TIME, kept_bytes: KEPT_BYTES };
    for (key, value) in &question.query {
        // tidy: table
        match key.as_str() {
            "filter" => filter = value.parse().map_err(|e| format!("the filter {value:?} is none: {e}"))?,
            "bytes" => limits.bytes_max = number(key, value)?,
            "packets" => limits.frames_max = number(key, value)?,
            "seconds" => limits.time_max = time(key, value)?.min(TIME_MAX),
            "kept" => limits.kept_bytes = number::<usize>(key, value)?.clamp(KEPT_BYTES_MIN, KEPT_BYTES_MAX),
            _ => return Err(unknown(key, "filter, bytes, packets, seconds, kept")),
        }
    }
    Ok((filter, limits))
}

fn network(text: &str) -> Result<Network, String> {
    let one = |ip: IpAddr| Network::new(ip, if ip.is_ipv4() { 32 } else { 128 });
    let network = text.parse().or_else(|_| text.parse().map(one));
    network.map_err(|_| bad("address", text, "an IP address or network, like 10.1.2.3 or 2001:db8::/32"))
}

fn number<T: FromStr<Err: Display>>(key: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|e| format!("{key}={text}: {e}"))
}

/// Seconds, with a fraction or without.
fn time(key: &str, text: &str) -> Result<Duration, String> {
    let seconds = text.strip_suffix('s').unwrap_or(text).parse().ok();
    seconds.and_then(|s| Duration::try_from_secs_f64(s).ok()).ok_or_else(|| bad(key, text, "seconds, like 10 or 0.5"))
}

fn bad(key: &str, value: &str, wanted: &str) -> String {
    format!("{key}={value}: {wanted} is expected")
}

fn unknown(key: &str, known: &str) -> String {
    format!("there is no {key:?} here: {known}")
}

/// Rows of an answer, where nothing is said, and at most.
const ROWS: usize = 100;
const ROWS_MAX: usize = 10_000;
/// Bytes of a capture, where nothing is said.
const BYTES: u64 = 100 << 20;
/// How long a capture runs, where nothing is said, and at most.
const TIME: Duration = Duration::from_secs(60);
const TIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// Bytes of a frame that are kept, where nothing is said, and the bounds.
const KEPT_BYTES: usize = 2048;
const KEPT_BYTES_MIN: usize = 16;
const KEPT_BYTES_MAX: usize = 9216;

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &[(&str, &str)]) -> Question {
        let query = query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Question { query, may_see_payload: true }
    }

    #[test]
    fn wishes_are_read_and_bounded() {
        let filter = flow_wish(&asked(&[
            ("address", "10.0.0.0/8"),
            ("port", "80"),
            ("state", "ESTABLISHED"),
            ("age", "1.5"),
            ("idle", "3s"),
            ("bytes", "1000"),
            ("limit", "99999999"),
        ]));
        let wanted = FlowFilter {
            address: Some(Network::new([10, 0, 0, 0], 8)),
            port: Some(80),
            local_port: None,
            state: Some("established"),
            age: Duration::from_millis(1500).into(),
            idle: Duration::from_secs(3).into(),
            bytes: 1000,
            rows_max: ROWS_MAX,
        };
        assert_eq!(filter, Ok(wanted));
        let (filter, limits) =
            capture_wish(&asked(&[("filter", "tcp port 80"), ("seconds", "1e9"), ("kept", "1")])).unwrap();
        assert_eq!(Ok(filter), "tcp port 80".parse());
        assert_eq!(limits, Limits { bytes_max: BYTES, frames_max: u64::MAX, time_max: TIME_MAX, kept_bytes: 16 });
    }

    #[test]
    fn what_is_no_wish_is_told() {
        for (key, value) in [
            ("address", "10.0.0.0/40"),
            ("address", "::1/129"),
            ("port", "70000"),
            ("state", "open"),
            ("age", "-1"),
            ("bytes", "x"),
            ("adress", "10.0.0.1"),
        ] {
            let error = flow_wish(&asked(&[(key, value)])).unwrap_err();
            assert!(error.contains(key), "{error}");
        }
        for (key, value) in [("filter", "tcp port"), ("seconds", "NaN"), ("snaplen", "5")] {
            assert!(capture_wish(&asked(&[(key, value)])).is_err(), "{key}={value}");
        }
    }
}
