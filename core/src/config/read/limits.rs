//! `limits`.
//!
//! **Invariant:** every field of [`Limits`] is a key of the same name.

use crate::config::limits::Limits;
use crate::config::reader::{Fields, Reader};
use crate::config::tree::Node;

pub(super) fn limits(r: &mut Reader, node: &Node) -> Option<Limits> {
    let f = r.map(node, "limits")?;
    let d = Limits::default();
    // tidy: table
    Some(Limits {
        downstream_conns_max: f.number(r, "downstream_conns_max", 0..=COUNT_MAX).unwrap_or(d.downstream_conns_max),
        udp_sessions_max: f.number(r, "udp_sessions_max", 0..=COUNT_MAX).unwrap_or(d.udp_sessions_max),
        memory_bytes_max: f.size(r, "memory_bytes_max", 0..=1 << 50).unwrap_or(d.memory_bytes_max),
        requests_active_max: f.number(r, "requests_active_max", 0..=COUNT_MAX).unwrap_or(d.requests_active_max),
        request_line_bytes_max: f.size(r, "request_line_bytes_max", 64..=HEAD_MAX).unwrap_or(d.request_line_bytes_max),
        head_bytes_max: f.size(r, "head_bytes_max", 256..=HEAD_MAX).unwrap_or(d.head_bytes_max),
        head_fields_max: f.number(r, "head_fields_max", 1..=10_000).unwrap_or(d.head_fields_max),
        request_body_bytes_max: f.size(r, "request_body_bytes_max", 0..=u64::MAX).unwrap_or(d.request_body_bytes_max),
        proxy_header_bytes_max: f.size(r, "proxy_header_bytes_max", 107..=65_551).unwrap_or(d.proxy_header_bytes_max),
        chunk_line_bytes_max: f.size(r, "chunk_line_bytes_max", 16..=HEAD_MAX).unwrap_or(d.chunk_line_bytes_max),
        body_in_hand_bytes_max: f.size(r, "body_in_hand_bytes_max", 0..=HEAD_MAX).unwrap_or(d.body_in_hand_bytes_max),
        interim_responses_max: f.number(r, "interim_responses_max", 0..=10_000).unwrap_or(d.interim_responses_max),
        requests_per_conn_max: f.number(r, "requests_per_conn_max", 0..=u64::MAX).unwrap_or(d.requests_per_conn_max),
        idle_conns_per_host_max: f
            .number(r, "idle_conns_per_host_max", 0..=COUNT_MAX)
            .unwrap_or(d.idle_conns_per_host_max),
        retry_buffer_bytes_max: f.size(r, "retry_buffer_bytes_max", 0..=HEAD_MAX).unwrap_or(d.retry_buffer_bytes_max),
        mirror_requests_max: f.number(r, "mirror_requests_max", 0..=COUNT_MAX).unwrap_or(d.mirror_requests_max),
        original_dst_hosts_max: f
            .number(r, "original_dst_hosts_max", 1..=COUNT_MAX)
            .unwrap_or(d.original_dst_hosts_max),
        drain_bytes_max: f.size(r, "drain_bytes_max", 0..=u64::MAX).unwrap_or(d.drain_bytes_max),
        access_log_queue_bytes_max: f
            .size(r, "access_log_queue_bytes_max", 0..=1 << 40)
            .unwrap_or(d.access_log_queue_bytes_max),
        compressions_max: f.number(r, "compressions_max", 0..=COUNT_MAX).unwrap_or(d.compressions_max),
        host_metrics_max: f.number(r, "host_metrics_max", 0..=COUNT_MAX).unwrap_or(d.host_metrics_max),
        head_timeout: f.duration(r, "head_timeout").unwrap_or(d.head_timeout),
        body_bytes_per_second_min: f
            .number(r, "body_bytes_per_second_min", 0..=COUNT_MAX)
            .unwrap_or(d.body_bytes_per_second_min),
        body_rate_window: f.duration(r, "body_rate_window").unwrap_or(d.body_rate_window),
        turn_time_max: f.duration(r, "turn_time_max").unwrap_or(d.turn_time_max),
        stall_timeout: f.duration(r, "stall_timeout").unwrap_or(d.stall_timeout),
        idle_timeout: f.duration(r, "idle_timeout").unwrap_or(d.idle_timeout),
        body_idle_timeout: f.duration(r, "body_idle_timeout").unwrap_or(d.body_idle_timeout),
        tunnel_idle_timeout: f.duration(r, "tunnel_idle_timeout").unwrap_or(d.tunnel_idle_timeout),
        udp_idle_timeout: f.duration(r, "udp_idle_timeout").unwrap_or(d.udp_idle_timeout),
        handshake_timeout: f.duration(r, "handshake_timeout").unwrap_or(d.handshake_timeout),
        handshakes_max: f.number(r, "handshakes_max", 1..=COUNT_MAX).unwrap_or(d.handshakes_max),
        turn_handshakes_max: f.number(r, "turn_handshakes_max", 1..=COUNT_MAX).unwrap_or(d.turn_handshakes_max),
        connect_timeout: f.duration(r, "connect_timeout").unwrap_or(d.connect_timeout),
        request_timeout: f.duration(r, "request_timeout").unwrap_or(d.request_timeout),
        upstream_idle_timeout: f.duration(r, "upstream_idle_timeout").unwrap_or(d.upstream_idle_timeout),
        dns_settle_timeout: f.duration(r, "dns_settle_timeout").unwrap_or(d.dns_settle_timeout),
        linger_timeout: f.duration(r, "linger_timeout").unwrap_or(d.linger_timeout),
        accept_pause: f.duration(r, "accept_pause").unwrap_or(d.accept_pause),
        graceful_timeout: f.duration(r, "graceful_timeout").unwrap_or(d.graceful_timeout),
        ..further(r, &f, d)
    })
}

/// Those of single protocols, in the place of those of `d`.
fn further(r: &mut Reader, f: &Fields<'_>, d: Limits) -> Limits {
    let d = http2(r, f, d);
    rpc(r, f, d)
}

/// Those of HTTP/2, in the place of those of `d`.
fn http2(r: &mut Reader, f: &Fields<'_>, d: Limits) -> Limits {
    Limits {
        h2_streams_max: f.number(r, "h2_streams_max", 1..=10_000).unwrap_or(d.h2_streams_max),
        h2_stream_window_bytes: f
            .size(r, "h2_stream_window_bytes", 512..=H2_WINDOW_MAX)
            .unwrap_or(d.h2_stream_window_bytes),
        h2_stream_window_bytes_max: f
            .size(r, "h2_stream_window_bytes_max", 512..=H2_WINDOW_MAX)
            .unwrap_or(d.h2_stream_window_bytes_max),
        h2_conn_window_bytes: f.size(r, "h2_conn_window_bytes", 512..=H2_WINDOW_MAX).unwrap_or(d.h2_conn_window_bytes),
        h2_out_bytes_max: f.size(r, "h2_out_bytes_max", 512..=HEAD_MAX).unwrap_or(d.h2_out_bytes_max),
        h2_resets_max: f.number(r, "h2_resets_max", 1..=COUNT_MAX).unwrap_or(d.h2_resets_max),
        h2_control_frames_max: f.number(r, "h2_control_frames_max", 8..=COUNT_MAX).unwrap_or(d.h2_control_frames_max),
        h2_empty_data_frames_max: f
            .number(r, "h2_empty_data_frames_max", 0..=COUNT_MAX)
            .unwrap_or(d.h2_empty_data_frames_max),
        h2_continuation_frames_max: f
            .number(r, "h2_continuation_frames_max", 0..=10_000)
            .unwrap_or(d.h2_continuation_frames_max),
        h2_flood_window: f.duration(r, "h2_flood_window").unwrap_or(d.h2_flood_window),
        h2_settings_timeout: f.duration(r, "h2_settings_timeout").unwrap_or(d.h2_settings_timeout),
        ..d
    }
}

/// Those of RPC, in the place of those of `d`.
fn rpc(r: &mut Reader, f: &Fields<'_>, d: Limits) -> Limits {
    Limits {
        rpc_frame_bytes_max: f.size(r, "rpc_frame_bytes_max", 256..=1 << 30).unwrap_or(d.rpc_frame_bytes_max),
        rpc_streams_max: f.number(r, "rpc_streams_max", 1..=1_000_000).unwrap_or(d.rpc_streams_max),
        rpc_out_bytes_max: f.size(r, "rpc_out_bytes_max", 512..=1 << 30).unwrap_or(d.rpc_out_bytes_max),
        rpc_bonds_max: f.number(r, "rpc_bonds_max", 1..=1_000_000).unwrap_or(d.rpc_bonds_max),
        rpc_value_depth_max: f.number(r, "rpc_value_depth_max", 2..=1000).unwrap_or(d.rpc_value_depth_max),
        rpc_values_max: f.number(r, "rpc_values_max", 1..=100_000_000).unwrap_or(d.rpc_values_max),
        converted_bytes_max: f.size(r, "converted_bytes_max", 256..=1 << 40).unwrap_or(d.converted_bytes_max),
        ..d
    }
}

/// Connections, at most.
const COUNT_MAX: u64 = 100_000_000;

/// Bytes of anything that is held whole, at most.
const HEAD_MAX: u64 = 16 << 20;

/// A window that a peer is given, in bytes, at most: so much may lie here.
const H2_WINDOW_MAX: u64 = 1 << 30;
