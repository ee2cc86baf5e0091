//! The safe owners over `dpdk-sys`: [`Eal`] once per process, [`Port`], a [`Queue`] for each lcore, and [`Mbuf`].
//!
//! **Invariant:** no raw pointer leaves this folder, and a port is closed when its last handle is dropped, never under a poller.

mod eal;
mod long;
mod mbuf;
mod memif;
mod rights;
mod wakeups;
mod xdp;

use std::cell::Cell;
use std::ffi::{CStr, CString, c_void};
use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};

use dpdk_sys as sys;

pub use self::eal::{Eal, LcoreThread};
use self::long::Long;
pub use self::mbuf::Mbuf;
use self::memif::{Inside, Relay};
pub use self::rights::become_user;
use self::wakeups::{Wakeups, open_descriptors};
use crate::device::{Abilities, Mac, PortError, PortInfo, PortOptions, PortStats};
use crate::frame::{BURST, Frame, FrameVec};
use crate::queue::PacketQueue;

/// Whether this binary has DPDK in it.
pub const IS_BUILT: bool = true;

const _: () = assert!(BURST == sys::BURST);

/// An open port. It closes when this and all its queues are gone.
#[derive(Debug)]
pub struct Port {
    core: Arc<PortCore>,
    info: PortInfo,
}

impl Port {
    /// Opens, configures and starts a port. Answers a handle for each of its queue pairs: as many as are wanted, or as it has.
    ///
    /// # Errors
    /// Each step has its own [`PortError`]; a port that failed half-way is closed again.
    pub fn open(eal: &Arc<Eal>, options: &PortOptions) -> Result<(Self, Vec<Queue>), PortError> {
        let interface = options.device.argument("iface").filter(|_| options.device.is_vdev("net_af_xdp"));
        interface.map_or(Ok(()), clear_xdp)?;
        // One at a time: what appears meanwhile is this port's.
        let _opening = eal.opening.write().expect("nobody panics while he opens a port");
        let before = open_descriptors();
        let relay = Relay::of(&options.device, options.queues, eal)
            .map_err(|e| PortError::NoDevice { errno: e.raw_os_error().unwrap_or(libc::EIO) })?;
        let (relay, text) = relay.unzip();
        let core = PortCore::probe(eal, options, text.as_deref(), relay)?;
        let (info, long) = core.info()?;
        let (queues, does) = (options.queues.min(info.queues_max), info.can.wanted(&options.offloads));
        if queues == 0 {
            return Err(PortError::Queues);
        }
        let pool = core.pool.get_or_init(|| Pool::new(options)).as_ref().ok_or(PortError::NoMemory)?.0.as_ptr();
        // SAFETY: the port exists and is not started; the pool is alive and its frames hold the MTU.
        let ret = unsafe { sys::fg_port_configure(core.id, queues, DESCRIPTORS, options.mtu, pool, flags_of(does)) };
        if ret != 0 {
            return Err(PortError::Configure { errno: -ret });
        }
        // SAFETY: the port is configured.
        let ret = unsafe { sys::fg_port_start(core.id) };
        if ret != 0 {
            return Err(PortError::Start { errno: -ret });
        }
        // SAFETY: the port is started.
        let entries = if does.rss { unsafe { sys::fg_port_spread(core.id, queues) } } else { 0 };
        // A power of two: the hash is cut to the place in the table.
        let rss_entries = u16::try_from(entries).ok().filter(|entries| entries.is_power_of_two());
        let does = Abilities { rss: rss_entries.is_some(), ..does };
        let info = PortInfo { rss_entries, does, ..core.info()?.0 };
        if let Some(program) = interface.and_then(xdp::Attached::to) {
            // Set once: the port was opened just now.
            let _ = core.xdp.set(program);
        }
        // SAFETY: the port is started.
        if unsafe { sys::fg_port_scatters(core.id) } == 1 {
            tracing::warn!(device = %options.device, mtu = options.mtu,
                "the driver may put a long frame into several buffers, and such frames are joined by a copy: lower ports[].mtu to be spared it");
        }
        if let Some(relay) = &core.relay {
            relay.opened(core.id);
        }
        let core = Arc::new(core);
        let wakeups = Wakeups::of_queues(queues, &before);
        let long = does.tso.then_some(long);
        let queue = |(id, wakeups)| Queue { wakeups, port: Arc::clone(&core), id, long, _not_sync: PhantomData };
        let queues = (0..queues).zip(wakeups).map(queue).collect();
        Ok((Self { core, info }, queues))
    }

    /// What the port is.
    #[must_use]
    pub fn info(&self) -> &PortInfo {
        &self.info
    }

    /// Has it let the frames of a VLAN in, where it keeps those out that it was not told of (net_virtio).
    ///
    /// # Errors
    /// The driver's.
    pub fn admit_vlan(&self, id: u16) -> io::Result<()> {
        // SAFETY: the port is started, and open as long as we are.
        match unsafe { sys::fg_port_admit_vlan(self.core.id, id) } {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(-error)),
        }
    }

    /// Empty frames of the port, for an lcore that has no queue pair of it.
    #[must_use]
    pub fn supply(&self) -> Supply {
        Supply { port: Arc::clone(&self.core), _not_sync: PhantomData }
    }

    /// A handle that reads the counters from any thread and does not keep the port open.
    #[must_use]
    pub fn status(&self) -> PortStatus {
        PortStatus(Arc::downgrade(&self.core))
    }
}

/// Reads the counters of a port from any thread.
#[derive(Clone, Debug)]
pub struct PortStatus(Weak<PortCore>);

impl PortStatus {
    /// The counters; `None` once the port is closed.
    #[must_use]
    pub fn stats(&self) -> Option<PortStats> {
        let port = self.0.upgrade()?;
        let mut s = sys::PortStats::default();
        // SAFETY: the port is open as long as `port` is held; `s` is ours.
        let ret = unsafe { sys::fg_port_stats(port.id, &mut s) };
        (ret == 0).then_some(PortStats {
            rx_packets: s.rx_packets,
            tx_packets: s.tx_packets,
            rx_bytes: s.rx_bytes,
            tx_bytes: s.tx_bytes,
            rx_missed: s.rx_missed,
            rx_errors: s.rx_errors,
            tx_errors: s.tx_errors,
            rx_no_mbuf: s.rx_no_mbuf,
            tx_joined: port.joined.load(Ordering::Relaxed),
        })
    }

    /// Whether the port has a link now; one that is closed has none.
    #[must_use]
    pub fn link_up(&self) -> bool {
        let Some(port) = self.0.upgrade() else { return false };
        // SAFETY: the port is open as long as `port` is held.
        unsafe { sys::fg_port_link_up(port.id) == 1 }
    }
}

/// One queue pair, for one lcore: it can be sent to its thread, and is used there alone.
#[derive(Debug)]
pub struct Queue {
    /// Before the port, so that it is dropped before.
    wakeups: Wakeups,
    port: Arc<PortCore>,
    id: u16,
    /// What it takes of long segments, if it is to get any.
    long: Option<Long>,
    _not_sync: PhantomData<Cell<()>>,
}

impl Queue {
    /// Leave for a burst. None: the port's rings are being taken away.
    fn burst(&self) -> Option<Option<Inside<'_>>> {
        match &self.port.relay {
            None => Some(None),
            Some(relay) => relay.gate.enter(self.id).map(Some),
        }
    }

    /// Gives the port the frames that `raw` describes, which are the first of `from`. Answers how many it has taken.
    fn send(&self, raw: &mut [sys::Frame], from: &FrameVec) -> usize {
        let n = burst_of(raw.len());
        let frames = from.as_slice();
        if let Some(long) = self.long
            && long.join(raw, |at| frames[at].bytes()) > 0
        {
            let fills_in_ip = long.port_fills_in_ip.into();
            // SAFETY: the first n <= BURST records describe mbufs that `from` owns until the port takes them; those that are joined to the one
            // before have the same headers, and a payload.
            let sent = unsafe { sys::fg_tx_burst_long(self.port.id, self.id, raw.as_ptr().cast(), n, fills_in_ip) };
            let sent = usize::from(sent);
            if sent > 0 {
                let joined = raw[..sent].iter().filter(|raw| raw.flags & sys::FLAG_JOINED != 0).count();
                self.port.joined.fetch_add(joined as u64, Ordering::Relaxed);
                return sent;
            }
            // There is no room, or the driver takes no long segment like this: short ones it takes if it can.
        }
        // SAFETY: as above.
        usize::from(unsafe { sys::fg_tx_burst(self.port.id, self.id, raw.as_ptr().cast(), n) })
    }
}

impl PacketQueue for Queue {
    fn rx_burst(&mut self, into: &mut FrameVec) {
        let mut raw = [const { MaybeUninit::<sys::Frame>::uninit() }; BURST];
        let Some(_burst) = self.burst() else { return };
        let room = burst_of(into.room());
        // SAFETY: `raw` has place for BURST >= `room` records; the port is started, and this is the queue's only handle.
        let got = unsafe { sys::fg_rx_burst(self.port.id, self.id, raw.as_mut_ptr().cast(), room) };
        for raw in &raw[..usize::from(got)] {
            // SAFETY: the shim has written the first `got` records, and hands each mbuf to us alone.
            into.push(Frame::from(unsafe { Mbuf::from_raw(raw.assume_init()) }));
        }
    }

    fn tx_burst(&mut self, from: &mut FrameVec) {
        let Some(_burst) = self.burst() else { return };
        let mut raw = [const { MaybeUninit::<sys::Frame>::uninit() }; BURST];
        while !from.is_empty() {
            let mbufs = from.as_slice().iter().map_while(|f| f.mbuf().map(Mbuf::raw));
            let n = raw.iter_mut().zip(mbufs).map(|(to, m)| to.write(m)).count();
            // SAFETY: the first n records are written.
            let written = unsafe { slice::from_raw_parts_mut(raw.as_mut_ptr().cast::<sys::Frame>(), n) };
            let sent = self.send(written, from);
            from.take_front(sent).filter_map(Frame::into_mbuf).for_each(Mbuf::forget);
            if sent < n {
                break;
            }
            // Of no memory of a port's: it never can leave, and would hold up what is behind it.
            if n == 0 {
                drop(from.take_front(1));
            }
        }
    }

    fn alloc_burst(&mut self, into: &mut FrameVec) {
        self.port.alloc_burst(into);
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Option<Poll<()>> {
        self.wakeups.poll(cx)
    }

    fn awake(&mut self) {
        self.wakeups.end();
    }
}

/// Empty frames of a port, for an lcore whose frames others receive and send for it.
#[derive(Debug)]
pub struct Supply {
    port: Arc<PortCore>,
    _not_sync: PhantomData<Cell<()>>,
}

impl PacketQueue for Supply {
    fn rx_burst(&mut self, _into: &mut FrameVec) {}

    fn tx_burst(&mut self, _from: &mut FrameVec) {}

    fn alloc_burst(&mut self, into: &mut FrameVec) {
        self.port.alloc_burst(into);
    }

    /// Nothing ever comes here.
    fn wait(&mut self, _cx: &mut Context<'_>) -> Option<Poll<()>> {
        Some(Poll::Pending)
    }
}

/// The port itself: opened by `probe`, closed by drop.
#[derive(Debug)]
struct PortCore {
    id: u16,
    /// Made once the number of queues is known to be right. `Some(None)`: there was no memory for it.
    pool: OnceLock<Option<Pool>>,
    /// The program that the driver has put on its interface.
    xdp: OnceLock<xdp::Attached>,
    /// Segments that left as a part of a long one.
    joined: AtomicU64,
    /// Between a memif port and its peer. Ends when the port is closed, and before EAL does.
    relay: Option<Relay>,
    eal: Arc<Eal>,
}

impl PortCore {
    /// `device` is what the driver gets in place of the device's own.
    fn probe(
        eal: &Arc<Eal>,
        options: &PortOptions,
        device: Option<&str>,
        relay: Option<Relay>,
    ) -> Result<Self, PortError> {
        let text = |s: &str| CString::new(s).map_err(|_| PortError::NoDevice { errno: libc::EINVAL });
        let (args, name) = (text(device.unwrap_or(options.device.as_str()))?, text(&options.device.full_name())?);
        let mut taken = eal.ports.write().expect("nobody panics while he opens or closes a port");
        let mut id = 0;
        // SAFETY: EAL runs, both texts end with a zero byte, `id` is ours.
        let ret = unsafe { sys::fg_dev_probe(args.as_ptr(), name.as_ptr(), &mut id) };
        if ret != 0 {
            return Err(PortError::NoDevice { errno: -ret });
        }
        // DPDK finds a device that is there already, whoever uses it.
        if taken.contains(&id) {
            return Err(PortError::NoDevice { errno: libc::EEXIST });
        }
        taken.push(id);
        let (pool, xdp, joined) = (OnceLock::new(), OnceLock::new(), AtomicU64::new(0));
        Ok(Self { id, pool, xdp, joined, eal: Arc::clone(eal), relay })
    }

    /// Fills a burst with empty frames, or leaves it where there are not so many. From any thread.
    fn alloc_burst(&self, into: &mut FrameVec) {
        let mut raw = [const { MaybeUninit::<sys::Frame>::uninit() }; BURST];
        let n = burst_of(into.room());
        let Some(Some(pool)) = self.pool.get() else { return };
        // SAFETY: `raw` has place for BURST >= n records, and the pool lives as long as the port.
        let ret = unsafe { sys::fg_alloc_bulk(pool.0.as_ptr(), raw.as_mut_ptr().cast(), n) };
        if ret == 0 {
            for raw in &raw[..usize::from(n)] {
                // SAFETY: for 0 the shim has written n records and hands each mbuf to us alone.
                into.push(Frame::from(unsafe { Mbuf::from_raw(raw.assume_init()) }));
            }
        }
    }

    /// What it is, and what it takes of long segments.
    fn info(&self) -> Result<(PortInfo, Long), PortError> {
        let mut raw = MaybeUninit::<sys::PortInfo>::uninit();
        // SAFETY: the port is open; the shim writes the whole record, also when it fails.
        let (ret, raw) = unsafe { (sys::fg_port_info(self.id, raw.as_mut_ptr()), raw.assume_init()) };
        if ret != 0 {
            return Err(PortError::Configure { errno: -ret });
        }
        // SAFETY: the shim ends the name with a zero byte within the array.
        let driver = unsafe { CStr::from_ptr(raw.driver.as_ptr()) };
        let info = PortInfo {
            driver: driver.to_string_lossy().into_owned(),
            mac: Mac(raw.mac),
            mtu: raw.mtu,
            queues_max: raw.queues_max,
            rss_entries: None,
            can: able(raw.able),
            does: Abilities::default(),
        };
        Ok((info, Long::of(&raw)))
    }
}

impl Drop for PortCore {
    fn drop(&mut self) {
        let mut taken = self.eal.ports.write().expect("nobody panics while he opens or closes a port");
        // SAFETY: the last handle is going, so nobody polls the port.
        let ret = unsafe { sys::fg_port_close(self.id) };
        if ret != 0 {
            tracing::warn!(port = self.id, errno = -ret, "the port did not close");
        }
        // The driver looks at the program before it takes it off, which takes more rights than it may have kept.
        if let Some(program) = self.xdp.get() {
            program.detach();
        }
        taken.retain(|id| *id != self.id);
        if let Some(Some(pool)) = self.pool.get()
            && !pool.free()
        {
            self.eal.pin();
        }
    }
}

/// The memory pool of one port.
#[derive(Debug)]
struct Pool(NonNull<c_void>);

// SAFETY: DPDK's pools may be used from any thread, several at once; the pointer is never used after `free`.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Pool {
    fn new(options: &PortOptions) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("frames{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let name = CString::new(name).expect("no zero byte in a name made of letters and digits");
        let frames = FRAMES_PER_QUEUE * u32::from(options.queues) - 1;
        let room = HEADROOM_BYTES + frame_bytes(options.mtu);
        // SAFETY: EAL runs (the caller holds it), the name ends with a zero byte and is copied.
        let pool = unsafe { sys::fg_pool_create(name.as_ptr(), frames, CACHE_FRAMES, room) };
        NonNull::new(pool).map(Self)
    }

    /// Gives the memory back, unless a frame is still out somewhere.
    fn free(&self) -> bool {
        // SAFETY: the pool is alive; after the port is closed nobody can take a frame from it.
        if unsafe { sys::fg_pool_in_use(self.0.as_ptr()) } != 0 {
            return false;
        }
        // SAFETY: no frame is out and none can be taken, so nothing refers to the pool. Called once, by the end of its owner.
        unsafe { sys::fg_pool_free(self.0.as_ptr()) };
        true
    }
}

/// A process that died on net_af_xdp leaves its XDP program behind. Somebody else's program is left alone, and must be seen before the
/// driver is: that takes any program off the interface when it fails.
fn clear_xdp(interface: &str) -> Result<(), PortError> {
    match xdp::attached(interface) {
        Ok(Some(program)) if program.is_leftover() && program.detach(interface).is_ok() => Ok(()),
        Ok(Some(program)) => Err(PortError::XdpBusy { interface: interface.to_owned(), program: program.name }),
        // Nothing there, or not to be found out: the driver has the last word.
        Ok(None) | Err(_) => Ok(()),
    }
}

fn able(flags: u32) -> Abilities {
    let has = |flag| flags & flag != 0;
    Abilities {
        rx_checksum: has(sys::ABLE_RX_CSUM),
        tx_checksum: has(sys::ABLE_TX_CSUM),
        scatter: has(sys::ABLE_SCATTER),
        rss: has(sys::ABLE_RSS),
        vlan_strip: has(sys::ABLE_VLAN_STRIP),
        vlan_insert: has(sys::ABLE_VLAN_INSERT),
        tso: has(sys::ABLE_TSO),
    }
}

/// What a port is told to do.
fn flags_of(does: Abilities) -> u32 {
    let flag = |does, flag| if does { flag } else { 0 };
    flag(does.rx_checksum, sys::ABLE_RX_CSUM)
        | flag(does.tx_checksum, sys::ABLE_TX_CSUM)
        | flag(does.scatter, sys::ABLE_SCATTER)
        | flag(does.rss, sys::ABLE_RSS)
        | flag(does.vlan_strip, sys::ABLE_VLAN_STRIP)
        | flag(does.vlan_insert, sys::ABLE_VLAN_INSERT)
        | flag(does.tso, sys::ABLE_TSO)
}

/// Room for a frame. Cards count their buffers in KiB and would put the rest of a longer frame into another one.
fn frame_bytes(mtu: u16) -> u16 {
    FRAME_BYTES_MIN.max(mtu.saturating_add(ETHERNET_BYTES)).next_multiple_of(1024)
}

fn burst_of(n: usize) -> u16 {
    u16::try_from(n.min(BURST)).expect("a burst is far below 65536")
}

/// Descriptors of each ring; a port that has fewer takes what it has.
const DESCRIPTORS: u16 = 1024;
/// Frames of a queue pair: both rings full, as many in flight, and what af_xdp takes for itself. A power of two.
const FRAMES_PER_QUEUE: u32 = 8192;
/// Frames that an lcore keeps at hand without touching the shared ring.
const CACHE_FRAMES: u32 = 256;
/// What DPDK keeps free in front of a frame (RTE_PKTMBUF_HEADROOM).
const HEADROOM_BYTES: u16 = 128;
/// Room of a frame at least, so that every driver is content.
const FRAME_BYTES_MIN: u16 = 2048;
/// Ethernet header, two VLAN tags, which some drivers count in any case, and the check sequence.
const ETHERNET_BYTES: u16 = 14 + 8 + 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_the_longest_packet_fits_a_buffer_as_cards_count_them() {
        for (mtu, bytes) in [(576, 2048), (1500, 2048), (2022, 2048), (2023, 3072), (8192, 9216), (9000, 9216)] {
            assert_eq!(frame_bytes(mtu), bytes, "{mtu}");
        }
    }
}
