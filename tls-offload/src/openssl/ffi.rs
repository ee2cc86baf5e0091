//! What is called of libssl and libcrypto: declarations only, as the headers of OpenSSL 3.0 have them; 4.x differs in `const` alone.
//!
//! Macros of the headers are the controls that they stand for. What a newer OpenSSL has no more (ENGINE) is not here but found at run time.
//!
//! **Invariant:** no logic; a name, a type or a number that is not in OpenSSL's headers is not in this file.

#![allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "the names are OpenSSL's")]

use std::ffi::{c_char, c_int, c_long, c_uchar, c_uint, c_ulong, c_void};

/// Types that are only ever pointed to.
macro_rules! opaque {
    ($($name:ident),* $(,)?) => {
        $(#[repr(C)] pub(super) struct $name { _opaque: [u8; 0] })*
    };
}

opaque!(
    ASYNC_JOB,
    ASYNC_WAIT_CTX,
    BIO,
    BIO_METHOD,
    ENGINE,
    EVP_CIPHER,
    EVP_CIPHER_CTX,
    EVP_KEYEXCH,
    EVP_KEYMGMT,
    EVP_MAC_CTX,
    EVP_MD_CTX,
    EVP_PKEY,
    OPENSSL_STACK,
    EVP_PKEY_CTX,
    EVP_SIGNATURE,
    OSSL_LIB_CTX,
    OSSL_PROVIDER,
    OSSL_STORE_CTX,
    OSSL_STORE_INFO,
    OSSL_STORE_LOADER,
    SSL,
    SSL_CIPHER,
    SSL_CTX,
    SSL_METHOD,
    SSL_SESSION,
    X509,
    X509_CRL,
    X509_STORE,
    X509_STORE_CTX,
    X509_VERIFY_PARAM,
);

/// A named value, in a list that ends in a null key.
#[repr(C)]
pub(super) struct OSSL_PARAM {
    key: *const c_char,
    data_type: c_uint,
    data: *mut c_void,
    data_size: usize,
    return_size: usize,
}

pub(super) type VerifyCallback = unsafe extern "C" fn(c_int, *mut X509_STORE_CTX) -> c_int;
pub(super) type AlpnSelect =
    unsafe extern "C" fn(*mut SSL, *mut *const c_uchar, *mut c_uchar, *const c_uchar, c_uint, *mut c_void) -> c_int;

pub(super) type TicketKeyCallback =
    unsafe extern "C" fn(*mut SSL, *mut c_uchar, *mut c_uchar, *mut EVP_CIPHER_CTX, *mut EVP_MAC_CTX, c_int) -> c_int;

// libssl: configurations.
unsafe extern "C" {
    pub(super) fn TLS_method() -> *const SSL_METHOD;
    pub(super) fn SSL_CTX_new_ex(
        libctx: *mut OSSL_LIB_CTX,
        propq: *const c_char,
        method: *const SSL_METHOD,
    ) -> *mut SSL_CTX;
    pub(super) fn SSL_CTX_free(ctx: *mut SSL_CTX);
    pub(super) fn SSL_CTX_ctrl(ctx: *mut SSL_CTX, cmd: c_int, larg: c_long, parg: *mut c_void) -> c_long;
    pub(super) fn SSL_CTX_callback_ctrl(ctx: *mut SSL_CTX, cmd: c_int, callback: unsafe extern "C" fn()) -> c_long;
    pub(super) fn SSL_CTX_set_options(ctx: *mut SSL_CTX, options: u64) -> u64;
    pub(super) fn SSL_CTX_set_cipher_list(ctx: *mut SSL_CTX, list: *const c_char) -> c_int;
    pub(super) fn SSL_CTX_set_ciphersuites(ctx: *mut SSL_CTX, list: *const c_char) -> c_int;
    pub(super) fn SSL_CTX_set_num_tickets(ctx: *mut SSL_CTX, tickets: usize) -> c_int;
    pub(super) fn SSL_CTX_set_session_id_context(ctx: *mut SSL_CTX, id: *const c_uchar, len: c_uint) -> c_int;
    pub(super) fn SSL_CTX_set_verify(ctx: *mut SSL_CTX, mode: c_int, callback: Option<VerifyCallback>);
    pub(super) fn SSL_CTX_add_client_CA(ctx: *mut SSL_CTX, cert: *mut X509) -> c_int;
    pub(super) fn SSL_CTX_set_cert_store(ctx: *mut SSL_CTX, store: *mut X509_STORE);
    pub(super) fn SSL_CTX_set_cert_cb(
        ctx: *mut SSL_CTX,
        callback: unsafe extern "C" fn(*mut SSL, *mut c_void) -> c_int,
        arg: *mut c_void,
    );
    pub(super) fn SSL_CTX_use_cert_and_key(
        ctx: *mut SSL_CTX,
        cert: *mut X509,
        key: *mut EVP_PKEY,
        chain: *mut OPENSSL_STACK,
        replace: c_int,
    ) -> c_int;
    pub(super) fn SSL_CTX_set_alpn_select_cb(ctx: *mut SSL_CTX, callback: AlpnSelect, arg: *mut c_void);
    /// 0 is success.
    pub(super) fn SSL_CTX_set_alpn_protos(ctx: *mut SSL_CTX, protos: *const c_uchar, len: c_uint) -> c_int;
    pub(super) fn SSL_select_next_proto(
        out: *mut *mut c_uchar,
        out_len: *mut c_uchar,
        server: *const c_uchar,
        server_len: c_uint,
        client: *const c_uchar,
        client_len: c_uint,
    ) -> c_int;
    pub(super) fn SSL_CTX_set_keylog_callback(
        ctx: *mut SSL_CTX,
        callback: unsafe extern "C" fn(*const SSL, *const c_char),
    );
    pub(super) fn SSL_CTX_set_timeout(ctx: *mut SSL_CTX, seconds: c_long) -> c_long;
    pub(super) fn SSL_CTX_set_ex_data(ctx: *mut SSL_CTX, index: c_int, data: *mut c_void) -> c_int;
    pub(super) fn SSL_CTX_get_ex_data(ctx: *const SSL_CTX, index: c_int) -> *mut c_void;
    pub(super) fn SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx: *mut SSL_CTX, callback: TicketKeyCallback) -> c_int;
    pub(super) fn SSL_CTX_sess_set_new_cb(
        ctx: *mut SSL_CTX,
        callback: unsafe extern "C" fn(*mut SSL, *mut SSL_SESSION) -> c_int,
    );
}

// libssl: sessions.
unsafe extern "C" {
    pub(super) fn SSL_new(ctx: *mut SSL_CTX) -> *mut SSL;
    pub(super) fn SSL_free(ssl: *mut SSL);
    pub(super) fn SSL_get_SSL_CTX(ssl: *const SSL) -> *mut SSL_CTX;
    pub(super) fn SSL_ctrl(ssl: *mut SSL, cmd: c_int, larg: c_long, parg: *mut c_void) -> c_long;
    pub(super) fn SSL_set_bio(ssl: *mut SSL, read: *mut BIO, write: *mut BIO);
    pub(super) fn SSL_set_accept_state(ssl: *mut SSL);
    pub(super) fn SSL_set_connect_state(ssl: *mut SSL);
    pub(super) fn SSL_do_handshake(ssl: *mut SSL) -> c_int;
    pub(super) fn SSL_read_ex(ssl: *mut SSL, to: *mut c_void, len: usize, read: *mut usize) -> c_int;
    pub(super) fn SSL_write_ex(ssl: *mut SSL, from: *const c_void, len: usize, written: *mut usize) -> c_int;
    pub(super) fn SSL_shutdown(ssl: *mut SSL) -> c_int;
    pub(super) fn SSL_set_shutdown(ssl: *mut SSL, mode: c_int);
    pub(super) fn SSL_key_update(ssl: *mut SSL, kind: c_int) -> c_int;
    pub(super) fn SSL_get_error(ssl: *const SSL, ret: c_int) -> c_int;
    pub(super) fn SSL_set_ex_data(ssl: *mut SSL, index: c_int, data: *mut c_void) -> c_int;
    pub(super) fn SSL_get_ex_data(ssl: *const SSL, index: c_int) -> *mut c_void;
    pub(super) fn SSL_get_servername(ssl: *const SSL, kind: c_int) -> *const c_char;
    /// 0 is success.
    pub(super) fn SSL_set_alpn_protos(ssl: *mut SSL, protos: *const c_uchar, len: c_uint) -> c_int;
    pub(super) fn SSL_get0_alpn_selected(ssl: *const SSL, data: *mut *const c_uchar, len: *mut c_uint);
    pub(super) fn SSL_version(ssl: *const SSL) -> c_int;
    pub(super) fn SSL_get_current_cipher(ssl: *const SSL) -> *const SSL_CIPHER;
    pub(super) fn SSL_CIPHER_standard_name(cipher: *const SSL_CIPHER) -> *const c_char;
    pub(super) fn SSL_session_reused(ssl: *const SSL) -> c_int;
    pub(super) fn SSL_get_ex_data_X509_STORE_CTX_idx() -> c_int;
    pub(super) fn SSL_get_verify_result(ssl: *const SSL) -> c_long;
    /// No reference is given.
    pub(super) fn SSL_get0_peer_certificate(ssl: *const SSL) -> *mut X509;
    pub(super) fn SSL_get_peer_cert_chain(ssl: *const SSL) -> *mut OPENSSL_STACK;
    pub(super) fn SSL_get0_param(ssl: *mut SSL) -> *mut X509_VERIFY_PARAM;
    pub(super) fn SSL_get1_session(ssl: *mut SSL) -> *mut SSL_SESSION;
    pub(super) fn SSL_set_session(ssl: *mut SSL, session: *mut SSL_SESSION) -> c_int;
    pub(super) fn SSL_use_cert_and_key(
        ssl: *mut SSL,
        cert: *mut X509,
        key: *mut EVP_PKEY,
        chain: *mut OPENSSL_STACK,
        replace: c_int,
    ) -> c_int;
    /// Says how many there are; a negative index only asks for that.
    pub(super) fn SSL_get_sigalgs(
        ssl: *mut SSL,
        index: c_int,
        sign: *mut c_int,
        hash: *mut c_int,
        both: *mut c_int,
        low: *mut c_uchar,
        high: *mut c_uchar,
    ) -> c_int;
    pub(super) fn SSL_SESSION_free(session: *mut SSL_SESSION);
    pub(super) fn SSL_SESSION_up_ref(session: *mut SSL_SESSION) -> c_int;
    pub(super) fn SSL_SESSION_is_resumable(session: *const SSL_SESSION) -> c_int;
    pub(super) fn SSL_SESSION_get_protocol_version(session: *const SSL_SESSION) -> c_int;
}

// libcrypto: errors, stacks, BIO.
unsafe extern "C" {
    pub(super) fn ERR_clear_error();
    pub(super) fn ERR_peek_error() -> c_ulong;
    pub(super) fn ERR_peek_last_error() -> c_ulong;
    pub(super) fn ERR_error_string_n(code: c_ulong, text: *mut c_char, len: usize);
    pub(super) fn ERR_reason_error_string(code: c_ulong) -> *const c_char;

    pub(super) fn OPENSSL_sk_new_null() -> *mut OPENSSL_STACK;
    pub(super) fn OPENSSL_sk_push(stack: *mut OPENSSL_STACK, data: *const c_void) -> c_int;
    /// -1 for a null pointer.
    pub(super) fn OPENSSL_sk_num(stack: *const OPENSSL_STACK) -> c_int;
    pub(super) fn OPENSSL_sk_value(stack: *const OPENSSL_STACK, index: c_int) -> *mut c_void;
    pub(super) fn OPENSSL_sk_free(stack: *mut OPENSSL_STACK);

    pub(super) fn BIO_get_new_index() -> c_int;
    pub(super) fn BIO_meth_new(kind: c_int, name: *const c_char) -> *mut BIO_METHOD;
    pub(super) fn BIO_meth_set_read(
        method: *mut BIO_METHOD,
        read: unsafe extern "C" fn(*mut BIO, *mut c_char, c_int) -> c_int,
    ) -> c_int;
    pub(super) fn BIO_meth_set_write(
        method: *mut BIO_METHOD,
        write: unsafe extern "C" fn(*mut BIO, *const c_char, c_int) -> c_int,
    ) -> c_int;
    pub(super) fn BIO_meth_set_ctrl(
        method: *mut BIO_METHOD,
        ctrl: unsafe extern "C" fn(*mut BIO, c_int, c_long, *mut c_void) -> c_long,
    ) -> c_int;
    pub(super) fn BIO_meth_set_destroy(
        method: *mut BIO_METHOD,
        destroy: unsafe extern "C" fn(*mut BIO) -> c_int,
    ) -> c_int;
    pub(super) fn BIO_new(method: *const BIO_METHOD) -> *mut BIO;
    pub(super) fn BIO_set_init(bio: *mut BIO, init: c_int);
    pub(super) fn BIO_set_data(bio: *mut BIO, data: *mut c_void);
    pub(super) fn BIO_get_data(bio: *mut BIO) -> *mut c_void;
    pub(super) fn BIO_set_flags(bio: *mut BIO, flags: c_int);
    pub(super) fn BIO_clear_flags(bio: *mut BIO, flags: c_int);
}

// libcrypto: certificates and keys.
unsafe extern "C" {
    pub(super) fn d2i_X509(to: *mut *mut X509, der: *mut *const c_uchar, len: c_long) -> *mut X509;
    pub(super) fn i2d_X509(cert: *const X509, der: *mut *mut c_uchar) -> c_int;
    /// 0: the same.
    pub(super) fn X509_cmp(one: *const X509, other: *const X509) -> c_int;
    pub(super) fn X509_free(cert: *mut X509);
    pub(super) fn X509_check_private_key(cert: *const X509, key: *const EVP_PKEY) -> c_int;
    pub(super) fn X509_verify_cert_error_string(code: c_long) -> *const c_char;
    pub(super) fn d2i_X509_CRL(to: *mut *mut X509_CRL, der: *mut *const c_uchar, len: c_long) -> *mut X509_CRL;
    pub(super) fn X509_CRL_free(list: *mut X509_CRL);
    pub(super) fn X509_STORE_add_crl(store: *mut X509_STORE, list: *mut X509_CRL) -> c_int;
    pub(super) fn X509_STORE_CTX_get_error_depth(store: *const X509_STORE_CTX) -> c_int;
    pub(super) fn X509_STORE_CTX_get_current_cert(store: *const X509_STORE_CTX) -> *mut X509;
    pub(super) fn X509_STORE_CTX_get_ex_data(store: *const X509_STORE_CTX, index: c_int) -> *mut c_void;
    pub(super) fn X509_STORE_CTX_set_error(store: *mut X509_STORE_CTX, error: c_int);
    pub(super) fn X509_STORE_new() -> *mut X509_STORE;
    pub(super) fn X509_STORE_free(store: *mut X509_STORE);
    pub(super) fn X509_STORE_up_ref(store: *mut X509_STORE) -> c_int;
    pub(super) fn X509_STORE_add_cert(store: *mut X509_STORE, cert: *mut X509) -> c_int;
    pub(super) fn X509_STORE_set_flags(store: *mut X509_STORE, flags: c_ulong) -> c_int;
    pub(super) fn X509_VERIFY_PARAM_set1_host(param: *mut X509_VERIFY_PARAM, name: *const c_char, len: usize) -> c_int;
    pub(super) fn X509_VERIFY_PARAM_set1_ip(param: *mut X509_VERIFY_PARAM, ip: *const c_uchar, len: usize) -> c_int;
    pub(super) fn X509_VERIFY_PARAM_set_hostflags(param: *mut X509_VERIFY_PARAM, flags: c_uint);
    pub(super) fn d2i_AutoPrivateKey_ex(
        to: *mut *mut EVP_PKEY,
        der: *mut *const c_uchar,
        len: c_long,
        libctx: *mut OSSL_LIB_CTX,
        propq: *const c_char,
    ) -> *mut EVP_PKEY;
    pub(super) fn EVP_PKEY_is_a(key: *const EVP_PKEY, name: *const c_char) -> c_int;
    pub(super) fn EVP_PKEY_get_bits(key: *const EVP_PKEY) -> c_int;
    pub(super) fn EVP_PKEY_free(key: *mut EVP_PKEY);
}

// libssl and libcrypto: jobs, library contexts, providers.
unsafe extern "C" {
    pub(super) fn SSL_set_async_callback(
        ssl: *mut SSL,
        callback: unsafe extern "C" fn(*mut SSL, *mut c_void) -> c_int,
    ) -> c_int;
    pub(super) fn SSL_set_async_callback_arg(ssl: *mut SSL, arg: *mut c_void) -> c_int;
    pub(super) fn SSL_get_all_async_fds(ssl: *mut SSL, fds: *mut c_int, count: *mut usize) -> c_int;
    pub(super) fn SSL_get_async_status(ssl: *mut SSL, status: *mut c_int) -> c_int;
    pub(super) fn OSSL_LIB_CTX_new() -> *mut OSSL_LIB_CTX;
    pub(super) fn OSSL_LIB_CTX_free(context: *mut OSSL_LIB_CTX);
    pub(super) fn OSSL_LIB_CTX_load_config(context: *mut OSSL_LIB_CTX, file: *const c_char) -> c_int;
    pub(super) fn OSSL_PROVIDER_load(context: *mut OSSL_LIB_CTX, name: *const c_char) -> *mut OSSL_PROVIDER;
    pub(super) fn OSSL_PROVIDER_unload(provider: *mut OSSL_PROVIDER) -> c_int;
    pub(super) fn OSSL_PROVIDER_get_params(provider: *const OSSL_PROVIDER, params: *mut OSSL_PARAM) -> c_int;
    pub(super) fn OSSL_PARAM_construct_int(key: *const c_char, value: *mut c_int) -> OSSL_PARAM;
    pub(super) fn OSSL_PARAM_construct_octet_string(key: *const c_char, value: *mut c_void, len: usize) -> OSSL_PARAM;
    /// With a length of 0 the text ends in 0.
    pub(super) fn OSSL_PARAM_construct_utf8_string(key: *const c_char, value: *mut c_char, len: usize) -> OSSL_PARAM;
    pub(super) fn OSSL_PARAM_construct_end() -> OSSL_PARAM;
    pub(super) fn OSSL_PARAM_free(params: *mut OSSL_PARAM);
    pub(super) fn EVP_PKEY_get0_type_name(key: *const EVP_PKEY) -> *const c_char;
    pub(super) fn EVP_PKEY_todata(key: *const EVP_PKEY, selection: c_int, params: *mut *mut OSSL_PARAM) -> c_int;
    pub(super) fn EVP_PKEY_CTX_new_from_name(
        libctx: *mut OSSL_LIB_CTX,
        name: *const c_char,
        propq: *const c_char,
    ) -> *mut EVP_PKEY_CTX;
    pub(super) fn EVP_PKEY_CTX_free(maker: *mut EVP_PKEY_CTX);
    pub(super) fn EVP_PKEY_fromdata_init(maker: *mut EVP_PKEY_CTX) -> c_int;
    pub(super) fn EVP_PKEY_fromdata(
        maker: *mut EVP_PKEY_CTX,
        key: *mut *mut EVP_PKEY,
        selection: c_int,
        params: *mut OSSL_PARAM,
    ) -> c_int;
}

// libcrypto: jobs by themselves, and signatures.
unsafe extern "C" {
    pub(super) fn ASYNC_start_job(
        job: *mut *mut ASYNC_JOB,
        wait: *mut ASYNC_WAIT_CTX,
        returned: *mut c_int,
        run: unsafe extern "C" fn(*mut c_void) -> c_int,
        argument: *mut c_void,
        argument_len: usize,
    ) -> c_int;
    pub(super) fn ASYNC_WAIT_CTX_new() -> *mut ASYNC_WAIT_CTX;
    pub(super) fn ASYNC_WAIT_CTX_free(wait: *mut ASYNC_WAIT_CTX);
    pub(super) fn ASYNC_WAIT_CTX_set_callback(
        wait: *mut ASYNC_WAIT_CTX,
        callback: unsafe extern "C" fn(*mut c_void) -> c_int,
        argument: *mut c_void,
    ) -> c_int;
    pub(super) fn ASYNC_WAIT_CTX_get_status(wait: *mut ASYNC_WAIT_CTX) -> c_int;
    pub(super) fn ASYNC_WAIT_CTX_get_all_fds(wait: *mut ASYNC_WAIT_CTX, fds: *mut c_int, count: *mut usize) -> c_int;
    pub(super) fn EVP_MD_CTX_new() -> *mut EVP_MD_CTX;
    pub(super) fn EVP_MD_CTX_free(context: *mut EVP_MD_CTX);
    pub(super) fn EVP_PKEY_get_size(key: *const EVP_PKEY) -> c_int;
    pub(super) fn EVP_PKEY_CTX_set_rsa_padding(context: *mut EVP_PKEY_CTX, padding: c_int) -> c_int;
    pub(super) fn EVP_PKEY_CTX_set_rsa_pss_saltlen(context: *mut EVP_PKEY_CTX, len: c_int) -> c_int;
    pub(super) fn EVP_DigestSignInit_ex(
        context: *mut EVP_MD_CTX,
        of_key: *mut *mut EVP_PKEY_CTX,
        digest: *const c_char,
        libctx: *mut OSSL_LIB_CTX,
        propq: *const c_char,
        key: *mut EVP_PKEY,
        params: *const OSSL_PARAM,
    ) -> c_int;
    pub(super) fn EVP_DigestSign(
        context: *mut EVP_MD_CTX,
        signature: *mut c_uchar,
        len: *mut usize,
        message: *const c_uchar,
        message_len: usize,
    ) -> c_int;
}

// libcrypto: the ciphers of session tickets.
unsafe extern "C" {
    /// The functions are for making, copying and freeing what is kept there.
    pub(super) fn CRYPTO_get_ex_new_index(
        class: c_int,
        argl: c_long,
        argp: *mut c_void,
        new: Option<unsafe extern "C" fn()>,
        dup: Option<unsafe extern "C" fn()>,
        free: Option<unsafe extern "C" fn()>,
    ) -> c_int;
    pub(super) fn CRYPTO_memdup(from: *const c_void, len: usize, file: *const c_char, line: c_int) -> *mut c_void;
    pub(super) fn RAND_bytes(to: *mut c_uchar, len: c_int) -> c_int;
    pub(super) fn EVP_aes_128_cbc() -> *const EVP_CIPHER;
    pub(super) fn EVP_aes_256_cbc() -> *const EVP_CIPHER;
    pub(super) fn EVP_EncryptInit_ex(
        context: *mut EVP_CIPHER_CTX,
        cipher: *const EVP_CIPHER,
        engine: *mut ENGINE,
        key: *const c_uchar,
        iv: *const c_uchar,
    ) -> c_int;
    pub(super) fn EVP_DecryptInit_ex(
        context: *mut EVP_CIPHER_CTX,
        cipher: *const EVP_CIPHER,
        engine: *mut ENGINE,
        key: *const c_uchar,
        iv: *const c_uchar,
    ) -> c_int;
    pub(super) fn EVP_MAC_CTX_set_params(context: *mut EVP_MAC_CTX, params: *const OSSL_PARAM) -> c_int;
}

/// Is called for each of a kind.
type Each<T> = unsafe extern "C" fn(*mut T, *mut c_void);

// libcrypto: what it is, and what a provider has.
unsafe extern "C" {
    pub(super) fn OPENSSL_init_crypto(options: u64, settings: *const c_void) -> c_int;
    pub(super) fn OpenSSL_version(which: c_int) -> *const c_char;
    pub(super) fn ASYNC_is_capable() -> c_int;
    pub(super) fn OBJ_nid2sn(number: c_int) -> *const c_char;
    pub(super) fn EVP_KEYMGMT_do_all_provided(context: *mut OSSL_LIB_CTX, each: Each<EVP_KEYMGMT>, to: *mut c_void);
    pub(super) fn EVP_KEYMGMT_get0_provider(one: *const EVP_KEYMGMT) -> *mut OSSL_PROVIDER;
    pub(super) fn EVP_KEYMGMT_get0_name(one: *const EVP_KEYMGMT) -> *const c_char;
    pub(super) fn EVP_SIGNATURE_do_all_provided(context: *mut OSSL_LIB_CTX, each: Each<EVP_SIGNATURE>, to: *mut c_void);
    pub(super) fn EVP_SIGNATURE_get0_provider(one: *const EVP_SIGNATURE) -> *mut OSSL_PROVIDER;
    pub(super) fn EVP_SIGNATURE_get0_name(one: *const EVP_SIGNATURE) -> *const c_char;
    pub(super) fn EVP_KEYEXCH_do_all_provided(context: *mut OSSL_LIB_CTX, each: Each<EVP_KEYEXCH>, to: *mut c_void);
    pub(super) fn EVP_KEYEXCH_get0_provider(one: *const EVP_KEYEXCH) -> *mut OSSL_PROVIDER;
    pub(super) fn EVP_KEYEXCH_get0_name(one: *const EVP_KEYEXCH) -> *const c_char;
    pub(super) fn EVP_CIPHER_do_all_provided(context: *mut OSSL_LIB_CTX, each: Each<EVP_CIPHER>, to: *mut c_void);
    pub(super) fn EVP_CIPHER_get0_provider(one: *const EVP_CIPHER) -> *mut OSSL_PROVIDER;
    pub(super) fn EVP_CIPHER_get0_name(one: *const EVP_CIPHER) -> *const c_char;
    pub(super) fn OSSL_STORE_LOADER_do_all_provided(
        context: *mut OSSL_LIB_CTX,
        each: Each<OSSL_STORE_LOADER>,
        to: *mut c_void,
    );
    pub(super) fn OSSL_STORE_LOADER_get0_provider(one: *const OSSL_STORE_LOADER) -> *mut OSSL_PROVIDER;
    pub(super) fn OSSL_STORE_LOADER_names_do_all(
        one: *const OSSL_STORE_LOADER,
        each: unsafe extern "C" fn(*const c_char, *mut c_void),
        to: *mut c_void,
    ) -> c_int;
}

// libcrypto: stores.
unsafe extern "C" {
    pub(super) fn OSSL_STORE_open_ex(
        uri: *const c_char,
        libctx: *mut OSSL_LIB_CTX,
        propq: *const c_char,
        ui_method: *mut c_void,
        ui_data: *mut c_void,
        params: *const OSSL_PARAM,
        post_process: Option<unsafe extern "C" fn(*mut OSSL_STORE_INFO, *mut c_void) -> *mut OSSL_STORE_INFO>,
        post_process_data: *mut c_void,
    ) -> *mut OSSL_STORE_CTX;
    pub(super) fn OSSL_STORE_expect(store: *mut OSSL_STORE_CTX, kind: c_int) -> c_int;
    pub(super) fn OSSL_STORE_eof(store: *mut OSSL_STORE_CTX) -> c_int;
    pub(super) fn OSSL_STORE_load(store: *mut OSSL_STORE_CTX) -> *mut OSSL_STORE_INFO;
    pub(super) fn OSSL_STORE_close(store: *mut OSSL_STORE_CTX) -> c_int;
    pub(super) fn OSSL_STORE_INFO_get_type(info: *const OSSL_STORE_INFO) -> c_int;
    pub(super) fn OSSL_STORE_INFO_get1_PKEY(info: *const OSSL_STORE_INFO) -> *mut EVP_PKEY;
    pub(super) fn OSSL_STORE_INFO_free(info: *mut OSSL_STORE_INFO);
}

pub(super) const OSSL_STORE_INFO_PKEY: c_int = 4;

pub(super) const CRYPTO_EX_INDEX_SSL_CTX: c_int = 1;
pub(super) const SSL_ERROR_WANT_READ: c_int = 2;
pub(super) const SSL_ERROR_ZERO_RETURN: c_int = 6;

pub(super) const SSL_ERROR_WANT_ASYNC: c_int = 9;
pub(super) const SSL_ERROR_WANT_ASYNC_JOB: c_int = 10;

pub(super) const SSL_CTRL_MODE: c_int = 33;
pub(super) const SSL_CTRL_SET_SESS_CACHE_MODE: c_int = 44;
pub(super) const SSL_CTRL_SET_TLSEXT_SERVERNAME_CB: c_int = 53;
pub(super) const SSL_CTRL_SET_TLSEXT_HOSTNAME: c_int = 55;
pub(super) const SSL_CTRL_SET_TLSEXT_STATUS_REQ_CB: c_int = 63;
pub(super) const SSL_CTRL_SET_TLSEXT_STATUS_REQ_CB_ARG: c_int = 64;
pub(super) const SSL_CTRL_GET_TLSEXT_STATUS_REQ_OCSP_RESP: c_int = 70;
pub(super) const SSL_CTRL_SET_TLSEXT_STATUS_REQ_OCSP_RESP: c_int = 71;
pub(super) const SSL_CTRL_GET_TLSEXT_STATUS_REQ_TYPE: c_int = 127;
pub(super) const SSL_CTRL_CLEAR_MODE: c_int = 78;
pub(super) const SSL_CTRL_SET_GROUPS_LIST: c_int = 92;
pub(super) const SSL_CTRL_SET_MIN_PROTO_VERSION: c_int = 123;
pub(super) const SSL_CTRL_SET_MAX_PROTO_VERSION: c_int = 124;

pub(super) const SSL_MODE_ENABLE_PARTIAL_WRITE: c_long = 0x1;
pub(super) const SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER: c_long = 0x2;
pub(super) const SSL_MODE_RELEASE_BUFFERS: c_long = 0x10;
pub(super) const SSL_MODE_ASYNC: c_long = 0x100;
pub(super) const OPENSSL_INIT_NO_ATEXIT: u64 = 0x80000;
pub(super) const OPENSSL_VERSION: c_int = 0;
pub(super) const OPENSSL_ENGINES_DIR: c_int = 5;
pub(super) const OPENSSL_MODULES_DIR: c_int = 8;
pub(super) const ASYNC_PAUSE: c_int = 2;
pub(super) const ASYNC_FINISH: c_int = 3;
pub(super) const ASYNC_STATUS_EAGAIN: c_int = 3;
pub(super) const RSA_PKCS1_PSS_PADDING: c_int = 6;
pub(super) const RSA_PSS_SALTLEN_DIGEST: c_int = -1;
/// Private, public and all parameters.
pub(super) const EVP_PKEY_KEYPAIR: c_int = 0x87;

pub(super) const SSL_OP_NO_TICKET: u64 = 1 << 14;
pub(super) const SSL_OP_PRIORITIZE_CHACHA: u64 = 1 << 21;
pub(super) const SSL_OP_CIPHER_SERVER_PREFERENCE: u64 = 1 << 22;
pub(super) const SSL_OP_NO_RENEGOTIATION: u64 = 1 << 30;

pub(super) const SSL_SESS_CACHE_OFF: c_long = 0;
pub(super) const SSL_SESS_CACHE_CLIENT: c_long = 1;
pub(super) const SSL_SESS_CACHE_NO_INTERNAL: c_long = 0x300;

pub(super) const SSL_SENT_SHUTDOWN: c_int = 1;
pub(super) const SSL_RECEIVED_SHUTDOWN: c_int = 2;

pub(super) const SSL_VERIFY_NONE: c_int = 0;
pub(super) const SSL_VERIFY_PEER: c_int = 1;
pub(super) const SSL_VERIFY_FAIL_IF_NO_PEER_CERT: c_int = 2;
pub(super) const SSL_KEY_UPDATE_NOT_REQUESTED: c_int = 0;

pub(super) const TLS1_2_VERSION: c_int = 0x303;
pub(super) const TLS1_3_VERSION: c_int = 0x304;
pub(super) const TLSEXT_NAMETYPE_HOST_NAME: c_int = 0;
pub(super) const SSL_TLSEXT_ERR_OK: c_int = 0;
#[allow(non_upper_case_globals, reason = "the name is OpenSSL's")]
pub(super) const TLSEXT_STATUSTYPE_ocsp: c_long = 1;
pub(super) const SSL_TLSEXT_ERR_ALERT_FATAL: c_int = 2;
pub(super) const SSL_TLSEXT_ERR_NOACK: c_int = 3;
pub(super) const OPENSSL_NPN_NEGOTIATED: c_int = 1;

pub(super) const BIO_TYPE_SOURCE_SINK: c_int = 0x400;
pub(super) const BIO_CTRL_FLUSH: c_int = 11;
pub(super) const BIO_FLAGS_READ: c_int = 1;
pub(super) const BIO_FLAGS_RWS: c_int = 7;
pub(super) const BIO_FLAGS_SHOULD_RETRY: c_int = 8;

pub(super) const X509_V_FLAG_PARTIAL_CHAIN: c_ulong = 0x80000;
pub(super) const X509_V_FLAG_CRL_CHECK: c_ulong = 0x4;
pub(super) const X509_V_FLAG_CRL_CHECK_ALL: c_ulong = 0x8;
pub(super) const X509_V_ERR_APPLICATION_VERIFICATION: c_int = 50;
pub(super) const X509_V_ERR_HOSTNAME_MISMATCH: c_long = 62;
pub(super) const X509_V_ERR_IP_ADDRESS_MISMATCH: c_long = 64;
pub(super) const X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS: c_uint = 4;
pub(super) const X509_CHECK_FLAG_NEVER_CHECK_SUBJECT: c_uint = 0x20;

/// A packed code: a system error's bit, the library, flags and the reason (err.h).
pub(super) const ERR_SYSTEM_FLAG: c_ulong = 0x8000_0000;
pub(super) const ERR_LIB_OFFSET: u32 = 23;
pub(super) const ERR_LIB_MASK: c_ulong = 0xff;
pub(super) const ERR_REASON_MASK: c_ulong = 0x7f_ffff;
pub(super) const ERR_RFLAG_COMMON: c_ulong = 0x2 << 18;
pub(super) const ERR_LIB_SSL: c_ulong = 20;

/// Reasons of libssl (sslerr.h) that say that the two have nothing in common.
pub(super) const NOTHING_IN_COMMON: &[c_ulong] = &[
    101, // no suitable key share
    118, // no suitable signature algorithm
    166, // version too high
    191, // no protocols available
    193, // no shared cipher
    235, // no application protocol
    258, // unsupported protocol
    266, // wrong SSL version
    295, // no suitable groups
    376, // no shared signature algorithms
    396, // version too low
    410, // no shared groups
];
pub(super) const SSL_R_CERTIFICATE_VERIFY_FAILED: c_ulong = 134;
pub(super) const SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE: c_ulong = 199;
/// A received alert is this and its number.
pub(super) const SSL_AD_REASON_OFFSET: c_ulong = 1000;
