//! `ferrogate-bench run`: scenarios x backends in interleaved rounds, one results file.
//!
//! A round starts each backend anew, in an order that shifts with the round: what depends on where memory happened to lie, and what drifts on the
//! machine, is in the spread and not in the difference.
//!
//! **Invariant:** one proxy runs at a time; its start and its end are outside of every window.

pub mod args;
pub mod cell;
pub mod counts;
pub mod place;
pub mod progress;
pub mod sample;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

pub use args::{Plan, RunArgs};

use crate::backend::Backend;
use crate::error::BenchError;
use crate::machine::{self, Machine};
use crate::results::{Absent, Cell, FORMAT, Level, Line, Session, Settings, Writer};
use crate::run::cell::Window;
use crate::run::counts::{COUNTS_WINDOWS, Shim};
use crate::run::place::{Place, Proxy};
use crate::run::progress::Progress;
use crate::scenario::{self, Scenario};
use crate::stage::network::Lane;
use crate::stage::stop;

/// Runs it all; the file that was written.
///
/// # Errors
/// For a wrong choice, when the ground can't be made, and at Ctrl-C. What was measured until then is in the file.
pub fn run(args: &RunArgs) -> Result<PathBuf, BenchError> {
    stop::listen()?;
    let plan = args.plan()?;
    let session = session(&plan);
    let out = args.out.clone().unwrap_or_else(|| args::default_out(&session.started, &session.commit));
    let place = Place::make(plan.place, this_program()?)?;
    let mut writer = Writer::create(&out)?;
    writer.write(&Line::Session(Box::new(session)))?;
    for absent in &plan.absent {
        writer.write(&Line::Absent(absent.clone()))?;
    }
    let progress = Progress::new(plan.total_time());
    for absent in &plan.absent {
        progress.say(&format!("absent: {}: {}", absent.backend, absent.reason));
    }
    let mut sink = |line: Line| writer.write(&line);
    Runner::new(&plan, place, &progress, &mut sink)?.run()?;
    Ok(out)
}

/// The path of this program, which is load generator and origin as well.
///
/// # Errors
/// When the system does not tell.
pub fn this_program() -> Result<PathBuf, BenchError> {
    std::env::current_exe().map_err(|e| BenchError::io("find this program", e))
}

/// The first line of the results.
#[must_use]
pub fn session(plan: &Plan) -> Session {
    let (commit, dirty) = machine::commit();
    let versions: BTreeMap<String, String> = plan.backends.iter().map(|b| (b.name.clone(), b.version())).collect();
    Session {
        format: FORMAT,
        started: machine::utc_now(),
        commit,
        dirty,
        machine: Machine::here(),
        versions,
        settings: Settings {
            rounds: plan.rounds,
            seconds: plan.seconds,
            warmup: plan.warmup,
            wire: if plan.place.loopback { "loopback" } else { "veth" }.to_owned(),
            proxy_core: plan.place.proxy_core,
            load_core: plan.place.load_core,
            steer: plan.place.steer,
        },
    }
}

/// Takes every line as it comes.
pub type Sink<'a> = &'a mut dyn FnMut(Line) -> Result<(), BenchError>;

/// Runs a plan.
pub struct Runner<'a> {
    plan: &'a Plan,
    place: Place,
    progress: &'a Progress,
    sink: Sink<'a>,
    shim: Option<Shim>,
    /// Fixed rates that later scenarios of a group share.
    rates: HashMap<&'static str, f64>,
}

impl<'a> Runner<'a> {
    /// On this ground, into this sink.
    ///
    /// # Errors
    /// When the library that counts allocations does not compile.
    pub fn new(plan: &'a Plan, place: Place, progress: &'a Progress, sink: Sink<'a>) -> Result<Self, BenchError> {
        let shim = if plan.counts { Shim::build(&place)? } else { None };
        Ok(Self { plan, place, progress, sink, shim, rates: HashMap::new() })
    }

    /// Runs all of it.
    ///
    /// # Errors
    /// Ctrl-C, the end of an origin, and what the sink answers. A backend that fails is noted as absent and the others go on.
    pub fn run(&mut self) -> Result<(), BenchError> {
        let plan = self.plan;
        for scenario in &plan.scenarios {
            if let Some(reason) = scenario.absent {
                self.progress.say(&format!("absent: {}: {reason}", scenario.name));
                self.absent(scenario, "", reason)?;
                continue;
            }
            self.progress.say(scenario.name);
            self.scenario(scenario)?;
            self.place.must_stand()?;
        }
        Ok(())
    }

    fn scenario(&mut self, scenario: &'static Scenario) -> Result<(), BenchError> {
        let mut players: Vec<&Backend> = self.plan.backends.iter().filter(|b| b.plays(scenario)).collect();
        let rate = self.fixed_rate(scenario, &mut players)?;
        for round in 0..scenario.rounds(self.plan.rounds) {
            let mut order = players.clone();
            if !order.is_empty() {
                order.rotate_left(round % players.len());
            }
            for backend in order {
                let done = self.turn(scenario, backend, round, rate);
                self.note(scenario, backend, done, &mut players)?;
            }
        }
        for level in scenario.counted().filter(|_| self.plan.counts) {
            match (level, rate) {
                (Level::Fixed, None) => {}
                (Level::Fixed, rate) => self.counts(scenario, rate, &mut players)?,
                _ => self.counts(scenario, None, &mut players)?,
            }
        }
        Ok(())
    }

    fn counts(
        &mut self,
        scenario: &'static Scenario,
        rate: Option<f64>,
        players: &mut Vec<&'a Backend>,
    ) -> Result<(), BenchError> {
        for backend in players.clone() {
            self.progress.now(&format!("{} {} counts", scenario.name, backend.name));
            let counted = counts::run(&self.place, (backend, scenario), rate, self.shim.as_ref());
            let done = counted.and_then(|c| c.into_iter().try_for_each(|c| (self.sink)(Line::Counts(c))));
            self.note(scenario, backend, done, players)?;
            self.progress.done(self.plan.window_time(scenario) * COUNTS_WINDOWS);
        }
        Ok(())
    }

    /// The rate that is the same for all: from a short look at what each can carry.
    fn fixed_rate(
        &mut self,
        scenario: &'static Scenario,
        players: &mut Vec<&'a Backend>,
    ) -> Result<Option<f64>, BenchError> {
        if !scenario.levels.contains(&Level::Fixed) {
            return Ok(None);
        }
        if let Some(rate) = scenario.rate_group.and_then(|g| self.rates.get(g)) {
            return Ok(Some(*rate));
        }
        // What a group can carry is found on its first scenario: with ten thousand connections at once at saturation files run out.
        let first = |group| scenario::all().iter().find(|s| s.rate_group == Some(group));
        let probed = scenario.rate_group.and_then(first).unwrap_or(scenario);
        // A packet backend that a veth pair holds back must not set the pace of all; it is marked where it can't keep it.
        let sets_pace = |b: &Backend| b.lane() == Some(Lane::Kernel);
        let (mut slowest, mut slowest_of_all) = (f64::INFINITY, f64::INFINITY);
        for backend in players.clone() {
            let seconds = (self.plan.seconds / 2.0).max(PROBE_SECONDS_MIN);
            let probe = Window { level: Level::Saturation, rate: None, seconds, warmup: self.plan.warmup };
            self.progress.now(&format!("{} {} probe", scenario.name, backend.name));
            let done = self.window_on_its_own(probed, backend, probe).map(|cell| {
                slowest_of_all = slowest_of_all.min(rate_of(&cell));
                if sets_pace(backend) {
                    slowest = slowest.min(rate_of(&cell));
                }
            });
            self.note(scenario, backend, done, players)?;
            self.progress.done(self.plan.window_time(scenario));
        }
        let slowest = if slowest.is_finite() { slowest } else { slowest_of_all };
        let rate = (slowest.is_finite() && slowest > 1.0).then_some((slowest * scenario.fixed_part).floor());
        if let (Some(group), Some(rate)) = (scenario.rate_group, rate) {
            self.rates.insert(group, rate);
        }
        Ok(rate)
    }

    /// A backend's windows of one round.
    fn turn(
        &mut self,
        scenario: &'static Scenario,
        backend: &Backend,
        round: usize,
        rate: Option<f64>,
    ) -> Result<(), BenchError> {
        let mut capacity = None;
        let mut proxy: Option<Proxy> = None;
        for &level in scenario.levels {
            self.progress.now(&format!("{} {} {} round {}", scenario.name, backend.name, level.name(), round + 1));
            let wanted =
                level.part().map_or(rate.filter(|_| level == Level::Fixed), |part| capacity.map(|c: f64| c * part));
            let window = Window { level, rate: wanted, seconds: self.plan.seconds, warmup: self.plan.warmup };
            let mut cell = if backend.lane().is_none() {
                self.window_on_its_own(scenario, backend, window)?
            } else {
                let running = match &mut proxy {
                    Some(running) => running,
                    none => none.insert(self.place.start(backend, scenario, &[])?),
                };
                cell::run(&self.place, (backend, scenario), running, window, &mut |_| Ok(()))?
            };
            if level == Level::Saturation {
                capacity = Some(rate_of(&cell));
            }
            cell.round = round;
            (self.sink)(Line::Cell(Box::new(cell)))?;
            self.progress.done(self.plan.window_time(scenario));
        }
        if let Some(mut proxy) = proxy {
            proxy.stop();
        }
        Ok(())
    }

    /// A window with a start before and an end after it: with memif the two ends of the link live and die together.
    fn window_on_its_own(
        &self,
        scenario: &'static Scenario,
        backend: &Backend,
        window: Window,
    ) -> Result<Cell, BenchError> {
        let mut proxy = self.place.start(backend, scenario, &[])?;
        let cell = cell::run(&self.place, (backend, scenario), &mut proxy, window, &mut |_| Ok(()))?;
        proxy.stop();
        Ok(cell)
    }

    /// A backend that failed leaves the scenario, and the file says why. Ctrl-C ends everything.
    fn note(
        &mut self,
        scenario: &Scenario,
        backend: &Backend,
        done: Result<(), BenchError>,
        players: &mut Vec<&'a Backend>,
    ) -> Result<(), BenchError> {
        match done {
            Ok(()) => Ok(()),
            Err(BenchError::Interrupted) => Err(BenchError::Interrupted),
            Err(error) => {
                // A signal that reached a child as well is no fault of the child's.
                stop::check()?;
                players.retain(|p| *p != backend);
                self.progress.say(&format!("absent: {} {}: {error}", scenario.name, backend.name));
                self.absent(scenario, &backend.name, &error.to_string())
            }
        }
    }

    fn absent(&mut self, scenario: &Scenario, backend: &str, reason: &str) -> Result<(), BenchError> {
        (self.sink)(Line::Absent(Absent {
            scenario: scenario.name.to_owned(),
            backend: backend.to_owned(),
            reason: reason.to_owned(),
        }))
    }
}

#[expect(clippy::cast_precision_loss, reason = "requests of some seconds")]
fn rate_of(cell: &Cell) -> f64 {
    cell.load.requests as f64 / cell.load.seconds.max(f64::MIN_POSITIVE)
}

const PROBE_SECONDS_MIN: f64 = 0.4;
