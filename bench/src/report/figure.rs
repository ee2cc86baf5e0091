//! How figures are written.
//!
//! **Invariant:** no figure without its spread and its marks.

use crate::stats::{Interval, Spread};
use crate::summary::{Mark, Ratio, Row};

/// `9.49 (9.37–9.61)`: the median and its quartiles, marked where they are too far apart. The other marks are of all figures of a line.
#[must_use]
pub fn row(row: &Row) -> String {
    format!("{}{}", spread(&row.spread), noisy(row.marks.contains(&Mark::Noisy)))
}

/// The median and its quartiles.
#[must_use]
pub fn spread(spread: &Spread) -> String {
    format!("{} ({}–{})", number(spread.median), number(spread.low), number(spread.high))
}

/// `0.86 (0.84–0.88)`: the ratio and its interval, marked where that is too wide.
#[must_use]
pub fn ratio(ratio: &Ratio) -> String {
    format!("{}{}", interval(&ratio.interval), noisy(ratio.interval.is_noisy()))
}

/// What is wrong with a whole line, once each.
#[must_use]
pub fn marks<'a>(all: impl Iterator<Item = &'a Mark>) -> String {
    let mut names: Vec<Mark> = all.filter(|m| **m != Mark::Noisy).copied().collect();
    names.sort_unstable();
    names.dedup();
    names.iter().map(|m| m.name()).collect::<Vec<_>>().join(", ")
}

/// A ratio and its interval.
#[must_use]
pub fn interval(interval: &Interval) -> String {
    format!("{:.2} ({:.2}–{:.2})", interval.median, interval.low, interval.high)
}

/// The same with a figure more, for small differences.
#[must_use]
pub fn precise(interval: &Interval) -> String {
    format!("{:.3} ({:.3}–{:.3})", interval.median, interval.low, interval.high)
}

/// Three figures that count, thousands apart.
#[must_use]
pub fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 1000.0 {
        // The fourth figure is noise.
        let step = 10_f64.powf(size.log10().floor() - 2.0);
        return thousands((value / step).round() * step);
    }
    // By the rounded value: 9.996 is 10.0.
    let digits = match size {
        s if s >= 99.95 || s == 0.0 => 0,
        s if s >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn noisy(is: bool) -> &'static str {
    if is { " [noisy]" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_figures() {
        for (value, wanted) in [
            (0.0, "0"),
            (0.12345, "0.12"),
            (9.494, "9.49"),
            (9.996, "10.0"),
            (99.96, "100"),
            (94.94, "94.9"),
            (949.4, "949"),
            (9494.0, "9,490"),
            (104_321.0, "104,000"),
            (1_234_567.0, "1,230,000"),
            (-1234.0, "-1,230"),
        ] {
            assert_eq!(number(value), wanted);
        }
    }
}
