//! Declarations of `shim.c`, the narrow C shim over DPDK's inline functions.
//!
//! The layout of an mbuf stays in C; a burst is an array of [`Frame`]. The safe owners are in `dataplane-dpdk/src/port`.
//!
//! **Invariant:** declarations and plain records only, no logic.

use std::ffi::{c_char, c_int, c_void};

/// Frames of one burst, at most.
pub const BURST: usize = 32;

/// rx: the port found the IPv4 and the TCP checksum right.
pub const FLAG_CSUM_GOOD: u16 = 1;
/// rx: the port found a checksum wrong.
pub const FLAG_CSUM_BAD: u16 = 2;
/// rx: the frame continues in further mbufs.
pub const FLAG_SEGMENTED: u16 = 4;
/// tx: the port is to fill in the checksums of this TCP segment (IPv4 without options).
pub const FLAG_TX_CSUM: u16 = 8;
/// rx: the port has taken the tag off, which is in `vlan`. tx: the port puts it on.
pub const FLAG_VLAN: u16 = 16;
/// tx: this TCP segment goes on where the frame before ends; for `fg_tx_burst_long`.
pub const FLAG_JOINED: u16 = 32;

/// The port looks at IPv4 and TCP checksums.
pub const ABLE_RX_CSUM: u32 = 1;
/// The port fills them in.
pub const ABLE_TX_CSUM: u32 = 2;
/// The port receives into several mbufs.
pub const ABLE_SCATTER: u32 = 4;
/// The port spreads TCP over its queues by a key and a table.
pub const ABLE_RSS: u32 = 8;
/// The port cuts long TCP segments.
pub const ABLE_TSO: u32 = 16;
/// The port takes VLAN tags off.
pub const ABLE_VLAN_STRIP: u32 = 32;
/// The port puts VLAN tags on.
pub const ABLE_VLAN_INSERT: u32 = 64;
/// The port fills in the checksums of IPv4 headers, whatever it does for TCP.
pub const ABLE_TX_IP_CSUM: u32 = 128;

/// One frame of a burst, as the shim describes it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// The mbuf, opaque here.
    pub mbuf: *mut c_void,
    /// Its first byte.
    pub data: *mut u8,
    /// The port's hash of the flow.
    pub rss: u32,
    /// Bytes of the frame.
    pub len: u16,
    /// Bytes that `data` may grow to.
    pub room: u16,
    /// `FLAG_*`.
    pub flags: u16,
    /// The VLAN tag that the port took off or is to put on, with `FLAG_VLAN`.
    pub vlan: u16,
    /// Bytes that are free in front of `data`.
    pub head: u16,
    /// 0.
    pub unused: u16,
}

const _: () = assert!(size_of::<Frame>() == 32);

/// What a port is and can do.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PortInfo {
    /// Name of the poll-mode driver, ended by a zero byte.
    pub driver: [c_char; 64],
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// Its MTU, in bytes.
    pub mtu: u16,
    /// Queue pairs it can have.
    pub queues_max: u16,
    /// How long what it cuts off a long segment may be, in bytes, Ethernet header included.
    pub tso_frame_max: u16,
    /// `ABLE_*`.
    pub able: u32,
    /// Of how many mbufs a long segment may be.
    pub tso_mbufs_max: u16,
    /// 0.
    pub unused: u16,
}

const _: () = assert!(size_of::<PortInfo>() == 84);

/// The counters of a port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "the names of rte_eth_stats")]
pub struct PortStats {
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_missed: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    pub rx_no_mbuf: u64,
}

// 0 or a count for success, a negative errno for failure.
#[allow(missing_docs, reason = "documented where they are defined, in shim.c")]
unsafe extern "C" {
    pub fn fg_eal_init(argc: c_int, argv: *mut *mut c_char) -> c_int;
    pub fn fg_eal_cleanup() -> c_int;
    pub fn fg_thread_register() -> c_int;
    pub fn fg_thread_unregister();
    pub fn fg_tsc_hz() -> u64;

    pub fn fg_pool_create(name: *const c_char, frames: u32, cache: u32, data_room: u16) -> *mut c_void;
    pub fn fg_pool_in_use(pool: *const c_void) -> u32;
    pub fn fg_pool_free(pool: *mut c_void);
    pub fn fg_alloc_bulk(pool: *mut c_void, out: *mut Frame, n: u16) -> c_int;
    pub fn fg_free_bulk(mbufs: *mut *mut c_void, n: u16);

    pub fn fg_dev_probe(devargs: *const c_char, name: *const c_char, port: *mut u16) -> c_int;
    pub fn fg_port_info(port: u16, out: *mut PortInfo) -> c_int;
    pub fn fg_port_configure(port: u16, queues: u16, descriptors: u16, mtu: u16, pool: *mut c_void, able: u32)
    -> c_int;
    pub fn fg_port_start(port: u16) -> c_int;
    pub fn fg_port_spread(port: u16, queues: u16) -> c_int;
    pub fn fg_port_admit_vlan(port: u16, id: u16) -> c_int;
    pub fn fg_port_restart(port: u16) -> c_int;
    pub fn fg_port_close(port: u16) -> c_int;
    pub fn fg_port_scatters(port: u16) -> c_int;
    pub fn fg_port_link_up(port: u16) -> c_int;
    pub fn fg_port_stats(port: u16, out: *mut PortStats) -> c_int;

    pub fn fg_rx_burst(port: u16, queue: u16, out: *mut Frame, n: u16) -> u16;
    pub fn fg_gather(mbuf: *const c_void, out: *mut u8, room: u32) -> u32;
    pub fn fg_tx_burst(port: u16, queue: u16, frames: *const Frame, n: u16) -> u16;
    pub fn fg_tx_burst_long(port: u16, queue: u16, frames: *const Frame, n: u16, port_fills_in_ip: c_int) -> u16;
}
