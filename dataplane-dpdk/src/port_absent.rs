//! Stands in for `port` in a binary without the feature `dpdk`.
//!
//! **Invariant:** nothing here can exist at run time: each type is uninhabited and each way to one is an error.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use crate::device::{PortError, PortInfo, PortOptions, PortStats};
use crate::frame::{Checksum, FrameVec};
use crate::preflight::Capability;
use crate::queue::PacketQueue;

/// Whether this binary has DPDK in it.
pub const IS_BUILT: bool = false;

/// The packet buffer of a port.
#[derive(Debug)]
pub enum Mbuf {}

#[allow(missing_docs, reason = "the methods of the real one")]
impl Mbuf {
    pub fn bytes(&self) -> &[u8] {
        match *self {}
    }
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match *self {}
    }
    pub fn set_len(&mut self, _len: usize) {
        match *self {}
    }
    pub fn room(&self) -> usize {
        match *self {}
    }
    pub fn checksum(&self) -> Checksum {
        match *self {}
    }
    pub fn is_segmented(&self) -> bool {
        match *self {}
    }
    pub fn vlan(&self) -> Option<u16> {
        match *self {}
    }
    pub fn set_vlan(&mut self, _tag: Option<u16>) {
        match *self {}
    }
    pub fn move_in(&mut self, _bytes: u16) {
        match *self {}
    }
    pub fn move_out(&mut self, _bytes: u16) -> bool {
        match *self {}
    }
    pub fn gathered(&self) -> Option<Vec<u8>> {
        match *self {}
    }
    pub fn offload_checksums(&mut self, _offload: bool) {
        match *self {}
    }
}

/// DPDK's environment.
#[derive(Debug)]
pub struct Eal(Infallible);

impl Eal {
    /// Always [`PortError::NotBuilt`].
    pub fn start(_args: &[String]) -> Result<Arc<Self>, PortError> {
        Err(PortError::NotBuilt)
    }

    /// Can't be called: there is no `Eal`.
    pub fn tsc_hertz(&self) -> u64 {
        match self.0 {}
    }
}

/// Can't be called: there is no `Eal`.
pub fn become_user(eal: &Eal, _user: &str, _kept: &[Capability]) -> io::Result<()> {
    match eal.0 {}
}

/// The calling thread as one of EAL's.
#[derive(Debug)]
pub struct LcoreThread(Infallible);

impl LcoreThread {
    /// Can't be called: there is no `Eal`.
    pub fn register(eal: &Arc<Eal>, _cpu: Option<usize>) -> Result<Self, PortError> {
        match eal.0 {}
    }
}

/// An open port.
#[derive(Debug)]
pub struct Port(Infallible);

impl Port {
    /// Can't be called: there is no `Eal`.
    pub fn open(eal: &Arc<Eal>, _options: &PortOptions) -> Result<(Self, Vec<Queue>), PortError> {
        match eal.0 {}
    }

    /// Has it let the frames of a VLAN in.
    pub fn admit_vlan(&self, _id: u16) -> io::Result<()> {
        match self.0 {}
    }

    /// Empty frames of the port.
    pub fn supply(&self) -> Supply {
        match self.0 {}
    }

    /// What the port is.
    pub fn info(&self) -> &PortInfo {
        match self.0 {}
    }

    /// A handle that reads the counters.
    pub fn status(&self) -> PortStatus {
        match self.0 {}
    }
}

/// Reads the counters of a port from any thread.
#[derive(Clone, Debug)]
pub struct PortStatus(Infallible);

impl PortStatus {
    /// The counters; `None` once the port is closed.
    pub fn stats(&self) -> Option<PortStats> {
        match self.0 {}
    }

    /// Whether the port has a link now.
    pub fn link_up(&self) -> bool {
        match self.0 {}
    }
}

/// One queue pair of a port.
#[derive(Debug)]
pub struct Queue(Infallible);

impl PacketQueue for Queue {
    fn rx_burst(&mut self, _into: &mut FrameVec) {
        match self.0 {}
    }
    fn tx_burst(&mut self, _from: &mut FrameVec) {
        match self.0 {}
    }
    fn alloc_burst(&mut self, _into: &mut FrameVec) {
        match self.0 {}
    }
}

/// Empty frames of a port.
#[derive(Debug)]
pub struct Supply(Infallible);

impl PacketQueue for Supply {
    fn rx_burst(&mut self, _into: &mut FrameVec) {
        match self.0 {}
    }
    fn tx_burst(&mut self, _from: &mut FrameVec) {
        match self.0 {}
    }
    fn alloc_burst(&mut self, _into: &mut FrameVec) {
        match self.0 {}
    }
}
