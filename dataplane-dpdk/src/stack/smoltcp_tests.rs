//! What the stack takes for granted about the inside of smoltcp 0.14. One of these fails when a new release changes it.
//!
//! **Invariant:** one assumption for each test, and none that the stack does not rely on.

use ferrogate_core::config::limits::FlowLimits;
use smoltcp::iface::{Config, Interface, PollResult};
use smoltcp::phy::{Device, TxToken};
use smoltcp::socket::tcp::{CongestionControl, RecvError, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpCidr, TcpControl, TcpRepr};

use super::arena::Arena;
use super::flow::Flow;
use super::flow_table::FlowKey;
use super::isn;
use super::nic::{Emitted, Nic};
use super::packet;
use super::recovery::Sender;
use super::tests::{OUR_MAC, OURS, PEER, PEER_MAC, TestQueue, packet, tcp};

/// One interface, and flows beside it.
struct Bench {
    nic: Nic,
    iface: Interface,
    now: Instant,
}

impl Bench {
    fn new(seed: u64) -> Self {
        let mut nic = Nic::new(Box::new(TestQueue::default()), OUR_MAC, 1500, false, Default::default());
        let mut settings = Config::new(HardwareAddress::Ip);
        settings.random_seed = seed;
        let now = Instant::from_secs(1);
        let mut iface = Interface::new(settings, &mut nic.link(PEER_MAC, None), now);
        iface.update_ip_addrs(|a| a.push(IpCidr::new(OURS.into(), 24)).unwrap());
        Self { nic, iface, now }
    }

    /// Gives a segment to a flow. Answers the reply that is sent at once.
    fn give(&mut self, flow: &mut Flow, segment: TcpRepr<'_>) -> Option<Emitted> {
        let packet = packet(segment);
        let mut link = self.nic.link(PEER_MAC, Some(&packet));
        self.iface.poll_ingress_single(self.now, &mut link, flow.sockets());
        link.emitted
    }

    /// Lets a flow send one segment.
    fn send(&mut self, flow: &mut Flow) -> Option<Emitted> {
        let mut link = self.nic.link(PEER_MAC, None);
        let result = self.iface.poll_egress(self.now, &mut link, flow.sockets());
        assert_eq!(result == PollResult::None, link.emitted.is_none(), "None is: nothing was sent");
        link.emitted
    }

    fn poll_at(&mut self, flow: &mut Flow) -> Option<Instant> {
        self.iface.poll_at(self.now, flow.sockets())
    }

    /// A flow whose handshake with the peer's `port` is done. Answers our next sequence number.
    fn established(&mut self, port: u16) -> (Flow, i32) {
        let mut flow = listening(port);
        let ours = self.shake_hands(&mut flow, port);
        (flow, ours)
    }

    fn shake_hands(&mut self, flow: &mut Flow, port: u16) -> i32 {
        assert_eq!(self.give(flow, tcp(port, TcpControl::Syn, 100, None)), None, "a SYN|ACK leaves by egress");
        let ours = self.send(flow).expect("a SYN|ACK").end.cast_signed();
        self.give(flow, tcp(port, TcpControl::None, 101, Some(ours)));
        assert_eq!(flow.socket().state(), State::Established);
        flow.socket().set_timeout(None);
        ours
    }

    fn data(&mut self, flow: &mut Flow, port: u16, seq: i32, acked: i32, payload: &[u8]) {
        let segment = tcp(port, TcpControl::Psh, seq, Some(acked));
        self.give(flow, TcpRepr { payload, ..segment });
    }
}

fn key(port: u16) -> FlowKey {
    FlowKey { peer: PEER.into(), local: OURS.into(), peer_port: port, local_port: 80 }
}

fn listening(port: u16) -> Flow {
    let mut flow = Flow::new(Arena::new(4096, 8192).socket().unwrap(), key(port));
    flow.listen(key(port), PEER_MAC, Sender::new(1460, true), &FlowLimits::default()).unwrap();
    flow
}

#[test]
fn one_interface_serves_sets_of_one_socket_each() {
    let mut bench = Bench::new(1);
    let (mut a, ours_a) = bench.established(1000);
    let (mut b, _) = bench.established(1001);
    bench.data(&mut a, 1000, 101, ours_a, b"for a");
    assert_eq!((a.socket().recv_queue(), b.socket().recv_queue()), (5, 0));
    a.socket().send_slice(b"from a").unwrap();
    assert_eq!(bench.send(&mut b), None);
    assert_eq!(bench.send(&mut a).unwrap().end.cast_signed(), ours_a + 6);
}

#[test]
fn egress_sends_one_segment_a_call_and_never_waits_for_a_neighbour() {
    let mut bench = Bench::new(1);
    let (mut flow, ours) = bench.established(1000);
    flow.socket().send_slice(&[0; 4000]).unwrap();
    for (n, end) in [1460, 2920, 4000].into_iter().enumerate() {
        assert!(bench.poll_at(&mut flow).unwrap() <= bench.now, "segment {n} is due");
        assert_eq!(bench.send(&mut flow).unwrap().end.cast_signed(), ours + end);
    }
    assert_eq!(bench.send(&mut flow), None);
    assert!(bench.poll_at(&mut flow).unwrap() >= bench.now + Duration::from_secs(1), "the retransmission");
}

#[test]
fn a_device_without_room_loses_nothing() {
    struct Full;
    struct Nothing;
    impl TxToken for Nothing {
        fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, _: usize, _: F) -> R {
            unreachable!("there is no token")
        }
    }
    impl smoltcp::phy::RxToken for Nothing {
        fn consume<R, F: FnOnce(&[u8]) -> R>(self, _: F) -> R {
            unreachable!("there is no token")
        }
    }
    impl Device for Full {
        type RxToken<'a> = Nothing;
        type TxToken<'a> = Nothing;
        fn receive(&mut self, _: Instant) -> Option<(Nothing, Nothing)> {
            None
        }
        fn transmit(&mut self, _: Instant) -> Option<Nothing> {
            None
        }
        fn capabilities(&self) -> smoltcp::phy::DeviceCapabilities {
            super::nic::capabilities(1500)
        }
    }
    let mut bench = Bench::new(1);
    let (mut flow, ours) = bench.established(1000);
    flow.socket().send_slice(b"data").unwrap();
    bench.iface.poll_egress(bench.now, &mut Full, flow.sockets());
    assert_eq!(bench.send(&mut flow).unwrap().end.cast_signed(), ours + 4);
}

#[test]
fn an_rst_in_the_handshake_goes_back_to_listening() {
    let mut bench = Bench::new(1);
    let mut flow = listening(1000);
    bench.give(&mut flow, tcp(1000, TcpControl::Syn, 100, None));
    bench.send(&mut flow).unwrap();
    bench.give(&mut flow, tcp(1000, TcpControl::Rst, 101, None));
    assert_eq!(flow.socket().state(), State::Listen);
    assert!(!flow.is_over());
}

#[test]
fn an_aborted_socket_sends_one_rst_and_then_has_no_address() {
    let mut bench = Bench::new(1);
    let (mut flow, _) = bench.established(1000);
    flow.socket().abort();
    assert!(!flow.is_over() && bench.poll_at(&mut flow).unwrap() <= bench.now);
    bench.send(&mut flow).expect("an RST");
    assert!(flow.is_over());
    assert_eq!((bench.poll_at(&mut flow), bench.send(&mut flow)), (None, None));
}

#[test]
fn time_wait_asks_for_a_time_far_ahead_once_its_ack_has_left() {
    let mut bench = Bench::new(1);
    let (mut flow, ours) = bench.established(1000);
    flow.socket().close();
    bench.send(&mut flow).expect("a FIN");
    bench.give(&mut flow, tcp(1000, TcpControl::Fin, 101, Some(ours + 1)));
    assert_eq!(flow.socket().state(), State::TimeWait);
    assert!(bench.poll_at(&mut flow).unwrap() <= bench.now, "the ACK");
    bench.send(&mut flow).expect("the ACK");
    assert_eq!(bench.poll_at(&mut flow), Some(bench.now + Duration::from_secs(10)));
}

#[test]
fn a_ring_shows_its_contiguous_part_only_and_is_rewound_when_empty() {
    let mut bench = Bench::new(1);
    let (mut flow, ours) = bench.established(1000);
    bench.data(&mut flow, 1000, 101, ours, &[1; 1400]);
    bench.data(&mut flow, 1000, 1501, ours, &[2; 1400]);
    flow.socket().recv(|_| (2000, ())).unwrap();
    bench.send(&mut flow).expect("an ACK with the window");
    bench.data(&mut flow, 1000, 2901, ours, &[3; 1400]);
    bench.data(&mut flow, 1000, 4301, ours, &[4; 800]);
    let socket = flow.socket();
    assert_eq!((socket.recv_queue(), socket.peek(usize::MAX).unwrap().len()), (3000, 2096));
    socket.send(|room| (room.len(), ())).unwrap();
    assert_eq!(socket.send(|room| (0, room.len())), Ok(0));
}

#[test]
fn a_fin_tells_the_end_from_a_break() {
    let mut bench = Bench::new(1);
    let (mut flow, ours) = bench.established(1000);
    bench.give(&mut flow, tcp(1000, TcpControl::Fin, 101, Some(ours)));
    assert_eq!(flow.socket().peek(0), Err(RecvError::Finished));
    let (mut flow, _) = bench.established(1001);
    bench.give(&mut flow, tcp(1001, TcpControl::Rst, 101, None));
    assert_eq!(flow.socket().peek(0), Err(RecvError::InvalidState));
}

#[test]
fn a_flow_that_is_armed_again_forgets_its_options_and_its_peer() {
    let mut bench = Bench::new(1);
    let mut flow = listening(1000);
    let narrow = TcpRepr { max_seg_size: Some(500), ..tcp(1000, TcpControl::Syn, 100, None) };
    bench.give(&mut flow, narrow);
    let ours = bench.send(&mut flow).unwrap().end.cast_signed();
    bench.give(&mut flow, tcp(1000, TcpControl::None, 101, Some(ours)));
    let socket = flow.socket();
    socket.set_keep_alive(Some(Duration::from_secs(1)));
    socket.set_nagle_enabled(true);
    socket.set_hop_limit(Some(1));
    socket.send_slice(&[9; 2000]).unwrap();
    bench.send(&mut flow).unwrap();

    flow.listen(key(1001), PEER_MAC, Sender::new(1460, true), &FlowLimits::default()).unwrap();
    let socket = flow.socket();
    assert_eq!((socket.congestion_control(), socket.nagle_enabled()), (CongestionControl::None, false));
    assert_eq!((socket.keep_alive(), socket.hop_limit(), socket.timestamp_enabled()), (None, None, false));
    assert_eq!((socket.send_queue(), socket.recv_queue()), (0, 0));
    let ours = bench.shake_hands(&mut flow, 1001);
    flow.socket().send_slice(&[9; 2000]).unwrap();
    assert_eq!(bench.send(&mut flow).unwrap().end.cast_signed(), ours + 1460, "not the MSS of the one before");
}

#[test]
fn a_timeout_ends_an_idle_connection_so_that_only_handshakes_and_orphans_have_one() {
    let mut bench = Bench::new(1);
    let (mut flow, _) = bench.established(1000);
    bench.now += Duration::from_secs(3600);
    assert_eq!((bench.send(&mut flow), flow.socket().state()), (None, State::Established));
    flow.socket().set_timeout(Some(Duration::from_secs(60)));
    bench.send(&mut flow).expect("an RST");
    assert!(flow.is_over());
}

#[test]
fn a_syn_in_the_middle_of_a_connection_is_ignored() {
    let mut bench = Bench::new(1);
    let (mut flow, _) = bench.established(1000);
    assert_eq!(bench.give(&mut flow, tcp(1000, TcpControl::Syn, 999, None)), None);
    assert_eq!((bench.send(&mut flow), flow.socket().state()), (None, State::Established));
}

/// Not a wish: `ingress` keeps bare duplicates from smoltcp because of it. When this fails, that can go.
#[test]
fn three_duplicates_of_the_last_ack_make_it_forget_a_lost_fin() {
    let mut bench = Bench::new(1);
    let (mut flow, ours) = bench.established(1000);
    flow.socket().close();
    bench.send(&mut flow).expect("a FIN");
    for _ in 0..3 {
        bench.give(&mut flow, tcp(1000, TcpControl::None, 101, Some(ours)));
    }
    bench.send(&mut flow);
    assert_eq!((flow.socket().state(), bench.poll_at(&mut flow)), (State::FinWait1, None), "it hangs");
}

#[test]
fn initial_sequence_numbers_come_from_the_seed() {
    let isn = |seed| Bench::new(seed).established(1000).1;
    assert_eq!(isn(7), isn(7));
    assert_ne!(isn(7), isn(8));
}

#[test]
fn a_connection_begins_with_the_number_that_its_interface_was_made_for() {
    let mut bench = Bench::new(1);
    for number in [0, 1, 0x1234_5678, 0x8000_0000, u32::MAX] {
        let key = FlowKey { peer: PEER.into(), local: OURS.into(), peer_port: 80, local_port: 1000 };
        let mut flow = Flow::new(Arena::new(4096, 4096).socket().unwrap(), key);
        let mut opener = isn::interface(number, &mut bench.nic.link(PEER_MAC, None), bench.now);
        flow.connect(key, &mut opener, Sender::new(1460, true), &FlowLimits::default()).unwrap();
        let syn = bench.send(&mut flow).expect("a SYN");
        assert_eq!(syn.end, number.wrapping_add(1));
    }
}

#[test]
fn a_listening_socket_takes_its_number_from_the_interface_that_sees_the_syn() {
    let mut bench = Bench::new(1);
    for number in [0, 1, 0x1234_5678, 0x8000_0000, u32::MAX] {
        let mut flow = listening(1000);
        let mut iface = isn::interface(number, &mut bench.nic.link(PEER_MAC, None), bench.now);
        let syn = packet(tcp(1000, TcpControl::Syn, 100, None));
        let mut link = bench.nic.link(PEER_MAC, Some(&syn));
        iface.poll_ingress_single(bench.now, &mut link, flow.sockets());
        assert_eq!(bench.send(&mut flow).expect("a SYN|ACK").start, number);
    }
}

#[test]
fn a_third_duplicate_sends_the_first_segment_again_and_nothing_else() {
    let mut bench = Bench::new(1);
    let (mut flow, ours) = bench.established(1000);
    flow.socket().send_slice(&[0; 7000]).unwrap();
    while bench.send(&mut flow).is_some() {}
    let acknowledge = |bench: &mut Bench, flow: &mut Flow, acked: i32, window: u16| {
        let bytes = packet::bare_ack(&key(1000), 101, (ours + acked).cast_unsigned(), window);
        let mut link = bench.nic.link(PEER_MAC, Some(bytes.bytes()));
        bench.iface.poll_ingress_single(bench.now, &mut link, flow.sockets());
        bench.send(flow).map(|sent| (sent.start.cast_signed() - ours, sent.end.cast_signed() - ours))
    };
    // Behind a new acknowledgement, as after a partial one.
    assert_eq!(acknowledge(&mut bench, &mut flow, 1460, 60_000), None);
    for expected in [None, None, Some((1460, 2920)), None] {
        assert_eq!(acknowledge(&mut bench, &mut flow, 1460, 60_000), expected);
    }
    // A window that moves and moves back has it count anew.
    for (window, expected) in
        [(59_999, None), (60_000, None), (60_000, None), (60_000, None), (60_000, Some((1460, 2920)))]
    {
        assert_eq!(acknowledge(&mut bench, &mut flow, 1460, window), expected);
    }
}

#[test]
fn shown_the_time_of_its_timer_it_sends_everything_again_and_is_where_it_was() {
    let mut bench = Bench::new(1);
    let (mut flow, ours) = bench.established(1000);
    flow.socket().send_slice(&[0; 3000]).unwrap();
    while bench.send(&mut flow).is_some() {}
    let before = bench.now;
    for _ in 0..5 {
        let due = bench.poll_at(&mut flow).unwrap();
        assert!(due >= bench.now + Duration::from_secs(1));
        bench.now = due;
        assert_eq!(bench.send(&mut flow).unwrap().end.cast_signed(), ours + 1460);
        // The rest at the time that it is.
        bench.now = before;
        for end in [2920, 3000] {
            assert!(bench.poll_at(&mut flow).unwrap() <= bench.now);
            assert_eq!(bench.send(&mut flow).unwrap().end.cast_signed(), ours + end);
        }
        assert_eq!(bench.send(&mut flow), None);
    }
    // A FIN alone, too.
    bench.give(&mut flow, tcp(1000, TcpControl::None, 101, Some(ours + 3000)));
    flow.socket().close();
    let fin = bench.send(&mut flow).unwrap();
    bench.now = bench.poll_at(&mut flow).unwrap();
    assert_eq!(bench.send(&mut flow), Some(fin));
}

/// Not a wish: `resend` asks by duplicate acknowledgements because of it.
#[test]
fn a_window_that_opens_makes_it_forget_the_timer_of_what_is_on_its_way() {
    let mut bench = Bench::new(1);
    let (mut flow, ours) = bench.established(1000);
    flow.socket().send_slice(&[0; 3000]).unwrap();
    while bench.send(&mut flow).is_some() {}
    let closed = TcpRepr { window_len: 0, ..tcp(1000, TcpControl::None, 101, Some(ours + 1460)) };
    bench.give(&mut flow, closed);
    bench.give(&mut flow, tcp(1000, TcpControl::None, 101, Some(ours + 1460)));
    assert_eq!(bench.poll_at(&mut flow), None);
}

#[test]
fn a_flow_may_be_shown_another_time_than_the_one_before() {
    let mut bench = Bench::new(1);
    let (mut a, ours_a) = bench.established(1000);
    let (mut b, ours_b) = bench.established(1001);
    bench.now = Instant::from_secs(500);
    a.socket().send_slice(b"a").unwrap();
    assert_eq!(bench.send(&mut a).unwrap().end.cast_signed(), ours_a + 1);
    bench.now = Instant::from_secs(100);
    b.socket().send_slice(b"b").unwrap();
    assert_eq!(bench.send(&mut b).unwrap().end.cast_signed(), ours_b + 1);
    assert_eq!(bench.poll_at(&mut b), Some(Instant::from_secs(101)));
    bench.now = Instant::from_secs(500);
    assert_eq!(bench.poll_at(&mut a), Some(Instant::from_secs(501)));
}
