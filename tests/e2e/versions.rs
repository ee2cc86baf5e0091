//! From each version of HTTP to each: the same message on the far side, and nothing in it that one version reads in another way.

use test_support::origin::raw_target;
use test_support::process::run;
use test_support::{Config, Gateway, Origin};

use crate::stage::{Plane, Stage, binary, on_both_planes};

on_both_planes! {
    messages_are_the_same_in_every_version,
    answers_that_could_be_read_in_two_ways_are_none,
}

/// What curl is told, the path, the start line that the origin is to see, and a field of what it sees.
type Row = (&'static [&'static str], &'static str, &'static str, (&'static str, Option<&'static str>));

/// The clients' version, by curl's word for it.
const CLIENTS: [&str; 2] = ["--http1.1", "--http2-prior-knowledge"];

/// An origin and the ways to it: asked in HTTP/1, and in HTTP/2 by way of a second gateway, which takes HTTP/2 and nothing else.
fn ways(plane: Plane, origin: &Origin) -> Option<[(Stage, Option<Gateway>); 2]> {
    let direct = plane.start(Config::proxy_to(&[origin.address()]).protocols("Auto"))?;
    let inner = Gateway::start(binary(), &Config::proxy_to(&[origin.address()]).protocols("Http2"));
    let config = Config::proxy_to(&[inner.listen.to_string()]).protocols("Auto").upstream_protocol("Http2");
    Some([(direct, None), (plane.start(config)?, Some(inner))])
}

fn curl(stage: &Stage, arguments: &[&str]) -> Result<String, String> {
    let mut command = stage.client_command("curl");
    run(command.args(["-sS", "--max-time", "20", "--noproxy", "*"]).args(arguments))
}

fn messages_are_the_same_in_every_version(plane: Plane) {
    let origin = Origin::start("one");
    let Some(ways) = ways(plane, &origin) else { return };
    let rows: [Row; 8] = [
        (&["-X", "PURGE"], "/a?b=c&d=%20", "PURGE /a?b=c&d=%20 HTTP/1.1", ("content-length", None)),
        (&["-H", "X-Mixed: A,  b"], "/", "GET / HTTP/1.1", ("x-mixed", Some("A,  b"))),
        (&["-H", "X-Empty;"], "/", "GET / HTTP/1.1", ("x-empty", Some(""))),
        (&["-H", "TE: trailers"], "/", "GET / HTTP/1.1", ("te", Some("trailers"))),
        (&["-H", "Cookie: a=1; b=2"], "/", "GET / HTTP/1.1", ("cookie", Some("a=1; b=2"))),
        (&["-H", "Host: other.example:81"], "/", "GET / HTTP/1.1", ("host", Some("other.example:81"))),
        (&["-d", "four"], "/", "POST / HTTP/1.1", ("content-length", Some("4"))),
        (&["-X", "POST"], "/", "POST / HTTP/1.1", ("content-length", Some("0"))),
    ];
    for client in CLIENTS {
        for (stage, inner) in &ways {
            let way = format!("{client}, then {}", if inner.is_some() { "HTTP/2" } else { "HTTP/1" });
            for (arguments, path, start, (name, value)) in &rows {
                let url = stage.url(path);
                let got = curl(stage, &[&[client, "-w", " %{http_code}"], *arguments, &[&url]].concat());
                assert_eq!(got.as_deref(), Ok("one 200"), "{way}: {arguments:?}");
                let head = origin.received().pop().expect("it came").head;
                assert_eq!((head.start.as_str(), head.get(name)), (*start, *value), "{way}: {arguments:?}: {head:?}");
            }
            for (path, status, body) in [("/status?code=404", 404, ""), ("/hints", 200, "hinted"), ("/http10", 200, "")]
            {
                let got = curl(stage, &[client, "-w", " %{http_code}", &stage.url(path)]).unwrap();
                assert!(got.ends_with(&format!(" {status}")) && got.starts_with(body), "{way}: {path}: {got}");
            }
        }
    }
}

/// What an origin of HTTP/1 must not say, for clients of both versions; what one of HTTP/2 must not is a test of raw frames.
fn answers_that_could_be_read_in_two_ways_are_none(plane: Plane) {
    let origin = Origin::start("one");
    let Some(ways) = ways(plane, &origin) else { return };
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n".repeat(17);
    let ok = "HTTP/1.1 200 OK\r\n";
    let answers = [
        ("both lengths", format!("{ok}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")),
        ("two lengths", format!("{ok}Content-Length: 2\r\nContent-Length: 3\r\n\r\nok")),
        ("NUL in a value", format!("{ok}X: a\0b\r\nContent-Length: 2\r\n\r\nok")),
        ("a bare CR in a value", format!("{ok}X: a\rY: b\r\nContent-Length: 2\r\n\r\nok")),
        ("a space before the colon", format!("{ok}X : a\r\nContent-Length: 2\r\n\r\nok")),
        ("a pseudo-header field", format!("{ok}:status: 500\r\nContent-Length: 2\r\n\r\nok")),
        ("a folded line", format!("{ok}X: a\r\n b\r\nContent-Length: 2\r\n\r\nok")),
        (
            "a switch that nobody asked for",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n".to_owned(),
        ),
        ("interim answers without end", format!("{interim}{ok}Content-Length: 2\r\n\r\nok")),
    ];
    for client in CLIENTS {
        for (stage, _) in &ways {
            for (what, bytes) in &answers {
                let url = stage.url(&raw_target(bytes.as_bytes(), "keep"));
                let got = curl(stage, &[client, "-o", "/dev/null", "-w", "%{http_code}", &url]);
                assert_eq!(got.as_deref(), Ok("502"), "{client}: {what}");
            }
            // Bytes behind an answer are nobody's.
            let surplus = format!("{ok}Content-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
            let url = stage.url(&raw_target(surplus.as_bytes(), "keep"));
            assert_eq!(curl(stage, &[client, &url]).as_deref(), Ok("ok"), "{client}");
            assert_eq!(curl(stage, &[client, &stage.url("/")]).as_deref(), Ok("one"), "{client}");
        }
    }
}
