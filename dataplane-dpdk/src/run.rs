//! Starts EAL and the ports, and runs one lcore thread per worker.
//!
//! **Invariant:** the calling thread stays where it was; a port closes only after the threads that polled it have ended.

use std::fmt;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ferrogate_core::config::dataplane::{Dpdk, Exception, Network, Offloads, Port as PortConfig, Vlan};
use ferrogate_core::net::Transport;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;

use crate::counters::LcoreCounters;
use crate::device::{Device, PortInfo, PortOptions, PortStats};
use crate::error::StartError;
use crate::follow::{Follower, Twin};
use crate::ops::desk::{self, Desk, Inbox};
use crate::ops::publisher::Publisher;
use crate::poller::{Clock, PolledIdle, Poller};
use crate::port::{Eal, LcoreThread, Port, PortStatus, Queue, become_user};
use crate::preflight;
use crate::queue::PacketQueue;
use crate::queue::shared::share;
use crate::queue::tap::{TapInterface, TapOptions, TapQueue};
use crate::queue::trunk::split;
use crate::rss::{LCORES_MAX, SOFTWARE_ENTRIES, Seat, Steering};
use crate::stack::{SharedStack, Stack, StackConfig};
use crate::trace::{Recorder, Tap};
use crate::transport::DpdkTransport;

/// Starts the plane: EAL, the ports of `config`, and `workers` lcores. Each has a queue pair of each port, or shares those that there are.
///
/// On lcore `i` of its own thread, inside a tokio runtime with timers and kernel sockets, `kernel(i)` makes the transport for what never
/// leaves the host, and `worker(i, transport)` the future that is the worker. The lcore ends with that future, or by [`Running::stop`].
///
/// # Errors
/// The first cause that keeps the plane from starting. Nothing runs then, and every port is closed again.
pub fn run<K, F, Fut>(
    config: &Dpdk,
    workers: usize,
    kernel: impl Fn(usize) -> K + Send + Sync + 'static,
    worker: F,
) -> Result<Running, StartError>
where
    K: Transport,
    F: Fn(usize, DpdkTransport<K>) -> Fut + Send + Clone + 'static,
    Fut: Future<Output = ()>,
{
    preflight::check(config)?;
    let workers = workers.max(1);
    if workers > LCORES_MAX {
        return Err(StartError::Workers { wanted: workers, max: LCORES_MAX });
    }
    let cpus = preflight::lcore_cpus();
    let cpu_of = |lcore: usize| cpus.get(lcore % cpus.len().max(1)).copied();
    let lcore_cpus: Vec<usize> = (0..workers).filter_map(cpu_of).collect();
    let eal = Eal::start(&eal_args(config, &lcore_cpus)).map_err(|e| StartError::of_port("EAL", e))?;

    let lcores: Vec<_> = (0..workers).map(|_| Arc::new(LcoreCounters::default())).collect();
    let mut queues: Vec<Vec<Link>> = (0..workers).map(|_| Vec::new()).collect();
    let mut ports = Vec::new();
    let mut states = Vec::new();
    for port in &config.ports {
        let (open, pairs) = open_port(&eal, port, workers)?;
        states.push(PortState::of(port, &open, pairs.len()));
        let mut twins = open_twin(port, open.info(), workers)?.into_iter();
        for (lcore, (queue, seat)) in share_port(&open, pairs, &lcores).into_iter().enumerate() {
            let twin = twins.next().zip(port.exception.clone());
            let config = StackConfig { seat, ..stack_config(config, port, open.info()) };
            let vlans = port.vlans.iter().map(|vlan| (vlan.id, vlan_config(&config, vlan))).collect();
            queues[lcore].push(Link { queue, twin, config, vlans, inserts_tags: open.info().does.vlan_insert });
        }
        ports.push(open);
    }
    let taps = recorder_taps(config, workers);
    drop_root(&eal, config)?;
    let (desk, inboxes) = Desk::new(workers, stack_names(config));
    let (desk, cpus) = (Arc::new(desk), (0..workers).map(cpu_of).collect());
    let (stop, stopped) = watch::channel(false);
    let status = Status { ports: states, lcores, cpus, hertz: eal.tsc_hertz(), requests: OnceLock::new(), desk };
    let mut running =
        Running { lcores: Vec::new(), ports, stop, status: Arc::new(status), publisher: None, follower: None };
    let (kernel, lingering) = (Arc::new(kernel), Arc::new(AtomicUsize::new(workers)));
    for ((index, links), inbox) in queues.into_iter().enumerate().zip(inboxes) {
        let lcore = Lcore {
            index,
            cpu: cpu_of(index),
            eal: Arc::clone(&eal),
            links,
            config: config.clone(),
            counters: Arc::clone(&running.status.lcores[index]),
            stopped: stopped.clone(),
            lingering: Arc::clone(&lingering),
            inbox,
            tap: taps.get(index).cloned(),
        };
        let (kernel, worker) = (Arc::clone(&kernel), worker.clone());
        running.lcores.push(lcore.start(move || kernel(index), worker)?);
    }
    running.follower = Follower::start(followed(config), &running.status.desk);
    running.publisher = config.statistics_file.as_deref().and_then(|path| Publisher::start(path, &running.status));
    Ok(running)
}

/// The running plane. Dropped, it stops without waiting for its workers' last bytes.
#[derive(Debug)]
pub struct Running {
    lcores: Vec<JoinHandle<()>>,
    /// Closed after the lcores.
    ports: Vec<Port>,
    stop: watch::Sender<bool>,
    status: Arc<Status>,
    /// Ends before the ports close: it reads their numbers.
    publisher: Option<Publisher>,
    /// Tells the lcores what Linux says of their ports' twins.
    follower: Option<Follower>,
}

impl Running {
    /// Ends every worker: its future is dropped, its connections are closed and given a second to send their rest.
    pub fn stop(&self) {
        // Nobody listens any more when the workers have ended by themselves.
        let _ = self.stop.send(true);
    }

    /// Waits for the workers, then closes the ports and gives the memory back.
    ///
    /// # Errors
    /// [`JoinError`] when a worker panicked. The others were waited for, and the ports are closed, all the same.
    pub fn join(mut self) -> Result<(), JoinError> {
        self.wait()
    }

    /// Whether a worker has ended. Before the workers are told to, that is a failure.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.lcores.iter().any(JoinHandle::is_finished)
    }

    /// What the control thread shows of the plane. Outlives it.
    #[must_use]
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    fn wait(&mut self) -> Result<(), JoinError> {
        let mut result = Ok(());
        for (lcore, thread) in self.lcores.drain(..).enumerate() {
            if thread.join().is_err() {
                result = Err(JoinError { lcore });
            }
        }
        (self.publisher, self.follower) = (None, None);
        self.ports.clear();
        result
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
        if let Err(e) = self.wait() {
            tracing::error!("{e}");
        }
    }
}

/// A worker panicked outside of its tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinError {
    /// Which.
    pub lcore: usize,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the worker of lcore {} panicked", self.lcore)
    }
}

impl std::error::Error for JoinError {}

/// The ports and lcores of a plane, for metrics and the admin API. Read from any thread.
#[derive(Debug)]
pub struct Status {
    /// In the order of the configuration.
    pub ports: Vec<PortState>,
    /// By lcore.
    pub lcores: Vec<Arc<LcoreCounters>>,
    /// The CPU of each.
    pub(crate) cpus: Vec<Option<usize>>,
    /// Cycles of the time stamp counter in a second.
    pub(crate) hertz: u64,
    pub(crate) requests: OnceLock<Requests>,
    /// Whom to ask what is not a number.
    pub(crate) desk: Arc<Desk>,
}

impl Status {
    /// Says how many requests the worker of an lcore has received.
    pub fn count_requests(&self, of: impl Fn(usize) -> u64 + Send + Sync + 'static) {
        // Said once.
        let _ = self.requests.set(Requests(Box::new(of)));
    }
}

/// How many requests a worker has received.
pub(crate) struct Requests(Box<dyn Fn(usize) -> u64 + Send + Sync>);

impl Requests {
    pub(crate) fn of(&self, lcore: usize) -> u64 {
        (self.0)(lcore)
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Requests")
    }
}

/// An open port.
#[derive(Debug)]
pub struct PortState {
    /// The device as configured.
    pub device: String,
    /// Our addresses on it.
    pub addresses: Vec<Network>,
    /// The VLANs that it is in, with our addresses there.
    pub vlans: Vec<Vlan>,
    /// What it is: driver, Ethernet address, offloads.
    pub info: PortInfo,
    /// Queue pairs that are used. Fewer than lcores: some are served by others.
    pub queues: usize,
    status: PortStatus,
}

impl PortState {
    fn of(port: &PortConfig, open: &Port, queues: usize) -> Self {
        Self {
            device: port.device.clone(),
            addresses: port.addresses.clone(),
            vlans: port.vlans.clone(),
            info: open.info().clone(),
            queues,
            status: open.status(),
        }
    }

    /// The driver's counters; `None` once the port is closed.
    #[must_use]
    pub fn stats(&self) -> Option<PortStats> {
        self.status.stats()
    }

    /// Whether it has a link now.
    #[must_use]
    pub fn link_up(&self) -> bool {
        self.status.link_up()
    }
}

/// A queue of an lcore, before it is on the lcore's thread.
type SentQueue = Box<dyn PacketQueue + Send>;

/// A queue and the stacks that are to be on it: of what is untagged, and of the port's VLANs.
struct Link {
    queue: SentQueue,
    twin: Option<(TapInterface, Exception)>,
    config: StackConfig,
    vlans: Vec<(u16, StackConfig)>,
    /// Whether the port puts the tags of these on.
    inserts_tags: bool,
}

/// What an lcore thread is made of.
struct Lcore {
    index: usize,
    cpu: Option<usize>,
    eal: Arc<Eal>,
    links: Vec<Link>,
    config: Dpdk,
    counters: Arc<LcoreCounters>,
    stopped: watch::Receiver<bool>,
    /// Lcores that may still have something to send.
    lingering: Arc<AtomicUsize>,
    inbox: Inbox,
    /// Of the flight recorder.
    tap: Option<Tap>,
}

impl Lcore {
    /// Starts the thread and waits until it is set up.
    fn start<K, F, Fut>(
        self,
        kernel: impl FnOnce() -> K + Send + 'static,
        worker: F,
    ) -> Result<JoinHandle<()>, StartError>
    where
        K: Transport,
        F: Fn(usize, DpdkTransport<K>) -> Fut + Send + 'static,
        Fut: Future<Output = ()>,
    {
        let (ready, started) = mpsc::channel();
        let name = format!("lcore-{}", self.index);
        let thread = thread::Builder::new().name(name).spawn(move || {
            if let Err(e) = self.run(kernel, worker, &ready) {
                // The starter is waiting for this, or has gone with an error of its own.
                let _ = ready.send(Err(e));
            }
        });
        let thread = thread.map_err(StartError::Thread)?;
        match started.recv() {
            Ok(result) => result.map(|()| thread),
            Err(_) => Err(StartError::Thread(io::Error::other("it panicked"))),
        }
    }

    fn run<K, F, Fut>(
        self,
        kernel: impl FnOnce() -> K,
        worker: F,
        ready: &mpsc::Sender<Result<(), StartError>>,
    ) -> Result<(), StartError>
    where
        K: Transport,
        F: Fn(usize, DpdkTransport<K>) -> Fut,
        Fut: Future<Output = ()>,
    {
        let Self { index, cpu, eal, links, config, counters, mut stopped, lingering, inbox, tap } = self;
        let _thread = LcoreThread::register(&eal, cpu).map_err(|e| StartError::of_port("EAL", e))?;
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        let runtime = runtime.map_err(StartError::Thread)?;
        let ran: io::Result<()> = runtime.block_on(async {
            let clock = Clock::new();
            let stacks = links.into_iter().map(|link| make_stacks(link, &counters, clock));
            let stacks: Rc<[SharedStack]> = stacks.collect::<io::Result<Vec<_>>>()?.concat().into();
            if let Some(tap) = tap {
                desk::add_tap(&tap, &stacks, clock);
            }
            tokio::task::spawn_local(desk::serve(inbox, Rc::clone(&stacks), clock));
            let idle = PolledIdle::new(config.idle);
            let poller = tokio::task::spawn_local(Poller::new(Rc::clone(&stacks), clock, idle, counters));
            let transport = DpdkTransport::new(Rc::clone(&stacks), kernel());
            let _ = ready.send(Ok(()));
            tokio::select! {
                () = worker(index, transport) => {}
                // An error: the plane was dropped.
                _ = stopped.wait_for(|stop| *stop) => {}
            }
            linger(&stacks, &lingering).await;
            poller.abort();
            Ok(())
        });
        ran.map_err(StartError::Thread)
    }
}

/// The stacks of a link, in the order of their names ([`stack_names`]); and, where the port has a twin, a task that carries what Linux sends.
fn make_stacks(link: Link, counters: &Arc<LcoreCounters>, clock: Clock) -> io::Result<Vec<SharedStack>> {
    let Link { queue, twin, config, vlans, inserts_tags } = link;
    let (ids, configs): (Vec<_>, Vec<_>) = vlans.into_iter().unzip();
    let parts = parts_of(queue, &ids, inserts_tags).into_iter().zip([config].into_iter().chain(configs));
    let mut stacks: Vec<_> =
        parts.map(|(part, config)| Stack::new(part, config, Arc::clone(counters), clock.now())).collect();
    let has_twin = twin.is_some();
    if let Some((interface, policy)) = twin {
        // Linux's frames of a VLAN have its tag at the twin, as they would at the port.
        let parts = parts_of(Box::new(TapQueue::new(interface)?), &ids, false);
        stacks.iter_mut().zip(parts).for_each(|(stack, part)| stack.add_twin(part, policy.clone()));
    }
    let stacks: Vec<_> = stacks.into_iter().map(|stack| SharedStack::new(stack.into())).collect();
    if has_twin {
        let carried = stacks.clone();
        tokio::task::spawn_local(poll_fn(move |cx| {
            let now = clock.now();
            carried.iter().for_each(|stack| _ = stack.borrow_mut().poll_twin(now, cx));
            Poll::<()>::Pending
        }));
    }
    Ok(stacks)
}

/// A queue for what is untagged, and for each VLAN. `inserts`: tags are put on behind it.
fn parts_of(queue: Box<dyn PacketQueue>, vlans: &[u16], inserts: bool) -> Vec<Box<dyn PacketQueue>> {
    if vlans.is_empty() {
        return vec![queue];
    }
    split(queue, vlans, inserts).into_iter().map(|part| Box::new(part) as Box<dyn PacketQueue>).collect()
}

/// Gives closed connections the time to send their rest; resets what is left then. Goes on as long as other lcores do, some of which may send by this
/// one: `lingering` counts those that have not come to their end.
async fn linger(stacks: &[SharedStack], lingering: &AtomicUsize) {
    let deadline = tokio::time::Instant::now() + STOP_LINGER;
    let held = || stacks.iter().any(|s| s.borrow().flows() > 0);
    while held() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(LINGER_STEP).await;
    }
    if held() {
        stacks.iter().for_each(|s| s.borrow_mut().reset_all());
        tokio::time::sleep(LINGER_STEP).await;
    }
    lingering.fetch_sub(1, Ordering::Relaxed);
    while lingering.load(Ordering::Relaxed) > 0 && tokio::time::Instant::now() < deadline + STOP_LINGER {
        tokio::time::sleep(LINGER_STEP).await;
    }
}

/// Gives up what only opening the ports took. Before the lcores start: a thread has the rights of the one that starts it.
fn drop_root(eal: &Eal, config: &Dpdk) -> Result<(), StartError> {
    let Some(user) = &config.user else { return Ok(()) };
    let mut kept: Vec<_> =
        config.ports.iter().flat_map(|port| preflight::needs_later(&Device::new(&port.device))).copied().collect();
    kept.sort_unstable();
    kept.dedup();
    become_user(eal, user, &kept).map_err(|error| StartError::User { user: user.clone(), error })?;
    let kept: Vec<_> = kept.iter().map(|(_, name)| *name).collect();
    tracing::info!(%user, ?kept, "the ports are open: root and its capabilities are given up");
    Ok(())
}

/// The flight recorder's end in each lcore. Without one the plane runs all the same, and the log says why.
fn recorder_taps(config: &Dpdk, workers: usize) -> Vec<Tap> {
    let Some(path) = &config.recorder_file else { return Vec::new() };
    match Recorder::create(path, &stack_names(config), workers, config.recorder_frames) {
        Ok(recorder) => recorder.taps().to_vec(),
        Err(error) => {
            tracing::error!(path = %path.display(), %error,
                "no frames are recorded: dataplane.dpdk.recorder_file can't be written, or another process writes it");
            Vec::new()
        }
    }
}

fn open_port(eal: &Arc<Eal>, port: &PortConfig, workers: usize) -> Result<(Port, Vec<Queue>), StartError> {
    let queues = u16::try_from(workers).unwrap_or(u16::MAX);
    // Without a VLAN, a tag is for nobody to take off.
    let has_vlans = !port.vlans.is_empty();
    let offloads = Offloads {
        vlan_strip: port.offloads.vlan_strip && has_vlans,
        vlan_insert: port.offloads.vlan_insert && has_vlans,
        ..port.offloads
    };
    let options = PortOptions { device: Device::new(&port.device), queues, mtu: port.mtu, offloads };
    let open = Port::open(eal, &options).map_err(|e| StartError::of_port(&port.device, e))?;
    // With 0, which says priority alone.
    for id in port.vlans.iter().map(|vlan| vlan.id).chain(has_vlans.then_some(0)) {
        if let Err(error) = open.0.admit_vlan(id) {
            tracing::warn!(device = %port.device, vlan = id, %error, "the port may keep frames of this VLAN out");
        }
    }
    Ok(open)
}

/// A queue of the port for each lcore, and the lcore's place at it where there are several.
fn share_port(port: &Port, pairs: Vec<Queue>, lcores: &[Arc<LcoreCounters>]) -> Vec<(SentQueue, Option<Seat>)> {
    let count = pairs.len();
    let own = pairs.into_iter().map(|queue| Box::new(queue) as SentQueue);
    if lcores.len() == 1 {
        return own.map(|queue| (queue, None)).collect();
    }
    let others = (count..lcores.len()).map(|_| Box::new(port.supply()) as SentQueue);
    // With fewer queues than lcores the port's own table is of no use to these.
    let entries = port.info().rss_entries.filter(|_| count == lcores.len());
    let driver = &port.info().driver;
    match entries {
        Some(entries) => {
            tracing::info!(%driver, queues = count, entries, "the port spreads flows over the workers (RSS)")
        }
        None => tracing::info!(%driver, queues = count, workers = lcores.len(),
            "the port does not spread flows by a hash that is known: workers hand each other what is not theirs"),
    }
    let wide = u16::try_from(lcores.len()).expect("no more than LCORES_MAX");
    let steering = Arc::new(Steering::new(wide, entries.unwrap_or(SOFTWARE_ENTRIES)));
    let shared = share(own.chain(others).collect(), count, &steering, lcores).into_iter().enumerate();
    shared
        .map(|(index, queue)| (Box::new(queue) as SentQueue, Some(Seat { index, steering: Arc::clone(&steering) })))
        .collect()
}

/// The port's twin in the kernel, a queue of it for each worker, if it is to have one.
fn open_twin(port: &PortConfig, info: &PortInfo, workers: usize) -> Result<Vec<TapInterface>, StartError> {
    let Some(exception) = &port.exception else { return Ok(Vec::new()) };
    let options = TapOptions {
        name: &exception.interface,
        mac: info.mac,
        mtu: port.mtu,
        addresses: &port.addresses,
        queues: workers,
    };
    let interface = || exception.interface.clone();
    TapInterface::open(&options).map_err(|error| StartError::Twin { interface: interface(), error })
}

/// The twins that are followed.
fn followed(config: &Dpdk) -> Vec<Twin> {
    let (mut twins, mut stack) = (Vec::new(), 0);
    for port in &config.ports {
        if let Some(Exception { interface, follow, .. }) = port.exception.as_ref().filter(|e| !e.follow.is_empty()) {
            twins.push(Twin { stack, interface: interface.clone(), what: follow.clone() });
        }
        // Of what is untagged, and of each VLAN.
        stack += 1 + port.vlans.len();
    }
    twins
}

fn stack_config(config: &Dpdk, port: &PortConfig, info: &PortInfo) -> StackConfig {
    StackConfig {
        mac: info.mac,
        addresses: port.addresses.clone(),
        routes: port.routes.clone(),
        mtu: port.mtu,
        tx_checksum: info.does.tx_checksum,
        rx_ring_bytes: config.rx_ring_bytes,
        tx_ring_bytes: config.tx_ring_bytes,
        congestion_control: config.congestion_control,
        flows_max: config.flows_max,
        syn_backlog_max: config.syn_backlog_max,
        limits: config.flow_limits,
        seed: seed(),
        seat: None,
    }
}

/// A stack like that of the port, in a VLAN.
fn vlan_config(port: &StackConfig, vlan: &Vlan) -> StackConfig {
    StackConfig { addresses: vlan.addresses.clone(), routes: vlan.routes.clone(), seed: seed(), ..port.clone() }
}

/// What the stacks of an lcore are on, in their order.
fn stack_names(config: &Dpdk) -> Vec<String> {
    let names = |port: &PortConfig| {
        let vlans = port.vlans.iter().map(|vlan| format!("{} VLAN {}", port.device, vlan.id));
        [port.device.clone()].into_iter().chain(vlans).collect::<Vec<_>>()
    };
    config.ports.iter().flat_map(names).collect()
}

/// A number from the system's randomness: std keys its hashers with it.
fn seed() -> u64 {
    RandomState::new().hash_one(0)
}

/// EAL's command line. What the user adds comes last and wins.
fn eal_args(config: &Dpdk, cpus: &[usize]) -> Vec<String> {
    let mut args: Vec<String> = Vec::new();
    let own_lcores = config.eal_args.iter().any(|a| ["-l", "-c", "--lcores"].iter().any(|o| a.starts_with(o)));
    if !own_lcores && !cpus.is_empty() {
        // One lcore of EAL's for the thread that starts it; its helper threads keep off these CPUs if there are others.
        let list = cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        args.extend(["--lcores".to_owned(), format!("0@({list})")]);
    }
    let memory = config.memory_mib.to_string();
    // EAL refuses --in-memory without hugepages.
    let mode: &[&str] = if config.hugepages { &["--in-memory"] } else { &["--no-huge", "--no-shconf"] };
    args.extend(mode.iter().map(|&a| a.to_owned()));
    args.extend(["-m".to_owned(), memory, "--no-telemetry".to_owned(), "--log-level=4".to_owned()]);
    let cards: Vec<_> = config.ports.iter().map(|p| Device::new(&p.device)).filter(Device::is_pci).collect();
    let own_cards = config.eal_args.iter().any(|a| ["-a", "-b", "--allow", "--block"].iter().any(|o| a.starts_with(o)));
    if cards.is_empty() {
        args.push("--no-pci".to_owned());
    } else if !own_cards {
        // EAL takes every card that it can have, of other processes too, unless it is told which; and their arguments it takes here alone.
        args.extend(cards.iter().flat_map(|card| ["-a".to_owned(), card.as_str().to_owned()]));
    }
    // A memif client maps its memory into another process, which takes one file per segment.
    if config.ports.iter().any(|p| Device::new(&p.device).is_vdev("net_memif")) {
        args.push("--single-file-segments".to_owned());
    }
    args.extend(config.eal_args.iter().cloned());
    args
}

/// How long a stopping lcore waits for its connections to end.
const STOP_LINGER: Duration = Duration::from_secs(1);
/// Between two looks.
const LINGER_STEP: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eal_gets_what_the_configuration_says() {
        let port = |device: &str| PortConfig {
            device: device.to_owned(),
            addresses: vec![Network::new(std::net::Ipv4Addr::LOCALHOST, 8)],
            routes: Vec::new(),
            mtu: 1500,
            ..PortConfig::default()
        };
        let mut config = Dpdk { ports: vec![port("net_ring0")], memory_mib: 64, ..Dpdk::default() };
        let args = eal_args(&config, &[0, 3]).join(" ");
        assert_eq!(args, "--lcores 0@(0,3) --in-memory -m 64 --no-telemetry --log-level=4 --no-pci");
        config.hugepages = false;
        config.ports = vec![port("0000:01:00.0,rx_low_latency=1"), port("net_memif0,role=client")];
        config.eal_args = vec!["-l".to_owned(), "1".to_owned()];
        let args = eal_args(&config, &[0]).join(" ");
        let common = "--no-huge --no-shconf -m 64 --no-telemetry --log-level=4";
        assert_eq!(args, format!("{common} -a 0000:01:00.0,rx_low_latency=1 --single-file-segments -l 1"));
        config.eal_args.extend(["-b".to_owned(), "02:00.0".to_owned()]);
        let args = eal_args(&config, &[0]).join(" ");
        assert_eq!(args, format!("{common} --single-file-segments -l 1 -b 02:00.0"), "EAL refuses both");
    }

    #[test]
    fn seeds_differ() {
        assert_ne!(seed(), seed());
    }
}
