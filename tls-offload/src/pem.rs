//! Certificates and keys as PEM: from a file or from the text itself.
//!
//! **Invariant:** reads files only when told to load, at configuration time; says of every failure where it lies.

use std::path::PathBuf;

use rustls_pki_types::pem::{Error as PemError, PemObject};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::error::{ConfigError, Place};

/// PEM from a file or given inline, as MOSN's `cert_chain`, `private_key` and `ca_cert` allow both.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    /// In a file.
    File(PathBuf),
    /// The text itself.
    Inline(Box<str>),
}

impl Pem {
    pub(crate) fn place(&self) -> Place {
        match self {
            Self::File(path) => Place::File(path.clone()),
            Self::Inline(_) => Place::Inline,
        }
    }

    /// Every certificate in it, at least one.
    pub(crate) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
        let text = self.text()?;
        let certificates = CertificateDer::pem_slice_iter(&text)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|cause| ConfigError::BadPem { place: self.place(), cause })?;
        if certificates.is_empty() {
            return Err(ConfigError::NoCertificateBlock { place: self.place() });
        }
        Ok(certificates)
    }

    /// Every revocation list in it, at least one.
    pub(crate) fn revocation_lists(&self) -> Result<Vec<CertificateRevocationListDer<'static>>, ConfigError> {
        let text = self.text()?;
        let lists = CertificateRevocationListDer::pem_slice_iter(&text)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|cause| ConfigError::BadPem { place: self.place(), cause })?;
        if lists.is_empty() {
            return Err(ConfigError::NoRevocationList { place: self.place() });
        }
        Ok(lists)
    }

    /// The first private key in it.
    pub(crate) fn key(&self) -> Result<PrivateKeyDer<'static>, ConfigError> {
        let text = self.text()?;
        match PrivateKeyDer::from_pem_slice(&text) {
            Ok(key) if is_encrypted_pkcs1(&text) => {
                drop(key);
                Err(ConfigError::EncryptedKey { place: self.place() })
            }
            Ok(key) => Ok(key),
            Err(PemError::NoItemsFound) if contains(&text, "-----BEGIN ENCRYPTED PRIVATE KEY-----") => {
                Err(ConfigError::EncryptedKey { place: self.place() })
            }
            Err(PemError::NoItemsFound) => Err(ConfigError::NoKeyBlock { place: self.place() }),
            Err(_) if is_encrypted_pkcs1(&text) => Err(ConfigError::EncryptedKey { place: self.place() }),
            Err(cause) => Err(ConfigError::BadPem { place: self.place(), cause }),
        }
    }

    fn text(&self) -> Result<Vec<u8>, ConfigError> {
        match self {
            Self::File(path) => std::fs::read(path).map_err(|cause| ConfigError::Read { place: self.place(), cause }),
            Self::Inline(text) => Ok(text.as_bytes().to_vec()),
        }
    }
}

impl From<&str> for Pem {
    /// A text with a PEM block is that text; anything else is a path.
    fn from(value: &str) -> Self {
        if value.contains("-----BEGIN ") { Self::Inline(value.into()) } else { Self::File(value.into()) }
    }
}

/// Shows the place, never the text: it may be a key.
impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pem({})", self.place())
    }
}

/// A PKCS#1 or SEC1 key under a passphrase (RFC 1421 headers inside the block).
fn is_encrypted_pkcs1(text: &[u8]) -> bool {
    contains(text, "Proc-Type: 4,ENCRYPTED")
}

fn contains(text: &[u8], words: &str) -> bool {
    text.windows(words.len()).any(|w| w == words.as_bytes())
}
