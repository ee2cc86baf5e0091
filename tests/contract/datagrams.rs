//! What every plane's sockets for datagrams do, as the suite of streams says of connections.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use ferrogate_core::net::{BURST_DATAGRAMS_MAX, Datagram, Datagrams, Transport};
use test_support::pattern;

use crate::harness::Harness;

/// Makes a module of tests for each back end that has datagrams.
macro_rules! rows {
    ($($row:ident: $harness:expr;)*) => {$(
        mod $row {
            use crate::datagrams;
            rows!(@cases $row, $harness,
                a_question_and_its_answer,
                every_size_passes_whole,
                bursts_keep_their_order,
                each_client_has_its_own_answers,
                a_socket_of_one_host_hears_it_alone,
                nobody_listens,
                a_dropped_receive_loses_nothing,
                a_closed_socket_is_free_again,
            );
        }
    )*};
    (@cases $row:ident, $harness:expr, $($case:ident),* $(,)?) => {$(
        #[test]
        fn $case() {
            $crate::harness::run(stringify!($row), || $harness, async |plane| datagrams::$case(&plane).await);
        }
    )*};
}

rows! {
    kernel: crate::planes::Kernel::tcp();
    stack_on_wire: crate::planes::Wire::clean();
    dpdk_net_ring: crate::ports::Ring::open();
    dpdk_net_af_packet: crate::ports::Link::open("net_af_packet");
    dpdk_net_af_xdp: crate::ports::Link::open("net_af_xdp");
}

type ServerSocket<H> = <<H as Harness>::Server as Transport>::Datagrams;
type ClientSocket<H> = <<H as Harness>::Client as Transport>::Datagrams;

/// A datagram as it was shown.
type Seen = (SocketAddr, Option<IpAddr>, Vec<u8>);

fn listen<H: Harness>(plane: &H) -> ServerSocket<H> {
    let address = plane.listen_address().inet().expect("planes with datagrams have addresses");
    plane.server().listen_datagrams(address).expect("it is free")
}

fn connect<H: Harness>(plane: &H, to: SocketAddr) -> ClientSocket<H> {
    plane.client().connect_datagrams(to).expect("a port of its own")
}

/// Sends all of them, a burst at a time.
async fn send(socket: &impl Datagrams, mut datagrams: &[Datagram<'_>]) {
    while !datagrams.is_empty() {
        match socket.try_send(datagrams) {
            Ok(sent) => {
                assert!((1..=BURST_DATAGRAMS_MAX).contains(&sent));
                datagrams = &datagrams[sent..];
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => socket.sendable().await.expect("the plane goes on"),
            Err(e) => panic!("{e}"),
        }
    }
}

async fn send_one(socket: &impl Datagrams, bytes: &[u8]) {
    send(socket, &[Datagram { bytes, ..Datagram::NONE }]).await;
}

/// What is received until there are `count`.
async fn gather(socket: &impl Datagrams, count: usize) -> Vec<Seen> {
    let mut all = Vec::new();
    while all.len() < count {
        let shown = socket.receive(|burst| {
            assert!((1..=BURST_DATAGRAMS_MAX).contains(&burst.len()));
            all.extend(burst.iter().map(|d| (d.peer, d.local, d.bytes.to_vec())));
        });
        shown.await.expect("it goes on");
    }
    all
}

async fn one(socket: &impl Datagrams) -> Seen {
    let mut all = gather(socket, 1).await;
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn answer_to<'b>(question: &Seen, bytes: &'b [u8]) -> Datagram<'b> {
    Datagram { peer: question.0, local: question.1, bytes }
}

/// A datagram goes there, says who sent it, and its answer comes back.
async fn a_question_and_its_answer<H: Harness>(plane: &H) {
    let server = listen(plane);
    let client = connect(plane, server.local_addr());
    send_one(&client, b"who?").await;
    let question = one(&server).await;
    assert_eq!((question.0, &question.2[..]), (client.local_addr(), &b"who?"[..]));
    send(&server, &[answer_to(&question, b"me")]).await;
    let answer = one(&client).await;
    assert_eq!((answer.0, &answer.2[..]), (server.local_addr(), &b"me"[..]));
}

/// From nothing to the largest there is, also where a packet holds less.
async fn every_size_passes_whole<H: Harness>(plane: &H) {
    let server = listen(plane);
    let client = connect(plane, server.local_addr());
    let sizes = [0, 1, 17, 1471, 1472, 1473, 1480, 2952, 2953, 9000, 65_506, 65_507];
    for len in sizes.into_iter().filter(|&len| len <= plane.datagram_bytes_max()) {
        let bytes = pattern::bytes(len);
        send_one(&client, &bytes).await;
        let question = one(&server).await;
        assert!(question.2 == bytes, "{len} bytes there");
        send(&server, &[answer_to(&question, &bytes)]).await;
        assert!(one(&client).await.2 == bytes, "{len} bytes back");
    }
    let too_large = client.try_send(&[Datagram { bytes: &vec![0; 65_508], ..Datagram::NONE }]).unwrap_err();
    assert_eq!(too_large.raw_os_error(), Some(90), "EMSGSIZE: {too_large}");
    send_one(&client, b"and on").await;
    assert_eq!(one(&server).await.2, b"and on");
}

/// More at once than a burst holds, both ways.
async fn bursts_keep_their_order<H: Harness>(plane: &H) {
    let server = listen(plane);
    let client = connect(plane, server.local_addr());
    let sent: Vec<Vec<u8>> = (0..100_u8).map(|n| vec![n; usize::from(n) * 13]).collect();
    let questions: Vec<Datagram<'_>> = sent.iter().map(|bytes| Datagram { bytes, ..Datagram::NONE }).collect();
    let (came, ()) = tokio::join!(gather(&server, 100), send(&client, &questions));
    assert!(came.iter().map(|(.., bytes)| bytes).eq(&sent));
    let answers: Vec<Datagram<'_>> = sent.iter().map(|bytes| answer_to(&came[0], bytes)).collect();
    let (came, ()) = tokio::join!(gather(&client, 100), send(&server, &answers));
    assert!(came.iter().map(|(.., bytes)| bytes).eq(&sent));
}

/// Many clients at one listener: a burst for several of them finds each.
async fn each_client_has_its_own_answers<H: Harness>(plane: &H) {
    let server = listen(plane);
    let clients: Vec<_> = (0..20).map(|_| connect(plane, server.local_addr())).collect();
    for (n, client) in clients.iter().enumerate() {
        send_one(client, &[u8::try_from(n).expect("few")]).await;
    }
    let questions = gather(&server, clients.len()).await;
    let answers: Vec<Datagram<'_>> = questions.iter().map(|q| answer_to(q, &q.2)).collect();
    send(&server, &answers).await;
    for (n, client) in clients.iter().enumerate() {
        assert_eq!(one(client).await.2, [u8::try_from(n).expect("few")]);
    }
}

/// What others send to a socket of one host's is not for it.
async fn a_socket_of_one_host_hears_it_alone<H: Harness>(plane: &H) {
    let (server, other) = (listen(plane), listen(plane));
    let client = connect(plane, server.local_addr());
    send_one(&client, b"x").await;
    let question = one(&server).await;
    let forged = Datagram { peer: question.0, local: None, bytes: b"forged" };
    // Its answer, "port unreachable", may come at any later call.
    let _ = other.try_send(&[forged]);
    send(&server, &[answer_to(&question, b"true")]).await;
    assert_eq!(one(&client).await.2, b"true");
}

/// A host where nobody listens is told by the next call, without another datagram.
async fn nobody_listens<H: Harness>(plane: &H) {
    let silent = plane.silent_address().inet().expect("an address");
    let client = connect(plane, silent);
    send_one(&client, b"anybody?").await;
    let told = client.receive(|_| panic!("nobody answers")).await;
    assert_eq!(told.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

/// As often as a receive is given up, what comes is there for the next.
async fn a_dropped_receive_loses_nothing<H: Harness>(plane: &H) {
    let server = listen(plane);
    let client = connect(plane, server.local_addr());
    for n in 0..20_u8 {
        send_one(&client, &[n]).await;
        for _ in 0..n {
            tokio::select! {
                biased;
                () = tokio::task::yield_now() => {}
                shown = server.receive(|burst| assert_eq!(burst[0].bytes, [n], "shown once")) => {
                    shown.expect("it goes on");
                    send_one(&client, &[n]).await;
                }
            }
        }
        assert_eq!(one(&server).await.2, [n]);
    }
}

/// A listener's address is free once it is dropped, and what had come is gone with it.
async fn a_closed_socket_is_free_again<H: Harness>(plane: &H) {
    let server = listen(plane);
    let address = server.local_addr();
    let client = connect(plane, address);
    send_one(&client, b"old").await;
    assert_eq!(one(&server).await.2, b"old");
    drop(server);
    let server = plane.server().listen_datagrams(address).expect("it is free");
    send_one(&client, b"new").await;
    assert_eq!(one(&server).await.2, b"new");
}
