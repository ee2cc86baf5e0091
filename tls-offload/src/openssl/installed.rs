//! A certificate with its key, as libssl takes them, and where the key comes from.
//!
//! **Invariant:** what libssl is given belongs together: each key is the key of its certificate.

use std::ptr;

use super::ffi;
use super::own::{Certificate, Chain, PrivateKey};
use crate::error::{Cause, ConfigError};
use crate::server::{Identity, Key};

/// A certificate with its key, as libssl takes them.
#[derive(Debug)]
pub(super) struct Installed {
    certificate: Certificate,
    key: PrivateKey,
    /// The signature schemes of the key.
    schemes: &'static [u16],
    /// Those between it and the root. Before what it points into: dropped first.
    chain: Chain,
    _chain_certificates: Vec<Certificate>,
}

impl Installed {
    pub(super) fn load(identity: &Identity) -> Result<Self, ConfigError> {
        let mut certificates = Vec::new();
        for (index, der) in identity.certificates.certificates()?.iter().enumerate() {
            let bad = |_| ConfigError::BadCertificate { place: identity.certificates.place(), number: index + 1 };
            certificates.push(Certificate::from_der(der).map_err(bad)?);
        }
        let place = || identity.key.place();
        let key = private_key(identity)?;
        let others = certificates.split_off(1);
        let certificate = certificates.remove(0);
        if !certificate.is_of(&key) {
            return Err(ConfigError::KeyMismatch { certificate: identity.certificates.place(), key: place() });
        }
        let key = in_accelerator(identity, key)?;
        Ok(Self { certificate, schemes: key.schemes(), key, chain: Chain::of(&others), _chain_certificates: others })
    }

    /// Whether the client verifies what this key signs. (SSL_check_chain would ask the same of the certificate's own signature, and does not know
    /// Ed25519 there.)
    pub(super) fn is_usable(&self, ssl: *mut ffi::SSL) -> bool {
        let none = ptr::null_mut();
        let (mut low, mut high) = (0, 0);
        // SAFETY: the SSL is alive and has read the client's hello.
        let count = unsafe { ffi::SSL_get_sigalgs(ssl, -1, none, none, none, ptr::null_mut(), ptr::null_mut()) };
        count == 0
            || (0..count).any(|index| {
                // SAFETY: as above; the two places are ours.
                unsafe { ffi::SSL_get_sigalgs(ssl, index, none, none, none, &raw mut low, &raw mut high) };
                self.schemes.contains(&u16::from_be_bytes([high, low]))
            })
    }

    pub(super) fn install(&self, ssl: *mut ffi::SSL) -> bool {
        let (certificate, key, chain) = (self.certificate.as_ptr(), self.key.as_ptr(), self.chain.as_ptr());
        // SAFETY: the SSL is alive; it takes references of its own.
        unsafe { ffi::SSL_use_cert_and_key(ssl, certificate, key, chain, 1) == 1 }
    }

    pub(super) fn install_for_all(&self, config: *mut ffi::SSL_CTX) -> bool {
        let (certificate, key, chain) = (self.certificate.as_ptr(), self.key.as_ptr(), self.chain.as_ptr());
        // SAFETY: the configuration is alive; it takes references of its own.
        unsafe { ffi::SSL_CTX_use_cert_and_key(config, certificate, key, chain, 1) == 1 }
    }
}

/// From PEM, or the one that an accelerator holds.
pub(super) fn private_key(identity: &Identity) -> Result<PrivateKey, ConfigError> {
    let place = || identity.key.place();
    match &identity.key {
        Key::Pem(pem) | Key::Accelerated(pem, _) => {
            let bad = |error| ConfigError::BadKey { place: place(), cause: Cause::openssl(error) };
            PrivateKey::from_der(&pem.key()?).map_err(bad)
        }
        Key::Stored(id, accelerator) => accelerator.0.stored(id).map_err(|error| ConfigError::NotStored {
            name: accelerator.0.name().into(),
            key: place(),
            cause: Cause::openssl(error),
        }),
    }
}

/// Gives a key to its accelerator, if it has one and is not there yet.
pub(super) fn in_accelerator(identity: &Identity, key: PrivateKey) -> Result<PrivateKey, ConfigError> {
    let Key::Accelerated(_, accelerator) = &identity.key else { return Ok(key) };
    let (name, place) = (|| accelerator.0.name().into(), || identity.key.place());
    let bound = accelerator.0.bind(&key).ok_or_else(|| ConfigError::EngineTakesIds { name: name(), key: place() })?;
    bound.map_err(|error| ConfigError::NotAccelerated { name: name(), key: place(), cause: Cause::openssl(error) })
}
