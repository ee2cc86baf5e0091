//! The owners of what libssl and libcrypto hand out: each frees what it has, once.
//!
//! **Invariant:** no pointer leaves `openssl/`; what is shared between threads is what OpenSSL says may be.

use std::ffi::{CStr, CString, c_int, c_long, c_void};
use std::ptr::{self, NonNull};
use std::sync::Once;

use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::accelerator::Accelerator;
use super::error::{OpenSslError, clear};
use super::ffi;
use crate::algorithms::Algorithms;
use crate::options::{Version, Versions};

/// Makes an owner: a pointer and the function that frees it.
macro_rules! owner {
    ($(#[$doc:meta])* $name:ident, $of:ty, $free:path) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $name(NonNull<$of>);

        impl $name {
            /// Owns what `pointer` points at; None: null.
            ///
            /// # Safety
            /// Null, or one reference that is the caller's to give away.
            pub(super) unsafe fn from_raw(pointer: *mut $of) -> Option<Self> {
                NonNull::new(pointer).map(Self)
            }

            pub(super) fn as_ptr(&self) -> *mut $of {
                self.0.as_ptr()
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: `from_raw` was given the reference that is freed here.
                unsafe { $free(self.as_ptr()) }
            }
        }
    };
}

owner!(/// A certificate.
    Certificate, ffi::X509, ffi::X509_free);
owner!(/// A private key.
    PrivateKey, ffi::EVP_PKEY, ffi::EVP_PKEY_free);
owner!(/// Trusted certificates.
    Store, ffi::X509_STORE, ffi::X509_STORE_free);
owner!(/// A certificate revocation list.
    RevocationList, ffi::X509_CRL, ffi::X509_CRL_free);
owner!(/// Certificates in a row. Owns the row, not what is in it.
    Chain, ffi::OPENSSL_STACK, ffi::OPENSSL_sk_free);
owner!(/// A session that can be resumed.
    Resumable, ffi::SSL_SESSION, ffi::SSL_SESSION_free);
owner!(/// What sessions are made from.
    Config, ffi::SSL_CTX, ffi::SSL_CTX_free);

owner!(/// What a store has given.
    Stored, ffi::OSSL_STORE_INFO, ffi::OSSL_STORE_INFO_free);
owner!(/// Where a job says that it has paused.
    WaitContext, ffi::ASYNC_WAIT_CTX, ffi::ASYNC_WAIT_CTX_free);
owner!(/// A signature in the making.
    DigestContext, ffi::EVP_MD_CTX, ffi::EVP_MD_CTX_free);
owner!(/// A library context: algorithms and providers apart from the process's own.
    LibCtx, ffi::OSSL_LIB_CTX, ffi::OSSL_LIB_CTX_free);
owner!(/// A provider that is loaded. It must go before the library context that it was loaded into, which does not unload it.
    Provider, ffi::OSSL_PROVIDER, unload);

/// # Safety
/// The provider is loaded, and its library context alive.
unsafe fn unload(provider: *mut ffi::OSSL_PROVIDER) {
    // SAFETY: the caller says so. It goes when the last key of it has gone.
    unsafe { ffi::OSSL_PROVIDER_unload(provider) };
}

// SAFETY: reference counts and caches of an X509 are atomic or locked inside libcrypto.
unsafe impl Send for Certificate {}
// SAFETY: as above.
unsafe impl Sync for Certificate {}
// SAFETY: as above, for an EVP_PKEY that nobody changes any more.
unsafe impl Send for PrivateKey {}
// SAFETY: as above.
unsafe impl Sync for PrivateKey {}
// SAFETY: an X509_STORE locks itself.
unsafe impl Send for Store {}
// SAFETY: as above.
unsafe impl Sync for Store {}
// SAFETY: not changed after it was filled.
unsafe impl Send for Chain {}
// SAFETY: as above.
unsafe impl Sync for Chain {}
// SAFETY: reference counts are atomic; a session in a store belongs to no connection.
unsafe impl Send for Resumable {}
// SAFETY: SSL_new may be called from any thread; what it reads does not change after the configuration was made.
unsafe impl Send for Config {}
// SAFETY: as above.
unsafe impl Sync for Config {}

impl Certificate {
    pub(super) fn from_der(der: &CertificateDer<'_>) -> Result<Self, OpenSslError> {
        clear();
        let len = c_long::try_from(der.len()).unwrap_or(0);
        let mut at = der.as_ptr();
        // SAFETY: `at` points at `len` bytes; the certificate that comes back is ours.
        unsafe { Self::from_raw(ffi::d2i_X509(ptr::null_mut(), &raw mut at, len)) }.ok_or_else(OpenSslError::take)
    }

    /// A certificate of OpenSSL's, as it goes over the wire.
    ///
    /// # Safety
    /// `certificate` is alive.
    pub(super) unsafe fn der_of(certificate: *const ffi::X509) -> CertificateDer<'static> {
        // SAFETY: the caller says that it is alive; without a place to write to it says the length.
        let len = usize::try_from(unsafe { ffi::i2d_X509(certificate, ptr::null_mut()) }).unwrap_or(0);
        let mut der = vec![0; len];
        let mut at = der.as_mut_ptr();
        // SAFETY: as above; `at` points at as many bytes as it asked for.
        unsafe { ffi::i2d_X509(certificate, &raw mut at) };
        der.into()
    }

    /// Whether `key` is the key of this certificate.
    pub(super) fn is_of(&self, key: &PrivateKey) -> bool {
        clear();
        // SAFETY: both are alive.
        let is_of = unsafe { ffi::X509_check_private_key(self.as_ptr(), key.as_ptr()) } == 1;
        clear();
        is_of
    }
}

impl RevocationList {
    pub(super) fn from_der(der: &[u8]) -> Option<Self> {
        let len = c_long::try_from(der.len()).ok()?;
        let mut at = der.as_ptr();
        clear();
        // SAFETY: `at` points at `len` bytes; the list that comes back is ours.
        let list = unsafe { Self::from_raw(ffi::d2i_X509_CRL(ptr::null_mut(), &raw mut at, len)) };
        clear();
        list
    }
}

impl PrivateKey {
    /// The signature schemes that it can sign with (RFC 8446 section 4.2.3).
    pub(super) fn schemes(&self) -> &'static [u16] {
        // SAFETY: the key is alive, the name ends in 0.
        let is_a = |name: &CStr| unsafe { ffi::EVP_PKEY_is_a(self.as_ptr(), name.as_ptr()) } == 1;
        // SAFETY: as above.
        let bits = unsafe { ffi::EVP_PKEY_get_bits(self.as_ptr()) };
        match bits {
            _ if is_a(c"RSA") => &[0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601],
            _ if is_a(c"RSA-PSS") => &[0x0809, 0x080a, 0x080b],
            _ if is_a(c"ED25519") => &[0x0807],
            _ if is_a(c"ED448") => &[0x0808],
            384 => &[0x0503],
            521 => &[0x0603],
            _ => &[0x0403],
        }
    }

    /// PKCS#8, PKCS#1 or SEC1.
    pub(super) fn from_der(der: &PrivateKeyDer<'_>) -> Result<Self, OpenSslError> {
        clear();
        let bytes = der.secret_der();
        let len = c_long::try_from(bytes.len()).unwrap_or(0);
        let mut at = bytes.as_ptr();
        // SAFETY: `at` points at `len` bytes; the key that comes back is ours.
        let key =
            unsafe { ffi::d2i_AutoPrivateKey_ex(ptr::null_mut(), &raw mut at, len, ptr::null_mut(), ptr::null()) };
        // SAFETY: as above.
        unsafe { Self::from_raw(key) }.ok_or_else(OpenSslError::take)
    }

    /// The same key as one of the provider that `binding` names in `context`.
    pub(super) fn moved_to(&self, context: &LibCtx, binding: &CStr) -> Result<Self, OpenSslError> {
        clear();
        let (mut params, mut key) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the key is alive; what is made on the way is freed at its end, and the key that comes back is ours.
        unsafe {
            if ffi::EVP_PKEY_todata(self.as_ptr(), ffi::EVP_PKEY_KEYPAIR, &raw mut params) != 1 {
                return Err(OpenSslError::take());
            }
            let kind = ffi::EVP_PKEY_get0_type_name(self.as_ptr());
            let maker = ffi::EVP_PKEY_CTX_new_from_name(context.as_ptr(), kind, binding.as_ptr());
            let made = !maker.is_null()
                && ffi::EVP_PKEY_fromdata_init(maker) == 1
                && ffi::EVP_PKEY_fromdata(maker, &raw mut key, ffi::EVP_PKEY_KEYPAIR, params) == 1;
            let result = if made { Self::from_raw(key) } else { None }.ok_or_else(OpenSslError::take);
            ffi::EVP_PKEY_CTX_free(maker);
            ffi::OSSL_PARAM_free(params);
            result
        }
    }
}

impl WaitContext {
    pub(super) fn new() -> Self {
        // SAFETY: what is made is ours.
        unsafe { Self::from_raw(ffi::ASYNC_WAIT_CTX_new()) }.expect("fails only for want of memory")
    }
}

impl DigestContext {
    pub(super) fn new() -> Self {
        // SAFETY: what is made is ours.
        unsafe { Self::from_raw(ffi::EVP_MD_CTX_new()) }.expect("fails only for want of memory")
    }
}

impl LibCtx {
    pub(super) fn new() -> Self {
        keep_to_the_end();
        // SAFETY: what is made is ours.
        unsafe { Self::from_raw(ffi::OSSL_LIB_CTX_new()) }.expect("fails only for want of memory")
    }

    /// Loads a provider. OpenSSL's own algorithms, `default`, are not there by themselves beside another one.
    pub(super) fn load(&self, name: &CStr) -> Result<Provider, OpenSslError> {
        clear();
        // SAFETY: the context is alive, the name ends in 0; the provider that comes back is ours to unload.
        let provider = unsafe { Provider::from_raw(ffi::OSSL_PROVIDER_load(self.as_ptr(), name.as_ptr())) };
        provider.ok_or_else(|| OpenSslError::take_first_or("it gave no reason"))
    }
}

impl Resumable {
    /// Another owner of the same session.
    pub(super) fn share(&self) -> Self {
        // SAFETY: the session is alive; the reference that is added is the new owner's.
        unsafe { ffi::SSL_SESSION_up_ref(self.as_ptr()) };
        Self(self.0)
    }
}

impl Chain {
    /// A row of certificates, which must outlive it.
    pub(super) fn of(certificates: &[Certificate]) -> Self {
        // SAFETY: makes an empty row.
        let chain = unsafe { Self::from_raw(ffi::OPENSSL_sk_new_null()) }.expect("fails only for want of memory");
        for certificate in certificates {
            // SAFETY: the row is ours; it keeps the pointer, and the caller the certificate.
            let pushed = unsafe { ffi::OPENSSL_sk_push(chain.as_ptr(), certificate.as_ptr().cast::<c_void>()) };
            assert!(pushed > 0, "fails only for want of memory");
        }
        chain
    }
}

impl Config {
    /// What both sides have in common: versions, suites with authenticated encryption and forward secrecy only, no renegotiation.
    pub(super) fn new(
        versions: Versions,
        algorithms: &Algorithms,
        of: Option<&Accelerator>,
    ) -> Result<Self, OpenSslError> {
        keep_to_the_end();
        clear();
        let context = of.map_or(ptr::null_mut(), |a| a.context().as_ptr());
        let query = of.map_or(ptr::null(), |a| a.properties().as_ptr());
        // SAFETY: both live as long as the accelerator, which the sessions hold; the configuration that comes back is ours.
        let config = unsafe { Self::from_raw(ffi::SSL_CTX_new_ex(context, query, ffi::TLS_method())) };
        let config = config.ok_or_else(OpenSslError::take)?;
        let number = |version| match version {
            Version::Tls12 => c_long::from(ffi::TLS1_2_VERSION),
            Version::Tls13 => c_long::from(ffi::TLS1_3_VERSION),
        };
        let (min, max) = versions.bounds();
        config.must(config.control(ffi::SSL_CTRL_SET_MIN_PROTO_VERSION, number(min)) == 1)?;
        config.must(config.control(ffi::SSL_CTRL_SET_MAX_PROTO_VERSION, number(max)) == 1)?;
        let modes = ffi::SSL_MODE_ENABLE_PARTIAL_WRITE
            | ffi::SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
            | ffi::SSL_MODE_RELEASE_BUFFERS;
        config.control(ffi::SSL_CTRL_MODE, modes);
        let list = |is_tls13| joined(algorithms.suites(is_tls13).iter().map(|suite| suite.name));
        let (tls12, tls13) = (list(false), list(true));
        // SAFETY: the configuration is ours, the lists end in 0.
        unsafe {
            ffi::SSL_CTX_set_options(config.as_ptr(), ffi::SSL_OP_NO_RENEGOTIATION);
            config.must(ffi::SSL_CTX_set_cipher_list(config.as_ptr(), tls12.as_ptr()) == 1)?;
            config.must(ffi::SSL_CTX_set_ciphersuites(config.as_ptr(), tls13.as_ptr()) == 1)?;
        }
        config.offer_groups(algorithms)?;
        Ok(config)
    }

    /// Those of the groups that this OpenSSL has: which it is, the distribution decides.
    fn offer_groups(&self, algorithms: &Algorithms) -> Result<(), OpenSslError> {
        let known: Vec<&str> = algorithms.groups().iter().map(|g| g.name).filter(|name| self.has_group(name)).collect();
        if algorithms.groups().is_empty() {
            return Ok(());
        }
        if known.is_empty() {
            return Err(OpenSslError::with_text("this OpenSSL has no group that ecdh_curves names"));
        }
        self.must(self.set_groups(&joined(known.into_iter())))
    }

    /// Whether this OpenSSL has a group; it is the only one of this configuration then.
    pub(super) fn has_group(&self, name: &str) -> bool {
        let has = self.set_groups(&joined([name].into_iter()));
        clear();
        has
    }

    fn set_groups(&self, names: &CStr) -> bool {
        let at = names.as_ptr().cast_mut().cast::<c_void>();
        // SAFETY: the configuration is ours, the list ends in 0 and is copied.
        unsafe { ffi::SSL_CTX_ctrl(self.as_ptr(), ffi::SSL_CTRL_SET_GROUPS_LIST, 0, at) == 1 }
    }

    pub(super) fn control(&self, command: c_int, value: c_long) -> c_long {
        // SAFETY: for controls that take a number and no pointer.
        unsafe { ffi::SSL_CTX_ctrl(self.as_ptr(), command, value, ptr::null_mut()) }
    }

    /// OpenSSL's reason where a call on this configuration failed.
    pub(super) fn must(&self, succeeded: bool) -> Result<(), OpenSslError> {
        if succeeded { Ok(()) } else { Err(OpenSslError::take()) }
    }
}

/// Has libcrypto leave all that it has in memory when the process ends, which gives it back anyway: an accelerator's own thread may compute to the
/// last moment. Before anything else is asked of libcrypto, or it has made up its mind.
pub(super) fn keep_to_the_end() {
    static ONCE: Once = Once::new();
    // SAFETY: takes no settings; it may be called at any time, by one thread here.
    ONCE.call_once(|| unsafe {
        ffi::OPENSSL_init_crypto(ffi::OPENSSL_INIT_NO_ATEXIT, ptr::null());
    });
}

/// With `:` between them.
fn joined<'a>(names: impl Iterator<Item = &'a str>) -> CString {
    CString::new(names.collect::<Vec<_>>().join(":")).expect("names of our own tables have no 0 in them")
}
