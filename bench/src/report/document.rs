//! A report as a list of blocks, which Markdown and HTML are two forms of.
//!
//! **Invariant:** knows nothing of measurements: whoever makes the blocks decides what they say.

/// A piece of a report.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    /// A heading; level 1 is the title.
    Heading(u8, String),
    /// A paragraph. `code` stands between backticks.
    Text(String),
    /// Points.
    List(Vec<String>),
    /// A table.
    Table(Table),
    /// A drawing with the line below it. Markdown has the tables alone.
    Plot {
        /// The drawing, as SVG.
        svg: String,
        /// What it shows.
        caption: String,
    },
}

/// Rows under a head.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// The columns that are text rather than figures, by number.
    pub text: Vec<usize>,
    /// The head.
    pub head: Vec<String>,
    /// The rows, each as long as the head.
    pub rows: Vec<Vec<String>>,
}

/// The report as Markdown.
#[must_use]
pub fn markdown(blocks: &[Block]) -> String {
    let mut text = String::new();
    for block in blocks {
        match block {
            Block::Heading(level, words) => {
                text.push_str(&"#".repeat(usize::from(*level)));
                text.push_str(&format!(" {words}\n\n"));
            }
            Block::Text(words) => text.push_str(&format!("{words}\n\n")),
            Block::List(points) => {
                points.iter().for_each(|p| text.push_str(&format!("- {p}\n")));
                text.push('\n');
            }
            Block::Table(table) => text.push_str(&markdown_table(table)),
            Block::Plot { .. } => {}
        }
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// The report as one page of HTML that needs nothing else.
#[must_use]
pub fn html(blocks: &[Block]) -> String {
    let title = blocks.iter().find_map(|b| match b {
        Block::Heading(1, words) => Some(words.as_str()),
        _ => None,
    });
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, \
         initial-scale=1\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        escape(title.unwrap_or("Report"))
    );
    for block in blocks {
        match block {
            Block::Heading(level, words) => text.push_str(&format!("<h{level}>{}</h{level}>\n", inline(words))),
            Block::Text(words) => text.push_str(&format!("<p>{}</p>\n", inline(words))),
            Block::List(points) => {
                let items: String = points.iter().map(|p| format!("<li>{}</li>\n", inline(p))).collect();
                text.push_str(&format!("<ul>\n{items}</ul>\n"));
            }
            Block::Table(table) => text.push_str(&html_table(table)),
            Block::Plot { svg, caption } => {
                text.push_str(&format!("<figure>\n{svg}<figcaption>{}</figcaption>\n</figure>\n", inline(caption)));
            }
        }
    }
    text.push_str("</main>\n</body>\n</html>\n");
    text
}

/// A text that stands for itself in HTML and SVG.
#[must_use]
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn markdown_table(table: &Table) -> String {
    let line = |cells: &[String]| {
        format!("| {} |\n", cells.iter().map(|c| c.replace('|', "\\|")).collect::<Vec<_>>().join(" | "))
    };
    let rule: Vec<String> =
        (0..table.head.len()).map(|i| if table.text.contains(&i) { "---" } else { "---:" }.to_owned()).collect();
    let rows: String = table.rows.iter().map(|r| line(r)).collect();
    format!("{}{}{rows}\n", line(&table.head), line(&rule))
}

fn html_table(table: &Table) -> String {
    let line = |cells: &[String], tag: &str| {
        let class = |i| if table.text.contains(&i) { " class=\"text\"" } else { "" };
        let cell = |(i, c): (usize, &String)| format!("<{tag}{}>{}</{tag}>", class(i), inline(c));
        let cells: String = cells.iter().enumerate().map(cell).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let rows: String = table.rows.iter().map(|r| line(r, "td")).collect();
    format!(
        "<div class=\"table\"><table>\n<thead>{}</thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n",
        line(&table.head, "th")
    )
}

/// Escaped, with `code` between backticks.
fn inline(text: &str) -> String {
    let parts: Vec<String> = text.split('`').map(escape).collect();
    // An odd backtick stands for itself.
    if parts.len().is_multiple_of(2) {
        return escape(text);
    }
    let code = |(i, part): (usize, &String)| if i % 2 == 1 { format!("<code>{part}</code>") } else { part.clone() };
    parts.iter().enumerate().map(code).collect()
}

/// Colours of their own for light and dark, one for each backend; plots take them from here.
const STYLE: &str = "\
:root { color-scheme: light dark; --page: #ffffff; --ink: #1c2126; --faint: #68717a; --line: #d9dee3; --shade: #f4f6f8;
  --c0: #c2410c; --c1: #ea7a2f; --c2: #f2b077; --c3: #8a5a2b; --c4: #15803d; --c5: #1d4ed8; --c6: #7c3aed; --c7: #0e7490; }
@media (prefers-color-scheme: dark) {
  :root { --page: #14181c; --ink: #e4e8ec; --faint: #98a2ac; --line: #343b42; --shade: #1c2228;
  --c0: #ff8a50; --c1: #ffae78; --c2: #ffd2ac; --c3: #c79a68; --c4: #5fd08a; --c5: #7ea6ff; --c6: #b79bff; --c7: #62c7da; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.35rem; margin: 3rem 0 .5rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 2rem 0 .25rem; }
p, ul { max-width: 46rem; }
code { font: .88em ui-monospace, monospace; background: var(--shade); padding: .1em .3em; border-radius: 3px; }
.table { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { color: var(--faint); font-weight: 600; vertical-align: bottom; }
th.text, td.text { text-align: left; }
th:first-child, td:first-child { padding-left: 0; }
td:last-child, th:last-child { padding-right: 0; }
figure { margin: 1.5rem 0; }
figure svg { max-width: 100%; height: auto; display: block; }
figcaption { color: var(--faint); font-size: .88rem; margin-top: .35rem; max-width: 46rem; }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; }
svg text.faint { fill: var(--faint); font-size: 12px; }
svg .rule { stroke: var(--line); stroke-width: 1; }
svg .whisker { stroke: var(--ink); stroke-width: 1.5; }
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let blocks = [
            Block::Heading(1, "A & B".to_owned()),
            Block::Text("see `x<y>`".to_owned()),
            Block::List(vec!["one".to_owned()]),
            Block::Table(Table {
                text: vec![0],
                head: vec!["a".into(), "b".into()],
                rows: vec![vec!["c|d".into(), "1".into()]],
            }),
            Block::Plot { svg: "<svg></svg>".to_owned(), caption: "a plot".to_owned() },
        ];
        assert_eq!(markdown(&blocks), "# A & B\n\nsee `x<y>`\n\n- one\n\n| a | b |\n| --- | ---: |\n| c\\|d | 1 |\n");
        let page = html(&blocks);
        for part in [
            "<h1>A &amp; B</h1>",
            "<code>x&lt;y&gt;</code>",
            "<li>one</li>",
            "<td class=\"text\">c|d</td>",
            "<figcaption>a plot",
        ] {
            assert!(page.contains(part), "{part} is missing in {page}");
        }
    }

    #[test]
    fn an_odd_backtick_is_no_code() {
        assert_eq!(inline("a ` b"), "a ` b");
    }
}
