//! Where libssl reads and writes: a BIO of our own over the bytes that the caller lends for one call.
//!
//! OpenSSL's memory BIO would copy every record twice more and keep its largest size for the life of the connection. This one reads from the
//! caller's slice and writes into the caller's room, and owns memory only for what did not fit.
//!
//! Its callbacks may run on the stack of a job (32 KiB without a guard page): they copy bytes and do nothing else.
//!
//! **Invariant:** what is lent is there during one call into libssl and taken away after it, whether the call ended or its job paused.

use std::ffi::{c_char, c_int, c_long, c_void};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::OnceLock;

use super::ffi;

/// What a session and the callbacks of its BIO share. Owned by the BIO, which lives as long as its SSL.
#[derive(Debug)]
pub(super) struct Wire {
    input: *const u8,
    input_len: usize,
    room: *mut u8,
    room_len: usize,
    /// Bytes written to the room in this call.
    written: usize,
    /// Output that found no room, from `queue_start`.
    queue: Vec<u8>,
    queue_start: usize,
}

impl Wire {
    /// Makes a BIO with a wire behind it. The pointer to the wire is good as long as the BIO is.
    pub(super) fn new_bio() -> (NonNull<ffi::BIO>, NonNull<Self>) {
        // SAFETY: the method is complete and lives as long as the process.
        let bio = unsafe { ffi::BIO_new(method()) };
        let bio = NonNull::new(bio).expect("fails only for want of memory");
        let wire = NonNull::from(Box::leak(Box::new(Self {
            input: ptr::null(),
            input_len: 0,
            room: ptr::null_mut(),
            room_len: 0,
            written: 0,
            queue: Vec::new(),
            queue_start: 0,
        })));
        // SAFETY: the BIO is new and ours; `destroy` gives the wire back.
        unsafe {
            ffi::BIO_set_data(bio.as_ptr(), wire.as_ptr().cast());
            ffi::BIO_set_init(bio.as_ptr(), 1);
        }
        (bio, wire)
    }

    /// Lends `input` and `room` until [`take_back`](Self::take_back).
    pub(super) fn lend(&mut self, input: &[u8], room: &mut [u8]) {
        (self.input, self.input_len) = (input.as_ptr(), input.len());
        (self.room, self.room_len) = (room.as_mut_ptr(), room.len());
        self.written = 0;
    }

    /// Says how much was written to the room; from now on there is neither input nor room.
    pub(super) fn take_back(&mut self) -> usize {
        (self.input, self.input_len) = (ptr::null(), 0);
        (self.room, self.room_len) = (ptr::null_mut(), 0);
        self.written
    }

    pub(super) fn queued(&self) -> &[u8] {
        &self.queue[self.queue_start..]
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.queue.capacity()
    }

    /// Removes the first `len` bytes of what is queued.
    pub(super) fn dequeue(&mut self, len: usize) {
        self.queue_start += len;
        if self.queue_start >= self.queue.len() {
            self.queue = Vec::new();
            self.queue_start = 0;
        }
    }

    /// # Safety
    /// `to` has room for `room_len` bytes.
    unsafe fn read(&mut self, to: *mut u8, room_len: usize) -> usize {
        let len = room_len.min(self.input_len);
        if len > 0 {
            // SAFETY: `input` points at `input_len` bytes that were lent for this call, `to` has room by the caller's word.
            unsafe { ptr::copy_nonoverlapping(self.input, to, len) };
            // SAFETY: `len` is at most what is left.
            self.input = unsafe { self.input.add(len) };
            self.input_len -= len;
        }
        len
    }

    fn write(&mut self, from: &[u8]) {
        if self.room_len - self.written >= from.len() && self.queued().is_empty() {
            // SAFETY: `room` points at `room_len` bytes that were lent for this call, of which `written` are used.
            unsafe { ptr::copy_nonoverlapping(from.as_ptr(), self.room.add(self.written), from.len()) };
            self.written += from.len();
        } else {
            self.queue.extend_from_slice(from);
        }
    }
}

/// The one method of all our BIOs.
fn method() -> *const ffi::BIO_METHOD {
    struct Method(*const ffi::BIO_METHOD);
    // SAFETY: written once, below, before anybody has it; read only from then on.
    unsafe impl Send for Method {}
    // SAFETY: as above.
    unsafe impl Sync for Method {}
    static METHOD: OnceLock<Method> = OnceLock::new();
    METHOD
        .get_or_init(|| {
            // SAFETY: the four callbacks have the types that the header asks for; a method that could not be made is not used.
            unsafe {
                let kind = ffi::BIO_get_new_index() | ffi::BIO_TYPE_SOURCE_SINK;
                let method = ffi::BIO_meth_new(kind, c"ferrogate wire".as_ptr());
                assert!(!method.is_null(), "fails only for want of memory");
                ffi::BIO_meth_set_read(method, on_read);
                ffi::BIO_meth_set_write(method, on_write);
                ffi::BIO_meth_set_ctrl(method, on_ctrl);
                ffi::BIO_meth_set_destroy(method, on_destroy);
                Method(method)
            }
        })
        .0
}

/// # Safety
/// Called by libcrypto with one of our BIOs and a buffer of `len` bytes.
unsafe extern "C" fn on_read(bio: *mut ffi::BIO, to: *mut c_char, len: c_int) -> c_int {
    let Ok(len) = usize::try_from(len) else { return -1 };
    // SAFETY: our BIOs carry a wire; libssl calls on one thread, within a call of the session, which holds no reference to it meanwhile.
    let wire = unsafe { &mut *ffi::BIO_get_data(bio).cast::<Wire>() };
    // SAFETY: it is this BIO's.
    unsafe { ffi::BIO_clear_flags(bio, ffi::BIO_FLAGS_RWS | ffi::BIO_FLAGS_SHOULD_RETRY) };
    // SAFETY: libcrypto gives a buffer of `len` bytes.
    let read = unsafe { wire.read(to.cast(), len) };
    if read == 0 {
        // SAFETY: as above.
        unsafe { ffi::BIO_set_flags(bio, ffi::BIO_FLAGS_READ | ffi::BIO_FLAGS_SHOULD_RETRY) };
        return -1;
    }
    c_int::try_from(read).unwrap_or(-1)
}

/// # Safety
/// Called by libcrypto with one of our BIOs and `len` bytes.
unsafe extern "C" fn on_write(bio: *mut ffi::BIO, from: *const c_char, len: c_int) -> c_int {
    let Ok(bytes) = usize::try_from(len) else { return -1 };
    // SAFETY: as in `on_read`.
    let wire = unsafe { &mut *ffi::BIO_get_data(bio).cast::<Wire>() };
    // SAFETY: it is this BIO's.
    unsafe { ffi::BIO_clear_flags(bio, ffi::BIO_FLAGS_RWS | ffi::BIO_FLAGS_SHOULD_RETRY) };
    if bytes > 0 {
        // SAFETY: libcrypto gives `len` bytes.
        wire.write(unsafe { slice::from_raw_parts(from.cast(), bytes) });
    }
    len
}

/// # Safety
/// Called by libcrypto with one of our BIOs.
unsafe extern "C" fn on_ctrl(_bio: *mut ffi::BIO, command: c_int, _arg: c_long, _data: *mut c_void) -> c_long {
    // A handshake's flight is flushed; everything else has no meaning here.
    c_long::from(command == ffi::BIO_CTRL_FLUSH)
}

/// # Safety
/// Called by libcrypto with one of our BIOs, once, when its last owner let go.
unsafe extern "C" fn on_destroy(bio: *mut ffi::BIO) -> c_int {
    // SAFETY: the wire was leaked into the BIO by `new_bio`, and this is the only place that takes it back.
    let wire = unsafe { ffi::BIO_get_data(bio) }.cast::<Wire>();
    if !wire.is_null() {
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(wire) });
        // SAFETY: it is this BIO's.
        unsafe { ffi::BIO_set_data(bio, ptr::null_mut()) };
    }
    1
}
