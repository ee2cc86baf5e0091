//! How the health of hosts is found out: by asking them, and by watching their answers.
//!
//! **Invariant:** plain data that compares by content; every duration is more than nothing.

use std::ops::RangeInclusive;
use std::time::Duration;

/// `health_check`: probes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// `protocol` and `check_config`.
    pub probe: Probe,
    /// `timeout`: a probe without an answer has failed.
    pub timeout: Duration,
    /// `interval`: between two probes of a host.
    pub interval: Duration,
    /// `interval_jitter`: and up to this much more, so that probes spread out.
    pub jitter: Duration,
    /// `initial_delay_seconds`: before the first probe.
    pub initial_delay: Duration,
    /// `healthy_threshold`: so many good probes in a row make a host healthy.
    pub healthy_threshold: u32,
    /// `unhealthy_threshold`: so many bad ones make it unhealthy.
    pub unhealthy_threshold: u32,
    /// `initial_state`: whether a host that was not probed yet gets no requests.
    pub starts_unhealthy: bool,
    /// `service_name`: the name in metrics; that of the cluster where the file says none.
    pub service: String,
}

/// What a probe does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A connection that can be opened is good.
    Tcp,
    /// A request that is answered with the right status is good.
    Http(HttpProbe),
    /// The same over HTTP/2.
    Http2(HttpProbe),
    /// A health service of gRPC that says that it serves is good.
    Grpc(GrpcProbe),
}

impl Probe {
    /// The port that is asked instead of the host's.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp => None,
            Self::Http(probe) | Self::Http2(probe) => probe.port,
            Self::Grpc(probe) => probe.port,
        }
    }

    /// Whether it is made over HTTP/2.
    #[must_use]
    pub fn is_http2(&self) -> bool {
        matches!(self, Self::Http2(_) | Self::Grpc(_))
    }
}

/// `check_config.grpc_check_config`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct GrpcProbe {
    /// `port`: instead of the host's.
    pub port: Option<u16>,
    /// `service_name`: which of its services is asked about; empty: all of it.
    pub service: String,
    /// `authority`: the host's address where the file says none.
    pub authority: String,
}

/// `check_config.http_check_config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpProbe {
    /// `port`: instead of the host's.
    pub port: Option<u16>,
    /// `method`.
    pub method: String,
    /// `path`.
    pub path: String,
    /// `domain`: the `Host` of the request; the host's address where the file says none.
    pub domain: String,
    /// `codes`: the statuses that are good.
    pub codes: Vec<RangeInclusive<u16>>,
}

/// `outlier_detection`: a host that fails requests is left out for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlier {
    /// `consecutive_5xx`: so many answers of 500 and more, or none, in a row. None: not looked at.
    pub errors: Option<u32>,
    /// `consecutive_gateway_failure`: so many of 502, 503 and 504, or none, in a row.
    pub gateway_errors: Option<u32>,
    /// `consecutive_local_origin_failure`: so many times in a row without any answer.
    pub no_answers: Option<u32>,
    /// `success_rate`: a host far below the others.
    pub rate: Option<SuccessRate>,
    /// `interval`: how often ended ejections and success rates are looked at.
    pub interval: Duration,
    /// `base_ejection_time`: the first time; each further time in a row as much longer.
    pub ejection: Duration,
    /// `max_ejection_time`.
    pub ejection_max: Duration,
    /// `max_ejection_percent`: of the hosts, at a time; one host may always be ejected.
    pub ejected_percent_max: u32,
}

/// `success_rate_*`: a host is ejected whose rate of good answers within an interval is far below that of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuccessRate {
    /// `success_rate_minimum_hosts`: with fewer hosts that have enough requests nothing is done.
    pub hosts_min: u32,
    /// `success_rate_request_volume`: requests of a host within an interval, at least.
    pub requests_min: u32,
    /// `success_rate_stdev_factor`: thousandths of a standard deviation below the mean.
    pub stdev_thousandths: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            probe: Probe::Tcp,
            timeout: Duration::from_secs(1),
            interval: Duration::from_secs(15),
            jitter: Duration::from_millis(5),
            initial_delay: Duration::from_secs(1),
            healthy_threshold: 1,
            unhealthy_threshold: 1,
            starts_unhealthy: false,
            service: String::new(),
        }
    }
}

impl Default for HttpProbe {
    fn default() -> Self {
        Self { port: None, method: "GET".into(), path: "/".into(), domain: String::new(), codes: vec![200..=200] }
    }
}

impl Default for Outlier {
    fn default() -> Self {
        Self {
            errors: Some(5),
            gateway_errors: None,
            no_answers: Some(5),
            rate: None,
            interval: Duration::from_secs(10),
            ejection: Duration::from_secs(30),
            ejection_max: Duration::from_secs(300),
            ejected_percent_max: 10,
        }
    }
}
