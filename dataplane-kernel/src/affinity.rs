//! Which cores this process may use, and pinning a thread to one of them.
//!
//! **Invariant:** a core outside the process's own mask is never used.

#![allow(unsafe_code, reason = "sched_getaffinity and sched_setaffinity have no safe wrapper among our packages")]

use std::{io, mem};

/// The cores that this thread may run on, in ascending order.
///
/// # Errors
/// What `sched_getaffinity(2)` answers.
pub(crate) fn allowed_cores() -> io::Result<Vec<usize>> {
    // SAFETY: cpu_set_t is a plain bit set, for which all zeroes is a valid (empty) value.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the pointer is to a live cpu_set_t of exactly the size given; pid 0 is the calling thread.
    let rc = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    let bits = 8 * size_of::<libc::cpu_set_t>();
    // SAFETY: CPU_ISSET reads one bit of a live set; `core` stays below the set's number of bits.
    Ok((0..bits).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect())
}

/// Pins the calling thread to one core.
///
/// # Errors
/// What `sched_setaffinity(2)` answers.
pub(crate) fn pin_to(core: usize) -> io::Result<()> {
    // SAFETY: as above: a zeroed cpu_set_t is an empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: `core` came from `allowed_cores`, so it is below the set's number of bits.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the pointer is to a live cpu_set_t of exactly the size given; pid 0 is the calling thread.
    let rc = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_pinned_to_an_allowed_core() {
        std::thread::spawn(|| {
            let cores = allowed_cores().unwrap();
            assert!(!cores.is_empty());
            let last = *cores.last().unwrap();
            pin_to(last).unwrap();
            assert_eq!(allowed_cores().unwrap(), [last]);
        })
        .join()
        .unwrap();
    }
}
