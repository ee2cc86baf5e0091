//! Descriptors by which accelerators tell that an operation is done, watched together by one epoll of this thread.
//!
//! A number is another descriptor's as soon as its provider has closed it, so what is watched has a mark beside its number.
//!
//! **Invariant:** a descriptor is watched from the pause of its job until that goes on, and tells that job only; it is the provider's, and neither
//! read nor closed here.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_int;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::Arc;

use super::job::WakeCell;

/// A descriptor that is watched until this is dropped: before its job goes on, for then the provider may close it.
#[derive(Debug)]
pub(super) struct Watched {
    fd: c_int,
    mark: u32,
}

struct Watch {
    epoll: OwnedFd,
    cells: HashMap<c_int, (u32, Arc<WakeCell>)>,
    next_mark: u32,
}

thread_local! {
    static WATCH: RefCell<Option<Watch>> = const { RefCell::new(None) };
}

/// Has `cell` told when `fd` is readable. None: it can't be watched, or it is already for another job.
pub(super) fn add(fd: c_int, cell: &Arc<WakeCell>) -> Option<Watched> {
    let (watched, before) = WATCH.with_borrow_mut(|watch| {
        if watch.is_none() {
            *watch = Watch::new();
        }
        watch.as_mut()?.add(fd, cell)
    })?;
    // Its descriptor was closed while its job waited for that: it had better look.
    if let Some(cell) = before {
        cell.tell();
    }
    Some(watched)
}

/// Tells those whose descriptor is readable.
pub(super) fn collect() {
    let mut told = Vec::new();
    WATCH.with_borrow_mut(|watch| {
        if let Some(watch) = watch.as_mut().filter(|watch| !watch.cells.is_empty()) {
            watch.collect(&mut told);
        }
    });
    told.iter().for_each(|cell| cell.tell());
}

/// Readable when [`turn`](super::turn::turn) has something to do for a descriptor of an accelerator on this thread. None: there was none yet.
pub fn watched() -> Option<OwnedFd> {
    WATCH.with_borrow(|watch| watch.as_ref()?.epoll.try_clone().ok())
}

impl Watch {
    fn new() -> Option<Self> {
        // SAFETY: makes a descriptor that is ours.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if epoll < 0 {
            return None;
        }
        // SAFETY: as above, and it was made.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        Some(Self { epoll, cells: HashMap::new(), next_mark: 0 })
    }

    /// And whose number it was before.
    fn add(&mut self, fd: c_int, cell: &Arc<WakeCell>) -> Option<(Watched, Option<Arc<WakeCell>>)> {
        let mark = self.next_mark;
        let number = u64::from(u32::try_from(fd).ok()?);
        // Tells once: what is told is looked after before it can tell again, and what nobody knows any more can't tell for ever.
        let events = u32::try_from(libc::EPOLLIN | libc::EPOLLONESHOT).ok()?;
        let mut event = libc::epoll_event { events, u64: u64::from(mark) << u32::BITS | number };
        // SAFETY: the epoll is ours; the descriptor is open while its job has paused.
        let added = unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) } == 0;
        if !added {
            return None;
        }
        self.next_mark = mark.wrapping_add(1);
        let before = self.cells.insert(fd, (mark, Arc::clone(cell)));
        Some((Watched { fd, mark }, before.map(|(_, cell)| cell)))
    }

    fn collect(&self, told: &mut Vec<Arc<WakeCell>>) {
        loop {
            let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS];
            // SAFETY: there is room for as many events as it is told; it does not wait.
            let count = unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), EVENTS_MAX, 0) };
            let count = usize::try_from(count).unwrap_or(0);
            for event in &events[..count] {
                let (mark, number) = (event.u64 >> u32::BITS, event.u64 & u64::from(u32::MAX));
                let cell = c_int::try_from(number).ok().and_then(|fd| self.cells.get(&fd));
                told.extend(cell.filter(|(of, _)| u64::from(*of) == mark).map(|(_, cell)| Arc::clone(cell)));
            }
            if count < EVENTS {
                return;
            }
        }
    }

    fn remove(&mut self, watched: &Watched) {
        if self.cells.get(&watched.fd).is_none_or(|(mark, _)| *mark != watched.mark) {
            return;
        }
        self.cells.remove(&watched.fd);
        // SAFETY: the epoll is ours. What its provider has closed already is watched no more anyway.
        unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, watched.fd, ptr::null_mut()) };
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Not there when the thread ends.
        let _ = WATCH.try_with(|watch| {
            if let Some(watch) = watch.borrow_mut().as_mut() {
                watch.remove(self);
            }
        });
    }
}

/// Events that are taken at a time.
const EVENTS: usize = 64;
const EVENTS_MAX: c_int = 64;

#[cfg(test)]
mod tests {
    use std::os::fd::IntoRawFd;
    use std::task::Waker;

    use super::*;

    fn is_told(cell: &WakeCell) -> bool {
        cell.take(Waker::noop())
    }

    #[test]
    fn a_number_that_is_used_again_tells_who_has_it_now() {
        let cells: [Arc<WakeCell>; 2] = Default::default();
        let (first_end, first_other) = std::io::pipe().unwrap();
        let number = first_end.into_raw_fd();
        let first = add(number, &cells[0]).unwrap();
        // The provider closes it while it is watched, and gets the number anew.
        let (second_end, second_other) = std::io::pipe().unwrap();
        // SAFETY: the number is the first's, which nobody uses any more, and the second's is open.
        assert_eq!(unsafe { libc::dup2(second_end.as_raw_fd(), number) }, number);
        let second = add(number, &cells[1]).unwrap();
        assert_eq!(cells.each_ref().map(|c| is_told(c)), [true, false], "the first looks for itself");
        drop((first, first_other));
        collect();
        assert_eq!(cells.each_ref().map(|c| is_told(c)), [false, false]);
        drop(second_other);
        collect();
        collect();
        assert_eq!(cells.each_ref().map(|c| is_told(c)), [false, true]);
        drop(second);
        // SAFETY: nobody else closes it.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
        collect();
        assert_eq!(cells.each_ref().map(|c| is_told(c)), [false, false]);
    }

    #[test]
    fn what_is_no_longer_watched_tells_nobody() {
        let cell = Arc::<WakeCell>::default();
        let (end, other) = std::io::pipe().unwrap();
        drop(add(end.as_raw_fd(), &cell).unwrap());
        drop(other);
        collect();
        assert!(!is_told(&cell));
        assert!(add(-1, &cell).is_none());
    }
}
