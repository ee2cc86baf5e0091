//! DPDK's environment (EAL), once per process, and the threads that work in it.
//!
//! **Invariant:** starting EAL leaves the calling thread where it was allowed to run before; only an lcore's own thread is pinned.

#![allow(
    clippy::disallowed_types,
    reason = "the lock is taken when a port opens or closes and by the control thread, never by a poll"
)]

use std::ffi::{CString, c_char, c_int};
use std::fs;
use std::marker::PhantomData;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, RwLock, Weak};

use dpdk_sys as sys;

use crate::device::PortError;

/// EAL, from its start until the last port, lcore and handle are gone. Then its memory goes back to the system.
#[derive(Debug)]
pub struct Eal {
    /// EAL keeps pointers into its arguments.
    _args: Vec<CString>,
    /// A memory pool still had frames out when its port closed: EAL's memory must stay mapped.
    pinned: AtomicBool,
    /// The ports that are open. Locked while one is being opened or closed.
    #[allow(
        clippy::disallowed_types,
        reason = "taken when a port opens or closes, and by the control thread; never by a poll"
    )]
    pub(super) ports: RwLock<Vec<u16>>,
    /// Held while a port is being opened.
    #[allow(clippy::disallowed_types, reason = "taken when a port opens; never by a poll")]
    pub(super) opening: RwLock<()>,
}

/// DPDK can't be initialised twice in a process, not even after its clean-up.
static EAL: OnceLock<Result<Weak<Eal>, PortError>> = OnceLock::new();

impl Eal {
    /// Starts EAL with `args` (without a program name), or joins the one that runs already, whatever its arguments.
    ///
    /// # Errors
    /// [`PortError::Eal`] when EAL refuses, and [`PortError::EalSpent`] when it ran before in this process and has ended.
    pub fn start(args: &[String]) -> Result<Arc<Self>, PortError> {
        let mut started = None;
        let known = EAL.get_or_init(|| {
            let eal = Arc::new(Self::init(args)?);
            let weak = Arc::downgrade(&eal);
            started = Some(eal);
            Ok(weak)
        });
        match (started, known) {
            (Some(eal), _) => Ok(eal),
            (None, Ok(eal)) => eal.upgrade().ok_or(PortError::EalSpent),
            (None, Err(e)) => Err(e.clone()),
        }
    }

    fn init(args: &[String]) -> Result<Self, PortError> {
        let words = std::iter::once("ferrogate").chain(args.iter().map(String::as_str));
        let args: Vec<CString> =
            words.map(CString::new).collect::<Result<_, _>>().map_err(|_| PortError::Eal { errno: libc::EINVAL })?;
        // EAL permutes the array of pointers, never the texts behind them.
        let mut argv: Vec<*mut c_char> = args.iter().map(|a| a.as_ptr().cast_mut()).collect();
        let argc = c_int::try_from(argv.len()).map_err(|_| PortError::Eal { errno: libc::E2BIG })?;
        let before = Affinity::current();
        // SAFETY: argv holds argc pointers to texts that end with a zero byte; they live in `args`, which `Eal` keeps.
        let ret = unsafe { sys::fg_eal_init(argc, argv.as_mut_ptr()) };
        if let Some(before) = before {
            before.apply();
        }
        if ret < 0 {
            return Err(PortError::Eal { errno: -ret });
        }
        Ok(Self { _args: args, pinned: AtomicBool::new(false), ports: RwLock::default(), opening: RwLock::default() })
    }

    /// Cycles of the time stamp counter in a second.
    #[must_use]
    pub fn tsc_hertz(&self) -> u64 {
        // SAFETY: EAL runs, and has measured it.
        unsafe { sys::fg_tsc_hz() }
    }

    /// A pool with frames out stays, and EAL with it.
    pub(super) fn pin(&self) {
        self.pinned.store(true, Ordering::Relaxed);
    }
}

impl Drop for Eal {
    fn drop(&mut self) {
        if self.pinned.load(Ordering::Relaxed) {
            tracing::error!("frames of a closed port are still in use: EAL keeps its memory until the process ends");
            return;
        }
        // SAFETY: every port and every lcore thread holds an Arc of this Eal, so none is left; no pool has a frame out.
        let ret = unsafe { sys::fg_eal_cleanup() };
        if ret != 0 {
            tracing::warn!(errno = -ret, "EAL did not clean up");
        }
        release_segments();
    }
}

/// EAL's end makes every pointer into its memory void, but with `--in-memory` it leaves the pages mapped and their descriptors open, so
/// that they would stay taken until the process ends. This gives them back.
fn release_segments() {
    let is_segment = |name: &str| name.starts_with("/memfd:seg_");
    for line in fs::read_to_string("/proc/self/maps").unwrap_or_default().lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(range), Some(name)) = (words.next(), words.nth(4)) else { continue };
        let Some((from, to)) = range.split_once('-').filter(|_| is_segment(name)) else { continue };
        if let (Ok(from), Ok(to)) = (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16)) {
            // SAFETY: EAL mapped this range under this name and has ended; by its contract nothing refers to it any more.
            unsafe { libc::munmap(std::ptr::without_provenance_mut(from), to - from) };
        }
    }
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return };
    for entry in entries.flatten() {
        let segment = fs::read_link(entry.path()).is_ok_and(|to| is_segment(&to.to_string_lossy()));
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok()).filter(|_| segment);
        if let Some(fd) = number {
            // SAFETY: EAL made the memfd under this name and has ended, so nobody else will use or close the descriptor.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
}

/// The calling thread as one of EAL's: pinned, and with a cache of its own in each memory pool. Ends with its drop.
#[derive(Debug)]
pub struct LcoreThread {
    _eal: Arc<Eal>,
    /// It belongs to the thread that made it.
    _not_send: PhantomData<*mut ()>,
}

impl LcoreThread {
    /// Registers the calling thread and pins it to `cpu`.
    ///
    /// # Errors
    /// [`PortError::Eal`] when the CPU can't be used or EAL has no lcore left.
    pub fn register(eal: &Arc<Eal>, cpu: Option<usize>) -> Result<Self, PortError> {
        if let Some(cpu) = cpu
            && !Affinity::only(cpu).is_some_and(|a| a.apply())
        {
            return Err(PortError::Eal { errno: libc::EINVAL });
        }
        // An idle lcore sleeps for tens of microseconds; the kernel's default slack would double that. Best effort.
        // SAFETY: PR_SET_TIMERSLACK takes one integer and touches no memory.
        unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000_u64) };
        // SAFETY: EAL runs, because `eal` says so; a thread that is registered already answers an error.
        let ret = unsafe { sys::fg_thread_register() };
        if ret < 0 {
            return Err(PortError::Eal { errno: -ret });
        }
        Ok(Self { _eal: Arc::clone(eal), _not_send: PhantomData })
    }
}

impl Drop for LcoreThread {
    fn drop(&mut self) {
        // SAFETY: this thread was registered by `register` and, not being Send, is the one that drops.
        unsafe { sys::fg_thread_unregister() };
    }
}

/// The CPUs a thread may run on.
struct Affinity(libc::cpu_set_t);

impl Affinity {
    /// Those of the calling thread.
    fn current() -> Option<Self> {
        // SAFETY: all zeroes is a valid, empty cpu_set_t.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` is as large as we say; 0 is the calling thread.
        let ret = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
        (ret == 0).then_some(Self(set))
    }

    /// One CPU.
    fn only(cpu: usize) -> Option<Self> {
        if cpu >= 8 * size_of::<libc::cpu_set_t>() {
            return None;
        }
        // SAFETY: all zeroes is a valid, empty cpu_set_t.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: `cpu` is within the set, checked above.
        unsafe { libc::CPU_SET(cpu, &mut set) };
        Some(Self(set))
    }

    /// Moves the calling thread there.
    fn apply(&self) -> bool {
        // SAFETY: the set is as large as we say; 0 is the calling thread.
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const self.0) == 0 }
    }
}
