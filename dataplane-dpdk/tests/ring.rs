//! The whole plane on a net_ring port without hugepages: what it sends comes back, so that the stack talks to itself. Needs no rights.

#![allow(clippy::disallowed_types, reason = "the port runs on threads of its own: their clock is the real one")]

mod common;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use common::kernel::TestKernel;
use common::*;
use dataplane_dpdk::port::{Eal, Port, Queue};
use dataplane_dpdk::queue::PacketQueue;
use dataplane_dpdk::{
    BURST, Device, DpdkTransport, DropReason, FrameVec, NoKernel, PolledIdle, PortError, PortOptions, StackConfig,
    StartError, run,
};
use ferrogate_core::config::dataplane::{Dpdk, Idle, Network, Offloads, Port as PortConfig};
use ferrogate_core::net::{Datagrams, ListenOptions, Listener, Transport};
use tokio::task::spawn_local;

/// One EAL for all tests of this process: it can be started once.
fn eal() -> &'static Arc<Eal> {
    static EAL: OnceLock<Arc<Eal>> = OnceLock::new();
    EAL.get_or_init(|| {
        let args = "--no-huge --no-shconf -m 256 --no-pci --no-telemetry --log-level=4";
        let args: Vec<String> = args.split(' ').map(str::to_owned).collect();
        Eal::start(&args).expect("EAL starts without hugepages")
    })
}

fn config(device: &str) -> Dpdk {
    let port = PortConfig {
        device: device.to_owned(),
        addresses: vec![Network::new([10, 0, 0, 1], 24)],
        routes: Vec::new(),
        mtu: 1500,
        ..PortConfig::default()
    };
    Dpdk { ports: vec![port], hugepages: false, flows_max: 1000, ..Dpdk::default() }
}

/// Runs a worker on a port to its end.
fn work<Fut: Future<Output = ()>>(
    device: &str,
    worker: impl Fn(usize, DpdkTransport<TestKernel>) -> Fut + Send + Clone + 'static,
) {
    let _eal = eal();
    run(&config(device), 1, |_| TestKernel, worker).expect("the plane starts").join().expect("no panic");
}

#[test]
fn the_calling_thread_keeps_its_cpus() {
    let cpus = || {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        status.lines().find(|l| l.starts_with("Cpus_allowed_list")).unwrap().to_owned()
    };
    let before = cpus();
    work("net_ring_cpus", |_, _| async {});
    assert_eq!(cpus(), before);
}

#[test]
fn a_stack_talks_to_itself_over_a_ring() {
    work("net_ring_talk", |_, transport| async move {
        let options = ListenOptions::default();
        let mut listener = transport.listen(&address("10.0.0.1:80"), &options).await.unwrap();
        let server = spawn_local(async move {
            let mut conn = listener.accept().await.unwrap();
            let all = read_all(&mut conn).await.unwrap();
            write_all(&mut conn, &all).await.unwrap();
        });
        let data = noise(50_000, 1);
        let mut conn = transport.connect(&address("10.0.0.1:80")).await.unwrap();
        write_all(&mut conn, &data).await.unwrap();
        shutdown(&mut conn).await.unwrap();
        assert!(read_all(&mut conn).await.unwrap() == data);
        server.await.unwrap();
    });
}

#[test]
fn the_kernel_is_beside_the_port_and_bytes_go_across() {
    work("net_ring_mixed", |_, transport| async move {
        let options = ListenOptions::default();
        // A wildcard listener: on the port, and on the kernel's loopback.
        let mut front = transport.listen(&address("0.0.0.0:0"), &options).await.unwrap();
        let port = front.local_addr().inet().unwrap().port();
        let mut origin = transport.listen(&address("127.0.0.1:0"), &options).await.unwrap();
        let upstream = origin.local_addr().clone();
        let echo = spawn_local(async move {
            let mut conn = origin.accept().await.unwrap();
            let all = read_all(&mut conn).await.unwrap();
            write_all(&mut conn, &all).await.unwrap();
        });
        let gateway = transport.clone();
        let relay = spawn_local(async move {
            let mut client = front.accept().await.unwrap();
            let mut origin = gateway.connect(&upstream).await.unwrap();
            relay_all(&mut client, &mut origin).await.unwrap();
            relay_all(&mut origin, &mut client).await.unwrap();
            let mut local = front.accept().await.unwrap();
            write_all(&mut local, b"over the kernel").await.unwrap();
        });
        let data = noise(60_000, 2);
        let mut conn = transport.connect(&address(&format!("10.0.0.1:{port}"))).await.unwrap();
        write_all(&mut conn, &data).await.unwrap();
        shutdown(&mut conn).await.unwrap();
        assert!(read_all(&mut conn).await.unwrap() == data);
        echo.await.unwrap();
        let mut local = transport.connect(&address(&format!("127.0.0.1:{port}"))).await.unwrap();
        assert_eq!(read_all(&mut local).await.unwrap(), b"over the kernel");
        relay.await.unwrap();
    });
}

#[test]
fn stop_ends_a_worker_that_would_go_on_for_ever_and_the_counters_outlive_it() {
    let _eal = eal();
    let forever = |_, transport: DpdkTransport<TestKernel>| async move {
        let mut listener = transport.listen(&address("10.0.0.1:80"), &ListenOptions::default()).await.unwrap();
        let held = transport.connect(&address("10.0.0.1:80")).await.unwrap();
        let _accepted = listener.accept().await.unwrap();
        spawn_local(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        std::future::pending().await
    };
    let running = run(&config("net_ring_stop"), 1, |_| TestKernel, forever).unwrap();
    let status = running.status();
    let (lcore, port) = (&status.lcores[0], &status.ports[0]);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while lcore.flows_accepted.get() == 0 && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!((port.info.driver.as_str(), lcore.flows.get()), ("net_ring", 2));
    assert!(port.stats().is_some_and(|s| s.rx_packets >= 3 && s.tx_packets >= 3), "{:?}", port.stats());
    running.stop();
    running.join().unwrap();
    assert_eq!(port.stats(), None, "the port is closed");
    assert!(lcore.turns.get() > 0 && lcore.busy_ns.get() > 0 && lcore.idle_ns.get() > 0);
}

#[test]
fn an_lcore_that_panics_is_told() {
    let _eal = eal();
    let running = run(&config("net_ring_panic"), 1, |_| TestKernel, |_, _| async { panic!("as it should") }).unwrap();
    assert_eq!(running.join().unwrap_err().lcore, 0);
}

#[test]
fn what_keeps_it_from_starting_has_a_name() {
    let _eal = eal();
    let start = |config: &Dpdk, workers| run(config, workers, |_| TestKernel, |_, _| async {}).map(|_| ());
    assert!(matches!(start(&config("net_nosuch0"), 1), Err(StartError::NoDevice { .. })));
    let wide = start(&config("net_ring_wide"), 999);
    assert!(matches!(wide, Err(StartError::Workers { wanted: 999, .. })), "{wide:?}");
    let mut twice = config("net_ring_wide");
    twice.ports.push(config("net_nosuch0").ports.remove(0));
    assert!(matches!(start(&twice, 1), Err(StartError::NoDevice { .. })));
    start(&config("net_ring_wide"), 1).expect("the port was closed again beside the failed one");
}

#[test]
fn several_lcores_share_a_port() {
    let _eal = eal();
    let running = run(&config("net_ring_pair"), 2, |_| TestKernel, |_, _| async {}).unwrap();
    assert_eq!(running.status().lcores.len(), 2);
    running.join().unwrap();
}

/// Two planes of two lcores each on the two queues of a memif, in threads of their own: one asks and is the origin, the other is the gateway between.
/// A frame arrives on the queue that it was sent on, so that an answer comes home because the source port was chosen for it.
#[test]
fn every_answer_comes_to_the_lcore_that_asked_over_the_queues_of_a_memif() {
    const CONNS: u64 = 100;
    let _eal = eal();
    let folder = test_support::temp::TempDir::new();
    let plane = |role: &str, number: u8| {
        let device = format!(
            "net_memif_{role},role={role},id=0,socket={}/s,socket-abstract=no,mac=02:00:00:00:08:0{number}",
            folder.path().display()
        );
        let mut dpdk = config(&device);
        dpdk.ports[0].addresses = vec![Network::new([10, 0, 8, number], 24)];
        dpdk.flow_limits.half_open_per_source_max = 1000;
        dpdk
    };
    let gateway = run(
        &plane("server", 1),
        2,
        |_| TestKernel,
        |_, transport| async move {
            let mut listener = transport.listen(&address("10.0.8.1:80"), &ListenOptions::default()).await.unwrap();
            loop {
                let (mut client, transport) = (listener.accept().await.unwrap(), transport.clone());
                spawn_local(async move {
                    let mut origin = transport.connect(&address("10.0.8.2:8000")).await.unwrap();
                    relay_all(&mut client, &mut origin).await.unwrap();
                    relay_all(&mut origin, &mut client).await.unwrap();
                });
            }
        },
    );
    let gateway = gateway.expect("the gateway starts");
    let answered = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = Arc::clone(&answered);
    let world = run(
        &plane("client", 2),
        2,
        |_| TestKernel,
        move |lcore, transport| {
            let counted = Arc::clone(&counted);
            async move {
                let mut listener =
                    transport.listen(&address("10.0.8.2:8000"), &ListenOptions::default()).await.unwrap();
                spawn_local(async move {
                    loop {
                        let mut conn = listener.accept().await.unwrap();
                        spawn_local(async move {
                            let all = read_all(&mut conn).await.unwrap();
                            write_all(&mut conn, &all).await.unwrap();
                            shutdown(&mut conn).await.unwrap();
                        });
                    }
                });
                for n in 0..CONNS {
                    let mut conn = loop {
                        // Until the link is up.
                        if let Ok(conn) = transport.connect(&address("10.0.8.1:80")).await {
                            break conn;
                        }
                    };
                    let data = noise(5000, n + 1000 * lcore as u64);
                    write_all(&mut conn, &data).await.unwrap();
                    shutdown(&mut conn).await.unwrap();
                    assert!(read_all(&mut conn).await.unwrap() == data);
                    counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
                std::future::pending::<()>().await;
            }
        },
    );
    let world = world.expect("the world starts");
    let all = || answered.load(std::sync::atomic::Ordering::Relaxed) == 2 * CONNS || world.has_ended();
    test_support::wait_until("all is answered", all);
    assert!(!world.has_ended() && !gateway.has_ended());
    for lcore in gateway.status().lcores.iter().chain(&world.status().lcores) {
        assert_eq!((lcore.flows_accepted.get(), lcore.flows_connected.get()), (CONNS, CONNS));
        assert_eq!((lcore.packets_foreign.get(), lcore.frames_handed_over.get(), lcore.flows_reset.get()), (0, 0, 0));
    }
    // Its peer's bursts first.
    gateway.stop();
    gateway.join().unwrap();
    world.stop();
    world.join().unwrap();
}

/// net_pcap gives what is longer than its buffers in several.
#[test]
fn a_frame_in_several_mbufs_is_joined() {
    let (_eal, folder) = (eal(), test_support::temp::TempDir::new());
    let datagram = noise(7000, 4);
    let (udp, ip) = (8 + datagram.len(), 28 + datagram.len());
    let [ip_high, ip_low, udp_high, udp_low] =
        [ip >> 8, ip & 255, udp >> 8, udp & 255].map(|n| u8::try_from(n).unwrap());
    // The address that the driver gives its first port.
    let mut frame = [[2, 0x70, 0x63, 0x61, 0x70, 0], [2, 0, 0, 0, 9, 2]].concat();
    frame.extend([8, 0, 0x45, 0, ip_high, ip_low, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 9, 10, 0, 0, 1]);
    let words = frame[14..34].chunks_exact(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum::<u32>();
    let sum = !u16::try_from((words & 0xffff) + (words >> 16)).unwrap();
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    // Without a checksum.
    frame.extend([0x30, 0x39, 0, 53, udp_high, udp_low, 0, 0]);
    frame.extend(&datagram);
    let len = u32::try_from(frame.len()).unwrap();
    let head = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1, 1, 0, len, len].map(u32::to_ne_bytes).concat();
    let path = folder.path().join("long.pcap");
    std::fs::write(&path, [head, frame].concat()).unwrap();
    let device = format!("net_pcap_long,rx_pcap={},tx_pcap={}/sent.pcap", path.display(), folder.path().display());
    let seen = Arc::new(OnceLock::new());
    let told = Arc::clone(&seen);
    let running = run(
        &config(&device),
        1,
        |_| NoKernel,
        move |_, transport| {
            let told = Arc::clone(&told);
            async move {
                let socket = transport.listen_datagrams("10.0.0.1:53".parse().unwrap()).unwrap();
                let came =
                    tokio::time::timeout(Duration::from_secs(20), socket.receive(|burst| burst[0].bytes.to_vec()));
                told.set(came.await.expect("it comes").unwrap()).unwrap();
            }
        },
    );
    let running = running.expect("the plane starts");
    let (status, mac) = (running.status(), running.status().ports[0].info.mac);
    running.join().unwrap();
    assert!(seen.get() == Some(&datagram), "{mac} {:?}", status.lcores[0].drops_total());
}

#[test]
fn frames_go_round_and_come_home() {
    let options =
        PortOptions { device: Device::new("net_ring_frames"), queues: 1, mtu: 1500, offloads: Offloads::default() };
    let (port, mut queues) = Port::open(eal(), &options).unwrap();
    let queue = &mut queues[0];
    let mut burst = FrameVec::new(BURST);
    for round in 0..1000_usize {
        queue.alloc_burst(&mut burst);
        assert_eq!(burst.len(), BURST, "round {round}: every frame came back to the pool");
        let mut filled = FrameVec::new(BURST);
        while let Some(mut frame) = burst.pop() {
            frame.set_len(60 + round);
            frame.bytes_mut()[0] = u8::try_from(round % 256).unwrap();
            filled.push(frame);
        }
        queue.tx_burst(&mut filled);
        assert!(filled.is_empty());
        queue.rx_burst(&mut burst);
        assert_eq!(burst.len(), BURST);
        for frame in burst.take_front(BURST) {
            assert_eq!((frame.bytes().len(), usize::from(frame.bytes()[0])), (60 + round, round % 256));
        }
    }
    // A frame that outlives its port keeps the memory alive.
    queue.alloc_burst(&mut burst);
    let frame = burst.pop().unwrap();
    drop((burst, queues, port));
    assert_eq!(frame.bytes().len(), 0);
}

#[test]
fn a_port_with_rss_takes_our_key_and_table() {
    let entries = |name: &str, queues| {
        let options = PortOptions { device: Device::new(name), queues, mtu: 1500, offloads: Offloads::default() };
        let (port, pairs) = Port::open(eal(), &options).unwrap();
        (port.info().rss_entries, pairs.len())
    };
    assert_eq!(entries("net_null_rss", 2), (Some(128), 2));
    assert_eq!(entries("net_null_alone", 1), (None, 1));
    assert_eq!(entries("net_ring_rss", 2), (None, 2));
}

/// A tag moves the start of a frame within its mbuf; the port sends it from there, and a frame that came with one goes back without.
#[test]
fn a_frame_is_sent_from_where_its_tag_has_moved_it() {
    let options =
        PortOptions { device: Device::new("net_ring_tags"), queues: 1, mtu: 1500, offloads: Offloads::default() };
    let (_port, mut queues) = Port::open(eal(), &options).unwrap();
    let queue = &mut queues[0];
    let pass = |queue: &mut Queue, frame| {
        let mut burst = FrameVec::new(1);
        burst.push(frame);
        queue.tx_burst(&mut burst);
        assert!(burst.is_empty());
        queue.rx_burst(&mut burst);
        burst.pop().expect("it comes back")
    };
    let mut spare = FrameVec::new(1);
    queue.alloc_burst(&mut spare);
    let mut frame = spare.pop().unwrap();
    frame.set_len(60);
    let plain = noise(60, 5);
    frame.bytes_mut().copy_from_slice(&plain);
    frame.offload_checksums(false);
    for round in 0..40 {
        assert!(frame.put_tag_on(0x2005));
        let tagged = [&plain[..12], &[0x81, 0, 0x20, 5], &plain[12..]].concat();
        frame = pass(queue, frame);
        assert_eq!((frame.bytes(), frame.tag()), (&tagged[..], Some(0x2005)), "round {round}");
        frame.take_tag_off();
        frame = pass(queue, frame);
        assert_eq!((frame.bytes(), frame.tag()), (&plain[..], None), "round {round}");
    }
    // Forty tags in a row are more than there is room for in front.
    for n in 1..=40 {
        assert!(frame.put_tag_on(n));
        frame = pass(queue, frame);
        assert_eq!((frame.bytes().len(), frame.tag()), (60 + 4 * usize::from(n), Some(n)));
    }
    assert_eq!(frame.bytes()[60 + 160 - 48..], plain[12..]);
}

#[test]
fn a_name_is_taken_once() {
    let options =
        PortOptions { device: Device::new("net_ring_twice"), queues: 1, mtu: 1500, offloads: Offloads::default() };
    let open = Port::open(eal(), &options).unwrap();
    assert!(matches!(Port::open(eal(), &options), Err(PortError::NoDevice { errno: libc::EEXIST })));
    drop(open);
    drop(Port::open(eal(), &options).unwrap());
}

/// Whoever holds every frame of a port's memory leaves none for others. Then nothing is sent, which is counted; and it goes on with the first that comes
/// back, also in the middle of a connection.
#[test]
fn a_port_without_a_free_frame_goes_on_when_there_is_one() {
    let options =
        PortOptions { device: Device::new("net_ring_dry"), queues: 2, mtu: 1500, offloads: Offloads::default() };
    let (port, mut queues) = Port::open(eal(), &options).unwrap();
    let (mut other, queue) = (queues.pop().unwrap(), queues.remove(0));
    let mut take_all = || {
        let taken = std::iter::repeat_with(|| {
            let mut burst = FrameVec::new(BURST);
            other.alloc_burst(&mut burst);
            burst
        });
        taken.take_while(|burst| !burst.is_empty()).collect::<Vec<_>>()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let config = StackConfig { mac: port.info().mac, ..common::config(1) };
        let host = resting_host(queue, config, PolledIdle::new(Idle::default()));
        let mut listener = host.transport.listen(&address("10.0.0.1:80"), &ListenOptions::default()).await.unwrap();
        let held = take_all();
        assert!(held.len() > 100, "{} bursts", held.len());
        let transport = host.transport.clone();
        let connecting = spawn_local(async move { transport.connect(&address("10.0.0.1:80")).await.unwrap() });
        while host.counters.drops(DropReason::TxFull) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!((host.counters.tx_packets.get(), connecting.is_finished()), (0, false));
        drop(held);
        let (mut conn, mut accepted) = (connecting.await.unwrap(), listener.accept().await.unwrap());
        let held = take_all();
        let data = noise(200_000, 3);
        let sent = data.clone();
        let writing = spawn_local(async move {
            write_all(&mut conn, &sent).await.unwrap();
            shutdown(&mut conn).await.unwrap();
        });
        // What the stack had at hand is used up, and then nothing moves.
        let turns = host.counters.turns.get();
        while host.counters.turns.get() < turns + 3000 {
            tokio::task::yield_now().await;
        }
        assert!(!writing.is_finished());
        drop(held);
        assert!(read_all(&mut accepted).await.unwrap() == data);
        writing.await.unwrap();
    });
}
