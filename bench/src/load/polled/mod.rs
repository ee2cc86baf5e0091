//! The load from a DPDK process of its own: client and origin on one polled core, in front of and behind a gateway on the same link.
//!
//! Both legs of a request then are in user space. The tasks run over the plane seam, so that the same load works over any transport.
//!
//! **Invariant:** what the lcore spends on a request is counted as busy; the result says what share of its time was not.

mod client;
mod director;
mod origin;
mod shared;
mod stream;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use dataplane_dpdk::{DpdkTransport, NoKernel};
use ferrogate_core::config::dataplane::{Dpdk, Idle, IdleMode, Port};
use ferrogate_core::net::{Address, Transport};

use super::args::{LoadArgs, MemifArgs};
use super::error::LoadError;
use super::result::LoadResult;
use super::spare::Meter;
use super::tls::Client;
use shared::Shared;

/// Runs a load over the memif socket and prints its result.
pub(super) fn run(args: &LoadArgs, socket: &Path) -> Result<(), LoadError> {
    let mut args = args.clone();
    if args.to.is_empty() {
        args.to.push((Ipv4Addr::new(10, 99, 0, 1), 8_080).into());
    }
    // Faults of the flags show before EAL starts.
    Client::new(&args)?;
    let config = plane(&args.memif, socket, args.connections)?;
    let (done, result) = mpsc::channel();
    let hold = args.memif.hold;
    let worker = move |_, transport: DpdkTransport<NoKernel>| {
        let (args, done) = (args.clone(), done.clone());
        async move {
            let counters = transport.stacks()[0].borrow().counters().clone();
            // The receiver waits for it.
            let _ = done.send(load(transport, args, Meter::Lcore(counters)).await);
            std::future::pending().await
        }
    };
    let running = dataplane_dpdk::run(&config, 1, |_| NoKernel, worker).map_err(LoadError::Plane)?;
    let result = result.recv().map_err(|_| LoadError::Worker)??;
    super::say_result(&result);
    if hold {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
    }
    running.stop();
    running.join().map_err(|_| LoadError::Worker)
}

/// Origin and clients over one transport, until the window has closed.
async fn load<T: Transport>(transport: T, args: LoadArgs, meter: Meter) -> Result<LoadResult, LoadError> {
    let at = Address::Inet((Ipv4Addr::UNSPECIFIED, args.memif.origin_port).into());
    origin::start(&transport, &at).await?;
    client::probe(&transport, &args).await;
    let shared = Shared::new(args, meter)?;
    client::start(&transport, &shared);
    Ok(director::run(&shared).await)
}

/// The one port, always polled.
fn plane(args: &MemifArgs, socket: &Path, connections: u32) -> Result<Dpdk, LoadError> {
    let bad = || LoadError::Network(args.memif_address.clone());
    let (address, prefix_len) = args.memif_address.split_once('/').ok_or_else(bad)?;
    let port = Port {
        device: format!("net_memif0,role=client,id=0,socket={},socket-abstract=no", absolute(socket).display()),
        address: address.parse().map_err(|_| bad())?,
        prefix_len: prefix_len.parse().map_err(|_| bad())?,
        gateway: None,
        mtu: 1_500,
    };
    Ok(Dpdk {
        ports: vec![port],
        hugepages: !args.no_huge,
        memory_mib: args.memory_mib,
        rx_ring_bytes: args.ring_bytes,
        tx_ring_bytes: args.ring_bytes,
        // Each connection may have one of the gateway's behind it.
        flows_max: usize::try_from(connections).unwrap_or(usize::MAX).saturating_mul(2).saturating_add(FLOWS_BESIDE),
        idle: Idle { mode: IdleMode::Busy, ..Idle::default() },
        ..Dpdk::default()
    })
}

/// The driver looks for the socket's folder and takes none for no folder.
fn absolute(socket: &Path) -> PathBuf {
    std::path::absolute(socket).unwrap_or_else(|_| socket.to_owned())
}

/// Flows for health probes, and for closed ones that are not yet forgotten.
const FLOWS_BESIDE: usize = 10_000;
