//! A TCP echo server on a DPDK port.
//!
//! ```text
//! ip netns add peer
//! ip link add fg0 type veth peer name fg1 netns peer
//! ip link set fg0 up
//! ip -n peer addr add 10.99.0.2/24 dev fg1 && ip -n peer link set fg1 up
//! ip netns exec peer ethtool -K fg1 tx off gso off tso off gro off
//! cargo run -p dataplane-dpdk --features dpdk --example echo -- net_af_packet0,iface=fg0 10.99.0.1/24 7 --no-huge
//! ip netns exec peer nc 10.99.0.1 7
//! ```

use std::future::poll_fn;
use std::net::Ipv4Addr;
use std::process::ExitCode;

use dataplane_dpdk::{DpdkTransport, NoKernel, run};
use ferrogate_core::config::dataplane::{Dpdk, Network, Port};
use ferrogate_core::net::{Address, Conn, ListenOptions, Listener, Transport};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((config, port)) = parse(&args) else {
        eprintln!("usage: echo DEVICE ADDRESS/PREFIX TCP-PORT [--no-huge]");
        return ExitCode::from(2);
    };
    let address = Address::from(std::net::SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    let worker = move |_, transport| serve(transport, address.clone());
    let running = match run(&config, 1, |_| NoKernel, worker) {
        Ok(running) => running,
        Err(e) => {
            eprintln!("{e}");
            return ExitCode::from(3);
        }
    };
    let status = running.status();
    for port in &status.ports {
        let addresses: Vec<_> = port.addresses.iter().map(ToString::to_string).collect();
        println!("{} ({}, {}) serves {}", port.device, port.info.driver, port.info.mac, addresses.join(", "));
    }
    // Until Enter or the end of the input: then the port is closed.
    let _ = std::io::stdin().read_line(&mut String::new());
    running.stop();
    let ended = running.join();
    let lcore = &status.lcores[0];
    println!("received {} frames, sent {}", lcore.rx_packets.get(), lcore.tx_packets.get());
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn serve(transport: DpdkTransport<NoKernel>, address: Address) {
    let mut listener = match transport.listen(&address, &ListenOptions::default()).await {
        Ok(listener) => listener,
        Err(e) => return eprintln!("{address}: {e}"),
    };
    while let Ok(conn) = listener.accept().await {
        tokio::task::spawn_local(async move {
            // A peer that goes away ends its own connection only.
            let _ = echo(conn).await;
        });
    }
}

/// Sends back what comes.
async fn echo<C: Conn>(mut conn: C) -> std::io::Result<()> {
    loop {
        let bytes = poll_fn(|cx| conn.poll_read_with(cx, 0, |bytes| (bytes.len(), bytes.to_vec()))).await?;
        if bytes.is_empty() {
            return poll_fn(|cx| conn.poll_shutdown(cx)).await;
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let write = poll_fn(|cx| {
                conn.poll_write_with(cx, 1, |room| {
                    let n = room.len().min(rest.len());
                    room[..n].copy_from_slice(&rest[..n]);
                    (n, n)
                })
            });
            rest = &rest[write.await?..];
        }
        poll_fn(|cx| conn.poll_flush(cx)).await?;
    }
}

fn parse(args: &[String]) -> Option<(Dpdk, u16)> {
    let [device, network, port, rest @ ..] = args else { return None };
    let device = Port {
        device: device.clone(),
        addresses: vec![network.parse::<Network>().ok()?],
        routes: Vec::new(),
        mtu: 1500,
        ..Port::default()
    };
    let hugepages = !rest.iter().any(|a| a == "--no-huge");
    Some((Dpdk { ports: vec![device], hugepages, ..Dpdk::default() }, port.parse().ok()?))
}
