//! What both sides of TLS are configured with: versions and application protocols.
//!
//! **Invariant:** pure values; a text that names no supported choice is an error, never a silent default.

use std::fmt;

use ::rustls::SupportedProtocolVersion;
use ::rustls::version::{TLS12, TLS13};

use crate::error::ConfigError;

/// Who computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// The best there is for what is configured: rustls, which is the fastest in software.
    #[default]
    Auto,
    /// rustls.
    Rustls,
    /// OpenSSL; only in a build with the feature `openssl`.
    OpenSsl,
}

/// A protocol version we speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        })
    }
}

/// The versions allowed, both ends included. The default is 1.2 to 1.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    min: Version,
    max: Version,
}

impl Versions {
    /// From MOSN's `min_version` and `max_version`: `tlsv1_2`, `tlsv1_3`, and `tls_auto` or nothing for our choice.
    ///
    /// # Errors
    /// A version below 1.2, a name we don't know, or a minimum above the maximum.
    pub fn from_names(min: &str, max: &str) -> Result<Self, ConfigError> {
        let versions = Self { min: named(min)?.unwrap_or(Version::Tls12), max: named(max)?.unwrap_or(Version::Tls13) };
        if versions.min > versions.max {
            return Err(ConfigError::NoVersion { min: versions.min, max: versions.max });
        }
        Ok(versions)
    }

    /// Exactly one version.
    #[must_use]
    pub fn only(version: Version) -> Self {
        Self { min: version, max: version }
    }

    /// The oldest and the newest.
    #[allow(dead_code, reason = "only OpenSSL asks")]
    pub(crate) fn bounds(self) -> (Version, Version) {
        (self.min, self.max)
    }

    pub(crate) fn supported(self) -> &'static [&'static SupportedProtocolVersion] {
        match (self.min, self.max) {
            (Version::Tls12, Version::Tls12) => &ONLY_TLS12,
            (Version::Tls13, _) => &ONLY_TLS13,
            (Version::Tls12, Version::Tls13) => &BOTH,
        }
    }
}

impl Default for Versions {
    fn default() -> Self {
        Self { min: Version::Tls12, max: Version::Tls13 }
    }
}

/// Application protocols in the order of preference (RFC 7301): `h2`, `http/1.1`. Empty: the extension is not used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alpn(Vec<Vec<u8>>);

impl Alpn {
    /// From protocol names.
    ///
    /// # Errors
    /// A name that is empty or longer than 255 bytes.
    pub fn new<I: IntoIterator<Item: AsRef<str>>>(names: I) -> Result<Self, ConfigError> {
        let mut protocols = Vec::new();
        for name in names {
            let name = name.as_ref();
            if name.is_empty() || name.len() > ALPN_NAME_BYTES_MAX {
                return Err(ConfigError::BadAlpn { name: name.into() });
            }
            protocols.push(name.as_bytes().to_vec());
        }
        Ok(Self(protocols))
    }

    /// From MOSN's `alpn`: names with commas between them; empty for none.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn from_list(list: &str) -> Result<Self, ConfigError> {
        if list.trim().is_empty() { Ok(Self::default()) } else { Self::new(list.split(',').map(str::trim)) }
    }

    pub(crate) fn into_protocols(self) -> Vec<Vec<u8>> {
        self.0
    }

    /// As in the extension: each name behind its length.
    #[allow(dead_code, reason = "only OpenSSL asks")]
    pub(crate) fn into_wire(self) -> Box<[u8]> {
        let with_length = |name: &Vec<u8>| u8::try_from(name.len()).into_iter().chain(name.clone()).collect::<Vec<_>>();
        self.0.iter().flat_map(with_length).collect()
    }
}

fn named(name: &str) -> Result<Option<Version>, ConfigError> {
    match name.to_ascii_lowercase().as_str() {
        "" | "tls_auto" => Ok(None),
        "tlsv1_2" => Ok(Some(Version::Tls12)),
        "tlsv1_3" => Ok(Some(Version::Tls13)),
        "tlsv1_0" | "tlsv1_1" => Err(ConfigError::OldVersion { name: name.into() }),
        _ => Err(ConfigError::UnknownVersion { name: name.into() }),
    }
}

static ONLY_TLS12: [&SupportedProtocolVersion; 1] = [&TLS12];
static ONLY_TLS13: [&SupportedProtocolVersion; 1] = [&TLS13];
static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

const ALPN_NAME_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_by_mosn_names() {
        use Version::{Tls12, Tls13};
        for (min, max, expected) in [
            ("", "", (Tls12, Tls13)),
            ("tls_auto", "TLS_AUTO", (Tls12, Tls13)),
            ("tlsv1_2", "tlsv1_2", (Tls12, Tls12)),
            ("tlsv1_3", "", (Tls13, Tls13)),
        ] {
            let v = Versions::from_names(min, max).unwrap();
            assert_eq!((v.min, v.max), expected, "{min} {max}");
        }
        for (min, max, words) in [
            ("tlsv1_0", "", "tlsv1_0 is below TLS 1.2"),
            ("", "tlsv1_1", "tlsv1_1 is below TLS 1.2"),
            ("ssl3", "", "\"ssl3\" is no TLS version"),
            ("tlsv1_3", "tlsv1_2", "TLSv1.3 is above"),
        ] {
            let text = Versions::from_names(min, max).unwrap_err().to_string();
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn alpn_lists() {
        assert_eq!(Alpn::from_list("h2, http/1.1").unwrap().into_protocols(), [b"h2".to_vec(), b"http/1.1".to_vec()]);
        assert_eq!(Alpn::from_list(" ").unwrap(), Alpn::default());
        assert!(Alpn::from_list("h2,,x").is_err());
        assert!(Alpn::new(["x".repeat(256)]).is_err());
    }
}
