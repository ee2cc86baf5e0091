//! What an operator looks at a running DPDK plane with: lcores, flows, captures, and what is left of them after a crash.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use test_support::process::Process;
use test_support::temp::TempDir;
use test_support::{Config, Gateway, Origin, skip, wait_until};

use crate::stage::{Plane, Stage, binary};

fn verb(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).stdin(Stdio::null()).output().expect("the binary runs")
}

/// What a verb prints when it succeeds.
fn told(arguments: &[&str]) -> String {
    let output = verb(arguments);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

fn json(arguments: &[&str]) -> Value {
    let text = told(arguments);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{arguments:?}: {e}\n{text}"))
}

/// What it says when it fails.
fn refused(arguments: &[&str]) -> String {
    let output = verb(arguments);
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of the test")
}

/// A gateway on a port in front of an origin, with these keys.
fn on_a_port(origin: &Origin, dpdk: &[String], extra: &str) -> Option<Stage> {
    let config = Config::proxy_to(&[origin.address()]).extra(extra);
    Plane::AfPacket.start(dpdk.iter().fold(config, |config, line| config.dpdk(line)))
}

/// What tshark prints of a file. None, and a skipped row, where there is no tshark.
fn tshark(file: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("tshark");
    let output = command.args(["-n", "-r"]).arg(file).args(arguments).output();
    let Ok(output) = output else {
        skip!("e2e-tshark", "tshark is not installed");
        return None;
    };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // What it has to say of the user that it runs as is no matter; a file that it can't read to its end is.
    assert!(output.status.success() && !err.contains("damaged") && !err.contains("cut short"), "{err}");
    Some(out.into_owned())
}

#[test]
fn lcores_shows_an_interval_and_after_a_crash_all_of_it() {
    let (origin, folder) = (Origin::start("a"), TempDir::new());
    let file = folder.path().join("statistics");
    let Some(mut stage) = on_a_port(&origin, &[format!("statistics_file: {}", file.display())], "") else { return };
    let (config, admin) = (stage.gateway.file().to_owned(), stage.gateway.admin.to_string());
    let mut client = stage.client();
    client.get("/one");
    // From the segment, and by the admin API: two looks with requests in between.
    for source in [["--config", text(&config)], ["--admin", &admin]] {
        let mut watch = Command::new(binary());
        let watch = watch.args(["lcores", "--json", "--watch", "--interval", "0.3"]).args(source);
        let watch = Process::start(watch);
        wait_until("an interval with requests is shown", || {
            client.get("/busy");
            let output = watch.output();
            let shown = |line: &str| serde_json::from_str::<Value>(line).ok();
            output.lines().filter_map(shown).any(|look| {
                let lcore = &look["lcores"][0];
                let is = |key: &str| lcore[key].as_f64().is_some_and(|n| n > 0.0);
                let figures = [
                    "busy_percent",
                    "cycles_per_packet",
                    "cycles_per_request",
                    "packets_per_burst",
                    "empty_polls_percent",
                ];
                is("requests")
                    && is("rx_packets")
                    && is("turn_microseconds_p99_below")
                    && figures.iter().all(|key| is(key))
            })
        });
    }
    let table = told(&["lcores", "-c", text(&config), "-i", "0.2"]);
    assert!(table.starts_with("LCORE") && table.lines().count() >= 2, "{table}");
    let requests = stage.gateway.metric("ferrogate_dpdk_lcore_requests_total", "lcore=\"0\"");
    assert!(requests >= 2.0);
    // Ten times a second.
    wait_until("the segment has them all", || read_requests(&file) >= requests);
    stage.gateway.process.signal("KILL");
    stage.gateway.process.wait();
    let left = json(&["lcores", "--json", "--segment", text(&file)]);
    assert!(left["lcores"][0]["requests"].as_f64() >= Some(requests), "{left}");
    assert!(
        left["lcores"][0]["dropped"]["checksum"].is_u64() && left["ports"][0]["lost"]["rx_missed"].is_u64(),
        "{left}"
    );
}

/// The requests that a segment holds, whatever its process does: the copy of a file has no process that could be asked.
fn read_requests(segment: &Path) -> f64 {
    let bytes = std::fs::read(segment).expect("the segment is there");
    let word = |at: usize| u64::from_ne_bytes(bytes[at * 8..at * 8 + 8].try_into().expect("eight bytes"));
    let size = |at: usize| usize::try_from(word(at)).expect("a size");
    let directory: Value = serde_json::from_slice(&bytes[64..64 + size(5)]).expect("the directory is JSON");
    let entries = directory.as_array().expect("a list");
    let at = entries.iter().position(|entry| entry["name"] == "ferrogate_dpdk_lcore_requests").expect("it is counted");
    word(size(7) + at) as f64
}

#[test]
fn lcores_says_what_it_can_not_show() {
    let origin = Origin::start("a");
    let gateway = Gateway::start(binary(), &Config::proxy_to(&[origin.address()]));
    let admin = gateway.admin.to_string();
    assert!(refused(&["lcores", "--admin", &admin]).contains("runs on the kernel plane, which has no lcores"));
    assert!(refused(&["flows", "--admin", &admin]).contains("the kernel plane has no /api/v1/flows"));
    assert!(refused(&["capture", "--admin", &admin]).contains("the kernel plane has no /api/v1/capture"));
    assert!(refused(&["lcores", "--segment", "/nonexistent"]).contains("/nonexistent"));
    let folder = TempDir::new();
    let other = folder
        .write("other", "no segment at all, but long enough to be one: there are more than sixty-four bytes here");
    assert!(refused(&["lcores", "--segment", text(&other)]).contains("no statistics segment"));
    assert!(refused(&["capture", "--from", text(&other)]).contains("no flight recorder's file"));
    assert!(refused(&["lcores"]).contains("--config FILE or --admin ADDRESS"));
}

#[test]
fn flows_lists_the_table_by_what_is_asked_for() {
    let origin = Origin::start("a");
    let Some(stage) = on_a_port(&origin, &[], "") else { return };
    let admin = stage.gateway.admin.to_string();
    let mut clients: Vec<_> = (0..5).map(|_| stage.client()).collect();
    clients.iter_mut().for_each(|client| _ = client.get("/x"));
    let flows = |more: &[&str]| json(&[&["flows", "--json", "--admin", &admin][..], more].concat());
    let port = stage.address.port().to_string();
    let all = flows(&["--listener", "http", "--state", "established"]);
    assert_eq!((all["matched"].as_u64(), all["flows"].as_array().map(Vec::len)), (Some(5), Some(5)), "{all}");
    for flow in all["flows"].as_array().into_iter().flatten() {
        let peer = flow["peer"].as_str().unwrap_or_default();
        assert!(
            peer.starts_with("198.18.0.2:") && flow["local"].as_str().is_some_and(|l| l.ends_with(&port)),
            "{flow}"
        );
        assert!(
            flow["opened_by"] == "peer" && flow["rx_bytes"].as_u64() > Some(20) && flow["tx_bytes"].as_u64() > Some(20),
            "{flow}"
        );
    }
    let one = all["flows"][0]["peer"].as_str().and_then(|peer| peer.rsplit(':').next()).expect("a port").to_owned();
    assert_eq!(flows(&["--port", &one])["matched"], 1);
    let few = flows(&["--limit", "2", "--address", "198.18.0.0/24"]);
    assert_eq!((few["matched"].as_u64(), few["flows"].as_array().map(Vec::len)), (Some(5), Some(2)), "{few}");
    for none in [
        ["--address", "10.0.0.1"],
        ["--age", "1000"],
        ["--idle", "1000"],
        ["--bytes", "100000000"],
        ["--state", "syn-sent"],
    ] {
        assert_eq!(flows(&none)["matched"], 0, "{none:?}");
    }
    assert!(told(&["flows", "--admin", &admin]).contains("5 shown of 5 that match, 5 open"));
    assert!(refused(&["flows", "--admin", &admin, "--state", "open"]).contains("a state of TCP"));
    assert!(refused(&["flows", "--admin", &admin, "--listener", "nobody"]).contains("there is no listener \"nobody\""));
    clients.clear();
    wait_until("they are gone", || flows(&["--state", "established"])["matched"] == 0);
}

#[test]
fn a_capture_is_opened_by_tshark() {
    let (origin, folder) = (Origin::start("a"), TempDir::new());
    let Some(stage) = on_a_port(&origin, &[], "control: {capture: true}\n") else { return };
    let (admin, port) = (stage.gateway.admin.to_string(), stage.address.port().to_string());
    let file = folder.path().join("capture.pcapng");
    let mut command = Command::new(binary());
    command.args(["capture", "--admin", &admin, "-n", "30", "--write"]).arg(&file);
    let mut capture = Process::start(command.args(["tcp", "port", &port, "and", "host", "198.18.0.2"]));
    let mut client = stage.client();
    wait_until("so many frames have come", || {
        client.get("/captured");
        capture.ended().is_some()
    });
    assert!(capture.wait().success(), "{}", capture.output());
    let decode = format!("tcp.port=={port},http");
    let Some(requests) =
        tshark(&file, &["-d", &decode, "-Y", "http.request", "-T", "fields", "-e", "http.request.uri"])
    else {
        return;
    };
    assert!(requests.lines().any(|uri| uri == "/captured"), "{requests}");
    let count = |filter: &str| {
        tshark(&file, &["-Y", filter, "-T", "fields", "-e", "frame.number"]).unwrap_or_default().lines().count()
    };
    assert_eq!((count("frame"), count("not tcp")), (30, 0));
    let (inbound, outbound) = (count("frame.packet_flags_direction == 1"), count("frame.packet_flags_direction == 2"));
    assert!(inbound > 0 && outbound > 0 && inbound + outbound == 30, "{inbound} in, {outbound} out");
    assert_eq!(count(&format!("tcp.dstport == {port} and frame.packet_flags_direction == 2")), 0);
    let interfaces = tshark(&file, &["-c", "1", "-T", "fields", "-e", "frame.interface_name"]).unwrap_or_default();
    assert!(interfaces.starts_with("net_af_packet0"), "{interfaces}");
}

#[test]
fn frames_are_for_those_who_may_see_them_and_filters_are_checked() {
    let origin = Origin::start("a");
    let Some(stage) = on_a_port(&origin, &[], "") else { return };
    let admin = stage.gateway.admin.to_string();
    let why = refused(&["capture", "--admin", &admin]);
    assert!(why.contains("403") && why.contains("control.capture: true"), "{why}");
    assert!(refused(&["capture", "--admin", &admin, "tcp", "prot", "80"]).contains("at `prot`"));
}

#[test]
fn the_flight_recorder_survives_a_crash() {
    let (origin, folder) = (Origin::start("a"), TempDir::new());
    let file = folder.path().join("flight");
    let keys = [format!("recorder_file: {}", file.display()), "recorder_frames: 64".to_owned()];
    let Some(mut stage) = on_a_port(&origin, &keys, "") else { return };
    let port = stage.address.port().to_string();
    let mut client = stage.client();
    for n in 0..100 {
        client.get(&format!("/{n}"));
    }
    stage.gateway.process.signal("KILL");
    stage.gateway.process.wait();
    let out = folder.path().join("flight.pcapng");
    told(&["capture", "--from", text(&file), "tcp", "port", &port, "--write", text(&out)]);
    let decode = format!("tcp.port=={port},http");
    let Some(requests) =
        tshark(&out, &["-d", &decode, "-Y", "tcp.len > 0", "-T", "fields", "-e", "tcp.srcport", "-e", "frame.cap_len"])
    else {
        return;
    };
    let lines: Vec<_> = requests.lines().collect();
    assert!((20..=64).contains(&lines.len()), "{requests}");
    assert!(
        lines.iter().all(|line| line.split('\t').nth(1).and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n <= 104)),
        "{requests}"
    );
    let head = tshark(&out, &["-T", "fields", "-e", "tcp.payload"]).unwrap_or_default();
    assert!(head.contains("474554202f3939"), "GET /99 is among the last\n{head}");
    assert!(!head.contains("474554202f3020"), "GET /0 is long gone\n{head}");
}
