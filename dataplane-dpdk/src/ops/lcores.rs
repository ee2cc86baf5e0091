//! `ferrogate lcores`: what each lcore does with its time, and what is dropped, over an interval.
//!
//! The figures are differences of two looks at the plane's numbers: in the statistics segment, which needs no process that answers, or by the
//! admin API. A segment that nobody writes any more is shown as a whole.
//!
//! **Invariant:** looks only; and an lcore never knows of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use ferrogate_core::config::Address;
use ferrogate_core::control::ask;
use ferrogate_core::net::Transport;
use serde_json::{Value, json};

use super::segment::{Named, Reading, named};
use super::{Gateway, read, runtime, unless_closed};

/// Arguments of `lcores`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    gateway: Gateway,
    /// The statistics segment, in place of the one of the file (dataplane.dpdk.statistics_file).
    #[arg(long, value_name = "FILE", conflicts_with = "admin")]
    segment: Option<PathBuf>,
    /// Seconds between two looks.
    #[arg(short, long, default_value_t = 1.0, value_name = "SECONDS")]
    interval: f64,
    /// Go on, a table for each interval.
    #[arg(short, long)]
    watch: bool,
    /// Print JSON, a line for each interval.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run<T: Transport>(&self, transport: impl FnOnce() -> T) -> Result<bool, String> {
        let interval =
            Duration::try_from_secs_f64(self.interval).map_err(|e| format!("--interval {}: {e}", self.interval))?;
        let source = self.source()?;
        let runtime = runtime()?;
        let transport = transport();
        let look = || match &source {
            Source::Segment(path) => {
                let reading =
                    Reading::of(path).map_err(|e| format!("the statistics segment {}: {e}", path.display()))?;
                Ok((reading.is_alive(), reading.numbers))
            }
            Source::Admin(address) => runtime.block_on(ask_numbers(&transport, address)).map(|numbers| (true, numbers)),
        };
        let (mut is_alive, mut before) = look()?;
        loop {
            if is_alive {
                thread::sleep(interval);
            } else {
                eprintln!("ferrogate: the process that wrote these numbers has ended: they are of all that it counted");
                before.clear();
            }
            let (alive, after) = look()?;
            let shown = Interval::between(&before, &after);
            let text = if self.json { format!("{}\n", shown.to_json()) } else { shown.table() };
            unless_closed(io::stdout().write_all(text.as_bytes()))?;
            if !self.watch || !is_alive {
                return Ok(true);
            }
            (is_alive, before) = (alive, after);
        }
    }

    fn source(&self) -> Result<Source, String> {
        if let Some(path) = &self.segment {
            return Ok(Source::Segment(path.clone()));
        }
        if let (None, Some(path)) = (&self.gateway.admin, &self.gateway.config)
            && let Some(segment) = read(path)?.dataplane.dpdk.statistics_file
        {
            return Ok(Source::Segment(segment));
        }
        self.gateway.admin().map(Source::Admin)
    }
}

/// Where the numbers come from.
enum Source {
    Segment(PathBuf),
    Admin(Address),
}

async fn ask_numbers<T: Transport>(transport: &T, address: &Address) -> Result<Vec<Named>, String> {
    let body = ask::get(transport, address, "/api/v1/dataplane").await?;
    let plane: Value = serde_json::from_slice(&body).map_err(|e| format!("the answer of {address} is no JSON: {e}"))?;
    let name = plane["plane"].as_str().unwrap_or("?");
    if name != "dpdk" {
        return Err(format!("the gateway at {address} runs on the {name} plane, which has no lcores"));
    }
    named(&plane["counters"]).ok_or_else(|| format!("the answer of {address} has no counters"))
}

/// What an lcore did between two looks. Times in nanoseconds, except where the name says otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Lcore {
    pub(crate) lcore: String,
    cpu: Option<u64>,
    /// Time of its turns in all: the interval, as the lcore has seen it.
    span: u64,
    busy: u64,
    rx_packets: u64,
    tx_packets: u64,
    rx_bursts: u64,
    requests: u64,
    /// What came that is of other lcores' flows, and all that it gave to others.
    foreign: u64,
    handed_over: u64,
    turns: u64,
    empty_turns: u64,
    /// Busy turns by their length: the bound in microseconds, and how many were shorter and not within a lower bound.
    lengths: Vec<(f64, u64)>,
    flows: u64,
    hertz: u64,
    /// What was dropped, by reason.
    dropped: BTreeMap<String, u64>,
}

/// A port: its name, how it serves lcores, and what it lost between two looks.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Port {
    pub(crate) port: String,
    /// Queue pairs that are used; 0: not known.
    queues: u64,
    /// Entries of the table by which it spreads flows; 0: it has none.
    rss_entries: u64,
    lost: BTreeMap<String, u64>,
}

/// What happened between two looks.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Interval {
    pub(crate) lcores: Vec<Lcore>,
    pub(crate) ports: Vec<Port>,
}

impl Interval {
    /// The difference of two looks; without the first, everything since the numbers began.
    pub(crate) fn between(before: &[Named], after: &[Named]) -> Self {
        let mut interval = Self::default();
        let mut earlier = before.iter();
        for number in after {
            // Both are of one process, in one order; where they are not, the search starts anew.
            let same = |n: &&Named| n.name == number.name && n.labels == number.labels;
            let was = earlier.next().filter(same).or_else(|| before.iter().find(same)).map_or(0, |n| n.value);
            let grown = number.value.wrapping_sub(was);
            let label = |key| number.labels.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str());
            if let Some(lcore) = label("lcore") {
                interval.lcore(lcore).take(number, grown, label("reason"), label("below_microseconds"));
            } else if let Some(port) = label("port") {
                interval.port(port).take(number, grown);
            }
        }
        let hertz =
            after.iter().find(|number| number.name == "ferrogate_dpdk_tsc_hertz").map_or(0, |number| number.value);
        interval.lcores.iter_mut().for_each(|lcore| lcore.hertz = hertz);
        interval
    }

    /// As a table for people.
    pub(crate) fn table(&self) -> String {
        let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
        rows.extend(self.lcores.iter().map(Lcore::row));
        let widths: Vec<_> = (0..HEAD.len()).map(|n| rows.iter().map(|row| row[n].len()).max().unwrap_or(0)).collect();
        let mut out = String::new();
        for row in &rows {
            let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:>width$}")).collect();
            let _ = writeln!(out, "{}", cells.join("  "));
        }
        let lcores = self.lcores.iter().map(|l| (format!("lcore {}", l.lcore), &l.dropped));
        let ports = self.ports.iter().map(|p| (format!("port {}", p.port), &p.lost));
        for (who, drops) in lcores.chain(ports) {
            let told: Vec<_> = drops.iter().filter(|(_, n)| **n > 0).map(|(why, n)| format!("{why} {n}")).collect();
            if !told.is_empty() {
                let _ = writeln!(out, "dropped, {who}: {}", told.join(", "));
            }
        }
        self.ports.iter().filter_map(|port| self.advice(port)).for_each(|line| out += &line);
        out
    }

    /// What is to be said of a port that does not bring flows to the lcores that they belong to, and what would mend it.
    fn advice(&self, port: &Port) -> Option<String> {
        let (lcores, queues) = (self.lcores.len(), usize::try_from(port.queues).ok().filter(|&queues| queues > 0)?);
        let (foreign, rx) = self.lcores.iter().fold((0, 0), |(f, rx), l| (f + l.foreign, rx + l.rx_packets));
        if queues < lcores {
            return Some(format!(
                "port {}: {queues} of {lcores} lcores have a queue pair of it, and take and send for the others\n    \
                 more queue pairs (net_af_packet: qpairs={lcores}, net_af_xdp: queue_count={lcores} in ports[].device), or dataplane.workers: {queues}\n",
                port.port
            ));
        }
        // A few there always are: fragments' datagrams, and flows of before the table was set.
        (lcores > 1 && port.rss_entries == 0 && foreign * FOREIGN_PART > rx).then(|| {
            format!(
                "port {}: it spreads flows in a way of its own, and lcores hand over {foreign} of {rx} packets\n    \
                 a port with RSS (ports[].offloads.rss) brings them home; else as few workers as will do (dataplane.workers)\n",
                port.port
            )
        })
    }

    /// The same for programs.
    pub(crate) fn to_json(&self) -> Value {
        let lcores: Vec<_> = self.lcores.iter().map(Lcore::to_json).collect();
        let ports: Vec<_> = self
            .ports
            .iter()
            .map(|p| json!({ "port": p.port, "queues": p.queues, "rss_entries": p.rss_entries, "lost": p.lost }))
            .collect();
        json!({ "lcores": lcores, "ports": ports })
    }

    fn lcore(&mut self, name: &str) -> &mut Lcore {
        let at = self.lcores.iter().position(|l| l.lcore == name).unwrap_or_else(|| {
            self.lcores.push(Lcore { lcore: name.to_owned(), ..Lcore::default() });
            self.lcores.len() - 1
        });
        &mut self.lcores[at]
    }

    fn port(&mut self, port: &str) -> &mut Port {
        let at = self.ports.iter().position(|p| p.port == port).unwrap_or_else(|| {
            self.ports.push(Port { port: port.to_owned(), ..Port::default() });
            self.ports.len() - 1
        });
        &mut self.ports[at]
    }
}

impl Port {
    fn take(&mut self, number: &Named, grown: u64) {
        match number.name.strip_prefix("ferrogate_dpdk_port_").unwrap_or_default() {
            "queues" => self.queues = number.value,
            "rss_entries" => self.rss_entries = number.value,
            name if LOSSES.contains(&name) => _ = self.lost.insert(name.to_owned(), grown),
            _ => {}
        }
    }
}

impl Lcore {
    fn take(&mut self, number: &Named, grown: u64, reason: Option<&str>, below: Option<&str>) {
        // tidy: table
        match number.name.strip_prefix("ferrogate_dpdk_").unwrap_or_default() {
            "lcore_cpu" => self.cpu = Some(number.value),
            "lcore_flows" => self.flows = number.value,
            "lcore_busy_nanoseconds" => (self.busy, self.span) = (grown, self.span + grown),
            "lcore_idle_nanoseconds" => self.span += grown,
            "lcore_rx_packets" => self.rx_packets = grown,
            "lcore_tx_packets" => self.tx_packets = grown,
            "lcore_rx_bursts" => self.rx_bursts = grown,
            "lcore_requests" => self.requests = grown,
            "lcore_foreign_packets" => self.foreign = grown,
            "lcore_handed_over_frames" => self.handed_over = grown,
            "lcore_turns" => self.turns = grown,
            "lcore_empty_turns" => self.empty_turns = grown,
            "lcore_busy_turns" => {
                self.lengths.push((below.and_then(|b| b.parse().ok()).unwrap_or(f64::INFINITY), grown))
            }
            "dropped_frames" => _ = self.dropped.insert(reason.unwrap_or("?").to_owned(), grown),
            _ => {}
        }
    }

    fn busy_percent(&self) -> Option<f64> {
        ratio(self.busy, self.span).map(|share| share * 100.0)
    }

    fn empty_percent(&self) -> Option<f64> {
        ratio(self.empty_turns, self.turns).map(|share| share * 100.0)
    }

    /// Busy cycles for each of `n`.
    fn cycles_per(&self, n: u64) -> Option<f64> {
        let nanos = ratio(self.busy, n)?;
        (self.hertz > 0).then(|| nanos * float(self.hertz) / 1e9)
    }

    fn per_second(&self, n: u64) -> Option<f64> {
        ratio(n, self.span).map(|per_nano| per_nano * 1e9)
    }

    /// The mean length of a busy turn, in microseconds.
    fn turn_mean(&self) -> Option<f64> {
        ratio(self.busy, self.turns - self.empty_turns.min(self.turns)).map(|nanos| nanos / 1e3)
    }

    /// A bound in microseconds that 99 of 100 busy turns keep.
    fn turn_p99(&self) -> Option<f64> {
        let all: u64 = self.lengths.iter().map(|(_, n)| n).sum();
        let mut beyond = all;
        self.lengths.iter().filter(|_| all > 0).find_map(|(bound, n)| {
            beyond -= n;
            (beyond <= all / 100).then_some(*bound)
        })
    }

    fn row(&self) -> Vec<String> {
        let number =
            |value: Option<f64>, digits: usize| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.digits$}"));
        vec![
            self.lcore.clone(),
            self.cpu.map_or_else(|| "-".to_owned(), |cpu| cpu.to_string()),
            number(self.busy_percent(), 1),
            number(self.cycles_per(self.rx_packets + self.tx_packets), 0),
            number(self.cycles_per(self.requests), 0),
            number(ratio(self.rx_packets, self.rx_bursts), 1),
            number(self.empty_percent(), 1),
            number(self.turn_mean(), 1),
            number(self.turn_p99(), 0),
            number(self.per_second(self.rx_packets), 0),
            number(self.per_second(self.tx_packets), 0),
            number(self.per_second(self.foreign), 0),
            number(self.per_second(self.requests), 0),
            self.flows.to_string(),
            self.dropped.values().sum::<u64>().to_string(),
        ]
    }

    fn to_json(&self) -> Value {
        json!({
            "lcore": self.lcore,
            "cpu": self.cpu,
            "seconds": float(self.span) / 1e9,
            "busy_percent": self.busy_percent(),
            "cycles_per_packet": self.cycles_per(self.rx_packets + self.tx_packets),
            "cycles_per_request": self.cycles_per(self.requests),
            "nanoseconds_per_packet": ratio(self.busy, self.rx_packets + self.tx_packets),
            "nanoseconds_per_request": ratio(self.busy, self.requests),
            "packets_per_burst": ratio(self.rx_packets, self.rx_bursts),
            "empty_polls": self.empty_turns,
            "empty_polls_percent": self.empty_percent(),
            "turn_microseconds_mean": self.turn_mean(),
            "turn_microseconds_p99_below": self.turn_p99().filter(|p| p.is_finite()),
            "rx_packets": self.rx_packets,
            "tx_packets": self.tx_packets,
            "requests": self.requests,
            "foreign_packets": self.foreign,
            "handed_over_frames": self.handed_over,
            "flows": self.flows,
            "dropped": self.dropped,
        })
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| float(part) / float(whole))
}

#[allow(clippy::cast_precision_loss, reason = "for people to read")]
fn float(n: u64) -> f64 {
    n as f64
}

const HEAD: [&str; 15] = [
    "LCORE",
    "CPU",
    "BUSY%",
    "CYC/PKT",
    "CYC/REQ",
    "BURST",
    "EMPTY%",
    "TURN-us",
    "P99-us",
    "RX/s",
    "TX/s",
    "FOREIGN/s",
    "REQ/s",
    "FLOWS",
    "DROPPED",
];

/// One packet of so many may come to the wrong lcore without a word about it.
const FOREIGN_PART: u64 = 20;

/// The numbers of a port that tell of losses.
const LOSSES: [&str; 4] = ["rx_missed", "rx_no_mbuf", "rx_errors", "tx_errors"];

#[cfg(test)]
mod tests {
    use super::*;

    fn look(values: [u64; 10]) -> Vec<Named> {
        let lcore = |name: &str, more: &[(&str, &str)], value| {
            let labels = [("lcore", "0")].iter().chain(more).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            Named { name: format!("ferrogate_dpdk_{name}"), labels, value }
        };
        let [busy, idle, rx, bursts, requests, turns, empty, short, long, missed] = values;
        vec![
            Named { name: "ferrogate_dpdk_tsc_hertz".into(), labels: vec![], value: 2_000_000_000 },
            Named {
                name: "ferrogate_dpdk_port_rx_missed".into(),
                labels: vec![("port".into(), "net_ring0".into())],
                value: missed,
            },
            lcore("lcore_busy_nanoseconds", &[], busy),
            lcore("lcore_idle_nanoseconds", &[], idle),
            lcore("lcore_rx_packets", &[], rx),
            lcore("lcore_rx_bursts", &[], bursts),
            lcore("lcore_requests", &[], requests),
            lcore("lcore_turns", &[], turns),
            lcore("lcore_empty_turns", &[], empty),
            lcore("lcore_busy_turns", &[("below_microseconds", "2")], short),
            lcore("lcore_busy_turns", &[("below_microseconds", "inf")], long),
            lcore("dropped_frames", &[("reason", "checksum")], missed * 2),
            lcore("lcore_flows", &[], 7),
        ]
    }

    #[test]
    fn figures_are_of_the_interval() {
        let before = look([1000, 1000, 10, 1, 1, 10, 5, 5, 0, 1]);
        let after = look([251_000, 751_000, 1010, 101, 251, 1010, 905, 199, 1, 3]);
        let interval = Interval::between(&before, &after);
        let json = interval.to_json();
        let lcore = &json["lcores"][0];
        assert_eq!(lcore["busy_percent"], 25.0);
        assert_eq!((&lcore["cycles_per_packet"], &lcore["cycles_per_request"]), (&json!(500.0), &json!(2000.0)));
        assert_eq!((&lcore["packets_per_burst"], &lcore["empty_polls_percent"]), (&json!(10.0), &json!(90.0)));
        assert_eq!(
            (&lcore["turn_microseconds_mean"], &lcore["turn_microseconds_p99_below"]),
            (&json!(2.5), &json!(2.0))
        );
        assert_eq!((&lcore["flows"], &lcore["dropped"]["checksum"]), (&json!(7), &json!(4)));
        let port = json!({ "port": "net_ring0", "queues": 0, "rss_entries": 0, "lost": { "rx_missed": 2 } });
        assert_eq!(json["ports"][0], port);
        let table = interval.table();
        assert_eq!(table.lines().count(), 4, "{table}");
        assert!(table.contains("dropped, lcore 0: checksum 4\ndropped, port net_ring0: rx_missed 2\n"), "{table}");
        let row: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row[..9], ["0", "-", "25.0", "500", "2000", "10.0", "90.0", "2.5", "2"]);
    }

    /// Two lcores at a port with so many queues and entries, of which the first received 1,000 packets and handed over so many others.
    fn shared(queues: u64, rss_entries: u64, foreign: u64) -> Interval {
        let number = |name: &str, label: (&str, &str), value| {
            let labels = vec![(label.0.to_owned(), label.1.to_owned())];
            Named { name: format!("ferrogate_dpdk_{name}"), labels, value }
        };
        let (port, first, second) = (("port", "net_x0"), ("lcore", "0"), ("lcore", "1"));
        let after = [
            number("port_queues", port, queues),
            number("port_rss_entries", port, rss_entries),
            number("lcore_busy_nanoseconds", first, 1_000_000_000),
            number("lcore_rx_packets", first, 1000),
            number("lcore_foreign_packets", first, foreign),
            number("lcore_handed_over_frames", first, foreign + 1),
            number("lcore_rx_packets", second, foreign),
        ];
        Interval::between(&[], &after)
    }

    #[test]
    fn lcores_that_others_serve_are_told_of_with_what_mends_it() {
        let one = shared(1, 0, 500);
        let table = one.table();
        assert!(table.contains("port net_x0: 1 of 2 lcores have a queue pair"), "{table}");
        assert!(table.contains("qpairs=2") && table.contains("dataplane.workers: 1"), "{table}");
        let row: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!((HEAD[11], row[11]), ("FOREIGN/s", "500"));
        let json = one.to_json();
        assert_eq!(
            (&json["lcores"][0]["foreign_packets"], &json["lcores"][0]["handed_over_frames"]),
            (&json!(500), &json!(501))
        );
        assert_eq!(json["ports"][0]["queues"], 1);
        let table = shared(2, 0, 500).table();
        assert!(
            table.contains("spreads flows in a way of its own, and lcores hand over 500 of 1500 packets"),
            "{table}"
        );
        for well in [shared(2, 0, 10), shared(2, 128, 500), shared(0, 0, 500)] {
            assert_eq!(well.table().lines().count(), 3, "{}", well.table());
        }
    }

    #[test]
    fn an_lcore_that_did_nothing_has_no_figures_and_everything_is_since_the_beginning() {
        let quiet = look([5, 5, 1, 1, 1, 2, 1, 1, 0, 0]);
        let row = Interval::between(&quiet, &quiet).table();
        assert!(row.lines().nth(1).unwrap().contains("-"), "{row}");
        assert_eq!(Interval::between(&[], &quiet).to_json()["lcores"][0]["rx_packets"], 1);
    }
}
