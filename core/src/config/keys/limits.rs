//! The keys of `limits`.
//!
//! **Invariant:** as in [`working`](super::working): the default written here is the default in force.

use super::Key;
use super::Kind::{Duration, Number, Size};
use super::working::key;

pub(super) const LIMITS: &[Key] = &[
    key(
        "downstream_conns_max",
        Number,
        "0",
        "Downstream connections of one worker, at most. 0 derives it from the limit of open files at start.",
    ),
    key(
        "udp_sessions_max",
        Number,
        "0",
        "Sessions of `udp_proxy` of one worker, at most; datagrams that would begin further ones are dropped. They share \
         the descriptors of connections, and count as such for these. 0 is half of `downstream_conns_max`, so that the other half is left for them.",
    ),
    key(
        "memory_bytes_max",
        Size,
        "0",
        "Memory that one worker holds for connections, requests and buffers, at most: beyond it new requests are answered with 503 and `Retry-After`. 0 derives it at start: half of what the host and the control group allow, shared out among the workers.",
    ),
    key(
        "requests_active_max",
        Number,
        "0",
        "Requests in progress on one worker, at most (503 beyond). 0 is no limit but that of the connections.",
    ),
    key("request_line_bytes_max", Size, "16KiB", "Bytes of a request line, at most (414 beyond)."),
    key(
        "head_bytes_max",
        Size,
        "64KiB",
        "Bytes of a head, start line and fields together, at most (431 beyond; 502 for an origin's).",
    ),
    key("head_fields_max", Number, "128", "Fields of a head or of trailers, at most (431 beyond)."),
    key(
        "request_body_bytes_max",
        Size,
        "0",
        "Bytes of a request's body, at most (413 beyond). 0 is no limit: bodies stream and are never held whole.",
    ),
    key(
        "proxy_header_bytes_max",
        Size,
        "4KiB",
        "Bytes of a PROXY header in binary, at most (the connection is closed beyond); one in text has 107 at most.",
    ),
    key("chunk_line_bytes_max", Size, "4KiB", "Bytes of a chunk-size line with its extensions, at most (400 beyond)."),
    key("body_in_hand_bytes_max", Size, "16KiB", "Bytes of a body that is held in hand rather than streamed, at most."),
    key("interim_responses_max", Number, "16", "Interim (1xx) responses before the final one, at most (502 beyond)."),
    key("requests_per_conn_max", Number, "0", "Requests on one downstream connection, at most. 0 is no limit."),
    key(
        "idle_conns_per_host_max",
        Number,
        "256",
        "Idle upstream connections that one worker keeps per host, at most. More stay only as far as they were needed at once lately: a sixty-fourth of those goes each 250 ms. 0: none is used again.",
    ),
    key(
        "retry_buffer_bytes_max",
        Size,
        "64KiB",
        "Bytes of a request body that are kept to send it again, or to a mirror, at most. A longer one is sent once.",
    ),
    key("mirror_requests_max", Number, "256", "Copies of requests that one worker has under way, at most."),
    key(
        "original_dst_hosts_max",
        Number,
        "1024",
        "Destinations of one `ORIGINAL_DST` cluster that one worker keeps connections to, at most (503 beyond, when all are in use).",
    ),
    key(
        "drain_bytes_max",
        Size,
        "64KiB",
        "Bytes of a request's body that are read and thrown away to keep a connection whose request was answered early, at most.",
    ),
    key(
        "access_log_queue_bytes_max",
        Size,
        "16MiB",
        "Bytes of access log lines that wait to be written, of all workers together, at most; further lines are dropped and counted.",
    ),
    key(
        "compressions_max",
        Number,
        "1024",
        "Answers of one listener that are being compressed at a time, of all workers together, at most; further ones go as they are. Each \
         holds up to 1 MiB.",
    ),
    key(
        "host_metrics_max",
        Number,
        "1024",
        "Hosts, of all clusters together, that the metrics show one by one, at most; of further ones that were used only the number is shown, \
         as `ferrogate_upstream_hosts_omitted`.",
    ),
    key(
        "h2_streams_max",
        Number,
        "128",
        "Streams that an HTTP/2 client may have open on a connection, at most; further ones are refused. To an origin as many are open on a \
         connection at most, where it allows so many.",
    ),
    key(
        "h2_stream_window_bytes",
        Size,
        "65535",
        "Bytes that an HTTP/2 client, or an origin, may send on a new stream before they are taken.",
    ),
    key("h2_stream_window_bytes_max", Size, "1MiB", "What that may grow to while they are taken as fast as they come."),
    key(
        "h2_conn_window_bytes",
        Size,
        "2MiB",
        "Bytes that an HTTP/2 client may send on all streams of a connection before they are taken. No less than 65535, whatever this says. \
         What an origin sends counts until it has come.",
    ),
    key(
        "h2_out_bytes_max",
        Size,
        "64KiB",
        "Bytes of bodies that wait to be written to one HTTP/2 connection, at most; while twice as many bytes wait, nothing more is read from it.",
    ),
    key(
        "h2_resets_max",
        Number,
        "500",
        "Streams that an HTTP/2 client resets, or breaks the protocol on, within `h2_flood_window`, at most; beyond, its connection is closed.",
    ),
    key(
        "h2_control_frames_max",
        Number,
        "1000",
        "SETTINGS, PING, PRIORITY, unknown frames and windows opened by next to nothing within `h2_flood_window`, at most, besides three for \
         each frame that carries something; beyond, the connection is closed.",
    ),
    key(
        "h2_empty_data_frames_max",
        Number,
        "100",
        "Empty DATA frames that end nothing within `h2_flood_window`, at most; beyond, the connection is closed.",
    ),
    key(
        "h2_continuation_frames_max",
        Number,
        "32",
        "CONTINUATION frames of one head, at most; beyond, the connection is closed.",
    ),
    key(
        "rpc_frame_bytes_max",
        Size,
        "16MiB",
        "Bytes of a frame of an RPC protocol, at most; its connection is closed beyond, with an answer that says so where the protocol has \
         one. A frame is held whole.",
    ),
    key(
        "rpc_streams_max",
        Number,
        "10000",
        "Requests that an RPC client may have open on a connection, at most; while it has, or they hold `rpc_frame_bytes_max` together, nothing more is read from it. To an origin as many \
         are open on a connection at most; beyond, another connection is opened.",
    ),
    key(
        "rpc_out_bytes_max",
        Size,
        "1MiB",
        "Bytes that wait to be written to one RPC connection, at most, before further frames wait for room. While so many wait for a client, \
         nothing more is read from it.",
    ),
    key(
        "rpc_bonds_max",
        Number,
        "256",
        "Connections to hosts that are bound to one client's connection where a cluster's `rpc_pool` is `bound`, at most (503 beyond).",
    ),
    key(
        "rpc_value_depth_max",
        Number,
        "64",
        "Values inside values of a body that is converted between Hessian and JSON, at most (400 beyond; 502 for an origin's); of JSON 127 in any case.",
    ),
    key(
        "rpc_values_max",
        Number,
        "100000",
        "Values of such a body in all, names of fields among them, at most (413 beyond; 502 for an origin's).",
    ),
    key(
        "converted_bytes_max",
        Size,
        "256MiB",
        "Bytes of bodies that one worker holds whole so that their messages can be converted to another protocol, at most (503 beyond). One body has `rpc_frame_bytes_max` at most.",
    ),
    key("head_timeout", Duration, "15s", "From the first byte of a head to its end (408 beyond)."),
    key(
        "body_bytes_per_second_min",
        Number,
        "240",
        "Bytes a second of a request's body, at least, while the client is waited for (408 below). 0 is no limit.",
    ),
    key("body_rate_window", Duration, "10s", "Over how long `body_bytes_per_second_min` is measured."),
    key("h2_flood_window", Duration, "10s", "Over how long the frames are counted that cost an HTTP/2 client nothing."),
    key("h2_settings_timeout", Duration, "10s", "From our SETTINGS, or a PING, to an HTTP/2 peer's acknowledgement."),
    key(
        "turn_time_max",
        Duration,
        "1s",
        "A turn of a worker. While one takes longer, so that everything waits for so long, new requests are answered with 503 and `Retry-After`.",
    ),
    key(
        "stall_timeout",
        Duration,
        "200ms",
        "One step of one connection. A worker that does not come out of it in this time is logged and counted.",
    ),
    key("idle_timeout", Duration, "90s", "Between two requests of a connection."),
    key("body_idle_timeout", Duration, "60s", "Between two reads or writes of a body."),
    key(
        "tunnel_idle_timeout",
        Duration,
        "1h",
        "Between two bytes of a tunnel (Upgrade, CONNECT); it may end up to a quarter later.",
    ),
    key(
        "udp_idle_timeout",
        Duration,
        "60s",
        "Between two datagrams of a session of `udp_proxy`, whichever way they go.",
    ),
    key("handshake_timeout", Duration, "15s", "A TLS handshake from accept to end."),
    key(
        "handshakes_max",
        Number,
        "4096",
        "TLS handshakes of clients that a worker has under way. With one more the oldest that waits for its client is ended; where all wait for the worker, the new one is.",
    ),
    key(
        "turn_handshakes_max",
        Number,
        "8",
        "Steps of TLS handshakes that a worker takes before it looks after its other connections. The rest wait for their turn, first come first served.",
    ),
    key(
        "connect_timeout",
        Duration,
        "10s",
        "Opening an upstream connection, TLS included, unless the cluster says otherwise.",
    ),
    key(
        "request_timeout",
        Duration,
        "60s",
        "From the request sent to the end of the response's head, unless the route says otherwise (504 beyond).",
    ),
    key(
        "upstream_idle_timeout",
        Duration,
        "60s",
        "An idle upstream connection is closed after this, unless the cluster says otherwise.",
    ),
    key(
        "dns_settle_timeout",
        Duration,
        "5s",
        "A start or reload waits this long for the first lookup of every host's name, then goes on without.",
    ),
    key(
        "linger_timeout",
        Duration,
        "2s",
        "A connection that was told to close is given this long to take its last bytes.",
    ),
    key(
        "accept_pause",
        Duration,
        "100ms",
        "How long accepting pauses when the process has no descriptor or memory left.",
    ),
    key("graceful_timeout", Duration, "30s", "At a stop: how long running requests are given to finish."),
];
