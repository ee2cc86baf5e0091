//! The card's keys: imported from parameters, and from then on good for signing only.
//!
//! **Invariant:** a private key never leaves: an export that asks for it is refused, so that nobody signs in software by accident.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

use crate::ffi::{self, EVP_PKEY, OSSL_DISPATCH, OSSL_PARAM, ParamCallback};
use crate::provider::{END, END_OF_PARAMS, Table};

/// A key as libcrypto holds it for us.
pub(crate) struct Key {
    kind: &'static CStr,
    /// The key that computes. Null before the import.
    pub(crate) inner: *mut EVP_PKEY,
    has_private: bool,
}

impl Drop for Key {
    fn drop(&mut self) {
        // SAFETY: ours, or null.
        unsafe { ffi::EVP_PKEY_free(self.inner) };
    }
}

/// The functions for EC and for RSA.
pub(crate) static KEYS: [Table<OSSL_DISPATCH>; 2] = [Table(&EC), Table(&RSA)];

const EC: [OSSL_DISPATCH; 12] = functions(new_ec as *const c_void, operation_of_ec as *const c_void);
const RSA: [OSSL_DISPATCH; 12] = functions(new_rsa as *const c_void, operation_of_rsa as *const c_void);

/// Those of one kind of key, of which two are its own.
const fn functions(new: *const c_void, operation_of: *const c_void) -> [OSSL_DISPATCH; 12] {
    [
        OSSL_DISPATCH { function_id: 1, function: new },
        OSSL_DISPATCH { function_id: 20, function: operation_of },
        FREE,
        GET,
        GETTABLE,
        HAS,
        MATCH,
        IMPORT,
        IMPORT_TYPES,
        EXPORT,
        EXPORT_TYPES,
        END,
    ]
}

const FREE: OSSL_DISPATCH = OSSL_DISPATCH { function_id: 10, function: free as *const c_void };
const GET: OSSL_DISPATCH = OSSL_DISPATCH { function_id: 11, function: get_params as *const c_void };
const GETTABLE: OSSL_DISPATCH = OSSL_DISPATCH { function_id: 12, function: gettable as *const c_void };
const HAS: OSSL_DISPATCH = OSSL_DISPATCH { function_id: 21, function: has as *const c_void };
const MATCH: OSSL_DISPATCH = OSSL_DISPATCH { function_id: 23, function: matches as *const c_void };
const IMPORT: OSSL_DISPATCH = OSSL_DISPATCH { function_id: 40, function: import as *const c_void };
const IMPORT_TYPES: OSSL_DISPATCH = OSSL_DISPATCH { function_id: 41, function: types as *const c_void };
const EXPORT: OSSL_DISPATCH = OSSL_DISPATCH { function_id: 42, function: export as *const c_void };
const EXPORT_TYPES: OSSL_DISPATCH = OSSL_DISPATCH { function_id: 43, function: types as *const c_void };

fn new(kind: &'static CStr) -> *mut c_void {
    Box::into_raw(Box::new(Key { kind, inner: ptr::null_mut(), has_private: false })).cast()
}

/// # Safety
/// Called by libcrypto.
unsafe extern "C" fn new_ec(_card: *mut c_void) -> *mut c_void {
    new(c"EC")
}

/// # Safety
/// Called by libcrypto.
unsafe extern "C" fn new_rsa(_card: *mut c_void) -> *mut c_void {
    new(c"RSA")
}

/// # Safety
/// Called by libcrypto.
unsafe extern "C" fn operation_of_ec(operation: c_int) -> *const c_char {
    if operation == ffi::OSSL_OP_SIGNATURE { c"ECDSA".as_ptr() } else { c"EC".as_ptr() }
}

/// # Safety
/// Called by libcrypto.
unsafe extern "C" fn operation_of_rsa(_operation: c_int) -> *const c_char {
    c"RSA".as_ptr()
}

/// # Safety
/// Called by libcrypto with a key of ours, for the last time.
unsafe extern "C" fn free(key: *mut c_void) {
    if !key.is_null() {
        // SAFETY: made by `new`.
        drop(unsafe { Box::from_raw(key.cast::<Key>()) });
    }
}

/// # Safety
/// Called by libcrypto with a key of ours.
unsafe extern "C" fn has(key: *const c_void, selection: c_int) -> c_int {
    // SAFETY: made by `new`.
    let key = unsafe { &*key.cast::<Key>() };
    c_int::from(!key.inner.is_null() && (selection & ffi::PRIVATE_KEY == 0 || key.has_private))
}

/// # Safety
/// Called by libcrypto with two keys of ours.
unsafe extern "C" fn matches(a: *const c_void, b: *const c_void, _selection: c_int) -> c_int {
    // SAFETY: made by `new`.
    let (a, b) = unsafe { (&*a.cast::<Key>(), &*b.cast::<Key>()) };
    // SAFETY: both were imported.
    c_int::from(!a.inner.is_null() && !b.inner.is_null() && unsafe { ffi::EVP_PKEY_eq(a.inner, b.inner) } == 1)
}

/// # Safety
/// Called by libcrypto with a key of ours and a list that ends in a null key.
unsafe extern "C" fn import(key: *mut c_void, selection: c_int, params: *const OSSL_PARAM) -> c_int {
    // SAFETY: made by `new`, and nobody else's during the import.
    let key = unsafe { &mut *key.cast::<Key>() };
    // SAFETY: the list is the caller's; what is made here is freed here.
    unsafe {
        let maker = ffi::EVP_PKEY_CTX_new_from_name(ptr::null_mut(), key.kind.as_ptr(), ptr::null());
        let mut inner = ptr::null_mut();
        let made = !maker.is_null()
            && ffi::EVP_PKEY_fromdata_init(maker) == 1
            && ffi::EVP_PKEY_fromdata(maker, &raw mut inner, selection, params.cast_mut()) == 1;
        ffi::EVP_PKEY_CTX_free(maker);
        if !made {
            return 0;
        }
        ffi::EVP_PKEY_free(key.inner);
        key.inner = inner;
        let secret = |name: &CStr| !ffi::OSSL_PARAM_locate(params.cast_mut(), name.as_ptr()).is_null();
        key.has_private = selection & ffi::PRIVATE_KEY != 0 && (secret(c"priv") || secret(c"d"));
    }
    1
}

/// # Safety
/// Called by libcrypto with a key of ours.
unsafe extern "C" fn export(key: *mut c_void, selection: c_int, to: ParamCallback, arg: *mut c_void) -> c_int {
    // SAFETY: made by `new`.
    let key = unsafe { &*key.cast::<Key>() };
    if key.inner.is_null() || (selection & ffi::PRIVATE_KEY != 0 && key.has_private) {
        return 0;
    }
    let public = selection & (ffi::PUBLIC_KEY | ffi::ALL_PARAMETERS);
    let mut params = ptr::null_mut();
    // SAFETY: the list that is made here is freed here, after the caller has read it.
    unsafe {
        if ffi::EVP_PKEY_todata(key.inner, public, &raw mut params) != 1 {
            return 0;
        }
        let taken = to(params, arg);
        ffi::OSSL_PARAM_free(params);
        taken
    }
}

/// # Safety
/// Called by libcrypto with a key of ours and a list that ends in a null key.
unsafe extern "C" fn get_params(key: *mut c_void, params: *mut OSSL_PARAM) -> c_int {
    // SAFETY: made by `new`.
    let key = unsafe { &*key.cast::<Key>() };
    // SAFETY: the list is the caller's. What the inner key does not know stays unset.
    c_int::from(!key.inner.is_null() && unsafe { ffi::EVP_PKEY_get_params(key.inner, params) } == 1)
}

/// # Safety
/// Called by libcrypto.
unsafe extern "C" fn gettable(_card: *mut c_void) -> *const OSSL_PARAM {
    GETTABLES.0.as_ptr()
}

/// # Safety
/// Called by libcrypto.
unsafe extern "C" fn types(_selection: c_int) -> *const OSSL_PARAM {
    TYPES.0.as_ptr()
}

static GETTABLES: Table<OSSL_PARAM> = Table(&[
    named(c"bits", 1),
    named(c"security-bits", 1),
    named(c"max-size", 1),
    named(c"default-digest", 4),
    named(c"group", 4),
    named(c"point-format", 4),
    named(c"encoded-pub-key", 5),
    END_OF_PARAMS,
]);

/// Of both kinds; a list names what may come, not what must.
static TYPES: Table<OSSL_PARAM> = Table(&[
    named(c"group", 4),
    named(c"pub", 5),
    named(c"priv", 2),
    named(c"n", 2),
    named(c"e", 2),
    named(c"d", 2),
    END_OF_PARAMS,
]);

const fn named(key: &'static CStr, data_type: u32) -> OSSL_PARAM {
    OSSL_PARAM { key: key.as_ptr(), data_type, data: ptr::null_mut(), data_size: 0, return_size: usize::MAX }
}
