//! Connections of RPC protocols, both sides, under peers that send more than they take.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use ferrogate_core::config::Limits;
use ferrogate_core::config::schema::{Keepalive, RpcProtocol};
use ferrogate_core::message::{Downstream, Exchange, Head, HttpHead, Response, next_conn_id};
use ferrogate_core::net::Conn;
use ferrogate_core::stream::xprotocol::{End, Manners, connect, serve_for};
use ferrogate_core::stream::{ConnState, Refusal, ReplyTo, Service};
use test_support::memory_conn::{MemoryConn, pair};
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local, yield_now};
use tokio::time::timeout;

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

/// A frame of Bolt: its command, its number and its content.
fn bolt(command: u16, number: u32, content: &[u8]) -> Vec<u8> {
    let len = u32::try_from(content.len()).unwrap();
    let mut frame = vec![1, 1];
    frame.extend(command.to_be_bytes());
    frame.push(1);
    frame.extend(number.to_be_bytes());
    frame.push(1);
    frame.extend((-1_i32).to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(len.to_be_bytes());
    frame.extend(content);
    frame
}

async fn send(conn: &mut MemoryConn, bytes: &[u8]) {
    for piece in bytes.chunks(8 * 1024) {
        let put = poll_fn(|cx| {
            conn.poll_write_with(cx, piece.len(), |room| {
                room[..piece.len()].copy_from_slice(piece);
                (piece.len(), ())
            })
        });
        put.await.unwrap();
        poll_fn(|cx| conn.poll_flush(cx)).await.unwrap();
    }
}

#[test]
fn the_end_of_an_origin_is_seen_behind_more_than_we_could_answer() {
    run(async {
        let (client, mut origin) = pair(1 << 20);
        let limits = Rc::new(Limits { rpc_out_bytes_max: 64, ..Limits::default() });
        let (_conn, driver) = connect(client, RpcProtocol::Bolt, (limits, Keepalive::default()), 1);
        let heartbeats: Vec<u8> = (0..100).flat_map(|number| bolt(0, number, b"")).collect();
        send(&mut origin, &heartbeats).await;
        let ended = spawn_local(driver.run(|_| ()));
        yield_now().await;
        poll_fn(|cx| origin.poll_shutdown(cx)).await.unwrap();
        // Far sooner than the next heartbeat of our own.
        let end = timeout(Duration::from_secs(1), ended).await.expect("its end is seen").unwrap();
        assert!(matches!(end, End::Closed), "{end:?}");
    });
}

/// Answers nothing before it is told to.
#[derive(Clone, Default)]
struct Gate(Rc<Waits>);

#[derive(Default)]
struct Waits {
    open: Notify,
    held: Cell<usize>,
    most: RefCell<usize>,
}

impl Service for Gate {
    async fn call(&self, x: &mut Exchange, reply: &mut impl ReplyTo) {
        self.0.held.set(self.0.held.get() + usize::try_from(x.bytes_received).unwrap());
        let most = self.0.held.get().max(*self.0.most.borrow());
        *self.0.most.borrow_mut() = most;
        self.0.open.notified().await;
        self.0.held.set(self.0.held.get() - usize::try_from(x.bytes_received).unwrap());
        let head = Head::Http(HttpHead::response(200));
        let _ = reply.response(x, Response { head, body: Default::default() }).await;
    }

    fn ended(&self, _: &mut Exchange, _: bool) {}

    fn refuse(&self, refusal: Refusal) -> Response {
        Response { head: Head::Http(HttpHead::response(refusal.status())), body: Default::default() }
    }
}

#[test]
fn the_open_requests_of_a_client_hold_no_more_than_a_frame_may_have_and_one_read() {
    const FRAME_BYTES: usize = 20_000;
    const READ_BYTES_MAX: usize = 1 << 18;
    run(async {
        let (mut client, server) = pair(READ_BYTES_MAX);
        let limits = Rc::new(Limits { rpc_frame_bytes_max: 100_000, ..Limits::default() });
        let (peer, local) = (server.peer_addr().clone(), server.local_addr().clone());
        let downstream = Rc::new(Downstream::new(next_conn_id(), peer, local, false));
        let (gate, state) = (Gate::default(), Rc::new(ConnState::default()));
        let manners = Manners { protocol: RpcProtocol::Bolt, says_go_away: false };
        spawn_local(serve_for(server, (downstream, manners), (gate.clone(), Rc::default()), limits, state, ()));
        let requests: Vec<u8> = (0..200).flat_map(|number| bolt(1, number, &[7; FRAME_BYTES])).collect();
        let sent = timeout(Duration::from_secs(5), send(&mut client, &requests)).await;
        assert!(sent.is_err(), "4 MB were taken and nothing was answered");
        let most = *gate.0.most.borrow();
        assert!((100_000..100_000 + FRAME_BYTES).contains(&most), "{most} bytes in requests");
        // What is answered makes room for others.
        let mut answers = 0;
        for _ in 0..20 {
            gate.0.open.notify_waiters();
            for _ in 0..100 {
                yield_now().await;
            }
            poll_fn(|cx| {
                while let Poll::Ready(Ok(read)) = client.poll_read_with(cx, 0, |bytes| (bytes.len(), bytes.len())) {
                    answers += read / 20;
                }
                Poll::Ready(())
            })
            .await;
        }
        assert!(answers > 10, "{answers} answers");
    });
}
