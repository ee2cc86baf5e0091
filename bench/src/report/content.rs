//! What a report says: the result first, then each scenario, then what is missing, and the settings.
//!
//! **Invariant:** every sentence holds for any results file; nothing is said that the figures do not say.

use crate::report::document::{Block, Table};
use crate::report::plot::{self, Bar, Series};
use crate::report::{figure, settings};
use crate::results::{Level, Results};
use crate::scenario::{self, Scenario};
use crate::summary::{self, CONNECTION_MEMORY, Metric, OUR_KERNEL, P99, Ratio, Row, WORK};

/// The whole report.
#[must_use]
pub fn blocks(results: &Results) -> Vec<Block> {
    let rows = summary::rows(results);
    let ratios = summary::ratios(&rows);
    let content = Content { results, rows: &rows, ratios: &ratios };
    let mut blocks = content.opening();
    blocks.extend(content.short());
    blocks.extend(settings::compared(results));
    blocks.extend(content.latency());
    blocks.extend(content.connections());
    blocks.extend(content.memory());
    for scenario in scenario::all() {
        blocks.extend(content.scenario(scenario));
    }
    blocks.extend(settings::missing(results));
    blocks.extend(settings::machine(results));
    blocks
}

/// The number of a backend's colour: the same in every plot.
#[must_use]
pub fn color(backend: &str) -> usize {
    let names =
        ["ferrogate-kernel", "ferrogate-af_xdp", "ferrogate-af_packet", "ferrogate-memif", "nginx", "haproxy", "envoy"];
    names.iter().position(|n| *n == backend).unwrap_or(names.len())
}

/// The name of a backend with the label that its figures need.
#[must_use]
pub fn label(backend: &str) -> String {
    if summary::is_memif(backend) { format!("{backend} (stack + proxy, no NIC)") } else { backend.to_owned() }
}

struct Content<'a> {
    results: &'a Results,
    rows: &'a [Row],
    ratios: &'a [Ratio],
}

impl Content<'_> {
    fn opening(&self) -> Vec<Block> {
        let session = &self.results.session;
        let peers: Vec<&str> = self.backends().into_iter().filter(|b| !summary::is_ours(b)).collect();
        let title = match peers.as_slice() {
            [] => "Ferrogate, measured".to_owned(),
            peers => format!("Ferrogate beside {}", peers.join(", ")),
        };
        let dirty = if session.dirty { ", with changes that are in no commit" } else { "" };
        vec![
            Block::Heading(1, title),
            Block::Text(format!(
                "Measured on {} at commit `{}`{dirty}, on {} ({} cores), all backends on the same machine in the same run.",
                session.started, session.commit, session.machine.cpu, session.machine.cores
            )),
        ]
    }

    /// What a request costs, everywhere, at the same rate for all.
    fn short(&self) -> Vec<Block> {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for ratio in self.ratios.iter().filter(|r| is(r.metric, WORK) && r.level == Level::Fixed) {
            let pair = (ratio.of.as_str(), ratio.to.as_str());
            if !pairs.contains(&pair) {
                pairs.push(pair);
            }
        }
        if pairs.is_empty() {
            return Vec::new();
        }
        pairs.sort_by_key(|(of, to)| (color(of), color(to)));
        let head = pairs.iter().map(|(of, to)| format!("{of} / {to}"));
        let mut table = Table {
            text: vec![0],
            head: std::iter::once("scenario".to_owned()).chain(head).collect(),
            rows: Vec::new(),
        };
        let mut groups = Vec::new();
        for scenario in self.scenarios() {
            let found = |(of, to): &(&str, &str)| {
                let fits = |r: &&Ratio| {
                    (r.scenario == scenario.name && r.level == Level::Fixed)
                        && is(r.metric, WORK)
                        && r.of == *of
                        && r.to == *to
                };
                self.ratios.iter().find(fits).map_or_else(|| "–".to_owned(), figure::ratio)
            };
            let cells: Vec<String> = pairs.iter().map(found).collect();
            if cells.iter().any(|c| c != "–") {
                table.rows.push(std::iter::once(scenario.name.to_owned()).chain(cells).collect());
            }
            let bars = self.bars(scenario.name, Level::Fixed, WORK);
            if bars.len() > 1 {
                groups.push((scenario.name.to_owned(), bars));
            }
        }
        let (big, small) =
            groups.into_iter().partition::<Vec<_>, _>(|(_, g)| g.iter().any(|b| b.spread.median > BIG_WORK_US));
        let mut blocks = vec![
            Block::Heading(2, "In short".to_owned()),
            Block::Text(
                "What a request costs the proxy in CPU time, at the same rate for all (about 60 % of what the slowest on kernel sockets can carry). A figure is a \
                 ratio: below 1 the first needs less than the second. Brackets: the interval that holds the true median with 95 % confidence. \
                 [noisy]: the interval is wider than a tenth; do not rely on it."
                    .to_owned(),
            ),
            Block::Table(table),
        ];
        for groups in [small, big].into_iter().filter(|g| !g.is_empty()) {
            blocks.push(Block::Plot {
                svg: plot::bars(&groups),
                caption:
                    "CPU time per request at the same rate for all; less is better. Whiskers: quartiles of the rounds."
                        .to_owned(),
            });
        }
        blocks
    }

    /// One scenario: its tables.
    fn scenario(&self, scenario: &Scenario) -> Vec<Block> {
        let rows: Vec<&Row> = self.rows.iter().filter(|r| r.scenario == scenario.name).collect();
        if rows.is_empty() {
            return Vec::new();
        }
        let mut blocks =
            vec![Block::Heading(2, scenario.name.to_owned()), Block::Text(format!("{}.", capital(scenario.shows)))];
        let mut levels: Vec<Level> = rows.iter().map(|r| r.level).collect();
        levels.sort_unstable();
        levels.dedup();
        for level in levels {
            let rows: Vec<&Row> = rows.iter().filter(|r| r.level == level).copied().collect();
            blocks.push(Block::Heading(3, self.level_title(scenario, level)));
            blocks.push(Block::Table(figures(&rows)));
            let ratios: Vec<&Ratio> =
                self.ratios.iter().filter(|r| r.scenario == scenario.name && r.level == level).collect();
            if !ratios.is_empty() {
                blocks.push(Block::Table(comparisons(&ratios)));
            }
        }
        blocks
    }

    fn level_title(&self, scenario: &Scenario, level: Level) -> String {
        let wanted = |c: &&crate::results::Cell| c.scenario == scenario.name && c.level == level;
        match (level, self.results.cells.iter().find(wanted).and_then(|c| c.load.rate_wanted)) {
            (Level::Fixed, Some(rate)) => format!("At {} requests/s, the same for all", figure::number(rate)),
            (Level::Saturation, _) => "At saturation".to_owned(),
            (Level::Idle, _) => "Idle".to_owned(),
            (level, _) => format!("At {}", level.name()),
        }
    }

    fn latency(&self) -> Vec<Block> {
        let levels = [Level::Half, Level::Seventy, Level::Ninety];
        let row = |backend: &str, level| {
            self.rows
                .iter()
                .find(|r| r.backend == backend && r.scenario == "latency" && r.level == level && is(r.metric, P99))
        };
        let series: Vec<Series> = self
            .backends()
            .into_iter()
            .map(|backend| Series {
                label: backend.to_owned(),
                color: color(backend),
                points: levels.iter().enumerate().filter_map(|(i, l)| Some((i, row(backend, *l)?.spread))).collect(),
            })
            .filter(|s| !s.points.is_empty())
            .collect();
        section(
            "Latency under load",
            plot::lines(&["50 %", "70 %", "90 %"], &series, "us"),
            "The 99th percentile of the latency at parts of each backend's own capacity, counted from when a request was due. Whiskers: \
             quartiles of the rounds. Logarithmic scale; less is better.",
        )
    }

    fn connections(&self) -> Vec<Block> {
        let names = ["conns-100", "conns-1k", "conns-10k", "conns-100k"];
        let row = |backend: &str, name: &str| {
            self.rows.iter().find(|r| r.backend == backend && r.scenario == name && is(r.metric, WORK))
        };
        let series: Vec<Series> = self
            .backends()
            .into_iter()
            .map(|backend| Series {
                label: backend.to_owned(),
                color: color(backend),
                points: names.iter().enumerate().filter_map(|(i, n)| Some((i, row(backend, n)?.spread))).collect(),
            })
            .filter(|s| !s.points.is_empty())
            .collect();
        section(
            "Cost against connections",
            plot::lines(&["100", "1,000", "10,000", "100,000"], &series, "us"),
            "CPU time per request at the same rate over more and more connections. Whiskers: quartiles of the rounds. Logarithmic scale; less \
             is better.",
        )
    }

    fn memory(&self) -> Vec<Block> {
        let names = self.scenarios().into_iter().filter(|s| s.levels.contains(&Level::Idle));
        let groups: Vec<_> = names
            .map(|s| (s.name.to_owned(), self.bars(s.name, Level::Idle, CONNECTION_MEMORY)))
            .filter(|(_, bars)| !bars.is_empty())
            .collect();
        let drawing = if groups.is_empty() { String::new() } else { plot::bars(&groups) };
        section(
            "Memory of an idle connection",
            drawing,
            "Memory that the process grew by, for each connection after one request; the kernel's own part of a socket is not in it. Whiskers: \
             quartiles of the rounds; less is better.",
        )
    }

    fn bars(&self, scenario: &str, level: Level, metric: &'static Metric) -> Vec<Bar> {
        let rows = self.rows.iter().filter(|r| r.scenario == scenario && r.level == level && is(r.metric, metric));
        rows.map(|r| Bar {
            label: r.backend.clone(),
            value: format!("{} {}", figure::row(r), metric.unit),
            spread: r.spread,
            color: color(&r.backend),
        })
        .collect()
    }

    /// In the order of the colours.
    fn backends(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.rows.iter().map(|r| r.backend.as_str()).collect();
        names.sort_by_key(|n| (color(n), *n));
        names.dedup();
        names
    }

    fn scenarios(&self) -> Vec<&'static Scenario> {
        scenario::all().iter().filter(|s| self.rows.iter().any(|r| r.scenario == s.name)).collect()
    }
}

/// Backends down, metrics across.
fn figures(rows: &[&Row]) -> Table {
    let mut metrics: Vec<&'static Metric> = Vec::new();
    let mut backends: Vec<&str> = Vec::new();
    for row in rows {
        if !metrics.iter().any(|m| is(m, row.metric)) {
            metrics.push(row.metric);
        }
        if !backends.contains(&row.backend.as_str()) {
            backends.push(&row.backend);
        }
    }
    backends.sort_by_key(|b| color(b));
    let title = |m: &&Metric| if m.unit.is_empty() { m.title.to_owned() } else { format!("{}, {}", m.title, m.unit) };
    let line = |backend: &&str| {
        let of: Vec<&&Row> = rows.iter().filter(|r| r.backend == *backend).collect();
        let cell = |m: &&'static Metric| {
            of.iter().find(|r| is(r.metric, m)).map_or_else(|| "–".to_owned(), |r| figure::row(r))
        };
        let marks = figure::marks(of.iter().flat_map(|r| &r.marks));
        std::iter::once(label(backend)).chain(metrics.iter().map(cell)).chain([marks]).collect()
    };
    table("", metrics.iter().map(title).collect(), backends.iter().map(line).collect())
}

/// Pairs down, metrics across.
fn comparisons(ratios: &[&Ratio]) -> Table {
    let mut metrics: Vec<&'static Metric> = Vec::new();
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for ratio in ratios {
        if !metrics.iter().any(|m| is(m, ratio.metric)) {
            metrics.push(ratio.metric);
        }
        if !pairs.contains(&(&ratio.of, &ratio.to)) {
            pairs.push((&ratio.of, &ratio.to));
        }
    }
    pairs.sort_by_key(|(of, to)| (color(of), *to == OUR_KERNEL, color(to)));
    let line = |(of, to): &(&str, &str)| {
        let line: Vec<&&Ratio> = ratios.iter().filter(|r| r.of == *of && r.to == *to).collect();
        let cell = |m: &&'static Metric| {
            line.iter().find(|r| is(r.metric, m)).map_or_else(|| "–".to_owned(), |r| figure::ratio(r))
        };
        let marks = figure::marks(line.iter().flat_map(|r| &r.marks));
        std::iter::once(format!("{of} / {to}")).chain(metrics.iter().map(cell)).chain([marks]).collect()
    };
    table("ratio", metrics.iter().map(|m| m.title.to_owned()).collect(), pairs.iter().map(line).collect())
}

/// A name, figures, and what is wrong with the line; the last column goes where nothing is.
fn table(first: &str, figures: Vec<String>, mut rows: Vec<Vec<String>>) -> Table {
    let mut head: Vec<String> = std::iter::once(first.to_owned()).chain(figures).chain(["marks".to_owned()]).collect();
    let last = head.len() - 1;
    if rows.iter().all(|r| r[last].is_empty()) {
        head.pop();
        rows.iter_mut().for_each(|r| r.truncate(last));
    }
    Table { text: vec![0, last], head, rows }
}

fn section(title: &str, svg: String, caption: &str) -> Vec<Block> {
    if svg.is_empty() || !svg.contains("var(--c") {
        return Vec::new();
    }
    vec![Block::Heading(2, title.to_owned()), Block::Plot { svg, caption: caption.to_owned() }]
}

fn is(a: &'static Metric, b: &'static Metric) -> bool {
    std::ptr::eq(a, b)
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Scenarios whose requests cost more have a plot of their own, or the others would be too short to be seen.
const BIG_WORK_US: f64 = 60.0;
