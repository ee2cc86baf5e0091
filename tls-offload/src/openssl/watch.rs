//! Descriptors by which accelerators tell that an operation is done, watched together by one epoll of this thread.
//!
//! **Invariant:** a descriptor is watched while its operation is in the accelerator; it is the provider's, and neither read nor closed here.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_int;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::Arc;

use super::job::WakeCell;

struct Watch {
    epoll: OwnedFd,
    cells: HashMap<c_int, Arc<WakeCell>>,
}

thread_local! {
    static WATCH: RefCell<Option<Watch>> = const { RefCell::new(None) };
}

/// Has `cell` told when `fd` is readable. False: it can't be watched.
pub(super) fn add(fd: c_int, cell: Arc<WakeCell>) -> bool {
    WATCH.with_borrow_mut(|watch| {
        if watch.is_none() {
            // SAFETY: makes a descriptor that is ours.
            let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
            if epoll < 0 {
                return false;
            }
            // SAFETY: as above.
            *watch = Some(Watch { epoll: unsafe { OwnedFd::from_raw_fd(epoll) }, cells: HashMap::new() });
        }
        let Some(watch) = watch else { return false };
        let (Ok(events), Ok(data)) = (u32::try_from(libc::EPOLLIN), u64::try_from(fd)) else { return false };
        let mut event = libc::epoll_event { events, u64: data };
        // SAFETY: the epoll is ours; the descriptor is open while its operation is in the accelerator.
        let added = unsafe { libc::epoll_ctl(watch.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) } == 0;
        if added {
            watch.cells.insert(fd, cell);
        }
        added
    })
}

/// Tells those whose descriptor is readable, and watches it no more.
pub(super) fn collect() {
    let mut told = Vec::new();
    WATCH.with_borrow_mut(|watch| {
        let Some(watch) = watch.as_mut().filter(|watch| !watch.cells.is_empty()) else { return };
        loop {
            let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS];
            // SAFETY: there is room for as many events as it is told; it does not wait.
            let count = unsafe { libc::epoll_wait(watch.epoll.as_raw_fd(), events.as_mut_ptr(), EVENTS_MAX, 0) };
            let count = usize::try_from(count).unwrap_or(0);
            for event in &events[..count] {
                let Ok(fd) = c_int::try_from(event.u64) else { continue };
                // SAFETY: the epoll is ours. One that its provider has closed already is watched no more anyway.
                unsafe { libc::epoll_ctl(watch.epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, ptr::null_mut()) };
                told.extend(watch.cells.remove(&fd));
            }
            if count < EVENTS {
                return;
            }
        }
    });
    told.iter().for_each(|cell| cell.tell());
}

/// Readable when [`turn`](super::turn::turn) has something to do for a descriptor of an accelerator on this thread. None: there was none yet.
pub fn watched() -> Option<OwnedFd> {
    WATCH.with_borrow(|watch| watch.as_ref()?.epoll.try_clone().ok())
}

/// Events that are taken at a time.
const EVENTS: usize = 64;
const EVENTS_MAX: c_int = 64;
