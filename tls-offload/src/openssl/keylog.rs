//! The keys of sessions, for whoever is to look into the traffic: libssl tells them line by line.
//!
//! **Invariant:** only configurations that were given a file tell anything.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::Path;
use std::ptr;
use std::sync::{Arc, OnceLock};

use super::ffi;
use super::own::Config;
use crate::error::ConfigError;
use crate::keylog::KeyLogFile;

/// Has a configuration tell the keys of its sessions, if there is a file for them. Whoever holds the configuration holds the file as well.
pub(super) fn tell_to(config: &Config, path: Option<&Path>) -> Result<Option<Arc<KeyLogFile>>, ConfigError> {
    let Some(path) = path else { return Ok(None) };
    let file = KeyLogFile::open(path)?;
    let at: *mut c_void = Arc::as_ptr(&file).cast_mut().cast();
    // SAFETY: the configuration is ours; the callback has the type that the header asks for, and finds the file by the pointer.
    unsafe {
        ffi::SSL_CTX_set_ex_data(config.as_ptr(), index(), at);
        ffi::SSL_CTX_set_keylog_callback(config.as_ptr(), on_line);
    }
    Ok(Some(file))
}

/// # Safety
/// Called by libssl with a session of a configuration that [`tell_to`] was called for, and a text that ends in 0.
unsafe extern "C" fn on_line(ssl: *const ffi::SSL, line: *const c_char) {
    // SAFETY: the session holds its configuration and what that was made with, the file among it.
    let file = unsafe { ffi::SSL_CTX_get_ex_data(ffi::SSL_get_SSL_CTX(ssl), index()).cast::<KeyLogFile>().as_ref() };
    if let Some(file) = file {
        // SAFETY: libssl says so.
        file.put(unsafe { CStr::from_ptr(line) }.to_bytes());
    }
}

/// Where a configuration has its file.
fn index() -> c_int {
    static INDEX: OnceLock<c_int> = OnceLock::new();
    // SAFETY: takes a number of its own, with nothing to be called for it.
    *INDEX.get_or_init(|| unsafe {
        ffi::CRYPTO_get_ex_new_index(ffi::CRYPTO_EX_INDEX_SSL_CTX, 0, ptr::null_mut(), None, None, None)
    })
}
