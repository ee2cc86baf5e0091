//! The provider: what OpenSSL 3 loads. Keys are imported and never given out again; signing is the card's.
//!
//! Its parameters, from the section of the configuration that loads it, are those of [`Behaviour`]. Of the provider itself `poll` and `in-flight` can
//! be asked: asking for `poll` polls.
//!
//! **Invariant:** nothing that libcrypto passes is kept longer than its contract says; a paused job's owner is told after its result is there.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

use crate::card::{Behaviour, Card};
use crate::ffi::{self, OSSL_ALGORITHM, OSSL_CORE_HANDLE, OSSL_DISPATCH, OSSL_PARAM};
use crate::keys::KEYS;
use crate::signature::SIGNATURE;

/// The entry that libcrypto looks for.
///
/// # Safety
/// Called by libcrypto with its own tables.
// SAFETY: libcrypto looks for this name, and no other module of the process has it.
#[unsafe(no_mangle)]
#[allow(unreachable_pub, reason = "exported to C")]
pub unsafe extern "C" fn OSSL_provider_init(
    core: *const OSSL_CORE_HANDLE,
    from_core: *const OSSL_DISPATCH,
    to_core: *mut *const OSSL_DISPATCH,
    context: *mut *mut c_void,
) -> c_int {
    // SAFETY: the core's table ends in 0, and its get_params works with the handle it gave.
    let card = Card::plug_in(unsafe { behaviour(core, from_core) });
    // SAFETY: both places are the core's, for us to fill.
    unsafe {
        *to_core = PROVIDER.0.as_ptr();
        *context = ptr::from_ref(card).cast_mut().cast();
    }
    1
}

/// Tables of pointers to functions and texts that live as long as the module.
pub(crate) struct Table<T: 'static>(pub(crate) &'static [T]);

// SAFETY: constant, and never written.
unsafe impl<T: 'static> Sync for Table<T> {}

static PROVIDER: Table<OSSL_DISPATCH> = Table(&[
    OSSL_DISPATCH { function_id: 1024, function: teardown as *const c_void },
    OSSL_DISPATCH { function_id: 1026, function: get_params as *const c_void },
    OSSL_DISPATCH { function_id: 1027, function: query_operation as *const c_void },
    END,
]);

static KEY_KINDS: Table<OSSL_ALGORITHM> = Table(&[
    algorithm(c"EC:id-ecPublicKey:1.2.840.10045.2.1", KEYS[0].0),
    algorithm(c"RSA:rsaEncryption:1.2.840.113549.1.1.1", KEYS[1].0),
    LAST,
]);

static SIGNATURES: Table<OSSL_ALGORITHM> =
    Table(&[algorithm(c"ECDSA", SIGNATURE.0), algorithm(c"RSA:rsaEncryption:1.2.840.113549.1.1.1", SIGNATURE.0), LAST]);

const fn algorithm(names: &'static CStr, implementation: &'static [OSSL_DISPATCH]) -> OSSL_ALGORITHM {
    OSSL_ALGORITHM {
        names: names.as_ptr(),
        properties: c"provider=card".as_ptr(),
        implementation: implementation.as_ptr(),
        description: ptr::null(),
    }
}

const LAST: OSSL_ALGORITHM = OSSL_ALGORITHM {
    names: ptr::null(),
    properties: ptr::null(),
    implementation: ptr::null(),
    description: ptr::null(),
};

/// The end of every table of functions.
pub(crate) const END: OSSL_DISPATCH = OSSL_DISPATCH { function_id: 0, function: ptr::null() };

/// # Safety
/// Called by libcrypto with our card, once, when nobody uses it any more; then the module may go.
unsafe extern "C" fn teardown(card: *mut c_void) {
    // SAFETY: it was boxed by `plug_in`, and nobody else has it any more.
    unsafe { Box::from_raw(card.cast::<Card>()) }.pull_out();
}

/// # Safety
/// Called by libcrypto.
unsafe extern "C" fn query_operation(
    _card: *mut c_void,
    operation: c_int,
    no_cache: *mut c_int,
) -> *const OSSL_ALGORITHM {
    // SAFETY: the caller's place.
    unsafe { *no_cache = 0 };
    match operation {
        ffi::OSSL_OP_KEYMGMT => KEY_KINDS.0.as_ptr(),
        ffi::OSSL_OP_SIGNATURE => SIGNATURES.0.as_ptr(),
        _ => ptr::null(),
    }
}

/// # Safety
/// Called by libcrypto with our card and a list that ends in a null key.
unsafe extern "C" fn get_params(card: *mut c_void, params: *mut OSSL_PARAM) -> c_int {
    // SAFETY: the card is a static's.
    let card = unsafe { &*card.cast::<Card>() };
    // SAFETY: the list is the caller's.
    unsafe {
        let poll = ffi::OSSL_PARAM_locate(params, c"poll".as_ptr());
        if !poll.is_null() {
            ffi::OSSL_PARAM_set_int(poll, c_int::try_from(card.poll()).unwrap_or(c_int::MAX));
        }
        let in_flight = ffi::OSSL_PARAM_locate(params, c"in-flight".as_ptr());
        if !in_flight.is_null() {
            ffi::OSSL_PARAM_set_int(in_flight, c_int::try_from(card.in_flight()).unwrap_or(c_int::MAX));
        }
    }
    1
}

/// Reads our section of the configuration.
///
/// # Safety
/// `core` and `from_core` are what the entry was given.
unsafe fn behaviour(core: *const OSSL_CORE_HANDLE, mut from_core: *const OSSL_DISPATCH) -> Behaviour {
    type GetParams = unsafe extern "C" fn(*const OSSL_CORE_HANDLE, *mut OSSL_PARAM) -> c_int;
    let mut get: Option<GetParams> = None;
    // SAFETY: the table ends in 0; function 2 is core_get_params.
    unsafe {
        while (*from_core).function_id != 0 {
            if (*from_core).function_id == 2 {
                get = Some(std::mem::transmute::<*const c_void, GetParams>((*from_core).function));
            }
            from_core = from_core.add(1);
        }
    }
    let text = |key: &CStr| {
        let mut value: *const c_char = ptr::null();
        let mut params = [param(key, &mut value), END_OF_PARAMS];
        // SAFETY: the list is ours; the core points `value` at a text of its own.
        let found = get.is_some_and(|get| unsafe { get(core, params.as_mut_ptr()) } == 1) && !value.is_null();
        // SAFETY: as above.
        found.then(|| unsafe { CStr::from_ptr(value) }.to_string_lossy().into_owned())
    };
    Behaviour::read(text)
}

fn param(key: &CStr, value: &mut *const c_char) -> OSSL_PARAM {
    OSSL_PARAM {
        key: key.as_ptr(),
        data_type: ffi::OSSL_PARAM_UTF8_PTR,
        data: ptr::from_mut(value).cast(),
        data_size: 0,
        return_size: usize::MAX,
    }
}

/// The end of every list of parameters.
pub(crate) const END_OF_PARAMS: OSSL_PARAM =
    OSSL_PARAM { key: ptr::null(), data_type: 0, data: ptr::null_mut(), data_size: 0, return_size: 0 };
