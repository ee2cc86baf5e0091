//! `ferrogate-bench report`: results files as Markdown and as one page of HTML.
//!
//! **Invariant:** the same input gives the same output, byte for byte.

pub mod content;
pub mod document;
pub mod figure;
pub mod plot;
pub mod settings;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::error::BenchError;
use crate::results::Results;

/// What to report.
#[derive(Args, Clone, Debug)]
pub struct ReportArgs {
    /// Results files; rounds of several are taken together.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Write Markdown here; on standard output if neither this nor --html is given.
    #[arg(long)]
    pub md: Option<PathBuf>,
    /// Write a page of HTML here, with plots.
    #[arg(long)]
    pub html: Option<PathBuf>,
}

/// Writes what was asked for.
///
/// # Errors
/// When a file can't be read or written, or holds no results.
pub fn run(args: &ReportArgs) -> Result<(), BenchError> {
    let blocks = content::blocks(&read(&args.files)?);
    let write = |path: &Path, text: &str| {
        fs::write(path, text).map_err(|e| BenchError::io(format!("write {}", path.display()), e))
    };
    if let Some(path) = &args.html {
        write(path, &document::html(&blocks))?;
    }
    if let Some(path) = &args.md {
        write(path, &document::markdown(&blocks))?;
    } else if args.html.is_none() {
        print!("{}", document::markdown(&blocks));
    }
    Ok(())
}

/// The first file, with the rounds of the others behind its own.
fn read(files: &[PathBuf]) -> Result<Results, BenchError> {
    let mut all: Option<Results> = None;
    for (number, path) in files.iter().enumerate() {
        let mut next = Results::read(path)?;
        let Some(all) = &mut all else {
            all = Some(next);
            continue;
        };
        next.cells.iter_mut().for_each(|c| c.round += number * ROUNDS_MAX);
        next.counts.iter_mut().for_each(|c| c.round += number * ROUNDS_MAX);
        all.cells.append(&mut next.cells);
        all.counts.append(&mut next.counts);
        all.absent.append(&mut next.absent);
        all.session.versions.append(&mut next.session.versions);
    }
    all.ok_or_else(|| BenchError::choice("no results file"))
}

/// More rounds than any run has.
const ROUNDS_MAX: usize = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Absent, Level};
    use crate::summary::tests::results;

    fn sample() -> Results {
        let mut results = results(7, &[("ferrogate-kernel", 9.0), ("nginx", 10.0), ("ferrogate-memif", 1.25)]);
        // Every cell once more at a fixed rate, with latencies.
        let fixed: Vec<_> = results.cells.clone();
        for (number, mut cell) in fixed.into_iter().enumerate() {
            cell.level = Level::Fixed;
            cell.load.rate_wanted = Some(60_000.0);
            let factor = f64::from(u32::try_from(number % 7).unwrap());
            cell.load.latency_us.p50 = 100.0 + factor;
            cell.load.latency_us.p99 = 1200.0 + 400.0 * factor;
            results.cells.push(cell);
        }
        let absent = |scenario: &str, backend: &str, reason: &str| Absent {
            scenario: scenario.to_owned(),
            backend: backend.to_owned(),
            reason: reason.to_owned(),
        };
        results.absent.push(absent("", "envoy", "no binary was given"));
        results.absent.push(absent("bolt", "", "the protocol is not served yet"));
        results
    }

    #[test]
    fn the_report_is_as_it_was_looked_at() {
        let text = document::markdown(&content::blocks(&sample()));
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report/golden.md");
        if std::env::var_os("FERROGATE_BLESS").is_some() {
            fs::write(&golden, &text).unwrap();
        }
        assert_eq!(text, fs::read_to_string(&golden).unwrap(), "FERROGATE_BLESS=1 writes {}", golden.display());
    }

    #[test]
    fn the_page_needs_nothing_else_and_shows_spreads() {
        let page = document::html(&content::blocks(&sample()));
        for outside in ["http:", "https:", "src=", "href=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("prefers-color-scheme: dark") && page.contains("<svg"));
        assert!(page.contains("stack + proxy, no NIC"));
        assert!(page.contains("[noisy]"));
    }

    #[test]
    fn rounds_of_several_files_are_taken_together() {
        let folder = crate::stage::Folder::new().unwrap();
        let lines = |r: &Results| {
            let session = crate::results::Line::Session(Box::new(r.session.clone()));
            let cells = r.cells.iter().map(|c| crate::results::Line::Cell(Box::new(c.clone())));
            std::iter::once(session).chain(cells).map(|l| serde_json::to_string(&l).unwrap() + "\n").collect::<String>()
        };
        let text = lines(&results(3, &[("nginx", 10.0)]));
        let files = ["a", "b"].map(|n| folder.write(n, &text).unwrap());
        let all = read(&files).unwrap();
        let rows = crate::summary::rows(&all);
        assert_eq!(rows[0].spread.count, 6);
    }
}
