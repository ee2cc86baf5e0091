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
    /// Sessions of `udp_proxy` of one worker, at most; datagrams that would begin further ones are dropped. 0 is half of the connections that
    /// there may be, with which they share their descriptors.
    pub udp_sessions_max: usize,
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
    /// Idle upstream connections that one worker keeps per host, at most; more only as far as they were needed at once lately.
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

    /// Streams that an HTTP/2 client may have open on a connection, at most; further ones are refused. To an origin as many are open on a
    /// connection at most, where it allows so many.
    pub h2_streams_max: u32,
    /// Bytes that an HTTP/2 client, or an origin, may send on a new stream before they are taken.
    pub h2_stream_window_bytes: u32,
    /// What that may grow to while they are taken as fast as they come.
    pub h2_stream_window_bytes_max: u32,
    /// Bytes that an HTTP/2 client may send on all streams of a connection before they are taken. No less than 65535, which the protocol gives
    /// it. What an origin sends counts until it has come.
    pub h2_conn_window_bytes: u32,
    /// Bytes of bodies that wait to be written to one HTTP/2 connection, at most; while twice as many bytes wait, nothing more is read from it.
    pub h2_out_bytes_max: usize,
    /// Streams of an HTTP/2 connection that its client resets, or breaks the protocol on, within `h2_flood_window`, at most; beyond, it is
    /// closed.
    pub h2_resets_max: u32,
    /// SETTINGS, PING, PRIORITY, unknown frames and windows opened by next to nothing within `h2_flood_window`, at most, besides three for
    /// each frame that carries something; beyond, the connection is closed.
    pub h2_control_frames_max: u32,
    /// Empty DATA frames that end nothing within `h2_flood_window`, at most; beyond, the connection is closed.
    pub h2_empty_data_frames_max: u32,
    /// CONTINUATION frames of one head, at most; beyond, the connection is closed.
    pub h2_continuation_frames_max: u32,

    /// Bytes of a frame of an RPC protocol, at most; its connection is closed beyond. A frame is held whole.
    pub rpc_frame_bytes_max: usize,
    /// Requests that an RPC client may have open on a connection, at most; while it has, or they hold `rpc_frame_bytes_max` together, nothing
    /// more is read from it. To an origin as many are open on a connection at most; beyond, another connection is opened.
    pub rpc_streams_max: u32,
    /// Bytes that wait to be written to one RPC connection, at most, before further frames wait for room; while a client takes so few,
    /// nothing more is read from it.
    pub rpc_out_bytes_max: usize,
    /// Connections to hosts that are bound to one client's connection (`rpc_pool: bound`), at most (503 beyond).
    pub rpc_bonds_max: usize,
    /// Values inside values of a body that is converted between Hessian and JSON, at most (400 beyond; 502 for an origin's).
    pub rpc_value_depth_max: usize,
    /// Values of such a body in all, at most (413 beyond; 502 for an origin's).
    pub rpc_values_max: usize,
    /// Bytes of bodies that one worker holds whole so that their messages can be converted, at most (503 beyond).
    pub converted_bytes_max: usize,

    /// From the first byte of a head to its end (408 beyond).
    pub head_timeout: Duration,
    /// Bytes a second of a request's body, at least, while the client is waited for (408 below). 0 is no limit.
    pub body_bytes_per_second_min: u64,
    /// Over how long that is measured.
    pub body_rate_window: Duration,
    /// Over how long the frames are counted that cost an HTTP/2 client nothing.
    pub h2_flood_window: Duration,
    /// From our SETTINGS, or a PING, to an HTTP/2 peer's acknowledgement.
    pub h2_settings_timeout: Duration,
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
    /// Between two datagrams of a session of `udp_proxy`, whichever way they go.
    pub udp_idle_timeout: Duration,
    /// A TLS handshake from accept to end.
    pub handshake_timeout: Duration,
    /// TLS handshakes of clients under way on a worker: one more ends the oldest that waits for its client, or itself.
    pub handshakes_max: usize,
    /// Steps of TLS handshakes that a worker takes before it looks after its other connections.
    pub turn_handshakes_max: usize,
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

/// Values inside values of an RPC frame that are passed over, at most. Deeper ones hide the attachments of Dubbo, and make no packet of Tars.
pub const RPC_PASSED_DEPTH_MAX: usize = 64;

/// Classes that a body of Hessian defines, at most. More hide the attachments of Dubbo.
pub const RPC_CLASSES_MAX: usize = 1024;

/// What the flows of one port's stack may take, one worker: `dataplane.dpdk` beside `flows_max` and `syn_backlog_max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowLimits {
    /// A flow whose rings nobody has used for so long, and that are empty, gives their memory back.
    pub ring_idle_timeout: Duration,
    /// Whether a SYN beyond `syn_backlog_max` or `half_open_per_source_max` is answered with a cookie. Otherwise it is dropped.
    pub syn_cookies: bool,
    /// Handshakes of one address that may be unfinished at a time.
    pub half_open_per_source_max: u32,
    /// RSTs a second in answer to segments that belong to no connection.
    pub resets_per_second_max: u32,
    /// ICMP echo requests a second that are answered.
    pub echoes_per_second_max: u32,
    /// ACKs a second in answer to a SYN in the middle of a connection (RFC 5961, 7).
    pub challenges_per_second_max: u32,
    /// Bytes of a segment, at most, in either direction; the port's MTU and the peer bound it besides.
    pub segment_bytes_max: u16,
    /// An acknowledgement waits so long for data to travel with, or for a second segment (RFC 9293, 3.8.6.3). Zero: it does not wait.
    pub ack_delay: Duration,
    /// Whether a short segment waits until everything before it is acknowledged (RFC 9293, 3.7.4).
    pub nagle: bool,
    /// After so long a silence a peer is asked whether it is still there (RFC 9293, 3.8.4). Zero: it is not asked.
    pub keepalive_idle: Duration,
    /// Between two questions.
    pub keepalive_interval: Duration,
    /// Questions without an answer; then the connection ends.
    pub keepalive_probes_max: u8,
    /// Frames a second that go to Linux by the port's `exception`, and as many that come from there.
    pub exception_frames_per_second_max: u32,
    /// What its datagrams may take.
    pub datagrams: DatagramLimits,
}

/// What the datagrams of one port's stack may take, one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramLimits {
    /// Datagrams that wait for one socket, at most; further ones are dropped.
    pub udp_queue_datagrams_max: usize,
    /// Datagrams that wait for all sockets together, at most: each holds a frame of the port.
    pub udp_queued_datagrams_max: usize,
    /// Memory for datagrams of which not all fragments have come, in bytes, at most: the oldest give way.
    pub reassembly_bytes_max: usize,
    /// From the first fragment of a datagram to its last.
    pub reassembly_timeout: Duration,
    /// Senders a second that are told that nobody receives at a port.
    pub unreachables_per_second_max: u32,
}

impl Default for DatagramLimits {
    fn default() -> Self {
        Self {
            udp_queue_datagrams_max: 1024,
            udp_queued_datagrams_max: 2048,
            reassembly_bytes_max: 4 << 20,
            // Fragments come close together. The longer they are waited for, the likelier their number is another datagram's (RFC 4963).
            reassembly_timeout: Duration::from_secs(5),
            unreachables_per_second_max: 1000,
        }
    }
}

impl Default for FlowLimits {
    fn default() -> Self {
        Self {
            ring_idle_timeout: Duration::from_secs(5),
            syn_cookies: true,
            half_open_per_source_max: 1024,
            resets_per_second_max: 10_000,
            echoes_per_second_max: 10_000,
            challenges_per_second_max: 100,
            segment_bytes_max: 9176,
            // Short, because a peer with Nagle's algorithm may be waiting for it.
            ack_delay: Duration::from_millis(2),
            nagle: false,
            keepalive_idle: Duration::ZERO,
            keepalive_interval: Duration::from_secs(15),
            keepalive_probes_max: 4,
            exception_frames_per_second_max: 20_000,
            datagrams: DatagramLimits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            downstream_conns_max: 0,
            udp_sessions_max: 0,
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
            h2_streams_max: 128,
            h2_stream_window_bytes: 65_535,
            h2_stream_window_bytes_max: 1 << 20,
            h2_conn_window_bytes: 2 << 20,
            h2_out_bytes_max: 64 * 1024,
            h2_resets_max: 500,
            h2_control_frames_max: 1000,
            h2_empty_data_frames_max: 100,
            h2_continuation_frames_max: 32,
            rpc_frame_bytes_max: 16 << 20,
            rpc_streams_max: 10_000,
            rpc_out_bytes_max: 1 << 20,
            rpc_bonds_max: 256,
            rpc_value_depth_max: 64,
            rpc_values_max: 100_000,
            converted_bytes_max: 256 << 20,
            head_timeout: Duration::from_secs(15),
            body_bytes_per_second_min: 240,
            body_rate_window: Duration::from_secs(10),
            h2_flood_window: Duration::from_secs(10),
            h2_settings_timeout: Duration::from_secs(10),
            turn_time_max: Duration::from_secs(1),
            stall_timeout: Duration::from_millis(200),
            idle_timeout: Duration::from_secs(90),
            body_idle_timeout: Duration::from_secs(60),
            tunnel_idle_timeout: Duration::from_secs(3600),
            udp_idle_timeout: Duration::from_secs(60),
            handshake_timeout: Duration::from_secs(15),
            handshakes_max: 4096,
            turn_handshakes_max: 8,
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
