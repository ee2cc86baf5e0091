//! The flags of `ferrogate-bench load`.
//!
//! **Invariant:** flags only; what they mean is decided where they are used.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// What to send, where and for how long.
#[derive(Args, Clone, Debug)]
pub struct LoadArgs {
    /// Address of the server; several are used in turn. With --memif, 10.99.0.1:8080 unless it is given.
    #[arg(long, value_delimiter = ',', required_unless_present = "memif")]
    pub to: Vec<SocketAddr>,
    /// Connections held at a time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 10.0, value_parser = positive)]
    pub seconds: f64,
    /// Seconds of the same load before, not measured.
    #[arg(long, default_value_t = 1.0)]
    pub warmup: f64,
    /// Requests per second, sent on schedule whatever comes back; latency counts from the intended send. Without it: as fast as they are answered.
    #[arg(long, value_parser = positive)]
    pub rate: Option<f64>,
    /// Requests on one connection before it is closed; 0: no limit, 1: a new connection for each.
    #[arg(long, default_value_t = 0)]
    pub requests_per_connection: u32,
    /// Requests under way at a time on each connection, with --mode http2 or bolt.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=MAX_STREAMS))]
    pub streams: u32,
    /// Path asked for, with --shape plain.
    #[arg(long, default_value = "/")]
    pub path: String,
    /// Heads of the requests.
    #[arg(long, value_enum, default_value_t = Shape::Plain)]
    pub shape: Shape,
    /// Bytes of body sent with each request, by POST; 0: GET.
    #[arg(long, default_value_t = 0)]
    pub body_bytes: usize,
    /// Speaks TLS.
    #[arg(long)]
    pub tls: bool,
    /// Certificates that the server's must come from (PEM). Without it, any certificate is taken.
    #[arg(long, requires = "tls")]
    pub ca: Option<PathBuf>,
    /// Name asked for in TLS, and in Host with --shape plain.
    #[arg(long)]
    pub server_name: Option<String>,
    /// Whether handshakes resume a session.
    #[arg(long, value_enum, default_value_t = Resume::Never)]
    pub resume: Resume,
    /// The one TLS version offered.
    #[arg(long, value_enum)]
    pub tls_version: Option<TlsVersion>,
    /// The one cipher suite offered, by its standard name, as TLS13_AES_128_GCM_SHA256.
    #[arg(long)]
    pub tls_suite: Option<String>,
    /// What the connections do.
    #[arg(long, value_enum, default_value_t = Mode::Http)]
    pub mode: Mode,
    /// Addresses to connect from, in turn; a loopback address carries about 28,000 connections to one server address.
    #[arg(long, value_delimiter = ',')]
    pub source: Vec<IpAddr>,
    /// Seconds until a connection or a request is given up.
    #[arg(long, default_value_t = 10.0, value_parser = positive)]
    pub timeout: f64,
    /// Without a port of its own, the load is sent over kernel sockets.
    #[command(flatten)]
    pub memif: MemifArgs,
}

/// The load's own DPDK port, when it has one.
#[derive(Args, Clone, Debug)]
pub struct MemifArgs {
    /// Sends from a DPDK port over this memif socket, as its client, and answers as the origin on the same core.
    #[arg(long)]
    pub memif: Option<PathBuf>,
    /// Our address on that port, and the length of its network's prefix.
    #[arg(long, default_value = "10.99.0.2/24", requires = "memif")]
    pub memif_address: String,
    /// TCP port on which the origin answers there.
    #[arg(long, default_value_t = 9_000, requires = "memif")]
    pub origin_port: u16,
    /// Works without hugepages.
    #[arg(long, requires = "memif")]
    pub no_huge: bool,
    /// Memory for EAL, in MiB.
    #[arg(long, default_value_t = 256, requires = "memif")]
    pub memory_mib: u32,
    /// Receive and send ring of each flow, in bytes; a power of two.
    #[arg(long, default_value_t = 65_536, requires = "memif")]
    pub ring_bytes: usize,
    /// After the result, keeps polling until stdin ends: a memif peer that is polled must not go away first.
    #[arg(long, requires = "memif")]
    pub hold: bool,
}

#[cfg(test)]
impl LoadArgs {
    /// What these flags ask for.
    pub(crate) fn of(flags: &str) -> Self {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            load: LoadArgs,
        }
        let line = std::iter::once("load").chain(flags.split_whitespace());
        <Line as clap::Parser>::try_parse_from(line).expect("flags that exist").load
    }
}

impl LoadArgs {
    /// Which flag asks for what HTTP/2 requests here can't be: all are alike, without a body, on connections that stay.
    pub(crate) fn unfit_for_http2(&self) -> Option<&'static str> {
        let flags = [
            (self.shape != Shape::Plain, "--shape"),
            (self.body_bytes > 0, "--body-bytes"),
            (self.requests_per_connection > 0, "--requests-per-connection"),
            (!self.source.is_empty(), "--source"),
        ];
        flags.into_iter().find_map(|(given, name)| given.then_some(name))
    }

    /// Whether a connection carries several requests at a time.
    pub(crate) fn is_multiplexed(&self) -> bool {
        self.mode == Mode::Http2 || self.mode == Mode::Bolt && self.streams > 1
    }

    /// Whether each connection that stays open carries a request before the load begins: until the other side has accepted it and answered once, it is
    /// not one of those that the load is to be spread over.
    pub(crate) fn opens_with_a_request(&self) -> bool {
        match self.mode {
            Mode::Idle => !self.path.is_empty(),
            Mode::Http | Mode::Bolt => self.rate.is_some() && self.requests_per_connection != 1,
            Mode::Http2 => true,
            Mode::Tcp => false,
        }
    }
}

/// Heads of the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// A request line, Host and little else.
    Plain,
    /// 24 header fields as from a browser behind a CDN, 200 virtual hosts with 50 routes each.
    Real,
}

/// Whether handshakes resume a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Resume {
    /// Each is a full one.
    Never,
    /// Each but the first ones, by ticket or session id.
    Always,
}

/// A TLS version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TlsVersion {
    /// RFC 5246.
    #[value(name = "1.2")]
    V12,
    /// RFC 8446.
    #[value(name = "1.3")]
    V13,
}

/// What the connections do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// HTTP/1.1 requests.
    Http,
    /// HTTP/2 requests, --streams of them at a time on each connection; over TLS by ALPN, in the clear by prior knowledge.
    Http2,
    /// SOFA Bolt calls with --body-bytes of content, --streams of them at a time on each connection.
    Bolt,
    /// Nothing, after one request each; with --path '' not even that.
    Idle,
    /// --body-bytes (64 by default) which the other side sends back.
    Tcp,
}

/// As many as a server can be expected to allow, several times over.
const MAX_STREAMS: i64 = 10_000;

fn positive(text: &str) -> Result<f64, String> {
    let number: Result<f64, _> = text.parse();
    number.ok().filter(|n| n.is_finite() && *n > 0.0).ok_or_else(|| "must be a number above 0".to_owned())
}
