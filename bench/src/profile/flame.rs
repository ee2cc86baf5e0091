//! A flame graph: stacks of samples folded into a tree, drawn as SVG.
//!
//! **Invariant:** the width of a box is the part of all samples that had this function on this stack; nothing is drawn that is narrower than a
//! tenth of a pixel.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::report::document::escape;

/// Samples by stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flame {
    root: Node,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    samples: u64,
    children: BTreeMap<String, Node>,
}

impl Flame {
    /// Reads what `perf script -F comm,ip,sym` prints: the process's name on a line of its own, then a line a frame, the innermost first, then
    /// an empty line.
    #[must_use]
    pub fn of_perf_script(text: &str) -> Self {
        let mut flame = Self::default();
        let mut stack: Vec<&str> = Vec::new();
        for line in text.lines().chain([""]) {
            if line.trim().is_empty() {
                if !stack.is_empty() {
                    flame.add(stack.iter().rev().copied());
                }
                stack.clear();
            } else if line.starts_with([' ', '\t']) {
                // The address, then the symbol, which may have spaces.
                let symbol = line.trim().split_once(' ').map_or("[unknown]", |(_, symbol)| symbol.trim());
                stack.push(if symbol.is_empty() { "[unknown]" } else { symbol });
            }
        }
        flame
    }

    /// Adds a sample: the outermost function first.
    pub fn add<'a>(&mut self, stack: impl Iterator<Item = &'a str>) {
        let mut node = &mut self.root;
        node.samples += 1;
        for function in stack {
            node = node.children.entry(function.to_owned()).or_default();
            node.samples += 1;
        }
    }

    /// How many samples there are.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.root.samples
    }

    /// The drawing: a page of its own, to be opened in a browser. A box tells its name and part when pointed at.
    #[must_use]
    pub fn svg(&self, title: &str) -> String {
        let depth = depth(&self.root);
        let height = TOP + ROW * (float(depth) + 1.0) + MARGIN;
        let mut body = String::new();
        let mut painter = Painter { body: &mut body, total: float(self.root.samples.max(1)), height };
        painter.paint("all", &self.root, MARGIN, 0.0);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\">\n<style>text {{ font: \
             11px ui-monospace, monospace; fill: #1c2126; pointer-events: none }} rect {{ stroke: #ffffff; stroke-width: .5 }} rect:hover {{ stroke: \
             #1c2126 }}</style>\n<rect x=\"0\" y=\"0\" width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n<text x=\"{MARGIN}\" y=\"20\" \
             style=\"font: 600 14px system-ui, sans-serif\">{} ({} samples)</text>\n{body}</svg>\n",
            escape(title),
            self.root.samples
        )
    }
}

struct Painter<'a> {
    body: &'a mut String,
    total: f64,
    height: f64,
}

impl Painter<'_> {
    fn paint(&mut self, name: &str, node: &Node, x: f64, level: f64) {
        let part = float(node.samples) / self.total;
        let width = part * (WIDTH - 2.0 * MARGIN);
        if width < NARROWEST {
            return;
        }
        let y = self.height - MARGIN - ROW * (level + 1.0);
        let (label, shown) = (escape(name), escape(&shortened(name, width)));
        writeln!(
            self.body,
            "<g><title>{label}: {:.2} %</title><rect x=\"{x:.2}\" y=\"{y:.1}\" width=\"{width:.2}\" height=\"{ROW}\" fill=\"{}\"/>\
             <text x=\"{:.2}\" y=\"{:.1}\">{shown}</text></g>",
            100.0 * part,
            color(name),
            x + 3.0,
            y + ROW - 5.0
        )
        .expect("a string takes it");
        let mut at = x;
        for (name, child) in &node.children {
            self.paint(name, child, at, level + 1.0);
            at += float(child.samples) / self.total * (WIDTH - 2.0 * MARGIN);
        }
    }
}

/// As much of the name as fits, without the path and the hash that Rust puts around it where it is long.
fn shortened(name: &str, width: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive number of pixels")]
    let room = ((width - 6.0) / LETTER).max(0.0) as usize;
    if name.chars().count() <= room {
        return name.to_owned();
    }
    if room < 3 { String::new() } else { name.chars().take(room - 1).chain(['…']).collect() }
}

/// Warm colours, the same for the same name everywhere: the eye finds a function again.
fn color(name: &str) -> String {
    let hash = name.bytes().fold(2_166_136_261_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(16_777_619));
    let hue = if name.contains("::") { 18 + hash % 30 } else { 190 + hash % 40 };
    format!("hsl({hue} 70% {}%)", 66 + hash / 64 % 14)
}

fn depth(node: &Node) -> u64 {
    node.children.values().map(|c| 1 + depth(c)).max().unwrap_or(0)
}

#[expect(clippy::cast_precision_loss, reason = "counts of samples and rows")]
fn float(count: u64) -> f64 {
    count as f64
}

const WIDTH: f64 = 1400.0;
const MARGIN: f64 = 10.0;
const TOP: f64 = 40.0;
const ROW: f64 = 17.0;
const LETTER: f64 = 6.7;
const NARROWEST: f64 = 0.1;

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "ferrogate \n\t  ffff1 tcp_sendmsg\n\t  4 core::<A as B>::poll\n\t  5 main\n\nferrogate \n\t 4 core::<A as B>::poll\n\t 5 main\n\n";

    #[test]
    fn stacks_of_perf_are_folded_from_the_outside_in() {
        let flame = Flame::of_perf_script(SCRIPT);
        assert_eq!(flame.samples(), 2);
        let main = &flame.root.children["main"];
        assert_eq!(main.samples, 2);
        let poll = &main.children["core::<A as B>::poll"];
        assert_eq!((poll.samples, poll.children["tcp_sendmsg"].samples), (2, 1));
    }

    #[test]
    fn the_drawing_has_a_box_for_each_frame_with_its_part() {
        let svg = Flame::of_perf_script(SCRIPT).svg("a <title>");
        assert!(svg.contains("a &lt;title&gt; (2 samples)"));
        assert!(svg.contains("<title>tcp_sendmsg: 50.00 %</title>"), "{svg}");
        assert!(svg.contains("core::&lt;A as B&gt;::poll: 100.00 %"));
        assert_eq!(svg.matches("<g>").count(), 4);
    }

    #[test]
    fn no_samples_are_no_panic() {
        let flame = Flame::of_perf_script("");
        assert_eq!(flame.samples(), 0);
        assert!(flame.svg("x").ends_with("</svg>\n"));
    }
}
