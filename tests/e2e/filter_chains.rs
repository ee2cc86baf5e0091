//! Several filter chains of one listener: by the name that a client asks for, what it offers, whether it speaks TLS, and where it comes from.

use std::net::IpAddr;
use std::process::Command;

use test_support::certs::Pair;
use test_support::process::run;
use test_support::{Client, Config, Origin, Wire, wait_until};

use crate::stage::{Plane, Stage, on_both_planes};

on_both_planes! {
    each_client_gets_its_chain,
    a_reload_changes_chains,
}

/// A chain: its filter, and its further keys.
#[derive(Clone)]
struct Chain {
    filter: String,
    keys: Vec<String>,
}

/// Chains as they stand behind `filters:` of the first one.
fn text(chains: &[Chain]) -> String {
    let (first, further) = chains.split_first().expect("a first chain");
    let mut text = first.filter.clone();
    for key in &first.keys {
        text += &format!("\n            {key}");
    }
    for Chain { filter, keys } in further {
        let keys: String = keys.iter().map(|key| format!("{key}, ")).collect();
        text += &format!("\n          - {{{keys}filters: [{filter}]}}");
    }
    text
}

fn proxy(protocols: &str, keys: &[&str]) -> Chain {
    let filter = format!("{{type: proxy, config: {{downstream_protocol: \"{protocols}\", router_config_name: web}}}}");
    Chain { filter, keys: keys.iter().map(|&key| key.to_owned()).collect() }
}

fn relay(cluster: &str, keys: &[&str]) -> Chain {
    let filter = format!("{{type: tcp_proxy, config: {{cluster: {cluster}}}}}");
    Chain { filter, keys: keys.iter().map(|&key| key.to_owned()).collect() }
}

fn tls(pair: &Pair, alpn: &str) -> String {
    let (certificate, key) = (pair.certificate.display(), pair.key.display());
    format!("tls_context: {{status: true, cert_chain: \"{certificate}\", private_key: \"{key}\", alpn: \"{alpn}\"}}")
}

/// What a client is answered that asks for a name in TLS.
fn ask(stage: &Stage, pair: &Pair, name: &str, arguments: &[&str]) -> Result<String, String> {
    let port = stage.address.port();
    let mut command = stage.client_command("curl");
    command.args(["-sS", "--max-time", "20", "--noproxy", "*", "--cacert"]).arg(&pair.certificate);
    command.args(["--resolve", &format!("{name}:{port}:{}", stage.address.ip())]).args(arguments);
    run(command.arg(format!("https://{name}:{port}/")))
}

fn each_client_gets_its_chain(plane: Plane) {
    let (one, two, three) = (Origin::start("one"), Origin::start("two"), Origin::start("three"));
    let (a, b) = (Pair::for_names(&["a.example"]), Pair::for_names(&["x.b.example", "b.example"]));
    let config = Config::proxy_to(&[one.address()])
        .more_origins("second", &[two.address()])
        .more_origins("third", &[three.address()])
        .listener("listener_filters: [{type: tls_inspector}]");
    let chains = [
        proxy("Http1", &["filter_chain_match: {server_names: [a.example]}", &tls(&a, "http/1.1")]),
        relay("second", &["name: b", "filter_chain_match: {server_names: [\"*.b.example\"]}", &tls(&b, "")]),
        proxy(
            "Http2",
            &["filter_chain_match: {server_names: [\"*.b.example\"], application_protocols: [h2]}", &tls(&b, "h2")],
        ),
        relay("third", &["name: clear", "filter_chain_match: {transport_protocol: raw_buffer}"]),
    ];
    let Some(stage) = plane.start(config.filter(&text(&chains))) else { return };
    let http1 = &["--http1.1"][..];
    assert_eq!(ask(&stage, &a, "a.example", http1).as_deref(), Ok("one"));
    // curl offers http/1.1 by ALPN when it is told to speak that alone; only a client that offers h2 is for the third chain.
    assert_eq!(ask(&stage, &b, "x.b.example", http1).as_deref(), Ok("two"));
    let second = &["--http2", "-w", " by %{http_version}"][..];
    assert_eq!(ask(&stage, &b, "x.b.example", second).as_deref(), Ok("one by 2"));
    assert_eq!(stage.client().get("/").text(), "three");
    // `b.example` is none of `*.b.example`, and no chain is for all.
    assert!(ask(&stage, &b, "b.example", http1).is_err());
    let listener = |name: &str, label: &str| {
        stage.gateway.metric(&format!("ferrogate_listener_{name}"), &format!("listener=\"{label}\"")).round()
    };
    assert_eq!(listener("connection_refused_total", "http"), 1.0);
    assert_eq!(listener("request_total", "http"), 1.0, "the first chain is the listener itself");
    assert_eq!(listener("request_total", "http[2]"), 1.0);
    let relayed = |label: &str| listener("relay_bytes_read_total", label);
    wait_until("what is relayed is counted", || relayed("http/b") > 0.0 && relayed("http/clear") > 0.0);
}

fn a_reload_changes_chains(plane: Plane) {
    let (one, two) = (Origin::start("one"), Origin::start("two"));
    let config = Config::proxy_to(&[one.address()])
        .more_origins("second", &[two.address()])
        .listener("listener_filters: [{type: tls_inspector}]");
    let all = relay("origins", &[]);
    let clear = relay("second", &["filter_chain_match: {transport_protocol: raw_buffer}"]);
    let tls = relay("second", &["filter_chain_match: {transport_protocol: tls}"]);
    let before = text(std::slice::from_ref(&all));
    let Some(stage) = plane.start(config.filter(&before)) else { return };
    let answer = || stage.client().get("/").text();
    let mut kept = stage.client();
    assert_eq!((answer().as_str(), kept.get("/").text().as_str()), ("one", "one"));
    let file = std::fs::read_to_string(stage.gateway.file()).expect("the file");
    let change_to = |chains: &[Chain]| {
        stage.gateway.rewrite(&file.replace(&before, &text(chains)));
        stage.gateway.reload().expect("it is good");
    };
    change_to(&[all.clone(), clear]);
    wait_until("the closer chain is taken", || answer() == "two");
    assert_eq!(kept.get("/").text(), "one", "who is in stays where it is");
    change_to(&[all, tls]);
    wait_until("the chain for all is taken", || answer() == "one");
}

#[test]
fn clients_are_told_apart_by_where_they_come_from() {
    let (one, two) = (Origin::start("one"), Origin::start("two"));
    let config = Config::proxy_to(&[one.address()]).more_origins("second", &[two.address()]);
    let ranges = "filter_chain_match: {source_prefix_ranges: [{address_prefix: 127.0.7.0, prefix_len: 24}]}";
    let config = config.filter(&text(&[relay("origins", &[]), relay("second", &[ranges])]));
    let stage = Plane::Kernel.start(config).expect("always there");
    for (ip, expected) in [([127, 0, 7, 9], "two"), ([127, 0, 8, 9], "one")] {
        let port = stage.address.port().to_string();
        let from = IpAddr::from(ip).to_string();
        let url = format!("http://127.0.0.1:{port}/");
        let answer =
            run(Command::new("curl").args(["-sS", "--max-time", "20", "--noproxy", "*", "--interface", &from, &url]));
        assert_eq!(answer.as_deref(), Ok(expected), "{from}");
    }
}

/// A filter before the chains is asked once, and what it says counts for the choice.
#[test]
fn a_proxy_header_decides_which_chain() {
    let (one, two) = (Origin::start("one"), Origin::start("two"));
    let config = Config::proxy_to(&[one.address()])
        .more_origins("second", &[two.address()])
        .listener("listener_filters: [{type: proxy_protocol}]");
    let chains = [
        relay("origins", &["filter_chain_match: {destination_port: 80}"]),
        relay("second", &["filter_chain_match: {destination_port: 81, source_ports: [7]}"]),
    ];
    let stage = Plane::Kernel.start(config.filter(&text(&chains))).expect("always there");
    for (ports, expected) in [("6 80", Some("one")), ("7 81", Some("two")), ("8 81", None), ("7 82", None)] {
        let mut client = Client::over(Wire::tcp(std::net::TcpStream::connect(stage.address).expect("it listens")));
        let header = format!("PROXY TCP4 192.0.2.1 192.0.2.2 {ports}\r\n");
        client.send(header.as_bytes()).expect("it is taken");
        let answer = client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").and_then(|()| client.try_answer_to("GET"));
        assert_eq!(answer.ok().map(|answer| answer.text()).as_deref(), expected, "{ports}");
    }
}
