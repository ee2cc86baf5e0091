//! What happens rarely to a connection, against a peer that is written by hand: both close at once, SYNs and RSTs that come twice or from
//! nowhere, windows that close, losses of every segment.
//!
//! **Invariant:** as for [`tests`](super::tests): what is seen is what is on the wire.

use smoltcp::time::Duration;
use smoltcp::wire::{TcpControl, TcpRepr};

use super::Bind;
use super::FlowId;
use super::tests::{Bench, Sent, frame, read, tcp};

/// A stack with a listener, and a connection from the peer's port 1000: its number, ours, and the flow.
fn connected(window_scale: Option<u8>) -> (Bench, i32, i32, FlowId) {
    let mut bench = Bench::new();
    let (listener, _) = bench.stack.bind(Bind::Any, 80, 10).unwrap();
    let syn = TcpRepr { window_scale, sack_permitted: true, ..tcp(1000, TcpControl::Syn, 100, None) };
    let ours = bench.answer(syn).expect("a SYN|ACK").seq.wrapping_add(1);
    assert!(bench.answer(tcp(1000, TcpControl::None, 101, Some(ours))).is_none());
    let flow = bench.accept(listener);
    (bench, 101, ours, flow)
}

impl Bench {
    /// Lets time pass until something is sent, ten minutes at most. Answers it, and after how many milliseconds.
    pub(super) fn wait(&mut self) -> (Vec<Sent>, u64) {
        for ms in 0..600_000 {
            let sent = self.turn();
            if !sent.is_empty() {
                return (sent.iter().map(|f| read(f)).collect(), ms);
            }
            self.now += Duration::from_millis(1);
        }
        (Vec::new(), 600_000)
    }

    fn write(&mut self, flow: FlowId, bytes: usize) -> Vec<Sent> {
        assert_eq!(self.stack.socket(flow).send_slice(&vec![7; bytes]), Ok(bytes));
        self.stack.touch(flow);
        self.turn().iter().map(|f| read(f)).collect()
    }
}

#[test]
fn a_syn_that_comes_again_is_answered_again_at_once() {
    let mut bench = Bench::new();
    bench.stack.bind(Bind::Any, 80, 10).unwrap();
    let first = bench.answer(tcp(1000, TcpControl::Syn, 100, None)).expect("a SYN|ACK");
    for _ in 0..3 {
        bench.now += Duration::from_millis(300);
        assert_eq!(bench.answer(tcp(1000, TcpControl::Syn, 100, None)).as_ref(), Some(&first));
    }
    assert_eq!((bench.stack.flows(), bench.stack.counters().flows_opening.get()), (1, 1));
    let (seq, acked) = (101, Some(first.seq.wrapping_add(1)));
    assert_eq!(bench.answer(tcp(1000, TcpControl::None, seq, acked)), None);
    assert_eq!(bench.stack.counters().flows_accepted.get(), 1);
    // A flood of them is not multiplied.
    bench.answer(tcp(1001, TcpControl::Syn, 100, None)).expect("a SYN|ACK");
    let again = (0..1000).filter(|_| bench.answer(tcp(1001, TcpControl::Syn, 100, None)).is_some()).count();
    assert!((90..=100).contains(&again), "{again}");
}

#[test]
fn only_an_rst_at_the_very_number_ends_a_connection() {
    let (mut bench, peer, ours, flow) = connected(None);
    for (ahead, is_asked) in [(1, true), (1000, true), (4095, true), (5000, false), (-1, false), (i32::MIN, false)] {
        let answer = bench.answer(tcp(1000, TcpControl::Rst, peer.wrapping_add(ahead), Some(ours)));
        let numbers = answer.map(|a| (a.control, a.seq, a.acked));
        assert_eq!(numbers, is_asked.then_some((TcpControl::None, ours, Some(peer))), "RFC 5961, 3.2: {ahead}");
        assert!(bench.stack.check(flow).is_ok());
    }
    // Of a peer whose last bytes were lost: it is asked, and answers with the number.
    assert_eq!(bench.answer(tcp(1000, TcpControl::Rst, peer, None)), None);
    assert_eq!(bench.stack.check(flow).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn an_rst_ends_a_connection_whose_window_is_closed() {
    let (mut bench, peer, ours, flow) = connected(Some(7));
    for (at, len) in [(0, 1360), (1360, 1360), (2720, 1360), (4080, 16)] {
        let payload = &[0; 1360][..len];
        bench.receive(frame(TcpRepr { payload, ..tcp(1000, TcpControl::Psh, peer + at, Some(ours)) }));
    }
    bench.now += Duration::from_millis(10);
    bench.turn();
    // A probe, which is not taken.
    bench.receive(frame(TcpRepr { payload: &[0], ..tcp(1000, TcpControl::Psh, peer + 4096, Some(ours)) }));
    assert_eq!(bench.answer(tcp(1000, TcpControl::Rst, peer + 4096, None)), None);
    assert_eq!(bench.stack.check(flow).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn both_close_at_once_and_both_ways() {
    // Our FIN and theirs cross.
    let (mut bench, peer, ours, flow) = connected(None);
    bench.stack.let_go(flow);
    assert_eq!(read(&bench.turn()[0]).control, TcpControl::Fin);
    let answer = bench.answer(tcp(1000, TcpControl::Fin, peer, Some(ours))).expect("an ACK of their FIN");
    assert_eq!((answer.seq, answer.acked), (ours + 1, Some(peer + 1)));
    assert_eq!(bench.answer(tcp(1000, TcpControl::None, peer + 1, Some(ours + 1))), None);
    bench.turn();
    assert_eq!((bench.stack.flows(), bench.stack.counters().time_waits.get()), (0, 1), "RFC 9293, 3.6, figure 13");
    // The ACK of our FIN is lost: it comes again, and theirs too.
    let (mut bench, peer, ours, flow) = connected(None);
    bench.stack.let_go(flow);
    bench.turn();
    bench.answer(tcp(1000, TcpControl::Fin, peer, Some(ours))).expect("an ACK of their FIN");
    let (fin, _) = bench.wait();
    assert_eq!((fin[0].control, fin[0].seq, fin[0].acked), (TcpControl::Fin, ours, Some(peer + 1)));
    assert_eq!(bench.answer(tcp(1000, TcpControl::None, peer + 1, Some(ours + 1))), None);
    bench.turn();
    assert_eq!((bench.stack.flows(), bench.stack.counters().time_waits.get()), (0, 1));
}

#[test]
fn a_peer_that_has_ended_its_stream_is_still_sent_ours() {
    let (mut bench, peer, ours, flow) = connected(None);
    let answer = bench.answer(tcp(1000, TcpControl::Fin, peer, Some(ours)));
    let answer = answer.or_else(|| bench.wait().0.pop()).expect("an ACK of the FIN");
    assert_eq!(answer.acked, Some(peer + 1));
    assert!(bench.stack.incoming(flow).unwrap().ended);
    let sent = bench.write(flow, 5000);
    assert_eq!(sent.iter().map(|s| s.payload.len()).collect::<Vec<_>>(), [1460, 1460, 1460, 620]);
    assert_eq!(bench.answer(tcp(1000, TcpControl::None, peer + 1, Some(ours + 5000))), None);
    bench.stack.let_go(flow);
    let fin = read(&bench.turn()[0]);
    assert_eq!((fin.control, fin.seq), (TcpControl::Fin, ours + 5000));
    assert_eq!(bench.answer(tcp(1000, TcpControl::None, peer + 1, Some(ours + 5001))), None);
    assert_eq!(
        (bench.stack.flows(), bench.stack.counters().time_waits.get()),
        (0, 0),
        "who closes second does not wait"
    );
}

#[test]
fn a_closed_window_is_probed_ever_later_and_open_again_it_flows_on() {
    let (mut bench, peer, ours, flow) = connected(None);
    assert_eq!(bench.write(flow, 1000).len(), 1);
    let closed = |acked| TcpRepr { window_len: 0, ..tcp(1000, TcpControl::None, peer, Some(acked)) };
    assert_eq!(bench.answer(closed(ours + 1000)), None);
    let is_probe = |sent: &[Sent]| sent.len() == 1 && (sent[0].seq, sent[0].payload.len()) == (ours + 1000, 1);
    assert!(is_probe(&bench.write(flow, 3000)), "the peer may have opened it in vain");
    let mut waits = Vec::new();
    for _ in 0..5 {
        bench.answer(closed(ours + 1000));
        bench.now += Duration::from_millis(1);
        let (probe, ms) = bench.wait();
        assert!(is_probe(&probe), "{probe:?}");
        waits.push(ms);
    }
    assert!(waits[0] >= 199 && waits.is_sorted() && waits[4] > 8 * waits[0], "RFC 9293, 3.8.6.1: {waits:?}");
    // A probe's byte is taken, and the window opens.
    let sent = bench.receive(frame(tcp(1000, TcpControl::None, peer, Some(ours + 1001))));
    let sent: Vec<_> = sent.iter().map(|f| read(f)).map(|s| (s.seq - ours, s.payload.len())).collect();
    assert_eq!(sent, [(1001, 1460), (2461, 1460), (3921, 79)]);
}

#[test]
fn what_is_lost_while_the_window_closes_and_opens_is_sent_again() {
    let (mut bench, peer, ours, flow) = connected(None);
    assert_eq!(bench.write(flow, 2920).len(), 2);
    let closed = TcpRepr { window_len: 0, ..tcp(1000, TcpControl::None, peer, Some(ours + 1460)) };
    bench.answer(closed);
    bench.answer(tcp(1000, TcpControl::None, peer, Some(ours + 1460)));
    let (again, ms) = bench.wait();
    assert_eq!((again[0].seq, again[0].payload.len()), (ours + 1460, 1460), "smoltcp has forgotten it");
    assert!(ms < 300, "{ms}");
}

#[test]
fn a_window_that_opens_is_told_without_being_asked() {
    let (mut bench, peer, ours, flow) = connected(Some(7));
    for n in 0..3 {
        let payload = &[0; 1360][..];
        let control = TcpControl::Psh;
        bench.receive(frame(TcpRepr { payload, ..tcp(1000, control, peer + n * 1360, Some(ours)) }));
    }
    bench.now += Duration::from_millis(10);
    bench.turn();
    let mut room = [0; 4096];
    assert_eq!(bench.stack.socket(flow).recv_slice(&mut room), Ok(4080));
    bench.stack.touch(flow);
    let update = read(&bench.turn()[0]);
    assert_eq!((update.acked, update.window), (Some(peer + 4080), 4096));
}

#[test]
fn windows_are_scaled_by_the_size_of_the_ring() {
    for (rx_ring_bytes, theirs, expected) in [
        (64 * 1024 - 1, Some(2), Some(0)),
        (64 * 1024, Some(2), Some(1)),
        (1 << 20, Some(0), Some(5)),
        (1 << 20, None, None),
    ] {
        let mut bench = Bench::with(|c| c.rx_ring_bytes = rx_ring_bytes);
        bench.stack.bind(Bind::Any, 80, 10).unwrap();
        let syn = frame(TcpRepr { window_scale: theirs, ..tcp(1000, TcpControl::Syn, 100, None) });
        let syn_ack = bench.receive(syn).pop().expect("a SYN|ACK");
        let header = smoltcp::wire::TcpPacket::new_checked(&syn_ack[34..]).unwrap();
        let ours = header.seq_number().0.wrapping_add(1);
        assert_eq!(header.window_len(), u16::try_from(rx_ring_bytes).unwrap_or(u16::MAX), "of a SYN: never scaled");
        assert_eq!(header.options_summary().unwrap().window_scale, expected);
        let payload = &[1][..];
        bench.receive(frame(TcpRepr { payload, ..tcp(1000, TcpControl::Psh, 101, Some(ours)) }));
        bench.now += Duration::from_millis(10);
        let ack = read(&bench.turn().pop().expect("an ACK"));
        let scaled = |shift: u8| u16::try_from((rx_ring_bytes - 1) >> shift).unwrap_or(u16::MAX);
        assert_eq!(ack.window, scaled(expected.unwrap_or(0)), "{rx_ring_bytes}");
    }
}

#[test]
fn a_port_that_takes_nothing_is_offered_its_frames_again_without_a_spin() {
    let (mut bench, _, ours, flow) = connected(None);
    bench.queue.block(true);
    assert!(bench.write(flow, 10).is_empty());
    for _ in 0..3 {
        bench.now += Duration::from_millis(1);
        assert!(!bench.stack.egress(bench.now), "nothing moved");
        assert_eq!(bench.stack.due(), Some(bench.now + Duration::from_millis(1)));
    }
    bench.queue.block(false);
    assert!(bench.stack.egress(bench.now));
    let sent = bench.queue.sent.take();
    assert_eq!((sent.len(), read(&sent[0]).seq), (1, ours));
}

#[test]
fn what_a_burst_belongs_to_may_change_within_it() {
    let mut bench = Bench::new();
    let (listener, _) = bench.stack.bind(Bind::Any, 80, 10).unwrap();
    let ours = bench.answer(tcp(1000, TcpControl::Syn, 100, None)).expect("a SYN|ACK").seq.wrapping_add(1);
    // All of one burst: the first connection ends, another takes its place in memory, and a late segment of the first comes in.
    let burst = [
        tcp(1000, TcpControl::Rst, 101, Some(ours)),
        tcp(1001, TcpControl::Syn, 500, None),
        tcp(1000, TcpControl::None, 101, Some(ours)),
    ];
    bench.queue.arriving.borrow_mut().extend(burst.map(frame));
    let sent: Vec<Sent> = bench.turn().iter().map(|f| read(f)).collect();
    let kinds: Vec<_> = sent.iter().map(|s| (s.control, s.acked)).collect();
    assert_eq!(kinds, [(TcpControl::Rst, None), (TcpControl::Syn, Some(501))], "each is answered for what it is");
    let theirs = sent[1].seq.wrapping_add(1);
    assert!(bench.answer(tcp(1001, TcpControl::None, 501, Some(theirs))).is_none());
    bench.accept(listener);
    assert_eq!(bench.stack.flows(), 1);
}
