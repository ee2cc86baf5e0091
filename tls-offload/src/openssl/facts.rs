//! What the OpenSSL that is loaded says of itself, of its providers and of its engines.
//!
//! **Invariant:** asks, and sets nothing; what was loaded for the answer stays loaded, for what it leaves behind in the process may be called at
//! its end.

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::PathBuf;

use super::engine::Engine;
use super::error::{OpenSslError, clear};
use super::ffi;
use super::own::{Config, LibCtx};
use crate::accelerator::Kind;
use crate::algorithms::Algorithms;
use crate::error::{Cause, ConfigError};
use crate::options::Versions;
use crate::probe::{Ability, OpenSslFacts, What};

/// Of the library that is loaded.
pub(crate) fn facts() -> Option<OpenSslFacts> {
    // SAFETY: the texts are constants of libcrypto, and end in 0.
    let text = |which| unsafe { CStr::from_ptr(ffi::OpenSSL_version(which)) }.to_string_lossy().into_owned();
    // It says `ENGINESDIR: "/usr/lib/..."`.
    let folder = |which| PathBuf::from(text(which).split('"').nth(1).unwrap_or_default());
    let config = Config::new(Versions::default(), &Algorithms::default(), None).ok();
    let has = |name: &&'static str| config.as_ref().is_some_and(|config| config.has_group(name));
    Some(OpenSslFacts {
        version: text(ffi::OPENSSL_VERSION),
        // SAFETY: asks for a constant.
        has_async: unsafe { ffi::ASYNC_is_capable() } == 1,
        groups: Algorithms::group_names().filter(has).collect(),
        engines: Engine::are_there().then(|| folder(ffi::OPENSSL_ENGINES_DIR)),
        providers: folder(ffi::OPENSSL_MODULES_DIR),
    })
}

/// As [`crate::probe::abilities`].
pub(crate) fn abilities(kind: Kind, id: &str) -> Result<Vec<Ability>, ConfigError> {
    let failed = |error| ConfigError::NoAccelerator { name: id.into(), cause: Cause::openssl(error) };
    let found = match kind {
        Kind::Provider => in_context_of_its_own(id),
        Kind::Engine => Engine::abilities_of(id),
    };
    found.map_err(failed)
}

fn in_context_of_its_own(id: &str) -> Result<Vec<Ability>, OpenSslError> {
    let name = CString::new(id).map_err(|_| OpenSslError::with_text("a name with a 0 in it"))?;
    let context = LibCtx::new();
    let loaded = [context.load(c"default")?, context.load(&name)?];
    let found = of_provider(&context, loaded[1].as_ptr());
    std::mem::forget((loaded, context));
    Ok(found)
}

/// What is collected of one provider.
struct Found {
    provider: *const ffi::OSSL_PROVIDER,
    names: Vec<String>,
}

/// Makes a function that lists the names which a provider has of one kind of algorithm: how all are gone through, whose one is, and its name.
macro_rules! names_of {
    ($name:ident, $of:ty, $all:path, $provider_of:path, |$one:ident, $found:ident| $note:expr) => {
        fn $name(context: &LibCtx, provider: *const ffi::OSSL_PROVIDER) -> Vec<String> {
            /// # Safety
            /// Called by libcrypto with one that is alive, and with the collector of the call.
            unsafe extern "C" fn each($one: *mut $of, $found: *mut c_void) {
                // SAFETY: libcrypto says that it is alive, and the collector lives as long as the call; what is noted goes there only.
                unsafe {
                    if $provider_of($one).cast_const() == (*$found.cast::<Found>()).provider {
                        $note;
                    }
                }
            }
            let mut found = Found { provider, names: Vec::new() };
            // SAFETY: the context is alive, and the collector nobody else's as long as the call.
            unsafe { $all(context.as_ptr(), each, (&raw mut found).cast()) };
            found.names.sort_unstable();
            found.names.dedup();
            found.names
        }
    };
}

names_of!(keys, ffi::EVP_KEYMGMT, ffi::EVP_KEYMGMT_do_all_provided, ffi::EVP_KEYMGMT_get0_provider, |one, found| note(
    ffi::EVP_KEYMGMT_get0_name(one),
    found
));
names_of!(
    signatures,
    ffi::EVP_SIGNATURE,
    ffi::EVP_SIGNATURE_do_all_provided,
    ffi::EVP_SIGNATURE_get0_provider,
    |one, found| note(ffi::EVP_SIGNATURE_get0_name(one), found)
);
names_of!(
    exchanges,
    ffi::EVP_KEYEXCH,
    ffi::EVP_KEYEXCH_do_all_provided,
    ffi::EVP_KEYEXCH_get0_provider,
    |one, found| note(ffi::EVP_KEYEXCH_get0_name(one), found)
);
names_of!(ciphers, ffi::EVP_CIPHER, ffi::EVP_CIPHER_do_all_provided, ffi::EVP_CIPHER_get0_provider, |one, found| note(
    ffi::EVP_CIPHER_get0_name(one),
    found
));
names_of!(
    stores,
    ffi::OSSL_STORE_LOADER,
    ffi::OSSL_STORE_LOADER_do_all_provided,
    ffi::OSSL_STORE_LOADER_get0_provider,
    |one, found| ffi::OSSL_STORE_LOADER_names_do_all(one, note, found)
);

/// What a provider of this context can do.
pub(super) fn of_provider(context: &LibCtx, provider: *const ffi::OSSL_PROVIDER) -> Vec<Ability> {
    let all = [
        (What::Keys, keys(context, provider)),
        (What::Signatures, signatures(context, provider)),
        (What::Exchange, exchanges(context, provider)),
        (What::Ciphers, ciphers(context, provider)),
        (What::Stores, stores(context, provider)),
    ];
    clear();
    all.into_iter().filter(|(_, names)| !names.is_empty()).map(|(what, names)| Ability { what, names }).collect()
}

/// # Safety
/// The name ends in 0 or is null; the collector is alive, and nobody else's for the time of the call.
unsafe extern "C" fn note(name: *const c_char, found: *mut c_void) {
    if name.is_null() {
        return;
    }
    // SAFETY: the caller says so.
    let (name, found) = unsafe { (CStr::from_ptr(name), &mut *found.cast::<Found>()) };
    found.names.push(name.to_string_lossy().into_owned());
}
