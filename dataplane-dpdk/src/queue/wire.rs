//! A simulated wire between two stacks: latency, loss, duplication, reordering and a rate, all drawn from a seed.
//!
//! **Invariant:** time is tokio's clock, so that a paused one makes a run repeatable, and the same seed gives the same wire.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::PacketQueue;
use crate::frame::{Frame, FrameVec};

/// How a wire treats what is sent over it, in each direction.
#[derive(Clone, Debug)]
pub struct WireOptions {
    /// From one end to the other.
    pub latency: Duration,
    /// A frame is lost with this probability.
    pub loss: f64,
    /// A frame arrives twice with this probability.
    pub duplicate: f64,
    /// A frame is late by [`late_by`](Self::late_by) with this probability, so that others overtake it.
    pub reorder: f64,
    /// How late.
    pub late_by: Duration,
    /// Bytes in a second; `None` for as many as there are.
    pub rate_bytes_per_s: Option<u64>,
    /// Frames on their way in one direction, at most; what comes on top is lost.
    pub frames_max: usize,
}

impl Default for WireOptions {
    /// A wire without latency or fault.
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            late_by: Duration::from_millis(1),
            rate_bytes_per_s: None,
            frames_max: 4096,
        }
    }
}

/// The two ends of a wire.
#[must_use]
pub fn pair(seed: u64, options: &WireOptions) -> (WireQueue, WireQueue) {
    let direction = |seed| Rc::new(RefCell::new(Direction::new(seed, options.clone())));
    let (there, back) = (direction(seed), direction(!seed));
    let end = |tx: &Rc<_>, rx: &Rc<_>| WireQueue { tx: Rc::clone(tx), rx: Rc::clone(rx), sleep: None };
    (end(&there, &back), end(&back, &there))
}

/// One end of a wire.
#[derive(Debug)]
pub struct WireQueue {
    tx: Rc<RefCell<Direction>>,
    rx: Rc<RefCell<Direction>>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl WireQueue {
    /// Cuts or mends the wire, for what this end sends.
    pub fn set_loss(&mut self, loss: f64) {
        self.tx.borrow_mut().options.loss = loss;
    }

    /// A handle that changes the loss of this end's direction later, when a stack owns the queue.
    #[must_use]
    pub fn cutter(&self) -> WireCutter {
        WireCutter(Rc::clone(&self.tx))
    }
}

impl PacketQueue for WireQueue {
    fn rx_burst(&mut self, into: &mut FrameVec) {
        self.rx.borrow_mut().arrive(Instant::now(), into);
    }

    fn tx_burst(&mut self, from: &mut FrameVec) {
        let mut tx = self.tx.borrow_mut();
        let frames = from.len();
        for frame in from.take_front(frames) {
            tx.send(Instant::now(), &frame);
        }
        if let Some(peer) = tx.waker.take() {
            peer.wake();
        }
    }

    fn alloc_burst(&mut self, into: &mut FrameVec) {
        while into.room() > 0 {
            into.push(Frame::heap(FRAME_BYTES));
        }
    }

    fn poll_rx(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut rx = self.rx.borrow_mut();
        rx.waker = Some(cx.waker().clone());
        let Some(next) = rx.next() else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(next)));
        if sleep.deadline() != next {
            sleep.as_mut().reset(next);
        }
        sleep.as_mut().poll(cx)
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Option<Poll<()>> {
        Some(self.poll_rx(cx))
    }
}

/// Changes a wire that is in use.
#[derive(Clone, Debug)]
pub struct WireCutter(Rc<RefCell<Direction>>);

impl WireCutter {
    /// From now on a frame is lost with this probability; 1 cuts the wire.
    pub fn set_loss(&self, loss: f64) {
        self.0.borrow_mut().options.loss = loss;
    }

    /// Frames that were sent in this direction, lost ones included.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.0.borrow().sent
    }
}

#[derive(Debug)]
struct Direction {
    options: WireOptions,
    /// By arrival, then by order of sending.
    frames: BTreeMap<(Instant, u64), Frame>,
    sent: u64,
    /// When the last bit of what was sent has left.
    busy_until: Option<Instant>,
    random: u64,
    /// The poller at the receiving end.
    waker: Option<Waker>,
}

impl Direction {
    fn new(seed: u64, options: WireOptions) -> Self {
        let frames = BTreeMap::new();
        Self { options, frames, sent: 0, busy_until: None, random: scrambled(seed), waker: None }
    }

    fn send(&mut self, now: Instant, frame: &Frame) {
        self.sent += 1;
        let start = self.busy_until.map_or(now, |busy| busy.max(now));
        let length = frame.bytes().len() as u64;
        let end = match self.options.rate_bytes_per_s {
            Some(rate) => start + Duration::from_nanos(length * 1_000_000_000 / rate.max(1)),
            None => start,
        };
        self.busy_until = Some(end);
        let lost = self.chance(self.options.loss);
        if lost || self.frames.len() >= self.options.frames_max {
            return;
        }
        let mut at = end + self.options.latency;
        if self.chance(self.options.reorder) {
            at += self.options.late_by;
        }
        let twice = self.chance(self.options.duplicate);
        for copy in 0..=u64::from(twice) {
            let mut whole = Frame::heap(FRAME_BYTES);
            whole.set_len(frame.bytes().len());
            whole.bytes_mut().copy_from_slice(frame.bytes());
            self.frames.insert((at, self.sent * 2 + copy), whole);
        }
    }

    fn arrive(&mut self, now: Instant, into: &mut FrameVec) {
        while into.room() > 0 {
            match self.frames.first_entry() {
                Some(first) if first.key().0 <= now => into.push(first.remove()),
                _ => break,
            }
        }
    }

    fn next(&self) -> Option<Instant> {
        self.frames.first_key_value().map(|((at, _), _)| *at)
    }

    /// Draws (xorshift64*): true with this probability.
    fn chance(&mut self, probability: f64) -> bool {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let draw = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40;
        let draw = u32::try_from(draw).expect("24 bits are left");
        f64::from(draw) < probability * f64::from(1_u32 << 24)
    }
}

/// Spreads a seed over all bits (splitmix64), so that those of 1, 2 and 3 begin differently too.
fn scrambled(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    // Zero would stay zero.
    (x ^ (x >> 31)) | 1
}

/// Room of a frame: the largest MTU that a test wants, and Ethernet.
const FRAME_BYTES: usize = 9018;

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `count` numbered frames at once and says which arrived, in order.
    fn sent(seed: u64, options: &WireOptions, count: u8) -> Vec<u8> {
        let (mut a, mut b) = pair(seed, options);
        let mut burst = FrameVec::new(1);
        for n in 0..count {
            let mut frame = Frame::heap(60);
            frame.set_len(60);
            frame.bytes_mut()[0] = n;
            burst.push(frame);
            a.tx_burst(&mut burst);
        }
        let mut got = FrameVec::new(1000);
        b.rx.borrow_mut().arrive(Instant::now() + Duration::from_secs(3600), &mut got);
        b.rx_burst(&mut got);
        got.as_slice().iter().map(|f| f.bytes()[0]).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_faultless_wire_delivers_in_order_and_a_faulty_one_by_its_seed() {
        let all: Vec<u8> = (0..200).collect();
        assert_eq!(sent(1, &WireOptions::default(), 200), all);
        let lossy = WireOptions { loss: 0.2, ..WireOptions::default() };
        let (a, b) = (sent(1, &lossy, 200), sent(1, &lossy, 200));
        assert_eq!(a, b, "the same seed");
        assert_ne!(a, sent(2, &lossy, 200), "another seed");
        assert!((120..190).contains(&a.len()), "about a fifth is lost, not {} of 200", 200 - a.len());
        let first: usize = (0..1000).map(|seed| 2 - sent(seed, &lossy, 2).len()).sum();
        assert!(
            (340..460).contains(&first),
            "the first draws of neighbouring seeds: a fifth, too, not {first} of 2000"
        );
        let twice = WireOptions { duplicate: 1.0, ..WireOptions::default() };
        assert_eq!(sent(1, &twice, 2), [0, 0, 1, 1]);
        let late = WireOptions { reorder: 0.5, ..WireOptions::default() };
        let mut got = sent(1, &late, 200);
        assert_ne!(got, all);
        got.sort_unstable();
        assert_eq!(got, all);
    }

    #[tokio::test(start_paused = true)]
    async fn latency_and_rate_take_their_time() {
        let latency = Duration::from_millis(10);
        let options = WireOptions { latency, rate_bytes_per_s: Some(6000), ..WireOptions::default() };
        let (mut a, mut b) = pair(1, &options);
        let (mut burst, start) = (FrameVec::new(2), Instant::now());
        for _ in 0..2 {
            let mut frame = Frame::heap(60);
            frame.set_len(60);
            burst.push(frame);
        }
        a.tx_burst(&mut burst);
        let mut times = Vec::new();
        for _ in 0..2 {
            std::future::poll_fn(|cx| b.poll_rx(cx)).await;
            let mut got = FrameVec::new(1);
            b.rx_burst(&mut got);
            times.push((got.len(), (Instant::now() - start).as_millis()));
        }
        assert_eq!(times, [(1, 20), (1, 30)]);
    }
}
