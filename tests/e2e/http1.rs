//! HTTP/1.1 as a client and an origin see it: what is passed on, what is not, and how connections are used.

use test_support::wire::Length;
use test_support::{Config, Origin, wait_until};

use crate::stage::{Plane, on_both_planes};

on_both_planes! {
    a_request_is_answered,
    connections_are_kept_on_both_sides,
    a_close_takes_nothing_of_the_answer,
    pipelined_requests_are_answered_in_order,
    a_request_may_come_byte_by_byte,
    heads_pass_unchanged,
    hop_by_hop_fields_stay_here,
    http10_clients_are_served,
    an_http10_origin_is_passed_on,
    heads_without_bodies,
    interim_answers_pass,
    expectations_pass,
    connect_tunnels,
    absolute_targets_and_asterisks,
}

fn a_request_is_answered(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let answer = stage.client().get("/");
    assert_eq!((answer.status, answer.text().as_str()), (200, "one"));
    assert_eq!(answer.head.get("x-origin"), Some("one"));
    assert_eq!(origin.only_request().get("host"), Some("test.example"));
    assert!(stage.client().get("/").status == 200, "a second connection is served too");
}

fn connections_are_kept_on_both_sides(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let mut client = stage.client();
    for n in 0..20 {
        let body = format!("body {n}");
        assert_eq!(client.ask("POST", "/echo", "", body.as_bytes()).text(), body);
    }
    assert_eq!(origin.conns(), 1, "one connection to the origin carries them all");
    let answer = client.ask("GET", "/", "Connection: close\r\n", b"");
    assert_eq!(answer.head.get("connection").map(str::to_lowercase).as_deref(), Some("close"));
    assert!(client.is_closed());
    let origin_saw_close = origin.received().iter().any(|r| r.head.get("connection") == Some("close"));
    assert!(!origin_saw_close, "the client's close is the client's own");
    assert_eq!(stage.client().get("/").status, 200);
    assert_eq!(origin.conns(), 1, "another client's request goes over the same connection");
}

/// The client says that it sends no more, and may even do so.
fn a_close_takes_nothing_of_the_answer(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    for behind in ["", "GET /never HTTP/1.1\r\nHost: a\r\n\r\n"] {
        for bytes in [0, 100, 4 << 20] {
            let mut client = stage.client();
            let request = format!("GET /big?bytes={bytes} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n{behind}");
            client.send(request.as_bytes()).unwrap();
            let answer = client.answer_to("GET");
            assert_eq!((answer.status, answer.body.len()), (200, bytes), "{behind:?}");
            assert!(client.is_closed());
        }
    }
    assert!(!origin.received().iter().any(|r| r.head.start.contains("/never")));
}

fn pipelined_requests_are_answered_in_order(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let mut client = stage.client();
    let mut all = String::new();
    for n in 0..50 {
        let body = format!("number {n}");
        all += &format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    }
    client.send(all.as_bytes()).unwrap();
    for n in 0..50 {
        assert_eq!(client.answer_to("POST").text(), format!("number {n}"));
    }
}

fn a_request_may_come_byte_by_byte(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let mut client = stage.client();
    let request =
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    for byte in request.as_bytes() {
        client.send(&[*byte]).unwrap();
    }
    assert_eq!(client.answer_to("POST").text(), "abcde");
    assert_eq!(client.get("/").text(), "one");
}

fn heads_pass_unchanged(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let mut client = stage.client();
    let request = "GET /head/%7Euser/%2f/a%20b;p=1?q=%C3%A9&&x=a+b HTTP/1.1\r\nhOsT: Test.Example:8080\r\nX-Second: 2\r\n\
                   x-first: 1\r\nAccept:  */*\r\nX-Empty:\r\nX-Second: again, and again\r\nCookie: a=b; c=\"d\"\r\n\r\n";
    client.send(request.as_bytes()).unwrap();
    assert_eq!(client.answer_to("GET").status, 200);
    let seen = origin.only_request();
    assert_eq!(seen.start, "GET /head/%7Euser/%2f/a%20b;p=1?q=%C3%A9&&x=a+b HTTP/1.1");
    let ours = |name: &str| {
        !["x-forwarded-for", "x-forwarded-proto", "via", "x-request-id"].contains(&name.to_lowercase().as_str())
    };
    let fields: Vec<_> = seen.fields.iter().filter(|(n, _)| ours(n)).map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let sent = [
        ("hOsT", "Test.Example:8080"),
        ("X-Second", "2"),
        ("x-first", "1"),
        ("Accept", "*/*"),
        ("X-Empty", ""),
        ("X-Second", "again, and again"),
        ("Cookie", "a=b; c=\"d\""),
    ];
    assert_eq!(fields, sent, "names, values and order are the client's");
}

fn hop_by_hop_fields_stay_here(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let fields = "Connection: keep-alive, X-Private\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\n\
                  TE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nX-Public: 2\r\n";
    assert_eq!(stage.client().ask("GET", "/", fields, b"").status, 200);
    let seen = origin.only_request();
    for name in ["x-private", "keep-alive", "proxy-connection", "upgrade", "http2-settings"] {
        assert!(!seen.has(name), "{name} in {seen:?}");
    }
    assert!(seen.has("x-public"));
    assert!(seen.get("te").is_none_or(|te| te == "trailers"), "{seen:?}");
    // And on the way back.
    let answer = "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=1\r\nX-End: 2\r\nContent-Length: 2\r\n\r\nok";
    let answer = stage.client().get(&test_support::origin::raw_target(answer.as_bytes(), "keep"));
    assert_eq!(answer.text(), "ok");
    assert!(
        !answer.head.has("x-hop") && !answer.head.has("keep-alive") && answer.head.has("x-end"),
        "{:?}",
        answer.head
    );
}

fn http10_clients_are_served(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let mut client = stage.client();
    client.send(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(client.answer_to("GET").text(), "one", "without Host, too");
    assert!(client.is_closed(), "an HTTP/1.0 client that asks for nothing gets a closed connection");

    let mut client = stage.client();
    for _ in 0..2 {
        client.send(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").unwrap();
        let answer = client.answer_to("GET");
        assert_eq!(answer.text(), "one");
        assert_eq!(answer.head.get("connection").map(str::to_lowercase).as_deref(), Some("keep-alive"));
    }

    let mut client = stage.client();
    client.send(b"GET /chunked HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").unwrap();
    let answer = client.answer_to("GET");
    assert_eq!(answer.text(), "hello, world", "chunks are not for HTTP/1.0: the body ends with the connection");
    assert!(!answer.head.has("transfer-encoding"));
}

fn an_http10_origin_is_passed_on(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let mut client = stage.client();
    for _ in 0..2 {
        let answer = client.get("/http10");
        assert_eq!((answer.status, answer.text().as_str()), (200, "old style"));
        assert!(answer.head.start.starts_with("HTTP/1.1"));
        assert_eq!(answer.head.get("x-old"), Some("yes"));
        if answer.head.length() != Some(Length::Chunked) {
            client = stage.client();
        }
    }
}

fn heads_without_bodies(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let mut client = stage.client();
    let answer = client.ask("HEAD", "/", "", b"");
    assert_eq!((answer.status, answer.head.get("content-length")), (200, Some("3")));
    let answer = client.get("/status?code=204");
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    assert!(!answer.head.has("content-length") && !answer.head.has("transfer-encoding"), "RFC 9110, 8.6");
    let answer = client.get("/status?code=304");
    assert_eq!((answer.status, answer.head.get("etag")), (304, Some("\"a\"")));
    let answer = client.get("/status?code=404");
    assert_eq!((answer.status, answer.head.start.as_str()), (404, "HTTP/1.1 404 Some Reason"));
    assert_eq!(client.get("/").text(), "one", "none of them left anything behind");
    assert_eq!(origin.conns(), 1);
}

fn interim_answers_pass(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let mut client = stage.client();
    let answer = client.get("/hints");
    assert_eq!(answer.text(), "hinted");
    assert_eq!(answer.interim.len(), 1, "{answer:?}");
    assert_eq!(answer.interim[0].get("link"), Some("</style.css>; rel=preload"));
    // RFC 9110, 15.2: an HTTP/1.0 client must not get one.
    client.send(b"GET /hints HTTP/1.0\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(client.answer_to("GET").interim.len(), 0);
}

fn expectations_pass(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let mut client = stage.client();
    let head = |target: &str| {
        format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
    };
    client.send(head("/continue").as_bytes()).unwrap();
    let interim = client.head().unwrap().unwrap();
    assert_eq!(interim.second(), "100", "it comes before the body is sent");
    client.send(b"body").unwrap();
    assert_eq!(client.answer_to("POST").text(), "body");

    client.send(head("/no-continue").as_bytes()).unwrap();
    let answer = client.answer_to("POST");
    assert_eq!((answer.status, answer.text().as_str()), (417, "no"), "the origin's refusal, without a 100");
}

fn connect_tunnels(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let mut client = stage.client();
    client.send(b"CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example:5432\r\n\r\n").unwrap();
    let answer = client.answer_to("CONNECT");
    assert_eq!(answer.status, 200);
    let bytes = b"anything \0\r\n\r\n at all";
    for _ in 0..3 {
        client.send(bytes).unwrap();
        assert_eq!(client.take(bytes.len()).unwrap(), bytes);
    }
    client.half_close();
    assert!(client.is_closed(), "the end of one direction ends at the origin and comes back");
    wait_until("the origin's end of the tunnel closes", || origin.open_conns() == 0);
}

fn absolute_targets_and_asterisks(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let mut client = stage.client();
    client.send(b"GET http://other.example/p?q HTTP/1.1\r\nHost: wrong.example\r\n\r\n").unwrap();
    assert_eq!(client.answer_to("GET").status, 200);
    let seen = origin.only_request();
    let named = seen.start.contains("other.example") || seen.get("host") == Some("other.example");
    assert!(named, "the target's authority wins over Host (RFC 9112, 3.2.2): {seen:?}");
    assert!(!seen.fields.iter().any(|(_, v)| v.contains("wrong")), "{seen:?}");
    // `*` has no path: whether a prefix route takes it is the router's affair, but it is a request like any other.
    assert!([200, 404].contains(&client.ask("OPTIONS", "*", "", b"").status));
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn requests_go_round_the_hosts() {
    let (one, two) = (Origin::start("one"), Origin::start("two"));
    let config = Config::proxy_to(&[one.address(), two.address()]);
    let stage = Plane::Kernel.start(config).expect("always there");
    let mut client = stage.client();
    let names: Vec<String> = (0..6).map(|_| client.get("/").text()).collect();
    assert!(
        names == ["one", "two", "one", "two", "one", "two"] || names == ["two", "one", "two", "one", "two", "one"],
        "{names:?}"
    );
}

#[test]
fn unix_sockets_work_on_both_sides() {
    let folder = test_support::temp::TempDir::new();
    let origin = Origin::start_unix("unix", &folder.path().join("origin.sock"));
    let mut config = Config::proxy_to(&[origin.address()]);
    let stage = Plane::Kernel.start(config.clone()).expect("always there");
    assert_eq!(stage.client().get("/").text(), "unix");
    drop(stage);
    let path = folder.path().join("gateway.sock");
    let text = config.text().replace(&config.listen.to_string(), &format!("unix:{}", path.display()));
    config = config.verbatim(&text);
    let _gateway = test_support::Gateway::start(crate::stage::binary(), &config);
    let stream = std::os::unix::net::UnixStream::connect(&path).expect("the gateway listens there");
    let mut client = test_support::Client::over(test_support::Wire::unix(stream));
    assert_eq!(client.get("/").text(), "unix");
}
