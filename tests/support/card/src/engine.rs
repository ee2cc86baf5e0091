//! The engine: the card as cards were reached before providers, and still are by OpenSSL 3. It holds keys: the id of one is the path of its PEM file.
//!
//! Its parameters are the provider's, as controls, and `POLL` polls, as QAT's engine has it.
//!
//! **Invariant:** a key that it gave signs by the card and by nothing else: its methods are the card's, so libcrypto never takes it for one of its own.

#![allow(clippy::disallowed_types, reason = "read when an engine is loaded, by whoever does that")]

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_long, c_uchar, c_uint, c_ulong, c_void};
use std::mem;
use std::ptr;
use std::slice;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use crate::card::{Behaviour, Card};
use crate::engine_ffi::{self as ffi, EC_KEY, ENGINE, ENGINE_CMD_DEFN, EVP_PKEY, RSA};
use crate::provider::Table;
use crate::signature::ask;

/// Says that this is made for the engines of OpenSSL 3.
///
/// # Safety
/// Called by libcrypto.
// SAFETY: libcrypto looks for this name in this module.
#[unsafe(no_mangle)]
#[allow(unreachable_pub, reason = "exported to C")]
pub unsafe extern "C" fn v_check(version: c_ulong) -> c_ulong {
    if version >= DYNAMIC_VERSION { DYNAMIC_VERSION } else { 0 }
}

/// Makes an engine of an empty one.
///
/// # Safety
/// Called by libcrypto with an engine that is being loaded.
// SAFETY: libcrypto looks for this name in this module.
#[unsafe(no_mangle)]
#[allow(unreachable_pub, reason = "exported to C")]
pub unsafe extern "C" fn bind_engine(engine: *mut ENGINE, _id: *const c_char, _functions: *const c_void) -> c_int {
    // SAFETY: the engine is ours to fill; the texts and the table live as long as this module, which libcrypto never unloads while it is used.
    let bound = unsafe {
        set(engine, c"ENGINE_set_id", c"card".as_ptr())
            && set(engine, c"ENGINE_set_name", c"a pretended card".as_ptr())
            && set::<ffi::Init>(engine, c"ENGINE_set_init_function", init)
            && set(engine, c"ENGINE_set_cmd_defns", COMMANDS.0.as_ptr())
            && set::<ffi::Control>(engine, c"ENGINE_set_ctrl_function", control)
            && set::<ffi::LoadKey>(engine, c"ENGINE_set_load_privkey_function", load_key)
    };
    if bound {
        plugged().insert(engine as usize, Plugged::default());
    }
    c_int::from(bound)
}

/// Calls a function of libcrypto's that sets something of an engine. Found when it is needed: OpenSSL 4 has none of them, and must be able to load
/// this module for its provider.
///
/// # Safety
/// The function of this name takes an engine and a `T`, and the engine is ours to fill.
unsafe fn set<T>(engine: *mut ENGINE, name: &CStr, value: T) -> bool {
    unsafe extern "C" {
        fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    }
    // SAFETY: of libc; with no handle it looks through everything that was loaded at the start (RTLD_DEFAULT).
    let found = unsafe { dlsym(ptr::null_mut(), name.as_ptr()) };
    if found.is_null() {
        return false;
    }
    // SAFETY: by the caller's word.
    let function: unsafe extern "C" fn(*mut ENGINE, T) -> c_int = unsafe { mem::transmute(found) };
    // SAFETY: by the caller's word.
    unsafe { function(engine, value) == 1 }
}

/// What an engine was told, and the card that it is for since its initialisation.
#[derive(Default)]
struct Plugged {
    parameters: HashMap<&'static CStr, String>,
    card: Option<&'static Card>,
}

fn plugged() -> MutexGuard<'static, HashMap<usize, Plugged>> {
    static ALL: LazyLock<Mutex<HashMap<usize, Plugged>>> = LazyLock::new(Mutex::default);
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

fn card(engine: *mut ENGINE) -> Option<&'static Card> {
    plugged().get(&(engine as usize))?.card
}

/// # Safety
/// Called by libcrypto with an engine of ours.
unsafe extern "C" fn init(engine: *mut ENGINE) -> c_int {
    if let Some(engine) = plugged().get_mut(&(engine as usize)) {
        let parameters = &engine.parameters;
        engine.card.get_or_insert_with(|| Card::plug_in(Behaviour::read(|name| parameters.get(name).cloned())));
    }
    1
}

/// # Safety
/// Called by libcrypto with an engine of ours, and what the command wants: a text, or a place for a number.
unsafe extern "C" fn control(
    engine: *mut ENGINE,
    command: c_int,
    _number: c_long,
    value: *mut c_void,
    _function: Option<unsafe extern "C" fn()>,
) -> c_int {
    if command == POLL {
        if let Some(card) = card(engine) {
            card.poll();
        }
        return 1;
    }
    let known = usize::try_from(command - FIRST_COMMAND).ok().and_then(|index| Behaviour::PARAMETERS.get(index));
    let (Some(name), false) = (known, value.is_null()) else { return 0 };
    // SAFETY: a text that ends in 0.
    let value = unsafe { CStr::from_ptr(value.cast()) }.to_string_lossy().into_owned();
    plugged().entry(engine as usize).or_default().parameters.insert(name, value);
    1
}

/// # Safety
/// Called by libcrypto with an engine of ours that is initialised, and a text.
unsafe extern "C" fn load_key(
    engine: *mut ENGINE,
    id: *const c_char,
    _ui: *mut c_void,
    _data: *mut c_void,
) -> *mut EVP_PKEY {
    let Some(card) = card(engine) else { return ptr::null_mut() };
    // SAFETY: what is made here is freed here, but for the key that goes to the caller.
    unsafe {
        let file = ffi::BIO_new_file(id, c"r".as_ptr());
        if file.is_null() {
            return ptr::null_mut();
        }
        let plain = ffi::PEM_read_bio_PrivateKey(file, ptr::null_mut(), ptr::null(), ptr::null_mut());
        ffi::BIO_free(file);
        if plain.is_null() {
            return ptr::null_mut();
        }
        let key = ffi::EVP_PKEY_new();
        let (ec, rsa) = (ffi::EVP_PKEY_get1_EC_KEY(plain), ffi::EVP_PKEY_get1_RSA(plain));
        let at = ptr::from_ref(card).cast_mut().cast::<c_void>();
        if !ec.is_null() {
            ffi::EC_KEY_set_method(ec, METHODS.ec as *const c_void);
            ffi::EC_KEY_set_ex_data(ec, METHODS.ec_index, at);
            ffi::EVP_PKEY_set1_EC_KEY(key, ec);
        } else if !rsa.is_null() {
            ffi::RSA_set_method(rsa, METHODS.rsa as *const c_void);
            ffi::RSA_set_ex_data(rsa, METHODS.rsa_index, at);
            ffi::EVP_PKEY_set1_RSA(key, rsa);
        }
        ffi::EC_KEY_free(ec);
        ffi::RSA_free(rsa);
        ffi::EVP_PKEY_free(plain);
        key
    }
}

/// The methods of keys, as addresses, and where a key keeps its card.
struct Methods {
    ec: usize,
    ec_index: c_int,
    rsa: usize,
    rsa_index: c_int,
    /// Those of libcrypto, by which the card computes.
    sign: ffi::EcSign,
    encrypt: ffi::RsaEncrypt,
}

static METHODS: LazyLock<Methods> = LazyLock::new(|| {
    let none = ptr::null_mut();
    // SAFETY: copies of libcrypto's own methods, which live as long as the process.
    unsafe {
        let plain = ffi::EC_KEY_OpenSSL();
        let (mut sign, mut setup, mut raw) = (None, none, none);
        ffi::EC_KEY_METHOD_get_sign(plain, &raw mut sign, &raw mut setup, &raw mut raw);
        let ec = ffi::EC_KEY_METHOD_new(plain);
        ffi::EC_KEY_METHOD_set_sign(ec, sign_ec, setup, raw);
        let plain = ffi::RSA_PKCS1_OpenSSL();
        let rsa = ffi::RSA_meth_dup(plain);
        ffi::RSA_meth_set_priv_enc(rsa, encrypt_rsa);
        let index = |of| ffi::CRYPTO_get_ex_new_index(of, 0, none, none, none, none);
        Methods {
            ec: ec as usize,
            ec_index: index(ffi::CRYPTO_EX_INDEX_EC_KEY),
            rsa: rsa as usize,
            rsa_index: index(ffi::CRYPTO_EX_INDEX_RSA),
            sign: sign.expect("libcrypto signs"),
            encrypt: ffi::RSA_meth_get_priv_enc(plain).expect("libcrypto signs"),
        }
    }
});

/// # Safety
/// Called by libcrypto with a key of ours, a digest, and room for the longest signature.
unsafe extern "C" fn sign_ec(
    kind: c_int,
    digest: *const c_uchar,
    digest_len: c_int,
    signature: *mut c_uchar,
    signature_len: *mut c_uint,
    _kinv: *const c_void,
    _r: *const c_void,
    key: *mut EC_KEY,
) -> c_int {
    // SAFETY: as many bytes as it says; the key is ours and keeps its card, which is a static's.
    let (digest, card, room) = unsafe {
        let digest = slice::from_raw_parts(digest, usize::try_from(digest_len).unwrap_or(0)).to_vec();
        (digest, &*ffi::EC_KEY_get_ex_data(key, METHODS.ec_index).cast::<Card>(), ffi::ECDSA_size(key))
    };
    // SAFETY: the key is alive; the reference goes to the operation.
    unsafe { ffi::EC_KEY_up_ref(key) };
    let lent = LentEc(key);
    let computed = ask(card, move || {
        let lent = &lent;
        let (mut out, mut len) = (vec![0; usize::try_from(room).unwrap_or(0)], 0);
        let none = ptr::null();
        // SAFETY: the key is lent; there is room for the longest signature.
        let signed = unsafe {
            (METHODS.sign)(kind, digest.as_ptr(), digest_len, out.as_mut_ptr(), &raw mut len, none, none, lent.0)
        };
        out.truncate(len as usize);
        (signed == 1).then_some(out)
    });
    let Some(computed) = computed else { return 0 };
    // SAFETY: there is room for the longest signature; the place is the caller's.
    unsafe {
        ptr::copy_nonoverlapping(computed.as_ptr(), signature, computed.len());
        *signature_len = c_uint::try_from(computed.len()).unwrap_or(0);
    }
    1
}

/// # Safety
/// Called by libcrypto with a key of ours, as many bytes as it says, and room for as many as the key is long.
unsafe extern "C" fn encrypt_rsa(
    len: c_int,
    from: *const c_uchar,
    to: *mut c_uchar,
    key: *mut RSA,
    padding: c_int,
) -> c_int {
    // SAFETY: as many bytes as it says; the key is ours and keeps its card, which is a static's.
    let (from, card, room) = unsafe {
        let from = slice::from_raw_parts(from, usize::try_from(len).unwrap_or(0)).to_vec();
        (from, &*ffi::RSA_get_ex_data(key, METHODS.rsa_index).cast::<Card>(), ffi::RSA_size(key))
    };
    // SAFETY: the key is alive; the reference goes to the operation.
    unsafe { ffi::RSA_up_ref(key) };
    let lent = LentRsa(key);
    let computed = ask(card, move || {
        let lent = &lent;
        let mut out = vec![0; usize::try_from(room).unwrap_or(0)];
        // SAFETY: the key is lent; there is room for as many bytes as it is long.
        let len = unsafe { (METHODS.encrypt)(len, from.as_ptr(), out.as_mut_ptr(), lent.0, padding) };
        out.truncate(usize::try_from(len).ok()?);
        Some(out)
    });
    let Some(computed) = computed else { return -1 };
    // SAFETY: there is room for as many bytes as the key is long.
    unsafe { ptr::copy_nonoverlapping(computed.as_ptr(), to, computed.len()) };
    c_int::try_from(computed.len()).unwrap_or(-1)
}

/// A key on its way to the card's thread, with a reference of its own.
struct LentEc(*mut EC_KEY);

// SAFETY: a key that nobody changes may be used by several threads; its count is atomic.
unsafe impl Send for LentEc {}

impl Drop for LentEc {
    fn drop(&mut self) {
        // SAFETY: the reference is this one's.
        unsafe { ffi::EC_KEY_free(self.0) };
    }
}

/// As [`LentEc`].
struct LentRsa(*mut RSA);

// SAFETY: as above.
unsafe impl Send for LentRsa {}

impl Drop for LentRsa {
    fn drop(&mut self) {
        // SAFETY: the reference is this one's.
        unsafe { ffi::RSA_free(self.0) };
    }
}

static COMMANDS: Table<ENGINE_CMD_DEFN> = Table(&[
    command(0),
    command(1),
    command(2),
    command(3),
    command(4),
    command(5),
    command(6),
    ENGINE_CMD_DEFN { number: POLL as c_uint, name: c"POLL".as_ptr(), description: c"polls".as_ptr(), flags: 4 },
    ENGINE_CMD_DEFN { number: 0, name: ptr::null(), description: ptr::null(), flags: 0 },
]);

/// A control that takes a text.
const fn command(index: c_uint) -> ENGINE_CMD_DEFN {
    let name = Behaviour::PARAMETERS[index as usize].as_ptr();
    ENGINE_CMD_DEFN { number: FIRST_COMMAND as c_uint + index, name, description: name, flags: 2 }
}

/// The first number that an engine may give a control of its own.
const FIRST_COMMAND: c_int = 200;
const POLL: c_int = 300;
const DYNAMIC_VERSION: c_ulong = 0x0003_0000;
