//! Private keys by URI, through OSSL_STORE: `pkcs11:` where a provider has it, `file:` everywhere.
//!
//! **Invariant:** asks nobody for a passphrase: what a key needs stands in its URI or in the provider's parameters.

use std::ffi::CStr;
use std::ptr;

use super::error::{OpenSslError, clear};
use super::ffi;
use super::own::{LibCtx, PrivateKey, Stored};

/// The first private key that the URI names.
pub(super) fn private_key(context: &LibCtx, uri: &CStr) -> Result<PrivateKey, OpenSslError> {
    clear();
    let none = ptr::null_mut();
    // SAFETY: the context lives on, the URI ends in 0, and nobody is asked or called back.
    let store = unsafe {
        ffi::OSSL_STORE_open_ex(uri.as_ptr(), context.as_ptr(), ptr::null(), none, none, ptr::null(), None, none)
    };
    let store = Open(store);
    if store.0.is_null() {
        return Err(OpenSslError::take_first());
    }
    // SAFETY: the store is open; what it gives is owned at once.
    unsafe {
        ffi::OSSL_STORE_expect(store.0, ffi::OSSL_STORE_INFO_PKEY);
        while ffi::OSSL_STORE_eof(store.0) == 0 {
            let Some(stored) = Stored::from_raw(ffi::OSSL_STORE_load(store.0)) else { continue };
            if ffi::OSSL_STORE_INFO_get_type(stored.as_ptr()) == ffi::OSSL_STORE_INFO_PKEY {
                let key = PrivateKey::from_raw(ffi::OSSL_STORE_INFO_get1_PKEY(stored.as_ptr()));
                return key.ok_or_else(OpenSslError::take);
            }
        }
    }
    Err(OpenSslError::take_first_or("there is no such key"))
}

/// A store while it is read.
struct Open(*mut ffi::OSSL_STORE_CTX);

impl Drop for Open {
    fn drop(&mut self) {
        // SAFETY: opened here, or null.
        unsafe { ffi::OSSL_STORE_close(self.0) };
    }
}
