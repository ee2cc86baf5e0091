//! The load from a DPDK process of its own: client and origin on one polled core, in front of and behind a gateway on the same link.
//!
//! Both legs of a request then are in user space. The tasks run over the plane seam, so that the same load works over any transport.
//!
//! **Invariant:** what the lcore spends on a request is counted as busy; the result says what share of its time was not.

mod client;
mod director;
mod multiplexed;
mod open;
mod origin;
mod shared;
mod stream;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::mpsc;

use dataplane_dpdk::{DpdkTransport, NoKernel};
use dataplane_kernel::KernelTransport;
use ferrogate_core::config::dataplane::{Dpdk, Idle, IdleMode, Port};
use ferrogate_core::net::{Address, Transport};
use tokio::runtime::{Builder, LocalOptions};

use super::args::{LoadArgs, MemifArgs, Mode};
use super::calls::Calls;
use super::error::LoadError;
use super::result::LoadResult;
use super::session::Session;
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

/// Runs a load of many requests at a time on each connection over kernel sockets: the same tasks, woken by readiness.
pub(super) fn run_over_kernel(args: &LoadArgs) -> Result<LoadResult, LoadError> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let shared = Shared::new(args.clone(), Meter::Kernel)?;
        start(&KernelTransport::new(), &shared);
        Ok(director::run_by_timer(&shared).await?)
    })
}

/// Origin and clients over one transport, until the window has closed.
async fn load<T: Transport>(transport: T, args: LoadArgs, meter: Meter) -> Result<LoadResult, LoadError> {
    let at = Address::Inet((Ipv4Addr::UNSPECIFIED, args.memif.origin_port).into());
    origin::start(&transport, &at).await?;
    client::probe(&transport, &args).await;
    let shared = Shared::new(args, meter)?;
    start(&transport, &shared);
    Ok(director::run(&shared).await)
}

/// Starts the clients.
fn start<T: Transport>(transport: &T, shared: &Rc<Shared>) {
    match shared.args.mode {
        Mode::Http2 => multiplexed::start::<_, Session>(transport, shared),
        Mode::Bolt if shared.args.is_multiplexed() => multiplexed::start::<_, Calls>(transport, shared),
        Mode::Http | Mode::Bolt | Mode::Idle | Mode::Tcp => client::start(transport, shared),
    }
}

/// The one port, always polled.
fn plane(args: &MemifArgs, socket: &Path, connections: u32) -> Result<Dpdk, LoadError> {
    let network = args.memif_address.parse().map_err(|_| LoadError::Network(args.memif_address.clone()))?;
    let port = Port {
        device: format!("net_memif0,role=client,id=0,socket={},socket-abstract=no", absolute(socket).display()),
        addresses: vec![network],
        routes: Vec::new(),
        mtu: 1_500,
        ..Port::default()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The load and its origin on one thread, with kernel sockets in place of the port.
    fn run_over_kernel(flags: &str) -> LoadResult {
        let origin_port = test_support::ports::free_port();
        let args = LoadArgs::of(&format!("--to 127.0.0.1:{origin_port} --memif x --origin-port {origin_port} {flags}"));
        let runtime =
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).expect("a runtime");
        let transport = KernelTransport::new();
        runtime.block_on(load(transport, args, Meter::Kernel)).expect("a load that can begin")
    }

    #[test]
    fn requests_are_sent_verified_and_counted() {
        let flags = "--seconds 0.4 --warmup 0 --connections 4";
        let kept = run_over_kernel(flags);
        assert!(kept.requests > 0 && kept.errors.total() == 0 && kept.established == 4, "{kept:?}");
        // 103 bytes an answer; those of the first requests came before the window.
        assert!(kept.bytes_in.abs_diff(kept.requests * 103) <= 4 * 103, "{kept:?}");
        let large = run_over_kernel(&format!("{flags} --path /bytes/200000 --body-bytes 100000"));
        assert!(large.requests > 0 && large.errors.total() == 0, "{large:?}");
        assert!(large.bytes_in + 4 * 200_000 >= large.requests * 200_000, "{large:?}");
        let calls = run_over_kernel(&format!("{flags} --mode bolt --body-bytes 1024 --streams 16"));
        assert!(calls.requests > 64 && calls.errors.total() == 0 && calls.established == 4, "{calls:?}");
        let missing = run_over_kernel(&format!("{flags} --path /none"));
        assert!(missing.requests == 0 && missing.errors.status > 0, "{missing:?}");
    }

    #[test]
    fn connections_end_after_their_last_request() {
        let short = run_over_kernel("--seconds 0.4 --warmup 0 --connections 4 --requests-per-connection 1");
        assert!(short.requests > 0 && short.errors.total() == 0, "{short:?}");
        assert!(short.conns_opened.abs_diff(short.requests) <= 4, "{short:?}");
        let five = run_over_kernel("--seconds 0.4 --warmup 0 --connections 4 --requests-per-connection 5");
        assert!(five.requests > 0 && five.errors.total() == 0, "{five:?}");
        assert!(five.conns_opened.abs_diff(five.requests / 5) <= 8, "{five:?}");
    }

    #[test]
    fn a_rate_is_kept_and_idle_connections_are_held() {
        let paced = run_over_kernel("--seconds 1 --warmup 0.1 --connections 4 --rate 300");
        assert!((200..=400).contains(&paced.requests) && paced.errors.total() == 0, "{paced:?}");
        let idle = run_over_kernel("--mode idle --seconds 0.2 --connections 30");
        assert_eq!((idle.established, idle.requests, idle.errors.total()), (30, 0, 0), "{idle:?}");
    }

    #[test]
    fn the_port_is_what_the_flags_say() {
        let args = LoadArgs::of("--memif /p/x.sock --no-huge --memif-address 10.1.2.3/16 --ring-bytes 4096");
        let plane = plane(&args.memif, Path::new("/p/x.sock"), 7).expect("an address");
        let port = &plane.ports[0];
        assert_eq!(port.device, "net_memif0,role=client,id=0,socket=/p/x.sock,socket-abstract=no");
        assert_eq!(port.addresses[0].to_string(), "10.1.2.3/16");
        assert!(!plane.hugepages && plane.rx_ring_bytes == 4_096 && plane.flows_max > 14);
        let bad = MemifArgs { memif_address: "10.1.2.3".to_owned(), ..args.memif };
        assert!(matches!(super::plane(&bad, Path::new("x"), 7), Err(LoadError::Network(_))));
    }
}
