//! What is called of libcrypto, which whoever loads this module has: declarations only, from OpenSSL 3.0's headers.
//!
//! **Invariant:** no logic; a name, a type or a number that is not in OpenSSL's headers is not in this file.

#![allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "the names are OpenSSL's")]

use std::ffi::{c_char, c_int, c_uchar, c_uint, c_void};

macro_rules! opaque {
    ($($name:ident),* $(,)?) => {
        $(#[repr(C)] pub(crate) struct $name { _opaque: [u8; 0] })*
    };
}

opaque!(ASYNC_JOB, ASYNC_WAIT_CTX, EVP_MD_CTX, EVP_PKEY, EVP_PKEY_CTX, OSSL_CORE_HANDLE, OSSL_LIB_CTX);

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct OSSL_PARAM {
    pub(crate) key: *const c_char,
    pub(crate) data_type: c_uint,
    pub(crate) data: *mut c_void,
    pub(crate) data_size: usize,
    pub(crate) return_size: usize,
}

#[repr(C)]
pub(crate) struct OSSL_DISPATCH {
    pub(crate) function_id: c_int,
    pub(crate) function: *const c_void,
}

#[repr(C)]
pub(crate) struct OSSL_ALGORITHM {
    pub(crate) names: *const c_char,
    pub(crate) properties: *const c_char,
    pub(crate) implementation: *const OSSL_DISPATCH,
    pub(crate) description: *const c_char,
}

pub(crate) type ParamCallback = unsafe extern "C" fn(*const OSSL_PARAM, *mut c_void) -> c_int;
pub(crate) type AsyncCallback = unsafe extern "C" fn(*mut c_void) -> c_int;

unsafe extern "C" {
    pub(crate) fn EVP_PKEY_CTX_new_from_name(
        libctx: *mut OSSL_LIB_CTX,
        name: *const c_char,
        propq: *const c_char,
    ) -> *mut EVP_PKEY_CTX;
    pub(crate) fn EVP_PKEY_CTX_free(ctx: *mut EVP_PKEY_CTX);
    pub(crate) fn EVP_PKEY_CTX_set_params(ctx: *mut EVP_PKEY_CTX, params: *const OSSL_PARAM) -> c_int;
    pub(crate) fn EVP_PKEY_fromdata_init(ctx: *mut EVP_PKEY_CTX) -> c_int;
    pub(crate) fn EVP_PKEY_fromdata(
        ctx: *mut EVP_PKEY_CTX,
        key: *mut *mut EVP_PKEY,
        selection: c_int,
        params: *mut OSSL_PARAM,
    ) -> c_int;
    pub(crate) fn EVP_PKEY_todata(key: *const EVP_PKEY, selection: c_int, params: *mut *mut OSSL_PARAM) -> c_int;
    pub(crate) fn EVP_PKEY_get_params(key: *const EVP_PKEY, params: *mut OSSL_PARAM) -> c_int;
    pub(crate) fn EVP_PKEY_get_size(key: *const EVP_PKEY) -> c_int;
    pub(crate) fn EVP_PKEY_eq(a: *const EVP_PKEY, b: *const EVP_PKEY) -> c_int;
    pub(crate) fn EVP_PKEY_up_ref(key: *mut EVP_PKEY) -> c_int;
    pub(crate) fn EVP_PKEY_free(key: *mut EVP_PKEY);
    pub(crate) fn EVP_MD_CTX_new() -> *mut EVP_MD_CTX;
    pub(crate) fn EVP_MD_CTX_free(ctx: *mut EVP_MD_CTX);
    pub(crate) fn EVP_DigestSignInit_ex(
        ctx: *mut EVP_MD_CTX,
        key_ctx: *mut *mut EVP_PKEY_CTX,
        digest: *const c_char,
        libctx: *mut OSSL_LIB_CTX,
        propq: *const c_char,
        key: *mut EVP_PKEY,
        params: *const OSSL_PARAM,
    ) -> c_int;
    pub(crate) fn EVP_DigestSign(
        ctx: *mut EVP_MD_CTX,
        signature: *mut c_uchar,
        len: *mut usize,
        from: *const c_uchar,
        from_len: usize,
    ) -> c_int;
    pub(crate) fn OSSL_PARAM_free(params: *mut OSSL_PARAM);
    pub(crate) fn OSSL_PARAM_locate(params: *mut OSSL_PARAM, key: *const c_char) -> *mut OSSL_PARAM;
    pub(crate) fn OSSL_PARAM_set_int(param: *mut OSSL_PARAM, value: c_int) -> c_int;

    pub(crate) fn ASYNC_get_current_job() -> *mut ASYNC_JOB;
    pub(crate) fn ASYNC_get_wait_ctx(job: *mut ASYNC_JOB) -> *mut ASYNC_WAIT_CTX;
    pub(crate) fn ASYNC_pause_job() -> c_int;
    pub(crate) fn ASYNC_WAIT_CTX_get_callback(
        ctx: *mut ASYNC_WAIT_CTX,
        callback: *mut Option<AsyncCallback>,
        arg: *mut *mut c_void,
    ) -> c_int;
    pub(crate) fn ASYNC_WAIT_CTX_set_wait_fd(
        ctx: *mut ASYNC_WAIT_CTX,
        key: *const c_void,
        fd: c_int,
        custom: *mut c_void,
        cleanup: Option<unsafe extern "C" fn(*mut ASYNC_WAIT_CTX, *const c_void, c_int, *mut c_void)>,
    ) -> c_int;
    pub(crate) fn ASYNC_WAIT_CTX_clear_fd(ctx: *mut ASYNC_WAIT_CTX, key: *const c_void) -> c_int;
    pub(crate) fn ASYNC_WAIT_CTX_set_status(ctx: *mut ASYNC_WAIT_CTX, status: c_int) -> c_int;
}

pub(crate) const ASYNC_STATUS_OK: c_int = 2;
pub(crate) const ASYNC_STATUS_EAGAIN: c_int = 3;

pub(crate) const OSSL_PARAM_UTF8_PTR: c_uint = 6;

pub(crate) const OSSL_OP_KEYMGMT: c_int = 10;
pub(crate) const OSSL_OP_SIGNATURE: c_int = 12;

pub(crate) const PRIVATE_KEY: c_int = 1;
pub(crate) const PUBLIC_KEY: c_int = 2;
pub(crate) const ALL_PARAMETERS: c_int = 0x84;
