//! `ferrogate flows`: the flow table of a running plane, filtered.
//!
//! **Invariant:** asks; what an answer may cost the lcores is bounded by them.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use ferrogate_core::control::ask;
use ferrogate_core::net::Transport;
use serde_json::Value;

use super::{Gateway, query, runtime, unless_closed};

/// Arguments of `flows`. Each narrows what is listed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    gateway: Gateway,
    /// An address of either end, or a network: 10.1.2.3, 10.0.0.0/8.
    #[arg(long)]
    address: Option<String>,
    /// A port of either end.
    #[arg(long)]
    port: Option<u16>,
    /// A state: established, syn-received, close-wait ...
    #[arg(long)]
    state: Option<String>,
    /// Flows that came in by this listener.
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// Open for so many seconds at least.
    #[arg(long, value_name = "SECONDS")]
    age: Option<f64>,
    /// Nothing heard of the peer for so many seconds at least.
    #[arg(long, value_name = "SECONDS")]
    idle: Option<f64>,
    /// So many bytes at least, both ways together.
    #[arg(long)]
    bytes: Option<u64>,
    /// So many rows at most, 10000 in any case.
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run<T: Transport>(&self, transport: impl FnOnce() -> T) -> Result<bool, String> {
        let admin = self.gateway.admin()?;
        let path = self.path();
        let transport = transport();
        let body = runtime()?.block_on(ask::get(&transport, &admin, &path))?;
        let found: Value =
            serde_json::from_slice(&body).map_err(|e| format!("the answer of {admin} is no JSON: {e}"))?;
        let text = if self.json { format!("{found}\n") } else { table(&found) };
        unless_closed(io::stdout().write_all(text.as_bytes()))?;
        Ok(true)
    }

    fn path(&self) -> String {
        let text = |key, value: &Option<String>| value.clone().map(|value| (key, value));
        let pairs = [
            text("address", &self.address),
            text("port", &self.port.map(|n| n.to_string())),
            text("state", &self.state),
            text("listener", &self.listener),
            text("age", &self.age.map(|n| n.to_string())),
            text("idle", &self.idle.map(|n| n.to_string())),
            text("bytes", &self.bytes.map(|n| n.to_string())),
            Some(("limit", self.limit.to_string())),
        ];
        query("/api/v1/flows", pairs.into_iter().flatten())
    }
}

/// For people.
fn table(found: &Value) -> String {
    let rows = found["flows"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |row: &Value, key: &str| match &row[key] {
        Value::String(text) => text.clone(),
        Value::Number(number) => {
            number.as_f64().filter(|n| n.fract() != 0.0).map_or_else(|| number.to_string(), |n| format!("{n:.1}"))
        }
        other => other.to_string(),
    };
    let mut lines = vec![COLUMNS.map(|(head, _)| head.to_owned()).to_vec()];
    lines.extend(rows.iter().map(|row| COLUMNS.map(|(_, key)| text(row, key)).to_vec()));
    let widths: Vec<_> = (0..COLUMNS.len()).map(|n| lines.iter().map(|l| l[n].len()).max().unwrap_or(0)).collect();
    let mut out = String::new();
    for line in &lines {
        let cells: Vec<_> = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(out, "{}", cells.join("  ").trim_end());
    }
    let _ = writeln!(out, "{} shown of {} that match, {} open", rows.len(), found["matched"], found["open"]);
    out
}

const COLUMNS: [(&str, &str); 11] = [
    ("PEER", "peer"),
    ("LOCAL", "local"),
    ("STATE", "state"),
    ("BY", "opened_by"),
    ("AGE-s", "age_seconds"),
    ("IDLE-s", "idle_seconds"),
    ("RX", "rx_bytes"),
    ("TX", "tx_bytes"),
    ("RX-QUEUE", "rx_queued_bytes"),
    ("TX-QUEUE", "tx_queued_bytes"),
    ("LCORE", "lcore"),
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_table_says_how_much_of_it_is_shown() {
        let row = json!({ "peer": "10.0.0.2:4000", "local": "10.0.0.1:80", "state": "established", "opened_by": "peer", "age_seconds": 12.345,
            "idle_seconds": 0.0, "rx_bytes": 100, "tx_bytes": 200, "rx_queued_bytes": 0, "tx_queued_bytes": 7, "lcore": 1 });
        let table = table(&json!({ "open": 9, "matched": 3, "flows": [row] }));
        let words: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(
            words,
            ["10.0.0.2:4000", "10.0.0.1:80", "established", "peer", "12.3", "0.0", "100", "200", "0", "7", "1"]
        );
        assert!(table.ends_with("1 shown of 3 that match, 9 open\n"));
    }
}
