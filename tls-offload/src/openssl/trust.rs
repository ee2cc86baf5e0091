//! Whom to trust: stores of certificates and of what is revoked.
//!
//! **Invariant:** a store is complete when it is given to a configuration, and is not changed after.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::{Arc, OnceLock};

use rustls_pki_types::CertificateDer;

use super::error::OpenSslError;
use super::ffi;
use super::own::{Certificate, Config, RevocationList, Store};
use crate::client::{Roots, system_certificates};
use crate::error::ConfigError;
use crate::pem::Pem;
use crate::verify::{has_uri, revocation_lists};

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

/// A URI that a certificate must have. Where a configuration has its address, it is on the heap.
#[derive(Debug)]
pub(super) struct WantedUri(pub(super) Box<str>);

/// Has a configuration take servers by a URI in their certificates. Whoever holds the configuration holds the URI as well.
pub(super) fn verify_uri(config: &Config, uri: &WantedUri) {
    let at: *mut c_void = ptr::from_ref(uri).cast_mut().cast();
    // SAFETY: the configuration is ours; the callback has the type that the header asks for, and finds the URI by the pointer.
    unsafe {
        ffi::SSL_CTX_set_ex_data(config.as_ptr(), uri_index(), at);
        ffi::SSL_CTX_set_verify(config.as_ptr(), ffi::SSL_VERIFY_PEER, Some(on_verified));
    }
}

/// Looks at the URIs of the server's own certificate, which comes last, when all before it was good.
///
/// # Safety
/// Called by libssl for a session of a configuration that [`verify_uri`] was called for.
unsafe extern "C" fn on_verified(is_good: c_int, store: *mut ffi::X509_STORE_CTX) -> c_int {
    // SAFETY: libssl says that the context is alive, and the certificate with it; the session holds its configuration, and that the URI.
    unsafe {
        if is_good != 1 || ffi::X509_STORE_CTX_get_error_depth(store) != 0 {
            return is_good;
        }
        let ssl = ffi::X509_STORE_CTX_get_ex_data(store, ffi::SSL_get_ex_data_X509_STORE_CTX_idx());
        let config = ffi::SSL_get_SSL_CTX(ssl.cast::<ffi::SSL>());
        let uri = ffi::SSL_CTX_get_ex_data(config, uri_index()).cast::<WantedUri>().as_ref();
        let own = Certificate::der_of(ffi::X509_STORE_CTX_get_current_cert(store));
        if uri.is_some_and(|uri| has_uri(&own, &uri.0)) {
            return 1;
        }
        ffi::X509_STORE_CTX_set_error(store, ffi::X509_V_ERR_APPLICATION_VERIFICATION);
        0
    }
}

/// Where a configuration has its URI.
fn uri_index() -> c_int {
    static INDEX: OnceLock<c_int> = OnceLock::new();
    // SAFETY: takes a number of its own, with nothing to be called for it.
    *INDEX.get_or_init(|| unsafe {
        ffi::CRYPTO_get_ex_new_index(ffi::CRYPTO_EX_INDEX_SSL_CTX, 0, ptr::null_mut(), None, None, None)
    })
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
