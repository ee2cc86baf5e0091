//! The stack against a peer that is written by hand, segment by segment.
//!
//! **Invariant:** a test sees what is on the wire and in the counters, as a peer and an operator would.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::rc::Rc;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

use ferrogate_core::config::dataplane::Route;

use super::packet::{ETHER_ARP, ETHER_IPV4, ETHER_IPV6, ETHERNET_BYTES};
use super::view::View;
use super::*;
use crate::counters::DropReason;
use crate::frame::Frame;

pub(super) const OUR_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
pub(super) const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(super) const PEER_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
pub(super) const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// A queue whose other end is the test.
#[derive(Clone, Default)]
pub(super) struct TestQueue {
    pub(super) arriving: Rc<RefCell<VecDeque<Vec<u8>>>>,
    pub(super) sent: Rc<RefCell<Vec<Vec<u8>>>>,
    /// Frames that it does not take.
    blocked: Rc<Cell<bool>>,
}

impl TestQueue {
    /// Takes no more frames from now on, or takes them again.
    pub(super) fn block(&self, blocked: bool) {
        self.blocked.set(blocked);
    }
}

impl PacketQueue for TestQueue {
    fn rx_burst(&mut self, into: &mut FrameVec) {
        while into.room() > 0
            && let Some(bytes) = self.arriving.borrow_mut().pop_front()
        {
            let mut frame = Frame::heap(bytes.len().max(1514));
            frame.set_len(bytes.len());
            frame.bytes_mut().copy_from_slice(&bytes);
            into.push(frame);
        }
    }

    fn tx_burst(&mut self, from: &mut FrameVec) {
        if !self.blocked.get() {
            let n = from.len();
            let frames = from.take_front(n).inspect(|f| assert!(!f.is_joined(), "no port can send it"));
            self.sent.borrow_mut().extend(frames.map(|f| f.bytes().to_vec()));
        }
    }

    fn alloc_burst(&mut self, into: &mut FrameVec) {
        while into.room() > 0 {
            into.push(Frame::heap(1514));
        }
    }
}

/// A stack at 10.0.0.1 and the wire in front of it.
pub(super) struct Bench {
    pub(super) stack: Stack,
    pub(super) queue: TestQueue,
    pub(super) now: Instant,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut StackConfig)) -> Self {
        let mut config = StackConfig {
            mac: OUR_MAC,
            addresses: vec![Network::new(OURS, 24)],
            routes: Vec::new(),
            mtu: 1500,
            tx_checksum: false,
            rx_ring_bytes: 4096,
            tx_ring_bytes: 64 * 1024,
            congestion_control: CongestionControl::Cubic,
            flows_max: 10,
            syn_backlog_max: 3,
            limits: FlowLimits::default(),
            seed: 1,
            seat: None,
        };
        change(&mut config);
        let (queue, now) = (TestQueue::default(), Instant::from_secs(1));
        let counters = Arc::new(LcoreCounters::default());
        let stack = Stack::new(Box::new(queue.clone()), config, counters, now);
        Self { stack, queue, now }
    }

    /// Lets `frame` arrive, and takes a turn.
    pub(super) fn receive(&mut self, frame: Vec<u8>) -> Vec<Vec<u8>> {
        self.queue.arriving.borrow_mut().push_back(frame);
        self.turn()
    }

    /// Takes a turn, egress of the next one included, and answers what was sent.
    pub(super) fn turn(&mut self) -> Vec<Vec<u8>> {
        self.raw_turn().into_iter().filter(|frame| !is_announcement(frame)).collect()
    }

    /// The same, with what the stack tells all stations from time to time.
    pub(super) fn raw_turn(&mut self) -> Vec<Vec<u8>> {
        self.stack.egress(self.now);
        self.stack.ingress(self.now);
        self.stack.egress(self.now);
        self.queue.sent.take()
    }

    /// As `receive`, for a segment that is answered by one.
    pub(super) fn answer(&mut self, segment: TcpRepr<'_>) -> Option<Sent> {
        let sent = self.receive(frame(segment));
        assert!(sent.len() <= 1, "{} frames for one", sent.len());
        sent.first().map(|f| read(f))
    }

    /// The next connection to accept.
    pub(super) fn accept(&mut self, listener: u32) -> FlowId {
        let accepted = self.stack.poll_accept(listener, &Context::from_waker(Waker::noop()));
        let Poll::Ready(flow) = accepted else { panic!("a connection to accept") };
        flow
    }

    pub(super) fn drops(&self, reason: DropReason) -> u64 {
        self.stack.counters().drops(reason)
    }

    /// A peer that has finished its handshake from `port`; the sequence number it is to go on with, and ours.
    pub(super) fn establish(&mut self, port: u16) -> (i32, i32) {
        let syn_ack = self.answer(tcp(port, TcpControl::Syn, 100, None)).expect("a SYN|ACK");
        assert_eq!((syn_ack.control, syn_ack.acked), (TcpControl::Syn, Some(101)));
        let ours = syn_ack.seq.wrapping_add(1);
        assert!(self.answer(tcp(port, TcpControl::None, 101, Some(ours))).is_none());
        (101, ours)
    }
}

/// Whether a frame tells all stations of an address of ours in the stack's first seconds.
fn is_announcement(frame: &[u8]) -> bool {
    let packet = &frame[ETHERNET_BYTES..];
    match &frame[12..ETHERNET_BYTES] {
        ETHER_ARP => arp::parse(packet).is_some_and(|said| said.ip == said.target),
        ETHER_IPV6 => frame[..2] == [0x33, 0x33] && (packet[8..24] == [0; 16] || packet[40] == 136),
        _ => false,
    }
}

/// A segment of the stack, as the peer reads it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) control: TcpControl,
    pub(super) seq: i32,
    pub(super) acked: Option<i32>,
    pub(super) payload: Vec<u8>,
    pub(super) window: u16,
}

/// A segment from the peer's `port` to our port 80.
pub(super) fn tcp(port: u16, control: TcpControl, seq: i32, acked: Option<i32>) -> TcpRepr<'static> {
    TcpRepr {
        src_port: port,
        dst_port: 80,
        control,
        seq_number: TcpSeqNumber(seq),
        ack_number: acked.map(TcpSeqNumber),
        window_len: 60_000,
        window_scale: None,
        max_seg_size: (control == TcpControl::Syn).then_some(1460),
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    }
}

/// The IPv4 packet of a segment from the peer.
pub(super) fn packet(segment: TcpRepr<'_>) -> Vec<u8> {
    let caps = ChecksumCapabilities::default();
    let ip = Ipv4Repr {
        src_addr: PEER,
        dst_addr: OURS,
        next_header: smoltcp::wire::IpProtocol::Tcp,
        payload_len: segment.buffer_len(),
        hop_limit: 64,
    };
    let mut bytes = vec![0; 20 + segment.buffer_len()];
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut bytes[..]), &caps);
    segment.emit(&mut TcpPacket::new_unchecked(&mut bytes[20..]), &PEER.into(), &OURS.into(), &caps);
    bytes
}

pub(super) fn frame(segment: TcpRepr<'_>) -> Vec<u8> {
    [&OUR_MAC.0[..], &PEER_MAC.0[..], ETHER_IPV4, &packet(segment)[..]].concat()
}

/// Reads a frame that must be a segment to the peer's address at its Ethernet address.
pub(super) fn read(frame: &[u8]) -> Sent {
    assert_eq!((&frame[..6], &frame[6..12], &frame[12..14]), (&PEER_MAC.0[..], &OUR_MAC.0[..], ETHER_IPV4));
    let ip = Ipv4Packet::new_checked(&frame[ETHERNET_BYTES..]).unwrap();
    assert!(ip.verify_checksum() && ip.dst_addr() == PEER && ip.src_addr() == OURS);
    let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
    let repr = TcpRepr::parse(&tcp, &OURS.into(), &PEER.into(), &ChecksumCapabilities::default()).unwrap();
    let acked = repr.ack_number.map(|n| n.0);
    Sent {
        control: repr.control,
        seq: repr.seq_number.0,
        acked,
        payload: repr.payload.to_vec(),
        window: repr.window_len,
    }
}

#[test]
fn a_handshake_needs_no_arp_and_is_offered_once_it_is_done() {
    let mut bench = Bench::new();
    let (listener, _) = bench.stack.bind(Bind::Any, 80, 10).unwrap();
    bench.establish(1000);
    let cx = &Context::from_waker(Waker::noop());
    assert!(bench.stack.poll_accept(listener, cx).is_ready());
    assert!(bench.stack.poll_accept(listener, cx).is_pending());
    assert_eq!(bench.stack.counters().flows_opening.get(), 0);
}

#[test]
fn what_belongs_to_nobody_is_reset() {
    let mut bench = Bench::new();
    let rst = bench.answer(tcp(1000, TcpControl::Syn, 7, None)).unwrap();
    assert_eq!((rst.control, rst.acked), (TcpControl::Rst, Some(8)));
    let rst = bench.answer(tcp(1000, TcpControl::None, 7, Some(55))).unwrap();
    assert_eq!((rst.control, rst.seq), (TcpControl::Rst, 55));
    assert_eq!(bench.answer(tcp(1000, TcpControl::Rst, 7, None)), None, "an RST is never answered");
    assert_eq!(bench.stack.flows(), 0);
}

#[test]
fn an_rst_in_the_handshake_frees_the_flow() {
    let mut bench = Bench::new();
    bench.stack.bind(Bind::Any, 80, 10).unwrap();
    bench.answer(tcp(1000, TcpControl::Syn, 100, None)).unwrap();
    assert_eq!((bench.stack.flows(), bench.stack.counters().flows_opening.get()), (1, 1));
    assert_eq!(bench.answer(tcp(1000, TcpControl::Rst, 101, None)), None);
    assert_eq!((bench.stack.flows(), bench.stack.counters().flows_opening.get()), (0, 0));
    bench.establish(1000);
}

#[test]
fn a_syn_in_the_middle_of_a_connection_is_challenged() {
    let mut bench = Bench::new();
    bench.stack.bind(Bind::Any, 80, 10).unwrap();
    let (peer, ours) = bench.establish(1000);
    let challenge = bench.answer(tcp(1000, TcpControl::Syn, 999_999, None)).expect("a challenge");
    let numbers = (challenge.control, challenge.seq, challenge.acked, challenge.payload);
    assert_eq!(numbers, (TcpControl::None, ours, Some(peer), vec![]), "RFC 5961, 4.2");
    // The peer that forgot the connection resets it, and can use its port again.
    assert_eq!(bench.answer(tcp(1000, TcpControl::Rst, peer, None)), None);
    bench.establish(1000);
    let mut challenges = 0;
    for _ in 0..1000 {
        challenges += u32::from(bench.answer(tcp(1000, TcpControl::Syn, 999_999, None)).is_some());
    }
    assert_eq!(challenges, 99, "100 in a second");
}

/// Closes an established connection from our side, as nobody's.
fn close_first(bench: &mut Bench, listener: u32, port: u16) -> (i32, i32) {
    let (peer, ours) = bench.establish(port);
    let Poll::Ready(flow) = bench.stack.poll_accept(listener, &Context::from_waker(Waker::noop())) else {
        panic!("a connection to accept")
    };
    bench.stack.let_go(flow);
    assert_eq!(read(&bench.turn()[0]).control, TcpControl::Fin);
    let last = bench.answer(tcp(port, TcpControl::Fin, peer, Some(ours + 1))).expect("the last ACK");
    assert_eq!((last.control, last.seq, last.acked), (TcpControl::None, ours + 1, Some(peer + 1)));
    (peer + 1, ours + 1)
}

#[test]
fn time_wait_holds_no_flow_and_answers_as_it_should() {
    let mut bench = Bench::new();
    let (listener, _) = bench.stack.bind(Bind::Any, 80, 10).unwrap();
    let (peer, ours) = close_first(&mut bench, listener, 1000);
    assert_eq!((bench.stack.flows(), bench.stack.counters().time_waits.get()), (0, 1));
    let again = bench.answer(tcp(1000, TcpControl::Fin, peer - 1, Some(ours))).expect("its ACK was lost");
    assert_eq!((again.seq, again.acked), (ours, Some(peer)));
    assert_eq!(bench.answer(tcp(1000, TcpControl::Rst, peer, None)), None);
    assert_eq!(bench.answer(tcp(1000, TcpControl::None, peer, Some(ours))), None);
    assert_eq!(bench.drops(DropReason::TimeWait), 2);
    assert_eq!(bench.stack.counters().time_waits.get(), 1, "an RST does not end it (RFC 1337)");
    let old = bench.answer(tcp(1000, TcpControl::Syn, peer - 50, None)).expect("a SYN from the past");
    assert_eq!((old.control, old.acked), (TcpControl::None, Some(peer)));
    let new = bench.answer(tcp(1000, TcpControl::Syn, peer + 50, None)).expect("a SYN from the future");
    assert_eq!((new.control, new.acked), (TcpControl::Syn, Some(peer + 51)), "RFC 6191");
    bench.turn();
    assert_eq!(bench.stack.counters().time_waits.get(), 0);
}

#[test]
fn a_flow_from_the_pool_is_as_good_as_new() {
    let mut bench = Bench::with(|c| c.flows_max = 1);
    let (listener, _) = bench.stack.bind(Bind::Any, 80, 10).unwrap();
    for port in 1000..1020 {
        let (peer, ours) = bench.establish(port);
        let mut hello = tcp(port, TcpControl::Psh, peer, Some(ours));
        hello.payload = b"hello";
        bench.answer(hello);
        let cx = &Context::from_waker(Waker::noop());
        let Poll::Ready(flow) = bench.stack.poll_accept(listener, cx) else { panic!("a connection to accept") };
        let incoming = bench.stack.incoming(flow).unwrap();
        assert_eq!((incoming.queued, incoming.ended), (5, false), "nothing is left of the one before");
        assert_eq!(bench.stack.socket(flow).send_queue(), 0);
        // Left with unread bytes, unsent bytes and an RST.
        bench.stack.socket(flow).send_slice(&[1; 3000]).unwrap();
        bench.answer(tcp(port, TcpControl::Rst, peer + 5, Some(ours)));
        bench.stack.let_go(flow);
        assert_eq!((bench.stack.flows(), bench.stack.pool.len()), (0, 1));
    }
}

#[test]
fn a_port_that_takes_nothing_loses_nothing() {
    let mut bench = Bench::new();
    let (listener, _) = bench.stack.bind(Bind::Any, 80, 10).unwrap();
    let (_, ours) = bench.establish(1000);
    let cx = &Context::from_waker(Waker::noop());
    let Poll::Ready(flow) = bench.stack.poll_accept(listener, cx) else { panic!("a connection to accept") };
    let data: Vec<u8> = (0..60_000_u32).map(|n| n.to_le_bytes()[n as usize % 2]).collect();
    bench.stack.socket(flow).send_slice(&data).unwrap();
    bench.stack.touch(flow);
    bench.queue.blocked.set(true);
    for _ in 0..10 {
        assert!(bench.turn().is_empty());
    }
    bench.queue.blocked.set(false);
    let mut frames = bench.turn();
    frames.extend(bench.turn());
    let mut next = ours;
    for frame in &frames {
        let sent = read(frame);
        assert_eq!(sent.seq, next, "in order, and each once");
        next += i32::try_from(sent.payload.len()).unwrap();
    }
    assert_eq!(next - ours, 60_000);
}

#[test]
fn one_flow_leaves_the_turn_to_others() {
    let mut bench = Bench::with(|c| c.tx_ring_bytes = 256 * 1024);
    let (listener, _) = bench.stack.bind(Bind::Any, 80, 10).unwrap();
    let cx = &Context::from_waker(Waker::noop());
    let accept = |port| {
        let mut syn = tcp(port, TcpControl::Syn, 100, None);
        syn.window_scale = Some(4);
        let ours = bench.answer(syn).unwrap().seq + 1;
        bench.answer(tcp(port, TcpControl::None, 101, Some(ours)));
        let Poll::Ready(flow) = bench.stack.poll_accept(listener, cx) else { panic!("a connection to accept") };
        flow
    };
    for flow in [1000, 1001].map(accept) {
        bench.stack.socket(flow).send_slice(&vec![0; 200_000]).unwrap();
        bench.stack.touch(flow);
    }
    bench.stack.egress(bench.now);
    assert_eq!(bench.queue.sent.take().len(), 128, "64 segments of each");
}

#[test]
fn a_port_in_time_wait_is_used_again_when_there_is_no_other() {
    let mut bench = Bench::new();
    let origin = std::net::SocketAddr::new(PEER.into(), 443);
    let key = |local_port| FlowKey { peer: PEER.into(), local: OURS.into(), peer_port: 443, local_port };
    for port in 32_768..=u16::MAX {
        bench.stack.table.wait(key(port), Default::default(), bench.now);
    }
    let first = bench.stack.connect(origin).unwrap();
    let second = bench.stack.connect(origin).unwrap();
    assert_ne!(bench.stack.addresses(first).1, bench.stack.addresses(second).1);
    assert_eq!(bench.stack.table.time_waits(), 32_766);
}

#[test]
fn arp_is_answered_and_echo_too() {
    let mut bench = Bench::new();
    let mut request = [&[0xff; 6][..], &PEER_MAC.0, ETHER_ARP, &[0; arp::ARP_BYTES]].concat();
    arp::emit((PEER_MAC, PEER), None, OURS, &mut request[ETHERNET_BYTES..]);
    let answer = bench.receive(request.clone());
    let heard = arp::parse(&answer[0][ETHERNET_BYTES..]).expect("an answer");
    assert_eq!((heard.ip, heard.mac, heard.target, heard.asks), (OURS, OUR_MAC, PEER, false));
    assert_eq!(answer[0][..6], PEER_MAC.0);
    let stranger = Ipv4Addr::new(192, 0, 2, 1);
    arp::emit((PEER_MAC, stranger), None, OURS, &mut request[ETHERNET_BYTES..]);
    assert!(bench.receive(request.clone()).is_empty(), "not of this network");
    arp::emit((PEER_MAC, OURS), None, OURS, &mut request[ETHERNET_BYTES..]);
    bench.queue.arriving.borrow_mut().push_back(request.clone());
    let defence: Vec<_> = bench.raw_turn().into_iter().filter(|f| f[..6] == Mac::BROADCAST.0).collect();
    assert_eq!(
        &defence[0][..6],
        &Mac::BROADCAST.0[..],
        "another station with our address: everybody is told that it is here"
    );
    assert!(bench.receive(request).is_empty(), "once in a while");
    assert_eq!((bench.drops(DropReason::Arp), bench.drops(DropReason::AddressConflict)), (1, 2));
}

#[test]
fn a_joined_frame_is_answered_in_memory_of_the_port() {
    let mut bench = Bench::new();
    let mut icmp = vec![8, 0, 0, 0, 0, 1, 0, 1];
    icmp.extend_from_slice(&[7; 600]);
    smoltcp::wire::Icmpv4Packet::new_unchecked(&mut icmp[..]).fill_checksum();
    let len = u16::try_from(20 + icmp.len()).unwrap().to_be_bytes();
    let head = [&[0x45, 0][..], &len, &[0, 1, 0, 0, 64, 1, 0, 0], &PEER.octets(), &OURS.octets()].concat();
    let mut packet = [&head[..], &icmp].concat();
    Ipv4Packet::new_unchecked(&mut packet[..]).fill_checksum();
    let echo = [&OUR_MAC.0[..], &PEER_MAC.0, &[8, 0], &packet].concat();
    bench.stack.receive(Frame::from(echo.clone()).joined().expect("a short one"));
    let answers = bench.turn();
    assert_eq!(answers.len(), 1);
    assert_eq!((answers[0].len(), answers[0][34]), (echo.len(), 0), "an answer of the same length");
}

#[test]
fn connections_go_with_an_address_that_is_followed() {
    let mut bench = Bench::new();
    let (listener, _) = bench.stack.bind(Bind::Any, 80, 10).unwrap();
    bench.establish(1000);
    bench.accept(listener);
    let here = View { addresses: std::mem::take(&mut bench.stack.config.addresses), ..View::default() };
    bench.stack.follow(&here);
    assert!(bench.stack.flows.iter().any(|(_, flow)| flow.mapped), "it is still ours");
    bench.stack.follow(&View::default());
    assert!(!bench.stack.flows.iter().any(|(_, flow)| flow.mapped));
    assert!(bench.turn().is_empty(), "an RST would be from an address of another host's");
}

#[test]
fn a_followed_route_by_a_router_that_is_nowhere_is_left_out() {
    let mut bench = Bench::new();
    let (far, near) = ("203.0.113.0/24".parse().unwrap(), "198.51.100.0/24".parse().unwrap());
    let routes = vec![Route { to: far, via: [192, 0, 2, 254].into() }, Route { to: near, via: PEER.into() }];
    bench.stack.follow(&View { routes, ..View::default() });
    let hop = |ip: [u8; 4]| bench.stack.ours.next_hop(ip.into());
    assert_eq!((hop([203, 0, 113, 1]), hop([198, 51, 100, 1])), (None, Some(PEER.into())));
}

#[test]
fn noise_changes_nothing() {
    let mut bench = Bench::new();
    bench.stack.bind(Bind::Any, 80, 10).unwrap();
    let mut x = 88_172_645_463_325_252_u64;
    let mut draw = move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    };
    let good = frame(tcp(1000, TcpControl::Syn, 100, None));
    for _ in 0..20_000 {
        let mut bad = good.clone();
        for _ in 0..=draw() % 4 {
            let at = usize::try_from(draw()).unwrap() % bad.len();
            bad[at] = draw().to_le_bytes()[0];
        }
        bad.truncate(usize::try_from(draw()).unwrap() % (bad.len() * 2));
        bench.receive(bad);
        bench.now += Duration::from_millis(1);
    }
    assert!(bench.stack.flows() <= 3);
    assert!(bench.stack.counters().drops_total() > 10_000);
}
