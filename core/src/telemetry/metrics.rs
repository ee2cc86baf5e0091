//! Counters with one writer each: a worker counts in memory of its own, and whoever asks adds the workers up.
//!
//! **Invariant:** only the worker that owns a [`Counter`] writes it; readers may be a moment late but never see a torn or lost value.

use std::sync::atomic::{AtomicU64, Ordering};

use super::histogram::Histogram;
use super::pulse::Pulse;
use super::turns::Turns;

/// A number that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        // One writer: a load and a store, not a locked instruction.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Puts another value in place; for numbers that are measured.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Takes one away; for numbers of things that are there now.
    pub fn dec(&self) {
        self.add(u64::MAX);
    }

    /// The value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How one histogram of a block is shown.
pub struct TimeMetric<B> {
    /// Its name, with the unit.
    pub name: &'static str,
    /// What is timed.
    pub help: &'static str,
    /// Finds it.
    pub of: fn(&B) -> &Histogram,
}

/// A block of numbers that has one writer.
pub trait Block: Default + 'static {
    /// Every counter of the block: how to show it, and how to read it.
    const METRICS: &'static [Metric<Self>];
    /// Every histogram of the block.
    const TIMES: &'static [TimeMetric<Self>];
}

/// Declares a block of counters and histograms, and how each is shown.
macro_rules! counters {
    (
        $(#[$doc:meta])*
        $name:ident { $($field:ident: $kind:ident, $metric:literal, $help:literal;)* }
        times { $($time:ident: $seconds:literal, $timed:literal;)* }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        #[repr(align(64))]
        pub struct $name { $(#[doc = $help] pub $field: Counter,)* $(#[doc = $timed] pub $time: Histogram,)* }

        impl Block for $name {
            const METRICS: &'static [Metric<Self>] = &[
                $(Metric { name: $metric, help: $help, kind: Kind::$kind, read: |c| c.$field.get() },)*
            ];
            const TIMES: &'static [TimeMetric<Self>] = &[
                $(TimeMetric { name: $seconds, help: $timed, of: |c| &c.$time },)*
            ];
        }
    };
}

/// How one counter of a block is shown.
pub struct Metric<B> {
    /// Its name, without a suffix for its type.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// Whether it only grows.
    pub kind: Kind,
    /// Reads it.
    pub read: fn(&B) -> u64,
}

/// Whether a number only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It does.
    Counter,
    /// It is a number of things that are there now.
    Gauge,
}

counters! {
    /// What one worker counts of its downstream side.
    DownstreamCounters {
        connection_total: Counter, "downstream_connection", "Connections accepted";
        connection_active: Gauge, "downstream_connection_active", "Connections open now";
        accept_limited: Counter, "ferrogate_accept_limited", "Times that accepting waited because downstream_conns_max connections were open";
        accept_paused: Counter, "ferrogate_accept_paused", "Times that accepting paused because the process had no descriptor or memory left";
        listen_failed: Counter, "ferrogate_listen_failed", "Listeners of a reload that a worker could not open; the log says why";
        handshake_failed: Counter, "ferrogate_tls_handshake_failed", "TLS handshakes of clients that failed or timed out";
        handshake_active: Gauge, "ferrogate_tls_handshake_active", "TLS handshakes of clients under way now";
        handshake_evicted: Counter, "ferrogate_tls_handshake_evicted", "TLS handshakes ended because handshakes_max were under way, and they had taken longest";
        handshake_deferred: Counter, "ferrogate_tls_handshake_deferred", "Times that a TLS handshake waited because turn_handshakes_max steps were taken in a turn";
        client_cert_refused: Counter, "ferrogate_tls_client_certificate_refused", "TLS handshakes that failed because the client showed no certificate, or none that verify_client lets in";
        handed_down: Counter, "ferrogate_ktls_connection", "Connections of clients whose TLS records the kernel seals and opens (tls_backend.ktls)";
        panicked: Counter, "ferrogate_connection_panicked", "Connections ended by a defect of ours; the others of the worker live on";
        request_total: Counter, "downstream_request", "Requests received";
        request_active: Gauge, "downstream_request_active", "Requests in progress now";
        request_refused: Counter, "ferrogate_downstream_request_refused", "Requests refused because their bytes break the protocol or a limit";
        shed_memory: Counter, "ferrogate_request_shed_memory", "Requests answered with 503 because the worker held memory_bytes_max";
        shed_turn_time: Counter, "ferrogate_request_shed_turn_time", "Requests answered with 503 because turns were longer than turn_time_max";
        shed_requests: Counter, "ferrogate_request_shed_active", "Requests answered with 503 because requests_active_max requests were in progress";
        memory_held: Gauge, "ferrogate_memory_held_bytes", "Memory that the workers hold for connections, requests and buffers";
        head_timeout: Counter, "ferrogate_head_timeout", "Requests refused because their head did not arrive in head_timeout";
        body_timeout: Counter, "ferrogate_body_timeout", "Requests given up because their body paused longer than body_idle_timeout";
        body_too_slow: Counter, "ferrogate_body_too_slow", "Requests given up because their body came slower than body_bytes_per_second_min";
        reply_stalled: Counter, "ferrogate_reply_stalled", "Answers given up because their client took nothing for body_idle_timeout";
        handshake_timeout: Counter, "ferrogate_tls_handshake_timeout", "TLS handshakes of clients that took longer than handshake_timeout";
        idle_closed: Counter, "ferrogate_idle_closed", "Connections closed because they waited for a request longer than idle_timeout";
        h2_connection_total: Counter, "ferrogate_h2_connection", "Connections of clients that speak HTTP/2";
        h2_stream_refused: Counter, "ferrogate_h2_stream_refused", "Streams refused because h2_streams_max were open on their connection";
        h2_stream_malformed: Counter, "ferrogate_h2_stream_malformed", "Streams reset because their request was malformed";
        h2_stream_reset: Counter, "ferrogate_h2_stream_reset", "Streams that their client reset before their answer was complete";
        h2_protocol_error: Counter, "ferrogate_h2_protocol_error", "HTTP/2 connections closed because their client broke the protocol";
        h2_reset_flood: Counter, "ferrogate_h2_reset_flood", "HTTP/2 connections closed because of h2_resets_max";
        h2_control_flood: Counter, "ferrogate_h2_control_flood", "HTTP/2 connections closed because of h2_control_frames_max";
        h2_empty_data_flood: Counter, "ferrogate_h2_empty_data_flood", "HTTP/2 connections closed because of h2_empty_data_frames_max";
        h2_continuation_flood: Counter, "ferrogate_h2_continuation_flood", "HTTP/2 connections closed because of h2_continuation_frames_max, or a head in parts that were longer than head_bytes_max";
        h2_settings_timeout: Counter, "ferrogate_h2_settings_timeout", "HTTP/2 connections closed because our SETTINGS were not acknowledged within h2_settings_timeout";
        rpc_connection_total: Counter, "ferrogate_rpc_connection", "Connections of clients that speak an RPC protocol";
        rpc_protocol_error: Counter, "ferrogate_rpc_protocol_error", "RPC connections closed because their client sent what is no frame";
        rpc_checksum_wrong: Counter, "ferrogate_rpc_checksum_wrong", "RPC connections closed because the checksum of a frame of their client was wrong";
        rpc_frame_too_long: Counter, "ferrogate_rpc_frame_too_long", "RPC connections closed because a frame of their client was to be longer than rpc_frame_bytes_max";
        rpc_fields_too_many: Counter, "ferrogate_rpc_fields_too_many", "RPC connections closed because a frame of their client had more headers than head_fields_max";
        rpc_too_deep: Counter, "ferrogate_rpc_too_deep", "RPC connections closed because values in a frame of their client nested deeper than 64";
        rpc_unread: Counter, "ferrogate_rpc_unread", "Requests of Dubbo whose headers were hidden because arguments nested deeper than 64, defined more than 1024 classes or were no Hessian";
        rpc_read_paused: Counter, "ferrogate_rpc_read_paused", "Times that requests of an RPC connection waited because rpc_streams_max were open on it";
        rpc_stalled: Counter, "ferrogate_rpc_stalled", "RPC connections closed because their client took nothing for body_idle_timeout";
        rpc_heartbeat: Counter, "ferrogate_rpc_heartbeat", "Heartbeats of RPC clients that were answered";
        rpc_go_away: Counter, "ferrogate_rpc_go_away", "RPC clients that were told to send no more requests on their connection";
        convert_refused: Counter, "ferrogate_convert_refused", "Requests that could not be converted to what their origin is asked in";
        convert_overflow: Counter, "ferrogate_convert_overflow", "Requests refused because bodies that are converted hold converted_bytes_max";
        request_failed: Counter, "downstream_request_failed", "Requests that the gateway answered itself because of an error";
        request_reset: Counter, "downstream_request_reset", "Requests whose answer did not reach the client whole";
        status_1xx: Counter, "ferrogate_downstream_response_1xx", "Answers with a status of 100 to 199";
        status_2xx: Counter, "ferrogate_downstream_response_2xx", "Answers with a status of 200 to 299";
        status_3xx: Counter, "ferrogate_downstream_response_3xx", "Answers with a status of 300 to 399";
        status_4xx: Counter, "ferrogate_downstream_response_4xx", "Answers with a status of 400 to 499";
        status_5xx: Counter, "ferrogate_downstream_response_5xx", "Answers with a status of 500 to 599";
        bytes_write: Counter, "downstream_bytes_write", "Body bytes sent to clients";
    }
    times {
        request_time: "downstream_request_time_seconds", "From a request's head to the end of its answer";
        process_time: "downstream_process_time_seconds", "The part of downstream_request_time_seconds that was not spent waiting for the host's answer";
    }
}

counters! {
    /// What one worker counts of one listener.
    ListenerCounters {
        connection_total: Counter, "ferrogate_listener_connection", "Connections accepted by the listener";
        connection_active: Gauge, "ferrogate_listener_connection_active", "Connections of the listener open now";
        connection_refused: Counter, "ferrogate_listener_connection_refused", "Connections of the listener that its filters turned away: their first bytes were not what they had to be, or came too late";
        fault_delayed: Counter, "ferrogate_listener_connection_delayed", "Connections of the listener that fault_inject made wait";
        fault_aborted: Counter, "ferrogate_listener_connection_aborted", "Connections of the listener that fault_inject reset";
        connection_fallback: Counter, "ferrogate_listener_connection_fallback", "Connections of the listener that were of none of its protocols, or said nothing for head_timeout, and went to the tcp_proxy behind its proxy filter";
        request_total: Counter, "ferrogate_listener_request", "Requests received by the listener";
        request_active: Gauge, "ferrogate_listener_request_active", "Requests of the listener in progress now";
        request_failed: Counter, "ferrogate_listener_request_failed", "Requests of the listener that the gateway answered itself because of an error";
        request_reset: Counter, "ferrogate_listener_request_reset", "Requests of the listener whose answer did not reach the client whole";
        bytes_write: Counter, "ferrogate_listener_bytes_write", "Body bytes sent to clients of the listener";
        relay_bytes_read: Counter, "ferrogate_listener_relay_bytes_read", "Bytes that clients of the listener sent through tcp_proxy or udp_proxy";
        relay_bytes_write: Counter, "ferrogate_listener_relay_bytes_write", "Bytes that clients of the listener got through tcp_proxy or udp_proxy";
        relay_failed: Counter, "ferrogate_listener_relay_failed", "Connections of the listener that tcp_proxy closed because no route took them or no host could be reached";
        relay_broken: Counter, "ferrogate_listener_relay_broken", "Connections of the listener that tcp_proxy cut because one of their sides broke";
        relay_idle_closed: Counter, "ferrogate_listener_relay_idle_closed", "Connections of the listener that tcp_proxy closed because nothing moved on them for idle_timeout";
        session_total: Counter, "ferrogate_listener_session", "Sessions of udp_proxy that clients of the listener began";
        session_active: Gauge, "ferrogate_listener_session_active", "Sessions of udp_proxy of the listener now";
        session_failed: Counter, "ferrogate_listener_session_failed", "Datagrams of the listener that began no session because no route took them or no host could be had";
        session_refused: Counter, "ferrogate_listener_session_refused", "Datagrams of the listener that began no session because the worker had udp_sessions_max, or no memory left, or ends";
        session_broken: Counter, "ferrogate_listener_session_broken", "Sessions of the listener that ended because nobody listened at their host";
        session_idle_closed: Counter, "ferrogate_listener_session_idle_closed", "Sessions of the listener that ended because nothing moved in them for idle_timeout";
        datagrams_read: Counter, "ferrogate_listener_datagrams_read", "Datagrams that udp_proxy passed on from clients of the listener";
        datagrams_write: Counter, "ferrogate_listener_datagrams_write", "Datagrams that udp_proxy passed on to clients of the listener";
        datagrams_dropped: Counter, "ferrogate_listener_datagrams_dropped", "Datagrams of sessions of the listener that were lost here, either way: a socket had no room for them, or refused them";
        status_1xx: Counter, "ferrogate_listener_response_1xx", "Answers of the listener with a status of 100 to 199";
        status_2xx: Counter, "ferrogate_listener_response_2xx", "Answers of the listener with a status of 200 to 299";
        status_3xx: Counter, "ferrogate_listener_response_3xx", "Answers of the listener with a status of 300 to 399";
        status_4xx: Counter, "ferrogate_listener_response_4xx", "Answers of the listener with a status of 400 to 499";
        status_5xx: Counter, "ferrogate_listener_response_5xx", "Answers of the listener with a status of 500 to 599";
    }
    times {
        request_time: "ferrogate_listener_request_time_seconds", "From the head of a request to the listener to the end of its answer";
    }
}

counters! {
    /// What one worker counts of one cluster.
    UpstreamCounters {
        connection_total: Counter, "upstream_connection", "Connections opened to the cluster";
        connection_active: Gauge, "upstream_connection_active", "Connections open now, idle ones included";
        connection_con_fail: Counter, "upstream_connection_con_fail", "Connections that could not be opened";
        connection_close: Counter, "upstream_connection_close", "Connections closed";
        request_total: Counter, "upstream_request", "Requests sent";
        request_active: Gauge, "upstream_request_active", "Requests in progress now";
        request_retry: Counter, "upstream_request_retry", "Requests sent again, to another host or on a fresh connection";
        retry_budget_exceeded: Counter, "ferrogate_upstream_retry_budget_exceeded", "Retries that were not made because the cluster's retry budget was used up";
        mirror_total: Counter, "ferrogate_upstream_mirror", "Copies of requests sent to the cluster";
        mirror_dropped: Counter, "ferrogate_upstream_mirror_dropped", "Copies of requests not sent: too many under way, or a body too long to keep";
        request_pending_overflow: Counter, "upstream_request_pending_overflow", "Requests refused because the cluster has max_connections connections and none came free";
        request_overflow: Counter, "ferrogate_upstream_request_overflow", "Requests refused because the cluster has max_requests in progress";
        lb_subsets_fallback: Counter, "upstream_lb_subsets_fallback", "Requests that no subset was there for, sent where fall_back_policy says";
        lb_panic: Counter, "ferrogate_upstream_lb_panic", "Requests sent regardless of health because fewer hosts than panic_threshold are healthy";
        outlier_ejected: Counter, "ferrogate_upstream_outlier_ejected", "Times that a host was left out because its requests failed";
        outlier_overflow: Counter, "ferrogate_upstream_outlier_overflow", "Times that a failing host was not left out because max_ejection_percent are already";
        probe_attempt: Counter, "healthcheck_attempt", "Probes of hosts";
        probe_success: Counter, "healthcheck_success", "Probes that were answered well";
        probe_failure: Counter, "healthcheck_failure", "Probes that were not";
        probe_network_failure: Counter, "healthcheck_network_failure", "Probes that failed because no connection could be opened, or it broke";
        probe_active_failure: Counter, "healthcheck_active_failure", "Probes that were answered badly, or not in time";
        request_retry_overflow: Counter, "upstream_request_retry_overflow", "Requests that were not tried again because the cluster has max_retries retries in progress";
        relay_bytes_read: Counter, "ferrogate_upstream_relay_bytes_read", "Bytes relayed from hosts of the cluster by tcp_proxy or udp_proxy";
        relay_bytes_write: Counter, "ferrogate_upstream_relay_bytes_write", "Bytes relayed to hosts of the cluster by tcp_proxy or udp_proxy";
        response_success: Counter, "upstream_response_success", "Answers with a status below 500";
        response_failed: Counter, "upstream_response_failed", "Answers with a status of 500 or more";
        request_timeout: Counter, "upstream_request_timeout", "Requests that were not answered in time";
        request_reset: Counter, "upstream_request_remote_reset", "Requests whose answer did not come or was malformed";
        h2_connection_total: Counter, "ferrogate_upstream_h2_connection", "Connections opened to the cluster that speak HTTP/2";
        h2_goaway: Counter, "ferrogate_upstream_h2_goaway", "HTTP/2 connections that a host of the cluster told us to leave";
        h2_connection_lost: Counter, "ferrogate_upstream_h2_connection_lost", "HTTP/2 connections given up because a host of the cluster broke the protocol or a limit, or fell silent";
        h2_stream_reset: Counter, "ferrogate_upstream_h2_stream_reset", "Streams that a host of the cluster reset";
        h2_stream_malformed: Counter, "ferrogate_upstream_h2_stream_malformed", "Streams reset because the answer of a host of the cluster was malformed";
        rpc_connection_total: Counter, "ferrogate_upstream_rpc_connection", "Connections opened to the cluster that speak an RPC protocol";
        rpc_connection_lost: Counter, "ferrogate_upstream_rpc_connection_lost", "RPC connections given up because a host of the cluster sent what is no frame, or left heartbeats unanswered";
        rpc_go_away: Counter, "ferrogate_upstream_rpc_go_away", "RPC connections that a host of the cluster wanted no more requests on";
        convert_refused: Counter, "ferrogate_upstream_convert_refused", "Answers of a host of the cluster that could not be converted to what their client speaks";
        rpc_response_late: Counter, "ferrogate_upstream_rpc_response_late", "Answers of a host of the cluster that were dropped because nobody waited for them any more";
        rpc_response_unknown: Counter, "ferrogate_upstream_rpc_response_unknown", "Answers of a host of the cluster that were dropped because nothing was asked under their number";
        rpc_heartbeat: Counter, "ferrogate_upstream_rpc_heartbeat", "Heartbeats sent to hosts of the cluster that had been silent";
        rpc_heartbeat_missed: Counter, "ferrogate_upstream_rpc_heartbeat_missed", "Heartbeats that a host of the cluster did not answer in time";
    }
    times {
        request_time: "upstream_request_duration_time_seconds", "From a request sent to the head of its answer";
        connect_time: "ferrogate_upstream_connect_seconds", "Opening a connection, TLS included, when it could be opened";
    }
}

counters! {
    /// What one worker counts of one host.
    HostCounters {
        connection_total: Counter, "ferrogate_upstream_host_connection", "Connections opened to the host";
        connection_active: Gauge, "ferrogate_upstream_host_connection_active", "Connections to the host open now, idle ones included";
        connection_con_fail: Counter, "ferrogate_upstream_host_connection_con_fail", "Connections to the host that could not be opened";
        request_total: Counter, "ferrogate_upstream_host_request", "Requests sent to the host";
        request_active: Gauge, "ferrogate_upstream_host_request_active", "Requests in progress at the host now";
        response_success: Counter, "ferrogate_upstream_host_response_success", "Answers of the host with a status below 500";
        response_failed: Counter, "ferrogate_upstream_host_response_failed", "Answers of the host with a status of 500 or more";
        request_timeout: Counter, "ferrogate_upstream_host_request_timeout", "Requests that the host did not answer in time";
        request_reset: Counter, "ferrogate_upstream_host_request_remote_reset", "Requests whose answer did not come from the host or was malformed";
    }
    times {}
}

/// What one worker counts, but for single listeners, clusters and hosts: those belong to what the workers share of them.
#[derive(Debug, Default)]
pub struct WorkerCounters {
    /// Its downstream side.
    pub downstream: DownstreamCounters,
    /// How long its turns are.
    pub turns: Turns,
    /// What it runs right now.
    pub pulse: Pulse,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_go_up_and_down_and_names_are_unique() {
        let counters = DownstreamCounters::default();
        counters.connection_active.inc();
        counters.connection_active.inc();
        counters.connection_active.dec();
        assert_eq!(counters.connection_active.get(), 1);
        let (downstream, upstream) = (names::<DownstreamCounters>(), names::<UpstreamCounters>());
        let mut names = [downstream, upstream, names::<ListenerCounters>(), names::<HostCounters>()].concat();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    fn names<B: Block>() -> Vec<&'static str> {
        B::METRICS.iter().map(|m| m.name).chain(B::TIMES.iter().map(|t| t.name)).collect()
    }
}
