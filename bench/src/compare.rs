//! `ferrogate-bench compare`: two results files, or two binaries run in turn, and a verdict for each row.
//!
//! **Invariant:** says `slower` only when the interval says so; what can't be told is `noisy`, never `same`.

use std::fmt;
use std::path::PathBuf;

use clap::Args;

use crate::backend::{Backend, Kind, Plane};
use crate::error::BenchError;
use crate::report::document::{Block, Table, markdown};
use crate::report::figure;
use crate::results::{Line, Results, Writer};
use crate::run::args::{Plan, RunArgs};
use crate::run::place::Place;
use crate::run::progress::Progress;
use crate::run::{self, Runner, this_program};
use crate::scenario;
use crate::stage::stop;
use crate::stats::Interval;
use crate::summary::{self, Row};

/// What to compare.
#[derive(Args, Clone, Debug)]
pub struct CompareArgs {
    /// Two results files: the one before, and the one after.
    #[arg(num_args = 2, value_names = ["A", "B"], required_unless_present = "binary_a", conflicts_with = "binary_a")]
    pub files: Vec<PathBuf>,
    /// The gateway before: run in turn with --binary-b, in one session. Finds less than two files can.
    #[arg(long, requires = "binary_b")]
    pub binary_a: Option<PathBuf>,
    /// The gateway after.
    #[arg(long, requires = "binary_a")]
    pub binary_b: Option<PathBuf>,
    /// What counts as slower or faster, in percent.
    #[arg(long, default_value_t = 3.0)]
    pub threshold: f64,
    /// Scenarios to run the binaries on.
    #[arg(long, value_delimiter = ',', default_value = "h1-keepalive")]
    pub scenario: Vec<String>,
    /// The plane to run the binaries on.
    #[arg(long, value_enum, default_value_t = Plane::Kernel)]
    pub plane: Plane,
    /// Rounds of the binaries.
    #[arg(long, default_value_t = 15)]
    pub rounds: usize,
    /// Seconds of each window.
    #[arg(long, default_value_t = 1.0)]
    pub seconds: f64,
    /// Seconds of load before each window.
    #[arg(long, default_value_t = 0.3)]
    pub warmup: f64,
    /// Loopback in place of veth pairs: without root.
    #[arg(long)]
    pub loopback: bool,
    /// Keep the raw results of the binaries here.
    #[arg(long)]
    pub out: Option<PathBuf>,
}

/// What a comparison found.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Every row that both sides have.
    pub rows: Vec<Compared>,
}

/// One row.
#[derive(Clone, Debug)]
pub struct Compared {
    /// Scenario, level and backend.
    pub name: String,
    /// The metric's title.
    pub metric: &'static str,
    /// B divided by A.
    pub interval: Interval,
    /// What it comes to.
    pub verdict: Verdict,
}

/// What an interval says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// B is worse by more than the threshold.
    Slower,
    /// B is better by more than the threshold.
    Faster,
    /// The difference is within the threshold.
    Same,
    /// The interval is too wide to tell, or there are too few rounds.
    Noisy,
}

/// Compares and prints; whether something is slower.
///
/// # Errors
/// When a file can't be read, or a run ends early.
pub fn run(args: &CompareArgs) -> Result<bool, BenchError> {
    let comparison = match (&args.binary_a, &args.binary_b) {
        (Some(a), Some(b)) => binaries(args, a, b)?,
        _ => files(&Results::read(&args.files[0])?, &Results::read(&args.files[1])?, args.threshold),
    };
    print!("{comparison}");
    Ok(comparison.is_slower())
}

/// Two files: their rounds were not taken in pairs.
#[must_use]
pub fn files(a: &Results, b: &Results, threshold_percent: f64) -> Comparison {
    let (rows_a, rows_b) = (summary::rows(a), summary::rows(b));
    let compared = rows_a.iter().filter(|r| r.metric.compared).filter_map(|a| {
        let b = rows_b.iter().find(|b| is_same(a, b) && b.backend == a.backend)?;
        let (of, to): (Vec<f64>, Vec<f64>) =
            (b.rounds.values().copied().collect(), a.rounds.values().copied().collect());
        let interval = Interval::of_unpaired(&of, &to, CONFIDENCE)?;
        let enough = of.len().min(to.len()) >= UNPAIRED_ROUNDS_MIN;
        Some(compared(
            a,
            format!("{} {} {}", a.scenario, a.level.name(), a.backend),
            interval,
            enough,
            threshold_percent,
        ))
    });
    Comparison { rows: compared.collect() }
}

/// The backends `a` and `b` of one file: round by round.
#[must_use]
pub fn paired(results: &Results, threshold_percent: f64) -> Comparison {
    let rows = summary::rows(results);
    let compared = rows.iter().filter(|r| r.metric.compared && r.backend == A).filter_map(|a| {
        let b = rows.iter().find(|b| is_same(a, b) && b.backend == B)?;
        let both = b.rounds.iter().filter_map(|(round, of)| Some((*of, *a.rounds.get(round)?)));
        let (of, to): (Vec<f64>, Vec<f64>) = both.unzip();
        let interval = Interval::of_ratios(&of, &to, CONFIDENCE)?;
        let enough = interval.confidence >= CONFIDENCE_MIN;
        Some(compared(a, format!("{} {}", a.scenario, a.level.name()), interval, enough, threshold_percent))
    });
    Comparison { rows: compared.collect() }
}

impl Comparison {
    /// Whether any row got slower.
    #[must_use]
    pub fn is_slower(&self) -> bool {
        self.rows.iter().any(|r| r.verdict == Verdict::Slower)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |row: &Compared| {
            let sure = format!("{:.1} %", 100.0 * row.interval.confidence);
            vec![
                row.name.clone(),
                row.metric.to_owned(),
                figure::precise(&row.interval),
                sure,
                row.verdict.name().to_owned(),
            ]
        };
        let head = ["row", "metric", "B / A", "confidence", "verdict"].map(str::to_owned).to_vec();
        f.write_str(&markdown(&[Block::Table(Table {
            text: vec![0, 1, 4],
            head,
            rows: self.rows.iter().map(line).collect(),
        })]))
    }
}

impl Verdict {
    /// What the ratio B / A says, for a metric of this direction.
    #[must_use]
    pub fn of(interval: &Interval, less_is_better: bool, threshold_percent: f64) -> Self {
        let threshold = threshold_percent / 100.0;
        // As a ratio of costs: above 1 is worse.
        let (median, low, high) = if less_is_better {
            (interval.median, interval.low, interval.high)
        } else {
            (1.0 / interval.median, 1.0 / interval.high, 1.0 / interval.low)
        };
        // Beyond the threshold in the middle, and clear of no difference at the near end.
        let clear = 1.0 + threshold * CLEAR_PART;
        if !(median.is_finite() && low.is_finite() && high.is_finite()) {
            Self::Noisy
        } else if median >= 1.0 + threshold && low > clear {
            Self::Slower
        } else if median <= 1.0 / (1.0 + threshold) && high < 1.0 / clear {
            Self::Faster
        } else if high - low > 2.0 * threshold {
            Self::Noisy
        } else {
            Self::Same
        }
    }

    /// As it is printed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Slower => "SLOWER",
            Self::Faster => "faster",
            Self::Same => "same",
            Self::Noisy => "noisy",
        }
    }
}

/// Runs both binaries in turn.
fn binaries(args: &CompareArgs, a: &std::path::Path, b: &std::path::Path) -> Result<Comparison, BenchError> {
    stop::listen()?;
    let mut plan = plan(args, a)?;
    let backend = |name: &str, program: &std::path::Path| {
        let program = program.canonicalize().map_err(|e| BenchError::io(format!("find {}", program.display()), e))?;
        Ok::<_, BenchError>(Backend { name: name.to_owned(), kind: Kind::Ferrogate(args.plane), program })
    };
    plan.backends = vec![backend(A, a)?, backend(B, b)?];
    let session = run::session(&plan);
    let place = Place::make(plan.place, this_program()?)?;
    let mut writer = args.out.as_deref().map(Writer::create).transpose()?;
    let mut results = Results::of(session);
    if let Some(writer) = &mut writer {
        writer.write(&Line::Session(Box::new(results.session.clone())))?;
    }
    let progress = Progress::new(plan.total_time());
    let mut sink = |line: Line| {
        if let Some(writer) = &mut writer {
            writer.write(&line)?;
        }
        results.add(line);
        Ok(())
    };
    Runner::new(&plan, place, &progress, &mut sink)?.run()?;
    drop(progress);
    if let Some(absent) = results.absent.first() {
        return Err(BenchError::choice(format!("{} {}: {}", absent.scenario, absent.backend, absent.reason)));
    }
    Ok(paired(&results, args.threshold))
}

fn plan(args: &CompareArgs, gateway: &std::path::Path) -> Result<Plan, BenchError> {
    let run = RunArgs {
        scenario: args.scenario.clone(),
        backend: vec![args.plane.backend_name().to_owned()],
        rounds: Some(args.rounds),
        seconds: Some(args.seconds),
        warmup: Some(args.warmup),
        wire: if args.loopback { run::args::Wire::Loopback } else { run::args::Wire::Veth },
        ferrogate: Some(gateway.to_owned()),
        no_counts: true,
        ..RunArgs::default()
    };
    let plan = run.plan()?;
    match plan.scenarios.iter().find(|s| s.absent.is_some()) {
        Some(absent) => Err(BenchError::choice(format!("`{}` can't be run yet", absent.name))),
        None if plan.scenarios.len() < scenario::all().len() => Ok(plan),
        None => Err(BenchError::choice("name the scenarios to compare on")),
    }
}

fn is_same(a: &Row, b: &Row) -> bool {
    a.scenario == b.scenario && a.level == b.level && std::ptr::eq(a.metric, b.metric)
}

fn compared(row: &Row, name: String, interval: Interval, enough: bool, threshold_percent: f64) -> Compared {
    let verdict =
        if enough { Verdict::of(&interval, row.metric.less_is_better, threshold_percent) } else { Verdict::Noisy };
    Compared { name, metric: row.metric.title, interval, verdict }
}

/// Names of the two binaries in results.
const A: &str = "a";
const B: &str = "b";

/// How sure the intervals are that verdicts go by: a table has many rows, and one in a hundred is still a false alarm now and then.
const CONFIDENCE: f64 = 0.99;

/// With fewer rounds than this confidence takes there is no verdict.
const CONFIDENCE_MIN: f64 = 0.95;

/// As for `CONFIDENCE_MIN`, where an interval is resampled.
const UNPAIRED_ROUNDS_MIN: usize = 5;

/// The near end of the interval has to be so far from no difference, as a part of the threshold.
const CLEAR_PART: f64 = 1.0 / 3.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::tests::results;

    /// Rounds of two backends that share a drift of a tenth and differ by `slowdown`, each with a noise of its own of about a percent.
    fn session(rounds: usize, slowdown: f64, noise: f64) -> Results {
        let mut results = results(rounds, &[(A, 10.0), (B, 10.0)]);
        let mut seed = 1_u32;
        for cell in &mut results.cells {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let own = 1.0 + noise * (f64::from(seed >> 8) / f64::from(1_u32 << 23) - 1.0);
            let drift = 1.0 + 0.1 * f64::from(u32::try_from(cell.round % 3).unwrap());
            let factor = own * drift * if cell.backend == B { slowdown } else { 1.0 };
            cell.load.requests = 100_000;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a positive number of nanoseconds"
            )]
            let cpu_ns = (1e9 * factor) as u64;
            cell.usage.cpu_ns = cpu_ns;
        }
        results
    }

    fn verdict(results: &Results) -> Verdict {
        let comparison = paired(results, 3.0);
        comparison.rows.iter().find(|r| r.metric == summary::WORK.title).unwrap().verdict
    }

    #[test]
    fn five_percent_are_found_under_noise_and_drift() {
        let results = session(15, 1.05, 0.02);
        assert_eq!(verdict(&results), Verdict::Slower);
        assert!(paired(&results, 3.0).is_slower());
        assert_eq!(verdict(&session(15, 1.0 / 1.05, 0.02)), Verdict::Faster);
    }

    #[test]
    fn identical_binaries_are_the_same_and_noise_is_no_verdict() {
        assert_eq!(verdict(&session(15, 1.0, 0.02)), Verdict::Same);
        assert_eq!(verdict(&session(15, 1.0, 0.2)), Verdict::Noisy);
        assert_eq!(verdict(&session(15, 1.02, 0.01)), Verdict::Same);
    }

    #[test]
    fn few_rounds_are_no_verdict() {
        assert_eq!(verdict(&session(3, 1.5, 0.01)), Verdict::Noisy);
    }

    #[test]
    fn verdicts_go_by_the_direction_of_the_metric() {
        let interval = |low, median, high| Interval { count: 15, median, low, high, confidence: 0.99 };
        for (interval, less, wanted) in [
            (interval(1.04, 1.05, 1.06), true, Verdict::Slower),
            (interval(1.04, 1.05, 1.06), false, Verdict::Faster),
            (interval(0.94, 0.95, 0.96), false, Verdict::Slower),
            (interval(1.0, 1.04, 1.05), true, Verdict::Same),
            (interval(0.9, 1.04, 1.2), true, Verdict::Noisy),
            (interval(f64::NAN, 1.0, 1.0), true, Verdict::Noisy),
        ] {
            assert_eq!(Verdict::of(&interval, less, 3.0), wanted, "{interval:?}");
        }
    }

    #[test]
    fn files_are_compared_backend_by_backend() {
        let before = results(9, &[("ferrogate-kernel", 10.0), ("nginx", 10.0)]);
        let after = results(9, &[("ferrogate-kernel", 11.5), ("nginx", 10.0)]);
        let comparison = files(&before, &after, 3.0);
        let verdict = |name: &str| {
            let row = |r: &&Compared| r.name.ends_with(name) && r.metric == summary::WORK.title;
            comparison.rows.iter().find(row).unwrap().verdict
        };
        assert_eq!(verdict("ferrogate-kernel"), Verdict::Slower);
        assert_eq!(verdict("nginx"), Verdict::Same);
        assert!(comparison.to_string().contains("SLOWER"), "{comparison}");
    }
}
