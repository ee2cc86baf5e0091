//! Timers: the wheel of the userspace stack, and the movable deadline of a connection.
//!
//! Delays are those of traffic: retransmissions after 200 ms and more, delayed acknowledgements after 10 ms, and a clock that moves on by
//! some microseconds for each packet.

mod counting;
#[allow(
    dead_code,
    unused_imports,
    missing_docs,
    reason = "the file of the stack itself, which keeps its wheel to itself"
)]
#[path = "../../dataplane-dpdk/src/stack/timer_wheel.rs"]
mod timer_wheel;

use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ferrogate_core::stream::timer::Timer;
use smoltcp::time::Instant;
use tokio::runtime::Builder;

use self::timer_wheel::TimerWheel;

fn wheel(c: &mut Criterion) {
    let mut group = c.benchmark_group("wheel");
    for flows in [1_u32, 1_000, 100_000] {
        // A busy flow: every packet moves its deadline out, and the clock on.
        let mut traffic = Traffic::new(flows);
        counting::bench(&mut group, BenchmarkId::new("move_out", flows), || {
            let flow = traffic.packet();
            traffic.wheel.arm(flow, traffic.after(200));
        });
        // An acknowledgement to be sent soon takes the place of a far deadline: the entry moves in.
        let mut traffic = Traffic::new(flows);
        counting::bench(&mut group, BenchmarkId::new("move_in", flows), || {
            let flow = traffic.packet();
            traffic.wheel.cancel(flow);
            traffic.wheel.arm(flow, traffic.after(200));
            traffic.wheel.arm(flow, traffic.after(10));
        });
        // What a turn without a packet costs; the two above hold it too.
        let mut traffic = Traffic::new(flows);
        counting::bench(&mut group, BenchmarkId::new("turn", flows), || traffic.turn());
    }
    group.finish();
}

fn deadline(c: &mut Criterion) {
    let mut group = c.benchmark_group("deadline");
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _entered = runtime.enter();
    let mut cx = Context::from_waker(Waker::noop());
    let mut timer = Timer::new();
    // What a keep-alive request does with its connection's timer: set, waited on, cleared.
    let counted = counting::bench(&mut group, BenchmarkId::new("set_poll_clear", "timer"), || {
        timer.set(black_box(Duration::from_secs(60)));
        let waited = timer.poll_expired(&mut cx);
        timer.clear();
        waited
    });
    if let Some(counted) = counted {
        counted.assert_none("set_poll_clear/timer");
    }
    // The yardstick: a timer of the runtime, armed and dropped for each request.
    counting::bench(&mut group, BenchmarkId::new("set_poll_clear", "tokio_sleep"), || {
        let sleep = pin!(tokio::time::sleep(black_box(Duration::from_secs(60))));
        sleep.poll(&mut cx)
    });
    group.finish();
}

/// A wheel with all flows armed, and a clock.
struct Traffic {
    wheel: TimerWheel,
    flows: u32,
    now: i64,
    drawn: u32,
    fired: Vec<u32>,
}

impl Traffic {
    fn new(flows: u32) -> Self {
        let mut wheel = TimerWheel::new(Instant::from_micros(START_MICROS));
        for flow in 0..flows {
            wheel.arm(flow, Instant::from_micros(START_MICROS + 200_000 + i64::from(flow % 800) * 1000));
        }
        Self { wheel, flows, now: START_MICROS, drawn: 1, fired: Vec::with_capacity(flows as usize) }
    }

    /// A turn, and the flow of its packet, in no order that a cache could foresee.
    fn packet(&mut self) -> u32 {
        self.turn();
        self.drawn = self.drawn.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.drawn >> 8) % self.flows
    }

    fn after(&self, ms: i64) -> Instant {
        Instant::from_micros(self.now + ms * 1000)
    }

    /// The clock moves on by a microsecond or two, and now and then a slot fires: its flows are armed again.
    fn turn(&mut self) -> usize {
        self.now += 2;
        let Self { wheel, fired, .. } = self;
        wheel.advance(Instant::from_micros(self.now), |flow| fired.push(flow));
        let count = self.fired.len();
        while let Some(flow) = self.fired.pop() {
            self.wheel.arm(flow, self.after(200 + i64::from(flow % 800)));
        }
        count
    }
}

/// The wheel's clock does not start at 0.
const START_MICROS: i64 = 1_000_000;

criterion_group!(benches, wheel, deadline);
criterion_main!(benches);
