//! Signing: the operation goes to the card, and the job, if there is one, pauses until it is done.
//!
//! **Invariant:** the buffers of a paused operation belong to the operation, not to the caller's stack.

#![allow(clippy::disallowed_types, reason = "the card's thread and its caller meet here")]

use std::ffi::{CString, c_char, c_int, c_uchar, c_void};
use std::os::fd::AsRawFd;
use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::card::{Card, Operation};
use crate::ffi::{self, AsyncCallback, EVP_PKEY, OSSL_DISPATCH, OSSL_PARAM};
use crate::keys::Key;
use crate::provider::{END, END_OF_PARAMS, Table};

/// The functions, the same for every kind of key.
pub(crate) static SIGNATURE: Table<OSSL_DISPATCH> = Table(&[
    OSSL_DISPATCH { function_id: 1, function: new as *const c_void },
    OSSL_DISPATCH { function_id: 16, function: free as *const c_void },
    OSSL_DISPATCH { function_id: 8, function: sign_init as *const c_void },
    OSSL_DISPATCH { function_id: 11, function: sign as *const c_void },
    OSSL_DISPATCH { function_id: 20, function: set_params as *const c_void },
    OSSL_DISPATCH { function_id: 21, function: settable as *const c_void },
    END,
]);

/// A signature under way.
struct Signing {
    card: &'static Card,
    key: *mut EVP_PKEY,
    digest: Option<CString>,
    settings: Vec<Setting>,
}

/// A parameter that was set: padding, salt and the like.
#[derive(Clone)]
struct Setting {
    key: CString,
    data_type: u32,
    /// Behind it a 0 that does not count: libcrypto compares texts as those of C, whatever their length says.
    value: Vec<u8>,
}

/// What the card computes and its caller waits for.
#[derive(Default)]
struct Answer {
    signature: Mutex<Option<Vec<u8>>>,
    done: AtomicBool,
    waited: Condvar,
}

/// A key on its way to the card's thread, with a reference of its own.
struct Lent(*mut EVP_PKEY);

// SAFETY: an EVP_PKEY that nobody changes may be used by several threads; its count is atomic.
unsafe impl Send for Lent {}

impl Drop for Lent {
    fn drop(&mut self) {
        // SAFETY: the reference is this one's.
        unsafe { ffi::EVP_PKEY_free(self.0) };
    }
}

/// The owner of a paused job, to be told from the card's thread.
struct Owner(AsyncCallback, *mut c_void);

// SAFETY: the callback is made to be called from any thread.
unsafe impl Send for Owner {}

impl Owner {
    fn tell(self) {
        // SAFETY: the owner keeps the argument until it was told.
        unsafe { (self.0)(self.1) };
    }
}

/// # Safety
/// Called by libcrypto with our card.
unsafe extern "C" fn new(card: *mut c_void, _propq: *const c_char) -> *mut c_void {
    // SAFETY: the card is a static's.
    let card = unsafe { &*card.cast::<Card>() };
    Box::into_raw(Box::new(Signing { card, key: ptr::null_mut(), digest: None, settings: Vec::new() })).cast()
}

/// # Safety
/// Called by libcrypto with a signing of ours, for the last time.
unsafe extern "C" fn free(signing: *mut c_void) {
    if !signing.is_null() {
        // SAFETY: made by `new`.
        drop(unsafe { Box::from_raw(signing.cast::<Signing>()) });
    }
}

/// # Safety
/// Called by libcrypto with a signing and a key of ours, which lives longer.
unsafe extern "C" fn sign_init(
    signing: *mut c_void,
    digest: *const c_char,
    key: *mut c_void,
    params: *const OSSL_PARAM,
) -> c_int {
    // SAFETY: made by `new` and by the keys.
    let (state, key) = unsafe { (&mut *signing.cast::<Signing>(), key.cast::<Key>().as_ref()) };
    if let Some(key) = key {
        state.key = key.inner;
    }
    // SAFETY: a text that ends in 0, or null.
    state.digest = (!digest.is_null()).then(|| unsafe { std::ffi::CStr::from_ptr(digest) }.to_owned());
    // SAFETY: the same list, the same caller.
    unsafe { set_params(signing, params) }
}

/// # Safety
/// Called by libcrypto with a signing of ours and a list that ends in a null key, or none.
unsafe extern "C" fn set_params(signing: *mut c_void, mut params: *const OSSL_PARAM) -> c_int {
    // SAFETY: made by `new`.
    let signing = unsafe { &mut *signing.cast::<Signing>() };
    // SAFETY: the list ends in a null key, and each value is as long as it says.
    unsafe {
        while !params.is_null() && !(*params).key.is_null() {
            let param = *params;
            let mut value = slice::from_raw_parts(param.data.cast::<u8>(), param.data_size).to_vec();
            value.push(0);
            let key = std::ffi::CStr::from_ptr(param.key).to_owned();
            signing.settings.push(Setting { key, data_type: param.data_type, value });
            params = params.add(1);
        }
    }
    1
}

/// # Safety
/// Called by libcrypto.
unsafe extern "C" fn settable(_signing: *mut c_void, _card: *mut c_void) -> *const OSSL_PARAM {
    SETTABLES.0.as_ptr()
}

static SETTABLES: Table<OSSL_PARAM> = Table(&[
    setting(c"digest", 4),
    setting(c"pad-mode", 4),
    setting(c"saltlen", 4),
    setting(c"mgf1-digest", 4),
    END_OF_PARAMS,
]);

const fn setting(key: &'static std::ffi::CStr, data_type: u32) -> OSSL_PARAM {
    OSSL_PARAM { key: key.as_ptr(), data_type, data: ptr::null_mut(), data_size: 0, return_size: usize::MAX }
}

/// # Safety
/// Called by libcrypto with a signing of ours; `out` is null where the length is asked for, else it has room for `room` bytes.
unsafe extern "C" fn sign(
    signing: *mut c_void,
    out: *mut c_uchar,
    len: *mut usize,
    room: usize,
    from: *const c_uchar,
    from_len: usize,
) -> c_int {
    // SAFETY: made by `new`.
    let signing = unsafe { &*signing.cast::<Signing>() };
    if out.is_null() {
        // SAFETY: the key was imported; the place is the caller's.
        unsafe { *len = usize::try_from(ffi::EVP_PKEY_get_size(signing.key)).unwrap_or(0) };
        return 1;
    }
    // SAFETY: as many bytes as it says.
    let message = unsafe { slice::from_raw_parts(from, from_len) }.to_vec();
    // SAFETY: the key is alive; the reference goes to the operation.
    unsafe { ffi::EVP_PKEY_up_ref(signing.key) };
    let (lent, digest, settings) = (Lent(signing.key), signing.digest.clone(), signing.settings.clone());
    match ask(signing.card, move || compute(&lent, digest.as_ref(), &settings, &message)) {
        Some(signature) if signature.len() <= room => {
            // SAFETY: there is room, by the arm's condition.
            unsafe {
                ptr::copy_nonoverlapping(signature.as_ptr(), out, signature.len());
                *len = signature.len();
            }
            1
        }
        _ => 0,
    }
}

/// Has the card compute and waits: by pausing the job, or, where there is none, by blocking. None: it failed.
pub(crate) fn ask(card: &'static Card, compute: impl FnOnce() -> Option<Vec<u8>> + Send + 'static) -> Option<Vec<u8>> {
    let answer = Arc::new(Answer::default());
    // SAFETY: null where there is no job; the wait context and its callback belong to the job.
    let (wait, callback) = unsafe {
        let job = ffi::ASYNC_get_current_job();
        let wait = if job.is_null() { ptr::null_mut() } else { ffi::ASYNC_get_wait_ctx(job) };
        let (mut callback, mut arg) = (None, ptr::null_mut());
        if !wait.is_null() {
            ffi::ASYNC_WAIT_CTX_get_callback(wait, &raw mut callback, &raw mut arg);
        }
        (wait, callback.map(|callback| (callback, arg)))
    };
    // Its other end is for the card's thread; it is readable when that has let go of it.
    let by_fd = if wait.is_null() || !card.tells_by_fd() { None } else { std::io::pipe().ok() };
    let pauses = !wait.is_null() && (callback.is_some() || by_fd.is_some());
    let (to, at_end) = (Arc::clone(&answer), Arc::clone(&answer));
    let owner = callback.map(|(callback, arg)| Owner(callback, arg));
    let (readable, writable) = by_fd.unzip();
    let mut operation = Operation {
        compute: Box::new(move |good| {
            let signature = if good { compute() } else { None };
            *to.signature.lock().unwrap_or_else(PoisonError::into_inner) = signature;
        }),
        tell: Box::new(move || {
            let signature = at_end.signature.lock().unwrap_or_else(PoisonError::into_inner);
            at_end.done.store(true, Ordering::Release);
            // Who is told otherwise does not wait here.
            if !pauses {
                at_end.waited.notify_all();
            }
            drop(signature);
            drop(writable);
            owner.into_iter().for_each(Owner::tell);
        }),
    };
    while let Err(refused) = card.submit(operation) {
        operation = refused;
        if pauses {
            // SAFETY: within a job.
            unsafe {
                ffi::ASYNC_WAIT_CTX_set_status(wait, ffi::ASYNC_STATUS_EAGAIN);
                ffi::ASYNC_pause_job();
            }
        } else {
            std::thread::yield_now();
        }
    }
    let fd_key = ptr::from_ref(card).cast::<c_void>();
    if let Some(readable) = &readable {
        // SAFETY: within a job; the descriptor is taken back below, when the operation is done.
        unsafe { ffi::ASYNC_WAIT_CTX_set_wait_fd(wait, fd_key, readable.as_raw_fd(), ptr::null_mut(), None) };
    }
    if pauses {
        // SAFETY: within a job.
        unsafe { ffi::ASYNC_WAIT_CTX_set_status(wait, ffi::ASYNC_STATUS_OK) };
        // SAFETY: within a job.
        unsafe { pause_until_done(&answer) };
        if readable.is_some() {
            // SAFETY: within a job.
            unsafe { ffi::ASYNC_WAIT_CTX_clear_fd(wait, fd_key) };
        }
    } else {
        let mut signature = answer.signature.lock().unwrap_or_else(PoisonError::into_inner);
        while !answer.done.load(Ordering::Acquire) {
            signature = answer.waited.wait(signature).unwrap_or_else(PoisonError::into_inner);
        }
    }
    answer.signature.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Pauses the job even where it is done already, as QAT's engine: who resumes it has been told then, and nobody is told of one that has gone.
///
/// # Safety
/// Within a job.
unsafe fn pause_until_done(answer: &Answer) {
    loop {
        // SAFETY: the caller says so.
        unsafe { ffi::ASYNC_pause_job() };
        if answer.done.load(Ordering::Acquire) {
            return;
        }
    }
}

/// Signs, with libcrypto's own code.
fn compute(key: &Lent, digest: Option<&CString>, settings: &[Setting], message: &[u8]) -> Option<Vec<u8>> {
    let mut params: Vec<OSSL_PARAM> = settings.iter().map(as_param).collect();
    params.push(END_OF_PARAMS);
    // SAFETY: what is made here is freed here; the texts and values outlive the calls.
    unsafe {
        let context = ffi::EVP_MD_CTX_new();
        let mut key_context = ptr::null_mut();
        let digest = digest.map_or(ptr::null(), |d| d.as_ptr());
        let ready = ffi::EVP_DigestSignInit_ex(
            context,
            &raw mut key_context,
            digest,
            ptr::null_mut(),
            ptr::null(),
            key.0,
            ptr::null(),
        ) == 1
            && (settings.is_empty() || ffi::EVP_PKEY_CTX_set_params(key_context, params.as_ptr()) == 1);
        let mut len = usize::try_from(ffi::EVP_PKEY_get_size(key.0)).unwrap_or(0);
        let mut signature = vec![0; len];
        let signed = ready
            && ffi::EVP_DigestSign(context, signature.as_mut_ptr(), &raw mut len, message.as_ptr(), message.len()) == 1;
        ffi::EVP_MD_CTX_free(context);
        signature.truncate(len);
        signed.then_some(signature)
    }
}

fn as_param(setting: &Setting) -> OSSL_PARAM {
    OSSL_PARAM {
        key: setting.key.as_ptr(),
        data_type: setting.data_type,
        data: setting.value.as_ptr().cast_mut().cast(),
        data_size: setting.value.len() - 1,
        return_size: usize::MAX,
    }
}
