//! The memory of rings: addresses for as long as a flow lives, pages only where bytes have been, and none while it is idle.
//!
//! smoltcp can't exchange the buffers of a live socket, and a flow must be able to take a window full of bytes at any time. So a flow keeps the
//! addresses of its rings, and the pages behind them come with the first touch and go by `MADV_DONTNEED`. Huge pages are kept off: one
//! of them would hold the rings of sixteen flows, of which one is busy.
//!
//! **Invariant:** a place belongs to one socket at a time and outlives it, and no page of a ring is dropped while the ring holds a byte.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};
use smoltcp::iface::{SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::tcp::{Socket, SocketBuffer};

/// The rings of all flows of a stack. They are of one size.
#[derive(Debug)]
pub(super) struct Arena(Rc<Memory>);

impl Arena {
    /// For rings of so many bytes. Maps nothing yet.
    pub(super) fn new(rx_bytes: usize, tx_bytes: usize) -> Self {
        let page = page_bytes();
        let place_bytes = (rx_bytes + tx_bytes).next_multiple_of(page) + page;
        let places_per_map = (MAP_BYTES / place_bytes).max(1);
        let (maps, free, in_use) = Default::default();
        Self(Rc::new(Memory { rx_bytes, tx_bytes, place_bytes, places_per_map, maps, free, in_use }))
    }

    /// A socket with rings.
    ///
    /// # Errors
    /// The system gives no more addresses: `vm.max_map_count`, `ulimit -v`, or strict overcommitment.
    pub(super) fn socket(&self) -> io::Result<RingSocket> {
        let number = self.0.take()?;
        let place = Place { memory: Rc::clone(&self.0), number, has_pages: false, start: self.0.start(number) };
        // SAFETY: the place was handed out just now, so that nobody else refers to its bytes. The slices go into a socket that stays in its
        // RingSocket, which drops it before the place; a place keeps the mapping.
        let (rx, tx) = unsafe { place.rings() };
        let mut sockets = SocketSet::new(vec![SocketStorage::EMPTY]);
        let handle = sockets.add(Socket::new(SocketBuffer::new(rx), SocketBuffer::new(tx)));
        Ok(RingSocket { sockets, handle, place })
    }

    /// Bytes of rings that have pages behind them: whole rings, since their owners may fill them.
    pub(super) fn bytes_in_use(&self) -> usize {
        self.0.in_use.get() * (self.0.rx_bytes + self.0.tx_bytes)
    }
}

/// A TCP socket, alone in a set, with its rings. Nobody takes the socket out of it: it would outlive them.
pub(super) struct RingSocket {
    /// Dropped before what it borrows from.
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    place: Place,
}

impl RingSocket {
    pub(super) fn get(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// The set that holds the socket alone, for the interface.
    pub(super) fn set(&mut self) -> &mut SocketSet<'static> {
        &mut self.sockets
    }

    /// Has the caches fetch the socket, and the place in its receive ring of the byte that comes behind so many.
    pub(super) fn fetch(&self, received: u64) {
        prefetch(self.sockets.get::<Socket<'static>>(self.handle));
        let Memory { rx_bytes, .. } = *self.place.memory;
        #[allow(clippy::cast_possible_truncation, reason = "what is cut off counts whole rings")]
        let at = self.place.start.wrapping_add(received as usize % rx_bytes);
        fetch_line(at);
        fetch_line(at.wrapping_add(LINE_BYTES));
    }

    /// The rings are being used. Says whether they had no pages before.
    pub(super) fn note_use(&mut self) -> bool {
        let is_first = !self.place.has_pages;
        if is_first {
            self.place.has_pages = true;
            self.place.memory.in_use.set(self.place.memory.in_use.get() + 1);
        }
        is_first
    }

    /// Whether the rings have pages, as far as was noted.
    pub(super) fn has_pages(&self) -> bool {
        self.place.has_pages
    }

    /// Gives the pages back if both rings are empty. The caller knows that no segment waits in the receive ring for one before it: the
    /// socket does not say so.
    pub(super) fn give_back(&mut self) -> bool {
        let socket = self.get();
        let is_empty = socket.recv_queue() == 0 && socket.send_queue() == 0;
        if is_empty {
            self.place.give_back();
        }
        is_empty
    }
}

/// Has the caches fetch a value that will be needed soon.
pub(super) fn prefetch<T>(what: &T) {
    let start = std::ptr::from_ref(what).cast::<u8>();
    for offset in (0..size_of::<T>()).step_by(LINE_BYTES) {
        fetch_line(start.wrapping_add(offset));
    }
}

/// Has the caches fetch the line of this address, if there is one.
fn fetch_line(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: it is a hint, that takes any address and changes nothing; every x86-64 has it.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Bytes of a line of the caches.
const LINE_BYTES: usize = 64;

/// A place for two rings in a mapping.
struct Place {
    memory: Rc<Memory>,
    number: u32,
    has_pages: bool,
    /// Where the first of the rings begins.
    start: *mut u8,
}

impl Place {
    /// The bytes of the two rings.
    ///
    /// # Safety
    /// Once for a place, and the slices are gone before the place is.
    unsafe fn rings(&self) -> (&'static mut [u8], &'static mut [u8]) {
        let Memory { rx_bytes, tx_bytes, .. } = *self.memory;
        let rx = self.start;
        // SAFETY: shade and rings are within the place, and a place is within its map. Anonymous memory is initialised: it reads as 0. It is
        // unmapped after the last place, and by the caller's word nobody else refers to these bytes until then.
        unsafe {
            let tx = rx.add(rx_bytes);
            (std::slice::from_raw_parts_mut(rx, rx_bytes), std::slice::from_raw_parts_mut(tx, tx_bytes))
        }
    }

    fn give_back(&mut self) {
        if !self.has_pages {
            return;
        }
        let memory = &*self.memory;
        let (map, offset) = memory.find(self.number);
        // SAFETY: the range is of this place alone, whole pages; its bytes become 0, which is a value of theirs. Nobody reads or writes them
        // meanwhile: the socket that may is borrowed by the caller, or gone.
        let given = unsafe {
            memory.maps.borrow()[map].unchecked_advise_range(UncheckedAdvice::DontNeed, offset, memory.place_bytes)
        };
        // It fails for locked memory only: then the pages stay, and count.
        if given.is_ok() {
            self.has_pages = false;
            memory.in_use.set(memory.in_use.get() - 1);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.give_back();
        if self.has_pages {
            self.memory.in_use.set(self.memory.in_use.get() - 1);
        }
        self.memory.free.borrow_mut().push(self.number);
    }
}

/// What the places of a stack share.
#[derive(Debug)]
struct Memory {
    rx_bytes: usize,
    tx_bytes: usize,
    /// Whole pages, with one to spare for the shades.
    place_bytes: usize,
    places_per_map: usize,
    maps: RefCell<Vec<MmapRaw>>,
    /// Places that nobody has.
    free: RefCell<Vec<u32>>,
    /// Places with pages behind them.
    in_use: Cell<usize>,
}

impl Memory {
    /// A place that nobody has.
    fn take(&self) -> io::Result<u32> {
        let mut free = self.free.borrow_mut();
        if free.is_empty() {
            let mut maps = self.maps.borrow_mut();
            let first = maps.len() * self.places_per_map;
            let numbers = first..first + self.places_per_map;
            let numbers =
                numbers.map(|n| u32::try_from(n).map_err(io::Error::other)).collect::<io::Result<Vec<_>>>()?;
            maps.push(map(self.places_per_map * self.place_bytes)?);
            // The lowest first.
            free.extend(numbers.into_iter().rev());
        }
        Ok(free.pop().expect("a map has one place at least"))
    }

    /// Where the first ring of a place begins.
    fn start(&self, number: u32) -> *mut u8 {
        let (map, offset) = self.find(number);
        // Rings that all began at the start of a page would fight for the same few sets of the caches.
        let shade = number as usize % SHADES * SHADE_BYTES;
        self.maps.borrow()[map].as_mut_ptr().wrapping_add(offset + shade)
    }

    /// The map of a place, and its offset there.
    fn find(&self, number: u32) -> (usize, usize) {
        let number = number as usize;
        (number / self.places_per_map, number % self.places_per_map * self.place_bytes)
    }
}

/// Addresses without memory behind them.
fn map(bytes: usize) -> io::Result<MmapRaw> {
    let map = MmapRaw::from(MmapOptions::new().len(bytes).no_reserve_swap().map_anon()?);
    // A kernel without huge pages knows no such advice, and needs none.
    let _ = map.advise(Advice::NoHugePage);
    Ok(map)
}

fn page_bytes() -> usize {
    // SAFETY: it takes a number and gives one.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).expect("every system has pages")
}

/// Bytes of a mapping. Few enough mappings for `vm.max_map_count`, and nothing that the kernel would take for a mistake.
const MAP_BYTES: usize = 64 * 1024 * 1024;
/// Where in a page rings begin: so many places, so far apart. Two lines, since the hardware fetches in pairs.
const SHADES: usize = 16;
const SHADE_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_do_not_overlap_and_come_back() {
        let arena = Arena::new(8192, 4096);
        let mut sockets: Vec<_> = (0..100).map(|_| arena.socket().unwrap()).collect();
        let memory = &*arena.0;
        let mut starts: Vec<_> = sockets.iter().map(|s| s.place.start as usize).collect();
        starts.sort_unstable();
        assert!(starts.windows(2).all(|w| w[0] + 8192 + 4096 <= w[1]));
        for (n, place) in sockets.iter().map(|s| &s.place).enumerate() {
            assert!(memory.find(place.number).1 + memory.place_bytes <= memory.maps.borrow()[0].len(), "place {n}");
            let (map, offset) = memory.find(place.number);
            let end = memory.maps.borrow()[map].as_mut_ptr() as usize + offset + memory.place_bytes;
            assert!(place.start as usize + 8192 + 4096 <= end, "place {n}");
        }
        let numbers = |s: &[RingSocket]| s.iter().map(|s| s.place.number).collect::<Vec<_>>();
        let before = numbers(&sockets);
        sockets.drain(10..20);
        sockets.extend((0..10).map(|_| arena.socket().unwrap()));
        let mut after = numbers(&sockets);
        after.sort_unstable();
        assert_eq!(before, after, "no new ones while there are free ones");
        assert_eq!(arena.bytes_in_use(), 0);
    }

    #[test]
    fn pages_are_given_back_and_a_socket_keeps_its_mapping() {
        let arena = Arena::new(64 * 1024, 64 * 1024);
        let mut socket = arena.socket().unwrap();
        assert!(socket.note_use() && !socket.note_use() && socket.has_pages());
        assert_eq!(arena.bytes_in_use(), 128 * 1024);
        // SAFETY: within the place, whose rings are empty.
        unsafe { socket.place.start.write_bytes(7, 128 * 1024) };
        let before = resident(&arena);
        assert!(before >= 32, "{before} pages");
        assert!(socket.give_back() && !socket.has_pages());
        assert_eq!((resident(&arena), arena.bytes_in_use()), (0, 0));
        socket.note_use();
        drop(arena);
        assert_eq!((socket.get().recv_capacity(), socket.get().send_capacity()), (64 * 1024, 64 * 1024));
    }

    #[test]
    fn what_is_dropped_in_use_leaves_no_page() {
        let arena = Arena::new(4096, 4096);
        let mut socket = arena.socket().unwrap();
        socket.note_use();
        // SAFETY: within the place, whose rings are empty.
        unsafe { socket.place.start.write_bytes(7, 8192) };
        drop(socket);
        assert_eq!((resident(&arena), arena.bytes_in_use()), (0, 0));
    }

    /// Pages of the arena that are in memory.
    fn resident(arena: &Arena) -> usize {
        let maps = arena.0.maps.borrow();
        let pages = |map: &MmapRaw| {
            let mut there = vec![0_u8; map.len() / page_bytes()];
            // SAFETY: the range is mapped, and there is a byte for each page of it.
            let done = unsafe { libc::mincore(map.as_mut_ptr().cast(), map.len(), there.as_mut_ptr()) };
            assert_eq!(done, 0, "{}", io::Error::last_os_error());
            there.iter().filter(|p| **p & 1 == 1).count()
        };
        maps.iter().map(pages).sum()
    }
}
