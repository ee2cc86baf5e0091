//! Plots as SVG: bars with whiskers, and lines with bands of spread.
//!
//! **Invariant:** a value is never drawn without its spread; colours are names that the page defines.

use std::fmt::Write;
use std::ops::RangeInclusive;

use crate::report::document::escape;
use crate::stats::Spread;

/// One bar.
#[derive(Clone, Debug)]
pub struct Bar {
    /// Before it.
    pub label: String,
    /// Behind it.
    pub value: String,
    /// Its length and whiskers.
    pub spread: Spread,
    /// The number of its colour.
    pub color: usize,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name.
    pub label: String,
    /// The number of its colour.
    pub color: usize,
    /// By position on the horizontal axis.
    pub points: Vec<(usize, Spread)>,
}

/// Horizontal bars, grouped under headings. Whiskers end at the quartiles.
#[must_use]
pub fn bars(groups: &[(String, Vec<Bar>)]) -> String {
    let highest = groups.iter().flat_map(|(_, g)| g).map(|b| b.spread.high).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let scale = BAR_WIDTH / highest;
    let mut body = String::new();
    let mut y = 0.0;
    for (heading, bars) in groups {
        if !heading.is_empty() {
            y += 24.0;
            put(
                &mut body,
                format_args!("<text x=\"0\" y=\"{:.0}\" font-weight=\"600\">{}</text>\n", y - 7.0, escape(heading)),
            );
        }
        for bar in bars {
            put(
                &mut body,
                format_args!(
                    "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                    LABEL_WIDTH - 8.0,
                    y + 15.0,
                    escape(&bar.label)
                ),
            );
            put(
                &mut body,
                format_args!(
                    "<rect x=\"{LABEL_WIDTH}\" y=\"{:.1}\" width=\"{:.1}\" height=\"14\" rx=\"2\" fill=\"var(--c{})\"/>\n",
                    y + 3.0,
                    (bar.spread.median * scale).max(1.0),
                    bar.color
                ),
            );
            let (low, high) = (LABEL_WIDTH + bar.spread.low * scale, LABEL_WIDTH + bar.spread.high * scale);
            whisker(&mut body, low, high, y + 10.0);
            let end = high.max(LABEL_WIDTH + bar.spread.median * scale) + 8.0;
            put(
                &mut body,
                format_args!(
                    "<text class=\"faint\" x=\"{end:.1}\" y=\"{:.1}\">{}</text>\n",
                    y + 14.5,
                    escape(&bar.value)
                ),
            );
            y += 21.0;
        }
        y += 6.0;
    }
    svg(LABEL_WIDTH + BAR_WIDTH + VALUE_WIDTH, y, &body)
}

/// Lines over named positions, on a logarithmic scale, with whiskers at the quartiles.
#[must_use]
pub fn lines(positions: &[&str], series: &[Series], unit: &str) -> String {
    let values = series.iter().flat_map(|s| &s.points).flat_map(|(_, p)| [p.low, p.high]);
    let (low, high) = values.filter(|v| *v > 0.0).fold((f64::INFINITY, 0.0_f64), |(l, h), v| (l.min(v), h.max(v)));
    if !low.is_finite() {
        return String::new();
    }
    let (low, high) = (10_f64.powf(low.log10().floor()), 10_f64.powf((high.log10() + 1e-9).ceil()));
    let height = |value: f64| PLOT_TOP + PLOT_HEIGHT * (1.0 - (value.max(low) / low).log10() / (high / low).log10());
    #[expect(clippy::cast_precision_loss, reason = "a few positions")]
    let across = |position: usize| PLOT_LEFT + PLOT_WIDTH * (position as f64 + 0.5) / positions.len() as f64;

    let mut body = String::new();
    rules(&mut body, low..=high * 1.001, height, unit);
    for (position, name) in positions.iter().enumerate() {
        put(
            &mut body,
            format_args!(
                "<text class=\"faint\" x=\"{:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>\n",
                across(position),
                PLOT_TOP + PLOT_HEIGHT + 20.0,
                escape(name)
            ),
        );
    }
    for (number, line) in series.iter().enumerate() {
        let points: Vec<(f64, &Spread)> = line.points.iter().map(|(p, s)| (across(*p), s)).collect();
        let path: Vec<String> = points.iter().map(|(x, s)| format!("{x:.1},{:.1}", height(s.median))).collect();
        put(
            &mut body,
            format_args!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"var(--c{})\" stroke-width=\"2.5\"/>\n",
                path.join(" "),
                line.color
            ),
        );
        for (x, s) in points {
            put(
                &mut body,
                format_args!(
                    "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"var(--c{})\" stroke-width=\"1.5\"/>\n",
                    height(s.low),
                    height(s.high),
                    line.color
                ),
            );
            put(
                &mut body,
                format_args!(
                    "<circle cx=\"{x:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"var(--c{})\"/>\n",
                    height(s.median),
                    line.color
                ),
            );
        }
        legend(&mut body, number, line);
    }
    svg(PLOT_LEFT + PLOT_WIDTH + LABEL_WIDTH + 20.0, PLOT_TOP + PLOT_HEIGHT + 32.0, &body)
}

/// A rule across the plot at each power of ten.
fn rules(body: &mut String, range: RangeInclusive<f64>, height: impl Fn(f64) -> f64, unit: &str) {
    let mut tick = *range.start();
    while tick <= *range.end() {
        let y = height(tick);
        put(
            body,
            format_args!(
                "<line class=\"rule\" x1=\"{PLOT_LEFT}\" x2=\"{:.0}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\n",
                PLOT_LEFT + PLOT_WIDTH
            ),
        );
        put(
            body,
            format_args!(
                "<text class=\"faint\" x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{tick} {unit}</text>\n",
                PLOT_LEFT - 8.0,
                y + 4.0
            ),
        );
        tick *= 10.0;
    }
}

/// The name of a line beside the plot, with its colour.
fn legend(body: &mut String, number: usize, line: &Series) {
    #[expect(clippy::cast_precision_loss, reason = "a few lines")]
    let y = PLOT_TOP + 12.0 + 20.0 * number as f64;
    let x = PLOT_LEFT + PLOT_WIDTH + 16.0;
    put(
        body,
        format_args!(
            "<rect x=\"{x:.0}\" y=\"{:.0}\" width=\"12\" height=\"12\" rx=\"2\" fill=\"var(--c{})\"/>\n",
            y - 10.0,
            line.color
        ),
    );
    put(body, format_args!("<text x=\"{:.0}\" y=\"{y:.0}\">{}</text>\n", x + 18.0, escape(&line.label)));
}

fn whisker(body: &mut String, low: f64, high: f64, y: f64) {
    put(body, format_args!("<line class=\"whisker\" x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\n"));
    for x in [low, high] {
        put(
            body,
            format_args!(
                "<line class=\"whisker\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\n",
                y - 3.5,
                y + 3.5
            ),
        );
    }
}

fn svg(width: f64, height: f64, body: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\">\n{body}</svg>\n"
    )
}

fn put(body: &mut String, text: std::fmt::Arguments<'_>) {
    body.write_fmt(text).expect("a string takes it");
}

const LABEL_WIDTH: f64 = 170.0;
const BAR_WIDTH: f64 = 460.0;
const VALUE_WIDTH: f64 = 250.0;
const PLOT_LEFT: f64 = 84.0;
const PLOT_TOP: f64 = 10.0;
const PLOT_WIDTH: f64 = 560.0;
const PLOT_HEIGHT: f64 = 260.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_and_lines_draw_every_value_with_its_spread() {
        let spread = |m: f64| Spread::of(&[m * 0.9, m, m * 1.1]).unwrap();
        let bar =
            |label: &str, m| Bar { label: label.to_owned(), value: format!("{m} us"), spread: spread(m), color: 1 };
        let drawing = bars(&[("group <1>".to_owned(), vec![bar("a", 1.0), bar("b", 2.0)])]);
        assert_eq!(drawing.matches("<rect").count(), 2);
        assert_eq!(drawing.matches("class=\"whisker\"").count(), 6);
        assert!(drawing.contains("group &lt;1&gt;") && drawing.contains("2 us"));

        let series = Series { label: "a".to_owned(), color: 0, points: vec![(0, spread(20.0)), (2, spread(3000.0))] };
        let drawing = lines(&["50 %", "70 %", "90 %"], &[series], "us");
        assert_eq!(drawing.matches("<circle").count(), 2);
        assert!(drawing.contains(">10 us<") && drawing.contains(">10000 us<"), "{drawing}");
        assert!(!drawing.contains("NaN"));
        assert_eq!(lines(&["x"], &[], "us"), "");
    }
}
