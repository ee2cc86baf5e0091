//! What an access log costs the worker for each request: rendering a line into its buffer, and handing full buffers over.

mod counting;

use std::hint::black_box;
use std::rc::Rc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ferrogate_core::config::Config;
use ferrogate_core::message::{Body, Downstream, Exchange, Head, HttpHead, Request, next_conn_id};
use ferrogate_core::proxy::AccessLogs;
use ferrogate_core::telemetry::log_thread::LogThread;
use tokio::time::Instant;

fn lines(c: &mut Criterion) {
    let mut group = c.benchmark_group("access_log");
    for (name, format) in [
        ("default", String::new()),
        ("one_field", ", log_format: \"%response_code%\"".into()),
        ("combined", ", log_format: '%downstream_remote_address% [%start_time%] \"%request_method% %request_uri%\" %response_code% %bytes_sent% \"%request_header_referer%\" \"%request_header_user-agent%\" %duration%'".to_owned()),
        ("json", ", json: true".into()),
    ] {
        let text = format!(
            "servers: [{{listeners: [{{address: :1, access_logs: [{{log_path: /dev/null{format}}}], \
             routers: [{{direct_response: {{status: 200}}}}]}}]}}]"
        );
        let (config, _) = Config::parse(&text, "bench").expect("the file is good");
        let thread = LogThread::start().expect("a thread can be made");
        let logs = AccessLogs::of(&config.server.listeners[0], &thread.queue(), usize::MAX).expect("it has a log");
        let x = exchange();
        counting::bench(&mut group, BenchmarkId::new("line", name), || logs.write(black_box(&x), Instant::now()));
    }
}

/// A request as browsers send it, answered by an origin.
fn exchange() -> Exchange {
    let mut head = HttpHead::request("GET", b"/assets/app.js?v=20260101");
    for (name, value) in [
        ("host", "shop.example.com"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        ("accept", "*/*"),
        ("accept-language", "en-US,en;q=0.5"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("referer", "https://shop.example.com/cart"),
        ("cookie", "session=0123456789abcdef0123456789abcdef"),
    ] {
        assert!(head.append(name, value.as_bytes()));
    }
    let peer = "203.0.113.7:51234".parse().expect("an address");
    let local = "192.0.2.1:443".parse().expect("an address");
    let downstream = Rc::new(Downstream::new(next_conn_id(), peer, local, true));
    let mut x = Exchange::new(Request { head: Head::Http(head), body: Body::Empty }, downstream);
    (x.status, x.bytes_sent, x.attempts, x.upstream_conn) = (200, 48_123, 1, next_conn_id());
    x.upstream_host = Some("10.0.0.17:8080".into());
    (x.request_sent, x.response_received) = (Some(Instant::now()), Some(Instant::now()));
    x
}

criterion_group!(benches, lines);
criterion_main!(benches);
