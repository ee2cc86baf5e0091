//! Stream filters over real connections: each phase and verdict, bodies on their way, and a callout.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use dataplane_kernel::KernelTransport;
use ferrogate_core::config::Config;
use ferrogate_core::config::schema::ClusterId;
use ferrogate_core::control::Certificates;
use ferrogate_core::filter::{Callout, Direction, Filter, Filters, Phase, Verdict};
use ferrogate_core::message::{Body, Chunk, Exchange, Head, HttpHead, Request, Response};
use ferrogate_core::net::{Address, ListenOptions, Listener, Transport};
use ferrogate_core::origin::Origin;
use ferrogate_core::proxy::reply::local_reply;
use ferrogate_core::proxy::{Current, Generation, Proxy};
use ferrogate_core::router::Route;
use ferrogate_core::snapshot::Snapshot;
use ferrogate_core::stream::server::serve;
use ferrogate_core::telemetry::log_thread::LogQueue;
use ferrogate_core::telemetry::metrics::WorkerCounters;
use test_support::drive;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::oneshot;
use tokio::task::spawn_local;

type Seen = Rc<RefCell<Vec<String>>>;

/// Writes down what it is shown, and does what the request's `x-do` says.
struct Recorder {
    seen: Seen,
    callout: Option<Rc<dyn Callout>>,
}

impl Filter for Recorder {
    fn on_request(&self, at: Phase, x: &mut Exchange, route: Option<Route<'_>>) -> Verdict {
        let known = route.map_or("-", |r| &*r.course().virtual_host);
        self.seen.borrow_mut().push(format!("{at:?} {known} attempt {}", x.attempts));
        let Head::Http(head) = &mut x.request.head else { return Verdict::Continue };
        match (at, head.get("x-do")) {
            (Phase::BeforeRoute, Some(b"reply")) => Verdict::Reply(local_reply(418)),
            (Phase::AfterRoute, Some(b"rematch")) => {
                head.remove("x-do");
                head.set("host", b"other");
                Verdict::ReMatchRoute
            }
            (Phase::AfterChooseHost, Some(b"rechoose")) => {
                head.remove("x-do");
                Verdict::ReChooseHost
            }
            (Phase::BeforeRoute, Some(b"callout")) => {
                let request = Request { head: Head::Http(get("/headers")), body: Body::Empty };
                let Some(answer) = self.callout.as_ref().map(|c| c.call(ClusterId(0), request)) else {
                    return Verdict::Continue;
                };
                Verdict::Defer(Box::pin(async move {
                    match answer.await {
                        Ok(response) => Verdict::Reply(response),
                        Err(e) => Verdict::Reply(local_reply(e.0)),
                    }
                }))
            }
            _ => Verdict::Continue,
        }
    }

    fn on_response(&self, _: &mut Exchange, response: &mut Response, _: Option<Route<'_>>) -> Verdict {
        let Head::Http(head) = &mut response.head else { return Verdict::Continue };
        self.seen.borrow_mut().push(format!("response {}", head.status()));
        head.set("x-seen", b"yes");
        Verdict::Continue
    }

    fn wants_data(&self, _: Direction) -> bool {
        true
    }

    fn on_data(&self, direction: Direction, chunk: &mut Chunk) {
        if let Chunk::Data(bytes) = chunk {
            self.seen.borrow_mut().push(format!("{direction:?} {} bytes", bytes.len()));
            *chunk = Chunk::Data(Bytes::from(bytes.to_ascii_uppercase()));
        }
    }

    fn on_log(&self, x: &Exchange) {
        self.seen.borrow_mut().push(format!("log {}", x.status));
    }
}

#[test]
fn each_phase_is_seen_in_order() {
    let (answer, seen) = ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(answer.contains("x-seen: yes") && answer.ends_with("HELLO FROM ORIGIN ONE.\n"), "{answer}");
    assert_eq!(
        seen,
        [
            "BeforeRoute - attempt 0",
            "AfterRoute one attempt 0",
            "AfterChooseHost one attempt 1",
            "response 200",
            "Response 23 bytes",
            "log 200"
        ]
    );
}

#[test]
fn an_answer_of_the_routes_own_is_seen_once() {
    let (_, seen) = ask("GET / HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n");
    let expected =
        ["BeforeRoute - attempt 0", "AfterRoute two attempt 0", "response 200", "Response 6 bytes", "log 200"];
    assert_eq!(seen, expected);
}

#[test]
fn a_filter_can_answer_instead() {
    let (answer, seen) = ask("GET / HTTP/1.1\r\nHost: a\r\nx-do: reply\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 418 "), "{answer}");
    assert_eq!(seen, ["BeforeRoute - attempt 0", "log 418"]);
}

#[test]
fn a_route_is_found_again_and_a_host_taken_again() {
    let (answer, seen) = ask("GET / HTTP/1.1\r\nHost: a\r\nx-do: rematch\r\nConnection: close\r\n\r\n");
    assert!(answer.ends_with("DIRECT"), "{answer}");
    assert_eq!(seen[1..3], ["AfterRoute one attempt 0", "AfterRoute two attempt 0"]);
    let (answer, seen) = ask("GET / HTTP/1.1\r\nHost: a\r\nx-do: rechoose\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(seen[2..4], ["AfterChooseHost one attempt 1", "AfterChooseHost one attempt 2"]);
}

#[test]
fn bodies_pass_through_filters_piece_by_piece() {
    let (answer, seen) = ask("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
    assert!(answer.ends_with("HELLO"), "{answer}");
    assert!(seen.contains(&"Request 5 bytes".to_owned()) && seen.contains(&"Response 5 bytes".to_owned()), "{seen:?}");
    let (answer, _) = ask("GET /bytes/100000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(answer.matches('X').count(), 100_000);
}

#[test]
fn a_callout_is_answered_by_a_cluster() {
    let (answer, _) = ask("GET / HTTP/1.1\r\nHost: a\r\nx-do: callout\r\nConnection: close\r\n\r\n");
    assert!(answer.contains("GET /headers"), "{answer}");
}

/// Sends a request through a proxy with the recording filter; the answer, and what the filter saw.
fn ask(request: &str) -> (String, Vec<String>) {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    runtime.block_on(async {
        let transport = KernelTransport::new();
        let origin = start_origin(&transport).await;
        let seen = Seen::default();
        let gateway = start_gateway(&transport, &origin, &seen).await;
        let mut client = transport.connect(&gateway).await.unwrap();
        drive::write_all(&mut client, request.as_bytes()).await.unwrap();
        let answer = drive::read_to_end(&mut client).await.unwrap();
        let seen = seen.borrow().clone();
        (String::from_utf8(answer).unwrap(), seen)
    })
}

async fn start_origin(transport: &KernelTransport) -> Address {
    let (told, address) = oneshot::channel();
    let transport = transport.clone();
    spawn_local(async move {
        let any = "127.0.0.1:0".parse().unwrap();
        Origin::new("one").run(transport, &any, |a| told.send(a.clone()).unwrap()).await.unwrap();
    });
    address.await.unwrap()
}

async fn start_gateway(transport: &KernelTransport, origin: &Address, seen: &Seen) -> Address {
    let text = format!(
        "servers: [{{listeners: [{{name: l, address: \"127.0.0.1:1\", filter_chains: [{{filters: [{{type: proxy, config: \
         {{router_config_name: r}}}}]}}]}}], routers: [{{router_config_name: r, virtual_hosts: [{{name: two, domains: [other], \
         routers: [{{match: {{prefix: /}}, direct_response: {{status: 200, body: DIRECT}}}}]}}, {{name: one, domains: [\"*\"], \
         routers: [{{match: {{prefix: /}}, route: {{cluster_name: c}}}}]}}]}}]}}]\n\
         cluster_manager: {{clusters: [{{name: c, hosts: [{{address: \"{origin}\"}}]}}]}}\n"
    );
    let (config, _) = Config::parse(&text, "test").unwrap_or_else(|e| panic!("{e:?}"));
    let snapshot = Arc::new(Snapshot::build(&config, None, &mut Certificates::default()).unwrap());
    let counters = Arc::new(WorkerCounters::default());
    let derive = || Generation::derive(Arc::clone(&snapshot), None, transport, &LogQueue::closed(), 0);
    let generation = derive();
    let (slot, _) = generation.listeners().next().expect("there is one");
    let limits = Rc::clone(generation.limits());
    let bare = Proxy::new(Rc::new(Current::new(Rc::new(generation))), slot, Arc::clone(&counters));
    let recorder = Recorder { seen: Rc::clone(seen), callout: Some(Rc::new(bare)) };
    let generation = derive().with_filters(slot, Filters::new(vec![Box::new(recorder)]));
    let proxy = Proxy::new(Rc::new(Current::new(Rc::new(generation))), slot, counters);
    let any = "127.0.0.1:0".parse().unwrap();
    let mut listener = transport.listen(&any, &ListenOptions::default()).await.unwrap();
    let address = listener.local_addr().clone();
    spawn_local(async move {
        while let Ok(conn) = listener.accept().await {
            spawn_local(serve(
                ferrogate_core::tls::MaybeTls::Plain(conn),
                false,
                proxy.clone(),
                Rc::clone(&limits),
                Rc::default(),
                (),
            ));
        }
    });
    address
}

fn get(path: &str) -> HttpHead {
    let mut head = HttpHead::request("GET", path.as_bytes());
    head.append("Host", b"a");
    head
}
