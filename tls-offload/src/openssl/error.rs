//! OpenSSL's error queue, taken off the thread and judged.
//!
//! **Invariant:** whoever calls into OpenSSL clears the queue before (R5: an old entry turns a wait into a failure) and takes what is in it
//! right after; no entry is left for the next session on the thread.

use std::ffi::{CStr, c_char, c_ulong};
use std::fmt;

use super::ffi;
use crate::error::{Cause, TlsError};

/// What OpenSSL said: its own text, and what we know beyond it.
#[derive(Debug)]
pub struct OpenSslError {
    code: c_ulong,
    text: Box<str>,
}

impl OpenSslError {
    /// Takes the newest error off the thread's queue and clears it: the newest is the one of the outermost call.
    pub(super) fn take() -> Self {
        // SAFETY: reads and clears the calling thread's own queue.
        let code = unsafe { ffi::ERR_peek_last_error() };
        let error = Self { code, text: describe(code) };
        clear();
        error
    }

    /// Takes the oldest error: the one where it began, for what goes through many hands.
    pub(super) fn take_first() -> Self {
        // SAFETY: reads the calling thread's own queue.
        let code = unsafe { ffi::ERR_peek_error() };
        let error = Self { code, text: describe(code) };
        clear();
        error
    }

    /// The same, or this text when the queue is empty.
    pub(super) fn take_first_or(text: &str) -> Self {
        // SAFETY: reads the calling thread's own queue.
        if unsafe { ffi::ERR_peek_error() } == 0 { Self::with_text(text) } else { Self::take_first() }
    }

    pub(super) fn with_text(text: impl Into<Box<str>>) -> Self {
        Self { code: 0, text: text.into() }
    }

    fn is_of_libssl(&self) -> bool {
        self.code & ffi::ERR_SYSTEM_FLAG == 0
            && (self.code >> ffi::ERR_LIB_OFFSET) & ffi::ERR_LIB_MASK == ffi::ERR_LIB_SSL
    }
}

impl fmt::Display for OpenSslError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for OpenSslError {}

impl From<OpenSslError> for TlsError {
    fn from(error: OpenSslError) -> Self {
        let reason = error.code & ffi::ERR_REASON_MASK;
        let (ours, common) = (!error.is_of_libssl(), reason & ffi::ERR_RFLAG_COMMON != 0);
        let cause = Cause::openssl(error);
        match reason {
            // A library below that failed, or a fault inside: signing, randomness, memory.
            _ if ours || common => Self::Local(cause),
            ffi::SSL_R_CERTIFICATE_VERIFY_FAILED | ffi::SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE => {
                Self::Certificate(cause)
            }
            r if r >= ffi::SSL_AD_REASON_OFFSET => Self::Alert(cause),
            r if ffi::NOTHING_IN_COMMON.contains(&r) => Self::NoAgreement(cause),
            _ => Self::Protocol(cause),
        }
    }
}

/// Empties the thread's queue.
pub(super) fn clear() {
    // SAFETY: touches the calling thread's own queue only.
    unsafe { ffi::ERR_clear_error() }
}

/// A text of OpenSSL's that lives as long as the process.
///
/// # Safety
/// `text` is null or a string constant of OpenSSL's.
pub(super) unsafe fn constant(text: *const c_char) -> Option<&'static str> {
    // SAFETY: the caller upholds that it is a constant, which ends in 0.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_str().ok()).flatten()
}

fn describe(code: c_ulong) -> Box<str> {
    if code == 0 {
        return "OpenSSL gave no reason".into();
    }
    // SAFETY: reason strings of OpenSSL's own libraries are constants; those of a module are as long as it is loaded, and we copy at once.
    if let Some(reason) = unsafe { constant(ffi::ERR_reason_error_string(code)) } {
        return reason.into();
    }
    let mut text = [0u8; 256];
    // SAFETY: it writes at most the given length, with a 0 at its end.
    unsafe { ffi::ERR_error_string_n(code, text.as_mut_ptr().cast(), text.len()) };
    CStr::from_bytes_until_nul(&text).map_or("".into(), |t| t.to_string_lossy().into())
}
