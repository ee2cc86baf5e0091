//! A sender and what it is told, segment by segment.
//!
//! **Invariant:** a test says what leaves and when, by numbers that a reader can check by hand.

use std::net::Ipv4Addr;

use super::*;
use crate::device::Mac;
use crate::stack::flow_table::FlowKey;

const SIZE: u32 = 1000;
const NONE: [u32; 0] = [];

fn ms(ms: i64) -> Instant {
    Instant::from_millis(1000 + ms)
}

/// A sender with a peer that has SACK or not, that has measured 20 ms, and has sent `segments` segments from 1000 on at `ms(0)`.
fn sender(has_sack: bool, segments: u32) -> Sender {
    let mut sender = Sender::new(1000, true);
    sender.note_options(&Options { sack_permitted: has_sack, segment_bytes_max: Some(1460), ..Options::default() });
    assert!(sender.admit(&segment_of(0), ms(-20)));
    hear(&mut sender, 1, &[], 0);
    (1..=segments).for_each(|n| assert!(sender.admit(&segment_of(n), ms(0))));
    sender
}

fn segment_of(n: u32) -> Emitted {
    Emitted { start: n * SIZE, end: (n + 1) * SIZE, acked: 0, window: 0, is_last: false }
}

/// The peer has everything before segment `n`.
fn ack(n: u32) -> Segment {
    let ip = Ipv4Addr::LOCALHOST.into();
    let key = FlowKey { peer: ip, local: ip, peer_port: 1, local_port: 2 };
    let (syn, ack, rst, has_options) = (false, true, false, true);
    Segment {
        key,
        from: Mac([0; 6]),
        syn,
        ack,
        rst,
        seq: 7,
        acked: n * SIZE,
        end: 7,
        window: 100,
        has_options,
        ip: 0..0,
    }
}

/// The peer has everything before segment `n`, and the segments of `sack`.
fn hear(sender: &mut Sender, n: u32, sack: &[(u32, u32)], at: i64) {
    let mut options = Options::default();
    for (block, (start, end)) in options.sack.iter_mut().zip(sack) {
        *block = Some((start * SIZE, end * SIZE));
    }
    sender.on_segment(&ack(n), &options, true, ms(at));
}

/// The segments that leave again when smoltcp goes over all of them.
fn go_over(sender: &mut Sender, at: i64) -> Vec<u32> {
    let Span { start, end } = sender.outstanding();
    let again = (start / SIZE..end / SIZE).filter(|&n| sender.wants_again() && sender.admit(&segment_of(n), ms(at)));
    again.collect()
}

fn window(sender: &Sender) -> usize {
    sender.congestion.as_ref().unwrap().bytes() / 1000
}

#[test]
fn several_holes_of_one_window_are_filled_in_one_round_trip() {
    let mut sender = sender(true, 10);
    hear(&mut sender, 1, &[(2, 3)], 20);
    hear(&mut sender, 1, &[(2, 4)], 20);
    assert_eq!((go_over(&mut sender, 20), sender.phase), (vec![], Phase::Open), "two segments may have overtaken");
    hear(&mut sender, 1, &[(2, 5)], 20);
    assert_eq!((sender.phase, window(&sender)), (Phase::Repair(11 * SIZE), 7));
    assert_eq!((go_over(&mut sender, 20), go_over(&mut sender, 20)), (vec![1], vec![]), "once");
    hear(&mut sender, 1, &[(6, 8), (2, 5)], 21);
    hear(&mut sender, 1, &[(6, 9), (2, 5)], 21);
    assert_eq!(go_over(&mut sender, 21), [5]);
    assert_eq!(window(&sender), 7, "two holes of one window are one loss");
    hear(&mut sender, 5, &[(6, 11)], 40);
    assert_eq!(go_over(&mut sender, 40), NONE);
    hear(&mut sender, 11, &[], 41);
    assert_eq!((sender.phase, window(&sender)), (Phase::Open, 7));
}

/// A short segment that ends what was sent is lost last, and repaired. Then nothing is missing: the bytes that would have made it a whole segment
/// were never sent, and the next ones may leave as if nothing had been.
#[test]
fn a_short_last_segment_that_was_lost_leaves_no_hole_behind_it() {
    let tail = Emitted { start: 4 * SIZE, end: 4 * SIZE + 65, acked: 0, window: 0, is_last: false };
    for has_sack in [false, true] {
        let mut sender = sender(has_sack, 3);
        assert!(sender.admit(&tail, ms(0)));
        if has_sack {
            hear(&mut sender, 1, &[(2, 4)], 20);
            sender.on_time(ms(25));
        } else {
            (0..3).for_each(|_| hear(&mut sender, 1, &[], 20));
        }
        assert_eq!((go_over(&mut sender, 25), sender.phase), (vec![1], Phase::Repair(tail.end)));
        hear(&mut sender, 4, &[], 45);
        if has_sack {
            let silence = sender.deadline().expect("the tail is on its way");
            sender.on_time(silence);
        }
        assert!(sender.wants_again() && sender.admit(&tail, ms(200)) && !sender.wants_again());
        sender.on_segment(&Segment { acked: tail.end, ..ack(4) }, &Options::default(), true, ms(220));
        assert_eq!((sender.phase, sender.missing(), sender.room(0)), (Phase::Open, 0, sender.window().unwrap()));
        assert!(
            sender.admit(&Emitted { start: tail.end, end: tail.end + SIZE, ..tail }, ms(230)) && !sender.wants_again()
        );
    }
}

#[test]
fn one_segment_behind_a_hole_is_enough_after_a_quarter_of_a_round_trip() {
    let mut sender = sender(true, 3);
    hear(&mut sender, 2, &[(3, 4)], 20);
    assert_eq!(sender.deadline(), Some(ms(25)));
    sender.on_time(ms(24));
    assert_eq!(go_over(&mut sender, 24), NONE);
    sender.on_time(ms(25));
    assert_eq!((go_over(&mut sender, 25), window(&sender)), (vec![2], 7));
}

#[test]
fn what_was_lost_twice_is_seen_by_what_left_later() {
    let mut sender = sender(true, 10);
    hear(&mut sender, 1, &[(2, 11)], 20);
    assert_eq!(go_over(&mut sender, 20), [1]);
    (11..13).for_each(|n| assert!(sender.admit(&segment_of(n), ms(21))));
    hear(&mut sender, 1, &[(2, 12)], 41);
    assert_eq!(go_over(&mut sender, 41), NONE, "it may be on its way");
    assert_eq!(sender.deadline(), Some(ms(45)));
    sender.on_time(ms(45));
    assert_eq!((go_over(&mut sender, 45), window(&sender)), (vec![1], 7));
}

#[test]
fn the_window_comes_down_as_segments_arrive() {
    let mut sender = sender(true, 10);
    hear(&mut sender, 1, &[(2, 5)], 20);
    assert_eq!(go_over(&mut sender, 20), [1]);
    assert_eq!(sender.room(10_000), 0);
    let mut left = 0;
    for arrived in 6..=11 {
        hear(&mut sender, 1, &[(2, arrived)], 21);
        if sender.room(10_000 + left * 1000) >= 1000 {
            left += 1;
            assert!(sender.admit(&segment_of(10 + u32::try_from(left).unwrap()), ms(21)));
        }
    }
    assert!((4..=6).contains(&left), "about seven of ten, one of them again, not {left}");
}

#[test]
fn without_sack_three_duplicates_are_a_loss_and_a_partial_acknowledgement_is_the_next() {
    let mut sender = sender(false, 10);
    hear(&mut sender, 1, &[], 20);
    hear(&mut sender, 1, &[], 20);
    assert_eq!(go_over(&mut sender, 20), NONE);
    hear(&mut sender, 1, &[], 20);
    assert_eq!((go_over(&mut sender, 20), sender.phase, window(&sender)), (vec![1], Phase::Repair(11 * SIZE), 7));
    hear(&mut sender, 5, &[], 40);
    assert_eq!((go_over(&mut sender, 40), window(&sender)), (vec![5], 7));
    hear(&mut sender, 11, &[], 60);
    assert_eq!((sender.phase, go_over(&mut sender, 60)), (Phase::Open, vec![]));
}

#[test]
fn silence_is_probed_twice_and_then_everything_is_lost() {
    let mut sender = sender(true, 5);
    let first = sender.deadline().unwrap();
    assert!((ms(30)..ms(70)).contains(&first), "{first}");
    sender.on_time(first - smoltcp::time::Duration::from_millis(1));
    assert!(!sender.wants_again());
    sender.on_time(first);
    assert_eq!(go_over(&mut sender, first.total_millis() - 1000), [5], "the last one tells most");
    let second = sender.deadline().unwrap();
    assert!(second - first > first - ms(0), "later each time");
    sender.on_time(second);
    assert_eq!(go_over(&mut sender, second.total_millis() - 1000), [5]);
    let timeout = sender.deadline().unwrap();
    assert!(timeout - second >= smoltcp::time::Duration::from_millis(220) && window(&sender) == 10);
    sender.on_time(timeout);
    let at = timeout.total_millis() - 1000;
    assert_eq!((go_over(&mut sender, at), sender.phase, window(&sender)), (vec![1, 2], Phase::Resend(6 * SIZE), 2));
    hear(&mut sender, 3, &[], at + 20);
    assert_eq!(go_over(&mut sender, at + 20), [3, 4, 5]);
    hear(&mut sender, 6, &[], at + 40);
    assert_eq!((sender.phase, sender.room(0) >= 3000), (Phase::Open, true));
}

#[test]
fn a_lone_segment_gives_the_peer_time_to_delay_its_acknowledgement_but_not_the_last() {
    for (is_last, expected) in [(false, ms(82)), (true, ms(42))] {
        let mut sender = sender(true, 0);
        assert!(sender.admit(&Emitted { is_last, ..segment_of(1) }, ms(0)));
        assert_eq!(sender.deadline(), Some(expected));
    }
}

#[test]
fn a_probe_shows_the_holes_before_it() {
    let mut sender = sender(true, 5);
    let at = sender.deadline().unwrap();
    sender.on_time(at);
    assert_eq!(go_over(&mut sender, 50), [5]);
    hear(&mut sender, 2, &[(5, 6)], 70);
    assert_eq!((go_over(&mut sender, 70), window(&sender)), (vec![2, 3, 4], 7));
}

#[test]
fn a_probe_that_was_the_repair_counts_as_a_loss_and_a_needless_one_does_not() {
    for second_copy in [false, true] {
        let mut sender = sender(true, 5);
        let at = sender.deadline().unwrap();
        sender.on_time(at);
        assert_eq!(go_over(&mut sender, 50), [5]);
        hear(&mut sender, 6, &[], 70);
        let before = window(&sender);
        if second_copy {
            hear(&mut sender, 6, &[(5, 6)], 71);
        }
        assert!(sender.admit(&segment_of(6), ms(72)));
        hear(&mut sender, 7, &[], 92);
        assert_eq!(window(&sender) >= before, second_copy, "{before} {}", window(&sender));
    }
}

#[test]
fn disorder_that_was_taken_for_a_loss_is_forgiven_and_remembered() {
    let mut sender = sender(true, 10);
    hear(&mut sender, 1, &[(2, 5)], 20);
    assert_eq!((go_over(&mut sender, 20), window(&sender)), (vec![1], 7));
    hear(&mut sender, 5, &[], 21);
    hear(&mut sender, 6, &[(1, 2)], 40);
    assert_eq!((sender.phase, window(&sender) >= 10), (Phase::Open, true));
    hear(&mut sender, 6, &[(7, 10)], 41);
    assert_eq!(go_over(&mut sender, 41), NONE, "this time it is waited for");
    sender.on_time(ms(46));
    assert_eq!(go_over(&mut sender, 46), [6]);
}

#[test]
fn what_a_peer_may_not_say_changes_nothing() {
    let mut sender = sender(true, 5);
    let other = |change: fn(&mut Segment)| {
        let mut segment = ack(1);
        change(&mut segment);
        segment
    };
    let with =
        |blocks: [(u32, u32); 2]| Options { sack: [Some(blocks[0]), Some(blocks[1]), None], ..Options::default() };
    let cases: [(Segment, Options); 5] = [
        (ack(50), Options::default()),
        (ack(0), with([(2000, 6000), (2000, 6000)])),
        (ack(1), with([(9000, 12_000), (5000, 2000)])),
        (other(|s| s.rst = true), with([(2000, 6000), (2000, 6000)])),
        (other(|s| s.ack = false), with([(2000, 6000), (2000, 6000)])),
    ];
    for (segment, options) in cases {
        sender.on_segment(&segment, &options, false, ms(20));
        assert!(sender.losses.is_none() && sender.acked == SIZE && go_over(&mut sender, 20).is_empty(), "{segment:?}");
    }
}

#[test]
fn without_congestion_control_there_is_room_and_losses_are_repaired_all_the_same() {
    let mut sender = Sender { congestion: None, ..sender(true, 10) };
    assert_eq!(sender.room(1 << 20), usize::MAX);
    hear(&mut sender, 1, &[(3, 4), (5, 6), (7, 11)], 20);
    assert_eq!(go_over(&mut sender, 20), [1, 2, 4, 6]);
}

#[test]
fn a_flow_that_is_done_remembers_no_hole() {
    let mut sender = sender(true, 10);
    hear(&mut sender, 1, &[(2, 11)], 20);
    assert_eq!(go_over(&mut sender, 20), [1]);
    hear(&mut sender, 11, &[], 40);
    sender.on_time(sender.deadline().unwrap());
    assert!(sender.losses.is_none() && sender.deadline().is_none());
    assert!(size_of::<Sender>() <= 320, "{}", size_of::<Sender>());
}

#[test]
fn the_segments_are_as_long_as_the_peer_takes_them() {
    for (theirs, expected) in [(Some(536), 536), (Some(9000), 1000), (None, 536), (Some(0), 536), (Some(1), 48)] {
        let mut sender = Sender::new(1000, true);
        sender.note_options(&Options { segment_bytes_max: theirs, ..Options::default() });
        assert_eq!((sender.segment_bytes, sender.room(0)), (expected, 10 * usize::from(expected)));
    }
}
