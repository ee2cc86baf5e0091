//! From raw cells to figures: medians with their spread, ratios of paired rounds, and what is wrong with either.
//!
//! **Invariant:** a figure and its marks come from the same cells; nothing is left out because it looks bad.

use std::collections::BTreeMap;

use crate::results::{Cell, Level, Results};
use crate::stats::{CONFIDENCE, Interval, Spread};

/// Something that is measured in a cell.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name in tables.
    pub title: &'static str,
    /// Its unit, empty for a mere number.
    pub unit: &'static str,
    /// Whether less is better.
    pub less_is_better: bool,
    /// Where it means something.
    pub levels: &'static [Level],
    /// Whether ratios between backends are printed.
    pub compared: bool,
    of: fn(&Cell, Option<&Cell>) -> Option<f64>,
}

/// A figure of one backend.
#[derive(Clone, Debug)]
pub struct Row {
    /// The scenario's name.
    pub scenario: String,
    /// The backend's name.
    pub backend: String,
    /// How hard it was pushed.
    pub level: Level,
    /// What was measured.
    pub metric: &'static Metric,
    /// The value of each round, by round.
    pub rounds: BTreeMap<usize, f64>,
    /// Median and spread.
    pub spread: Spread,
    /// What a reader has to know.
    pub marks: Vec<Mark>,
}

/// How two backends compare, round by round.
#[derive(Clone, Debug)]
pub struct Ratio {
    /// The scenario's name.
    pub scenario: String,
    /// How hard they were pushed.
    pub level: Level,
    /// What was measured.
    pub metric: &'static Metric,
    /// Whose value is above the line.
    pub of: String,
    /// Whose is below.
    pub to: String,
    /// Median and interval.
    pub interval: Interval,
    /// What is wrong with either side.
    pub marks: Vec<Mark>,
}

/// Why a figure is to be taken with care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// The spread is too wide.
    Noisy,
    /// Requests failed.
    Errors,
    /// The load generator had no time left at a rate that it was to keep.
    NoSpare,
    /// The rate was not reached.
    Behind,
    /// At saturation the load generator's core was full and the proxy's was not: the proxy could do more.
    ClientBound,
}

impl Mark {
    /// As it is printed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Noisy => "noisy",
            Self::Errors => "errors",
            Self::NoSpare => "no spare",
            Self::Behind => "behind",
            Self::ClientBound => "client-bound",
        }
    }
}

/// Every figure of a file, in the order of its cells.
#[must_use]
pub fn rows(results: &Results) -> Vec<Row> {
    let mut rows = Vec::new();
    for group in groups(results) {
        let marks = marks(&group);
        for metric in METRICS.iter().filter(|m| m.levels.contains(&group[0].level)) {
            let value = |cell: &&Cell| Some((cell.round, (metric.of)(cell, saturation(results, cell))?));
            let values: BTreeMap<usize, f64> = group.iter().filter_map(value).collect();
            rows.extend(row(group[0], metric, values, marks.clone()));
        }
    }
    rows.extend(count_rows(results));
    rows
}

/// The ratios of all pairs that a reader asks for: ours to each peer, and our planes to our kernel plane.
#[must_use]
pub fn ratios(rows: &[Row]) -> Vec<Ratio> {
    let mut found = Vec::new();
    for row in rows.iter().filter(|r| r.metric.compared && is_ours(&r.backend)) {
        let same = |other: &&Row| {
            (other.scenario == row.scenario && other.level == row.level && std::ptr::eq(other.metric, row.metric))
                && (!is_ours(&other.backend) || other.backend == OUR_KERNEL)
                && other.backend != row.backend
                && is_memif(&other.backend) == is_memif(&row.backend)
        };
        found.extend(rows.iter().filter(same).filter_map(|other| ratio(row, other)));
    }
    found
}

/// The ratio of two rows over the rounds that both have.
#[must_use]
pub fn ratio(of: &Row, to: &Row) -> Option<Ratio> {
    let paired = of.rounds.iter().filter_map(|(round, a)| Some((*a, *to.rounds.get(round)?)));
    let (a, b): (Vec<f64>, Vec<f64>) = paired.unzip();
    let interval = Interval::of_ratios(&a, &b, CONFIDENCE)?;
    let mut marks: Vec<Mark> = of.marks.iter().chain(&to.marks).filter(|m| **m != Mark::Noisy).copied().collect();
    marks.sort_unstable();
    marks.dedup();
    Some(Ratio {
        marks,
        scenario: of.scenario.clone(),
        level: of.level,
        metric: of.metric,
        of: of.backend.clone(),
        to: to.backend.clone(),
        interval,
    })
}

/// Whether a backend is Ferrogate.
#[must_use]
pub fn is_ours(backend: &str) -> bool {
    backend.starts_with("ferrogate")
}

/// Whether its wire has neither kernel nor card.
#[must_use]
pub fn is_memif(backend: &str) -> bool {
    backend.ends_with("memif")
}

/// CPU time per request in microseconds; on a polled plane the time in turns that moved something.
pub static WORK: &Metric = &METRICS[0];

/// Requests a second.
pub static REQUESTS: &Metric = &METRICS[1];

/// The 99th percentile of the latency.
pub static P99: &Metric = &METRICS[6];

/// Memory of a connection.
pub static CONNECTION_MEMORY: &Metric = &METRICS[9];

/// Cells of one scenario, backend and level, in the order of the file.
fn groups(results: &Results) -> Vec<Vec<&Cell>> {
    let mut groups: Vec<Vec<&Cell>> = Vec::new();
    for cell in &results.cells {
        let same = |g: &&mut Vec<&Cell>| {
            (g[0].scenario == cell.scenario) && g[0].backend == cell.backend && g[0].level == cell.level
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(cell),
            None => groups.push(vec![cell]),
        }
    }
    groups
}

fn row(cell: &Cell, metric: &'static Metric, rounds: BTreeMap<usize, f64>, mut marks: Vec<Mark>) -> Option<Row> {
    let values: Vec<f64> = rounds.values().copied().collect();
    let spread = Spread::of(&values)?;
    if spread.is_noisy() {
        marks.insert(0, Mark::Noisy);
    }
    let (scenario, backend) = (cell.scenario.clone(), cell.backend.clone());
    Some(Row { scenario, backend, level: cell.level, metric, rounds, spread, marks })
}

fn count_rows(results: &Results) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for counts in &results.counts {
        for (metric, value) in [(&SYSCALLS, counts.syscalls), (&ALLOCATIONS, counts.allocations)] {
            let Some(value) = value else { continue };
            let same = |r: &&mut Row| {
                (&r.scenario, &r.backend, r.level) == (&counts.scenario, &counts.backend, counts.level)
                    && std::ptr::eq(r.metric, metric)
            };
            if let Some(row) = rows.iter_mut().find(same) {
                row.rounds.insert(counts.round, value);
                continue;
            }
            rows.extend(Spread::of(&[value]).map(|spread| Row {
                scenario: counts.scenario.clone(),
                backend: counts.backend.clone(),
                level: counts.level,
                metric,
                rounds: BTreeMap::from([(counts.round, value)]),
                spread,
                marks: Vec::new(),
            }));
        }
    }
    for row in &mut rows {
        let values: Vec<f64> = row.rounds.values().copied().collect();
        row.spread = Spread::of(&values).unwrap_or(row.spread);
        // A tenth of next to nothing is nothing.
        if row.spread.is_noisy() && row.spread.high - row.spread.low > COUNTS_NOISE_MIN {
            row.marks.push(Mark::Noisy);
        }
    }
    rows
}

/// The saturation of the same backend in the same round, which a part of the capacity is a part of.
fn saturation<'a>(results: &'a Results, cell: &Cell) -> Option<&'a Cell> {
    results.cells.iter().find(|c| {
        (c.level == Level::Saturation && c.scenario == cell.scenario)
            && c.backend == cell.backend
            && c.round == cell.round
    })
}

fn marks(group: &[&Cell]) -> Vec<Mark> {
    let median = |of: &dyn Fn(&Cell) -> f64| {
        let values: Vec<f64> = group.iter().map(|c| of(c)).collect();
        Spread::of(&values).map_or(0.0, |s| s.median)
    };
    let level = group[0].level;
    let spare = median(&|c| c.load.spare);
    let mut marks = Vec::new();
    if group.iter().any(|c| c.load.errors_total() > 0) {
        marks.push(Mark::Errors);
    }
    let keeps_a_rate = !matches!(level, Level::Saturation | Level::Double | Level::Idle);
    if keeps_a_rate && spare < SPARE_MIN {
        marks.push(Mark::NoSpare);
    }
    if keeps_a_rate && median(&|c| rate(c) / c.load.rate_wanted.unwrap_or(1.0)) < RATE_KEPT_MIN {
        marks.push(Mark::Behind);
    }
    let proxy_load = median(&|c| {
        let used = c.usage.busy_ns.unwrap_or(c.usage.core_ns);
        #[expect(clippy::cast_precision_loss, reason = "nanoseconds of some seconds")]
        let used = used as f64;
        used / 1e9 / c.usage.seconds.max(f64::MIN_POSITIVE)
    });
    if level == Level::Saturation && proxy_load < PROXY_FULL_MIN {
        marks.push(Mark::ClientBound);
    }
    marks
}

#[expect(clippy::cast_precision_loss, reason = "counts and times of some seconds")]
fn per_request(cell: &Cell, total: u64) -> Option<f64> {
    (cell.load.requests > 0).then(|| total as f64 / cell.load.requests as f64)
}

#[expect(clippy::cast_precision_loss, reason = "requests of some seconds")]
fn rate(cell: &Cell) -> f64 {
    cell.load.requests as f64 / cell.load.seconds.max(f64::MIN_POSITIVE)
}

#[expect(clippy::cast_precision_loss, reason = "bytes of memory of one machine")]
fn connection_kib(cell: &Cell) -> Option<f64> {
    let grown = cell.usage.pss_bytes.saturating_sub(cell.usage.pss_before_bytes);
    (cell.load.established > 0).then(|| grown as f64 / 1024.0 / cell.load.established as f64)
}

#[expect(clippy::cast_precision_loss, reason = "bytes of some seconds")]
fn gbit(cell: &Cell) -> f64 {
    cell.load.bytes_in as f64 * 8.0 / 1e9 / cell.load.seconds.max(f64::MIN_POSITIVE)
}

#[expect(clippy::cast_precision_loss, reason = "bytes of memory of one machine")]
fn resident_mib(cell: &Cell) -> f64 {
    cell.usage.rss_bytes as f64 / 1024.0 / 1024.0
}

/// A row of the table of metrics: what has no answer in a cell has no figure.
const fn metric(
    (title, unit): (&'static str, &'static str),
    less_is_better: bool,
    levels: &'static [Level],
    compared: bool,
    of: fn(&Cell, Option<&Cell>) -> Option<f64>,
) -> Metric {
    Metric { title, unit, less_is_better, levels, compared, of }
}

static METRICS: [Metric; 11] = [
    metric(("CPU per request", "us"), true, WORK_LEVELS, true, |c, _| {
        per_request(c, c.usage.work_ns()).map(|n| n / 1e3)
    }),
    metric(("requests", "/s"), false, &[Level::Saturation], true, |c, _| Some(rate(c))),
    metric(("whole core per request", "us"), true, WORK_LEVELS, false, |c, _| match c.usage.busy_ns {
        // A core that polls is never idle.
        Some(_) => None,
        None => per_request(c, c.usage.core_ns).map(|n| n / 1e3),
    }),
    metric(("payload", "Gbit/s"), false, &[Level::Saturation], false, |c, _| {
        // Where answers are small it is the number of requests over again.
        per_request(c, c.load.bytes_in).filter(|bytes| *bytes >= PAYLOAD_MIN).map(|_| gbit(c))
    }),
    metric(("p50", "us"), true, PACED, true, |c, _| Some(c.load.latency_us.p50)),
    metric(("p90", "us"), true, PACED, false, |c, _| Some(c.load.latency_us.p90)),
    metric(("p99", "us"), true, PACED, true, |c, _| Some(c.load.latency_us.p99)),
    metric(("p99.9", "us"), true, PACED, false, |c, _| Some(c.load.latency_us.p999)),
    metric(("left of capacity", "%"), false, &[Level::Double], true, |c, saturation| {
        Some(100.0 * rate(c) / rate(saturation?))
    }),
    metric(("memory per connection", "KiB"), true, &[Level::Idle], true, |c, _| connection_kib(c)),
    metric(("resident", "MiB"), true, &[Level::Fixed, Level::Idle], false, |c, _| Some(resident_mib(c))),
];

static SYSCALLS: Metric = metric(("system calls per request", ""), true, &[], false, |_, _| None);
static ALLOCATIONS: Metric = metric(("allocations per request", ""), true, &[], false, |_, _| None);

const WORK_LEVELS: &[Level] = &[Level::Saturation, Level::Fixed];
const PACED: &[Level] = &[Level::Fixed, Level::Half, Level::Seventy, Level::Ninety];

/// The plane that our others are compared with.
pub const OUR_KERNEL: &str = "ferrogate-kernel";

/// The load generator must have so much of its time left at a rate that it is to keep.
const SPARE_MIN: f64 = 0.10;

/// So much of a rate must have been answered.
const RATE_KEPT_MIN: f64 = 0.98;

/// At saturation the proxy's core must have been used so far.
const PROXY_FULL_MIN: f64 = 0.93;

/// Bytes of an answer from which on the throughput in bits is of interest.
const PAYLOAD_MIN: f64 = 65_536.0;

/// Counts per request may differ by so much without being noise.
const COUNTS_NOISE_MIN: f64 = 0.05;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::machine::Machine;
    use crate::results::{Counts, FORMAT, Load, Session, Settings, Usage};

    /// Results with this many rounds in which `work_us` says what a request costs and how many there are.
    pub(crate) fn results(rounds: usize, backends: &[(&str, f64)]) -> Results {
        let cells = (0..rounds).flat_map(|r| backends.iter().map(move |(b, work)| cell("h1-keepalive", b, r, *work)));
        let counts = backends.iter().map(|(b, _)| Counts {
            scenario: "h1-keepalive".to_owned(),
            backend: (*b).to_owned(),
            level: Level::Fixed,
            round: 0,
            syscalls: Some(4.0),
            allocations: None,
        });
        let settings = Settings {
            rounds,
            seconds: 1.0,
            warmup: 0.3,
            wire: "veth".to_owned(),
            proxy_core: 0,
            load_core: 1,
            steer: false,
        };
        let session = Session {
            format: FORMAT,
            started: "2026-01-31T12:00:00Z".to_owned(),
            commit: "abcdef012".to_owned(),
            dirty: false,
            machine: Machine { cpu: "Test CPU".to_owned(), cores: 2, ..Machine::default() },
            versions: backends.iter().map(|(b, _)| ((*b).to_owned(), "1.0".to_owned())).collect(),
            settings,
        };
        Results { session, absent: Vec::new(), cells: cells.collect(), counts: counts.collect() }
    }

    pub(crate) fn cell(scenario: &str, backend: &str, round: usize, work_us: f64) -> Cell {
        // A second in which both sides drift by the round: what is paired takes it out.
        let drift = 1.0 + 0.01 * f64::from(u32::try_from(round % 5).unwrap());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small positive numbers")]
        let requests = (1e6 / (work_us * drift)) as u64;
        let load = Load { requests, seconds: 1.0, spare: 0.4, established: 64, bytes_in: 1_000_000, ..Load::default() };
        let usage = Usage { seconds: 1.0, cpu_ns: 980_000_000, core_ns: 990_000_000, ..Usage::default() };
        let (scenario, backend) = (scenario.to_owned(), backend.to_owned());
        Cell { scenario, backend, round, level: Level::Saturation, connections: 64, load, usage }
    }

    fn find<'a>(rows: &'a [Row], backend: &str, title: &str) -> &'a Row {
        rows.iter().find(|r| r.backend == backend && r.metric.title == title).unwrap()
    }

    #[test]
    fn rows_have_a_spread_and_ratios_are_of_pairs() {
        let results = results(7, &[("ferrogate-kernel", 9.0), ("nginx", 10.0), ("ferrogate-memif", 1.0)]);
        let rows = rows(&results);
        let requests = find(&rows, "nginx", "requests");
        assert_eq!(requests.rounds.len(), 7);
        assert!(requests.spread.low < requests.spread.high && requests.marks.is_empty(), "{requests:?}");
        let ratios = ratios(&rows);
        let work: Vec<_> = ratios.iter().filter(|r| std::ptr::eq(r.metric, WORK)).collect();
        // memif has no peer on its wire.
        assert_eq!(work.len(), 1, "{work:?}");
        assert!((work[0].interval.median - 0.9).abs() < 0.001 && work[0].interval.width() < 0.001, "{work:?}");
    }

    #[test]
    fn the_named_metrics_are_what_they_are_called() {
        let titles = [WORK, REQUESTS, P99, CONNECTION_MEMORY].map(|m| m.title);
        assert_eq!(titles, ["CPU per request", "requests", "p99", "memory per connection"]);
    }

    #[test]
    fn what_is_wrong_with_a_cell_marks_its_rows() {
        let mut results = results(5, &[("nginx", 10.0)]);
        results.cells[3].load.errors.insert("reset".to_owned(), 1);
        for cell in &mut results.cells {
            cell.level = Level::Fixed;
            cell.load.rate_wanted = Some(200_000.0);
            cell.load.spare = 0.02;
        }
        let rows = rows(&results);
        let marks = &find(&rows, "nginx", "CPU per request").marks;
        assert_eq!(marks, &[Mark::Errors, Mark::NoSpare, Mark::Behind]);
    }

    #[test]
    fn a_proxy_that_could_do_more_is_told_from_one_that_could_not() {
        let mut results = results(5, &[("nginx", 10.0)]);
        for cell in &mut results.cells {
            cell.usage.core_ns = 600_000_000;
        }
        assert_eq!(find(&rows(&results), "nginx", "requests").marks, [Mark::ClientBound]);
        // On a polled plane busy time tells.
        for cell in &mut results.cells {
            cell.usage.core_ns = 1_000_000_000;
            cell.usage.busy_ns = Some(500_000_000);
        }
        assert_eq!(find(&rows(&results), "nginx", "requests").marks, [Mark::ClientBound]);
    }

    #[test]
    fn wide_rounds_are_noisy() {
        let mut results = results(7, &[("nginx", 10.0)]);
        for (cell, factor) in results.cells.iter_mut().zip([1.0, 1.3, 0.8, 1.2, 0.7, 1.0, 1.1]) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
            let requests = (100_000.0 * factor) as u64;
            cell.load.requests = requests;
        }
        assert_eq!(find(&rows(&results), "nginx", "requests").marks, [Mark::Noisy]);
    }
}
