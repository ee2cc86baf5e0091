//! Values of keys: what they mean, by the kind of the key, and how they are printed.
//!
//! **Invariant:** two values that the reader takes for the same have the same canonical text; no printed text holds a secret.

use crate::config::Address;
use crate::config::json;
use crate::config::keys::Kind;
use crate::config::scalar;
use crate::config::tree::{Node, Value};

/// A text that is equal for values that mean the same. `key` is the last key of the path.
pub(super) fn canonical(kind: Kind, key: &str, node: &Node) -> String {
    let text = match &node.value {
        Value::Text(text) if is_secret(key, text) => return redacted(text),
        Value::Text(text) => text.as_str(),
        Value::Int(n) if kind == Kind::Duration => return format!("{n}ns"),
        #[allow(clippy::cast_precision_loss, reason = "beyond 2^53 two numbers in a file are the same number")]
        Value::Int(n) => return json::number(*n as f64),
        Value::Float(n) => return json::number(*n),
        _ => return whole(key, node),
    };
    match kind {
        Kind::Duration => scalar::duration(text).map(|(negative, d)| {
            let sign = if negative { "-" } else { "" };
            format!("{sign}{}ns", d.as_nanos())
        }),
        Kind::Size | Kind::Number => scalar::size(text).map(|n| n.to_string()),
        Kind::Choice(_) => Some(text.to_ascii_lowercase()),
        Kind::Address => text.parse::<Address>().ok().map(|a| a.to_string()),
        _ => None,
    }
    .unwrap_or_else(|| text.to_owned())
}

/// A value for people: a text without quotes, the rest as JSON, shortened. `key` is the last key of its path.
pub(super) fn print(key: &str, node: &Node) -> String {
    let mut shown = match &node.value {
        Value::Text(text) if is_secret(key, text) => redacted(text),
        Value::Text(text) => text.replace(['\n', '\r'], " "),
        _ => redacted_json(node),
    };
    if shown.len() > VALUE_BYTES_MAX {
        shown.truncate(shown.floor_char_boundary(VALUE_BYTES_MAX));
        shown.push('…');
    }
    shown
}

/// A value as JSON in one line, with every secret in it taken out.
pub(crate) fn redacted_json(node: &Node) -> String {
    whole("", node)
}

/// What stands for a secret: the same for the same secret, so that a change is seen.
fn redacted(text: &str) -> String {
    if text.starts_with(MARK) {
        return text.to_owned();
    }
    // FNV-1a: 64 bits tell nothing about a key, and are enough to see that it is another one.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    format!("{MARK}{hash:016x})")
}

/// Whether the text of this key is nobody's business: what is called a secret, and a key that stands in the file itself.
fn is_secret(key: &str, text: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let is_pin = key == "pin" || key.ends_with("-pin") || key.ends_with("_pin");
    is_pin
        || ["PRIVATE KEY-----", "pin-value="].iter().any(|word| text.contains(word))
        || text.starts_with(MARK)
        || SECRETS.iter().any(|secret| key.contains(secret))
}

/// The whole value, to compare.
fn whole(key: &str, node: &Node) -> String {
    let mut out = String::new();
    json::write(&mut out, key, node, &mut |key, text| is_secret(key, text).then(|| redacted(text)));
    out
}

/// How the mark of a secret begins.
const MARK: &str = "(secret ";

/// What a key with a secret has in its name.
const SECRETS: &[&str] = &["password", "passwd", "secret", "token", "api_key", "apikey", "credential"];

/// A value in a plan, in bytes, at most.
const VALUE_BYTES_MAX: usize = 200;
