//! Values as JSON in one line.
//!
//! **Invariant:** what is written here reads as the same value (RFC 8259).

use std::fmt::Write;

use super::tree::{Node, Value};

/// Writes a value. `replace` may give another text for one, by the last key of its path.
pub(super) fn write(out: &mut String, key: &str, node: &Node, replace: &mut dyn FnMut(&str, &str) -> Option<String>) {
    match &node.value {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Int(n) => write!(out, "{n}").expect("a String takes every text"),
        Value::Float(n) => out.push_str(&number(*n)),
        Value::Text(text) => write_text(out, replace(key, text).as_deref().unwrap_or(text)),
        Value::List(list) => {
            out.push('[');
            for (i, element) in list.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                write(out, key, element, replace);
            }
            out.push(']');
        }
        Value::Map(entries) => {
            out.push('{');
            for (i, entry) in entries.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                write_text(out, &entry.key);
                out.push(':');
                write(out, &entry.key, &entry.node, replace);
            }
            out.push('}');
        }
    }
}

/// Writes a text with its quotes.
pub(super) fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c < ' ' => write!(out, "\\u{:04x}", u32::from(c)).expect("a String takes every text"),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// A number; a whole one without a fraction.
pub(super) fn number(n: f64) -> String {
    // `-0` is `0`.
    format!("{}", n + 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree;

    #[test]
    fn what_is_written_reads_the_same() {
        for text in [r#"{"a":[1,-2.5,true,null],"b\"\\":"\n\t\r\u0001é😀"}"#, "[]", "{}", "\"\""] {
            let mut out = String::new();
            write(&mut out, "", &tree::parse(text, 0).unwrap().unwrap(), &mut |_, _| None);
            assert_eq!(out, text);
        }
    }
}
