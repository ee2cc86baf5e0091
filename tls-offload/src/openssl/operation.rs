//! A signature by an accelerator outside of libssl, as rustls needs one: an ASYNC_JOB of its own.
//!
//! **Invariant:** what an accelerator computes with and writes to is the operation's, which stays until the accelerator has let go of it (R4).

use std::ffi::{CStr, c_int, c_void};
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::Arc;
use std::task::Poll;

use super::accelerator::Accelerator;
use super::error::{OpenSslError, clear};
use super::ffi;
use super::job::{FDS_MAX, Job, Pausing};
use super::own::{DigestContext, PrivateKey, WaitContext};

/// A signature under way.
pub(super) struct Operation {
    pub(super) job: Job,
    /// Null: not begun, or ended.
    async_job: *mut ffi::ASYNC_JOB,
    wait: ManuallyDrop<WaitContext>,
    /// On the heap: the job has its address.
    work: ManuallyDrop<Box<Work>>,
}

/// What is signed, by what, and what becomes of it.
struct Work {
    /// Before the accelerator, with which its provider may go.
    key: Arc<PrivateKey>,
    accelerator: Arc<Accelerator>,
    scheme: u16,
    message: Box<[u8]>,
    result: Option<Result<Vec<u8>, OpenSslError>>,
}

impl Operation {
    pub(super) fn new(accelerator: &Arc<Accelerator>, key: &Arc<PrivateKey>, scheme: u16, message: &[u8]) -> Self {
        let job = Job::new(Arc::clone(accelerator));
        let wait = WaitContext::new();
        if accelerator.is_asynchronous() && !accelerator.tells_by_fd() {
            job.tell_by(&wait);
        }
        let work = Work {
            key: Arc::clone(key),
            accelerator: Arc::clone(accelerator),
            scheme,
            message: message.into(),
            result: None,
        };
        let (wait, work) = (ManuallyDrop::new(wait), ManuallyDrop::new(Box::new(work)));
        Self { job, async_job: ptr::null_mut(), wait, work }
    }

    /// Begins it, or goes on. Pending: it has paused.
    pub(super) fn step(&mut self) -> Poll<Result<Vec<u8>, OpenSslError>> {
        clear();
        if !self.work.accelerator.is_asynchronous() {
            return Poll::Ready(self.work.sign());
        }
        let mut work: *mut Work = &raw mut **self.work;
        let mut returned = 0;
        // SAFETY: the job copies the pointer; what it points at is this operation's, which is not freed while the job has paused.
        let status = unsafe {
            let argument = (&raw mut work).cast::<c_void>();
            ffi::ASYNC_start_job(
                &raw mut self.async_job,
                self.wait.as_ptr(),
                &raw mut returned,
                run,
                argument,
                size_of::<*mut Work>(),
            )
        };
        match status {
            ffi::ASYNC_PAUSE => Poll::Pending,
            ffi::ASYNC_FINISH => {
                self.async_job = ptr::null_mut();
                let nothing = || Err(OpenSslError::with_text("the job ended without a result"));
                Poll::Ready(self.work.result.take().unwrap_or_else(nothing))
            }
            _ => Poll::Ready(Err(OpenSslError::with_text("no memory for a job of the accelerator"))),
        }
    }

    /// Goes on with one that nobody waits for; None when it has ended, and all is freed.
    pub(super) fn drive_to_end(mut self) -> Option<Self> {
        if !self.job.is_told() {
            return Some(self);
        }
        match self.step() {
            Poll::Pending => {
                self.paused();
                Some(self)
            }
            Poll::Ready(result) => {
                self.job.resumed(result.is_err());
                None
            }
        }
    }

    /// Says that it has paused.
    pub(super) fn paused(&mut self) {
        let Self { job, wait, .. } = self;
        job.paused(&**wait);
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        // What the accelerator has not let go of stays in memory, for it may call back and write.
        if self.async_job.is_null() {
            // SAFETY: neither is used any more.
            unsafe {
                ManuallyDrop::drop(&mut self.wait);
                ManuallyDrop::drop(&mut self.work);
            }
        }
    }
}

impl Work {
    fn sign(&self) -> Result<Vec<u8>, OpenSslError> {
        let Some((digest, padding)) = parameters(self.scheme) else {
            return Err(OpenSslError::with_text("no such signature scheme"));
        };
        let context = DigestContext::new();
        let mut of_key = ptr::null_mut();
        let (library, query) = (self.accelerator.context().as_ptr(), self.accelerator.properties().as_ptr());
        // SAFETY: all that is passed lives longer than the calls, and the signature has the room that the key asks for.
        unsafe {
            let begun = ffi::EVP_DigestSignInit_ex(
                context.as_ptr(),
                &raw mut of_key,
                digest.map_or(ptr::null(), CStr::as_ptr),
                library,
                query,
                self.key.as_ptr(),
                ptr::null(),
            ) == 1;
            let set = begun
                && (padding != Padding::Pss
                    || (ffi::EVP_PKEY_CTX_set_rsa_padding(of_key, ffi::RSA_PKCS1_PSS_PADDING) == 1
                        && ffi::EVP_PKEY_CTX_set_rsa_pss_saltlen(of_key, ffi::RSA_PSS_SALTLEN_DIGEST) == 1));
            let mut len = usize::try_from(ffi::EVP_PKEY_get_size(self.key.as_ptr())).unwrap_or(0);
            let mut signature = vec![0; len];
            let (to, from) = (signature.as_mut_ptr(), self.message.as_ptr());
            if !set || ffi::EVP_DigestSign(context.as_ptr(), to, &raw mut len, from, self.message.len()) != 1 {
                return Err(OpenSslError::take_first_or("it gave no reason"));
            }
            signature.truncate(len);
            Ok(signature)
        }
    }
}

/// What runs as a job: libcrypto's stack for it is small, and nothing may unwind over it.
///
/// # Safety
/// Called by libcrypto with a copy of what [`Operation::step`] gave it.
unsafe extern "C" fn run(argument: *mut c_void) -> c_int {
    // SAFETY: libcrypto gives a copy of the pointer that the operation gave it.
    let work = unsafe { *argument.cast::<*mut Work>() };
    // SAFETY: the work lies on the heap and outlives its job; while the job is paused the operation only reads it, as this does.
    let signed = unsafe { (*work).sign() };
    // SAFETY: the same, and the job runs: the operation waits for it to return.
    unsafe { (*work).result = Some(signed) };
    1
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Padding {
    None,
    Pss,
}

/// What a signature scheme is made of (RFC 8446 section 4.2.3).
fn parameters(scheme: u16) -> Option<(Option<&'static CStr>, Padding)> {
    Some(match scheme {
        0x0403 | 0x0401 => (Some(c"SHA256"), Padding::None),
        0x0503 | 0x0501 => (Some(c"SHA384"), Padding::None),
        0x0603 | 0x0601 => (Some(c"SHA512"), Padding::None),
        0x0804 | 0x0809 => (Some(c"SHA256"), Padding::Pss),
        0x0805 | 0x080a => (Some(c"SHA384"), Padding::Pss),
        0x0806 | 0x080b => (Some(c"SHA512"), Padding::Pss),
        0x0807 | 0x0808 => (None, Padding::None),
        _ => return None,
    })
}

impl Pausing for WaitContext {
    fn is_refused(&self) -> bool {
        // SAFETY: the context is alive.
        unsafe { ffi::ASYNC_WAIT_CTX_get_status(self.as_ptr()) == ffi::ASYNC_STATUS_EAGAIN }
    }

    fn descriptors(&self, fds: &mut [c_int; FDS_MAX]) -> usize {
        let mut count = 0;
        // SAFETY: the context is alive; with no place it says how many there are, and then there is room for as many.
        unsafe {
            let known = ffi::ASYNC_WAIT_CTX_get_all_fds(self.as_ptr(), ptr::null_mut(), &raw mut count) == 1;
            let known = known
                && count <= FDS_MAX
                && ffi::ASYNC_WAIT_CTX_get_all_fds(self.as_ptr(), fds.as_mut_ptr(), &raw mut count) == 1;
            if known { count } else { 0 }
        }
    }
}
