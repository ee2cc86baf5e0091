//! Every limit by name. Each queue, buffer, table, time and retry of the gateway is bounded by one of these.
//!
//! **Invariant:** a limit has its unit last in its name, a default that is safe on an untuned host, and a metric or a log line where it
//! bites.

use std::time::Duration;

/// The `limits` section of the configuration. Shared by listeners and clusters unless they say otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Downstream connections of one worker, at most. 0 derives it from RLIMIT_NOFILE at start.
    pub downstream_conns_max: usize,
    /// Memory that one worker holds for connections, requests and buffers, in bytes, at most: beyond it new requests are answered with
    /// 503. 0 derives it at start: half of what the host and the control group allow, shared out among the workers.
    pub memory_bytes_max: usize,
    /// Requests in progress on one worker, at most (503 beyond). 0 is no limit but that of the connections.
    pub requests_active_max: u64,
    /// Bytes of a request line, at most (414 beyond).
    pub request_line_bytes_max: usize,
    /// Bytes of a head, start line and fields together, at most (431 beyond; 502 for an origin's).
    pub head_bytes_max: usize,
    /// Fields of a head or of trailers, at most (431 beyond).
    pub head_fields_max: usize,
    /// Bytes of a request body, at most (413 beyond). 0 is no limit: bodies stream and are never held whole.
    pub request_body_bytes_max: u64,
    /// Bytes of a PROXY header in binary, at most; one in text has 107 at most.
    pub proxy_header_bytes_max: usize,
    /// Bytes of a chunk-size line with its extensions, at most (400 beyond).
    pub chunk_line_bytes_max: usize,
    /// Bytes of a body that is held in hand rather than streamed, at most.
    pub body_in_hand_bytes_max: usize,
    /// Interim (1xx) responses an origin may send before its final one, at most (502 beyond).
    pub interim_responses_max: u32,
    /// Requests on one downstream connection, at most; the last answer carries `Connection: close`. 0 is no limit.
    pub requests_per_conn_max: u64,
    /// Idle upstream connections that one worker keeps per host, at most.
    pub idle_conns_per_host_max: usize,
    /// Bytes of a request body that are kept so that it can be sent again, or to a mirror, at most. A longer one is sent once.
    pub retry_buffer_bytes_max: usize,
    /// Copies of requests that one worker has under way, at most; beyond, copies are not sent.
    pub mirror_requests_max: usize,
    /// Destinations of one ORIGINAL_DST cluster that one worker keeps connections to, at most (503 beyond, when all are in use).
    pub original_dst_hosts_max: usize,
    /// Bytes of a request body that are read and thrown away to keep a connection whose request was answered early, at most.
    pub drain_bytes_max: u64,
    /// Bytes of access log lines that wait for the log thread, of all workers together, at most; further lines are dropped.
    pub access_log_queue_bytes_max: usize,
    /// Answers of one listener that are being compressed at a time, of all workers together, at most; further ones go as they are.
    pub compressions_max: usize,
    /// Hosts, of all clusters together, that the metrics show one by one, at most; of further ones only the number is shown.
    pub host_metrics_max: usize,

    /// From the first byte of a head to its end (408 beyond).
    pub head_timeout: Duration,
    /// Bytes a second of a request's body, at least, while the client is waited for (408 below). 0 is no limit.
    pub body_bytes_per_second_min: u64,
    /// Over how long that is measured.
    pub body_rate_window: Duration,
    /// A turn of a worker: while one takes longer, so that everything waits for so long, new requests are answered with 503.
    pub turn_time_max: Duration,
    /// One step of one connection: a worker that does not come out of it in this time is logged and counted.
    pub stall_timeout: Duration,
    /// Between two requests of a connection.
    pub idle_timeout: Duration,
    /// Between two reads or writes of a body or a tunnel.
    pub body_idle_timeout: Duration,
    /// Between two bytes of a tunnel (Upgrade, CONNECT).
    pub tunnel_idle_timeout: Duration,
    /// A TLS handshake from accept to end.
    pub handshake_timeout: Duration,
    /// Opening an upstream connection, TLS included, unless the cluster says otherwise.
    pub connect_timeout: Duration,
    /// From the request sent to the end of the response head, unless the route says otherwise (504 beyond).
    pub request_timeout: Duration,
    /// An idle upstream connection is closed after this, unless the cluster says otherwise.
    pub upstream_idle_timeout: Duration,
    /// A start or reload waits this long for the first lookup of every host's name, then goes on without.
    pub dns_settle_timeout: Duration,
    /// A connection that was told to close is given this long to take its last bytes.
    pub linger_timeout: Duration,
    /// How long accepting pauses when the process has no descriptor or memory left.
    pub accept_pause: Duration,
    /// TERM: how long running requests are given to finish.
    pub graceful_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            downstream_conns_max: 0,
            memory_bytes_max: 0,
            requests_active_max: 0,
            request_line_bytes_max: 16 * 1024,
            head_bytes_max: 64 * 1024,
            head_fields_max: 128,
            request_body_bytes_max: 0,
            proxy_header_bytes_max: 4096,
            chunk_line_bytes_max: 4096,
            body_in_hand_bytes_max: 16 * 1024,
            interim_responses_max: 16,
            requests_per_conn_max: 0,
            idle_conns_per_host_max: 256,
            retry_buffer_bytes_max: 64 * 1024,
            mirror_requests_max: 256,
            original_dst_hosts_max: 1024,
            drain_bytes_max: 64 * 1024,
            access_log_queue_bytes_max: 16 << 20,
            compressions_max: 1024,
            host_metrics_max: 1024,
            head_timeout: Duration::from_secs(15),
            body_bytes_per_second_min: 240,
            body_rate_window: Duration::from_secs(10),
            turn_time_max: Duration::from_secs(1),
            stall_timeout: Duration::from_millis(200),
            idle_timeout: Duration::from_secs(90),
            body_idle_timeout: Duration::from_secs(60),
            tunnel_idle_timeout: Duration::from_secs(3600),
            handshake_timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(60),
            upstream_idle_timeout: Duration::from_secs(60),
            dns_settle_timeout: Duration::from_secs(5),
            linger_timeout: Duration::from_secs(2),
            accept_pause: Duration::from_millis(100),
            graceful_timeout: Duration::from_secs(30),
        }
    }
}
