//! One simulation: three hosts, two wires, and a bound for everything.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use dataplane_dpdk::queue::PacketQueue;
use dataplane_dpdk::queue::wire::{self, WireOptions};
use dataplane_dpdk::{Clock, ClockIdle, LcoreCounters, Mac, NoKernel, Poller, SharedStack, Stack, StackConfig};
use ferrogate_core::config::Config;
use ferrogate_core::config::dataplane::{CongestionControl, Network};
use ferrogate_core::config::limits::FlowLimits;
use ferrogate_core::control::Certificates;
use ferrogate_core::net::Transport;
use ferrogate_core::origin::Origin as Builtin;
use ferrogate_core::snapshot::Snapshot;
use ferrogate_core::telemetry::log_thread::LogQueue;
use ferrogate_core::telemetry::metrics::{UpstreamCounters, WorkerCounters};
use ferrogate_core::worker::{self, Orders, Stop};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep, timeout};

use crate::bug::{Bug, Planted};
use crate::client::{Client, Plan, Rules, Tally};
use crate::draw::Draw;
use crate::line::SimTransport;
use crate::origin::{Ledger, Origin};
use crate::switch::Switch;

/// What a simulation was like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub tally: Tally,
    pub faults: usize,
    pub frames: u64,
    pub took: Duration,
    pub drained: bool,
}

/// Runs the simulation of `seed`, with a bug or without. The error says what is wrong.
pub fn run(seed: u64, bug: Option<Bug>) -> Result<Report, String> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        match timeout(SCENE_BOUND, Scene::new(seed, bug).play()).await {
            Ok(result) => result,
            Err(_) => Err(format!("it did not end in {SCENE_BOUND:?}")),
        }
    })
}

/// A host with its stack.
struct Host {
    transport: SimTransport,
    stack: SharedStack,
    counters: Arc<LcoreCounters>,
    clock: Clock,
    poller: JoinHandle<std::convert::Infallible>,
}

struct Scene {
    draw: Draw,
    rules: Rules,
    drain_at: Option<Duration>,
    gateway: Host,
    origin: Host,
    client: Host,
    origins: Rc<Origin>,
    bug: Option<Bug>,
}

/// The gateway's worker, and what it is told and tells.
struct Gateway {
    task: JoinHandle<std::io::Result<()>>,
    counters: Arc<WorkerCounters>,
    stop: watch::Sender<Stop>,
    // Held so that the worker sees an open channel.
    snapshot: watch::Sender<Arc<Snapshot>>,
}

impl Scene {
    fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut draw = Draw::new(seed);
        let (near, far) = (wire_options(&mut draw), wire_options(&mut draw));
        let faulty = draw.one_of(&[0.0, 0.0, 0.05, 0.2, 0.5]);
        let drain_at = draw.chance(0.1).then(|| draw.millis(0..=4000));
        let loss = near.loss.max(far.loss);
        let steady = loss <= STEADY_LOSS && drain_at.is_none();
        let rules = Rules { steady, faultless: steady && faulty == 0.0, lossless: loss == 0.0 };
        tracing::debug!(?rules, faulty, ?drain_at, "near: {near:?}, far: {far:?}");
        let (client, here) = wire::pair(draw.next(), &near);
        let (origin, there) = wire::pair(draw.next(), &far);
        let switch = Switch::new(vec![(mac(CLIENT), here), (mac(ORIGIN), there)], Planted::new(bug));
        let ring = draw.one_of(&[4096, 16 * 1024, 64 * 1024]);
        let origins = Origin {
            ledger: Rc::new(Ledger::new()),
            faulty,
            draw: RefCell::new(draw.fork()),
            tasks: RefCell::default(),
        };
        Self {
            rules,
            drain_at,
            gateway: Host::new(switch, stack_config(GATEWAY, ring, seed)),
            origin: Host::new(origin, stack_config(ORIGIN, 16 * 1024, seed)),
            client: Host::new(client, stack_config(CLIENT, 16 * 1024, seed)),
            origins: Rc::new(origins),
            draw,
            bug,
        }
    }

    async fn play(mut self) -> Result<Report, String> {
        let start = Instant::now();
        for port in ORIGIN_PORTS {
            self.origins.listen(&self.origin.transport, &format!("10.0.0.{ORIGIN}:{port}")).await;
        }
        self.start_builtin();
        let gateway = Gateway::start(&self.gateway).await?;
        let _forgotten = self.forget_a_connection().await;
        let tally = self.run_clients(&gateway).await?;
        let took = start.elapsed();
        let faults = self.origins.ledger.faults.get();
        gateway.settle().await?;
        self.check_ends().await?;
        let violations = self.origins.ledger.violations.borrow();
        if !violations.is_empty() {
            return Err(violations.join("\n    "));
        }
        let frames = self.gateway.counters.rx_packets.get() + self.gateway.counters.tx_packets.get();
        Ok(Report { tally, faults, frames, took, drained: self.drain_at.is_some() })
    }

    /// What [`Bug::Leak`] leaves open to the end.
    async fn forget_a_connection(&self) -> Option<<SimTransport as Transport>::Conn> {
        let origin = format!("10.0.0.{ORIGIN}:{BUILTIN_PORT}").parse().expect("an address");
        if self.bug != Some(Bug::Leak) {
            return None;
        }
        self.gateway.transport.connect(&origin).await.ok()
    }

    /// The origin that comes with the gateway.
    fn start_builtin(&self) {
        let transport = self.origin.transport.clone();
        let task = spawn_local(async move {
            let address = format!("10.0.0.{ORIGIN}:{BUILTIN_PORT}").parse().expect("an address");
            let served = Builtin::new("sim").run(transport, &address, |_| {}).await;
            served.expect("a free port");
        });
        self.origins.tasks.borrow_mut().push(task);
    }

    async fn run_clients(&mut self, gateway: &Gateway) -> Result<Tally, String> {
        let clients = self.draw.between(1..=6);
        let mut tasks = Vec::new();
        for n in 0..clients as u64 {
            let plan = Plan::draw(&mut self.draw, (n + 1) << 8);
            let ledger = Rc::clone(&self.origins.ledger);
            let client = Client { ledger, rules: self.rules, draw: self.draw.fork() };
            tasks.push(spawn_local(client.run(self.client.transport.clone(), plan)));
        }
        if let Some(at) = self.drain_at {
            sleep(at).await;
            gateway.stop.send_replace(Stop::Drain);
        }
        let mut all = Tally::default();
        for task in tasks {
            let tally = task.await.map_err(|e| format!("a client failed: {e}"))?;
            all.asked += tally.asked;
            all.done += tally.done;
            all.refused += tally.refused;
            all.left += tally.left;
            all.broken += tally.broken;
        }
        Ok(all)
    }

    /// When everybody has left, nothing is left of them.
    async fn check_ends(&self) -> Result<(), String> {
        let tasks = self.origins.tasks.take();
        for task in tasks {
            task.abort();
            match task.await {
                Err(e) if e.is_panic() => return Err(format!("an origin failed: {e}")),
                _ => {}
            }
        }
        let hosts = [("gateway", &self.gateway), ("origin", &self.origin), ("client", &self.client)];
        let flows = || hosts.map(|(_, h)| h.stack.borrow().flows());
        until(|| flows() == [0; 3])
            .await
            .map_err(|()| format!("flows of {:?} that don't end: {:?}", hosts.map(|h| h.0), flows()))?;
        sleep(TIME_WAIT).await;
        for (name, host) in hosts {
            host.check_empty().map_err(|e| format!("{name}: {e}"))?;
        }
        Ok(())
    }
}

impl Host {
    fn new(queue: impl PacketQueue + 'static, config: StackConfig) -> Self {
        let clock = Clock::new();
        let counters = Arc::new(LcoreCounters::default());
        let stack = Stack::new(Box::new(queue), config, Arc::clone(&counters), clock.now());
        let stack: SharedStack = Rc::new(RefCell::new(stack));
        let poller = Poller::new([Rc::clone(&stack)], clock, ClockIdle::default(), Arc::clone(&counters));
        let transport = SimTransport::new([Rc::clone(&stack)], NoKernel);
        Self { transport, stack, counters, clock, poller: spawn_local(poller) }
    }

    fn check_empty(&self) -> Result<(), String> {
        if self.poller.is_finished() {
            return Err("its poller failed".to_owned());
        }
        // A stack that rests looks after its TIME-WAIT entries in its next turn.
        self.stack.borrow_mut().egress(self.clock.now());
        let counters = &self.counters;
        let left = [&counters.flows, &counters.flows_opening, &counters.time_waits].map(|c| c.get());
        if left != [0; 3] {
            return Err(format!("flows, handshakes, TIME-WAITs left: {left:?}"));
        }
        // Ours, the poller's, and the transport's: a connection that was forgotten somewhere holds one too.
        match Rc::strong_count(&self.stack) {
            3 => Ok(()),
            n => Err(format!("its stack has {n} holders")),
        }
    }
}

impl Gateway {
    async fn start(host: &Host) -> Result<Self, String> {
        let (config, _) = Config::parse(CONFIG, "sim.yaml").map_err(|e| format!("the configuration: {e:?}"))?;
        let snapshot = Snapshot::build(&config, None, &mut Certificates::default()).map_err(|e| format!("{e:?}"))?;
        let counters = Arc::new(WorkerCounters::default());
        let (snapshot_tx, snapshot) = watch::channel(Arc::new(snapshot));
        let (stop, stop_rx) = watch::channel(Stop::No);
        let (started, mut reports) = mpsc::unbounded_channel();
        let all = Arc::from([Arc::clone(&counters)]);
        let orders = Orders {
            snapshot,
            stop: stop_rx,
            started,
            counters: all,
            conns_max: 100,
            memory_bytes_max: usize::MAX,
            logs: LogQueue::closed(),
        };
        let task = spawn_local(worker::run(0, host.transport.clone(), orders));
        match reports.recv().await {
            Some(Ok(())) => Ok(Self { task, counters, stop, snapshot: snapshot_tx }),
            report => Err(format!("the gateway did not start: {report:?}")),
        }
    }

    /// The clients have left: the gateway comes to rest by itself, and ends when it is told to.
    async fn settle(mut self) -> Result<(), String> {
        let down = &self.counters.downstream;
        let snapshot = Arc::clone(&self.snapshot.borrow());
        let of_all = |f| snapshot.clusters.iter().filter_map(|c| c.shared.counters().sum(f)).sum::<u64>();
        let up_requests = || of_all(|u: &UpstreamCounters| u.request_active.get());
        let active = || [down.connection_active.get(), down.request_active.get(), up_requests()];
        until(|| active() == [0; 3])
            .await
            .map_err(|()| format!("clients are gone, but connections and requests stay active: {:?}", active()))?;
        self.stop.send_replace(Stop::Drain);
        match timeout(BOUND, &mut self.task).await {
            Ok(Ok(Ok(()))) => {}
            ended => return Err(format!("the worker did not end in order: {ended:?}")),
        }
        let left = [down.panicked.get(), of_all(|u| u.connection_active.get())];
        let (opened, closed) = (of_all(|u| u.connection_total.get()), of_all(|u| u.connection_close.get()));
        if left != [0; 2] || opened != closed {
            return Err(format!("panics, upstream connections left: {left:?}; {opened} opened, {closed} closed"));
        }
        Ok(())
    }
}

async fn until(done: impl Fn() -> bool) -> Result<(), ()> {
    let start = Instant::now();
    while !done() {
        if start.elapsed() > BOUND {
            return Err(());
        }
        sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

fn wire_options(draw: &mut Draw) -> WireOptions {
    let percent = |n: usize| f64::from(u32::try_from(n).expect("a small number")) / 1000.0;
    let loss = draw.one_of(&[0, 0, 2, 5, 10, 20, 50]);
    WireOptions {
        latency: draw.millis(0..=80),
        loss: percent(loss),
        duplicate: percent(draw.one_of(&[0, 0, 5, 20])),
        reorder: percent(draw.one_of(&[0, 0, 10, 50])),
        late_by: draw.millis(1..=60),
        rate_bytes_per_s: draw.chance(0.2).then(|| draw.between(100_000..=2_000_000) as u64),
        ..WireOptions::default()
    }
}

fn stack_config(host: u8, ring: usize, seed: u64) -> StackConfig {
    StackConfig {
        mac: mac(host),
        addresses: vec![Network::new(Ipv4Addr::new(10, 0, 0, host), 24)],
        routes: Vec::new(),
        mtu: 1500,
        tx_checksum: false,
        rx_ring_bytes: ring,
        tx_ring_bytes: ring,
        congestion_control: CongestionControl::Cubic,
        flows_max: 200,
        syn_backlog_max: 50,
        limits: FlowLimits::default(),
        seed: seed ^ u64::from(host),
        seat: None,
    }
}

fn mac(host: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, host])
}

const GATEWAY: u8 = 1;
const ORIGIN: u8 = 2;
pub const CLIENT: u8 = 3;
const ORIGIN_PORTS: [u16; 2] = [9001, 9002];
const BUILTIN_PORT: u16 = 9003;

/// Up to this loss, four lost SYNs in a row are no accident any more.
const STEADY_LOSS: f64 = 0.005;
/// Everything that comes to rest by itself does so within this.
const BOUND: Duration = Duration::from_secs(600);
const SCENE_BOUND: Duration = Duration::from_secs(3600 * 3);
/// As long as the stacks keep TIME-WAIT, and a turn more.
const TIME_WAIT: Duration = Duration::from_secs(62);

const CONFIG: &str = r#"
servers:
  - listeners:
      - name: sim
        address: 10.0.0.1:80
        router_config_name: sim
    routers:
      - router_config_name: sim
        virtual_hosts:
          - name: all
            domains: ["*"]
            routers:
              - match: {path: /echo}
                route: {cluster_name: builtin}
              - match: {prefix: /}
                route: {cluster_name: origins}
cluster_manager:
  clusters:
    - name: origins
      type: SIMPLE
      lb_type: LB_ROUNDROBIN
      hosts:
        - address: 10.0.0.2:9001
        - address: 10.0.0.2:9002
    - name: builtin
      hosts:
        - address: 10.0.0.2:9003
limits:
  connect_timeout: 20s
  request_timeout: 30s
  body_idle_timeout: 30s
  idle_timeout: 30s
  upstream_idle_timeout: 2s
  graceful_timeout: 20s
"#;
