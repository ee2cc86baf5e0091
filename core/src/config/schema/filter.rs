//! Stream filters: what each of them is told.
//!
//! **Invariant:** plain data that compares by content; a number in here is within its bounds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::{FieldMatch, UpstreamProtocol};

/// Declares the filters that there are.
macro_rules! filters {
    ($($kind:literal => $name:ident;)*) => {
        /// One entry of `stream_filters`, or of `per_filter_config`.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum FilterConfig {
            $(#[doc = concat!("`", $kind, "`.")] $name($name),)*
        }

        $(impl FilterSettings for $name {
            fn of(config: &FilterConfig) -> Option<&Self> {
                match config {
                    FilterConfig::$name(settings) => Some(settings),
                    _ => None,
                }
            }
        })*
    };
}

filters! {
    "fault" => Fault;
    "flowControlFilter" => FlowControl;
    "gzip" => Gzip;
    "header_to_metadata" => HeaderToMetadata;
    "ip_access" => IpAccess;
    "mirror" => Mirror;
    "payload_limit" => PayloadLimit;
    "transcoder" => Transcoder;
}

/// What one type of filter is told.
pub trait FilterSettings: Sized {
    /// These settings, when they are of this type.
    fn of(config: &FilterConfig) -> Option<&Self>;
}

/// `fault`: requests that wait, or fail, on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Fault {
    /// `delay`.
    pub delay: Option<Delay>,
    /// `abort`.
    pub abort: Option<Abort>,
    /// `upstream_cluster`: only requests that go there.
    pub cluster: Option<String>,
    /// `headers`: only requests with all of these.
    pub fields: Vec<FieldMatch>,
}

/// `fault.delay`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    /// `fixed_delay`.
    pub time: Duration,
    /// `percentage`: of a hundred requests.
    pub percent: u8,
}

/// `fault.abort`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort {
    /// `status`.
    pub status: u16,
    /// `percentage`: of a hundred requests.
    pub percent: u8,
}

/// `flowControlFilter`: how many requests pass, in a time or at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowControl {
    /// What happens to requests above a limit.
    pub mode: FlowMode,
    /// `limit_key_type`: what of a request a rule's `resource` is compared with.
    pub key: FlowKey,
    /// `action.status`.
    pub status: u16,
    /// `action.body`.
    pub body: String,
    /// `rules`: a request must pass all that are for it.
    pub rules: Vec<FlowRule>,
}

/// Of `global_switch` and `monitor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowMode {
    /// Neither: nothing is counted.
    Off,
    /// `monitor` alone: what would be refused is counted, and passes.
    Watch,
    /// `global_switch`: it is refused.
    Enforce,
}

/// `limit_key_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum FlowKey {
    /// `PATH`: the path, decoded and normal, without the query.
    #[default]
    Path,
    /// `ARG`: the query.
    Argument,
    /// `URI`: path and query as they came.
    Uri,
}

/// One entry of `rules`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRule {
    /// `id`, in metrics: `resource` where the file says none.
    pub id: String,
    /// `resource`; None: whatever the request is for.
    pub resource: Option<String>,
    /// `route`: only requests of the route of this name.
    pub route: Option<String>,
    /// `headers`: only requests with all of these.
    pub fields: Vec<FieldMatch>,
    /// How many.
    pub limit: FlowLimit,
}

/// What a rule bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowLimit {
    /// Requests in a time.
    Rate {
        /// `threshold`, in thousandths of a request.
        thousandths: u64,
        /// `statIntervalInMs`: in how long.
        interval: Duration,
        /// How many may come at once; 0: `threshold`.
        burst: u64,
        /// `controlBehavior: 1`: requests wait for their turn, this long at most. None: they are refused.
        queue: Option<Duration>,
    },
    /// `grade: 0`: requests at a time.
    Concurrency {
        /// `threshold`.
        requests_max: u64,
    },
}

/// `gzip`: which answers are compressed, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gzip {
    /// `encodings`, the most wanted first. Empty: none.
    pub codings: Vec<Coding>,
    /// `gzip_level`, 1 to 9.
    pub gzip_level: u8,
    /// `brotli_level`, 0 to 9.
    pub brotli_level: u8,
    /// `zstd_level`, 1 to 12.
    pub zstd_level: u8,
    /// `content_length`: a body that says it is shorter, in bytes, goes as it is.
    pub length_min: u64,
    /// `content_types`: media types without parameters; one that ends with `*` is the start of others.
    pub types: Vec<String>,
}

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the codings of RFC 1952, RFC 7932 and RFC 8878")]
pub enum Coding {
    Gzip,
    Brotli,
    Zstd,
}

impl Coding {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Gzip, Self::Brotli, Self::Zstd];

    /// Its name in Content-Encoding.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}

impl Default for Gzip {
    fn default() -> Self {
        Self {
            codings: vec![Coding::Gzip],
            gzip_level: 6,
            brotli_level: 4,
            zstd_level: 3,
            length_min: 1024,
            types: vec!["text/html".to_owned()],
        }
    }
}

/// `header_to_metadata`: which hosts a request may go to, by its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderToMetadata {
    /// `request_rules`.
    pub rules: Vec<MetadataRule>,
}

/// One entry of `request_rules`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataRule {
    /// `header`.
    pub header: String,
    /// `on_header_present`: the key, and its value; None: the field's.
    pub present: Option<(String, Option<String>)>,
    /// `on_header_missing`: the key and its value.
    pub missing: Option<(String, String)>,
    /// `remove`: whether the origin does not get the field.
    pub remove: bool,
}

/// `ip_access`: who is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpAccess {
    /// `default_action`: whether those are let in whom no rule names.
    pub default_allow: bool,
    /// `header`: the field that holds the client's address; None: the connection says.
    pub header: Option<String>,
    /// `ips`, the first that names the client decides.
    pub rules: Vec<IpRule>,
}

/// One entry of `ips`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpRule {
    /// `action`.
    pub allow: bool,
    /// `addrs`.
    pub networks: Vec<IpNetwork>,
}

/// Addresses that begin with the same bits: `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpNetwork {
    /// The first of them.
    pub address: IpAddr,
    /// How many bits they share.
    pub prefix_len: u8,
}

/// `mirror`: how many copies a request has where its route has a mirror policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// `amplification`: to how many hosts, one after the other, or how often to the same.
    pub copies: u32,
    /// `broadcast`: so many to every host.
    pub every_host: bool,
}

/// `payload_limit`: how large a request's body may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadLimit {
    /// `max_entity_size`, in bytes; None: no limit.
    pub body_bytes_max: Option<u64>,
    /// `http_status`.
    pub status: u16,
}

/// `transcoder`: what requests are converted to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcoder {
    /// `rules`, the first that takes a request decides; or what `type` says.
    pub rules: Vec<TranscoderRule>,
    /// `trans.receiver_phase: 0`: before the route is known.
    pub before_route: bool,
}

/// One entry of `rules`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TranscoderRule {
    /// What the client speaks, by MOSN's name; None: anything.
    pub from: Option<&'static str>,
    /// `matcher_config.config`: a field, and what it says. None: every request.
    pub field: Option<(String, String)>,
    /// `rule_info.upstream_protocol`.
    pub to: UpstreamProtocol,
}

impl IpNetwork {
    /// Reads `ADDRESS` or `ADDRESS/BITS`. None when it is neither. Of the address only the shared bits are kept, so that two texts of one
    /// network are equal.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix_len = match bits {
            None => most,
            Some(bits) if bits.bytes().all(|b| b.is_ascii_digit()) => bits.parse().ok().filter(|n| *n <= most)?,
            Some(_) => return None,
        };
        let own = u32::from(prefix_len);
        let address = match address {
            IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & !u32::MAX.checked_shr(own).unwrap_or(0)).into(),
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::MAX.checked_shr(own).unwrap_or(0)).into(),
        };
        Some(Self { address, prefix_len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_parse() {
        for (text, prefix_len) in
            [("10.0.0.1", 32), ("10.0.0.0/8", 8), ("0.0.0.0/0", 0), ("::1", 128), ("2001:db8::/32", 32)]
        {
            assert_eq!(IpNetwork::parse(text).map(|n| n.prefix_len), Some(prefix_len), "{text}");
        }
        assert_eq!(IpNetwork::parse("10.1.2.3/8"), IpNetwork::parse("10.0.0.0/8"));
        assert_eq!(IpNetwork::parse("2001:db8::1/0"), IpNetwork::parse("::/0"));
        for bad in ["", "10.0.0", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/+8", "a/8", "10.0.0.0/8/8"] {
            assert_eq!(IpNetwork::parse(bad), None, "{bad}");
        }
    }
}
