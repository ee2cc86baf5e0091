//! Who the process is once EAL and its ports are open: another user than root, with the few capabilities that closing a port takes.
//!
//! **Invariant:** all threads change user or none does; what is kept is kept by the calling thread and those that it starts from then on.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use super::Eal;
use crate::preflight::Capability;

/// Makes the process `user`'s, with `kept` of its capabilities. New privileges can't be gained from then on, by whatever it executes.
///
/// # Errors
/// When there is no such user, or the process may not become one.
pub fn become_user(_eal: &Eal, user: &str, kept: &[Capability]) -> io::Result<()> {
    let found = User::named(user)?;
    let mask = kept.iter().fold(0_u64, |mask, (bit, _)| mask | 1 << bit);
    // SAFETY: integers only. Without this, leaving user 0 takes every capability.
    check(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1_u64, 0_u64, 0_u64, 0_u64) })?;
    // SAFETY: the name ends with a zero byte. glibc has every thread of the process follow, as in the two calls behind.
    check(unsafe { libc::initgroups(found.name.as_ptr(), found.group) })?;
    // SAFETY: integers only.
    check(unsafe { libc::setresgid(found.group, found.group, found.group) })?;
    // SAFETY: integers only.
    check(unsafe { libc::setresuid(found.id, found.id, found.id) })?;
    keep(mask)?;
    // SAFETY: integers only.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1_u64, 0_u64, 0_u64, 0_u64) })
}

/// What the system knows of a user.
struct User {
    name: CString,
    id: libc::uid_t,
    group: libc::gid_t,
}

impl User {
    fn named(user: &str) -> io::Result<Self> {
        let name = CString::new(user).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let (mut text, mut found) = (vec![0; ENTRY_BYTES], ptr::null_mut());
        // SAFETY: the name ends with a zero byte; `text` is as long as we say; what is found points into `entry` and `text`, which outlive it.
        let errno = unsafe {
            libc::getpwnam_r(name.as_ptr(), entry.as_mut_ptr(), text.as_mut_ptr(), text.len(), &raw mut found)
        };
        if errno != 0 {
            return Err(io::Error::from_raw_os_error(errno));
        }
        if found.is_null() {
            return Err(io::ErrorKind::NotFound.into());
        }
        // SAFETY: it was found, so the call has written all of the entry.
        let entry = unsafe { entry.assume_init() };
        Ok(Self { name, id: entry.pw_uid, group: entry.pw_gid })
    }
}

/// Leaves the calling thread these capabilities and no others (capset(2), version 3: two halves of each set).
fn keep(mask: u64) -> io::Result<()> {
    let header = [CAPABILITY_VERSION_3, 0];
    let half = |shift: u32| u32::try_from(mask >> shift & 0xffff_ffff).expect("32 bits");
    // Effective, permitted, inheritable; then the upper halves.
    let data = [half(0), half(0), 0, half(32), half(32), 0];
    // SAFETY: a header of two words for the calling thread, and six words of data, as version 3 has them; both are alive.
    let ret = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
    check(i32::try_from(ret).unwrap_or(-1))
}

fn check(ret: libc::c_int) -> io::Result<()> {
    if ret == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `_LINUX_CAPABILITY_VERSION_3` of linux/capability.h.
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
/// Room for the texts of an entry of the user database.
const ENTRY_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_name() {
        let root = User::named("root").unwrap();
        assert_eq!((root.id, root.group), (0, 0));
        assert_eq!(User::named("nobody-has-this-name").err().map(|e| e.kind()), Some(io::ErrorKind::NotFound));
        assert_eq!(User::named("a\0b").err().map(|e| e.kind()), Some(io::ErrorKind::InvalidInput));
    }
}
