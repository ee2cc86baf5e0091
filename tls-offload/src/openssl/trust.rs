//! Whom to trust: stores of certificates and of what is revoked.
//!
//! **Invariant:** a store is complete when it is given to a configuration, and is not changed after.

use std::sync::{Arc, OnceLock};

use rustls_pki_types::CertificateDer;

use super::error::OpenSslError;
use super::ffi;
use super::own::{Certificate, Config, RevocationList, Store};
use crate::client::{Roots, system_certificates};
use crate::error::ConfigError;
use crate::pem::Pem;
use crate::verify::revocation_lists;

/// The store of a client; None: it trusts anyone.
pub(super) fn trusted(roots: &Roots, revoked: Option<&Pem>) -> Result<Option<Arc<Store>>, ConfigError> {
    match (roots, revoked) {
        (Roots::Insecure, _) => Ok(None),
        (Roots::System, None) => system_store().map(Some),
        (Roots::System, Some(revoked)) => {
            let store = of_system()?;
            revoke(&store, revoked)?;
            Ok(Some(Arc::new(store)))
        }
        (Roots::Pem(roots), revoked) => Ok(Some(Arc::new(store_of(roots, revoked)?))),
    }
}

/// A store of exactly these.
pub(super) fn store_of(roots: &Pem, revoked: Option<&Pem>) -> Result<Store, ConfigError> {
    let store = new_store();
    for (index, der) in roots.certificates()?.iter().enumerate() {
        add(&store, der).map_err(|_| ConfigError::BadCertificate { place: roots.place(), number: index + 1 })?;
    }
    if let Some(revoked) = revoked {
        revoke(&store, revoked)?;
    }
    Ok(store)
}

/// Has a configuration verify its peers by a store.
pub(super) fn trust(config: &Config, store: &Store) {
    // SAFETY: the configuration is ours, and takes the reference that is made for it.
    unsafe {
        ffi::X509_STORE_up_ref(store.as_ptr());
        ffi::SSL_CTX_set_cert_store(config.as_ptr(), store.as_ptr());
        ffi::SSL_CTX_set_verify(config.as_ptr(), ffi::SSL_VERIFY_PEER, None);
    }
}

/// The system's roots, read once per process.
fn system_store() -> Result<Arc<Store>, ConfigError> {
    static ROOTS: OnceLock<Arc<Store>> = OnceLock::new();
    if let Some(store) = ROOTS.get() {
        return Ok(Arc::clone(store));
    }
    let store = Arc::new(of_system()?);
    Ok(Arc::clone(ROOTS.get_or_init(|| store)))
}

fn of_system() -> Result<Store, ConfigError> {
    let store = new_store();
    // One certificate that can't be read must not take the others away.
    let count = system_certificates().iter().filter(|der| add(&store, der).is_ok()).count();
    if count == 0 { Err(ConfigError::NoSystemRoots) } else { Ok(store) }
}

fn new_store() -> Store {
    // SAFETY: what is made is ours.
    let store = unsafe { Store::from_raw(ffi::X509_STORE_new()) }.expect("fails only for want of memory");
    // SAFETY: the store is ours. Every certificate that is given is an anchor, whether it is self-signed or not.
    unsafe { ffi::X509_STORE_set_flags(store.as_ptr(), ffi::X509_V_FLAG_PARTIAL_CHAIN) };
    store
}

fn add(store: &Store, der: &CertificateDer<'_>) -> Result<(), OpenSslError> {
    let certificate = Certificate::from_der(der)?;
    // SAFETY: both are alive; the store takes a reference of its own.
    let added = unsafe { ffi::X509_STORE_add_cert(store.as_ptr(), certificate.as_ptr()) } == 1;
    if added { Ok(()) } else { Err(OpenSslError::take()) }
}

/// Has a store look at revocation lists, for every certificate of a chain.
fn revoke(store: &Store, revoked: &Pem) -> Result<(), ConfigError> {
    for (index, der) in revocation_lists(revoked)?.iter().enumerate() {
        let bad = || ConfigError::BadRevocationList { place: revoked.place(), number: index + 1 };
        let list = RevocationList::from_der(der).ok_or_else(bad)?;
        // SAFETY: both are alive; the store takes a reference of its own.
        let added = unsafe { ffi::X509_STORE_add_crl(store.as_ptr(), list.as_ptr()) } == 1;
        if !added {
            return Err(bad());
        }
    }
    // SAFETY: the store is ours.
    unsafe {
        ffi::X509_STORE_set_flags(store.as_ptr(), ffi::X509_V_FLAG_CRL_CHECK | ffi::X509_V_FLAG_CRL_CHECK_ALL);
    }
    Ok(())
}
