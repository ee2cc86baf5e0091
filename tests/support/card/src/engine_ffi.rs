//! What the engine calls of libcrypto: declarations only, from OpenSSL 3.0's headers.
//!
//! **Invariant:** no logic; a name, a type or a number that is not in OpenSSL's headers is not in this file.

#![allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "the names are OpenSSL's")]

use std::ffi::{c_char, c_int, c_long, c_uchar, c_uint, c_void};

pub(crate) use crate::ffi::EVP_PKEY;
pub(crate) use crate::ffi::EVP_PKEY_free;

macro_rules! opaque {
    ($($name:ident),* $(,)?) => {
        $(#[repr(C)] pub(crate) struct $name { _opaque: [u8; 0] })*
    };
}

opaque!(BIO, EC_KEY, EC_KEY_METHOD, ENGINE, RSA, RSA_METHOD);

#[repr(C)]
pub(crate) struct ENGINE_CMD_DEFN {
    pub(crate) number: c_uint,
    pub(crate) name: *const c_char,
    pub(crate) description: *const c_char,
    pub(crate) flags: c_uint,
}

pub(crate) type Init = unsafe extern "C" fn(*mut ENGINE) -> c_int;
pub(crate) type Control =
    unsafe extern "C" fn(*mut ENGINE, c_int, c_long, *mut c_void, Option<unsafe extern "C" fn()>) -> c_int;
pub(crate) type LoadKey = unsafe extern "C" fn(*mut ENGINE, *const c_char, *mut c_void, *mut c_void) -> *mut EVP_PKEY;
pub(crate) type EcSign = unsafe extern "C" fn(
    c_int,
    *const c_uchar,
    c_int,
    *mut c_uchar,
    *mut c_uint,
    *const c_void,
    *const c_void,
    *mut EC_KEY,
) -> c_int;
pub(crate) type RsaEncrypt = unsafe extern "C" fn(c_int, *const c_uchar, *mut c_uchar, *mut RSA, c_int) -> c_int;

unsafe extern "C" {
    pub(crate) fn BIO_new_file(name: *const c_char, mode: *const c_char) -> *mut BIO;
    pub(crate) fn BIO_free(bio: *mut BIO) -> c_int;
    pub(crate) fn PEM_read_bio_PrivateKey(
        bio: *mut BIO,
        to: *mut *mut EVP_PKEY,
        ask: *const c_void,
        data: *mut c_void,
    ) -> *mut EVP_PKEY;

    pub(crate) fn EVP_PKEY_new() -> *mut EVP_PKEY;
    pub(crate) fn EVP_PKEY_get1_EC_KEY(key: *mut EVP_PKEY) -> *mut EC_KEY;
    pub(crate) fn EVP_PKEY_get1_RSA(key: *mut EVP_PKEY) -> *mut RSA;
    pub(crate) fn EVP_PKEY_set1_EC_KEY(key: *mut EVP_PKEY, ec: *mut EC_KEY) -> c_int;
    pub(crate) fn EVP_PKEY_set1_RSA(key: *mut EVP_PKEY, rsa: *mut RSA) -> c_int;
    pub(crate) fn CRYPTO_get_ex_new_index(
        of: c_int,
        number: c_long,
        data: *mut c_void,
        new: *mut c_void,
        dup: *mut c_void,
        free: *mut c_void,
    ) -> c_int;

    pub(crate) fn EC_KEY_OpenSSL() -> *const EC_KEY_METHOD;
    pub(crate) fn EC_KEY_METHOD_new(of: *const EC_KEY_METHOD) -> *mut EC_KEY_METHOD;
    pub(crate) fn EC_KEY_METHOD_get_sign(
        method: *const EC_KEY_METHOD,
        sign: *mut Option<EcSign>,
        setup: *mut *mut c_void,
        raw: *mut *mut c_void,
    );
    pub(crate) fn EC_KEY_METHOD_set_sign(
        method: *mut EC_KEY_METHOD,
        sign: EcSign,
        setup: *mut c_void,
        raw: *mut c_void,
    );
    pub(crate) fn EC_KEY_set_method(key: *mut EC_KEY, method: *const c_void) -> c_int;
    pub(crate) fn EC_KEY_set_ex_data(key: *mut EC_KEY, index: c_int, data: *mut c_void) -> c_int;
    pub(crate) fn EC_KEY_get_ex_data(key: *const EC_KEY, index: c_int) -> *mut c_void;
    pub(crate) fn EC_KEY_up_ref(key: *mut EC_KEY) -> c_int;
    pub(crate) fn EC_KEY_free(key: *mut EC_KEY);
    pub(crate) fn ECDSA_size(key: *const EC_KEY) -> c_int;

    pub(crate) fn RSA_PKCS1_OpenSSL() -> *const RSA_METHOD;
    pub(crate) fn RSA_meth_dup(method: *const RSA_METHOD) -> *mut RSA_METHOD;
    pub(crate) fn RSA_meth_get_priv_enc(method: *const RSA_METHOD) -> Option<RsaEncrypt>;
    pub(crate) fn RSA_meth_set_priv_enc(method: *mut RSA_METHOD, encrypt: RsaEncrypt) -> c_int;
    pub(crate) fn RSA_set_method(key: *mut RSA, method: *const c_void) -> c_int;
    pub(crate) fn RSA_set_ex_data(key: *mut RSA, index: c_int, data: *mut c_void) -> c_int;
    pub(crate) fn RSA_get_ex_data(key: *const RSA, index: c_int) -> *mut c_void;
    pub(crate) fn RSA_up_ref(key: *mut RSA) -> c_int;
    pub(crate) fn RSA_free(key: *mut RSA);
    pub(crate) fn RSA_size(key: *const RSA) -> c_int;
}

pub(crate) const CRYPTO_EX_INDEX_EC_KEY: c_int = 8;
pub(crate) const CRYPTO_EX_INDEX_RSA: c_int = 9;
