//! The plane over a veth pair, with the kernel's TCP as its peer, through net_af_packet and net_af_xdp. Needs root.

mod common;

use std::future::poll_fn;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use common::*;
use dataplane_dpdk::port::{Eal, Port as EthPort};
use dataplane_dpdk::queue::PacketQueue;
use dataplane_dpdk::{
    BURST, Device, DpdkConn, DpdkTransport, FrameVec, NoKernel, PortOptions, Running, StartError, run,
};
use ferrogate_core::config::dataplane::{Dpdk, Network, Offloads, Port};
use ferrogate_core::net::{Conn, ListenOptions, Listener, Transport};
use socket2::{SockRef, Socket};
use test_support::process::run as run_command;
use test_support::{Veth, skip, wait_until};
use tokio::task::spawn_local;

type FlowConn = DpdkConn<<NoKernel as Transport>::Conn>;

/// One EAL for all tests of this process: it can be started once.
fn eal() -> &'static Arc<Eal> {
    static EAL: OnceLock<Arc<Eal>> = OnceLock::new();
    EAL.get_or_init(|| {
        let args = "--no-huge --no-shconf -m 512 --no-pci --no-telemetry --log-level=4";
        let args: Vec<String> = args.split(' ').map(str::to_owned).collect();
        Eal::start(&args).expect("EAL starts without hugepages")
    })
}

/// The two ways to a veth.
const DRIVERS: [&str; 2] = ["net_af_packet", "net_af_xdp"];

/// Runs `scene` once over each driver, with a veth pair of its own and a plane that serves it by `worker`.
fn on_each_driver<Fut: Future<Output = ()>>(
    test: &str,
    worker: impl Fn(usize, DpdkTransport<NoKernel>) -> Fut + Send + Clone + 'static,
    scene: impl Fn(&Veth, &Running),
) {
    on_each_driver_with(test, |_| {}, worker, scene);
}

/// The same with a configuration of its own.
fn on_each_driver_with<Fut: Future<Output = ()>>(
    test: &str,
    change: impl Fn(&mut Dpdk),
    worker: impl Fn(usize, DpdkTransport<NoKernel>) -> Fut + Send + Clone + 'static,
    scene: impl Fn(&Veth, &Running),
) {
    for driver in DRIVERS {
        let veth = match Veth::new() {
            Ok(veth) => veth,
            Err(reason) => return skip!(&format!("{test}-{driver}"), "{reason}"),
        };
        let _eal = eal();
        // Several tests at once: each has a device of its own.
        let number = veth.port.bytes().filter(u8::is_ascii_digit).map(char::from).collect::<String>();
        let port = Port {
            device: format!("{driver}{number},iface={}", veth.port),
            addresses: vec![Network::new(Veth::PORT_ADDRESS, 24)],
            routes: Vec::new(),
            mtu: 1500,
            ..Port::default()
        };
        let mut config = Dpdk { ports: vec![port], hugepages: false, flows_max: 1000, ..Dpdk::default() };
        change(&mut config);
        let running = match run(&config, 1, |_| NoKernel, worker.clone()) {
            Ok(running) => running,
            Err(e @ StartError::Rights { .. }) => return skip!(&format!("{test}-{driver}"), "{e}"),
            Err(e) => panic!("{driver}: {e}"),
        };
        assert_eq!(running.status().ports[0].info.driver, driver);
        scene(&veth, &running);
        running.stop();
        running.join().expect("no panic");
    }
}

/// A worker that serves port 80.
fn serve<Fut: Future<Output = ()> + 'static>(
    each: impl Fn(FlowConn) -> Fut + Send + Clone + 'static,
) -> impl Fn(usize, DpdkTransport<NoKernel>) -> std::pin::Pin<Box<dyn Future<Output = ()>>> + Send + Clone + 'static {
    move |_, transport| {
        let each = each.clone();
        Box::pin(async move {
            let mut listener = transport.listen(&address("0.0.0.0:80"), &ListenOptions::default()).await.unwrap();
            loop {
                let conn = listener.accept().await.unwrap();
                spawn_local(each(conn));
            }
        })
    }
}

/// Echoes by relaying to itself through a held buffer of one read.
async fn echo(mut conn: FlowConn) {
    loop {
        let Ok(part) = read(&mut conn).await else { return };
        if part.is_empty() {
            let _ = shutdown(&mut conn).await;
            return;
        }
        if write_all(&mut conn, &part).await.is_err() {
            return;
        }
    }
}

fn dial(port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from((Veth::PORT_ADDRESS, port)), Duration::from_secs(10))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_write_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

/// Sends `data` and reads the answer at the same time, to its end.
fn round_trip(mut stream: TcpStream, data: Vec<u8>) -> Vec<u8> {
    let mut writer = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        writer.write_all(&data).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    sender.join().unwrap();
    back
}

#[test]
fn a_kernel_client_gets_back_what_it_sends() {
    on_each_driver("a_kernel_client_gets_back_what_it_sends", serve(echo), |veth, running| {
        for len in [1, 1460, 100_000, 3_000_000] {
            let data = noise(len, 1);
            let sent = data.clone();
            let back = veth.inside(move || round_trip(dial(80).unwrap(), sent));
            assert!(back == data, "{} of {len} bytes came back", back.len());
        }
        let refused = veth.inside(|| dial(81).unwrap_err().kind());
        assert_eq!(refused, ErrorKind::ConnectionRefused);
        let status = running.status();
        assert_eq!(status.lcores[0].flows_accepted.get(), 4);
        assert!(status.ports[0].stats().is_some_and(|s| s.rx_packets > 0 && s.tx_packets > 0));
    });
}

#[test]
fn a_kernel_client_that_is_given_a_cookie_does_not_notice() {
    let name = "a_kernel_client_that_is_given_a_cookie_does_not_notice";
    // As in a flood: there is no room for a handshake that has not ended.
    on_each_driver_with(
        name,
        |c| c.syn_backlog_max = 0,
        serve(echo),
        |veth, running| {
            let data = noise(3_000_000, 1);
            let sent = data.clone();
            let back = veth.inside(move || round_trip(dial(80).unwrap(), sent));
            assert!(back == data, "{} bytes came back", back.len());
            veth.inside(|| {
                let conns: Vec<TcpStream> = (0..100).map(|_| dial(80).unwrap()).collect();
                for (n, conn) in conns.into_iter().enumerate() {
                    let data = noise(5_000, n as u64);
                    assert!(round_trip(conn, data.clone()) == data);
                }
            });
            let counters = &running.status().lcores[0];
            assert_eq!((counters.syn_cookies_accepted.get(), counters.flows_accepted.get()), (101, 101));
            assert!(counters.syn_cookies_sent.get() >= 101);
        },
    );
}

#[test]
fn two_hundred_kernel_clients_at_once() {
    on_each_driver("two_hundred_kernel_clients_at_once", serve(echo), |veth, running| {
        veth.inside(|| {
            let conns: Vec<TcpStream> = (0..200).map(|_| dial(80).unwrap()).collect();
            for (n, mut conn) in conns.iter().enumerate() {
                conn.write_all(&noise(5000, n as u64)).unwrap();
            }
            for (n, mut conn) in conns.iter().enumerate() {
                let mut back = vec![0; 5000];
                conn.read_exact(&mut back).unwrap();
                assert!(back == noise(5000, n as u64), "connection {n}");
            }
        });
        let lcore = Arc::clone(&running.status().lcores[0]);
        wait_until("the flows to end", || lcore.flows.get() == 0);
    });
}

#[test]
fn a_gateway_relays_to_a_kernel_origin() {
    let worker = |_, transport: DpdkTransport<NoKernel>| async move {
        let mut listener = transport.listen(&address("0.0.0.0:80"), &ListenOptions::default()).await.unwrap();
        loop {
            let mut client = listener.accept().await.unwrap();
            let gateway = transport.clone();
            spawn_local(async move {
                let mut origin = gateway.connect(&address(&format!("{}:9000", Veth::PEER_ADDRESS))).await.unwrap();
                relay_all(&mut client, &mut origin).await.unwrap();
                relay_all(&mut origin, &mut client).await.unwrap();
            });
        }
    };
    on_each_driver("a_gateway_relays_to_a_kernel_origin", worker, |veth, _| {
        let listener = veth.inside(|| TcpListener::bind("0.0.0.0:9000").unwrap());
        let origin = std::thread::spawn(move || {
            let (mut conn, _) = listener.accept().unwrap();
            let mut all = Vec::new();
            conn.read_to_end(&mut all).unwrap();
            conn.write_all(&all).unwrap();
        });
        let data = noise(2_000_000, 7);
        let sent = data.clone();
        assert!(veth.inside(move || round_trip(dial(80).unwrap(), sent)) == data);
        origin.join().unwrap();
    });
}

#[test]
fn a_reset_is_seen_on_both_sides() {
    let (tell, told) = mpsc::channel();
    let worker = serve(move |mut conn: FlowConn| {
        let tell = tell.clone();
        async move {
            match read(&mut conn).await.unwrap().as_slice() {
                b"abort" => conn.abort(),
                _ => tell.send(read(&mut conn).await.unwrap_err().kind()).unwrap(),
            }
        }
    });
    on_each_driver("a_reset_is_seen_on_both_sides", worker, |veth, _| {
        let ours = veth.inside(|| {
            let mut conn = dial(80).unwrap();
            conn.write_all(b"abort").unwrap();
            conn.read(&mut [0; 10]).unwrap_err().kind()
        });
        assert_eq!(ours, ErrorKind::ConnectionReset);
        veth.inside(|| {
            let mut conn = dial(80).unwrap();
            conn.write_all(b"hello").unwrap();
            // Let it be read first; then an RST instead of a FIN.
            std::thread::sleep(Duration::from_millis(50));
            SockRef::from(&conn).set_linger(Some(Duration::ZERO)).unwrap();
        });
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(ErrorKind::ConnectionReset));
    });
}

#[test]
fn a_reader_that_does_not_read_stops_the_kernel() {
    let (go, wait) = tokio::sync::watch::channel(false);
    let worker = serve(move |mut conn: FlowConn| {
        let mut wait = wait.clone();
        async move {
            wait.wait_for(|go| *go).await.unwrap();
            let all = read_all(&mut conn).await.unwrap();
            write_all(&mut conn, &u64::try_from(all.len()).unwrap().to_be_bytes()).await.unwrap();
        }
    });
    on_each_driver("a_reader_that_does_not_read_stops_the_kernel", worker, |veth, _| {
        go.send_replace(false);
        let (mut conn, sent) = veth.inside(|| {
            let mut conn = dial(80).unwrap();
            conn.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
            let (block, mut sent) = (noise(64 * 1024, 5), 0_u64);
            loop {
                match conn.write(&block) {
                    Ok(n) => sent += n as u64,
                    Err(e) if e.kind() == ErrorKind::WouldBlock => return (conn, sent),
                    Err(e) => panic!("{e}"),
                }
                assert!(sent < 100_000_000, "somebody reads, or nobody bounds");
            }
        });
        go.send_replace(true);
        conn.shutdown(Shutdown::Write).unwrap();
        let mut count = [0; 8];
        conn.read_exact(&mut count).unwrap();
        assert_eq!(u64::from_be_bytes(count), sent);
    });
}

#[test]
fn a_connection_that_nobody_answers_is_refused_or_unreachable() {
    let (tell, told) = mpsc::channel();
    let worker = move |_, transport: DpdkTransport<NoKernel>| {
        let tell = tell.clone();
        async move {
            for target in [format!("{}:1", Veth::PEER_ADDRESS), "198.18.0.77:1".to_owned()] {
                let error = transport.connect(&address(&target)).await.unwrap_err();
                tell.send(error.kind()).unwrap();
            }
        }
    };
    on_each_driver("a_connection_that_nobody_answers_is_refused_or_unreachable", worker, |_, _| {
        let next = || told.recv_timeout(Duration::from_secs(10));
        assert_eq!(next(), Ok(ErrorKind::ConnectionRefused));
        assert_eq!(next(), Ok(ErrorKind::HostUnreachable));
    });
}

#[test]
fn an_idle_worker_stops_to_poll_and_wakes_up_for_the_first_packet() {
    on_each_driver("an_idle_worker_stops_to_poll_and_wakes_up_for_the_first_packet", serve(echo), |veth, running| {
        let lcore = Arc::clone(&running.status().lcores[0]);
        for _ in 0..3 {
            // A look every 100 ms, and what the neighbours of a new link have to say.
            wait_until("the worker to wait", || {
                let (turns, begun) = (lcore.turns.get(), tokio::time::Instant::now());
                std::thread::sleep(Duration::from_millis(200));
                let in_a_second = u128::from(lcore.turns.get() - turns) * 1_000_000 / begun.elapsed().as_micros();
                in_a_second <= 100
            });
            let back = veth.inside(|| round_trip(dial(80).unwrap(), b"good morning".to_vec()));
            assert_eq!(back, b"good morning");
        }
    });
}

#[test]
fn a_half_closed_connection_still_carries_the_answer() {
    let worker = serve(|mut conn: FlowConn| async move {
        let all = read_all(&mut conn).await.unwrap();
        poll_fn(|cx| conn.poll_flush(cx)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        write_all(&mut conn, &all).await.unwrap();
    });
    on_each_driver("a_half_closed_connection_still_carries_the_answer", worker, |veth, _| {
        assert_eq!(veth.inside(|| round_trip(dial(80).unwrap(), b"late".to_vec())), b"late");
    });
}

/// net_af_packet puts a tag on before it sees that its ring is full: a frame that waited has one tag all the same, and all of its bytes.
#[test]
fn a_frame_that_waits_for_the_link_gets_its_tag_once() {
    let row = "a_frame_that_waits_for_the_link_gets_its_tag_once";
    let veth = match Veth::new() {
        Ok(veth) => veth,
        Err(reason) => return skip!(row, "{reason}"),
    };
    let number = veth.port.bytes().filter(u8::is_ascii_digit).map(char::from).collect::<String>();
    let device = Device::new(&format!("net_af_packet{number},iface={},framecnt=64", veth.port));
    let options = PortOptions { device, queues: 1, mtu: 1500, offloads: Offloads::default() };
    let (port, mut queues) = match EthPort::open(eal(), &options) {
        Ok(open) => open,
        Err(e) => return skip!(row, "{e:?}"),
    };
    assert!(port.info().does.vlan_insert);
    let link = |state| run_command(Command::new("ip").args(["link", "set", &veth.port, state])).expect("a link");
    let receiver = veth.inside(|| {
        let every_kind = socket2::Protocol::from(0x0300);
        Socket::new(socket2::Domain::PACKET, socket2::Type::RAW, Some(every_kind)).expect("a packet socket")
    });
    receiver.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    link("down");
    // Until the ring is full, and some frames have been tried again and again.
    let (mut waiting, mut marks) = (FrameVec::new(BURST), 0_u8);
    for _ in 0..20 {
        let mut spare = FrameVec::new(BURST - waiting.len());
        queues[0].alloc_burst(&mut spare);
        while let Some(mut frame) = spare.pop() {
            let bytes = numbered(marks);
            frame.set_len(bytes.len());
            frame.bytes_mut().copy_from_slice(&bytes);
            frame.set_vlan(Some(100));
            waiting.push(frame);
            marks += 1;
        }
        queues[0].tx_burst(&mut waiting);
    }
    assert!(!waiting.is_empty(), "{marks} frames are more than the ring has places");
    link("up");
    wait_until("all have left", || {
        queues[0].tx_burst(&mut waiting);
        waiting.is_empty()
    });
    // The kernel takes the outer tag off before a packet socket sees it.
    let mut seen = 0;
    let mut room = [0; 2048];
    while seen < marks {
        let len = (&receiver).read(&mut room).expect("all of them arrive");
        let frame = &room[..len];
        if frame[6..12] == numbered(0)[6..12] {
            assert!(frame == numbered(seen), "frame {seen}: {frame:02x?}");
            seen += 1;
        }
    }
}

/// A frame of a kind for tests (IEEE 802, local experiments), with `mark` in it and a length of its own.
fn numbered(mark: u8) -> Vec<u8> {
    let head = [2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, 0x88, 0xb5, mark];
    [&head[..], &noise(100 + usize::from(mark), u64::from(mark))].concat()
}
