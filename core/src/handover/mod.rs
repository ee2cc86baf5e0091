//! Listening sockets from an old process to the new one that takes its place: what the two say to each other.
//!
//! The old process starts the new one with a unix socket as its standard input. It sends a [`Manifest`] and the descriptors that it
//! lists, in its order; the new process answers one line, [`READY`] or what went wrong, once it serves. Only then the old one drains, so
//! that at every moment somebody accepts. How descriptors travel is the kernel plane's business.
//!
//! **Invariant:** until the new process is ready nothing of the old one has changed.

use std::fmt;

use serde_json::{Value, json};

use crate::config::Address;

/// What the old process hands over, one descriptor for each, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Where each socket listens.
    pub sockets: Vec<Address>,
}

/// Why bytes are no [`Manifest`] of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManifestError {
    /// They are no manifest.
    Malformed,
    /// The other process speaks another version.
    Version,
    /// More sockets than can be taken.
    TooMany,
}

impl Manifest {
    /// As it is sent, without its length.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let sockets: Vec<String> = self.sockets.iter().map(ToString::to_string).collect();
        json!({ "version": VERSION, "sockets": sockets }).to_string().into_bytes()
    }

    /// Reads what was sent.
    ///
    /// # Errors
    /// When it is no manifest, of another version, or too large.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let value: Value = serde_json::from_slice(bytes).map_err(|_| ManifestError::Malformed)?;
        if value["version"].as_u64().ok_or(ManifestError::Malformed)? != VERSION {
            return Err(ManifestError::Version);
        }
        let list = value["sockets"].as_array().ok_or(ManifestError::Malformed)?;
        if list.len() > SOCKETS_MAX {
            return Err(ManifestError::TooMany);
        }
        let address = |text: &Value| match text.as_str()?.strip_prefix("udp:") {
            Some(udp) => udp.parse().ok().map(Address::Udp),
            None => text.as_str()?.parse().ok(),
        };
        let sockets = list.iter().map(address).collect::<Option<_>>().ok_or(ManifestError::Malformed)?;
        Ok(Self { sockets })
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("what the old process sent is no list of sockets"),
            Self::Version => {
                f.write_str("the old process speaks another version of the handover: stop it and start this one")
            }
            Self::TooMany => write!(f, "the old process has more than {SOCKETS_MAX} sockets"),
        }
    }
}

impl std::error::Error for ManifestError {}

/// What the new process says when it serves.
pub const READY: &str = "ready";

/// Set in the environment of a process that is to take over; its standard input is the socket then.
pub const VARIABLE: &str = "FERROGATE_HANDOVER";

/// Sockets that one process hands over, at most: listeners times workers.
pub const SOCKETS_MAX: usize = 16 * 1024;

/// Bytes of a manifest, at most.
pub const MANIFEST_BYTES_MAX: usize = 4 << 20;

const VERSION: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_reads_as_it_was_written() {
        let mut sockets = ["127.0.0.1:80", "[::1]:443", "unix:/run/a \"b\".sock"].map(|a| a.parse().unwrap()).to_vec();
        sockets.extend(["127.0.0.1:80", "[::1]:53"].map(|a| Address::Udp(a.parse().unwrap())));
        let manifest = Manifest { sockets };
        assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        let many = json!({ "version": 1, "sockets": vec!["127.0.0.1:1"; SOCKETS_MAX + 1] }).to_string();
        for (text, error) in [
            ("", ManifestError::Malformed),
            ("[]", ManifestError::Malformed),
            (r#"{"version":2,"sockets":[]}"#, ManifestError::Version),
            (r#"{"version":1}"#, ManifestError::Malformed),
            (r#"{"version":1,"sockets":["localhost"]}"#, ManifestError::Malformed),
            (&many, ManifestError::TooMany),
        ] {
            assert_eq!(Manifest::decode(text.as_bytes()), Err(error), "{text:.60}");
        }
    }
}
