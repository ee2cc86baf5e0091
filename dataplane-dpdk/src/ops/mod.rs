//! An operator's tools around the DPDK plane.
//!
//! **Invariant:** look only; nothing here opens a port or changes the host.

pub mod doctor;
