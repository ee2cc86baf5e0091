//! Access logs: a line for every request, true in what it says, in text and in JSON, also when it is moved away or its disk is slow.

use std::fs;
use std::path::Path;

use test_support::temp::TempDir;
use test_support::{Config, Origin, wait_until};

use crate::stage::{Plane, on_both_planes};

on_both_planes! {
    a_line_tells_the_request,
}

/// The lines of a log, once there are so many.
fn lines(path: &Path, count: usize) -> Vec<String> {
    let mut lines = Vec::new();
    wait_until("the lines are written", || {
        lines = fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect();
        lines.len() >= count
    });
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines
}

fn with_log(origin: &Origin, path: &Path, more: &str) -> Config {
    let path = path.display();
    Config::proxy_to(&[origin.address()]).listener(&format!("access_logs: [{{log_path: \"{path}\"{more}}}]"))
}

fn a_line_tells_the_request(plane: Plane) {
    let origin = Origin::start("one");
    let folder = TempDir::new();
    let log = folder.path().join("a/access.log");
    let format = "%request_method% %request_path_original% %response_code% %bytes_received% %bytes_sent% %upstream_host% \
                  %upstream_cluster% \\\"%request_header_User-Agent%\\\" %response_header_server% %response_flags% %downstream_remote_address%";
    let config = with_log(&origin, &log, &format!(", log_format: \"{format}\""));
    let Some(stage) = plane.start(config) else { return };
    let mut client = stage.client();
    assert_eq!(client.ask("GET", "/status?code=404", "User-Agent: a \"b\\c\r\n", b"").status, 404);
    assert_eq!(client.ask("POST", "/echo", "", b"hello").text(), "hello");
    let host = origin.address();
    let lines = lines(&log, 2);
    assert!(lines[0].starts_with("GET /status 404 0 "), "{}", lines[0]);
    assert!(lines[0].contains(&format!(" {host} origins \"a \\x22b\\x5Cc\" ")), "{}", lines[0]);
    assert!(lines[1].starts_with("POST /echo 200 5 5 "), "{}", lines[1]);
    assert!(lines[1].contains(" \"-\" "), "no User-Agent was sent: {}", lines[1]);
    stage.gateway.stop();
}

/// Streaming bodies in both directions, and what is written when the gateway ends.
#[test]
fn bytes_are_counted_and_the_end_loses_nothing() {
    let origin = Origin::start("one");
    let folder = TempDir::new();
    let log = folder.path().join("access.log");
    let config = with_log(&origin, &log, ", log_format: \"%bytes_received% %bytes_sent% %request_received_duration%\"");
    let stage = Plane::Kernel.start(config.workers(2)).expect("always there");
    let body = vec![b'x'; 3 << 20];
    assert_eq!(stage.client().ask("POST", "/echo", "", &body).body.len(), body.len());
    let mut chunked = stage.client();
    chunked.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n").unwrap();
    assert_eq!(chunked.answer_to("POST").text(), "abc");
    stage.gateway.stop();
    let lines = fs::read_to_string(&log).unwrap();
    assert!(lines.contains(&format!("{0} {0} ", body.len())), "{lines}");
    assert!(lines.contains("3 3 "), "{lines}");
}

#[test]
fn json_lines_are_json() {
    let origin = Origin::start("one");
    let folder = TempDir::new();
    let log = folder.path().join("access.log");
    let stage = Plane::Kernel.start(with_log(&origin, &log, ", json: true")).expect("always there");
    let mut client = stage.client();
    assert_eq!(client.ask("GET", "/x?\"=1", "X-A: b\r\n", b"").status, 200);
    let line = lines(&log, 1).remove(0);
    let value: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
    assert_eq!((&value["response_code"], &value["request_path_original"]), (&200.into(), &"/x".into()), "{line}");
    assert!(value["duration"].as_f64().is_some_and(|d| d > 0.0 && d < 60.0), "{line}");
    assert_eq!(value["response_flags"], serde_json::Value::Null, "{line}");
    assert_eq!(value["upstream_host"].as_str(), Some(origin.address().as_str()), "{line}");
}

/// A field value with bytes of every kind, a request that is none, a host that is not there, a client that leaves.
#[test]
fn failures_have_lines_too() {
    let folder = TempDir::new();
    let log = folder.path().join("access.log");
    let origin = Origin::start("one");
    let format = ", log_format: \"%response_code% %response_flags% %upstream_transport_failure_reason%\"";
    let dead = test_support::ports::free_address().to_string();
    let path = log.display();
    let config = Config::proxy_to(&[dead]).listener(&format!("access_logs: [{{log_path: \"{path}\"{format}}}]"));
    let stage = Plane::Kernel.start(config).expect("always there");
    let mut client = stage.client();
    assert_eq!(client.get("/").status, 502);
    client.send(b"nonsense\r\n\r\n").unwrap();
    assert_eq!(client.answer_to("GET").status, 400);
    let found = lines(&log, 2);
    assert!(found[0].starts_with("502 UF the connection could not be opened: "), "{found:?}");
    assert_eq!(found[1], "400 - -");
    drop(stage);
    let stage = Plane::Kernel.start(with_log(&origin, &log, format)).expect("always there");
    let mut client = stage.client();
    client.send(b"GET /stall HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    origin.wait_for_requests(1);
    test_support::wire::Wire::from(client).reset();
    assert_eq!(lines(&log, 3)[2], "0 DC -");
}

/// A unix socket that never bound has no address, on either side.
#[test]
fn what_has_no_address_is_none() {
    let folder = TempDir::new();
    let (log, socket) = (folder.path().join("access.log"), folder.path().join("gateway.sock"));
    let origin = Origin::start_unix("unix", &folder.path().join("origin.sock"));
    let config =
        with_log(&origin, &log, ", log_format: '%downstream_remote_address% %upstream_local_address% %upstream_host%'");
    let text = config.text().replace(&config.listen.to_string(), &format!("unix:{}", socket.display()));
    let _gateway = test_support::Gateway::start(crate::stage::binary(), &config.verbatim(&text));
    let stream = std::os::unix::net::UnixStream::connect(&socket).expect("the gateway listens there");
    assert_eq!(test_support::Client::over(test_support::Wire::unix(stream)).get("/").text(), "unix");
    assert_eq!(lines(&log, 1), [format!("- - unix:{}/origin.sock", folder.path().display())]);
}

/// What logrotate does: move the file away, send USR1.
#[test]
fn the_log_is_opened_again() {
    let origin = Origin::start("one");
    let folder = TempDir::new();
    let (log, moved) = (folder.path().join("access.log"), folder.path().join("moved.log"));
    let stage = Plane::Kernel.start(with_log(&origin, &log, ", log_format: \"%request_path%\"")).expect("always there");
    let mut client = stage.client();
    client.get("/before");
    lines(&log, 1);
    fs::rename(&log, &moved).unwrap();
    client.get("/moved");
    lines(&moved, 2);
    stage.gateway.process.signal("USR1");
    wait_until("the file is there again", || log.exists());
    client.get("/after");
    assert_eq!(lines(&log, 1), ["/after"]);
}

/// A log that can't be written is told at the start, by its path.
#[test]
fn a_log_that_cant_be_opened_stops_the_start() {
    let origin = Origin::start("one");
    let folder = TempDir::new();
    let path = folder.write("file", "").join("below");
    let exited = test_support::Gateway::refused(crate::stage::binary(), &with_log(&origin, &path, "").text());
    assert_eq!(exited.status.code(), Some(1));
    assert!(exited.output.contains("file/below") && exited.output.contains("can't be opened"), "{}", exited.output);
}
