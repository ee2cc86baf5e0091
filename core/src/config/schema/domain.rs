//! Domains of virtual hosts.
//!
//! **Invariant:** a domain is in lower case, and a wildcard stands at its start only.

use std::fmt;
use std::str::FromStr;

/// One entry of a virtual host's `domains`: which hosts, on which port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Domain {
    /// What stands before the port.
    pub host: HostPattern,
    /// The port.
    pub port: PortPattern,
}

/// The host part of a [`Domain`], in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// `*`: the default virtual host.
    Default,
    /// A host name.
    Exact(String),
    /// What follows the `*` of a wildcard: at least one byte stands before it. Empty for `*:PORT`.
    Suffix(String),
}

/// The port part of a [`Domain`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PortPattern {
    /// The domain has no port, and matches a request without one. It does not match `:80`.
    Absent,
    /// `:*`: any port, or none.
    Any,
    /// This port.
    Exact(String),
}

/// Why a text is no [`Domain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DomainError {
    /// Nothing before the port.
    Empty,
    /// Longer than a domain can be.
    TooLong,
    /// A `*` that is not the first character.
    Wildcard,
    /// A port that is neither `*` nor a number up to 65535, or brackets without an end.
    Port,
}

impl fmt::Display for DomainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "an empty domain",
            Self::TooLong => "a domain longer than 253 bytes",
            Self::Wildcard => "a `*` that is not the first character of the domain",
            Self::Port => "a port that is neither `*` nor a number",
        })
    }
}

impl std::error::Error for DomainError {}

impl FromStr for Domain {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        let text = text.to_ascii_lowercase();
        let (host, port) = split_port(&text).ok_or(DomainError::Port)?;
        let port = match port {
            None => PortPattern::Absent,
            Some("*") => PortPattern::Any,
            Some(p) if p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok() => {
                PortPattern::Exact(p.to_owned())
            }
            Some(_) => return Err(DomainError::Port),
        };
        if host.len() > DOMAIN_BYTES_MAX {
            return Err(DomainError::TooLong);
        }
        let host = match (host.strip_prefix('*'), &port) {
            _ if host.is_empty() => return Err(DomainError::Empty),
            (Some(rest), _) if rest.contains('*') => return Err(DomainError::Wildcard),
            (None, _) if host.contains('*') => return Err(DomainError::Wildcard),
            (Some(""), PortPattern::Absent | PortPattern::Any) => HostPattern::Default,
            (Some(rest), _) => HostPattern::Suffix(rest.to_owned()),
            (None, _) => HostPattern::Exact(host.to_owned()),
        };
        Ok(Self { host, port })
    }
}

/// Splits `host`, `host:port`, `[v6]` and `[v6]:port`; brackets are taken off. None when the brackets have no end.
pub(crate) fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        return match after.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None if after.is_empty() => Some((host, None)),
            None => None,
        };
    }
    match text.split_once(':') {
        // More than one colon without brackets is an IPv6 address alone.
        Some((_, port)) if port.contains(':') => Some((text, None)),
        Some((host, port)) => Some((host, Some(port))),
        None => Some((text, None)),
    }
}

/// The longest domain, in bytes (RFC 1035, 2.3.4, less the root's).
pub(crate) const DOMAIN_BYTES_MAX: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_parse() {
        use HostPattern::{Default, Exact, Suffix};
        use PortPattern::{Absent, Any};
        let long = "a".repeat(254);
        for (text, result) in [
            ("*", Ok((Default, Absent))),
            ("*:*", Ok((Default, Any))),
            ("*:8080", Ok((Suffix(String::new()), PortPattern::Exact("8080".into())))),
            ("Shop.Example", Ok((Exact("shop.example".into()), Absent))),
            ("a.com:*", Ok((Exact("a.com".into()), Any))),
            ("*.a.com:443", Ok((Suffix(".a.com".into()), PortPattern::Exact("443".into())))),
            ("[::1]:80", Ok((Exact("::1".into()), PortPattern::Exact("80".into())))),
            ("::1", Ok((Exact("::1".into()), Absent))),
            ("", Err(DomainError::Empty)),
            (":80", Err(DomainError::Empty)),
            ("a*.com", Err(DomainError::Wildcard)),
            ("foo.*", Err(DomainError::Wildcard)),
            ("**", Err(DomainError::Wildcard)),
            ("a.com:http", Err(DomainError::Port)),
            ("a.com:", Err(DomainError::Port)),
            ("a.com:70000", Err(DomainError::Port)),
            ("[::1", Err(DomainError::Port)),
            (long.as_str(), Err(DomainError::TooLong)),
        ] {
            assert_eq!(text.parse(), result.map(|(host, port)| Domain { host, port }), "{text}");
        }
    }
}
