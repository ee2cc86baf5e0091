//! How far a run is: a bar on a terminal, a line a scenario elsewhere.
//!
//! **Invariant:** writes to stderr alone; what a run finds goes to its file.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// The progress of a run.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    start: Instant,
}

impl Progress {
    /// Of a run that is meant to take so long.
    #[must_use]
    pub fn new(estimate: Duration) -> Self {
        let bar = stderr().is_terminal().then(|| ProgressBar::new(units(estimate)).with_style(style()));
        let progress = Self { bar, start: Instant::now() };
        progress.say(&format!("about {} of measuring", minutes(estimate)));
        progress
    }

    /// What happens now.
    pub fn now(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_owned());
        }
    }

    /// Work that was meant to take so long is done.
    pub fn done(&self, estimate: Duration) {
        if let Some(bar) = &self.bar {
            bar.inc(units(estimate));
        }
    }

    /// A line that stays.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("[{}] {line}", minutes(self.start.elapsed())),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{elapsed_precise} [{bar:32}] {percent}% left {eta_precise}  {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

fn units(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn minutes(time: Duration) -> String {
    format!("{}:{:02} min", time.as_secs() / 60, time.as_secs() % 60)
}
