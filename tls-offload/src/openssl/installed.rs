//! A certificate with its key, as libssl takes them, and where the key comes from.
//!
//! **Invariant:** what libssl is given belongs together: each key is the key of its certificate.

use std::ffi::c_long;
use std::ptr;
use std::time::SystemTime;

use super::ffi;
use super::own::{Certificate, Chain, PrivateKey};
use crate::error::{Cause, ConfigError};
use crate::server::{Identity, Key};
use crate::staple::Staple;

/// A certificate with its key, as libssl takes them.
#[derive(Debug)]
pub(super) struct Installed {
    certificate: Certificate,
    key: PrivateKey,
    staple: Option<Staple>,
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
        // What is wrong with it is a caveat of the configuration.
        let staple = Staple::of(identity).unwrap_or_default();
        let (schemes, chain) = (key.schemes(), Chain::of(&others));
        Ok(Self { certificate, staple, schemes, key, chain, _chain_certificates: others })
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

    /// Has a session staple what there is, for a client that asks for it.
    pub(super) fn staple_to(&self, ssl: *mut ffi::SSL) {
        let Some(staple) = self.staple.as_ref().filter(|staple| staple.is_good(SystemTime::now())) else { return };
        let Ok(len) = c_long::try_from(staple.der.len()) else { return };
        // SAFETY: the SSL is alive; what is copied is its own, and it frees it.
        unsafe {
            let kind = ffi::SSL_ctrl(ssl, ffi::SSL_CTRL_GET_TLSEXT_STATUS_REQ_TYPE, 0, ptr::null_mut());
            if kind != ffi::TLSEXT_STATUSTYPE_ocsp {
                return;
            }
            let copy = ffi::CRYPTO_memdup(staple.der.as_ptr().cast(), staple.der.len(), c"staple".as_ptr(), 0);
            if !copy.is_null() {
                ffi::SSL_ctrl(ssl, ffi::SSL_CTRL_SET_TLSEXT_STATUS_REQ_OCSP_RESP, len, copy);
            }
        }
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
