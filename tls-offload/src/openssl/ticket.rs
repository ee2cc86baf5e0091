//! Session tickets of a server: libssl seals and opens them, and asks here by which key.
//!
//! **Invariant:** the callback, which may run on a job's small stack, looks up and copies; a ticket whose key is gone means a full handshake.

use std::ffi::{c_int, c_long, c_uchar, c_void};
use std::ptr;
use std::slice;
use std::sync::Arc;

use super::error::{OpenSslError, clear};
use super::ffi;
use super::own::Config;
use crate::tickets::{NAME_BYTES, TicketKey, TicketKeys};

/// Has a configuration seal tickets with these keys. Whoever holds the configuration holds them as well.
pub(super) fn seal_with(config: &Config, keys: &Arc<TicketKeys>) -> Result<(), OpenSslError> {
    let lifetime = c_long::try_from(keys.lifetime().as_secs()).unwrap_or(c_long::MAX);
    let at: *mut c_void = Arc::as_ptr(keys).cast_mut().cast();
    clear();
    // SAFETY: the configuration is ours; the callback has the type that the header asks for, and finds the keys by the pointer.
    unsafe {
        ffi::SSL_CTX_set_timeout(config.as_ptr(), lifetime);
        config.must(ffi::SSL_CTX_set_ex_data(config.as_ptr(), APP_DATA, at) == 1)?;
        config.must(ffi::SSL_CTX_set_tlsext_ticket_key_evp_cb(config.as_ptr(), on_ticket) == 1)
    }
}

/// 1: it is to be used; 2: it is, and the client is to have a new ticket; 0: there is none; -1: a fault.
///
/// # Safety
/// Called by libssl with a session of a configuration that [`seal_with`] was called for, whose server holds the keys.
unsafe extern "C" fn on_ticket(
    ssl: *mut ffi::SSL,
    name: *mut c_uchar,
    iv: *mut c_uchar,
    cipher: *mut ffi::EVP_CIPHER_CTX,
    mac: *mut ffi::EVP_MAC_CTX,
    seals: c_int,
) -> c_int {
    // SAFETY: the session holds its configuration and its server, and the server the keys.
    let keys = unsafe { ffi::SSL_CTX_get_ex_data(ffi::SSL_get_SSL_CTX(ssl), APP_DATA).cast::<TicketKeys>().as_ref() };
    let Some(keys) = keys else { return -1 };
    // SAFETY: the header gives a name 16 bytes.
    let name = unsafe { slice::from_raw_parts_mut(name, NAME_BYTES) };
    if seals == 1 {
        let set = keys.sealing(|key| {
            name.copy_from_slice(&key.name);
            // SAFETY: the header gives an IV 16 bytes; the two contexts are libssl's, for this call.
            unsafe { ffi::RAND_bytes(iv, IV_LEN) == 1 && set_up(key, iv, cipher, mac, true) }
        });
        return if set == Some(true) { 1 } else { -1 };
    }
    let opened = keys.opening(name, |key, is_current| {
        // SAFETY: as above.
        let set = unsafe { set_up(key, iv, cipher, mac, false) };
        // A ticket of TLS 1.3 is used once (RFC 8446 appendix C.4): without a new one the next handshake would be a full one.
        // SAFETY: the session is alive.
        let is_renewed = !is_current || unsafe { ffi::SSL_version(ssl) } == ffi::TLS1_3_VERSION;
        (set, is_renewed)
    });
    match opened {
        None => 0,
        Some((false, _)) => -1,
        Some((true, false)) => 1,
        Some((true, true)) => 2,
    }
}

/// Gives a key to libssl's contexts.
///
/// # Safety
/// `iv` points at 16 bytes, the contexts are alive.
unsafe fn set_up(
    key: &TicketKey,
    iv: *const c_uchar,
    cipher: *mut ffi::EVP_CIPHER_CTX,
    mac: *mut ffi::EVP_MAC_CTX,
    seals: bool,
) -> bool {
    // SAFETY: the caller upholds what is said of the contexts; names end in 0, keys are given with their length and copied, and AES's is as
    // long as its kind wants.
    unsafe {
        let kind = if key.aes.len() == 16 { ffi::EVP_aes_128_cbc() } else { ffi::EVP_aes_256_cbc() };
        let mac_key = key.mac.as_ptr().cast_mut().cast::<c_void>();
        let params = [
            ffi::OSSL_PARAM_construct_octet_string(c"key".as_ptr(), mac_key, key.mac.len()),
            ffi::OSSL_PARAM_construct_utf8_string(c"digest".as_ptr(), c"SHA256".as_ptr().cast_mut(), 0),
            ffi::OSSL_PARAM_construct_end(),
        ];
        let init = if seals { ffi::EVP_EncryptInit_ex } else { ffi::EVP_DecryptInit_ex };
        ffi::EVP_MAC_CTX_set_params(mac, params.as_ptr()) == 1
            && init(cipher, kind, ptr::null_mut(), key.aes.as_ptr(), iv) == 1
    }
}

/// The index of a configuration's application data.
const APP_DATA: c_int = 0;
/// Of AES in CBC mode.
const IV_LEN: c_int = 16;
